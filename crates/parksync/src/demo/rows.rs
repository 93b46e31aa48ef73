//! How results are printed: a label in two languages, a number, a note.

use std::io::{self, Write};
use std::time::Duration;

/// Where the numbers stand, in columns.
const LABEL: usize = 36;

/// Prints one row.
pub(crate) fn row(out: &mut impl Write, label: &str, value: impl ToString, note: &str) -> io::Result<()> {
    // A Chinese character is two columns wide.
    let width: usize = label
        .chars()
        .map(|character| if character < '\u{2e80}' { 1 } else { 2 })
        .sum();
    let gap = " ".repeat(LABEL.saturating_sub(width));
    let line = format!("  {label}{gap}{:>8}   {note}", value.to_string());
    writeln!(out, "{}", line.trim_end())
}

/// A time in whole milliseconds, or a dash.
pub(crate) fn millis(wait: Option<Duration>) -> String {
    wait.map_or_else(
        || "-".to_owned(),
        |wait| format!("{:.0} ms", wait.as_secs_f64() * 1000.0),
    )
}

//! Where a play stands: a bar for people, a line now and then for everything else. On stderr.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

/// How often a line comes where there is no bar.
const EVERY: Duration = Duration::from_secs(3);

/// Shows how far it is.
pub(crate) struct Progress {
    bar: ProgressBar,
    clock: &'static str,
    lines: Option<Cell<Instant>>,
}

impl Progress {
    /// `clock`: how the time of the play is written, for example `%H:%M`.
    pub(crate) fn new(steps: usize, clock: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("  {prefix} {bar:32} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            clock,
            lines: (!terminal).then(|| Cell::new(Instant::now())),
        }
    }

    /// `done`: steps that are done, more than there are when all are.
    pub(crate) fn show(&self, at: Timestamp, done: usize, delivered: usize) {
        let done = (done as u64).min(self.bar.length().unwrap_or(u64::MAX));
        let time = at
            .to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(8)))
            .strftime(self.clock)
            .to_string();
        if let Some(last) = &self.lines {
            if last.get().elapsed() > EVERY {
                last.set(Instant::now());
                eprintln!("  {time}  {done} messages in, {delivered} calls out");
            }
            return;
        }
        self.bar.set_prefix(time);
        self.bar.set_position(done);
        self.bar
            .set_message(format!("{done} messages in, {delivered} calls out"));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

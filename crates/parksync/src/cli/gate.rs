//! `gate try`: parses one message of a gate and prints what would become of it, one JSON line per result.
//!
//! For setting up a gate and for support. Nothing is stored or sent. Plates come out in clear: whoever has the message
//! has the plate. The parsing is `ingest`'s.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde::Serialize;

use crate::domain::gate::{Direction, Read, TimeSource};
use crate::domain::plate::Plate;
use crate::ingest::{self, Format, Item, Malformed, Message, Reason, Seen, Source};

/// The largest message that is read.
const LARGEST_FILE: u64 = 32 * 1024 * 1024;

/// Parse one message of a gate and print what would become of it.
#[derive(Debug, clap::Args)]
pub struct TryArgs {
    /// The format the gate speaks.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Format::ALL.map(Format::as_str)).try_map(|name| name.parse::<Format>()))]
    pub format: Format,
    /// The zone of times that come without one: an offset such as +08:00, or a name such as Asia/Shanghai.
    #[arg(long, value_parser = ingest::parse_zone, allow_hyphen_values = true)]
    pub zone: Option<TimeZone>,
    /// The direction of the gate's lane.
    #[arg(long, value_name = "in|out", value_parser = parse_direction)]
    pub direction: Option<Direction>,
    /// The Content-Type header the message came with.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// The body of the message, as it was sent; - is standard input.
    pub file: PathBuf,
}

/// Whether the message was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was, whatever became of its items: exit code 0.
    Understood,
    /// It was not: exit code 2.
    NotUnderstood,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Understood => Self::SUCCESS,
            Exit::NotUnderstood => Self::from(2),
        }
    }
}

/// Reads the file and tries it.
///
/// # Errors
///
/// When the file cannot be read, is larger than 32 MiB, or the output cannot be written.
pub fn run(args: &TryArgs, now: Timestamp, out: impl Write) -> anyhow::Result<Exit> {
    let bytes = read_file(&args.file).with_context(|| format!("could not read {}", args.file.display()))?;
    let content_type = args.content_type.as_deref();
    try_message(
        args.format,
        args.zone.clone(),
        args.direction,
        content_type,
        &bytes,
        now,
        out,
    )
    .context("could not write the result")
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().lock().take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::other("larger than 32 MiB"));
    }
    Ok(bytes)
}

/// Parses one message and prints one JSON line per result.
///
/// # Errors
///
/// When the output cannot be written.
pub fn try_message(
    format: Format,
    zone: Option<TimeZone>,
    direction: Option<Direction>,
    content_type: Option<&str>,
    bytes: &[u8],
    now: Timestamp,
    mut out: impl Write,
) -> io::Result<Exit> {
    let message = Message {
        content_type,
        body: bytes,
        received_at: now,
    };
    match ingest::parse(format, &message, &Source { direction, zone }) {
        Ok(parsed) => {
            for (place, item) in parsed.items.iter().enumerate() {
                let mut line = Line::of(item);
                line.notes = parsed
                    .notes
                    .iter()
                    .filter(|note| note.item == place)
                    .map(|note| note.word)
                    .collect();
                write_line(&mut out, &line)?;
            }
            Ok(Exit::Understood)
        }
        Err(Malformed { field, reason }) => {
            let line = Line {
                field: Some(&field),
                ..Line::with_reason("rejected", &reason)
            };
            write_line(&mut out, &line)?;
            Ok(Exit::NotUnderstood)
        }
    }
}

fn write_line(out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// One line of output.
#[derive(Default, Serialize)]
struct Line<'a> {
    class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_source: Option<TimeSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(item: &'a Item) -> Self {
        match item {
            Item::Event(read) => Self {
                class: "event",
                ..Self::default()
            }
            .with_read(read),
            Item::Amend { record_id, plate } => Self {
                class: "amend",
                reason: Some(if plate.is_some() { "corrected" } else { "cancelled" }),
                plate: plate.as_ref().map(Plate::expose),
                record_id: Some(record_id),
                ..Self::default()
            },
            Item::Ignored { reason } => Self::with_reason("ignored", reason),
            Item::NoPlate { reason, seen } => Self::with_reason("no-plate", reason).with_seen(seen),
            Item::Held {
                reason,
                read: Some(read),
                ..
            } => Self::with_reason("held", reason).with_read(read),
            Item::Held {
                reason,
                read: None,
                seen,
            } => Self::with_reason("held", reason).with_seen(seen),
            Item::Rejected { field, reason, seen } => Self {
                field: Some(field),
                ..Self::with_reason("rejected", reason)
            }
            .with_seen(seen),
        }
    }

    fn with_reason(class: &'static str, reason: &'a Reason) -> Self {
        Self {
            class,
            reason: Some(reason.word),
            detail: Some(&reason.sentence),
            ..Self::default()
        }
    }

    fn with_read(self, read: &'a Read) -> Self {
        Self {
            plate: Some(read.plate.expose()),
            state: Some(read.state),
            time: Some(beijing(read.at)),
            time_source: Some(read.time_source),
            device: read.device.as_deref(),
            record_id: read.record_id.as_deref(),
            replayed: Some(read.replayed),
            ..self
        }
    }

    fn with_seen(self, seen: &'a Seen) -> Self {
        Self {
            plate: seen.plate.as_ref().map(Plate::expose),
            state: seen.state,
            time: seen.at.map(beijing),
            time_source: seen.time_source,
            ..self
        }
    }
}

/// The instant on a wall clock in China, milliseconds only where there are some.
fn beijing(at: Timestamp) -> String {
    let local = Offset::constant(8).to_datetime(at);
    let whole = local.strftime("%Y-%m-%dT%H:%M:%S");
    match local.millisecond() {
        0 => format!("{whole}+08:00"),
        millis => format!("{whole}.{millis:03}+08:00"),
    }
}

pub(super) fn parse_direction(text: &str) -> Result<Direction, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "in" => Ok(Direction::In),
        "out" => Ok(Direction::Out),
        _ => Err("the direction is in or out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tried(format: Format, zone: Option<&str>, direction: Option<&str>, body: &str) -> (Exit, Vec<Value>) {
        let mut out = Vec::new();
        let zone = zone.map(|zone| ingest::parse_zone(zone).unwrap());
        let direction = direction.map(|direction| parse_direction(direction).unwrap());
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let exit = try_message(format, zone, direction, None, body.as_bytes(), now, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        (
            exit,
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        )
    }

    #[test]
    fn a_batch_gives_a_line_per_event() {
        let body = r#"[
            { "plate": "粤B12345", "state": "IN", "time": "2024-07-04T15:30:00+08:00", "id": "r1" },
            { "plate": "粤B123456", "state": "OUT", "time": "2024-07-04 15:30:00.5" },
            { "plate": "PECT600", "state": "OUT", "time": "2024-07-04T07:30:00Z" },
            { "plate": "_无_", "state": "IN" },
            { "plate": "粤B12345", "state": "IN", "tiem": "2024-07-04T15:30:00+08:00" }
        ]"#;

        let (exit, lines) = tried(Format::Generic, Some("+08:00"), None, body);

        assert_eq!(exit, Exit::Understood);
        assert_eq!(lines.len(), 5);
        assert_eq!(
            lines[0],
            json!({ "class": "event", "plate": "粤B12345", "state": "IN", "time": "2024-07-04T15:30:00+08:00",
                "time_source": "sender", "record_id": "r1", "replayed": false })
        );
        assert_eq!(
            (&lines[1]["class"], &lines[1]["plate"]),
            (&json!("held"), &json!("粤B123456"))
        );
        assert_eq!(lines[1]["time"], "2024-07-04T15:30:00.500+08:00");
        assert_eq!(
            (&lines[2]["class"], &lines[2]["reason"]),
            (&json!("held"), &json!("not-a-mainland-plate"))
        );
        assert_eq!(
            (&lines[3]["class"], &lines[3]["state"]),
            (&json!("no-plate"), &json!("IN"))
        );
        assert_eq!(
            (&lines[4]["class"], &lines[4]["field"]),
            (&json!("rejected"), &json!("tiem"))
        );
    }

    #[test]
    fn visits_amendments_and_clocks_that_run_ahead_are_shown() {
        let body = r#"[
            { "plate": "粤B12345", "in_time": "2025-12-31T15:30:00+08:00", "out_time": "2026-01-01T09:00:00+08:00" },
            { "cancels": "r1" },
            { "corrects": "r1", "plate": "粤B54321" }
        ]"#;

        let (_, lines) = tried(Format::Generic, None, None, body);

        assert_eq!(lines.len(), 4);
        assert_eq!((&lines[0]["state"], &lines[0]["notes"]), (&json!("IN"), &Value::Null));
        assert_eq!(
            (&lines[1]["state"], &lines[1]["time"], &lines[1]["notes"]),
            (
                &json!("OUT"),
                &json!("2026-01-01T09:00:00+08:00"),
                &json!(["time-ahead"])
            )
        );
        assert_eq!(
            lines[2],
            json!({ "class": "amend", "reason": "cancelled", "record_id": "r1" })
        );
        assert_eq!(
            lines[3],
            json!({ "class": "amend", "reason": "corrected", "plate": "粤B54321", "record_id": "r1" })
        );
    }

    #[test]
    fn what_cannot_be_parsed_is_one_rejected_line_and_exit_2() {
        for format in Format::ALL {
            let (exit, lines) = tried(format, None, Some("in"), "\u{1}nonsense");

            assert_eq!(exit, Exit::NotUnderstood, "{format}");
            assert_eq!(lines.len(), 1, "{format}");
            assert_eq!(lines[0]["class"], "rejected", "{format}");
            assert!(
                lines[0]["reason"].is_string() && lines[0]["field"].is_string(),
                "{format}"
            );
        }
    }

    #[test]
    fn arguments_are_read() {
        use clap::Parser as _;

        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            args: TryArgs,
        }
        let parse = |text: &str| Command::try_parse_from(format!("try {text}").split(' ')).map(|command| command.args);

        let args = parse("--format huaxia-mode5 --zone -05:00 --direction OUT -").unwrap();
        assert_eq!(
            (args.format, args.direction),
            (Format::HuaxiaMode5, Some(Direction::Out))
        );
        assert_eq!(args.zone, Some(TimeZone::fixed(Offset::constant(-5))));
        let error = parse("--format nonsense file").unwrap_err().to_string();
        assert!(error.contains("vzenith-http"), "{error}");
    }
}

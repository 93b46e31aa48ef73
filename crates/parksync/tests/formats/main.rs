//! Gate formats: every sample message, the rules of each format, and damage.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets another variant fails, whichever it is"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where it finds something else than it expects"
)]

mod cameras;
mod damage;
mod generic;
mod hikvision;
mod huaxia;
mod samples;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::{TimeZone, offset};
use parksync::domain::gate::{Direction, Read};
use parksync::ingest::{self, Format, Item, Malformed, Message, Parsed, Reply, Source};

const RECEIVED: &str = "2026-05-01T12:00:00Z";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gate-messages")
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn message<'a>(content_type: Option<&'a str>, body: &'a [u8]) -> Message<'a> {
    Message {
        content_type,
        body,
        received_at: at(RECEIVED),
    }
}

/// A gate as it is usually configured: an entry in China.
fn entry_gate() -> Source {
    Source {
        direction: Some(Direction::In),
        zone: Some(TimeZone::fixed(offset(8))),
    }
}

fn parse(format: Format, body: &[u8]) -> Result<Parsed, Malformed> {
    ingest::parse(format, &message(None, body), &entry_gate())
}

fn only(parsed: Parsed) -> Item {
    let [item] = <[Item; 1]>::try_from(parsed.items).unwrap();
    item
}

#[track_caller]
fn event(parsed: Parsed) -> Read {
    let item = only(parsed);
    let Item::Event(read) = item else {
        panic!("not an event: {item:?}")
    };
    read
}

/// Field and word of a refused item.
#[track_caller]
fn rejection(parsed: Parsed) -> (String, &'static str) {
    let item = only(parsed);
    let Item::Rejected { field, reason, .. } = item else {
        panic!("not rejected: {item:?}")
    };
    (field.into_owned(), reason.word)
}

#[track_caller]
fn ignored(parsed: Parsed) -> &'static str {
    let item = only(parsed);
    let Item::Ignored { reason } = item else {
        panic!("not ignored: {item:?}")
    };
    reason.word
}

fn notes(parsed: &Parsed) -> Vec<&'static str> {
    parsed.notes.iter().map(|note| note.word).collect()
}

fn body_of(reply: &Reply) -> &str {
    match reply {
        Reply::Body { body, .. } => body,
        Reply::PerItem => panic!("no body"),
    }
}

/// A vzenith read with the members that matter set.
fn vzenith(license: &str, more: &str) -> String {
    format!(
        r#"{{"AlarmInfoPlate":{{"serialno":"s-1","result":{{"PlateResult":{{"license":"{license}",
        "timeStamp":{{"Timeval":{{"sec":1686299994,"usec":687772}}}}{more}}}}}}}}}"#
    )
}

/// An alert with these elements in it.
fn alert(inside: &str) -> String {
    format!("<?xml version=\"1.0\"?><EventNotificationAlert>{inside}</EventNotificationAlert>")
}

const ANPR: &str = "<eventType>ANPR</eventType><ANPR><licensePlate>粤B12345</licensePlate></ANPR>";

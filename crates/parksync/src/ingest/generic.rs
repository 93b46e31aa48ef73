//! Our own JSON: one event, an array of them, or `{"events": […]}`.
//!
//! Members of an event: `plate` (required), `state` (`IN` or `OUT`, required unless the gate has a direction), `time`
//! (RFC 3339, or local where a zone is configured), `id`, `replayed`, and `lot` and `gate` for senders that speak for
//! several. Other members are refused by name: a misspelt `tiem` must not become an event without a time. One bad event
//! never costs the others.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::domain::gate::Direction;

use super::crossing::{self, Crossing};
use super::times::Told;
use super::{Item, Malformed, Message, Note, Parsed, Reason, Reply, Seen, Source, words};

/// Events of one message.
pub const MOST_EVENTS: usize = 1000;

const MEMBERS: [&str; 7] = ["plate", "state", "time", "id", "replayed", "lot", "gate"];
const LONGEST_NAME: usize = 64;
const LONGEST_ID: usize = 128;

/// One event of a batch, with the lot and gate that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The lot it names.
    pub lot: Option<String>,
    /// The gate it names.
    pub gate: Option<String>,
    /// What it says.
    pub item: Item,
    /// What is odd about it; `item` is its place in the batch.
    pub notes: Vec<Note>,
}

/// What the configuration knows of the lot and gate of an event, or the member that names none.
pub type Resolved<'a> = Result<Cow<'a, Source>, (&'static str, Reason)>;

/// Parses a message of one gate. `lot` and `gate` of its events are ignored: the URL has said them.
///
/// # Errors
///
/// `Malformed` when the body is not JSON of this format or holds too many events.
pub(super) fn parse(message: &Message<'_>, source: &Source) -> Result<Parsed, Malformed> {
    let entries = parse_batch(message, |_, _| Ok(Cow::Borrowed(source)))?;
    let mut parsed = Parsed {
        items: Vec::new(),
        notes: Vec::new(),
        reply: Reply::PerItem,
    };
    for entry in entries {
        parsed.items.push(entry.item);
        parsed.notes.extend(entry.notes);
    }
    Ok(parsed)
}

/// Parses a message that may speak for several gates. `resolve` is asked once per event for what is configured for its
/// lot and gate.
///
/// # Errors
///
/// `Malformed` when the body is not JSON of this format or holds too many events.
pub fn parse_batch<'s>(
    message: &Message<'_>,
    resolve: impl Fn(Option<&str>, Option<&str>) -> Resolved<'s>,
) -> Result<Vec<Entry>, Malformed> {
    check_content_type(message.content_type)?;
    let body = message.body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(message.body);
    if std::str::from_utf8(body).is_err() {
        return Err(Malformed::new("body", words::NOT_UTF8, "the body is not UTF-8"));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
    let events = events(value)?;
    if events.len() > MOST_EVENTS {
        let sentence = format!(
            "{} events in one message; at most {MOST_EVENTS} are accepted",
            events.len()
        );
        return Err(Malformed::new("events", words::TOO_MUCH, sentence));
    }
    let entries = events.into_iter().enumerate().map(|(place, event)| {
        let mut entry = entry(event, message, &resolve);
        entry.notes.iter_mut().for_each(|note| note.item = place);
        entry
    });
    Ok(entries.collect())
}

/// The header of a system that can choose is taken at its word, so that a form posted by mistake is named as one.
fn check_content_type(content_type: Option<&str>) -> Result<(), Malformed> {
    let Some(content_type) = content_type else {
        return Ok(());
    };
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence.is_empty() || essence.ends_with("/json") || essence.ends_with("+json") {
        return Ok(());
    }
    let sentence = "the content type is not JSON; send application/json";
    Err(Malformed::new("content-type", words::OTHER_FORMAT, sentence))
}

fn events(value: Value) -> Result<Vec<Value>, Malformed> {
    match value {
        Value::Array(events) => Ok(events),
        Value::Object(mut object) => match object.remove("events") {
            Some(Value::Array(events)) => match object.keys().next() {
                None => Ok(events),
                Some(name) => {
                    let sentence = "a member beside events that a batch does not have";
                    Err(Malformed::new(shown(name), words::UNKNOWN_FIELD, sentence))
                }
            },
            Some(_) => Err(Malformed::new("events", words::WRONG_KIND, "events is not an array")),
            None if object.contains_key("plate") || object.contains_key("state") => Ok(vec![Value::Object(object)]),
            None => Err(Malformed::new(
                "plate",
                words::OTHER_FORMAT,
                "the object has neither plate nor state: it is no event",
            )),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(Malformed::new(
            "body",
            words::OTHER_FORMAT,
            "the body is neither an object nor an array",
        )),
    }
}

fn entry<'s>(
    event: Value,
    message: &Message<'_>,
    resolve: &impl Fn(Option<&str>, Option<&str>) -> Resolved<'s>,
) -> Entry {
    let Value::Object(event) = event else {
        let (item, notes) = rejected((
            "event".into(),
            Reason::new(words::WRONG_KIND, "the event is not an object"),
        ));
        return Entry {
            lot: None,
            gate: None,
            item,
            notes,
        };
    };
    // A lot or gate that cannot be read is reported by `judge` below; here it is simply not named.
    let lot = text(&event, "lot", LONGEST_NAME).ok().flatten();
    let gate = text(&event, "gate", LONGEST_NAME).ok().flatten();
    let (item, notes) = match judge(&event, message, || resolve(lot.as_deref(), gate.as_deref())) {
        Ok(judged) => judged,
        Err(refusal) => rejected(refusal),
    };
    Entry { lot, gate, item, notes }
}

type Refusal = (Cow<'static, str>, Reason);

fn rejected((field, reason): Refusal) -> (Item, Vec<Note>) {
    (
        Item::Rejected {
            field,
            reason,
            seen: Seen::default(),
        },
        Vec::new(),
    )
}

fn judge<'s>(
    event: &Map<String, Value>,
    message: &Message<'_>,
    resolve: impl FnOnce() -> Resolved<'s>,
) -> Result<(Item, Vec<Note>), Refusal> {
    if let Some(name) = event.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        let sentence = format!("an event has no such member; it has {}", MEMBERS.join(", "));
        return Err((shown(name), Reason::new(words::UNKNOWN_FIELD, sentence)));
    }
    text(event, "lot", LONGEST_NAME)?;
    text(event, "gate", LONGEST_NAME)?;
    let source = resolve().map_err(|(field, reason)| (field.into(), reason))?;
    let Some(plate) = text(event, "plate", usize::MAX)? else {
        return Err(("plate".into(), Reason::new(words::MISSING, "the event has no plate")));
    };
    let state = match text(event, "state", LONGEST_NAME)?.as_deref() {
        None => None,
        Some(state) if state.eq_ignore_ascii_case("IN") => Some(Direction::In),
        Some(state) if state.eq_ignore_ascii_case("OUT") => Some(Direction::Out),
        Some(_) => {
            return Err((
                "state".into(),
                Reason::new(words::WRONG_KIND, "the state is neither IN nor OUT"),
            ));
        }
    };
    let replayed = match event.get("replayed") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(replayed)) => *replayed,
        Some(other) => return Err(wrong_kind("replayed", other, "true or false")),
    };
    let time = text(event, "time", usize::MAX)?;
    let crossing = Crossing {
        plate: &plate,
        plate_field: "plate",
        state,
        state_field: "state",
        time: time.as_deref().map_or(Told::Missing, Told::from_text),
        time_field: "time",
        strict_time: true,
        record_id: text(event, "id", LONGEST_ID)?.and_then(crossing::id),
        device: None,
        replayed,
    };
    Ok(crossing::judge(crossing, &source, message.received_at, Vec::new()))
}

/// The text of a member; absent and null are the same.
fn text(event: &Map<String, Value>, name: &'static str, longest: usize) -> Result<Option<String>, Refusal> {
    match event.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= longest => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err((
            name.into(),
            Reason::new(words::TOO_MUCH, format!("{name} is longer than {longest} bytes")),
        )),
        Some(other) => Err(wrong_kind(name, other, "text")),
    }
}

fn wrong_kind(name: &'static str, value: &Value, wanted: &str) -> Refusal {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    (
        name.into(),
        Reason::new(words::WRONG_KIND, format!("{name} is {kind}, not {wanted}")),
    )
}

/// A member's name as it may be shown: a sender that mixes up names and values must not put a plate into an answer.
fn shown(name: &str) -> Cow<'static, str> {
    let is_name = name.len() <= 40
        && name
            .bytes()
            .all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-' | b'.'));
    if is_name && !name.is_empty() {
        name.to_owned().into()
    } else {
        "(a member with an odd name)".into()
    }
}

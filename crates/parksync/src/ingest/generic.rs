//! Our own JSON: one event, an array of them, or `{"events": […]}`.
//!
//! An event is a crossing (`plate`, `state`, `time`), a visit record (`plate`, `in_time`, `out_time`: one crossing or two) or
//! an amendment of an earlier record (`cancels`, or `corrects` with the right `plate`). Other members are refused by name:
//! a misspelt `tiem` must not become an event without a time. One bad event never costs the others. Which class of car
//! counts, and what an amendment does, is not decided here.

use std::borrow::Cow;

use crate::domain::gate::Direction;

use self::json::{Json, Object};
use super::crossing::{self, Crossing};
use super::times::Told;
use super::{Item, Malformed, Message, Note, Parsed, Reason, Reply, Seen, Source, words};

mod json;

/// Events of one message.
pub const MOST_EVENTS: usize = 1000;

const MEMBERS: [&str; 12] = [
    "plate", "state", "time", "id", "replayed", "lot", "gate", "in_time", "out_time", "cancels", "corrects", "class",
];
const LONGEST_NAME: usize = 64;
const LONGEST_ID: usize = 128;
const TWICE: &str = "this member is there twice; nobody can say which of the two is meant";

/// One event of a batch, with the lot and gate that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The lot it names.
    pub lot: Option<String>,
    /// The gate it names.
    pub gate: Option<String>,
    /// The class of the car as the sender calls it, for example staff.
    pub class: Option<String>,
    /// What it says: one item, or two for a visit record with both its times (the entry first).
    pub items: Vec<Item>,
    /// What is odd about it; `Note::item` is the place in `items`.
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
        let first = parsed.items.len();
        let notes = entry.notes.into_iter().map(|note| Note {
            item: first + note.item,
            ..note
        });
        parsed.notes.extend(notes);
        parsed.items.extend(entry.items);
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
    let value: Json = serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
    let events = events(value)?;
    if events.len() > MOST_EVENTS {
        let sentence = format!(
            "{} events in one message; at most {MOST_EVENTS} are accepted",
            events.len()
        );
        return Err(Malformed::new("events", words::TOO_MUCH, sentence));
    }
    Ok(events.iter().map(|event| entry(event, message, &resolve)).collect())
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

fn events(value: Json) -> Result<Vec<Json>, Malformed> {
    match value {
        Json::Array(events) => Ok(events),
        Json::Object(mut object) => match object.members.remove("events") {
            Some(Json::Array(events)) => match (object.twice, object.members.keys().next()) {
                (None, None) => Ok(events),
                (Some(name), _) => Err(Malformed::new(shown(&name), words::DUPLICATE_FIELD, TWICE)),
                (None, Some(name)) => {
                    let sentence = "a member beside events that a batch does not have";
                    Err(Malformed::new(shown(name), words::UNKNOWN_FIELD, sentence))
                }
            },
            Some(_) => Err(Malformed::new("events", words::WRONG_KIND, "events is not an array")),
            None if ["plate", "state", "cancels"]
                .iter()
                .any(|name| object.members.contains_key(*name)) =>
            {
                Ok(vec![Json::Object(object)])
            }
            None => Err(Malformed::new(
                "plate",
                words::OTHER_FORMAT,
                "the object has none of plate, state and cancels: it is no event",
            )),
        },
        Json::Null | Json::Bool(_) | Json::Number | Json::Text(_) => Err(Malformed::new(
            "body",
            words::OTHER_FORMAT,
            "the body is neither an object nor an array",
        )),
    }
}

fn entry<'s>(
    event: &Json,
    message: &Message<'_>,
    resolve: &impl Fn(Option<&str>, Option<&str>) -> Resolved<'s>,
) -> Entry {
    // A member that cannot be read is reported by `judge`; here it is simply not there.
    let readable = |name| match event {
        Json::Object(event) => text(event, name, LONGEST_NAME).ok().flatten(),
        Json::Null | Json::Bool(_) | Json::Number | Json::Text(_) | Json::Array(_) => None,
    };
    let (lot, gate) = (readable("lot"), readable("gate"));
    let judged = match event {
        Json::Object(event) => judge(event, message, || resolve(lot.as_deref(), gate.as_deref())),
        Json::Null | Json::Bool(_) | Json::Number | Json::Text(_) | Json::Array(_) => Err((
            "event".into(),
            Reason::new(words::WRONG_KIND, "the event is not an object"),
        )),
    };
    let judged = judged.unwrap_or_else(|(field, reason)| {
        let seen = Seen::default();
        vec![(Item::Rejected { field, reason, seen }, Vec::new())]
    });
    let mut entry = Entry {
        class: readable("class").filter(|class| !class.trim().is_empty()),
        lot,
        gate,
        items: Vec::new(),
        notes: Vec::new(),
    };
    for (place, (item, notes)) in judged.into_iter().enumerate() {
        entry.items.push(item);
        entry
            .notes
            .extend(notes.into_iter().map(|note| Note { item: place, ..note }));
    }
    entry
}

type Refusal = (Cow<'static, str>, Reason);

fn refusal(field: &'static str, word: &'static str, sentence: impl Into<Cow<'static, str>>) -> Refusal {
    (field.into(), Reason::new(word, sentence))
}

fn judge<'s>(
    event: &Object,
    message: &Message<'_>,
    resolve: impl FnOnce() -> Resolved<'s>,
) -> Result<Vec<(Item, Vec<Note>)>, Refusal> {
    if let Some(name) = event.members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        let sentence = format!("an event has no such member; it has {}", MEMBERS.join(", "));
        return Err((shown(name), Reason::new(words::UNKNOWN_FIELD, sentence)));
    }
    if let Some(name) = &event.twice {
        return Err((shown(name), Reason::new(words::DUPLICATE_FIELD, TWICE)));
    }
    for name in ["lot", "gate", "class"] {
        text(event, name, LONGEST_NAME)?;
    }
    let source = resolve().map_err(|(field, reason)| (field.into(), reason))?;
    if let Some(item) = amendment(event)? {
        return Ok(vec![(item, Vec::new())]);
    }
    let Some(plate) = text(event, "plate", usize::MAX)? else {
        return Err(refusal("plate", words::MISSING, "the event has no plate"));
    };
    let state = state(event)?;
    let time = text(event, "time", usize::MAX)?;
    let replayed = match event.members.get("replayed") {
        None | Some(Json::Null) => false,
        Some(Json::Bool(replayed)) => *replayed,
        Some(other) => return Err(wrong_kind("replayed", other, "true or false")),
    };
    let record_id = text(event, "id", LONGEST_ID)?.and_then(|id| crossing::id(&id));
    let crossing = |state, time: Option<&str>, time_field| Crossing {
        plate: &plate,
        plate_field: "plate",
        state,
        state_field: "state",
        time: time.map_or(Told::Missing, Told::from_text),
        time_field,
        strict_time: true,
        record_id: record_id.clone(),
        device: None,
        replayed,
    };
    let Some(visit) = visit(event)? else {
        let crossing = crossing(state, time.as_deref(), "time");
        return Ok(vec![crossing::judge(
            crossing,
            &source,
            message.received_at,
            Vec::new(),
        )]);
    };
    for (name, is_there) in [("state", state.is_some()), ("time", time.is_some())] {
        if is_there {
            let sentence = "a visit record has in_time and out_time instead of state and time";
            return Err(refusal(name, words::WRONG_COMBINATION, sentence));
        }
    }
    // A record of both directions cannot come from one lane: a configured direction does not apply.
    let source = Source {
        direction: None,
        zone: source.zone.clone(),
    };
    let crossings = visit.into_iter().map(|(state, time_field, time)| {
        let crossing = crossing(Some(state), Some(&time), time_field);
        crossing::judge(crossing, &source, message.received_at, Vec::new())
    });
    Ok(crossings.collect())
}

/// What the event says about an earlier record, if that is what it is.
fn amendment(event: &Object) -> Result<Option<Item>, Refusal> {
    let earlier = |name| match text(event, name, LONGEST_ID)? {
        None => Ok(None),
        Some(id) => crossing::id(&id).map(Some).ok_or_else(|| {
            let sentence = format!("{name} is blank; it is the id of an earlier record");
            refusal(name, words::MISSING, sentence)
        }),
    };
    let (record_id, is_correction) = match (earlier("cancels")?, earlier("corrects")?) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let sentence = "a record is either cancelled or corrected; the event has both cancels and corrects";
            return Err(refusal("corrects", words::WRONG_COMBINATION, sentence));
        }
        (Some(record_id), None) => (record_id, false),
        (None, Some(record_id)) => (record_id, true),
    };
    for name in ["in_time", "out_time"] {
        if !matches!(event.members.get(name), None | Some(Json::Null)) {
            let sentence = format!("an event that cancels or corrects a record has no {name}");
            return Err(refusal(name, words::WRONG_COMBINATION, sentence));
        }
    }
    let plate = match text(event, "plate", usize::MAX)? {
        _ if !is_correction => None,
        None => {
            let sentence = "the event corrects a record and does not say the right plate";
            return Err(refusal("plate", words::MISSING, sentence));
        }
        Some(plate) => Some(crossing::usable_plate(&plate).map_err(|reason| ("plate".into(), reason))?),
    };
    Ok(Some(Item::Amend { record_id, plate }))
}

/// One crossing of a visit record: its direction, the member that says its time, and the time.
type Half = (Direction, &'static str, String);

/// The crossings of a visit record; `None` when the event is no visit record. A blank time is one that is not known yet.
fn visit(event: &Object) -> Result<Option<Vec<Half>>, Refusal> {
    let mut crossings = Vec::new();
    for (state, name) in [(Direction::In, "in_time"), (Direction::Out, "out_time")] {
        if let Some(time) = text(event, name, usize::MAX)?.filter(|time| !time.trim().is_empty()) {
            crossings.push((state, name, time));
        }
    }
    let named = ["in_time", "out_time"]
        .iter()
        .any(|name| event.members.contains_key(*name));
    let says_one_crossing = ["state", "time"]
        .iter()
        .any(|name| !matches!(event.members.get(*name), None | Some(Json::Null)));
    match crossings.is_empty() {
        // Taken for a crossing without a time, it would be one that nobody saw.
        true if named && !says_one_crossing => {
            let sentence = "the visit record has neither in_time nor out_time";
            Err(refusal("in_time", words::MISSING, sentence))
        }
        true => Ok(None),
        false => Ok(Some(crossings)),
    }
}

fn state(event: &Object) -> Result<Option<Direction>, Refusal> {
    match text(event, "state", LONGEST_NAME)?.as_deref() {
        None => Ok(None),
        Some(state) if state.eq_ignore_ascii_case("IN") => Ok(Some(Direction::In)),
        Some(state) if state.eq_ignore_ascii_case("OUT") => Ok(Some(Direction::Out)),
        Some(_) => Err(refusal("state", words::WRONG_KIND, "the state is neither IN nor OUT")),
    }
}

/// The text of a member; absent and null are the same.
fn text(event: &Object, name: &'static str, longest: usize) -> Result<Option<String>, Refusal> {
    match event.members.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Text(text)) if text.len() <= longest => Ok(Some(text.clone())),
        Some(Json::Text(_)) => {
            let sentence = format!("{name} is longer than {longest} bytes");
            Err(refusal(name, words::TOO_MUCH, sentence))
        }
        Some(other) => Err(wrong_kind(name, other, "text")),
    }
}

fn wrong_kind(name: &'static str, value: &Json, wanted: &str) -> Refusal {
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number => "a number",
        Json::Text(_) => "text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    };
    refusal(name, words::WRONG_KIND, format!("{name} is {kind}, not {wanted}"))
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

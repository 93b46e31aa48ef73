//! 臻识 (`VisionZenith`) HTTP push, also spoken by `AlphaDigi` and other rebranded cameras.
//!
//! JSON. The read is in `AlarmInfoPlate.result.PlateResult`; `direction` there is the movement in the picture, so in or
//! out is the gate's configuration. The camera repeats a read until it gets `Response_AlarmInfoPlate`, and opens the
//! barrier when `info` in it is `ok`: that word never leaves this file. Pictures are skipped without being copied.

use jiff::civil::DateTime;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::crossing::{self, Crossing};
use super::times::{self, Told};
use super::{Malformed, Message, Note, Parsed, Reply, Source, multipart, text_of, words};

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "AlarmInfoPlate")]
    alarm: Option<Alarm>,
    heartbeat: Option<IgnoredAny>,
    #[serde(rename = "AlarmGioIn")]
    gpio: Option<IgnoredAny>,
    #[serde(rename = "SerialData")]
    serial: Option<IgnoredAny>,
    #[serde(rename = "TriggerImage")]
    image: Option<IgnoredAny>,
    payload: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Alarm {
    serialno: Option<Value>,
    ipaddr: Option<Value>,
    heartbeat: Option<IgnoredAny>,
    result: Option<AlarmResult>,
}

#[derive(Deserialize)]
struct AlarmResult {
    #[serde(rename = "PlateResult")]
    plate: Option<PlateResult>,
}

#[derive(Deserialize)]
struct PlateResult {
    license: Option<Value>,
    plateid: Option<Value>,
    isoffline: Option<Value>,
    #[serde(rename = "triggerType")]
    trigger: Option<Value>,
    #[serde(rename = "timeStamp")]
    stamp: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Timeval {
    sec: Option<Value>,
    decyear: Option<Value>,
    decmon: Option<Value>,
    decday: Option<Value>,
    dechour: Option<Value>,
    decmin: Option<Value>,
    decsec: Option<Value>,
}

const LICENSE: &str = "AlarmInfoPlate.result.PlateResult.license";
const SECONDS: &str = "AlarmInfoPlate.result.PlateResult.timeStamp.Timeval.sec";

/// Two clocks of one camera may differ by this much before it is worth a word.
const CLOCK_TOLERANCE_S: i64 = 300;

pub(super) fn parse(message: &Message<'_>, source: &Source) -> Result<Parsed, Malformed> {
    if is_login(message) {
        return Ok(Parsed::ignored(
            words::HEARTBEAT,
            "the camera registers itself",
            reply_heartbeat(),
        ));
    }
    let text = text_of(message.body);
    // Some firmware sends its C string with the end mark.
    let text = text.trim_end_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
    let envelope: Envelope = serde_json::from_str(text).map_err(|error| Malformed::json(&error))?;
    if envelope.heartbeat.is_some() {
        return Ok(Parsed::ignored(words::HEARTBEAT, "a sign of life", reply_heartbeat()));
    }
    for (found, name, sentence) in [
        (
            envelope.gpio.is_some(),
            "Response_AlarmGioIn",
            "an input changed (loop or button)",
        ),
        (
            envelope.serial.is_some(),
            "Response_SerialData",
            "data from a serial port",
        ),
        (
            envelope.image.is_some(),
            "Response_TriggerImage",
            "a picture that was asked for",
        ),
    ] {
        if found {
            return Ok(Parsed::ignored(
                words::OTHER_EVENT,
                sentence,
                reply(&json!({ name: received() })),
            ));
        }
    }
    let Some(alarm) = envelope.alarm else {
        let sentence = if envelope.payload.is_some() {
            "this is the MQTT form of the camera's messages; set the camera to HTTP push"
        } else {
            "the message has no AlarmInfoPlate"
        };
        return Err(Malformed::new("AlarmInfoPlate", words::OTHER_FORMAT, sentence));
    };
    if alarm.heartbeat.is_some() {
        return Ok(Parsed::ignored(words::HEARTBEAT, "a sign of life", reply_heartbeat()));
    }
    let Some(plate) = alarm.result.and_then(|result| result.plate) else {
        let field = "AlarmInfoPlate.result.PlateResult";
        return Err(Malformed::new(field, words::MISSING, "the message has no plate result"));
    };
    Ok(read(alarm.serialno.or(alarm.ipaddr).as_ref(), plate, message, source))
}

fn read(device: Option<&Value>, plate: PlateResult, message: &Message<'_>, source: &Source) -> Parsed {
    let replayed = plate.isoffline.as_ref().is_some_and(is_set);
    let reply = reply_plate(plate.plateid.as_ref(), replayed);
    // 64 the car stands in the lane, 65 it does so no longer, 66 it turned back.
    if matches!(plate.trigger.as_ref().and_then(integer), Some(64..=66)) {
        return Parsed::ignored(words::NOT_A_PASSAGE, "a car stands in the lane or turned back", reply);
    }
    let timeval = timeval(plate.stamp.as_ref());
    let (time, note) = match &timeval {
        Some(timeval) => clock(timeval, source),
        None => (Told::Unreadable, None),
    };
    let timeval = timeval.unwrap_or_default();
    let device = device.and_then(text).and_then(|id| crossing::id(&id));
    // plateid starts again at 1 after a reboot: only with the second it names a record.
    let record_id = match (&plate.plateid, &timeval.sec) {
        (Some(id), Some(second)) => text(id)
            .zip(text(second))
            .and_then(|(id, second)| crossing::id(&format!("{}/{id}/{second}", device.as_deref().unwrap_or("-")))),
        _ => None,
    };
    let license = plate.license.as_ref().and_then(text).unwrap_or_default();
    let crossing = Crossing {
        plate: &license,
        plate_field: LICENSE,
        state: None,
        state_field: "direction",
        time,
        time_field: SECONDS,
        strict_time: false,
        record_id,
        device,
        replayed,
    };
    Parsed::one(
        crossing::judge(crossing, source, message.received_at, note.into_iter().collect()),
        reply,
    )
}

/// The clocks of `timeStamp`; `None` when it is there and is no object as it should be.
fn timeval(stamp: Option<&Value>) -> Option<Timeval> {
    let none = || Some(Timeval::default());
    match stamp {
        None | Some(Value::Null) => none(),
        Some(Value::Object(stamp)) => match stamp.get("Timeval") {
            None | Some(Value::Null) => none(),
            Some(clocks @ Value::Object(_)) => Timeval::deserialize(clocks).ok(),
            Some(_) => None,
        },
        Some(_) => None,
    }
}

/// `sec` is an instant, the `dec*` members are the camera's wall clock. Whole seconds: `usec` is not worth a difference
/// between a read and its resend.
fn clock(timeval: &Timeval, source: &Source) -> (Told, Option<Note>) {
    let second = match timeval.sec.as_ref().filter(|sec| !sec.is_null()) {
        None => Told::Missing,
        Some(sec) => integer(sec).map_or(Told::Unreadable, Told::from_unix),
    };
    let Some(wall) = wall_clock(timeval) else {
        return (second, None);
    };
    let conflict = Note {
        item: 0,
        field: SECONDS,
        word: words::CLOCK_CONFLICT,
        sentence: "the camera's two clocks disagree; set its time and zone",
    };
    match (second, &source.zone) {
        (Told::Missing, _) => (Told::Local(wall), None),
        (Told::At(at), zone) if times::is_plausible(at) => {
            let apart = match zone.as_ref().and_then(|zone| times::in_zone(wall, zone)) {
                Some(wall) => (wall.as_second() - at.as_second()).abs() > CLOCK_TOLERANCE_S,
                // Without a zone the two may differ by any offset there is.
                None => times::in_zone(wall, &jiff::tz::TimeZone::UTC)
                    .is_none_or(|wall| (wall.as_second() - at.as_second()).abs() > 14 * 3600 + CLOCK_TOLERANCE_S),
            };
            (second, apart.then_some(conflict))
        }
        // The instant is impossible: the wall clock is the better witness, if anybody knows its zone.
        (_, Some(zone)) if times::in_zone(wall, zone).is_some_and(times::is_plausible) => {
            (Told::Local(wall), Some(conflict))
        }
        _ => (second, Some(conflict)),
    }
}

fn wall_clock(timeval: &Timeval) -> Option<DateTime> {
    let part = |value: &Option<Value>| value.as_ref().and_then(integer);
    let small = |value: &Option<Value>| part(value).and_then(|value| i8::try_from(value).ok());
    DateTime::new(
        part(&timeval.decyear).and_then(|year| i16::try_from(year).ok())?,
        small(&timeval.decmon)?,
        small(&timeval.decday)?,
        small(&timeval.dechour)?,
        small(&timeval.decmin)?,
        small(&timeval.decsec)?,
        0,
    )
    .ok()
}

/// Registration and the plain heartbeat come as a form with the device's name, login and serial number, in parts or
/// URL-encoded.
fn is_login(message: &Message<'_>) -> bool {
    if let Some(Ok(parts)) = multipart::parts(message) {
        return parts
            .iter()
            .any(|part| matches!(part.name.as_deref(), Some("serialno" | "device_name")));
    }
    let start = message.body.trim_ascii_start();
    !start.starts_with(b"{")
        && start.len() < 4096
        && form_urlencoded::parse(start).any(|(name, _)| name == "serialno" || name == "device_name")
}

fn is_set(value: &Value) -> bool {
    integer(value).is_some_and(|number| number != 0) || value.as_bool() == Some(true)
}

/// Numbers come as numbers or, from some firmware, as text.
fn integer(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
}

fn text(value: &Value) -> Option<String> {
    value
        .as_str()
        .map(str::to_owned)
        .or_else(|| value.as_i64().map(|number| number.to_string()))
}

/// "Got it, do not send it again". `info` is `no`, because `ok` opens the barrier.
fn received() -> Value {
    json!({ "info": "no", "content": "retransfer_stop" })
}

/// A live read wants its plateid back; an offline record wants to hear that the next one may come.
fn reply_plate(plateid: Option<&Value>, replayed: bool) -> Reply {
    let plateid = plateid.filter(|id| id.is_i64() || id.as_str().is_some_and(|id| id.len() <= 64));
    let body = match (plateid, replayed) {
        (Some(id), true) => json!({ "ContinuePushOffline": { "plateid": id, "continue": 1 } }),
        (None, true) => json!({ "ContinuePushOffline": { "continue": 1 } }),
        (Some(id), false) => json!({ "info": "no", "content": "retransfer_stop", "plateid": id }),
        (None, false) => received(),
    };
    reply(&json!({ "Response_AlarmInfoPlate": body }))
}

fn reply_heartbeat() -> Reply {
    reply(&json!({ "Response_Heartbeat": { "info": "no", "shutoff": "no", "snapnow": "no" } }))
}

fn reply(body: &Value) -> Reply {
    Reply::Body {
        content_type: "application/json",
        body: body.to_string(),
    }
}

//! Hikvision ISAPI event notifications: `EventNotificationAlert` as XML, alone or as one part of a form.
//!
//! Elements are matched by local name, because namespace and prefix change with the firmware. `direction` there is
//! relative to the camera, so in or out is the gate's configuration. Other alerts (motion, video loss) come to the same
//! URL. Document types are refused: no camera sends one, and entities are how XML grows in memory.

use jiff::civil::DateTime;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::crossing::{self, Crossing};
use super::times::Told;
use super::{Malformed, Message, Parsed, Reply, Source, multipart, text_of, words};

const ROOT: &str = "EventNotificationAlert";

/// No alert comes near these.
const LONGEST_XML: usize = 1024 * 1024;
const DEEPEST: usize = 32;
/// Text beyond this is cut. It is more than any plate, so that a cut one is still too long to be one.
const LONGEST_TEXT: usize = 4096;

/// An alert needs no more than this: a device that cannot parse an answer takes it as well.
const REPLY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ResponseStatus version=\"2.0\" \
    xmlns=\"http://www.isapi.org/ver20/XMLSchema\"><statusCode>1</statusCode><statusString>OK</statusString>\
    </ResponseStatus>\n";

/// What is read of an alert.
#[derive(Debug, Default)]
struct Alert {
    event_type: Option<String>,
    event_state: Option<String>,
    date_time: Option<String>,
    abs_time: Option<String>,
    mac_address: Option<String>,
    device_uuid: Option<String>,
    ip_address: Option<String>,
    uuid: Option<String>,
    retransmission: Option<String>,
    license_plate: Option<String>,
    original_plate: Option<String>,
    has_anpr: bool,
}

pub(super) fn parse(message: &Message<'_>, source: &Source) -> Result<Parsed, Malformed> {
    let xml = xml_of(message)?;
    let alert = read(&text_of(xml))?;
    let reply = Reply::Body {
        content_type: "application/xml; charset=utf-8",
        body: REPLY.to_owned(),
    };
    let is_anpr = match alert.event_type.as_deref() {
        Some(kind) => kind.eq_ignore_ascii_case("ANPR"),
        None => alert.has_anpr,
    };
    if !is_anpr {
        return Ok(Parsed::ignored(
            words::OTHER_EVENT,
            "an alert that is no plate read",
            reply,
        ));
    }
    if alert.event_state.as_deref() == Some("inactive") {
        return Ok(Parsed::ignored(words::NOT_A_PASSAGE, "the end of an event", reply));
    }
    let device = [alert.mac_address, alert.device_uuid, alert.ip_address]
        .into_iter()
        .flatten()
        .find_map(|id| crossing::id(&id));
    // The same UUID with another device is another record; one that is all the same character is a filled field.
    let record_id = alert
        .uuid
        .filter(|uuid| uuid.len() >= 8 && uuid.bytes().any(|b| b != uuid.as_bytes()[0]));
    let record_id = record_id.and_then(|uuid| crossing::id(&format!("{}/{uuid}", device.as_deref().unwrap_or("-"))));
    let replayed = alert
        .retransmission
        .is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1");
    let (time, time_field) = time(alert.date_time.as_deref(), alert.abs_time.as_deref(), replayed, source);
    let plate = alert.license_plate.or(alert.original_plate).unwrap_or_default();
    let crossing = Crossing {
        plate: &plate,
        plate_field: "ANPR/licensePlate",
        state: None,
        state_field: "direction",
        time,
        time_field,
        strict_time: false,
        record_id,
        device,
        replayed,
    };
    Ok(Parsed::one(
        crossing::judge(crossing, source, message.received_at, Vec::new()),
        reply,
    ))
}

/// The time of the alert and the member that says it. Older firmware leaves `dateTime` out; then the first picture has the
/// wall clock. Without a zone that is no worse than silence, unless the record is hours old and needs it.
fn time(date_time: Option<&str>, abs_time: Option<&str>, replayed: bool, source: &Source) -> (Told, &'static str) {
    match (date_time, abs_time.and_then(wall_clock)) {
        (None, Some(local)) if source.zone.is_some() || replayed => (Told::Local(local), "absTime"),
        (date_time, _) => (date_time.map_or(Told::Missing, Told::from_text), "dateTime"),
    }
}

/// `20240119111719654`: date, time and milliseconds, which some firmware leaves out.
fn wall_clock(text: &str) -> Option<DateTime> {
    if !text.bytes().all(|b| b.is_ascii_digit()) || !matches!(text.len(), 14 | 17) {
        return None;
    }
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i16>().ok();
    let small = |from: usize, to: usize| i8::try_from(part(from, to)?).ok();
    let millis = if text.len() == 17 { part(14, 17)? } else { 0 };
    DateTime::new(
        part(0, 4)?,
        small(4, 6)?,
        small(6, 8)?,
        small(8, 10)?,
        small(10, 12)?,
        small(12, 14)?,
        i32::from(millis) * 1_000_000,
    )
    .ok()
}

/// The XML of the message: the body, or the part of it that is an alert. Without one, any XML, to say what is wrong with it.
fn xml_of<'a>(message: &Message<'a>) -> Result<&'a [u8], Malformed> {
    let xml = match multipart::parts(message) {
        None => message.body,
        Some(parts) => {
            let parts: Vec<&[u8]> = parts?
                .into_iter()
                .map(|part| part.body)
                .filter(|body| is_xml(body))
                .collect();
            let alert = parts.iter().copied().find(|body| is_alert(body));
            alert
                .or(parts.first().copied())
                .ok_or_else(|| Malformed::new("body", words::MISSING, "no part of the form is XML"))?
        }
    };
    if !is_xml(xml) {
        return Err(Malformed::new(
            "body",
            words::SYNTAX,
            "the body is neither XML nor a form with an XML part",
        ));
    }
    if xml.len() > LONGEST_XML {
        return Err(Malformed::new("body", words::TOO_MUCH, "more than 1 MiB of XML"));
    }
    Ok(xml)
}

fn is_xml(body: &[u8]) -> bool {
    body.strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(body)
        .trim_ascii_start()
        .starts_with(b"<")
}

/// Whether the root element is an alert, whatever comes behind it.
fn is_alert(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start();
    let mut reader = Reader::from_reader(body);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) => return tag.local_name().as_ref() == ROOT.as_bytes(),
            Ok(Event::End(_) | Event::Eof) | Err(_) => return false,
            Ok(
                Event::Text(_)
                | Event::CData(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_)
                | Event::GeneralRef(_),
            ) => {}
        }
    }
}

fn read(xml: &str) -> Result<Alert, Malformed> {
    // Some firmware puts a line break before the declaration.
    let mut reader = Reader::from_str(xml.trim_start());
    let mut alert = Alert::default();
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let syntax = |at: u64| Malformed::new("body", words::SYNTAX, format!("XML that breaks off at byte {at}"));
    loop {
        let at = reader.buffer_position();
        match reader.read_event().map_err(|_| syntax(at))? {
            Event::Start(tag) => {
                let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                enter(&mut alert, &path, &name)?;
                path.push(name);
                text.clear();
            }
            Event::Empty(tag) => {
                enter(&mut alert, &path, &String::from_utf8_lossy(tag.local_name().as_ref()))?;
                if path.is_empty() {
                    return Ok(alert);
                }
            }
            Event::End(_) => {
                let name = path.pop().unwrap_or_default();
                keep(&mut alert, path.last().map(String::as_str), &name, &text);
                text.clear();
                // What follows the root is padding.
                if path.is_empty() {
                    return Ok(alert);
                }
            }
            Event::Text(part) => push(&mut text, &part.decode().map_err(|_| syntax(at))?),
            Event::CData(part) => push(&mut text, &part.decode().map_err(|_| syntax(at))?),
            Event::GeneralRef(reference) => {
                let c = reference.resolve_char_ref().map_err(|_| syntax(at))?;
                let name = reference.decode().map_err(|_| syntax(at))?;
                match c.or_else(|| predefined(&name)) {
                    Some(c) => push(&mut text, c.encode_utf8(&mut [0; 4])),
                    None => {
                        return Err(Malformed::new(
                            "body",
                            words::SYNTAX,
                            "an entity that XML does not define",
                        ));
                    }
                }
            }
            Event::DocType(_) => {
                return Err(Malformed::new(
                    "body",
                    words::SYNTAX,
                    "a document type (DOCTYPE) is not accepted",
                ));
            }
            Event::Eof => return Err(syntax(at)),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

/// Checks an element on the way in.
fn enter(alert: &mut Alert, path: &[String], name: &str) -> Result<(), Malformed> {
    if path.is_empty() && name != ROOT {
        let sentence = match name {
            "Plates" => "this is the answer to a query of stored plates; set the camera to send events instead",
            _ => "the root element is not EventNotificationAlert",
        };
        return Err(Malformed::new(ROOT, words::OTHER_FORMAT, sentence));
    }
    if path.len() >= DEEPEST {
        return Err(Malformed::new(
            "body",
            words::TOO_MUCH,
            format!("more than {DEEPEST} elements inside each other"),
        ));
    }
    alert.has_anpr |= name == "ANPR";
    Ok(())
}

/// Keeps the text of an element on the way out. The first of its name counts.
fn keep(alert: &mut Alert, parent: Option<&str>, name: &str, text: &str) {
    let slot = match (parent, name) {
        (Some(ROOT), "eventType") => &mut alert.event_type,
        (Some(ROOT), "eventState") => &mut alert.event_state,
        (Some(ROOT), "dateTime") => &mut alert.date_time,
        (Some(ROOT), "macAddress") => &mut alert.mac_address,
        (Some(ROOT), "deviceUUID") => &mut alert.device_uuid,
        (Some(ROOT), "ipAddress") => &mut alert.ip_address,
        (Some(ROOT), "UUID") => &mut alert.uuid,
        (Some(ROOT), "isDataRetransmission") => &mut alert.retransmission,
        (Some(_), "absTime") => &mut alert.abs_time,
        (Some("ANPR"), "licensePlate") => &mut alert.license_plate,
        (Some("ANPR"), "originalLicensePlate") => &mut alert.original_plate,
        _ => return,
    };
    let text = text.trim();
    if slot.is_none() && !text.is_empty() {
        *slot = Some(text.to_owned());
    }
}

fn push(text: &mut String, more: &str) {
    let more = if text.is_empty() { more.trim_start() } else { more };
    let end = more.floor_char_boundary(LONGEST_TEXT.saturating_sub(text.len()));
    text.push_str(&more[..end]);
}

fn predefined(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

//! 华夏智信 cameras, HTTP protocol mode 5: a URL-encoded form, or the same fields as parts of one.
//!
//! `vdc_type` says in or out, set in the camera. Pictures are base64, often not percent-encoded: the form is split by
//! hand so that they are neither decoded nor copied, and a broken one costs nothing else. The camera cannot read
//! compressed or chunked answers.

use crate::domain::gate::Direction;

use super::crossing::{self, Crossing};
use super::times::Told;
use super::{Malformed, Message, Parsed, Reply, Source, multipart, words};

/// The fields of a form, still encoded.
enum Form<'a> {
    UrlEncoded(Vec<(&'a [u8], &'a [u8])>),
    Parts(Vec<multipart::Part<'a>>),
}

/// No camera sends more.
const MOST_FIELDS: usize = 200;

impl<'a> Form<'a> {
    fn of(message: &Message<'a>) -> Result<Self, Malformed> {
        if let Some(parts) = multipart::parts(message) {
            return parts.map(Self::Parts);
        }
        let body = message
            .body
            .strip_prefix(b"\xEF\xBB\xBF")
            .unwrap_or(message.body)
            .trim_ascii();
        if body.is_empty() || matches!(body[0], b'{' | b'[' | b'<') {
            return Err(Malformed::new("body", words::SYNTAX, "the body is no URL-encoded form"));
        }
        let fields: Vec<_> = body
            .split(|&b| b == b'&')
            .take(MOST_FIELDS + 1)
            .filter_map(|pair| memchr::memchr(b'=', pair).map(|at| (pair[..at].trim_ascii(), &pair[at + 1..])))
            .collect();
        if fields.len() > MOST_FIELDS {
            return Err(Malformed::new(
                "body",
                words::TOO_MUCH,
                format!("more than {MOST_FIELDS} fields"),
            ));
        }
        Ok(Self::UrlEncoded(fields))
    }

    /// The first field of this name, decoded. Damage is U+FFFD.
    fn get(&self, name: &str) -> Option<String> {
        let value = match self {
            Self::UrlEncoded(fields) => {
                let (_, value) = fields.iter().find(|(field, _)| *field == name.as_bytes())?;
                let spaced: Vec<u8> = value.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect();
                percent_encoding::percent_decode(&spaced)
                    .decode_utf8_lossy()
                    .into_owned()
            }
            Self::Parts(parts) => {
                let part = parts.iter().find(|part| part.name.as_deref() == Some(name))?;
                String::from_utf8_lossy(part.body).into_owned()
            }
        };
        Some(value)
    }
}

pub(super) fn parse(message: &Message<'_>, source: &Source) -> Result<Parsed, Malformed> {
    let form = Form::of(message)?;
    let plates: Vec<(&str, String)> = ["plate_num", "car_plate"]
        .into_iter()
        .filter_map(|field| form.get(field).map(|plate| (field, plate)))
        .collect();
    // An empty field says that no plate was read only if the other one is empty as well.
    let plate = plates.iter().find(|(_, plate)| is_filled(plate)).or(plates.first());
    let kind = form.get("type").map(|kind| kind.trim().to_ascii_lowercase());
    let replayed = match (kind.as_deref(), plate) {
        (Some("online") | None, Some(_)) => false,
        (Some("offline"), Some(_)) => true,
        (Some("online" | "offline"), None) => {
            return Err(Malformed::new("plate_num", words::MISSING, "the form has no plate_num"));
        }
        (Some("heartbeat"), _) => return Ok(Parsed::ignored(words::HEARTBEAT, "a sign of life", reply())),
        (Some(_), _) => {
            return Ok(Parsed::ignored(
                words::OTHER_EVENT,
                "a message that is no plate read",
                reply(),
            ));
        }
        (None, None) => {
            return Err(Malformed::new(
                "type",
                words::OTHER_FORMAT,
                "a form with neither type nor plate_num",
            ));
        }
    };
    let (plate_field, plate) = plate.map_or(("plate_num", ""), |(field, plate)| (*field, plate));
    let time = match form.get("start_time") {
        Some(text) if !text.trim().is_empty() => text.trim().parse().map_or(Told::Unreadable, Told::from_unix),
        _ => Told::Missing,
    };
    let state = form.get("vdc_type").and_then(|kind| match kind.trim() {
        kind if kind.eq_ignore_ascii_case("in") => Some(Direction::In),
        kind if kind.eq_ignore_ascii_case("out") => Some(Direction::Out),
        _ => None,
    });

    let crossing = Crossing {
        plate,
        plate_field,
        state,
        state_field: "direction",
        time,
        time_field: "start_time",
        strict_time: false,
        // The protocol has no record id. One made of camera, second and plate would put a plate where ids are in clear;
        // the store knows how to tell such records apart.
        record_id: None,
        device: ["cam_id", "cam_ip"]
            .into_iter()
            .filter_map(|name| form.get(name))
            .find_map(|id| crossing::id(&id)),
        replayed,
    };
    Ok(Parsed::one(
        crossing::judge(crossing, source, message.received_at, Vec::new()),
        reply(),
    ))
}

fn is_filled(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace() && !c.is_control())
}

fn reply() -> Reply {
    Reply::Body {
        content_type: "application/json",
        body: r#"{"error_num":0,"error_str":"noerror"}"#.to_owned(),
    }
}

//! Real messages of real cameras, posted as they were published. None of their plates belongs to a member of the demo.

use std::io::Write;

use jiff::Timestamp;

use super::day::GATES;
use super::poster::Poster;
use crate::cli::{Exit, Failure};
use crate::domain::gate::Direction;
use crate::ingest::{self, Item, Message, Source};

macro_rules! samples {
    ($($lot:literal $name:literal),* $(,)?) => {
        [$(($lot, $name, include_str!(concat!("../../../../examples/gate-messages/", $name)))),*]
    };
}

/// The lot of the demo's mall whose vendor the message is of, the file, what is in it.
const SAMPLES: [(&str, &str, &str); 10] = samples![
    "P1" "vzenith-http-online-macau-plate.json",
    "P1" "vzenith-oss-http-shandong-midnight.json",
    "P1" "vzenith-oss-three-territory-plate.json",
    "P1" "vzenith-http-unread-plate-clock-conflict.json",
    "P1" "vzenith-http-gpio-not-a-plate.json",
    "P2" "hikvision-isapi-anpr-v58.xml",
    "P2" "hikvision-isapi-anpr-prefixed-namespace.xml",
    "P2" "hikvision-isapi-anpr-unknown-plate.xml",
    "P2" "hikvision-isapi-motion-not-anpr.xml",
    "P3" "huaxia-httppost-mode5-form.txt",
];

/// Characters of an answer that are printed.
const ANSWER_SHOWN: usize = 70;

/// Posts them all and says what each gate was told.
pub(super) async fn play(poster: &Poster, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "Real camera messages first 真实相机报文:")?;
    for (lot, name, body) in SAMPLES {
        let content_type = match name.rsplit_once('.') {
            Some((_, "json")) => "application/json",
            Some((_, "xml")) => "application/xml",
            _ => "application/x-www-form-urlencoded",
        };
        let (status, answer) = poster.gate(lot, "E1", content_type, body.into()).await?;
        if !status.is_success() {
            return Err(Failure::new(
                Exit::Unexpected,
                format!("{name} was refused with {status}"),
            ));
        }
        let answer = String::from_utf8_lossy(&answer).replace(['\r', '\n'], "");
        let shown: String = answer.chars().take(ANSWER_SHOWN).collect();
        let cut = if shown.len() < answer.len() { "…" } else { "" };
        writeln!(
            out,
            "  {name:46} {:22} answered {shown}{cut}",
            made_of(lot, content_type, body)
        )?;
    }
    writeln!(out)?;
    Ok(())
}

/// What the message says, in a word.
fn made_of(lot: &str, content_type: &str, body: &str) -> String {
    let Some(format) = GATES
        .iter()
        .find(|gate| gate.lot == lot)
        .and_then(|gate| gate.format.parse().ok())
    else {
        return String::new();
    };
    let message = Message {
        content_type: Some(content_type),
        body: body.as_bytes(),
        received_at: Timestamp::now(),
    };
    let source = Source {
        direction: Some(Direction::In),
        zone: Some(jiff::tz::TimeZone::fixed(jiff::tz::offset(8))),
    };
    match ingest::parse(format, &message, &source).map(|parsed| parsed.items.into_iter().next()) {
        Ok(Some(Item::Event(read))) => format!("{} {}", read.plate, read.state),
        Ok(Some(Item::Ignored { reason })) => format!("ignored: {}", reason.word),
        Ok(Some(Item::Amend { .. })) => "amends a record".to_owned(),
        Ok(Some(Item::NoPlate { .. })) => "no plate read".to_owned(),
        Ok(Some(Item::Held { reason, .. } | Item::Rejected { reason, .. })) => reason.word.to_owned(),
        Ok(None) | Err(_) => "not understood".to_owned(),
    }
}

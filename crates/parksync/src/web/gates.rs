//! `/v1/gates/{lot}/{gate}`: a camera or barrier posts what it saw, in its own words, and hears the words it waits for.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::warn;

use super::intake::Intake;
use super::problem::Problem;
use super::{Gate, Lot, Web, intake};
use crate::ingest::generic::{self, Entry};
use crate::ingest::{self, Format, Item, Malformed, Message, Reply};

pub(super) async fn receive(
    State(web): State<Web>,
    Path((lot_id, gate_id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match take(&web, &lot_id, &gate_id, &headers, body).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn take(
    web: &Web,
    lot_id: &str,
    gate_id: &str,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (lot, gate) = find(web, lot_id, gate_id)?;
    let body = intake::body(body)?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let message = Message {
        content_type,
        body: &body,
        received_at: web.clock.now(),
    };
    let malformed = |malformed: Malformed| async move {
        intake::count_malformed(web, lot_id, &malformed).await?;
        warn!(lot.id = lot_id, gate.id = gate_id, field = %malformed.field, reason = malformed.reason.word, "a message was not understood");
        Err(Problem::new(400, "malformed", malformed.reason.sentence).field(malformed.field))
    };
    if gate.format == Format::Generic {
        let entries = match generic::parse_batch(&message, |_, _| Ok(Cow::Borrowed(&gate.source))) {
            Ok(entries) => entries,
            Err(error) => return malformed(error).await,
        };
        let entries = entries
            .into_iter()
            .map(|entry| Entry {
                gate: Some(gate_id.to_owned()),
                ..entry
            })
            .collect();
        let place = web.site.lots.get_key_value(lot_id).map(|(id, lot)| (id.as_str(), lot));
        return intake::batch(web, entries, message.received_at, |_| place).await;
    }
    let parsed = match ingest::parse(gate.format, &message, &gate.source) {
        Ok(parsed) => parsed,
        Err(error) => return malformed(error).await,
    };
    for note in &parsed.notes {
        warn!(lot.id = lot_id, gate.id = gate_id, note = note.word, "odd, but taken");
    }
    web.clocks.see(lot_id, gate_id, &parsed.items, message.received_at);
    let problem = parsed.items.iter().find_map(unconfigured);
    let mut intake = Intake::default();
    for item in parsed.items {
        intake.add(lot_id, lot, Some(gate_id), item, message.received_at);
    }
    intake.store(web).await?;
    if let Some(problem) = problem {
        // With the configuration put right the repeat is good, so the camera keeps the message.
        warn!(
            lot.id = lot_id,
            gate.id = gate_id,
            "a message was sent back: the configuration of its gate is incomplete"
        );
        return Err(problem);
    }
    Ok(match parsed.reply {
        Reply::Body { content_type, body } => {
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], body).into_response()
        }
        Reply::PerItem => StatusCode::OK.into_response(),
    })
}

fn find<'a>(web: &'a Web, lot_id: &str, gate_id: &str) -> Result<(&'a Lot, &'a Gate), Problem> {
    let lot = web
        .site
        .lots
        .get(lot_id)
        .ok_or_else(|| Problem::not_found("unknown-lot", "no such lot is configured").field("lot"))?;
    let gate = lot
        .gates
        .get(gate_id)
        .ok_or_else(|| Problem::not_found("unknown-gate", "no such gate is configured in this lot").field("gate"))?;
    Ok((lot, gate))
}

fn unconfigured(item: &Item) -> Option<Problem> {
    match item {
        Item::Rejected { field, reason, .. } if reason.is_configuration() => {
            Some(Problem::new(422, reason.word, reason.sentence.clone()).field(field.clone()))
        }
        Item::Event(_)
        | Item::Amend { .. }
        | Item::Ignored { .. }
        | Item::NoPlate { .. }
        | Item::Held { .. }
        | Item::Rejected { .. } => None,
    }
}

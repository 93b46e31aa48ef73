//! `/v1/events`: a system that speaks for several lots posts events in our own JSON, one or many, and hears about each.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::intake;
use super::problem::Problem;
use super::{Lot, Web};
use crate::ingest::generic::{self, Resolved};
use crate::ingest::{Message, Reason};

pub(super) async fn receive(
    State(web): State<Web>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match take(&web, &headers, body).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn take(web: &Web, headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
    let body = intake::body(body)?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let message = Message {
        content_type,
        body: &body,
        received_at: web.clock.now(),
    };
    let entries = match generic::parse_batch(&message, |lot, gate| source(web, lot, gate)) {
        Ok(entries) => entries,
        Err(malformed) => {
            intake::count_malformed(web, "", &malformed).await?;
            return Err(Problem::new(400, "malformed", malformed.reason.sentence).field(malformed.field));
        }
    };
    intake::batch(web, entries, message.received_at, |entry| {
        lot(web, entry.lot.as_deref())
    })
    .await
}

fn lot<'a>(web: &'a Web, id: Option<&str>) -> Option<(&'a str, &'a Lot)> {
    web.site.lots.get_key_value(id?).map(|(id, lot)| (id.as_str(), lot))
}

/// What is configured for the lot and gate that an event names.
fn source<'a>(web: &'a Web, lot_id: Option<&str>, gate_id: Option<&str>) -> Resolved<'a> {
    let Some(lot_id) = lot_id else {
        return Err(("lot", Reason::new("missing", "the event names no lot")));
    };
    let Some((_, lot)) = lot(web, Some(lot_id)) else {
        return Err(("lot", intake::unknown_lot()));
    };
    match gate_id.map(|id| lot.gates.get(id)) {
        None => Ok(Cow::Borrowed(&lot.source)),
        Some(Some(gate)) => Ok(Cow::Borrowed(&gate.source)),
        Some(None) => Err((
            "gate",
            Reason::new("unknown-gate", "no such gate is configured in this lot"),
        )),
    }
}

//! From what a parser made of a message to what the store writes down, item by item.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::problem::Problem;
use super::{Lot, Web};
use crate::ingest::{Item, Malformed, Note, Reason};
use crate::store::{GateEvent, NeverSent};

/// The body, or why there is none.
pub(super) fn body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection.status().as_u16() {
        413 => Problem::new(
            413,
            "too-large",
            "the body is over the bound of this path; leave pictures out",
        )
        .field("body"),
        status => Problem::new(status, "unreadable", "the body broke off").field("body"),
    })
}

/// Counts a message that could not be understood at all.
pub(super) async fn count_malformed(web: &Web, lot: &str, malformed: &Malformed) -> Result<(), Problem> {
    let refused = NeverSent {
        lot: lot.to_owned(),
        reason: malformed.reason.word,
    };
    web.store.record(Vec::new(), vec![refused]).await?;
    Ok(())
}

/// The answer to a batch: a result per item.
pub(super) fn answer(results: Vec<ItemResult>) -> Response {
    let rejected = results.iter().filter(|result| result.is_rejected()).count();
    // All bad is the sender's mistake; a part of a batch must not make it send the rest again.
    let all = rejected > 0 && rejected == results.len();
    let status = if all {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    (status, Json(json!({ "rejected": rejected, "results": results }))).into_response()
}

/// What became of one item.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ItemResult {
    class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'static str>,
}

impl ItemResult {
    fn plain(class: &'static str) -> Self {
        Self {
            class,
            recorded: None,
            field: None,
            reason: None,
            detail: None,
            notes: Vec::new(),
        }
    }

    fn because(class: &'static str, reason: &Reason) -> Self {
        Self {
            reason: Some(reason.word),
            detail: Some(reason.sentence.to_string()),
            ..Self::plain(class)
        }
    }

    pub(super) fn rejected(field: impl Into<String>, reason: &Reason) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::because("rejected", reason)
        }
    }

    fn is_rejected(&self) -> bool {
        self.class == "rejected"
    }
}

/// The items of one request, on their way into one transaction.
#[derive(Default)]
pub(super) struct Intake {
    events: Vec<GateEvent>,
    never: Vec<NeverSent>,
    results: Vec<ItemResult>,
    /// Which result each event has.
    of_event: Vec<usize>,
}

impl Intake {
    /// Takes one item of a lot. `at`: when the request was received.
    pub(super) fn add(&mut self, lot_id: &str, lot: &Lot, gate: Option<&str>, item: Item, at: Timestamp) {
        let result = match item {
            Item::Event(read) | Item::Held { read: Some(read), .. } => {
                self.of_event.push(self.results.len());
                // A doubtful plate goes the same way: it leads to a call only where a member bound exactly this plate.
                self.events.push(GateEvent {
                    circle: lot.circle.clone(),
                    lot: lot_id.to_owned(),
                    gate: gate.map(str::to_owned),
                    read,
                    received_at: at,
                    policy: lot.policy,
                });
                ItemResult::plain("event")
            }
            Item::Amend { .. } => ItemResult::plain("ignored"),
            Item::Ignored { reason } => ItemResult::because("ignored", &reason),
            Item::NoPlate { reason, .. } => {
                self.never(lot_id, &reason);
                ItemResult::because("no-plate", &reason)
            }
            Item::Held { reason, read: None, .. } => {
                self.never(lot_id, &reason);
                ItemResult::because("held", &reason)
            }
            Item::Rejected { field, reason, .. } => {
                self.never(lot_id, &reason);
                ItemResult::rejected(field, &reason)
            }
        };
        self.results.push(result);
    }

    /// Takes an item that belongs to no configured lot.
    pub(super) fn refuse(&mut self, field: impl Into<String>, reason: &Reason) {
        self.never.push(NeverSent {
            lot: String::new(),
            reason: reason.word,
        });
        self.results.push(ItemResult::rejected(field, reason));
    }

    /// Adds what is odd about items that were taken.
    pub(super) fn note(&mut self, notes: &[Note]) {
        for note in notes {
            if let Some(result) = self.results.get_mut(note.item) {
                result.notes.push(note.word);
            }
        }
    }

    fn never(&mut self, lot_id: &str, reason: &Reason) {
        self.never.push(NeverSent {
            lot: lot_id.to_owned(),
            reason: reason.word,
        });
    }

    /// Writes all of it down in one transaction. When this returns, it is on disk.
    pub(super) async fn store(self, web: &Web) -> Result<Vec<ItemResult>, Problem> {
        let Self {
            events,
            never,
            mut results,
            of_event,
        } = self;
        if events.is_empty() && never.is_empty() {
            return Ok(results);
        }
        web.pressure.check()?;
        let recorded = web.store.record(events, never).await?;
        for (index, recorded) in of_event.into_iter().zip(recorded) {
            results[index].recorded = Some(recorded.word());
        }
        Ok(results)
    }
}

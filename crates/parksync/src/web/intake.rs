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
use crate::ingest::generic::Entry;
use crate::ingest::{Item, Malformed, Note, Reason};
use crate::store::{Amend, Amended, GateEvent, NeverSent, StoreError};

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

/// Takes a batch of our own JSON: an event of each entry goes to the lot and gate that `place` names for it.
pub(super) async fn batch<'a>(
    web: &'a Web,
    entries: Vec<Entry>,
    received_at: Timestamp,
    place: impl Fn(&Entry) -> Option<(&'a str, &'a Lot)>,
) -> Result<Response, Problem> {
    let mut intake = Intake::default();
    for entry in entries {
        intake.begin();
        if let (Some(lot), Some(gate)) = (&entry.lot, &entry.gate) {
            web.clocks.see(lot, gate, &entry.items, received_at);
        }
        let place = place(&entry);
        let Entry {
            gate,
            class,
            items,
            notes,
            ..
        } = entry;
        for item in items {
            match (place, item) {
                (Some((_, lot)), Item::Event(_) | Item::Held { read: Some(_), .. })
                    if class
                        .as_ref()
                        .is_some_and(|class| lot.leave_out_classes.contains(class)) =>
                {
                    let sentence = "cars of this class are left out by the settings of the lot";
                    intake.leave_out(place, &Reason::new("class-left-out", sentence));
                }
                (Some((id, lot)), item) => intake.add(id, lot, gate.as_deref(), item, received_at),
                (None, Item::Rejected { field, reason, .. }) => intake.refuse(field, &reason),
                (None, _) => intake.refuse("lot", &unknown_lot()),
            }
        }
        intake.note(&notes);
    }
    Ok(answer(intake.store(web).await?))
}

pub(super) fn unknown_lot() -> Reason {
    Reason::new("unknown-lot", "no such lot is configured")
}

/// The answer to a batch: a result per event that was sent. A visit record has the results of its two ends.
fn answer(results: Vec<Vec<ItemResult>>) -> Response {
    let is_rejected = |ends: &Vec<ItemResult>| ends.iter().all(|end| end.class == "rejected");
    let rejected = results.iter().filter(|ends| is_rejected(ends)).count();
    // All bad is the sender's mistake; a part of a batch must not make it send the rest again.
    let all = rejected > 0 && rejected == results.len();
    let status = if all {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    let results: Vec<_> = results
        .into_iter()
        .map(|ends| {
            if let [one] = &ends[..] {
                json!(one)
            } else {
                json!({ "class": "visit", "items": ends })
            }
        })
        .collect();
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

    fn rejected(field: impl Into<String>, reason: &Reason) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::because("rejected", reason)
        }
    }
}

/// The items of one request, on their way into the store.
#[derive(Default)]
pub(super) struct Intake {
    events: Vec<GateEvent>,
    amends: Vec<Amend>,
    never: Vec<NeverSent>,
    results: Vec<Vec<ItemResult>>,
    /// Which result each event has.
    of_event: Vec<(usize, usize)>,
    of_amend: Vec<(usize, usize)>,
}

impl Intake {
    /// The items of another entry follow.
    pub(super) fn begin(&mut self) {
        self.results.push(Vec::new());
    }

    /// Takes one item of a lot. `at`: when the request was received.
    pub(super) fn add(&mut self, lot_id: &str, lot: &Lot, gate: Option<&str>, item: Item, at: Timestamp) {
        let result = match item {
            Item::Event(read) | Item::Held { read: Some(read), .. } => {
                self.of_event.push(self.place());
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
            Item::Amend { record_id, plate } => {
                self.of_amend.push(self.place());
                self.amends.push(Amend {
                    circle: lot.circle.clone(),
                    lot: lot_id.to_owned(),
                    record_id,
                    plate,
                    received_at: at,
                    policy: lot.policy,
                });
                ItemResult::plain("amend")
            }
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
        self.push(result);
    }

    /// Takes an item that the settings leave out.
    fn leave_out(&mut self, place: Option<(&str, &Lot)>, reason: &Reason) {
        self.never(place.map_or("", |(id, _)| id), reason);
        self.push(ItemResult::because("ignored", reason));
    }

    /// Takes an item that belongs to no configured lot.
    fn refuse(&mut self, field: impl Into<String>, reason: &Reason) {
        self.never("", reason);
        self.push(ItemResult::rejected(field, reason));
    }

    /// Adds what is odd about the items of this entry.
    fn note(&mut self, notes: &[Note]) {
        for note in notes {
            if let Some(result) = self.results.last_mut().and_then(|ends| ends.get_mut(note.item)) {
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

    /// Where the next result goes.
    fn place(&self) -> (usize, usize) {
        (
            self.results.len().saturating_sub(1),
            self.results.last().map_or(0, Vec::len),
        )
    }

    fn push(&mut self, result: ItemResult) {
        if self.results.is_empty() {
            self.begin();
        }
        if let Some(ends) = self.results.last_mut() {
            ends.push(result);
        }
    }

    /// Writes all of it down: the events in one transaction, then what amends records, in their order. When this returns, it is on
    /// disk.
    pub(super) async fn store(self, web: &Web) -> Result<Vec<Vec<ItemResult>>, Problem> {
        let Self {
            events,
            amends,
            never,
            mut results,
            of_event,
            of_amend,
        } = self;
        if !events.is_empty() || !never.is_empty() {
            web.pressure.check()?;
            let recorded = web.store.record(events, never).await;
            web.pressure
                .wrote(!matches!(recorded, Err(StoreError::Failed { .. } | StoreError::Closed)));
            let recorded = recorded?;
            for ((entry, end), recorded) in of_event.into_iter().zip(recorded) {
                results[entry][end].recorded = Some(recorded.word());
            }
        }
        for ((entry, end), amend) in of_amend.into_iter().zip(amends) {
            results[entry][end].recorded = Some(match web.store.amend(amend).await? {
                Amended::UnknownRecord => "unknown-record",
                Amended::Unchanged => "unchanged",
                Amended::Cancelled => "cancelled",
                Amended::Corrected(_) => "corrected",
            });
        }
        Ok(results)
    }
}

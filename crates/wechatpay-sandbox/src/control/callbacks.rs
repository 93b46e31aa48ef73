//! Callbacks: `/v1/callbacks`.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::callbacks::{Attempt, Event, Notification, Progress, Trick};
use crate::china;
use crate::control::problem::{Answer, Problem, done, read};
use crate::control::{Desk, Kind, Operation, field};

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "get",
        path: "/v1/callbacks",
        summary: "The newest callbacks with every try, what was answered and why it does not count",
        fields: &[],
        handler: || get(list),
    },
    Operation {
        method: "put",
        path: "/v1/callbacks/urls",
        summary: "Where callbacks go, and whom to trust for https",
        fields: &[
            field("authorization_url", Kind::Text, false, "authorisations"),
            field("payment_url", Kind::Text, false, "payments and refunds"),
            field("parking_fee_url", Kind::Text, false, "queries of a stay's fee"),
            field("ca_pem", Kind::Text, false, "the authority of the https URLs"),
        ],
        handler: || put(set_urls),
    },
    Operation {
        method: "post",
        path: "/v1/callbacks/tricks",
        summary: "Does something wrong with the next callback",
        fields: &[
            field("trick", Kind::Word(&TRICKS), true, "what"),
            field("late_s", Kind::Number, false, "for late: seconds of the calendar"),
        ],
        handler: || post(trick),
    },
    Operation {
        method: "post",
        path: "/v1/callbacks/parking-fee",
        summary: "Asks the merchant for the fee of a stay",
        fields: &[
            field("out_serial_number", Kind::Text, true, "the stay"),
            field("plate_number", Kind::Text, true, "the car"),
            field("out_parking_id", Kind::Text, true, "the car park"),
        ],
        handler: || post(parking_fee),
    },
    Operation {
        method: "post",
        path: "/v1/callbacks/send",
        summary: "Sends any resource as an event to any URL, for trying a server out",
        fields: &[
            field("event_type", Kind::Text, true, "as on the wire"),
            field("url", Kind::Text, true, "where to"),
            field("resource", Kind::Text, true, "the plaintext, JSON as text"),
        ],
        handler: || post(send),
    },
    Operation {
        method: "get",
        path: "/v1/callbacks/{id}",
        summary: "One callback",
        fields: &[],
        handler: || get(one),
    },
    Operation {
        method: "post",
        path: "/v1/callbacks/{id}/resend",
        summary: "Sends a callback once more, now",
        fields: &[],
        handler: || post(resend),
    },
];

async fn list(State(platform): Desk) -> Answer {
    let all = platform.world.callbacks.all();
    let callbacks: Vec<Value> = all.iter().rev().take(MAX_SHOWN).map(describe).collect();
    let next_due = platform.world.callbacks.next_due().map(china::text);
    Ok(Json(json!({ "callbacks": callbacks, "next_due": next_due })))
}

async fn one(State(platform): Desk, Path(id): Path<String>) -> Answer {
    let found = platform.world.callbacks.find(&id);
    let found = found.ok_or_else(|| Problem::not_found("there is no such callback"))?;
    Ok(Json(describe(&found)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Urls {
    authorization_url: Option<String>,
    payment_url: Option<String>,
    parking_fee_url: Option<String>,
    ca_pem: Option<String>,
}

async fn set_urls(State(platform): Desk, body: Bytes) -> Answer {
    let urls: Urls = read(&body)?;
    let callbacks = &platform.world.callbacks;
    let set = || {
        if let Some(url) = &urls.authorization_url {
            callbacks.set_authorization_url(url)?;
        }
        if let Some(url) = &urls.payment_url {
            callbacks.set_payment_url(url)?;
        }
        if let Some(url) = &urls.parking_fee_url {
            callbacks.set_parking_fee_url(url)?;
        }
        Ok::<_, crate::callbacks::UrlError>(())
    };
    set().map_err(|error| Problem::bad(error.to_string()))?;
    if let Some(ca_pem) = &urls.ca_pem {
        callbacks.trust(ca_pem);
    }
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTrick {
    trick: String,
    late_s: Option<f64>,
}

async fn trick(State(platform): Desk, body: Bytes) -> Answer {
    let new: NewTrick = read(&body)?;
    let late = Duration::try_from_secs_f64(new.late_s.unwrap_or(60.0));
    let late = late.map_err(|error| Problem::bad(format!("late_s: {error}")))?;
    let trick = match new.trick.as_str() {
        "duplicate" => Trick::Duplicate,
        "late" => Trick::Late(late),
        "probe" => Trick::Probe,
        "wrong_signature" => Trick::WrongSignature,
        "stale_timestamp" => Trick::StaleTimestamp,
        "unknown_serial" => Trick::UnknownSerial,
        "bad_ciphertext" => Trick::BadCiphertext,
        _ => return Err(Problem::bad(format!("trick is one of {}", TRICKS.join(", ")))),
    };
    platform.world.callbacks.next(trick);
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeeQuery {
    out_serial_number: String,
    plate_number: String,
    out_parking_id: String,
}

async fn parking_fee(State(platform): Desk, body: Bytes) -> Answer {
    let query: FeeQuery = read(&body)?;
    let callbacks = &platform.world.callbacks;
    let id = callbacks.query_parking_fee(&query.out_serial_number, &query.plate_number, &query.out_parking_id);
    let id = id.ok_or_else(|| Problem::conflict("set parking_fee_url first"))?;
    Ok(Json(json!({ "notification": id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCallback {
    event_type: String,
    url: String,
    resource: String,
}

async fn send(State(platform): Desk, body: Bytes) -> Answer {
    let new: NewCallback = read(&body)?;
    let event = Event::ALL
        .into_iter()
        .find(|event| event.event_type() == new.event_type);
    let event = event.ok_or_else(|| {
        let known: Vec<_> = Event::ALL.iter().map(|event| event.event_type()).collect();
        Problem::bad(format!("event_type is one of {}", known.join(", ")))
    })?;
    let resource: Value =
        serde_json::from_str(&new.resource).map_err(|error| Problem::bad(format!("resource is not JSON: {error}")))?;
    let id = platform.world.callbacks.send(event, &new.url, resource);
    let id = id.map_err(|error| Problem::bad(error.to_string()))?;
    Ok(Json(json!({ "notification": id })))
}

async fn resend(State(platform): Desk, Path(id): Path<String>) -> Answer {
    if platform.world.callbacks.resend(&id) {
        return done();
    }
    Err(Problem::not_found("there is no such callback"))
}

fn describe(notification: &Notification) -> Value {
    let (progress, next_at) = match notification.progress {
        Progress::Waiting(next_at) => ("waiting", Some(china::text(next_at))),
        Progress::Sending => ("sending", None),
        Progress::Acknowledged => ("acknowledged", None),
        Progress::GivenUp => ("given_up", None),
    };
    json!({
        "id": notification.id,
        "event_type": notification.event.event_type(),
        "url": notification.url.to_string(),
        "created_at": china::text(notification.created_at),
        "resource": notification.resource,
        "trick": notification.trick.map(|trick| format!("{trick:?}")),
        "progress": progress,
        "next_at": next_at,
        "attempts": notification.attempts.iter().map(describe_attempt).collect::<Vec<_>>(),
    })
}

fn describe_attempt(attempt: &Attempt) -> Value {
    json!({
        "at": china::text(attempt.at),
        "status": attempt.status,
        "answer": attempt.answer,
        "after_ms": u64::try_from(attempt.after.as_millis()).unwrap_or(u64::MAX),
        "failure": attempt.failure,
    })
}

const TRICKS: [&str; 7] = [
    "duplicate",
    "late",
    "probe",
    "wrong_signature",
    "stale_timestamp",
    "unknown_serial",
    "bad_ciphertext",
];
const MAX_SHOWN: usize = 500;

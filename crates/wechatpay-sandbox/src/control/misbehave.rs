//! Faults, clocks, keys and the reset: `/v1/faults`, `/v1/clock`, `/v1/platform`, `/v1/reset`.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{delete, get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::china;
use crate::control::business::find;
use crate::control::problem::{Answer, Problem, done, read};
use crate::control::{Desk, Kind, Operation, field};
use crate::fault::{Fault, FaultPlan, TlsFault};
use crate::keyring::KeyMode;
use crate::refusal::Refusal;

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "get",
        path: "/v1/faults",
        summary: "The rules that are left",
        fields: &[],
        handler: || get(rules),
    },
    Operation {
        method: "post",
        path: "/v1/faults",
        summary: "Something goes wrong with the next call, or with the calls of a path",
        fields: &[
            field("fault", Kind::Word(&FAULTS), true, "what"),
            field(
                "path",
                Kind::Text,
                false,
                "with {…} for a segment or * at the end; left out: the next call",
            ),
            field("times", Kind::Whole, false, "with path: how often; left out: always"),
            field("ms", Kind::Whole, false, "latency, slow_body: milliseconds"),
            field("bytes", Kind::Whole, false, "oversized_body: how many blanks"),
            field("retry_after_s", Kind::Whole, false, "rate_limited"),
            field("status", Kind::Whole, false, "refuse"),
            field("code", Kind::Text, false, "refuse"),
            field("message", Kind::Text, false, "refuse"),
        ],
        handler: || post(strike),
    },
    Operation {
        method: "delete",
        path: "/v1/faults",
        summary: "Nothing goes wrong from now on",
        fields: &[],
        handler: || delete(behave),
    },
    Operation {
        method: "put",
        path: "/v1/faults/plan",
        summary: "About three in a hundred calls go wrong, the same ones for the same seed",
        fields: &[field("seed", Kind::Whole, true, "any number")],
        handler: || put(plan),
    },
    Operation {
        method: "post",
        path: "/v1/faults/tls",
        summary: "The next TLS handshake goes wrong",
        fields: &[field("fault", Kind::Word(&TLS), true, "how")],
        handler: || post(tls),
    },
    Operation {
        method: "get",
        path: "/v1/clock",
        summary: "What the wire's clock and the calendar show",
        fields: &[],
        handler: || get(clock),
    },
    Operation {
        method: "post",
        path: "/v1/clock",
        summary: "Steps the calendar, sets its speed, or puts both clocks wrong",
        fields: &[
            field("advance_s", Kind::Number, false, "the calendar goes forward"),
            field("speed", Kind::Number, false, "the calendar runs so many times as fast"),
            field(
                "offset_s",
                Kind::Whole,
                false,
                "both clocks are so far ahead of the machine's",
            ),
        ],
        handler: || post(turn),
    },
    Operation {
        method: "get",
        path: "/v1/platform",
        summary: "The platform certificates that count, oldest first",
        fields: &[],
        handler: || get(certificates),
    },
    Operation {
        method: "post",
        path: "/v1/platform/rotate",
        summary: "A second platform certificate goes live",
        fields: &[],
        handler: || post(rotate),
    },
    Operation {
        method: "put",
        path: "/v1/platform",
        summary: "Which keys sign",
        fields: &[
            field(
                "mode",
                Kind::Word(&MODES),
                false,
                "which key signs when the caller names none",
            ),
            field(
                "newest_share",
                Kind::Number,
                false,
                "how much the newest certificate signs, 0 to 1",
            ),
            field(
                "callbacks_share",
                Kind::Number,
                false,
                "how many callbacks the public key signs, 0 to 1",
            ),
            field(
                "expire_old_in_s",
                Kind::Number,
                false,
                "the older certificates end so soon",
            ),
        ],
        handler: || put(platform_keys),
    },
    Operation {
        method: "post",
        path: "/v1/reset",
        summary: "Forgets members, payments, presences, callbacks, stays and faults; keys, ledger and clocks stay",
        fields: &[],
        handler: || post(reset),
    },
];

async fn rules(State(platform): Desk) -> Answer {
    let rules = platform.faults.rules();
    let rules: Vec<Value> = rules
        .iter()
        .map(|rule| json!({ "path": rule.path, "fault": format!("{:?}", rule.fault), "times": rule.times }))
        .collect();
    Ok(Json(json!({ "rules": rules })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewFault {
    fault: String,
    path: Option<String>,
    times: Option<u32>,
    ms: Option<u64>,
    bytes: Option<u64>,
    retry_after_s: Option<u32>,
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
}

impl NewFault {
    fn fault(&self) -> Result<Fault, Problem> {
        let time = Duration::from_millis(self.ms.unwrap_or(1000));
        Ok(match self.fault.as_str() {
            "latency" => Fault::Latency(time),
            "system_error" => Fault::SystemError,
            "bad_gateway" => Fault::BadGateway,
            "unavailable" => Fault::Unavailable,
            "rate_limited" => Fault::RateLimited {
                retry_after_s: self.retry_after_s,
            },
            "refuse" => Fault::Refuse(Refusal::new(
                self.status.unwrap_or(500),
                self.code.clone().unwrap_or_default(),
                self.message.clone().unwrap_or_default(),
            )),
            "reset_before_commit" => Fault::ResetBeforeCommit,
            "reset_after_commit" => Fault::ResetAfterCommit,
            "drop_reply_after_commit" => Fault::DropReplyAfterCommit,
            "no_answer" => Fault::NoAnswer,
            "no_answer_before_commit" => Fault::NoAnswerBeforeCommit,
            "slow_body" => Fault::SlowBody(time),
            "truncated_body" => Fault::TruncatedBody,
            "oversized_body" => Fault::OversizedBody(self.bytes.unwrap_or(64 << 20)),
            "unsigned" => Fault::Unsigned,
            "wrong_signature" => Fault::WrongSignature,
            "stale_timestamp" => Fault::StaleTimestamp,
            "unknown_serial" => Fault::UnknownSerial,
            "signature_probe" => Fault::SignatureProbe,
            _ => return Err(Problem::bad(format!("fault is one of {}", FAULTS.join(", ")))),
        })
    }
}

async fn strike(State(platform): Desk, body: Bytes) -> Answer {
    let new: NewFault = read(&body)?;
    let fault = new.fault()?;
    match &new.path {
        Some(path) => platform.faults.on(path, fault, new.times),
        None => platform.faults.next(fault),
    }
    done()
}

async fn behave(State(platform): Desk) -> Answer {
    platform.faults.clear();
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    seed: u64,
}

async fn plan(State(platform): Desk, body: Bytes) -> Answer {
    let Seed { seed } = read(&body)?;
    platform.faults.plan(FaultPlan::impolite(seed));
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTlsFault {
    fault: String,
}

async fn tls(State(platform): Desk, body: Bytes) -> Answer {
    let NewTlsFault { fault } = read(&body)?;
    platform.faults.next_handshake(find(&TLS, &TLS_FAULTS, &fault)?);
    done()
}

async fn clock(State(platform): Desk) -> Answer {
    let clock = &platform.world.clock;
    Ok(Json(
        json!({ "wire": china::text_ms(clock.wire_now()), "calendar": china::text_ms(clock.now()) }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    advance_s: Option<f64>,
    speed: Option<f64>,
    offset_s: Option<i64>,
}

async fn turn(State(platform): Desk, body: Bytes) -> Answer {
    let turn: Turn = read(&body)?;
    let world = &platform.world;
    if let Some(seconds) = turn.advance_s {
        let by = Duration::try_from_secs_f64(seconds);
        world
            .clock
            .advance(by.map_err(|error| Problem::bad(format!("advance_s: {error}")))?);
    }
    if let Some(speed) = turn.speed {
        world.clock.set_speed(speed);
    }
    if let Some(offset_s) = turn.offset_s {
        world.clock.set_offset(offset_s);
    }
    clock(State(platform)).await
}

async fn certificates(State(platform): Desk) -> Answer {
    let certificates: Vec<Value> = platform
        .world
        .keys
        .certificates()
        .iter()
        .map(|entry| {
            json!({
                "serial_no": entry.serial_no,
                "pem": entry.pem,
                "effective_time": china::text(entry.effective_time),
                "expire_time": china::text(entry.expire_time),
            })
        })
        .collect();
    Ok(Json(json!({ "certificates": certificates })))
}

async fn rotate(State(platform): Desk) -> Answer {
    let serial_no = platform.world.keys.rotate().await;
    let serial_no = serial_no.map_err(|error| Problem::new(500, "keys", error.to_string()))?;
    Ok(Json(json!({ "serial_no": serial_no })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    mode: Option<String>,
    newest_share: Option<f64>,
    callbacks_share: Option<f64>,
    expire_old_in_s: Option<f64>,
}

async fn platform_keys(State(platform): Desk, body: Bytes) -> Answer {
    let wanted: Keys = read(&body)?;
    let mode = wanted.mode.map(|word| find(&MODES, &KEY_MODES, &word)).transpose()?;
    let delay = wanted.expire_old_in_s.map(Duration::try_from_secs_f64).transpose();
    let delay = delay.map_err(|error| Problem::bad(format!("expire_old_in_s: {error}")))?;
    let keys = &platform.world.keys;
    if let Some(mode) = mode {
        keys.set_mode(mode);
    }
    if let Some(share) = wanted.newest_share {
        keys.sign_with_newest(share);
    }
    if let Some(share) = wanted.callbacks_share {
        keys.sign_callbacks_with_public_key(share);
    }
    if let Some(delay) = delay {
        keys.expire_old_in(delay);
    }
    done()
}

async fn reset(State(platform): Desk) -> Answer {
    platform.reset();
    done()
}

const FAULTS: [&str; 19] = [
    "latency",
    "system_error",
    "bad_gateway",
    "unavailable",
    "rate_limited",
    "refuse",
    "reset_before_commit",
    "reset_after_commit",
    "drop_reply_after_commit",
    "no_answer",
    "no_answer_before_commit",
    "slow_body",
    "truncated_body",
    "oversized_body",
    "unsigned",
    "wrong_signature",
    "stale_timestamp",
    "unknown_serial",
    "signature_probe",
];
const TLS: [&str; 4] = ["alert", "untrusted", "expired", "wrong_name"];
const TLS_FAULTS: [TlsFault; 4] = [
    TlsFault::Alert,
    TlsFault::Untrusted,
    TlsFault::Expired,
    TlsFault::WrongName,
];
const MODES: [&str; 3] = ["certificate", "public_key", "public_key_only"];
const KEY_MODES: [KeyMode; 3] = [KeyMode::Certificate, KeyMode::PublicKey, KeyMode::PublicKeyOnly];

//! What arrived: `/v1/info`, `/v1/calls`, `/v1/presences`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::china;
use crate::control::problem::{Answer, Problem};
use crate::control::{Desk, Kind, Operation, field};
use crate::endpoints;
use crate::ledger::{Call, Parking};
use crate::presence::Presence;

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "get",
        path: "/v1/info",
        summary: "The merchant's ids (no keys), and the endpoints there are",
        fields: &[],
        handler: || get(info),
    },
    Operation {
        method: "get",
        path: "/v1/calls",
        summary: "The newest calls that fit, newest first; waits for them if told to",
        fields: &[
            field("path", Kind::Text, false, "only calls whose path begins so"),
            field("status", Kind::Whole, false, "only calls answered with this status"),
            field("refused", Kind::Truth, false, "only refused calls, or only others"),
            field(
                "contains",
                Kind::Text,
                false,
                "only calls whose body or path contains this",
            ),
            field("limit", Kind::Whole, false, "at most so many; 100 unless told"),
            field("least", Kind::Whole, false, "with wait_s: wait until so many fit"),
            field(
                "seen",
                Kind::Whole,
                false,
                "with wait_s: wait until the version is another one",
            ),
            field("wait_s", Kind::Number, false, "wait at most so long; 60 is the most"),
        ],
        handler: || get(calls),
    },
    Operation {
        method: "get",
        path: "/v1/calls/{number}",
        summary: "One call, with the reason and the fix when it was refused",
        fields: &[],
        handler: || get(call),
    },
    Operation {
        method: "get",
        path: "/v1/parkings",
        summary: "The accepted parking states, in the order in which they took effect",
        fields: &[],
        handler: || get(parkings),
    },
    Operation {
        method: "get",
        path: "/v1/presences",
        summary: "What WeChat Pay holds per member and plate",
        fields: &[],
        handler: || get(presences),
    },
];

async fn info(State(platform): Desk) -> Answer {
    let merchant = &platform.world.identity.merchant;
    let endpoints: Vec<String> = endpoints::all()
        .map(|(method, path)| format!("{method} {path}"))
        .collect();
    Ok(Json(json!({
        "mchid": merchant.mchid,
        "serial_no": merchant.serial_no,
        "public_key_id": merchant.public_key_id,
        "platform_certificate_serial": merchant.platform_certificate_serial,
        "brandid": merchant.brandid,
        "appids": merchant.appids,
        "sub_mchid": merchant.sub_mchid,
        "other_sub_mchid": merchant.other_sub_mchid,
        "endpoints": endpoints,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    path: Option<String>,
    status: Option<u16>,
    refused: Option<bool>,
    contains: Option<String>,
    limit: Option<usize>,
    least: Option<usize>,
    seen: Option<u64>,
    wait_s: Option<f64>,
}

impl Filter {
    fn fits(&self, call: &Call) -> bool {
        let refused = !call.code.is_empty() || call.status.is_some_and(|status| status >= 400);
        let contains = |text: &str| call.path.contains(text) || String::from_utf8_lossy(&call.body).contains(text);
        self.path
            .as_ref()
            .is_none_or(|path| call.path.starts_with(path.as_str()))
            && self.status.is_none_or(|status| call.status == Some(status))
            && self.refused.is_none_or(|wanted| wanted == refused)
            && self.contains.as_ref().is_none_or(|text| contains(text))
    }
}

async fn calls(State(platform): Desk, Query(filter): Query<Filter>) -> Answer {
    let ledger = &platform.world.ledger;
    let mut version = ledger.version();
    let limit = filter.limit.unwrap_or(100).min(MAX_CALLS);
    let wait = filter.wait_s.unwrap_or(0.0).clamp(0.0, MAX_WAIT_S);
    let collect = |version: u64| {
        let calls = ledger.newest(limit, |call| filter.fits(call));
        let enough = filter.least.is_none_or(|least| calls.len() >= least.min(limit));
        let changed = filter.seen.is_none_or(|seen| seen != version);
        (enough && changed, calls)
    };
    let waiting = async {
        loop {
            let seen = *version.borrow_and_update();
            if let (true, calls) = collect(seen) {
                return (seen, calls);
            }
            if version.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let (version, calls) = match tokio::time::timeout(Duration::from_secs_f64(wait), waiting).await {
        Ok(found) => found,
        Err(_) => {
            let seen = *ledger.version().borrow();
            (seen, collect(seen).1)
        }
    };
    let calls: Vec<Value> = calls.iter().map(describe).collect();
    Ok(Json(
        json!({ "version": version, "arrived": ledger.len(), "accepted": ledger.accepted(), "calls": calls }),
    ))
}

async fn call(State(platform): Desk, Path(number): Path<u64>) -> Answer {
    let call = platform.world.ledger.call(number);
    let call = call.ok_or_else(|| Problem::not_found(format!("there is no call {number}, or no longer")))?;
    Ok(Json(describe(&call)))
}

async fn parkings(State(platform): Desk) -> Answer {
    let parkings = platform.world.ledger.parkings();
    let newest = parkings.len().saturating_sub(MAX_CALLS);
    let parkings: Vec<Value> = parkings[newest..].iter().map(describe_parking).collect();
    Ok(Json(json!({ "parkings": parkings })))
}

async fn presences(State(platform): Desk) -> Answer {
    let now = platform.world.clock.now();
    let describe = |presence: &Presence| {
        json!({
            "openid": presence.openid,
            "appid": presence.appid,
            "plate_number": presence.plate_number,
            "state": presence.state.as_str(),
            "at": china::text(presence.at),
            "ends_at": presence.ends_at().map(china::text),
            "holds": presence.holds_at(now),
        })
    };
    let presences = platform.world.presences.all();
    let presences: Vec<Value> = presences.iter().take(MAX_CALLS).map(describe).collect();
    Ok(Json(json!({ "presences": presences })))
}

fn describe(call: &Call) -> Value {
    let beginning = &call.body[..call.body.len().min(MAX_BODY)];
    let help = call.help.as_deref();
    json!({
        "number": call.number,
        "time": china::text_ms(call.time),
        "method": call.method.as_str(),
        "path": call.path,
        "body": String::from_utf8_lossy(beginning),
        "body_bytes": call.body.len(),
        "request_id": call.request_id,
        "status": call.status,
        "code": call.code,
        "message": call.message,
        "committed": call.committed,
        "answer": format!("{:?}", call.answer).to_lowercase(),
        "fault": call.fault.as_ref().map(|fault| format!("{fault:?}")),
        "hint": help.map(|help| &help.hint),
        "string_to_sign": help.and_then(|help| help.string_to_sign.as_ref()),
        "signed_instead": help.and_then(|help| help.signed_instead.as_ref()),
    })
}

fn describe_parking(parking: &Parking) -> Value {
    json!({
        "call": parking.call,
        "openid": parking.openid,
        "brandid": parking.brandid,
        "appid": parking.appid,
        "sub_mchid": parking.sub_mchid,
        "plate_number": parking.plate_number,
        "state": parking.state.as_str(),
        "time": parking.time,
        "answered": parking.answered,
    })
}

const MAX_CALLS: usize = 1000;
const MAX_BODY: usize = 16 * 1024;
const MAX_WAIT_S: f64 = 60.0;

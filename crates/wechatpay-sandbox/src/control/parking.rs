//! Pay-score parking and parking reminders: `/v1/vehicles`, `/v1/reminders`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::business::find;
use crate::control::problem::{Answer, Problem, done, read};
use crate::control::{Desk, Kind, Operation, field};
use crate::vehicles::{ChargeFate, ServiceState, VehicleMerchant};

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "get",
        path: "/v1/vehicles",
        summary: "Pay-score parking: the cars inside and the charges",
        fields: &[],
        handler: || get(vehicles),
    },
    Operation {
        method: "put",
        path: "/v1/vehicles/services",
        summary: "A plate's service stands like this from now on",
        fields: &[
            field("plate_number", Kind::Text, true, "the plate"),
            field("plate_color", Kind::Text, true, "as in the requests"),
            field("openid", Kind::Text, true, "whose it is"),
            field("state", Kind::Word(&SERVICES), true, "how it stands"),
        ],
        handler: || put(service),
    },
    Operation {
        method: "put",
        path: "/v1/vehicles/rules",
        summary: "How the merchant stands to the product, and what becomes of the next charge",
        fields: &[
            field("merchant", Kind::Word(&MERCHANTS), false, "the merchant"),
            field("next_charge", Kind::Word(&FATES), false, "the next charge"),
            field(
                "charge_limit",
                Kind::Whole,
                false,
                "the most of one charge, fen; with charges_a_day",
            ),
            field("charges_a_day", Kind::Whole, false, "of one member; with charge_limit"),
        ],
        handler: || put(rules),
    },
    Operation {
        method: "post",
        path: "/v1/vehicles/entries/{out_parking_no}/state",
        summary: "The state of a car inside changes, and the merchant is told",
        fields: &[field(
            "blocked",
            Kind::Word(&BLOCKS),
            false,
            "why it may not leave on credit; left out: it may",
        )],
        handler: || post(entry_state),
    },
    Operation {
        method: "post",
        path: "/v1/vehicles/charges/{out_trade_no}/{what}",
        summary: "repay: the member pays an advance back, and the merchant is told; refund: the shop pays back",
        fields: &[],
        handler: || post(charge),
    },
    Operation {
        method: "get",
        path: "/v1/reminders",
        summary: "Parking reminders: the applications",
        fields: &[],
        handler: || get(reminders),
    },
    Operation {
        method: "post",
        path: "/v1/reminders/{out_parking_lot_id}/approve",
        summary: "The reviewer accepts the newest waiting application",
        fields: &[],
        handler: || post(approve),
    },
    Operation {
        method: "post",
        path: "/v1/reminders/{out_parking_lot_id}/reject",
        summary: "The reviewer refuses the newest waiting application",
        fields: &[
            field("field", Kind::Text, true, "which field is wrong"),
            field("comment", Kind::Text, true, "what is wrong with it"),
        ],
        handler: || post(reject),
    },
    Operation {
        method: "post",
        path: "/v1/reminders/{out_parking_lot_id}/offline",
        summary: "Takes a car park out of service for a reason, or back into it without one",
        fields: &[field("reason", Kind::Text, false, "why; left out: back into service")],
        handler: || post(offline),
    },
];

async fn vehicles(State(platform): Desk) -> Answer {
    let (vehicles, now) = (&platform.world.vehicles, platform.world.clock.now());
    let entries: Vec<Value> = vehicles
        .entries()
        .iter()
        .take(MAX_SHOWN)
        .map(|entry| json!({ "id": entry.id, "block_reason": entry.block_reason, "request": entry.request }))
        .collect();
    let charges: Vec<Value> = vehicles
        .charges()
        .iter()
        .take(MAX_SHOWN)
        .map(|charge| charge.answer(&platform.world.identity.merchant.mchid, now))
        .collect();
    Ok(Json(json!({ "entries": entries, "charges": charges })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewService {
    plate_number: String,
    plate_color: String,
    openid: String,
    state: String,
}

async fn service(State(platform): Desk, body: Bytes) -> Answer {
    let new: NewService = read(&body)?;
    let state = find(&SERVICES, &SERVICE_STATES, &new.state)?;
    let vehicles = &platform.world.vehicles;
    vehicles.set_service(&new.plate_number, &new.plate_color, &new.openid, state);
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    merchant: Option<String>,
    next_charge: Option<String>,
    charge_limit: Option<u64>,
    charges_a_day: Option<usize>,
}

async fn rules(State(platform): Desk, body: Bytes) -> Answer {
    let rules: Rules = read(&body)?;
    let merchant = rules
        .merchant
        .map(|word| find(&MERCHANTS, &MERCHANT_STATES, &word))
        .transpose()?;
    let fate = rules
        .next_charge
        .map(|word| find(&FATES, &CHARGE_FATES, &word))
        .transpose()?;
    let vehicles = &platform.world.vehicles;
    match (rules.charge_limit, rules.charges_a_day) {
        (Some(limit), Some(charges)) => vehicles.set_limits(limit, charges),
        (None, None) => {}
        (_, _) => return Err(Problem::bad("charge_limit and charges_a_day come together")),
    }
    if let Some(merchant) = merchant {
        vehicles.set_merchant(merchant);
    }
    if let Some(fate) = fate {
        vehicles.next_charge(fate);
    }
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryState {
    blocked: Option<String>,
}

async fn entry_state(State(platform): Desk, Path(out_parking_no): Path<String>, body: Bytes) -> Answer {
    let EntryState { blocked } = read(&body)?;
    let blocked = blocked.map(|word| find(&BLOCKS, &BLOCKS, &word)).transpose()?;
    let id = platform.world.vehicles.set_entry_state(&out_parking_no, blocked);
    let id = id.ok_or_else(|| Problem::not_found("there is no such entry"))?;
    Ok(Json(json!({ "notification": id })))
}

async fn charge(State(platform): Desk, Path((out_trade_no, what)): Path<(String, String)>) -> Answer {
    let vehicles = &platform.world.vehicles;
    match what.as_str() {
        "repay" => {
            let id = vehicles.repay(&out_trade_no);
            let id = id.ok_or_else(|| Problem::conflict("there is no such charge, or it was not advanced"))?;
            Ok(Json(json!({ "notification": id })))
        }
        "refund" if vehicles.refund(&out_trade_no) => done(),
        "refund" => Err(Problem::conflict("there is no such charge, or it is not paid")),
        _ => Err(Problem::not_found("repay or refund")),
    }
}

async fn reminders(State(platform): Desk) -> Answer {
    let applications = platform.world.reminders.applications();
    let applications: Vec<Value> = applications
        .iter()
        .rev()
        .take(MAX_SHOWN)
        .map(|application| application.answer())
        .collect();
    Ok(Json(json!({ "applications": applications })))
}

fn nothing_waits() -> Problem {
    Problem::conflict("no application for this car park is waiting")
}

async fn approve(State(platform): Desk, Path(out_parking_lot_id): Path<String>) -> Answer {
    let id = platform.world.reminders.approve(&out_parking_lot_id);
    Ok(Json(json!({ "wx_parking_lot_id": id.ok_or_else(nothing_waits)? })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rejection {
    field: String,
    comment: String,
}

async fn reject(State(platform): Desk, Path(out_parking_lot_id): Path<String>, body: Bytes) -> Answer {
    let Rejection { field, comment } = read(&body)?;
    if platform.world.reminders.reject(&out_parking_lot_id, &field, &comment) {
        return done();
    }
    Err(nothing_waits())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offline {
    reason: Option<String>,
}

async fn offline(State(platform): Desk, Path(out_parking_lot_id): Path<String>, body: Bytes) -> Answer {
    let Offline { reason } = read(&body)?;
    if platform
        .world
        .reminders
        .set_offline(&out_parking_lot_id, reason.as_deref())
    {
        return done();
    }
    Err(Problem::not_found("there is no such car park in service"))
}

const SERVICES: [&str; 6] = [
    "normal",
    "pause",
    "out_service",
    "overdue",
    "evaluation_failed",
    "abnormal",
];
const SERVICE_STATES: [ServiceState; 6] = [
    ServiceState::Normal,
    ServiceState::Pause,
    ServiceState::OutService,
    ServiceState::Overdue,
    ServiceState::EvaluationFailed,
    ServiceState::Abnormal,
];
const MERCHANTS: [&str; 4] = ["admitted", "not_admitted", "may_not_charge", "not_supported"];
const MERCHANT_STATES: [VehicleMerchant; 4] = [
    VehicleMerchant::Admitted,
    VehicleMerchant::NotAdmitted,
    VehicleMerchant::MayNotCharge,
    VehicleMerchant::NotSupported,
];
const FATES: [&str; 3] = ["success", "advanced", "fail"];
const CHARGE_FATES: [ChargeFate; 3] = [ChargeFate::Success, ChargeFate::Advanced, ChargeFate::Fail];
const BLOCKS: [&str; 3] = ["PAUSE", "OVERDUE", "REMOVE"];
const MAX_SHOWN: usize = 1000;

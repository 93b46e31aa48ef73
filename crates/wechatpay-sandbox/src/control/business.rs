//! Members, payments and the mall: `/v1/members`, `/v1/payments`, `/v1/mall`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::check::CertificateState;
use crate::china;
use crate::control::problem::{Answer, Problem, done, read};
use crate::control::{Desk, Kind, Operation, field};
use crate::mall::MallState;
use crate::payments::{Payment, Purchase};

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "get",
        path: "/v1/members",
        summary: "Who ever authorised the points service, and how it stands",
        fields: &[],
        handler: || get(members),
    },
    Operation {
        method: "post",
        path: "/v1/members/{openid}/{what}",
        summary: "authorize, deauthorize or register a member (the mall is told), or refuse the openid as invalid",
        fields: &[],
        handler: || post(member),
    },
    Operation {
        method: "get",
        path: "/v1/payments",
        summary: "The payments in the mall's shops, oldest first",
        fields: &[],
        handler: || get(payments),
    },
    Operation {
        method: "post",
        path: "/v1/payments",
        summary: "A member pays in a shop; an authorised and present one's payment is told to the mall",
        fields: &[
            field("openid", Kind::Text, true, "the member"),
            field("amount", Kind::Whole, true, "fen"),
            field("shop_name", Kind::Text, false, "门店名称"),
            field("shop_number", Kind::Text, false, "门店编号"),
        ],
        handler: || post(pay),
    },
    Operation {
        method: "post",
        path: "/v1/payments/{transaction_id}/hand-in",
        summary: "The member hands a payment of today in by hand",
        fields: &[],
        handler: || post(hand_in),
    },
    Operation {
        method: "post",
        path: "/v1/payments/{transaction_id}/acknowledge",
        summary: "As if the mall had acknowledged the callback, for clients without a server",
        fields: &[],
        handler: || post(acknowledge),
    },
    Operation {
        method: "post",
        path: "/v1/payments/{transaction_id}/refund",
        summary: "A shop pays back; told to the mall when points were earned",
        fields: &[field("amount", Kind::Whole, true, "fen")],
        handler: || post(refund),
    },
    Operation {
        method: "put",
        path: "/v1/mall",
        summary: "What the platform finds for the brand, and how it sees the merchant's certificate",
        fields: &[
            field("mall", Kind::Word(&MALLS), false, "the mall behind the brand"),
            field(
                "certificate",
                Kind::Word(&CERTIFICATES),
                false,
                "the merchant's certificate",
            ),
        ],
        handler: || put(mall),
    },
];

async fn members(State(platform): Desk) -> Answer {
    let authorizations = platform.world.members.authorizations();
    let members: Vec<Value> = authorizations
        .iter()
        .take(MAX_SHOWN)
        .map(|(openid, authorized)| {
            json!({
                "openid": openid,
                "authorize_state": authorized.state(),
                "authorize_time": authorized.authorized_at.map(china::text),
                "deauthorize_time": authorized.deauthorized_at.map(china::text),
            })
        })
        .collect();
    Ok(Json(json!({ "members": members })))
}

async fn member(State(platform): Desk, Path((openid, what)): Path<(String, String)>) -> Answer {
    let members = &platform.world.members;
    let notification = match what.as_str() {
        "authorize" => members.authorize(&openid),
        "register" => members.register(&openid),
        "deauthorize" => {
            members.deauthorize(&openid);
            None
        }
        "invalid" => {
            members.invalid(&openid);
            None
        }
        _ => return Err(Problem::not_found("authorize, deauthorize, register or invalid")),
    };
    Ok(Json(json!({ "done": true, "notification": notification })))
}

async fn payments(State(platform): Desk) -> Answer {
    let all = platform.world.payments.all();
    let newest = all.len().saturating_sub(MAX_SHOWN);
    let payments: Vec<Value> = all[newest..].iter().map(describe).collect();
    Ok(Json(json!({ "payments": payments })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPayment {
    openid: String,
    amount: u64,
    shop_name: Option<String>,
    shop_number: Option<String>,
}

async fn pay(State(platform): Desk, body: Bytes) -> Answer {
    let new: NewPayment = read(&body)?;
    let mut purchase = Purchase::new(&new.openid, new.amount);
    purchase.shop_name = new.shop_name.unwrap_or(purchase.shop_name);
    purchase.shop_number = new.shop_number.unwrap_or(purchase.shop_number);
    Ok(Json(describe(&platform.world.payments.pay(purchase))))
}

async fn hand_in(State(platform): Desk, Path(transaction_id): Path<String>) -> Answer {
    let handed_in = platform.world.payments.hand_in(&transaction_id);
    let payment = handed_in.map_err(|error| Problem::conflict(error.to_string()))?;
    Ok(Json(describe(&payment)))
}

async fn acknowledge(State(platform): Desk, Path(transaction_id): Path<String>) -> Answer {
    if platform.world.payments.acknowledge(&transaction_id) {
        return done();
    }
    Err(Problem::conflict("the payment is not known, or was not handed in"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRefund {
    amount: u64,
}

async fn refund(State(platform): Desk, Path(transaction_id): Path<String>, body: Bytes) -> Answer {
    let NewRefund { amount } = read(&body)?;
    let refund = platform.world.payments.refund(&transaction_id, amount);
    let refund = refund.map_err(|error| Problem::conflict(error.to_string()))?;
    let (notification, untold) = match &refund.notification {
        Ok(id) => (Some(id), None),
        Err(untold) => (None, Some(untold.to_string())),
    };
    Ok(Json(
        json!({ "refund_id": refund.refund_id, "notification": notification, "untold": untold }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MallSettings {
    mall: Option<String>,
    certificate: Option<String>,
}

async fn mall(State(platform): Desk, body: Bytes) -> Answer {
    let settings: MallSettings = read(&body)?;
    let mall = settings
        .mall
        .map(|word| find(&MALLS, &MALL_STATES, &word))
        .transpose()?;
    let certificate = settings.certificate;
    let certificate = certificate
        .map(|word| find(&CERTIFICATES, &CERTIFICATE_STATES, &word))
        .transpose()?;
    let mut moods = platform.world.lock_moods();
    moods.mall = mall.unwrap_or(moods.mall);
    moods.certificate = certificate.unwrap_or(moods.certificate);
    drop(moods);
    done()
}

/// The value that stands where the word stands.
pub(crate) fn find<T: Copy>(words: &[&str], values: &[T], word: &str) -> Result<T, Problem> {
    let index = words.iter().position(|known| *known == word);
    let value = index.and_then(|index| values.get(index)).copied();
    value.ok_or_else(|| Problem::bad(format!("{word:?} is not one of {}", words.join(", "))))
}

fn describe(payment: &Payment) -> Value {
    json!({
        "transaction_id": payment.transaction_id,
        "openid": payment.openid,
        "appid": payment.appid,
        "amount": payment.amount,
        "shop_name": payment.shop_name,
        "shop_number": payment.shop_number,
        "paid_at": china::text(payment.paid_at),
        "submission": format!("{:?}", payment.submission),
        "notification": payment.notification,
        "acknowledged": payment.acknowledged,
        "points": payment.points.as_ref().map(|points| json!({
            "earn_points": points.earn_points,
            "increased_points": points.increased_points,
            "total_points": points.total_points,
            "no_points_remarks": points.remarks,
        })),
        "refunded": payment.refunds.iter().map(|refund| refund.amount).sum::<u64>(),
    })
}

const MALLS: [&str; 6] = [
    "unique",
    "not_unique",
    "not_unique_500",
    "missing",
    "points_not_opened",
    "before_member_product",
];
const MALL_STATES: [MallState; 6] = [
    MallState::Unique,
    MallState::NotUnique,
    MallState::NotUnique500,
    MallState::Missing,
    MallState::PointsNotOpened,
    MallState::BeforeMemberProduct,
];
const CERTIFICATES: [&str; 6] = [
    "good",
    "api_v3_key_not_set",
    "not_applied",
    "expired",
    "revoked",
    "replaced",
];
const CERTIFICATE_STATES: [CertificateState; 6] = [
    CertificateState::Good,
    CertificateState::ApiV3KeyNotSet,
    CertificateState::NotApplied,
    CertificateState::Expired,
    CertificateState::Revoked,
    CertificateState::Replaced,
];
const MAX_SHOWN: usize = 1000;

//! Both clients over real TLS: against the sandbox wherever it can show the case, against a small server of our own
//! for what no sandbox does (odd verbs, counted connections, answers held back).

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]
#![expect(
    clippy::unwrap_used,
    reason = "tests; Clippy knows only the functions marked as such"
)]

mod blocking;
mod endpoints;
#[cfg(feature = "gm")]
mod gm;
mod nginx;
mod notifications;
mod parking;
mod platform;
mod refusals;
mod resilience;
mod server;
mod styles;
mod transport;
mod trust;

use serde_json::{Value, json};
use wechatpay::{Client, ClientBuilder, Merchant, MerchantKey, ParkingState, ParkingStateKind, PlatformKeys};
use wechatpay_sandbox::Sandbox;

const PATH: &str = "v3/businesscircle/parkings";

fn merchant(sandbox: &Sandbox) -> Merchant {
    let merchant = sandbox.merchant();
    let key = MerchantKey::from_pem(&merchant.private_key_pem).unwrap();
    Merchant::new(&merchant.mchid, &merchant.serial_no, key)
}

fn public_key(sandbox: &Sandbox) -> PlatformKeys {
    let merchant = sandbox.merchant();
    PlatformKeys::new()
        .with_public_key(&merchant.public_key_id, &merchant.public_key_pem)
        .unwrap()
}

/// A client that trusts the public key; change what the test is about.
fn builder(sandbox: &Sandbox) -> ClientBuilder {
    Client::builder(merchant(sandbox), public_key(sandbox))
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
}

fn client(sandbox: &Sandbox) -> Client {
    builder(sandbox).build().unwrap()
}

fn blocking(sandbox: &Sandbox) -> wechatpay::blocking::Client {
    wechatpay::blocking::Client::builder(merchant(sandbox), public_key(sandbox))
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .build()
        .unwrap()
}

/// A report that the sandbox accepts.
fn state(sandbox: &Sandbox) -> ParkingState {
    let merchant = sandbox.merchant();
    ParkingState {
        sub_mchid: None,
        brandid: merchant.brandid,
        appid: merchant.appid.clone(),
        openid: "oUpF8uMuAJOM2pxb1Q".into(),
        plate_number: "粤B888888".into(),
        state: ParkingStateKind::In,
        time: jiff::Timestamp::now(),
    }
}

/// The same as free JSON with these members put in; a null takes one out.
fn body(sandbox: &Sandbox, members: &Value) -> Value {
    let mut body = serde_json::to_value(state(sandbox)).unwrap();
    for (name, value) in members.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(name);
        } else {
            body[name] = value.clone();
        }
    }
    body
}

#[tokio::test]
async fn a_typed_report_is_accepted_with_its_request_id() {
    let sandbox = Sandbox::start().await.unwrap();

    let accepted = client(&sandbox)
        .business_circle()
        .report_parking(&state(&sandbox))
        .await
        .unwrap();

    let [call] = sandbox.ledger().calls().try_into().unwrap();
    assert_eq!(
        (accepted.status(), accepted.request_id()),
        (204, Some(call.request_id.as_str()))
    );
    let sent = call.json().unwrap();
    assert_eq!((&sent["state"], &sent["brandid"]), (&json!("IN"), &json!(1000)));
    assert!(sent["time"].as_str().unwrap().ends_with("+08:00"));
}

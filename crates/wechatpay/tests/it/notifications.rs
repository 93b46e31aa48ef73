//! Notifications from the sandbox, opened by the SDK, and the answers judged by the sandbox.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use wechatpay::api::notifications::{Event, FeeReply, StayFee};
use wechatpay::api::reminders::{ParkingStatus, PayState};
use wechatpay::notify::{self, NotifyError, ReplayGuard, ReplySignature};
use wechatpay::{ApiV3Key, Client, Platform, VerifyError};
use wechatpay_sandbox::{Event as Sent, KeyMode, Progress, Purchase, Sandbox, Trick};

use crate::{merchant, public_key, state};

const SOON: Duration = Duration::from_secs(10);

/// What the merchant's server made of each notification, in order.
pub(crate) type Outcomes = Arc<Mutex<Vec<Result<Event, NotifyError>>>>;

/// The merchant's server: a client, a guard, and ten lines.
pub(crate) struct Shop {
    client: Client,
    api_v3_key: ApiV3Key,
    guard: ReplayGuard,
    merchant: wechatpay::Merchant,
    outcomes: Outcomes,
}

impl Shop {
    async fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Response<String> {
        let opened = self.client.open_notification(&self.api_v3_key, headers, body).await;
        let event = opened.and_then(|notification| notification.event());
        let now = jiff::Timestamp::now().as_second();
        let answer = match &event {
            Ok(_) if !self.guard.admit(headers, now) => notify::refused(),
            Ok(Event::ParkingFeeQuery(_)) => {
                let fee = StayFee {
                    total_amount: 1500,
                    parking_timestamp: 3600,
                    parking_state: ParkingStatus::Parking,
                    pay_state: PayState::Unpaid,
                    payable_amount: 1500,
                    ..StayFee::default()
                };
                FeeReply::Fee(fee).sign(&self.merchant, ReplySignature::AsAnswer, now, "0123456789ABCDEF")
            }
            Ok(_) => notify::accepted(),
            Err(_) => notify::refused(),
        };
        self.outcomes.lock().unwrap().push(event);
        answer
    }

    pub(crate) async fn open(sandbox: &Sandbox, platform: Platform) -> (String, Outcomes) {
        let client = Client::builder(merchant(sandbox), platform)
            .base_url(sandbox.base_url())
            .roots_pem(sandbox.ca_pem())
            .build()
            .unwrap();
        let outcomes = Outcomes::default();
        let shop = Arc::new(Shop {
            client,
            api_v3_key: api_v3_key(sandbox),
            guard: ReplayGuard::new(1000),
            merchant: merchant(sandbox),
            outcomes: outcomes.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/notify", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shop = shop.clone();
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let shop = shop.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let answer = shop.answer(&parts.headers, &body).await;
                        Ok::<_, Infallible>(answer.map(|body| Full::new(Bytes::from(body))))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (url, outcomes)
    }
}

pub(crate) fn api_v3_key(sandbox: &Sandbox) -> ApiV3Key {
    ApiV3Key::new(&sandbox.merchant().api_v3_key).unwrap()
}

/// Waits until the sandbox is done with it; how it ended and why a try failed.
pub(crate) async fn settled(sandbox: &Sandbox, id: &str) -> (Progress, Vec<Option<String>>) {
    let callbacks = sandbox.callbacks();
    let is_done = |progress| matches!(progress, Progress::Acknowledged | Progress::GivenUp);
    let done = callbacks.wait_for(|all| all.find(id).is_some_and(|one| is_done(one.progress)), SOON);
    assert!(done.await, "{:?}", callbacks.find(id));
    let one = callbacks.find(id).unwrap();
    (
        one.progress,
        one.attempts.into_iter().map(|attempt| attempt.failure).collect(),
    )
}

#[tokio::test]
async fn a_payment_is_opened_acknowledged_and_its_points_are_taken() {
    let sandbox = Sandbox::builder().key_mode(KeyMode::PublicKey).start().await.unwrap();
    let (url, outcomes) = Shop::open(&sandbox, public_key(&sandbox).into()).await;
    sandbox.callbacks().set_payment_url(&url).unwrap();
    let parked = state(&sandbox);
    sandbox.members().authorize(&parked.openid);
    let client = crate::client(&sandbox);
    client.business_circle().report_parking(&parked).await.unwrap();

    let payment = sandbox.payments().pay(Purchase::new(&parked.openid, 200));
    let (progress, failures) = settled(&sandbox, &payment.notification.unwrap()).await;

    assert_eq!((progress, failures), (Progress::Acknowledged, vec![None]));
    let event = outcomes.lock().unwrap().remove(0).unwrap();
    let Event::MallPayment(told) = event else {
        panic!("{event:?}")
    };
    assert_eq!((told.amount, &told.transaction_id), (200, &payment.transaction_id));
    let points = wechatpay::api::business_circle::Points {
        transaction_id: told.transaction_id,
        appid: told.appid,
        openid: told.openid,
        earn_points: true,
        increased_points: 2,
        points_update_time: jiff::Timestamp::now(),
        ..Default::default()
    };
    use wechatpay::api::business_circle::PointsOutcome::{AlreadyRecorded, Recorded};
    assert_eq!(client.business_circle().notify_points(&points).await.unwrap(), Recorded);
    assert_eq!(
        client.business_circle().notify_points(&points).await.unwrap(),
        AlreadyRecorded
    );
}

#[tokio::test]
async fn every_kind_is_read_and_acknowledged() {
    let sandbox = Sandbox::start().await.unwrap();
    // Certificates that the client fetches when the first notification names one.
    let (url, outcomes) = Shop::open(&sandbox, Platform::fetched(api_v3_key(&sandbox))).await;
    let stay = json!({"parking_id": "5K82", "plate_number": "粤B888888", "parking_state": "NORMAL"});
    let charge = json!({"out_trade_no": "1", "trade_state": "SUCCESS", "trade_scene": "PARKING"});
    let member = json!({"openid": "oUpF8uMuAJOM2pxb1Q", "auth_type": "REGISTERED_MODE ", "mchid": "1", "code": "2"});
    let refund = json!({
        "appid": "wx1", "openid": "oUpF8uMuAJOM2pxb1Q", "refund_amount": 1, "transaction_id": "1", "refund_id": "2",
    });
    let rows = [
        (Sent::Authorization, member, "MallAuthorization"),
        (Sent::Refund, refund, "MallRefund"),
        (Sent::VehicleEntrance, stay, "VehicleEntrance"),
        (Sent::VehicleSuccess, charge.clone(), "Charge"),
        (Sent::VehicleFail, charge.clone(), "Charge"),
        (Sent::VehiclePayBack, charge, "Charge"),
        (Sent::SecurityEcho, json!({"echo_message": "hello"}), "SecurityEcho"),
        (Sent::ParkingFee, json!({"out_serial_number": "P1"}), "FeeQuery"),
        (Sent::VehicleSuccess, json!({"trade_type": "JSAPI"}), "Unknown"),
    ];

    for (sent, resource, name) in rows {
        let id = sandbox.callbacks().send(sent, &url, resource).unwrap();
        let (progress, failures) = settled(&sandbox, &id).await;

        assert_eq!((progress, failures), (Progress::Acknowledged, vec![None]), "{sent:?}");
        let event = outcomes.lock().unwrap().remove(0).unwrap();
        assert!(format!("{event:?}").starts_with(name), "{event:?}");
    }
}

#[tokio::test]
async fn forgeries_are_refused_and_their_resends_taken() {
    let sandbox = Sandbox::start().await.unwrap();
    let (url, outcomes) = Shop::open(&sandbox, Platform::fetched(api_v3_key(&sandbox))).await;

    for trick in [
        Trick::Probe,
        Trick::WrongSignature,
        Trick::StaleTimestamp,
        Trick::UnknownSerial,
        Trick::BadCiphertext,
    ] {
        sandbox.callbacks().next(trick);
        let id = sandbox
            .callbacks()
            .send(Sent::SecurityEcho, &url, json!({"echo_message": "hello"}))
            .unwrap();
        let callbacks = sandbox.callbacks();
        let tried = callbacks.wait_for(|all| all.find(&id).is_some_and(|one| one.attempts.len() == 1), SOON);
        assert!(tried.await);
        sandbox.clock().advance(Duration::from_secs(15));
        let (progress, failures) = settled(&sandbox, &id).await;

        assert_eq!(progress, Progress::Acknowledged, "{trick:?} {failures:?}");
        let outcomes = std::mem::take(&mut *outcomes.lock().unwrap());
        let fits = match &outcomes[0] {
            Err(NotifyError::Verify(VerifyError::Probe)) => trick == Trick::Probe,
            Err(NotifyError::Verify(VerifyError::Signature(_))) => trick == Trick::WrongSignature,
            Err(NotifyError::Verify(VerifyError::Clock(_))) => trick == Trick::StaleTimestamp,
            Err(NotifyError::Verify(VerifyError::UnknownSerial(_) | VerifyError::NotFetched { .. })) => {
                trick == Trick::UnknownSerial
            }
            Err(NotifyError::Open(_)) => trick == Trick::BadCiphertext,
            Ok(_) | Err(_) => false,
        };
        assert!(
            fits && outcomes[1].is_ok() && outcomes.len() == 2,
            "{trick:?}: {outcomes:?}"
        );
    }
}

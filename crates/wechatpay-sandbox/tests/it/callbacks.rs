//! Callbacks: what the merchant's server gets, how often, and what the sandbox thinks of its answers.

use jiff::Timestamp;
use serde_json::json;
use wechatpay_sandbox::{
    AuthorizationPlan, Event, KeyMode, PaymentAck, Progress, Purchase, RefundError, Sandbox, Submission, Untold,
};

use crate::client::{parking, post, report};
use crate::shop::{Answer, HOUR, OPENID, SUCCESS, Shop, pauses, sandbox, settled, tried};

async fn points(sandbox: &Sandbox, transaction_id: &str, earn_points: bool) -> String {
    let body = json!({
        "transaction_id": transaction_id,
        "appid": sandbox.merchant().appid,
        "openid": OPENID,
        "earn_points": earn_points,
        "increased_points": 100,
        "no_points_remarks": "不参与积分",
        "points_update_time": "2020-05-20T13:29:35.120+08:00",
    });
    post(sandbox, "/v3/businesscircle/points/notify", &body).await.line()
}

#[tokio::test]
async fn a_payment_is_told_signed_encrypted_and_its_acknowledgement_opens_the_points() {
    let shop = Shop::content().await;
    let sandbox = sandbox(&shop).await;

    let payment = sandbox.payments().pay(Purchase::new(OPENID, 200));
    let id = payment.notification.unwrap();
    let notification = settled(&sandbox, &id).await;

    assert_eq!(notification.progress, Progress::Acknowledged);
    let [got] = shop.got().try_into().ok().unwrap();
    assert!(got.verifies(&sandbox));
    assert_eq!(got.header("content-type"), "application/json");
    let envelope = got.envelope();
    assert_eq!(
        (&envelope["id"], &envelope["event_type"]),
        (&json!(id), &json!("MALL_TRANSACTION.SUCCESS"))
    );
    assert_eq!(envelope["resource_type"], "encrypt-resource");
    assert_eq!(envelope["resource"]["original_type"], "discount_card");
    assert_eq!((id.len(), envelope["create_time"].as_str().unwrap().len()), (36, 25));
    let resource = got.resource(&sandbox);
    assert_eq!(resource["transaction_id"], payment.transaction_id);
    assert_eq!(
        (&resource["openid"], &resource["amount"]),
        (&json!(OPENID), &json!(200))
    );
    assert!(resource.get("commit_tag").is_none());
    assert_eq!(points(&sandbox, &payment.transaction_id, true).await, "204");
}

#[tokio::test]
async fn a_payment_handed_in_by_hand_says_so() {
    let shop = Shop::content().await;
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.callbacks().set_payment_url(&shop.url()).unwrap();
    sandbox.members().authorize(OPENID);

    let open = sandbox.payments().pay(Purchase::new(OPENID, 200));
    let handed_in = sandbox.payments().hand_in(&open.transaction_id).unwrap();
    settled(&sandbox, &handed_in.notification.unwrap()).await;

    assert_eq!((open.submission, open.notification), (Submission::Open, None));
    assert!(shop.got()[0].resource(&sandbox)["commit_tag"].is_string());
}

#[tokio::test]
async fn without_an_acknowledgement_it_is_tried_for_a_day_and_points_stay_shut() {
    // As the API page has it, and as the FAQ says that it does not count.
    let shop = Shop::start(|_, _| Answer::new(204, "")).await;
    let sandbox = sandbox(&shop).await;

    let payment = sandbox.payments().pay(Purchase::new(OPENID, 200));
    let id = payment.notification.unwrap();
    tried(&sandbox, &id, 1).await;
    let points = points(&sandbox, &payment.transaction_id, true).await;
    sandbox.clock().advance(HOUR * 25);
    let notification = settled(&sandbox, &id).await;

    assert_eq!(notification.progress, Progress::GivenUp);
    let due: Vec<Timestamp> = notification.attempts.iter().map(|attempt| attempt.at).collect();
    assert_eq!(
        pauses(&due),
        [
            15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600
        ]
    );
    let failure = notification.attempts[0].failure.as_ref().unwrap();
    assert!(failure.contains("the FAQ wants 200"), "{failure}");
    assert_eq!(points, "400 INVALID_REQUEST 该订单未提交积分");
    let got = shop.got();
    assert_eq!(got.len(), 16);
    assert!(got.iter().all(|got| got.envelope()["id"] == id));
    assert_ne!(
        got[0].header("wechatpay-signature"),
        got[1].header("wechatpay-signature")
    );
}

#[tokio::test]
async fn the_api_pages_rule_takes_a_204() {
    let shop = Shop::start(|_, _| Answer::new(204, "")).await;
    let builder = Sandbox::builder().payment_ack(PaymentAck::ApiPage);
    let sandbox = builder.start().await.unwrap();
    sandbox.callbacks().set_payment_url(&shop.url()).unwrap();
    sandbox.members().authorize(OPENID);
    report(&sandbox, &parking(&sandbox)).await;

    let payment = sandbox.payments().pay(Purchase::new(OPENID, 200));
    let notification = settled(&sandbox, &payment.notification.unwrap()).await;

    assert_eq!(notification.progress, Progress::Acknowledged);
    assert_eq!(points(&sandbox, &payment.transaction_id, true).await, "204");
}

#[tokio::test]
async fn an_authorisation_is_told_by_the_plan_that_was_chosen() {
    for (plan, expected) in [
        (AuthorizationPlan::Merchant, vec![10, 10, 10, 10, 10, 60, 60, 60, 60]),
        (
            AuthorizationPlan::Partner,
            vec![15, 15, 30, 180, 1800, 1800, 1800, 1800, 3600],
        ),
    ] {
        let shop = Shop::start(|_, _| Answer::new(500, r#"{"code":"FAIL","message":"失败"}"#)).await;
        let sandbox = Sandbox::builder().authorization_plan(plan).start().await.unwrap();
        sandbox.callbacks().set_authorization_url(&shop.url()).unwrap();

        let id = sandbox.members().authorize(OPENID).unwrap();
        sandbox.clock().advance(HOUR * 4);
        let notification = settled(&sandbox, &id).await;

        let due: Vec<Timestamp> = notification.attempts.iter().map(|attempt| attempt.at).collect();
        assert_eq!(pauses(&due), expected);
        let resource = shop.got()[0].resource(&sandbox);
        assert_eq!(resource["auth_type"], "REGISTERED_AND_AUTHORIZATION_MODE");
        assert_eq!(resource["mchid"], sandbox.merchant().mchid);
    }
}

#[tokio::test]
async fn registering_alone_is_told_too_and_the_card_keeps_its_code() {
    let shop = Shop::content().await;
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.callbacks().set_authorization_url(&shop.url()).unwrap();

    let registered = sandbox.members().register(OPENID).unwrap();
    let authorized = sandbox.members().authorize(OPENID).unwrap();
    sandbox.clock().advance(HOUR);
    settled(&sandbox, &registered).await;
    settled(&sandbox, &authorized).await;

    let mut resources: Vec<_> = shop.got().iter().map(|got| got.resource(&sandbox)).collect();
    resources.sort_by_key(|resource| resource["auth_type"].as_str().unwrap().len());
    assert_eq!(resources[0]["auth_type"], "REGISTERED_MODE");
    assert_eq!(resources[0]["code"], resources[1]["code"]);
}

#[tokio::test]
async fn refunds_are_told_when_points_were_earned() {
    let shop = Shop::content().await;
    let sandbox = sandbox(&shop).await;
    let payments = sandbox.payments();
    let mut told = Vec::new();
    for earned in [true, false] {
        let payment = payments.pay(Purchase::new(OPENID, 200));
        settled(&sandbox, &payment.notification.unwrap()).await;
        assert_eq!(points(&sandbox, &payment.transaction_id, earned).await, "204");
        told.push(payment.transaction_id);
    }
    let silent = payments.pay(Purchase::new(OPENID, 200));
    settled(&sandbox, &silent.notification.unwrap()).await;

    let refund = payments.refund(&told[0], 150).unwrap();
    let notification = settled(&sandbox, &refund.notification.unwrap()).await;

    assert_eq!(notification.event, Event::Refund);
    let resource = shop.got().last().unwrap().resource(&sandbox);
    assert_eq!(
        (&resource["pay_amount"], &resource["refund_amount"]),
        (&json!(200), &json!(150))
    );
    assert_eq!(
        (&resource["refund_id"], &resource["transaction_id"]),
        (&json!(refund.refund_id), &json!(told[0]))
    );
    let untold = |transaction_id| payments.refund(transaction_id, 1).unwrap().notification.unwrap_err();
    assert_eq!(untold(&told[1]), Untold::NoneEarned);
    assert_eq!(untold(&silent.transaction_id), Untold::NoPoints);
    assert_eq!(payments.refund(&told[0], 51).unwrap_err(), RefundError::Amount);
    assert_eq!(payments.refund("1", 1).unwrap_err(), RefundError::Unknown);
    sandbox.clock().advance(HOUR * 24 * 31);
    assert_eq!(untold(&told[0]), Untold::TooLate);
}

#[tokio::test]
async fn a_fee_is_asked_for_once_and_wants_a_signed_answer() {
    let fee = json!({
        "code": "SUCCESS", "message": "", "total_amount": 1500, "parking_timestamp": 3600,
        "parking_state": "PARKING_STATUS_PARKING", "pay_state": "PAY_STATUS_UNPAID",
        "payable_amount": 1500, "paid_amount": 0,
    });
    let shop = Shop::start(move |before, _| Answer {
        authorization: (before == 0).then(|| {
            r#"WECHATPAY2-SHA256-RSA2048 mchid="1",nonce_str="n",signature="a",timestamp="2",serial_no="s""#.to_owned()
        }),
        ..Answer::new(200, &fee.to_string())
    })
    .await;
    let sandbox = Sandbox::start().await.unwrap();
    let callbacks = sandbox.callbacks();
    assert_eq!(callbacks.query_parking_fee("PARK1", "粤B12345", "lot"), None);
    callbacks.set_parking_fee_url(&shop.url()).unwrap();

    let signed = callbacks.query_parking_fee("PARK1", "粤B12345", "lot").unwrap();
    let signed = settled(&sandbox, &signed).await;
    let unsigned = callbacks.query_parking_fee("PARK1", "粤B12345", "lot").unwrap();
    let unsigned = settled(&sandbox, &unsigned).await;

    assert_eq!(signed.progress, Progress::Acknowledged);
    assert!(signed.attempts[0].answer.contains("1500"));
    assert_eq!((unsigned.progress, unsigned.attempts.len()), (Progress::GivenUp, 1));
    assert_eq!(
        shop.got()[0].resource(&sandbox),
        json!({ "out_serial_number": "PARK1", "plate_number": "粤B12345", "out_parking_id": "lot" })
    );
}

#[tokio::test]
async fn an_echo_comes_back_as_a_callback() {
    let shop = Shop::start(|_, _| Answer::new(204, "")).await;
    let sandbox = Sandbox::start().await.unwrap();
    let body = json!({ "echo_message": "hello", "notify_url": shop.url() }).to_string();
    let signed = crate::client::Signed::new(&sandbox, "POST", "/v3/security/echo", body);
    let signed = signed.with("wechatpay-serial", sandbox.merchant().public_key_id.as_str());

    let reply = crate::client::send(&sandbox, signed.signed_by(&sandbox)).await.unwrap();
    let id = sandbox.callbacks().all()[0].id.clone();
    settled(&sandbox, &id).await;

    assert_eq!(reply.status, 200);
    assert_eq!(shop.got()[0].resource(&sandbox), json!({ "echo_message": "hello" }));
    assert_eq!(shop.got()[0].envelope()["event_type"], "SECURITY_ECHO.SUCCESS");
    let bad = json!({ "echo_message": "hello", "notify_url": "http://192.0.2.1/notify" });
    assert_eq!(
        post(&sandbox, "/v3/security/echo", &bad).await.line(),
        "400 PARAM_ERROR 参数错误"
    );
}

#[tokio::test]
async fn callbacks_move_to_the_public_key_in_shares() {
    let shop = Shop::content().await;
    let sandbox = sandbox(&shop).await;
    let merchant = sandbox.merchant();

    sandbox.platform().sign_callbacks_with_public_key(0.5);
    for _ in 0..4 {
        let id = sandbox.payments().pay(Purchase::new(OPENID, 1)).notification.unwrap();
        settled(&sandbox, &id).await;
    }
    sandbox.platform().set_mode(KeyMode::PublicKeyOnly);
    let id = sandbox.payments().pay(Purchase::new(OPENID, 1)).notification.unwrap();
    settled(&sandbox, &id).await;

    let got = shop.got();
    let (public, certificate) = (&merchant.public_key_id, &merchant.platform_certificate_serial);
    let serials: Vec<_> = got.iter().map(|got| got.header("wechatpay-serial")).collect();
    assert_eq!(serials, [certificate, public, certificate, public, public]);
    assert!(got.iter().all(|got| got.verifies(&sandbox)));
}

#[tokio::test]
async fn a_fast_calendar_runs_through_a_plan_by_itself() {
    let shop = Shop::start(|before, _| Answer::new(if before < 4 { 503 } else { 200 }, SUCCESS)).await;
    let sandbox = sandbox(&shop).await;

    sandbox.clock().set_speed(3600.0);
    let id = sandbox.payments().pay(Purchase::new(OPENID, 1)).notification.unwrap();
    let notification = settled(&sandbox, &id).await;

    // 15 s, 15 s, 30 s and 3 min pass in a fifteenth of a second.
    assert_eq!(notification.attempts.len(), 5);
    assert_eq!(notification.progress, Progress::Acknowledged);
}

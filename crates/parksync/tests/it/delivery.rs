//! From the gate to WeChat Pay: order, repeats, refusals.

use jiff::SignedDuration;
use serde_json::json;
use wechatpay_sandbox::{Fault, Refusal};

use crate::app::TestApp;

const PLATE: &str = "宁Y00001";
const OTHER: &str = "宁Y00002";

#[tokio::test(flavor = "multi_thread")]
async fn a_car_that_comes_and_goes_is_told() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;

    assert_eq!(app.gate(PLATE, "IN").await, "queued");
    app.advance(SignedDuration::from_mins(90));
    assert_eq!(
        app.gate_at(PLATE, "OUT", app.clock.now() - SignedDuration::from_secs(1))
            .await,
        "queued"
    );
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["IN", "OUT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_sent_again_and_stays_in_order() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    app.sandbox.faults().next(Fault::DropReplyAfterCommit);
    let early = app.clock.now() - SignedDuration::from_mins(5);

    app.gate_at(PLATE, "IN", early).await;
    app.gate_at(PLATE, "OUT", app.clock.now()).await;
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["IN", "IN", "OUT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_verified_is_no_success() {
    for fault in [
        Fault::Unsigned,
        Fault::WrongSignature,
        Fault::StaleTimestamp,
        Fault::UnknownSerial,
        Fault::SignatureProbe,
    ] {
        let app = TestApp::start().await;
        app.bind(PLATE, "openid-1").await;
        app.sandbox.faults().next(fault.clone());

        app.gate(PLATE, "IN").await;
        app.settle_all().await;

        assert_eq!(app.told(PLATE), ["IN", "IN"], "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_faults_are_outlived() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    for fault in [
        Fault::SystemError,
        Fault::BadGateway,
        Fault::Unavailable,
        Fault::ResetBeforeCommit,
        Fault::RateLimited { retry_after_s: Some(3) },
    ] {
        app.sandbox.faults().next(fault);
    }

    app.gate(PLATE, "IN").await;
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["IN"]);
    assert_eq!(app.sandbox.ledger().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_dies_and_the_lane_goes_on() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    app.sandbox
        .faults()
        .next(Fault::Refuse(Refusal::new(400, "PARAM_ERROR", "plate_number格式有误")));

    app.gate_at(PLATE, "IN", app.clock.now() - SignedDuration::from_mins(5))
        .await;
    app.gate(PLATE, "OUT").await;
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["OUT"]);
    assert_eq!(app.counter("delivery", "dead").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_level_refusal_kills_nothing() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    let refusal = Refusal::new(403, "NO_AUTH", "mch_id与brand_id关系不匹配");
    app.sandbox.faults().next(Fault::Refuse(refusal));

    app.gate(PLATE, "IN").await;
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["IN"]);
    assert_eq!(app.counter("delivery", "dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn resends_and_second_cameras_are_one_event() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    let at = app.clock.now();
    let event = json!({ "lot": "P1", "plate": PLATE, "state": "IN", "time": at.to_string(), "id": "r1" });

    assert_eq!(app.event(event.clone()).await, "queued");
    assert_eq!(app.event(event).await, "duplicate");
    assert_eq!(
        app.gate_at(PLATE, "IN", at + SignedDuration::from_secs(9)).await,
        "merged"
    );
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["IN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_back_dated_batch_only_the_newest_state_leaves() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    let ago = |minutes| app.clock.now() - SignedDuration::from_mins(minutes);
    let event = |state: &str, minutes| json!({ "lot": "P1", "plate": PLATE, "state": state, "time": ago(minutes).to_string(), "replayed": true });

    let (status, answer) = app
        .events(json!([event("IN", 300), event("OUT", 200), event("IN", 90)]))
        .await;
    app.settle_all().await;

    assert_eq!(status, 200, "{answer}");
    assert_eq!(app.told(PLATE), ["IN"]);
    assert_eq!(app.sandbox.ledger().parkings()[0].at, ago_from_start(&app, 90));
    assert_eq!(app.counter("delivery", "superseded").await, 2);
}

/// The clock has moved since; the event's own time is what counts.
fn ago_from_start(app: &TestApp, minutes: i64) -> jiff::Timestamp {
    let parking = &app.sandbox.ledger().parkings()[0];
    let start = parking.at + SignedDuration::from_mins(minutes);
    assert!(app.clock.now() >= start);
    start - SignedDuration::from_mins(minutes)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_this_morning_that_surfaces_now_waits_for_a_person() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;

    let old = app.clock.now() - SignedDuration::from_hours(13);
    assert_eq!(app.gate_at(PLATE, "IN", old).await, "waits-for-person");
    app.settle_all().await;

    assert!(app.told(PLATE).is_empty());
    assert_eq!(app.counter("waiting", "held").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_a_little_ahead_is_waited_for_and_one_far_ahead_is_not_believed() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    app.bind(OTHER, "openid-2").await;
    let start = app.clock.now();

    app.gate_at(OTHER, "IN", start + SignedDuration::from_hours(3)).await;
    app.settle_all().await;
    app.gate_at(PLATE, "IN", app.clock.now() + SignedDuration::from_mins(2))
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;

    assert_eq!(app.told(OTHER), ["IN"]);
    assert!(app.sandbox.ledger().parkings()[0].at <= start + SignedDuration::from_secs(1));
    assert!(app.told(PLATE).is_empty());
    assert_eq!(app.counter("clock", "ahead").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_shares_a_car_and_each_member_is_told() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    app.bind(PLATE, "openid-2").await;

    app.gate(PLATE, "IN").await;
    app.settle_all().await;

    let mut members: Vec<_> = app
        .sandbox
        .ledger()
        .parkings()
        .iter()
        .map(|parking| parking.openid.clone())
        .collect();
    members.sort();
    assert_eq!(members, ["openid-1", "openid-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_stop() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    app.sandbox.faults().next(Fault::SystemError);
    app.gate(PLATE, "IN").await;
    let TestApp {
        service,
        config,
        sandbox,
        clock,
        folder,
        ..
    } = app;

    service.stop().await;
    clock.set(clock.now() + SignedDuration::from_secs(30));
    let service = parksync::service::Service::start(&config, clock).await.unwrap();

    assert!(
        sandbox
            .ledger()
            .wait_for(|ledger| ledger.accepted() == 1, crate::app::PATIENCE)
            .await
    );
    service.stop().await;
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_wechat_pay_that_is_a_little_behind_loses_nothing() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    app.advance(SignedDuration::from_hours(6));
    app.sandbox.set_clock_offset(-3);

    app.gate(PLATE, "IN").await;
    let end = std::time::Instant::now() + crate::app::PATIENCE;
    while app.told(PLATE).is_empty() && std::time::Instant::now() < end {
        app.advance(SignedDuration::from_secs(1));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    assert_eq!(app.told(PLATE), ["IN"]);
    assert_eq!(app.counter("delivery", "dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_set_up_pauses_its_circle_and_one_probe_goes_on() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    app.bind(OTHER, "openid-2").await;
    app.sandbox.set_mall(wechatpay_sandbox::MallState::NotUnique);

    app.gate(PLATE, "IN").await;
    app.gate(OTHER, "IN").await;
    assert!(
        app.sandbox
            .ledger()
            .wait_for(|ledger| !ledger.is_empty(), crate::app::PATIENCE)
            .await
    );
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let in_flight = app.sandbox.ledger().len();
    for _ in 0..5 {
        app.advance(SignedDuration::from_secs(61));
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    }
    let probes = app.sandbox.ledger().len() - in_flight;
    let holds = app.service.store().holds().await.unwrap();
    app.sandbox.set_mall(wechatpay_sandbox::MallState::Unique);
    app.advance(SignedDuration::from_mins(10));
    app.settle_all().await;

    assert!((1..=5).contains(&probes), "{probes} probes in five minutes");
    assert_eq!(holds.len(), 1);
    assert!(holds[0].reason.contains("NO_AUTH"), "{holds:?}");
    assert_eq!((app.told(PLATE).len(), app.told(OTHER).len()), (1, 1));
    assert!(app.service.store().holds().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_holds_only_a_person_releases() {
    use parksync::domain::delivery::Scope;
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    let store = app.service.store();
    store
        .hold(
            Scope::Circle,
            "demo-mall".to_owned(),
            "maintenance".to_owned(),
            app.clock.now(),
        )
        .await
        .unwrap();

    app.gate(PLATE, "IN").await;
    app.advance(SignedDuration::from_mins(30));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(app.told(PLATE).is_empty());
    assert!(store.release(Scope::Circle, "demo-mall".to_owned()).await.unwrap());
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["IN"]);
}

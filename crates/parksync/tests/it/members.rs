//! Binding and unbinding, by HTTP.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::app::TestApp;

const PLATE: &str = "宁Y00001";

#[tokio::test(flavor = "multi_thread")]
async fn a_plate_bound_while_the_car_is_inside_is_told_with_its_entry() {
    let app = TestApp::start().await;
    let entered = app.clock.now();
    assert_eq!(app.gate_at(PLATE, "IN", entered).await, "no-member");
    app.advance(SignedDuration::from_mins(30));

    let bound = app.bind(PLATE, "openid-1").await;
    app.settle_all().await;

    assert_eq!(bound, json!({ "added": 1, "inside": 1 }));
    assert_eq!(app.told(PLATE), ["IN"]);
    assert_eq!(app.sandbox.ledger().parkings()[0].at, entered);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_unbinding_nothing_is_sent_any_more() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    let soon = app.clock.now() + SignedDuration::from_mins(4);
    app.gate_at(PLATE, "IN", soon).await;

    let body = json!({ "circle": "demo-mall", "openid": "openid-1" }).to_string();
    let (status, answer) = app
        .http
        .post("/v1/members/unbind", &app.admin_key, "application/json", body)
        .await;
    app.gate_at(PLATE, "OUT", soon + SignedDuration::from_secs(1)).await;
    app.advance(SignedDuration::from_mins(10));
    app.settle_all().await;

    assert_eq!(
        (status, serde_json::from_str::<Value>(&answer).unwrap()),
        (200, json!({ "removed": 1, "withdrawn": 1 }))
    );
    assert!(app.told(PLATE).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn binding_is_strict_and_names_the_field() {
    let app = TestApp::start().await;
    let member = |plates: Value| json!({ "circle": "demo-mall", "openid": "openid-1", "plates": plates });
    let table = [
        (member(json!(["粤AO1234"])), 422, "plates[0]"),
        (member(json!(["宁Y00001", "hello"])), 422, "plates[1]"),
        (member(json!(["BA12345"])), 422, "plates[0]"),
        (member(json!([])), 422, "plates"),
        (
            json!({ "circle": "none", "openid": "openid-1", "plates": [PLATE] }),
            422,
            "circle",
        ),
        (
            json!({ "circle": "demo-mall", "openid": "open id", "plates": [PLATE] }),
            400,
            "openid",
        ),
        (
            json!({ "circle": "demo-mall", "openid": "openid-1", "plate": PLATE }),
            400,
            "plate",
        ),
    ];

    for (body, status, field) in table {
        let (answered, answer) = app
            .http
            .post("/v1/members/bind", &app.admin_key, "application/json", body.to_string())
            .await;
        let problem: Value = serde_json::from_str(&answer).unwrap();

        assert_eq!(
            (answered, problem["field"].as_str()),
            (status, Some(field)),
            "{body}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_members_masked() {
    let app = TestApp::start().await;
    app.bind(PLATE, "oUpF8uMuAJOM2pxb1Q").await;

    let (status, answer) = app.http.get("/v1/members?circle=demo-mall", &app.admin_key).await;

    assert_eq!(status, 200);
    assert!(
        answer.contains("oUpF****xb1Q") && answer.contains("宁Y****1"),
        "{answer}"
    );
    assert!(
        !answer.contains(PLATE) && !answer.contains("oUpF8uMuAJOM2pxb1Q"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_plates_nor_openids_lie_in_clear_on_disk() {
    let app = TestApp::start().await;
    app.bind(PLATE, "oUpF8uMuAJOM2pxb1Q").await;
    app.gate(PLATE, "IN").await;
    app.gate("宁Y77777", "IN").await;
    app.settle_all().await;

    let data = app.config.store.path.parent().unwrap();
    for file in std::fs::read_dir(data).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in ["oUpF8uMuAJOM2pxb1Q", PLATE, "宁Y77777", "Y00001"] {
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
                "{secret}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_bind_waits_for_an_entry_that_lies_ahead() {
    let app = TestApp::start().await;
    app.advance(SignedDuration::from_hours(6));
    let ahead = app.clock.now() + SignedDuration::from_secs(3);
    app.gate_at(PLATE, "IN", ahead).await;

    app.bind(PLATE, "openid-1").await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(app.sandbox.ledger().is_empty());
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["IN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_eleventh_member_of_a_car_is_refused_and_a_sold_car_changes_hands() {
    let app = TestApp::start().await;
    for number in 0..10 {
        app.bind(PLATE, &format!("openid-{number}")).await;
    }
    let bind = |sole: bool| {
        json!({ "circle": "demo-mall", "openid": "openid-new", "plates": [PLATE], "sole": sole }).to_string()
    };

    let (status, answer) = app
        .http
        .post("/v1/members/bind", &app.admin_key, "application/json", bind(false))
        .await;
    assert_eq!(status, 422, "{answer}");
    let (status, _) = app
        .http
        .post("/v1/members/bind", &app.admin_key, "application/json", bind(true))
        .await;
    assert_eq!(status, 200);
    app.gate(PLATE, "IN").await;
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["IN"]);
}

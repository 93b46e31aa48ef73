//! What operators ask: what stands where, why, and what next; sending again; holding; one visit in sentences.

use jiff::SignedDuration;
use serde_json::{Value, json};
use wechatpay_sandbox::{Fault, Refusal};

use crate::app::TestApp;

const PLATE: &str = "宁Y00001";

impl TestApp {
    async fn ask(&self, path: &str) -> Value {
        let (status, answer) = self.http.get(path, &self.admin_key).await;
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    async fn tell(&self, path: &str, body: Value) -> (u16, Value) {
        let (status, answer) = self
            .http
            .post(path, &self.admin_key, "application/json", body.to_string())
            .await;
        (status, serde_json::from_str(&answer).unwrap())
    }

    async fn dead_entry(&self) -> i64 {
        self.bind(PLATE, "oUpF8uMuAJOM2pxb1Q").await;
        self.sandbox
            .faults()
            .next(Fault::Refuse(Refusal::new(400, "PARAM_ERROR", "plate_number格式有误")));
        self.gate(PLATE, "IN").await;
        self.settle_all().await;
        let dead = self.ask("/v1/outbox?state=dead").await;
        dead["messages"][0]["id"].as_i64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_message_says_why_and_is_sent_again() {
    let app = TestApp::start().await;
    let id = app.dead_entry().await;

    let shown = app.ask(&format!("/v1/outbox/{id}")).await;
    assert!(
        shown["why"].as_str().unwrap().contains("plate_number格式有误"),
        "{shown}"
    );
    assert_eq!(shown["tries"][0]["status"], 400);
    assert!(!shown["tries"][0]["request_id"].as_str().unwrap().is_empty());
    let replay = format!("/v1/outbox/{id}/replay");
    let (_, preview) = app.tell(&replay, json!({})).await;
    assert_eq!(
        (&preview["queued"], &preview["afterwards"]["state"]),
        (&json!(false), &json!("IN"))
    );
    assert!(app.told(PLATE).is_empty());
    let (status, _) = app.tell(&replay, json!({ "really": true })).await;
    app.settle_all().await;

    assert_eq!(status, 200);
    assert_eq!(app.told(PLATE), ["IN"]);
    assert_eq!(app.tell(&replay, json!({ "really": true })).await.1["code"], "not-open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_would_turn_the_present_back_asks_first() {
    let app = TestApp::start().await;
    let id = app.dead_entry().await;
    app.advance(SignedDuration::from_mins(30));
    app.gate(PLATE, "OUT").await;
    app.settle_all().await;
    let replay = format!("/v1/outbox/{id}/replay");

    let (status, refused) = app.tell(&replay, json!({ "really": true })).await;
    assert_eq!((status, &refused["code"]), (409, &json!("turns-back")));
    assert_eq!(app.told(PLATE), ["OUT"]);
    assert_eq!(app.tell(&replay, json!({ "really": true, "force": true })).await.0, 200);
    app.settle_all().await;
    assert_eq!(app.told(PLATE), ["OUT", "IN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_that_a_person_holds_says_so_and_how_to_go_on() {
    let app = TestApp::start().await;
    app.bind(PLATE, "openid-1").await;
    let circle = json!({ "circle": "demo-mall", "reason": "new brandid comes" });
    assert_eq!(app.tell("/v1/holds/hold", circle.clone()).await.0, 200);

    app.gate(PLATE, "IN").await;
    let waiting = app.ask("/v1/outbox").await;
    let message = &waiting["messages"][0];
    assert!(
        message["why"].as_str().unwrap().contains("new brandid comes"),
        "{message}"
    );
    assert!(
        message["next"]
            .as_str()
            .unwrap()
            .contains("outbox release --circle demo-mall"),
        "{message}"
    );
    assert_eq!(app.ask("/v1/holds").await["holds"][0]["name"], "demo-mall");
    app.tell("/v1/holds/release", circle).await;
    app.settle_all().await;

    assert_eq!(app.told(PLATE), ["IN"]);
    assert_eq!(app.tell("/v1/holds/hold", json!({ "circle": "nowhere" })).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_is_told_in_sentences() {
    let app = TestApp::start().await;
    app.bind(PLATE, "oUpF8uMuAJOM2pxb1Q").await;
    app.sandbox.faults().next(Fault::SystemError);
    app.gate(PLATE, "IN").await;
    app.settle_all().await;
    app.advance(SignedDuration::from_mins(40));
    app.gate(PLATE, "OUT").await;
    app.settle_all().await;
    app.gate("宁Y00009", "IN").await;

    let (_, traced) = app.tell("/v1/visits/trace", json!({ "plate": PLATE })).await;
    let text = traced.to_string();
    for words in [
        "gate P1/G1 told IN",
        "WeChat Pay refused with 500 SYSTEM_ERROR",
        "WeChat Pay took it",
        "gate P1/G1 told OUT",
        "WeChat Pay confirmed it",
        "oUpF****xb1Q",
    ] {
        assert!(text.contains(words), "{words}: {traced:#}");
    }
    assert!(!text.contains(PLATE) && !text.contains("oUpF8uMuAJOM2pxb1Q"), "{text}");
    let (_, of_member) = app
        .tell(
            "/v1/visits/trace",
            json!({ "openid": "oUpF8uMuAJOM2pxb1Q", "circle": "demo-mall" }),
        )
        .await;
    assert_eq!(of_member["visits"].as_array().unwrap().len(), 1);
    let (_, stranger) = app.tell("/v1/visits/trace", json!({ "plate": "宁Y00009" })).await;
    assert!(stranger.to_string().contains("no member has the plate"), "{stranger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_is_listed_with_what_it_does() {
    let app = TestApp::start().await;
    app.bind(PLATE, "oUpF8uMuAJOM2pxb1Q").await;
    app.gate(PLATE, "IN").await;
    app.settle_all().await;

    let listed = app.ask("/v1/nodes").await;
    let node = &listed["nodes"][0];
    assert_eq!(
        (&node["role"], &node["sent"], &node["lanes"]),
        (&json!("all"), &json!(1), &json!(0))
    );
    assert!(node["silent_ms"].as_i64().unwrap() < 5000, "{listed}");
    assert!(node["calls_per_second"].is_number(), "{listed}");
    let (_, metrics) = app.http.get("/metrics", "").await;
    assert!(
        metrics.contains("parksync_node_calls_total{node=\"") && metrics.contains("role=\"all\"} 1"),
        "{metrics}"
    );

    let store = app.service.store();
    app.service.stop().await;
    assert!(store.nodes().await.unwrap().is_empty(), "it left in good order");
}

//! What senders hear: the words they wait for, and a clear answer to bad input.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::app::TestApp;

const VZENITH: &str = include_str!("../../../../examples/gate-messages/vzenith-http-online-macau-plate.json");
const HIKVISION: &str = include_str!("../../../../examples/gate-messages/hikvision-isapi-anpr-v58.xml");
const HUAXIA: &str = include_str!("../../../../examples/gate-messages/huaxia-httppost-mode5-form.txt");

#[tokio::test(flavor = "multi_thread")]
async fn each_sender_hears_the_words_it_waits_for() {
    let app = TestApp::start().await;
    let table = [
        ("P1/E1", "application/json", VZENITH, "Response_AlarmInfoPlate"),
        ("P1/H1", "application/xml", HIKVISION, "<statusCode>1</statusCode>"),
        (
            "P1/HX",
            "application/x-www-form-urlencoded",
            HUAXIA,
            "{\"error_num\":0,\"error_str\":\"noerror\"}",
        ),
    ];

    for (gate, content_type, body, words) in table {
        let path = format!("/v1/gates/{gate}");
        let response = app
            .http
            .try_post(&path, &app.gate_key, content_type, body)
            .await
            .unwrap();
        let answer = String::from_utf8(response.body().to_vec()).unwrap();

        assert_eq!(response.status(), 200, "{gate}: {answer}");
        assert!(answer.contains(words), "{gate}: {answer}");
        assert!(!answer.contains("\"ok\""), "the word that opens the gate");
        assert_eq!(response.headers()["content-length"], answer.len().to_string().as_str());
        assert!(!response.headers().contains_key("transfer-encoding"));
        assert!(!response.headers().contains_key("content-encoding"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_get_an_answer_that_names_the_field() {
    let app = TestApp::start().await;
    let (json_type, form) = ("application/json", "application/x-www-form-urlencoded");
    let no_zone = HIKVISION
        .replace("+08:00</dateTime>", "</dateTime>")
        .replace("PECT600", "粤B12345");
    let table: [(&str, &str, &str, u16, &str, &str); 8] = [
        ("P1/E1", json_type, "{\"AlarmInfoPlate\":", 400, "malformed", "body"),
        ("P1/E1", json_type, "[1, 2]", 400, "malformed", "body"),
        (
            "P1/H1",
            "application/xml",
            "<EventNotificationAlert><ANPR>",
            400,
            "malformed",
            "body",
        ),
        ("P1/HX", form, "plate_num", 400, "malformed", ""),
        (
            "P1/G1",
            "text/plain",
            "{\"plate\":\"粤B12345\"}",
            400,
            "malformed",
            "content-type",
        ),
        (
            "P2/H1",
            "application/xml",
            &no_zone,
            422,
            "time-without-zone",
            "dateTime",
        ),
        ("P2/V1", json_type, VZENITH, 422, "no-direction", "direction"),
        ("P1/G1", json_type, "{\"events\": 3}", 400, "malformed", "events"),
    ];

    for (gate, content_type, body, status, code, field) in table {
        let (answered, answer) = app.post_gate(gate, content_type, body.to_owned()).await;
        let problem: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{gate} {body}: {answer}"));

        assert_eq!(
            (answered, problem["code"].as_str()),
            (status, Some(code)),
            "{gate} {body}: {answer}"
        );
        if !field.is_empty() {
            assert_eq!(problem["field"], field, "{gate} {body}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_event_costs_the_others_nothing() {
    let app = TestApp::start().await;
    app.bind("宁Y00001", "openid-1").await;
    let now = app.clock.now().to_string();
    let good = json!({ "lot": "P1", "plate": "宁Y00001", "state": "IN", "time": now });
    let bad = [
        ("lot", json!({ "plate": "宁Y00001", "state": "IN", "time": now })),
        (
            "lot",
            json!({ "lot": "P9", "plate": "宁Y00001", "state": "IN", "time": now }),
        ),
        (
            "gate",
            json!({ "lot": "P1", "gate": "nowhere", "plate": "宁Y00001", "state": "IN", "time": now }),
        ),
        (
            "plate",
            json!({ "lot": "P1", "plate": "宁Y0*001", "state": "IN", "time": now }),
        ),
        ("plate", json!({ "lot": "P1", "state": "IN", "time": now })),
        (
            "state",
            json!({ "lot": "P1", "plate": "宁Y00001", "state": "PARKED", "time": now }),
        ),
        ("state", json!({ "lot": "P1", "plate": "宁Y00001", "time": now })),
        (
            "time",
            json!({ "lot": "P1", "plate": "宁Y00001", "state": "IN", "time": "yesterday" }),
        ),
        (
            "time",
            json!({ "lot": "P2", "plate": "宁Y00001", "state": "IN", "time": "2024-07-04 15:30:00" }),
        ),
        (
            "tiem",
            json!({ "lot": "P1", "plate": "宁Y00001", "state": "IN", "tiem": now }),
        ),
    ];
    let mut batch: Vec<Value> = bad.iter().map(|(_, event)| event.clone()).collect();
    batch.push(good);

    let (status, answer) = app.events(json!({ "events": batch })).await;
    app.settle_all().await;

    assert_eq!(status, 200, "{answer}");
    for (index, (field, event)) in bad.iter().enumerate() {
        let result = &answer["results"][index];
        assert_eq!(
            (&result["class"], &result["field"]),
            (&json!("rejected"), &json!(field)),
            "{event}: {answer}"
        );
    }
    assert_eq!(answer["results"][bad.len()]["recorded"], "queued");
    assert_eq!(app.told("宁Y00001"), ["IN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_are_counted() {
    let app = TestApp::start().await;

    app.post_gate("P1/E1", "application/json", "not json").await;
    app.post_gate("P1/H1", "application/xml", HIKVISION).await;
    let (status, metrics) = app.http.get("/metrics", "").await;

    assert_eq!(status, 200);
    assert!(
        metrics.contains("parksync_never_sent_total{lot=\"P1\",word=\"syntax\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("parksync_never_sent_total{lot=\"P1\",word=\"not-a-mainland-plate\"} 1"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_key_nobody_gets_in() {
    let app = TestApp::start().await;
    let code = |answer: &str| {
        serde_json::from_str::<Value>(answer).unwrap()["code"]
            .as_str()
            .map(str::to_owned)
            .unwrap()
    };

    let (status, answer) = app
        .http
        .post(
            "/v1/gates/P1/E1",
            "wrong-key-wrong-key-wrong",
            "application/json",
            VZENITH,
        )
        .await;
    assert_eq!((status, code(&answer).as_str()), (401, "wrong-api-key"));
    let (status, answer) = app.http.get("/v1/members", &app.gate_key).await;
    assert_eq!((status, code(&answer).as_str()), (403, "not-allowed"));
    let path = format!("/v1/gates/P1/E1?key={}", app.gate_key);
    let (status, _) = app.http.post(&path, "", "application/json", VZENITH).await;
    assert_eq!(status, 401, "a wrong header is not mended by the query");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_places_and_oversized_bodies_are_told() {
    let app = TestApp::start().await;
    let code = |answer: &str| {
        serde_json::from_str::<Value>(answer).unwrap()["code"]
            .as_str()
            .map(str::to_owned)
            .unwrap()
    };

    let (status, answer) = app.post_gate("P9/E1", "application/json", VZENITH).await;
    assert_eq!((status, code(&answer).as_str()), (404, "unknown-lot"));
    let (status, answer) = app.post_gate("P1/E9", "application/json", VZENITH).await;
    assert_eq!((status, code(&answer).as_str()), (404, "unknown-gate"));
    let (status, answer) = app.http.get("/v1/nothing", &app.admin_key).await;
    assert_eq!((status, code(&answer).as_str()), (404, "unknown-path"));
    let (status, answer) = app.http.get("/v1/events", &app.admin_key).await;
    assert_eq!((status, code(&answer).as_str()), (405, "wrong-method"));
    let huge = vec![b' '; parksync::limits::GATE_BODY_BYTES + 1];
    let (status, answer) = app.post_gate("P1/E1", "application/json", huge).await;
    assert_eq!((status, code(&answer).as_str()), (413, "too-large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plate_that_is_doubtful_is_sent_when_a_member_bound_exactly_it() {
    let app = TestApp::start().await;

    // 8 characters without a new-energy letter, as in WeChat Pay's own example.
    let recorded = app
        .gate_at("宁Y123456", "IN", app.clock.now() - SignedDuration::from_secs(1))
        .await;

    assert_eq!(recorded, "no-member");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_what_is() {
    let app = TestApp::start().await;

    assert_eq!(app.http.get("/healthz", "").await, (200, "alive\n".to_owned()));
    assert_eq!(app.http.get("/readyz", "").await, (200, "ready\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_without_direction_costs_a_batch_of_a_gate_nothing() {
    let app = TestApp::start().await;
    let now = app.clock.now().to_string();
    let batch = json!([
        { "plate": "宁Y00001", "state": "IN", "time": now },
        { "plate": "宁Y00002", "time": now },
    ]);

    let (status, answer) = app.post_gate("P1/G1", "application/json", batch.to_string()).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();

    assert_eq!((status, &answer["rejected"]), (200, &json!(1)));
    assert_eq!(answer["results"][0]["recorded"], "no-member");
    assert_eq!(answer["results"][1]["field"], "state");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_at_the_door_is_counted_too() {
    let app = TestApp::start().await;

    app.post_gate("P9/E1", "application/json", "{}").await;
    app.http.post("/v1/events", "wrong", "application/json", "{}").await;
    let (status, _) = app
        .http
        .post("/v1/events", &app.gate_key, "application/json", "not json")
        .await;
    let (_, metrics) = app.http.get("/metrics", "").await;

    assert_eq!(status, 400);
    for line in [
        "parksync_refused_requests_total{code=\"unknown-lot\"} 1",
        "parksync_refused_requests_total{code=\"wrong-api-key\"} 1",
        "parksync_refused_requests_total{code=\"malformed\"} 1",
        "parksync_never_sent_total{lot=\"\",word=\"syntax\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_waits_for_a_challenge_gets_one() {
    let app = TestApp::start().await;

    let refused = app
        .http
        .try_post("/v1/events", "wrong", "application/json", "{}")
        .await
        .unwrap();

    assert_eq!(refused.headers()["www-authenticate"], "Basic realm=\"parksync\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_whole_visits_corrections_and_classes_are_understood() {
    let app = TestApp::start().await;
    app.bind("宁Y00001", "openid-1").await;
    app.bind("宁Y00002", "openid-2").await;
    let ago = |minutes| (app.clock.now() - SignedDuration::from_mins(minutes)).to_string();
    let visit = json!({ "lot": "P1", "id": "v1", "plate": "宁Y00001", "in_time": ago(9), "out_time": ago(5) });

    let (status, answer) = app.events(visit.clone()).await;
    assert_eq!(
        (status, &answer["results"][0]["class"]),
        (200, &json!("visit")),
        "{answer}"
    );
    app.settle_all().await;
    assert_eq!(
        app.events(visit).await.1["results"][0]["items"][1]["recorded"],
        "duplicate"
    );
    assert_eq!(app.told("宁Y00001"), ["IN", "OUT"]);

    let wrong = json!({ "lot": "P1", "id": "r2", "plate": "宁Y00001", "state": "IN", "time": ago(2) });
    assert_eq!(app.event(wrong).await, "queued");
    app.settle_all().await;
    let corrects = json!({ "lot": "P1", "corrects": "r2", "plate": "宁Y00002" });
    assert_eq!(app.event(corrects).await, "corrected");
    app.settle_all().await;
    assert_eq!(app.told("宁Y00001"), ["IN", "OUT", "IN", "OUT"]);
    assert_eq!(app.told("宁Y00002"), ["IN"]);
    assert_eq!(
        app.event(json!({ "lot": "P1", "cancels": "nothing" })).await,
        "unknown-record"
    );

    let staff = json!({ "lot": "P1", "plate": "宁Y00001", "state": "IN", "time": ago(0), "class": "staff" });
    let (_, answer) = app.events(staff).await;
    assert_eq!(answer["results"][0]["reason"], "class-left-out", "{answer}");
    let (_, answer) = app
        .events(json!({ "lot": "P1", "plate": "宁Y00003", "state": "IN", "time": "2060-01-01T00:00:00+08:00" }))
        .await;
    assert_eq!(answer["results"][0]["notes"], json!(["time-ahead"]), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_whose_clock_is_off_shows_in_the_metrics() {
    let app = TestApp::start().await;
    for number in 0..6 {
        app.gate_at(
            &format!("宁Y0001{number}"),
            "IN",
            app.clock.now() - SignedDuration::from_secs(180),
        )
        .await;
    }

    let (_, metrics) = app.http.get("/metrics", "").await;

    assert!(
        metrics.contains("parksync_gate_clock_behind_seconds{lot=\"P1\",gate=\"G1\"} 180"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inner_car_park_neither_enters_nor_leaves_the_mall() {
    let app = TestApp::start().await;
    app.bind("宁Y00001", "openid-1").await;
    let at = |lot: &str, state: &str| {
        let time = app.clock.now().to_string();
        json!({ "lot": lot, "plate": "宁Y00001", "state": state, "time": time })
    };

    assert_eq!(app.event(at("P1", "IN")).await, "queued");
    app.advance(SignedDuration::from_mins(5));
    assert_eq!(app.event(at("P1-inner", "IN")).await, "inner");
    app.advance(SignedDuration::from_mins(5));
    assert_eq!(app.event(at("P1-inner", "OUT")).await, "inner");
    app.settle_all().await;

    assert_eq!(app.told("宁Y00001"), ["IN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_settle_a_car_that_turns_round_is_not_told_and_one_car_can_be_enough() {
    let app = TestApp::start().await;
    app.bind("宁Y00001", "openid-1").await;
    app.bind("宁Y00002", "openid-1").await;
    let at = |plate: &str, state: &str| {
        let time = app.clock.now().to_string();
        json!({ "lot": "P3", "plate": plate, "state": state, "time": time })
    };

    assert_eq!(app.event(at("宁Y00001", "IN")).await, "queued");
    app.advance(SignedDuration::from_secs(20));
    assert_eq!(app.event(at("宁Y00001", "OUT")).await, "turned-round");
    app.advance(SignedDuration::from_mins(10));
    app.settle_all().await;
    assert!(app.told("宁Y00001").is_empty());

    for plate in ["宁Y00001", "宁Y00002"] {
        assert_eq!(app.event(at(plate, "IN")).await, "queued");
    }
    app.settle_all().await;
    app.advance(SignedDuration::from_mins(10));
    assert_eq!(app.event(at("宁Y00001", "OUT")).await, "other-car-inside");
    app.settle_all().await;
    assert_eq!(app.told("宁Y00001"), ["IN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_sends_senders_away_and_lets_them_come_back() {
    let app = TestApp::start_with("\n[limits]\nwaiting = 2\n").await;
    app.bind("宁Y00001", "openid-1").await;
    let ahead = |minutes| app.clock.now() + SignedDuration::from_mins(minutes);
    app.gate_at("宁Y00001", "IN", ahead(1)).await;
    app.gate_at("宁Y00001", "OUT", ahead(4)).await;

    let event = json!({ "lot": "P1", "plate": "宁Y00002", "state": "IN", "time": app.clock.now().to_string() });
    let end = std::time::Instant::now() + crate::app::PATIENCE;
    let refused = loop {
        let refused = app
            .http
            .try_post("/v1/events", &app.gate_key, "application/json", event.to_string())
            .await
            .unwrap();
        if refused.status() != 200 || std::time::Instant::now() > end {
            break refused;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));

    app.advance(SignedDuration::from_mins(5));
    app.settle_all().await;
    let end = std::time::Instant::now() + crate::app::PATIENCE;
    while app.events(event.clone()).await.0 != 200 {
        assert!(std::time::Instant::now() < end, "senders are still sent away");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(app.told("宁Y00001"), ["IN", "OUT"]);
}

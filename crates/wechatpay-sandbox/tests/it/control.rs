//! The control port: every documented operation answers, and does what the library does.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::time::{Duration, Instant};

use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use wechatpay_sandbox::{Sandbox, StartError};

use crate::client::{Connection, Reply, Signed, get, parking, post, report, send, sign};
use crate::shop::Shop;

const OPENID: &str = "oUpF8uMuAJOM2pxb1Q";

async fn sandbox() -> Sandbox {
    let builder = Sandbox::builder().control("127.0.0.1:0".parse().unwrap());
    builder.start().await.unwrap()
}

async fn raw(sandbox: &Sandbox, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> Reply {
    let authority = sandbox.control_url().unwrap().strip_prefix("http://").unwrap();
    let mut request = Request::builder()
        .method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap())
        .uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", authority);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let stream = TcpStream::connect(authority).await.unwrap();
    let mut connection = Connection::over(stream).await;
    connection.send(request.body(Full::from(body)).unwrap()).await.unwrap()
}

/// What must succeed.
async fn ask(sandbox: &Sandbox, method: &str, path: &str, body: Value) -> Value {
    let body = if method == "get" {
        String::new()
    } else {
        body.to_string()
    };
    let reply = raw(sandbox, method, path, &[], body).await;
    assert_eq!(reply.status, 200, "{method} {path}: {:?}", reply.body);
    reply.json()
}

#[tokio::test]
async fn every_documented_operation_is_there() {
    let sandbox = sandbox().await;

    let document = ask(&sandbox, "get", "/openapi.json", Value::Null).await;

    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let filled: Vec<&str> = path
            .split('/')
            .map(|segment| if segment.starts_with('{') { "1" } else { segment })
            .collect();
        for method in methods.as_object().unwrap().keys() {
            let reply = raw(&sandbox, method, &filled.join("/"), &[], "{}".into()).await;
            let detail = reply.json()["detail"].as_str().unwrap_or_default().to_owned();
            assert!(!detail.contains("openapi"), "{method} {path}: {detail}");
            assert!(
                [200, 400, 404, 409].contains(&reply.status.as_u16()),
                "{method} {path}: {}",
                reply.status
            );
            operations += 1;
        }
    }
    assert!(operations > 35, "{operations}");
    let lost = raw(&sandbox, "get", "/v2", &[], String::new()).await;
    let wrong = raw(&sandbox, "delete", "/v1/clock", &[], String::new()).await;
    assert_eq!((lost.status.as_u16(), wrong.status.as_u16()), (404, 405));
    assert_eq!(wrong.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn a_member_comes_pays_earns_and_gets_a_refund() {
    let shop = Shop::content().await;
    let sandbox = sandbox().await;
    let urls = json!({ "payment_url": shop.url(), "authorization_url": shop.url() });
    ask(&sandbox, "put", "/v1/callbacks/urls", urls).await;

    ask(&sandbox, "post", &format!("/v1/members/{OPENID}/authorize"), json!({})).await;
    report(&sandbox, &parking(&sandbox)).await;
    let presences = ask(&sandbox, "get", "/v1/presences", Value::Null).await;
    let paid = ask(
        &sandbox,
        "post",
        "/v1/payments",
        json!({ "openid": OPENID, "amount": 200 }),
    )
    .await;
    let id = paid["notification"].as_str().unwrap().to_owned();
    let acknowledged = sandbox
        .callbacks()
        .wait_for(
            |callbacks| callbacks.find(&id).unwrap().is_acknowledged(),
            Duration::from_secs(10),
        )
        .await;
    let transaction_id = paid["transaction_id"].as_str().unwrap();
    let points = json!({
        "transaction_id": transaction_id,
        "appid": sandbox.merchant().appid,
        "openid": OPENID,
        "earn_points": true,
        "increased_points": 2,
        "points_update_time": "2020-05-20T13:29:35.120+08:00",
    });
    assert_eq!(
        post(&sandbox, "/v3/businesscircle/points/notify", &points).await.line(),
        "204"
    );
    let refund = format!("/v1/payments/{transaction_id}/refund");
    let refunded = ask(&sandbox, "post", &refund, json!({ "amount": 200 })).await;
    let again = raw(&sandbox, "post", &refund, &[], json!({ "amount": 1 }).to_string()).await;

    assert!(acknowledged);
    assert_eq!(presences["presences"][0]["holds"], true);
    assert_eq!(paid["submission"], "Automatic");
    assert!(refunded["notification"].is_string());
    assert_eq!(
        (again.status.as_u16(), &again.json()["code"]),
        (409, &json!("conflict"))
    );
    let payments = ask(&sandbox, "get", "/v1/payments", Value::Null).await;
    assert_eq!(payments["payments"][0]["points"]["increased_points"], 2);
    let callback = ask(&sandbox, "get", &format!("/v1/callbacks/{id}"), Value::Null).await;
    assert_eq!(
        (&callback["progress"], &callback["attempts"][0]["status"]),
        (&json!("acknowledged"), &json!(200))
    );
    let callbacks = ask(&sandbox, "get", "/v1/callbacks", Value::Null).await;
    assert_eq!(callbacks["callbacks"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_ledger_is_filtered_and_waited_for() {
    let sandbox = sandbox().await;
    report(&sandbox, &parking(&sandbox)).await;
    report(&sandbox, &json!({})).await;
    get(&sandbox, "/v3/certificates").await;

    let numbers = async |query: &str| -> Vec<u64> {
        let page = ask(&sandbox, "get", &format!("/v1/calls{query}"), Value::Null).await;
        let calls = page["calls"].as_array().unwrap();
        calls.iter().map(|call| call["number"].as_u64().unwrap()).collect()
    };

    assert_eq!(numbers("").await, [3, 2, 1]);
    assert_eq!(numbers("?limit=1").await, [3]);
    assert_eq!(numbers("?refused=true").await, [2]);
    assert_eq!(numbers("?status=204").await, [1]);
    assert_eq!(numbers("?path=/v3/certificates").await, [3]);
    assert_eq!(numbers("?contains=oUpF8uMuAJOM2pxb1Q").await, [1]);
    let body = parking(&sandbox);
    let waiting = numbers("?status=204&least=2&wait_s=20");
    let (waited, _) = tokio::join!(waiting, report(&sandbox, &body));
    assert_eq!(waited, [4, 1]);
    let started = Instant::now();
    assert_eq!(numbers("?status=999&least=1&wait_s=0.2").await, [] as [u64; 0]);
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_refused_signature_is_shown_with_what_was_signed_instead() {
    let sandbox = sandbox().await;
    let signed = Signed::new(&sandbox, "GET", "/v3/certificates?algorithm_type=RSA", String::new());
    let mistaken = Signed::new(&sandbox, "GET", "/v3/certificates", String::new());
    let signature = sign(&sandbox.merchant().private_key_pem, &mistaken.message());
    let authorization = signed.authorization(&signature);

    let refused = send(&sandbox, signed.with("authorization", authorization).build())
        .await
        .unwrap();
    let call = ask(&sandbox, "get", "/v1/calls/1", Value::Null).await;

    assert_eq!(refused.status, 401);
    assert_eq!(
        call["hint"],
        "the key is right, but you signed without the query string"
    );
    let line = |name: &str| call[name].as_str().unwrap().lines().nth(1).unwrap().to_owned();
    assert_eq!(line("string_to_sign"), "/v3/certificates?algorithm_type=RSA");
    assert_eq!(line("signed_instead"), "/v3/certificates");
}

#[tokio::test]
async fn faults_clock_keys_and_mall_are_turned_from_outside() {
    let sandbox = sandbox().await;
    let body = parking(&sandbox);

    ask(
        &sandbox,
        "post",
        "/v1/faults",
        json!({ "fault": "rate_limited", "retry_after_s": 7 }),
    )
    .await;
    let limited = report(&sandbox, &body).await;
    let rule = json!({ "fault": "bad_gateway", "path": "/v3/businesscircle/*", "times": 1 });
    ask(&sandbox, "post", "/v1/faults", rule).await;
    let rules = ask(&sandbox, "get", "/v1/faults", Value::Null).await;
    let gateway = report(&sandbox, &body).await;
    ask(&sandbox, "put", "/v1/mall", json!({ "mall": "not_unique" })).await;
    let not_unique = report(&sandbox, &body).await;
    ask(&sandbox, "put", "/v1/platform", json!({ "mode": "public_key_only" })).await;
    let certificates = get(&sandbox, "/v3/certificates").await;
    let clock = ask(&sandbox, "post", "/v1/clock", json!({ "advance_s": 864_000 })).await;
    ask(&sandbox, "post", "/v1/reset", json!({})).await;
    let after = report(&sandbox, &body).await;

    assert_eq!((limited.status.as_u16(), limited.header("retry-after")), (429, "7"));
    assert_eq!(
        (rules["rules"][0]["times"].as_u64(), gateway.line()),
        (Some(1), "502".into())
    );
    assert!(not_unique.line().starts_with("403 NO_AUTH brandid"));
    assert_eq!(certificates.status, 404);
    assert_ne!(
        clock["wire"].as_str().unwrap()[..10],
        clock["calendar"].as_str().unwrap()[..10]
    );
    assert_eq!(after.line(), "204");
}

#[tokio::test]
async fn the_reviewer_and_the_plates_are_played_from_outside() {
    let sandbox = sandbox().await;
    let service = json!({ "plate_number": "粤B888888", "plate_color": "BLUE", "openid": OPENID, "state": "pause" });

    ask(&sandbox, "put", "/v1/vehicles/services", service).await;
    let query = format!(
        "appid={}&plate_number=%E7%B2%A4B888888&plate_color=BLUE&openid={OPENID}",
        sandbox.merchant().appid
    );
    let found = get(&sandbox, &format!("/v3/vehicle/parking/services/find?{query}")).await;
    let nothing = raw(&sandbox, "post", "/v1/reminders/PARK001/approve", &[], String::new()).await;

    assert_eq!(found.json()["service_state"], "PAUSE");
    assert_eq!(nothing.status, 409);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_a_reason() {
    let sandbox = sandbox().await;
    for (method, path, body, words) in [
        ("post", "/v1/payments", "{", "the body does not fit"),
        ("post", "/v1/payments", "{}", "missing field `openid`"),
        ("post", "/v1/clock", r#"{"advance":1}"#, "unknown field `advance`"),
        ("post", "/v1/clock", r#"{"advance_s":-1}"#, "advance_s"),
        ("post", "/v1/faults", r#"{"fault":"flood"}"#, "fault is one of latency"),
        ("put", "/v1/mall", r#"{"mall":"two"}"#, "is not one of unique"),
        (
            "put",
            "/v1/callbacks/urls",
            r#"{"payment_url":"http://192.0.2.1/x"}"#,
            "plain HTTP goes to the loopback only",
        ),
    ] {
        let reply = raw(&sandbox, method, path, &[], body.into()).await;
        assert_eq!(reply.status, 400, "{path} {body}");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(words), "{detail}");
    }
}

#[tokio::test]
async fn foreign_names_and_pages_are_turned_away() {
    let sandbox = sandbox().await;
    let own = sandbox.control_url().unwrap();
    for (name, value, status) in [
        ("host", "evil.example", 403),
        ("host", "127.0.0.1:1", 403),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", own, 200),
    ] {
        let reply = raw(&sandbox, "post", "/v1/reset", &[(name, value)], "{}".into()).await;
        assert_eq!(reply.status, status, "{name}: {value}");
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let sandbox = sandbox().await;

    let page = raw(&sandbox, "get", "/", &[], String::new()).await;

    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(text.contains("微信支付沙箱") && !text.contains("https://"));
}

#[tokio::test]
async fn the_port_is_closed_unless_asked_for_and_local_always() {
    let without = Sandbox::start().await.unwrap();
    let foreign = Sandbox::builder().control("0.0.0.0:0".parse().unwrap()).start().await;

    assert_eq!(without.control_url(), None);
    assert!(matches!(foreign, Err(StartError::HttpNotLoopback(_))));
}

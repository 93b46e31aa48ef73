//! Both clients over real TLS against a small signing server.

#![expect(
    clippy::unwrap_used,
    reason = "tests; Clippy knows only the functions marked as such"
)]

mod server;

use std::time::Duration;

use serde_json::json;
use server::{PLATFORM_ID, Script, Seal, Server, soon};
use wechatpay::{Chain, Client, Error, ParkingState, ParkingStateKind, Retry, TransportError, VerifyError};

const PATH: &str = "v3/businesscircle/parkings";

fn state() -> ParkingState {
    ParkingState {
        sub_mchid: None,
        brandid: 1000,
        appid: "wx931386123456789e".into(),
        openid: "oUpF8uMuAJOM2pxb1Q".into(),
        plate_number: "粤B888888".into(),
        state: ParkingStateKind::In,
        time: jiff::Timestamp::now(),
    }
}

/// Every verb in one spelling, whatever that is.
macro_rules! every_verb {
    ($call:expr, $body:expr $(, $await:tt)?) => {{
        $call.get()$(.$await)?.unwrap();
        $call.post($body)$(.$await)?.unwrap();
        $call.put($body)$(.$await)?.unwrap();
        $call.patch($body)$(.$await)?.unwrap();
        $call.delete()$(.$await)?.unwrap();
    }};
}

fn assert_every_verb_arrived(server: &Server, body: &serde_json::Value, spelling: &str) {
    let arrived = server.take_arrived();
    let verbs: Vec<&str> = arrived.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(verbs, ["GET", "POST", "PUT", "PATCH", "DELETE"], "{spelling}");
    for request in &arrived {
        server.assert_signed(request);
        assert_eq!(request.target, "/v3/businesscircle/parkings", "{spelling}");
        let has_body = !matches!(request.method.as_str(), "GET" | "DELETE");
        let expected = if has_body { body.to_string() } else { String::new() };
        assert_eq!(request.body, expected, "{spelling} {}", request.method);
        let header = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("accept"), Some("application/json"));
        assert_eq!(header("content-type"), has_body.then_some("application/json"));
        assert_eq!(header("wechatpay-serial"), Some(PLATFORM_ID));
        assert!(header("user-agent").unwrap().starts_with("wechatpay-apiv3-rust/"));
    }
}

// Two workers: the blocking calls hold one, the server needs another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_six_calling_styles_send_the_same_signed_request() {
    let server = Server::start().await;
    let body = json!({"plate_number": "粤B888888"});

    let client = server.client();
    every_verb!(client.v3().businesscircle().parkings(), &body, await);
    assert_every_verb_arrived(&server, &body, "chained");
    every_verb!(client.chain(PATH), &body, await);
    assert_every_verb_arrived(&server, &body, "declared");
    every_verb!(client[PATH], &body, await);
    assert_every_verb_arrived(&server, &body, "indexed");

    // Inside a runtime on purpose; the next test is outside.
    let client = server.blocking();
    every_verb!(client.v3().businesscircle().parkings(), &body);
    assert_every_verb_arrived(&server, &body, "blocking chained");
    every_verb!(client.chain(PATH), &body);
    assert_every_verb_arrived(&server, &body, "blocking declared");
    every_verb!(client[PATH], &body);
    assert_every_verb_arrived(&server, &body, "blocking indexed");
}

#[test]
fn the_blocking_client_needs_no_runtime_and_serves_many_threads() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start());
    let client = server.blocking();

    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..4 {
                    client[PATH].post(&json!({})).unwrap();
                }
            });
        }
    });

    assert_eq!(client.business_circle().report_parking(&state()).unwrap().status(), 204);
    assert_eq!(server.take_arrived().len(), 33);
}

#[test]
fn the_blocking_client_may_be_used_and_dropped_inside_a_runtime_of_either_kind() {
    let multi_thread = tokio::runtime::Runtime::new().unwrap();
    let current_thread = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let server = multi_thread.block_on(Server::start());
    let use_and_drop = async |client: wechatpay::blocking::Client| {
        client[PATH].post(&json!({})).unwrap();
        drop(client);
    };

    current_thread.block_on(use_and_drop(server.blocking()));
    multi_thread.block_on(use_and_drop(server.blocking()));

    assert_eq!(server.take_arrived().len(), 2);
}

#[tokio::test]
async fn path_variables_and_queries_are_signed_as_sent() {
    let server = Server::start().await;
    let client = server.client();
    let (openid, appid) = ("a/b%粤 c", "wx 1");

    client
        .v3()
        .businesscircle()
        .users()
        .openid(openid)
        .points()
        .commit_status()
        .query("appid", appid)
        .get()
        .await
        .unwrap();
    client
        .chain("v3/businesscircle/users/{openid}/points/commit_status")
        .bind("openid", openid)
        .query("appid", appid)
        .get()
        .await
        .unwrap();
    client["v3/businesscircle/users/{openid}/points/commit_status?appid=wx%201"]
        .bind("openid", openid)
        .get()
        .await
        .unwrap();
    client
        .v3()
        .seg("pay")
        .seg("transactions")
        .seg("jsapi")
        .header("Idempotency-Key", "k1")
        .post(&json!({}))
        .await
        .unwrap();

    let arrived = server.take_arrived();
    arrived.iter().for_each(|request| server.assert_signed(request));
    for request in &arrived[..3] {
        assert_eq!(
            request.target,
            "/v3/businesscircle/users/a%2Fb%25%E7%B2%A4%20c/points/commit_status?appid=wx%201"
        );
    }
    assert_eq!(arrived[3].target, "/v3/pay/transactions/jsapi");
    assert_eq!(arrived[3].headers["idempotency-key"], "k1");
}

#[tokio::test]
async fn a_typed_report_is_accepted_with_its_request_id() {
    let server = Server::start().await;

    let accepted = server
        .client()
        .business_circle()
        .report_parking(&state())
        .await
        .unwrap();

    assert_eq!((accepted.status(), accepted.request_id()), (204, Some("08F1-test")));
    let sent: serde_json::Value = serde_json::from_slice(&server.take_arrived()[0].body).unwrap();
    assert_eq!((&sent["state"], &sent["brandid"]), (&json!("IN"), &json!(1000)));
    assert!(sent["time"].as_str().unwrap().ends_with("+08:00"));
}

#[tokio::test]
async fn a_verified_success_that_is_not_done_is_no_success() {
    let server = Server::start().await;
    server.script(Script {
        status: 202,
        ..Script::default()
    });

    let error = server
        .client()
        .business_circle()
        .report_parking(&state())
        .await
        .unwrap_err();

    assert!(matches!(error, Error::Decode { .. }), "{}", Chain(&error));
}

#[tokio::test]
async fn a_success_is_believed_only_with_a_good_signature() {
    let server = Server::start().await;
    let client = server.client();

    for (seal, fits) in [
        (
            Seal::None,
            (|error| matches!(error, VerifyError::MissingHeader(_))) as fn(&VerifyError) -> bool,
        ),
        (Seal::Stale, |error| matches!(error, VerifyError::Clock(-302..=-301))),
        (Seal::Probe, |error| *error == VerifyError::Probe),
        (Seal::WrongKey, |error| matches!(error, VerifyError::Signature(_))),
        (Seal::UnknownSerial, |error| {
            matches!(error, VerifyError::UnknownSerial(_))
        }),
    ] {
        server.script(Script {
            seal,
            ..Script::default()
        });
        let error = client[PATH].post(&json!({})).await.unwrap_err();

        assert_eq!(
            (error.is_ambiguous(), error.nothing_sent(), error.retry()),
            (true, false, Retry::Later)
        );
        assert_eq!(error.request_id(), Some("08F1-test"));
        let Error::Verify { source, .. } = &error else {
            panic!("{}", Chain(&error))
        };
        assert!(fits(source), "{source:?}");
    }
}

#[tokio::test]
async fn a_refusal_says_whether_it_was_signed() {
    let server = Server::start().await;
    let client = server.client();
    let body = r#"{"code":"FREQUENCY_LIMITED","message":"频率超限"}"#;

    for (seal, signed) in [(Seal::Good, true), (Seal::None, false), (Seal::Probe, false)] {
        let headers = vec![("Retry-After", "3".to_owned())];
        server.script(Script {
            status: 429,
            body: body.into(),
            seal,
            headers,
            ..Script::default()
        });
        let error = client[PATH].post(&json!({})).await.unwrap_err();

        assert!(
            matches!(error, Error::Api { verified, .. } if verified == signed),
            "{}",
            Chain(&error)
        );
        assert_eq!((error.status(), error.code()), (Some(429), Some("FREQUENCY_LIMITED")));
        assert_eq!(error.retry(), Retry::After(Duration::from_secs(3)));
        assert!(!error.is_ambiguous() && error.is_rate_limit());
    }
}

#[tokio::test]
async fn json_answers_are_read_after_verification() {
    #[derive(serde::Deserialize)]
    struct Status {
        points_commit_status: String,
    }
    let server = Server::start().await;
    let body = r#"{"points_commit_status":"PENDING","later":1}"#;
    server.script(Script {
        status: 200,
        body: body.into(),
        ..Script::default()
    });

    let answer = server.client().chain("v3/x").get().await.unwrap();

    assert_eq!(answer.json::<Status>().unwrap().points_commit_status, "PENDING");
    assert!(matches!(answer.json::<Vec<u8>>(), Err(Error::Decode { .. })));
}

#[tokio::test]
async fn it_is_known_when_nothing_was_sent() {
    let server = Server::start().await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let other_ca = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])
        .unwrap()
        .cert
        .pem();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = |url: String, ca: &str| {
        Client::builder(server.merchant(), server.platform())
            .base_url(url)
            .roots_pem(ca)
            .connect_timeout(Duration::from_millis(200))
            .build()
            .unwrap()
    };

    for (what, client) in [
        ("refused", client(format!("https://{unused}"), &server.ca_pem)),
        (
            "unknown name",
            client("https://no-such-host.invalid".to_owned(), &server.ca_pem),
        ),
        ("untrusted certificate", client(server.url(), &other_ca)),
        (
            "no TLS answer",
            client(format!("https://{}", silent.local_addr().unwrap()), &server.ca_pem),
        ),
    ] {
        let error = soon(client[PATH].post(&json!({}))).await.unwrap_err();

        assert!(
            matches!(
                &error,
                Error::Transport {
                    source: TransportError::Connect(_),
                    ..
                }
            ),
            "{what}: {}",
            Chain(&error)
        );
        assert_eq!(
            (error.nothing_sent(), error.is_ambiguous(), error.retry()),
            (true, false, Retry::Later),
            "{what}"
        );
    }
    assert!(server.take_arrived().is_empty());
}

#[tokio::test]
async fn a_lost_answer_is_ambiguous() {
    let server = Server::start().await;
    let client = Client::builder(server.merchant(), server.platform())
        .base_url(server.url())
        .roots_pem(&server.ca_pem)
        .request_timeout(Duration::from_millis(500))
        .max_answer_bytes(1000)
        .build()
        .unwrap();

    for (what, script) in [
        (
            "closed",
            Script {
                close: true,
                ..Script::default()
            },
        ),
        (
            "silent",
            Script {
                stall: true,
                ..Script::default()
            },
        ),
        (
            "too large",
            Script {
                status: 200,
                body: vec![b' '; 1001].into(),
                ..Script::default()
            },
        ),
    ] {
        server.script(script);
        let error = soon(client[PATH].post(&json!({}))).await.unwrap_err();

        assert!(matches!(error, Error::Transport { .. }), "{what}: {}", Chain(&error));
        assert_eq!(
            (error.nothing_sent(), error.is_ambiguous(), error.retry()),
            (false, true, Retry::Later),
            "{what}"
        );
        assert_eq!(
            server.take_arrived().len(),
            1,
            "{what}: sent once, never repeated by the client"
        );
    }
}

#[tokio::test]
async fn callers_beyond_the_bound_wait_and_are_served() {
    let server = Server::start().await;
    let client = Client::builder(server.merchant(), server.platform())
        .base_url(server.url())
        .roots_pem(&server.ca_pem)
        .max_in_flight(4)
        .build()
        .unwrap();

    let calls: Vec<_> = (0..64).map(|_| tokio::spawn(client[PATH].post(&json!({})))).collect();

    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    assert!(server.most_in_flight() <= 4, "{}", server.most_in_flight());
    assert_eq!(server.take_arrived().len(), 64);
}

#[tokio::test]
async fn waiting_for_a_slot_has_a_deadline() {
    let server = Server::start().await;
    server.script(Script {
        stall: true,
        ..Script::default()
    });
    let client = Client::builder(server.merchant(), server.platform())
        .base_url(server.url())
        .roots_pem(&server.ca_pem)
        .max_in_flight(1)
        .slot_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let first = tokio::spawn(client[PATH].post(&json!({})));
    while server.most_in_flight() == 0 {
        tokio::task::yield_now().await;
    }

    let error = client[PATH].post(&json!({})).await.unwrap_err();

    assert!(
        matches!(
            error,
            Error::Transport {
                source: TransportError::Busy(_),
                ..
            }
        ) && error.nothing_sent()
    );
    server.release();
    soon(first).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_is_kept_for_seven_seconds_and_no_longer() {
    let server = Server::start().await;
    let client = server.client();
    let after = async |seconds: f64| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs_f64(seconds)).await;
        tokio::time::resume();
        client[PATH].post(&json!({})).await.unwrap();
        server.connections()
    };

    assert_eq!(after(0.0).await, 1);
    assert_eq!(after(6.5).await, 1, "kept");
    assert_eq!(after(7.1).await, 2, "dropped before the platform closes it at 8 s");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_with_the_reason() {
    let server = Server::start().await;
    let refused = |change: fn(wechatpay::ClientBuilder) -> wechatpay::ClientBuilder| {
        let error = change(Client::builder(server.merchant(), server.platform()))
            .build()
            .unwrap_err();
        assert!(matches!(error, Error::Build { .. }) && error.nothing_sent());
        Chain(&error).to_string()
    };

    assert!(refused(|b| b.base_url("http://api.mch.weixin.qq.com")).contains("must start with https://"));
    assert!(refused(|b| b.base_url("https://proxy.example/wechat")).contains("must not have a path"));
    assert!(refused(|b| b.base_url("https://a:b@proxy.example")).contains("user name"));
    assert!(refused(|b| b.base_url("api.mch.weixin.qq.com")).contains("must be https://host"));
    assert!(refused(|b| b.roots_pem("nothing")).contains("no certificate"));
    assert!(refused(|b| b.max_in_flight(0)).contains("at least 1"));
    assert!(refused(|b| b.user_agent("a\nb")).contains("user agent"));
    let no_keys = Client::builder(server.merchant(), wechatpay::PlatformKeys::new())
        .build()
        .unwrap_err();
    assert!(Chain(&no_keys).to_string().contains("no platform key"));
    assert!(
        Client::builder(server.merchant(), server.platform())
            .base_url("http://127.0.0.1:1")
            .build()
            .is_ok()
    );
}

#[tokio::test]
async fn the_injected_clock_signs_and_judges() {
    let server = Server::start().await;
    let client = Client::builder(server.merchant(), server.platform())
        .base_url(server.url())
        .roots_pem(&server.ca_pem)
        .clock(|| jiff::Timestamp::from_second(1_700_000_000).unwrap())
        .build()
        .unwrap();

    let error = client[PATH].post(&json!({})).await.unwrap_err();

    assert!(
        matches!(
            error,
            Error::Verify {
                source: VerifyError::Clock(300..),
                ..
            }
        ),
        "{}",
        Chain(&error)
    );
    assert!(
        server.take_arrived()[0].headers["authorization"]
            .to_str()
            .unwrap()
            .contains("timestamp=\"1700000000\"")
    );
}

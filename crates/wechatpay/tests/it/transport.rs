//! Deadlines, bounds and connections, against a server that the tests hold by the hand.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::time::Duration;

use serde_json::json;
use wechatpay::{Chain, Client, Error, Retry, TransportError, VerifyError};

use crate::PATH;
use crate::server::{Script, Server, soon};

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
        let error = soon(client["v3/pay"].post(&json!({}))).await.unwrap_err();

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

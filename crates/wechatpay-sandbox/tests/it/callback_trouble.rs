//! Callbacks that go wrong: forged, late, doubled, to servers that are away, slow, distrusted or careless.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use wechatpay_sandbox::{Event, Progress, Purchase, Sandbox, Submission, Trick};

use crate::client::{parking, pem_to_der, report};
use crate::shop::{Answer, HOUR, OPENID, SUCCESS, Shop, sandbox, settled, tried};

#[tokio::test]
async fn forgeries_come_again_rightly_signed_once_refused() {
    for trick in [
        Trick::Probe,
        Trick::WrongSignature,
        Trick::StaleTimestamp,
        Trick::UnknownSerial,
        Trick::BadCiphertext,
    ] {
        let shop = Shop::start(|before, _| {
            if before == 0 {
                Answer::new(401, r#"{"code":"FAIL","message":"验签失败"}"#)
            } else {
                Answer::new(200, SUCCESS)
            }
        })
        .await;
        let sandbox = sandbox(&shop).await;
        sandbox.callbacks().next(trick);

        let id = sandbox.payments().pay(Purchase::new(OPENID, 1)).notification.unwrap();
        tried(&sandbox, &id, 1).await;
        sandbox.clock().advance(HOUR);
        let notification = settled(&sandbox, &id).await;

        let got = shop.got();
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].verifies(&sandbox), trick == Trick::BadCiphertext, "{trick:?}");
        assert!(got[1].verifies(&sandbox));
        assert_eq!(got[1].resource(&sandbox)["amount"], 1);
        assert_eq!(
            got[0].header("wechatpay-signature").starts_with("WECHATPAY/SIGNTEST/"),
            trick == Trick::Probe
        );
        assert_eq!(notification.attempts[0].status, Some(401));
    }
}

#[tokio::test]
async fn a_server_that_acknowledges_a_forgery_is_told_so() {
    let shop = Shop::content().await;
    let sandbox = sandbox(&shop).await;
    sandbox.callbacks().next(Trick::WrongSignature);

    let id = sandbox.payments().pay(Purchase::new(OPENID, 1)).notification.unwrap();
    let notification = tried(&sandbox, &id, 1).await;

    let failure = notification.attempts[0].failure.as_ref().unwrap();
    assert!(failure.starts_with("acknowledged although it was forged"), "{failure}");
    assert!(!notification.is_acknowledged());
}

#[tokio::test]
async fn duplicates_late_ones_and_resends_come() {
    let shop = Shop::content().await;
    let sandbox = sandbox(&shop).await;
    let callbacks = sandbox.callbacks();

    callbacks.next(Trick::Duplicate);
    let twice = sandbox.payments().pay(Purchase::new(OPENID, 1)).notification.unwrap();
    let duplicate = tried(&sandbox, &twice, 2).await;
    callbacks.next(Trick::Late(HOUR));
    let late = sandbox.payments().pay(Purchase::new(OPENID, 2)).notification.unwrap();
    let due = callbacks.next_due().unwrap();
    sandbox.clock().advance(HOUR);
    let late = settled(&sandbox, &late).await;
    assert!(callbacks.resend(&twice) && !callbacks.resend("nobody's"));
    let again = tried(&sandbox, &twice, 3).await;

    assert_eq!(duplicate.progress, Progress::Acknowledged);
    assert!(duplicate.attempts.iter().all(|attempt| attempt.failure.is_none()));
    assert_eq!(due.duration_since(late.created_at).as_hours(), 1);
    assert_eq!(again.progress, Progress::Acknowledged);
    let ids: Vec<_> = shop.got().iter().map(|got| got.envelope()["id"].clone()).collect();
    assert_eq!(ids, [json!(twice), json!(twice), json!(late.id), json!(twice)]);
}

#[tokio::test]
async fn https_needs_a_certificate_that_is_trusted() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(pem_to_der(&key.serialize_pem())).unwrap(),
        )
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let shop = Shop::start_with(Some(tls), |_, _| Answer::new(200, SUCCESS)).await;
    let sandbox = sandbox(&shop).await;

    let id = sandbox.payments().pay(Purchase::new(OPENID, 1)).notification.unwrap();
    let distrusted = tried(&sandbox, &id, 1).await;
    sandbox.callbacks().trust(&certificate.pem());
    sandbox.clock().advance(HOUR);
    let trusted = settled(&sandbox, &id).await;

    let failure = distrusted.attempts[0].failure.as_ref().unwrap();
    assert!(failure.starts_with("TLS with 127.0.0.1"), "{failure}");
    assert_eq!(trusted.progress, Progress::Acknowledged);
}

#[tokio::test]
async fn a_server_that_is_away_or_slow_is_reported_as_such() {
    let slow = Shop::start(|before, _| {
        if before == 0 {
            std::thread::sleep(Duration::from_millis(2300));
        }
        Answer::new(200, SUCCESS)
    })
    .await;
    let sandbox = sandbox(&slow).await;

    let id = sandbox.payments().pay(Purchase::new(OPENID, 1)).notification.unwrap();
    let late = tried(&sandbox, &id, 1).await;
    let away = sandbox
        .callbacks()
        .send(Event::Payment, "http://127.0.0.1:9/notify", json!({}))
        .unwrap();
    let away = tried(&sandbox, &away, 1).await;

    assert_eq!(late.attempts[0].failure.as_deref(), Some("no answer within 2 s"));
    let failure = away.attempts[0].failure.as_ref().unwrap();
    assert!(failure.starts_with("cannot connect to 127.0.0.1:9"), "{failure}");
}

#[tokio::test]
async fn urls_that_wechat_pay_would_not_take_are_refused() {
    let sandbox = Sandbox::start().await.unwrap();
    for (url, good) in [
        ("https://mall.example.com/notify", true),
        ("http://127.0.0.1:8080/notify", true),
        ("http://[::1]:8080/notify", true),
        ("http://mall.example.com/notify", false),
        ("https://mall.example.com/notify?a=b", false),
        ("ftp://mall.example.com/notify", false),
        ("/notify", false),
        ("", false),
    ] {
        assert_eq!(sandbox.callbacks().set_payment_url(url).is_ok(), good, "{url}");
    }
}

#[tokio::test]
async fn without_a_url_nothing_is_sent() {
    let sandbox = Sandbox::start().await.unwrap();

    assert_eq!(sandbox.members().authorize(OPENID), None);
    report(&sandbox, &parking(&sandbox)).await;
    let payment = sandbox.payments().pay(Purchase::new(OPENID, 1));

    assert_eq!(
        (payment.submission, payment.notification),
        (Submission::Automatic, None)
    );
    assert!(sandbox.callbacks().all().is_empty());
}

#[tokio::test]
async fn an_observer_hears_of_every_try() {
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    let builder = Sandbox::builder().on_callback(move |event, _, attempt| {
        ears.lock()
            .unwrap()
            .push((event, attempt.status, attempt.failure.is_some()));
    });
    let sandbox = builder.start().await.unwrap();
    let shop = Shop::start(|before, _| Answer::new(if before == 0 { 500 } else { 204 }, "")).await;
    sandbox.callbacks().set_authorization_url(&shop.url()).unwrap();

    let id = sandbox.members().authorize(OPENID).unwrap();
    sandbox.clock().advance(HOUR);
    settled(&sandbox, &id).await;

    let event = Event::Authorization;
    assert_eq!(
        *heard.lock().unwrap(),
        [(event, Some(500), true), (event, Some(204), false)]
    );
}

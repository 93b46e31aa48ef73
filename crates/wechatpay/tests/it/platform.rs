//! Platform certificates that the client fetches, trusts and rotates by itself.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use serde_json::json;
use wechatpay::{ApiV3Key, Chain, Client, ClientBuilder, Error, Platform, PlatformError, Retry, VerifyError};
use wechatpay_sandbox::{Fault, KeyMode, Refusal, Sandbox};

use crate::{PATH, body, merchant, public_key};

fn api_v3_key(sandbox: &Sandbox) -> ApiV3Key {
    ApiV3Key::new(&sandbox.merchant().api_v3_key).unwrap()
}

fn fetching(sandbox: &Sandbox) -> ClientBuilder {
    with(sandbox, Platform::fetched(api_v3_key(sandbox)))
}

fn with(sandbox: &Sandbox, platform: Platform) -> ClientBuilder {
    Client::builder(merchant(sandbox), platform)
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
}

/// How often the certificates were asked for.
fn fetched(sandbox: &Sandbox) -> usize {
    let calls = sandbox.ledger().calls();
    calls.iter().filter(|call| call.path == "/v3/certificates").count()
}

fn system_error() -> Fault {
    Fault::Refuse(Refusal::new(500, "SYSTEM_ERROR", "系统异常，请稍后重试"))
}

#[tokio::test]
async fn the_first_call_fetches_and_trusts_by_the_api_v3_key() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = fetching(&sandbox).build().unwrap();
    assert!(client.platform_keys().is_empty());

    let calls: Vec<_> = (0..16)
        .map(|_| tokio::spawn(client[PATH].post(&body(&sandbox, &json!({})))))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }

    assert_eq!(fetched(&sandbox), 1, "one refresh for all sixteen");
    let keys = client.platform_keys();
    let serial = &sandbox.merchant().platform_certificate_serial;
    assert_eq!(keys.sealing().map(|key| key.id()), Some(serial.as_str()));
}

#[test]
fn the_blocking_client_fetches_too() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sandbox = runtime.block_on(Sandbox::start()).unwrap();
    let client = wechatpay::blocking::Client::builder(merchant(&sandbox), Platform::fetched(api_v3_key(&sandbox)))
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .build()
        .unwrap();

    client[PATH].post(&body(&sandbox, &json!({}))).unwrap();
    assert_eq!(client.refresh_platform_keys().unwrap().iter().count(), 1);
    assert_eq!(fetched(&sandbox), 2);
}

#[tokio::test]
async fn nothing_is_sent_while_no_answer_could_be_believed() {
    let sandbox = Sandbox::start().await.unwrap();
    let wrong = with(&sandbox, Platform::fetched(ApiV3Key::new([b'x'; 32]).unwrap()))
        .build()
        .unwrap();
    let valid = body(&sandbox, &json!({}));

    let error = wrong[PATH].post(&valid).await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Keys {
                source: PlatformError::Unreadable(_)
            }
        ),
        "{}",
        Chain(&error)
    );
    assert!(Chain(&error).to_string().contains("check the APIv3 key"));
    assert_eq!((error.nothing_sent(), error.retry()), (true, Retry::Never));

    for (fault, message) in [
        (Fault::Unsigned, "header Wechatpay-Timestamp is missing"),
        (Fault::WrongSignature, "the signature does not match"),
        (Fault::SignatureProbe, "probes"),
        (Fault::UnknownSerial, "is not held"),
        (system_error(), "SYSTEM_ERROR"),
    ] {
        sandbox.faults().next(fault);
        let error = fetching(&sandbox).build().unwrap()[PATH]
            .post(&valid)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Keys { .. }) && error.retry() == Retry::Later);
        assert!(Chain(&error).to_string().contains(message), "{}", Chain(&error));
    }
    assert!(sandbox.ledger().parkings().is_empty());
}

#[tokio::test]
async fn a_merchant_without_certificates_is_told_about_the_public_key() {
    let sandbox = Sandbox::builder()
        .key_mode(KeyMode::PublicKeyOnly)
        .start()
        .await
        .unwrap();

    let error = fetching(&sandbox).build().unwrap()[PATH]
        .post(&body(&sandbox, &json!({})))
        .await
        .unwrap_err();

    assert!(matches!(
        &error,
        Error::Keys {
            source: PlatformError::NoCertificates { .. }
        }
    ));
    assert!(
        Chain(&error).to_string().contains("with_public_key"),
        "{}",
        Chain(&error)
    );
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn a_failing_refresh_never_blocks_calls_that_can_be_verified() {
    // After the migration there are no certificates, yet the client still asks for them.
    let sandbox = Sandbox::builder()
        .key_mode(KeyMode::PublicKeyOnly)
        .start()
        .await
        .unwrap();
    let platform = Platform::fetched(api_v3_key(&sandbox)).with(public_key(&sandbox));
    let client = with(&sandbox, platform).build().unwrap();

    for _ in 0..4 {
        client[PATH].post(&body(&sandbox, &json!({}))).await.unwrap();
    }
    let error = client.refresh_platform_keys().await.unwrap_err();

    assert!(matches!(error, PlatformError::NoCertificates { .. }));
    assert!(client.platform_keys().public_key().is_some());
    assert!(fetched(&sandbox) <= 2, "once beside the calls, once when asked to");
}

#[tokio::test]
async fn both_kinds_verify_during_the_migration() {
    let sandbox = Sandbox::start().await.unwrap();
    let platform = Platform::fetched(api_v3_key(&sandbox)).with(public_key(&sandbox));
    let client = with(&sandbox, platform).build().unwrap();
    let merchant = sandbox.merchant();
    let valid = body(&sandbox, &json!({}));

    let by_default = client[PATH].post(&valid).await.unwrap();
    let asked = client
        .chain(PATH)
        .header("Wechatpay-Serial", &merchant.platform_certificate_serial)
        .post(&valid)
        .await
        .unwrap();

    assert_eq!(
        by_default.headers()["wechatpay-serial"],
        merchant.public_key_id.as_str()
    );
    assert_eq!(
        asked.headers()["wechatpay-serial"],
        merchant.platform_certificate_serial.as_str()
    );
    let keys = client.platform_keys();
    assert_eq!(
        keys.sealing().map(|key| key.id()),
        Some(merchant.public_key_id.as_str())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_in_mid_traffic_at_64_concurrent_calls_loses_no_call() {
    let sandbox = Arc::new(Sandbox::builder().cached_signatures(true).start().await.unwrap());
    let client = fetching(&sandbox).max_in_flight(64).build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (client, sandbox, stop) = (client.clone(), sandbox.clone(), stop.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::SeqCst) {
                    let outcome = client[PATH].post(&body(&sandbox, &json!({}))).await;
                    outcome.unwrap_or_else(|error| panic!("{}", Chain(&error)));
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let more = async |calls: usize| {
        let goal = sandbox.ledger().len() + calls;
        assert!(
            sandbox
                .ledger()
                .wait_for(|ledger| ledger.len() >= goal, std::time::Duration::from_secs(60))
                .await
        );
    };

    more(64).await;
    let new = sandbox.platform().rotate().await.unwrap();
    sandbox.platform().sign_with_newest(0.25);
    more(128).await;
    sandbox.platform().sign_with_newest(1.0);
    more(128).await;
    sandbox.platform().expire_old();
    more(128).await;
    stop.store(true, Ordering::SeqCst);

    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    assert!(calls >= 448);
    assert_eq!(fetched(&sandbox), 2, "at the start and for the new serial");
    assert!(client.platform_keys().find(&new).is_some());
}

#[tokio::test]
async fn an_unknown_serial_is_asked_for_once_and_then_rate_limited() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = fetching(&sandbox).build().unwrap();
    let valid = body(&sandbox, &json!({}));
    client[PATH].post(&valid).await.unwrap();

    for _ in 0..3 {
        sandbox.faults().next(Fault::UnknownSerial);
        let error = client[PATH].post(&valid).await.unwrap_err();
        assert!(
            matches!(
                &error,
                Error::Verify {
                    source: VerifyError::UnknownSerial(_) | VerifyError::NotFetched { .. },
                    ..
                }
            ),
            "{}",
            Chain(&error)
        );
    }

    assert_eq!(fetched(&sandbox), 2);
}

#[tokio::test]
async fn keys_are_refreshed_by_time_beside_the_calls() {
    let sandbox = Sandbox::start().await.unwrap();
    let offset = Arc::new(AtomicI64::new(0));
    let shifted = offset.clone();
    let client = fetching(&sandbox)
        .clock(move || jiff::Timestamp::now() + jiff::SignedDuration::from_secs(shifted.load(Ordering::SeqCst)))
        .build()
        .unwrap();
    let valid = body(&sandbox, &json!({ "time": "2022-06-01T10:43:39+08:00" }));
    client[PATH].post(&valid).await.unwrap();
    client[PATH].post(&valid).await.unwrap();
    assert_eq!(fetched(&sandbox), 1);
    let new = sandbox.platform().rotate().await.unwrap();

    offset.store(6 * 3600, Ordering::SeqCst);
    sandbox.set_clock_offset(6 * 3600);
    client[PATH].post(&valid).await.unwrap();

    while client.platform_keys().find(&new).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fetched(&sandbox), 2);
    assert_eq!(client.platform_keys().iter().count(), 2, "old and new side by side");
    assert_eq!(client.platform_keys().sealing().map(|key| key.id()), Some(new.as_str()));
}

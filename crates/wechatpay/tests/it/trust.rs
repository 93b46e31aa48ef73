//! Which answers are believed: a success only with a good signature, a refusal always, marked.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::time::Duration;

use serde_json::json;
use wechatpay::{Chain, Error, Retry, VerifyError};
use wechatpay_sandbox::{Fault, Sandbox};

use crate::server::{Script, Server};
use crate::{PATH, body, builder, client};

#[tokio::test]
async fn a_success_is_believed_only_with_a_good_signature() {
    type Fits = fn(&VerifyError) -> bool;
    let sandbox = Sandbox::start().await.unwrap();
    let client = client(&sandbox);
    let rows: [(Fault, Fits); 5] = [
        (Fault::Unsigned, |error| matches!(error, VerifyError::MissingHeader(_))),
        (Fault::StaleTimestamp, |error| {
            matches!(error, VerifyError::Clock(-610..=-590))
        }),
        (Fault::SignatureProbe, |error| *error == VerifyError::Probe),
        (Fault::WrongSignature, |error| {
            matches!(error, VerifyError::Signature(_))
        }),
        (Fault::UnknownSerial, |error| {
            matches!(error, VerifyError::UnknownSerial(_))
        }),
    ];

    for (fault, fits) in rows {
        sandbox.faults().next(fault.clone());
        let error = client[PATH].post(&body(&sandbox, &json!({}))).await.unwrap_err();

        assert_eq!(
            (error.is_ambiguous(), error.nothing_sent(), error.retry()),
            (true, false, Retry::Later),
            "{fault:?}"
        );
        assert!(error.request_id().is_some());
        let Error::Verify { source, .. } = &error else {
            panic!("{fault:?}: {}", Chain(&error))
        };
        assert!(fits(source), "{fault:?}: {source:?}");
    }
    assert_eq!(
        sandbox.ledger().parkings().len(),
        5,
        "all were carried out, none was repeated"
    );
}

#[tokio::test]
async fn a_refusal_says_whether_it_was_signed() {
    let signing = Sandbox::start().await.unwrap();
    let silent = Sandbox::builder().sign_refusals(false).start().await.unwrap();

    for (sandbox, signed) in [(&signing, true), (&silent, false)] {
        sandbox.faults().next(Fault::RateLimited { retry_after_s: Some(3) });
        let error = client(sandbox)[PATH]
            .post(&body(sandbox, &json!({})))
            .await
            .unwrap_err();

        assert!(
            matches!(error, Error::Api { verified, .. } if verified == signed),
            "{}",
            Chain(&error)
        );
        assert_eq!((error.status(), error.code()), (Some(429), Some("RATELIMIT_EXCEEDED")));
        assert_eq!(error.retry(), Retry::After(Duration::from_secs(3)));
        assert!(!error.is_ambiguous() && error.is_rate_limit());
    }
}

#[tokio::test]
async fn certificate_and_public_key_both_verify_during_the_migration() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();
    let both = crate::public_key(&sandbox)
        .with_certificate(&merchant.platform_certificate_pem)
        .unwrap();
    let client = wechatpay::Client::builder(crate::merchant(&sandbox), both)
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .build()
        .unwrap();

    let call = client.chain(PATH);
    let (certificate, public_key) = (&merchant.platform_certificate_serial, &merchant.public_key_id);
    for (call, serial) in [
        (call.header("Wechatpay-Serial", certificate), certificate),
        (call, public_key),
    ] {
        let answer = call.post(&body(&sandbox, &json!({}))).await.unwrap();
        assert_eq!(answer.headers()["wechatpay-serial"], serial.as_str());
    }
}

#[tokio::test]
async fn the_clock_is_told_with_its_seconds_and_its_direction() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = builder(&sandbox)
        .clock(|| jiff::Timestamp::now() - jiff::SignedDuration::from_secs(400))
        .build()
        .unwrap();

    let error = client[PATH].post(&body(&sandbox, &json!({}))).await.unwrap_err();

    let shown = Chain(&error).to_string();
    assert_eq!((error.status(), error.code()), (Some(401), Some("SIGN_ERROR")));
    assert!(
        shown.contains("the local clock is 400 s behind") || shown.contains("the local clock is 401 s behind"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_verified_success_that_is_not_done_is_no_success() {
    let sandbox = Sandbox::start().await.unwrap();
    let server = Server::start().await;
    server.script(Script {
        status: 202,
        ..Script::default()
    });

    let report = crate::state(&sandbox);
    let error = server
        .client()
        .business_circle()
        .report_parking(&report)
        .await
        .unwrap_err();

    assert!(matches!(error, Error::Decode { .. }), "{}", Chain(&error));
}

#[tokio::test]
async fn json_answers_are_read_after_verification() {
    #[derive(serde::Deserialize)]
    struct Status {
        points_commit_status: String,
    }
    let server = Server::start().await;
    server.script(Script {
        status: 200,
        body: r#"{"points_commit_status":"PENDING","later":1}"#.into(),
        ..Script::default()
    });

    let answer = server.client().chain("v3/x").get().await.unwrap();

    assert_eq!(answer.json::<Status>().unwrap().points_commit_status, "PENDING");
    assert!(matches!(answer.json::<Vec<u8>>(), Err(Error::Decode { .. })));
}

//! Misbehaviour: what the caller sees, and what the ledger knows.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::time::{Duration, Instant};

use wechatpay_sandbox::{Answer, Fault, FaultPlan, Sandbox, TlsFault};

use crate::client::{Connection, Reply, Signed, get, parking, report, send};

async fn struck(sandbox: &Sandbox, fault: Fault) -> Result<Reply, hyper::Error> {
    sandbox.faults().next(fault);
    send(sandbox, Signed::post(sandbox, &parking(sandbox)).signed_by(sandbox)).await
}

#[tokio::test]
async fn server_errors_write_nothing() {
    let sandbox = Sandbox::start().await.unwrap();

    for (fault, line) in [
        (Fault::SystemError, "500 SYSTEM_ERROR 系统异常，请稍后重试"),
        (Fault::BadGateway, "502"),
        (Fault::Unavailable, "503"),
    ] {
        assert_eq!(struck(&sandbox, fault).await.unwrap().line(), line);
    }
    let limited = struck(&sandbox, Fault::RateLimited { retry_after_s: Some(3) })
        .await
        .unwrap();
    assert_eq!(limited.status, 429);
    assert_eq!(limited.json()["code"], "RATELIMIT_EXCEEDED");
    assert_eq!(limited.header("retry-after"), "3");
    let limited = struck(&sandbox, Fault::RateLimited { retry_after_s: None })
        .await
        .unwrap();
    assert_eq!(limited.header("retry-after"), "");

    assert!(sandbox.ledger().parkings().is_empty());
    assert!(
        sandbox
            .ledger()
            .calls()
            .iter()
            .all(|call| !call.committed && call.fault.is_some())
    );
    assert_eq!(report(&sandbox, &parking(&sandbox)).await.line(), "204");
}

#[tokio::test]
async fn a_reset_before_the_commit_leaves_nothing() {
    let sandbox = Sandbox::start().await.unwrap();

    let error = struck(&sandbox, Fault::ResetBeforeCommit).await.err().unwrap();

    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    assert_eq!(
        cause.map(std::io::Error::kind),
        Some(std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
    let [call] = sandbox.ledger().calls().try_into().unwrap();
    assert_eq!((call.answer, call.committed, call.status), (Answer::Reset, false, None));
    assert_eq!(sandbox.ledger().accepted(), 0);
}

#[tokio::test]
async fn a_dropped_reply_comes_after_the_commit() {
    let sandbox = Sandbox::start().await.unwrap();

    let lost = struck(&sandbox, Fault::DropReplyAfterCommit).await;
    let again = report(&sandbox, &parking(&sandbox)).await;

    assert!(lost.err().unwrap().is_incomplete_message());
    assert_eq!(again.line(), "204");
    let answered: Vec<_> = sandbox
        .ledger()
        .parkings()
        .iter()
        .map(|parking| parking.answered)
        .collect();
    assert_eq!(answered, [false, true]);
    assert_eq!(sandbox.ledger().calls()[0].answer, Answer::Dropped);
}

#[tokio::test]
async fn silence_lasts_until_the_caller_gives_up() {
    let sandbox = Sandbox::start().await.unwrap();

    for (fault, committed) in [(Fault::NoAnswer, true), (Fault::NoAnswerBeforeCommit, false)] {
        let waited = tokio::time::timeout(Duration::from_millis(200), struck(&sandbox, fault)).await;
        assert!(waited.is_err());
        let call = sandbox.ledger().calls().pop().unwrap();
        assert_eq!((call.answer, call.committed), (Answer::Silent, committed));
    }
    assert_eq!(report(&sandbox, &parking(&sandbox)).await.line(), "204");
}

#[tokio::test]
async fn latency_delays_a_good_answer() {
    let sandbox = Sandbox::start().await.unwrap();
    let started = Instant::now();

    let reply = struck(&sandbox, Fault::Latency(Duration::from_millis(150)))
        .await
        .unwrap();

    assert_eq!(reply.line(), "204");
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn spoilt_signatures_do_not_verify_though_the_call_was_carried_out() {
    let sandbox = Sandbox::start().await.unwrap();

    let unsigned = struck(&sandbox, Fault::Unsigned).await.unwrap();
    assert!(unsigned.is_unsigned());
    for fault in [
        Fault::WrongSignature,
        Fault::StaleTimestamp,
        Fault::UnknownSerial,
        Fault::SignatureProbe,
    ] {
        let reply = struck(&sandbox, fault.clone()).await.unwrap();
        assert_eq!(reply.line(), "204");
        assert!(!reply.verifies(&sandbox), "{fault:?}");
        let is_probe = reply.header("wechatpay-signature").starts_with("WECHATPAY/SIGNTEST/");
        assert_eq!(is_probe, fault == Fault::SignatureProbe);
    }
    assert!(report(&sandbox, &parking(&sandbox)).await.verifies(&sandbox));
    assert_eq!(sandbox.ledger().accepted(), 6);
}

#[tokio::test]
async fn a_fault_waits_for_a_call_that_passes_authentication() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.faults().next(Fault::BadGateway);

    let refused = send(&sandbox, Signed::post(&sandbox, &parking(&sandbox)).build())
        .await
        .unwrap();
    let struck = report(&sandbox, &parking(&sandbox)).await;

    assert_eq!(refused.status, 401);
    assert_eq!(struck.line(), "502");
}

#[tokio::test]
async fn a_plan_strikes_the_same_calls_for_the_same_seed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let sandbox = Sandbox::start().await.unwrap();
        sandbox.faults().plan(
            FaultPlan::seeded(9)
                .with(Fault::BadGateway, 0.3)
                .with(Fault::Unavailable, 0.2),
        );
        let mut connection = Connection::open(&sandbox).await;
        let mut lines = Vec::new();
        for _ in 0..30 {
            let request = Signed::post(&sandbox, &parking(&sandbox)).signed_by(&sandbox);
            lines.push(connection.send(request).await.unwrap().line());
        }
        sandbox.faults().clear();
        assert_eq!(report(&sandbox, &parking(&sandbox)).await.line(), "204");
        runs.push(lines);
    }

    assert_eq!(runs[0], runs[1]);
    for line in ["204", "502", "503"] {
        assert!(runs[0].iter().any(|seen| seen == line), "{line} in {:?}", runs[0]);
    }
}

#[tokio::test]
async fn a_reset_after_the_commit_leaves_the_call_carried_out() {
    let sandbox = Sandbox::start().await.unwrap();

    let error = struck(&sandbox, Fault::ResetAfterCommit).await.err().unwrap();

    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    assert_eq!(
        cause.map(std::io::Error::kind),
        Some(std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
    let [call] = sandbox.ledger().calls().try_into().unwrap();
    assert_eq!((call.answer, call.committed), (Answer::Dropped, true));
}

#[tokio::test]
async fn a_slow_body_is_slow_and_whole() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.faults().next(Fault::SlowBody(Duration::from_millis(300)));
    let started = Instant::now();

    let reply = get(&sandbox, "/v3/certificates").await;

    assert!(started.elapsed() >= Duration::from_millis(250));
    assert!(reply.verifies(&sandbox));
}

#[tokio::test]
async fn a_truncated_body_breaks_the_connection() {
    let sandbox = Sandbox::start().await.unwrap();
    let certificates = || Signed::new(&sandbox, "GET", "/v3/certificates", String::new()).signed_by(&sandbox);

    sandbox.faults().next(Fault::TruncatedBody);
    let with_a_body = send(&sandbox, certificates()).await;
    let without = struck(&sandbox, Fault::TruncatedBody).await;

    assert!(with_a_body.is_err() && without.is_err());
    assert_eq!(sandbox.ledger().accepted(), 1, "carried out all the same");
}

#[tokio::test]
async fn an_oversized_body_has_no_announced_length() {
    let sandbox = Sandbox::start().await.unwrap();

    let reply = struck(&sandbox, Fault::OversizedBody(3_000_000)).await.unwrap();

    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 3_000_000));
    assert_eq!(reply.header("content-length"), "");
    assert!(!reply.verifies(&sandbox));
}

#[tokio::test]
async fn tls_fails_once_in_each_way() {
    let sandbox = Sandbox::start().await.unwrap();

    for (fault, words) in [
        (TlsFault::Alert, "HandshakeFailure"),
        (TlsFault::Untrusted, "UnknownIssuer"),
        (TlsFault::Expired, "Expired"),
        (TlsFault::WrongName, "NotValidForName"),
    ] {
        sandbox.faults().next_handshake(fault);
        let error = Connection::try_open(&sandbox).await.err().unwrap();
        assert!(format!("{error:?}").contains(words), "{fault:?}: {error:?}");
    }
    assert_eq!(report(&sandbox, &parking(&sandbox)).await.line(), "204");
}

#[tokio::test]
async fn a_rule_strikes_one_endpoint_only() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.faults().on("/v3/certificates", Fault::Unavailable, Some(1));

    let parking = report(&sandbox, &parking(&sandbox)).await;
    let struck = get(&sandbox, "/v3/certificates").await;
    let after = get(&sandbox, "/v3/certificates").await;

    assert_eq!(
        (parking.line(), struck.line(), after.status.as_u16()),
        ("204".into(), "503".into(), 200)
    );
}

//! Starting, connections, bounds, the ledger, stopping.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::Full;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wechatpay_sandbox::{Answer, Sandbox, StartError};

use crate::client::{Connection, PARKINGS, Signed, parking, report, send};

#[tokio::test]
async fn every_answer_carries_the_common_headers() {
    let sandbox = Sandbox::start().await.unwrap();

    let good = report(&sandbox, &parking(&sandbox)).await;
    let lost = send(&sandbox, Request::get("/").body(Full::default()).unwrap())
        .await
        .unwrap();

    for reply in [&good, &lost] {
        assert_eq!(reply.header("keep-alive"), "timeout=8");
        assert!(reply.header("date").ends_with(" GMT"));
        assert!(!reply.header("x-wechatpay-sandbox").is_empty());
    }
    let ids: Vec<_> = sandbox
        .ledger()
        .calls()
        .into_iter()
        .map(|call| call.request_id)
        .collect();
    assert_eq!(ids, [good.header("request-id"), lost.header("request-id")]);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn plain_http_answers_as_https_does() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut connection = Connection::open_plain(&sandbox).await;

    let reply = connection
        .send(Signed::post(&sandbox, &parking(&sandbox)).signed_by(&sandbox))
        .await
        .unwrap();

    assert_eq!(reply.line(), "204");
    assert!(reply.verifies(&sandbox));
}

#[tokio::test]
async fn plain_http_stays_on_the_loopback() {
    let refused = Sandbox::builder()
        .listen_http("0.0.0.0:0".parse().unwrap())
        .start()
        .await;

    assert!(matches!(refused, Err(StartError::HttpNotLoopback(_))));
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let first = Sandbox::start().await.unwrap();
    let taken = first.base_url().strip_prefix("https://").unwrap().parse().unwrap();

    let refused = Sandbox::builder().listen(taken).start().await.unwrap_err();

    assert!(refused.to_string().contains(&taken.to_string()), "{refused}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_kept() {
    let idle = Duration::from_secs(1);
    let sandbox = Sandbox::builder().keep_alive(idle).start().await.unwrap();
    let mut connection = Connection::open(&sandbox).await;
    let started = Instant::now();

    for _ in 0..4 {
        tokio::time::sleep(idle / 4).await;
        let request = Signed::post(&sandbox, &parking(&sandbox)).signed_by(&sandbox);
        assert_eq!(connection.send(request).await.unwrap().line(), "204");
    }

    assert!(started.elapsed() >= idle);
    assert!(!connection.is_closed());
    assert!(connection.closed(idle * 5).await);
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused() {
    let sandbox = Sandbox::start().await.unwrap();
    let huge = json!({ "note": "x".repeat(1 << 20) });
    let mut connection = Connection::open(&sandbox).await;

    let reply = connection.send(Signed::post(&sandbox, &huge).signed_by(&sandbox)).await;

    // The platform stops reading; whether the caller sees the answer or the closed connection first is a race.
    if let Ok(reply) = reply {
        assert_eq!(reply.line(), "413");
    }
    let [call] = sandbox.ledger().calls().try_into().unwrap();
    assert_eq!((call.status, call.body.len(), call.committed), (Some(413), 0, false));
}

#[tokio::test]
async fn half_a_request_is_no_call() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut stream = TcpStream::connect(sandbox.http_url().strip_prefix("http://").unwrap())
        .await
        .unwrap();

    stream
        .write_all(format!("POST {PARKINGS} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{{").as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;

    assert!(answer.is_empty());
    assert!(sandbox.ledger().is_empty());
}

#[tokio::test]
async fn garbage_on_the_wire_harms_nobody() {
    let sandbox = Sandbox::start().await.unwrap();
    for url in [sandbox.http_url(), sandbox.base_url()] {
        let address = url.split_once("://").unwrap().1;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"\x00\xff\x16\x03 garbage \r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }

    assert_eq!(report(&sandbox, &parking(&sandbox)).await.line(), "204");
    assert_eq!(sandbox.ledger().len(), 1);
}

#[tokio::test]
async fn the_ledger_keeps_the_order_of_arrival() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut connection = Connection::open(&sandbox).await;

    for number in 0..5 {
        let mut body = parking(&sandbox);
        body["openid"] = format!("o{number}").into();
        if number == 3 {
            body["state"] = "".into();
        }
        connection
            .send(Signed::post(&sandbox, &body).signed_by(&sandbox))
            .await
            .unwrap();
    }

    let ledger = sandbox.ledger();
    let calls: Vec<_> = ledger
        .calls()
        .iter()
        .map(|call| (call.number, call.status, call.committed))
        .collect();
    assert_eq!(
        calls,
        [
            (1, Some(204), true),
            (2, Some(204), true),
            (3, Some(204), true),
            (4, Some(400), false),
            (5, Some(204), true)
        ]
    );
    let parkings: Vec<_> = ledger
        .parkings()
        .iter()
        .map(|parking| (parking.call, parking.openid.clone()))
        .collect();
    assert_eq!(
        parkings,
        [(1, "o0".into()), (2, "o1".into()), (3, "o2".into()), (5, "o4".into())]
    );
    let fourth = &ledger.calls()[3];
    assert_eq!((&*fourth.code, fourth.answer), ("PARAM_ERROR", Answer::Sent));
    assert_eq!(fourth.json().unwrap()["openid"], "o3");
    assert_eq!((ledger.len(), ledger.accepted()), (5, 4));
}

#[tokio::test]
async fn a_test_can_wait_for_what_it_expects() {
    let sandbox = Sandbox::start().await.unwrap();
    let ledger = sandbox.ledger();
    let body = parking(&sandbox);

    let (seen, _) = tokio::join!(
        ledger.wait_for(
            |ledger| ledger.parkings().iter().any(|parking| parking.answered),
            Duration::from_secs(10)
        ),
        report(&sandbox, &body),
    );

    assert!(seen);
    assert!(
        !ledger
            .wait_for(|ledger| ledger.len() == 2, Duration::from_millis(20))
            .await
    );
}

#[tokio::test]
async fn cached_signatures_repeat_within_a_second_and_still_verify() {
    let sandbox = Sandbox::builder().cached_signatures(true).start().await.unwrap();
    let mut nonces = Vec::new();
    let mut connection = Connection::open(&sandbox).await;
    for _ in 0..20 {
        let request = Signed::post(&sandbox, &parking(&sandbox)).signed_by(&sandbox);
        let reply = connection.send(request).await.unwrap();
        assert!(reply.verifies(&sandbox));
        nonces.push((
            reply.header("wechatpay-timestamp").to_owned(),
            reply.header("wechatpay-nonce").to_owned(),
        ));
    }

    for pair in nonces.windows(2) {
        assert_eq!(pair[0].0 == pair[1].0, pair[0].1 == pair[1].1);
    }
    nonces.dedup();
    assert!(nonces.len() < 20);
}

#[tokio::test]
async fn stopping_closes_the_ports_and_leaves_the_ledger() {
    let sandbox = Sandbox::start().await.unwrap();
    let (ledger, url) = (
        sandbox.ledger(),
        sandbox.http_url().strip_prefix("http://").unwrap().to_owned(),
    );
    let mut connection = Connection::open(&sandbox).await;
    connection
        .send(Signed::post(&sandbox, &parking(&sandbox)).signed_by(&sandbox))
        .await
        .unwrap();

    sandbox.stop();

    assert!(connection.closed(Duration::from_secs(5)).await);
    assert!(TcpStream::connect(url).await.is_err());
    assert_eq!(ledger.accepted(), 1);
}

#[tokio::test]
async fn a_hundred_sandboxes_start_quickly_once_keys_are_there() {
    let first = Sandbox::start().await.unwrap();
    let started = Instant::now();
    let mut all = Vec::new();

    for _ in 0..100 {
        all.push(Sandbox::start().await.unwrap());
    }

    let each = started.elapsed() / 100;
    assert!(each < Duration::from_millis(50), "{each:?} each");
    assert_eq!(all[99].merchant().mchid, first.merchant().mchid);
    assert_eq!(report(&all[99], &parking(&all[99])).await.line(), "204");
    assert!(all[0].ledger().is_empty());
}

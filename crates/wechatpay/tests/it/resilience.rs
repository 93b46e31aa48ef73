//! What a client does about a bad network: the other domain, a fresh connection, another try, and bounds on all of it.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use wechatpay::{Chain, Client, ClientBuilder, Domain, Error, RetryPolicy, TransportError};
use wechatpay_sandbox::{Fault, Sandbox};

use crate::server::{Script, Server, soon};
use crate::{PATH, body, builder};

fn of(server: &Server) -> ClientBuilder {
    Client::builder(server.merchant(), server.platform())
        .base_url(server.url())
        .roots_pem(&server.ca_pem)
}

/// An address that takes connections and never says a word.
fn silent() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn the_main_domain_going_away_costs_no_call_more_than_its_connect_timeout() {
    let server = Server::start().await;
    let (_silent, main) = silent();
    let client = of(&server)
        .base_url(main)
        .backup_url(server.url())
        .connect_timeout(Duration::from_millis(300))
        .build()
        .unwrap();

    let first: Vec<_> = (0..16)
        .map(|_| {
            let call = client[PATH].post(&json!({}));
            tokio::spawn(async move {
                let started = Instant::now();
                (call.await, started.elapsed())
            })
        })
        .collect();
    for call in first {
        let (outcome, took) = soon(call).await.unwrap();
        outcome.unwrap();
        assert!(took < Duration::from_millis(300) * 4, "{took:?}");
    }
    let started = Instant::now();
    for _ in 0..4 {
        client[PATH].post(&json!({})).await.unwrap();
    }

    assert!(
        started.elapsed() < Duration::from_millis(300),
        "the main domain is left alone"
    );
    assert_eq!(server.take_arrived().len(), 20);
}

#[tokio::test]
async fn the_choice_of_a_domain_can_be_told_and_followed() {
    let server = Server::start().await;
    let (silent, main) = silent();
    silent.set_nonblocking(true).unwrap();
    let client = of(&server).base_url(main).backup_url(server.url()).build().unwrap();
    assert_eq!(client.domain(), Domain::Main);

    assert!(client.use_domain(Domain::Backup));
    soon(client[PATH].post(&json!({}))).await.unwrap();
    assert!(!client.use_domain(Domain::Main), "each choice stays for 30 s");

    assert_eq!(client.domain(), Domain::Backup);
    assert_eq!(server.take_arrived().len(), 1);
    assert!(silent.accept().is_err(), "nobody called the main domain");
    let alone = of(&server).build().unwrap();
    assert!(!alone.use_domain(Domain::Backup), "there is none");
}

#[tokio::test]
async fn only_a_failure_to_connect_moves_a_call() {
    let (main, backup) = (Server::start().await, Server::start().await);
    let client = of(&main)
        .backup_url(backup.url())
        .request_timeout(Duration::from_millis(300))
        .build()
        .unwrap();

    for script in [
        Script {
            status: 503,
            ..Script::default()
        },
        Script {
            close: true,
            ..Script::default()
        },
        Script {
            stall: true,
            ..Script::default()
        },
    ] {
        main.script(script);
        soon(client["v3/pay"].post(&json!({}))).await.unwrap_err();
    }

    assert_eq!(main.take_arrived().len(), 3);
    assert!(backup.take_arrived().is_empty() && backup.connections() == 0);
}

#[tokio::test]
async fn both_domains_gone_is_told_as_the_first_failure() {
    let server = Server::start().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let client = of(&server)
        .base_url(format!("https://{gone}"))
        .backup_url("https://no-such-host.invalid")
        .build()
        .unwrap();

    let error = soon(client[PATH].post(&json!({}))).await.unwrap_err();

    assert!(
        matches!(&error, Error::Transport { host, source: TransportError::Connect(_) } if *host == gone.to_string()),
        "{}",
        Chain(&error)
    );
    assert!(error.nothing_sent());
}

#[tokio::test]
async fn a_call_swallowed_by_a_stale_connection_is_sent_again_when_that_is_safe() {
    let server = Server::start().await;
    let client = of(&server).build().unwrap();
    client[PATH].post(&json!({})).await.unwrap();
    server.script(Script {
        close_reused: true,
        ..Script::default()
    });

    let safe = client[PATH].post(&json!({})).await;
    let arrived = server.take_arrived();
    let signed_anew = arrived[1].headers["authorization"] != arrived[2].headers["authorization"];

    safe.unwrap();
    assert_eq!((arrived.len(), server.connections(), signed_anew), (3, 2, true));
    arrived.iter().for_each(|request| server.assert_signed(request));

    client.chain("v3/x").get().await.unwrap();
    server.script(Script::default());
    client.chain("v3/pay").post(&json!({})).await.unwrap();
    server.script(Script {
        close_reused: true,
        ..Script::default()
    });
    let error = client.chain("v3/pay").post(&json!({})).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Transport {
                source: TransportError::Closed { reused: true, .. },
                ..
            }
        ) && error.is_ambiguous(),
        "{}",
        Chain(&error)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_callers_lose_no_call_while_the_server_reloads_eight_times() {
    let server = Server::start().await;
    let client = of(&server).build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (client, stop) = (client.clone(), stop.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::SeqCst) {
                    let outcome = client[PATH].post(&json!({})).await;
                    outcome.unwrap_or_else(|error| panic!("{}", Chain(&error)));
                    calls += 1;
                }
                calls
            })
        })
        .collect();

    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        server.reload();
    }
    stop.store(true, Ordering::SeqCst);

    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    assert!(
        calls > 100 && server.connections() > 16,
        "{calls} calls, {} connections",
        server.connections()
    );
}

#[tokio::test]
async fn a_cut_is_repeated_twice_at_once_and_further_by_the_opt_in_only() {
    let sandbox = Sandbox::start().await.unwrap();
    let valid = body(&sandbox, &json!({}));
    let cut = |times| {
        for _ in 0..times {
            sandbox.faults().next(Fault::DropReplyAfterCommit);
        }
    };

    cut(2);
    let client = builder(&sandbox).build().unwrap();
    client[PATH].post(&valid).await.unwrap();
    assert_eq!(
        sandbox.ledger().parkings().len(),
        3,
        "carried out thrice, which does no harm"
    );

    cut(3);
    let error = client[PATH].post(&valid).await.unwrap_err();
    assert!(error.is_ambiguous(), "{}", Chain(&error));
    assert_eq!(sandbox.ledger().len(), 6);

    cut(3);
    let patient = RetryPolicy::new(2).pauses(Duration::from_millis(1), Duration::from_millis(1));
    let client = builder(&sandbox).retry(patient).build().unwrap();
    client[PATH].post(&valid).await.unwrap();
    assert_eq!(sandbox.ledger().len(), 10);
}

#[tokio::test]
async fn the_opt_in_outlasts_what_passes_and_honours_retry_after() {
    let sandbox = Sandbox::start().await.unwrap();
    let quick = RetryPolicy::new(4).pauses(Duration::from_millis(10), Duration::from_millis(20));
    let client = builder(&sandbox).retry(quick.clone()).build().unwrap();
    let valid = body(&sandbox, &json!({}));

    for fault in [Fault::SystemError, Fault::Unavailable, Fault::SignatureProbe] {
        sandbox.faults().next(fault);
    }
    client[PATH].post(&valid).await.unwrap();
    sandbox.faults().next(Fault::RateLimited { retry_after_s: Some(1) });
    let started = Instant::now();
    client[PATH].post(&valid).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));

    sandbox.faults().next(Fault::RateLimited { retry_after_s: Some(7) });
    let short = builder(&sandbox)
        .retry(quick)
        .total_timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    let started = Instant::now();
    let error = short[PATH].post(&valid).await.unwrap_err();
    assert!(error.is_rate_limit() && started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice_by_the_opt_in() {
    let server = Server::start().await;
    let client = of(&server).retry(RetryPolicy::new(3)).build().unwrap();
    server.script(Script {
        close: true,
        ..Script::default()
    });

    client.chain("v3/pay").post(&json!({})).await.unwrap_err();
    assert_eq!(server.take_arrived().len(), 1);

    let quick = RetryPolicy::new(3).pauses(Duration::from_millis(1), Duration::from_millis(1));
    let client = of(&server).retry(quick).build().unwrap();
    client.chain("v3/pay").repeatable().post(&json!({})).await.unwrap_err();
    assert_eq!(
        server.take_arrived().len(),
        5,
        "marked as safe: twice at once, then by the policy"
    );
}

#[tokio::test]
async fn the_total_deadline_bounds_a_call_with_all_its_tries() {
    let server = Server::start().await;
    server.script(Script {
        stall: true,
        ..Script::default()
    });
    let client = of(&server)
        .retry(RetryPolicy::new(9))
        .total_timeout(Duration::from_millis(300))
        .build()
        .unwrap();

    let started = Instant::now();
    let error = soon(client[PATH].post(&json!({}))).await.unwrap_err();

    assert!(error.is_ambiguous() && started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_slot_back() {
    let server = Server::start().await;
    server.script(Script {
        stall: true,
        ..Script::default()
    });
    let client = of(&server).max_in_flight(1).build().unwrap();
    let dropped = tokio::spawn(client[PATH].post(&json!({})));
    while server.most_in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());

    server.script(Script::default());
    soon(client[PATH].post(&json!({}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_1024_callers_at_once_none_fails() {
    let sandbox = Sandbox::builder().cached_signatures(true).start().await.unwrap();
    let client = builder(&sandbox).build().unwrap();
    let valid = body(&sandbox, &json!({}));

    let calls: Vec<_> = (0..1024).map(|_| tokio::spawn(client[PATH].post(&valid))).collect();

    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(sandbox.ledger().parkings().len(), 1024);
}

#[tokio::test]
async fn an_answer_that_never_ends_is_ambiguous_and_not_repeated() {
    type Fits = fn(&TransportError) -> bool;
    let sandbox = Sandbox::start().await.unwrap();
    let client = builder(&sandbox)
        .request_timeout(Duration::from_millis(500))
        .max_answer_bytes(1 << 16)
        .build()
        .unwrap();
    let query = client["v3/businesscircle/user-authorizations/{openid}"]
        .bind("openid", "o-1")
        .query("appid", &sandbox.merchant().appid);
    let rows: [(Fault, Fits); 5] = [
        (Fault::OversizedBody(1 << 20), |error| {
            matches!(error, TransportError::TooLarge(65_536))
        }),
        (Fault::SlowBody(Duration::from_secs(2)), |error| {
            matches!(error, TransportError::Timeout(_))
        }),
        (Fault::NoAnswer, |error| matches!(error, TransportError::Timeout(_))),
        (Fault::NoAnswerBeforeCommit, |error| {
            matches!(error, TransportError::Timeout(_))
        }),
        (Fault::Latency(Duration::from_secs(2)), |error| {
            matches!(error, TransportError::Timeout(_))
        }),
    ];

    for (calls, (fault, fits)) in rows.into_iter().enumerate() {
        sandbox.faults().next(fault.clone());
        let error = soon(query.get()).await.expect_err(&format!("{fault:?}"));

        assert!(
            matches!(&error, Error::Transport { source, .. } if fits(source)),
            "{fault:?}: {}",
            Chain(&error)
        );
        assert_eq!((error.is_ambiguous(), error.nothing_sent()), (true, false), "{fault:?}");
        assert_eq!(sandbox.ledger().len(), calls + 1, "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_ambiguous_and_not_repeated() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let mut served = Vec::new();
        for answer in ["HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            served.push(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        served
    });
    // Plain, on this machine: so that the test decides what every byte is.
    let client = of(&server).base_url(format!("http://{address}")).build().unwrap();

    for _ in 0..2 {
        let error = soon(client["v3/x"].get()).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Transport {
                    source: TransportError::Broken(_),
                    ..
                }
            ) && error.is_ambiguous(),
            "{}",
            Chain(&error)
        );
    }
    assert_eq!(served.await.unwrap(), [true, true]);
}

#[tokio::test]
async fn resets_cost_a_parking_state_nothing() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = builder(&sandbox).build().unwrap();

    for fault in [
        Fault::ResetBeforeCommit,
        Fault::ResetAfterCommit,
        Fault::DropReplyAfterCommit,
    ] {
        sandbox.faults().next(fault);
        client[PATH].post(&body(&sandbox, &json!({}))).await.unwrap();
    }

    assert_eq!(
        sandbox.ledger().parkings().len(),
        5,
        "two of the three had been carried out before"
    );
}

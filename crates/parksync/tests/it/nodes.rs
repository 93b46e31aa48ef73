//! One process as a node: what it shares beside the lanes (which of WeChat Pay's two domains calls go to), and how it ends.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use parksync::clock::Clock;
use parksync::delivery::courier::{Courier, Road, WechatCourier};
use parksync::delivery::janitor::Janitor;
use parksync::delivery::node::{Node, Parts, terms};
use parksync::delivery::rates::Rates;
use parksync::delivery::worker::Worker;
use parksync::domain::delivery::{Delivery, Outcome, RetryPolicy};
use parksync::domain::gate::Direction;
use parksync::service::deliveries;
use parksync::store::{NodeCard, Store};
use tokio_util::sync::CancellationToken;
use wechatpay::{Client, Domain, Merchant, MerchantKey, PlatformKeys};
use wechatpay_sandbox::Sandbox;

use crate::app::PATIENCE;
use crate::contract::{at, event, member, on_every_store, plate, record};
use crate::port;

/// One node finds that the main domain is gone; the others use the backup without having called the main one.
#[tokio::test]
async fn what_one_node_finds_out_about_a_domain_the_others_follow() {
    on_every_store(|store| async move {
        let sandbox = Sandbox::start().await.unwrap();
        let gone = format!("https://127.0.0.1:{}", port::free());
        let (silent, main) = silent();
        let (one, other) = (client(&sandbox, &gone), client(&sandbox, &main));
        let nodes = [
            node(&store, &sandbox, "one", &one).await,
            node(&store, &sandbox, "other", &other).await,
        ];
        let tasks = nodes.map(|node| tokio::spawn(async move { node.run().await }));
        assert_eq!([one.domain(), other.domain()], [Domain::Main; 2]);

        let accepted = courier(&sandbox, &one).deliver(&delivery(&sandbox)).await;
        assert!(matches!(accepted, Outcome::Accepted { .. }), "{accepted:?}");

        let end = Instant::now() + PATIENCE;
        while other.domain() == Domain::Main {
            assert!(Instant::now() < end, "the other node still calls the main domain");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let accepted = courier(&sandbox, &other).deliver(&delivery(&sandbox)).await;
        assert!(matches!(accepted, Outcome::Accepted { .. }), "{accepted:?}");
        assert!(silent.accept().is_err(), "it called the main domain");
        // One that starts now hears it with its first beat.
        let late = client(&sandbox, &main);
        let started = node(&store, &sandbox, "late", &late).await;
        let task = tokio::spawn(async move { started.run().await });
        while late.domain() == Domain::Main {
            assert!(Instant::now() < end, "a new node calls the main domain");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for task in tasks.into_iter().chain([task]) {
            task.abort();
        }
    })
    .await;
}

/// A fault of ours that ends the deliveries is noticed, so that the process can be restarted.
#[tokio::test]
async fn deliveries_that_break_off_say_so() {
    on_every_store(|store| async move {
        let sandbox = Sandbox::start().await.unwrap();
        let client = client(&sandbox, sandbox.base_url());
        let circle = ("mall".to_owned(), sandbox.merchant().mchid.clone());
        store.set_circles(vec![circle]).await.unwrap();
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&*store, event(1, Direction::In, 0)).await;
        let clock = Clock::system();
        let worker = Worker {
            node: Arc::new(node(&store, &sandbox, "faulty", &client).await),
            store: Arc::clone(&store),
            courier: Arc::new(courier(&sandbox, &client)),
            clock: clock.clone(),
            policy: RetryPolicy::default(),
            max_in_flight: 1,
            look_again: Duration::from_secs(1),
            jitter: || panic!("a fault of ours"),
        };
        let janitor = Janitor {
            store: Arc::clone(&store),
            clock,
            lots: Vec::new(),
            strangers: SignedDuration::from_hours(24),
            visits: SignedDuration::from_hours(24 * 30),
        };
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());

        let threads = deliveries::start(worker, janitor, stop.clone(), ended.clone().drop_guard()).unwrap();

        tokio::time::timeout(PATIENCE, ended.cancelled()).await.unwrap();
        stop.cancel();
        tokio::task::spawn_blocking(move || threads.join())
            .await
            .unwrap()
            .unwrap();
    })
    .await;
}

/// A domain where somebody listens and nobody answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Its backup is the sandbox.
fn client(sandbox: &Sandbox, main: &str) -> Client {
    let merchant = sandbox.merchant();
    let key = MerchantKey::from_pem(&merchant.private_key_pem).unwrap();
    let platform = PlatformKeys::new()
        .with_public_key(&merchant.public_key_id, &merchant.public_key_pem)
        .unwrap();
    Client::builder(Merchant::new(&merchant.mchid, &merchant.serial_no, key), platform)
        .base_url(main)
        .backup_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .build()
        .unwrap()
}

fn courier(sandbox: &Sandbox, client: &Client) -> WechatCourier {
    let merchant = sandbox.merchant();
    let road = Road {
        merchant: merchant.mchid.clone(),
        client: client.clone(),
        brandid: merchant.brandid,
        sub_mchid: None,
    };
    WechatCourier::new(HashMap::from([("mall".to_owned(), road)]))
}

async fn node(store: &Arc<dyn Store>, sandbox: &Sandbox, name: &str, client: &Client) -> Node {
    let clock = Clock::system();
    let parts = Parts {
        store: Arc::clone(store),
        courier: Some(Arc::new(courier(sandbox, client))),
        card: NodeCard {
            name: name.to_owned(),
            role: "all",
            version: "test",
        },
        rates: Rates::new([sandbox.merchant().mchid.clone()], 100.0, clock.now()),
        clock,
        beat: Duration::from_millis(50),
        terms: terms(Duration::from_secs(10)),
    };
    Node::join(parts).await.unwrap()
}

fn delivery(sandbox: &Sandbox) -> Delivery {
    let mut member = member(1);
    member.appid = sandbox.merchant().appid.parse().unwrap();
    Delivery {
        id: 1,
        member,
        plate: plate(1),
        state: Direction::In,
        at: Timestamp::now(),
        enqueued_at: Timestamp::now(),
        tries: 0,
    }
}

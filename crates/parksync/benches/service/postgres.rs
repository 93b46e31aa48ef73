//! The same on PostgreSQL, and what only several nodes have. The server runs on this machine, too, with its own durable settings.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parksync::domain::delivery::{Outcome, Scope, Verdict};
use parksync::domain::member::{Appid, MemberKey, Openid};
use parksync::store::postgres::{Address, PgStore};
use parksync::store::{ClaimRequest, Lease, NodeCard, NodeId, Settled, Store};
use parksync::{config, service};

use crate::pg::Server;
use crate::process::{Bench, MALL, OTHER_MALL};
use crate::row;
use crate::waiting::{car, entry, median};

const SINGLES: u32 = 40_000;
const BATCHES: u32 = 600;
const BATCH: u32 = 64;
const LANES: u32 = 20_000;
const ROUNDS: usize = 5;

pub(crate) fn server() -> Server {
    Server::roomy(&tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep())
}

pub(crate) async fn prepare(server: &Server) -> (Bench, String) {
    let mut bench = Bench::prepare().await;
    let name = server.database();
    let address = Address::new(&server.url(&name), None, None).unwrap();
    PgStore::migrate(&address).await.unwrap();
    bench.use_database(server.url(&name));
    (bench, name)
}

pub(crate) async fn open(bench: &Bench, server: &Server, name: &str) -> Arc<PgStore> {
    let config = config::load(&bench.written.config, std::iter::empty()).unwrap();
    let vault = Arc::new(service::vault(&config).unwrap());
    let address = Address::new(&server.url(name), None, None).unwrap();
    Arc::new(PgStore::open(&address, vault).await.unwrap())
}

/// Events in over HTTP, through one node.
pub(crate) async fn intake(server: &Server) {
    let (mut bench, _) = prepare(server).await;
    bench.serve().await;
    let posts = bench.singles(SINGLES, None, false).await;
    row(
        "PostgreSQL: events acknowledged/s, single posts, 64 connections",
        &format!("{:.0}", posts.rate),
        &posts.waits.told(),
    );
    let rate = bench.batches(BATCHES, 0).await;
    row(
        "PostgreSQL: events acknowledged/s, batches of 100, 16 connections",
        &format!("{rate:.0}"),
        "",
    );
}

/// Claim and settle without the call between them.
pub(crate) async fn claims(server: &Server) {
    let (bench, name) = prepare(server).await;
    let store = open(&bench, server, &name).await;
    multiply(&bench, server, &name, &store, OTHER_MALL, 1).await;
    let alone = claim_rate(&bench, server, &name, &store).await;
    row(
        "PostgreSQL: lanes claimed and settled/s, batches of 64, no call",
        &format!("{alone:.0}"),
        "",
    );
    for (stuck, written) in [(100_000, "100,000"), (1_000_000, "1,000,000")] {
        multiply(&bench, server, &name, &store, OTHER_MALL, stuck).await;
        let held = "stuck".to_owned();
        store
            .hold(Scope::Circle, OTHER_MALL.to_owned(), held, Timestamp::now())
            .await
            .unwrap();
        let beside = claim_rate(&bench, server, &name, &store).await;
        row(
            &format!("PostgreSQL: the same beside {written} stuck lanes of another circle"),
            &format!("{beside:.0}"),
            &format!("{:.2} × without them", beside / alone),
        );
    }
}

/// The median of a few rounds.
async fn claim_rate(bench: &Bench, server: &Server, name: &str, store: &PgStore) -> f64 {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        multiply(bench, server, name, store, MALL, LANES).await;
        rates.push(claim_all(store).await);
    }
    median(rates)
}

/// Claims and settles all that is due. Returns lanes a second.
async fn claim_all(store: &PgStore) -> f64 {
    let node = join(store).await;
    let (began, mut lanes) = (Instant::now(), 0);
    let mut turn = 0;
    loop {
        let mut request = ClaimRequest::new(node, Timestamp::now(), BATCH);
        request.turn = turn;
        turn += 1;
        let leases = store.claim(request).await.unwrap();
        if leases.is_empty() {
            return f64::from(lanes) / began.elapsed().as_secs_f64();
        }
        lanes += u32::try_from(leases.len()).unwrap();
        store.settle(leases.into_iter().map(delivered).collect()).await.unwrap();
    }
}

pub(crate) async fn join(store: &PgStore) -> NodeId {
    let card = NodeCard {
        name: "bench".to_owned(),
        role: "worker",
        version: "0",
    };
    store.join(card).await.unwrap()
}

pub(crate) fn delivered(lease: Lease) -> Settled {
    Settled {
        lease,
        began_at: Timestamp::now(),
        took_ms: 1,
        outcome: Outcome::Accepted {
            request_id: "bench".to_owned(),
        },
        verdict: Verdict::Delivered,
    }
}

/// Makes many lanes with a message each, all copies of one real member's.
async fn multiply(bench: &Bench, server: &Server, name: &str, store: &PgStore, circle: &str, count: u32) {
    let merchant = bench.sandbox.merchant().mchid.clone();
    store.set_circles(vec![(circle.to_owned(), merchant)]).await.unwrap();
    let appid: Appid = bench.sandbox.merchant().appid.parse().unwrap();
    let member = MemberKey {
        circle: circle.to_owned(),
        appid,
        openid: Openid::parse("bench-openid-model").unwrap(),
    };
    let now = Timestamp::now();
    store.bind(member.clone(), vec![car(7)], false, now).await.unwrap();
    store.record(vec![entry(circle, 7, now)], Vec::new()).await.unwrap();
    let sql = format!(
        "BEGIN;
         CREATE TEMP TABLE model ON COMMIT DROP AS
           SELECT m.circle, m.appid, m.openid_sealed, d.event_id, d.plate_tag, d.plate_sealed, d.state, d.at, d.cause, d.not_before,
                  d.enqueued_at, l.circle_id
           FROM member m JOIN lane l ON l.member_id = m.id
           JOIN (SELECT * FROM message UNION ALL SELECT * FROM delivery) d ON d.member_id = m.id
           WHERE m.circle = '{circle}' LIMIT 1;
         CREATE TEMP TABLE new ON COMMIT DROP AS SELECT nextval(pg_get_serial_sequence('member', 'id')) AS id FROM generate_series(1, {count});
         INSERT INTO member SELECT new.id, circle, appid, decode(md5(new.id::text), 'hex'), openid_sealed, 0 FROM new, model;
         INSERT INTO message (member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at, status)
           SELECT new.id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at, 'waiting' FROM new, model;
         INSERT INTO lane (member_id, circle_id, due_at) SELECT new.id, circle_id, not_before FROM new, model;
         NOTIFY parksync_due, '0';
         COMMIT"
    );
    server.sql(name, &sql);
    server.sql(name, "VACUUM (ANALYZE) lane, message, member");
}

/// Four nodes against one, each held to eight calls under way, against an answer that takes 50 ms.
pub(crate) async fn nodes(server: &Server) {
    let mut rates = Vec::new();
    for count in [1, 4] {
        let (mut bench, name) = prepare(server).await;
        let store = open(&bench, server, &name).await;
        multiply(&bench, server, &name, &store, MALL, LANES).await;
        drop(store);
        let stub = bench.call_a_slow_stub(Duration::from_millis(50));
        let mut processes: Vec<Child> = (0..count)
            .map(|number| {
                bench
                    .command()
                    .args(["--role", "worker"])
                    .env("PARKSYNC__NODE__NAME", format!("node{number}"))
                    .env("PARKSYNC__SERVER__LISTEN", "127.0.0.1:0")
                    .env("PARKSYNC__DELIVERY__MAX_IN_FLIGHT", "8")
                    .spawn()
                    .unwrap()
            })
            .collect();
        stub.reached(200 * count, Duration::from_secs(60)).await;
        rates.push(stub.rate(1_500 * count).await);
        for process in &mut processes {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
    row(
        "PostgreSQL: deliveries/s of 4 nodes, 8 calls under way each, an answer after 50 ms",
        &format!("{:.0}", rates[1]),
        &format!("{:.2} × one node ({:.0}/s)", rates[1] / rates[0], rates[0]),
    );
}

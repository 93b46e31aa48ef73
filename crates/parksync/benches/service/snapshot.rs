//! A snapshot that somebody holds open: nothing that dies meanwhile can be cleared away, and claims must not wade through it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parksync::domain::gate::Direction;
use parksync::store::postgres::PgStore;
use parksync::store::{ClaimRequest, GateEvent, NodeId, Pulse, Store};
use tokio::time::MissedTickBehavior;
use tokio_postgres::{Client, NoTls};

use crate::pg::Server;
use crate::process::MALL;
use crate::row;
use crate::waiting::{bind, entry};
use crate::{postgres, process};

/// Each comes or goes every five minutes.
const CARS: u32 = 150_000;
const A_SECOND: u32 = 500;
/// So many events at once. A claim and a settle follow as often.
const AT_ONCE: u32 = 10;
/// Minutes without the snapshot, and with it.
const BEFORE: u32 = 2;
const HELD: u32 = 10;

pub(crate) async fn all(server: &Server) {
    let (bench, name) = postgres::prepare(server).await;
    let store = postgres::open(&bench, server, &name).await;
    bind(&bench, &store, MALL, 0..CARS, Timestamp::now()).await;
    let node = postgres::join(&store).await;
    let bare = bare_rows(&server.url(&name)).await;
    let mut turn = 0;
    let mut before: Option<Took> = None;
    let mut holder = None;
    for minute in 1..=BEFORE + HELD {
        if minute == BEFORE + 1 {
            holder = Some(hold_a_snapshot(&server.url(&name)).await);
        }
        let took = one_minute(&store, node, &bare, minute, &mut turn).await;
        let times = |now: Duration, before: Duration| now.as_secs_f64() / before.as_secs_f64();
        let ratio = before.as_ref().map_or_else(
            || {
                format!(
                    "the first minute; a bare row {:.2} ms",
                    took.bare.as_secs_f64() * 1000.0
                )
            },
            |before| {
                let (claim, bare) = (times(took.claim, before.claim), times(took.bare, before.bare));
                format!("{claim:.2} × before, a bare row {bare:.2} ×")
            },
        );
        row(
            &format!(
                "PostgreSQL: a claim at {A_SECOND} events/s, minute {minute}, {}",
                if holder.is_some() {
                    "snapshot held"
                } else {
                    "no snapshot"
                }
            ),
            &format!("{:.2} ms", took.claim.as_secs_f64() * 1000.0),
            &format!("{ratio}; settle {}; record {}", took.settle.told(), took.record.told()),
        );
        if holder.is_none() {
            before = Some(took);
        }
    }
}

async fn hold_a_snapshot(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let hold = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM lane";
    client.batch_execute(hold).await.unwrap();
    client
}

/// What is fixed: a row into a table that nothing else happens to, and its commit.
async fn bare_rows(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("CREATE TABLE bare (at timestamptz)")
        .await
        .unwrap();
    client
}

/// What a minute took: the medians of the claims that found something and of bare rows, and the others.
struct Took {
    claim: Duration,
    bare: Duration,
    settle: process::Waits,
    record: process::Waits,
}

async fn one_minute(store: &Arc<PgStore>, node: NodeId, bare: &Client, minute: u32, turn: &mut u64) -> Took {
    let events = tokio::spawn(record(Arc::clone(store), minute));
    let beats = tokio::spawn(beat(Arc::clone(store), node));
    let insert = bare.prepare("INSERT INTO bare VALUES (now())").await.unwrap();
    let (mut claims, mut settles, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    while !events.is_finished() {
        let began = Instant::now();
        *turn += 1;
        let mut request = ClaimRequest::new(node, Timestamp::now(), 64);
        request.turn = *turn;
        let leases = store.claim(request).await.unwrap();
        if leases.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        claims.push(began.elapsed());
        let began = Instant::now();
        let settled = leases.into_iter().map(postgres::delivered).collect();
        store.settle(settled).await.unwrap();
        settles.push(began.elapsed());
        let began_row = Instant::now();
        bare.execute(&insert, &[]).await.unwrap();
        rows.push(began_row.elapsed());
        let pause = Duration::from_millis(u64::from(1000 * AT_ONCE / A_SECOND));
        tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
    }
    beats.abort();
    let median = |mut all: Vec<Duration>| {
        all.sort();
        all[all.len() / 2]
    };
    Took {
        claim: median(claims),
        bare: median(rows),
        settle: process::Waits::of(settles),
        record: process::Waits::of(events.await.unwrap()),
    }
}

/// Cars come and go for a minute.
async fn record(store: Arc<PgStore>, minute: u32) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(u64::from(1000 * AT_ONCE / A_SECOND)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for from in (0..60 * A_SECOND).step_by(AT_ONCE as usize) {
        tick.tick().await;
        let now = Timestamp::now();
        let first = minute * 60 * A_SECOND + from;
        let events = (first..first + AT_ONCE).map(|number| crossing(number, now)).collect();
        let began = Instant::now();
        store.record(events, Vec::new()).await.unwrap();
        took.push(began.elapsed());
    }
    took
}

fn crossing(number: u32, now: Timestamp) -> GateEvent {
    let mut event = entry(MALL, number % CARS, now);
    if (number / CARS) % 2 == 1 {
        event.read.state = Direction::Out;
    }
    event
}

async fn beat(store: Arc<PgStore>, node: NodeId) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let pulse = Pulse {
            node,
            now: Timestamp::now(),
            in_flight: 0,
            sent: 0,
        };
        store.beat(pulse).await.unwrap();
        store.take_over().await.unwrap();
        store.counters().await.unwrap();
    }
}

//! What waits: drained against a stub, a million of it, and a million of it that is stuck.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parksync::domain::delivery::Scope;
use parksync::domain::gate::{Direction, Read, TimeSource};
use parksync::domain::member::{Appid, MemberKey, Openid};
use parksync::domain::plate::Plate;
use parksync::domain::presence::Policy;
use parksync::store::sqlite::SqliteStore;
use parksync::store::{GateEvent, Store};
use parksync::{config, service};
use tokio::task::JoinSet;

use crate::process::{Bench, MALL, OTHER_MALL};
use crate::{bare, row};

const MILLION: u32 = 1_000_000;
/// Rates are taken over so many calls, after as many as connections and caches need.
const CALLS: u64 = 8_000;
const WARM: u64 = 1_000;
const ROUNDS: usize = 3;
/// Members bound, or events recorded, at one time.
const AT_ONCE: u32 = 2_000;

/// How fast an outbox empties when WeChat Pay costs next to nothing, beside the signatures that this takes.
pub(crate) async fn drain() {
    let mut rates = Vec::new();
    let mut signs = Vec::new();
    for _ in 0..ROUNDS {
        let mut bench = Bench::prepare().await;
        fill(&bench, MALL, 30_000).await;
        signs.push(bare::signs());
        rates.push(drain_rate(&mut bench, 25_000).await);
        signs.push(bare::signs());
    }
    let (rate, signs) = (median(rates), median(signs));
    row(
        "deliveries/s to a stub with an answer signed in advance, over TLS",
        &format!("{rate:.0}"),
        &format!("{:.2} × bare RSA-2048 signs of both cores ({signs:.0}/s)", rate / signs),
    );
}

/// A million deliveries wait in a million lanes.
pub(crate) async fn million() {
    let mut full = Bench::prepare().await;
    let began = Instant::now();
    fill(&full, MALL, MILLION).await;
    let rate = f64::from(MILLION) / began.elapsed().as_secs_f64();
    row(
        "members bound and events recorded/s, inside the process",
        &format!("{rate:.0}"),
        "",
    );
    let mut starts = Vec::new();
    let (mut with_million, mut with_few) = (Vec::new(), Vec::new());
    let mut peak = 0;
    for _ in 0..ROUNDS {
        let stub = full.call_a_stub();
        let began = full.serve().await;
        stub.reached(WARM, Duration::from_secs(60)).await;
        starts.push(stub.first_call().unwrap().duration_since(began).as_secs_f64());
        with_million.push(stub.rate(CALLS).await);
        peak = peak.max(full.peak_mib());
        full.kill();
        let mut few = Bench::prepare().await;
        fill(&few, MALL, 10_000).await;
        with_few.push(drain_rate(&mut few, CALLS).await);
    }
    row(
        "memory with 1,000,000 waiting, while it drains",
        &format!("{peak} MiB"),
        "resident, at most",
    );
    row(
        "from start to the first call with 1,000,000 waiting",
        &format!("{:.2} s", median(starts)),
        "",
    );
    compare(
        "drain rate with 1,000,000 waiting",
        with_million,
        with_few,
        "with 10,000",
    );
    stuck(&mut full).await;
}

/// A million lanes of one circle are stuck; another circle does not notice.
async fn stuck(full: &mut Bench) {
    let store = open(full);
    store
        .hold(Scope::Circle, MALL.to_owned(), "stuck".to_owned(), Timestamp::now())
        .await
        .unwrap();
    drop(store);
    fill(full, OTHER_MALL, 40_000).await;
    let mut alone = Bench::prepare().await;
    fill(&alone, OTHER_MALL, 40_000).await;
    let (mut beside, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        beside.push(drain_rate(full, CALLS).await);
        without.push(drain_rate(&mut alone, CALLS).await);
    }
    compare(
        "drain rate of a circle beside 1,000,000 stuck lanes",
        beside,
        without,
        "without them",
    );
}

fn compare(figure: &str, these: Vec<f64>, those: Vec<f64>, than: &str) {
    let ratios = these.iter().zip(&those).map(|(this, that)| this / that).collect();
    row(
        figure,
        &format!("{:.0}/s", median(these)),
        &format!(
            "{:.2} × {than} ({:.0}/s); median of {ROUNDS} pairs",
            median(ratios),
            median(those)
        ),
    );
}

/// Starts the process, lets it call a stub, and kills it.
async fn drain_rate(bench: &mut Bench, calls: u64) -> f64 {
    let stub = bench.call_a_stub();
    bench.serve().await;
    stub.reached(WARM, Duration::from_secs(60)).await;
    let rate = stub.rate(calls).await;
    bench.kill();
    rate
}

fn open(bench: &Bench) -> Arc<SqliteStore> {
    let config = config::load(&bench.written.config, std::iter::empty()).unwrap();
    let vault = Arc::new(service::vault(&config).unwrap());
    Arc::new(SqliteStore::open(&config.store.path, vault).unwrap())
}

/// Puts so many members into the database of a process that does not run, each with a car that has just come.
async fn fill(bench: &Bench, circle: &str, count: u32) {
    let store = open(bench);
    let now = Timestamp::now();
    for from in (0..count).step_by(AT_ONCE as usize) {
        let cars = from..count.min(from + AT_ONCE);
        bind(bench, &store, circle, cars.clone(), now).await;
        let events = cars.map(|number| entry(circle, number, now)).collect();
        store.record(events, Vec::new()).await.unwrap();
    }
}

/// Binds each of these cars to a member of its own.
pub(crate) async fn bind<S: Store + 'static>(
    bench: &Bench,
    store: &Arc<S>,
    circle: &str,
    cars: Range<u32>,
    now: Timestamp,
) {
    let merchant = bench.sandbox.merchant().mchid.clone();
    store.set_circles(vec![(circle.to_owned(), merchant)]).await.unwrap();
    let appid: Appid = bench.sandbox.merchant().appid.parse().unwrap();
    let mut binds = JoinSet::new();
    for number in cars {
        if binds.len() >= AT_ONCE as usize {
            binds.join_next().await.transpose().unwrap();
        }
        let member = MemberKey {
            circle: circle.to_owned(),
            appid: appid.clone(),
            openid: Openid::parse(&format!("bench-openid-{number:08}")).unwrap(),
        };
        let store = Arc::clone(store);
        binds.spawn(async move { store.bind(member, vec![car(number)], false, now).await.unwrap() });
    }
    binds.join_all().await;
}

pub(crate) fn car(number: u32) -> Plate {
    const LETTERS: &[u8; 24] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
    let letter = char::from(LETTERS[(number / 100_000) as usize % LETTERS.len()]);
    Plate::from_stored(format!("宁{letter}{:05}", number % 100_000))
}

pub(crate) fn entry(circle: &str, number: u32, now: Timestamp) -> GateEvent {
    GateEvent {
        circle: circle.to_owned(),
        lot: "P1".to_owned(),
        gate: Some("E1".to_owned()),
        read: Read {
            plate: car(number),
            state: Direction::In,
            at: now,
            time_source: TimeSource::Sender,
            record_id: None,
            device: None,
            replayed: false,
        },
        received_at: now,
        policy: Policy::default(),
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

//! What the real `serve` process does on this machine: `cargo bench -p parksync --bench service [-- PART…]`.
//!
//! Prints one Markdown row per figure. Beside each stands a ratio to something fixed that was measured in the same run, since
//! machines differ and this one may be shared. Client, WeChat Pay and service share the cores. Parts: `intake`, `outbox`, `latency`,
//! `drain`, `million`; without one, all of these. And `postgres`, which wants Debian's package `postgresql`, or a third of it:
//! `pg-intake`, `pg-claims`, `pg-nodes`. And `pg-snapshot`, which takes twelve minutes.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures, prints and may panic"
)]

mod bare;
#[expect(
    dead_code,
    reason = "servers that are stopped and killed are for tests of several nodes"
)]
#[path = "../../tests/support/pg.rs"]
mod pg;
#[path = "../../tests/support/port.rs"]
mod port;
mod postgres;
mod process;
mod snapshot;
mod stub;
mod waiting;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use process::{Bench, Waits, plate};

const SENDERS: u32 = 64;
const SINGLES: u32 = 60_000;
const BATCHES: u32 = 1_000;
const BATCH: u32 = 100;
const WAITING: u32 = 100_000;

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    // `cargo test` builds benches and runs them with --test; the figures mean nothing there.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let parts: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| *asked == part);
    println!("| figure | value | beside |");
    println!("|---|---|---|");
    if is_asked("intake") {
        intake(bare::inserts()).await;
    }
    if is_asked("outbox") {
        outbox(bare::signs()).await;
    }
    if is_asked("latency") {
        latency().await;
    }
    if is_asked("drain") {
        waiting::drain().await;
    }
    if is_asked("million") {
        waiting::million().await;
    }
    let of_postgres = |part: &str| parts.iter().any(|asked| *asked == "postgres" || *asked == part);
    if of_postgres("pg-intake") {
        postgres::intake(&postgres::server()).await;
    }
    if of_postgres("pg-claims") {
        postgres::claims(&postgres::server()).await;
    }
    if parts.iter().any(|asked| *asked == "pg-snapshot") {
        snapshot::all(&postgres::server()).await;
    }
    if of_postgres("pg-nodes") {
        postgres::nodes(&postgres::server()).await;
    }
}

/// Events in: single posts and batches.
async fn intake(inserts: f64) {
    let bench = Bench::start(0).await;
    row(
        "memory at rest",
        &format!("{} MiB", bench.memory_mib()),
        "resident, just started",
    );
    let posts = bench.singles(SINGLES, None, false).await;
    let beside = format!(
        "{:.2} × bare row inserts with group commit ({inserts:.0}/s)",
        posts.rate / inserts
    );
    row(
        "events acknowledged/s, single posts, 64 connections",
        &format!("{:.0}", posts.rate),
        &beside,
    );
    row("… time to acknowledgement", &posts.waits.told(), "at full load");
    let rate = bench.batches(BATCHES, 0).await;
    let beside = format!("{:.2} × bare row inserts with group commit", rate / inserts);
    row(
        "events acknowledged/s, batches of 100, 16 connections",
        &format!("{rate:.0}"),
        &beside,
    );
    let posts = bench.singles(10_000, Some(1_000), true).await;
    row("time to acknowledgement at 1,000 events/s", &posts.waits.told(), "");
}

/// Events out: a hundred thousand waiting, then the drain to the sandbox.
async fn outbox(signs: f64) {
    let bench = Bench::start(WAITING).await;
    let rate = bench.batches(WAITING / BATCH, 1).await;
    row(
        "events of members acknowledged/s, batches of 100",
        &format!("{rate:.0}"),
        "each makes one delivery",
    );
    let ledger = bench.sandbox.ledger();
    let filled = ledger.accepted();
    row(
        "memory with 100,000 waiting",
        &format!("{} MiB", bench.memory_mib()),
        &format!("{filled} were out already"),
    );
    let goal = filled + 30_000;
    // The first ones are due a minute after they were posted.
    let minutes = Duration::from_secs(120);
    assert!(ledger.wait_for(|ledger| ledger.accepted() > filled, minutes).await);
    let first = Instant::now();
    assert!(ledger.wait_for(|ledger| ledger.accepted() >= goal, 3 * minutes).await);
    let rate = 30_000.0 / first.elapsed().as_secs_f64();
    let beside = format!(
        "{:.2} × bare RSA-2048 signs of both cores ({signs:.0}/s); the sandbox verifies on the same cores",
        rate / signs
    );
    row("deliveries/s to the sandbox over TLS", &format!("{rate:.0}"), &beside);
}

/// From a gate's post to the call that arrives at WeChat Pay: what comes after is WeChat Pay's time, not ours.
async fn latency() {
    const EVENTS: u32 = 15_000;
    const A_SECOND: u32 = 500;
    let bench = Bench::start(EVENTS).await;
    let posts = bench.singles(EVENTS, Some(A_SECOND), false).await;
    let ledger = bench.sandbox.ledger();
    let all = |ledger: &wechatpay_sandbox::Ledger| ledger.accepted() >= EVENTS as usize;
    assert!(ledger.wait_for(all, Duration::from_secs(60)).await);
    let numbers: HashMap<_, _> = (0..EVENTS).map(|number| (plate('Y', number), number)).collect();
    let waits = ledger.parkings().into_iter().map(|parking| {
        let should_leave = posts.began + Duration::from_secs(1) * numbers[&parking.plate_number] / A_SECOND;
        parking.received.saturating_duration_since(should_leave)
    });
    row(
        "gate → call at WeChat Pay, at 500 events/s",
        &Waits::of(waits.collect()).told(),
        &format!("acknowledged to the gate: {}", posts.waits.told()),
    );
}

fn row(figure: &str, value: &str, beside: &str) {
    println!("| {figure} | {value} | {beside} |");
}

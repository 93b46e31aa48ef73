//! What the real `serve` process does on this machine: `cargo bench -p parksync --bench service`.
//!
//! Prints one Markdown row per figure. Beside each stands a ratio to something fixed that was measured in the same run, since
//! machines differ and this one may be shared. Client, sandbox and service share the cores.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures, prints and may panic"
)]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use wechatpay_sandbox::{Folder, Sandbox};

const SENDERS: u32 = 64;
const SINGLES: u32 = 60_000;
const BATCHES: u32 = 1_000;
const BATCH: u32 = 100;
const WAITING: u32 = 100_000;

#[tokio::main]
async fn main() {
    // `cargo test` builds benches and runs them with --test; the figures mean nothing there.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("| figure | value | beside |");
    println!("|---|---|---|");
    let inserts = bare_inserts();
    let signs = bare_signs();
    intake(inserts).await;
    outbox(signs).await;
}

/// Events in: single posts and batches.
async fn intake(inserts: f64) {
    let bench = Bench::start(0).await;
    row(
        "memory at rest",
        &format!("{} MiB", bench.memory_mib()),
        "resident, just started",
    );
    let (rate, p50, p99) = bench.singles(SINGLES, None).await;
    let beside = format!(
        "{:.2} × bare row inserts with group commit ({inserts:.0}/s)",
        rate / inserts
    );
    row(
        "events acknowledged/s, single posts, 64 connections",
        &format!("{rate:.0}"),
        &beside,
    );
    row(
        "… time to acknowledgement",
        &format!("p50 {p50:.1} ms, p99 {p99:.1} ms"),
        "at full load",
    );
    let rate = bench.batches(BATCHES, 0).await;
    let beside = format!("{:.2} × bare row inserts with group commit", rate / inserts);
    row(
        "events acknowledged/s, batches of 100, 16 connections",
        &format!("{rate:.0}"),
        &beside,
    );
    let (_, p50, p99) = bench.singles(10_000, Some(1_000)).await;
    row(
        "time to acknowledgement at 1,000 events/s",
        &format!("p50 {p50:.1} ms, p99 {p99:.1} ms"),
        "",
    );
}

/// Events out: a hundred thousand waiting, then the drain.
async fn outbox(signs: f64) {
    let bench = Bench::start(WAITING).await;
    let rate = bench.batches(WAITING / BATCH, 1).await;
    row(
        "events of members acknowledged/s, batches of 100",
        &format!("{rate:.0}"),
        "each makes one delivery",
    );
    let filled = bench.sandbox.ledger().accepted();
    row(
        "memory with 100,000 waiting",
        &format!("{} MiB", bench.memory_mib()),
        &format!("{filled} were out already"),
    );
    let began = Instant::now();
    let goal = filled + 30_000;
    // The first ones are due a minute after they were posted.
    assert!(
        bench
            .sandbox
            .ledger()
            .wait_for(|ledger| ledger.accepted() > filled, Duration::from_secs(120))
            .await
    );
    let first = Instant::now();
    assert!(
        bench
            .sandbox
            .ledger()
            .wait_for(|ledger| ledger.accepted() >= goal, Duration::from_secs(300))
            .await
    );
    let rate = 30_000.0 / first.elapsed().as_secs_f64();
    let beside = format!(
        "{:.2} × bare RSA-2048 signs of both cores ({signs:.0}/s); the sandbox verifies on the same cores",
        rate / signs
    );
    row("deliveries/s to the sandbox over TLS", &format!("{rate:.0}"), &beside);
    row(
        "… waited until due",
        &format!("{:.0} s", (first - began).as_secs_f64()),
        "",
    );
}

fn row(figure: &str, value: &str, beside: &str) {
    println!("| {figure} | {value} | {beside} |");
}

struct Bench {
    sandbox: Sandbox,
    process: Child,
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    key: String,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn start(members: u32) -> Self {
        let sandbox = Sandbox::builder().cached_signatures(true).start().await.unwrap();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let written = sandbox.write_folder(folder.path()).unwrap();
        let settings = std::fs::read_to_string(&written.config)
            .unwrap()
            .replace("127.0.0.1:8080", &address.to_string());
        std::fs::write(&written.config, settings).unwrap();
        import(&written, folder.path(), members);
        let process = Command::new(env!("CARGO_BIN_EXE_parksync"))
            .args(["serve", "--config", written.config.to_str().unwrap()])
            .env("PARKSYNC__LOG__LEVEL", "error")
            .env("PARKSYNC__DELIVERY__CALLS_PER_SECOND", "100000")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(128)
            .build(connector);
        let key = std::fs::read_to_string(&written.gate_key).unwrap().trim().to_owned();
        let bench = Self {
            sandbox,
            process,
            client,
            address,
            key,
            _folder: folder,
        };
        while bench
            .client
            .get(format!("http://{address}/readyz").parse().unwrap())
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bench
    }

    fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// Single posts; as fast as they go, or `per_second`. Returns events a second, and p50 and p99 in milliseconds.
    async fn singles(&self, count: u32, per_second: Option<u32>) -> (f64, f64, f64) {
        let next = Arc::new(AtomicU32::new(0));
        let began = Instant::now();
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (client, address, key, next) =
                    (self.client.clone(), self.address, self.key.clone(), Arc::clone(&next));
                tokio::spawn(async move {
                    let mut waits = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return waits;
                        }
                        let mut sent = Instant::now();
                        if let Some(per_second) = per_second {
                            // Measured from when it should have left: a stall counts for all that it delays.
                            sent = began + Duration::from_secs_f64(f64::from(number) / f64::from(per_second));
                            tokio::time::sleep_until(sent.into()).await;
                        }
                        post(&client, address, &key, event(number, per_second.is_some(), 0)).await;
                        waits.push(sent.elapsed());
                    }
                })
            })
            .collect();
        let mut waits = Vec::new();
        for sender in senders {
            waits.extend(sender.await.unwrap());
        }
        let rate = f64::from(count) / began.elapsed().as_secs_f64();
        waits.sort();
        let share = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
        (rate, share(50), share(99))
    }

    /// Batches of a hundred. Events `minutes_ahead` wait that long before they are due.
    async fn batches(&self, batches: u32, minutes_ahead: i64) -> f64 {
        let next = Arc::new(AtomicU32::new(0));
        let began = Instant::now();
        let senders: Vec<_> = (0..16)
            .map(|_| {
                let (client, address, key, next) =
                    (self.client.clone(), self.address, self.key.clone(), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let batch = next.fetch_add(1, Ordering::Relaxed);
                        if batch >= batches {
                            return;
                        }
                        let events: Vec<_> = (0..BATCH)
                            .map(|place| event(batch * BATCH + place, false, minutes_ahead))
                            .collect();
                        post(&client, address, &key, format!("[{}]", events.join(","))).await;
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        f64::from(batches * BATCH) / began.elapsed().as_secs_f64()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn post(client: &Client<HttpConnector, Full<Bytes>>, address: SocketAddr, key: &str, body: String) {
    let request = Request::post(format!("http://{address}/v1/events"))
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let status = response.status();
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
}

/// A car of its own for every number, so that nothing is merged.
fn event(number: u32, other_cars: bool, minutes_ahead: i64) -> String {
    let at = jiff::Timestamp::now().as_second() + 60 * minutes_ahead - 1;
    let at = jiff::Timestamp::from_second(at).unwrap();
    let plate = plate(if other_cars { 'X' } else { 'Y' }, number);
    format!(
        "{{\"lot\":\"P1\",\"plate\":\"{plate}\",\"state\":\"IN\",\"time\":\"{at}\",\"id\":\"{number}-{minutes_ahead}\"}}"
    )
}

fn plate(authority: char, number: u32) -> String {
    const LETTERS: &[u8; 24] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
    let letter = char::from(LETTERS[(number / 10_000) as usize % LETTERS.len()]);
    format!("宁{authority}{letter}{:04}", number % 10_000)
}

fn import(written: &Folder, folder: &Path, members: u32) {
    if members == 0 {
        return;
    }
    let mut csv = "openid,plate\n".to_owned();
    for number in 0..members {
        csv.push_str(&format!("bench-openid-{number:08},{}\n", plate('Y', number)));
    }
    let file = folder.join("members.csv");
    std::fs::write(&file, csv).unwrap();
    let began = Instant::now();
    let import = Command::new(env!("CARGO_BIN_EXE_parksync"))
        .args([
            "members",
            "import",
            file.to_str().unwrap(),
            "--config",
            written.config.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    row(
        "members imported/s from CSV",
        &format!("{:.0}", f64::from(members) / began.elapsed().as_secs_f64()),
        "",
    );
}

/// Rows of 150 bytes into a table with a key that is looked up, a thousand to a commit, `synchronous=FULL`.
fn bare_inserts() -> f64 {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut db = rusqlite::Connection::open(folder.path().join("bare.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE row (id INTEGER PRIMARY KEY, key BLOB UNIQUE, text TEXT)")
        .unwrap();
    let began = Instant::now();
    for _ in 0..200 {
        let transaction = db.transaction().unwrap();
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO row (key, text) VALUES (?1, ?2)")
                .unwrap();
            for _ in 0..1000 {
                let mut key = [0; 16];
                aws_lc_rs::rand::fill(&mut key).unwrap();
                insert.execute((key, "x".repeat(120))).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    200_000.0 / began.elapsed().as_secs_f64()
}

/// RSA-2048 signatures a second, on as many threads as there are cores.
fn bare_signs() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut signature = vec![0; key.public_modulus_len()];
                for _ in 0..2000 {
                    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"message", &mut signature)
                        .unwrap();
                }
            });
        }
    });
    cores as f64 * 2000.0 / began.elapsed().as_secs_f64()
}

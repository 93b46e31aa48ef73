//! The real process, killed under load. What was acknowledged arrives, in order; repeats only where the outcome was unknown.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parksync::config;
use serde_json::json;
use wechatpay_sandbox::{Sandbox, State};

use crate::app::{Http, PATIENCE, now, write_settings};

const KILLS: u32 = 20;
/// Calls under way at one time.
const IN_FLIGHT: usize = 32;
const SENDERS: u32 = 8;
const CARS_PER_SENDER: u32 = 60;

/// What one car was acknowledged as, in order.
type Acknowledged = BTreeMap<String, Vec<(&'static str, i64)>>;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_lose_nothing_and_turn_nothing_round() {
    let sandbox = Sandbox::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let written = write_settings(&sandbox, folder.path(), &address.to_string());
    let gate_key = config::read_secret(&written.gate_key).unwrap();
    import_members(&written.config, folder.path());
    let http = Http::new(address);
    let done = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(Mutex::new(Acknowledged::new()));

    let mut process = serve(&written.config);
    wait_until_ready(&http).await;
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            tokio::spawn(send(
                sender,
                http.clone(),
                gate_key.clone(),
                Arc::clone(&done),
                Arc::clone(&acknowledged),
            ))
        })
        .collect();
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(u64::from(100 + (kill * 37) % 200))).await;
        process.kill().unwrap();
        process.wait().unwrap();
        process = serve(&written.config);
        wait_until_ready(&http).await;
    }
    done.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }

    let acknowledged = acknowledged.lock().unwrap().clone();
    let total: usize = acknowledged.values().map(Vec::len).sum();
    assert!(total > 500, "too little load to mean anything: {total} events");
    let all_there = sandbox
        .ledger()
        .wait_for(|ledger| distinct(&told(ledger)) >= total, PATIENCE * 3)
        .await;
    process.kill().unwrap();
    process.wait().unwrap();
    let told = told(&sandbox.ledger());
    assert!(all_there, "{} of {total} acknowledged events arrived", distinct(&told));
    let mut repeats = 0;
    for (car, expected) in &acknowledged {
        let mut states = told[car].clone();
        let before = states.len();
        states.dedup();
        repeats += before - states.len();
        assert_eq!(&states, expected, "{car}: lost, turned round, or repeated out of place");
    }
    // Each kill leaves at most what was in flight in doubt.
    assert!(repeats <= KILLS as usize * IN_FLIGHT, "{repeats} repeats");
    println!("{KILLS} kills, {total} acknowledged events, {repeats} repeats after an unknown outcome");
}

/// Posts entries and exits of its own cars, one after another, and posts again what was not acknowledged, as a gate does.
async fn send(sender: u32, http: Http, key: String, done: Arc<AtomicBool>, acknowledged: Arc<Mutex<Acknowledged>>) {
    let start = now().as_second() - 400;
    for round in 0.. {
        for car in 0..CARS_PER_SENDER {
            if done.load(Ordering::Relaxed) || round > 300 {
                return;
            }
            let plate = plate(sender, car);
            let state = if round % 2 == 0 { "IN" } else { "OUT" };
            let second = start + i64::from(round);
            let time = jiff::Timestamp::from_second(second).unwrap().to_string();
            let body = json!({ "lot": "P1", "gate": "G1", "plate": plate, "state": state, "time": time }).to_string();
            let end = Instant::now() + PATIENCE;
            loop {
                assert!(Instant::now() < end, "the service does not come back");
                let answer = http
                    .try_post("/v1/events", &key, "application/json", body.clone())
                    .await;
                if answer.is_ok_and(|answer| answer.status() == 200) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            acknowledged
                .lock()
                .unwrap()
                .entry(plate)
                .or_default()
                .push((state, second));
        }
    }
}

fn plate(sender: u32, car: u32) -> String {
    format!("宁Y{:05}", sender * 1000 + car + 1)
}

fn told(ledger: &wechatpay_sandbox::Ledger) -> HashMap<String, Vec<(&'static str, i64)>> {
    let mut told: HashMap<String, Vec<(&'static str, i64)>> = HashMap::new();
    for parking in ledger.parkings() {
        let state = if parking.state == State::In { "IN" } else { "OUT" };
        told.entry(parking.plate_number.clone())
            .or_default()
            .push((state, parking.at.as_second()));
    }
    told
}

fn distinct(told: &HashMap<String, Vec<(&'static str, i64)>>) -> usize {
    told.values()
        .map(|states| states.iter().collect::<std::collections::BTreeSet<_>>().len())
        .sum()
}

fn import_members(config: &Path, folder: &Path) {
    let mut csv = "openid,plate\n".to_owned();
    for sender in 0..SENDERS {
        for car in 0..CARS_PER_SENDER {
            csv.push_str(&format!("openid-{sender}-{car},{}\n", plate(sender, car)));
        }
    }
    let file = folder.join("members.csv");
    std::fs::write(&file, csv).unwrap();
    let import = Command::new(env!("CARGO_BIN_EXE_parksync"))
        .args([
            "members",
            "import",
            file.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
}

fn serve(config: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_parksync"))
        .env("PARKSYNC__DELIVERY__MAX_IN_FLIGHT", IN_FLIGHT.to_string())
        .args(["serve", "--config", config.to_str().unwrap()])
        .env("PARKSYNC__LOG__LEVEL", "off")
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn wait_until_ready(http: &Http) {
    let end = Instant::now() + PATIENCE;
    while http.try_post("/readyz", "", "text/plain", "").await.is_err() {
        assert!(Instant::now() < end, "the service does not start");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

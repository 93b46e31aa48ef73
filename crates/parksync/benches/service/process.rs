//! The real `serve` process with its folder, and the gates that post to it.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use wechatpay_sandbox::{Folder, Sandbox};

use crate::stub::Stub;
use crate::{BATCH, SENDERS, row};

/// The sandbox's own circle, and one beside it.
pub(crate) const MALL: &str = "demo-mall";
pub(crate) const OTHER_MALL: &str = "other-mall";

/// A folder with settings, keys and a database, and the process that serves it when it does.
pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) written: Folder,
    process: Option<Child>,
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    key: String,
    /// A PostgreSQL instead of the file of the settings.
    database: Option<String>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// From now on the process works on this PostgreSQL.
    pub(crate) fn use_database(&mut self, url: String) {
        self.database = Some(url);
    }

    /// A served folder with so many members.
    pub(crate) async fn start(members: u32) -> Self {
        let mut bench = Self::prepare().await;
        bench.import(members);
        bench.serve().await;
        bench
    }

    pub(crate) async fn prepare() -> Self {
        let sandbox = Sandbox::builder().cached_signatures(true).start().await.unwrap();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let written = sandbox.write_folder(folder.path()).unwrap();
        let settings = std::fs::read_to_string(&written.config)
            .unwrap()
            .replace("127.0.0.1:8080", &address.to_string());
        // A second mall of the same merchant.
        let circle = settings.find("[[circle]]").unwrap();
        let lot = settings.find("[[lot]]").unwrap();
        let other = settings[circle..lot].replace(MALL, OTHER_MALL);
        std::fs::write(&written.config, settings + "\n" + &other).unwrap();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(128)
            .build(connector);
        let key = std::fs::read_to_string(&written.gate_key).unwrap().trim().to_owned();
        Self {
            sandbox,
            written,
            process: None,
            client,
            address,
            key,
            database: None,
            _folder: folder,
        }
    }

    /// From now on a stub is WeChat Pay.
    pub(crate) fn call_a_stub(&mut self) -> Stub {
        self.call_a_slow_stub(Duration::ZERO)
    }

    /// … that answers after a while.
    pub(crate) fn call_a_slow_stub(&mut self, after: Duration) -> Stub {
        let known = self.sandbox.merchant();
        let stub = Stub::start(&known.public_key_id, after);
        let settings: Vec<_> = std::fs::read_to_string(&self.written.config)
            .unwrap()
            .lines()
            .map(|line| {
                if line.starts_with("base_url") {
                    format!("base_url = \"{}\"", stub.url)
                } else {
                    line.to_owned()
                }
            })
            .collect();
        std::fs::write(&self.written.config, settings.join("\n") + "\n").unwrap();
        std::fs::write(&self.written.ca, &stub.ca_pem).unwrap();
        std::fs::write(self.written.dir.join("keys/pub_key.pem"), &stub.public_key_pem).unwrap();
        stub
    }

    /// Starts the process. Returns when it was started, once it is ready.
    pub(crate) async fn serve(&mut self) -> Instant {
        let began = Instant::now();
        self.process = Some(self.command().spawn().unwrap());
        let ready = format!("http://{}/readyz", self.address);
        while self.client.get(ready.parse().unwrap()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began
    }

    /// How the process is started.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parksync"));
        command
            .args(["serve", "--config", self.written.config.to_str().unwrap()])
            .env("PARKSYNC__LOG__LEVEL", "error")
            .env("PARKSYNC__DELIVERY__CALLS_PER_SECOND", "100000")
            .stderr(Stdio::null());
        if let Some(url) = &self.database {
            command.env("PARKSYNC__STORE__URL", url);
        }
        command
    }

    /// Imports members, each with a car of [`event`].
    fn import(&self, members: u32) {
        if members == 0 {
            return;
        }
        let mut csv = "openid,plate\n".to_owned();
        for number in 0..members {
            csv.push_str(&format!("bench-openid-{number:08},{}\n", plate('Y', number)));
        }
        let file = self.written.dir.join("members.csv");
        std::fs::write(&file, csv).unwrap();
        let began = Instant::now();
        let import = Command::new(env!("CARGO_BIN_EXE_parksync"))
            .args(["members", "import", file.to_str().unwrap()])
            .args(["--circle", MALL, "--config", self.written.config.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
        let rate = f64::from(members) / began.elapsed().as_secs_f64();
        row(
            "members imported/s from CSV",
            &format!("{rate:.0}"),
            &format!("{members} lines"),
        );
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Resident memory now.
    pub(crate) fn memory_mib(&self) -> u64 {
        self.status_mib("VmRSS")
    }

    /// The most that was resident since the start.
    pub(crate) fn peak_mib(&self) -> u64 {
        self.status_mib("VmHWM")
    }

    fn status_mib(&self, name: &str) -> u64 {
        let process = self.process.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// Single posts; as fast as they go, or `per_second`.
    pub(crate) async fn singles(&self, count: u32, per_second: Option<u32>, strangers: bool) -> Posts {
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
                        post(&client, address, &key, event(number, strangers, 0)).await;
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
        Posts {
            began,
            rate,
            waits: Waits::of(waits),
        }
    }

    /// Batches of a hundred. Events `minutes_ahead` wait that long before they are due.
    pub(crate) async fn batches(&self, batches: u32, minutes_ahead: i64) -> f64 {
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
        self.kill();
    }
}

/// What a row of single posts came to.
pub(crate) struct Posts {
    /// The first one should have left then, and each later one its share of a second later.
    pub(crate) began: Instant,
    /// Acknowledged events a second.
    pub(crate) rate: f64,
    /// Until they were acknowledged.
    pub(crate) waits: Waits,
}

/// Times, the shortest first.
pub(crate) struct Waits(Vec<Duration>);

impl Waits {
    pub(crate) fn of(mut waits: Vec<Duration>) -> Self {
        waits.sort();
        Self(waits)
    }

    /// For a row: `p50 1.0 ms, p99 2.0 ms`.
    pub(crate) fn told(&self) -> String {
        let share = |percent: usize| self.0[(self.0.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
        format!("p50 {:.1} ms, p99 {:.1} ms", share(50), share(99))
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

pub(crate) fn plate(authority: char, number: u32) -> String {
    const LETTERS: &[u8; 24] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
    let letter = char::from(LETTERS[(number / 10_000) as usize % LETTERS.len()]);
    format!("宁{authority}{letter}{:04}", number % 10_000)
}

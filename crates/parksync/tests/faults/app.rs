//! A mall whose service is a process of its own, or several: started, asked, killed.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parksync::config;
use rustix::process::{Pid, Signal};
use wechatpay_sandbox::Sandbox;

use crate::{port, senders};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// How long a sender waits for its answer before it sends again.
const SENDER_PATIENCE: Duration = Duration::from_secs(2);
/// How long senders go to the other nodes after one did not answer, as behind a balancer.
const ELSEWHERE: Duration = Duration::from_secs(1);
/// How long a call to WeChat Pay may take. More than a busy machine needs, less than a stopped process sleeps.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

const MORE: &str = r#"
[delivery]
max_in_flight = 32
calls_per_second = 5000.0
connect_timeout_ms = 2000
request_timeout_ms = 3000
[[gate]]
lot = "P1"
id = "G1"
format = "generic"
"#;

/// A sandbox, and the settings of a service for it with its members.
pub(crate) struct Mall {
    pub(crate) sandbox: Sandbox,
    pub(crate) http: Http,
    pub(crate) gate_key: String,
    config: PathBuf,
    /// Where each node listens.
    addresses: Vec<SocketAddr>,
    /// The PostgreSQL of the nodes. Empty: an SQLite file.
    url: String,
}

impl Mall {
    /// Settings, keys and database are in `folder`.
    pub(crate) async fn open(folder: &Path) -> Self {
        Self::open_on(folder, "", 1).await
    }

    /// For so many nodes on a PostgreSQL.
    pub(crate) async fn open_on(folder: &Path, url: &str, nodes: usize) -> Self {
        let sandbox = Sandbox::start().await.unwrap();
        let addresses: Vec<SocketAddr> = (0..nodes).map(|_| ([127, 0, 0, 1], port::free()).into()).collect();
        let written = sandbox.write_folder(folder).unwrap();
        let text = std::fs::read_to_string(&written.config).unwrap();
        std::fs::write(&written.config, text + MORE).unwrap();
        let mall = Self {
            sandbox,
            http: Http::new(&addresses),
            gate_key: config::read_secret(&written.gate_key).unwrap(),
            config: written.config,
            addresses,
            url: url.to_owned(),
        };
        mall.run(&["migrate"]);
        let members = folder.join("members.csv");
        std::fs::write(&members, senders::members()).unwrap();
        mall.run(&["members", "import", members.to_str().unwrap()]);
        mall
    }

    /// Runs a command to its end.
    fn run(&self, words: &[&str]) {
        let ran = self.command(0, words).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// Whether a command does what it is told.
    pub(crate) fn succeeds(&self, words: &[&str]) -> bool {
        self.command(0, words).stderr(Stdio::null()).status().unwrap().success()
    }

    fn command(&self, node: usize, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        self.common(node, command.args(words));
        command
    }

    /// The floor of free disk is within reach of a small disk of its own.
    fn common<'a>(&self, node: usize, command: &'a mut Command) -> &'a mut Command {
        if self.nodes() > 1 {
            // So many processes crowd a small machine, and each call in doubt makes its lane wait: as patient as a claim allows.
            command
                .env("PARKSYNC__DELIVERY__CONNECT_TIMEOUT_MS", "5000")
                .env("PARKSYNC__DELIVERY__REQUEST_TIMEOUT_MS", "8000");
        }
        command
            .arg("--config")
            .arg(&self.config)
            .env("PARKSYNC__SERVER__LISTEN", self.addresses[node].to_string())
            .env("PARKSYNC__STORE__URL", &self.url)
            .env("PARKSYNC__NODE__NAME", node_name(node))
            .env("PARKSYNC__LOG__LEVEL", "off")
            .env("PARKSYNC__LIMITS__FREE_DISK_MIB", "1")
            .stdout(Stdio::null())
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.config.with_file_name("data").join("parksync.db")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.database().with_extension("db-wal")
    }

    /// Starts the service with more in its environment.
    pub(crate) fn serve(&self, environment: &[(&str, &str)]) -> Process {
        Process::start(self.command(0, &["serve"]).envs(environment.iter().copied()))
    }

    /// Starts one of several nodes. `PARKSYNC_NODE_LOGS` names a folder for what they say.
    pub(crate) fn serve_node(&self, node: usize) -> Process {
        let mut command = self.command(node, &["serve"]);
        let Some(folder) = std::env::var_os("PARKSYNC_NODE_LOGS") else {
            return Process::start(&mut command);
        };
        let name = format!("{}-{}.log", self.addresses[node].port(), node_name(node));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(Path::new(&folder).join(name));
        let log = log.unwrap();
        command.env("PARKSYNC__LOG__LEVEL", "info").stderr(log);
        Process(command.spawn().unwrap())
    }

    /// Starts the service as a child of a shell that ignores SIGXFSZ: a write past a limit then fails instead of killing.
    pub(crate) fn serve_without_sigxfsz(&self) -> Process {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM, "serve"]);
        Process::start(self.common(0, &mut shell))
    }

    pub(crate) fn nodes(&self) -> usize {
        self.addresses.len()
    }

    /// A way to one node.
    pub(crate) fn node(&self, node: usize) -> Http {
        Http::new(&self.addresses[node..=node])
    }

    /// Whether events are taken: status and `Retry-After` of `/readyz`. `None`: nobody answers.
    pub(crate) async fn readiness(&self) -> Option<(u16, bool)> {
        self.http.readiness().await
    }

    pub(crate) async fn wait_until_ready(&self) {
        wait_for("the service is not ready", async || {
            self.readiness().await == Some((200, false))
        })
        .await;
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_parksync");

pub(crate) fn node_name(node: usize) -> String {
    format!("node-{node}")
}

/// The service's process. It does not outlive the test.
pub(crate) struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.id(), signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// How it ended, if it did.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self, what: &str) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until it was killed at the place that its environment names.
    pub(crate) async fn killed_at(self, place: &str) {
        let status = self.ended(&format!("the process never came to {place}")).await;
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{place}: {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks again and again until it holds.
pub(crate) async fn wait_for(otherwise: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A small HTTP client, as impatient as a gate. With several nodes it takes turns, and leaves out who did not answer lately.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    doors: Arc<[Door]>,
    turn: Arc<AtomicUsize>,
}

struct Door {
    address: SocketAddr,
    silent_until: Mutex<Option<Instant>>,
}

impl Http {
    fn new(addresses: &[SocketAddr]) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let door = |address: &SocketAddr| Door {
            address: *address,
            silent_until: Mutex::default(),
        };
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            doors: addresses.iter().map(door).collect(),
            turn: Arc::default(),
        }
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: String) -> Option<Response<Bytes>> {
        self.send(Request::post(path), key, body).await
    }

    /// Status and `Retry-After` of `/readyz`. `None`: nobody answers.
    pub(crate) async fn readiness(&self) -> Option<(u16, bool)> {
        let response = self.send(Request::get("/readyz"), "", "").await?;
        let retry_after = response.headers().contains_key(header::RETRY_AFTER);
        Some((response.status().as_u16(), retry_after))
    }

    fn door(&self) -> &Door {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let at = |place: usize| &self.doors[(first + place) % self.doors.len()];
        let answers = |door: &&Door| {
            door.silent_until
                .lock()
                .unwrap()
                .is_none_or(|until| until < Instant::now())
        };
        (0..self.doors.len()).map(at).find(answers).unwrap_or(at(0))
    }

    /// The answer. `None`: none came, or too late.
    async fn send(
        &self,
        request: http::request::Builder,
        key: &str,
        body: impl Into<Bytes>,
    ) -> Option<Response<Bytes>> {
        let mut request = request
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .unwrap();
        let door = self.door();
        *request.uri_mut() = format!("http://{}{}", door.address, request.uri()).parse().unwrap();
        let answer = async {
            let (head, body) = self.client.request(request).await.ok()?.into_parts();
            Some(Response::from_parts(head, body.collect().await.ok()?.to_bytes()))
        };
        let answer = tokio::time::timeout(SENDER_PATIENCE, answer).await.ok().flatten();
        *door.silent_until.lock().unwrap() = answer.is_none().then(|| Instant::now() + ELSEWHERE);
        answer
    }
}

//! A mall whose service is a process of its own: started, asked, killed.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
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

use crate::senders;

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a sender waits for its answer before it sends again.
const SENDER_PATIENCE: Duration = Duration::from_secs(2);
/// How long a call to WeChat Pay may take. More than a busy machine needs, less than a stopped process sleeps.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

const MORE: &str = r#"
[delivery]
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
}

impl Mall {
    /// Settings, keys and database are in `folder`.
    pub(crate) async fn open(folder: &Path) -> Self {
        let sandbox = Sandbox::start().await.unwrap();
        let address = free_address();
        let written = sandbox.write_folder(folder).unwrap();
        let text = std::fs::read_to_string(&written.config).unwrap();
        std::fs::write(
            &written.config,
            text.replace("127.0.0.1:8080", &address.to_string()) + MORE,
        )
        .unwrap();
        let mall = Self {
            sandbox,
            http: Http::new(address),
            gate_key: config::read_secret(&written.gate_key).unwrap(),
            config: written.config,
        };
        mall.import_members(folder);
        mall
    }

    fn import_members(&self, folder: &Path) {
        let file = folder.join("members.csv");
        std::fs::write(&file, senders::members()).unwrap();
        let import = parksync(&self.config, &["members", "import", file.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.config.with_file_name("data").join("parksync.db")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.database().with_extension("db-wal")
    }

    /// Starts the service with more in its environment.
    pub(crate) fn serve(&self, environment: &[(&str, &str)]) -> Process {
        Process::start(parksync(&self.config, &["serve"]).envs(environment.iter().copied()))
    }

    /// Starts the service as a child of a shell that ignores SIGXFSZ: a write past a limit then fails instead of killing.
    pub(crate) fn serve_without_sigxfsz(&self) -> Process {
        Process::start(
            common(Command::new("sh").args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM, "serve"]))
                .arg("--config")
                .arg(&self.config),
        )
    }

    /// Whether events are taken: status and `Retry-After` of `/readyz`. `None`: nobody answers.
    pub(crate) async fn readiness(&self) -> Option<(u16, bool)> {
        let response = self.http.send(Request::get("/readyz"), "", "").await?;
        let retry_after = response.headers().contains_key(header::RETRY_AFTER);
        Some((response.status().as_u16(), retry_after))
    }

    pub(crate) async fn wait_until_ready(&self) {
        wait_for("the service is not ready", async || {
            self.readiness().await == Some((200, false))
        })
        .await;
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_parksync");

fn parksync(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    common(command.args(words).arg("--config").arg(config));
    command
}

/// The floor of free disk is within reach of a small disk of its own.
fn common(command: &mut Command) -> &mut Command {
    command
        .env("PARKSYNC__LOG__LEVEL", "off")
        .env("PARKSYNC__LIMITS__FREE_DISK_MIB", "1")
        .stdout(Stdio::null())
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

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A small HTTP client, as impatient as a gate.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

impl Http {
    fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            address,
        }
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: String) -> Option<Response<Bytes>> {
        self.send(Request::post(path), key, body).await
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
        *request.uri_mut() = format!("http://{}{}", self.address, request.uri()).parse().unwrap();
        let answer = async {
            let (head, body) = self.client.request(request).await.ok()?.into_parts();
            Some(Response::from_parts(head, body.collect().await.ok()?.to_bytes()))
        };
        tokio::time::timeout(SENDER_PATIENCE, answer).await.ok().flatten()
    }
}

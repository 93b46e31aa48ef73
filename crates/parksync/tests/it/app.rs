//! What the tests drive: a service and a sandbox, wired as in production, with a clock that is moved by hand.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use parksync::clock::Clock;
use parksync::config::{self, Config};
use parksync::service::Service;
use serde_json::{Value, json};
use wechatpay_sandbox::{Folder, Sandbox};

/// How long a test waits for something that must happen, in real time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct TestApp {
    pub(crate) sandbox: Sandbox,
    pub(crate) service: Service,
    pub(crate) clock: Clock,
    pub(crate) http: Http,
    pub(crate) config: Config,
    pub(crate) gate_key: String,
    pub(crate) admin_key: String,
    pub(crate) folder: tempfile::TempDir,
}

/// Lots and gates beside those that the sandbox writes: one of each format, and a lot without a zone.
const MORE: &str = r#"
[delivery]
calls_per_second = 5000.0
[[lot]]
id = "P2"
circle = "demo-mall"
[[lot]]
id = "P1-inner"
circle = "demo-mall"
zone = "+08:00"
inside_of = "P1"
[[lot]]
id = "P3"
circle = "demo-mall"
zone = "+08:00"
settle_s = 30
one_car_is_enough = true
[[gate]]
lot = "P1"
id = "G1"
format = "generic"
[[gate]]
lot = "P1"
id = "H1"
format = "hikvision-isapi"
direction = "in"
[[gate]]
lot = "P1"
id = "HX"
format = "huaxia-mode5"
[[gate]]
lot = "P2"
id = "H1"
format = "hikvision-isapi"
direction = "in"
[[gate]]
lot = "P2"
id = "V1"
format = "vzenith-http"
"#;

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts with more settings, as TOML.
    pub(crate) async fn start_with(more: &str) -> Self {
        let sandbox = Sandbox::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let written = write_settings(&sandbox, folder.path(), "127.0.0.1:0");
        let settings = std::fs::read_to_string(&written.config).unwrap();
        std::fs::write(&written.config, settings + more).unwrap();
        let config = config::load(&written.config, std::iter::empty()).unwrap();
        // Some hours back, so that a test can let time go on without running ahead of the sandbox.
        let clock = Clock::by_hand(now() - SignedDuration::from_hours(6));
        let service = Service::start(&config, clock.clone()).await.unwrap();
        let http = Http::new(service.address());
        let gate_key = config::read_secret(&written.gate_key).unwrap();
        let admin_key = config::read_secret(&written.admin_key).unwrap();
        Self {
            sandbox,
            service,
            clock,
            http,
            config,
            gate_key,
            admin_key,
            folder,
        }
    }

    pub(crate) async fn bind(&self, plate: &str, openid: &str) -> Value {
        let body = json!({ "circle": "demo-mall", "openid": openid, "plates": [plate] });
        let (status, answer) = self
            .http
            .post(
                "/v1/members/bind",
                &self.admin_key,
                "application/json",
                body.to_string(),
            )
            .await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// One car at the gate, now.
    pub(crate) async fn gate(&self, plate: &str, state: &str) -> Value {
        self.gate_at(plate, state, self.clock.now()).await
    }

    pub(crate) async fn gate_at(&self, plate: &str, state: &str, at: Timestamp) -> Value {
        self.event(json!({ "lot": "P1", "gate": "G1", "plate": plate, "state": state, "time": at.to_string() }))
            .await
    }

    pub(crate) async fn event(&self, event: Value) -> Value {
        let (status, answer) = self.events(event).await;
        assert_eq!(status, 200, "{answer}");
        answer["results"][0]["recorded"].clone()
    }

    pub(crate) async fn events(&self, body: Value) -> (u16, Value) {
        let (status, answer) = self
            .http
            .post("/v1/events", &self.gate_key, "application/json", body.to_string())
            .await;
        (status, serde_json::from_str(&answer).unwrap())
    }

    /// Posts to a gate; returns status, and the answer as text.
    pub(crate) async fn post_gate(&self, gate: &str, content_type: &str, body: impl Into<Bytes>) -> (u16, String) {
        self.http
            .post(&format!("/v1/gates/{gate}"), &self.gate_key, content_type, body)
            .await
    }

    pub(crate) fn advance(&self, by: SignedDuration) {
        self.clock.set(self.clock.now() + by);
    }

    /// Lets time go on, second by second, until nothing waits.
    pub(crate) async fn settle_all(&self) {
        let end = Instant::now() + PATIENCE;
        while self.counter("waiting", "waiting").await > 0 {
            assert!(Instant::now() < end, "something still waits");
            self.advance(SignedDuration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn counter(&self, name: &str, word: &str) -> i64 {
        let counters = self.service.store().counters().await.unwrap();
        counters
            .iter()
            .filter(|counter| counter.name == name && counter.word == word)
            .map(|counter| counter.value)
            .sum()
    }

    /// What WeChat Pay was told of a plate, in its order.
    pub(crate) fn told(&self, plate: &str) -> Vec<&'static str> {
        let parkings = self.sandbox.ledger().parkings();
        let of_plate = parkings.iter().filter(|parking| parking.plate_number == plate);
        of_plate
            .map(|parking| {
                if parking.state == wechatpay_sandbox::State::In {
                    "IN"
                } else {
                    "OUT"
                }
            })
            .collect()
    }
}

/// The sandbox's settings and keys, with the lots and gates of the tests.
pub(crate) fn write_settings(sandbox: &Sandbox, folder: &std::path::Path, listen: &str) -> Folder {
    let written = sandbox.write_folder(folder).unwrap();
    let text = std::fs::read_to_string(&written.config).unwrap();
    let text = text.replace("127.0.0.1:8080", listen);
    let text = text.replacen("[[lot]]", "[[lot]]\nleave_out_classes = [\"staff\"]", 1) + MORE;
    std::fs::write(&written.config, text).unwrap();
    written
}

/// The time now, in whole seconds: what WeChat Pay is told.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap()
}

/// A small HTTP client.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            address,
        }
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        key: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> (u16, String) {
        let response = self.try_post(path, key, content_type, body).await.unwrap();
        (
            response.status().as_u16(),
            String::from_utf8(response.into_body().to_vec()).unwrap(),
        )
    }

    pub(crate) async fn try_post(
        &self,
        path: &str,
        key: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Bytes>, String> {
        let request = Request::post(format!("http://{}{path}", self.address))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(body.into()))
            .unwrap();
        let response = self.client.request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Response::from_parts(head, body))
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> (u16, String) {
        let request = Request::get(format!("http://{}{path}", self.address))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .body(Full::default())
            .unwrap();
        let response = self.client.request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

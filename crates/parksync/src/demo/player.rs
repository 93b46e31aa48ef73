//! Plays the day over HTTP, as the gates and the member system would, and notes when each message was acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::task::JoinSet;

use super::day::{Day, Step, What};
use crate::cli::{Exit, Failure};
use crate::clock::Clock;
use crate::domain::gate::Direction;

/// Steps this close together overlap.
const WINDOW: SignedDuration = SignedDuration::from_secs(15);

/// When what a member's lane should hear of was acknowledged.
pub(super) type Acknowledged = HashMap<(String, Direction, i64), Instant>;

/// Talks to the service.
#[derive(Clone)]
pub(super) struct Player {
    http: Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    gate_key: String,
    admin_key: String,
}

impl Player {
    pub(super) fn new(address: SocketAddr, gate_key: String, admin_key: String) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            address,
            gate_key,
            admin_key,
        }
    }

    /// Posts a message of a gate; returns status and answer.
    pub(super) async fn gate(
        &self,
        lot: &str,
        gate: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        self.post(&format!("/v1/gates/{lot}/{gate}"), &self.gate_key, content_type, body)
            .await
    }

    async fn bind(&self, openid: &str, plate: &str) -> Result<(), Failure> {
        let body = json!({ "circle": "demo-mall", "openid": openid, "plates": [plate] }).to_string();
        let (status, answer) = self
            .post("/v1/members/bind", &self.admin_key, "application/json", body.into())
            .await?;
        accepted(status, &answer)
    }

    async fn post(
        &self,
        path: &str,
        key: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let broken = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Unexpected, format!("the service did not answer on {path}")).cause(error.to_string())
        };
        let request = Request::post(format!("http://{}{path}", self.address))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(body))
            .map_err(|error| broken(&error))?;
        let response = self.http.request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let answer = response
            .into_body()
            .collect()
            .await
            .map_err(|error| broken(&error))?
            .to_bytes();
        Ok((status, answer))
    }

    /// Plays all steps; `show` hears the time and how many are done.
    pub(super) async fn play(
        &self,
        day: &Day,
        clock: &Clock,
        mut show: impl FnMut(Timestamp, usize),
    ) -> Result<Acknowledged, Failure> {
        let mut acknowledged = Acknowledged::new();
        let mut left = day.steps();
        while let Some(first) = left.first() {
            let end = first.at + WINDOW;
            let (window, rest) = left.split_at(left.iter().position(|step| step.at > end).unwrap_or(left.len()));
            left = rest;
            clock.set(window.last().map_or(end, |step| step.at));
            for done in self.play_window(window).await? {
                acknowledged.extend(done);
            }
            show(clock.now(), day.steps().len() - left.len());
        }
        Ok(acknowledged)
    }

    /// What happens close together overlaps, but one car's messages keep their order.
    async fn play_window(&self, window: &[Step]) -> Result<Vec<Acknowledged>, Failure> {
        let mut groups: BTreeMap<u64, Vec<Task>> = BTreeMap::new();
        for step in window {
            groups.entry(step.group).or_default().push(Task::of(step));
        }
        let mut running = JoinSet::new();
        let player = Arc::new(self.clone());
        for tasks in groups.into_values() {
            let player = Arc::clone(&player);
            running.spawn(async move {
                let mut acknowledged = Acknowledged::new();
                for task in tasks {
                    if let Some(tells) = task.run(&player).await? {
                        acknowledged.insert(tells, Instant::now());
                    }
                }
                Ok::<_, Failure>(acknowledged)
            });
        }
        let mut done = Vec::new();
        while let Some(finished) = running.join_next().await {
            done.push(
                finished
                    .map_err(|error| Failure::new(Exit::Unexpected, "a gate broke off").cause(error.to_string()))??,
            );
        }
        Ok(done)
    }
}

/// A step on its way, with nothing borrowed.
enum Task {
    Post {
        lot: &'static str,
        gate: &'static str,
        content_type: &'static str,
        body: Bytes,
        tells: Option<(String, Direction, i64)>,
    },
    Bind {
        openid: String,
        plate: String,
    },
}

impl Task {
    fn of(step: &Step) -> Self {
        match &step.what {
            What::Post { gate, message, tells } => Self::Post {
                lot: gate.lot,
                gate: gate.id,
                content_type: message.content_type,
                body: message.body.clone().into(),
                tells: tells.clone(),
            },
            What::Bind { openid, plate } => Self::Bind {
                openid: openid.clone(),
                plate: plate.clone(),
            },
        }
    }

    async fn run(self, player: &Player) -> Result<Option<(String, Direction, i64)>, Failure> {
        match self {
            Self::Post {
                lot,
                gate,
                content_type,
                body,
                tells,
            } => {
                let (status, answer) = player.gate(lot, gate, content_type, body).await?;
                accepted(status, &answer)?;
                Ok(tells)
            }
            Self::Bind { openid, plate } => {
                player.bind(&openid, &plate).await?;
                Ok(None)
            }
        }
    }
}

fn accepted(status: StatusCode, answer: &[u8]) -> Result<(), Failure> {
    if status == StatusCode::OK {
        return Ok(());
    }
    Err(
        Failure::new(Exit::Unexpected, format!("the service refused a message with {status}"))
            .cause(String::from_utf8_lossy(answer).into_owned()),
    )
}

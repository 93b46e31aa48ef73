//! For operators: what stands in the outbox and why, sending it again, holds, nodes, and visits told in sentences.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Web, intake};
use crate::domain::delivery::Scope;
use crate::domain::member::{MemberKey, Openid, readable_plate};
use crate::limits;
use crate::store::{OutboxFilter, Replay, Status, Traced};
use crate::trace;

type Body = Result<Bytes, BytesRejection>;

fn answer(result: Result<Value, Problem>) -> Response {
    result.map_or_else(IntoResponse::into_response, |value| Json(value).into_response())
}

fn read<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let body = intake::body(body)?;
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!(
            "line {} column {} does not fit what this path takes",
            error.line(),
            error.column()
        );
        Problem::new(400, "malformed", detail).field("body")
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    state: Option<String>,
    circle: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    after: i64,
    limit: Option<u32>,
    #[serde(default, rename = "key")]
    _key: Option<String>,
}

pub(super) async fn list(State(web): State<Web>, filter: Result<Query<Filter>, QueryRejection>) -> Response {
    let listed = async {
        let Query(filter) = filter.map_err(|error| Problem::new(400, "malformed", error.body_text()).field("query"))?;
        let word = filter.state.as_deref().unwrap_or("waiting");
        let status = Status::parse(word)
            .ok_or_else(|| Problem::new(400, "unknown-state", "no message is ever in this state").field("state"))?;
        let limit = filter.limit.unwrap_or(100).clamp(1, limits::MEMBERS_PER_PAGE);
        let filter = OutboxFilter {
            status,
            circle: filter.circle,
            reason: filter.reason,
            after: filter.after,
            limit,
        };
        let entries = web.store.outbox(filter).await?;
        let now = web.clock.now();
        let messages: Vec<Value> = entries.iter().map(|entry| trace::message(entry, None, now)).collect();
        let next = entries
            .last()
            .filter(|_| entries.len() == limit as usize)
            .map(|entry| entry.id);
        Ok(json!({ "messages": messages, "next": next }))
    };
    answer(listed.await)
}

pub(super) async fn show(State(web): State<Web>, Path(id): Path<i64>) -> Response {
    let shown = async {
        let (entry, tries) = web.store.message(id).await?.ok_or_else(no_message)?;
        Ok(trace::message(&entry, Some(&tries), web.clock.now()))
    };
    answer(shown.await)
}

fn no_message() -> Problem {
    Problem::not_found("unknown-message", "there is no message of this number").field("id")
}

/// All nodes of the last day. They are watched for a moment, to see how many calls they make.
pub(super) async fn nodes(State(web): State<Web>) -> Response {
    let listed = async {
        let before = web.store.nodes().await?;
        tokio::time::sleep(limits::NODE_WATCH).await;
        let after = web.store.nodes().await?;
        let nodes: Vec<Value> = after.iter().map(|node| trace::node(&before, node)).collect();
        Ok(json!({ "nodes": nodes }))
    };
    answer(listed.await)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayBody {
    #[serde(default)]
    really: bool,
    #[serde(default)]
    force: bool,
}

pub(super) async fn replay(State(web): State<Web>, Path(id): Path<i64>, body: Body) -> Response {
    let replayed = async {
        let ReplayBody { really, force } = read(body)?;
        match web.store.replay(id, force, really, web.clock.now()).await? {
            Replay::Unknown => Err(no_message()),
            Replay::NotOpen { status } => Err(Problem::new(
                409,
                "not-open",
                format!("the message is {status}; only dead or held ones are sent again"),
            )),
            Replay::NoMember => Err(Problem::new(
                409,
                "no-member",
                "the plate is not bound to the member any more",
            )),
            Replay::TurnsBack { told, told_at } => Err(Problem::new(
                409,
                "turns-back",
                format!(
                    "WeChat Pay already holds the car as {told} since {told_at}; send force to turn the present back"
                ),
            )),
            Replay::Would { state, at } => {
                Ok(json!({ "queued": false, "afterwards": { "state": state, "at": at.to_string() } }))
            }
            Replay::Queued { state, at } => {
                Ok(json!({ "queued": true, "afterwards": { "state": state, "at": at.to_string() } }))
            }
        }
    };
    answer(replayed.await)
}

pub(super) async fn holds(State(web): State<Web>) -> Response {
    let listed = async {
        let holds = web.store.holds().await?;
        let holds: Vec<Value> = holds
            .iter()
            .map(|hold| {
                json!({
                    "scope": if hold.scope == Scope::Circle { "circle" } else { "merchant" },
                    "name": hold.name,
                    "reason": hold.reason,
                    "since": hold.since.to_string(),
                    "next_probe": hold.probe_at.map(|at| at.to_string()),
                })
            })
            .collect();
        Ok(json!({ "holds": holds }))
    };
    answer(listed.await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldBody {
    circle: Option<String>,
    merchant: Option<String>,
    #[serde(default)]
    reason: String,
}

impl HoldBody {
    fn scope(self) -> Result<(Scope, String, String), Problem> {
        match (self.circle, self.merchant) {
            (Some(circle), None) => Ok((Scope::Circle, circle, self.reason)),
            (None, Some(merchant)) => Ok((Scope::Merchant, merchant, self.reason)),
            _ => Err(Problem::new(422, "which", "name either a circle or a merchant").field("circle")),
        }
    }
}

pub(super) async fn hold(State(web): State<Web>, body: Body) -> Response {
    let held = async {
        let (scope, name, reason) = read::<HoldBody>(body)?.scope()?;
        if scope == Scope::Circle && !web.site.circles.contains_key(&name) {
            return Err(Problem::new(422, "unknown-circle", "no such circle is configured").field("circle"));
        }
        if scope == Scope::Merchant && !web.site.merchants.contains(&name) {
            return Err(Problem::new(422, "unknown-merchant", "no such merchant is configured").field("merchant"));
        }
        web.store.hold(scope, name, reason, web.clock.now()).await?;
        Ok(json!({ "held": true }))
    };
    answer(held.await)
}

pub(super) async fn release(State(web): State<Web>, body: Body) -> Response {
    let released = async {
        let (scope, name, _) = read::<HoldBody>(body)?.scope()?;
        Ok(json!({ "released": web.store.release(scope, name).await? }))
    };
    answer(released.await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceBody {
    plate: Option<String>,
    openid: Option<Openid>,
    circle: Option<String>,
}

/// A POST, so that no plate stands in a URL.
pub(super) async fn visits(State(web): State<Web>, body: Body) -> Response {
    let traced = async {
        let TraceBody { plate, openid, circle } = read(body)?;
        let of = match (plate, openid) {
            (Some(plate), None) => Traced::Plate(
                readable_plate(&plate).map_err(|why| Problem::new(422, "not-a-plate", why).field("plate"))?,
            ),
            (None, Some(openid)) => {
                let circle = circle.unwrap_or_default();
                let appid = web.site.circles.get(&circle).cloned().ok_or_else(|| {
                    Problem::new(422, "unknown-circle", "an openid needs the circle it belongs to").field("circle")
                })?;
                Traced::Member(MemberKey { circle, appid, openid })
            }
            _ => return Err(Problem::new(422, "which", "name either a plate or an openid").field("plate")),
        };
        let visits = web.store.trace(of).await?;
        let now = web.clock.now();
        let visits: Vec<Value> = visits
            .iter()
            .map(|visit| json!({ "visit": trace::title(visit), "steps": trace::tell(visit, now) }))
            .collect();
        Ok(json!({ "visits": visits }))
    };
    answer(traced.await)
}

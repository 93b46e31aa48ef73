//! The HTTP face: gates and systems post events, operators look after members. Nothing here calls WeChat Pay.
//!
//! A sender gets its answer only after the store has committed what it said.

mod access;
mod events;
mod gates;
mod health;
mod intake;
mod members;
mod outbox;
pub mod pressure;
mod problem;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use tokio::sync::Semaphore;

pub use access::{Access, Role};
use pressure::Pressure;
use problem::Problem;

use tracing::warn;

use crate::clock::Clock;
use crate::domain::clockwatch::ClockWatch;
use crate::domain::gate::TimeSource;
use crate::domain::member::Appid;
use crate::domain::presence::Policy;
use crate::ingest::{Format, Item, Source};
use crate::limits;
use crate::store::Store;

/// What the handlers need.
#[derive(Clone)]
pub struct Web {
    /// Where events go.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Clock,
    /// Who may do what.
    pub access: Arc<Access>,
    /// The configured car parks.
    pub site: Arc<Site>,
    /// Whether more can be taken.
    pub pressure: Arc<Pressure>,
    /// What all requests share.
    pub bounds: Arc<Bounds>,
    /// What was refused.
    pub refused: Arc<Refused>,
    /// How wrong the clocks of the gates are.
    pub clocks: Arc<Clocks>,
}

/// Circles, lots and gates, as configured.
#[derive(Debug, Default)]
pub struct Site {
    /// The merchants, by mchid.
    pub merchants: BTreeSet<String>,
    /// The appid of each circle, by its id.
    pub circles: HashMap<String, Appid>,
    /// Lots by id.
    pub lots: HashMap<String, Lot>,
}

/// A car park.
#[derive(Debug)]
pub struct Lot {
    /// Its circle.
    pub circle: String,
    /// Its rules.
    pub policy: Policy,
    /// Classes of cars that are not told.
    pub leave_out_classes: Vec<String>,
    /// What holds for messages that name no gate.
    pub source: Source,
    /// Its gates by id.
    pub gates: HashMap<String, Gate>,
}

/// One lane of a car park.
#[derive(Debug)]
pub struct Gate {
    /// How its messages are written.
    pub format: Format,
    /// What they do not say.
    pub source: Source,
}

/// All routes.
pub fn router(web: Web) -> Router {
    let gates = Router::new()
        .route("/v1/gates/{lot}/{gate}", post(gates::receive))
        .layer(DefaultBodyLimit::max(limits::GATE_BODY_BYTES))
        .layer(middleware::from_fn_with_state(web.clone(), roomy))
        .layer(middleware::from_fn_with_state(web.clone(), |state, request, next| {
            allow(Role::Gate, state, request, next)
        }));
    let events = Router::new()
        .route("/v1/events", post(events::receive))
        .layer(DefaultBodyLimit::max(limits::EVENTS_BODY_BYTES))
        .layer(middleware::from_fn_with_state(web.clone(), roomy))
        .layer(middleware::from_fn_with_state(web.clone(), |state, request, next| {
            allow(Role::Gate, state, request, next)
        }));
    let admin = Router::new()
        .route("/v1/members", get(members::list))
        .route("/v1/members/bind", post(members::bind))
        .route("/v1/members/unbind", post(members::unbind))
        .route("/v1/outbox", get(outbox::list))
        .route("/v1/outbox/{id}", get(outbox::show))
        .route("/v1/outbox/{id}/replay", post(outbox::replay))
        .route("/v1/holds", get(outbox::holds))
        .route("/v1/holds/hold", post(outbox::hold))
        .route("/v1/holds/release", post(outbox::release))
        .route("/v1/visits/trace", post(outbox::visits))
        .route("/v1/nodes", get(outbox::nodes))
        .layer(DefaultBodyLimit::max(limits::ADMIN_BODY_BYTES))
        .layer(middleware::from_fn_with_state(web.clone(), |state, request, next| {
            allow(Role::Admin, state, request, next)
        }));
    finish(gates.merge(events).merge(admin), web)
}

/// The routes of a node that only delivers: what machines ask of it.
pub fn router_of_worker(web: Web) -> Router {
    finish(Router::new(), web)
}

fn finish(routes: Router<Web>, web: Web) -> Router {
    routes
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { Problem::not_found("unknown-path", "there is nothing at this path") })
        .method_not_allowed_fallback(|| async { Problem::new(405, "wrong-method", "this path takes another method") })
        .layer(middleware::from_fn_with_state(web.clone(), bounded))
        .with_state(web)
}

/// Lets the holders of a key with enough rights pass.
async fn allow(role: Role, State(web): State<Web>, request: Request, next: Next) -> Response {
    match web.access.check(request.headers(), request.uri().query(), role) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Keeps the number of requests and the time of each within bounds, and counts what was refused.
async fn bounded(State(web): State<Web>, request: Request, next: Next) -> Response {
    let handled = async {
        let Ok(_turn) = web.bounds.requests.try_acquire() else {
            return Problem::busy("too many requests are under way").into_response();
        };
        match tokio::time::timeout(limits::REQUEST_DEADLINE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::busy("the request could not be finished within its time; send it again").into_response(),
        }
    };
    let response = handled.await;
    if let Some(code) = response.extensions().get::<problem::Code>() {
        web.refused.count(code.0);
    }
    response
}

/// Keeps the memory of large bodies within bounds. Small ones need no room: the number of requests bounds them.
async fn roomy(State(web): State<Web>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let bytes = length
        .unwrap_or(if chunked { limits::GATE_BODY_BYTES } else { 0 })
        .min(limits::GATE_BODY_BYTES);
    if bytes <= limits::SMALL_BODY_BYTES {
        return next.run(request).await;
    }
    let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    match web.bounds.body_kib.try_acquire_many(kib) {
        Ok(_room) => next.run(request).await,
        Err(_) => Problem::busy("too many large messages arrive at once; send this one again").into_response(),
    }
}

/// What all requests share.
#[derive(Debug)]
pub struct Bounds {
    requests: Semaphore,
    body_kib: Semaphore,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            requests: Semaphore::new(limits::REQUESTS),
            body_kib: Semaphore::new(limits::BODIES_KIB as usize),
        }
    }
}

/// The clocks of all gates. In memory: it is about the gates of right now.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<BTreeMap<(String, String), ClockWatch>>);

impl Clocks {
    /// Learns from live events of a configured gate; warns once when its clock is off.
    fn see(&self, lot: &str, gate: &str, items: &[Item], received_at: Timestamp) {
        let mut clocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            let Item::Event(read) = item else { continue };
            if read.replayed || read.time_source == TimeSource::Receipt || clocks.len() >= limits::GATES {
                continue;
            }
            let clock = clocks.entry((lot.to_owned(), gate.to_owned())).or_default();
            if let Some(off) = clock.see(read.at, received_at) {
                warn!(
                    lot.id = lot,
                    gate.id = gate,
                    seconds = off.as_secs(),
                    "the clock of this gate is off; set it by NTP"
                );
            }
        }
    }

    /// Seconds that each gate is behind us.
    fn all(&self) -> BTreeMap<(String, String), i64> {
        let clocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clocks
            .iter()
            .filter_map(|(gate, clock)| Some((gate.clone(), clock.median()?.as_secs())))
            .collect()
    }
}

/// How many requests were refused, by code. In memory: a flood of them must not become a flood of commits.
#[derive(Debug, Default)]
pub struct Refused(Mutex<BTreeMap<&'static str, u64>>);

impl Refused {
    fn count(&self, code: &'static str) {
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(code)
            .or_default() += 1;
    }

    fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `Retry-After`, in whole seconds.
fn retry_after(wait: Duration) -> String {
    wait.as_secs().max(1).to_string()
}

//! Claims the heads of due lanes, has the courier make the calls, settles what they came to, in batches.
//!
//! The loop is thin: what a try means is `domain::delivery`, what is due is the store's business.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::courier::Courier;
use crate::clock::{Clock, Stopwatch};
use crate::domain::delivery::{Outcome, RetryPolicy, Verdict};
use crate::domain::rate::Bucket;
use crate::limits;
use crate::sabotage::{self, Sabotage};
use crate::store::{ClaimRequest, Lease, NodeId, Settled, Store};

/// How long it rests while a rate holds back what is due.
const RATE_REST: Duration = Duration::from_millis(10);
/// How long it rests after the store failed.
const STORE_REST: Duration = Duration::from_millis(500);

/// Delivers what waits in the store.
pub struct Worker {
    /// Where it waits.
    pub store: Arc<dyn Store>,
    /// Who makes the calls.
    pub courier: Arc<dyn Courier>,
    /// Which node this is.
    pub node: NodeId,
    /// What time it is.
    pub clock: Clock,
    /// When to try again.
    pub policy: RetryPolicy,
    /// Calls under way at one time.
    pub max_in_flight: usize,
    /// How fast each merchant may be called.
    pub rates: Rates,
    /// How long the worker rests at most before it looks at the store again. Another process may have written.
    pub look_again: Duration,
    /// Draws a share of the jitter, `0.0..1.0`.
    pub jitter: fn() -> f64,
}

/// The rates of all merchants, shared by everything that calls for them.
#[derive(Debug)]
pub struct Rates(Mutex<HashMap<String, Bucket>>);

impl Rates {
    /// The same ceiling, in calls a second, for each merchant.
    #[must_use]
    pub fn new(merchants: impl IntoIterator<Item = String>, ceiling: f64, now: Timestamp) -> Self {
        Self(Mutex::new(
            merchants
                .into_iter()
                .map(|merchant| (merchant, Bucket::new(ceiling, now)))
                .collect(),
        ))
    }

    fn allowed(&self, now: Timestamp) -> HashMap<String, u32> {
        self.lock()
            .iter_mut()
            .map(|(merchant, bucket)| (merchant.clone(), bucket.available(now)))
            .collect()
    }

    fn take(&self, merchant: &str) {
        if let Some(bucket) = self.lock().get_mut(merchant) {
            bucket.take(1);
        }
    }

    fn throttled(&self, merchant: &str, now: Timestamp, retry_after: Option<Duration>) {
        if let Some(bucket) = self.lock().get_mut(merchant) {
            let asked = retry_after
                .and_then(|asked| SignedDuration::try_from(asked).ok())
                .unwrap_or_default();
            bucket.throttled(now, asked);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// Works until told to stop, then lets the calls in flight finish and settles them.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut calls = Calls::default();
        let mut turn = 0;
        let mut stopping = None;
        let mut tried: Vec<Settled> = Vec::new();
        loop {
            let room = if stop.is_cancelled() {
                0
            } else {
                self.max_in_flight - calls.count()
            };
            let limit = u32::try_from(room).unwrap_or(u32::MAX).min(limits::CLAIM);
            // Both jobs are queued at once, the settle first, so they share a commit and freed lanes can be claimed again.
            let (settled, claimed) = tokio::join!(self.settle(&mut tried), self.claim(limit, turn));
            turn += 1;
            let healthy = settled && claimed.is_some();
            let idle = claimed.as_ref().is_none_or(|leases| leases.len() < limit as usize);
            for lease in claimed.into_iter().flatten() {
                calls.start(&self, lease);
            }
            if stop.is_cancelled() && calls.count() == 0 {
                let since = *stopping.get_or_insert_with(Stopwatch::start);
                if tried.is_empty() {
                    return;
                }
                if since.millis() > limits::SETTLE_AT_STOP_MS {
                    // Nothing is lost: their lanes are freed at the next start, and each of them is told once more.
                    error!(
                        unwritten = tried.len(),
                        "outcomes could not be written down before the stop"
                    );
                    return;
                }
            }
            if !healthy {
                tokio::time::sleep(STORE_REST).await;
            }
            if tried.is_empty() && (idle || room == 0) {
                tokio::select! {
                    done = calls.next(), if calls.count() > 0 => tried.extend(done.map(|done| self.judge(done))),
                    () = self.rest(), if room > 0 => {}
                    () = stop.cancelled(), if !stop.is_cancelled() => {}
                }
            }
            while let Some(done) = calls.try_next() {
                tried.push(self.judge(done));
            }
        }
    }

    /// Returns when a lane may be due.
    async fn rest(&self) {
        let now = self.clock.now();
        let due = match self.store.next_due().await {
            // What is due and was not claimed waits for its merchant's rate.
            Ok(Some(due)) if due <= now => return tokio::time::sleep(RATE_REST).await,
            Ok(due) => due.unwrap_or(now + SignedDuration::from_hours(1)),
            Err(error) => {
                warn!(%error, "cannot see what is due");
                now + SignedDuration::from_secs(1)
            }
        };
        tokio::select! {
            () = self.store.changed() => {}
            () = self.clock.sleep_until(due, self.look_again) => {}
        }
    }

    async fn claim(&self, limit: u32, turn: u64) -> Option<Vec<Lease>> {
        if limit == 0 {
            return Some(Vec::new());
        }
        let now = self.clock.now();
        let request = ClaimRequest {
            node: self.node,
            lease: limits::LEASE,
            now,
            limit,
            turn,
            allowed: self.rates.allowed(now),
        };
        self.store
            .claim(request)
            .await
            .inspect_err(|error| error!(%error, "cannot claim lanes"))
            .ok()
    }

    /// Writes down what was tried. What cannot be written is kept for the next time; its lanes stay ours meanwhile.
    async fn settle(&self, tried: &mut Vec<Settled>) -> bool {
        if tried.is_empty() {
            return true;
        }
        match self.store.settle(tried.clone()).await {
            Ok(0) => {}
            Ok(lost) => warn!(lost, "claims were lost before their outcome was written"),
            Err(error) => {
                error!(%error, waiting = tried.len(), "cannot write down outcomes");
                return false;
            }
        }
        tried.clear();
        true
    }

    fn judge(&self, done: Done) -> Settled {
        let Done {
            lease,
            began_at,
            took_ms,
            outcome,
        } = done;
        let now = self.clock.now();
        if sabotage::is(Sabotage::ThrottleIgnored) {
            // Nothing learns of it.
        } else if let Outcome::Refused {
            rate_limited: true,
            retry_after,
            ..
        } = &outcome
        {
            self.rates.throttled(&lease.merchant, now, *retry_after);
        }
        let verdict = self.policy.judge(&lease.head, &outcome, now, (self.jitter)());
        tell_log(&lease, &outcome, &verdict);
        Settled {
            lease,
            began_at,
            took_ms,
            outcome,
            verdict,
        }
    }
}

/// One try that is over.
struct Done {
    lease: Lease,
    began_at: Timestamp,
    took_ms: i64,
    outcome: Outcome,
}

/// The calls under way. A call that panics still gives its lane back.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<(i64, Outcome)>,
    leases: HashMap<Id, (Lease, Timestamp)>,
}

impl Calls {
    fn count(&self) -> usize {
        self.tasks.len()
    }

    fn start(&mut self, worker: &Arc<Worker>, lease: Lease) {
        let (worker, head) = (Arc::clone(worker), lease.head.clone());
        let began_at = worker.clock.now();
        worker.rates.take(&lease.merchant);
        let task = self.tasks.spawn(async move {
            let began = Stopwatch::start();
            let outcome = if worker.policy.expired(&head, began_at) {
                Outcome::Expired
            } else {
                worker.courier.deliver(&head).await
            };
            (began.millis(), outcome)
        });
        self.leases.insert(task.id(), (lease, began_at));
    }

    async fn next(&mut self) -> Option<Done> {
        let joined = self.tasks.join_next_with_id().await?;
        self.done(joined)
    }

    fn try_next(&mut self) -> Option<Done> {
        let joined = self.tasks.try_join_next_with_id()?;
        self.done(joined)
    }

    fn done(&mut self, joined: Result<(Id, (i64, Outcome)), JoinError>) -> Option<Done> {
        let (id, (took_ms, outcome)) = joined.unwrap_or_else(|failed| {
            let why = "the call broke off inside Parksync".to_owned();
            (failed.id(), (0, Outcome::Unknown { why }))
        });
        let (lease, began_at) = self.leases.remove(&id)?;
        Some(Done {
            lease,
            began_at,
            took_ms,
            outcome,
        })
    }
}

/// A random share of the jitter, `0.0..1.0`.
#[must_use]
pub fn jitter() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter, which is still correct.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

fn tell_log(lease: &Lease, outcome: &Outcome, verdict: &Verdict) {
    let id = lease.head.id;
    let circle = &lease.head.member.circle;
    let request_id = match outcome {
        Outcome::Accepted { request_id } | Outcome::Refused { request_id, .. } => request_id.as_str(),
        Outcome::Unknown { .. } | Outcome::NotSent { .. } | Outcome::Unbuildable { .. } | Outcome::Expired => "",
    };
    match verdict {
        Verdict::Delivered => debug!(
            delivery.id = id,
            circle.id = circle,
            wechat.request_id = request_id,
            "delivered"
        ),
        // The hold itself tells the log once; its calls would only repeat it.
        Verdict::Hold { .. } => debug!(
            delivery.id = id,
            circle.id = circle,
            wechat.request_id = request_id,
            why = outcome.brief(),
            "held"
        ),
        Verdict::RetryAt { at, .. } => {
            warn!(delivery.id = id, delivery.attempt = lease.head.tries + 1, circle.id = circle, wechat.request_id = request_id,
                  again_at = %at, why = outcome.brief(), "not delivered yet");
        }
        Verdict::Dead { .. } => {
            error!(
                delivery.id = id,
                circle.id = circle,
                wechat.request_id = request_id,
                why = outcome.brief(),
                "given up"
            );
        }
    }
}

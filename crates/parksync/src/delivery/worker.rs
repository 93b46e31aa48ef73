//! Claims the heads of due lanes, has the courier make the calls, settles what they came to, in batches.
//!
//! The loop is thin: what a try means is `domain::delivery`, what is due is the store's business.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::calls::{Calls, Done};
use super::courier::Courier;
use super::node::Node;
use crate::clock::Clock;
use crate::domain::delivery::{Outcome, RetryPolicy, Verdict};
use crate::limits;
use crate::store::{ClaimRequest, Lease, Settled, Store};

/// How long it rests at least while a rate holds back what is due.
const RATE_REST: SignedDuration = SignedDuration::from_millis(10);
/// How long an outcome waits for others to be written down with it, while many calls are under way.
const GATHER: Duration = Duration::from_millis(10);
/// How long it rests after the store failed.
const STORE_REST: Duration = Duration::from_millis(500);

/// Delivers what waits in the store.
pub struct Worker {
    /// Where it waits.
    pub store: Arc<dyn Store>,
    /// Who makes the calls.
    pub courier: Arc<dyn Courier>,
    /// Which node this is, what its claims are worth, and how fast it may call.
    pub node: Arc<Node>,
    /// What time it is.
    pub clock: Clock,
    /// When to try again.
    pub policy: RetryPolicy,
    /// Calls under way at one time.
    pub max_in_flight: usize,
    /// How long the worker rests at most before it looks at the store again. Another process may have written.
    pub look_again: Duration,
    /// Draws a share of the jitter, `0.0..1.0`.
    pub jitter: fn() -> f64,
}

impl Worker {
    /// Works until told to stop, then lets the calls in flight finish, settles them, and leaves the other nodes.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = Arc::clone(&self).work(stop) => {}
            () = self.node.run() => {}
        }
        self.node.leave().await;
    }

    async fn work(self: Arc<Self>, stop: CancellationToken) {
        let mut calls = Calls::default();
        let mut turn = 0;
        let mut stopping = None;
        let mut tried: Vec<Settled> = Vec::new();
        loop {
            self.node.in_flight(calls.count());
            let may_claim = self.node.may_claim();
            let room = if stop.is_cancelled() || !may_claim {
                0
            } else {
                self.max_in_flight - calls.count()
            };
            let limit = u32::try_from(room).unwrap_or(u32::MAX).min(limits::CLAIM);
            // A claim counts from here, so that this node never believes it to be longer than it is.
            let asked_at = self.node.asks();
            // Both jobs are queued at once, the settle first, so they share a commit and freed lanes can be claimed again.
            let (settled, claimed) = tokio::join!(biased; self.settle(&mut tried), self.claim(limit, turn));
            turn += 1;
            let healthy = settled && claimed.is_some();
            let idle = claimed.as_ref().is_none_or(|leases| leases.len() < limit as usize);
            for lease in claimed.into_iter().flatten() {
                calls.start(&self, lease, asked_at);
            }
            if stop.is_cancelled() && calls.count() == 0 {
                let now = self.clock.look().steady;
                let since = *stopping.get_or_insert(now);
                if tried.is_empty() {
                    return;
                }
                if now.saturating_sub(since) > limits::SETTLE_AT_STOP {
                    // Nothing is lost: their lanes are free when their claims end, and each of them is told once more.
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
                    biased;
                    done = calls.next(), if calls.count() > 0 => tried.extend(done.map(|done| self.judge(done))),
                    () = self.rest(), if room > 0 => {}
                    () = self.node.hears(), if !may_claim => {}
                    () = stop.cancelled(), if !stop.is_cancelled() => {}
                }
            }
            self.gather(&mut calls, &mut tried).await;
        }
    }

    /// Takes what is over. Under load it waits a moment for more, since a commit costs about the same for one outcome as for many.
    async fn gather(&self, calls: &mut Calls, tried: &mut Vec<Settled>) {
        let enough = self.max_in_flight / 4;
        let end = tokio::time::sleep(GATHER);
        tokio::pin!(end);
        loop {
            while let Some(done) = calls.try_next() {
                tried.push(self.judge(done));
            }
            let is_busy = calls.count() > self.max_in_flight / 2;
            if tried.is_empty() || tried.len() >= enough || !is_busy {
                return;
            }
            tokio::select! {
                biased;
                done = calls.next() => tried.extend(done.map(|done| self.judge(done))),
                () = &mut end => return,
            }
        }
    }

    /// Returns when a lane may be due.
    async fn rest(&self) {
        let now = self.clock.now();
        let due = match self.store.next_due().await {
            // What is due and was not claimed waits for its merchant's rate.
            Ok(Some(due)) if due <= now => {
                let next = self.node.rates.next(now).unwrap_or(now);
                next.max(now + RATE_REST)
            }
            Ok(due) => due.unwrap_or(now + SignedDuration::from_hours(1)),
            Err(error) => {
                warn!(%error, "cannot see what is due");
                now + SignedDuration::from_secs(1)
            }
        };
        tokio::select! {
            biased;
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
            node: self.node.id(),
            lease: limits::LEASE,
            now,
            limit,
            turn,
            allowed: self.node.rates.allowed(now),
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
        Outcome::Unknown { .. }
        | Outcome::NotSent { .. }
        | Outcome::Unbuildable { .. }
        | Outcome::Expired
        | Outcome::Unclaimed { .. } => "",
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
        Verdict::RetryAt { .. } if matches!(outcome, Outcome::Unclaimed { .. }) => debug!(
            delivery.id = id,
            circle.id = circle,
            why = outcome.brief(),
            "given back unsent"
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

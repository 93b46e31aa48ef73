//! The calls under way. Each looks at its claim at the last moment before it leaves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{Id, JoinError, JoinSet};

use super::worker::Worker;
use crate::domain::delivery::{Delivery, Outcome};
use crate::sabotage::{self, Sabotage};
use crate::store::Lease;

/// One try that is over.
pub(super) struct Done {
    pub(super) lease: Lease,
    pub(super) began_at: Timestamp,
    pub(super) took_ms: i64,
    pub(super) outcome: Outcome,
}

/// The calls under way. A call that panics still gives its lane back.
#[derive(Default)]
pub(super) struct Calls {
    tasks: JoinSet<(i64, Outcome)>,
    leases: HashMap<Id, (Lease, Timestamp)>,
}

impl Calls {
    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Starts the call for the head of a lane that was asked for then, by the node's steady clock.
    pub(super) fn start(&mut self, worker: &Arc<Worker>, lease: Lease, asked_at: Duration) {
        let (worker, head) = (Arc::clone(worker), lease.head.clone());
        let began_at = worker.clock.now();
        let merchant = lease.merchant.clone();
        worker.node.rates.take(&merchant);
        let task = self.tasks.spawn(async move {
            let began = worker.clock.look().steady;
            let outcome = attempt(&worker, &merchant, &head, asked_at).await;
            slow_down(&worker, &merchant, &outcome);
            let took = worker.clock.look().steady.saturating_sub(began);
            (i64::try_from(took.as_millis()).unwrap_or(i64::MAX), outcome)
        });
        self.leases.insert(task.id(), (lease, began_at));
    }

    pub(super) async fn next(&mut self) -> Option<Done> {
        let joined = self.tasks.join_next_with_id().await?;
        self.done(joined)
    }

    pub(super) fn try_next(&mut self) -> Option<Done> {
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

/// A throttle counts from the moment of the answer, however long the store takes meanwhile.
fn slow_down(worker: &Worker, merchant: &str, outcome: &Outcome) {
    if let Outcome::Refused {
        rate_limited: true,
        retry_after,
        ..
    } = outcome
        && !sabotage::is(Sabotage::ThrottleIgnored)
    {
        worker.node.throttled(merchant, *retry_after);
    }
}

/// One try. Nothing stands between the look at the claim and the call.
async fn attempt(worker: &Worker, merchant: &str, head: &Delivery, asked_at: Duration) -> Outcome {
    let now = worker.clock.now();
    if worker.policy.expired(head, now) {
        return Outcome::Expired;
    }
    // It may have asked while this lane was being claimed.
    if worker.node.rates.is_shut(merchant, now) && !sabotage::is(Sabotage::ThrottleIgnored) {
        let why = "WeChat Pay asked this merchant to wait";
        return Outcome::Unclaimed { why };
    }
    let at_most = match worker.node.may_send(asked_at) {
        Ok(at_most) => at_most,
        Err(unfit) => return Outcome::Unclaimed { why: unfit.why() },
    };
    worker.node.sends();
    // The courier has a deadline of its own, which is shorter. Should it not keep it, the call ends here, before the claim does.
    tokio::time::timeout(at_most, worker.courier.deliver(head))
        .await
        .unwrap_or_else(|_| Outcome::Unknown {
            why: "no answer before the end of the claim".to_owned(),
        })
}

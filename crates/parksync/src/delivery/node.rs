//! This process as one of several: it says once a second that it lives, hears what the others know, and tells them what it learns.
//!
//! What its claims are worth is `domain::lease`; `worker` asks here before each claim and each send. A node that only takes events has
//! one, too, so that people can see it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::courier::Courier;
use super::rates::Rates;
use crate::clock::Clock;
use crate::domain::lease::{Look, Tenure, Terms, Unfit};
use crate::domain::rate::Throttle;
use crate::limits;
use crate::sabotage::{self, Sabotage};
use crate::store::{Beat, MerchantNews, NodeCard, NodeId, Pace, Pulse, Store, StoreError};

/// How often a node tries to leave in good order.
const LEAVES: u32 = 3;

/// What a node is made of.
pub struct Parts {
    /// Where the nodes meet.
    pub store: Arc<dyn Store>,
    /// Whose domains are shared. A node that only takes events has none.
    pub courier: Option<Arc<dyn Courier>>,
    /// What time it is.
    pub clock: Clock,
    /// How it introduces itself.
    pub card: NodeCard,
    /// How fast each merchant may be called.
    pub rates: Rates,
    /// How often it says that it lives.
    pub beat: Duration,
    /// What its claims are measured by.
    pub terms: Terms,
}

/// What claims are measured by when a request may take so long.
#[must_use]
pub fn terms(deadline: Duration) -> Terms {
    Terms {
        lease: limits::LEASE.unsigned_abs(),
        deadline,
        margin: limits::LEASE_MARGIN,
        frozen_after: limits::FROZEN_AFTER,
        silent: limits::NODE_SILENT.unsigned_abs(),
    }
}

/// One of the processes that work on a store.
pub struct Node {
    store: Arc<dyn Store>,
    courier: Option<Arc<dyn Courier>>,
    clock: Clock,
    card: NodeCard,
    /// How fast each merchant may be called by this node.
    pub(super) rates: Rates,
    beat: Duration,
    state: Mutex<State>,
    /// There is something to say before the next beat is due.
    hurry: Notify,
    /// The store was heard.
    heard: Notify,
}

struct State {
    id: NodeId,
    tenure: Tenure,
    in_flight: u32,
    sent: i64,
    /// Throttles that the others have not heard of.
    throttles: BTreeMap<String, Throttle>,
    /// Whether each merchant's calls went to the backup domain when all nodes last agreed.
    on_backup: HashMap<String, bool>,
    is_silent: bool,
}

impl Node {
    /// Joins the others.
    ///
    /// # Errors
    /// The store fails.
    pub async fn join(parts: Parts) -> Result<Self, StoreError> {
        let id = parts.store.join(parts.card.clone()).await?;
        let state = State {
            id,
            tenure: Tenure::new(parts.terms, parts.clock.look()),
            in_flight: 0,
            sent: 0,
            throttles: BTreeMap::new(),
            on_backup: HashMap::new(),
            is_silent: false,
        };
        Ok(Self {
            store: parts.store,
            courier: parts.courier,
            clock: parts.clock,
            card: parts.card,
            rates: parts.rates,
            beat: parts.beat,
            state: Mutex::new(state),
            hurry: Notify::new(),
            heard: Notify::new(),
        })
    }

    /// Its number. Another one after it was forgotten.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.state().id
    }

    /// Beats for as long as it is let.
    pub async fn run(&self) {
        tokio::join!(self.look(), self.beats());
    }

    /// Leaves in good order: lanes that it still holds are free at once.
    pub async fn leave(&self) {
        let id = self.id();
        for tries in 1..=LEAVES {
            match self.store.leave(id).await {
                Ok(()) => return,
                Err(error) if tries == LEAVES => {
                    warn!(%error, "could not leave in good order; lanes that this node holds are free when their claims end");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Whether lanes may be claimed now. While not, [`Node::hears`] is worth waiting for.
    pub(super) fn may_claim(&self) -> bool {
        self.state().tenure.may_claim(self.clock.look())
    }

    /// Returns when the store was heard.
    pub(super) async fn hears(&self) {
        self.heard.notified().await;
    }

    /// The moment from which a claim counts: before it is asked for.
    pub(super) fn asks(&self) -> Duration {
        self.clock.look().steady
    }

    /// Whether a request may leave now under a claim that was asked for then, and how long it may take.
    pub(super) fn may_send(&self, asked_at: Duration) -> Result<Duration, Unfit> {
        let now = self.clock.look();
        let fit = self.state().tenure.may_send(asked_at, now);
        if fit == Err(Unfit::Lost) {
            self.hurry.notify_one();
        }
        fit
    }

    /// A call leaves.
    pub(super) fn sends(&self) {
        self.state().sent += 1;
    }

    /// So many calls are under way.
    pub(super) fn in_flight(&self, calls: usize) {
        self.state().in_flight = u32::try_from(calls).unwrap_or(u32::MAX);
    }

    /// WeChat Pay throttled a call: this node slows down at once, the others when they hear of it.
    pub(super) fn throttled(&self, mchid: &str, retry_after: Option<Duration>) {
        let now = self.clock.now();
        if let Some(throttle) = self.rates.throttled(mchid, now, retry_after) {
            self.state().throttles.insert(mchid.to_owned(), throttle);
            self.hurry.notify_one();
        }
    }

    /// Looks at the clocks, independent of what the store takes for an answer.
    async fn look(&self) {
        loop {
            tokio::time::sleep(self.beat).await;
            let now = self.clock.look();
            if self.state().tenure.look(now) {
                warn!("this node stood still; what it had claimed is void");
                self.hurry.notify_one();
            }
        }
    }

    async fn beats(&self) {
        loop {
            // First what time it is at the store: a machine that stood still would tell of a wait that is over.
            self.say_that_it_lives().await;
            self.tell_throttles().await;
            tokio::select! {
                biased;
                () = tokio::time::sleep(self.beat) => {}
                () = self.hurry.notified() => {}
            }
        }
    }

    async fn say_that_it_lives(&self) {
        let asked = self.clock.look();
        let pulse = {
            let state = self.state();
            Pulse {
                node: state.id,
                now: self.clock.now(),
                in_flight: state.in_flight,
                sent: state.sent,
            }
        };
        // Queued together, so that they share a commit.
        let (beat, taken_over) = tokio::join!(self.store.beat(pulse), self.take_over());
        match beat {
            Ok(beat) => {
                if std::mem::take(&mut self.state().is_silent) {
                    info!("the store is heard again");
                }
                self.hear(asked, beat).await;
            }
            Err(error) if !std::mem::replace(&mut self.state().is_silent, true) => {
                warn!(%error, "the store does not hear that this node lives; nothing is claimed meanwhile");
            }
            Err(_) => {}
        }
        match taken_over {
            Ok(0) | Err(_) => {}
            Ok(lanes) => warn!(lanes, "lanes of a node that is away are free again"),
        }
    }

    async fn take_over(&self) -> Result<u32, StoreError> {
        if self.courier.is_none() {
            return Ok(0);
        }
        self.store.take_over().await
    }

    async fn hear(&self, asked: Look, beat: Beat) {
        let answered = self.clock.look();
        if beat.forgotten {
            self.state().tenure.lose(answered);
            match self.store.join(self.card.clone()).await {
                Ok(id) => {
                    warn!(
                        node = id.0,
                        "this node was forgotten and joins anew; what it had claimed is void"
                    );
                    self.state().id = id;
                }
                Err(error) => error!(%error, "this node was forgotten and cannot join anew"),
            }
            self.hurry.notify_one();
            return;
        }
        self.rates.hear(&beat, self.clock.now());
        if self.state().tenure.heard(asked, answered, beat.store_now) {
            warn!("the clock of this machine stood still; what this node had claimed is void");
        }
        self.heard.notify_one();
        self.share_domains(&beat).await;
    }

    /// Tells the others of throttles. What cannot be told is tried again with the next beat.
    async fn tell_throttles(&self) {
        let throttles = std::mem::take(&mut self.state().throttles);
        for (mchid, throttle) in throttles {
            let told = match self.state().tenure.store_now(self.clock.look()) {
                _ if sabotage::is(Sabotage::ThrottleNotShared) => continue,
                None => None,
                Some(store_now) => Some(Pace {
                    share: throttle.share,
                    at: store_now,
                    shut_until: store_now + throttle.shut_until.duration_since(self.clock.now()),
                }),
            };
            let shared = match told {
                None => false,
                Some(pace) => {
                    self.rates.told(&mchid, pace.at);
                    let news = MerchantNews::Paced(pace);
                    self.store.share(mchid.clone(), news).await.is_ok()
                }
            };
            if !shared {
                self.state().throttles.entry(mchid).or_insert(throttle);
            }
        }
    }

    /// A node whose client switched to the other domain tells the others, and they follow.
    async fn share_domains(&self, beat: &Beat) {
        let Some(courier) = &self.courier else { return };
        for (mchid, is) in courier.on_backup() {
            let was = self.state().on_backup.get(&mchid).copied().unwrap_or(false);
            let state = beat.merchants.iter().find(|state| state.mchid == mchid);
            let heard = state.is_some_and(|state| state.backup_since.is_some());
            let agreed = match share_domain(was, is, heard) {
                Step::Tell => {
                    warn!(merchant = mchid, backup = is, "calls go to the other domain");
                    let backup_since = is.then_some(beat.store_now);
                    let news = MerchantNews::Domain { backup_since };
                    self.store.share(mchid.clone(), news).await.is_ok()
                }
                Step::Follow => courier.follow(&mchid, heard),
                Step::Stay => true,
            };
            if agreed {
                let now = if share_domain(was, is, heard) == Step::Follow {
                    heard
                } else {
                    is
                };
                self.state().on_backup.insert(mchid, now);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// This node found out; the others have to know.
    Tell,
    /// Another node found out.
    Follow,
    Stay,
}

/// What to do about a domain: where this node was when all agreed, where it is, and where the others are.
const fn share_domain(was: bool, is: bool, heard: bool) -> Step {
    if was != is {
        Step::Tell
    } else if is != heard {
        Step::Follow
    } else {
        Step::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_switches_tells_and_the_others_follow() {
        assert_eq!(share_domain(false, true, false), Step::Tell);
        assert_eq!(share_domain(true, false, true), Step::Tell);
        assert_eq!(share_domain(false, false, true), Step::Follow);
        assert_eq!(share_domain(true, true, false), Step::Follow);
        assert_eq!(share_domain(true, true, true), Step::Stay);
        // Both found out.
        assert_eq!(share_domain(false, true, true), Step::Tell);
    }
}

//! The way from one process to the database, which may be slow, lose an answer, or be cut; and the process's end of the line to
//! WeChat Pay. What the database said is noted on the way, to hold the calls against it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parksync::delivery::courier::Courier;
use parksync::domain::delivery::{Delivery, Outcome, Scope};
use parksync::domain::member::MemberKey;
use parksync::domain::plate::Plate;
use parksync::store::sqlite::SqliteStore;
use parksync::store::{
    Amend, Amended, Beat, Bound, ClaimRequest, Counter, Entry, GateEvent, Hold, Lease, Member, MerchantNews, NeverSent,
    Node, NodeCard, NodeId, OutboxFilter, Pulse, Recorded, Renewal, Replay, Retention, Settled, Store, StoreError,
    Swept, Traced, TracedVisit, Try, Unbound,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ice::{Ice, Kind};
use crate::wechat::{How, WeChat};
use crate::world::Dice;

/// What goes wrong on the way of one process.
pub(crate) struct Trouble {
    /// Whether anything goes wrong by itself.
    pub(crate) is_bad: bool,
    pub(crate) dice: Mutex<Dice>,
    /// Nothing gets through.
    pub(crate) cut: AtomicBool,
    mended_at: Mutex<Option<Instant>>,
    /// The answer to the next claim that has lanes is lost.
    pub(crate) lose_claim: AtomicBool,
    /// The process freezes over the next claim that has lanes, before it hears of it.
    pub(crate) freeze_in_claim: Mutex<Option<(Duration, Kind)>>,
}

impl Trouble {
    pub(crate) fn new(is_bad: bool, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            is_bad,
            dice: Mutex::new(Dice::new(seed)),
            cut: AtomicBool::new(false),
            mended_at: Mutex::default(),
            lose_claim: AtomicBool::new(false),
            freeze_in_claim: Mutex::default(),
        })
    }

    /// Cuts the line for that long.
    pub(crate) fn cut(self: &Arc<Self>, how_long: Duration) {
        self.cut.store(true, Ordering::Relaxed);
        let trouble = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(how_long).await;
            trouble.cut.store(false, Ordering::Relaxed);
            *trouble.mended_at.lock().unwrap() = Some(Instant::now());
        });
    }

    pub(crate) fn mended_at(&self) -> Option<Instant> {
        *self.mended_at.lock().unwrap()
    }

    fn chance(&self, in_hundred: u64) -> bool {
        self.is_bad && self.dice.lock().unwrap().in_hundred(in_hundred)
    }

    async fn slow(&self, most_ms: u64) {
        let wait = self.dice.lock().unwrap().below(most_ms);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
}

/// The store, as one process reaches it.
pub(crate) struct Wire {
    pub(crate) process: u32,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) wechat: Arc<WeChat>,
    pub(crate) ice: Arc<Ice>,
    pub(crate) trouble: Arc<Trouble>,
}

impl Wire {
    fn reach(&self) -> Result<(), StoreError> {
        if self.trouble.cut.load(Ordering::Relaxed) {
            return Err(lost());
        }
        Ok(())
    }
}

fn lost() -> StoreError {
    StoreError::Failed {
        doing: "reach the database",
        cause: "the line is cut".to_owned(),
    }
}

/// What the database does is done and noted, even while the process that asked for it is frozen.
async fn at_the_store<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::spawn(work).await.unwrap_or(Err(StoreError::Closed))
}

/// The verbs, of which some are noted and some go wrong on the way; the others only need the line.
macro_rules! wire {
    ($($verb:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Wire {
            async fn claim(&self, request: ClaimRequest) -> Result<Vec<Lease>, StoreError> {
                self.reach()?;
                let (process, store, wechat) = (self.process, Arc::clone(&self.store), Arc::clone(&self.wechat));
                let leases = at_the_store(async move {
                    let leases = store.claim(request).await?;
                    wechat.claimed(process, &leases);
                    Ok(leases)
                })
                .await?;
                if !leases.is_empty() {
                    let freeze = self.trouble.freeze_in_claim.lock().unwrap().take();
                    if let Some((how_long, kind)) = freeze {
                        self.ice.freeze(how_long, kind);
                        self.ice.thawed().await;
                    } else if self.trouble.lose_claim.swap(false, Ordering::Relaxed) || self.trouble.chance(2) {
                        return Err(lost());
                    } else if self.trouble.chance(4) {
                        self.trouble.slow(17_000).await;
                    }
                }
                Ok(leases)
            }

            async fn settle(&self, settled: Vec<Settled>) -> Result<usize, StoreError> {
                self.reach()?;
                if self.trouble.chance(1) {
                    return Err(lost());
                }
                let (process, store, wechat) = (self.process, Arc::clone(&self.store), Arc::clone(&self.wechat));
                let lost_leases = at_the_store(async move {
                    let answer = store.settle(settled.clone()).await;
                    match &answer {
                        Ok(lost) => wechat.settled_as(process, &settled, *lost),
                        // The process died over the commit, before or after it.
                        Err(StoreError::Closed) => wechat.settled_perhaps(process, &settled),
                        Err(_) => {}
                    }
                    answer
                })
                .await?;
                if self.trouble.chance(1) {
                    return Err(lost());
                }
                if self.trouble.chance(2) {
                    self.trouble.slow(3_000).await;
                }
                Ok(lost_leases)
            }

            async fn take_over(&self) -> Result<u32, StoreError> {
                self.reach()?;
                let lanes = self.store.take_over().await?;
                self.wechat.taken_over(lanes);
                Ok(lanes)
            }

            async fn beat(&self, pulse: Pulse) -> Result<Beat, StoreError> {
                self.reach()?;
                if self.trouble.chance(1) {
                    return Err(lost());
                }
                let asked_at = Instant::now();
                let beat = self.store.beat(pulse).await?;
                self.ice.sees(asked_at);
                Ok(beat)
            }

            async fn leave(&self, node: NodeId) -> Result<(), StoreError> {
                self.reach()?;
                self.store.leave(node).await?;
                self.wechat.left(self.process);
                Ok(())
            }

            async fn changed(&self) {
                self.store.changed().await;
            }

            $(async fn $verb(&self, $($argument: $kind),*) -> $answer {
                self.reach()?;
                self.store.$verb($($argument),*).await
            })*
        }
    };
}

wire! {
    record(events: Vec<GateEvent>, never: Vec<NeverSent>) -> Result<Vec<Recorded>, StoreError>;
    amend(amend: Amend) -> Result<Amended, StoreError>;
    bind(member: MemberKey, plates: Vec<Plate>, sole: bool, now: Timestamp) -> Result<Bound, StoreError>;
    unbind(member: MemberKey, plates: Vec<Plate>, now: Timestamp) -> Result<Unbound, StoreError>;
    members(circle: Option<String>, after: i64, limit: u32) -> Result<(Vec<Member>, Option<i64>), StoreError>;
    set_circles(circles: Vec<(String, String)>) -> Result<(), StoreError>;
    join(card: NodeCard) -> Result<NodeId, StoreError>;
    nodes() -> Result<Vec<Node>, StoreError>;
    share(mchid: String, news: MerchantNews) -> Result<(), StoreError>;
    holds() -> Result<Vec<Hold>, StoreError>;
    hold(scope: Scope, name: String, reason: String, now: Timestamp) -> Result<(), StoreError>;
    release(scope: Scope, name: String) -> Result<bool, StoreError>;
    outbox(filter: OutboxFilter) -> Result<Vec<Entry>, StoreError>;
    message(id: i64) -> Result<Option<(Entry, Vec<Try>)>, StoreError>;
    replay(id: i64, force: bool, really: bool, now: Timestamp) -> Result<Replay, StoreError>;
    trace(of: Traced) -> Result<Vec<TracedVisit>, StoreError>;
    mark_stale(entered_before: Timestamp, lot: String, now: Timestamp) -> Result<u32, StoreError>;
    renew(renewal: Renewal) -> Result<u32, StoreError>;
    forget(retention: Retention) -> Result<Swept, StoreError>;
    next_due() -> Result<Option<Timestamp>, StoreError>;
    heartbeat(now: Timestamp) -> Result<(), StoreError>;
    counters() -> Result<Vec<Counter>, StoreError>;
}

/// One process's end of the line to WeChat Pay.
pub(crate) struct Line {
    pub(crate) process: u32,
    pub(crate) trouble: Arc<Trouble>,
    pub(crate) wechat: Arc<WeChat>,
    pub(crate) ice: Arc<Ice>,
}

#[async_trait]
impl Courier for Line {
    async fn deliver(&self, delivery: &Delivery) -> Outcome {
        if let Some(how_long) = self.wechat.fumble(delivery) {
            self.ice.freeze(how_long, Kind::Process);
        }
        let answer = if self.ice.is_frozen() {
            self.send_once_thawed(delivery)
        } else {
            let how = if self.ice.is_blind() { How::Blind } else { How::Plain };
            WeChat::send(&self.wechat, self.process, delivery, how)
        };
        // What has left arrives, whatever becomes of the process.
        let outcome = answer.await.unwrap_or_else(|_| Outcome::Unknown {
            why: "the answer never came".to_owned(),
        });
        // Only who is awake and reaches the database can tell the others.
        if !self.trouble.cut.load(Ordering::Relaxed) && !self.ice.is_frozen() {
            self.wechat.heard(&outcome);
        }
        outcome
    }
}

impl Line {
    /// The one moment that no check can cover: between the last look at the claim and the send. When the process runs again, the call
    /// leaves before the process learns how late it is.
    fn send_once_thawed(&self, delivery: &Delivery) -> oneshot::Receiver<Outcome> {
        let (told, outcome) = oneshot::channel();
        let (process, wechat, ice) = (self.process, Arc::clone(&self.wechat), Arc::clone(&self.ice));
        let delivery = delivery.clone();
        tokio::spawn(async move {
            ice.thawed().await;
            if ice.is_dead() {
                return;
            }
            if let Ok(outcome) = WeChat::send(&wechat, process, &delivery, How::AfterAFreeze).await {
                let _ = told.send(outcome);
            }
        });
        outcome
    }
}

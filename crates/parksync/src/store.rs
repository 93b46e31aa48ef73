//! What must last: members, visits, the outbox. A few coarse verbs, each one transaction.
//!
//! Decisions come from `domain`; an adapter owns its SQL and its transactions. `web`, `delivery` and `cli` call it.

mod book;
pub mod moving;
mod nodes;
pub mod postgres;
pub mod sqlite;
pub mod vault;
mod views;

use std::collections::HashMap;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::domain::delivery::{Delivery, Outcome, Scope, Verdict};
use crate::domain::gate::{Read, TimeSource};
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;
use crate::domain::presence::{At, Policy};
use crate::limits;

pub use nodes::{Beat, MerchantNews, MerchantState, Node, NodeCard, NodeId, Pace, Pulse};
pub use views::{Entry, OutboxFilter, Replay, Status, Traced, TracedEvent, TracedVisit, Try};

/// Members that one car can stand for. A family has a few; more is a mistake in the member system.
pub const MEMBERS_PER_PLATE: u32 = 10;

/// A car that entered longer ago than this is not told at a late bind: nobody knows whether it is still there.
const LATE_BIND: SignedDuration = SignedDuration::from_hours(24);
/// How long a call whose claim was lost may still be on its way after its node stopped waiting for it, by whatever clocks of two nodes:
/// a deadline, each clock, and some seconds more.
const LATE_CALL: SignedDuration = SignedDuration::from_secs(2 * limits::NODE_CLOCK.as_secs() + 20);
/// How long after a probe without an answer the next one goes.
const PROBE_AGAIN_MS: i64 = 15_000;

/// One thing a sender told us, ready to be written down.
#[derive(Clone, Debug)]
pub struct GateEvent {
    /// The circle of the lot.
    pub circle: String,
    /// The car park.
    pub lot: String,
    /// The lane of it, when known.
    pub gate: Option<String>,
    /// What was seen.
    pub read: Read,
    /// When we received it.
    pub received_at: Timestamp,
    /// The settings of the lot.
    pub policy: Policy,
}

/// What became of one gate event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// We had it already; nothing changed.
    Duplicate,
    /// A second read of a passage that we know; nothing is sent for it.
    Merged,
    /// Written down. No member is bound to the plate.
    NoMember,
    /// Written down; this many lanes will tell WeChat Pay.
    Queued(u32),
    /// Written down, but every bound member was already reported with a newer state.
    History,
    /// Written down; an old entry that waits for a person.
    Held,
    /// Written down. The car turned round before its entry was told, so neither is.
    TurnedRound,
    /// Written down. Another car of the same member is inside, and one is enough.
    OtherCarInside,
    /// Written down. A gate of an inner lot: nobody entered or left the mall.
    Inner,
}

impl Recorded {
    /// The word for counters and answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Merged => "merged",
            Self::NoMember => "no-member",
            Self::Queued(_) => "queued",
            Self::History => "history",
            Self::Held => "waits-for-person",
            Self::TurnedRound => "turned-round",
            Self::OtherCarInside => "other-car-inside",
            Self::Inner => "inner",
        }
    }
}

/// A read that was understood and never goes anywhere: only its number counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverSent {
    /// The car park.
    pub lot: String,
    /// A stable word, for counters.
    pub reason: &'static str,
}

/// A plate bound to a member, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub key: MemberKey,
    /// The member's cars.
    pub plates: Vec<Plate>,
}

/// What binding did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Plates that were new for this member.
    pub added: u32,
    /// Cars that are inside right now: their entry is sent at once (late bind).
    pub inside: u32,
    /// Plates that were refused: [`MEMBERS_PER_PLATE`] others have them already.
    pub full: u32,
}

/// What unbinding did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unbound {
    /// Plates that were bound and are not any more.
    pub removed: u32,
    /// Waiting messages that were taken out of the outbox.
    pub withdrawn: u32,
}

/// The right to make one try for the head of one lane, until the claim ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The lane.
    pub lane: i64,
    /// Which claim of the lane this is. A settle with another number is void.
    pub epoch: i64,
    /// The merchant that signs for it.
    pub merchant: String,
    /// The message to send.
    pub head: Delivery,
}

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Who asks.
    pub node: NodeId,
    /// How long the claims are good for, by the clock of the store.
    pub lease: SignedDuration,
    /// The time.
    pub now: Timestamp,
    /// Lanes at most.
    pub limit: u32,
    /// Counts up with every claim, so that no circle is always the first.
    pub turn: u64,
    /// Lanes at most for a merchant whose rate is limited right now.
    pub allowed: HashMap<String, u32>,
}

impl ClaimRequest {
    /// Asks for lanes without regard to rates.
    #[must_use]
    pub fn new(node: NodeId, now: Timestamp, limit: u32) -> Self {
        Self {
            node,
            lease: limits::LEASE,
            now,
            limit,
            turn: 0,
            allowed: HashMap::new(),
        }
    }
}

/// Something that pauses: the lanes of a circle, or of all circles of a merchant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// How far it reaches.
    pub scope: Scope,
    /// The circle or the mchid.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Probes that were refused.
    pub probes: u32,
    /// When the next probe goes. `None`: a person holds it.
    pub probe_at: Option<Timestamp>,
}

/// A sender's word that a record of it was wrong.
#[derive(Clone, Debug)]
pub struct Amend {
    /// The circle of the lot.
    pub circle: String,
    /// The car park.
    pub lot: String,
    /// The sender's id of the record.
    pub record_id: String,
    /// The right plate; `None` when the car did not cross at all.
    pub plate: Option<Plate>,
    /// When we were told.
    pub received_at: Timestamp,
    /// The settings of the lot.
    pub policy: Policy,
}

impl Amend {
    /// The event of the right plate, in place of one that was read at a gate with a wrong one.
    fn corrected(&self, plate: &Plate, gate: Option<String>, crossing: At) -> GateEvent {
        GateEvent {
            circle: self.circle.clone(),
            lot: self.lot.clone(),
            gate,
            read: Read {
                plate: plate.clone(),
                state: crossing.state,
                at: crossing.at,
                time_source: TimeSource::Sender,
                record_id: Some(self.record_id.clone()),
                device: None,
                replayed: false,
            },
            // The car crossed when it was read, and the right plate is news now: its age is not the sender's delay.
            received_at: self.received_at.min(crossing.at + self.policy.backdated_after),
            policy: self.policy,
        }
    }
}

/// What became of an [`Amend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    /// No such record is known, or it was amended already.
    UnknownRecord,
    /// The record has this plate already.
    Unchanged,
    /// It did not happen.
    Cancelled,
    /// It happened with the right plate; this became of that.
    Corrected(Recorded),
}

/// Cars of one lot to tell again after midnight.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The circle of the lot.
    pub circle: String,
    /// The car park.
    pub lot: String,
    /// The beginning of the day, in China.
    pub midnight: Timestamp,
    /// The time.
    pub now: Timestamp,
}

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// The time.
    pub now: Timestamp,
    /// After the end of a visit whose plate nobody bound.
    pub strangers: SignedDuration,
    /// After the end of any visit.
    pub all: SignedDuration,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Visits that were old enough to be looked at. As many as a step takes: there may be more.
    pub looked: u32,
    /// Visits that are gone.
    pub visits: u32,
    /// Events that are gone, with their messages and tries.
    pub events: u32,
}

/// What one try came to.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The claim under which it was made.
    pub lease: Lease,
    /// When it began.
    pub began_at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// What it saw.
    pub outcome: Outcome,
    /// What follows from it.
    pub verdict: Verdict,
}

impl Settled {
    /// When it was over, by the clock of its node.
    fn ended_at(&self) -> Timestamp {
        self.began_at + SignedDuration::from_millis(self.took_ms)
    }

    /// From when on nothing of it can arrive at WeChat Pay any more. `None` if nothing of it ever did.
    fn silent_from(&self) -> Option<Timestamp> {
        match self.outcome {
            Outcome::Accepted { .. } => Some(self.ended_at()),
            Outcome::Unknown { .. } => Some(self.ended_at() + LATE_CALL),
            Outcome::Refused { .. }
            | Outcome::NotSent { .. }
            | Outcome::Unbuildable { .. }
            | Outcome::Expired
            | Outcome::Unclaimed { .. } => None,
        }
    }
}

/// One counter: what, of which lot or circle, why, how many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    /// What is counted: `event`, `never`, `visit`, `clock` and `amend` of a lot; `delivery`, `retry` and `waiting` of a circle; `hold`.
    pub name: String,
    /// The lot or circle.
    pub scope: String,
    /// The word of the decision or the reason.
    pub word: String,
    /// How many.
    pub value: i64,
}

/// Why the store could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// More work waits for the disk than the bound allows. Nothing was written; try again.
    #[error("the store is busy: {waiting} jobs wait already")]
    Busy {
        /// The bound that was reached.
        waiting: usize,
    },
    /// The database failed. Nothing of this call was written.
    #[error("the store could not {doing}: {cause}")]
    Failed {
        /// What was going on.
        doing: &'static str,
        /// What the database said.
        cause: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Everything the service asks of a database.
#[async_trait]
pub trait Store: Send + Sync {
    /// Dedupes, decides and enqueues, all in one transaction. When it returns, the events are on disk.
    async fn record(&self, events: Vec<GateEvent>, never: Vec<NeverSent>) -> Result<Vec<Recorded>, StoreError>;

    /// Corrects or cancels a sender's record: takes back what it did, and records what really happened.
    async fn amend(&self, amend: Amend) -> Result<Amended, StoreError>;

    /// Binds plates to a member, who is made when new. Cars that are inside are told at once. `sole`: the plates belong to nobody
    /// else any more.
    async fn bind(
        &self,
        member: MemberKey,
        plates: Vec<Plate>,
        sole: bool,
        now: Timestamp,
    ) -> Result<Bound, StoreError>;

    /// Takes plates from a member, all of them when `plates` is empty, and withdraws what waits for them.
    async fn unbind(&self, member: MemberKey, plates: Vec<Plate>, now: Timestamp) -> Result<Unbound, StoreError>;

    /// Members with their plates, oldest first, at most `limit` after the `after`-th; and the number to go on from.
    async fn members(
        &self,
        circle: Option<String>,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<Member>, Option<i64>), StoreError>;

    /// Makes circles known: their names, and the merchants that sign for them.
    async fn set_circles(&self, circles: Vec<(String, String)>) -> Result<(), StoreError>;

    /// Takes lanes that are due, fairly between circles. Each lease carries the head of its lane, which is written down as possibly
    /// sent.
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Lease>, StoreError>;

    /// Writes down what tries came to and frees their lanes. Returns how many leases were lost meanwhile and did not count. Such a
    /// try may have reached WeChat Pay behind something newer; then the newest state is told once more.
    async fn settle(&self, settled: Vec<Settled>) -> Result<usize, StoreError>;

    /// Frees the lanes whose claims ended without a settle. Each keeps its head, which may have been sent and is repeated first.
    /// Returns how many.
    async fn take_over(&self) -> Result<u32, StoreError>;

    /// A node begins to work.
    async fn join(&self, card: NodeCard) -> Result<NodeId, StoreError>;

    /// A node says that it lives, and hears what all nodes know. Once a second.
    async fn beat(&self, pulse: Pulse) -> Result<Beat, StoreError>;

    /// A node ends in good order. Lanes that it still holds are free at once.
    async fn leave(&self, node: NodeId) -> Result<(), StoreError>;

    /// All nodes that were seen within the last day, by name.
    async fn nodes(&self) -> Result<Vec<Node>, StoreError>;

    /// Tells all nodes something about a merchant.
    async fn share(&self, mchid: String, news: MerchantNews) -> Result<(), StoreError>;

    /// Everything that pauses.
    async fn holds(&self) -> Result<Vec<Hold>, StoreError>;

    /// A person pauses a circle or a merchant.
    async fn hold(&self, scope: Scope, name: String, reason: String, now: Timestamp) -> Result<(), StoreError>;

    /// A person lets a circle or a merchant go on. Says whether it paused.
    async fn release(&self, scope: Scope, name: String) -> Result<bool, StoreError>;

    /// Messages of one status, oldest first.
    async fn outbox(&self, filter: OutboxFilter) -> Result<Vec<Entry>, StoreError>;

    /// One message with its tries.
    async fn message(&self, id: i64) -> Result<Option<(Entry, Vec<Try>)>, StoreError>;

    /// Sends a dead or held message again; without `really`, only says what that would do.
    async fn replay(&self, id: i64, force: bool, really: bool, now: Timestamp) -> Result<Replay, StoreError>;

    /// The latest visits of a car, or of all cars of a member, oldest first.
    async fn trace(&self, of: Traced) -> Result<Vec<TracedVisit>, StoreError>;

    /// Marks visits of a lot stale that began before. Returns how many; call again until it is none.
    async fn mark_stale(&self, entered_before: Timestamp, lot: String, now: Timestamp) -> Result<u32, StoreError>;

    /// Tells again that cars are inside. Returns how many; call again until it is none.
    async fn renew(&self, renewal: Renewal) -> Result<u32, StoreError>;

    /// Removes what is older than it may get, one bounded step. Call again until nothing is looked at.
    async fn forget(&self, retention: Retention) -> Result<Swept, StoreError>;

    /// When the next lane that may be claimed is due.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Returns when something was written that may make a lane due. Another process may write, too: look by the clock as well.
    async fn changed(&self);

    /// Writes something of no meaning, to see whether the database can be written.
    async fn heartbeat(&self, now: Timestamp) -> Result<(), StoreError>;

    /// All counters.
    async fn counters(&self) -> Result<Vec<Counter>, StoreError>;
}

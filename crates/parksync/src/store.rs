//! What must last: members, visits, the outbox. A few coarse verbs, each one transaction.
//!
//! Decisions come from `domain`; an adapter owns its SQL and its transactions. `web`, `delivery` and `cli` call it.

pub mod sqlite;
pub mod vault;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::delivery::{Delivery, Outcome, Verdict};
use crate::domain::gate::Read;
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;
use crate::domain::presence::Policy;

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
            Self::Held => "held",
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
}

/// What unbinding did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unbound {
    /// Plates that were bound and are not any more.
    pub removed: u32,
    /// Waiting messages that were taken out of the outbox.
    pub withdrawn: u32,
}

/// The right to make one try for the head of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The lane.
    pub lane: i64,
    /// Which claim of the lane this is. A settle with another number is void.
    pub epoch: i64,
    /// The message to send.
    pub head: Delivery,
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

/// One counter: what, of which lot or circle, why, how many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    /// What is counted: `event`, `never`, `delivery` or `waiting`.
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

    /// Binds plates to a member, who is made when new. Cars that are inside are told at once.
    async fn bind(&self, member: MemberKey, plates: Vec<Plate>, now: Timestamp) -> Result<Bound, StoreError>;

    /// Takes plates from a member, all of them when `plates` is empty, and withdraws what waits for them.
    async fn unbind(&self, member: MemberKey, plates: Vec<Plate>, now: Timestamp) -> Result<Unbound, StoreError>;

    /// Members with their plates, oldest first, at most `limit` after the `after`-th; and the number to go on from.
    async fn members(
        &self,
        circle: Option<String>,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<Member>, Option<i64>), StoreError>;

    /// Takes up to `limit` lanes that are due. Each lease carries the head of its lane, which is written down as possibly sent.
    async fn claim(&self, now: Timestamp, limit: u32) -> Result<Vec<Lease>, StoreError>;

    /// Writes down what tries came to and frees their lanes. Returns how many leases were lost meanwhile and did not count.
    async fn settle(&self, settled: Vec<Settled>) -> Result<usize, StoreError>;

    /// When the next lane that nobody holds is due.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Returns when something was written that may make a lane due. Another process may write, too: look by the clock as well.
    async fn changed(&self);

    /// All counters.
    async fn counters(&self) -> Result<Vec<Counter>, StoreError>;
}

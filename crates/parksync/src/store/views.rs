//! What people look up: messages of the outbox with their tries, and visits with all that came of them.

use jiff::Timestamp;

use crate::domain::gate::Direction;
use crate::domain::member::{MemberKey, Openid};
use crate::domain::plate::Plate;
use crate::domain::presence::Seen;
use crate::domain::story::Place;

/// Where a message is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In its lane.
    Waiting,
    /// Put aside for a person.
    Held,
    /// Given up.
    Dead,
    /// WeChat Pay has it.
    Delivered,
    /// Made pointless by something newer.
    Superseded,
    /// The member left.
    Withdrawn,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Held,
        Self::Dead,
        Self::Delivered,
        Self::Superseded,
        Self::Withdrawn,
    ];

    /// The word that is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Dead => "dead",
            Self::Delivered => "delivered",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// Which messages to list.
#[derive(Clone, Debug)]
pub struct OutboxFilter {
    /// Of this status.
    pub status: Status,
    /// Only of this circle.
    pub circle: Option<String>,
    /// Only with this text in the reason.
    pub reason: Option<String>,
    /// Only after this one.
    pub after: i64,
    /// So many at most.
    pub limit: u32,
}

/// One message of the outbox, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// The circle.
    pub circle: String,
    /// The member.
    pub openid: Openid,
    /// The car.
    pub plate: Plate,
    /// What is told.
    pub state: Direction,
    /// The time that is told.
    pub at: Timestamp,
    /// Why it is told: crossing, late-bind, correction, cancellation, midnight or replay.
    pub cause: String,
    /// Since when it is in the outbox.
    pub enqueued_at: Timestamp,
    /// Where it is.
    pub place: Place,
}

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// When it began.
    pub began_at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// What it saw, in a word.
    pub outcome: String,
    /// HTTP status of a refusal.
    pub status: Option<u16>,
    /// WeChat Pay's code.
    pub code: Option<String>,
    /// WeChat Pay's number of the call.
    pub request_id: Option<String>,
    /// WeChat Pay's text, or what broke.
    pub detail: Option<String>,
}

/// What a replay does, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// There is no such message.
    Unknown,
    /// It is neither dead nor held.
    NotOpen {
        /// What it is.
        status: String,
    },
    /// The plate is not bound to the member any more.
    NoMember,
    /// WeChat Pay holds a newer state of this car; sending this one would turn the present back.
    TurnsBack {
        /// What it holds.
        told: Direction,
        /// Of when.
        told_at: Timestamp,
    },
    /// Afterwards WeChat Pay would hold this.
    Would {
        /// The state.
        state: Direction,
        /// Of when.
        at: Timestamp,
    },
    /// It waits for its turn again.
    Queued {
        /// The state.
        state: Direction,
        /// Of when.
        at: Timestamp,
    },
}

/// Whose visits to trace.
#[derive(Clone, Debug)]
pub enum Traced {
    /// One car's.
    Plate(Plate),
    /// All cars' of a member.
    Member(MemberKey),
}

/// One visit, with all that came of it.
#[derive(Clone, Debug)]
pub struct TracedVisit {
    /// The circle.
    pub circle: String,
    /// The car.
    pub plate: Plate,
    /// The entry, unless it was not seen.
    pub entered: Option<Seen>,
    /// The exit, unless it was not seen.
    pub left: Option<Seen>,
    /// How it ended: left, no-exit-seen, stale or cancelled.
    pub ended: Option<String>,
    /// Members that have the plate today.
    pub members: u32,
    /// What gates told of it.
    pub events: Vec<TracedEvent>,
}

/// What one gate told, and what came of it.
#[derive(Clone, Debug)]
pub struct TracedEvent {
    /// The car park.
    pub lot: String,
    /// The lane of it.
    pub gate: Option<String>,
    /// In or out.
    pub state: Direction,
    /// When, as we take it.
    pub at: Timestamp,
    /// What the sender said, when that was not believed.
    pub at_claimed: Option<Timestamp>,
    /// When we received it.
    pub received_at: Timestamp,
    /// Whether it was replayed after an outage.
    pub replayed: bool,
    /// What became of it, in a word.
    pub recorded: String,
    /// What was told for it.
    pub messages: Vec<(Entry, Vec<Try>)>,
}

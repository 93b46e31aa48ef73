//! What a store loads of the cars of a group, and what it has to write.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::gate::Direction;
use crate::domain::presence::{Arrival, At};
use crate::store::Recorded;
use crate::store::vault::Tag;

/// A car in a circle.
pub(in crate::store) type CarKey = (String, Tag);

/// What is known of one car.
#[derive(Debug, Default)]
pub(in crate::store) struct Car {
    /// Its latest visits that were not cancelled, oldest first. Two are enough.
    pub(in crate::store) visits: Vec<VisitRow>,
    /// The members that are bound to it.
    pub(in crate::store) listeners: Vec<Listener>,
    /// The reads of its last visit, in order. They matter only where some were merged, so only then they are loaded.
    pub(in crate::store) reads: Option<Vec<ReadRow>>,
}

/// One read of a visit, as its own event tells it.
#[derive(Clone, Debug)]
pub(in crate::store) struct ReadRow {
    pub(in crate::store) event_id: i64,
    pub(in crate::store) lot: String,
    pub(in crate::store) state: Direction,
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) arrival: Arrival,
    /// Members whose lanes were given a message of it.
    pub(in crate::store) told_to: Vec<i64>,
}

/// One stay, as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct VisitRow {
    pub(in crate::store) id: i64,
    pub(in crate::store) entered_lot: Option<String>,
    pub(in crate::store) entered_at: Option<Timestamp>,
    pub(in crate::store) left_lot: Option<String>,
    pub(in crate::store) left_at: Option<Timestamp>,
    pub(in crate::store) ended: Option<String>,
    pub(in crate::store) forget_from: Option<Timestamp>,
    /// A member was bound to the plate at one of its crossings.
    pub(in crate::store) of_member: bool,
    /// One of its ends was read more than once.
    pub(in crate::store) reread: bool,
}

/// One member's lane, as far as one car is concerned.
#[derive(Debug)]
pub(in crate::store) struct Listener {
    pub(in crate::store) member: i64,
    /// The newest state that was sent, or may have been.
    pub(in crate::store) told: Option<At>,
    /// Another car of the member was told as inside.
    pub(in crate::store) other_car_inside: bool,
    /// What waits and was never tried, in the order it came.
    pub(in crate::store) waiting: Vec<Waits>,
}

/// A message that waits and was never tried.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Waits {
    pub(in crate::store) at: At,
    pub(in crate::store) place: Place,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Place {
    /// In the store, under this id.
    Stored(i64),
    /// Among the [`Changes::messages`].
    New(usize),
}

/// Everything a store has to write.
#[derive(Debug, Default)]
pub(in crate::store) struct Changes {
    pub(in crate::store) events: Vec<NewEvent>,
    /// Visits that are new or different, by car.
    pub(in crate::store) visits: BTreeMap<i64, (CarKey, VisitRow)>,
    pub(in crate::store) messages: Vec<NewMessage>,
    /// Stored messages that are pointless now, and why.
    pub(in crate::store) superseded: Vec<(i64, &'static str, Timestamp)>,
    /// Stored events that belong to another visit, and to which.
    pub(in crate::store) moved: Vec<(i64, i64)>,
    /// Stored events that were taken for second reads and are told after all.
    pub(in crate::store) parted: Vec<PartedEvent>,
    /// Lanes whose time has to be looked at again.
    pub(in crate::store) lanes: BTreeSet<i64>,
    pub(in crate::store) counts: Counts,
}

/// Counters to add to, by name, scope and word.
pub(in crate::store) type Counts = BTreeMap<(&'static str, String, String), i64>;

/// An event to write down.
#[derive(Debug)]
pub(in crate::store) struct NewEvent {
    /// Which of the group.
    pub(in crate::store) index: usize,
    pub(in crate::store) id: i64,
    pub(in crate::store) visit: Option<i64>,
    /// A member is bound to the plate, so it may be kept, sealed.
    pub(in crate::store) of_member: bool,
    pub(in crate::store) recorded: Recorded,
}

/// A second read that was a crossing of its own.
#[derive(Debug)]
pub(in crate::store) struct PartedEvent {
    pub(in crate::store) event_id: i64,
    /// Which event of the group has its plate.
    pub(in crate::store) index: usize,
    pub(in crate::store) of_member: bool,
    pub(in crate::store) recorded: Recorded,
}

/// A message to write down.
#[derive(Debug)]
pub(in crate::store) struct NewMessage {
    /// Which event of the group has its plate.
    pub(in crate::store) index: usize,
    pub(in crate::store) event_id: i64,
    pub(in crate::store) member: i64,
    pub(in crate::store) state: Direction,
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) not_before: Timestamp,
    pub(in crate::store) status: &'static str,
    pub(in crate::store) reason: Option<&'static str>,
}

/// Why a message is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Cause {
    Crossing,
    LateBind,
    Correction,
    Cancellation,
    Midnight,
    Replay,
    Reassertion,
}

impl Cause {
    pub(in crate::store) const fn as_str(self) -> &'static str {
        match self {
            Self::Crossing => "crossing",
            Self::LateBind => "late-bind",
            Self::Correction => "correction",
            Self::Cancellation => "cancellation",
            Self::Midnight => "midnight",
            Self::Replay => "replay",
            Self::Reassertion => "reassertion",
        }
    }
}

/// The reason of a message that waits for a person from its beginning.
pub(in crate::store) const HELD: &str = "an old entry that surfaced after an outage: a person decides";
pub(super) const REPLACED: &str = "a newer state of the same batch replaced it";
pub(super) const TURNED_ROUND: &str = "the car turned round before it was told";

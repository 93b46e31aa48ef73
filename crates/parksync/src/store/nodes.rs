//! The processes that work on one store, and what they tell each other.

use jiff::{SignedDuration, Timestamp};

/// A process that works on the store, by the number it got when it joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub i64);

/// How a node introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCard {
    /// What people call it.
    pub name: String,
    /// What it does: `all`, `web` or `worker`.
    pub role: &'static str,
    /// Its program.
    pub version: &'static str,
}

/// What a node says of itself once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Who.
    pub node: NodeId,
    /// Its clock.
    pub now: Timestamp,
    /// Calls under way.
    pub in_flight: u32,
    /// Calls made since it started.
    pub sent: i64,
}

/// What a node hears once a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    /// The clock of the store.
    pub store_now: Timestamp,
    /// Nodes that deliver and were seen lately, the asking one included.
    pub workers: u32,
    /// What all nodes know of the merchants. One that nobody told anything of is missing.
    pub merchants: Vec<MerchantState>,
    /// Another node says that the asking one left, or was away for too long: its lanes are gone, it has to join anew.
    pub forgotten: bool,
}

/// What all nodes know of a merchant's way to WeChat Pay.
#[derive(Clone, Debug, PartialEq)]
pub struct MerchantState {
    /// The merchant.
    pub mchid: String,
    /// How fast it may be called.
    pub pace: Pace,
    /// Since when its calls go to the backup domain; `None` for the main one.
    pub backup_since: Option<Timestamp>,
}

/// How much slower than configured a merchant is called after a throttle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The share of the configured rate, above 0, at most 1. It grows back from `at` on.
    pub share: f64,
    /// When that was so.
    pub at: Timestamp,
    /// No call before.
    pub shut_until: Timestamp,
}

/// Something about a merchant that the other nodes have to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MerchantNews {
    /// WeChat Pay throttled it.
    Paced(Pace),
    /// Its calls go to the backup domain since then, or to the main one again.
    Domain {
        /// Since when; `None` for the main domain.
        backup_since: Option<Timestamp>,
    },
}

/// A node, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// What it does: `all`, `web` or `worker`.
    pub role: String,
    /// Its program.
    pub version: String,
    /// When it joined.
    pub started_at: Timestamp,
    /// When it was heard of last, by the clock of the store.
    pub seen_at: Timestamp,
    /// How long ago that is, by the clock of the store.
    pub silent: SignedDuration,
    /// Its clock minus that of the store.
    pub ahead: SignedDuration,
    /// Lanes that it has claimed.
    pub lanes: u32,
    /// Calls under way.
    pub in_flight: u32,
    /// Calls since it joined.
    pub sent: i64,
}

//! What a gate event means: which visit it belongs to, and whether a member's lane hears of it.
//!
//! The rows are those of the policy table in ARCHITECTURE.md. Storing the answer is `store`'s job; sending it is `delivery`'s.

mod lane;
mod visit;

use jiff::{SignedDuration, Timestamp};

use super::gate::{Direction, TimeSource};

pub use lane::{Arrival, At, LaneView, Tell, Undo, tell, undo};
pub use visit::{Seen, Step, Visit, follow, parted};

/// The settings of a lot that decisions depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Reads of one plate in one lot and direction this close together are one passage.
    pub merge_window: SignedDuration,
    /// An event that arrives this long after it happened is back-dated, also when the sender does not say so.
    pub backdated_after: SignedDuration,
    /// How long a back-dated state waits for newer ones of the same batch before it leaves.
    pub backdated_settle: SignedDuration,
    /// A back-dated `IN` older than this waits for a person.
    pub hold_in_after: SignedDuration,
    /// A time this far ahead of ours is waited for; further ahead it is a wrong clock.
    pub future_tolerance: SignedDuration,
    /// How long an entry waits before it leaves, so that a car that turns round cancels out. Zero: it leaves at once.
    pub settle: SignedDuration,
    /// A car that entered longer ago than this without an exit is stale: nobody knows whether it is still there.
    pub max_stay: SignedDuration,
    /// An exit is not told while another car of the same member is inside.
    pub one_car_is_enough: bool,
    /// The lot lies inside another one (内场): crossing its gates neither enters nor leaves the mall.
    pub inner: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            merge_window: SignedDuration::from_secs(120),
            backdated_after: SignedDuration::from_mins(10),
            backdated_settle: SignedDuration::from_secs(10),
            hold_in_after: SignedDuration::from_hours(12),
            future_tolerance: SignedDuration::from_mins(5),
            settle: SignedDuration::ZERO,
            max_stay: SignedDuration::from_hours(24),
            one_car_is_enough: false,
            inner: false,
        }
    }
}

/// The time of an event, after a wrong clock was found out.
///
/// Up to the tolerance a time in the future is believed (and waited for). Beyond it the sender's clock is wrong: the moment
/// of receipt is used instead, and the event is marked.
#[must_use]
pub fn trusted_time(claimed: Timestamp, received_at: Timestamp, policy: &Policy) -> (Timestamp, TimeSource) {
    if claimed.duration_since(received_at) > policy.future_tolerance {
        (received_at, TimeSource::Receipt)
    } else {
        (claimed, TimeSource::Sender)
    }
}

/// One crossing, as far as decisions care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing<'a> {
    /// The car park of the gate.
    pub lot: &'a str,
    /// Which way.
    pub state: Direction,
    /// When, after [`trusted_time`].
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const POLICY: fn() -> Policy = Policy::default;

    pub(super) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    pub(super) fn crossing(state: Direction, seconds: i64) -> Crossing<'static> {
        Crossing {
            lot: "P1",
            state,
            at: at(seconds),
        }
    }

    #[test]
    fn a_clock_far_ahead_is_not_believed() {
        assert_eq!(trusted_time(at(300), at(0), &POLICY()), (at(300), TimeSource::Sender));
        assert_eq!(trusted_time(at(301), at(0), &POLICY()), (at(0), TimeSource::Receipt));
    }
}

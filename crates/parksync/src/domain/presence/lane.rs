//! What one member's lane hears of a crossing, and how one that did not happen is taken back.

use jiff::Timestamp;

use super::{Crossing, Policy};
use crate::domain::gate::Direction;
use crate::sabotage::{self, Sabotage};

/// How an event came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When we received it.
    pub received_at: Timestamp,
    /// The sender marks it as replayed after an outage.
    pub replayed: bool,
}

/// A state at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// In or out.
    pub state: Direction,
    /// When.
    pub at: Timestamp,
}

/// What a lane already knows of the plate of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneView {
    /// The newest state of this plate that was sent, or may have been.
    pub told: Option<At>,
    /// The newest state of this plate that waits and was never tried.
    pub waiting: Option<At>,
    /// Another car of the same member was told as inside.
    pub other_car_inside: bool,
}

/// What becomes of one crossing in one member's lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// Waits for its turn, not before the given time.
    Queue {
        /// It does not leave earlier than this.
        not_before: Timestamp,
        /// Older waiting states of the same plate are pointless now.
        supersedes_older: bool,
    },
    /// Waits for a person: an old `IN` that surfaced after an outage.
    Hold,
    /// The entry that still waits is taken out: the car turned round before anybody was told of it. Nothing to tell either.
    CancelOut,
    /// Kept as history: another car of the same member is inside, and one is enough.
    OtherCarInside,
    /// Kept as history: this member's car was already reported with a newer state.
    OlderThanTold,
    /// Kept as history: a newer state of the same back-dated batch waits already.
    OlderThanWaiting,
}

/// Decides whether one member's lane hears of a crossing.
#[must_use]
pub fn tell(view: LaneView, crossing: Crossing<'_>, arrival: Arrival, policy: &Policy) -> Tell {
    if view.told.is_some_and(|told| crossing.at < told.at) && !sabotage::is(Sabotage::OlderThanToldIsSent) {
        return Tell::OlderThanTold;
    }
    if crossing.state == Direction::Out && policy.one_car_is_enough && view.other_car_inside {
        return Tell::OtherCarInside;
    }
    let age = arrival.received_at.duration_since(crossing.at);
    if !arrival.replayed && age <= policy.backdated_after {
        // A clock that runs ahead within tolerance: WeChat Pay refuses the future, so wait until it has passed.
        let mut not_before = crossing.at.max(arrival.received_at);
        if sabotage::is(Sabotage::FutureIsSentAtOnce) {
            not_before = arrival.received_at;
        }
        if crossing.state == Direction::In {
            not_before += policy.settle;
        } else if turned_round(view, crossing, policy) {
            return Tell::CancelOut;
        }
        return Tell::Queue {
            not_before,
            supersedes_older: false,
        };
    }
    if sabotage::is(Sabotage::EveryStateOfABatch) {
        return Tell::Queue {
            not_before: arrival.received_at,
            supersedes_older: false,
        };
    }
    if view.waiting.is_some_and(|waiting| crossing.at < waiting.at) {
        return Tell::OlderThanWaiting;
    }
    if crossing.state == Direction::In && age > policy.hold_in_after && !sabotage::is(Sabotage::OldEntryNotHeld) {
        return Tell::Hold;
    }
    Tell::Queue {
        not_before: arrival.received_at + policy.backdated_settle,
        supersedes_older: true,
    }
}

/// An exit so soon after an entry that nobody was told of it yet, by a car that WeChat Pay does not hold as inside.
fn turned_round(view: LaneView, exit: Crossing<'_>, policy: &Policy) -> bool {
    let entry = view
        .waiting
        .filter(|waiting| waiting.state == Direction::In && waiting.at <= exit.at);
    let soon = entry.is_some_and(|entry| exit.at.duration_since(entry.at) <= policy.settle);
    soon && !policy.settle.is_zero() && view.told.is_none_or(|told| told.state == Direction::Out)
}

/// What a correction or a cancellation does to what was already told, or waits, of a crossing that did not happen as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// It was never sent: take it out of the lane.
    Remove,
    /// WeChat Pay holds the car as inside because of it: tell an exit at the time of the correction.
    TellOut,
    /// Nothing of it is left to undo.
    Nothing,
}

/// Decides how one member's lane undoes a crossing. `waits`: its message waits and was never tried.
#[must_use]
pub fn undo(told: Option<At>, crossing: At, waits: bool) -> Undo {
    if waits {
        Undo::Remove
    } else if crossing.state == Direction::In && told == Some(crossing) {
        Undo::TellOut
    } else {
        // An exit cannot be taken back by inventing an entry, and newer news stands.
        Undo::Nothing
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::tests::{POLICY, at, crossing};
    use super::*;

    #[test]
    fn a_lane_hears_what_is_news() {
        use Direction::{In, Out};
        let now = 100_000;
        let live = Arrival {
            received_at: at(now),
            replayed: false,
        };
        let replay = Arrival {
            received_at: at(now),
            replayed: true,
        };
        let nothing = LaneView::default();
        let told = |seconds| LaneView {
            told: Some(At {
                state: In,
                at: at(seconds),
            }),
            ..nothing
        };
        let waiting = |seconds| LaneView {
            waiting: Some(At {
                state: In,
                at: at(seconds),
            }),
            ..nothing
        };
        let at_once = Tell::Queue {
            not_before: at(now),
            supersedes_older: false,
        };
        let settled = Tell::Queue {
            not_before: at(now + 10),
            supersedes_older: true,
        };
        let table: &[(&str, LaneView, Crossing<'_>, Arrival, Tell)] = &[
            ("live", nothing, crossing(In, now - 1), live, at_once),
            (
                "clock a little ahead waits",
                nothing,
                crossing(In, now + 60),
                live,
                Tell::Queue {
                    not_before: at(now + 60),
                    supersedes_older: false,
                },
            ),
            (
                "older than told",
                told(now - 5),
                crossing(In, now - 6),
                live,
                Tell::OlderThanTold,
            ),
            (
                "same second as told",
                told(now - 5),
                crossing(Out, now - 5),
                live,
                at_once,
            ),
            (
                "live, out of order, newer one waits",
                waiting(now - 1),
                crossing(In, now - 2),
                live,
                at_once,
            ),
            ("back-dated exit", nothing, crossing(Out, now - 3600), live, settled),
            ("replayed entry", nothing, crossing(In, now - 3600), replay, settled),
            ("replayed but fresh", nothing, crossing(In, now - 5), replay, settled),
            (
                "replayed, newer one waits",
                waiting(now - 5),
                crossing(In, now - 3600),
                replay,
                Tell::OlderThanWaiting,
            ),
            (
                "entry of this morning",
                nothing,
                crossing(In, now - 12 * 3600 - 1),
                replay,
                Tell::Hold,
            ),
            (
                "exit of this morning",
                nothing,
                crossing(Out, now - 12 * 3600 - 1),
                replay,
                settled,
            ),
        ];

        for (name, view, crossing, arrival, expected) in table {
            assert_eq!(tell(*view, *crossing, *arrival, &POLICY()), *expected, "{name}");
        }
    }

    #[test]
    fn with_settle_a_car_that_turns_round_costs_nothing() {
        use Direction::{In, Out};
        let policy = Policy {
            settle: SignedDuration::from_secs(30),
            ..POLICY()
        };
        let arrival = |seconds| Arrival {
            received_at: at(seconds),
            replayed: false,
        };
        let waits = |told| LaneView {
            told,
            waiting: Some(At { state: In, at: at(0) }),
            other_car_inside: false,
        };
        let inside = Some(At {
            state: In,
            at: at(-9000),
        });
        let gone = Some(At {
            state: Out,
            at: at(-9000),
        });
        let exit = |seconds| tell(waits(gone), crossing(Out, seconds), arrival(seconds), &policy);

        let entry = tell(LaneView::default(), crossing(In, 0), arrival(0), &policy);
        assert_eq!(
            entry,
            Tell::Queue {
                not_before: at(30),
                supersedes_older: false
            }
        );
        assert_eq!(exit(20), Tell::CancelOut);
        assert_eq!(
            exit(31),
            Tell::Queue {
                not_before: at(31),
                supersedes_older: false
            }
        );
        // WeChat Pay still holds the car as inside from an earlier visit: the exit is news.
        let after_missing_exit = tell(waits(inside), crossing(Out, 20), arrival(20), &policy);
        assert_eq!(
            after_missing_exit,
            Tell::Queue {
                not_before: at(20),
                supersedes_older: false
            }
        );
    }

    #[test]
    fn one_car_inside_can_be_enough() {
        let view = LaneView {
            other_car_inside: true,
            ..LaneView::default()
        };
        let arrival = Arrival {
            received_at: at(0),
            replayed: false,
        };
        let enough = Policy {
            one_car_is_enough: true,
            ..POLICY()
        };

        assert_eq!(
            tell(view, crossing(Direction::Out, 0), arrival, &enough),
            Tell::OtherCarInside
        );
        assert!(matches!(
            tell(view, crossing(Direction::Out, 0), arrival, &POLICY()),
            Tell::Queue { .. }
        ));
        assert!(matches!(
            tell(view, crossing(Direction::In, 0), arrival, &enough),
            Tell::Queue { .. }
        ));
    }

    #[test]
    fn a_crossing_that_did_not_happen_is_undone() {
        use Direction::{In, Out};
        let entry = At { state: In, at: at(0) };
        let exit = At { state: Out, at: at(0) };
        let later = At { state: Out, at: at(60) };

        assert_eq!(undo(None, entry, true), Undo::Remove);
        assert_eq!(undo(Some(entry), entry, false), Undo::TellOut);
        assert_eq!(undo(Some(later), entry, false), Undo::Nothing);
        assert_eq!(undo(Some(exit), exit, false), Undo::Nothing);
    }
}

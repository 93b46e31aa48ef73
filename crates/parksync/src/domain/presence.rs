//! What a gate event means: which visit it belongs to, and whether a member's lane hears of it.
//!
//! The rows are those of the policy table in ARCHITECTURE.md. Storing the answer is `store`'s job; sending it is `delivery`'s.

use jiff::{SignedDuration, Timestamp};

use super::gate::{Direction, TimeSource};
use crate::sabotage::{self, Sabotage};

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

/// The latest visit of one plate in one circle, as stored. Times in here are crossings that were seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The entry, unless it was not seen.
    pub entered: Option<Seen>,
    /// The exit, unless the car is inside or the exit was not seen.
    pub left: Option<Seen>,
    /// The latest crossing of the visit before, so that a late re-read is not taken for one of this visit.
    pub before: Option<Timestamp>,
}

/// Where and when one end of a visit was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The car park.
    pub lot: String,
    /// The moment.
    pub at: Timestamp,
}

impl Visit {
    fn last_at(&self) -> Option<Timestamp> {
        self.entered.iter().chain(&self.left).map(|seen| seen.at).max()
    }

    /// Whether the car is inside as far as we know.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.left.is_none()
    }
}

/// What one crossing does to the visits of its plate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A second read of a passage we know. An entry keeps its earliest, an exit its latest time; nothing is sent.
    Merged,
    /// A new visit begins.
    Opened,
    /// A new visit begins although no exit of the last one was seen: that one ends as "no exit seen".
    Reopened,
    /// The open visit ends.
    Left,
    /// An exit of a car whose entry was not seen: a visit that has only an end.
    LeftUnseen,
    /// Older than what is known of this plate: the visit stays as it is. A lane may still hear of it, in its place.
    Late,
}

/// Decides what one crossing means for the visits of its plate.
#[must_use]
pub fn follow(last: Option<&Visit>, crossing: Crossing<'_>, policy: &Policy) -> Step {
    let Some(visit) = last else {
        return match crossing.state {
            Direction::In => Step::Opened,
            Direction::Out => Step::LeftUnseen,
        };
    };
    if is_repeat(visit, crossing, policy) {
        return Step::Merged;
    }
    if visit.last_at().is_some_and(|at| crossing.at < at) {
        return Step::Late;
    }
    match (crossing.state, visit.is_open()) {
        (Direction::In, true) => Step::Reopened,
        (Direction::In, false) => Step::Opened,
        (Direction::Out, true) => Step::Left,
        (Direction::Out, false) => Step::LeftUnseen,
    }
}

/// A re-read: same lot and direction within the window, and the car did not cross the other way in between.
fn is_repeat(visit: &Visit, crossing: Crossing<'_>, policy: &Policy) -> bool {
    let (same, other) = match crossing.state {
        Direction::In => (&visit.entered, &visit.left),
        Direction::Out => (&visit.left, &visit.entered),
    };
    let Some(same) = same else { return false };
    if sabotage::is(Sabotage::NoMerge) {
        return false;
    }
    if visit.before.is_some_and(|before| crossing.at <= before) {
        return false;
    }
    let between = |at: Timestamp| (same.at.min(crossing.at)..same.at.max(crossing.at)).contains(&at);
    same.lot == crossing.lot
        && same.at.duration_since(crossing.at).abs() <= policy.merge_window
        && !other.as_ref().is_some_and(|other| between(other.at))
}

/// Finds out that re-reads were none: a crossing the other way lies between reads of what was taken for one passage.
///
/// `reads` are the times at which one end of a visit was read, in order. Returns the first of those that belong to a passage of
/// their own. Reads too far apart to be one passage were never merged, so nothing is found between them.
#[must_use]
pub fn parted(reads: &[Timestamp], crossing: Timestamp, policy: &Policy) -> Option<usize> {
    // Of the same moment the one that came last counts, and that is the crossing.
    let after = reads.partition_point(|at| *at <= crossing);
    let before = reads.get(after.checked_sub(1)?)?;
    let first = reads.get(after)?;
    (first.duration_since(*before) <= policy.merge_window).then_some(after)
}

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
    use super::*;

    const POLICY: fn() -> Policy = Policy::default;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn seen(lot: &str, seconds: i64) -> Option<Seen> {
        Some(Seen {
            lot: lot.to_owned(),
            at: at(seconds),
        })
    }

    fn crossing(state: Direction, seconds: i64) -> Crossing<'static> {
        Crossing {
            lot: "P1",
            state,
            at: at(seconds),
        }
    }

    #[test]
    fn a_crossing_moves_the_visit() {
        use Direction::{In, Out};
        let inside = Visit {
            entered: seen("P1", 0),
            left: None,
            before: None,
        };
        let gone = Visit {
            entered: seen("P1", 0),
            left: seen("P1", 3600),
            before: None,
        };
        let unseen_entry = Visit {
            entered: None,
            left: seen("P1", 3600),
            before: None,
        };
        let table: &[(&str, Option<&Visit>, Crossing<'_>, Step)] = &[
            ("first entry", None, crossing(In, 0), Step::Opened),
            ("exit of an unknown car", None, crossing(Out, 0), Step::LeftUnseen),
            ("second camera", Some(&inside), crossing(In, 2), Step::Merged),
            (
                "re-read at the edge of the window",
                Some(&inside),
                crossing(In, 120),
                Step::Merged,
            ),
            (
                "entry again without an exit",
                Some(&inside),
                crossing(In, 121),
                Step::Reopened,
            ),
            ("earlier second camera", Some(&inside), crossing(In, -3), Step::Merged),
            ("exit", Some(&inside), crossing(Out, 3600), Step::Left),
            ("quick exit is no repeat", Some(&inside), crossing(Out, 10), Step::Left),
            (
                "second camera at the exit",
                Some(&gone),
                crossing(Out, 3630),
                Step::Merged,
            ),
            (
                "another exit without an entry",
                Some(&gone),
                crossing(Out, 4000),
                Step::LeftUnseen,
            ),
            ("back again", Some(&gone), crossing(In, 4000), Step::Opened),
            (
                "exit at the moment of the entry",
                Some(&inside),
                crossing(Out, 0),
                Step::Left,
            ),
            (
                "entry at the moment of the exit",
                Some(&gone),
                crossing(In, 3600),
                Step::Opened,
            ),
            ("late entry", Some(&unseen_entry), crossing(In, 0), Step::Late),
            (
                "late exit",
                Some(&Visit {
                    entered: seen("P1", 9000),
                    left: None,
                    before: None,
                }),
                crossing(Out, 8000),
                Step::Late,
            ),
            (
                "other lot is another passage",
                Some(&Visit {
                    entered: seen("P2", 0),
                    left: None,
                    before: None,
                }),
                crossing(In, 5),
                Step::Reopened,
            ),
            (
                "late re-read of the visit before",
                Some(&Visit {
                    entered: seen("P1", 0),
                    left: None,
                    before: Some(at(-40)),
                }),
                crossing(In, -80),
                Step::Late,
            ),
            (
                "turned round and came back within the window",
                Some(&Visit {
                    entered: seen("P1", 0),
                    left: seen("P1", 40),
                    before: None,
                }),
                crossing(In, 80),
                Step::Opened,
            ),
        ];

        for (name, last, crossing, expected) in table {
            assert_eq!(follow(*last, *crossing, &POLICY()), *expected, "{name}");
        }
    }

    #[test]
    fn a_crossing_between_its_reads_parts_a_passage() {
        let table: &[(&str, &[i64], i64, Option<usize>)] = &[
            ("between two reads", &[0, 60], 30, Some(1)),
            ("after both", &[0, 60], 61, None),
            ("before both", &[10, 60], 5, None),
            ("at the moment of the first", &[0, 60], 0, Some(1)),
            ("at the moment of the second", &[0, 60], 60, None),
            ("between the second and the third", &[0, 60, 110], 80, Some(2)),
            ("reads at the edge of the window", &[0, 120], 30, Some(1)),
            ("reads too far apart to be one passage", &[0, 121], 30, None),
            ("one read", &[0], 30, None),
            ("no read", &[], 30, None),
        ];

        for (name, reads, crossing, expected) in table {
            let reads: Vec<_> = reads.iter().map(|seconds| at(*seconds)).collect();
            assert_eq!(parted(&reads, at(*crossing), &POLICY()), *expected, "{name}");
        }
    }

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

    #[test]
    fn a_clock_far_ahead_is_not_believed() {
        assert_eq!(trusted_time(at(300), at(0), &POLICY()), (at(300), TimeSource::Sender));
        assert_eq!(trusted_time(at(301), at(0), &POLICY()), (at(0), TimeSource::Receipt));
    }
}

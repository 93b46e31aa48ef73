//! What a crossing does to the visits of its plate.

use jiff::Timestamp;

use super::{Crossing, Policy};
use crate::domain::gate::Direction;
use crate::sabotage::{self, Sabotage};

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

#[cfg(test)]
mod tests {
    use super::super::tests::{POLICY, at, crossing};
    use super::*;

    fn seen(lot: &str, seconds: i64) -> Option<Seen> {
        Some(Seen {
            lot: lot.to_owned(),
            at: at(seconds),
        })
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
}

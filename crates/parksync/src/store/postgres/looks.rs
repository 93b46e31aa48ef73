//! Where a look for due lanes may begin.
//!
//! What was claimed leaves dead entries at the front of the index of due lanes. They are cleared away soon, unless somebody holds a
//! snapshot open, a dump of the database for example: then each look from the beginning wades through all of them. So a look begins
//! where the last one ended, a little before; every few seconds one begins at the beginning, for whatever was missed.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// A look begins so much before the end of the last one: a lane may be due at a time when its transaction was not committed yet. Most of
/// those are told by the bell when they are committed.
const MARGIN_MS: i64 = 200;
/// How often a look begins at the beginning. A lane waits so much longer at most, if it came to be due behind our back: by a node whose
/// clock is late and whose bell was not heard.
const FROM_THE_START: SignedDuration = SignedDuration::from_secs(5);

/// What the looks of this process have seen.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Up to when nothing is due any more, by circle.
    ended: HashMap<i64, i64>,
    /// Lanes came to be due since the last look began, the earliest at this time.
    lowered: Option<i64>,
    began_at_start: Option<Timestamp>,
}

/// The first due time that one look looks at, by circle. A circle that is not among these is new.
#[derive(Debug)]
pub(super) struct Begin(HashMap<i64, i64>);

impl Begin {
    pub(super) fn of(&self, circle: i64) -> i64 {
        self.0.get(&circle).copied().unwrap_or(i64::MIN)
    }

    /// The circles that are known, and where the look at each begins.
    pub(super) fn known(&self) -> (Vec<i64>, Vec<i64>) {
        self.0.iter().unzip()
    }
}

impl Looks {
    /// Begins a look whose end will be told to [`Self::ended`].
    pub(super) fn begin(&mut self, now: Timestamp) -> Begin {
        // A clock that was set back knows nothing of what is due now.
        let fresh = SignedDuration::ZERO..FROM_THE_START;
        if self
            .began_at_start
            .is_some_and(|at| !fresh.contains(&now.duration_since(at)))
        {
            self.began_at_start = None;
        }
        let begin = self.peek();
        self.began_at_start.get_or_insert(now);
        self.lowered = None;
        begin
    }

    /// Where a look would begin that changes nothing.
    pub(super) fn peek(&self) -> Begin {
        let from = |ended: i64| match self.began_at_start {
            Some(_) => (ended - MARGIN_MS).min(self.lowered.unwrap_or(i64::MAX)),
            None => i64::MIN,
        };
        Begin(
            self.ended
                .iter()
                .map(|(circle, ended)| (*circle, from(*ended)))
                .collect(),
        )
    }

    /// A look has ended, and its claims are committed: up to these times nothing is due any more.
    pub(super) fn ended(&mut self, ended: HashMap<i64, i64>) {
        self.ended.extend(ended);
    }

    /// A look failed: what it saw, and what was lowered before it, is not known any more.
    pub(super) fn failed(&mut self) {
        self.began_at_start = None;
    }

    /// A lane came to be due.
    pub(super) fn lower(&mut self, due: i64) {
        self.lowered = self.lowered.into_iter().chain([due]).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MALL: i64 = 1;
    const OTHER: i64 = 2;
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn after_a_look(ended: i64) -> Looks {
        let mut looks = Looks::default();
        looks.begin(NOW);
        looks.ended(HashMap::from([(MALL, ended)]));
        looks
    }

    #[test]
    fn a_look_begins_a_little_before_the_end_of_the_last_one() {
        let mut looks = after_a_look(50_000);

        let begin = looks.begin(NOW);

        assert_eq!((begin.of(MALL), begin.of(OTHER)), (49_800, i64::MIN));
    }

    #[test]
    fn what_came_to_be_due_earlier_is_looked_at_once() {
        let mut looks = after_a_look(50_000);

        looks.lower(60_000);
        looks.lower(7_000);

        assert_eq!(looks.begin(NOW).of(MALL), 7_000);
        assert_eq!(looks.begin(NOW).of(MALL), 49_800);
    }

    #[test]
    fn what_is_lowered_during_a_look_counts_for_the_next_one() {
        let mut looks = after_a_look(50_000);

        looks.begin(NOW);
        looks.lower(7_000);
        looks.ended(HashMap::from([(MALL, 51_000)]));

        assert_eq!(looks.begin(NOW).of(MALL), 7_000);
    }

    #[test]
    fn the_first_look_one_after_a_failure_and_one_every_few_seconds_begin_at_the_start() {
        assert_eq!(Looks::default().begin(NOW).of(MALL), i64::MIN);
        let mut looks = after_a_look(50_000);

        assert_eq!(looks.begin(NOW + FROM_THE_START / 2).of(MALL), 49_800);
        assert_eq!(looks.begin(NOW + FROM_THE_START).of(MALL), i64::MIN);
        assert_eq!(looks.begin(NOW + FROM_THE_START).of(MALL), 49_800);
        assert_eq!(looks.begin(NOW).of(MALL), i64::MIN, "a clock that was set back");
        looks.failed();
        assert_eq!(looks.begin(NOW).of(MALL), i64::MIN);
    }
}

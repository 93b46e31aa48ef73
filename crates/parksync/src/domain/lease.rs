//! Whether a claim of a lane is still good enough to send under it, and whether this process stood still.
//!
//! A claim ends by the clock of the store. A node measures it by a clock of its own that nobody sets, from before it asked for the
//! claim, so it always believes the claim to be shorter than it is. What that clock does not see (a machine that was put to sleep, a
//! process that was stopped) shows as a gap: between two looks of the node, between its two clocks, or between its clock and the
//! store's. After a gap all claims count as lost.

use std::time::Duration;

use jiff::Timestamp;

use crate::sabotage::{self, Sabotage};

/// Two clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Time since some moment of the past, by a clock that is never set.
    pub steady: Duration,
    /// The time of day, by a clock that may be set.
    pub wall: Timestamp,
}

/// What claims are measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a claim is good for.
    pub lease: Duration,
    /// How long one request may take.
    pub deadline: Duration,
    /// What must be left beyond it.
    pub margin: Duration,
    /// The longest time between two looks of a process that runs.
    pub frozen_after: Duration,
    /// How long the word of the store is good for.
    pub silent: Duration,
}

/// Why nothing may be sent under a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The node stood still, or was forgotten, after it had asked for the claim.
    Lost,
    /// What is left of it is shorter than a request may take.
    Short,
}

impl Unfit {
    /// In words.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Lost => "this node stood still or was forgotten: its claims are void",
            Self::Short => "too little was left of the claim for one request",
        }
    }
}

/// What a node knows of its own right to work.
#[derive(Clone, Copy, Debug)]
pub struct Tenure {
    terms: Terms,
    last: Look,
    /// Claims that were asked for up to here are void.
    void_until: Option<Duration>,
    heard: Option<Heard>,
}

/// The last word of the store.
#[derive(Clone, Copy, Debug)]
struct Heard {
    asked: Duration,
    answered: Duration,
    store_now: Timestamp,
}

impl Tenure {
    /// Begins now, without any word of the store.
    #[must_use]
    pub const fn new(terms: Terms, now: Look) -> Self {
        Self {
            terms,
            last: now,
            void_until: None,
            heard: None,
        }
    }

    /// A look at the clocks. Says whether the process, or its machine, stood still since the one before.
    pub fn look(&mut self, now: Look) -> bool {
        let steady = now.steady.saturating_sub(self.last.steady);
        let wall = Duration::try_from(now.wall.duration_since(self.last.wall)).unwrap_or_default();
        self.last = now;
        let stood = steady > self.terms.frozen_after || wall > steady + self.terms.frozen_after;
        if stood && !sabotage::is(Sabotage::FreezeUnnoticed) {
            self.lose(now);
            return true;
        }
        false
    }

    /// All claims so far are void, and the store has to be heard before the next one.
    pub fn lose(&mut self, now: Look) {
        self.void_until = Some(now.steady);
        self.heard = None;
    }

    /// The store answered. Says whether its clock went on while ours stood still.
    pub fn heard(&mut self, asked: Look, answered: Look, store_now: Timestamp) -> bool {
        let stood = self.heard.is_some_and(|before| {
            let passed = Duration::try_from(store_now.duration_since(before.store_now)).unwrap_or_default();
            passed > answered.steady.saturating_sub(before.asked) + self.terms.frozen_after
        });
        let stood = stood && !sabotage::is(Sabotage::FreezeUnnoticed);
        if stood {
            self.lose(answered);
        }
        self.heard = Some(Heard {
            asked: asked.steady,
            answered: answered.steady,
            store_now,
        });
        stood
    }

    /// Whether lanes may be claimed: the store was heard lately, so the node counts among those that share the rates.
    #[must_use]
    pub fn may_claim(&self, now: Look) -> bool {
        self.heard
            .is_some_and(|heard| now.steady.saturating_sub(heard.asked) <= self.terms.silent)
    }

    /// Whether a request may leave now under a claim that was asked for then. If so, how long it may take at most.
    ///
    /// # Errors
    /// Why not.
    pub fn may_send(&mut self, asked_at: Duration, now: Look) -> Result<Duration, Unfit> {
        self.look(now);
        if self.void_until.is_some_and(|until| asked_at <= until) {
            return Err(Unfit::Lost);
        }
        let mut lease = self.terms.lease;
        if sabotage::is(Sabotage::LeaseThoughtLonger) {
            lease += Duration::from_secs(15);
        }
        let left = (asked_at + lease).saturating_sub(now.steady);
        if sabotage::is(Sabotage::LeaseUnchecked) {
            return Ok(self.terms.deadline);
        }
        if left <= self.terms.deadline + self.terms.margin {
            return Err(Unfit::Short);
        }
        Ok(left - self.terms.margin)
    }

    /// The time by the clock of the store, as far as it was heard.
    #[must_use]
    pub fn store_now(&self, now: Look) -> Option<Timestamp> {
        let heard = self.heard?;
        Some(heard.store_now + now.steady.saturating_sub(heard.answered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        lease: Duration::from_secs(15),
        deadline: Duration::from_secs(10),
        margin: Duration::from_secs(2),
        frozen_after: Duration::from_secs(2),
        silent: Duration::from_secs(5),
    };

    fn at(steady_ms: u64, wall_ms: i64) -> Look {
        Look {
            steady: Duration::from_millis(1_000_000 + steady_ms),
            wall: Timestamp::from_millisecond(1_700_000_000_000 + wall_ms).unwrap(),
        }
    }

    fn store(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    /// Looks every half second up to there, as a process does that runs.
    fn run(tenure: &mut Tenure, from_ms: u64, to_ms: u64) {
        for ms in (from_ms..=to_ms).step_by(500) {
            assert!(!tenure.look(at(ms, i64::try_from(ms).unwrap())), "stood still at {ms}");
        }
    }

    #[test]
    fn a_request_leaves_only_while_its_deadline_and_the_margin_fit_into_the_claim() {
        let mut tenure = Tenure::new(TERMS, at(0, 0));
        let asked = at(0, 0).steady;

        assert_eq!(tenure.may_send(asked, at(1000, 1000)), Ok(Duration::from_secs(12)));
        assert_eq!(
            tenure.may_send(asked, at(2999, 2999)),
            Ok(Duration::from_millis(10_001))
        );
        assert_eq!(tenure.may_send(asked, at(3000, 3000)), Err(Unfit::Short));
        run(&mut tenure, 3000, 60_000);
        assert_eq!(tenure.may_send(asked, at(60_000, 60_000)), Err(Unfit::Short));
    }

    #[test]
    fn a_process_that_stood_still_has_lost_its_claims() {
        let stood = [at(2001, 2001), at(500, 2600), at(100, 900_000)];
        for thawed in stood {
            let mut tenure = Tenure::new(TERMS, at(0, 0));
            let asked = at(0, 0).steady;
            assert_eq!(tenure.may_send(asked, thawed), Err(Unfit::Lost), "{thawed:?}");
            assert!(!tenure.may_claim(thawed));
            // What is claimed from then on is good.
            tenure.heard(thawed, thawed, store(0));
            let again = thawed.steady + Duration::from_millis(1);
            assert!(tenure.may_claim(thawed));
            assert!(
                tenure
                    .may_send(
                        again,
                        Look {
                            steady: again,
                            ..thawed
                        }
                    )
                    .is_ok()
            );
        }
    }

    #[test]
    fn a_clock_that_is_set_back_or_a_little_ahead_is_no_freeze() {
        let mut tenure = Tenure::new(TERMS, at(0, 0));

        assert!(!tenure.look(at(1000, -500_000)));
        assert!(!tenure.look(at(2000, -499_000 + 1900)));
    }

    #[test]
    fn the_clock_of_the_store_tells_of_a_machine_whose_clocks_all_stood_still() {
        let mut tenure = Tenure::new(TERMS, at(0, 0));

        assert!(!tenure.heard(at(0, 0), at(10, 10), store(0)));
        run(&mut tenure, 500, 1000);
        assert!(!tenure.heard(at(1000, 1000), at(1010, 1010), store(2900)));
        let asked = at(1500, 1500).steady;
        run(&mut tenure, 1500, 2000);
        assert!(tenure.heard(at(2000, 2000), at(2010, 2010), store(9000)));
        assert_eq!(tenure.may_send(asked, at(2010, 2010)), Err(Unfit::Lost));
        assert!(tenure.may_claim(at(2010, 2010)));
    }

    #[test]
    fn without_a_word_of_the_store_nothing_is_claimed() {
        let mut tenure = Tenure::new(TERMS, at(0, 0));

        assert!(!tenure.may_claim(at(0, 0)));
        tenure.heard(at(0, 0), at(20, 20), store(0));
        assert!(tenure.may_claim(at(5000, 5000)));
        assert!(!tenure.may_claim(at(5001, 5001)));
        assert_eq!(tenure.store_now(at(1020, 0)), Some(store(1000)));
    }
}

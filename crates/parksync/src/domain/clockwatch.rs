//! How wrong the clock of each gate is: the median of what its live messages claim against when they came.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// Messages of one gate that are remembered.
const REMEMBERED: usize = 31;
/// Messages before anything is said.
const ENOUGH: usize = 5;
/// A clock further off than this deserves a word.
pub const WARN_BEYOND: SignedDuration = SignedDuration::from_mins(2);

/// The clock of one gate.
#[derive(Clone, Debug, Default)]
pub struct ClockWatch {
    differences: VecDeque<SignedDuration>,
    warned: bool,
}

impl ClockWatch {
    /// Learns from one live message. Returns the difference when it has just become worth a warning.
    pub fn see(&mut self, claimed: Timestamp, received_at: Timestamp) -> Option<SignedDuration> {
        if self.differences.len() == REMEMBERED {
            self.differences.pop_front();
        }
        self.differences.push_back(received_at.duration_since(claimed));
        let off = self.median().filter(|median| median.abs() > WARN_BEYOND);
        let news = off.filter(|_| !self.warned);
        self.warned = off.is_some();
        news
    }

    /// How far the gate's clock is behind ours; negative when it is ahead. `None` until enough was seen.
    #[must_use]
    pub fn median(&self) -> Option<SignedDuration> {
        if self.differences.len() < ENOUGH {
            return None;
        }
        let mut sorted: Vec<_> = self.differences.iter().copied().collect();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_warned_of_once() {
        let at = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).unwrap();
        let mut watch = ClockWatch::default();

        let warnings: Vec<_> = (0..20)
            .filter_map(|second| watch.see(at(second), at(second + 300)))
            .collect();
        assert_eq!(warnings, [SignedDuration::from_secs(300)]);
        assert_eq!(watch.median(), Some(SignedDuration::from_secs(300)));
    }

    #[test]
    fn one_odd_message_says_nothing_about_a_clock() {
        let at = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).unwrap();
        let mut watch = ClockWatch::default();

        for second in 0..9 {
            assert_eq!(watch.see(at(second), at(second + 1)), None);
        }
        assert_eq!(watch.see(at(0), at(5000)), None);
        assert_eq!(watch.median(), Some(SignedDuration::from_secs(1)));
    }
}

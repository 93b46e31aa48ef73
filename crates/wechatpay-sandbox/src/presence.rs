//! Who is in the mall, as far as parking states say (停车状态): one entry per member and plate.
//!
//! Presence ends at 23:59:59 China time of the day (protocol 1.1). Of which day, that of `time` or that of receipt, is
//! unknown: the sandbox takes `time`. Filled by `endpoints/parkings.rs`, read by payments and by tests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;

use crate::china;

/// Whether a car drove in or out (状态).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// `IN`
    In,
    /// `OUT`
    Out,
}

impl State {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "IN",
            Self::Out => "OUT",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What WeChat Pay holds about one member and plate: the last report it accepted, whatever its `time`.
///
/// Unknown on the real platform: whether an older `time` may overwrite a newer one. Here the later call wins.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presence {
    /// The member.
    pub openid: String,
    /// The mini-program.
    pub appid: String,
    /// The plate.
    pub plate_number: String,
    /// In or out.
    pub state: State,
    /// When the car crossed, as reported.
    pub at: Timestamp,
}

impl Presence {
    /// When WeChat Pay forgets that this car is in: 23:59:59 China time of the day of `at`. `None` for a car that left.
    pub fn ends_at(&self) -> Option<Timestamp> {
        (self.state == State::In).then(|| china::end_of_day(self.at))
    }

    /// Whether the car proves at this time that its member is in the mall.
    pub fn holds_at(&self, time: Timestamp) -> bool {
        self.ends_at().is_some_and(|end| time <= end)
    }
}

/// Plate and openid are left out; read the fields to see them.
impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presence")
            .field("state", &self.state)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// The presence table.
#[derive(Default)]
pub(crate) struct Presences {
    last: Mutex<HashMap<String, HashMap<String, Presence>>>,
}

impl Presences {
    /// Remembers the report, and calls `also` before another report can take effect.
    ///
    /// The table is bounded: past the limits a new member, or a new plate of one, is recorded by `also` only.
    pub(crate) fn record(&self, presence: Presence, also: impl FnOnce()) {
        let mut last = self.lock();
        if last.len() < MAX_MEMBERS || last.contains_key(&presence.openid) {
            let plates = last.entry(presence.openid.clone()).or_default();
            if plates.len() < MAX_PLATES || plates.contains_key(&presence.plate_number) {
                plates.insert(presence.plate_number.clone(), presence);
            }
        }
        also();
    }

    pub(crate) fn all(&self) -> Vec<Presence> {
        self.lock().values().flat_map(HashMap::values).cloned().collect()
    }

    pub(crate) fn is_present(&self, openid: &str, at: Timestamp) -> bool {
        self.lock()
            .get(openid)
            .is_some_and(|plates| plates.values().any(|presence| presence.holds_at(at)))
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Presence>>> {
        self.last.lock().expect("no holder of the presences panics")
    }
}

const MAX_MEMBERS: usize = 500_000;
/// Of one member.
const MAX_PLATES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_ends_with_the_day_or_with_the_car_leaving() {
        let presence = |state| Presence {
            openid: "o".into(),
            appid: "wx".into(),
            plate_number: "粤B88888".into(),
            state,
            at: "2026-06-01T20:00:00+08:00".parse().unwrap(),
        };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();

        assert!(presence(State::In).holds_at(at("2026-06-01T23:59:59+08:00")));
        assert!(!presence(State::In).holds_at(at("2026-06-02T00:00:00+08:00")));
        assert!(!presence(State::Out).holds_at(at("2026-06-01T20:00:01+08:00")));
        assert_eq!(presence(State::Out).ends_at(), None);
    }
}

//! What the sandbox was told, car by car, and how long it took: the side of an audit that comes from WeChat Pay.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use wechatpay_sandbox::Ledger;

use crate::domain::gate::Direction;

/// A state and its Unix second.
pub(crate) type State = (Direction, i64);

/// The states of each member's car, by openid and plate, in their order.
pub(crate) type States = BTreeMap<(String, String), Vec<State>>;

/// When what a member's lane should hear of was acknowledged, by plate and state.
pub(crate) type Acknowledged = HashMap<(String, Direction, i64), Instant>;

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) states: States,
    /// Calls that told something.
    pub(crate) delivered: usize,
    /// Calls that told the same once more because WeChat Pay's answer to the first was lost or could not be verified.
    pub(crate) repeats: usize,
    waits: Vec<Duration>,
}

impl Told {
    /// Reads the ledger.
    pub(crate) fn read(ledger: &Ledger, acknowledged: &Acknowledged) -> Self {
        let mut doubtful: BTreeMap<(String, String), bool> = BTreeMap::new();
        let mut told = Self::default();
        // Whatever fault struck an accepted call, it was the answer that suffered.
        let struck: BTreeSet<u64> = ledger
            .calls()
            .into_iter()
            .filter(|call| call.fault.is_some())
            .map(|call| call.number)
            .collect();
        for call in ledger.parkings() {
            let key = (call.openid.clone(), call.plate_number.clone());
            let direction = if call.state == wechatpay_sandbox::State::In {
                Direction::In
            } else {
                Direction::Out
            };
            let state = (direction, call.at.as_second());
            let states = told.states.entry(key.clone()).or_default();
            let was_doubtful = doubtful.insert(key, struck.contains(&call.call)).unwrap_or(false);
            if was_doubtful && states.last() == Some(&state) {
                told.repeats += 1;
                continue;
            }
            states.push(state);
            told.delivered += 1;
            if let Some(at) = acknowledged.get(&(call.plate_number.clone(), state.0, state.1)) {
                told.waits.push(call.received.saturating_duration_since(*at));
            }
        }
        told.waits.sort();
        told
    }

    /// How long so many percent of the calls took at most, from the gate's answer to WeChat Pay.
    pub(crate) fn wait(&self, percent: usize) -> Option<Duration> {
        let last = self.waits.len().checked_sub(1)?;
        self.waits.get(last * percent / 100).copied()
    }
}

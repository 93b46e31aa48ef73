//! The rates of all merchants: what this node may call, out of what all nodes together may.
//!
//! The arithmetic is `domain::rate`; `worker` takes from here, `node` brings what the others say.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::rate::{Bucket, Throttle, grown};
use crate::sabotage::{self, Sabotage};
use crate::store::{Beat, Pace};

/// The rates of all merchants, shared by everything that calls for them.
#[derive(Debug)]
pub struct Rates(Mutex<HashMap<String, OfMerchant>>);

#[derive(Debug)]
struct OfMerchant {
    bucket: Bucket,
    /// The newest shared word about it that is in the bucket, by the clock of the store.
    known: Option<Timestamp>,
}

impl Rates {
    /// The same ceiling, in calls a second of all nodes together, for each merchant.
    #[must_use]
    pub fn new(merchants: impl IntoIterator<Item = String>, ceiling: f64, now: Timestamp) -> Self {
        let of_merchant = || OfMerchant {
            bucket: Bucket::new(ceiling, now),
            known: None,
        };
        Self(Mutex::new(
            merchants
                .into_iter()
                .map(|merchant| (merchant, of_merchant()))
                .collect(),
        ))
    }

    pub(super) fn allowed(&self, now: Timestamp) -> HashMap<String, u32> {
        self.lock()
            .iter_mut()
            .map(|(merchant, of)| (merchant.clone(), of.bucket.available(now)))
            .collect()
    }

    /// When the first merchant may be called again.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.lock().values().map(|of| of.bucket.next(now)).min()
    }

    /// Whether WeChat Pay asked that this merchant does not call now.
    pub(super) fn is_shut(&self, merchant: &str, now: Timestamp) -> bool {
        self.lock().get(merchant).is_some_and(|of| of.bucket.is_shut(now))
    }

    pub(super) fn take(&self, merchant: &str) {
        if let Some(of) = self.lock().get_mut(merchant) {
            of.bucket.take(1);
        }
    }

    /// WeChat Pay throttled a call of this node. Returns what the others have to know.
    pub(super) fn throttled(&self, merchant: &str, now: Timestamp, retry_after: Option<Duration>) -> Option<Throttle> {
        let asked = retry_after
            .and_then(|asked| SignedDuration::try_from(asked).ok())
            .unwrap_or_default();
        let throttle = self.lock().get_mut(merchant)?.bucket.throttled(now, asked);
        Some(throttle)
    }

    /// The others know of it as of then; it does not come back as news.
    pub(super) fn told(&self, merchant: &str, at: Timestamp) {
        if let Some(of) = self.lock().get_mut(merchant) {
            of.known = of.known.max(Some(at));
        }
    }

    /// What all nodes know: how many they are, and who was throttled. The two clocks may differ, so only distances are taken over.
    pub(super) fn hear(&self, beat: &Beat, now: Timestamp) {
        let mut rates = self.lock();
        if !sabotage::is(Sabotage::RateNotDivided) {
            for of in rates.values_mut() {
                of.bucket.divide(beat.workers, now);
            }
        }
        for state in &beat.merchants {
            let Pace { share, at, shut_until } = state.pace;
            let Some(of) = rates.get_mut(&state.mchid) else {
                continue;
            };
            if sabotage::is(Sabotage::ThrottleNotShared) {
                continue;
            }
            let is_news = of.known.is_none_or(|known| at > known);
            of.known = of.known.max(Some(at));
            let throttle = Throttle {
                share: if is_news {
                    grown(share, at.max(shut_until), beat.store_now)
                } else {
                    1.0
                },
                // The wait holds for everybody, also for one that told of another throttle in between.
                shut_until: now + shut_until.duration_since(beat.store_now),
            };
            of.bucket.slow_down(throttle, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, OfMerchant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MerchantState;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// The store's clock is an hour ahead of ours.
    fn beat(store_seconds: i64, shut_for: i64) -> Beat {
        let store_now = at(3600 + store_seconds);
        Beat {
            store_now,
            workers: 2,
            merchants: vec![MerchantState {
                mchid: "m".to_owned(),
                pace: Pace {
                    share: 0.5,
                    at: at(3600),
                    shut_until: at(3600 + shut_for),
                },
                backup_since: None,
            }],
            forgotten: false,
        }
    }

    #[test]
    fn a_throttle_of_another_node_is_heard_once_whatever_the_clocks_say() {
        let rates = Rates::new(["m".to_owned()], 40.0, at(0));

        rates.hear(&beat(0, 5), at(0));
        assert_eq!(rates.allowed(at(4))["m"], 0);
        rates.hear(&beat(6, 5), at(6));
        let share = rates.lock()["m"].bucket.rate() * 2.0 / 40.0;
        assert!((0.52..0.54).contains(&share), "{share}");
        assert!(rates.allowed(at(7))["m"] > 0);
    }

    #[test]
    fn what_this_node_told_does_not_slow_it_again_and_the_wait_holds_for_it_too() {
        let rates = Rates::new(["m".to_owned()], 40.0, at(0));

        rates.told("m", at(3600));
        rates.hear(&beat(0, 5), at(0));

        assert_eq!(rates.allowed(at(4))["m"], 0);
        assert_eq!(rates.allowed(at(6))["m"], 20, "half of 40 is ours");
    }
}

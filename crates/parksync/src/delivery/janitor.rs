//! Does what time asks for: marks stale visits, renews presence after midnight, forgets what is old. A minute is soon enough.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::store::{Renewal, Retention, Store, StoreError};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(60);
/// How long after midnight presence is still renewed: long enough for a restart, short enough not to surprise at noon.
const RENEW_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// What a lot wants done.
#[derive(Clone, Debug)]
pub struct LotRules {
    /// Its circle.
    pub circle: String,
    /// Its id.
    pub lot: String,
    /// A car without an exit is stale after this long.
    pub max_stay: SignedDuration,
    /// Whether cars that are inside are told again after midnight.
    pub renew_at_midnight: bool,
}

/// Looks after the store.
pub struct Janitor {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Clock,
    /// The rules of each lot.
    pub lots: Vec<LotRules>,
    /// How long digests of strangers' plates are kept.
    pub strangers: SignedDuration,
    /// How long visits are kept.
    pub visits: SignedDuration,
}

impl Janitor {
    /// Works until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.tidy(self.clock.now()).await {
                warn!(%error, "the store could not be tidied; next try in a minute");
            }
            let next = self.clock.now() + SignedDuration::from_secs(60);
            tokio::select! {
                () = self.clock.sleep_until(next, EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// One round.
    ///
    /// # Errors
    /// The store fails; what was done stays done.
    pub async fn tidy(&self, now: Timestamp) -> Result<(), StoreError> {
        for lot in &self.lots {
            while self.store.mark_stale(now - lot.max_stay, lot.lot.clone(), now).await? > 0 {}
        }
        let midnight = china_midnight(now);
        if now.duration_since(midnight) < RENEW_WITHIN {
            for lot in self.lots.iter().filter(|lot| lot.renew_at_midnight) {
                let (circle, id) = (lot.circle.clone(), lot.lot.clone());
                let mut cars = 0;
                loop {
                    let renewal = Renewal {
                        circle: circle.clone(),
                        lot: id.clone(),
                        midnight,
                        now,
                    };
                    match self.store.renew(renewal).await? {
                        0 => break,
                        more => cars += more,
                    }
                }
                if cars > 0 {
                    info!(lot.id = id, cars, "presence is renewed after midnight");
                }
            }
        }
        let retention = Retention {
            now,
            strangers: self.strangers,
            all: self.visits,
        };
        while self.store.forget(retention).await?.looked > 0 {}
        Ok(())
    }
}

/// The beginning of the day by China time: the day that WeChat Pay's presence is taken to follow.
#[must_use]
pub fn china_midnight(now: Timestamp) -> Timestamp {
    let today = now.to_zoned(tz::TimeZone::fixed(tz::offset(8)));
    today.start_of_day().map_or(now, |midnight| midnight.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_begins_in_china() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();

        assert_eq!(china_midnight(at("2024-07-04T15:59:59Z")), at("2024-07-03T16:00:00Z"));
        assert_eq!(china_midnight(at("2024-07-04T16:00:00Z")), at("2024-07-04T16:00:00Z"));
    }
}

//! The one place that reads time.

#![expect(clippy::disallowed_methods, reason = "this is the file that reads time")]

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

/// Measures how long something takes, in real time.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn millis(self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Tells the time of the service: the system's, or one that a rehearsal moves by hand.
///
/// Requests to WeChat Pay are signed with the system's time in any case; that is the SDK's clock.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    ByHand(watch::Sender<Timestamp>),
    #[cfg(feature = "sabotage")]
    Runtime(
        Timestamp,
        tokio::time::Instant,
        std::sync::Arc<std::sync::atomic::AtomicI64>,
    ),
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::set`] moves it. Clones show the same time.
    #[must_use]
    pub fn by_hand(start: Timestamp) -> Self {
        Self(Source::ByHand(watch::Sender::new(start)))
    }

    /// A clock that follows the runtime's own time, which a simulation lets pass at will, and that can be set wrong.
    #[cfg(feature = "sabotage")]
    #[must_use]
    pub fn of_runtime(origin: Timestamp, jumped_ms: std::sync::Arc<std::sync::atomic::AtomicI64>) -> Self {
        Self(Source::Runtime(origin, tokio::time::Instant::now(), jumped_ms))
    }

    /// The time now, in whole milliseconds: what the store keeps.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = match &self.0 {
            Source::System => Timestamp::now(),
            Source::ByHand(time) => *time.borrow(),
            #[cfg(feature = "sabotage")]
            Source::Runtime(origin, since, jumped) => {
                let jumped = jiff::SignedDuration::from_millis(jumped.load(std::sync::atomic::Ordering::Relaxed));
                *origin + since.elapsed() + jumped
            }
        };
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Moves a clock that is moved by hand; the system's clock stays as it is. Time does not run backwards.
    pub fn set(&self, to: Timestamp) {
        if let Source::ByHand(time) = &self.0 {
            time.send_if_modified(|now| {
                let moves = to > *now;
                *now = to.max(*now);
                moves
            });
        }
    }

    /// Returns once it is `until`, or after `at_most` of real time.
    pub async fn sleep_until(&self, until: Timestamp, at_most: Duration) {
        match &self.0 {
            #[cfg(feature = "sabotage")]
            Source::Runtime(..) => {
                let left = Duration::try_from(until.duration_since(self.now())).unwrap_or_default();
                tokio::time::sleep(left.min(at_most)).await;
            }
            Source::System => {
                let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
                tokio::time::sleep(left.min(at_most)).await;
            }
            Source::ByHand(time) => {
                let mut time = time.subscribe();
                // An error means that the clock is gone, and with it the reason to wait.
                let _ = tokio::time::timeout(at_most, time.wait_for(|now| *now >= until)).await;
            }
        }
    }
}

//! The one place that reads time.

#![expect(clippy::disallowed_methods, reason = "this is the file that reads time")]

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::domain::lease::Look;

/// Tells the time of the service: the system's, or one that a rehearsal moves by hand.
///
/// Requests to WeChat Pay are signed with the system's time in any case; that is the SDK's clock.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// The time of day at the start, and the steady time then.
    Steady(Timestamp, Duration),
    ByHand(watch::Sender<Timestamp>),
    #[cfg(feature = "sabotage")]
    Runtime(Timestamp, tokio::time::Instant, Wrong),
}

/// How wrong the clocks of a simulated machine are.
#[cfg(feature = "sabotage")]
#[derive(Clone, Debug, Default)]
pub struct Wrong {
    /// How far its time of day is ahead, in milliseconds.
    pub ahead_ms: std::sync::Arc<std::sync::atomic::AtomicI64>,
    /// How long its steady clock stood still, in milliseconds.
    pub stood_ms: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// The time of day as it was at the start, and what has passed since then by a clock that nobody sets.
    #[must_use]
    pub fn steady() -> Self {
        Self(Source::Steady(Timestamp::now(), steady()))
    }

    /// A clock that stands still until [`Clock::set`] moves it. Clones show the same time.
    #[must_use]
    pub fn by_hand(start: Timestamp) -> Self {
        Self(Source::ByHand(watch::Sender::new(start)))
    }

    /// A clock that follows the runtime's own time, which a simulation lets pass at will, and that can be wrong.
    #[cfg(feature = "sabotage")]
    #[must_use]
    pub fn of_runtime(origin: Timestamp, since: tokio::time::Instant, wrong: Wrong) -> Self {
        Self(Source::Runtime(origin, since, wrong))
    }

    /// Both clocks of the machine, whatever time the service is told: claims end in real time.
    ///
    /// The steady one is CLOCK_BOOTTIME where there is one: it also counts the time that a machine, or a virtual one, was suspended.
    /// CLOCK_MONOTONIC, which tokio's timers and `Instant` follow, does not: after a sleep of the machine they would believe a claim to
    /// be younger than it is. A virtual machine that its host stopped without a word has lost both; then the time of day, once it is set
    /// right, or the clock of the store shows the gap (`domain::lease`).
    #[must_use]
    pub fn look(&self) -> Look {
        #[cfg(feature = "sabotage")]
        if let Source::Runtime(_, since, wrong) = &self.0 {
            let stood = Duration::from_millis(wrong.stood_ms.load(std::sync::atomic::Ordering::Relaxed));
            return Look {
                steady: since.elapsed().saturating_sub(stood),
                wall: self.now(),
            };
        }
        Look {
            steady: steady(),
            wall: Timestamp::now(),
        }
    }

    /// The time now, in whole milliseconds: what the store keeps.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = match &self.0 {
            Source::System => Timestamp::now(),
            Source::Steady(start, since) => *start + steady().saturating_sub(*since),
            Source::ByHand(time) => *time.borrow(),
            #[cfg(feature = "sabotage")]
            Source::Runtime(origin, since, wrong) => {
                let ahead = wrong.ahead_ms.load(std::sync::atomic::Ordering::Relaxed);
                *origin + since.elapsed() + jiff::SignedDuration::from_millis(ahead)
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
            Source::System | Source::Steady(..) => {
                let left = Duration::try_from(until.duration_since(self.now())).unwrap_or_default();
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

fn steady() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(CLOCK);
    // Neither is ever negative.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

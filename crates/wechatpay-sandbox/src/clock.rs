//! The sandbox's clocks, and the only file that reads the time of day. Everything else is handed a [`Timestamp`].
//!
//! There are two. The *wire* clock is the machine's plus an offset: signatures and the five-minute rule go by it, so a
//! client's own clock must agree with it. The *calendar* starts level with it and may be stepped and sped up: days,
//! presence and resends of callbacks go by it, so that a test sees the next day without moving the client's clock.

#![expect(clippy::disallowed_methods, reason = "an edge: it reads the clock or starts tasks")]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// Handle to a sandbox's clocks. Clones turn the same ones.
#[derive(Clone, Debug)]
pub struct Clock {
    hands: Arc<Mutex<Hands>>,
    turned: watch::Sender<u64>,
}

#[derive(Debug)]
struct Hands {
    offset: SignedDuration,
    /// How far the calendar was ahead of the wire clock at `since`.
    lead: Duration,
    since: Instant,
    speed: f64,
}

impl Clock {
    pub(crate) fn new(offset_s: i64) -> Self {
        let hands = Hands {
            offset: SignedDuration::ZERO,
            lead: Duration::ZERO,
            since: Instant::now(),
            speed: 1.0,
        };
        let clock = Self {
            hands: Arc::new(Mutex::new(hands)),
            turned: watch::Sender::new(0),
        };
        clock.set_offset(offset_s);
        clock
    }

    /// The calendar's time: what the business goes by.
    pub fn now(&self) -> Timestamp {
        let lead = SignedDuration::try_from(self.lock().lead_now()).unwrap_or(SignedDuration::MAX);
        self.wire_now().saturating_add(lead).unwrap_or(Timestamp::MAX)
    }

    /// The wire clock's time: what signatures and the `Date` header go by.
    pub fn wire_now(&self) -> Timestamp {
        let offset = self.lock().offset;
        Timestamp::now().saturating_add(offset).unwrap_or(Timestamp::MAX)
    }

    /// Steps the calendar forward. Whatever would have happened meanwhile happens at once, in its order.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.lock();
        hands.lead = hands.lead.saturating_add(by).min(MAX_LEAD);
        drop(hands);
        self.turned();
    }

    /// Lets the calendar run this many times as fast as the machine's clock, 1 to a million.
    pub fn set_speed(&self, speed: f64) {
        let mut hands = self.lock();
        hands.lead = hands.lead_now();
        hands.since = Instant::now();
        hands.speed = if speed.is_nan() {
            1.0
        } else {
            speed.clamp(1.0, MAX_SPEED)
        };
        drop(hands);
        self.turned();
    }

    /// Sets both clocks this many seconds ahead of the machine's (negative: behind), as a platform with a wrong clock.
    pub fn set_offset(&self, offset_s: i64) {
        self.lock().offset = SignedDuration::from_secs(offset_s.clamp(-MAX_OFFSET_S, MAX_OFFSET_S));
        self.turned();
    }

    /// How long the machine has to wait until the calendar shows this time.
    pub(crate) fn wait_until(&self, time: Timestamp) -> Duration {
        let left = Duration::try_from(time.duration_since(self.now())).unwrap_or(Duration::ZERO);
        left.div_f64(self.lock().speed)
    }

    /// Changes when a hand is turned.
    pub(crate) fn turns(&self) -> watch::Receiver<u64> {
        self.turned.subscribe()
    }

    fn turned(&self) {
        self.turned.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().expect("no holder of the clock panics")
    }
}

impl Hands {
    fn lead_now(&self) -> Duration {
        let extra = self.since.elapsed().as_secs_f64() * (self.speed - 1.0);
        let extra = Duration::try_from_secs_f64(extra).unwrap_or(MAX_LEAD);
        self.lead.saturating_add(extra).min(MAX_LEAD)
    }
}

/// A century: far enough for every test, and no sum with it leaves the calendar.
const MAX_OFFSET_S: i64 = 100 * 366 * 24 * 3600;
const MAX_LEAD: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
const MAX_SPEED: f64 = 1_000_000.0;

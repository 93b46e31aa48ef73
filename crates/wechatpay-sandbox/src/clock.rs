//! The sandbox's clock: the machine's, plus an offset that a test may change.
//!
//! The only file that reads the time of day. Everything else is handed a [`Timestamp`].

#![expect(clippy::disallowed_methods, reason = "this is the file that reads time")]

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

#[derive(Debug)]
pub(crate) struct Clock {
    offset_s: AtomicI64,
}

impl Clock {
    pub(crate) fn new(offset_s: i64) -> Self {
        let clock = Self {
            offset_s: AtomicI64::new(0),
        };
        clock.set_offset(offset_s);
        clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_secs(self.offset_s.load(Ordering::Relaxed));
        Timestamp::now().saturating_add(offset).unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn set_offset(&self, offset_s: i64) {
        self.offset_s
            .store(offset_s.clamp(-MAX_OFFSET_S, MAX_OFFSET_S), Ordering::Relaxed);
    }
}

/// A century: far enough for every test, and no sum with it leaves the calendar.
const MAX_OFFSET_S: i64 = 100 * 366 * 24 * 3600;

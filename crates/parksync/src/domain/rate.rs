//! How fast one merchant may be called: a token bucket that is halved when WeChat Pay throttles and grows back slowly.

use jiff::{SignedDuration, Timestamp};

/// The slowest a merchant gets: still one call in two seconds, so that a lane is never forgotten.
const FLOOR: f64 = 0.5;
/// Growth per second after a throttle, as a share of the rate.
const GROWTH: f64 = 0.05;

/// The calls one merchant may make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    ceiling: f64,
    rate: f64,
    tokens: f64,
    at: Timestamp,
    shut_until: Timestamp,
}

impl Bucket {
    /// A full bucket of `ceiling` calls a second.
    #[must_use]
    pub const fn new(ceiling: f64, now: Timestamp) -> Self {
        Self {
            ceiling,
            rate: ceiling,
            tokens: ceiling,
            at: now,
            shut_until: now,
        }
    }

    /// How many calls may start now.
    pub fn available(&mut self, now: Timestamp) -> u32 {
        self.refill(now);
        if now < self.shut_until { 0 } else { self.tokens as u32 }
    }

    /// Takes tokens for calls that start now.
    pub fn take(&mut self, calls: u32) {
        self.tokens -= f64::from(calls);
    }

    /// WeChat Pay throttled: half the rate, and nothing at all before it said so.
    pub fn throttled(&mut self, now: Timestamp, retry_after: SignedDuration) {
        self.refill(now);
        // Many calls are under way when the first refusal comes; together they are one sign.
        if now >= self.shut_until {
            self.rate = (self.rate / 2.0).max(FLOOR);
        }
        self.tokens = self.tokens.min(0.0);
        self.shut_until = self.shut_until.max(now + retry_after.max(SignedDuration::from_secs(1)));
    }

    /// When a call may start if none may now.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let missing = (1.0 - self.tokens).max(0.0) / self.rate;
        (now + SignedDuration::from_secs_f64(missing.min(3600.0))).max(self.shut_until)
    }

    /// Calls a second right now.
    #[must_use]
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    fn refill(&mut self, now: Timestamp) {
        let passed = now.duration_since(self.at).as_secs_f64();
        // A clock that was set back gives nothing and takes nothing.
        if passed > 0.0 {
            if now > self.shut_until {
                self.rate = (self.rate * (1.0 + GROWTH).powf(passed.min(600.0))).min(self.ceiling);
            }
            self.tokens = (self.tokens + self.rate * passed).min(self.rate.max(1.0));
        }
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let mut bucket = Bucket::new(10.0, at(0));

        assert_eq!(bucket.available(at(0)), 10);
        bucket.take(10);
        assert_eq!(bucket.available(at(500)), 5);
        bucket.take(5);
        assert_eq!(bucket.available(at(60_000)), 10);
    }

    #[test]
    fn a_throttle_halves_once_and_shuts_for_as_long_as_asked() {
        let mut bucket = Bucket::new(100.0, at(0));
        bucket.throttled(at(0), SignedDuration::from_secs(7));
        bucket.throttled(at(10), SignedDuration::from_secs(1));

        assert!((bucket.rate() - 50.0).abs() < 1.0, "{}", bucket.rate());
        assert_eq!(bucket.available(at(6_999)), 0);
        assert!(bucket.available(at(7_100)) > 0);
    }

    #[test]
    fn the_rate_comes_back_by_a_twentieth_a_second() {
        let mut bucket = Bucket::new(100.0, at(0));
        bucket.throttled(at(0), SignedDuration::from_secs(1));
        bucket.available(at(1_000));
        bucket.available(at(2_000));
        let after_one = bucket.rate();
        bucket.available(at(60_000));

        assert!((52.0..53.0).contains(&after_one), "{after_one}");
        assert!((bucket.rate() - 100.0).abs() < f64::EPSILON);
    }
}

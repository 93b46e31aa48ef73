//! How fast one merchant may be called: a token bucket that is halved when WeChat Pay throttles and grows back slowly.

use jiff::{SignedDuration, Timestamp};

/// The slowest a merchant gets: still one call in two seconds, so that a lane is never forgotten.
const FLOOR: f64 = 0.5;
/// Growth per second after a throttle, as a share of the rate.
const GROWTH: f64 = 0.05;

/// The calls that one node may make for one merchant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Calls a second that all nodes together may make.
    ceiling: f64,
    /// The nodes that share them.
    workers: u32,
    /// The share of the ceiling that is used after a throttle; it grows back.
    share: f64,
    tokens: f64,
    at: Timestamp,
    shut_until: Timestamp,
}

/// What the other nodes have to know of a throttle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    /// The share of the ceiling that is used from now on.
    pub share: f64,
    /// No call before.
    pub shut_until: Timestamp,
}

impl Bucket {
    /// A full bucket of `ceiling` calls a second.
    #[must_use]
    pub const fn new(ceiling: f64, now: Timestamp) -> Self {
        Self {
            ceiling,
            workers: 1,
            share: 1.0,
            tokens: ceiling,
            at: now,
            shut_until: now,
        }
    }

    /// How many calls may start now.
    pub fn available(&mut self, now: Timestamp) -> u32 {
        self.refill(now);
        if self.is_shut(now) { 0 } else { self.tokens as u32 }
    }

    /// Whether WeChat Pay asked for no call now.
    #[must_use]
    pub fn is_shut(&self, now: Timestamp) -> bool {
        now < self.shut_until
    }

    /// Takes tokens for calls that start now.
    pub fn take(&mut self, calls: u32) {
        self.tokens -= f64::from(calls);
    }

    /// So many nodes share the ceiling from now on.
    pub fn divide(&mut self, workers: u32, now: Timestamp) {
        self.refill(now);
        self.workers = workers.max(1);
        self.tokens = self.tokens.min(self.most());
    }

    /// WeChat Pay throttled: half the rate, and nothing at all before it said so. Says what the other nodes have to know.
    pub fn throttled(&mut self, now: Timestamp, retry_after: SignedDuration) -> Throttle {
        self.refill(now);
        // Many calls are under way when the first refusal comes; together they are one sign.
        let share = if now >= self.shut_until {
            self.share / 2.0
        } else {
            self.share
        };
        let throttle = Throttle {
            share,
            shut_until: now + retry_after.max(SignedDuration::from_secs(1)),
        };
        self.slow_down(throttle, now);
        throttle
    }

    /// A throttle, seen here or by another node. Of two, the slower one counts.
    pub fn slow_down(&mut self, throttle: Throttle, now: Timestamp) {
        self.refill(now);
        // Never so slow that a lane is forgotten.
        let slowest = (FLOOR / self.ceiling).min(1.0);
        self.share = self.share.min(throttle.share).max(slowest);
        if throttle.shut_until > now {
            self.tokens = self.tokens.min(0.0);
        }
        self.shut_until = self.shut_until.max(throttle.shut_until);
    }

    /// When a call may start if none may now.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let missing = (1.0 - self.tokens).max(0.0) / self.rate();
        (now + SignedDuration::from_secs_f64(missing.min(3600.0))).max(self.shut_until)
    }

    /// Calls a second of this node right now.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.ceiling * self.share / f64::from(self.workers)
    }

    fn most(&self) -> f64 {
        self.rate().max(1.0)
    }

    fn refill(&mut self, now: Timestamp) {
        let passed = now.duration_since(self.at).as_secs_f64();
        // A clock that was set back gives nothing and takes nothing.
        if passed > 0.0 {
            self.share = grown(self.share, self.at.max(self.shut_until), now);
            self.tokens = (self.tokens + self.rate() * passed).min(self.most());
        }
        self.at = now;
    }
}

/// What a share has grown to since then.
#[must_use]
pub fn grown(share: f64, since: Timestamp, now: Timestamp) -> f64 {
    let passed = now.duration_since(since).as_secs_f64().clamp(0.0, 600.0);
    (share * (1.0 + GROWTH).powf(passed)).min(1.0)
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

    #[test]
    fn nodes_divide_the_rate() {
        let mut buckets = [Bucket::new(12.0, at(0)); 4];
        let mut calls = 0;
        for millis in (0..=10_000).step_by(100) {
            for bucket in &mut buckets {
                bucket.divide(4, at(millis));
                let now = bucket.available(at(millis));
                bucket.take(now);
                calls += now;
            }
        }

        assert!((115..=132).contains(&calls), "{calls} calls in ten seconds");
    }

    #[test]
    fn a_throttle_that_another_node_saw_counts_as_if_seen_here() {
        let mut saw = Bucket::new(100.0, at(0));
        let mut heard = Bucket::new(100.0, at(0));
        let throttle = saw.throttled(at(0), SignedDuration::from_secs(7));
        heard.slow_down(throttle, at(500));
        // Older news of a smaller throttle does not make it faster again.
        let older = Throttle {
            share: 0.9,
            shut_until: at(100),
        };
        heard.slow_down(older, at(600));

        assert_eq!(heard.available(at(6_999)), 0);
        assert!(heard.available(at(7_100)) > 0);
        saw.available(at(9_000));
        heard.available(at(9_000));
        assert!(
            (saw.rate() - heard.rate()).abs() < 0.1,
            "{} {}",
            saw.rate(),
            heard.rate()
        );
    }

    #[test]
    fn all_nodes_together_never_fall_below_the_floor() {
        let mut bucket = Bucket::new(10.0, at(0));
        bucket.divide(5, at(0));
        for second in 0..60 {
            bucket.throttled(at(second * 2000), SignedDuration::ZERO);
        }

        assert!(bucket.rate() * 5.0 > 0.49, "{}", bucket.rate());
    }
}

//! Telling a notification that was recorded and posted again by somebody else.
//!
//! Lives here: [`ReplayGuard`], an optional memory of what was admitted. Does not live here: repeats by WeChat Pay itself,
//! which are signed anew; know those by [`Notification::id`](crate::notify::Notification::id) and by the business numbers.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;

use crate::verify::CLOCK_WINDOW_SECONDS;

/// Remembers what was admitted for as long as its signature would be accepted again: ten minutes.
///
/// A resend by WeChat Pay has a new signature and is admitted. The memory is bounded; when it is full the oldest is
/// forgotten, so choose a bound above what arrives in ten minutes.
///
/// ```
/// # fn example(headers: &http::HeaderMap, now: i64) {
/// let guard = wechatpay::notify::ReplayGuard::new(100_000);
/// // … after `open` was successful:
/// if !guard.admit(headers, now) {
///     // Somebody plays back what he has recorded: answer 4xx.
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct ReplayGuard {
    max: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    marks: HashSet<[u8; 32]>,
    /// Oldest first, with the time after which it can be forgotten.
    order: VecDeque<(i64, [u8; 32])>,
}

impl ReplayGuard {
    /// Remembers at most this many.
    pub fn new(max: usize) -> ReplayGuard {
        ReplayGuard {
            max: max.max(1),
            seen: Mutex::default(),
        }
    }

    /// True for the first time, false for a replay. Ask after the signature was verified; `now` is in Unix seconds.
    pub fn admit(&self, headers: &HeaderMap, now: i64) -> bool {
        let mut mark = [0; 32];
        // RSA signatures cannot be altered and stay good: one signature is one message.
        let signature = headers
            .get("Wechatpay-Signature")
            .map_or(&b""[..], |value| value.as_bytes());
        mark.copy_from_slice(digest(&SHA256, signature).as_ref());
        let mut seen = self.seen.lock().expect("no holder of the memory panics");
        seen.forget(now, self.max);
        if !seen.marks.insert(mark) {
            return false;
        }
        seen.order.push_back((now + 2 * CLOCK_WINDOW_SECONDS, mark));
        true
    }
}

impl Seen {
    fn forget(&mut self, now: i64, max: usize) {
        while let Some((until, mark)) = self.order.front().copied() {
            if until >= now && self.order.len() < max {
                return;
            }
            self.order.pop_front();
            self.marks.remove(&mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(signature: &str) -> HeaderMap {
        [("wechatpay-signature".parse().unwrap(), signature.parse().unwrap())]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_replay_is_told_for_ten_minutes_and_a_resend_is_none() {
        let guard = ReplayGuard::new(10);

        assert!(guard.admit(&headers("a"), 1000));
        assert!(!guard.admit(&headers("a"), 1000) && !guard.admit(&headers("a"), 1600));
        assert!(guard.admit(&headers("b"), 1001), "a resend is signed anew");
        assert!(guard.admit(&headers("a"), 1601), "too old to verify by now");
    }

    #[test]
    fn the_memory_is_bounded() {
        let guard = ReplayGuard::new(3);

        for signature in ["a", "b", "c", "d"] {
            assert!(guard.admit(&headers(signature), 0));
        }
        assert!(!guard.admit(&headers("d"), 0) && !guard.admit(&headers("c"), 0));
        assert!(guard.admit(&headers("a"), 0), "forgotten");
        assert!(guard.seen.lock().unwrap().marks.len() <= 3);
    }
}

//! Whether a failed try is followed by another.
//!
//! Lives here: [`RetryPolicy`], which the user opts into, and the decision, pure: the dice are an argument. Does not live
//! here: what may pass at all ([`Error::retry`]), pausing and sending (`sender`, the only caller).

use std::time::Duration;

use crate::error::{Error, Retry, TransportError};

/// Repeats calls that WeChat Pay documents as passing, for those who opt in with
/// [`ClientBuilder::retry`](crate::ClientBuilder::retry).
///
/// Repeated is what [`Error::retry`] advises to: failures of the network, 429, 500, 502, 503, 504, and answers that cannot
/// be verified. A failure that is [ambiguous](Error::is_ambiguous) is repeated only when the call is safe to repeat by its
/// content: GETs, parking states, and calls marked with [`Call::repeatable`](crate::Call::repeatable). Each try is signed
/// anew. The pause doubles, has up to a fifth added at random, and is never shorter than `Retry-After`; when it would
/// outlast the total deadline, the failure is returned instead.
///
/// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012075249>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    tries: u32,
    first_pause: Duration,
    longest_pause: Duration,
}

impl RetryPolicy {
    /// At most this many tries per call, the first included. Pauses: 0.5 s, 1 s, 2 s and so on up to 30 s.
    pub fn new(tries: u32) -> RetryPolicy {
        RetryPolicy {
            tries,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
        }
    }

    /// Other pauses: the first, and the longest that doubling leads to.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> RetryPolicy {
        (self.first_pause, self.longest_pause) = (first, longest);
        self
    }

    fn pause(&self, tried: u32, dice: f64) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << (tried - 1).min(20));
        let pause = doubled.min(self.longest_pause);
        // Only ever added: a pause must not become shorter than announced.
        pause + pause.mul_f64(dice.clamp(0.0, 1.0) / 5.0)
    }
}

/// What follows a failed try.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    GiveUp,
    /// At once, on a connection made for it.
    Fresh,
    After(Duration),
}

/// The tries of one call so far.
pub(crate) struct Tries<'a> {
    policy: Option<&'a RetryPolicy>,
    repeatable: bool,
    tried: u32,
    fresh: u32,
}

/// A server that restarts closes what is idle, and also connections that were just made. More than that is no restart.
const MAX_FRESH: u32 = 2;

impl<'a> Tries<'a> {
    pub(crate) fn new(policy: Option<&'a RetryPolicy>, repeatable: bool) -> Tries<'a> {
        Tries {
            policy,
            repeatable,
            tried: 0,
            fresh: 0,
        }
    }

    /// `left` is the time to the total deadline, `dice` between 0 and 1.
    pub(crate) fn next(&mut self, error: &Error, left: Duration, dice: f64) -> Next {
        if self.repeatable && self.fresh < MAX_FRESH && was_closed(error) {
            self.fresh += 1;
            return Next::Fresh;
        }
        self.tried += 1;
        let Some(policy) = self.policy else { return Next::GiveUp };
        if self.tried >= policy.tries || (error.is_ambiguous() && !self.repeatable) {
            return Next::GiveUp;
        }
        let pause = policy.pause(self.tried, dice);
        let pause = match error.retry() {
            Retry::Never => return Next::GiveUp,
            Retry::Later => pause,
            Retry::After(asked) => pause.max(asked),
        };
        if pause < left { Next::After(pause) } else { Next::GiveUp }
    }
}

/// The connection closed before any byte of the answer.
fn was_closed(error: &Error) -> bool {
    matches!(
        error,
        Error::Transport {
            source: TransportError::Closed { .. },
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(60);

    fn transport(source: TransportError) -> Error {
        Error::Transport {
            host: "h".into(),
            source,
        }
    }

    fn closed(reused: bool) -> Error {
        transport(TransportError::Closed {
            reused,
            source: "cut".into(),
        })
    }

    fn refused(status: u16, retry_after: Option<u64>) -> Error {
        Error::Api {
            status,
            code: "X".into(),
            message: String::new(),
            request_id: "-".into(),
            verified: true,
            retry_after: retry_after.map(Duration::from_secs),
            detail: None,
            source: None,
        }
    }

    #[test]
    fn a_connection_that_closed_is_replaced_for_calls_that_are_safe_to_repeat() {
        let mut safe = Tries::new(None, true);
        assert_eq!(safe.next(&closed(true), LEFT, 0.0), Next::Fresh);
        assert_eq!(
            safe.next(&closed(false), LEFT, 0.0),
            Next::Fresh,
            "a server about to stop"
        );
        assert_eq!(safe.next(&closed(false), LEFT, 0.0), Next::GiveUp);

        for reused in [true, false] {
            assert_eq!(Tries::new(None, false).next(&closed(reused), LEFT, 0.0), Next::GiveUp);
        }
    }

    #[test]
    fn nothing_else_is_repeated_without_the_opt_in() {
        for error in [
            refused(500, None),
            refused(429, Some(1)),
            transport(TransportError::Busy(LEFT)),
        ] {
            assert_eq!(Tries::new(None, true).next(&error, LEFT, 0.0), Next::GiveUp);
        }
    }

    #[test]
    fn the_opt_in_pauses_longer_each_time_and_stops() {
        let policy = RetryPolicy::new(4);
        let mut tries = Tries::new(Some(&policy), true);
        let pauses: Vec<Next> = (0..4).map(|_| tries.next(&refused(503, None), LEFT, 0.0)).collect();

        let after = |ms| Next::After(Duration::from_millis(ms));
        assert_eq!(pauses, [after(500), after(1000), after(2000), Next::GiveUp]);
        assert_eq!(
            Tries::new(Some(&policy), true).next(&refused(503, None), LEFT, 1.0),
            after(600),
            "jitter is only added"
        );
    }

    #[test]
    fn retry_after_is_honoured_or_the_failure_returned() {
        let policy = RetryPolicy::new(2);
        let next = |after| Tries::new(Some(&policy), false).next(&refused(429, Some(after)), LEFT, 0.0);

        assert_eq!(next(7), Next::After(Duration::from_secs(7)));
        assert_eq!(next(60), Next::GiveUp, "it would outlast the deadline");
    }

    #[test]
    fn what_may_have_been_done_is_repeated_only_when_that_is_safe() {
        let policy = RetryPolicy::new(2).pauses(Duration::from_secs(1), Duration::from_secs(1));
        for error in [refused(500, None), transport(TransportError::Timeout(LEFT))] {
            let next = |safe| Tries::new(Some(&policy), safe).next(&error, LEFT, 0.0);
            assert_eq!(next(true), Next::After(Duration::from_secs(1)));
            assert_eq!(next(false), Next::GiveUp);
        }
        for error in [refused(400, Some(1)), refused(401, None), refused(403, None)] {
            assert_eq!(Tries::new(Some(&policy), true).next(&error, LEFT, 0.0), Next::GiveUp);
        }
    }
}

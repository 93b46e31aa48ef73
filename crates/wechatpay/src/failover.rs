//! Which of two domains a call goes to: the main one or the backup (跨城冗灾).
//!
//! Lives here: the decision, pure; the moment is an argument. Only failures to connect count: a business error, or an
//! answer that never came, is no reason to switch. Does not live here: sending (`sender`, the only caller).
//!
//! Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012075113>.

use std::time::{Duration, Instant};

/// How long the choice stays once it has changed, either way.
const STAY: Duration = Duration::from_secs(30);

/// One of the two domains that a client may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Domain {
    /// The one of [`ClientBuilder::base_url`](crate::ClientBuilder::base_url).
    Main,
    /// The one of [`ClientBuilder::backup_url`](crate::ClientBuilder::backup_url).
    Backup,
}

impl Domain {
    pub(crate) fn other(self) -> Domain {
        match self {
            Domain::Main => Domain::Backup,
            Domain::Backup => Domain::Main,
        }
    }
}

/// The preferred domain, and since when.
#[derive(Debug)]
pub(crate) struct Failover {
    preferred: Domain,
    /// `None` before the first switch.
    since: Option<Instant>,
    /// When one call may look whether the main domain is back.
    look_at: Option<Instant>,
}

impl Failover {
    pub(crate) fn new() -> Failover {
        Failover {
            preferred: Domain::Main,
            since: None,
            look_at: None,
        }
    }

    /// Where the next call goes. While the backup is preferred, one call every 30 s looks at the main domain, so that
    /// only that one pays for its being away.
    pub(crate) fn choose(&mut self, now: Instant) -> Domain {
        match (self.preferred, self.look_at) {
            (Domain::Backup, Some(look_at)) if now >= look_at => {
                self.look_at = Some(now + STAY);
                Domain::Main
            }
            (preferred, _) => preferred,
        }
    }

    /// No connection could be made to this one.
    pub(crate) fn failed(&mut self, domain: Domain, now: Instant) {
        if domain == self.preferred && self.has_stayed(now) {
            self.prefer(domain.other(), now);
        }
    }

    /// This one was reached.
    pub(crate) fn worked(&mut self, domain: Domain, now: Instant) {
        if domain == Domain::Main && self.preferred == Domain::Backup && self.has_stayed(now) {
            self.prefer(Domain::Main, now);
        }
    }

    /// The domain that calls go to, apart from the one call that looks whether the main domain is back.
    pub(crate) fn preferred(&self) -> Domain {
        self.preferred
    }

    /// Somebody else found out which domain is to be used. False while the choice before has not lasted long enough.
    pub(crate) fn follow(&mut self, domain: Domain, now: Instant) -> bool {
        if domain == self.preferred {
            return true;
        }
        let may = self.has_stayed(now);
        if may {
            self.prefer(domain, now);
        }
        may
    }

    fn has_stayed(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.duration_since(since) >= STAY)
    }

    fn prefer(&mut self, domain: Domain, now: Instant) {
        self.preferred = domain;
        self.since = Some(now);
        self.look_at = (domain == Domain::Backup).then(|| now + STAY);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read the clock")]
mod tests {
    use super::*;

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_dead_main_domain_is_left_and_looked_at_by_one_call_every_30_s() {
        let start = Instant::now();
        let mut failover = Failover::new();

        assert_eq!(failover.choose(start), Domain::Main);
        failover.failed(Domain::Main, start);

        assert_eq!(failover.choose(seconds(start, 29)), Domain::Backup);
        assert_eq!(failover.choose(seconds(start, 30)), Domain::Main, "one looks");
        assert_eq!(failover.choose(seconds(start, 30)), Domain::Backup, "the others do not");
        failover.failed(Domain::Main, seconds(start, 33));
        assert_eq!(failover.choose(seconds(start, 59)), Domain::Backup);
        assert_eq!(failover.choose(seconds(start, 60)), Domain::Main);
        failover.worked(Domain::Main, seconds(start, 60));
        assert_eq!(failover.choose(seconds(start, 60)), Domain::Main, "back");
    }

    #[test]
    fn late_failures_of_the_domain_that_was_left_change_nothing() {
        let start = Instant::now();
        let mut failover = Failover::new();

        failover.failed(Domain::Main, start);
        failover.failed(Domain::Main, seconds(start, 3));

        assert_eq!(failover.choose(seconds(start, 4)), Domain::Backup);
        assert_eq!(
            failover.choose(seconds(start, 30)),
            Domain::Main,
            "counted from the first"
        );
    }

    #[test]
    fn each_choice_stays_30_s_either_way() {
        let start = Instant::now();
        let mut failover = Failover::new();
        failover.failed(Domain::Main, start);

        failover.worked(Domain::Main, seconds(start, 5));
        failover.failed(Domain::Backup, seconds(start, 10));
        assert_eq!(failover.choose(seconds(start, 11)), Domain::Backup);
        failover.failed(Domain::Backup, seconds(start, 31));
        assert_eq!(failover.choose(seconds(start, 31)), Domain::Main);
        failover.failed(Domain::Main, seconds(start, 40));
        assert_eq!(failover.choose(seconds(start, 41)), Domain::Main);
        failover.failed(Domain::Main, seconds(start, 61));
        assert_eq!(failover.choose(seconds(start, 61)), Domain::Backup);
    }

    #[test]
    fn what_others_found_out_is_followed_but_not_sooner_than_after_30_s() {
        let start = Instant::now();
        let mut failover = Failover::new();

        assert!(failover.follow(Domain::Backup, start));
        assert_eq!(failover.choose(seconds(start, 1)), Domain::Backup);
        assert!(
            failover.follow(Domain::Backup, seconds(start, 2)),
            "it is there already"
        );
        assert!(!failover.follow(Domain::Main, seconds(start, 29)));
        assert_eq!(
            failover.choose(seconds(start, 30)),
            Domain::Main,
            "one looks, as after a failure of its own"
        );
        assert_eq!(failover.preferred(), Domain::Backup);
        assert!(failover.follow(Domain::Main, seconds(start, 30)));
        failover.failed(Domain::Main, seconds(start, 40));
        assert_eq!(
            failover.choose(seconds(start, 41)),
            Domain::Main,
            "its own failures wait as long"
        );
    }
}

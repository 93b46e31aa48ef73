//! Which of two domains a call goes to: the main one or the backup (跨城冗灾).
//!
//! Lives here: the decision, pure; the moment is an argument. Only failures to connect count: a business error, or an
//! answer that never came, is no reason to switch. Does not live here: sending (`sender`, the only caller).
//!
//! Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012075113>.

use std::time::{Duration, Instant};

/// How long the choice stays once it has changed, either way.
const STAY: Duration = Duration::from_secs(30);

/// One of the two domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    Main,
    Backup,
}

impl Site {
    pub(crate) fn other(self) -> Site {
        match self {
            Site::Main => Site::Backup,
            Site::Backup => Site::Main,
        }
    }
}

/// The preferred domain, and since when.
#[derive(Debug)]
pub(crate) struct Failover {
    preferred: Site,
    /// `None` before the first switch.
    since: Option<Instant>,
    /// When one call may look whether the main domain is back.
    look_at: Option<Instant>,
}

impl Failover {
    pub(crate) fn new() -> Failover {
        Failover {
            preferred: Site::Main,
            since: None,
            look_at: None,
        }
    }

    /// Where the next call goes. While the backup is preferred, one call every 30 s looks at the main domain, so that
    /// only that one pays for its being away.
    pub(crate) fn choose(&mut self, now: Instant) -> Site {
        match (self.preferred, self.look_at) {
            (Site::Backup, Some(look_at)) if now >= look_at => {
                self.look_at = Some(now + STAY);
                Site::Main
            }
            (preferred, _) => preferred,
        }
    }

    /// No connection could be made to this one.
    pub(crate) fn failed(&mut self, site: Site, now: Instant) {
        if site == self.preferred && self.has_stayed(now) {
            self.prefer(site.other(), now);
        }
    }

    /// This one was reached.
    pub(crate) fn worked(&mut self, site: Site, now: Instant) {
        if site == Site::Main && self.preferred == Site::Backup && self.has_stayed(now) {
            self.prefer(Site::Main, now);
        }
    }

    fn has_stayed(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.duration_since(since) >= STAY)
    }

    fn prefer(&mut self, site: Site, now: Instant) {
        self.preferred = site;
        self.since = Some(now);
        self.look_at = (site == Site::Backup).then(|| now + STAY);
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

        assert_eq!(failover.choose(start), Site::Main);
        failover.failed(Site::Main, start);

        assert_eq!(failover.choose(seconds(start, 29)), Site::Backup);
        assert_eq!(failover.choose(seconds(start, 30)), Site::Main, "one looks");
        assert_eq!(failover.choose(seconds(start, 30)), Site::Backup, "the others do not");
        failover.failed(Site::Main, seconds(start, 33));
        assert_eq!(failover.choose(seconds(start, 59)), Site::Backup);
        assert_eq!(failover.choose(seconds(start, 60)), Site::Main);
        failover.worked(Site::Main, seconds(start, 60));
        assert_eq!(failover.choose(seconds(start, 60)), Site::Main, "back");
    }

    #[test]
    fn late_failures_of_the_domain_that_was_left_change_nothing() {
        let start = Instant::now();
        let mut failover = Failover::new();

        failover.failed(Site::Main, start);
        failover.failed(Site::Main, seconds(start, 3));

        assert_eq!(failover.choose(seconds(start, 4)), Site::Backup);
        assert_eq!(
            failover.choose(seconds(start, 30)),
            Site::Main,
            "counted from the first"
        );
    }

    #[test]
    fn each_choice_stays_30_s_either_way() {
        let start = Instant::now();
        let mut failover = Failover::new();
        failover.failed(Site::Main, start);

        failover.worked(Site::Main, seconds(start, 5));
        failover.failed(Site::Backup, seconds(start, 10));
        assert_eq!(failover.choose(seconds(start, 11)), Site::Backup);
        failover.failed(Site::Backup, seconds(start, 31));
        assert_eq!(failover.choose(seconds(start, 31)), Site::Main);
        failover.failed(Site::Main, seconds(start, 40));
        assert_eq!(failover.choose(seconds(start, 41)), Site::Main);
        failover.failed(Site::Main, seconds(start, 61));
        assert_eq!(failover.choose(seconds(start, 61)), Site::Backup);
    }
}

//! What the database promised to whom: who has which lane, and until when. Every call is held against it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use parksync::domain::delivery::{Delivery, Outcome, Verdict};
use parksync::limits;
use parksync::store::{Lease, Settled};

use crate::run::DEADLINE;
use crate::trouble::STORE_CLOCK_STEP;
use crate::wechat::{How, WeChat};
use crate::world::{Book, story};

/// The claims of all lanes.
#[derive(Default)]
pub(crate) struct Claims {
    /// The latest of each lane that nobody gave back.
    current: BTreeMap<i64, Claim>,
    /// By process and message: lane, epoch, and when it was claimed.
    of_message: BTreeMap<(u32, i64), (i64, i64, Timestamp)>,
}

#[derive(Clone)]
struct Claim {
    process: u32,
    epoch: i64,
    at: Timestamp,
    head: Delivery,
    sent: bool,
}

impl Claim {
    fn is_good(&self, now: Timestamp) -> bool {
        now < self.at + limits::LEASE
    }
}

impl Claim {
    /// Its message was taken out meanwhile: it need not come again.
    fn is_withdrawn(&self, book: &Book) -> bool {
        let unbound_at = book.unbound_at.get(&WeChat::pair(&self.head));
        unbound_at.is_some_and(|unbound_at| *unbound_at >= self.at)
    }
}

impl WeChat {
    /// A process has claimed lanes.
    pub(crate) fn claimed(&self, process: u32, leases: &[Lease]) {
        let now = (self.now)();
        let mut claims = self.claims.lock().unwrap();
        let mut book = self.book.lock().unwrap();
        for lease in leases {
            let Lease { lane, epoch, head, .. } = lease;
            story(|| {
                format!(
                    "process {process} claims lane {lane}, epoch {epoch}: message {}",
                    head.id
                )
            });
            let claim = Claim {
                process,
                epoch: lease.epoch,
                at: now,
                head: lease.head.clone(),
                sent: false,
            };
            let of_message = (lease.lane, lease.epoch, now);
            claims.of_message.insert((process, lease.head.id), of_message);
            let Some(before) = claims.current.insert(lease.lane, claim) else {
                continue;
            };
            if before.is_good(now + STORE_CLOCK_STEP) {
                book.wrong(format!(
                    "a lane was claimed by process {process} while process {} had it for {:#} more",
                    before.process,
                    (before.at + limits::LEASE).duration_since(now)
                ));
            }
            if before.sent && !before.is_withdrawn(&book) {
                self.unsettled(&before.head);
            }
        }
    }

    /// A process has settled; the store says how many of these claims were lost.
    pub(crate) fn settled_as(&self, process: u32, settled: &[Settled], lost: usize) {
        let mut claims = self.claims.lock().unwrap();
        let mut book = self.book.lock().unwrap();
        book.lost_claims += lost as u64;
        for one in settled {
            let Settled {
                lease,
                outcome,
                verdict,
                ..
            } = one;
            let (lane, word) = (lease.lane, outcome.word());
            story(|| {
                format!(
                    "process {process} settles lane {lane} as {word} ({lost} of {} lost)",
                    settled.len()
                )
            });
            let is_current = claims
                .current
                .get(&lease.lane)
                .is_some_and(|claim| (claim.process, claim.epoch) == (process, lease.epoch));
            if is_current {
                claims.current.remove(&lease.lane);
                if matches!(verdict, Verdict::Hold { .. }) {
                    self.known_to_be_refused(&lease.head.member.circle);
                }
                if matches!(verdict, Verdict::Delivered | Verdict::Dead { .. }) {
                    // Also of a call that left late: its claim was still good when it settled.
                    self.over_for_certain(&lease.head);
                }
            }
            if lost == 0 && matches!(outcome, Outcome::Accepted { .. }) {
                let log = book.accepted.entry(Self::pair(&lease.head)).or_default();
                if let Some(accepted) = log.iter_mut().rfind(|accepted| accepted.id == lease.head.id) {
                    accepted.doubtful = false;
                }
            }
        }
    }

    /// A process died over the commit of this; nobody knows whether it stands.
    pub(crate) fn settled_perhaps(&self, process: u32, settled: &[Settled]) {
        let mut claims = self.claims.lock().unwrap();
        for Settled { lease, .. } in settled {
            let this = (process, lease.epoch);
            claims
                .current
                .retain(|lane, claim| *lane != lease.lane || (claim.process, claim.epoch) != this);
        }
    }

    /// Claims that had ended were freed.
    pub(crate) fn taken_over(&self, lanes: u32) {
        if lanes > 0 {
            story(|| format!("{lanes} lanes are taken over"));
        }
        self.book.lock().unwrap().lost_claims += u64::from(lanes);
    }

    /// A process left in good order: its lanes are free.
    pub(crate) fn left(&self, process: u32) {
        self.free(|claim| claim.process == process);
    }

    /// The only process starts anew: all lanes are free.
    pub(crate) fn all_freed(&self) {
        self.free(|_| true);
    }

    fn free(&self, which: impl Fn(&Claim) -> bool) {
        let mut claims = self.claims.lock().unwrap();
        let freed: Vec<Claim> = claims
            .current
            .extract_if(.., |_, claim| which(claim))
            .map(|(_, claim)| claim)
            .collect();
        let book = self.book.lock().unwrap();
        for claim in freed.iter().filter(|claim| claim.sent && !claim.is_withdrawn(&book)) {
            self.unsettled(&claim.head);
        }
    }

    /// A call leaves: is it allowed to? Says whether its claim is over, and when it was made.
    pub(crate) fn under_a_claim(
        &self,
        process: u32,
        delivery: &Delivery,
        how: How,
        book: &mut Book,
    ) -> (bool, Timestamp) {
        let now = (self.now)();
        let mut claims = self.claims.lock().unwrap();
        let Some((lane, epoch, at)) = claims.of_message.get(&(process, delivery.id)).copied() else {
            book.wrong(format!("message {} was sent and never claimed", delivery.id));
            return (true, now);
        };
        story(|| {
            format!(
                "process {process} sends message {} of lane {lane}, {how:?}",
                delivery.id
            )
        });
        let current = claims
            .current
            .get_mut(&lane)
            .filter(|claim| (claim.process, claim.epoch) == (process, epoch) && claim.is_good(now));
        let is_over = current.is_none();
        if let Some(claim) = current {
            claim.sent = true;
        }
        let left = (at + limits::LEASE).duration_since(now);
        let is_short = left < SignedDuration::try_from(DEADLINE + limits::LEASE_MARGIN).unwrap();
        if how == How::Plain && is_over {
            book.wrong(format!(
                "message {} was sent under a claim that was over {:#} ago, or somebody else's",
                delivery.id, -left
            ));
        } else if how == How::Plain && is_short {
            book.wrong(format!(
                "message {} was sent {left:#} before the end of its claim",
                delivery.id
            ));
        }
        // A call that could not know better may outlast its claim.
        let is_late = is_over || is_short;
        (is_late, at)
    }
}

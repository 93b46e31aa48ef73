//! What everybody in the simulation shares: the dice, the book of what happened, and what is wrong.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use parksync::domain::gate::Direction;

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_F491_4F6C_DD1D))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    pub(crate) fn in_hundred(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

thread_local! {
    static STORY: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
}

/// From here on what happens is told as it happens, with the virtual time since then: for a seed that is looked at alone.
pub(crate) fn tell_the_story() {
    STORY.set(Some(tokio::time::Instant::now()));
}

pub(crate) fn story(what: impl FnOnce() -> String) {
    if let Some(began) = STORY.get() {
        println!("{:10.3}  {}", began.elapsed().as_secs_f64(), what());
    }
}

/// One crossing that a gate told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) state: Direction,
    pub(crate) at: Timestamp,
    /// When we acknowledged it.
    pub(crate) acknowledged_at: Timestamp,
    /// The replay it came with.
    pub(crate) batch: Option<u64>,
}

/// One call that WeChat Pay accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// The message.
    pub(crate) id: i64,
    pub(crate) state: Direction,
    pub(crate) at: Timestamp,
    pub(crate) epoch: u32,
    /// It came under a claim that was over: another message may have come before it that should come after.
    pub(crate) late: bool,
    /// We could not know: no outcome of it was written down yet.
    pub(crate) doubtful: bool,
}

/// A member's car.
pub(crate) type Pair = (String, String);

/// What is true, and what WeChat Pay holds.
#[derive(Default)]
pub(crate) struct Book {
    /// What gates told of each plate and we acknowledged, in the order of acknowledgement.
    pub(crate) told: BTreeMap<String, Vec<Told>>,
    /// What was taken for a second read of the same passage.
    pub(crate) rereads: BTreeMap<String, Vec<Told>>,
    /// Everything any gate ever tried to tell of a plate: what a call may say.
    pub(crate) possible: BTreeMap<String, BTreeMap<(Timestamp, bool), Option<u64>>>,
    /// Which plates are bound to whom, and for how many times they were unbound before.
    pub(crate) bound: BTreeMap<Pair, bool>,
    pub(crate) epochs: BTreeMap<Pair, u32>,
    /// When a binding was made, and when one was taken away.
    pub(crate) bound_at: BTreeMap<Pair, Timestamp>,
    pub(crate) unbound_at: BTreeMap<Pair, Timestamp>,
    /// Which event of a replay was told, per pair and replay.
    pub(crate) of_batch: BTreeMap<(Pair, u64), BTreeSet<Timestamp>>,
    /// What WeChat Pay accepted, in order.
    pub(crate) accepted: BTreeMap<Pair, Vec<Accepted>>,
    /// Messages that WeChat Pay refused for good, by the dice.
    pub(crate) killed: BTreeSet<(Pair, Timestamp)>,
    pub(crate) wrong: Vec<String>,
    pub(crate) events: u64,
    pub(crate) calls: u64,
    pub(crate) repeats: u64,
    /// Lanes that were taken over, and states that were told again for it.
    pub(crate) lost_claims: u64,
    pub(crate) reassertions: u64,
    /// Messages that came under a claim that was over.
    pub(crate) late: u64,
    /// The clock was set wrong, or the process died: waits cannot be judged to the second any more.
    pub(crate) disturbed: bool,
}

impl Book {
    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        if self.wrong.len() < 5 {
            let what = what.into();
            story(|| format!("WRONG {what}"));
            self.wrong.push(what);
        }
    }

    /// A crossing the other way between two reads makes the second one a passage of its own, told when it came.
    pub(crate) fn part_rereads(&mut self, plate: &str, crossing: &Told, window: SignedDuration) {
        let Some(rereads) = self.rereads.get_mut(plate) else {
            return;
        };
        let told = self.told.entry(plate.to_owned()).or_default();
        let reads = || rereads.iter().chain(&*told).filter(|read| read.state != crossing.state);
        let before = reads().map(|read| read.at).filter(|at| *at <= crossing.at).max();
        let after = reads().map(|read| read.at).filter(|at| *at > crossing.at).min();
        if let (Some(before), Some(after)) = (before, after)
            && after.duration_since(before) <= window
            && let Some(parted) = rereads.iter().position(|read| read.at == after)
        {
            told.push(rereads.swap_remove(parted));
        }
    }

    pub(crate) fn epoch(&self, pair: &Pair) -> u32 {
        self.epochs.get(pair).copied().unwrap_or(0)
    }
}

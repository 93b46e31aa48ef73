//! A seed: how large and how hard its world is, how it is played, and what it came to.

use std::cell::Cell;
use std::path::Path;

use parksync::store::sqlite::inline::{set_fate, take_death};

use crate::run::Sim;
use crate::world::Dice;

/// What one or many seeds came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seeds: u64,
    pub(crate) shared: u64,
    pub(crate) events: u64,
    pub(crate) calls: u64,
    pub(crate) repeats: u64,
    pub(crate) crashes: u64,
    pub(crate) lost_claims: u64,
    pub(crate) late: u64,
    pub(crate) wrong: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.shared += other.shared;
        self.events += other.events;
        self.calls += other.calls;
        self.repeats += other.repeats;
        self.crashes += other.crashes;
        self.lost_claims += other.lost_claims;
        self.late += other.late;
        self.wrong.extend(other.wrong.iter().cloned());
    }
}

/// Whether several processes share the database in this seed.
pub(crate) const fn has_several(seed: u64) -> bool {
    seed % 5 >= 3
}

/// Plays one seed; `aloud`, it says what happens.
pub(crate) fn seed(seed: u64, aloud: bool) -> Report {
    JITTER.set(seed);
    let folder = folder();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let report =
        runtime.block_on(tokio::task::LocalSet::new().run_until(Sim::play(seed, folder.path().to_owned(), aloud)));
    set_fate(None);
    take_death();
    report
}

thread_local! {
    static JITTER: Cell<u64> = const { Cell::new(0) };
}

/// Drawn from the seed, so that a seed is one run and no other.
pub(crate) fn jitter() -> f64 {
    let number = Dice::new(JITTER.get()).number();
    JITTER.set(number);
    (number % 1000) as f64 / 1000.0
}

/// In memory where the system has such a place: the disk of a simulation fails by the dice, not by itself.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// How large a world is, and how hard it is on us.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) cars: u64,
    pub(crate) members: u64,
    pub(crate) minutes: i64,
    /// How many processes share the database. One of them has a file for itself.
    pub(crate) machines: usize,
    /// Nothing dies and no clock jumps in this one, so that waits can be judged to the second.
    pub(crate) calm: bool,
    /// Calls a second that the merchant may make.
    pub(crate) ceiling: f64,
}

impl Scale {
    /// Two seeds in five have several processes; two are calm.
    pub(crate) fn of(seed: u64, dice: &mut Dice) -> Self {
        if !has_several(seed) {
            return Self {
                cars: 14,
                members: 10,
                minutes: 80,
                machines: 1,
                calm: seed % 5 < 2,
                ceiling: 50.0,
            };
        }
        Self {
            cars: 24,
            members: 16,
            minutes: 8,
            machines: usize::try_from(2 + dice.below(4)).unwrap(),
            calm: false,
            ceiling: if dice.in_hundred(40) { 0.5 } else { 50.0 },
        }
    }

    pub(crate) const fn is_shared(&self) -> bool {
        self.machines > 1
    }
}

//! One seed: a world is made, played in virtual time with crashes and bad disks, drained, and held against the truth.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parksync::clock::{Clock, Wrong};
use parksync::domain::member::{MemberKey, Openid};
use parksync::domain::plate::Plate;
use parksync::domain::presence::Policy;
use parksync::limits;
use parksync::store::sqlite::SqliteStore;
use parksync::store::sqlite::inline::{Fate, set_fate, take_death};
use parksync::store::vault::Vault;
use parksync::store::{Recorded, Store};
use rusqlite::{Connection, OpenFlags};

use crate::gates::{self, Message};
use crate::machine::{Machine, Process, Start};
use crate::seed::{Report, Scale};
use crate::truth::newest;
use crate::wechat::WeChat;
use crate::wire::Trouble;
use crate::world::{Book, Dice, Pair, Told, story, tell_the_story};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// How long a request may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Sim {
    seed: u64,
    path: PathBuf,
    vault: Arc<Vault>,
    pub(crate) dice: Dice,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) wechat: Arc<WeChat>,
    /// What the database takes for the time.
    pub(crate) store_clock: Clock,
    pub(crate) store_wrong: Wrong,
    policy: Policy,
    pub(crate) scale: Scale,
    pub(crate) machines: Vec<Machine>,
    processes: u32,
    pub(crate) crashes: u64,
    pub(crate) members: Vec<Pair>,
    /// Cars that turn round at a gate: another crossing in the middle of that would be one that nobody can tell from a second read.
    pub(crate) turning: BTreeSet<String>,
    pub(crate) held_since: Option<Timestamp>,
    pub(crate) rush_until: Option<Timestamp>,
    /// The database, as an onlooker sees it.
    pub(crate) look: Option<Connection>,
}

impl Sim {
    pub(crate) async fn play(seed: u64, folder: PathBuf, aloud: bool) -> Report {
        if aloud {
            tell_the_story();
        }
        let origin = Timestamp::from_second(1_700_000_000).unwrap();
        let started = tokio::time::Instant::now();
        let mut dice = Dice::new(seed);
        let scale = Scale::of(seed, &mut dice);
        let book = Arc::new(Mutex::new(Book::default()));
        let now = move || origin + started.elapsed();
        let wechat = Arc::new(WeChat::new(Arc::clone(&book), seed, scale.is_shared(), now));
        wechat.mood.lock().unwrap().ceiling = scale.ceiling;
        // With several processes waits cannot be judged to the second: they follow each other's clocks.
        book.lock().unwrap().disturbed = scale.is_shared();
        let store_wrong = Wrong::default();
        let mut sim = Self {
            seed,
            path: folder.join("sim.db"),
            vault: Arc::new(Vault::from_key_file(KEY).unwrap()),
            dice,
            book,
            wechat,
            store_clock: Clock::of_runtime(origin, started, store_wrong.clone()),
            store_wrong,
            policy: Policy::default(),
            scale,
            machines: (0..scale.machines).map(|_| Machine::new(origin, started)).collect(),
            processes: 0,
            crashes: 0,
            members: Vec::new(),
            turning: BTreeSet::new(),
            held_since: None,
            rush_until: None,
            look: None,
        };
        sim.begin().await;
        sim.bind_members().await;
        let mut messages: Vec<Message> = (0..scale.cars)
            .flat_map(|car| gates::tell(&plate(car), circle(car), origin, &scale, &mut sim.dice))
            .collect();
        messages.sort_by_key(|message| message.send_at);
        for message in &messages {
            sim.possible(message);
        }
        let turning = messages.iter().filter(|message| message.turns_round);
        sim.turning = turning.map(|message| message.plate.clone()).collect();
        let mut next_trouble = origin + SignedDuration::from_secs(60);
        for message in messages {
            sim.wait_until(message.send_at).await;
            while sim.true_now() >= next_trouble {
                sim.trouble().await;
                let most = if scale.is_shared() { 25 } else { 240 };
                let pause = i64::try_from(sim.dice.below(most)).unwrap();
                next_trouble += SignedDuration::from_secs(if scale.is_shared() { 10 } else { 30 } + pause);
            }
            if sim.rush_until.is_some_and(|until| sim.true_now() >= until) {
                sim.end_rush().await;
            }
            sim.post(&message).await;
            if !sim.book.lock().unwrap().wrong.is_empty() {
                break;
            }
        }
        if scale.is_shared() && sim.book.lock().unwrap().wrong.is_empty() {
            sim.last_word().await;
        }
        if sim.book.lock().unwrap().wrong.is_empty() {
            sim.drain().await;
            sim.hold_against_truth().await;
        }
        let book = sim.book.lock().unwrap();
        Report {
            seeds: 1,
            shared: u64::from(scale.is_shared()),
            events: book.events,
            calls: book.calls,
            repeats: book.repeats,
            crashes: sim.crashes,
            lost_claims: book.lost_claims,
            late: book.late,
            wrong: book.wrong.iter().map(|wrong| format!("seed {seed}: {wrong}")).collect(),
        }
    }

    pub(crate) fn true_now(&self) -> Timestamp {
        (self.wechat.now)()
    }

    pub(crate) async fn wait_until(&mut self, at: Timestamp) {
        let left = Duration::try_from(at.duration_since(self.true_now())).unwrap_or_default();
        tokio::time::sleep(left).await;
        self.tend().await;
    }

    /// What a gate may say is what may be told.
    pub(crate) fn possible(&self, message: &Message) {
        let mut book = self.book.lock().unwrap();
        let possible = book.possible.entry(message.plate.clone()).or_default();
        possible.insert((message.read.at, message.read.state.as_str() == "IN"), message.batch);
    }

    // The processes: they start, they die.

    async fn begin(&mut self) {
        for machine in 0..self.machines.len() {
            if self.scale.is_shared() {
                // Each wrong in its own way.
                let most = u64::try_from(limits::NODE_CLOCK.as_millis()).unwrap();
                let ahead = i64::try_from(self.dice.below(2 * most)).unwrap() - i64::try_from(most).unwrap();
                let wrong = &self.machines[machine].wrong;
                wrong.ahead_ms.store(ahead, std::sync::atomic::Ordering::Relaxed);
            }
            self.start(machine, !self.scale.is_shared()).await;
        }
        let look = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        self.look = Some(look);
    }

    pub(crate) async fn start(&mut self, machine: usize, slow: bool) {
        self.processes += 1;
        let is_bad = self.scale.is_shared() && !slow;
        let start = Start {
            number: self.processes,
            path: &self.path,
            vault: &self.vault,
            wechat: &self.wechat,
            store_clock: &self.store_clock,
            alone: !self.scale.is_shared(),
            slow,
            trouble: Trouble::new(is_bad, self.seed * 1000 + u64::from(self.processes)),
            ceiling: self.scale.ceiling,
        };
        self.machines[machine].start(start).await;
        story(|| format!("machine {machine} starts process {}", self.processes));
    }

    /// A process dies where it stands. The only one comes back before anything else happens.
    pub(crate) async fn die(&mut self, machine: usize) {
        let Some(process) = self.machines[machine].die().await else {
            return;
        };
        story(|| format!("process {process} dies"));
        self.crashes += 1;
        set_fate(None);
        self.book.lock().unwrap().disturbed = true;
        self.wechat.caller_died(process);
        let pause = 1 + self.dice.below(if self.scale.is_shared() { 60 } else { 20 });
        if self.scale.is_shared() {
            self.machines[machine].back_at = self.true_now() + Duration::from_secs(pause);
        } else {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            self.start(machine, true).await;
        }
    }

    /// Starts what is to come back.
    pub(crate) async fn tend(&mut self) {
        for machine in 0..self.machines.len() {
            let Machine { process, back_at, .. } = &self.machines[machine];
            if process.is_none() && *back_at <= self.true_now() {
                self.start(machine, false).await;
            }
        }
    }

    /// A machine whose process can take what it is told.
    pub(crate) async fn some_well(&mut self) -> usize {
        loop {
            self.tend().await;
            let well: Vec<usize> = (0..self.machines.len())
                .filter(|machine| self.machines[*machine].process.as_ref().is_some_and(Process::is_well))
                .collect();
            if !well.is_empty() {
                return well[usize::try_from(self.dice.below(well.len() as u64)).unwrap()];
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub(crate) fn store_of(&self, machine: usize) -> Arc<SqliteStore> {
        Arc::clone(&self.machines[machine].process.as_ref().unwrap().store)
    }

    /// The store and the clock of some process that works.
    pub(crate) async fn some_store(&mut self) -> (Arc<SqliteStore>, Timestamp) {
        let machine = self.some_well().await;
        (self.store_of(machine), self.machines[machine].clock.now())
    }

    // The world: members, gates.

    async fn bind_members(&mut self) {
        for member in 0..self.scale.members {
            // Some have two cars; some cars have two members; some cars have none.
            let two = if self.scale.is_shared() { 100 } else { 30 };
            for car in [member, (member * 3 + 7) % self.scale.cars]
                .into_iter()
                .take(if self.dice.in_hundred(two) { 2 } else { 1 })
            {
                let pair = (openid(member), plate(car));
                if !self.members.contains(&pair) {
                    self.members.push(pair);
                }
            }
        }
        for pair in self.members.clone() {
            if self.dice.in_hundred(70) {
                self.bind(&pair).await;
            }
        }
    }

    pub(crate) async fn bind(&mut self, pair: &Pair) {
        // From here on it may be told; an answer that is lost leaves both possible, so it is asked again until it is there.
        self.book.lock().unwrap().bound.insert(pair.clone(), true);
        let true_now = self.true_now();
        self.book.lock().unwrap().bound_at.insert(pair.clone(), true_now);
        let (_, now) = self.some_store().await;
        loop {
            let plates = vec![Plate::from_stored(pair.1.clone())];
            let (store, _) = self.some_store().await;
            match store.bind(key(pair), plates, false, now).await {
                Ok(_) => {
                    story(|| format!("{} binds {}", pair.0, pair.1));
                    return;
                }
                Err(_) => {
                    if !self.live_on().await {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        }
    }

    pub(crate) async fn unbind(&mut self, pair: &Pair) {
        loop {
            let plates = vec![Plate::from_stored(pair.1.clone())];
            let (store, now) = self.some_store().await;
            match store.unbind(key(pair), plates, now).await {
                Ok(_) => break,
                Err(_) => {
                    if !self.live_on().await {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        }
        // What was under way when it was acknowledged may finish.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = self.true_now();
        story(|| format!("{} takes out {}", pair.0, pair.1));
        let mut book = self.book.lock().unwrap();
        book.bound.insert(pair.clone(), false);
        book.unbound_at.insert(pair.clone(), now);
        *book.epochs.entry(pair.clone()).or_default() += 1;
        self.wechat.forget(&pair.0);
    }

    /// A gate posts, and posts again until it is acknowledged.
    pub(crate) async fn post(&mut self, message: &Message) {
        let mut tries = 0;
        loop {
            tries += 1;
            let machine = self.some_well().await;
            self.dangerous_disk(machine);
            let event = message.event(self.machines[machine].clock.now(), self.policy);
            let answer = self.store_of(machine).record(vec![event], Vec::new()).await;
            if let Ok(recorded) = &answer {
                self.acknowledged(message, recorded[0], tries);
            }
            let died = self.live_on().await;
            if answer.is_ok() {
                break;
            }
            if !died {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert!(tries < 50, "the store does not come back");
        }
        // A resend of what was acknowledged is always known.
        if self.dice.in_hundred(20) {
            let (store, now) = self.some_store().await;
            let event = message.event(now, self.policy);
            let again = store.record(vec![event], Vec::new()).await;
            if let Ok(again) = again
                && again[0] != Recorded::Duplicate
            {
                self.book
                    .lock()
                    .unwrap()
                    .wrong(format!("an acknowledged event was lost or told twice: {:?}", again[0]));
            }
        }
        self.lanes_are_free_in_time();
    }

    /// Some commits fail, and some processes die over one.
    fn dangerous_disk(&mut self, machine: usize) {
        let fate = match self.dice.below(100) {
            0..=2 => Some(Fate::Refused),
            3..=4 if !self.scale.calm => Some(Fate::DiesBefore),
            5..=6 if !self.scale.calm => Some(Fate::DiesAfter),
            _ => None,
        };
        let process = self.machines[machine]
            .process
            .as_ref()
            .map_or(0, |process| process.number);
        set_fate(fate.map(|fate| (process, fate)));
    }

    /// If a process should have died over a commit, it does so now.
    pub(crate) async fn live_on(&mut self) -> bool {
        let Some(dead) = take_death() else { return false };
        let is_dead = |machine: &Machine| machine.process.as_ref().is_some_and(|process| process.number == dead);
        if let Some(machine) = self.machines.iter().position(is_dead) {
            self.die(machine).await;
        }
        true
    }

    fn acknowledged(&mut self, message: &Message, recorded: Recorded, tries: u32) {
        let acknowledged_at = self.true_now();
        let Message { read, plate, .. } = message;
        story(|| format!("gate: {} {} of {plate}: {}", read.state, read.at, recorded.word()));
        let mut book = self.book.lock().unwrap();
        book.events += 1;
        if let Some(must_be) = message.must_be
            && tries == 1
            && !book.disturbed
            && recorded.word() != must_be
        {
            book.wrong(format!("a second camera was {} and not {must_be}", recorded.word()));
        }
        // A resend is only said to be known. It may be one of what was merged.
        let is_reread = recorded == Recorded::Merged
            || recorded == Recorded::Duplicate
                && newest(&book.told, plate).is_some_and(|last| {
                    last.state == read.state && read.at.duration_since(last.at).abs() < self.policy.merge_window
                });
        let told = Told {
            state: read.state,
            at: read.at,
            acknowledged_at,
            batch: message.batch,
        };
        if is_reread {
            book.rereads.entry(plate.clone()).or_default().push(told);
        } else {
            book.part_rereads(plate, &told, self.policy.merge_window);
            book.told.entry(plate.clone()).or_default().push(told);
        }
    }
}

pub(crate) fn plate(car: u64) -> String {
    format!("宁Y{:05}", car + 1)
}

fn openid(member: u64) -> String {
    format!("sim-openid-{member:04}")
}

/// Cars keep to one mall.
pub(crate) fn circle(car: u64) -> &'static str {
    if car.is_multiple_of(2) { "north" } else { "south" }
}

pub(crate) fn circle_of(plate: &str) -> &'static str {
    let car: u64 = plate.trim_start_matches("宁Y").parse().unwrap();
    circle(car - 1)
}

fn key(pair: &Pair) -> MemberKey {
    MemberKey {
        circle: circle_of(&pair.1).to_owned(),
        appid: "wx-sim".parse().unwrap(),
        openid: Openid::parse(&pair.0).unwrap(),
    }
}

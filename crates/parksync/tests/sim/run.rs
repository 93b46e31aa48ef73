//! One seed: a world is made, played in virtual time with crashes and bad disks, drained, and held against the truth.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parksync::clock::Clock;
use parksync::delivery::worker::{Rates, Worker};
use parksync::domain::delivery::{Outcome, RetryPolicy, Scope, Verdict};
use parksync::domain::member::{MemberKey, Openid};
use parksync::domain::plate::Plate;
use parksync::domain::presence::Policy;
use parksync::store::sqlite::SqliteStore;
use parksync::store::sqlite::inline::{Fate, set_fate, take_death};
use parksync::store::vault::Vault;
use parksync::store::{ClaimRequest, NodeCard, NodeId, OutboxFilter, Recorded, Settled, Status, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::gates::{self, Message};
use crate::wechat::{Mood, TIME_TO_LIVE, WeChat};
use crate::world::{Book, Dice, Pair, Told};

const CARS: u64 = 14;
const MEMBERS: u64 = 10;
const MINUTES: i64 = 80;
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What one or many seeds came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seeds: u64,
    pub(crate) events: u64,
    pub(crate) calls: u64,
    pub(crate) repeats: u64,
    pub(crate) crashes: u64,
    pub(crate) wrong: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.calls += other.calls;
        self.repeats += other.repeats;
        self.crashes += other.crashes;
        self.wrong.extend(other.wrong.iter().cloned());
    }
}

/// Plays one seed.
pub(crate) fn seed(seed: u64) -> Report {
    JITTER.set(seed);
    let folder = folder();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let report = runtime.block_on(tokio::task::LocalSet::new().run_until(Sim::play(seed, folder.path().to_owned())));
    set_fate(None);
    report
}

thread_local! {
    static JITTER: Cell<u64> = const { Cell::new(0) };
}

/// Drawn from the seed, so that a seed is one run and no other.
fn jitter() -> f64 {
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

struct Sim {
    path: PathBuf,
    vault: Arc<Vault>,
    dice: Dice,
    book: Arc<Mutex<Book>>,
    wechat: Arc<WeChat>,
    clock: Clock,
    jumped: Arc<AtomicI64>,
    policy: Policy,
    process: Option<Process>,
    crashes: u64,
    members: Vec<Pair>,
    /// Nothing dies and no clock jumps in this one, so that waits can be judged to the second.
    calm: bool,
    held_since: Option<Timestamp>,
}

/// The process under test, as long as it lives.
struct Process {
    store: Arc<SqliteStore>,
    writer: JoinHandle<()>,
    worker: JoinHandle<()>,
    stop: CancellationToken,
}

impl Sim {
    async fn play(seed: u64, folder: PathBuf) -> Report {
        let origin = Timestamp::from_second(1_700_000_000).unwrap();
        let started = tokio::time::Instant::now();
        let jumped = Arc::new(AtomicI64::new(0));
        let book = Arc::new(Mutex::new(Book::default()));
        let wechat = Arc::new(WeChat::new(Arc::clone(&book), seed, move || origin + started.elapsed()));
        let mut sim = Self {
            path: folder.join("sim.db"),
            vault: Arc::new(Vault::from_key_file(KEY).unwrap()),
            dice: Dice::new(seed),
            book,
            wechat,
            clock: Clock::of_runtime(origin, Arc::clone(&jumped)),
            jumped,
            policy: Policy::default(),
            process: None,
            crashes: 0,
            members: Vec::new(),
            calm: seed % 5 < 2,
            held_since: None,
        };
        sim.start().await;
        sim.bind_members().await;
        let mut messages: Vec<Message> = (0..CARS)
            .flat_map(|car| gates::tell(&plate(car), circle(car), origin, MINUTES, &mut sim.dice))
            .collect();
        messages.sort_by_key(|message| message.send_at);
        for message in &messages {
            let mut book = sim.book.lock().unwrap();
            let possible = book.possible.entry(message.plate.clone()).or_default();
            possible.insert((message.read.at, message.read.state.as_str() == "IN"), message.batch);
        }
        let mut next_trouble = origin + SignedDuration::from_secs(60);
        for message in messages {
            sim.wait_until(message.send_at).await;
            while sim.true_now() >= next_trouble {
                sim.trouble().await;
                next_trouble += SignedDuration::from_secs(30 + i64::try_from(sim.dice.below(240)).unwrap());
            }
            sim.post(&message).await;
            if !sim.book.lock().unwrap().wrong.is_empty() {
                break;
            }
        }
        sim.drain().await;
        sim.hold_against_truth().await;
        let book = sim.book.lock().unwrap();
        Report {
            seeds: 1,
            events: book.events,
            calls: book.calls,
            repeats: book.repeats,
            crashes: sim.crashes,
            wrong: book.wrong.iter().map(|wrong| format!("seed {seed}: {wrong}")).collect(),
        }
    }

    fn true_now(&self) -> Timestamp {
        (self.wechat.now)()
    }

    async fn wait_until(&self, at: Timestamp) {
        let left = Duration::try_from(at.duration_since(self.true_now())).unwrap_or_default();
        tokio::time::sleep(left).await;
    }

    fn store(&self) -> Arc<SqliteStore> {
        Arc::clone(&self.process.as_ref().unwrap().store)
    }

    // The process: it starts, it dies.

    async fn start(&mut self) {
        let (store, writer) =
            SqliteStore::open_inline(&self.path, Arc::clone(&self.vault), self.clock.clone()).unwrap();
        let store = Arc::new(store);
        let lock = store.serve(&self.path).await.unwrap();
        store
            .set_circles(vec![
                ("north".to_owned(), "m1".to_owned()),
                ("south".to_owned(), "m1".to_owned()),
            ])
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let card = NodeCard {
            name: "sim".to_owned(),
            role: "all",
            version: "sim",
        };
        let node = store.join(card).await.unwrap();
        let worker = Arc::new(Worker {
            node,
            store: store.clone(),
            courier: self.wechat.clone(),
            clock: self.clock.clone(),
            policy: RetryPolicy {
                time_to_live: TIME_TO_LIVE,
            },
            max_in_flight: 4,
            rates: Rates::new(["m1".to_owned()], 50.0, self.clock.now()),
            look_again: Duration::from_secs(20),
            jitter,
        });
        let stopped = stop.clone();
        let worker = tokio::spawn(async move {
            let _lock = lock;
            worker.run(stopped).await;
        });
        self.process = Some(Process {
            store,
            writer,
            worker,
            stop,
        });
    }

    /// The process dies where it stands, and comes back.
    async fn die(&mut self) {
        self.crashes += 1;
        let Some(Process {
            store,
            writer,
            worker,
            stop,
        }) = self.process.take()
        else {
            return;
        };
        worker.abort();
        writer.abort();
        let _ = (worker.await, writer.await);
        drop((store, stop));
        set_fate(None);
        self.book.lock().unwrap().disturbed = true;
        self.wechat.caller_died();
        let pause = 1 + self.dice.below(20);
        tokio::time::sleep(Duration::from_secs(pause)).await;
        self.start().await;
    }

    // The world: members, gates, trouble.

    async fn bind_members(&mut self) {
        for member in 0..MEMBERS {
            // Some have two cars; some cars have two members; some cars have none.
            for car in [member, (member * 3 + 7) % CARS]
                .into_iter()
                .take(if self.dice.in_hundred(30) { 2 } else { 1 })
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

    async fn bind(&mut self, pair: &Pair) {
        let now = self.clock.now();
        // From here on it may be told; an answer that is lost leaves both possible, so it is asked again until it is there.
        self.book.lock().unwrap().bound.insert(pair.clone(), true);
        let true_now = self.true_now();
        self.book.lock().unwrap().bound_at.insert(pair.clone(), true_now);
        loop {
            let plates = vec![Plate::from_stored(pair.1.clone())];
            match self.store().bind(key(pair), plates, false, now).await {
                Ok(_) => return,
                Err(_) => {
                    if !self.live_on().await {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        }
    }

    async fn unbind(&mut self, pair: &Pair) {
        loop {
            let plates = vec![Plate::from_stored(pair.1.clone())];
            match self.store().unbind(key(pair), plates, self.clock.now()).await {
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
        let mut book = self.book.lock().unwrap();
        book.bound.insert(pair.clone(), false);
        *book.epochs.entry(pair.clone()).or_default() += 1;
        self.wechat.forget(&pair.0);
    }

    /// A gate posts, and posts again until it is acknowledged.
    async fn post(&mut self, message: &Message) {
        let mut tries = 0;
        loop {
            tries += 1;
            self.dangerous_disk();
            let event = message.event(self.clock.now(), self.policy);
            let answer = self.store().record(vec![event], Vec::new()).await;
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
            let event = message.event(self.clock.now(), self.policy);
            let again = self.store().record(vec![event], Vec::new()).await;
            if let Ok(again) = again
                && again[0] != Recorded::Duplicate
            {
                self.book
                    .lock()
                    .unwrap()
                    .wrong(format!("an acknowledged event was lost or told twice: {:?}", again[0]));
            }
        }
    }

    /// Some commits fail, and some processes die over one.
    fn dangerous_disk(&mut self) {
        let fate = match self.dice.below(100) {
            0..=2 => Some(Fate::Refused),
            3..=4 if !self.calm => Some(Fate::DiesBefore),
            5..=6 if !self.calm => Some(Fate::DiesAfter),
            _ => None,
        };
        set_fate(fate);
    }

    /// If the process should have died over a commit, it does so now.
    async fn live_on(&mut self) -> bool {
        let died = take_death();
        if died {
            self.die().await;
        }
        died
    }

    fn acknowledged(&mut self, message: &Message, recorded: Recorded, tries: u32) {
        let acknowledged_at = self.true_now();
        let mut book = self.book.lock().unwrap();
        book.events += 1;
        if let Some(must_be) = message.must_be
            && tries == 1
            && !book.disturbed
            && recorded.word() != must_be
        {
            book.wrong(format!("a second camera was {} and not {must_be}", recorded.word()));
        }
        if message.looks_merged || recorded != Recorded::Merged && message.must_be.is_none() {
            let Message { read, batch, .. } = message;
            let told = Told {
                state: read.state,
                at: read.at,
                acknowledged_at,
                batch: *batch,
            };
            book.told.entry(message.plate.clone()).or_default().push(told);
        }
    }

    /// Something goes wrong, or right again.
    async fn trouble(&mut self) {
        match self.dice.below(12) {
            0 | 1 if !self.calm => self.die().await,
            2 if !self.calm => {
                self.book.lock().unwrap().disturbed = true;
                let jump = i64::try_from(self.dice.below(120)).unwrap() - 60;
                self.jumped.store(jump * 1000, Ordering::Relaxed);
            }
            3 | 4 => self.wechat.mood.lock().unwrap().bad = 60,
            5 => self.wechat.mood.lock().unwrap().bad = 5,
            6 => {
                let circle = if self.dice.in_hundred(50) { "north" } else { "south" };
                let mut mood = self.wechat.mood.lock().unwrap();
                mood.refused_circle = mood.refused_circle.is_none().then(|| circle.to_owned());
                mood.refused = None;
            }
            7 => {
                let pair = self.some_pair();
                if self.book.lock().unwrap().bound.get(&pair).copied().unwrap_or(false) {
                    self.unbind(&pair).await;
                }
            }
            8 | 9 => {
                let pair = self.some_pair();
                if !self.book.lock().unwrap().bound.get(&pair).copied().unwrap_or(false) {
                    self.bind(&pair).await;
                }
            }
            10 => self.settle_by_a_ghost().await,
            11 if self.held_since.is_none() && self.dice.in_hundred(25) => {
                let (store, now) = (self.store(), self.clock.now());
                if store
                    .hold(Scope::Circle, "south".to_owned(), "by hand".to_owned(), now)
                    .await
                    .is_ok()
                {
                    self.held_since = Some(self.true_now());
                }
            }
            _ => {}
        }
        self.live_on().await;
    }

    fn some_pair(&mut self) -> Pair {
        let at = self.dice.below(self.members.len() as u64);
        self.members[usize::try_from(at).unwrap()].clone()
    }

    /// A claim that was given back long ago is settled once more, as by a process that was frozen meanwhile.
    async fn settle_by_a_ghost(&mut self) {
        if self.calm {
            return;
        }
        self.book.lock().unwrap().disturbed = true;
        let now = self.clock.now();
        // Also what is not due yet: there is hardly ever anything that the worker has not taken.
        let ahead = now + SignedDuration::from_hours(1);
        let Ok(leases) = self.store().claim(ClaimRequest::new(NodeId(0), ahead, 1)).await else {
            return;
        };
        let Some(lease) = leases.into_iter().next() else { return };
        let settled = |outcome, verdict| Settled {
            lease: lease.clone(),
            began_at: now,
            took_ms: 1,
            outcome,
            verdict,
        };
        let back = settled(
            Outcome::NotSent {
                why: "ghost".to_owned(),
            },
            Verdict::RetryAt {
                at: now + SignedDuration::from_secs(60),
                counts: false,
            },
        );
        while self.store().settle(vec![back.clone()]).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let again = settled(
            Outcome::Accepted {
                request_id: "ghost".to_owned(),
            },
            Verdict::Delivered,
        );
        if let Ok(0) = self.store().settle(vec![again]).await {
            self.book
                .lock()
                .unwrap()
                .wrong("a claim that was given back could still settle");
        }
    }

    // The end: everything calms down, and the books are compared.

    async fn drain(&mut self) {
        set_fate(None);
        self.live_on().await;
        *self.wechat.mood.lock().unwrap() = Mood::default();
        if let Some(since) = self.held_since {
            // Longer than messages live: what waited that long must not be told any more.
            self.wait_until(since + TIME_TO_LIVE + SignedDuration::from_mins(12))
                .await;
            self.store().release(Scope::Circle, "south".to_owned()).await.unwrap();
        }
        for _ in 0..600 {
            let counters = self.store().counters().await.unwrap();
            let waiting: i64 = counters
                .iter()
                .filter(|counter| counter.name == "waiting" && counter.word == "waiting")
                .map(|counter| counter.value)
                .sum();
            if waiting == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        self.book
            .lock()
            .unwrap()
            .wrong("something still waits after five quiet hours");
    }

    async fn hold_against_truth(&mut self) {
        let store = self.store();
        let list = |status| OutboxFilter {
            status,
            circle: None,
            reason: None,
            after: 0,
            limit: 10_000,
        };
        let dead = store.outbox(list(Status::Dead)).await.unwrap();
        let mut book = self.book.lock().unwrap();
        let mut expired: Vec<(Pair, Timestamp)> = Vec::new();
        for entry in dead {
            let pair = (entry.openid.expose().to_owned(), entry.plate.expose().to_owned());
            let key = (pair, entry.at);
            let is_expired = format!("{:?}", entry.place).contains("time to live");
            if is_expired {
                expired.push(key);
            } else if !book.killed.contains(&key) {
                book.wrong(format!(
                    "given up without need: {} {} of {}: {:?}",
                    entry.state, entry.at, key.0.1, entry.place
                ));
            }
        }
        let bound: Vec<Pair> = book
            .bound
            .iter()
            .filter(|(_, bound)| **bound)
            .map(|(pair, _)| pair.clone())
            .collect();
        for pair in bound {
            let Some(newest) = newest(&book.told, &pair.1) else {
                continue;
            };
            let key = (pair.clone(), newest.at);
            let old = newest.acknowledged_at.duration_since(newest.at) > SignedDuration::from_hours(12);
            let before = book
                .bound_at
                .get(&pair)
                .is_some_and(|bound_at| newest.acknowledged_at <= *bound_at);
            if old || before || book.killed.contains(&key) || expired.contains(&key) {
                continue;
            }
            let held = book
                .accepted
                .get(&pair)
                .and_then(|log| log.last())
                .map(|last| (last.state, last.at));
            if held != Some((newest.state, newest.at)) {
                book.wrong(format!(
                    "WeChat Pay holds {held:?} of {} for {}, the truth is {} {} (replay: {})",
                    pair.1,
                    pair.0,
                    newest.state,
                    newest.at,
                    newest.batch.is_some()
                ));
            }
        }
    }
}

fn newest(told: &BTreeMap<String, Vec<Told>>, plate: &str) -> Option<Told> {
    told.get(plate)?.iter().max_by_key(|told| told.at).cloned()
}

fn plate(car: u64) -> String {
    format!("宁Y{:05}", car + 1)
}

fn openid(member: u64) -> String {
    format!("sim-openid-{member:04}")
}

/// Cars keep to one mall.
fn circle(car: u64) -> &'static str {
    if car.is_multiple_of(2) { "north" } else { "south" }
}

fn key(pair: &Pair) -> MemberKey {
    let car: u64 = pair.1.trim_start_matches("宁Y").parse().unwrap();
    MemberKey {
        circle: circle(car - 1).to_owned(),
        appid: "wx-sim".parse().unwrap(),
        openid: Openid::parse(&pair.0).unwrap(),
    }
}

//! Power cuts on SQLite: the writes of a run, replayed to hundreds of their prefixes.
//!
//! While no checkpoint runs, everything is appended to the write-ahead log, so a cut is the database file as it was and the log up
//! to any byte, with anything behind it. A checkpoint writes pages back while the log is whole. Whether what was acknowledged was
//! also synced is shown in `disk.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parksync::domain::delivery::{Outcome, Verdict};
use parksync::domain::gate::{Direction, Read, TimeSource};
use parksync::domain::member::{MemberKey, Openid};
use parksync::domain::plate::Plate;
use parksync::domain::presence::Policy;
use parksync::domain::story::Place;
use parksync::store::sqlite::SqliteStore;
use parksync::store::vault::Vault;
use parksync::store::{ClaimRequest, GateEvent, Lease, NodeId, Recorded, Settled, Store};
use rusqlite::Connection;

use crate::audit::faults_of_database;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const CUTS: usize = 500;
const CUTS_IN_CHECKPOINT: usize = 60;
const CUTS_AFTER_CHECKPOINT: usize = 60;
const MEMBERS: u32 = 12;

const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const PAGE: usize = 4096;
const FRAME: usize = FRAME_HEADER + PAGE;

/// Something that was acknowledged.
#[derive(Clone)]
enum Fact {
    Recorded(Box<GateEvent>),
    Bound(MemberKey, Plate),
    Claimed { lane: i64, epoch: i64 },
    Delivered { message: i64 },
}

/// Two files, as they were on the disk.
#[derive(Clone)]
struct Files {
    database: Vec<u8>,
    log: Vec<u8>,
}

/// A run of the store, and how long the log was when each fact was acknowledged.
struct Run {
    store: Arc<SqliteStore>,
    path: PathBuf,
    facts: Vec<(usize, Fact)>,
    /// Calls that take longer than others.
    under_way: Vec<Lease>,
    second: i64,
}

impl Run {
    fn start(folder: &Path) -> Self {
        let path = folder.join("parksync.db");
        Self {
            store: Arc::new(open(&path)),
            path,
            facts: Vec::new(),
            under_way: Vec::new(),
            second: 0,
        }
    }

    /// What may be asked of the store, round after round: binds, single and grouped records, claims, and all kinds of settles.
    async fn work(&mut self, rounds: Range<u32>) {
        for round in rounds {
            self.second += 1;
            if round < MEMBERS {
                let (member, plate) = (member(round), plate(round));
                let bind = self.store.bind(member.clone(), vec![plate.clone()], false, at(0));
                assert_eq!(bind.await.unwrap().added, 1);
                self.note(Fact::Bound(member, plate));
                continue;
            }
            let direction = if round / 8 % 2 == 0 {
                Direction::In
            } else {
                Direction::Out
            };
            let group: Vec<_> = (0..1 + round % 4)
                .map(|more| {
                    let event = event((round + more * 5) % (MEMBERS + 2), direction, self.second);
                    let (store, event) = (Arc::clone(&self.store), event);
                    tokio::spawn(async move { (event.clone(), store.record(vec![event], Vec::new()).await) })
                })
                .collect();
            for record in group {
                let (event, recorded) = record.await.unwrap();
                recorded.unwrap();
                self.note(Fact::Recorded(Box::new(event)));
            }
            if round % 2 == 0 {
                self.deliver(round).await;
            }
        }
    }

    async fn deliver(&mut self, round: u32) {
        let now = at(self.second);
        let leases = self.store.claim(ClaimRequest::new(NodeId(1), now, 3)).await.unwrap();
        for Lease { lane, epoch, .. } in leases.clone() {
            self.note(Fact::Claimed { lane, epoch });
        }
        let (slow, quick): (Vec<_>, Vec<_>) = leases.into_iter().partition(|lease| lease.head.id % 7 == 0);
        let slow = std::mem::replace(&mut self.under_way, slow);
        let settled: Vec<_> = slow
            .into_iter()
            .chain(quick)
            .map(|lease| match round % 6 {
                0 => retried(lease, now),
                _ => delivered(lease, now),
            })
            .collect();
        let messages: Vec<_> = settled
            .iter()
            .filter(|one| one.verdict == Verdict::Delivered)
            .map(|one| one.lease.head.id)
            .collect();
        assert_eq!(self.store.settle(settled).await.unwrap(), 0);
        for message in messages {
            self.note(Fact::Delivered { message });
        }
    }

    fn note(&mut self, fact: Fact) {
        self.facts.push((log_end(&fs::read(log_of(&self.path)).unwrap()), fact));
    }

    fn files(&self) -> Files {
        Files {
            database: fs::read(&self.path).unwrap(),
            log: fs::read(log_of(&self.path)).unwrap(),
        }
    }

    /// The facts that had to be on disk when the log was so long.
    fn facts_until(&self, length: usize) -> Vec<Fact> {
        let facts = self.facts.iter().filter(|(end, _)| *end <= length);
        facts.map(|(_, fact)| fact.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_power_cut_everything_acknowledged_is_there() {
    let folder = memory_folder();
    let mut run = Run::start(folder.path());
    run.work(0..110).await;
    let files = run.files();
    let length = log_end(&files.log);
    assert_eq!(length, files.log.len(), "a checkpoint came into the run");
    let acknowledged: Vec<_> = run.facts.iter().map(|(end, _)| *end).collect();
    let count = |kind: fn(&Fact) -> bool| run.facts.iter().filter(|(_, fact)| kind(fact)).count();
    assert!(count(|fact| matches!(fact, Fact::Recorded(_))) > 200);
    assert!(count(|fact| matches!(fact, Fact::Delivered { .. })) > 50);

    let mut dice = Dice(1);
    let cuts = (0..CUTS).map(|number| {
        let at = match number % 5 {
            0 => acknowledged[number / 5 * acknowledged.len() / (CUTS / 5)],
            1 => dice.pick(&acknowledged) - 1 - dice.below(FRAME),
            2 => LOG_HEADER + dice.below(length / FRAME) * FRAME,
            3 => LOG_HEADER + dice.below(length / FRAME) * FRAME + dice.below(FRAME_HEADER),
            _ => dice.below(length),
        };
        let log = torn(&files.log, at, number / 5 % 5, &mut dice);
        let database = files.database.clone();
        (
            format!("cut {number} at {at}"),
            Files { database, log },
            run.facts_until(at),
        )
    });
    check_all(cuts.collect(), CUTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_during_or_after_a_checkpoint_loses_nothing() {
    let folder = memory_folder();
    let mut run = Run::start(folder.path());
    run.work(0..60).await;
    let before = run.files();
    // The next write begins the log anew, over its old frames.
    Connection::open(&run.path)
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
        .unwrap();
    let written_back = run.files().database;
    assert!(written_back.len() > before.database.len() + 20 * PAGE);
    let all = run.facts_until(usize::MAX);

    let mut dice = Dice(2);
    let during = (0..CUTS_IN_CHECKPOINT).map(|number| {
        let database = half_written(&before.database, &written_back, number, &mut dice);
        let log = before.log.clone();
        (format!("checkpoint {number}"), Files { database, log }, all.clone())
    });
    check_all(during.collect(), CUTS_IN_CHECKPOINT).await;

    run.facts.clear();
    run.work(60..80).await;
    let after = run.files();
    let length = log_end(&after.log);
    assert_eq!(after.database, written_back, "another checkpoint came into the run");
    assert!(length < after.log.len(), "the log was not begun anew");
    let acknowledged: Vec<_> = run.facts.iter().map(|(end, _)| *end).collect();
    let cuts = (0..CUTS_AFTER_CHECKPOINT).map(|number| {
        let at = match number % 3 {
            0 => dice.pick(&acknowledged),
            1 => dice.below(length),
            _ => dice.below(LOG_HEADER + FRAME_HEADER),
        };
        let log = [&after.log[..at], &before.log[at..]].concat();
        let database = written_back.clone();
        let facts = [all.clone(), run.facts_until(at)].concat();
        (format!("second log {number} at {at}"), Files { database, log }, facts)
    });
    check_all(cuts.collect(), CUTS_AFTER_CHECKPOINT).await;
}

/// Two at a time; each in a folder of its own.
async fn check_all(cuts: Vec<(String, Files, Vec<Fact>)>, expected: usize) {
    assert_eq!(cuts.len(), expected);
    let (mut halves, mut facts) = ([Vec::new(), Vec::new()], 0);
    for (number, cut) in cuts.into_iter().enumerate() {
        facts += cut.2.len();
        halves[number % 2].push(cut);
    }
    let halves = halves.map(|half| {
        tokio::spawn(async move {
            for (name, files, facts) in half {
                check(&name, &files, &facts).await;
            }
        })
    });
    for half in halves {
        half.await.unwrap();
    }
    println!("{expected} cuts, {facts} times something acknowledged was looked for");
}

/// Opens what a cut left behind: it is whole, has every fact, and everything that waits can be delivered.
async fn check(cut: &str, files: &Files, facts: &[Fact]) {
    let folder = memory_folder();
    let path = folder.path().join("parksync.db");
    fs::write(&path, &files.database).unwrap();
    fs::write(log_of(&path), &files.log).unwrap();

    let store = open(&path);
    assert_eq!(faults_of_database(&path), [""; 0], "{cut}");
    let _serves = store.serve(&path).await.unwrap();
    let beside = Connection::open(&path).unwrap();
    let mut events = Vec::new();
    let members: BTreeMap<_, _> = store
        .members(None, 0, 1000)
        .await
        .unwrap()
        .0
        .into_iter()
        .map(|member| (member.key.openid.expose().to_owned(), member.plates))
        .collect();
    for fact in facts {
        match fact {
            Fact::Recorded(event) => events.push(GateEvent::clone(event)),
            Fact::Bound(member, plate) => {
                let plates = members.get(member.openid.expose());
                assert!(plates.is_some_and(|plates| plates.contains(plate)), "{cut}: a binding");
            }
            Fact::Claimed { lane, epoch } => {
                let found: i64 = beside
                    .query_row("SELECT epoch FROM lane WHERE member_id = ?1", [lane], |row| row.get(0))
                    .unwrap();
                assert!(found >= *epoch, "{cut}: a claim of lane {lane}");
            }
            Fact::Delivered { message } => {
                let (entry, _) = store.message(*message).await.unwrap().expect(cut);
                let delivered = matches!(entry.place, Place::Delivered { .. });
                assert!(delivered, "{cut}: message {message} is {:?}", entry.place);
            }
        }
    }
    for (event, recorded) in events
        .iter()
        .zip(store.record(events.clone(), Vec::new()).await.unwrap())
    {
        assert_eq!(recorded, Recorded::Duplicate, "{cut}: {event:?}");
    }
    drop(beside);
    drain(cut, &store).await;
    drop(store);
    assert_eq!(faults_of_database(&path), [""; 0], "{cut}, drained");
}

/// Delivers everything, lane by lane in its order, one at a time.
async fn drain(cut: &str, store: &SqliteStore) {
    let later = at(1_000_000);
    let mut last: BTreeMap<i64, (bool, Timestamp)> = BTreeMap::new();
    loop {
        let leases = store.claim(ClaimRequest::new(NodeId(1), later, 1000)).await.unwrap();
        if leases.is_empty() {
            break;
        }
        let lanes: BTreeSet<_> = leases.iter().map(|lease| lease.lane).collect();
        assert_eq!(lanes.len(), leases.len(), "{cut}: two of one lane are under way");
        let more = store.claim(ClaimRequest::new(NodeId(1), later, 1000)).await.unwrap();
        assert!(more.is_empty(), "{cut}: two of one lane are under way");
        for lease in &leases {
            // What had been tried before the cut comes first, whatever its time.
            let before = last.insert(lease.lane, (lease.head.tries == 0, lease.head.at));
            let in_order = before.is_none_or(|(fresh, at)| !fresh || at <= lease.head.at);
            assert!(in_order, "{cut}: lane {} is out of order", lease.lane);
        }
        let settled = leases.into_iter().map(|lease| delivered(lease, later));
        assert_eq!(store.settle(settled.collect()).await.unwrap(), 0, "{cut}");
    }
    let counters = store.counters().await.unwrap();
    let waiting: i64 = counters
        .iter()
        .filter(|counter| counter.name == "waiting")
        .map(|counter| counter.value)
        .sum();
    assert_eq!(waiting, 0, "{cut}: something cannot be delivered");
}

/// The log up to a byte, and what may lie behind it.
fn torn(log: &[u8], at: usize, kind: usize, dice: &mut Dice) -> Vec<u8> {
    let mut torn = log[..at].to_vec();
    let rest = log.len() - at;
    match kind {
        // Nothing.
        0 => {}
        // Zeros: the file had grown, its content had not arrived.
        1 => torn.resize(at + rest.min(3 * FRAME), 0),
        // Anything.
        2 => torn.extend((0..2 * FRAME).map(|_| dice.byte())),
        // A block is missing, later ones had arrived.
        3 => {
            torn.resize(at + rest.min(PAGE), 0);
            torn.extend(&log[torn.len()..]);
        }
        // One bit of what was under way is wrong.
        _ => {
            torn.extend(&log[at..at + rest.min(2 * FRAME)]);
            if let Some(byte) = torn.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
    }
    torn
}

/// The database in the middle of a checkpoint: some pages old, some new, perhaps one half and half.
fn half_written(old: &[u8], new: &[u8], number: usize, dice: &mut Dice) -> Vec<u8> {
    let mut half = old.to_vec();
    half.resize(new.len(), 0);
    let pages = new.len() / PAGE;
    for page in 0..pages {
        let arrived = match number % 2 {
            // In their order, up to one of them …
            0 => page < pages * number / CUTS_IN_CHECKPOINT,
            // … or in whatever order the disk likes.
            _ => dice.below(2) == 0,
        };
        if arrived {
            half[page * PAGE..][..PAGE].copy_from_slice(&new[page * PAGE..][..PAGE]);
        }
    }
    let torn = dice.below(pages) * PAGE;
    let sectors = dice.below(PAGE / 512 + 1) * 512;
    half[torn..][..sectors].copy_from_slice(&new[torn..][..sectors]);
    if number.is_multiple_of(4) {
        // The file had not grown to its end yet.
        half.truncate(new.len().max(old.len() + PAGE) - dice.below(pages / 2) * PAGE);
    }
    half
}

/// Where the frames of the log's latest beginning end. Behind it are frames of earlier ones.
fn log_end(log: &[u8]) -> usize {
    let Some(salt) = log.get(16..24) else { return log.len() };
    let frames = log[LOG_HEADER..].chunks_exact(FRAME);
    LOG_HEADER + frames.take_while(|frame| &frame[8..16] == salt).count() * FRAME
}

fn log_of(database: &Path) -> PathBuf {
    database.with_extension("db-wal")
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Arc::new(Vault::from_key_file(KEY).unwrap())).unwrap()
}

/// What is cut here is cut by hand, so a real disk's syncs would only cost time.
fn memory_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.exists() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    folder.unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn plate(number: u32) -> Plate {
    Plate::from_stored(format!("宁Y{number:05}"))
}

fn member(number: u32) -> MemberKey {
    MemberKey {
        circle: "mall".to_owned(),
        appid: "wx1".parse().unwrap(),
        openid: Openid::parse(&format!("openid-{number}")).unwrap(),
    }
}

fn event(number: u32, state: Direction, seconds: i64) -> GateEvent {
    GateEvent {
        circle: "mall".to_owned(),
        lot: "P1".to_owned(),
        gate: Some("E1".to_owned()),
        read: Read {
            plate: plate(number),
            state,
            at: at(seconds),
            time_source: TimeSource::Sender,
            record_id: None,
            device: None,
            replayed: false,
        },
        received_at: at(seconds),
        policy: Policy::default(),
    }
}

fn delivered(lease: Lease, now: Timestamp) -> Settled {
    Settled {
        began_at: now,
        lease,
        took_ms: 1,
        outcome: Outcome::Accepted {
            request_id: "r".to_owned(),
        },
        verdict: Verdict::Delivered,
    }
}

fn retried(lease: Lease, now: Timestamp) -> Settled {
    Settled {
        began_at: now,
        lease,
        took_ms: 1,
        outcome: Outcome::Unknown {
            why: "no reply".to_owned(),
        },
        verdict: Verdict::RetryAt { at: now, counts: true },
    }
}

/// SplitMix64: the same cuts in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn pick(&mut self, of: &[usize]) -> usize {
        of[self.below(of.len())]
    }
}

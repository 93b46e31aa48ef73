//! The store on one SQLite file: one writer thread with group commit, one reader beside it.
//!
//! Every verb is a job. The writer drains the queue into one transaction and answers after its commit, so the fsync is the only
//! timer there is. The steps inside a transaction are in the files of this folder.

mod amend;
mod claims;
mod disk;
mod holds;
#[cfg(feature = "sabotage")]
pub mod inline;
mod lanes;
mod members;
mod nodes;
mod outbox;
mod record;
mod sweep;
mod trace;

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{Notify, mpsc, oneshot};

use self::disk::Disk;
use super::book::{self, Counts, Prepared};
use super::vault::Vault;
use super::{
    Amend, Amended, Beat, Bound, ClaimRequest, Counter, Entry, GateEvent, Hold, Lease, Member, MerchantNews, NeverSent,
    Node, NodeCard, NodeId, OutboxFilter, Pulse, Recorded, Renewal, Replay, Retention, Settled, Store, StoreError,
    Swept, Traced, TracedVisit, Try, Unbound,
};
use crate::clock::Clock;
use crate::domain::delivery::Scope;
use crate::domain::gate::Direction;
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;
use crate::sabotage::{self, Sabotage};

/// Jobs in one transaction at most. Beyond it a commit would keep its first caller waiting for nothing.
const GROUP: usize = 1000;
/// Jobs that may wait for the writer. A sender beyond it is told to come back.
const QUEUE: usize = 4096;
/// Pages in the log before a checkpoint: rare enough to stay out of the tail latency, small enough to keep the log short.
const CHECKPOINT_PAGES: u32 = 10_000;

/// The schema that this program writes: the number of its migrations.
const SCHEMA: u32 = MIGRATIONS.len() as u32;
const MIGRATIONS: [&str; 1] = [include_str!("migrations/sqlite/0001_start.sql")];

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    open: Option<Open>,
    vault: Arc<Vault>,
    clock: Clock,
    changed: Arc<Notify>,
}

/// What is closed in order when the store goes: the reader, the queue, then the writer, whose last act tidies the log away.
#[derive(Debug)]
struct Open {
    reader: Arc<Mutex<Connection>>,
    jobs: mpsc::Sender<Job>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if let Some(Open { reader, jobs, thread }) = self.open.take() {
            drop((reader, jobs));
            // A panic in there was logged by its own thread.
            let _ = thread.map(thread::JoinHandle::join);
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or file cannot be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite refuses the file.
    #[error("cannot open the database {path}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Another process delivers from this database.
    #[error("another parksync already serves the database {path}")]
    Served {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer Parksync.
    #[error("the database {path} has schema {found}, this parksync knows {known}: install the newer parksync again")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema we know.
        known: u32,
    },
    /// The vault key does not belong to this file.
    #[error("the vault key does not open the database {path}: use the key file that it was made with")]
    WrongVault {
        /// The file.
        path: PathBuf,
    },
}

/// Held by the one process that delivers from a database. Dropping it lets the next one in.
#[derive(Debug)]
pub struct ServeLock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

impl SqliteStore {
    /// Opens a database, and makes it when there is none.
    ///
    /// # Errors
    /// The file cannot be used, is newer than this program, or was made with another vault key.
    pub fn open(path: &Path, vault: Arc<Vault>) -> Result<Self, OpenError> {
        let database = |source| OpenError::Database {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            make_private_folder(folder).map_err(|source| OpenError::File {
                path: folder.to_owned(),
                source,
            })?;
        }
        make_private_file(path).map_err(|source| OpenError::File {
            path: path.to_owned(),
            source,
        })?;
        let mut writer = connect(path, OpenFlags::default()).map_err(database)?;
        migrate(&mut writer, path)?;
        check_vault(&writer, &vault)
            .map_err(database)?
            .then_some(())
            .ok_or(OpenError::WrongVault { path: path.to_owned() })?;
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(database)?;
        let disk = Disk::beside(path).map_err(|source| OpenError::File {
            path: path.to_owned(),
            source,
        })?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let changed = Arc::new(Notify::new());
        let shared = Shared {
            disk,
            vault: Arc::clone(&vault),
            // Claims end by it, and a clock that is set must not end them while their calls are under way.
            clock: Clock::steady(),
            changed: Arc::clone(&changed),
            #[cfg(feature = "sabotage")]
            process: 0,
        };
        let clock = shared.clock.clone();
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write_all(writer, queue, &shared))
            .map_err(|source| OpenError::File {
                path: path.to_owned(),
                source,
            })?;
        let open = Open {
            jobs,
            reader: Arc::new(Mutex::new(reader)),
            thread: Some(thread),
        };
        Ok(Self {
            open: Some(open),
            vault,
            clock,
            changed,
        })
    }

    fn open_half(&self) -> &Open {
        self.open.as_ref().expect("only dropping takes it")
    }

    /// Becomes the one process that delivers: frees the lanes that a killed process held.
    ///
    /// # Errors
    /// Another process delivers already, or the database fails.
    pub async fn serve(&self, path: &Path) -> Result<ServeLock, OpenError> {
        let lock_path = path.with_added_extension("lock");
        let file = |source| OpenError::File {
            path: lock_path.clone(),
            source,
        };
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(file)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Served { path: path.to_owned() },
            TryLockError::Error(source) => file(source),
        })?;
        self.write("free the lanes of the last run", claims::free_all)
            .await
            .map_err(|error| file(std::io::Error::other(error)))?;
        Ok(ServeLock(lock))
    }

    /// Queues a job and waits for the commit. A full queue makes the caller wait.
    async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Tx<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, done) = job(doing, work);
        self.open_half().jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        done.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues a job, or says at once that too many wait.
    async fn offer<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Tx<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, done) = job(doing, work);
        self.open_half().jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy { waiting: QUEUE },
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        done.await.map_err(|_| StoreError::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection, &Vault) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reader, vault) = (Arc::clone(&self.open_half().reader), Arc::clone(&self.vault));
        let read = move || {
            let reader = reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            work(&reader, &vault).map_err(|failure| failure.told(doing))
        };
        if cfg!(feature = "sabotage") && self.open_half().thread.is_none() {
            // In a simulation the order of everything comes from its seed.
            return read();
        }
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| StoreError::Closed)?
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn record(&self, events: Vec<GateEvent>, never: Vec<NeverSent>) -> Result<Vec<Recorded>, StoreError> {
        let vault = &self.vault;
        let events: Vec<_> = events.into_iter().map(|event| Prepared::new(vault, event)).collect();
        self.offer("record gate events", move |tx| {
            for read in &never {
                tx.count("never", &read.lot, read.reason, 1);
            }
            events.iter().map(|one| record::record(tx, one)).collect()
        })
        .await
    }

    async fn amend(&self, amend: Amend) -> Result<Amended, StoreError> {
        self.offer("amend a record", move |tx| amend::amend(tx, &amend)).await
    }

    async fn bind(
        &self,
        member: MemberKey,
        plates: Vec<Plate>,
        sole: bool,
        now: Timestamp,
    ) -> Result<Bound, StoreError> {
        self.offer("bind plates", move |tx| members::bind(tx, &member, &plates, sole, now))
            .await
    }

    async fn unbind(&self, member: MemberKey, plates: Vec<Plate>, now: Timestamp) -> Result<Unbound, StoreError> {
        self.offer("unbind plates", move |tx| members::unbind(tx, &member, &plates, now))
            .await
    }

    async fn members(
        &self,
        circle: Option<String>,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<Member>, Option<i64>), StoreError> {
        self.read("list members", move |db, vault| {
            members::list(db, vault, circle.as_deref(), after, limit)
        })
        .await
    }

    async fn set_circles(&self, circles: Vec<(String, String)>) -> Result<(), StoreError> {
        self.write("make circles known", move |tx| claims::set_circles(tx, &circles))
            .await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Lease>, StoreError> {
        self.write("claim lanes", move |tx| claims::claim(tx, &request)).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<usize, StoreError> {
        self.write("settle deliveries", move |tx| claims::settle(tx, &settled))
            .await
    }

    async fn take_over(&self) -> Result<u32, StoreError> {
        self.write("take lanes over", claims::take_over).await
    }

    async fn join(&self, card: NodeCard) -> Result<NodeId, StoreError> {
        self.write("join", move |tx| nodes::join(tx, &card)).await
    }

    async fn beat(&self, pulse: Pulse) -> Result<Beat, StoreError> {
        self.write("beat", move |tx| nodes::beat(tx, pulse)).await
    }

    async fn leave(&self, node: NodeId) -> Result<(), StoreError> {
        self.write("leave", move |tx| nodes::leave(tx, node)).await
    }

    async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let now = self.clock.now();
        self.read("list the nodes", move |db, _| nodes::nodes(db, now)).await
    }

    async fn share(&self, mchid: String, news: MerchantNews) -> Result<(), StoreError> {
        self.write("tell the nodes", move |tx| nodes::share(tx, &mchid, news))
            .await
    }

    async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        self.read("list the holds", |db, _| holds::holds(db)).await
    }

    async fn hold(&self, scope: Scope, name: String, reason: String, now: Timestamp) -> Result<(), StoreError> {
        self.write("hold", move |tx| holds::hold_by_hand(tx, scope, &name, &reason, now))
            .await
    }

    async fn release(&self, scope: Scope, name: String) -> Result<bool, StoreError> {
        self.write("release", move |tx| holds::release_by_hand(tx, scope, &name))
            .await
    }

    async fn outbox(&self, filter: OutboxFilter) -> Result<Vec<Entry>, StoreError> {
        self.read("list the outbox", move |db, vault| outbox::list(db, vault, &filter))
            .await
    }

    async fn message(&self, id: i64) -> Result<Option<(Entry, Vec<Try>)>, StoreError> {
        self.read("look a message up", move |db, vault| outbox::show(db, vault, id))
            .await
    }

    async fn replay(&self, id: i64, force: bool, really: bool, now: Timestamp) -> Result<Replay, StoreError> {
        self.write("replay a message", move |tx| outbox::replay(tx, id, force, really, now))
            .await
    }

    async fn trace(&self, of: Traced) -> Result<Vec<TracedVisit>, StoreError> {
        self.read("trace visits", move |db, vault| match &of {
            Traced::Plate(plate) => trace::of_plate(db, vault, plate),
            Traced::Member(member) => trace::of_member(db, vault, member),
        })
        .await
    }

    async fn mark_stale(&self, entered_before: Timestamp, lot: String, now: Timestamp) -> Result<u32, StoreError> {
        self.write("mark stale visits", move |tx| {
            sweep::mark_stale(tx, entered_before, &lot, now)
        })
        .await
    }

    async fn renew(&self, renewal: Renewal) -> Result<u32, StoreError> {
        self.write("renew presence", move |tx| sweep::renew(tx, &renewal)).await
    }

    async fn forget(&self, retention: Retention) -> Result<Swept, StoreError> {
        self.write("forget old visits", move |tx| sweep::forget(tx, &retention))
            .await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let now = self.clock.now();
        self.read("find the next due lane", move |db, _| claims::next_due(db, now))
            .await
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn heartbeat(&self, now: Timestamp) -> Result<(), StoreError> {
        self.offer("write", move |tx| {
            tx.db
                .prepare_cached("INSERT INTO heartbeat VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET at = excluded.at")?
                .execute([millis(now)])?;
            Ok(())
        })
        .await
    }

    async fn counters(&self) -> Result<Vec<Counter>, StoreError> {
        self.read("read the counters", |db, _| {
            let mut statement = db.prepare_cached("SELECT name, scope, word, value FROM counter")?;
            let rows = statement.query_map([], |row| {
                Ok(Counter {
                    name: row.get(0)?,
                    scope: row.get(1)?,
                    word: row.get(2)?,
                    value: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// The database inside one transaction, with what the steps share.
struct Tx<'a> {
    db: &'a Connection,
    vault: &'a Vault,
    /// The time by the clock of the store, which leases are measured by.
    store_now: Timestamp,
    counts: RefCell<Counts>,
    /// Something was written that may make a lane due.
    woke: Cell<bool>,
}

impl Tx<'_> {
    /// Adds to a counter; written once, before the commit.
    fn count(&self, name: &'static str, scope: &str, word: &str, by: i64) {
        book::count(&mut self.counts.borrow_mut(), name, scope, word, by);
    }

    fn count_all(&self, counts: Counts) {
        let mut all = self.counts.borrow_mut();
        for (key, by) in counts {
            *all.entry(key).or_default() += by;
        }
    }

    /// Counts what left the waiting ones, and how.
    fn leave_waiting(&self, circle: &str, word: &str, by: usize) {
        book::leave_waiting(&mut self.counts.borrow_mut(), circle, word, by);
    }

    fn write_counts(&self) -> rusqlite::Result<()> {
        let mut statement = self.db.prepare_cached(
            "INSERT INTO counter (name, scope, word, value) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name, scope, word) DO UPDATE SET value = value + excluded.value",
        )?;
        let counts = self.counts.take();
        for ((name, scope, word), by) in &counts {
            statement.execute((name, scope, word, by))?;
        }
        Ok(())
    }
}

/// What can go wrong inside a job.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    Vault(#[from] super::vault::VaultError),
    #[error("a stored row is damaged: {0}")]
    Damaged(&'static str),
}

impl Failure {
    fn told(&self, doing: &'static str) -> StoreError {
        StoreError::Failed {
            doing,
            cause: self.to_string(),
        }
    }
}

/// Runs inside the transaction and says whether its writes stand, and what to tell the caller once the commit is known.
type Job = Box<dyn FnOnce(Turn<'_>) -> Option<(bool, Ending)> + Send>;
type Ending = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>)>;

/// What a job gets: its turn, or why there is none.
enum Turn<'a> {
    Run(&'a Tx<'a>),
    Refused(Arc<rusqlite::Error>),
}

fn job<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce(&Tx<'_>) -> Result<T, Failure> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, StoreError>>) {
    let (reply, done) = oneshot::channel();
    let job: Job = Box::new(move |turn| {
        let failed = move |cause: Arc<rusqlite::Error>| StoreError::Failed {
            doing,
            cause: cause.to_string(),
        };
        let tx = match turn {
            Turn::Run(tx) => tx,
            Turn::Refused(cause) => {
                let _ = reply.send(Err(failed(cause)));
                return None;
            }
        };
        let result = work(tx).map_err(|failure| failure.told(doing));
        let stands = result.is_ok();
        let ending: Ending = Box::new(move |committed| {
            // A caller that went away does not hear of it; what was written stays written.
            let _ = reply.send(committed.map_err(failed).and(result));
        });
        Some((stands, ending))
    });
    (job, done)
}

/// What the writer shares with the store.
struct Shared {
    disk: Disk,
    vault: Arc<Vault>,
    clock: Clock,
    changed: Arc<Notify>,
    /// Which process of a simulation this is.
    #[cfg(feature = "sabotage")]
    process: u32,
}

fn write_all(mut db: Connection, mut queue: mpsc::Receiver<Job>, shared: &Shared) {
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = queue.blocking_recv() {
        group.push(first);
        while group.len() < GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        // A panic is a fault of ours in one group of jobs. Its transaction is rolled back, its callers hear of it, the next goes on.
        let group = std::mem::take(&mut group);
        if catch_unwind(AssertUnwindSafe(|| write_group(&mut db, group, shared))).is_err() {
            tracing::error!("a write broke off and was rolled back");
        }
    }
}

fn write_group(db: &mut Connection, group: Vec<Job>, shared: &Shared) {
    let mut endings = Vec::with_capacity(group.len());
    let mut group = group.into_iter();
    let committed = run_group(db, &mut group, &mut endings, shared).map_err(Arc::new);
    sabotage::crash_point("after-commit");
    if matches!(committed, Ok(true)) {
        shared.changed.notify_one();
    }
    for ending in endings {
        ending(committed.as_ref().map(|_| ()).map_err(Arc::clone));
    }
    // Those that the transaction did not come to hear the same cause.
    if let Err(cause) = committed {
        for job in group {
            job(Turn::Refused(cause.clone()));
        }
    }
}

/// One transaction. Says whether a lane may be due now.
fn run_group(
    db: &mut Connection,
    group: &mut impl Iterator<Item = Job>,
    endings: &mut Vec<Ending>,
    shared: &Shared,
) -> rusqlite::Result<bool> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tx = Tx {
        db: &transaction,
        vault: &shared.vault,
        store_now: shared.clock.now(),
        counts: RefCell::default(),
        woke: Cell::new(false),
    };
    for job in group {
        // One job that fails must not take its neighbours with it.
        transaction.prepare_cached("SAVEPOINT job")?.execute([])?;
        let Some((stands, ending)) = job(Turn::Run(&tx)) else {
            continue;
        };
        endings.push(ending);
        if stands {
            tx.write_counts()?;
        } else {
            tx.counts.take();
            transaction.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        transaction.prepare_cached("RELEASE job")?.execute([])?;
    }
    let woke = tx.woke.get();
    if sabotage::is(Sabotage::AcknowledgeBeforeCommit) {
        for ending in endings.drain(..) {
            ending(Ok(()));
        }
    }
    #[cfg(feature = "sabotage")]
    if let Some(fate) = inline::fate(shared.process) {
        return inline::meet(shared.process, fate, transaction, endings, woke);
    }
    sabotage::crash_point("before-commit");
    transaction.commit()?;
    shared.disk.still_keeps()?;
    Ok(woke)
}

/// The database holds where members were and when: nobody else on the machine reads it.
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn make_private_file(path: &Path) -> std::io::Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(10))?;
    if !flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        db.pragma_update(None, "journal_size_limit", 256 * 1024 * 1024)?;
    }
    db.set_prepared_statement_cache_capacity(128);
    // Without it SQLite plans a statement again whenever a value that might matter to a partial index is bound: each time.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(db)
}

fn migrate(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let database = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let transaction = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(database)?;
    let found: u32 = transaction
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(database)?;
    if found > SCHEMA {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: SCHEMA,
        });
    }
    for sql in &MIGRATIONS[found as usize..] {
        transaction.execute_batch(sql).map_err(database)?;
    }
    transaction
        .pragma_update(None, "user_version", SCHEMA)
        .map_err(database)?;
    transaction.commit().map_err(database)
}

/// Whether the vault has every key that this database was ever sealed with. New keys are noted.
fn check_vault(db: &Connection, vault: &Vault) -> rusqlite::Result<bool> {
    for number in vault.key_numbers() {
        db.execute(
            "INSERT INTO vault_check (number, sealed) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            (number, vault.seal_check(number)),
        )?;
    }
    let mut checks = db.prepare("SELECT sealed FROM vault_check")?;
    let sealed: Vec<Vec<u8>> = checks.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(sealed.iter().all(|sealed| vault.opens_check(sealed)))
}

/// Milliseconds, as stored.
fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A stored time. One that no clock can show is a damaged row.
fn timestamp(millis: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_millisecond(millis).map_err(|_| Failure::Damaged("a time is out of range"))
}

/// A stored state.
fn direction(word: &str) -> Result<Direction, Failure> {
    match word {
        "IN" => Ok(Direction::In),
        "OUT" => Ok(Direction::Out),
        _ => Err(Failure::Damaged("a state is neither IN nor OUT")),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_planned_once_whatever_is_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parksync.db");
        let mut db = connect(&path, OpenFlags::default()).unwrap();
        migrate(&mut db, &path).unwrap();
        let mut waiting = db
            .prepare("SELECT id FROM delivery WHERE member_id = ?1 AND status = ?2 ORDER BY at, id LIMIT 1")
            .unwrap();

        for member in 0..3 {
            assert!(!waiting.exists((member, "waiting")).unwrap());
        }

        assert_eq!(waiting.get_status(StatementStatus::RePrepare), 0);
    }
}

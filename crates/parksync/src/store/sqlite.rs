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
mod opening;
mod outbox;
mod record;
mod settle;
mod sweep;
mod trace;
mod tx;
mod writer;

use std::fs::{OpenOptions, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Notify, mpsc};

use self::disk::Disk;
pub use self::opening::{OpenError, ServeLock};
use self::opening::{check_vault, connect, make_private_file, make_private_folder, migrate};
use self::tx::{Failure, Tx, direction, millis, timestamp};
use self::writer::{Job, Shared, job, write_all};
use super::book::Prepared;
use super::vault::Vault;
use super::{
    Amend, Amended, Beat, Bound, ClaimRequest, Counter, Entry, GateEvent, Hold, Lease, Member, MerchantNews, NeverSent,
    Node, NodeCard, NodeId, OutboxFilter, Pulse, Recorded, Renewal, Replay, Retention, Settled, Store, StoreError,
    Swept, Traced, TracedVisit, Try, Unbound,
};
use crate::clock::Clock;
use crate::domain::delivery::Scope;
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;

/// Jobs that may wait for the writer. A sender beyond it is told to come back.
const QUEUE: usize = 4096;
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
        self.write("settle deliveries", move |tx| settle::settle(tx, &settled))
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

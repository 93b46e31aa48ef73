//! The writer: takes all jobs that wait into one transaction, and answers them after its commit.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{Notify, mpsc, oneshot};

use super::disk::Disk;
#[cfg(feature = "sabotage")]
use super::inline;
use super::tx::{Failure, Tx};
use crate::clock::Clock;
use crate::sabotage::{self, Sabotage};
use crate::store::StoreError;
use crate::store::vault::Vault;

/// Jobs in one transaction at most. Beyond it a commit would keep its first caller waiting for nothing.
const GROUP: usize = 1000;

/// Runs inside the transaction and says whether its writes stand, and what to tell the caller once the commit is known.
pub(super) type Job = Box<dyn FnOnce(Turn<'_>) -> Option<(bool, Ending)> + Send>;
pub(super) type Ending = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>)>;

/// What a job gets: its turn, or why there is none.
pub(super) enum Turn<'a> {
    Run(&'a Tx<'a>),
    Refused(Arc<rusqlite::Error>),
}

pub(super) fn job<T: Send + 'static>(
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
pub(super) struct Shared {
    pub(super) disk: Disk,
    pub(super) vault: Arc<Vault>,
    pub(super) clock: Clock,
    pub(super) changed: Arc<Notify>,
    /// Which process of a simulation this is.
    #[cfg(feature = "sabotage")]
    pub(super) process: u32,
}

pub(super) fn write_all(mut db: Connection, mut queue: mpsc::Receiver<Job>, shared: &Shared) {
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

pub(super) fn write_group(db: &mut Connection, group: Vec<Job>, shared: &Shared) {
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

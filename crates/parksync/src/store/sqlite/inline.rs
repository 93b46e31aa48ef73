//! The store for the simulation: the same transactions on the caller's own thread, one job to a commit, and a disk that fails when
//! it is told to. Only with the feature `sabotage`.

#![expect(clippy::disallowed_methods, reason = "an edge: it reads the clock or starts tasks")]

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::{OpenFlags, Transaction};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::disk::Disk;
use super::opening::{OpenError, check_vault, connect, migrate};
use super::writer::{Ending, Job, Shared, write_group};
use super::{Open, SqliteStore};
use crate::clock::Clock;
use crate::store::vault::Vault;

/// What becomes of the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The disk refuses: nothing is written, and the callers hear of it.
    Refused,
    /// The process dies before the commit is on disk.
    DiesBefore,
    /// The commit is on disk, and the process dies before anybody hears of it.
    DiesAfter,
}

thread_local! {
    static NEXT: Cell<Option<(u32, Fate)>> = const { Cell::new(None) };
    static DIED: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Which process of this thread should have died since this was asked last.
pub fn take_death() -> Option<u32> {
    DIED.take()
}

/// Sets what becomes of the next commit of a process on this thread.
pub fn set_fate(fate: Option<(u32, Fate)>) {
    NEXT.set(fate);
}

pub(super) fn fate(process: u32) -> Option<Fate> {
    let (_, fate) = NEXT.get().filter(|(whose, _)| *whose == process)?;
    NEXT.set(None);
    Some(fate)
}

pub(super) fn meet(
    process: u32,
    fate: Fate,
    transaction: Transaction<'_>,
    endings: &mut Vec<Ending>,
    woke: bool,
) -> rusqlite::Result<bool> {
    match fate {
        Fate::Refused => {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
                None,
            ));
        }
        Fate::DiesBefore => transaction.rollback()?,
        Fate::DiesAfter => transaction.commit()?,
    }
    DIED.set(Some(process));
    // Nobody is there any more to hear it.
    endings.clear();
    Ok(woke)
}

impl SqliteStore {
    /// Opens a database whose jobs run on the runtime of the caller, which must have one thread, and whose leases end by `clock`.
    /// `process` is who opens it: several may, and [`set_fate`] is for one of them.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_inline(
        path: &Path,
        vault: Arc<Vault>,
        clock: Clock,
        process: u32,
    ) -> Result<(Self, JoinHandle<()>), OpenError> {
        let database = |source| OpenError::Database {
            path: path.to_owned(),
            source,
        };
        let mut writer = connect(path, OpenFlags::default()).map_err(database)?;
        writer.pragma_update(None, "synchronous", "OFF").map_err(database)?;
        migrate(&mut writer, path)?;
        check_vault(&writer, &vault).map_err(database)?;
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(database)?;
        let disk = Disk::beside(path).map_err(|source| OpenError::File {
            path: path.to_owned(),
            source,
        })?;
        let (jobs, mut queue) = mpsc::channel::<Job>(super::QUEUE);
        let changed = Arc::new(Notify::new());
        let shared = Shared {
            disk,
            vault: Arc::clone(&vault),
            clock: clock.clone(),
            changed: Arc::clone(&changed),
            process,
        };
        let task = tokio::spawn(async move {
            while let Some(job) = queue.recv().await {
                write_group(&mut writer, vec![job], &shared);
            }
        });
        let open = Open {
            jobs,
            reader: Arc::new(Mutex::new(reader)),
            thread: None,
        };
        Ok((
            Self {
                open: Some(open),
                vault,
                clock,
                changed,
            },
            task,
        ))
    }
}

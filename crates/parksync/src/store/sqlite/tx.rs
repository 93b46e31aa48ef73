//! A transaction, with what its steps share; and how values are stored.

use std::cell::{Cell, RefCell};

use jiff::Timestamp;
use rusqlite::Connection;

use crate::domain::gate::Direction;
use crate::store::StoreError;
use crate::store::book::{self, Counts};
use crate::store::vault::{Vault, VaultError};

/// The database inside one transaction, with what the steps share.
pub(super) struct Tx<'a> {
    pub(super) db: &'a Connection,
    pub(super) vault: &'a Vault,
    /// The time by the clock of the store, which leases are measured by.
    pub(super) store_now: Timestamp,
    pub(super) counts: RefCell<Counts>,
    /// Something was written that may make a lane due.
    pub(super) woke: Cell<bool>,
}

impl Tx<'_> {
    /// Adds to a counter; written once, before the commit.
    pub(super) fn count(&self, name: &'static str, scope: &str, word: &str, by: i64) {
        book::count(&mut self.counts.borrow_mut(), name, scope, word, by);
    }

    pub(super) fn count_all(&self, counts: Counts) {
        let mut all = self.counts.borrow_mut();
        for (key, by) in counts {
            *all.entry(key).or_default() += by;
        }
    }

    /// Counts what left the waiting ones, and how.
    pub(super) fn leave_waiting(&self, circle: &str, word: &str, by: usize) {
        book::leave_waiting(&mut self.counts.borrow_mut(), circle, word, by);
    }

    pub(super) fn write_counts(&self) -> rusqlite::Result<()> {
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
pub(super) enum Failure {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("a stored row is damaged: {0}")]
    Damaged(&'static str),
}

impl Failure {
    pub(super) fn told(&self, doing: &'static str) -> StoreError {
        StoreError::Failed {
            doing,
            cause: self.to_string(),
        }
    }
}

/// Milliseconds, as stored.
pub(super) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A stored time. One that no clock can show is a damaged row.
pub(super) fn timestamp(millis: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_millisecond(millis).map_err(|_| Failure::Damaged("a time is out of range"))
}

/// A stored state.
pub(super) fn direction(word: &str) -> Result<Direction, Failure> {
    match word {
        "IN" => Ok(Direction::In),
        "OUT" => Ok(Direction::Out),
        _ => Err(Failure::Damaged("a state is neither IN nor OUT")),
    }
}

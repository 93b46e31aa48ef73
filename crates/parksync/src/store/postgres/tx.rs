//! One transaction: its statements, what it counts, and what can go wrong in it.

use std::sync::{Mutex, PoisonError};

use deadpool_postgres::{Object, PoolError, Transaction};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::Inner;
use super::connect::ANSWER;
use super::counters::COUNT;
use crate::domain::gate::Direction;
use crate::store::StoreError;
use crate::store::book::{self, Counts};
use crate::store::vault::{Tag, Vault, VaultError};

/// The database inside one transaction, with what the steps share.
pub(super) struct Tx<'a> {
    db: Transaction<'a>,
    pub(super) vault: &'a Vault,
    counts: Mutex<Counts>,
    /// Lanes may be due once this is committed, the earliest at this time.
    woke: Mutex<Option<i64>>,
}

/// Arguments of a statement.
pub(super) type Args<'a> = &'a [&'a (dyn ToSql + Sync)];

impl<'a> Tx<'a> {
    pub(super) async fn begin(client: &'a mut Object, inner: &'a Inner) -> Result<Self, Failure> {
        let db = client.transaction().await?;
        Ok(Self {
            db,
            vault: &inner.vault,
            counts: Mutex::default(),
            woke: Mutex::default(),
        })
    }

    /// When the transaction began, by the clock of the database, which leases are measured by. A statement that only compares with it
    /// says `now_ms()` instead.
    pub(super) async fn store_now(&self) -> Result<Timestamp, Failure> {
        let now = self.row("SELECT now_ms()", &[]).await?;
        let now = now.ok_or(Failure::Damaged("the database has no time"))?;
        timestamp(now.try_get(0)?)
    }

    pub(super) async fn rows(&self, sql: &str, args: Args<'_>) -> Result<Vec<Row>, Failure> {
        let statement = self.db.prepare_cached(sql).await?;
        Ok(self.db.query(&statement, args).await?)
    }

    pub(super) async fn row(&self, sql: &str, args: Args<'_>) -> Result<Option<Row>, Failure> {
        let statement = self.db.prepare_cached(sql).await?;
        Ok(self.db.query_opt(&statement, args).await?)
    }

    pub(super) async fn exists(&self, sql: &str, args: Args<'_>) -> Result<bool, Failure> {
        Ok(!self.rows(sql, args).await?.is_empty())
    }

    pub(super) async fn execute(&self, sql: &str, args: Args<'_>) -> Result<u64, Failure> {
        let statement = self.db.prepare_cached(sql).await?;
        Ok(self.db.execute(&statement, args).await?)
    }

    /// Adds to a counter; written before the commit, or with the last statements of a verb.
    pub(super) fn count(&self, name: &'static str, scope: &str, word: &str, by: i64) {
        book::count(&mut self.counted(), name, scope, word, by);
    }

    pub(super) fn count_all(&self, counts: Counts) {
        let mut all = self.counted();
        for (key, by) in counts {
            *all.entry(key).or_default() += by;
        }
    }

    /// Counts what left the waiting ones, and how.
    pub(super) fn leave_waiting(&self, circle: &str, word: &str, by: usize) {
        book::leave_waiting(&mut self.counted(), circle, word, by);
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lanes may be due once this is committed, none of them earlier than at these times. Without a time: such as were due before.
    pub(super) fn wake(&self, due: impl IntoIterator<Item = i64>) {
        let mut woke = self.woke.lock().unwrap_or_else(PoisonError::into_inner);
        *woke = due.into_iter().chain(*woke).chain([i64::MAX]).min();
    }

    /// Writes down what was counted until now.
    pub(super) async fn write_counts(&self) -> Result<(), Failure> {
        let counts = std::mem::take(&mut *self.counted());
        let counts: Vec<_> = counts.into_iter().filter(|(_, by)| *by != 0).collect();
        if counts.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = counts.iter().map(|((name, ..), _)| *name).collect();
        let scopes: Vec<&str> = counts.iter().map(|((_, scope, _), _)| &**scope).collect();
        let words: Vec<&str> = counts.iter().map(|((.., word), _)| &**word).collect();
        let by: Vec<i64> = counts.iter().map(|(_, by)| *by).collect();
        self.execute(COUNT, &[&names, &scopes, &words, &by]).await?;
        Ok(())
    }

    pub(super) async fn commit(self, inner: &Inner) -> Result<(), Failure> {
        self.write_counts().await?;
        let woke = *self.woke.lock().unwrap_or_else(PoisonError::into_inner);
        self.db.commit().await?;
        if let Some(due) = woke {
            inner.woke(due);
        }
        Ok(())
    }
}

/// What can go wrong in a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}", sentence(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("no connection to the database: {0}")]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("a stored row is damaged: {0}")]
    Damaged(&'static str),
    #[error("the database did not answer within {} s; whether it was written is not known", ANSWER.as_secs())]
    Silent,
}

/// Waits for a transaction, within bounds.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(ANSWER, work).await.unwrap_or(Err(Failure::Silent))
}

/// What the server said. The error itself says only "db error"; the arguments of a statement never come into it.
fn sentence(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

impl Failure {
    pub(super) fn told(&self, doing: &'static str) -> StoreError {
        StoreError::Failed {
            doing,
            cause: self.to_string(),
        }
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => error.code(),
            Self::Pool(PoolError::Backend(error)) => error.code(),
            Self::Pool(_) | Self::Vault(_) | Self::Damaged(_) | Self::Silent => None,
        }
    }

    /// The database gave this transaction up so that another one could go on.
    pub(super) fn is_for_another(&self) -> bool {
        matches!(
            self.code(),
            Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE)
        )
    }

    /// The database does not take these values; others it would take.
    pub(super) fn is_of_the_data(&self) -> bool {
        self.code()
            .is_some_and(|code| code.code().starts_with("22") || code.code().starts_with("23"))
    }

    /// The connection is of no use any more: it broke, or its server is no primary now.
    pub(super) fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Database(error) => {
                error.is_closed()
                    || matches!(
                        error.code(),
                        Some(
                            &SqlState::READ_ONLY_SQL_TRANSACTION
                                | &SqlState::ADMIN_SHUTDOWN
                                | &SqlState::CRASH_SHUTDOWN
                                | &SqlState::CANNOT_CONNECT_NOW
                                | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                        )
                    )
            }
            Self::Silent => true,
            Self::Pool(_) | Self::Vault(_) | Self::Damaged(_) => false,
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

pub(super) fn maybe_timestamp(millis: Option<i64>) -> Result<Option<Timestamp>, Failure> {
    millis.map(timestamp).transpose()
}

/// A stored state.
pub(super) fn direction(word: &str) -> Result<Direction, Failure> {
    match word {
        "IN" => Ok(Direction::In),
        "OUT" => Ok(Direction::Out),
        _ => Err(Failure::Damaged("a state is neither IN nor OUT")),
    }
}

/// A stored tag.
pub(super) fn tag(bytes: &[u8]) -> Result<Tag, Failure> {
    bytes
        .try_into()
        .map_err(|_| Failure::Damaged("a tag has another length"))
}

/// A text that the database takes: everything but the character 0.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "")
}

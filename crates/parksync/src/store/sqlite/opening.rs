//! How a database file is opened: who may read it, its schema, and the vault key that it was made with.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::store::vault::Vault;

/// Pages in the log before a checkpoint: rare enough to stay out of the tail latency, small enough to keep the log short.
const CHECKPOINT_PAGES: u32 = 10_000;
/// Memory for pages of the writer. A transaction that changes more than fits writes pages more than once.
const CACHE_KIB: u32 = 32 * 1024;

/// The schema that this program writes: the number of its migrations.
const SCHEMA: u32 = MIGRATIONS.len() as u32;
const MIGRATIONS: [&str; 1] = [include_str!("../migrations/sqlite/0001_start.sql")];

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
pub struct ServeLock(#[expect(dead_code, reason = "the lock lives as long as the open file")] pub(super) File);

/// The database holds where members were and when: nobody else on the machine reads it.
pub(super) fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(super) fn make_private_file(path: &Path) -> std::io::Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

pub(super) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(10))?;
    if !flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        db.pragma_update(None, "journal_size_limit", 256 * 1024 * 1024)?;
        db.pragma_update(None, "cache_size", -i64::from(CACHE_KIB))?;
        // What a job that fails is rolled back from: SQLite would make a file for it in each transaction.
        db.pragma_update(None, "temp_store", "MEMORY")?;
    }
    db.set_prepared_statement_cache_capacity(128);
    // Without it SQLite plans a statement again whenever a value that might matter to a partial index is bound: each time.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(db)
}

pub(super) fn migrate(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
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
pub(super) fn check_vault(db: &Connection, vault: &Vault) -> rusqlite::Result<bool> {
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

//! Which database the settings name, and opening it: one SQLite file, or PostgreSQL for several nodes.

use std::sync::Arc;

use crate::config::{self, Config};
use crate::store::Store;
use crate::store::postgres::{self, Address, PgStore};
use crate::store::sqlite::{self, ServeLock, SqliteStore};

use super::{StartError, vault};

/// Where the PostgreSQL of the settings is. `None`: they name an SQLite file.
///
/// # Errors
/// The URL is none, or the password or CA file cannot be read.
pub fn address(config: &Config) -> Result<Option<Address>, StartError> {
    let store = &config.store;
    if store.url.is_empty() {
        return Ok(None);
    }
    let file = |path: &std::path::Path| Some(path.to_owned()).filter(|path| !path.as_os_str().is_empty());
    let password = file(&store.password_file)
        .map(|path| config::read_secret(&path))
        .transpose()
        .map_err(|why| StartError::Key {
            what: "store.password_file".to_owned(),
            why,
        })?;
    let address = Address::new(&store.url, password.as_deref(), file(&store.ca_file).as_deref())?;
    Ok(Some(address))
}

/// Opens the database, whether or not `serve` runs on it.
///
/// # Errors
/// It cannot be used; the error says why.
pub async fn open(config: &Config) -> Result<Arc<dyn Store>, StartError> {
    let vault = Arc::new(vault(config)?);
    Ok(match address(config)? {
        Some(address) => Arc::new(PgStore::open(&address, vault).await?),
        None => Arc::new(SqliteStore::open(&config.store.path, vault)?),
    })
}

/// Opens the database for `serve`. With an SQLite file there is one node; the lock holds any other one off.
pub(super) async fn open_to_serve(config: &Config) -> Result<(Arc<dyn Store>, Option<ServeLock>), StartError> {
    let vault = Arc::new(vault(config)?);
    if let Some(address) = address(config)? {
        return Ok((Arc::new(PgStore::open(&address, vault).await?), None));
    }
    let store = SqliteStore::open(&config.store.path, vault)?;
    let lock = store.serve(&config.store.path).await?;
    Ok((Arc::new(store), Some(lock)))
}

/// What was wrong with a database, of either kind.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An SQLite file.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// A PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
}

impl From<sqlite::OpenError> for StartError {
    fn from(error: sqlite::OpenError) -> Self {
        Self::Store(error.into())
    }
}

impl From<postgres::OpenError> for StartError {
    fn from(error: postgres::OpenError) -> Self {
        Self::Store(error.into())
    }
}

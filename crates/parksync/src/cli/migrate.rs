//! `parksync migrate`: brings the database to the schema of this program.

use std::io::Write as _;

use super::serve::start_failure;
use super::{Exit, Failure};
use crate::config::Config;
use crate::service::stores;
use crate::store::postgres::PgStore;

pub(super) async fn run(config: &Config) -> Result<Exit, Failure> {
    let mut out = std::io::stdout();
    let Some(address) = stores::address(config).map_err(start_failure)? else {
        // An SQLite file has one program at a time, which brings it up to date when it opens it.
        stores::open(config).await.map_err(start_failure)?;
        writeln!(out, "{} is up to date", config.store.path.display())?;
        return Ok(Exit::Done);
    };
    let migrated = PgStore::migrate(&address)
        .await
        .map_err(|error| start_failure(error.into()))?;
    if migrated.from == migrated.to {
        writeln!(out, "the database is up to date: schema {}", migrated.to)?;
    } else {
        writeln!(
            out,
            "the database went from schema {} to {}",
            migrated.from, migrated.to
        )?;
        // An empty database had no nodes.
        if migrated.from > 0 {
            eprintln!("nodes of the version before may go on beside this one; restart them one after the other");
        }
    }
    Ok(Exit::Done)
}

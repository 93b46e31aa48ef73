//! `parksync move`: an installation outgrows its SQLite file.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::serve::start_failure;
use super::{Exit, Failure};
use crate::config::Config;
use crate::service::{self, stores};
use crate::store::moving::{self, MoveError};
use crate::store::postgres::PgStore;
use crate::store::sqlite::SqliteStore;

#[derive(Debug, Args)]
pub(super) struct MoveArgs {
    /// The SQLite file, as `sqlite:FILE`. Default: [store] path
    #[arg(long, value_name = "sqlite:FILE", value_parser = sqlite_file)]
    from: Option<PathBuf>,
    /// The PostgreSQL database, as `postgres://USER@HOST/NAME`. Default: [store] url
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn sqlite_file(text: &str) -> Result<PathBuf, String> {
    text.strip_prefix("sqlite:")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .ok_or_else(|| "it looks like sqlite:data/parksync.db".to_owned())
}

pub(super) async fn run(config: &Config, arguments: &MoveArgs) -> Result<Exit, Failure> {
    let mut target = config.clone();
    if let Some(url) = &arguments.to {
        target.store.url.clone_from(url);
    }
    let Some(address) = stores::address(&target).map_err(start_failure)? else {
        return Err(Failure::new(Exit::Usage, "say where to move to")
            .hint("--to postgres://USER@HOST/NAME, or set [store] url"));
    };
    let path = arguments.from.as_ref().unwrap_or(&config.store.path);
    if !path.is_file() {
        return Err(
            Failure::new(Exit::Usage, format!("there is no database {}", path.display())).hint("--from sqlite:FILE"),
        );
    }
    let vault = Arc::new(service::vault(config).map_err(start_failure)?);
    // As long as this is held no `serve` changes the file.
    let source = SqliteStore::open(path, Arc::clone(&vault)).map_err(|error| start_failure(error.into()))?;
    let _lock = source.serve(path).await.map_err(|error| start_failure(error.into()))?;
    PgStore::migrate(&address)
        .await
        .map_err(|error| start_failure(error.into()))?;
    let store = PgStore::open(&address, vault)
        .await
        .map_err(|error| start_failure(error.into()))?;
    let bar = ProgressBar::new(0);
    bar.set_style(
        ProgressStyle::with_template("{msg:10} {bar:30} {human_pos}/{human_len} rows").expect("the template is right"),
    );
    let moved = moving::carry(path, &store, |table, done, all| {
        bar.set_message(table);
        bar.set_length(all);
        bar.set_position(done);
    })
    .await
    .map_err(failure)?;
    bar.finish_and_clear();
    let mut out = std::io::stdout();
    for table in &moved {
        if arguments.json {
            writeln!(
                out,
                "{}",
                json!({ "table": table.table, "rows": table.rows, "same": true })
            )?;
        } else {
            writeln!(
                out,
                "{:10} {:>10} rows, the same on both sides",
                table.table, table.rows
            )?;
        }
    }
    eprintln!("set [store] url to the new database and start `serve`; the file stays as it was");
    Ok(Exit::Done)
}

fn failure(error: MoveError) -> Failure {
    let text = error.to_string();
    match error {
        MoveError::Source { .. } => Failure::new(Exit::Configuration, text),
        MoveError::Target(_) => Failure::new(Exit::Later, text).hint("the same command goes on where this one stopped"),
        MoveError::InUse(_) => Failure::new(Exit::Usage, text),
        MoveError::Differs { .. } => Failure::new(Exit::Unexpected, text)
            .hint("drop that database, make it anew and move again; the file was only read"),
    }
}

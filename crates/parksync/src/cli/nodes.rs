//! `parksync nodes`: which processes work on the database, and how they are.

use std::io::Write;

use clap::Subcommand;

use super::members::open_store;
use super::{Exit, Failure};
use crate::config::Config;
use crate::limits;
use crate::store::StoreError;
use crate::trace;

#[derive(Debug, Subcommand)]
pub(super) enum NodesCommand {
    /// List all nodes of the last day: last seen, lanes held, calls a second, clock against the database. Watches them for two seconds
    List {
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(config: &Config, command: NodesCommand) -> Result<Exit, Failure> {
    let NodesCommand::List { json } = command;
    let store = open_store(config).await?;
    let failed = |error: StoreError| Failure::new(Exit::Later, error.to_string());
    let before = store.nodes().await.map_err(failed)?;
    tokio::time::sleep(limits::NODE_WATCH).await;
    let after = store.nodes().await.map_err(failed)?;
    let mut out = std::io::stdout().lock();
    for node in &after {
        if json {
            writeln!(out, "{}", trace::node(&before, node))?;
        } else {
            writeln!(out, "{}", trace::node_line(&before, node))?;
        }
    }
    if after.is_empty() {
        eprintln!("no node was there within the last day: start one with `parksync serve`");
    }
    Ok(Exit::Done)
}

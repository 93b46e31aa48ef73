//! `parksync config`: is it right, and what is in force.

use std::io::Write;
use std::path::Path;

use clap::Subcommand;

use super::serve::start_failure;
use super::{Exit, Failure};
use crate::config::DEFAULTS;
use crate::service;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Read the settings and every key they name, and say what is wrong
    Check,
    /// Print the settings in force. Secrets are files; their paths are printed, never what is in them
    Print {
        /// Print the reference instead: every setting with its default and its meaning
        #[arg(long)]
        default: bool,
    },
}

pub(super) fn run(path: &Path, command: &ConfigCommand) -> Result<Exit, Failure> {
    let mut out = std::io::stdout().lock();
    match command {
        ConfigCommand::Print { default: true } => out.write_all(DEFAULTS.as_bytes())?,
        ConfigCommand::Print { default: false } => {
            let config = super::load(path)?;
            let text = toml::to_string_pretty(&config).map_err(|error| {
                Failure::new(Exit::Unexpected, "cannot print the settings").cause(error.to_string())
            })?;
            out.write_all(text.as_bytes())?;
        }
        ConfigCommand::Check => {
            let config = super::load(path)?;
            service::vault(&config).map_err(start_failure)?;
            let roads = service::roads(&config).map_err(start_failure)?;
            writeln!(
                out,
                "{}: fine. {} of {} circles are set up, {} lots, {} gates, {} API keys",
                path.display(),
                roads.len(),
                config.circle.len(),
                config.lot.len(),
                config.gate.len(),
                config.api_key.len()
            )?;
            for warning in warnings(&config) {
                writeln!(out, "note: {warning}")?;
            }
        }
    }
    Ok(Exit::Done)
}

/// What works, but hardly as meant.
fn warnings(config: &crate::config::Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for gate in config.gate.iter().filter(|gate| gate.direction.is_none()) {
        warnings.push(format!(
            "gate {}/{} has no direction: its messages count only when they say in or out themselves",
            gate.lot, gate.id
        ));
    }
    for lot in config.lot.iter().filter(|lot| lot.zone.is_none()) {
        warnings.push(format!(
            "lot {} has no zone: times that come without one are refused",
            lot.id
        ));
    }
    if config.api_key.is_empty() {
        warnings.push("there is no api_key: nobody can post events".to_owned());
    }
    warnings
}

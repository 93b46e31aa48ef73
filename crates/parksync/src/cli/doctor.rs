//! `parksync doctor`: one line for each thing that must be right, and what to do about it when it is not.

use std::io::Write as _;
use std::sync::Arc;

use clap::Args;
use jiff::SignedDuration;
use serde_json::json;
use wechatpay::{Chain, Error};

use super::{Exit, Failure};
use crate::clock::Clock;
use crate::config::Config;
use crate::service::{self, stores};
use crate::store::Store;
use crate::store::postgres::{PgStore, Replication};

/// A clock that is further off is worth a word. What breaks then: beyond 20 s the order after a late call (`limits::NODE_CLOCK`), beyond
/// five minutes every signature.
const CLOCK: SignedDuration = SignedDuration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Ask nothing of WeChat Pay
    #[arg(long)]
    offline: bool,
    /// Print a JSON line for each check
    #[arg(long)]
    json: bool,
}

/// How one check came out.
enum Finding {
    Fine(String),
    /// It works, and somebody should know.
    Beware(String),
    Bad(String),
}

pub(super) async fn run(config: &Config, arguments: &DoctorArgs) -> Result<Exit, Failure> {
    let mut findings = vec![("settings", Finding::Fine("read, and they fit together".to_owned()))];
    findings.extend(check_store(config).await);
    let roads = service::roads(config);
    match &roads {
        Ok(roads) => findings.push(("keys", Finding::Fine(format!("of {} circles can be used", roads.len())))),
        Err(error) => findings.push(("keys", Finding::Bad(error.to_string()))),
    }
    if !arguments.offline {
        for (circle, road) in roads.iter().flatten() {
            let asked = road.client.chain("v3/certificates").get().await;
            let finding = match &asked {
                Ok(_) => Finding::Fine(format!("answers circle {circle} of merchant {}, signed", road.merchant)),
                // The key may be of the kind that has no certificates; the signature was good enough to say so.
                Err(Error::Api { status: 404, .. }) => {
                    Finding::Fine(format!("answers circle {circle} of merchant {}", road.merchant))
                }
                Err(error) => Finding::Bad(format!("circle {circle}: {}", Chain(error))),
            };
            findings.push(("wechatpay", finding));
        }
    }
    print(&findings, arguments.json)
}

fn print(findings: &[(&'static str, Finding)], as_json: bool) -> Result<Exit, Failure> {
    let mut out = std::io::stdout();
    let mut bad = false;
    for (what, finding) in findings {
        let (word, text) = match finding {
            Finding::Fine(text) => ("ok", text),
            Finding::Beware(text) => ("warn", text),
            Finding::Bad(text) => ("BAD", text),
        };
        bad |= matches!(finding, Finding::Bad(_));
        if as_json {
            writeln!(
                out,
                "{}",
                json!({ "check": what, "result": word.to_lowercase(), "text": text })
            )?;
        } else {
            writeln!(out, "{word:4} {what:10} {text}")?;
        }
    }
    Ok(if bad { Exit::Configuration } else { Exit::Done })
}

async fn check_store(config: &Config) -> Vec<(&'static str, Finding)> {
    let address = match stores::address(config) {
        Ok(address) => address,
        Err(error) => return vec![("database", Finding::Bad(error.to_string()))],
    };
    let Some(address) = address else {
        return vec![match stores::open(config).await {
            Ok(store) => written("SQLite", &*store).await,
            Err(error) => ("database", Finding::Bad(error.to_string())),
        }];
    };
    let vault = match service::vault(config) {
        Ok(vault) => Arc::new(vault),
        Err(error) => return vec![("database", Finding::Bad(error.to_string()))],
    };
    let store = match PgStore::open(&address, vault).await {
        Ok(store) => store,
        Err(error) => return vec![("database", Finding::Bad(error.to_string()))],
    };
    let mut findings = vec![written("PostgreSQL", &store).await];
    match store.replication().await {
        Ok((replication, database_now)) => {
            findings.push(("replica", told(&replication)));
            let ahead = Clock::system().now().duration_since(database_now);
            let text = format!(
                "{:.1} s between this machine and the database",
                ahead.as_secs_f64().abs()
            );
            findings.push(if ahead.abs() > CLOCK {
                ("clock", Finding::Beware(format!("{text}: set both by NTP")))
            } else {
                ("clock", Finding::Fine(text))
            });
        }
        Err(error) => findings.push(("replica", Finding::Bad(error.to_string()))),
    }
    findings
}

async fn written(kind: &str, store: &dyn Store) -> (&'static str, Finding) {
    let finding = match store.heartbeat(Clock::system().now()).await {
        Ok(()) => Finding::Fine(format!("{kind} can be read and written")),
        Err(error) => Finding::Bad(error.to_string()),
    };
    ("database", finding)
}

/// Only a synchronous standby makes the promise survive the loss of the primary.
fn told(replication: &Replication) -> Finding {
    match replication {
        Replication::Synchronous { standbys } => Finding::Fine(format!(
            "synchronous, {standbys} standby: what was acknowledged survives the loss of the primary"
        )),
        Replication::Waiting => Finding::Bad(
            "synchronous_standby_names is set and no standby answers: commits wait for it, and nothing is acknowledged"
                .to_owned(),
        ),
        Replication::Asynchronous { standbys } => Finding::Beware(format!(
            "asynchronous, {standbys} standby: a failover may lose what was acknowledged last; set synchronous_standby_names"
        )),
        Replication::Off { setting } => Finding::Beware(format!(
            "synchronous_commit is {setting}: what was acknowledged may be lost when the server dies; set it to on"
        )),
        Replication::Hidden => Finding::Beware(
            "this role may not see the standbys: GRANT pg_read_all_stats TO it, as an administrator of the server"
                .to_owned(),
        ),
        Replication::None => {
            Finding::Beware("no standby: what was acknowledged lasts as long as this one disk".to_owned())
        }
    }
}

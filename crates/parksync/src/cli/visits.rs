//! `parksync visits`: one visit told in sentences.

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::members::{find_circle, open_store};
use super::{Exit, Failure};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::member::{MemberKey, Openid, readable_plate};
use crate::store::Traced;
use crate::trace;

#[derive(Debug, Subcommand)]
pub(super) enum VisitsCommand {
    /// Tell the latest visits of a car or of a member: every read, every message, every answer, and what happens next
    Trace {
        /// A plate, or an openid
        #[arg(value_name = "PLATE|OPENID")]
        who: String,
        /// The circle (商圈) of an openid; may be left out when there is only one
        #[arg(long)]
        circle: Option<String>,
        /// Only the latest so many visits
        #[arg(long, default_value_t = 5)]
        last: usize,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(config: &Config, command: VisitsCommand) -> Result<Exit, Failure> {
    let VisitsCommand::Trace {
        who,
        circle,
        last,
        json,
    } = command;
    let traced = match readable_plate(&who) {
        Ok(plate) => Traced::Plate(plate),
        Err(_) => {
            let usage = |why: String| Failure::new(Exit::Usage, why);
            let openid = Openid::parse(&who).map_err(|_| usage("this is neither a plate nor an openid".to_owned()))?;
            let circle = find_circle(config, circle.as_deref()).map_err(usage)?;
            Traced::Member(MemberKey {
                circle: circle.id.clone(),
                appid: circle.appid.clone(),
                openid,
            })
        }
    };
    let store = open_store(config).await?;
    let visits = store
        .trace(traced)
        .await
        .map_err(|error| Failure::new(Exit::Later, error.to_string()))?;
    let now = Clock::system().now();
    let mut out = std::io::stdout().lock();
    for visit in visits.iter().skip(visits.len().saturating_sub(last)) {
        let lines = trace::tell(visit, now);
        if json {
            writeln!(out, "{}", json!({ "visit": trace::title(visit), "steps": lines }))?;
            continue;
        }
        writeln!(out, "{}", trace::title(visit))?;
        for line in lines {
            writeln!(out, "  {}  {}", line.at, line.text)?;
        }
    }
    if visits.is_empty() {
        eprintln!("no visit is known: no gate has told of this car, or it is longer ago than visits are kept");
    }
    Ok(Exit::Done)
}

//! `parksync outbox`: what waits, what is held, what died, and why; and sending it again.

use std::io::Write;

use clap::{Args, Subcommand};

use super::members::open_store;
use super::{Exit, Failure};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::delivery::Scope;
use crate::domain::story::{clock, standing};
use crate::store::{Entry, OutboxFilter, Replay, Status, Store};
use crate::trace;

#[derive(Debug, Subcommand)]
pub(super) enum OutboxCommand {
    /// List messages, oldest first, each with why it is there and what happens next
    List(ListArgs),
    /// Show one message with every try
    Show {
        /// Its number
        id: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send dead or held messages again. Without --yes it only says what WeChat Pay would hold afterwards
    Replay {
        /// Their numbers
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Do it
        #[arg(long)]
        yes: bool,
        /// Also where WeChat Pay already holds a newer state of the car
        #[arg(long)]
        force: bool,
    },
    /// Pause a circle or a merchant; what comes in waits
    Hold {
        #[command(flatten)]
        what: HoldArgs,
        /// Why, for the next person
        #[arg(long)]
        reason: String,
    },
    /// Let a circle or a merchant go on
    Release {
        #[command(flatten)]
        what: HoldArgs,
    },
    /// List everything that pauses
    Holds,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// waiting, held, dead, delivered, superseded or withdrawn
    #[arg(long, default_value = "waiting", value_parser = parse_status)]
    state: Status,
    /// Only of this circle
    #[arg(long)]
    circle: Option<String>,
    /// Only with this text in the reason
    #[arg(long)]
    reason: Option<String>,
    /// Only those after this number
    #[arg(long, default_value_t = 0)]
    after: i64,
    /// So many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct HoldArgs {
    /// A circle (商圈)
    #[arg(long)]
    circle: Option<String>,
    /// A merchant, by its mchid: all its circles
    #[arg(long)]
    merchant: Option<String>,
}

impl HoldArgs {
    fn scope(self) -> (Scope, String) {
        match (self.circle, self.merchant) {
            (Some(circle), _) => (Scope::Circle, circle),
            (None, merchant) => (Scope::Merchant, merchant.unwrap_or_default()),
        }
    }
}

fn parse_status(word: &str) -> Result<Status, String> {
    Status::parse(word).ok_or_else(|| {
        let known: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
        format!("it is one of {}", known.join(", "))
    })
}

pub(super) async fn run(config: &Config, command: OutboxCommand) -> Result<Exit, Failure> {
    let store = open_store(config).await?;
    let failed = |error: crate::store::StoreError| Failure::new(Exit::Later, error.to_string());
    let now = Clock::system().now();
    let mut out = std::io::stdout().lock();
    match command {
        OutboxCommand::List(arguments) => {
            let ListArgs {
                state,
                circle,
                reason,
                after,
                limit,
                json,
            } = arguments;
            let entries = store
                .outbox(OutboxFilter {
                    status: state,
                    circle,
                    reason,
                    after,
                    limit,
                })
                .await
                .map_err(failed)?;
            for entry in &entries {
                if json {
                    writeln!(out, "{}", trace::message(entry, None, now))?;
                } else {
                    write_entry(&mut out, entry, now)?;
                }
            }
            if let Some(last) = entries.last().filter(|_| entries.len() == limit as usize && !json) {
                writeln!(out, "… more: --after {}", last.id)?;
            }
        }
        OutboxCommand::Show { id, json } => {
            let Some((entry, tries)) = store.message(id).await.map_err(failed)? else {
                return Err(Failure::new(Exit::Usage, format!("there is no message {id}")));
            };
            if json {
                writeln!(out, "{}", trace::message(&entry, Some(&tries), now))?;
            } else {
                write_entry(&mut out, &entry, now)?;
                for one in &tries {
                    writeln!(out, "    {}  {}", clock(one.began_at), trace::answer(one))?;
                }
            }
        }
        OutboxCommand::Replay { ids, yes, force } => return replay(&*store, &ids, yes, force, &mut out).await,
        OutboxCommand::Hold { what, reason } => {
            let (scope, name) = what.scope();
            known(config, scope, &name)?;
            store.hold(scope, name.clone(), reason, now).await.map_err(failed)?;
            writeln!(
                out,
                "{name} pauses. What comes in waits; `parksync outbox release` lets it go on."
            )?;
        }
        OutboxCommand::Release { what } => {
            let (scope, name) = what.scope();
            let released = store.release(scope, name.clone()).await.map_err(failed)?;
            writeln!(out, "{name} {}", if released { "goes on" } else { "did not pause" })?;
        }
        OutboxCommand::Holds => {
            for hold in store.holds().await.map_err(failed)? {
                let next = hold.probe_at.map_or("a person releases it".to_owned(), |at| {
                    format!("next probe {}", clock(at))
                });
                let scope = if hold.scope == Scope::Circle {
                    "circle"
                } else {
                    "merchant"
                };
                writeln!(
                    out,
                    "{scope} {}  since {}  {}  ({next})",
                    hold.name,
                    clock(hold.since),
                    hold.reason
                )?;
            }
        }
    }
    Ok(Exit::Done)
}

fn known(config: &Config, scope: Scope, name: &str) -> Result<(), Failure> {
    let found = match scope {
        Scope::Circle => config.circle.iter().any(|circle| circle.id == name),
        Scope::Merchant => config.merchant.iter().any(|merchant| merchant.mchid == name),
    };
    if found {
        Ok(())
    } else {
        Err(Failure::new(Exit::Usage, format!("the settings have no \"{name}\"")))
    }
}

async fn replay(store: &dyn Store, ids: &[i64], yes: bool, force: bool, out: &mut impl Write) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for id in ids {
        let now = Clock::system().now();
        let replayed = store.replay(*id, force, yes, now).await.map_err(|error| {
            Failure::new(Exit::Later, error.to_string()).hint("those before it were done; go on with this one")
        })?;
        let done = matches!(replayed, Replay::Would { .. } | Replay::Queued { .. });
        let text = match replayed {
            Replay::Would { state, at } => {
                format!(
                    "would be sent; afterwards WeChat Pay holds the car as {state} since {}. Add --yes to do it",
                    clock(at)
                )
            }
            Replay::Queued { state, at } => format!(
                "waits for its turn; WeChat Pay will hold the car as {state} since {}",
                clock(at)
            ),
            Replay::TurnsBack { told, told_at } => format!(
                "not sent: WeChat Pay already holds the car as {told} since {}, which is newer. Add --force to turn the present back",
                clock(told_at)
            ),
            Replay::NotOpen { status } => {
                format!("not sent: it is {status}, and only dead or held messages are sent again")
            }
            Replay::NoMember => "not sent: the plate is not bound to the member any more".to_owned(),
            Replay::Unknown => "there is no such message".to_owned(),
        };
        if !done {
            exit = Exit::Partly;
        }
        writeln!(out, "{id}: {text}")?;
    }
    Ok(exit)
}

fn write_entry(out: &mut impl Write, entry: &Entry, now: jiff::Timestamp) -> std::io::Result<()> {
    let standing = standing(entry.id, &entry.place, now);
    let Entry {
        id,
        circle,
        openid,
        plate,
        state,
        at,
        enqueued_at,
        ..
    } = entry;
    writeln!(
        out,
        "{id}  {circle}  {openid}  {plate} {state} {}  (since {})",
        clock(*at),
        clock(*enqueued_at)
    )?;
    writeln!(out, "    why:  {}", standing.why)?;
    writeln!(out, "    next: {}", standing.next)
}

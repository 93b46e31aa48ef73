//! `parksync rehearse`: a mall's own days, from a file of gate events, against the sandbox, and what came of them.
//!
//! It runs on the stage of the demo: the real service, a clock that is moved by hand, the sandbox over TLS. What WeChat Pay has
//! to hold in the end is worked out in `truth` from the file alone.

#![expect(
    clippy::disallowed_methods,
    reason = "a rehearsal measures, and has to lie before today"
)]

mod player;
mod report;
mod roll;
mod table;
mod trace;
mod truth;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use crate::cli::{Exit, Failure};
use crate::config::Zone;
use crate::demo::progress::Progress;
use crate::demo::stage::Stage;
use crate::demo::told::Told;
use crate::domain::presence::Policy;
use player::Player;
use report::Report;
use roll::Roll;
use table::Table;
use trace::Trace;

/// Bad lines that are printed one by one.
const BAD_LINES_SHOWN: usize = 1000;
/// The sandbox forgets older calls than so many, and the end of a car could be among them.
const MOST_CALLS: usize = 1_000_000;

/// Arguments of `rehearse`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 no final state is wrong, 1 some are, 2 the file cannot be used, 6 bad lines were left out and the rest is right.\nHow to get such a file out of a lot system: docs/rehearse.md"
)]
pub struct RehearseArgs {
    /// The events: CSV in UTF-8 with the columns received, record_id, lane, state, plate, time
    trace: PathBuf,
    /// So many times as fast as it happened, or max
    #[arg(long, default_value = "600")]
    speed: Speed,
    /// The share of the plates that belong to members
    #[arg(long, default_value_t = 0.3, value_parser = share, conflicts_with = "members")]
    members_share: f64,
    /// The members instead: CSV with the columns openid, plate
    #[arg(long, value_name = "FILE.csv")]
    members: Option<PathBuf>,
    /// Another number makes others members
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The zone of times that name none
    #[arg(long, default_value = "+08:00")]
    zone: Zone,
    /// Print the numbers as JSON
    #[arg(long)]
    json: bool,
}

/// How fast a trace is played.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.parse().ok().filter(|times| (1.0..=1_000_000.0).contains(times));
        times
            .map(Self::Times)
            .ok_or("neither a number from 1 to 1000000 nor max")
    }
}

impl Speed {
    /// How long so much of the trace takes; `None`: as long as it takes.
    fn real_time(self, passed: SignedDuration) -> Option<Duration> {
        match self {
            Self::Times(times) => Some(Duration::try_from(passed).ok()?.div_f64(times)),
            Self::Max => None,
        }
    }
}

fn share(text: &str) -> Result<f64, &'static str> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or("not between 0 and 1")
}

/// Plays the trace and reports.
pub(crate) async fn run(arguments: &RehearseArgs) -> Result<Exit, Failure> {
    let zone = arguments.zone.time_zone();
    let trace = Trace::read(&Table::open(&arguments.trace)?, &zone, Timestamp::now())?;
    tell_bad(&arguments.trace, &trace.bad);
    let Some(first) = trace.events.first() else {
        return Err(Failure::new(Exit::Usage, "the trace holds no event that can be played"));
    };
    let roll = match &arguments.members {
        Some(file) => {
            let roll = Roll::read(&Table::open(file)?)?;
            tell_bad(file, &roll.bad);
            roll
        }
        None => Roll::share(&trace.cars(), arguments.members_share, arguments.seed),
    };
    // stdout is for what came out, when a program reads it.
    let mut talk: Box<dyn Write> = if arguments.json {
        Box::new(std::io::stderr())
    } else {
        Box::new(std::io::stdout())
    };
    writeln!(
        talk,
        "Parksync rehearsal: your gates' events against the sandbox. 用您自己的过车记录演练。\n"
    )?;
    if trace.shifted_days != 0 {
        writeln!(
            talk,
            "  The trace does not lie within the last year: all its times are moved by {} days, so that it ends yesterday.\n",
            trace.shifted_days
        )?;
    }
    let stage = Stage::set(
        |written| settings(written, &trace),
        first.received - SignedDuration::from_secs(60),
    )
    .await?;
    stage.introduce(&mut talk)?;
    stage.import_members(&roll.csv()).await?;
    writeln!(
        talk,
        "  members 会员   {}, with {} of the trace's {} plates\n",
        roll.members(),
        roll.cars().intersection(&trace.cars()).count(),
        trace.cars().len()
    )?;
    let began = Instant::now();
    let progress = Progress::new(trace.events.len(), "%m-%d %H:%M");
    let ledger = stage.sandbox.ledger();
    let acknowledged = Player::new(&stage, &trace)
        .play(arguments.speed, |at, done| progress.show(at, done, ledger.accepted()))
        .await?;
    stage
        .drain(|| progress.show(stage.clock.now(), usize::MAX, ledger.accepted()))
        .await?;
    progress.finish();
    let took = began.elapsed();
    if ledger.accepted() > MOST_CALLS {
        return Err(
            Failure::new(Exit::Usage, format!("more than {MOST_CALLS} calls cannot be checked"))
                .hint("rehearse a few days at a time, or with fewer members"),
        );
    }
    let told = Told::read(&ledger, &acknowledged);
    let counted = stage.counters().await?;
    stage.close().await;
    let newest = truth::newest(&trace.events, &Policy::default());
    let wrong = truth::compare(&newest, &roll, &told.states);
    let report = Report::new(&trace, &roll, &told, &counted, &wrong, &zone, took);
    if arguments.json {
        let line = serde_json::to_string(&report)
            .map_err(|error| Failure::new(Exit::Unexpected, "cannot write JSON").cause(error.to_string()))?;
        writeln!(std::io::stdout(), "{line}")?;
    } else {
        report.print(&mut talk)?;
    }
    Ok(if !wrong.is_empty() {
        Exit::Unexpected
    } else if trace.bad.is_empty() && roll.bad.is_empty() {
        Exit::Done
    } else {
        Exit::Partly
    })
}

fn tell_bad(file: &std::path::Path, bad: &[(u64, String)]) {
    for (line, why) in bad.iter().take(BAD_LINES_SHOWN) {
        eprintln!("{}: line {line}: {why}", file.display());
    }
    if bad.len() > BAD_LINES_SHOWN {
        eprintln!("… and {} more bad lines", bad.len() - BAD_LINES_SHOWN);
    }
}

/// The sandbox's settings know one lot; the trace has its own. Each event says its direction and the offset of its time.
fn settings(written: &str, trace: &Trace) -> String {
    let mut text = written.to_owned();
    let lots: BTreeSet<usize> = trace.lanes.iter().map(|lane| trace.lot_of(lane)).collect();
    for lot in lots {
        let _ = write!(text, "\n[[lot]]\nid = \"L{lot}\"\ncircle = \"demo-mall\"\n");
    }
    for (number, lane) in trace.lanes.iter().enumerate() {
        let lot = trace.lot_of(lane);
        let _ = write!(
            text,
            "\n[[gate]]\nlot = \"L{lot}\"\nid = \"G{number}\"\nformat = \"generic\"\n"
        );
    }
    // The clock stands still between events, and so would a rate.
    text.push_str("\n[delivery]\ncalls_per_second = 100000.0\nrequest_timeout_ms = 10000\n");
    text
}

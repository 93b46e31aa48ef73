//! `parksync demo`: a Saturday of a busy mall, compressed, against the sandbox, and an audit of every call.
//!
//! The real service runs here, on its own port, with a clock that is moved by hand; the real sandbox answers it over TLS. The day
//! and its truth are made in `day`; nothing of the service is asked what it thinks the truth is.

#![expect(
    clippy::disallowed_methods,
    reason = "the demo measures, and its day lies before today"
)]

mod audit;
mod day;
mod messages;
mod player;
mod samples;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use wechatpay_sandbox::{Fault, FaultPlan, Sandbox};

use crate::cli::{Exit, Failure, members};
use crate::clock::Clock;
use crate::config;
use crate::service::Service;
use crate::store::Counter;
use day::Day;
use player::Player;

/// How long the outbox may take to empty after the last car.
const DRAIN: Duration = Duration::from_secs(60);

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0 means: the sandbox holds exactly what the day's truth says, for every member.")]
pub struct DemoArgs {
    /// Cars that come that day
    #[arg(long, default_value_t = 2500, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    cars: u32,
    /// Another number is another day; the same number is the same day again
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Let the sandbox behave: no faults
    #[arg(long)]
    polite: bool,
}

/// Plays the day and audits it.
pub(crate) async fn run(arguments: &DemoArgs) -> Result<Exit, Failure> {
    let broken = |what: &'static str| {
        move |error: &dyn std::fmt::Display| Failure::new(Exit::Unexpected, what).cause(error.to_string())
    };
    let mut out = std::io::stdout();
    writeln!(
        out,
        "Parksync demo: one Saturday of a mall, in under a minute. 商场的一个周六，一分钟内演完。\n"
    )?;
    let day = Day::new(arguments.seed, arguments.cars);
    let sandbox = Sandbox::start()
        .await
        .map_err(|error| broken("the sandbox does not start")(&error))?;
    let folder = tempfile::tempdir()?;
    let written = sandbox
        .write_folder(folder.path())
        .map_err(|error| broken("cannot write the demo's folder")(&error))?;
    std::fs::write(&written.config, settings(&std::fs::read_to_string(&written.config)?))?;
    std::fs::write(folder.path().join("members.csv"), day.members_csv())?;
    let config = config::load(&written.config, std::iter::empty())
        .map_err(|error| broken("the demo's settings are wrong")(&error))?;
    let clock = Clock::by_hand(day.opens_at());
    let service = Service::start(&config, clock.clone())
        .await
        .map_err(|error| broken("the service does not start")(&error))?;
    writeln!(
        out,
        "  sandbox 沙箱   {}  (its own CA; WeChat Pay's checks, refusals and signatures)",
        sandbox.base_url()
    )?;
    writeln!(
        out,
        "  service 服务   http://{}  (SQLite in {})",
        service.address(),
        folder.path().display()
    )?;

    let imported = members::import_file(&config, service.store(), &folder.path().join("members.csv"), None).await?;
    writeln!(
        out,
        "  members 会员   {} plates bound, imported from members.csv\n",
        imported.added
    )?;

    let gate_key = config::read_secret(&written.gate_key).map_err(|error| broken("no gate key")(&error))?;
    let admin_key = config::read_secret(&written.admin_key).map_err(|error| broken("no admin key")(&error))?;
    let player = Player::new(service.address(), gate_key, admin_key);
    samples::play(&player, &mut out).await?;

    if !arguments.polite {
        sandbox.faults().plan(rude(arguments.seed));
        writeln!(
            out,
            "From now on the sandbox misbehaves: 5xx, 429, resets, lost answers, signature probes. 沙箱开始捣乱。\n"
        )?;
    }
    let before = counters(&service).await?;
    let began = Instant::now();
    let progress = Progress::new(day.steps().len());
    let acknowledged = player
        .play(&day, &clock, |at, done| {
            progress.show(at, done, sandbox.ledger().accepted())
        })
        .await?;
    drain(&service, &clock, &progress, &sandbox).await?;
    progress.finish();
    let took = began.elapsed();
    let counters = since(counters(&service).await?, &before);
    let audit = audit::audit(&day, &sandbox.ledger(), &acknowledged);
    service.stop().await;
    audit.print(&mut out, &day, &counters, took)?;
    sandbox.stop();
    Ok(if audit.passed() { Exit::Done } else { Exit::Unexpected })
}

/// The sandbox's settings know one lot; the demo's mall has three, each with another vendor.
fn settings(written: &str) -> String {
    let mut text = written.replace("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:0\"");
    for gate in day::GATES
        .iter()
        .filter(|gate| !(gate.lot == "P1" && ["E1", "X1"].contains(&gate.id)))
    {
        text.push_str(&format!(
            "\n[[gate]]\nlot = \"{}\"\nid = \"{}\"\nformat = \"{}\"\ndirection = \"{}\"\n",
            gate.lot,
            gate.id,
            gate.format,
            gate.state.as_str().to_lowercase()
        ));
    }
    for lot in ["P2", "P3"] {
        text.push_str(&format!(
            "\n[[lot]]\nid = \"{lot}\"\ncircle = \"demo-mall\"\nzone = \"+08:00\"\n"
        ));
    }
    text.push_str("\n[delivery]\nrequest_timeout_ms = 3000\n");
    text
}

fn rude(seed: u64) -> FaultPlan {
    FaultPlan::seeded(seed)
        .with(Fault::SystemError, 0.01)
        .with(Fault::Unavailable, 0.005)
        .with(Fault::RateLimited { retry_after_s: Some(1) }, 0.005)
        .with(Fault::ResetBeforeCommit, 0.005)
        .with(Fault::DropReplyAfterCommit, 0.01)
        .with(Fault::Unsigned, 0.003)
        .with(Fault::SignatureProbe, 0.003)
}

/// Lets time go on until nothing waits any more.
async fn drain(service: &Service, clock: &Clock, progress: &Progress, sandbox: &Sandbox) -> Result<(), Failure> {
    let end = Instant::now() + DRAIN;
    while Instant::now() < end {
        let waiting: i64 = counters(service)
            .await?
            .iter()
            .filter(|counter| counter.name == "waiting")
            .map(|counter| counter.value)
            .sum();
        if waiting == 0 {
            return Ok(());
        }
        clock.set(clock.now() + SignedDuration::from_secs(10));
        progress.show(clock.now(), usize::MAX, sandbox.ledger().accepted());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn counters(service: &Service) -> Result<Vec<Counter>, Failure> {
    let counters = service.store().counters().await;
    counters.map_err(|error| Failure::new(Exit::Unexpected, "the counters cannot be read").cause(error.to_string()))
}

/// What was counted since.
fn since(now: Vec<Counter>, before: &[Counter]) -> Vec<Counter> {
    let was = |counter: &Counter| {
        let same = before
            .iter()
            .find(|old| (&old.name, &old.scope, &old.word) == (&counter.name, &counter.scope, &counter.word));
        same.map_or(0, |old| old.value)
    };
    now.into_iter()
        .map(|counter| Counter {
            value: counter.value - was(&counter),
            ..counter
        })
        .collect()
}

/// Where the day stands: a bar for people, a line now and then for everything else.
struct Progress {
    bar: ProgressBar,
    lines: Option<std::cell::Cell<Instant>>,
}

impl Progress {
    fn new(steps: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("  {prefix} {bar:32} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            lines: (!terminal).then(|| std::cell::Cell::new(Instant::now())),
        }
    }

    fn show(&self, at: Timestamp, done: usize, delivered: usize) {
        let done = (done as u64).min(self.bar.length().unwrap_or(u64::MAX));
        let time = at
            .to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(8)))
            .strftime("%H:%M")
            .to_string();
        if let Some(last) = &self.lines {
            if last.get().elapsed() > Duration::from_secs(3) {
                last.set(Instant::now());
                eprintln!("  {time}  {done} messages in, {delivered} calls out");
            }
            return;
        }
        self.bar.set_prefix(time);
        self.bar.set_position(done);
        self.bar
            .set_message(format!("{done} messages in, {delivered} calls out"));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

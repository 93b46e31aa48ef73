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
pub(crate) mod dice;
mod messages;
mod player;
pub(crate) mod poster;
pub(crate) mod progress;
pub(crate) mod rows;
mod samples;
pub(crate) mod stage;
pub(crate) mod told;

use std::io::Write;
use std::time::Instant;

use clap::Args;
use wechatpay_sandbox::{Fault, FaultPlan};

use crate::cli::{Exit, Failure};
use day::Day;
use player::Player;
use progress::Progress;
use stage::Stage;
use told::Told;

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
    let mut out = std::io::stdout();
    writeln!(
        out,
        "Parksync demo: one Saturday of a mall, in under a minute. 商场的一个周六，一分钟内演完。\n"
    )?;
    let day = Day::new(arguments.seed, arguments.cars);
    let stage = Stage::set(settings, day.opens_at()).await?;
    stage.introduce(&mut out)?;
    let bound = stage.import_members(&day.members_csv()).await?;
    writeln!(
        out,
        "  members 会员   {bound} plates bound, imported from members.csv\n"
    )?;
    samples::play(&stage.poster, &mut out).await?;

    if !arguments.polite {
        stage.sandbox.faults().plan(rude(arguments.seed));
        writeln!(
            out,
            "From now on the sandbox misbehaves: 5xx, 429, resets, lost answers, signature probes. 沙箱开始捣乱。\n"
        )?;
    }
    let before = stage.counters().await?;
    let began = Instant::now();
    let progress = Progress::new(day.steps().len(), "%H:%M");
    let ledger = stage.sandbox.ledger();
    let acknowledged = Player::new(stage.poster.clone())
        .play(&day, &stage.clock, |at, done| {
            progress.show(at, done, ledger.accepted())
        })
        .await?;
    stage
        .drain(|| progress.show(stage.clock.now(), usize::MAX, ledger.accepted()))
        .await?;
    progress.finish();
    let took = began.elapsed();
    let counted = stage.counters().await?.since(&before);
    let audit = audit::audit(&day, Told::read(&ledger, &acknowledged));
    stage.close().await;
    audit.print(&mut out, &day, &counted, took)?;
    Ok(if audit.passed() { Exit::Done } else { Exit::Unexpected })
}

/// The sandbox's settings know one lot; the demo's mall has three, each with another vendor.
fn settings(written: &str) -> String {
    let mut text = written.to_owned();
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

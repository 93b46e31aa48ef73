//! The simulation: the real domain, worker and store in a seeded world of bad gates, a moody WeChat Pay and a dying process, in
//! virtual time. `cargo xtask sim` runs it; so does every test run.
//!
//! ```text
//! sim                       200 seeds, then every broken promise
//! sim --seeds 10000         that many seeds, from --from (default 1)
//! sim --seed 4711           one seed alone, told as it happens
//! sim --sabotage NoMerge    only that promise, broken
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the simulation panics, measures, starts tasks and prints"
)]

mod claims;
mod gates;
mod ice;
mod machine;
mod run;
mod seed;
mod trouble;
mod truth;
mod wechat;
mod wire;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use parksync::sabotage::{self, Sabotage};

/// How long a broken promise may stay unnoticed.
const CATCH_WITHIN: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str| value(name).map(|text| text.parse::<u64>().unwrap());
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = number("--seed") {
        return one(seed, value("--sabotage").as_deref());
    }
    let only_sabotage = value("--sabotage");
    let passed = only_sabotage.is_some() || seeds(number("--from").unwrap_or(1), number("--seeds").unwrap_or(200));
    let caught = number("--seeds").is_some() || broken_promises(only_sabotage.as_deref());
    println!("test result: {}.", if passed && caught { "ok" } else { "FAILED" });
    if passed && caught {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn one(seed: u64, sabotage: Option<&str>) -> ExitCode {
    sabotage::set(sabotage.and_then(|name| Sabotage::ALL.into_iter().find(|known| format!("{known:?}") == name)));
    let report = seed::seed(seed, true);
    println!("{report:#?}");
    if report.wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs seeds on all cores; the first wrong one is told with its number.
fn seeds(from: u64, count: u64) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let began = Instant::now();
    let reports: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|core| {
                scope.spawn(move || {
                    let mut total = seed::Report::default();
                    for seed in (from + core..from + count).step_by(usize::try_from(cores).unwrap()) {
                        let report = seed::seed(seed, false);
                        total.add(&report);
                        if !total.wrong.is_empty() {
                            break;
                        }
                    }
                    total
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut total = seed::Report::default();
    reports.iter().for_each(|report| total.add(report));
    for wrong in &total.wrong {
        println!("WRONG {wrong}");
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "simulation: {} seeds in {took:.1} s ({:.0} a minute): {} events, {} calls, {} repeats, {} crashes; {} of the seeds \
         with several nodes: {} claims lost, {} calls too late",
        total.seeds,
        total.seeds as f64 / took * 60.0,
        total.events,
        total.calls,
        total.repeats,
        total.crashes,
        total.shared,
        total.lost_claims,
        total.late
    );
    total.wrong.is_empty()
}

/// Breaks each promise; the simulation must notice it soon.
fn broken_promises(only: Option<&str>) -> bool {
    let mut all = true;
    for broken in Sabotage::ALL
        .into_iter()
        .filter(|broken| only.is_none_or(|only| format!("{broken:?}") == only))
    {
        let began = Instant::now();
        sabotage::set(Some(broken));
        let (mut seed, mut tried) = (0, 0);
        let noticed = loop {
            seed += 1;
            if broken.is_of_nodes() && !seed::has_several(seed) {
                continue;
            }
            tried += 1;
            if let Some(wrong) = seed::seed(seed, false).wrong.into_iter().next() {
                break Some(wrong);
            }
            if began.elapsed() > CATCH_WITHIN {
                break None;
            }
        };
        sabotage::set(None);
        match noticed {
            Some(wrong) => println!("broken promise {broken:?}: noticed after {tried} seeds: {wrong}"),
            None => {
                println!(
                    "broken promise {broken:?}: NOT NOTICED within {} s ({tried} seeds)",
                    CATCH_WITHIN.as_secs()
                );
                all = false;
            }
        }
    }
    all
}

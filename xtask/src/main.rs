//! The one tool besides cargo: `cargo xtask COMMAND`.
//!
//! Reads the command and hands over; `run` starts programs, `tidy` checks the house rules. It depends on next to
//! nothing, so that it is built in a second on a machine that has built nothing yet.

#![expect(clippy::print_stdout, reason = "it talks to a person at a terminal")]

mod hooks;
mod packages;
mod run;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;

use run::{Step, repository};

const HELP: &str = "\
cargo xtask demo [ARGS]   build and run `parksync demo`
cargo xtask test [ARGS]   run all tests of all crates
cargo xtask sim [ARGS]    run the simulation: `--seeds N`, `--seed N`, `--sabotage NAME`
cargo xtask check         formatting, lints, documentation, house rules
cargo xtask tidy          house rules alone
cargo xtask hooks         install a pre-commit hook with the quick half of `check`
";

/// What tests need beyond the defaults: promises that can be broken, and all that the SDK can do.
const TEST_FEATURES: &str = "parksync/sabotage,wechatpay-apiv3/gm,wechatpay-apiv3/p12,wechatpay-sandbox/gm";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match (command.as_str(), rest.is_empty()) {
        ("demo", _) => demo(rest),
        ("test", _) => test(rest),
        ("sim", _) => simulate(rest),
        ("check", true) => check(),
        ("tidy", true) => tidy_up(),
        ("hooks", true) => hooks::install(&repository()),
        ("help" | "--help" | "-h", _) => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("error: no such command\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The dev profile, because it is the quickest build from nothing; the demo measures itself, not the optimiser.
fn demo(arguments: Vec<String>) -> Result<ExitCode> {
    packages::need("cc")?;
    eprintln!("Building parksync, then running `parksync demo`. The first build takes a few minutes.");
    Step::cargo([
        "run",
        "--locked",
        "--package",
        "parksync",
        "--bin",
        "parksync",
        "--",
        "demo",
    ])
    .arguments(arguments)
    .become_it()
}

fn test(arguments: Vec<String>) -> Result<ExitCode> {
    packages::need("cc")?;
    // Foreign SDKs, which the tests install by name into `target/`; a server that nobody here wrote, for reloads under load;
    // what runs the examples in seven languages; a browser that looks at the sandbox's page; the database of several nodes.
    for program in [
        "npm", "pip3", "nginx", "curl", "openssl", "php", "go", "javac", "chromium", "postgres",
    ] {
        packages::need(program)?;
    }
    Step::cargo(["test", "--workspace", "--locked", "--features", TEST_FEATURES])
        .arguments(arguments)
        .become_it()
}

/// Optimised, since a long simulation is for many seeds.
fn simulate(arguments: Vec<String>) -> Result<ExitCode> {
    packages::need("cc")?;
    Step::cargo([
        "test",
        "--locked",
        "--release",
        "--package",
        "parksync",
        "--features",
        "sabotage",
        "--test",
        "sim",
        "--",
    ])
    .arguments(arguments)
    .become_it()
}

fn check() -> Result<ExitCode> {
    let mut failed = Vec::new();
    if tidy_up()? != ExitCode::SUCCESS {
        failed.push("tidy");
    }
    for (name, step) in [
        ("fmt", Step::cargo(["fmt", "--all", "--check"])),
        (
            "clippy",
            Step::cargo([
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ]),
        ),
        (
            "doc",
            Step::cargo(["doc", "--workspace", "--no-deps", "--locked"]).with("RUSTDOCFLAGS", "-D warnings"),
        ),
    ] {
        if !step.succeeds()? {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("check: tidy, fmt, clippy and doc are clean");
        return Ok(ExitCode::SUCCESS);
    }
    println!("check failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn tidy_up() -> Result<ExitCode> {
    eprintln!("$ tidy");
    let found = tidy::repository(&repository())?;
    found.iter().for_each(|finding| println!("{finding}"));
    let broken = found.iter().filter(|finding| finding.breaks_a_rule).count();
    println!("tidy: {broken} broken rules, {} notes", found.len() - broken);
    Ok(if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

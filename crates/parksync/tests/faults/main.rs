//! What was acknowledged outlives the process, the disk and the power: shown by breaking each.
//!
//! The service is the real process, WeChat Pay the sandbox. `PARKSYNC_KILLS=1000` makes the long run. Loop mounts need root; without
//! it those tests say that they are skipped.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, measure, start tasks, and print what they saw"
)]

#[expect(dead_code, reason = "the other half is for several nodes")]
mod app;
#[expect(dead_code, reason = "the other half is for several nodes")]
mod audit;
mod cuts;
mod disk;
mod kills;
mod mount;
#[path = "../support/port.rs"]
mod port;
mod senders;

//! Several nodes on one PostgreSQL: nodes that are killed, put to sleep and stopped, and a database in trouble, under load.
//!
//! Nodes are real processes, the database is Debian's on a real disk, WeChat Pay is the sandbox. `PARKSYNC_CYCLES=1000`,
//! `PARKSYNC_FAILOVERS=50` and `PARKSYNC_TAKEOVERS=30` make the long runs.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, measure, start tasks, and print what they saw"
)]

#[expect(dead_code, reason = "the other half is for one node on SQLite")]
#[path = "../faults/app.rs"]
mod app;
#[expect(dead_code, reason = "the other half is for one node on SQLite")]
#[path = "../faults/audit.rs"]
mod audit;
mod chaos;
mod failover;
#[expect(dead_code, reason = "a disk here only becomes full")]
#[path = "../faults/mount.rs"]
mod mount;
mod nodes;
#[expect(dead_code, reason = "the shared server is for tests in one process")]
#[path = "../support/pg.rs"]
mod pg;
#[path = "../support/port.rs"]
mod port;
#[path = "../faults/senders.rs"]
mod senders;
mod servers;
mod takeover;
mod trouble;

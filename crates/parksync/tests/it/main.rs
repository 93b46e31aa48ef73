//! The real service against the real sandbox, the real binary, and one contract for every store.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, measure, and start tasks"
)]

mod app;
mod cli;
mod contract;
mod delivery;
mod intake;
mod kill;
mod late;
mod members;
mod nodes;
mod operator;
#[expect(
    dead_code,
    reason = "servers that are stopped and killed are for tests of several nodes"
)]
#[path = "../support/pg.rs"]
mod pg;
#[path = "../support/port.rs"]
mod port;
mod postgres;
mod rehearse;

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
mod members;
mod operator;
#[path = "../support/pg.rs"]
mod pg;
mod postgres;
mod rehearse;

//! The real service against the real sandbox, the real binary, and one contract for every store.

mod app;
mod cli;
mod contract;
mod delivery;
mod intake;
mod kill;
mod members;

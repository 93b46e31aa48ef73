//! Parksync: from gate message to verified WeChat Pay call.
//!
//! Modules in reading order; ARCHITECTURE.md tells how they meet.

pub mod cli;
pub mod clock;
pub mod config;
mod csv_lines;
pub mod delivery;
pub mod demo;
pub mod domain;
pub mod ingest;
pub mod limits;
pub mod metrics;
pub mod rehearse;
pub mod sabotage;
pub mod service;
pub mod store;
pub mod trace;
pub mod web;

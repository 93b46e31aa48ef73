//! Parksync: from gate message to verified WeChat Pay call.
//!
//! Modules in reading order; ARCHITECTURE.md tells how they meet.

pub mod domain;
pub mod ingest;
pub mod store;
pub mod delivery;
pub mod web;
pub mod service;
pub mod config;
pub mod limits;
pub mod clock;
pub mod metrics;
pub mod demo;
pub mod cli;

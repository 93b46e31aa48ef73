//! Parksync: from gate message to verified WeChat Pay call.
//!
//! Modules in reading order; ARCHITECTURE.md tells how they meet.

pub mod domain;
pub mod ingest;

//! The sandbox over real TLS, seen by a client that shares no code with it.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod authentication;
mod callback_trouble;
mod callbacks;
mod circle;
mod client;
mod control;
mod faults;
mod folder;
mod keys;
mod life;
mod parkings;
#[cfg(unix)]
mod program;
mod reminders;
mod shop;
mod vehicle;

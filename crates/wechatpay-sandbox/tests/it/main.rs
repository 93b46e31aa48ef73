//! The sandbox over real TLS, seen by a client that shares no code with it.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod authentication;
#[cfg(unix)]
mod browser;
mod callback_trouble;
mod callbacks;
mod circle;
mod client;
mod control;
mod faults;
mod folder;
mod keys;
mod life;
#[cfg(unix)]
mod page;
mod parkings;
#[cfg(unix)]
mod program;
mod reminders;
mod shop;
mod vehicle;

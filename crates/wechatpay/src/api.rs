//! Typed calls on top of the clients: fields with names, checked before anything is sent.
//!
//! Lives here: one file per product. Does not live here: signing and sending.

pub mod business_circle;
mod calls;
pub mod certificates;
pub mod fields;
pub mod notifications;
pub mod reminders;
pub mod security;
pub mod vehicle;

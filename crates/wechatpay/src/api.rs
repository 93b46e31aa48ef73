//! Typed calls on top of the clients: fields with names, checked before anything is sent.
//!
//! Lives here: one file per product. Does not live here: signing and sending.

pub mod business_circle;
pub mod certificates;

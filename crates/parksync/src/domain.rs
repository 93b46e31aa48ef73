//! The thinking of the service: what a gate event means and what becomes of a delivery.
//!
//! Pure: no I/O, no clock, no async. Time comes in as an argument. Every other room may import this one; it imports none.

pub mod clockwatch;
pub mod delivery;
pub mod gate;
pub mod lease;
pub mod member;
pub mod plate;
pub mod presence;
pub mod rate;
pub mod story;

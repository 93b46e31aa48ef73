//! One file per endpoint: what it accepts, in which order it refuses, what it remembers.
//!
//! An endpoint sees an authenticated body and knows nothing of HTTP, signatures or faults. Called by `platform.rs`.

pub(crate) mod parkings;

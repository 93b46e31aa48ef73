//! From the outbox to WeChat Pay: claim due lanes, make the call, settle the outcome.

pub mod courier;
pub mod janitor;
pub mod worker;

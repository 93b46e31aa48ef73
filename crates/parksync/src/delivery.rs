//! From the outbox to WeChat Pay: claim due lanes, make the call, settle the outcome.

mod calls;
pub mod courier;
pub mod janitor;
pub mod node;
pub mod rates;
pub mod worker;

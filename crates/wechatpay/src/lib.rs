//! WeChat Pay APIv3 (微信支付) for Rust: every endpoint in six calling styles, signed and verified.
//!
//! ```no_run
//! use serde_json::json;
//! use wechatpay::{Client, Merchant, MerchantKey, PlatformKeys};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let key = MerchantKey::from_pem(std::fs::read("apiclient_key.pem")?)?;
//! let merchant = Merchant::new("1900000109", "5157F09EFDC096DE15EBE81A47057A7232F1B8E1", key);
//! let platform = PlatformKeys::new()
//!     .with_public_key("PUB_KEY_ID_0119000001092024101100397200000006", std::fs::read("pub_key.pem")?)?;
//! let client = Client::builder(merchant, platform).build()?;
//!
//! let state = json!({
//!     "brandid": 1000, "appid": "wx931386123456789e", "openid": "oUpF8uMuAJOM2pxb1Q",
//!     "plate_number": "粤B888888", "state": "IN", "time": "2022-06-01T10:43:39+08:00",
//! });
//! client.v3().businesscircle().parkings().post(&state).await?; // pure chain (纯链式)
//! client.chain("v3/businesscircle/parkings").post(&state).await?; // declared (声明式)
//! client["v3/businesscircle/parkings"].post(&state).await?; // indexed (属性式)
//! # Ok(())
//! # }
//! ```
//!
//! The same three work on [`blocking::Client`] without `.await`.
//!
//! # Guide
//!
//! **Endpoints.** Write the path as the documentation does. Path variables are named and bound:
//! `client.chain("v3/businesscircle/user-authorizations/{openid}").bind("openid", id).query("appid", appid).get()`. The
//! pure chain has methods for the business circle, vehicle parking and parking reminders; `.seg("…")` reaches the rest.
//! `client["…"]` takes text of the program only, so that what it keeps is bounded. All verbs are there, headers are
//! [per call](Call::header), files go up with [`upload`](Call::upload) and come down with [`download`](Call::download).
//!
//! **Bodies** are anything `Serialize`: `json!({…})` with the documentation's own fields, or the typed requests in
//! [`api`], whose fields are checked before sending. `null` and emoji are refused, because APIv3 refuses them.
//!
//! **Typed calls.** [`Client::business_circle`], [`Client::vehicle_parking`], [`Client::parking_reminders`] and
//! [`Client::security`], with the same on the blocking client. Enums keep words that this version does not know; a
//! [`FieldError`] names the field; texts about people are [`Personal`], which logs cannot show.
//!
//! **Answers.** A success is believed only when its signature checks out; [`Response::json`] reads it. A refusal is
//! [`Error::Api`] and says with `verified` whether it was signed. Files are not signed: they are believed by the
//! [`Digest`] that a signed answer gave, on the routes where that is asked for, and nowhere else.
//!
//! **Errors.** [`Error::retry`] says whether to try again, [`Error::is_ambiguous`] whether WeChat Pay may have acted all
//! the same, [`Chain`] prints one with its causes, the difference of the clocks among them.
//!
//! **Repeats.** Without being told to, only a call that is safe to repeat by its content (a GET, a parking state, a call
//! marked [`repeatable`](Call::repeatable)) is repeated, and only when its connection closed before any byte of the
//! answer. A [`RetryPolicy`] does more.
//!
//! **Keys.** [`PlatformKeys`] holds the WeChat Pay public key and any number of platform certificates side by side; the
//! answer's `Wechatpay-Serial` chooses. [`Platform::fetched`] fetches certificates and rotates them by itself. Merchant
//! keys come from PEM or, with the feature `p12`, from the `.p12` file; the serial can be read from the
//! [certificate](Merchant::from_certificate). Private keys are wiped when dropped, and no `Debug` shows them.
//!
//! **Notifications.** [`Client::open_notification`] verifies and opens, [`Notification::event`](notify::Notification::event)
//! types, [`notify::accepted`] acknowledges. See [`notify`].
//!
//! **Payments** are opened on the user's side with values signed by [`Merchant::jsapi_payment`] and
//! [`Merchant::app_payment`].
//!
//! **Domains.** The backup domain takes over while no connection to the main one can be made; see
//! [`ClientBuilder::backup_url`]. Processes that share a merchant can share the choice: [`Client::domain`], [`Client::use_domain`].
//!
//! **Bounds.** Calls in flight, waiting time, connecting, answering, the whole call and the size of an answer are bounded;
//! see [`ClientBuilder`]. The check of the server's certificate has no switch.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `p12` | no | [`Merchant`]`::from_p12`: key and serial from `apiclient_cert.p12` |
//! | `gm` | no | `gm`: the SM algorithms (国密), never audited, see there what was checked |
//!
//! Rust 1.95 or later. One crypto library (`aws-lc-rs`) signs, seals and speaks TLS. The operating system's root
//! certificates are trusted.

#![warn(missing_docs)]

mod call;
mod certificate;
mod certificate_list;
mod client;
mod error;
mod failover;
mod indexed;
mod keys;
mod merchant;
mod pem;
mod platform;
mod platform_keys;
mod request;
mod response;
mod retry;
mod route;
mod transport;
mod upload;

pub mod api;
pub mod blocking;
pub mod chain;
#[cfg(feature = "gm")]
pub mod gm;
pub mod notify;
pub mod pay;
pub mod seal;
pub mod sign;
pub mod verify;

pub use api::business_circle::{BusinessCircle, ParkingState, ParkingStateKind};
pub use api::fields::{FieldError, Personal};
pub use call::Call;
pub use certificate::Certificate;
pub use certificate_list::PlatformError;
pub use client::{Client, ClientBuilder, Sender, Sending};
pub use error::{BoxError, Chain, ClockSkew, Detail, Error, Retry, TransportError};
pub use failover::Domain;
pub use keys::{ApiV3Key, KeyError, MerchantKey};
pub use merchant::Merchant;
pub use platform::Platform;
pub use platform_keys::{PlatformKey, PlatformKeys};
pub use request::{BodyError, Request};
pub use response::Response;
pub use retry::RetryPolicy;
pub use route::{Route, RouteError};
pub use seal::{Digest, SealError};
pub use transport::{Exchange, FreshConnection, Transport};
pub use upload::Upload;
pub use verify::VerifyError;

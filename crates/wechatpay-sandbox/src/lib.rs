//! WeChat Pay APIv3 on your desk: refuses what the real one refuses, and misbehaves as it does.
//!
//! WeChat Pay has no sandbox for the business circle (智慧商圈). This one checks requests as the real platform does, in its
//! order, answers with the documented status, code and message, and signs its answers. Where the real behaviour is
//! unknown, a setting or a named default decides, and its documentation says that it is unknown.
//!
//! ```
//! # async fn example() -> Result<(), wechatpay_sandbox::StartError> {
//! use wechatpay_sandbox::{Fault, Sandbox};
//!
//! let sandbox = Sandbox::start().await?;
//! let merchant = sandbox.merchant(); // ids and keys for the client under test
//! let base_url = sandbox.base_url(); // https://127.0.0.1:…, trusted through sandbox.ca_pem()
//! sandbox.faults().next(Fault::DropReplyAfterCommit);
//! // … the client makes a call, is cut off, and tries again …
//! assert_eq!(sandbox.ledger().parkings().len(), 2);
//! # Ok(()) }
//! ```
//!
//! It shares no code with the SDK: one misreading of the protocol must not pass its own test. Guards against use in
//! production: the keys die with the process, nothing is stored, every answer carries `X-Wechatpay-Sandbox`.
//!
//! Rooms, in reading order: `merchant` and `identity` ids and keys · `server` sockets · `platform` one request · `check` authentication ·
//! `endpoints` the business · `world` what it knows (`members`, `presence`, `payments`,
//! `mall`, `vehicles`, `reminders`) · `callbacks` and `push` what the merchant is told · `seal` signatures · `fault` misbehaviour · `ledger` what arrived ·
//! `control` the same by HTTP · `folder` files for a client.

mod answer_body;
mod builder;
mod callbacks;
mod check;
mod china;
mod clock;
mod control;
mod endpoints;
mod fault;
mod folder;
mod hint;
mod identity;
mod keyring;
mod ledger;
mod mall;
mod members;
mod merchant;
mod payments;
mod platform;
mod presence;
mod push;
mod refusal;
mod remedy;
mod reminders;
pub mod seal;
mod server;
mod tls;
mod vehicles;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;

pub use builder::Builder;
pub use callbacks::{
    Attempt, AuthorizationPlan, Callbacks, Event, Notification, PaymentAck, Progress, Trick, UrlError,
};
pub use check::{Authorization, CertificateState};
pub use clock::Clock;
pub use endpoints::commit_status::CommitStatusAnswer;
pub use fault::{Fault, FaultPlan, FaultRule, Faults, TlsFault};
pub use folder::{Folder, FolderError};
pub use identity::IdentityError;
pub use keyring::{CertificateEntry, KeyMode, PlatformKeys};
pub use ledger::{Answer, Call, Ledger, Parking};
pub use mall::MallState;
pub use members::{Authorized, Members};
pub use merchant::Merchant;
pub use payments::{Payment, Payments, Points, Purchase, Refund, RefundError, Submission, SubmitError, Untold};
pub use presence::{Presence, State};
pub use refusal::{Detail, Help, Refusal};
pub use reminders::{Application, Audit, ReminderAnswer, Reminders, Stay};
pub use vehicles::{Charge, ChargeFate, Entry, SETTLING, ServiceState, VehicleMerchant, Vehicles};

use platform::Platform;
use server::Server;

/// A running sandbox. Dropping it closes its ports.
pub struct Sandbox {
    platform: Arc<Platform>,
    _server: Server,
    base_url: String,
    http_url: String,
    control_url: Option<String>,
}

impl Sandbox {
    /// Starts a polite sandbox on free loopback ports.
    ///
    /// # Errors
    /// When a port cannot be opened or keys cannot be made.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// Settings first, then [`Builder::start`].
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The HTTPS address, as `https://127.0.0.1:PORT`. Trust [`ca_pem`](Self::ca_pem) to use it.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The plain HTTP address, as `http://127.0.0.1:PORT`.
    pub fn http_url(&self) -> &str {
        &self.http_url
    }

    /// The control port, as `http://127.0.0.1:PORT`, when there is one. See [`Builder::control`].
    pub fn control_url(&self) -> Option<&str> {
        self.control_url.as_deref()
    }

    /// The certificate authority behind [`base_url`](Self::base_url), PEM.
    pub fn ca_pem(&self) -> &str {
        &self.platform.world.identity.ca_pem
    }

    /// Ids and keys for the client under test.
    pub fn merchant(&self) -> &Merchant {
        &self.platform.world.identity.merchant
    }

    /// What arrived.
    pub fn ledger(&self) -> Ledger {
        self.platform.world.ledger.clone()
    }

    /// The platform's keys: rotation, shares, migration.
    pub fn platform(&self) -> PlatformKeys {
        self.platform.world.keys.clone()
    }

    /// Misbehaviour on purpose.
    pub fn faults(&self) -> Faults {
        self.platform.faults.clone()
    }

    /// Who is a member.
    pub fn members(&self) -> Members {
        self.platform.world.members.clone()
    }

    /// Payments in the mall's shops, and their points.
    pub fn payments(&self) -> Payments {
        self.platform.world.payments.clone()
    }

    /// Callbacks to the merchant's server.
    pub fn callbacks(&self) -> Callbacks {
        self.platform.world.callbacks.clone()
    }

    /// Pay-score parking: plates, cars inside, charges.
    pub fn vehicles(&self) -> Vehicles {
        self.platform.world.vehicles.clone()
    }

    /// Parking reminders: car parks under review, and stays.
    pub fn reminders(&self) -> Reminders {
        self.platform.world.reminders.clone()
    }

    /// The clocks: the wire's and the calendar's.
    pub fn clock(&self) -> Clock {
        self.platform.world.clock.clone()
    }

    /// Whether a parking state proves now, by the calendar, that this member is in the mall.
    pub fn is_present(&self, openid: &str) -> bool {
        let world = &self.platform.world;
        world.presences.is_present(openid, world.clock.now())
    }

    /// The last state per member and plate, in no order. [`Presence::ends_at`] says when it stops to count.
    pub fn presences(&self) -> Vec<Presence> {
        self.platform.world.presences.all()
    }

    /// Method and path of every endpoint, as `POST /v3/businesscircle/parkings`.
    pub fn endpoints() -> impl Iterator<Item = String> {
        endpoints::all().map(|(method, path)| format!("{method} {path}"))
    }

    /// Forgets members, payments, presences, callbacks, stays and faults. Keys, ledger and clocks stay.
    pub fn reset(&self) {
        self.platform.reset();
    }

    /// Sets the platform's clock this many seconds ahead of the machine's (negative: behind).
    pub fn set_clock_offset(&self, seconds: i64) {
        self.platform.world.clock.set_offset(seconds);
    }

    /// Changes what the platform finds for the brand.
    pub fn set_mall(&self, mall: MallState) {
        self.platform.world.lock_moods().mall = mall;
    }

    /// Changes how the platform sees the merchant's certificate.
    pub fn set_certificate(&self, certificate: CertificateState) {
        self.platform.world.lock_moods().certificate = certificate;
    }

    /// Closes the ports and cuts all connections. The ledger stays readable through its handles.
    pub fn stop(self) {
        drop(self);
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("base_url", &self.base_url)
            .field("ledger", &self.platform.world.ledger)
            .finish_non_exhaustive()
    }
}

/// A sandbox could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No keys or certificates.
    #[error("the sandbox has no keys")]
    Identity(#[from] IdentityError),
    /// TLS refused the certificate just made.
    #[error("the sandbox cannot offer TLS")]
    Tls(#[from] rustls::Error),
    /// Plain HTTP and the control port are for the loopback only: nothing there hides plates.
    #[error("plain HTTP and the control port only on a loopback address, not on {0}")]
    HttpNotLoopback(SocketAddr),
    /// A port is taken or forbidden.
    #[error("the sandbox cannot listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

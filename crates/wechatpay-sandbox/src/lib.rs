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
//! Rooms, in reading order: `merchant` ids and keys · `server` sockets · `platform` one request · `check` authentication ·
//! `endpoints` the business · `world` what it knows (`members`, `presence`, `payments`, `mall`) · `callbacks` and `push` what the merchant is told · `seal` signatures · `fault` misbehaviour · `ledger` what arrived · `folder` files for a client.

mod callbacks;
mod check;
mod china;
mod clock;
mod endpoints;
mod fault;
mod folder;
mod hint;
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
pub mod seal;
mod server;
mod world;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

pub use callbacks::{
    Attempt, AuthorizationPlan, Callbacks, Event, Notification, PaymentAck, Progress, Trick, UrlError,
};
pub use check::{Authorization, CertificateState};
pub use clock::Clock;
pub use endpoints::commit_status::CommitStatusAnswer;
pub use fault::{Fault, FaultPlan, Faults};
pub use folder::{Folder, FolderError};
pub use keyring::{CertificateEntry, KeyMode, PlatformKeys};
pub use ledger::{Answer, Call, Ledger, Parking};
pub use mall::MallState;
pub use members::{Authorized, Members};
pub use merchant::{IdentityError, Merchant};
pub use payments::{Payment, Payments, Points, Purchase, Refund, RefundError, Submission, SubmitError, Untold};
pub use presence::{Presence, State};
pub use refusal::{Detail, Help, Refusal};

use merchant::Identity;
use platform::{Observer, Platform, Settings};
use seal::Sealer;
use server::{Addresses, Server};
use world::{Moods, Rules, World};

/// A running sandbox. Dropping it closes its ports.
pub struct Sandbox {
    platform: Arc<Platform>,
    _server: Server,
    base_url: String,
    http_url: String,
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

    /// Forgets members, presences, payments and faults. Keys, ledger and clocks stay.
    pub fn reset(&self) {
        let world = &self.platform.world;
        world.members.clear();
        world.presences.clear();
        world.payments.clear();
        world.callbacks.clear();
        *world.lock_moods() = Moods::default();
        self.platform.faults.clear();
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
    /// Plain HTTP is for the loopback only: signatures do not hide plates.
    #[error("plain HTTP only on a loopback address, not on {0}")]
    HttpNotLoopback(SocketAddr),
    /// A port is taken or forbidden.
    #[error("the sandbox cannot listen on {https} and {http}")]
    Listen {
        /// Address for HTTPS.
        https: SocketAddr,
        /// Address for HTTP.
        http: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Settings of a sandbox.
#[derive(Clone)]
pub struct Builder {
    addresses: Addresses,
    polite: bool,
    seed: u64,
    clock_offset_s: i64,
    fresh_keys: bool,
    cached_signatures: bool,
    ledger_limit: usize,
    key_mode: KeyMode,
    settings: Settings,
    rules: Rules,
}

impl Default for Builder {
    fn default() -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            addresses: Addresses {
                https: any_port,
                http: any_port,
            },
            polite: true,
            seed: 0,
            clock_offset_s: 0,
            fresh_keys: false,
            cached_signatures: false,
            ledger_limit: 1_000_000,
            key_mode: KeyMode::default(),
            settings: Settings {
                sign_refusals: true,
                keep_alive: Duration::from_secs(8),
                observer: None,
            },
            rules: Rules::default(),
        }
    }
}

impl Builder {
    /// Whether valid calls always succeed. Default true; when false, [`FaultPlan::impolite`] runs from the start.
    #[must_use]
    pub fn polite(mut self, polite: bool) -> Self {
        self.polite = polite;
        self
    }

    /// Seed of the impolite plan. Default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Where HTTPS listens. Default a free port of 127.0.0.1.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.addresses.https = address;
        self
    }

    /// Where plain HTTP listens; a loopback address. Default a free port of 127.0.0.1.
    #[must_use]
    pub fn listen_http(mut self, address: SocketAddr) -> Self {
        self.addresses.http = address;
        self
    }

    /// Seconds by which the platform's clock is ahead of the machine's. Default 0.
    #[must_use]
    pub fn clock_offset(mut self, seconds: i64) -> Self {
        self.clock_offset_s = seconds;
        self
    }

    /// Makes ids and keys of its own, in a second or less. By default all sandboxes of a process share theirs.
    #[must_use]
    pub fn fresh_keys(mut self) -> Self {
        self.fresh_keys = true;
        self
    }

    /// Which key signs when the caller names none. Default the platform certificate.
    #[must_use]
    pub fn key_mode(mut self, mode: KeyMode) -> Self {
        self.key_mode = mode;
        self
    }

    /// Whether refusals after authentication are signed. Default true: the documents say so, nobody has checked.
    #[must_use]
    pub fn sign_refusals(mut self, sign: bool) -> Self {
        self.settings.sign_refusals = sign;
        self
    }

    /// What a successful query of pending points looks like. Default 200 with a body.
    #[must_use]
    pub fn commit_status(mut self, answer: CommitStatusAnswer) -> Self {
        self.rules.commit_status = answer;
        self
    }

    /// What acknowledges an in-mall payment. Default as the FAQ has it: 200 with a SUCCESS body within 2 s.
    #[must_use]
    pub fn payment_ack(mut self, ack: PaymentAck) -> Self {
        self.rules.callbacks.payment_ack = ack;
        self
    }

    /// How often an authorisation's callback is sent again. Default as the merchant page has it.
    #[must_use]
    pub fn authorization_plan(mut self, plan: AuthorizationPlan) -> Self {
        self.rules.callbacks.authorization_plan = plan;
        self
    }

    /// How long an idle connection stays open. Default 8 s, as the real one announces.
    #[must_use]
    pub fn keep_alive(mut self, idle: Duration) -> Self {
        self.settings.keep_alive = idle;
        self
    }

    /// One nonce and signature per key, status, body and second, for load tests. Default off.
    ///
    /// A signature costs 0.7 ms of CPU, more than all the rest of an answer. The answers stay valid; only their nonces
    /// repeat within a second, which the real platform does not do.
    #[must_use]
    pub fn cached_signatures(mut self, cached: bool) -> Self {
        self.cached_signatures = cached;
        self
    }

    /// How many calls and parking states the ledger keeps before it forgets the oldest. Default a million.
    #[must_use]
    pub fn ledger_limit(mut self, limit: usize) -> Self {
        self.ledger_limit = limit.max(1);
        self
    }

    /// Is told of every call once its fate is decided, on the sandbox's thread: be quick.
    #[must_use]
    pub fn on_call(mut self, observer: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        let observer: Observer = Arc::new(observer);
        self.settings.observer = Some(observer);
        self
    }

    /// Starts the sandbox.
    ///
    /// # Errors
    /// When a port cannot be opened or keys cannot be made.
    pub async fn start(self) -> Result<Sandbox, StartError> {
        let Addresses { https, http } = self.addresses;
        if !http.ip().is_loopback() {
            return Err(StartError::HttpNotLoopback(http));
        }
        let identity = if self.fresh_keys {
            Identity::fresh().await?
        } else {
            Identity::shared().await?
        };
        let tls = tls_acceptor(&identity, https.ip())?;
        let faults = Faults::default();
        if !self.polite {
            faults.plan(FaultPlan::impolite(self.seed));
        }
        let clock = Clock::new(self.clock_offset_s);
        let sealer = Sealer::new(self.cached_signatures);
        let keys = PlatformKeys::new(Arc::clone(&identity), clock.clone(), self.key_mode, sealer);
        let platform = Arc::new(Platform {
            world: Arc::new(World::new(
                identity,
                keys,
                self.rules,
                clock,
                Ledger::new(self.ledger_limit),
            )),
            settings: self.settings,
            faults,
        });
        let server = Server::start(Arc::clone(&platform), tls, self.addresses)
            .await
            .map_err(|source| StartError::Listen { https, http, source })?;
        let base_url = format!("https://{}", server.https);
        let http_url = format!("http://{}", server.http);
        Ok(Sandbox {
            platform,
            _server: server,
            base_url,
            http_url,
        })
    }
}

fn tls_acceptor(identity: &Identity, ip: IpAddr) -> Result<TlsAcceptor, StartError> {
    let names = ["localhost", "127.0.0.1", "::1"]
        .map(String::from)
        .into_iter()
        .chain([ip.to_string()])
        .collect();
    let (certificate, key) = identity.tls_certificate(names)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

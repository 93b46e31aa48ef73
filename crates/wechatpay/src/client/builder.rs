//! Settings of a client, checked before anything is sent.
//!
//! Lives here: [`ClientBuilder`], for both clients, and every default. Does not live here: what the settings do (`sender`,
//! `transport`).

#![expect(clippy::disallowed_methods, reason = "an edge: it reads the clock or starts tasks")]

use std::fmt;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::client::Client;
use crate::client::sender::{Sender, Shared};
use crate::error::{BoxError, Error};
use crate::failover::Failover;
use crate::merchant::Merchant;
use crate::platform::{Held, Platform};
use crate::retry::RetryPolicy;
use crate::sign::{Caller, Origin};
use crate::transport::{HyperTransport, Settings, Transport, is_loopback};

/// Settings of a client. All have defaults fit for production.
pub struct ClientBuilder<C = Client> {
    merchant: Merchant,
    platform: Platform,
    base_url: String,
    backup_url: Option<String>,
    user_agent: Option<String>,
    settings: Settings,
    max_in_flight: usize,
    slot_timeout: Duration,
    total_timeout: Duration,
    retry: Option<RetryPolicy>,
    transport: Option<Box<dyn Transport>>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    kind: PhantomData<fn() -> C>,
}

impl<C> ClientBuilder<C> {
    pub(crate) fn new(merchant: Merchant, platform: Platform) -> ClientBuilder<C> {
        ClientBuilder {
            merchant,
            platform,
            base_url: MAIN.to_owned(),
            backup_url: None,
            user_agent: None,
            settings: Settings {
                roots_pem: None,
                connect_timeout: Duration::from_secs(3),
                request_timeout: Duration::from_secs(10),
                max_idle: 0,
                max_body: 8 << 20,
            },
            max_in_flight: 128,
            slot_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(60),
            retry: None,
            transport: None,
            clock: Box::new(Timestamp::now),
            kind: PhantomData,
        }
    }

    /// Where requests go, without a path. Default: `https://api.mch.weixin.qq.com`, backed by
    /// `https://api2.mch.weixin.qq.com`; another one has no backup unless [`backup_url`](Self::backup_url) gives it.
    /// Plain `http` is taken for this machine only.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Where requests go while no connection to the main domain can be made (跨城冗灾). A call that finds the main domain
    /// gone goes on to the backup at once, and so do the calls after it, for 30 s at least; then one call looks whether
    /// it is back. A refusal, or an answer that does not come, is no reason to switch.
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012075113>.
    pub fn backup_url(mut self, url: impl Into<String>) -> Self {
        self.backup_url = Some(url.into());
        self
    }

    /// Trusts these root certificates instead of the operating system's, for a sandbox or a test.
    pub fn roots_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.settings.roots_pem = Some(pem.as_ref().to_vec());
        self
    }

    /// How long name look-up, TCP and TLS may take together. Default: 3 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// How long one exchange may take, connecting included. Default: 10 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.settings.request_timeout = limit;
        self
    }

    /// How many calls may be on their way at once; further ones wait. Default: 128.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// How long a call may wait for its turn when too many are on their way. Default: 30 s.
    pub fn slot_timeout(mut self, limit: Duration) -> Self {
        self.slot_timeout = limit;
        self
    }

    /// How long a call may take in all: waiting for its turn, both domains, repeats and the pauses between. Default: 60 s.
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.total_timeout = limit;
        self
    }

    /// Repeats calls that failed in a way that passes. Default: none.
    ///
    /// Without this, too, a call that is safe to repeat by its content (a GET, a parking state, one marked as
    /// [repeatable](crate::Call::repeatable)) is signed anew and sent on a fresh connection, at most twice, when its
    /// connection closed before any byte of the answer: that is what a server does to kept-alive connections when it
    /// restarts.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// How large an answer may be. Default: 8 MiB.
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_body = bytes;
        self
    }

    /// Says who calls; the name and version of this crate are added.
    pub fn user_agent(mut self, product: impl Into<String>) -> Self {
        self.user_agent = Some(product.into());
        self
    }

    /// Uses another transport. Its own bounds then count instead of `roots_pem`, the deadlines and the answer size.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Box::new(transport));
        self
    }

    /// Uses another clock, for tests.
    pub fn clock(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Box::new(now);
        self
    }

    pub(crate) fn sender(self) -> Result<Sender, Error> {
        let base_url = self.base_url.clone();
        self.try_sender().map_err(|source| Error::build(base_url, source))
    }

    fn try_sender(self) -> Result<Sender, BoxError> {
        self.merchant.check()?;
        if self.platform.given().is_empty() && !self.platform.is_fetched() {
            return Err("no platform key is given, so no answer could be verified".into());
        }
        if self.max_in_flight == 0 || self.max_in_flight > Semaphore::MAX_PERMITS {
            return Err("max_in_flight must be at least 1".into());
        }
        let backup = self
            .backup_url
            .or_else(|| (self.base_url == MAIN).then(|| BACKUP.to_owned()));
        let answer_key = self.platform.given().public_key();
        let caller = Caller {
            merchant: self.merchant,
            answer_key: answer_key.map(|key| HeaderValue::from_str(key.id())).transpose()?,
            user_agent: user_agent(self.user_agent.as_deref())?,
        };
        let transport = match self.transport {
            Some(transport) => transport,
            None => {
                // As many idle connections as calls: a finished one must never be thrown away for lack of room.
                let settings = Settings {
                    max_idle: self.max_in_flight,
                    ..self.settings
                };
                Box::new(HyperTransport::new(&settings)?)
            }
        };
        Ok(Sender::new(Shared {
            caller,
            held: Held::new(self.platform),
            main: origin(&self.base_url)?,
            backup: backup.as_deref().map(origin).transpose()?,
            failover: Mutex::new(Failover::new()),
            transport,
            clock: self.clock,
            slots: Semaphore::new(self.max_in_flight),
            slot_timeout: self.slot_timeout,
            total_timeout: self.total_timeout,
            retry: self.retry,
        }))
    }
}

impl ClientBuilder<Client> {
    /// Makes the client. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Build`] when a setting cannot work.
    pub fn build(self) -> Result<Client, Error> {
        Ok(Client::new(self.sender()?))
    }
}

impl<C> fmt::Debug for ClientBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("merchant", &self.merchant)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

fn origin(base_url: &str) -> Result<Origin, BoxError> {
    let uri: Uri = base_url.parse()?;
    let parts = uri.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err("the base URL must be https://host or https://host:port".into());
    };
    if parts.path_and_query.is_some_and(|path| path != "/") {
        return Err(
            "the base URL must not have a path: the path is signed, and a prefix would break the signature".into(),
        );
    }
    if authority.as_str().contains('@') {
        return Err("the base URL must not have a user name".into());
    }
    if scheme == Scheme::HTTPS || (scheme == Scheme::HTTP && is_loopback(authority.host())) {
        Ok(Origin { scheme, authority })
    } else {
        Err("the base URL must start with https:// (http:// is for this machine only)".into())
    }
}

fn user_agent(product: Option<&str>) -> Result<HeaderValue, BoxError> {
    const OWN: &str = concat!("wechatpay-apiv3-rust/", env!("CARGO_PKG_VERSION"));
    let text = product.map_or_else(|| OWN.to_owned(), |product| format!("{product} {OWN}"));
    HeaderValue::from_str(&text).map_err(|_| "the user agent has a character that no header may have".into())
}

const MAIN: &str = "https://api.mch.weixin.qq.com";
const BACKUP: &str = "https://api2.mch.weixin.qq.com";

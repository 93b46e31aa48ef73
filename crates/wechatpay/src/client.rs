//! The asynchronous client.
//!
//! Lives here: [`Client`], its builder, and the one path that every call takes: wait for a slot, sign, exchange, judge.
//! An edge: it reads the clock and draws nonces. Does not live here: what is signed or believed (`sign`, `response`), how
//! bytes travel (`transport`).

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Index;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Method, Uri};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::call::Call;
use crate::chain::V3;
use crate::error::{BoxError, Error, TransportError};
use crate::indexed::Indexed;
use crate::keys::{Merchant, PlatformKeys};
use crate::request::Request;
use crate::response::{self, Response};
use crate::route::Route;
use crate::sign::{Caller, Origin};
use crate::transport::{HyperTransport, Settings, Transport, is_loopback};

/// Calls APIv3: signs every request, verifies every answer.
///
/// Cheap to clone; clones share connections and bounds. Use it within one tokio runtime: its connections live there.
#[derive(Clone)]
pub struct Client {
    sender: Sender,
    indexed: Arc<Indexed<Call>>,
}

impl Client {
    /// Starts a client for this merchant, which believes answers signed by these keys.
    pub fn builder(merchant: Merchant, platform: PlatformKeys) -> ClientBuilder {
        ClientBuilder::new(merchant, platform)
    }

    /// The pure chain (纯链式): `client.v3().businesscircle().parkings().post(&body)`.
    pub fn v3(&self) -> V3 {
        self.chain("v3").into()
    }

    /// The declared spelling (声明式): `client.chain("v3/businesscircle/parkings").post(&body)`.
    pub fn chain(&self, path: impl Into<Cow<'static, str>>) -> Call {
        Call::new(self.sender.clone(), Route::new(path))
    }

    /// Sends one request and returns the verified answer.
    ///
    /// # Errors
    /// See [`Error`]: how far the call got decides what to do next.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        self.sender.send(request).await
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.sender
    }
}

/// The indexed spelling (属性式): `client["v3/businesscircle/parkings"].post(&body)`.
///
/// Only text written in the program can be an index. A path with a value in it is written as a template:
/// `client["v3/businesscircle/user-authorizations/{openid}"].bind("openid", id)`. One client keeps up to 1,024 different
/// paths; calls through any further one fail with [`Error::Build`], and `chain` works for all.
impl Index<&'static str> for Client {
    type Output = Call;

    fn index(&self, path: &'static str) -> &Call {
        self.indexed
            .get(path, |path| Call::new(self.sender.clone(), Route::indexed(path)))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("caller", &self.sender.0.caller)
            .finish_non_exhaustive()
    }
}

/// The half of a client that sends. A [`Call`] holds one.
#[derive(Clone)]
pub struct Sender(Arc<Shared>);

struct Shared {
    caller: Caller,
    transport: Box<dyn Transport>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    slots: Semaphore,
    slot_timeout: Duration,
}

impl Sender {
    pub(crate) async fn send(&self, request: Request) -> Result<Response, Error> {
        let Shared {
            caller,
            transport,
            clock,
            ..
        } = &*self.0;
        // Before signing: a signature must not grow old while it waits.
        let _slot = self.slot().await?;
        let signed = caller.sign(request, clock().as_second(), &nonce())?;
        let reply = transport
            .execute(signed)
            .await
            .map_err(|source| self.no_reply(source))?;
        response::judge(reply, &caller.platform, clock().as_second())
    }

    async fn slot(&self) -> Result<SemaphorePermit<'_>, Error> {
        const OPEN: &str = "the semaphore is never closed";
        if let Ok(slot) = self.0.slots.try_acquire() {
            return Ok(slot);
        }
        match tokio::time::timeout(self.0.slot_timeout, self.0.slots.acquire()).await {
            Ok(slot) => Ok(slot.expect(OPEN)),
            Err(_) => Err(self.no_reply(TransportError::Busy(self.0.slot_timeout))),
        }
    }

    pub(crate) fn no_reply(&self, source: TransportError) -> Error {
        Error::Transport {
            host: self.0.caller.origin.authority.to_string(),
            source,
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.0.caller).finish()
    }
}

/// A call on its way. It owns what it needs, so it can be spawned; nothing happens before it is awaited.
#[must_use = "nothing is sent before it is awaited"]
pub struct Sending(Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>);

impl Future for Sending {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sending(..)")
    }
}

impl Call {
    /// Sends a GET.
    pub fn get(&self) -> Sending {
        self.sending(self.request(Method::GET))
    }

    /// Sends a POST with a JSON body.
    pub fn post<B: Serialize + ?Sized>(&self, body: &B) -> Sending {
        self.sending(self.request_with(Method::POST, body))
    }

    /// Sends a PUT with a JSON body.
    pub fn put<B: Serialize + ?Sized>(&self, body: &B) -> Sending {
        self.sending(self.request_with(Method::PUT, body))
    }

    /// Sends a PATCH with a JSON body.
    pub fn patch<B: Serialize + ?Sized>(&self, body: &B) -> Sending {
        self.sending(self.request_with(Method::PATCH, body))
    }

    /// Sends a DELETE.
    pub fn delete(&self) -> Sending {
        self.sending(self.request(Method::DELETE))
    }

    fn sending(&self, request: Result<Request, Error>) -> Sending {
        let sender = self.sender.clone();
        Sending(Box::pin(async move { sender.send(request?).await }))
    }
}

/// Settings of a client. All have defaults fit for production.
pub struct ClientBuilder<C = Client> {
    merchant: Merchant,
    platform: PlatformKeys,
    base_url: String,
    user_agent: Option<String>,
    settings: Settings,
    max_in_flight: usize,
    slot_timeout: Duration,
    transport: Option<Box<dyn Transport>>,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    kind: PhantomData<fn() -> C>,
}

impl<C> ClientBuilder<C> {
    pub(crate) fn new(merchant: Merchant, platform: PlatformKeys) -> ClientBuilder<C> {
        ClientBuilder {
            merchant,
            platform,
            base_url: "https://api.mch.weixin.qq.com".to_owned(),
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
            transport: None,
            clock: Box::new(Timestamp::now),
            kind: PhantomData,
        }
    }

    /// Where requests go, without a path. Default: `https://api.mch.weixin.qq.com`. Plain `http` is taken for this
    /// machine only.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
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
        if self.platform.is_empty() {
            return Err("no platform key is given, so no answer could be verified".into());
        }
        if self.max_in_flight == 0 || self.max_in_flight > Semaphore::MAX_PERMITS {
            return Err("max_in_flight must be at least 1".into());
        }
        let caller = Caller {
            merchant: self.merchant,
            platform: self.platform,
            origin: origin(&self.base_url)?,
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
        Ok(Sender(Arc::new(Shared {
            caller,
            transport,
            clock: self.clock,
            slots: Semaphore::new(self.max_in_flight),
            slot_timeout: self.slot_timeout,
        })))
    }
}

impl ClientBuilder<Client> {
    /// Makes the client. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Build`] when a setting cannot work.
    pub fn build(self) -> Result<Client, Error> {
        Ok(Client {
            sender: self.sender()?,
            indexed: Arc::new(Indexed::new()),
        })
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

/// 32 upper-case hex digits, as the documentation uses.
fn nonce() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    format!("{:032X}", u128::from_be_bytes(bytes))
}

//! The asynchronous client.
//!
//! Lives here: [`Client`] with its three spellings, and the verbs of an asynchronous call. Does not live here: its settings
//! (`builder`) and the way a call takes (`sender`).

mod builder;
pub(crate) mod sender;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::ops::Index;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Method};
use serde::Serialize;

use crate::call::Call;
use crate::certificate_list::PlatformError;
use crate::chain::V3;
use crate::error::Error;
use crate::failover::Domain;
use crate::indexed::Indexed;
use crate::keys::ApiV3Key;
use crate::merchant::Merchant;
use crate::notify::{self, Notification, NotifyError};
use crate::platform::{Because, Platform};
use crate::platform_keys::PlatformKeys;
use crate::request::Request;
use crate::response::Response;
use crate::route::Route;
use crate::seal::Digest;
use crate::upload::Upload;

pub use builder::ClientBuilder;
pub use sender::Sender;

/// Calls APIv3: signs every request, verifies every answer.
///
/// Cheap to clone; clones share connections and bounds. Use it within one tokio runtime: its connections live there.
#[derive(Clone)]
pub struct Client {
    sender: Sender,
    indexed: Arc<Indexed<Call>>,
}

impl Client {
    /// Starts a client for this merchant, which believes answers signed by these keys: [`PlatformKeys`] that stay as they
    /// are, or a [`Platform`] that fetches certificates.
    pub fn builder(merchant: Merchant, platform: impl Into<Platform>) -> ClientBuilder {
        ClientBuilder::new(merchant, platform.into())
    }

    pub(crate) fn new(sender: Sender) -> Client {
        Client {
            sender,
            indexed: Arc::new(Indexed::new()),
        }
    }

    /// The pure chain (纯链式): `client.v3().businesscircle().parkings().post(&body)`.
    pub fn v3(&self) -> V3 {
        self.chain("v3").into()
    }

    /// The declared spelling (声明式): `client.chain("v3/businesscircle/parkings").post(&body)`.
    pub fn chain(&self, path: impl Into<Cow<'static, str>>) -> Call {
        Call::new(self.sender.clone(), Route::new(path))
    }

    /// Downloads the file behind an address that a signed answer gave (`download_url`), and checks that it is the one
    /// promised. Only path and query of the address count: the request goes to this client's domain.
    pub fn download(&self, url: &str, digest: Digest) -> Sending {
        Call::new(self.sender.clone(), Route::from_url(url)).download(digest)
    }

    /// Sends one request and returns the verified answer.
    ///
    /// # Errors
    /// See [`Error`]: how far the call got decides what to do next.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        self.sender.send(request).await
    }

    /// The platform keys held at this moment; [`PlatformKeys::sealing`] chooses the one for sensitive fields.
    pub fn platform_keys(&self) -> Arc<PlatformKeys> {
        self.sender.keys()
    }

    /// Fetches the platform certificates now, if this client fetches any, and returns what is held then.
    ///
    /// # Errors
    /// [`PlatformError`] when they cannot be fetched or are not trusted. What was held before is held still.
    pub async fn refresh_platform_keys(&self) -> Result<Arc<PlatformKeys>, PlatformError> {
        self.sender.refresh(Because::Asked).await?;
        Ok(self.sender.keys())
    }

    /// Verifies and opens a notification with the keys and the clock of this client; a certificate that is not held yet
    /// is fetched first, if this client fetches any. See [`notify`].
    ///
    /// # Errors
    /// As [`notify::Notifications::open`].
    pub async fn open_notification(
        &self,
        api_v3_key: &ApiV3Key,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Notification, NotifyError> {
        let (keys, _) = self.sender.keys_for(headers, Because::Notification).await;
        notify::open(headers, body, &keys, api_v3_key, self.sender.now())
    }

    /// The domain that calls go to right now (跨城冗灾): [`Domain::Main`] until no connection to it could be made, see
    /// [`ClientBuilder::backup_url`]. Several processes that call for one merchant can tell each other with this and
    /// [`use_domain`](Self::use_domain), so that each does not have to find out by failing.
    pub fn domain(&self) -> Domain {
        self.sender.domain()
    }

    /// Sends calls to this domain from now on, as if this client had found out by itself: it stays for 30 s at least, and from the
    /// backup one call every 30 s looks whether the main domain is back. False, and nothing changes, while the choice before has not
    /// lasted 30 s, or when there is no backup; ask again later.
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012075113>.
    pub fn use_domain(&self, domain: Domain) -> bool {
        self.sender.follow(domain)
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
            .field("sender", &self.sender)
            .finish_non_exhaustive()
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

    /// Uploads a file: multipart, signed over its `meta`. See [`Request::upload`].
    pub fn upload(&self, upload: &Upload) -> Sending {
        self.sending(self.request(Method::POST).and_then(|request| request.upload(upload)))
    }

    /// Downloads a file whose answer is not signed by documentation, and checks that it is the one promised. See
    /// [`Request::unsigned_answer`].
    pub fn download(&self, digest: Digest) -> Sending {
        self.sending(self.request_for_file(digest))
    }

    fn sending(&self, request: Result<Request, Error>) -> Sending {
        let sender = self.sender.clone();
        Sending(Box::pin(async move { sender.send(request?).await }))
    }
}

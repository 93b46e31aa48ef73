//! The blocking client: the same names without `.await`, and no runtime for the caller to bring.
//!
//! Lives here: a current-thread tokio runtime shared by clones, which the calling thread drives for the time of its call.
//! Does not live here: anything about calls; each is the asynchronous one, waited for. Works inside an asynchronous
//! program too: there a helper thread does the waiting, because a runtime's own threads may not.

use std::borrow::Cow;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use http::{HeaderMap, Method};
use serde::Serialize;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::certificate_list::PlatformError;
use crate::chain::V3;
use crate::client;
use crate::error::{Error, TransportError};
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

/// A call that returns when it is done.
pub type Call = crate::call::Call<Sender>;
/// Settings of a blocking client.
pub type ClientBuilder = client::ClientBuilder<Client>;

/// Calls APIv3 and waits: signs every request, verifies every answer.
///
/// Cheap to clone, usable from many threads; clones share connections and bounds.
#[derive(Clone)]
pub struct Client {
    sender: Sender,
    indexed: Arc<Indexed<Call>>,
}

impl Client {
    /// Starts a client for this merchant, which believes answers signed by these keys.
    pub fn builder(merchant: Merchant, platform: impl Into<Platform>) -> ClientBuilder {
        ClientBuilder::new(merchant, platform.into())
    }

    /// The pure chain (纯链式): `client.v3().businesscircle().parkings().post(&body)`.
    pub fn v3(&self) -> V3<Sender> {
        self.chain("v3").into()
    }

    /// The declared spelling (声明式): `client.chain("v3/businesscircle/parkings").post(&body)`.
    pub fn chain(&self, path: impl Into<Cow<'static, str>>) -> Call {
        Call::new(self.sender.clone(), Route::new(path))
    }

    /// Downloads the file behind an address that a signed answer gave, and checks that it is the one promised.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn download(&self, url: &str, digest: Digest) -> Result<Response, Error> {
        Call::new(self.sender.clone(), Route::from_url(url)).download(digest)
    }

    /// Sends one request and returns the verified answer.
    ///
    /// # Errors
    /// See [`Error`]: how far the call got decides what to do next.
    pub fn send(&self, request: Request) -> Result<Response, Error> {
        self.sender.send(request)
    }

    /// The platform keys held at this moment.
    pub fn platform_keys(&self) -> Arc<PlatformKeys> {
        self.sender.sender.keys()
    }

    /// Fetches the platform certificates now, if this client fetches any, and returns what is held then.
    ///
    /// # Errors
    /// As the asynchronous one.
    pub fn refresh_platform_keys(&self) -> Result<Arc<PlatformKeys>, PlatformError> {
        let outcome = self.sender.wait(self.sender.sender.refresh(Because::Asked));
        outcome.unwrap_or_else(|error| Err(PlatformError::Call(Arc::new(error))))?;
        Ok(self.platform_keys())
    }

    /// Verifies and opens a notification with the keys and the clock of this client.
    ///
    /// # Errors
    /// As the asynchronous one.
    pub fn open_notification(
        &self,
        api_v3_key: &ApiV3Key,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Notification, NotifyError> {
        let inner = &self.sender.sender;
        let keys = match self.sender.wait(inner.keys_for(headers, Because::Notification)) {
            Ok((keys, _)) => keys,
            Err(_) => inner.keys(),
        };
        notify::open(headers, body, &keys, api_v3_key, inner.now())
    }

    /// The domain that calls go to right now. See the asynchronous one.
    pub fn domain(&self) -> Domain {
        self.sender.sender.domain()
    }

    /// Sends calls to this domain from now on. See the asynchronous one.
    pub fn use_domain(&self, domain: Domain) -> bool {
        self.sender.sender.follow(domain)
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.sender
    }
}

/// The indexed spelling (属性式), with the bounds of the asynchronous one.
impl Index<&'static str> for Client {
    type Output = Call;

    fn index(&self, path: &'static str) -> &Call {
        self.indexed
            .get(path, |path| Call::new(self.sender.clone(), Route::indexed(path)))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("sender", &self.sender).finish()
    }
}

/// The half of a blocking client that sends.
#[derive(Clone)]
pub struct Sender {
    sender: client::Sender,
    runtime: Arc<OwnRuntime>,
}

impl Sender {
    pub(crate) fn send(&self, request: Request) -> Result<Response, Error> {
        self.wait(self.sender.send(request))?
    }

    /// Waits for an asynchronous step; an error only when no thread can be had for that.
    fn wait<F: Future<Output: Send> + Send>(&self, step: F) -> Result<F::Output, Error> {
        let runtime = self.runtime.get();
        let call = || runtime.block_on(step);
        if Handle::try_current().is_err() {
            return Ok(call());
        }
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new()
                .name("wechatpay-blocking".to_owned())
                .spawn_scoped(scope, call);
            let helper = helper.map_err(|error| self.sender.no_reply(TransportError::Connect(error.into())))?;
            Ok(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sender.fmt(f)
    }
}

impl Call {
    /// Sends a GET.
    ///
    /// # Errors
    /// See [`Error`]; so for every verb.
    pub fn get(&self) -> Result<Response, Error> {
        self.sender.send(self.request(Method::GET)?)
    }

    /// Sends a POST with a JSON body.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn post<B: Serialize + ?Sized>(&self, body: &B) -> Result<Response, Error> {
        self.sender.send(self.request_with(Method::POST, body)?)
    }

    /// Sends a PUT with a JSON body.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn put<B: Serialize + ?Sized>(&self, body: &B) -> Result<Response, Error> {
        self.sender.send(self.request_with(Method::PUT, body)?)
    }

    /// Sends a PATCH with a JSON body.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn patch<B: Serialize + ?Sized>(&self, body: &B) -> Result<Response, Error> {
        self.sender.send(self.request_with(Method::PATCH, body)?)
    }

    /// Sends a DELETE.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn delete(&self) -> Result<Response, Error> {
        self.sender.send(self.request(Method::DELETE)?)
    }

    /// Uploads a file: multipart, signed over its `meta`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn upload(&self, upload: &Upload) -> Result<Response, Error> {
        self.sender.send(self.request(Method::POST)?.upload(upload)?)
    }

    /// Downloads a file whose answer is not signed by documentation, and checks that it is the one promised.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn download(&self, digest: Digest) -> Result<Response, Error> {
        self.sender.send(self.request_for_file(digest)?)
    }
}

impl ClientBuilder {
    /// Makes the client. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Build`] when a setting cannot work.
    pub fn build(self) -> Result<Client, Error> {
        let sender = self.sender()?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Error::build("every path", source))?;
        let sender = Sender {
            sender,
            runtime: Arc::new(OwnRuntime(Some(runtime))),
        };
        Ok(Client {
            sender,
            indexed: Arc::new(Indexed::new()),
        })
    }
}

/// A runtime that may be dropped anywhere. The plain one panics when it is dropped inside another.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("it is taken on drop only")
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

//! The blocking client: the same names without `.await`, and no runtime for the caller to bring.
//!
//! Lives here: a current-thread tokio runtime shared by clones, which the calling thread drives for the time of its call.
//! Does not live here: anything about calls; each is the asynchronous one, waited for. Works inside an asynchronous
//! program too: there a helper thread does the waiting, because a runtime's own threads may not.

use std::borrow::Cow;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use http::Method;
use serde::Serialize;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::chain::V3;
use crate::client;
use crate::error::{Error, TransportError};
use crate::indexed::Indexed;
use crate::keys::{Merchant, PlatformKeys};
use crate::request::Request;
use crate::response::Response;
use crate::route::Route;

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
    pub fn builder(merchant: Merchant, platform: PlatformKeys) -> ClientBuilder {
        ClientBuilder::new(merchant, platform)
    }

    /// The pure chain (纯链式): `client.v3().businesscircle().parkings().post(&body)`.
    pub fn v3(&self) -> V3<Sender> {
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
    pub fn send(&self, request: Request) -> Result<Response, Error> {
        self.sender.send(request)
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
        let runtime = self.runtime.get();
        let call = || runtime.block_on(self.sender.send(request));
        if Handle::try_current().is_err() {
            return call();
        }
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new()
                .name("wechatpay-blocking".to_owned())
                .spawn_scoped(scope, call);
            let helper = helper.map_err(|error| self.sender.no_reply(TransportError::Connect(error.into())))?;
            helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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

//! A call being put together: an endpoint, headers, and who will send it.
//!
//! Lives here: [`Call`], the one type behind all three spellings. Does not live here: the verbs, which differ in what they
//! return (`client`, `blocking`), and the words of the pure chain (`chain`).

use std::borrow::Cow;
use std::fmt::{self, Display};

use http::header::ACCEPT;
use http::{HeaderValue, Method};
use serde::Serialize;

use crate::client::sender::Sender;
use crate::error::Error;
use crate::request::Request;
use crate::route::Route;
use crate::seal::Digest;

/// An endpoint with a client behind it: bind, add, then send with a verb.
///
/// `client.v3()…`, `client.chain("…")` and `client["…"]` all give one. Every method leaves it as it was, so that an
/// endpoint can be kept and used many times.
#[derive(Clone)]
pub struct Call<S = Sender> {
    pub(crate) sender: S,
    route: Route,
    headers: Vec<(String, String)>,
    repeatable: bool,
}

impl<S: Clone> Call<S> {
    pub(crate) fn new(sender: S, route: Route) -> Call<S> {
        Call {
            sender,
            route,
            headers: Vec::new(),
            repeatable: false,
        }
    }

    /// Gives the path's `{name}` its value, percent-encoded as one segment.
    pub fn bind(&self, name: impl Into<Cow<'static, str>>, value: impl Display) -> Call<S> {
        self.with(|route| route.bind(name, value))
    }

    /// Adds one segment to the path.
    pub fn seg(&self, segment: &str) -> Call<S> {
        self.with(|route| route.seg(segment))
    }

    /// Adds one query parameter.
    pub fn query(&self, name: impl Into<String>, value: impl Display) -> Call<S> {
        self.with(|route| route.query(name, value))
    }

    /// Adds a header to this call.
    pub fn header(&self, name: impl Into<String>, value: impl Into<String>) -> Call<S> {
        let mut call = self.clone();
        call.headers.push((name.into(), value.into()));
        call
    }

    /// Says that sending this more than once does no harm; see [`Request::repeatable`].
    pub fn repeatable(&self) -> Call<S> {
        let mut call = self.clone();
        call.repeatable = true;
        call
    }

    /// Goes on to a segment of the chain's table, binding its variable if it has one.
    pub(crate) fn step(&self, segment: &'static str, variable: Option<(&'static str, String)>) -> Call<S> {
        self.with(|route| {
            let route = route.join(segment);
            match variable {
                Some((name, value)) => route.bind(name, value),
                None => route,
            }
        })
    }

    fn with(&self, change: impl FnOnce(Route) -> Route) -> Call<S> {
        let mut call = self.clone();
        call.route = change(call.route);
        call
    }

    /// The request that a verb sends.
    pub(crate) fn request(&self, method: Method) -> Result<Request, Error> {
        let mut request = Request::new(method, self.route.clone());
        if self.repeatable {
            request = request.repeatable();
        }
        self.headers
            .iter()
            .try_fold(request, |request, (name, value)| request.header(name, value))
    }

    pub(crate) fn request_for_file(&self, digest: Digest) -> Result<Request, Error> {
        let mut request = self.request(Method::GET)?.unsigned_answer(digest);
        // A file is not JSON; a header of the call still wins.
        if !request.headers.contains_key(ACCEPT) {
            request.headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        }
        Ok(request)
    }

    pub(crate) fn request_with<B: Serialize + ?Sized>(&self, method: Method, body: &B) -> Result<Request, Error> {
        self.request(method)?.json(body)
    }
}

impl<S> fmt::Debug for Call<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

//! Writes a product's calls once for both clients.
//!
//! A call is a request that is checked, and a reader for its answer; only the waiting differs. Used by every file of `api`
//! that calls.

use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::fields::FieldError;
use crate::error::Error;
use crate::request::Request;
use crate::response::Response;

macro_rules! calls {
    (
        $(#[$doc:meta])*
        $api:ident from $accessor:ident {$(
            $(#[$call_doc:meta])*
            fn $call:ident($($argument:ident: $type:ty),*) -> $out:ty { $request:expr, $read:expr }
        )*}
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $api<S = $crate::client::sender::Sender> {
            sender: S,
        }

        impl $crate::client::Client {
            $(#[$doc])*
            pub fn $accessor(&self) -> $api {
                $api { sender: self.sender().clone() }
            }
        }

        impl $crate::blocking::Client {
            $(#[$doc])*
            pub fn $accessor(&self) -> $api<$crate::blocking::Sender> {
                $api { sender: self.sender().clone() }
            }
        }

        impl $api {$(
            $(#[$call_doc])*
            pub async fn $call(&self, $($argument: $type),*) -> Result<$out, $crate::error::Error> {
                let request: Result<$crate::request::Request, $crate::error::Error> = $request;
                $read(self.sender.send(request?).await)
            }
        )*}

        impl $api<$crate::blocking::Sender> {$(
            $(#[$call_doc])*
            pub fn $call(&self, $($argument: $type),*) -> Result<$out, $crate::error::Error> {
                let request: Result<$crate::request::Request, $crate::error::Error> = $request;
                $read(self.sender.send(request?))
            }
        )*}
    };
}
pub(crate) use calls;

/// A POST with a body that was checked first.
pub(crate) fn post<B: Serialize>(
    path: &'static str,
    body: &B,
    check: Result<(), FieldError>,
) -> Result<Request, Error> {
    check.map_err(|source| Error::build(path, source))?;
    Request::new(Method::POST, path).json(body)
}

/// Reads the JSON of a 200.
pub(crate) fn read<T: DeserializeOwned>(outcome: Result<Response, Error>) -> Result<T, Error> {
    let answer = outcome?;
    match answer.status() {
        200 => answer.json(),
        status => Err(answer.unexpected("200 with a body", format!("the status is {status}"))),
    }
}

/// 204 without a body, or 200 with whatever: sources differ, and both mean done. Anything else, such as 202, does not.
pub(crate) fn done(outcome: Result<Response, Error>) -> Result<Response, Error> {
    let answer = outcome?;
    match answer.status() {
        200 | 204 => Ok(answer),
        status => Err(answer.unexpected("204 without a body", format!("the status is {status}"))),
    }
}

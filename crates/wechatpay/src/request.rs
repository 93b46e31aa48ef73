//! A request before it is signed.
//!
//! Lives here: [`Request`] and the rules APIv3 has for JSON bodies, checked before anything is sent. Does not live here:
//! paths (`route`), signing (`sign`). Called by `call` and the typed `api`.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::route::Route;
use crate::seal::Digest;
use crate::upload::Upload;

/// One request to any endpoint of APIv3.
#[derive(Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) route: Route,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Signed instead of the body: the `meta` of an upload.
    signed: Option<Bytes>,
    repeatable: bool,
    /// Set for the few routes whose answers are not signed by documentation.
    digest: Option<Digest>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: Method, route: impl Into<Route>) -> Request {
        Request {
            method,
            route: route.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            signed: None,
            repeatable: false,
            digest: None,
        }
    }

    /// Takes an answer that is not signed, because the documentation says that this route's answers are not: bill and file
    /// downloads. Its body must have the digest that a signed answer gave for it.
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4013053420>, section 6.
    pub fn unsigned_answer(mut self, digest: Digest) -> Request {
        self.digest = Some(digest);
        self
    }

    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Says that sending this more than once does no harm, because the content makes it the same request: it carries a
    /// number of the merchant's own, for example. GETs and parking states are known to be so.
    pub fn repeatable(mut self) -> Request {
        self.repeatable = true;
        self
    }

    pub(crate) fn is_repeatable(&self) -> bool {
        self.repeatable
            || self.method.is_safe()
            || (self.method == Method::POST
                && self.route.template().trim_start_matches('/') == "v3/businesscircle/parkings")
    }

    /// What of the body is signed: all of it, or an upload's `meta`.
    pub(crate) fn signed_body(&self) -> &[u8] {
        self.signed.as_ref().unwrap_or(&self.body)
    }

    /// Gives it a file as `multipart/form-data`; signed is the JSON of its `meta` part alone.
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012365335>.
    ///
    /// # Errors
    /// [`Error::Build`] when a name cannot stand in a header.
    pub fn upload(mut self, upload: &Upload) -> Result<Request, Error> {
        let path = self.route.template();
        upload.check().map_err(|source| Error::build(path, source))?;
        let boundary = upload.boundary();
        let content_type = HeaderValue::try_from(format!("multipart/form-data;boundary={boundary}"))
            .map_err(|source| Error::build(path, source))?;
        self.body = upload.body(&boundary);
        self.signed = Some(upload.meta.clone());
        self.headers.insert(CONTENT_TYPE, content_type);
        Ok(self)
    }

    /// Gives it a JSON body.
    ///
    /// # Errors
    /// [`Error::Build`] when the body cannot be written as JSON or breaks a rule of APIv3: no `null` (leave the
    /// member out), no characters beyond the basic plane (emoji). The error names the field.
    pub fn json<B: Serialize + ?Sized>(mut self, body: &B) -> Result<Request, Error> {
        let written = serde_json::to_vec(body).map_err(|source| Error::build(self.route.template(), source))?;
        check_json(&written).map_err(|source| Error::build(self.route.template(), source))?;
        self.body = written.into();
        Ok(self)
    }

    /// Sets a header. Those that carry the signature or the framing cannot be set.
    ///
    /// # Errors
    /// [`Error::Build`] when name or value are not allowed in a header, or the header is one of those.
    pub fn header(mut self, name: &str, value: &str) -> Result<Request, Error> {
        let refuse = |reason| Error::build(self.route.template(), BodyError::Header(name.to_owned(), reason));
        let parsed = HeaderName::try_from(name).map_err(|_| refuse("is not a header name"))?;
        if [AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING].contains(&parsed) {
            return Err(refuse("is set by the client"));
        }
        let value = HeaderValue::from_str(value).map_err(|_| refuse("has a value that no header may have"))?;
        self.headers.insert(parsed, value);
        Ok(self)
    }
}

impl std::fmt::Debug for Request {
    /// Shows no body and no bound values: they may be plates and openids.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("route", &self.route)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A body or header that APIv3 does not take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// A member is `null`.
    #[error("{0} is null, which APIv3 refuses; leave the member out")]
    Null(String),
    /// A text holds a character that needs four bytes.
    #[error("{0} holds a character beyond the basic plane (U+{1:X}), which APIv3 refuses")]
    Character(String, u32),
    /// A header cannot be set.
    #[error("the header {0:?} {1}")]
    Header(String, &'static str),
}

/// Looks at the written bytes first: only a body that may break a rule is read again to find the field.
fn check_json(written: &[u8]) -> Result<(), BodyError> {
    let suspicious = written.iter().any(|byte| *byte >= 0xF0) || written.windows(4).any(|four| four == b"null");
    if !suspicious {
        return Ok(());
    }
    match serde_json::from_slice(written) {
        Ok(value) => check_value(&value, &mut String::new()),
        // It was written a moment ago; a number too large to read back is no breach of these rules.
        Err(_) => Ok(()),
    }
}

fn check_value(value: &Value, pointer: &mut String) -> Result<(), BodyError> {
    let here = pointer.len();
    match value {
        Value::Null => Err(BodyError::Null(shown(pointer))),
        Value::String(text) => check_text(text, pointer),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(index, item)| {
            pointer.push_str(&format!("/{index}"));
            check_value(item, pointer)?;
            pointer.truncate(here);
            Ok(())
        }),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            pointer.push('/');
            pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
            check_text(name, pointer)?;
            check_value(member, pointer)?;
            pointer.truncate(here);
            Ok(())
        }),
        Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn check_text(text: &str, pointer: &str) -> Result<(), BodyError> {
    match text.chars().find(|c| u32::from(*c) > 0xFFFF) {
        Some(c) => Err(BodyError::Character(shown(pointer), c.into())),
        None => Ok(()),
    }
}

fn shown(pointer: &str) -> String {
    if pointer.is_empty() {
        "the body".to_owned()
    } else {
        pointer.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Chain;
    use serde_json::json;

    fn outcome(body: &Value) -> Result<Bytes, String> {
        Request::new(Method::POST, "v3/x")
            .json(body)
            .map(|request| request.body)
            .map_err(|error| Chain(&error).to_string())
    }

    #[test]
    fn a_body_is_written_once_and_kept_as_it_is() {
        assert_eq!(
            outcome(&json!({"plate_number": "粤B888888"})).unwrap(),
            r#"{"plate_number":"粤B888888"}"#.as_bytes()
        );
    }

    #[test]
    fn null_and_emoji_are_refused_with_the_field() {
        let prefix = "could not build the request for v3/x: ";
        let table = [
            (
                json!({"amount": {"total": null}}),
                "/amount/total is null, which APIv3 refuses; leave the member out",
            ),
            (
                json!({"list": [1, null]}),
                "/list/1 is null, which APIv3 refuses; leave the member out",
            ),
            (
                json!(null),
                "the body is null, which APIv3 refuses; leave the member out",
            ),
            (
                json!({"a/b": "🚗"}),
                "/a~1b holds a character beyond the basic plane (U+1F697), which APIv3 refuses",
            ),
            (
                json!({"🚗": 1}),
                "/🚗 holds a character beyond the basic plane (U+1F697), which APIv3 refuses",
            ),
        ];

        for (body, message) in table {
            assert_eq!(outcome(&body), Err(format!("{prefix}{message}")));
        }
    }

    #[test]
    fn the_word_null_in_a_text_is_no_null() {
        assert!(outcome(&json!({"description": "null and void"})).is_ok());
    }

    #[test]
    fn the_signature_header_cannot_be_set() {
        for (name, value) in [
            ("Authorization", "x"),
            ("content-length", "1"),
            ("a b", "x"),
            ("x", "a\nb"),
        ] {
            assert!(Request::new(Method::GET, "v3/x").header(name, value).is_err(), "{name}");
        }
    }
}

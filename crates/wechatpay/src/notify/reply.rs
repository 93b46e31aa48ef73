//! Answers to notifications that WeChat Pay wants signed by the merchant.
//!
//! Called by `api::notifications`.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Response};

use crate::merchant::Merchant;
use crate::sign::{self, Authorization};

/// Which lines the signature of the reply covers. The documentation asks for one and does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplySignature<'a> {
    /// Timestamp, nonce, body: as answers of WeChat Pay are signed.
    #[default]
    AsAnswer,
    /// `POST`, this path, timestamp, nonce, body: as requests of merchants are signed.
    AsRequest(&'a str),
}

impl Merchant {
    /// Signs a JSON answer to a notification. `now` is in Unix seconds; the nonce is any text that is never used twice.
    pub fn sign_reply(&self, body: String, over: ReplySignature<'_>, now: i64, nonce: &str) -> Response<String> {
        let timestamp = now.to_string();
        let message = match over {
            ReplySignature::AsAnswer => sign::message([&*timestamp, nonce, &*body]),
            ReplySignature::AsRequest(path) => sign::request_message("POST", path, &timestamp, nonce, body.as_bytes()),
        };
        let authorization = Authorization {
            scheme: self.key().scheme(),
            mchid: self.mchid(),
            serial_no: self.serial_no(),
            nonce_str: nonce,
            timestamp: &timestamp,
            signature: &self.key().sign(&message),
        };
        let mut answer = Response::new(body);
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
        // Only a nonce of the caller's own making can be no header; WeChat Pay then refuses the reply.
        if let Ok(authorization) = HeaderValue::from_str(&authorization.to_header()) {
            answer.headers_mut().insert(AUTHORIZATION, authorization);
        }
        answer
    }
}

//! What WeChat Pay says when it refuses: status, code, message, detail, and (for the ledger only) help.
//!
//! The words are those of protocol 1.4, 3.5 and 3.7. Who refuses when is decided in `check.rs` and in `endpoints/`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

/// One refusal, as it goes out on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The stable word to branch on, for example `PARAM_ERROR`. Empty: the answer has no body.
    pub code: Cow<'static, str>,
    /// The sentence for people. WeChat Pay changes these; never branch on them.
    pub message: Cow<'static, str>,
    /// Which field, where it is known (protocol 3.7).
    pub detail: Option<Box<Detail>>,
    /// For the developer, in the ledger. Never sent.
    pub help: Option<Box<Help>>,
}

/// Where in the request the fault lies.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// JSON Pointer into the body, for example `/plate_number`.
    pub field: Cow<'static, str>,
    /// The offending value; absent when the field is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// The reason in words.
    pub issue: Cow<'static, str>,
    /// `body`, `url` or `query`.
    pub location: &'static str,
}

/// The value may be a plate or an openid: it is left out.
impl std::fmt::Debug for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detail")
            .field("field", &self.field)
            .field("issue", &self.issue)
            .finish_non_exhaustive()
    }
}

/// What a developer needs to see to repair the call.
#[derive(Clone, PartialEq, Eq)]
pub struct Help {
    /// One or two sentences: what is wrong and what to do.
    pub hint: String,
    /// The string the signature was checked against. It holds the whole body, hence no `Debug`.
    pub string_to_sign: Option<String>,
    /// The string that the caller signed instead, where it could be guessed.
    pub signed_instead: Option<String>,
}

impl std::fmt::Debug for Help {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Help").field("hint", &self.hint).finish_non_exhaustive()
    }
}

impl Refusal {
    /// A refusal with a body of `code` and `message`.
    pub fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            detail: None,
            help: None,
        }
    }

    /// A refusal without a body, as gateways send it.
    pub fn empty(status: u16) -> Self {
        Self::new(status, "", "")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.help = Some(Box::new(Help {
            hint: hint.into(),
            string_to_sign: None,
            signed_instead: None,
        }));
        self
    }

    /// 400 `PARAM_ERROR` about one member of the body or one parameter.
    pub(crate) fn parameter(message: impl Into<Cow<'static, str>>, detail: Detail) -> Self {
        Self {
            detail: Some(Box::new(detail)),
            ..Self::new(400, "PARAM_ERROR", message)
        }
    }

    /// 400 `INVALID_REQUEST`: not an APIv3 request at all.
    pub(crate) fn invalid_request(hint: impl Into<String>) -> Self {
        Self::new(400, "INVALID_REQUEST", "HTTP 请求不符合微信支付 APIv3 接口规则").hint(hint)
    }

    /// 400 `INVALID_REQUEST` with this message: the request is an APIv3 one, but cannot be carried out.
    pub(crate) fn invalid(message: &'static str) -> Self {
        Self::new(400, "INVALID_REQUEST", message)
    }

    /// 403 `NO_AUTH`: the caller may not do this.
    pub(crate) fn no_auth(message: &'static str) -> Self {
        Self::new(403, "NO_AUTH", message)
    }

    /// 401 `SIGN_ERROR`.
    pub(crate) fn sign_error(message: &'static str) -> Self {
        Self::new(401, "SIGN_ERROR", message)
    }

    /// The body to send; empty when the refusal has none.
    pub(crate) fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<&'a Detail>,
        }
        if self.code.is_empty() {
            return Vec::new();
        }
        let body = Body {
            code: &self.code,
            message: &self.message,
            detail: self.detail.as_deref(),
        };
        serde_json::to_vec(&body).expect("text and JSON values always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_documented_shape() {
        let detail = Detail {
            field: "/time".into(),
            value: Some("noon".into()),
            issue: "not RFC 3339".into(),
            location: "body",
        };
        let refusal = Refusal::parameter("time格式有误", detail);

        let body = String::from_utf8(refusal.body()).unwrap();

        assert_eq!(
            body,
            r#"{"code":"PARAM_ERROR","message":"time格式有误","detail":{"field":"/time","value":"noon","issue":"not RFC 3339","location":"body"}}"#
        );
        assert!(Refusal::empty(502).body().is_empty());
    }
}

//! An answer after verification, and the judgement that turns a raw one into it.
//!
//! Lives here: [`Response`], and which answers are believed, refused or distrusted. Pure: time is an argument. Does not
//! live here: the signature check itself (`verify`). Called by `client`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use jiff::fmt::rfc2822;
use serde::de::DeserializeOwned;

use crate::error::{ClockSkew, Detail, Error, NO_CODE, NO_REQUEST_ID};
use crate::platform_keys::PlatformKeys;
use crate::request::Request;
use crate::verify::verify;

/// A successful answer whose signature was checked.
#[derive(Clone)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Response {
    /// The HTTP status: 200 and 204 mean done, 202 means accepted and not finished.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// All headers of the answer.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// WeChat Pay's `Request-ID`, which its support asks for.
    pub fn request_id(&self) -> Option<&str> {
        self.headers.get(REQUEST_ID).and_then(|value| value.to_str().ok())
    }

    /// The body, byte for byte as it was verified.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Reads the JSON body into a type; unknown members are passed over, as WeChat Pay may add some at any time.
    ///
    /// # Errors
    /// [`Error::Decode`] when the body is not JSON or does not fit the type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|source| self.unexpected(std::any::type_name::<T>(), source))
    }

    /// The error for a verified answer that is not what the documentation promises.
    pub(crate) fn unexpected(&self, expected: &'static str, source: impl Into<crate::error::BoxError>) -> Error {
        Error::Decode {
            request_id: request_id(&self.headers),
            expected,
            source: source.into(),
        }
    }
}

impl std::fmt::Debug for Response {
    /// Shows no body: it may hold personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status())
            .field("request_id", &self.request_id())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Judges a raw answer. The status comes first: a refusal is reported even when it is unsigned, a success is believed
/// only with a good signature.
pub(crate) fn judge(
    reply: http::Response<Bytes>,
    request: &Request,
    keys: &PlatformKeys,
    now: i64,
) -> Result<Response, Error> {
    if !reply.status().is_success() {
        return Err(refused(reply, keys, now));
    }
    let (parts, body) = reply.into_parts();
    let trust = match request.digest() {
        Some(digest) => digest.check(&body),
        None => verify(&parts.headers, &body, keys, now),
    };
    match trust {
        Ok(()) => Ok(Response {
            status: parts.status,
            headers: parts.headers,
            body,
        }),
        Err(source) => Err(Error::Verify {
            request_id: request_id(&parts.headers),
            source,
        }),
    }
}

/// The error that a raw answer with another status than 2xx is.
pub(crate) fn refused(reply: http::Response<Bytes>, keys: &PlatformKeys, now: i64) -> Error {
    let (parts, body) = reply.into_parts();
    let verified = verify(&parts.headers, &body, keys, now).is_ok();
    refusal(parts.status, &parts.headers, &body, verified, now)
}

/// The documented body of a refusal. Anything may be missing: gateways answer without.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Refusal {
    code: String,
    message: String,
    detail: Option<Detail>,
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8], verified: bool, now: i64) -> Error {
    let mut refusal = read_refusal(body);
    let source = (status == StatusCode::UNAUTHORIZED)
        .then(|| clock_skew(headers, &refusal.message, now))
        .flatten();
    if refusal.message.is_empty() {
        refusal.message = describe(headers, body);
    }
    if refusal.code.is_empty() {
        refusal.code = format!("{NO_CODE}{}", status.as_u16());
    }
    Error::Api {
        status: status.as_u16(),
        code: refusal.code,
        message: refusal.message,
        request_id: request_id(headers),
        verified,
        retry_after: retry_after(headers, now),
        detail: refusal.detail.map(Box::new),
        source,
    }
}

/// Reads what can be read: a `detail` of an unexpected shape must not cost code and message.
fn read_refusal(body: &[u8]) -> Refusal {
    let Ok(serde_json::Value::Object(mut members)) = serde_json::from_slice(body) else {
        return Refusal::default();
    };
    let mut text = |name| match members.remove(name) {
        Some(serde_json::Value::String(text)) => text,
        _ => String::new(),
    };
    let (code, message) = (text("code"), text("message"));
    let detail = members
        .remove("detail")
        .and_then(|detail| serde_json::from_value(detail).ok());
    Refusal { code, message, detail }
}

/// Says what came instead of an error body, without repeating it: a gateway's page is long and tells nothing.
fn describe(headers: &HeaderMap, body: &[u8]) -> String {
    if body.is_empty() {
        return "the answer has no body".to_owned();
    }
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("no content type");
    format!("the answer has no error message ({kind}, {} bytes)", body.len())
}

/// A 401 may come from the clock. `Date` tells by how much, the text at least that it does.
fn clock_skew(headers: &HeaderMap, message: &str, now: i64) -> Option<ClockSkew> {
    match date(headers).map(|server| now - server) {
        Some(ahead) if ahead.abs() > SKEW_WORTH_TELLING => Some(ClockSkew::Measured(ahead)),
        Some(_) => None,
        None => (message.contains("timestamp") || message.contains("5分钟")).then_some(ClockSkew::Reported),
    }
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(DATE)?.to_str().ok()?;
    rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()
        .map(|date| date.as_second())
}

/// `Retry-After` in seconds or as a date, bounded: a day is long enough to come back and ask.
fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            u64::try_from(date.as_second() - now).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds.min(86_400)))
}

fn request_id(headers: &HeaderMap) -> String {
    let id = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty());
    id.unwrap_or(NO_REQUEST_ID).chars().take(128).collect()
}

const REQUEST_ID: &str = "request-id";

/// Network delay and a coarse `Date` explain smaller differences.
const SKEW_WORTH_TELLING: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Chain, Retry};

    const NOW: i64 = 1_795_451_485; // Mon, 23 Nov 2026 16:31:25 GMT

    fn refused(status: u16, headers: &[(&str, &str)], body: &str) -> Error {
        let mut reply = http::Response::builder().status(status);
        for (name, value) in headers {
            reply = reply.header(*name, *value);
        }
        judge(
            reply.body(Bytes::from(body.to_owned())).unwrap(),
            &Request::new(http::Method::GET, "v3/x"),
            &PlatformKeys::new(),
            NOW,
        )
        .unwrap_err()
    }

    #[test]
    fn a_refusal_is_reported_even_when_unsigned() {
        let error = refused(
            400,
            &[("Request-ID", "08EB")],
            r#"{"code":"PARAM_ERROR","message":"time格式有误","detail":{"field":"/time","value":"2022","issue":"x","location":"body"}}"#,
        );

        assert!(matches!(error, Error::Api { verified: false, .. }));
        assert_eq!(error.status(), Some(400));
        assert_eq!(error.code(), Some("PARAM_ERROR"));
        assert_eq!(error.request_id(), Some("08EB"));
        assert_eq!(error.detail().unwrap().field, "/time");
        assert_eq!(
            Chain(&error).to_string(),
            "WeChat Pay refused with PARAM_ERROR (request 08EB): time格式有误"
        );
    }

    #[test]
    fn an_empty_or_foreign_body_is_still_a_refusal() {
        let empty = refused(404, &[], "");
        assert_eq!(empty.code(), None);
        assert_eq!(
            Chain(&empty).to_string(),
            "WeChat Pay refused with HTTP 404 (request -): the answer has no body"
        );

        let page = refused(502, &[("Content-Type", "text/html")], "<html>bad gateway</html>");
        assert_eq!(page.retry(), Retry::Later);
        assert!(
            Chain(&page)
                .to_string()
                .ends_with("the answer has no error message (text/html, 24 bytes)")
        );
    }

    #[test]
    fn odd_members_do_not_hide_the_code() {
        for body in [
            r#"{"code":"NO_AUTH","message":"x","detail":"text"}"#,
            r#"{"code":"NO_AUTH","message":"x","detail":{"field":1}}"#,
            r#"{"code":"NO_AUTH","message":"x","detail":null,"extra":[]}"#,
        ] {
            assert_eq!(refused(403, &[], body).code(), Some("NO_AUTH"), "{body}");
        }
    }

    #[test]
    fn the_clock_is_told_with_its_seconds() {
        let body = r#"{"code":"SIGN_ERROR","message":"Http头Authorization中的timestamp与发起请求的时间不得超过5分钟"}"#;

        let measured = refused(401, &[("Date", "Mon, 23 Nov 2026 16:41:25 GMT")], body);
        let reported = refused(401, &[], body);
        let another = refused(
            401,
            &[("Date", "Mon, 23 Nov 2026 16:31:27 GMT")],
            r#"{"code":"SIGN_ERROR","message":"签名错误"}"#,
        );

        assert!(
            Chain(&measured)
                .to_string()
                .ends_with("the local clock is 600 s behind WeChat Pay's; synchronise it (NTP)")
        );
        assert!(Chain(&reported).to_string().contains("more than five minutes off"));
        assert!(matches!(another, Error::Api { source: None, .. }));
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let table = [
            ("7", Some(7)),
            ("Mon, 23 Nov 2026 16:31:35 GMT", Some(10)),
            ("Mon, 23 Nov 2026 16:31:15 GMT", Some(0)),
            ("99999999", Some(86_400)),
            ("soon", None),
        ];

        for (text, seconds) in table {
            assert_eq!(
                refused(429, &[("Retry-After", text)], "").retry_after(),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }

    #[test]
    fn an_unsigned_success_is_not_believed() {
        let error = refused(204, &[("Request-ID", "08EB")], "");

        assert!(error.is_ambiguous());
        assert_eq!(
            Chain(&error).to_string(),
            "reply 08EB failed verification: the header Wechatpay-Timestamp is missing or empty"
        );
    }
}

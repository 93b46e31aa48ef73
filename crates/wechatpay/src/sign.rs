//! What is signed, and how the signature travels.
//!
//! Lives here: the string to sign (签名串), the Authorization header, and the finished HTTP request. Pure: time and nonce
//! are arguments. Does not live here: the key's own operation (`keys`), sending (`client`, the caller).

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};

use crate::error::{BoxError, Error};
use crate::merchant::Merchant;
use crate::request::Request;

/// The Authorization scheme of RSA signatures.
pub const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";

/// Joins lines into a message to sign: each is ended by a line feed, the last one too.
///
/// ```
/// assert_eq!(wechatpay::sign::message(["GET", "/v3/certificates", "1554208460", "593BEC0C", ""]),
///     b"GET\n/v3/certificates\n1554208460\n593BEC0C\n\n");
/// ```
pub fn message<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Vec<u8> {
    let mut message = Vec::with_capacity(512);
    for line in lines {
        message.extend_from_slice(line.as_ref());
        message.push(b'\n');
    }
    message
}

/// The values of an Authorization header.
#[derive(Debug, Clone, Copy)]
pub struct Authorization<'a> {
    /// How the signature was made, [`SCHEME`] for RSA.
    pub scheme: &'a str,
    /// The caller.
    pub mchid: &'a str,
    /// The serial of the caller's API certificate.
    pub serial_no: &'a str,
    /// As signed.
    pub nonce_str: &'a str,
    /// As signed.
    pub timestamp: &'a str,
    /// The signature, base64.
    pub signature: &'a str,
}

impl Authorization<'_> {
    /// Writes the header's value in the order of the documentation.
    pub fn to_header(&self) -> String {
        let Authorization {
            scheme,
            mchid,
            serial_no,
            nonce_str,
            timestamp,
            signature,
        } = self;
        format!(
            "{scheme} mchid=\"{mchid}\",nonce_str=\"{nonce_str}\",signature=\"{signature}\",\
             timestamp=\"{timestamp}\",serial_no=\"{serial_no}\""
        )
    }
}

impl Merchant {
    /// Signs a request and writes its Authorization header. `path_and_query` and `body` are the exact bytes sent.
    pub fn authorize(&self, method: &str, path_and_query: &str, timestamp: &str, nonce: &str, body: &[u8]) -> String {
        let signature = self
            .key()
            .sign(&request_message(method, path_and_query, timestamp, nonce, body));
        let authorization = Authorization {
            scheme: self.key().scheme(),
            mchid: self.mchid(),
            serial_no: self.serial_no(),
            nonce_str: nonce,
            timestamp,
            signature: &signature,
        };
        authorization.to_header()
    }
}

/// The string to sign (签名串) of a request.
pub fn request_message(method: &str, path_and_query: &str, timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    message([
        method.as_bytes(),
        path_and_query.as_bytes(),
        timestamp.as_bytes(),
        nonce.as_bytes(),
        body,
    ])
}

/// Where requests go: scheme and host, which are not signed.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

/// Everything about the caller that is the same for every request.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) merchant: Merchant,
    /// Names the key that answers should be signed with: without it a merchant who is moving from certificates to the
    /// public key gets certificate signatures.
    pub(crate) answer_key: Option<HeaderValue>,
    pub(crate) user_agent: HeaderValue,
}

impl Caller {
    /// Signs a request for this moment.
    pub(crate) fn sign(
        &self,
        request: &Request,
        origin: &Origin,
        now: i64,
        nonce: &str,
    ) -> Result<http::Request<Bytes>, Error> {
        self.try_sign(request, origin, now, nonce)
            .map_err(|source| Error::build(request.route.template(), source))
    }

    fn try_sign(
        &self,
        request: &Request,
        origin: &Origin,
        now: i64,
        nonce: &str,
    ) -> Result<http::Request<Bytes>, BoxError> {
        let Request {
            method,
            route,
            headers,
            body,
            ..
        } = request;
        let target = PathAndQuery::try_from(route.resolve()?)?;
        let authorization = self.merchant.authorize(
            method.as_str(),
            target.as_str(),
            &now.to_string(),
            nonce,
            request.signed_body(),
        );
        let mut signed = http::Request::new(body.clone());
        *signed.method_mut() = method.clone();
        *signed.uri_mut() = Uri::builder()
            .scheme(origin.scheme.clone())
            .authority(origin.authority.clone())
            .path_and_query(target)
            .build()?;
        let has_body = !signed.body().is_empty();
        let out = signed.headers_mut();
        *out = headers.clone();
        out.entry(ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        out.entry(USER_AGENT).or_insert_with(|| self.user_agent.clone());
        if has_body {
            out.entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/json"));
        }
        if let Some(key) = &self.answer_key {
            out.entry("wechatpay-serial").or_insert_with(|| key.clone());
        }
        let mut authorization = HeaderValue::try_from(authorization)?;
        authorization.set_sensitive(true);
        out.insert(AUTHORIZATION, authorization);
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::fresh_key;
    use crate::route::Route;
    use http::Method;
    use serde_json::json;

    fn caller() -> Caller {
        let key = fresh_key().1;
        Caller {
            merchant: Merchant::new("1900000109", "5157f09e", key),
            answer_key: Some(HeaderValue::from_static("PUB_KEY_ID_01")),
            user_agent: HeaderValue::from_static("test/1"),
        }
    }

    fn origin() -> Origin {
        Origin {
            scheme: Scheme::HTTPS,
            authority: Authority::from_static("api.mch.weixin.qq.com"),
        }
    }

    #[test]
    fn the_target_is_signed_exactly_as_it_is_sent() {
        let caller = caller();
        let route = Route::new("v3/users/{openid}?x=%41")
            .bind("openid", "o/1")
            .query("appid", "wx 1");

        let signed = caller
            .sign(&Request::new(Method::GET, route), &origin(), 1_554_208_460, "593BEC0C")
            .unwrap();

        let target = "/v3/users/o%2F1?x=%41&appid=wx%201";
        assert_eq!(
            signed.uri().to_string(),
            format!("https://api.mch.weixin.qq.com{target}")
        );
        let signature = caller
            .merchant
            .key()
            .sign(format!("GET\n{target}\n1554208460\n593BEC0C\n\n").as_bytes());
        assert_eq!(
            signed.headers()[AUTHORIZATION],
            format!(
                "WECHATPAY2-SHA256-RSA2048 mchid=\"1900000109\",nonce_str=\"593BEC0C\",signature=\"{signature}\",\
                 timestamp=\"1554208460\",serial_no=\"5157F09E\""
            )
        );
        assert!(signed.headers()[AUTHORIZATION].is_sensitive(), "not shown by Debug");
    }

    #[test]
    fn headers_of_the_call_win_over_the_usual_ones() {
        let request = Request::new(Method::POST, "v3/x").json(&json!({})).unwrap();
        let request = request
            .header("Accept", "*/*")
            .unwrap()
            .header("Wechatpay-Serial", "PUB_KEY_ID_02")
            .unwrap();

        let signed = caller().sign(&request, &origin(), 0, "n").unwrap();

        let header = |name: &str| signed.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (header("accept"), header("content-type")),
            ("*/*".to_owned(), "application/json".to_owned())
        );
        assert_eq!(
            (header("wechatpay-serial"), header("user-agent")),
            ("PUB_KEY_ID_02".to_owned(), "test/1".to_owned())
        );
    }

    #[test]
    fn a_mistake_in_the_path_names_the_template_and_no_value() {
        let route = Route::new("v3/users/{openid}/{other}").bind("openid", "oUpF8u");

        let error = caller()
            .sign(&Request::new(Method::GET, route), &origin(), 0, "n")
            .unwrap_err();

        assert_eq!(
            crate::error::Chain(&error).to_string(),
            "could not build the request for v3/users/{openid}/{other}: {other} is not bound"
        );
    }
}

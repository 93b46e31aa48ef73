//! Refuses what WeChat Pay refuses before it looks at the business: headers, Authorization, clock, serial, signature.
//!
//! Pure: the time is an argument. The order is the real one as far as known (protocol 3.3, 3.4): headers first, the clock
//! before the signature. Fields of the body are checked by `endpoints/`. Called by `platform.rs`.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Method};
use jiff::Timestamp;

use crate::hint;
use crate::identity::Identity;
use crate::refusal::{Help, Refusal};
use crate::seal;

/// A request without its body.
pub(crate) struct Head {
    pub(crate) method: Method,
    /// Path and query as on the request line.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

/// How the platform sees the merchant's API certificate (商户API证书). Each state but `Good` is one row of protocol 3.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateState {
    /// Valid.
    #[default]
    Good,
    /// The merchant has not set an APIv3 key (APIv3密钥).
    ApiV3KeyNotSet,
    /// The merchant has never applied for a certificate.
    NotApplied,
    /// Past its five years.
    Expired,
    /// Revoked (已作废).
    Revoked,
    /// Replaced by a newer one.
    Replaced,
}

/// Checks the headers that every request needs, before authentication.
///
/// Unknown on the real platform: whether this endpoint insists on Accept and User-Agent (some do, protocol 3.4), and
/// what a wrong Accept or Content-Type gives. The sandbox insists, and answers 400 `INVALID_REQUEST`.
pub(crate) fn headers(head: &Head) -> Result<(), Refusal> {
    let (Some(accept), Some(_)) = (text(head, ACCEPT), text(head, USER_AGENT)) else {
        return Err(Refusal::new(400, "INVALID_REQUEST", "Http头缺少Accept或User-Agent")
            .hint("send both headers: `Accept: application/json` and a User-Agent of your own"));
    };
    let accepts_json = accept
        .split(',')
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .any(|range| {
            ["application/json", "application/*", "*/*"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(range))
        });
    if !accepts_json {
        return Err(Refusal::invalid_request(format!(
            "Accept must allow application/json, but is {accept:?}"
        )));
    }
    let needs_body = head.method == Method::POST || head.method == Method::PUT || head.method == Method::PATCH;
    let content_type = text(head, CONTENT_TYPE).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if needs_body && !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::invalid_request(format!(
            "Content-Type must be application/json, but is {content_type:?}"
        )));
    }
    Ok(())
}

/// Checks who calls, and that the request is what the caller signed.
pub(crate) fn authenticate(
    head: &Head,
    body: &[u8],
    now: Timestamp,
    identity: &Identity,
    certificate: CertificateState,
) -> Result<(), Refusal> {
    let Some(value) = head.headers.get(AUTHORIZATION) else {
        return Err(malformed("there is no Authorization header"));
    };
    let value = value
        .to_str()
        .map_err(|_| malformed("the Authorization header is not ASCII"))?;
    let own = identity.suite().scheme();
    if let Some((scheme, _)) = value.split_once(' ')
        && scheme != own
    {
        return Err(scheme_refused(scheme, own));
    }
    let authorization = Authorization::parse(value)?;

    let timestamp: i64 = authorization
        .timestamp
        .parse()
        .map_err(|_| malformed("timestamp is not decimal seconds"))?;
    let skew = timestamp.saturating_sub(now.as_second());
    if skew.unsigned_abs() > MAX_SKEW_S {
        return Err(
            Refusal::sign_error("Http头Authorization中的timestamp与发起请求的时间不得超过5分钟").hint(format!(
                "the timestamp is {skew} s from the platform's clock; set yours by NTP and sign at send time"
            )),
        );
    }

    let merchant = &identity.merchant;
    let unknown = |hint: String| {
        // Unknown on the real platform: the message for a mchid that does not exist. The serial cannot be its own.
        Refusal::sign_error("商户证书序列号有误。请使用签名私钥匹配的证书序列号").hint(hint)
    };
    if authorization.mchid != merchant.mchid {
        let right = &merchant.mchid;
        return Err(unknown(format!(
            "mchid should be {right}: the one that signs, in provider mode the service provider"
        )));
    }
    let Some(key) = identity.merchant_keys.key(authorization.serial_no) else {
        let right = &merchant.serial_no;
        return Err(unknown(format!(
            "serial_no should be {right}: the merchant API certificate's, not the platform's"
        )));
    };
    if let Some(message) = certificate.message() {
        return Err(Refusal::sign_error(message));
    }

    let message = seal::request_message(
        head.method.as_str(),
        &head.target,
        authorization.timestamp,
        authorization.nonce_str,
        body,
    );
    if key.verifies(&message, authorization.signature) {
        return Ok(());
    }
    let (hint, signed_instead) = hint::wrong_signature(key, head, &authorization, body);
    let string_to_sign = Some(String::from_utf8_lossy(&message).into_owned());
    Err(Refusal {
        help: Some(Box::new(Help {
            hint,
            string_to_sign,
            signed_instead,
        })),
        ..Refusal::sign_error("错误的签名，导致验签失败。")
    })
}

impl CertificateState {
    fn message(self) -> Option<&'static str> {
        match self {
            Self::Good => None,
            Self::ApiV3KeyNotSet => Some("商户未设置APIv3密钥。"),
            Self::NotApplied => Some("商户未申请过证书。"),
            Self::Expired => Some("商户证书已过期。"),
            Self::Revoked => Some("商户证书已作废。"),
            Self::Replaced => Some("已更换证书，请使用新证书。"),
        }
    }
}

/// The members of the Authorization header (protocol 3.2). Public for the vectors.
#[derive(Debug, PartialEq, Eq)]
pub struct Authorization<'a> {
    pub scheme: &'a str,
    pub mchid: &'a str,
    pub nonce_str: &'a str,
    pub signature: &'a str,
    pub timestamp: &'a str,
    pub serial_no: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads the header strictly as documented: one blank, commas without blanks, five members, each once.
    /// Unknown: whether the real platform is as strict.
    ///
    /// # Errors
    /// 401 `SIGN_ERROR` for another layout, or another scheme than `WECHATPAY2-SHA256-RSA2048` (with the feature `gm` also
    /// `WECHATPAY2-SM2-WITH-SM3`).
    pub fn parse(value: &'a str) -> Result<Self, Refusal> {
        let (scheme, list) = value
            .split_once(' ')
            .ok_or_else(|| malformed("there is no blank after the scheme"))?;
        if !SCHEMES.contains(&scheme) {
            return Err(scheme_refused(scheme, SCHEMES[0]));
        }
        let mut members = [None; NAMES.len()];
        for member in list.split(',') {
            let (name, quoted) = member.split_once('=').ok_or_else(|| malformed("a member has no `=`"))?;
            let value = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let value = value.filter(|value| !value.is_empty() && !value.contains('"'));
            let value = value.ok_or_else(|| malformed("a value is empty or not in double quotes"))?;
            let index = NAMES.iter().position(|known| *known == name);
            let index =
                index.ok_or_else(|| malformed(&format!("there is no member {name:?} (no blanks after commas)")))?;
            if members[index].replace(value).is_some() {
                return Err(malformed(&format!("{name} is there twice")));
            }
        }
        let [
            Some(mchid),
            Some(nonce_str),
            Some(signature),
            Some(timestamp),
            Some(serial_no),
        ] = members
        else {
            return Err(malformed(
                "it needs mchid, nonce_str, signature, timestamp and serial_no",
            ));
        };
        if nonce_str.len() > MAX_NONCE {
            return Err(malformed("nonce_str is longer than 128 characters"));
        }
        Ok(Self {
            scheme,
            mchid,
            nonce_str,
            signature,
            timestamp,
            serial_no,
        })
    }
}

fn scheme_refused(scheme: &str, right: &str) -> Refusal {
    Refusal::sign_error("Http头Authorization认证类型不正确")
        .hint(format!("the scheme is {scheme:?}, it must be {right}"))
}

fn malformed(hint: &str) -> Refusal {
    Refusal::sign_error("Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》").hint(hint)
}

fn text(head: &Head, name: http::HeaderName) -> Option<&str> {
    head.headers
        .get(name)?
        .to_str()
        .ok()
        .filter(|value| !value.trim().is_empty())
}

const SCHEMES: &[&str] = &[
    "WECHATPAY2-SHA256-RSA2048",
    #[cfg(feature = "gm")]
    "WECHATPAY2-SM2-WITH-SM3",
];
const NAMES: [&str; 5] = ["mchid", "nonce_str", "signature", "timestamp", "serial_no"];
const MAX_SKEW_S: u64 = 300;
/// The documents show 32 and name no limit; this one only keeps the ledger small.
const MAX_NONCE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_any_order() {
        let value = r#"WECHATPAY2-SHA256-RSA2048 serial_no="s",mchid="1",timestamp="2",signature="a+/=",nonce_str="n""#;

        let parsed = Authorization::parse(value).unwrap();

        assert_eq!(
            parsed,
            Authorization {
                scheme: "WECHATPAY2-SHA256-RSA2048",
                mchid: "1",
                nonce_str: "n",
                signature: "a+/=",
                timestamp: "2",
                serial_no: "s"
            }
        );
    }

    #[test]
    fn a_crooked_authorization_is_refused() {
        let good = r#"mchid="1",nonce_str="n",signature="a",timestamp="2",serial_no="s""#;
        for list in [
            "",
            r#"mchid="1""#,
            r#"mchid=1,nonce_str="n",signature="a",timestamp="2",serial_no="s""#,
            r#"mchid="1", nonce_str="n",signature="a",timestamp="2",serial_no="s""#,
            r#"mchid="",nonce_str="n",signature="a",timestamp="2",serial_no="s""#,
            &format!(r#"{good},mchid="1""#),
            &format!("{good},"),
            &good.replace("\"n\"", &format!("\"{}\"", "n".repeat(129))),
        ] {
            let refusal = Authorization::parse(&format!("{} {list}", SCHEMES[0])).unwrap_err();
            assert!(
                refusal.message.starts_with("Http头Authorization值格式错误"),
                "{list}: {refusal:?}"
            );
        }
        let refusal = Authorization::parse(&format!("Bearer {good}")).unwrap_err();
        assert_eq!(refusal.message, "Http头Authorization认证类型不正确");
    }
}

//! Whether an answer or a notification really comes from WeChat Pay (验签).
//!
//! Lives here: the checks in their order: headers, clock, serial, base64, signature. Pure: time is an argument. Does not
//! live here: the key's own operation (`keys`), what the body says (`response`, `notify`; the callers).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use crate::platform_keys::PlatformKeys;
use crate::sign;

/// How far the timestamp of an answer or notification may be from the local clock, either way.
pub const CLOCK_WINDOW_SECONDS: i64 = 300;

/// What the value of a deliberately wrong signature begins with (签名探测流量).
const PROBE: &str = "WECHATPAY/SIGNTEST/";

/// Checks the signature headers over the raw body. `now` is in Unix seconds.
///
/// # Errors
/// The first check that fails, in the order of [`VerifyError`].
pub fn verify(headers: &HeaderMap, body: &[u8], keys: &PlatformKeys, now: i64) -> Result<(), VerifyError> {
    let timestamp = header(headers, "Wechatpay-Timestamp")?;
    let nonce = header(headers, "Wechatpay-Nonce")?;
    let signature = header(headers, "Wechatpay-Signature")?;
    let serial = header(headers, "Wechatpay-Serial")?;
    check_clock(timestamp, now)?;
    let key = keys
        .find(serial)
        .ok_or_else(|| VerifyError::UnknownSerial(shown(serial)))?;
    let probe = |otherwise| {
        if is_probe(signature) {
            VerifyError::Probe
        } else {
            otherwise
        }
    };
    let decoded = STANDARD.decode(signature).map_err(|_| probe(VerifyError::Base64))?;
    if key.verify(&message(timestamp, nonce, body), &decoded) {
        Ok(())
    } else {
        Err(probe(VerifyError::Signature(key.id().to_owned())))
    }
}

/// The message that WeChat Pay signs: timestamp, nonce and raw body, each ended by a line feed.
pub fn message(timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    sign::message([timestamp.as_bytes(), nonce.as_bytes(), body])
}

/// Whether a signature value is one of WeChat Pay's deliberately wrong ones. It is good for telling people, not for
/// deciding: such a value fails verification like any other wrong one.
pub fn is_probe(signature: &str) -> bool {
    signature.starts_with(PROBE)
}

/// Why an answer or a notification is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A signature header is missing or empty; proxies drop them.
    #[error("the header {0} is missing or empty")]
    MissingHeader(&'static str),
    /// The timestamp is not a decimal number.
    #[error("the header Wechatpay-Timestamp is not a number of seconds")]
    Timestamp,
    /// The timestamp is too far from the local clock, by this many seconds; negative when it lies in the past.
    #[error("its timestamp is {} s {} the local clock, more than 300 s are refused; check the clock (NTP)",
        .0.unsigned_abs(), if *.0 > 0 { "ahead of" } else { "behind" })]
    Clock(i64),
    /// It names a key that is not held.
    #[error("it is signed with the platform key {0:?}, which is not held")]
    UnknownSerial(String),
    /// It names a certificate that is not held, and asking for the certificates did not bring it.
    #[error("it is signed with the platform key {serial:?}, which is not held, and cannot be had: {reason}")]
    NotFetched {
        /// The serial that it names.
        serial: String,
        /// Why the certificate could not be fetched, in one line.
        reason: String,
    },
    /// The signature is not strict base64.
    #[error("the signature is not base64")]
    Base64,
    /// The signature is not that key's over this body.
    #[error("the signature does not match the platform key {0}")]
    Signature(String),
    /// A download, which is not signed, is not the file that was promised.
    #[error("the file has the digest {found}, not {expected}")]
    Digest {
        /// The digest that a signed answer gave.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// The signature is a deliberately wrong one; ask again.
    #[error("the signature is one of WeChat Pay's probes (WECHATPAY/SIGNTEST/), wrong on purpose")]
    Probe,
}

/// The serial that an answer or notification names, for looking it up beforehand.
pub(crate) fn serial(headers: &HeaderMap) -> Option<&str> {
    header(headers, "Wechatpay-Serial").ok()
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, VerifyError> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
        .ok_or(VerifyError::MissingHeader(name))
}

fn check_clock(timestamp: &str, now: i64) -> Result<(), VerifyError> {
    // `parse` alone would accept a sign.
    if !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::Timestamp);
    }
    let timestamp: i64 = timestamp.parse().map_err(|_| VerifyError::Timestamp)?;
    let ahead = timestamp.saturating_sub(now);
    if ahead.abs() <= CLOCK_WINDOW_SECONDS {
        Ok(())
    } else {
        Err(VerifyError::Clock(ahead))
    }
}

/// The serial comes from an unverified header: bounded before it is repeated.
fn shown(serial: &str) -> String {
    serial.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::MerchantKey;
    use crate::keys::tests::fresh_key;
    use crate::platform_keys::PlatformKeys;

    const NOW: i64 = 1_722_850_421;
    const BODY: &[u8] = br#"{"ok":true}"#;

    fn platform() -> (MerchantKey, PlatformKeys) {
        let key = fresh_key().1;
        let keys = PlatformKeys::new().with(key.public("5157F09E").unwrap());
        (key, keys)
    }

    fn signed(key: &MerchantKey, timestamp: &str) -> HeaderMap {
        let signature = key.sign(&message(timestamp, "nonce", BODY));
        let headers = [
            ("Timestamp", timestamp),
            ("Nonce", "nonce"),
            ("Signature", &signature),
            ("Serial", "5157f09e"),
        ];
        headers
            .iter()
            .map(|(name, value)| (format!("Wechatpay-{name}").parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    #[test]
    fn a_good_signature_passes_within_five_minutes() {
        let (key, keys) = platform();

        for offset in [-300, 0, 300] {
            assert_eq!(
                verify(&signed(&key, &(NOW + offset).to_string()), BODY, &keys, NOW),
                Ok(())
            );
        }
        for offset in [-301, 301] {
            let stale = verify(&signed(&key, &(NOW + offset).to_string()), BODY, &keys, NOW);
            assert_eq!(stale, Err(VerifyError::Clock(offset)));
        }
    }

    #[test]
    fn timestamps_are_plain_decimal() {
        let (key, keys) = platform();

        for timestamp in ["+1722850421", "1722850421.0", "0x66b0", "99999999999999999999"] {
            let outcome = verify(&signed(&key, timestamp), BODY, &keys, NOW);
            assert_eq!(outcome, Err(VerifyError::Timestamp), "{timestamp}");
        }
    }

    #[test]
    fn every_header_is_needed() {
        let (key, keys) = platform();

        for name in [
            "Wechatpay-Timestamp",
            "Wechatpay-Nonce",
            "Wechatpay-Signature",
            "Wechatpay-Serial",
        ] {
            let mut headers = signed(&key, &NOW.to_string());
            headers.remove(name);
            assert_eq!(
                verify(&headers, BODY, &keys, NOW),
                Err(VerifyError::MissingHeader(name))
            );
            headers.insert(name, "".parse().unwrap());
            assert_eq!(
                verify(&headers, BODY, &keys, NOW),
                Err(VerifyError::MissingHeader(name))
            );
        }
    }

    #[test]
    fn each_wrong_part_has_its_own_error() {
        let (key, keys) = platform();
        let good = signed(&key, &NOW.to_string());
        let with = |name: &'static str, value: &str| {
            let mut headers = good.clone();
            headers.insert(name, value.parse().unwrap());
            verify(&headers, BODY, &keys, NOW).unwrap_err()
        };
        let other = fresh_key().1.sign(&message(&NOW.to_string(), "nonce", BODY));

        assert_eq!(
            with("wechatpay-serial", "00FF"),
            VerifyError::UnknownSerial("00FF".into())
        );
        assert_eq!(with("wechatpay-signature", "a b"), VerifyError::Base64);
        assert_eq!(
            with("wechatpay-signature", &other),
            VerifyError::Signature("5157F09E".into())
        );
        assert_eq!(
            with("wechatpay-nonce", "other"),
            VerifyError::Signature("5157F09E".into())
        );
        assert_eq!(with("wechatpay-signature", "WECHATPAY/SIGNTEST/x"), VerifyError::Probe);
        assert_eq!(
            with("wechatpay-signature", "WECHATPAY/SIGNTEST/aaaa"),
            VerifyError::Probe
        );
        assert_eq!(
            verify(&good, b"{}", &keys, NOW),
            Err(VerifyError::Signature("5157F09E".into()))
        );
    }
}

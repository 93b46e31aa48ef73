//! The five `Wechatpay-*` headers of a signed answer or callback, and how they are spoilt on purpose.

use std::collections::HashMap;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::seal::{SigningKey, answer_message, random, random_serial, random_text};

/// What is done wrong on purpose to one signed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twist {
    None,
    WrongSignature,
    StaleTimestamp,
    UnknownSerial,
    Probe,
}

/// A platform key with the id under which callers hold it.
pub(crate) struct PlatformKey {
    pub(crate) id: String,
    pub(crate) key: SigningKey,
}

/// Signs answers.
pub(crate) struct Sealer {
    /// Same key, status, body and second: same nonce and signature. See `Builder::cached_signatures`.
    cache: Option<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    second: i64,
    seals: HashMap<(String, u16, Vec<u8>), Seal>,
}

#[derive(Clone)]
struct Seal {
    nonce: String,
    signature: String,
}

impl Sealer {
    pub(crate) fn new(cached: bool) -> Self {
        Self {
            cache: cached.then(Mutex::default),
        }
    }

    /// Adds the five `Wechatpay-*` headers for this answer.
    pub(crate) fn seal(
        &self,
        headers: &mut HeaderMap,
        key: &PlatformKey,
        status: u16,
        body: &[u8],
        now_unix: i64,
        twist: Twist,
    ) {
        let second = if twist == Twist::StaleTimestamp {
            now_unix - STALE_S
        } else {
            now_unix
        };
        let timestamp = second.to_string();
        let mut seal = match &self.cache {
            Some(cache) if twist == Twist::None => cached_seal(cache, key, status, body, second),
            Some(_) | None => fresh_seal(key, &timestamp, body),
        };
        match twist {
            Twist::None | Twist::StaleTimestamp | Twist::UnknownSerial => {}
            Twist::WrongSignature => seal.signature = STANDARD.encode(random::<256>()),
            Twist::Probe => seal.signature = probe_signature(),
        }
        let serial = if twist == Twist::UnknownSerial {
            random_serial()
        } else {
            key.id.clone()
        };

        let mut set = |name: &'static str, value: String| {
            let value = HeaderValue::try_from(value).expect("ids, digits and base64 are header text");
            headers.insert(HeaderName::from_static(name), value);
        };
        set("wechatpay-timestamp", timestamp);
        set("wechatpay-nonce", seal.nonce);
        set("wechatpay-signature", seal.signature);
        set("wechatpay-serial", serial);
        set("wechatpay-signature-type", key.key.suite().scheme().into());
    }
}

fn cached_seal(cache: &Mutex<Cache>, key: &PlatformKey, status: u16, body: &[u8], second: i64) -> Seal {
    let mut cache = cache.lock().expect("no holder of the cache panics");
    if cache.second != second || cache.seals.len() >= MAX_CACHED {
        cache.seals.clear();
        cache.second = second;
    }
    cache
        .seals
        .entry((key.id.clone(), status, body.to_vec()))
        .or_insert_with(|| fresh_seal(key, &second.to_string(), body))
        .clone()
}

fn fresh_seal(key: &PlatformKey, timestamp: &str, body: &[u8]) -> Seal {
    let nonce = random_text(32);
    let signature = key.key.sign(&answer_message(timestamp, &nonce, body));
    Seal { nonce, signature }
}

/// A signature probe (签名探测流量, protocol 3.9): 344 characters that decode to 256 bytes, so only RSA rejects them.
fn probe_signature() -> String {
    let text = STANDARD.encode(random::<256>());
    format!("{PROBE_PREFIX}{}", &text[PROBE_PREFIX.len()..])
}

const PROBE_PREFIX: &str = "WECHATPAY/SIGNTEST/";
/// Twice the five minutes that callers allow.
const STALE_S: i64 = 600;
/// One second's worth of different bodies.
const MAX_CACHED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_decodes_to_the_length_of_a_signature() {
        let probe = probe_signature();

        assert!(probe.starts_with("WECHATPAY/SIGNTEST/"));
        assert_eq!(probe.len(), 344);
        assert_eq!(STANDARD.decode(probe).unwrap().len(), 256);
    }
}

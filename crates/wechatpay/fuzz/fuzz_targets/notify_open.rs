//! Whatever is posted to the merchant: it may be refused, it may not crash.
//!
//! The first byte chooses between any headers (which never verify) and a rightly signed body, so that both the checks and
//! what lies behind them are reached.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use wechatpay::notify::{self, ReplayGuard};
use wechatpay::{ApiV3Key, MerchantKey, PlatformKeys, verify};

const NOW: i64 = 1_795_451_485;
const KEY: &str = include_str!("../../tests/files/apiclient_key.pem");

static SIGNER: LazyLock<MerchantKey> = LazyLock::new(|| MerchantKey::from_pem(KEY).unwrap());
static KEYS: LazyLock<PlatformKeys> = LazyLock::new(|| PlatformKeys::new().with(SIGNER.public("AB01").unwrap()));
static API_V3_KEY: LazyLock<ApiV3Key> = LazyLock::new(|| ApiV3Key::new([b'k'; 32]).unwrap());

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let mut headers = HeaderMap::new();
    let body = match mode % 4 {
        // Four header values, then the body.
        0 => {
            let mut parts = rest.splitn(5, |byte| *byte == b'\n');
            for name in ["timestamp", "nonce", "signature", "serial"] {
                let value = HeaderValue::from_bytes(parts.next().unwrap_or_default());
                if let (Ok(value), Ok(name)) = (value, http::HeaderName::try_from(format!("wechatpay-{name}"))) {
                    headers.insert(name, value);
                }
            }
            parts.next().unwrap_or_default().to_vec()
        }
        // A signed body as it is.
        1 => rest.to_vec(),
        // A signed envelope around a sealed resource: the event types meet any plaintext.
        _ => {
            const TYPES: [&str; 7] = [
                "MALL_AUTH.ACTIVATE_CARD",
                "MALL_TRANSACTION.SUCCESS",
                "MALL_REFUND.SUCCESS",
                "VEHICLE.ENTRANCE_STATE_CHANGE",
                "TRANSACTION.SUCCESS",
                "PARKING_FEE.QUERY_TRANS_INFO",
                "SECURITY_ECHO.SUCCESS",
            ];
            let (kind, plaintext) = rest.split_first().unwrap_or((&0, b""));
            let sealed = API_V3_KEY.seal("0123456789ab", "", plaintext).unwrap();
            format!(
                r#"{{"id":"1","event_type":"{}","resource":{{"algorithm":"AEAD_AES_256_GCM","nonce":"0123456789ab","ciphertext":"{sealed}"}}}}"#,
                TYPES[usize::from(*kind) % TYPES.len()]
            )
            .into_bytes()
        }
    };
    if mode % 4 != 0 {
        let timestamp = NOW.to_string();
        let signature = SIGNER.sign(&verify::message(&timestamp, "n", &body));
        headers.insert("wechatpay-timestamp", timestamp.parse().unwrap());
        headers.insert("wechatpay-nonce", HeaderValue::from_static("n"));
        headers.insert("wechatpay-serial", HeaderValue::from_static("ab01"));
        headers.insert("wechatpay-signature", signature.parse().unwrap());
    }
    match notify::open(&headers, &body, &KEYS, &API_V3_KEY, NOW) {
        Ok(notification) => {
            assert_ne!(mode % 4, 0, "unsigned and believed");
            let _ = notification.event();
            assert!(ReplayGuard::new(1).admit(&headers, NOW));
        }
        Err(error) => drop(wechatpay::Chain(&error).to_string()),
    }
});

//! What holds for every input: paths, signatures, and whatever comes over the wire.

#![expect(
    clippy::unwrap_used,
    reason = "tests; Clippy knows only the functions marked as such"
)]

use std::sync::{LazyLock, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use wechatpay::notify::{self, NotifyError};
use wechatpay::{
    ApiV3Key, Certificate, Client, Error, Exchange, Merchant, MerchantKey, PlatformKeys, Retry, Route, Transport, sign,
    verify,
};

const NOW: i64 = 1_795_451_485;
const KEY: &str = include_str!("files/apiclient_key.pem");

static SIGNER: LazyLock<MerchantKey> = LazyLock::new(|| MerchantKey::from_pem(KEY).unwrap());
static KEYS: LazyLock<PlatformKeys> = LazyLock::new(|| PlatformKeys::new().with(SIGNER.public("AB01").unwrap()));

fn api_v3_key() -> ApiV3Key {
    ApiV3Key::new([b'k'; 32]).unwrap()
}

fn signed(body: &[u8], timestamp: i64) -> HeaderMap {
    let timestamp = timestamp.to_string();
    let signature = SIGNER.sign(&verify::message(&timestamp, "n", body));
    [
        ("wechatpay-timestamp", timestamp.as_str()),
        ("wechatpay-nonce", "n"),
        ("wechatpay-serial", "ab01"),
        ("wechatpay-signature", &signature),
    ]
    .into_iter()
    .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
    .collect()
}

/// Answers every request with one reply, and keeps the request.
struct Canned {
    reply: http::Response<Bytes>,
    sent: Mutex<Option<http::Request<Bytes>>>,
}

impl Transport for &'static Canned {
    fn execute(&self, request: http::Request<Bytes>) -> Exchange<'_> {
        *self.sent.lock().unwrap() = Some(request);
        let mut reply = http::Response::new(self.reply.body().clone());
        *reply.status_mut() = self.reply.status();
        *reply.headers_mut() = self.reply.headers().clone();
        Box::pin(async { Ok(reply) })
    }
}

fn canned(status: u16, headers: HeaderMap, body: &[u8]) -> (&'static Canned, Client) {
    let mut reply = http::Response::new(Bytes::copy_from_slice(body));
    *reply.status_mut() = status.try_into().unwrap();
    *reply.headers_mut() = headers;
    let canned: &'static Canned = Box::leak(Box::new(Canned {
        reply,
        sent: Mutex::default(),
    }));
    let merchant = Merchant::new("1900000109", "AB02", MerchantKey::from_pem(KEY).unwrap());
    let client = Client::builder(merchant, KEYS.clone())
        .transport(canned)
        .clock(|| jiff::Timestamp::from_second(NOW).unwrap())
        .build()
        .unwrap();
    (canned, client)
}

fn wait<F: Future>(call: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(call)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A bound value is one segment, and decoding gives it back.
    #[test]
    fn a_bound_value_is_one_segment_and_comes_back(value in "\\PC{1,40}") {
        let resolved = Route::new("v3/users/{openid}/points").bind("openid", &value).resolve();

        match resolved {
            Ok(path) => {
                let segment = path.strip_prefix("/v3/users/").and_then(|rest| rest.strip_suffix("/points")).unwrap();
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
                prop_assert!(segment.bytes().all(plain), "{segment}");
                prop_assert_eq!(percent_decode_str(segment).decode_utf8().unwrap(), value);
            }
            Err(error) => prop_assert!(value == "." || value == "..", "{error}"),
        }
    }

    /// Queries keep order and values; nothing in a value starts another one.
    #[test]
    fn a_query_comes_back_in_order(pairs in proptest::collection::vec(("[a-z_]{1,8}", "\\PC{0,20}"), 0..6)) {
        let route = pairs.iter().fold(Route::new("v3/x"), |route, (name, value)| route.query(name, value));
        let path = route.resolve().unwrap();

        let query = path.split_once('?').map_or("", |(_, query)| query);
        let found: Vec<(String, String)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                let value = percent_decode_str(value).decode_utf8().unwrap();
                (name.to_owned(), value.into_owned())
            })
            .collect();
        prop_assert_eq!(found, pairs);
        prop_assert!(http::uri::PathAndQuery::try_from(path).is_ok());
    }

    /// Any written path either is refused or goes out as something that the wire takes, resolved once and for all.
    #[test]
    fn any_path_is_refused_or_sendable(path in "\\PC{0,40}") {
        if let Ok(resolved) = Route::new(path).resolve() {
            prop_assert!(resolved.starts_with('/') && resolved.is_ascii());
            prop_assert!(http::uri::PathAndQuery::try_from(resolved.as_str()).is_ok(), "{resolved}");
            prop_assert_eq!(Route::new(resolved.clone()).resolve().unwrap(), resolved);
        }
    }

    /// Lines cannot run into each other: another split gives another message.
    #[test]
    fn a_message_has_every_line_ended(lines in proptest::collection::vec("[^\n]{0,20}", 0..6)) {
        let message = String::from_utf8(sign::message(&lines)).unwrap();

        prop_assert_eq!(message.matches('\n').count(), lines.len());
        prop_assert_eq!(message.split_terminator('\n').map(str::to_owned).collect::<Vec<_>>(), lines);
    }

    /// Reading an answer of any status with any body never panics, never believes an unsigned success, and reports every
    /// refusal as one.
    #[test]
    fn no_answer_is_believed_unsigned(status in 200_u16..600, sealed: bool, body in ".{0,60}") {
        let headers = if sealed { signed(body.as_bytes(), NOW) } else { HeaderMap::new() };
        let outcome = wait(canned(status, headers, body.as_bytes()).1.chain("v3/x").get());

        match outcome {
            Ok(answer) => prop_assert!(sealed && status < 300 && answer.body() == body.as_bytes()),
            Err(error @ Error::Api { verified, .. }) => {
                prop_assert!(status >= 300 && verified == sealed);
                prop_assert!(error.retry() == Retry::Never || status >= 429);
            }
            Err(error) => {
                let distrusted = matches!(error, Error::Verify { .. });
                prop_assert!(distrusted && !sealed && status < 300);
            }
        }
    }

    /// One changed byte anywhere, and it is not believed.
    #[test]
    fn a_changed_body_is_not_believed(body in proptest::collection::vec(any::<u8>(), 1..60), at: prop::sample::Index, bit in 0..8) {
        let headers = signed(&body, NOW);
        prop_assert!(verify::verify(&headers, &body, &KEYS, NOW).is_ok());

        let mut changed = body.clone();
        changed[at.index(body.len())] ^= 1_u8 << bit;
        prop_assert!(verify::verify(&headers, &changed, &KEYS, NOW).is_err());
    }

    /// Within five minutes and not beyond.
    #[test]
    fn the_clock_window_is_sharp(offset in -1000_i64..1000) {
        let headers = signed(b"{}", NOW + offset);

        prop_assert_eq!(verify::verify(&headers, b"{}", &KEYS, NOW).is_ok(), offset.abs() <= 300);
    }

    /// What is sealed opens to the same, whatever it is; a notification with it is read or refused, never panics.
    #[test]
    fn a_sealed_resource_comes_back(plaintext in proptest::collection::vec(any::<u8>(), 0..200), kind in "[A-Z_.]{0,30}") {
        let sealed = api_v3_key().seal("0123456789ab", "x", &plaintext).unwrap();
        let body = format!(
            r#"{{"event_type":"{kind}","resource":{{"algorithm":"AEAD_AES_256_GCM","nonce":"0123456789ab","associated_data":"x","ciphertext":"{sealed}"}}}}"#
        );

        let opened = notify::open(&signed(body.as_bytes(), NOW), body.as_bytes(), &KEYS, &api_v3_key(), NOW).unwrap();
        prop_assert_eq!(&opened.plaintext, &plaintext);
        let is_json = serde_json::from_slice::<serde_json::Value>(&plaintext).is_ok();
        prop_assert_eq!(opened.event().is_ok(), is_json, "unknown events keep any JSON");
    }

    /// Any signed bytes as a notification.
    #[test]
    fn any_signed_notification_is_read_or_refused(body in ".{0,80}") {
        let outcome = notify::open(&signed(body.as_bytes(), NOW), body.as_bytes(), &KEYS, &api_v3_key(), NOW);

        prop_assert!(matches!(outcome, Err(NotifyError::Shape(_))), "random text has no resource");
    }

    /// Any file as a key.
    #[test]
    fn any_file_is_a_key_or_an_error(label in "[A-Z ]{0,20}", der in proptest::collection::vec(any::<u8>(), 0..80), text in "\\PC{0,40}") {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(&der);
        let pem = format!("{text}-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");

        prop_assert!(MerchantKey::from_pem(&pem).is_err() && MerchantKey::from_pem(&der).is_err());
        prop_assert!(Certificate::from_pem(&pem).is_err() && Certificate::from_der(&der).is_err());
        prop_assert!(PlatformKeys::new().with_public_key("AB01", &pem).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is sent is what was signed: the server's own reading of the request verifies.
    #[test]
    fn what_is_sent_is_what_was_signed(openid in "\\PC{1,30}", query in "\\PC{0,20}", text in "[^\u{10000}-\u{10ffff}]{0,30}") {
        prop_assume!(openid != "." && openid != "..");
        let (canned, client) = canned(204, signed(b"", NOW), b"");
        let body = serde_json::json!({ "text": text });

        wait(client.chain("v3/users/{openid}").bind("openid", &openid).query("q", &query).post(&body)).unwrap();

        let sent = canned.sent.lock().unwrap().take().unwrap();
        let header = sent.headers()["authorization"].to_str().unwrap();
        let member = |name: &str| {
            let rest = header.split_once(&format!("{name}=\"")).unwrap().1;
            rest.split_once('"').unwrap().0.to_owned()
        };
        let target = sent.uri().path_and_query().unwrap().as_str();
        let message = format!("POST\n{target}\n{}\n{}\n", member("timestamp"), member("nonce_str"));
        let message = [message.as_bytes(), sent.body(), b"\n"].concat();
        prop_assert_eq!(member("signature"), SIGNER.sign(&message));
    }
}

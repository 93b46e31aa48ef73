//! Time of the SDK's parts and of whole calls over TLS on the loopback: `cargo bench -p wechatpay-apiv3 --bench sdk`.
//!
//! The server is the sandbox with cached signatures, on a thread of its own. CPU time per call is `cpu_per_call`'s.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::sync::LazyLock;

use divan::Bencher;
use http::{HeaderMap, HeaderName};
use wechatpay::notify;
use wechatpay::{ApiV3Key, Client, Merchant, MerchantKey, PlatformKey, PlatformKeys, seal, verify};
use wechatpay_sandbox::Sandbox;

const NOW: i64 = 1_795_451_485;
const KEY: &str = include_str!("../tests/files/apiclient_key.pem");
const BODY: &str = r#"{"brandid":1000,"appid":"wx931386123456789e","openid":"oUpF8uMuAJOM2pxb1Q","plate_number":"粤B888888","state":"IN","time":"2022-06-01T10:43:39+08:00"}"#;

fn main() {
    divan::main();
}

fn key() -> MerchantKey {
    MerchantKey::from_pem(KEY).unwrap()
}

fn platform_key() -> PlatformKey {
    key().public("AB01").unwrap()
}

#[divan::bench]
fn sign_request(bencher: Bencher) {
    let merchant = Merchant::new("1900000109", "AB01", key());
    bencher.bench(|| {
        merchant.authorize(
            "POST",
            "/v3/businesscircle/parkings",
            "1554208460",
            "593BEC0C",
            BODY.as_bytes(),
        )
    });
}

#[divan::bench]
fn sign_bare(bencher: Bencher) {
    let key = key();
    bencher.bench(|| key.sign(BODY.as_bytes()));
}

fn signed(body: &[u8]) -> HeaderMap {
    let timestamp = NOW.to_string();
    let signature = key().sign(&verify::message(&timestamp, "n", body));
    [
        ("wechatpay-timestamp", timestamp.as_str()),
        ("wechatpay-nonce", "n"),
        ("wechatpay-serial", "AB01"),
        ("wechatpay-signature", &signature),
    ]
    .into_iter()
    .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
    .collect()
}

#[divan::bench]
fn verify_answer(bencher: Bencher) {
    let (headers, keys) = (signed(b""), PlatformKeys::new().with(platform_key()));
    bencher.bench(|| verify::verify(&headers, b"", &keys, NOW));
}

#[divan::bench]
fn seal_field(bencher: Bencher) {
    let key = platform_key();
    bencher.bench(|| key.seal("oUpF8uMuAJOM2pxb1Q"));
}

#[divan::bench]
fn open_field(bencher: Bencher) {
    let (key, sealed) = (key(), platform_key().seal("oUpF8uMuAJOM2pxb1Q").unwrap());
    bencher.bench(|| key.open(&sealed));
}

#[divan::bench]
fn open_notification(bencher: Bencher) {
    let api_v3_key = ApiV3Key::new([b'k'; 32]).unwrap();
    let sealed = api_v3_key.seal("0123456789ab", "", BODY.as_bytes()).unwrap();
    let body = format!(
        r#"{{"id":"1","event_type":"X","resource":{{"algorithm":"AEAD_AES_256_GCM","nonce":"0123456789ab","ciphertext":"{sealed}"}}}}"#
    );
    let (headers, keys) = (signed(body.as_bytes()), PlatformKeys::new().with(platform_key()));
    bencher.bench(|| notify::open(&headers, body.as_bytes(), &keys, &api_v3_key, NOW));
}

#[divan::bench]
fn sha256_of_a_megabyte(bencher: Bencher) {
    let file = vec![7; 1 << 20];
    bencher.bench(|| seal::sha256_hex(&file));
}

struct Road {
    runtime: tokio::runtime::Runtime,
    sandbox: Sandbox,
    client: Client,
    blocking: wechatpay::blocking::Client,
}

static ROAD: LazyLock<Road> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let sandbox = runtime
        .block_on(Sandbox::builder().cached_signatures(true).start())
        .unwrap();
    let known = sandbox.merchant();
    let merchant = || {
        let key = MerchantKey::from_pem(&known.private_key_pem).unwrap();
        Merchant::new(&known.mchid, &known.serial_no, key)
    };
    let keys = PlatformKeys::new()
        .with_public_key(&known.public_key_id, &known.public_key_pem)
        .unwrap();
    let client = Client::builder(merchant(), keys.clone())
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .build()
        .unwrap();
    let blocking = wechatpay::blocking::Client::builder(merchant(), keys)
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .build()
        .unwrap();
    Road {
        runtime,
        sandbox,
        client,
        blocking,
    }
});

fn body(sandbox: &Sandbox) -> serde_json::Value {
    serde_json::json!({
        "brandid": sandbox.merchant().brandid, "appid": sandbox.merchant().appid, "openid": "oUpF8uMuAJOM2pxb1Q",
        "plate_number": "粤B888888", "state": "IN", "time": "2022-06-01T10:43:39+08:00",
    })
}

/// That many calls at once, one sample; the counter gives calls per second.
#[divan::bench(args = [1, 16, 64], sample_count = 50)]
fn calls_over_tls(bencher: Bencher, at_once: usize) {
    let road = &*ROAD;
    let body = body(&road.sandbox);
    bencher.counter(divan::counter::ItemsCount::new(at_once)).bench(|| {
        road.runtime.block_on(async {
            let calls: Vec<_> = (0..at_once)
                .map(|_| tokio::spawn(road.client["v3/businesscircle/parkings"].post(&body)))
                .collect();
            for call in calls {
                call.await.unwrap().unwrap();
            }
        });
    });
}

/// Against `calls_over_tls` with one call: what not having to bring a runtime costs.
#[divan::bench(sample_count = 200)]
fn blocking_call_over_tls(bencher: Bencher) {
    let road = &*ROAD;
    let body = body(&road.sandbox);
    bencher.bench(|| road.blocking["v3/businesscircle/parkings"].post(&body).unwrap());
}

/// The asynchronous call that the blocking one is measured against: the same kind of runtime, on this thread.
#[divan::bench(sample_count = 200)]
fn async_call_over_tls_on_this_thread(bencher: Bencher) {
    let road = &*ROAD;
    let body = body(&road.sandbox);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let known = road.sandbox.merchant();
    let merchant = Merchant::new(
        &known.mchid,
        &known.serial_no,
        MerchantKey::from_pem(&known.private_key_pem).unwrap(),
    );
    let keys = road.client.platform_keys();
    let client = Client::builder(merchant, PlatformKeys::clone(&keys))
        .base_url(road.sandbox.base_url())
        .roots_pem(road.sandbox.ca_pem())
        .build()
        .unwrap();
    bencher.bench(|| {
        runtime
            .block_on(client["v3/businesscircle/parkings"].post(&body))
            .unwrap()
    });
}

//! Whatever comes back: a success is never believed without a signature, and nothing crashes.

#![no_main]

use std::cell::RefCell;
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wechatpay::{
    ApiV3Key, Client, Error, Exchange, Merchant, MerchantKey, PlatformKeys, Transport, api::certificates, verify,
};

const NOW: i64 = 1_795_451_485;
const KEY: &str = include_str!("../../tests/files/apiclient_key.pem");

static SIGNER: LazyLock<MerchantKey> = LazyLock::new(|| MerchantKey::from_pem(KEY).unwrap());
static NEXT: Mutex<Option<http::Response<Bytes>>> = Mutex::new(None);

struct Canned;

impl Transport for Canned {
    fn execute(&self, _: http::Request<Bytes>) -> Exchange<'_> {
        Box::pin(async { Ok(NEXT.lock().unwrap().take().unwrap()) })
    }
}

static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let merchant = Merchant::new("1900000109", "AB01", MerchantKey::from_pem(KEY).unwrap());
    let keys = PlatformKeys::new().with(SIGNER.public("AB02").unwrap());
    let client = Client::builder(merchant, keys)
        .transport(Canned)
        .clock(|| jiff::Timestamp::from_second(NOW).unwrap());
    client.build().unwrap()
});

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> =
        RefCell::new(tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());
}

fuzz_target!(|data: &[u8]| {
    // Status, whether it is signed, header lines up to an empty one, body.
    let [high, low, signed, rest @ ..] = data else { return };
    let status = 200 + (u16::from(*high) * 256 + u16::from(*low)) % 400;
    let end = rest.windows(2).position(|two| two == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&rest[..end], &rest[end + 2..]),
        None => (&b""[..], rest),
    };
    let mut reply = http::Response::builder().status(status);
    for line in head.split(|byte| *byte == b'\n').take(20) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value)) {
            reply = reply.header(name, value);
        }
    }
    let signed = signed % 2 == 1;
    if signed {
        let timestamp = NOW.to_string();
        let signature = SIGNER.sign(&verify::message(&timestamp, "n", body));
        reply = reply
            .header("wechatpay-timestamp", timestamp)
            .header("wechatpay-nonce", "n")
            .header("wechatpay-serial", "AB02")
            .header("wechatpay-signature", signature);
    }
    *NEXT.lock().unwrap() = Some(reply.body(Bytes::copy_from_slice(body)).unwrap());
    let outcome = RUNTIME.with(|runtime| runtime.borrow().block_on(CLIENT.chain("v3/x").get()));
    match outcome {
        Ok(answer) => {
            assert!(signed && (200..300).contains(&answer.status()));
            let _ = answer.json::<wechatpay::api::vehicle::Charge>();
            let _ = answer.json::<wechatpay::api::reminders::FoundApplication>();
        }
        Err(error) => {
            let _ = (wechatpay::Chain(&error).to_string(), error.retry(), error.is_ambiguous());
            assert_eq!(matches!(error, Error::Api { .. }), status >= 300);
        }
    }
    let _ = certificates::open(body, &ApiV3Key::new([b'k'; 32]).unwrap());
});

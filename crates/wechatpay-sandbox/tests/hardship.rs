//! Many callers at once, and callers that send rubbish: nothing is lost, nothing panics, nothing hangs.
//!
//! Short by default. `SANDBOX_LOAD=100000` sets the number of calls, `SANDBOX_FUZZ_S=600` the seconds of rubbish.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wechatpay_sandbox::Sandbox;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn key(sandbox: &Sandbox) -> RsaKeyPair {
    let pem = sandbox.merchant().private_key_pem.as_bytes();
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap();
    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap()
}

/// A whole request, rightly signed.
fn request(sandbox: &Sandbox, key: &RsaKeyPair, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let (timestamp, nonce) = (Timestamp::now().as_second(), "593BEC0C930BF1AFEB40B4A08C8FB242");
    let mut message = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature)
        .unwrap();
    let (mchid, serial_no) = (&sandbox.merchant().mchid, &sandbox.merchant().serial_no);
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nhost: x\r\naccept: application/json\r\nuser-agent: x\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nauthorization: WECHATPAY2-SHA256-RSA2048 \
         mchid=\"{mchid}\",nonce_str=\"{nonce}\",signature=\"{}\",timestamp=\"{timestamp}\",serial_no=\"{serial_no}\"\r\n\r\n",
        body.len(),
        STANDARD.encode(signature),
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn parking(sandbox: &Sandbox, openid: &str) -> String {
    let merchant = sandbox.merchant();
    format!(
        r#"{{"brandid":{},"appid":"{}","openid":"{openid}","plate_number":"粤B888888","state":"IN","time":"2022-06-01T10:43:39+08:00"}}"#,
        merchant.brandid, merchant.appid
    )
}

async fn connect(sandbox: &Sandbox) -> TcpStream {
    let address = sandbox.http_url().strip_prefix("http://").unwrap();
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_lose_nothing() {
    const CALLERS: usize = 64;
    let each = setting("SANDBOX_LOAD", 12_800) / CALLERS;
    let sandbox = Sandbox::builder().cached_signatures(true).start().await.unwrap();
    let key = key(&sandbox);
    let started = Instant::now();
    let mut callers = JoinSet::new();

    for caller in 0..CALLERS {
        let body = parking(&sandbox, &format!("o-{caller}"));
        let request = request(&sandbox, &key, "POST", PARKINGS, body.as_bytes());
        let mut stream = connect(&sandbox).await;
        callers.spawn(async move {
            let mut answer = vec![0; 4096];
            for _ in 0..each {
                stream.write_all(&request).await.unwrap();
                // An answer without a body is small and comes in one piece.
                let length = stream.read(&mut answer).await.unwrap();
                assert!(answer[..length].starts_with(b"HTTP/1.1 204 "));
            }
        });
    }
    callers.join_all().await;

    let ledger = sandbox.ledger();
    assert_eq!((ledger.len(), ledger.accepted()), (each * CALLERS, each * CALLERS));
    let calls = ledger.calls();
    assert!(
        calls
            .iter()
            .zip(1..)
            .all(|(call, number)| call.number == number && call.committed)
    );
    let mut by_caller = HashMap::new();
    for parking in ledger.parkings() {
        assert!(parking.answered);
        *by_caller.entry(parking.openid).or_insert(0) += 1;
    }
    assert!(by_caller.len() == CALLERS && by_caller.values().all(|count| *count == each));
    eprintln!("{} calls in {:?}", each * CALLERS, started.elapsed());
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }

    /// Spoils a few bytes: changed, cut out, doubled, or the rest cut off.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.roll(4) {
            let at = self.roll(bytes.len().max(1));
            match self.roll(5) {
                0 if !bytes.is_empty() => bytes[at] = u8::try_from(self.roll(256)).unwrap(),
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                2 => {
                    let piece = TOKENS[self.roll(TOKENS.len())];
                    bytes.splice(at..at, piece.iter().copied());
                }
                3 if bytes.len() > 8 => bytes.truncate(at.max(8)),
                _ => bytes.extend_from_slice(&[0xF0, 0x9F, 0x98, 0x80][..self.roll(5)]),
            }
        }
    }
}

/// Pieces that mean something somewhere.
const TOKENS: &[&[u8]] = &[
    b"null",
    b"{\"a\":",
    b"[[[[[[[[",
    b"\\ud83d",
    b"\r\n",
    b"\r\n\r\n",
    b"%00%ff%",
    b"-1",
    b"1e999",
    b"9223372036854775808",
    b"\"\"",
    b"\x00",
    "粤".as_bytes(),
    b"../..",
    b"content-length: 5\r\n",
    b"transfer-encoding: chunked\r\n",
    b"2022-02-30T24:61:61+99:99",
    b"?&=;#",
];

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_neither_panics_nor_hangs() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(info);
    }));
    let seconds = u64::try_from(setting("SANDBOX_FUZZ_S", 3)).unwrap();
    let sandbox = Sandbox::builder()
        .cached_signatures(true)
        .ledger_limit(1000)
        .keep_alive(Duration::from_secs(1))
        .start()
        .await
        .unwrap();
    let key = key(&sandbox);
    let mut dice = Dice(u64::try_from(setting("SANDBOX_FUZZ_SEED", 1)).unwrap());
    let endpoints: Vec<(String, String)> = Sandbox::endpoints()
        .map(|endpoint| {
            let (method, path) = endpoint.split_once(' ').unwrap();
            (
                method.to_owned(),
                path.replace("{openid}", "o-1").replace("{out_trade_no}", "T1"),
            )
        })
        .collect();
    let bodies = bodies(&sandbox);
    let started = Instant::now();
    let (mut sent, mut answered) = (0_u64, 0_u64);

    while started.elapsed() < Duration::from_secs(seconds) {
        let (method, path) = &endpoints[dice.roll(endpoints.len())];
        let mut body = bodies[dice.roll(bodies.len())].clone().into_bytes();
        let mut query = b"appid=wx0123456789abcdef&brandid=1000&plate_number=%E7%B2%A4B88888".to_vec();
        // Half of it gets past the signature, with a spoilt body or query; the rest is spoilt on the wire.
        let wire = dice.roll(2) == 0;
        if !wire {
            dice.spoil(&mut body);
            dice.spoil(&mut query);
        }
        let query: String = query
            .iter()
            .filter(|byte| byte.is_ascii_graphic())
            .map(|byte| char::from(*byte))
            .collect();
        let body: &[u8] = if method == "GET" { b"" } else { &body };
        let mut bytes = request(&sandbox, &key, method, &format!("{path}?{query}"), body);
        if wire {
            dice.spoil(&mut bytes);
        }
        let mut stream = connect(&sandbox).await;
        let exchange = async {
            // The platform may hang up before everything is written.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            answer
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await;
        let answer = answer.unwrap_or_else(|_| panic!("it hangs after {:?}", String::from_utf8_lossy(&bytes)));
        sent += 1;
        if !answer.is_empty() {
            answered += 1;
            assert!(answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
            assert!(
                !answer.starts_with(b"HTTP/1.1 5"),
                "{:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    let good = request(&sandbox, &key, "POST", PARKINGS, parking(&sandbox, "o-1").as_bytes());
    let mut stream = connect(&sandbox).await;
    stream.write_all(&good).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 204 "));
    eprintln!("{sent} requests in {seconds} s, {answered} answered, no panic, no hang");
}

/// One body that is nearly right for each endpoint that takes one.
fn bodies(sandbox: &Sandbox) -> Vec<String> {
    let appid = &sandbox.merchant().appid;
    let points = json!({
        "transaction_id": "4200", "appid": appid, "openid": "o-1", "earn_points": true, "increased_points": 1,
        "points_update_time": "2020-05-20T13:29:35.120+08:00",
    });
    let charge = json!({
        "appid": appid, "description": "d", "out_trade_no": "T1", "trade_scene": "PARKING",
        "notify_url": "http://127.0.0.1:9/notify", "amount": { "total": 1 },
        "parking_info": {
            "parking_id": "P", "plate_number": "粤B88888", "plate_color": "BLUE", "parking_name": "n",
            "start_time": "2017-08-26T10:43:39+08:00", "end_time": "2017-08-26T11:43:39+08:00",
            "charging_duration": 1, "device_id": "1",
        },
    });
    let lot = json!({ "parking_lot": {
        "parking_lot_name": "n", "out_parking_lot_id": "L", "parking_lot_address": "a", "longitude": "1.5",
        "latitude": "2.5", "parking_lot_type": "PARKING_LOT_TYPE_UNKNOWN", "phone_number": "1", "payment_path": "p",
        "charging_rule": { "rule_type": "CHARGING_RULE_PER_ENTRY", "pre_entry_rule": [{ "amount": 1 }] },
    }});
    let entry = json!({
        "out_serial_number": "S", "parking_id": "P", "plate_number": "粤B12345", "enter_timestamp": 1,
        "plate_color": "PLATE_COLOR_BLUE", "car_type": "PLATE_TYPE_FREE", "vehicle_type": "VEHICLE_TYPE_SMALL",
    });
    let bodies = [points, charge, lot, entry, json!({ "echo_message": "hello" })];
    let mut bodies: Vec<String> = bodies.iter().map(ToString::to_string).collect();
    bodies.push(parking(sandbox, "o-1"));
    bodies
}

const PARKINGS: &str = "/v3/businesscircle/parkings";

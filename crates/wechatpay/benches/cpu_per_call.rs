//! CPU time of one signed and verified call at 64 in flight, against one bare signature and one bare verification in the
//! same run: `cargo bench -p wechatpay-apiv3 --bench cpu_per_call [-- CALLS]`.
//!
//! The client runs on this one thread; the kernel counts its time (`/proc/thread-self/schedstat`, Linux only). The sandbox
//! runs on another thread, whose time does not count. The aim is a ratio of at most 1.12. As a test it makes few calls.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may stop, and prints its figures"
)]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wechatpay::{Client, Merchant, MerchantKey, PlatformKeys};
use wechatpay_sandbox::Sandbox;

const AT_ONCE: usize = 64;

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let calls: usize = asked.unwrap_or(if is_bench { 6400 } else { 128 });
    if cpu_time().is_none() {
        println!("this system does not tell the CPU time of a thread (/proc/thread-self/schedstat)");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let sandbox = runtime
        .block_on(Sandbox::builder().cached_signatures(true).start())
        .unwrap();
    let client = client(&sandbox);
    runtime.block_on(rounds(&client, &sandbox, AT_ONCE)); // connections, caches

    let before = bare(&sandbox, calls / 4);
    let per_call = spent(|| runtime.block_on(rounds(&client, &sandbox, calls)), calls);
    let after = bare(&sandbox, calls / 4);

    let bare = (before + after) / 2;
    println!("one call at {AT_ONCE} in flight: {per_call:.1?} of CPU, mean of {calls} calls");
    println!("bare signature and verification: {bare:.1?} ({before:.1?} before, {after:.1?} after)");
    println!(
        "ratio: {:.3} (aim: at most 1.12)",
        per_call.as_secs_f64() / bare.as_secs_f64()
    );
}

fn client(sandbox: &Sandbox) -> Client {
    let known = sandbox.merchant();
    let key = MerchantKey::from_pem(&known.private_key_pem).unwrap();
    let keys = PlatformKeys::new()
        .with_public_key(&known.public_key_id, &known.public_key_pem)
        .unwrap();
    Client::builder(Merchant::new(&known.mchid, &known.serial_no, key), keys)
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .max_in_flight(AT_ONCE)
        .build()
        .unwrap()
}

/// Keeps 64 callers busy until so many calls are made.
async fn rounds(client: &Client, sandbox: &Sandbox, calls: usize) {
    let body = serde_json::json!({
        "brandid": sandbox.merchant().brandid, "appid": sandbox.merchant().appid, "openid": "oUpF8uMuAJOM2pxb1Q",
        "plate_number": "粤B888888", "state": "IN", "time": "2022-06-01T10:43:39+08:00",
    });
    let callers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (client, body) = (client.clone(), body.clone());
            tokio::spawn(async move {
                for _ in 0..calls / AT_ONCE {
                    client["v3/businesscircle/parkings"].post(&body).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

/// One signature of a request's length, and one verification of an answer's, without anything around them.
fn bare(sandbox: &Sandbox, times: usize) -> Duration {
    let key = MerchantKey::from_pem(&sandbox.merchant().private_key_pem).unwrap();
    let public = key.public("AB01").unwrap();
    let message = [b'x'; 240];
    let signature = STANDARD.decode(key.sign(&message)).unwrap();
    spent(
        || {
            for _ in 0..times {
                std::hint::black_box(key.sign(std::hint::black_box(&message)));
                assert!(public.verify(&message, &signature));
            }
        },
        times,
    )
}

fn spent(work: impl FnOnce(), times: usize) -> Duration {
    let before = cpu_time().unwrap();
    work();
    (cpu_time().unwrap() - before) / u32::try_from(times).unwrap()
}

/// What this thread has spent so far.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

//! Answers a second of the sandbox on one core, with pre-signed answers and without, over plain HTTP and over TLS:
//! `cargo bench -p wechatpay-sandbox --bench answers [-- CALLS]`.
//!
//! A sandbox is one thread, so it never takes more than one core. The kernel counts that thread's time
//! (`/proc/self/task/*/schedstat`, Linux only): the figure is answers per second of its own CPU, whatever else the machine
//! does. The 64 callers run on this thread, send requests that were signed beforehand, and do not count. Beside it stands
//! what nothing can save: one bare RSA-2048 verification per request, and without the switch one bare signature per answer.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may stop, and prints its figures"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;
use wechatpay_sandbox::Sandbox;
use wechatpay_sandbox::seal::SigningKey;

const CALLERS: usize = 64;
/// What the sandbox promises, with pre-signed answers.
const AIM: f64 = 5000.0;

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let calls: usize = asked.unwrap_or(if is_bench { 64_000 } else { 640 });
    if cpu_time(SANDBOX).is_none() && cpu_time("").is_none() {
        println!("this system does not tell the CPU time of a thread (/proc/self/task/*/schedstat)");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap();
    println!("{CALLERS} callers, {calls} parking states, each signed and verified");
    for (cached, secure) in [(true, false), (true, true), (false, false)] {
        let sandbox = runtime
            .block_on(Sandbox::builder().cached_signatures(cached).start())
            .unwrap();
        let calls = if cached { calls } else { calls / 8 };
        let work = LocalSet::new();
        runtime.block_on(work.run_until(rounds(&sandbox, secure, CALLERS * 4))); // caches, first touches
        let (verification, signature) = bare(&sandbox);
        let (before, started) = (cpu_time(SANDBOX).unwrap(), Instant::now());
        runtime.block_on(work.run_until(rounds(&sandbox, secure, calls)));
        let wall = started.elapsed();
        let each = (cpu_time(SANDBOX).unwrap() - before) / u32::try_from(calls).unwrap();
        let floor = if cached { verification } else { verification + signature };
        println!(
            "{} answers over {}: {:.0} a second of one core ({each:.1?} each), {:.2} × the bare RSA in it ({floor:.1?}); \
             {:.0} a second of wall time beside the callers",
            if cached { "pre-signed" } else { "freshly signed" },
            if secure { "TLS" } else { "HTTP" },
            1.0 / each.as_secs_f64(),
            each.as_secs_f64() / floor.as_secs_f64(),
            calls as f64 / wall.as_secs_f64(),
        );
        assert!(
            !is_bench || !cached || 1.0 / each.as_secs_f64() >= AIM,
            "the aim is {AIM} a second"
        );
    }
}

/// Makes so many calls, spread over the callers, each with a connection of its own that stays open.
async fn rounds(sandbox: &Sandbox, secure: bool, calls: usize) {
    let address = sandbox.http_url().trim_start_matches("http://");
    let callers: Vec<_> = (0..CALLERS).map(|caller| request(sandbox, caller)).collect();
    let mut tasks = Vec::new();
    for request in callers {
        let times = calls / CALLERS;
        tasks.push(if secure {
            let stream = connect_tls(sandbox).await;
            tokio::task::spawn_local(call(stream, request, times))
        } else {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::task::spawn_local(call(stream, request, times))
        });
    }
    for task in tasks {
        task.await.unwrap();
    }
}

async fn call(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: Vec<u8>, times: usize) {
    let mut answer = vec![0; 4096];
    for _ in 0..times {
        stream.write_all(&request).await.unwrap();
        // An answer without a body is small and comes in one piece.
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 204 "));
    }
}

async fn connect_tls(sandbox: &Sandbox) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(sandbox.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(sandbox.base_url().trim_start_matches("https://")).await;
    let stream = stream.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

/// A whole request, rightly signed, of this caller's member.
fn request(sandbox: &Sandbox, caller: usize) -> Vec<u8> {
    let merchant = sandbox.merchant();
    let body = format!(
        r#"{{"brandid":{},"appid":"{}","openid":"o-{caller}","plate_number":"粤B888888","state":"IN","time":"2022-06-01T10:43:39+08:00"}}"#,
        merchant.brandid, merchant.appid
    );
    let (timestamp, nonce) = (Timestamp::now().as_second(), "593BEC0C930BF1AFEB40B4A08C8FB242");
    let message = format!("POST\n{PARKINGS}\n{timestamp}\n{nonce}\n{body}\n");
    let der = PrivatePkcs8KeyDer::from_pem_slice(merchant.private_key_pem.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    let (mchid, serial_no, signature) = (&merchant.mchid, &merchant.serial_no, STANDARD.encode(signature));
    format!(
        "POST {PARKINGS} HTTP/1.1\r\nhost: x\r\naccept: application/json\r\nuser-agent: x\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nauthorization: WECHATPAY2-SHA256-RSA2048 \
         mchid=\"{mchid}\",nonce_str=\"{nonce}\",signature=\"{signature}\",timestamp=\"{timestamp}\",serial_no=\"{serial_no}\"\r\n\r\n{body}",
        body.len(),
    )
    .into_bytes()
}

/// One verification of a request and one signature of an answer, without anything around them, on this thread.
fn bare(sandbox: &Sandbox) -> (Duration, Duration) {
    const TIMES: u32 = 1000;
    let key = SigningKey::from_pem(&sandbox.merchant().private_key_pem).unwrap();
    let (public, message) = (key.verifying_key(), [b'x'; 240]);
    let signature = key.sign(&message);
    let spent = |work: &dyn Fn()| {
        let before = cpu_time("").unwrap();
        (0..TIMES).for_each(|_| work());
        (cpu_time("").unwrap() - before) / TIMES
    };
    (
        spent(&|| assert!(public.verifies(std::hint::black_box(&message), &signature))),
        spent(&|| drop(std::hint::black_box(key.sign(&message[..80])))),
    )
}

/// What the thread of this name has spent so far; without a name, this thread.
fn cpu_time(name: &str) -> Option<Duration> {
    let mut folders = vec![std::path::PathBuf::from("/proc/thread-self")];
    if !name.is_empty() {
        folders = std::fs::read_dir("/proc/self/task")
            .ok()?
            .map(|entry| entry.unwrap().path())
            .filter(|folder| std::fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim_end() == name))
            .collect();
    }
    let text = std::fs::read_to_string(folders.pop()?.join("schedstat")).ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

/// The kernel keeps 15 bytes of `wechatpay-sandbox`.
const SANDBOX: &str = "wechatpay-sandb";
const PARKINGS: &str = "/v3/businesscircle/parkings";

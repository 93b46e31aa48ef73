//! A WeChat Pay that costs as little as it can: TLS, no HTTP library, one answer that was signed in advance. What is left of a call
//! is ours.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// It answers what came within this time at once, so that a call does not cost the service a change of threads.
const GATHER: Duration = Duration::from_millis(1);

/// It runs on a thread of its own until the process ends.
pub(crate) struct Stub {
    pub(crate) url: String,
    pub(crate) ca_pem: String,
    pub(crate) public_key_pem: String,
    counted: Arc<Counted>,
}

#[derive(Default)]
struct Counted {
    calls: AtomicU64,
    first: OnceLock<Instant>,
    answer: RwLock<Arc<[u8]>>,
}

impl Stub {
    /// `public_key_id`: the name under which the service knows the key of [`Stub::public_key_pem`].
    /// It answers `after` a while.
    pub(crate) fn start(public_key_id: &str, after: Duration) -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let public_key_pem = pem("PUBLIC KEY", der.as_ref());
        let tls = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let ca_pem = tls.cert.pem();
        let private = PrivateKeyDer::try_from(tls.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![tls.cert.der().clone()], private)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let counted = Arc::new(Counted::default());
        *counted.answer.write().unwrap() = answer(&key, public_key_id);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (shared, id) = (Arc::clone(&counted), public_key_id.to_owned());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_unpark(|| std::thread::sleep(GATHER))
                .build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut old = tokio::time::interval(Duration::from_secs(60));
                loop {
                    tokio::select! {
                        // A signature is believed for five minutes.
                        _ = old.tick() => *shared.answer.write().unwrap() = answer(&key, &id),
                        stream = listener.accept() => {
                            tokio::spawn(serve(stream.unwrap().0, acceptor.clone(), Arc::clone(&shared), after));
                        }
                    }
                }
            });
        });
        Self {
            url,
            ca_pem,
            public_key_pem,
            counted,
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.counted.calls.load(Ordering::Relaxed)
    }

    /// When the first call was there, once it was.
    pub(crate) fn first_call(&self) -> Option<Instant> {
        self.counted.first.get().copied()
    }

    /// Waits until so many calls were answered.
    pub(crate) async fn reached(&self, calls: u64, within: Duration) {
        let end = Instant::now() + within;
        while self.calls() < calls {
            assert!(Instant::now() < end, "{} of {calls} calls arrived", self.calls());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Calls a second, over so many of them.
    pub(crate) async fn rate(&self, calls: u64) -> f64 {
        let (from, began) = (self.calls(), Instant::now());
        self.reached(from + calls, Duration::from_secs(300)).await;
        (self.calls() - from) as f64 / began.elapsed().as_secs_f64()
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, counted: Arc<Counted>, after: Duration) {
    let _ = stream.set_nodelay(true);
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut buffer = Vec::with_capacity(8192);
    loop {
        while let Some(length) = request(&buffer) {
            buffer.drain(..length);
            counted.first.get_or_init(Instant::now);
            let answer = Arc::clone(&counted.answer.read().unwrap());
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            counted.calls.fetch_add(1, Ordering::Relaxed);
        }
        if !matches!(stream.read_buf(&mut buffer).await, Ok(read) if read > 0) {
            return;
        }
    }
}

/// The length of the request at the start, if it is there as a whole.
fn request(buffer: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(buffer, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).unwrap();
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().unwrap())
    });
    let whole = head + length.unwrap_or(0);
    (buffer.len() >= whole).then_some(whole)
}

/// 204 without a body, signed as of now.
fn answer(key: &KeyPair, id: &str) -> Arc<[u8]> {
    let now = jiff::Timestamp::now().as_second();
    let mut signature = vec![0; key.public_modulus_len()];
    let message = format!("{now}\nstub\n\n");
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    let mut text = "HTTP/1.1 204 No Content\r\nRequest-ID: stub\r\n".to_owned();
    let signature = STANDARD.encode(signature);
    for (name, value) in [
        ("Timestamp", &*now.to_string()),
        ("Nonce", "stub"),
        ("Serial", id),
        ("Signature", &signature),
    ] {
        write!(text, "Wechatpay-{name}: {value}\r\n").unwrap();
    }
    text.push_str("\r\n");
    text.into_bytes().into()
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

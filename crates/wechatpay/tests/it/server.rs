//! A small HTTPS server that answers as told and signs with a key made for it. It keeps what arrived.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use wechatpay::{Merchant, MerchantKey, PlatformKey, PlatformKeys};

pub(crate) const MCHID: &str = "1900000109";
pub(crate) const SERIAL_NO: &str = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1";
pub(crate) const PLATFORM_ID: &str = "PUB_KEY_ID_0119000001092024101100397200000006";

/// What the server does with the next requests.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    pub(crate) stall: bool,
    pub(crate) close: bool,
    /// Closes when a connection is used a second time, as a server that restarts does.
    pub(crate) close_reused: bool,
    /// Sends no signature.
    pub(crate) unsigned: bool,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            status: 204,
            body: Bytes::new(),
            stall: false,
            close: false,
            close_reused: false,
            unsigned: false,
        }
    }
}

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) ca_pem: String,
    merchant_pem: String,
    platform_pem: String,
    merchant_public: PlatformKey,
    state: Arc<State>,
}

struct State {
    platform: MerchantKey,
    script: Mutex<Script>,
    arrived: Mutex<Vec<Arrived>>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    release: Notify,
    reloads: watch::Sender<()>,
}

fn key() -> (String, MerchantKey) {
    let der = KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    let key = MerchantKey::from_pem(&pem).unwrap();
    (pem, key)
}

impl Server {
    /// Listens on the current runtime.
    pub(crate) async fn start() -> Server {
        let tls = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![tls.cert.der().clone()],
                PrivateKeyDer::Pkcs8(tls.signing_key.serialize_der().into()),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (merchant_pem, merchant) = key();
        let (_, platform) = key();
        let platform_public = platform.public(PLATFORM_ID).unwrap();
        let state = Arc::new(State {
            platform,
            script: Mutex::default(),
            arrived: Mutex::default(),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            release: Notify::new(),
            reloads: watch::Sender::new(()),
        });
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), state.clone()));
        Server {
            addr,
            ca_pem: tls.cert.pem(),
            merchant_pem,
            platform_pem: format!(
                "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
                STANDARD.encode(platform_public.spki_der())
            ),
            merchant_public: merchant.public(SERIAL_NO).unwrap(),
            state,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.addr)
    }

    pub(crate) fn merchant(&self) -> Merchant {
        Merchant::new(MCHID, SERIAL_NO, MerchantKey::from_pem(&self.merchant_pem).unwrap())
    }

    pub(crate) fn platform(&self) -> PlatformKeys {
        PlatformKeys::new()
            .with_public_key(PLATFORM_ID, &self.platform_pem)
            .unwrap()
    }

    pub(crate) fn client(&self) -> wechatpay::Client {
        wechatpay::Client::builder(self.merchant(), self.platform())
            .base_url(self.url())
            .roots_pem(&self.ca_pem)
            .build()
            .unwrap()
    }

    pub(crate) fn blocking(&self) -> wechatpay::blocking::Client {
        wechatpay::blocking::Client::builder(self.merchant(), self.platform())
            .base_url(self.url())
            .roots_pem(&self.ca_pem)
            .build()
            .unwrap()
    }

    pub(crate) fn script(&self, script: Script) {
        *self.state.script.lock().unwrap() = script;
    }

    pub(crate) fn take_arrived(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.state.arrived.lock().unwrap())
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }

    /// Closes what is idle and lets what is being served end, as a web server does when it takes new settings.
    pub(crate) fn reload(&self) {
        self.state.reloads.send_replace(());
    }

    /// Lets stalled requests go on.
    pub(crate) fn release(&self) {
        self.state.release.notify_waiters();
    }

    /// Checks the Authorization header the way the documentation tells a server to.
    pub(crate) fn assert_signed(&self, arrived: &Arrived) {
        self.assert_signed_over(arrived, &arrived.body);
    }

    /// The same when something else than the body was signed.
    pub(crate) fn assert_signed_over(&self, arrived: &Arrived, signed: &[u8]) {
        let header = arrived.headers["authorization"].to_str().unwrap();
        let members = header.strip_prefix("WECHATPAY2-SHA256-RSA2048 ").expect("the scheme");
        let member = |name: &str| {
            let found = members
                .split(',')
                .find_map(|member| member.strip_prefix(&format!("{name}=\"")));
            found
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or_else(|| panic!("{name} in {header}"))
                .to_owned()
        };
        assert_eq!(
            (member("mchid").as_str(), member("serial_no").as_str()),
            (MCHID, SERIAL_NO)
        );
        let head = format!(
            "{}\n{}\n{}\n{}\n",
            arrived.method,
            arrived.target,
            member("timestamp"),
            member("nonce_str")
        );
        let message = [head.as_bytes(), signed, b"\n"].concat();
        let signature = STANDARD.decode(member("signature")).unwrap();
        assert!(self.merchant_public.verify(&message, &signature), "{arrived:?}");
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(tcp).await else { return };
            state.connections.fetch_add(1, Ordering::SeqCst);
            let served = AtomicUsize::new(0);
            let service = service_fn(|request| {
                let reused = served.fetch_add(1, Ordering::SeqCst) > 0;
                answer(&state, request, reused)
            });
            let mut reloads = state.reloads.subscribe();
            let mut connection =
                pin!(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            loop {
                tokio::select! {
                    // Ends with an error when a script closes the connection.
                    _ = connection.as_mut() => return,
                    _ = reloads.changed() => connection.as_mut().graceful_shutdown(),
                }
            }
        });
    }
}

#[derive(Debug, thiserror::Error)]
#[error("closed by the script")]
struct Closed;

impl From<Infallible> for Closed {
    fn from(never: Infallible) -> Closed {
        match never {}
    }
}

async fn answer(
    state: &State,
    request: http::Request<Incoming>,
    reused: bool,
) -> Result<http::Response<Full<Bytes>>, Closed> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    state.arrived.lock().unwrap().push(Arrived {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: parts.headers,
        body,
    });
    let script = state.script.lock().unwrap().clone();
    let now = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_in_flight.fetch_max(now, Ordering::SeqCst);
    if script.stall {
        state.release.notified().await;
    }
    state.in_flight.fetch_sub(1, Ordering::SeqCst);
    if script.close || (script.close_reused && reused) {
        return Err(Closed);
    }
    let mut response = http::Response::builder()
        .status(script.status)
        .header("Request-ID", "08F1-test");
    for (name, value) in seal(state, &script).into_iter().filter(|_| !script.unsigned) {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(script.body)).unwrap())
}

fn seal(state: &State, script: &Script) -> [(&'static str, String); 4] {
    let timestamp = jiff::Timestamp::now().as_second().to_string();
    let message = [timestamp.as_bytes(), b"\nnonce\n", &script.body, b"\n"].concat();
    [
        ("Wechatpay-Signature", state.platform.sign(&message)),
        ("Wechatpay-Timestamp", timestamp),
        ("Wechatpay-Nonce", "nonce".to_owned()),
        ("Wechatpay-Serial", PLATFORM_ID.to_owned()),
    ]
}

/// Fails instead of hanging.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("it ends within 20 s")
}

//! A client by hand: hyper, rustls and aws-lc-rs, and nothing of the sandbox but what it hands out.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wechatpay_sandbox::Sandbox;
use x509_cert::Certificate;
use x509_cert::der::{DecodePem, Encode};

pub(crate) const PARKINGS: &str = "/v3/businesscircle/parkings";

/// The documented example, with the sandbox's ids and a time of today's.
pub(crate) fn parking(sandbox: &Sandbox) -> Value {
    json!({
        "brandid": sandbox.merchant().brandid,
        "appid": sandbox.merchant().appid,
        "openid": "oUpF8uMuAJOM2pxb1Q",
        "plate_number": "粤B888888",
        "state": "IN",
        "time": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
    })
}

/// What a caller puts into one signed request; each part may be spoilt before sending.
pub(crate) struct Signed {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) timestamp: i64,
    pub(crate) nonce: String,
    pub(crate) body: Vec<u8>,
    pub(crate) mchid: String,
    pub(crate) serial_no: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Signed {
    pub(crate) fn post(sandbox: &Sandbox, body: &Value) -> Self {
        Self::new(sandbox, "POST", PARKINGS, body.to_string())
    }

    pub(crate) fn new(sandbox: &Sandbox, method: &str, target: &str, body: String) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            timestamp: Timestamp::now().as_second(),
            nonce: "593BEC0C930BF1AFEB40B4A08C8FB242".into(),
            body: body.into_bytes(),
            mchid: sandbox.merchant().mchid.clone(),
            serial_no: sandbox.merchant().serial_no.clone(),
            headers: vec![
                ("host", "127.0.0.1".into()),
                ("accept", "application/json".into()),
                ("user-agent", "by-hand".into()),
                ("content-type", "application/json".into()),
            ],
        }
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        let mut message =
            format!("{}\n{}\n{}\n{}\n", self.method, self.target, self.timestamp, self.nonce).into_bytes();
        message.extend_from_slice(&self.body);
        message.push(b'\n');
        message
    }

    pub(crate) fn authorization(&self, signature: &str) -> String {
        format!(
            r#"WECHATPAY2-SHA256-RSA2048 mchid="{}",nonce_str="{}",signature="{signature}",timestamp="{}",serial_no="{}""#,
            self.mchid, self.nonce, self.timestamp, self.serial_no
        )
    }

    pub(crate) fn without(mut self, header: &str) -> Self {
        self.headers.retain(|(name, _)| *name != header);
        self
    }

    pub(crate) fn with(self, header: &'static str, value: impl Into<String>) -> Self {
        let mut this = self.without(header);
        this.headers.push((header, value.into()));
        this
    }

    pub(crate) fn build(self) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.target);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(Full::new(self.body.into())).unwrap()
    }

    /// With the right signature, unless another Authorization is there already.
    pub(crate) fn signed_by(self, sandbox: &Sandbox) -> Request<Full<Bytes>> {
        let signature = sign(&sandbox.merchant().private_key_pem, &self.message());
        let authorization = self.authorization(&signature);
        self.with("authorization", authorization).build()
    }
}

pub(crate) fn sign(private_key_pem: &str, message: &[u8]) -> String {
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(private_key_pem.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
        .unwrap();
    STANDARD.encode(signature)
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status, code and message in one line.
    pub(crate) fn line(&self) -> String {
        if self.body.is_empty() {
            return self.status.as_u16().to_string();
        }
        let json = self.json();
        format!(
            "{} {} {}",
            self.status.as_u16(),
            json["code"].as_str().unwrap(),
            json["message"].as_str().unwrap()
        )
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn is_unsigned(&self) -> bool {
        !self.headers.keys().any(|name| name.as_str().starts_with("wechatpay-"))
    }

    /// Whether the five headers are there, fresh, and verify with the key that they name.
    pub(crate) fn verifies(&self, sandbox: &Sandbox) -> bool {
        let merchant = sandbox.merchant();
        let serial = self.header("wechatpay-serial");
        if serial == merchant.public_key_id {
            return self.verifies_with(&pem_to_der(&merchant.public_key_pem));
        }
        serial == merchant.platform_certificate_serial
            && self.verifies_with(&certificate_key(&merchant.platform_certificate_pem))
    }

    /// Whether the headers are fresh and verify with this key, SPKI in DER.
    pub(crate) fn verifies_with(&self, spki: &[u8]) -> bool {
        let timestamp = self.header("wechatpay-timestamp");
        let skew = Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap();
        let mut message = format!("{timestamp}\n{}\n", self.header("wechatpay-nonce")).into_bytes();
        message.extend_from_slice(&self.body);
        message.push(b'\n');
        let signature = STANDARD.decode(self.header("wechatpay-signature")).unwrap();
        skew.abs() <= 300
            && UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, spki)
                .verify(&message, &signature)
                .is_ok()
    }
}

/// The public key of a certificate, SPKI in DER.
pub(crate) fn certificate_key(pem: &str) -> Vec<u8> {
    let certificate = Certificate::from_pem(pem).unwrap();
    let key = certificate.tbs_certificate().subject_public_key_info();
    key.to_der().unwrap()
}

/// What AES-256-GCM hides: the members of `encrypt_certificate` or of a callback's `resource`.
pub(crate) fn open(api_v3_key: &str, sealed: &Value) -> String {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, api_v3_key.as_bytes()).unwrap());
    assert_eq!(sealed["algorithm"], "AEAD_AES_256_GCM");
    let nonce = Nonce::try_assume_unique_for_key(sealed["nonce"].as_str().unwrap().as_bytes()).unwrap();
    let associated_data = sealed["associated_data"].as_str().unwrap_or_default();
    let mut text = STANDARD.decode(sealed["ciphertext"].as_str().unwrap()).unwrap();
    let opened = key
        .open_in_place(nonce, Aad::from(associated_data.as_bytes()), &mut text)
        .unwrap();
    String::from_utf8(opened.to_vec()).unwrap()
}

pub(crate) fn pem_to_der(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(text).unwrap()
}

/// One connection over TLS.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(sandbox: &Sandbox) -> Self {
        Self::try_open(sandbox).await.unwrap()
    }

    /// The error is that of the TLS handshake.
    pub(crate) async fn try_open(sandbox: &Sandbox) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(sandbox.ca_pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = sandbox.base_url().strip_prefix("https://").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Self::over(stream).await)
    }

    pub(crate) async fn open_plain(sandbox: &Sandbox) -> Self {
        let address = sandbox.http_url().strip_prefix("http://").unwrap();
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, hyper::Error> {
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits for the other side to close.
    pub(crate) async fn closed(&mut self, timeout: Duration) -> bool {
        let closed = async {
            while !self.is_closed() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(timeout, closed).await.is_ok()
    }
}

/// One request on a connection of its own.
pub(crate) async fn send(sandbox: &Sandbox, request: Request<Full<Bytes>>) -> Result<Reply, hyper::Error> {
    Connection::open(sandbox).await.send(request).await
}

/// Reports this body, rightly signed.
pub(crate) async fn report(sandbox: &Sandbox, body: &Value) -> Reply {
    send(sandbox, Signed::post(sandbox, body).signed_by(sandbox))
        .await
        .unwrap()
}

/// One rightly signed GET.
pub(crate) async fn get(sandbox: &Sandbox, target: &str) -> Reply {
    let signed = Signed::new(sandbox, "GET", target, String::new());
    send(sandbox, signed.signed_by(sandbox)).await.unwrap()
}

/// One rightly signed POST of this body.
pub(crate) async fn post(sandbox: &Sandbox, target: &str, body: &Value) -> Reply {
    let signed = Signed::new(sandbox, "POST", target, body.to_string());
    send(sandbox, signed.signed_by(sandbox)).await.unwrap()
}

/// The body with these members put in; a null takes one out. A name with a slash reaches into an object.
pub(crate) fn with(mut body: Value, members: &Value) -> Value {
    for (name, value) in members.as_object().unwrap() {
        let (object, name) = match name.rsplit_once('/') {
            Some((outer, name)) => (body.pointer_mut(&format!("/{outer}")).unwrap(), name),
            None => (&mut body, name.as_str()),
        };
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            object[name] = value.clone();
        }
    }
    body
}

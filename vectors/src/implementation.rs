//! What the checker asks of an implementation, and how it answers.
//!
//! Types and one trait, no logic. Implemented in `tests/vectors.rs` of each implementation, called by `kinds`.

use std::fmt::Display;

/// What an implementation answers: a value, or why there is none.
pub type Answer<T> = Result<T, Refusal>;

/// Why there is no value.
///
/// Anything that can be displayed becomes [`Refusal::Error`] through `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The implementation was asked and reported an error: right where the vector expects one.
    Error(String),
    /// The implementation does not do this (yet); the reason is printed. The vector counts as skipped.
    NotImplemented(&'static str),
}

impl<E: Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Error(format!("{error:#}"))
    }
}

/// Where to take a public key from. All three hold an RSA or an SM2 key.
#[derive(Clone, Copy, Debug)]
pub enum PublicKey<'a> {
    /// `BEGIN PUBLIC KEY` (SPKI) or `BEGIN RSA PUBLIC KEY` (PKCS#1).
    Pem(&'a str),
    /// `BEGIN CERTIFICATE`, version 1 or 3, perhaps expired: only its key counts.
    Certificate(&'a str),
    /// The public half of `BEGIN PRIVATE KEY` (PKCS#8) or `BEGIN RSA PRIVATE KEY` (PKCS#1).
    PrivateKey(&'a str),
}

/// A platform key and the id under which it is held.
#[derive(Clone, Copy, Debug)]
pub struct HeldKey<'a> {
    /// Certificate serial in hex, or `PUB_KEY_ID_` and digits.
    pub id: &'a str,
    /// The key.
    pub key: PublicKey<'a>,
}

/// Who signs.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// PKCS#8 or PKCS#1 PEM.
    pub private_key_pem: &'a str,
    /// For signers that carry it; not signed.
    pub mchid: Option<&'a str>,
    /// For signers that carry it; not signed.
    pub serial_no: Option<&'a str>,
}

/// A request about to be signed, every part as text that must not be changed.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names are WeChat Pay's own")]
pub struct Request<'a> {
    pub mchid: &'a str,
    pub serial_no: &'a str,
    pub method: &'a str,
    pub url_path_and_query: &'a str,
    pub timestamp: &'a str,
    pub nonce_str: &'a str,
    pub body: &'a str,
}

/// An Authorization header value in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are WeChat Pay's own")]
pub struct Authorization {
    pub scheme: String,
    pub mchid: String,
    pub nonce_str: String,
    pub timestamp: String,
    pub serial_no: String,
    pub signature: String,
}

/// An answer or a notification as it came in, with the clock and the keys to judge it by.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Names in whatever case they came.
    pub headers: &'a [(&'a str, &'a str)],
    /// The exact body.
    pub body: &'a str,
    /// What the clock says, in Unix seconds.
    pub now_unix: i64,
    /// All keys held.
    pub held: &'a [HeldKey<'a>],
}

/// A notification, verified and opened.
#[derive(Clone, Debug)]
pub struct Notification {
    /// `id` of the envelope; empty where it has none.
    pub id: String,
    /// `create_time` of the envelope: its text, or another spelling of the same instant; empty where it has none.
    pub create_time: String,
    /// `event_type` of the envelope.
    pub event_type: String,
    /// The decrypted resource, byte for byte.
    pub plaintext: Vec<u8>,
}

/// One entry of `GET /v3/certificates`, opened.
#[derive(Clone, Debug)]
pub struct PlatformCertificate {
    /// `serial_no` of the entry.
    pub serial_no: String,
    /// `effective_time` of the entry, as it stands.
    pub effective_time: String,
    /// `expire_time` of the entry, as it stands.
    pub expire_time: String,
    /// The decrypted certificate, exactly.
    pub pem: String,
}

/// What is read from an X.509 certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Two upper-case hex digits per byte, without the sign byte of DER, with a leading zero digit.
    pub serial_no: String,
    /// Unix seconds.
    pub not_before_unix: i64,
    /// Unix seconds.
    pub not_after_unix: i64,
    /// RFC 4514 text; `None` from those who do not print names.
    pub subject: Option<String>,
    /// RFC 4514 text; `None` from those who do not print names.
    pub issuer: Option<String>,
}

/// An implementation of WeChat Pay APIv3, or a part of one.
///
/// Every question has a default that answers "not implemented": vectors that need it are then skipped and listed, never
/// counted as passed. What is implemented must be right, also in a vector that is skipped for another part.
///
/// Answer with the code that runs in production, not with a copy made for the test. Checks that answer `bool` may say
/// no with `Ok(false)` or with an error.
pub trait Implementation {
    /// Who is being checked, for the report.
    fn name(&self) -> &str;

    /// An RSA key as SPKI in DER. All spellings of one key must give the same bytes.
    fn rsa_public_key(&self, _key: PublicKey<'_>) -> Answer<Vec<u8>> {
        not_implemented("rsa_public_key")
    }

    /// An SM2 key as SPKI in DER. All spellings of one key must give the same bytes.
    fn sm2_public_key(&self, _key: PublicKey<'_>) -> Answer<Vec<u8>> {
        not_implemented("sm2_public_key")
    }

    /// The text to sign for a request.
    fn request_message(&self, _request: &Request<'_>) -> Answer<String> {
        not_implemented("request_message")
    }

    /// The whole Authorization header value for a request, scheme included.
    fn authorize(&self, _private_key_pem: &str, _request: &Request<'_>) -> Answer<String> {
        not_implemented("authorize")
    }

    /// Lays out an Authorization header value from ready parts, whatever the scheme.
    fn lay_out_authorization(&self, _parts: &Authorization) -> Answer<String> {
        not_implemented("lay_out_authorization")
    }

    /// Takes an Authorization header value apart. For those on the receiving side, instead of `authorize`.
    fn read_authorization(&self, _header: &str) -> Answer<Authorization> {
        not_implemented("read_authorization")
    }

    /// The text to sign for a client-side payment call, from its lines.
    fn pay_message(&self, _lines: &[&str]) -> Answer<String> {
        not_implemented("pay_message")
    }

    /// Signs with RSA PKCS#1 v1.5 and SHA-256; base64.
    fn rsa_sign(&self, _signer: &Signer<'_>, _message: &str) -> Answer<String> {
        not_implemented("rsa_sign")
    }

    /// Checks such a signature with this very key.
    fn rsa_verify(&self, _key: PublicKey<'_>, _message: &str, _signature_b64: &str) -> Answer<bool> {
        not_implemented("rsa_verify")
    }

    /// Checks such a signature with the held key of this serial, if there is one.
    fn rsa_verify_by_serial(
        &self,
        _held: &[HeldKey<'_>],
        _serial_no: &str,
        _message: &str,
        _signature_b64: &str,
    ) -> Answer<bool> {
        not_implemented("rsa_verify_by_serial")
    }

    /// The signed text of an answer or a notification.
    fn received_message(&self, _timestamp: &str, _nonce: &str, _body: &str) -> Answer<String> {
        not_implemented("received_message")
    }

    /// Verifies an answer or a notification: headers, clock, serial, signature.
    fn verify(&self, _received: &Received<'_>) -> Answer<bool> {
        not_implemented("verify")
    }

    /// Verifies a notification and decrypts its resource.
    fn open_notification(&self, _received: &Received<'_>, _api_v3_key: &str) -> Answer<Notification> {
        not_implemented("open_notification")
    }

    /// Whether a signature is one of WeChat Pay's probes. Asked only of those who tell probes from other bad signatures.
    fn is_signature_probe(&self, _signature: &str) -> Answer<bool> {
        not_implemented("is_signature_probe")
    }

    /// Opens AES-GCM: ciphertext and tag in base64. The key's bytes choose AES-128, -192 or -256.
    fn aes_gcm_open(&self, _key: &str, _nonce: &str, _associated_data: &str, _ciphertext_b64: &str) -> Answer<Vec<u8>> {
        not_implemented("aes_gcm_open")
    }

    /// Seals with AES-GCM; base64 of ciphertext and tag.
    fn aes_gcm_seal(&self, _key: &str, _nonce: &str, _associated_data: &str, _plaintext: &[u8]) -> Answer<String> {
        not_implemented("aes_gcm_seal")
    }

    /// Opens RSA-OAEP with SHA-1 and MGF1-SHA-1.
    fn rsa_oaep_open(&self, _private_key_pem: &str, _ciphertext_b64: &str) -> Answer<Vec<u8>> {
        not_implemented("rsa_oaep_open")
    }

    /// Opens the body of `GET /v3/certificates`, entries in their order.
    fn open_certificates(&self, _api_v3_key: &str, _body: &str) -> Answer<Vec<PlatformCertificate>> {
        not_implemented("open_certificates")
    }

    /// The serial of the entry to encrypt with: the newest by effective time.
    fn newest_certificate(&self, _entries: &[PlatformCertificate]) -> Answer<String> {
        not_implemented("newest_certificate")
    }

    /// Reads a certificate, without judging validity or issuer.
    fn certificate(&self, _pem: &str) -> Answer<Certificate> {
        not_implemented("certificate")
    }

    /// SHA-256 in lower-case hex.
    fn sha256(&self, _message: &[u8]) -> Answer<String> {
        not_implemented("sha256")
    }

    /// SM3 in lower-case hex.
    fn sm3(&self, _message: &[u8]) -> Answer<String> {
        not_implemented("sm3")
    }

    /// Checks an SM2 signature over SM3, user id `1234567812345678`; DER in base64.
    fn sm2_verify(&self, _key: PublicKey<'_>, _message: &str, _signature_b64: &str) -> Answer<bool> {
        not_implemented("sm2_verify")
    }

    /// Opens SM2 encryption, ASN.1 in the order C1C3C2.
    fn sm2_open(&self, _private_key_pem: &str, _ciphertext_b64: &str) -> Answer<Vec<u8>> {
        not_implemented("sm2_open")
    }

    /// The SM4 key that belongs to an APIv3 key.
    fn sm4_key(&self, _api_v3_key: &str) -> Answer<Vec<u8>> {
        not_implemented("sm4_key")
    }

    /// Opens SM4-GCM: ciphertext and tag in base64.
    fn sm4_gcm_open(
        &self,
        _key: &[u8],
        _nonce: &str,
        _associated_data: &str,
        _ciphertext_b64: &str,
    ) -> Answer<Vec<u8>> {
        not_implemented("sm4_gcm_open")
    }
}

fn not_implemented<T>(operation: &'static str) -> Answer<T> {
    Err(Refusal::NotImplemented(operation))
}

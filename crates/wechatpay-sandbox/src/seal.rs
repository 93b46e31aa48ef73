//! Signing and verifying as the platform does it: the sandbox's own code, on purpose.
//!
//! Nothing here is shared with the SDK. Both are held to `vectors/`, so that one misreading of the protocol cannot pass
//! its own test. Called by `check.rs` (requests) and `platform.rs` (answers).

use std::collections::HashMap;
use std::sync::Mutex;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKey as RsaPublicKey};
use aws_lc_rs::signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// The string a caller signs (protocol 3.1): five lines, each with its line feed.
pub fn request_message(method: &str, target: &str, timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    lines(&[
        method.as_bytes(),
        target.as_bytes(),
        timestamp.as_bytes(),
        nonce.as_bytes(),
        body,
    ])
}

/// The string the platform signs (protocol 3.6): three lines, each with its line feed.
pub fn answer_message(timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    lines(&[timestamp.as_bytes(), nonce.as_bytes(), body])
}

fn lines(lines: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    for line in lines {
        message.extend_from_slice(line);
        message.push(b'\n');
    }
    message
}

/// A private RSA key that signs with PKCS#1 v1.5 and SHA-256.
pub struct SigningKey {
    pair: RsaKeyPair,
}

/// The key material is none that aws-lc-rs accepts.
#[derive(Debug, thiserror::Error)]
#[error("not a usable RSA key: {0}")]
pub struct KeyError(String);

impl SigningKey {
    /// Makes a new RSA-2048 key.
    ///
    /// # Errors
    /// When the library cannot make one.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|error| KeyError(error.to_string()))?;
        Ok(Self { pair })
    }

    /// Reads `BEGIN PRIVATE KEY` (PKCS#8) or `BEGIN RSA PRIVATE KEY` (PKCS#1).
    ///
    /// # Errors
    /// When the text is neither.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (label, der) = unpem(pem)?;
        let pair = match label.as_str() {
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            other => return Err(KeyError(format!("BEGIN {other} is no private key"))),
        };
        Ok(Self {
            pair: pair.map_err(|error| KeyError(error.to_string()))?,
        })
    }

    /// Signs and encodes as base64.
    pub fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("a loaded RSA key signs any message");
        STANDARD.encode(signature)
    }

    /// The key that checks what this one signs.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey::from_der(&self.public_der()).expect("the library reads the key it wrote")
    }

    pub(crate) fn private_der(&self) -> Vec<u8> {
        let der: Pkcs8V1Der<'_> = self.pair.as_der().expect("the library writes the key it made");
        der.as_ref().to_vec()
    }

    fn public_der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self
            .pair
            .public_key()
            .as_der()
            .expect("the library writes the key it made");
        der.as_ref().to_vec()
    }

    pub(crate) fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &self.private_der())
    }

    pub(crate) fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der())
    }
}

/// A public RSA key.
pub struct VerifyingKey {
    key: ParsedPublicKey,
    spki: Vec<u8>,
}

impl VerifyingKey {
    /// Reads `BEGIN PUBLIC KEY` (SPKI) or `BEGIN RSA PUBLIC KEY` (PKCS#1).
    ///
    /// # Errors
    /// When the text is neither.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (label, der) = unpem(pem)?;
        match label.as_str() {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => Self::from_der(&der),
            other => Err(KeyError(format!("BEGIN {other} is no public key"))),
        }
    }

    /// Brings both spellings to the same SPKI, which is what gets parsed once and kept.
    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let key = RsaPublicKey::from_der(der).map_err(|error| KeyError(error.to_string()))?;
        let spki: PublicKeyX509Der<'_> = key.as_der().map_err(|error| KeyError(error.to_string()))?;
        let spki = spki.as_ref().to_vec();
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &spki);
        let key = key.map_err(|error| KeyError(error.to_string()))?;
        Ok(Self { key, spki })
    }

    /// The key as SPKI in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Whether the base64 text is a signature of the message by this key. Bad base64 is a bad signature.
    pub fn verifies(&self, message: &[u8], signature_b64: &str) -> bool {
        STANDARD
            .decode(signature_b64)
            .is_ok_and(|signature| self.key.verify_sig(message, &signature).is_ok())
    }
}

/// Public keys by the serial under which their owner names them.
#[derive(Default)]
pub struct Held {
    keys: Vec<(String, VerifyingKey)>,
}

impl Held {
    /// Holds one more key.
    #[must_use]
    pub fn with(mut self, serial_no: impl Into<String>, key: VerifyingKey) -> Self {
        self.keys.push((serial_no.into(), key));
        self
    }

    /// The key of this very serial. Unknown: whether the real platform takes one in lower case; here it does not.
    pub fn key(&self, serial_no: &str) -> Option<&VerifyingKey> {
        let found = self.keys.iter().find(|(held, _)| held == serial_no)?;
        Some(&found.1)
    }
}

/// Wraps DER as PEM with lines of 64 characters.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

fn unpem(pem: &str) -> Result<(String, Vec<u8>), KeyError> {
    let bad = || KeyError("no PEM block found".into());
    let (_, rest) = pem.split_once("-----BEGIN ").ok_or_else(bad)?;
    let (label, rest) = rest.split_once("-----").ok_or_else(bad)?;
    let (text, _) = rest.split_once("-----END ").ok_or_else(bad)?;
    let text: String = text.split_whitespace().collect();
    let der = STANDARD.decode(text).map_err(|error| KeyError(error.to_string()))?;
    Ok((label.to_owned(), der))
}

/// What is done wrong on purpose to one signed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twist {
    None,
    WrongSignature,
    StaleTimestamp,
    UnknownSerial,
    Probe,
}

/// A platform key with the id under which callers hold it.
pub(crate) struct PlatformKey {
    pub(crate) id: String,
    pub(crate) key: SigningKey,
}

/// Signs answers.
pub(crate) struct Sealer {
    /// Same key, status, body and second: same nonce and signature. See `Builder::cached_signatures`.
    cache: Option<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    second: i64,
    seals: HashMap<(String, u16, Vec<u8>), Seal>,
}

#[derive(Clone)]
struct Seal {
    nonce: String,
    signature: String,
}

impl Sealer {
    pub(crate) fn new(cached: bool) -> Self {
        Self {
            cache: cached.then(Mutex::default),
        }
    }

    /// Adds the five `Wechatpay-*` headers for this answer.
    pub(crate) fn seal(
        &self,
        headers: &mut HeaderMap,
        key: &PlatformKey,
        status: u16,
        body: &[u8],
        now_unix: i64,
        twist: Twist,
    ) {
        let second = if twist == Twist::StaleTimestamp {
            now_unix - STALE_S
        } else {
            now_unix
        };
        let timestamp = second.to_string();
        let mut seal = match &self.cache {
            Some(cache) if twist == Twist::None => cached_seal(cache, key, status, body, second),
            Some(_) | None => fresh_seal(key, &timestamp, body),
        };
        match twist {
            Twist::None | Twist::StaleTimestamp | Twist::UnknownSerial => {}
            Twist::WrongSignature => seal.signature = STANDARD.encode(random::<256>()),
            Twist::Probe => seal.signature = probe_signature(),
        }
        let serial = if twist == Twist::UnknownSerial {
            random_serial()
        } else {
            key.id.clone()
        };

        let mut set = |name: &'static str, value: String| {
            let value = HeaderValue::try_from(value).expect("ids, digits and base64 are header text");
            headers.insert(HeaderName::from_static(name), value);
        };
        set("wechatpay-timestamp", timestamp);
        set("wechatpay-nonce", seal.nonce);
        set("wechatpay-signature", seal.signature);
        set("wechatpay-serial", serial);
        set("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048".into());
    }
}

fn cached_seal(cache: &Mutex<Cache>, key: &PlatformKey, status: u16, body: &[u8], second: i64) -> Seal {
    let mut cache = cache.lock().expect("no holder of the cache panics");
    if cache.second != second || cache.seals.len() >= MAX_CACHED {
        cache.seals.clear();
        cache.second = second;
    }
    cache
        .seals
        .entry((key.id.clone(), status, body.to_vec()))
        .or_insert_with(|| fresh_seal(key, &second.to_string(), body))
        .clone()
}

fn fresh_seal(key: &PlatformKey, timestamp: &str, body: &[u8]) -> Seal {
    let nonce = random_text(32);
    let signature = key.key.sign(&answer_message(timestamp, &nonce, body));
    Seal { nonce, signature }
}

/// A signature probe (签名探测流量, protocol 3.9): 344 characters that decode to 256 bytes, so only RSA rejects them.
fn probe_signature() -> String {
    let text = STANDARD.encode(random::<256>());
    format!("{PROBE_PREFIX}{}", &text[PROBE_PREFIX.len()..])
}

/// SHA-256 in lower-case hex: lets two people compare bytes that neither should print.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex_upper(digest(&SHA256, bytes).as_ref()).to_lowercase()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// Random letters and digits.
pub(crate) fn random_text(length: usize) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    (0..length)
        .map(|_| char::from(LETTERS[usize::from(random::<1>()[0] % 32)]))
        .collect()
}

/// Random digits.
pub(crate) fn random_digits(length: usize) -> String {
    (0..length).map(|_| char::from(b'0' + random::<1>()[0] % 10)).collect()
}

/// Forty upper-case hex characters, the first one not zero, as certificate serials look.
pub(crate) fn random_serial() -> String {
    let mut bytes = random::<20>();
    bytes[0] = bytes[0] & 0x3f | 0x40;
    hex_upper(&bytes)
}

pub(crate) fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

const PROBE_PREFIX: &str = "WECHATPAY/SIGNTEST/";
/// Twice the five minutes that callers allow.
const STALE_S: i64 = 600;
/// One second's worth of different bodies.
const MAX_CACHED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_body_still_gets_its_line_feed() {
        assert_eq!(
            request_message("GET", "/v3/x?a=b", "1", "n", b""),
            b"GET\n/v3/x?a=b\n1\nn\n\n"
        );
        assert_eq!(answer_message("1", "n", b""), b"1\nn\n\n");
    }

    #[test]
    fn keys_survive_their_pem() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(&key.private_pem()).unwrap();
        let public = VerifyingKey::from_pem(&key.public_pem()).unwrap();

        let signature = again.sign(b"text");

        assert!(public.verifies(b"text", &signature));
        assert!(!public.verifies(b"other", &signature));
        assert!(!public.verifies(b"text", "no base64!"));
    }

    #[test]
    fn a_probe_decodes_to_the_length_of_a_signature() {
        let probe = probe_signature();

        assert!(probe.starts_with("WECHATPAY/SIGNTEST/"));
        assert_eq!(probe.len(), 344);
        assert_eq!(STANDARD.decode(probe).unwrap().len(), 256);
    }
}

//! Keys: what signs, what verifies, what decrypts.
//!
//! Lives here: reading keys from files' contents, holding them wiped and out of `Debug`, and the bare operations of each.
//! Does not live here: who owns them (`merchant`), certificates (`certificate`), what is signed (`sign`), what is verified (`verify`), sealed data (`seal`). Called by all three.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeyPair, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey, PublicKey,
};
use aws_lc_rs::signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::certificate::Certificate;
use crate::pem;

/// The private key of the merchant API certificate (`apiclient_key.pem`): RSA, 2048 bits or more.
///
/// Its memory is wiped on drop.
///
/// With the feature `gm` also an SM2 key (国密).
pub struct MerchantKey(Private);

enum Private {
    Rsa {
        signing: Box<KeyPair>,
        opening: OaepPrivateDecryptingKey,
    },
    #[cfg(feature = "gm")]
    Sm2(Box<crate::gm::PrivateKey>),
}

impl MerchantKey {
    /// Reads the key from PEM: PKCS#8 (`BEGIN PRIVATE KEY`) or PKCS#1 (`BEGIN RSA PRIVATE KEY`).
    ///
    /// # Errors
    /// When there is no such block, or it is not an RSA key of at least 2048 bits. The error names what was found.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<MerchantKey, KeyError> {
        let blocks = pem::blocks(pem.as_ref())?;
        for block in &blocks {
            match block.label.as_str() {
                "PRIVATE KEY" | "RSA PRIVATE KEY" => return MerchantKey::from_der(&block.der),
                "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
                _ => {}
            }
        }
        Err(KeyError::found("a private key", &blocks))
    }

    /// Reads the key from DER, PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// When it is neither, or not an RSA key of at least 2048 bits.
    pub fn from_der(der: &[u8]) -> Result<MerchantKey, KeyError> {
        #[cfg(feature = "gm")]
        if let Some(key) = crate::gm::PrivateKey::from_der(der) {
            return Ok(MerchantKey(Private::Sm2(Box::new(key))));
        }
        let rejected = || KeyError::Rejected("the private key");
        let signing = KeyPair::from_pkcs8(der)
            .or_else(|_| KeyPair::from_der(der))
            .map_err(|_| rejected())?;
        let pkcs8 = signing.as_der().map_err(|_| rejected())?;
        let opening = PrivateDecryptingKey::from_pkcs8(pkcs8.as_ref()).map_err(|_| rejected())?;
        let opening = OaepPrivateDecryptingKey::new(opening).map_err(|_| rejected())?;
        let signing = Box::new(signing);
        Ok(MerchantKey(Private::Rsa { signing, opening }))
    }

    /// The Authorization scheme of its signatures.
    pub(crate) fn scheme(&self) -> &'static str {
        match &self.0 {
            Private::Rsa { .. } => crate::sign::SCHEME,
            #[cfg(feature = "gm")]
            Private::Sm2(_) => crate::gm::SCHEME,
        }
    }

    /// What `signType` of a payment is called. The word for SM2 is documented nowhere.
    pub(crate) fn pay_sign_type(&self) -> &'static str {
        match &self.0 {
            Private::Rsa { .. } => "RSA",
            #[cfg(feature = "gm")]
            Private::Sm2(_) => "SM2",
        }
    }

    /// Signs with SHA-256 and PKCS#1 v1.5 (with an SM2 key: SM2 over SM3), as base64. The same message always gives the
    /// same text.
    pub fn sign(&self, message: &[u8]) -> String {
        let signing = match &self.0 {
            Private::Rsa { signing, .. } => signing,
            #[cfg(feature = "gm")]
            Private::Sm2(key) => return STANDARD.encode(key.sign(message)),
        };
        let mut signature = vec![0; signing.public_modulus_len()];
        signing
            .sign(
                &RSA_PKCS1_SHA256,
                &aws_lc_rs::rand::SystemRandom::new(),
                message,
                &mut signature,
            )
            .expect("a key that was accepted can sign");
        STANDARD.encode(signature)
    }

    /// The public half, under the id `id`.
    ///
    /// # Errors
    /// When `id` is neither a serial nor a public-key id.
    pub fn public(&self, id: &str) -> Result<PlatformKey, KeyError> {
        match &self.0 {
            Private::Rsa { signing, .. } => PlatformKey::from_der(id, signing.public_key().as_ref()),
            #[cfg(feature = "gm")]
            Private::Sm2(key) => {
                let spki = key.spki().ok_or(KeyError::Rejected("the private key"))?;
                PlatformKey::from_der(id, &spki)
            }
        }
    }

    /// The public half, as SPKI in DER.
    pub(crate) fn spki_der(&self) -> Result<Vec<u8>, KeyError> {
        Ok(self.public("00")?.spki)
    }

    /// Opens what was sealed for this key: OAEP with SHA-1, or SM2.
    pub(crate) fn unseal(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let opening = match &self.0 {
            Private::Rsa { opening, .. } => opening,
            #[cfg(feature = "gm")]
            Private::Sm2(key) => return key.open(sealed),
        };
        if sealed.len() != opening.key_size_bytes() {
            return None;
        }
        let mut opened = vec![0; opening.min_output_size()];
        let plaintext = opening.decrypt(&OAEP_SHA1_MGF1SHA1, sealed, &mut opened, None);
        let length = plaintext.ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

impl fmt::Debug for MerchantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MerchantKey(..)")
    }
}

/// The APIv3 key (APIv3密钥): 32 bytes that open callbacks and platform certificates. Wiped on drop.
#[derive(Clone)]
pub struct ApiV3Key(Zeroizing<[u8; 32]>);

impl ApiV3Key {
    /// Takes the 32 characters that were set in the merchant console.
    ///
    /// # Errors
    /// When there are not exactly 32 bytes.
    pub fn new(key: impl AsRef<[u8]>) -> Result<ApiV3Key, KeyError> {
        let bytes = key.as_ref();
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::ApiV3KeyLength(bytes.len()))?;
        Ok(ApiV3Key(Zeroizing::new(bytes)))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ApiV3Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiV3Key(..)")
    }
}

/// One public key of WeChat Pay, with the id that answers name it by: the WeChat Pay public key (微信支付公钥) or the key
/// of a platform certificate (平台证书).
pub struct PlatformKey {
    id: String,
    spki: Vec<u8>,
    /// From when on it is used, in Unix seconds; the newest certificate seals.
    effective_from: i64,
    key: Public,
}

enum Public {
    Rsa {
        verifying: ParsedPublicKey,
        sealing: OaepPublicEncryptingKey,
    },
    #[cfg(feature = "gm")]
    Sm2(Box<crate::gm::PublicKey>),
}

impl PlatformKey {
    /// Reads a public key from PEM: SPKI (`BEGIN PUBLIC KEY`) or PKCS#1 (`BEGIN RSA PUBLIC KEY`). `id` is
    /// `PUB_KEY_ID_…`, or a serial.
    ///
    /// # Errors
    /// When there is no such block, it is not an RSA key of at least 2048 bits, or `id` is neither.
    pub fn from_public_key(id: &str, pem: impl AsRef<[u8]>) -> Result<PlatformKey, KeyError> {
        let blocks = pem::blocks(pem.as_ref())?;
        for block in &blocks {
            match block.label.as_str() {
                "PUBLIC KEY" | "RSA PUBLIC KEY" => return PlatformKey::from_der(id, &block.der),
                _ => {}
            }
        }
        Err(KeyError::found("a public key", &blocks))
    }

    pub(crate) fn from_der(id: &str, der: &[u8]) -> Result<PlatformKey, KeyError> {
        let rejected = || KeyError::Rejected("the public key");
        match id.strip_prefix(PUBLIC_KEY_ID) {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {}
            _ => check_serial(id)?,
        }
        #[cfg(feature = "gm")]
        if let Some(key) = crate::gm::PublicKey::from_der(der) {
            return Ok(PlatformKey {
                id: id.to_ascii_uppercase(),
                spki: key.spki.clone(),
                effective_from: 0,
                key: Public::Sm2(Box::new(key)),
            });
        }
        let spki: PublicKeyX509Der<'_> = PublicKey::from_der(der)
            .map_err(|_| rejected())?
            .as_der()
            .map_err(|_| rejected())?;
        let verifying = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, spki.as_ref()).map_err(|_| rejected())?;
        let sealing = PublicEncryptingKey::from_der(spki.as_ref()).map_err(|_| rejected())?;
        let sealing = OaepPublicEncryptingKey::new(sealing).map_err(|_| rejected())?;
        Ok(PlatformKey {
            id: id.to_ascii_uppercase(),
            spki: spki.as_ref().to_vec(),
            effective_from: 0,
            key: Public::Rsa { verifying, sealing },
        })
    }

    pub(crate) fn effective_from(mut self, unix_seconds: i64) -> PlatformKey {
        self.effective_from = unix_seconds;
        self
    }

    /// `PUB_KEY_ID_…`, or the certificate's serial in upper case.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key itself, as SPKI in DER: the same bytes whatever spelling it was read from.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Whether this is the WeChat Pay public key, not a certificate's.
    pub fn is_public_key(&self) -> bool {
        self.id.starts_with(PUBLIC_KEY_ID)
    }

    /// Whether `signature` is this key's over `message` (SHA-256, PKCS#1 v1.5; with an SM2 key SM2 over SM3). The key
    /// decides how: what an answer says about its own algorithm is not believed.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Public::Rsa { verifying, .. } => verifying.verify_sig(message, signature).is_ok(),
            #[cfg(feature = "gm")]
            Public::Sm2(key) => key.verify(message, signature),
        }
    }

    /// Seals for this key: OAEP with SHA-1, or SM2. An error is the longest text that RSA can seal.
    pub(crate) fn seal_bytes(&self, plaintext: &[u8]) -> Result<Vec<u8>, usize> {
        let sealing = match &self.key {
            Public::Rsa { sealing, .. } => sealing,
            #[cfg(feature = "gm")]
            Public::Sm2(key) => return key.seal(plaintext).ok_or(usize::MAX),
        };
        let max = sealing.max_plaintext_size(&OAEP_SHA1_MGF1SHA1);
        if plaintext.len() > max {
            return Err(max);
        }
        let mut sealed = vec![0; sealing.ciphertext_size()];
        let written = sealing.encrypt(&OAEP_SHA1_MGF1SHA1, plaintext, &mut sealed, None);
        Ok(written.map_err(|_| max)?.to_vec())
    }
}

impl fmt::Debug for PlatformKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlatformKey").field(&self.id).finish()
    }
}

/// The keys that answers and notifications are verified with, looked up by `Wechatpay-Serial`.
///
/// During a migration or a rotation several are held side by side.
#[derive(Clone, Default)]
pub struct PlatformKeys(Vec<Arc<PlatformKey>>);

impl PlatformKeys {
    /// Holds no key yet.
    pub fn new() -> PlatformKeys {
        PlatformKeys::default()
    }

    /// Adds the WeChat Pay public key (`pub_key.pem`) under its id (`PUB_KEY_ID_…`).
    ///
    /// # Errors
    /// As [`PlatformKey::from_public_key`].
    pub fn with_public_key(self, id: impl AsRef<str>, pem: impl AsRef<[u8]>) -> Result<PlatformKeys, KeyError> {
        Ok(self.with(PlatformKey::from_public_key(id.as_ref(), pem)?))
    }

    /// Adds every platform certificate in a PEM text, each under its own serial. Only key and serial count; validity
    /// is WeChat Pay's to judge, which shortens it at will.
    ///
    /// # Errors
    /// When there is no certificate in it, or one does not hold an RSA key.
    pub fn with_certificate(mut self, pem: impl AsRef<[u8]>) -> Result<PlatformKeys, KeyError> {
        for certificate in Certificate::all_from_pem(pem)? {
            self = self.with(certificate.platform_key()?);
        }
        Ok(self)
    }

    /// Adds a key. One that was held under the same id is replaced.
    pub fn with(mut self, key: PlatformKey) -> PlatformKeys {
        self.0.retain(|held| held.id != key.id);
        self.0.push(Arc::new(key));
        self
    }

    /// Adds every key of another collection.
    pub fn and(mut self, others: &PlatformKeys) -> PlatformKeys {
        self.0.retain(|held| others.0.iter().all(|other| other.id != held.id));
        self.0.extend(others.0.iter().cloned());
        self
    }

    /// The key to seal sensitive fields with: the WeChat Pay public key if it is held, else the newest certificate's.
    /// Send its id as `Wechatpay-Serial`.
    pub fn sealing(&self) -> Option<&PlatformKey> {
        self.public_key()
            .or_else(|| self.iter().max_by_key(|key| key.effective_from))
    }

    /// The key that an answer names. Serials are hex: case does not matter.
    pub fn find(&self, serial: &str) -> Option<&PlatformKey> {
        self.iter().find(|key| key.id.eq_ignore_ascii_case(serial))
    }

    /// The WeChat Pay public key, if it is held.
    pub fn public_key(&self) -> Option<&PlatformKey> {
        self.iter().find(|key| key.is_public_key())
    }

    /// All keys, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &PlatformKey> {
        self.0.iter().map(|key| &**key)
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for PlatformKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(PlatformKey::id)).finish()
    }
}

/// A key or certificate that cannot be used. Never holds any part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text has no readable PEM block.
    #[error("not a PEM text: {0}")]
    NotPem(&'static str),
    /// Another kind of PEM block was needed.
    #[error("expected {expected}, found {found}")]
    Found {
        /// What was needed.
        expected: &'static str,
        /// The labels of the blocks that were there.
        found: String,
    },
    /// The key is protected by a pass phrase.
    #[error("the private key is encrypted; decrypt it first (openssl pkey -in key.pem)")]
    Encrypted,
    /// The key is no RSA key, is shorter than 2048 bits, or is damaged.
    #[cfg_attr(
        feature = "gm",
        error("{0} is neither an RSA key of 2048 to 8192 bits nor an SM2 key")
    )]
    #[cfg_attr(not(feature = "gm"), error("{0} is not an RSA key of 2048 to 8192 bits"))]
    Rejected(&'static str),
    /// The certificate is damaged.
    #[error("the certificate cannot be read")]
    Certificate(#[source] x509_cert::der::Error),
    /// The APIv3 key has another length.
    #[error("the APIv3 key must have 32 bytes, this one has {0}")]
    ApiV3KeyLength(usize),
    /// The certificate was issued for another key.
    #[error("the certificate {0} was issued for another private key")]
    OtherKey(String),
    /// The `.p12` file is damaged, or the password is wrong.
    #[cfg(feature = "p12")]
    #[error("the .p12 file cannot be opened: {0}; the password is the mchid unless it was changed")]
    P12(String),
    /// The `.p12` file has no key with its certificate.
    #[cfg(feature = "p12")]
    #[error("the .p12 file holds no private key with its certificate")]
    EmptyP12,
    /// A serial is not hex.
    #[error("{0:?} is neither a certificate serial (hex digits) nor a public-key id (PUB_KEY_ID_ and digits)")]
    Serial(String),
    /// The merchant number is not decimal.
    #[error("the mchid must be 1 to 32 decimal digits")]
    Mchid,
}

impl KeyError {
    pub(crate) fn found(expected: &'static str, blocks: &[pem::Block]) -> KeyError {
        let found: Vec<&str> = blocks.iter().map(|block| block.label.as_str()).collect();
        KeyError::Found {
            expected,
            found: found.join(", "),
        }
    }
}

const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_";

pub(crate) fn check_serial(serial: &str) -> Result<(), KeyError> {
    let hex = !serial.is_empty() && serial.len() <= 64 && serial.bytes().all(|b| b.is_ascii_hexdigit());
    if hex {
        Ok(())
    } else {
        Err(KeyError::Serial(serial.chars().take(64).collect()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use aws_lc_rs::rsa::KeySize;

    /// A fresh key: its PKCS#8 PEM, and as the type under test.
    pub(crate) fn fresh_key() -> (String, MerchantKey) {
        let der = KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        let key = MerchantKey::from_pem(&pem).unwrap();
        (pem, key)
    }

    fn public_pem(key: &MerchantKey) -> String {
        let der = STANDARD.encode(key.public("00").unwrap().spki_der());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    #[test]
    fn keys_are_found_by_id_whatever_the_case() {
        let (_, key) = fresh_key();
        let keys = PlatformKeys::new()
            .with_public_key("PUB_KEY_ID_0123", public_pem(&key))
            .unwrap()
            .with_public_key("0aBc", public_pem(&key))
            .unwrap()
            .with_public_key("0ABC", public_pem(&key))
            .unwrap();

        assert_eq!(format!("{keys:?}"), r#"["PUB_KEY_ID_0123", "0ABC"]"#);
        assert_eq!(keys.find("0abc").map(PlatformKey::id), Some("0ABC"));
        assert_eq!(keys.public_key().map(PlatformKey::id), Some("PUB_KEY_ID_0123"));
        assert!(keys.find("").is_none() && keys.find("0AB").is_none());
    }

    #[test]
    fn ids_that_no_answer_can_name_are_refused() {
        let (_, key) = fresh_key();

        for id in ["", "PUB_KEY_ID_", "PUB_KEY_ID_12X", "serial", "0A 0B", "0A\n"] {
            assert!(
                matches!(
                    PlatformKey::from_public_key(id, public_pem(&key)),
                    Err(KeyError::Serial(_))
                ),
                "{id:?}"
            );
        }
    }

    #[test]
    fn the_wrong_kind_of_block_is_named() {
        let (private, key) = fresh_key();

        let swapped = MerchantKey::from_pem(public_pem(&key)).unwrap_err().to_string();
        let no_certificate = PlatformKeys::new().with_certificate(&private).unwrap_err().to_string();
        let encrypted = MerchantKey::from_pem(private.replace("PRIVATE", "ENCRYPTED PRIVATE")).unwrap_err();
        let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";

        assert_eq!(swapped, "expected a private key, found PUBLIC KEY");
        assert_eq!(no_certificate, "expected a certificate, found PRIVATE KEY");
        assert!(matches!(encrypted, KeyError::Encrypted));
        assert!(matches!(MerchantKey::from_pem(nonsense), Err(KeyError::Rejected(_))));
    }

    #[test]
    fn short_keys_are_refused() {
        // 1024 bits, made for this test.
        let pem = "-----BEGIN PUBLIC KEY-----\n\
                   MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCe77k2WB7HBZPDZ++KLUG4igXL\n\
                   OqExe6mxIffxF0BWw0ydYJdXHGEMxijdowuGC8IvyjPgcFDTCJxSlOey31Xvm0qb\n\
                   m57SZgSlxuN6e/tYWtBvSApBAOdbCrUusctm8aiESuLmH5lIFxIt/FfrtNSg9u8e\n\
                   bhOuWt6xdznwozGpHwIDAQAB\n\
                   -----END PUBLIC KEY-----\n";

        assert!(matches!(
            PlatformKey::from_public_key("00", pem),
            Err(KeyError::Rejected(_))
        ));
    }

    #[test]
    fn the_api_v3_key_has_32_bytes() {
        assert!(ApiV3Key::new("0123456789abcdef0123456789ABCDEF").is_ok());
        assert!(matches!(
            ApiV3Key::new("0123456789abcdef"),
            Err(KeyError::ApiV3KeyLength(16))
        ));
    }
}

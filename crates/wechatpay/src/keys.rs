//! Keys: what signs, what verifies, what decrypts.
//!
//! Lives here: reading keys from files' contents, holding them wiped and out of `Debug`, and the bare operations of each.
//! Does not live here: who owns them (`merchant`), WeChat Pay's own (`platform_keys`), what is signed (`sign`), what is verified (`verify`), sealed data (`seal`). Called by all three.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::pem;
use crate::platform_keys::PlatformKey;

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
        Ok(self.public("00")?.spki_der().to_vec())
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

    pub(crate) fn public_pem(key: &MerchantKey) -> String {
        let der = STANDARD.encode(key.public("00").unwrap().spki_der());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    #[test]
    fn the_wrong_kind_of_block_is_named() {
        let (private, key) = fresh_key();

        let swapped = MerchantKey::from_pem(public_pem(&key)).unwrap_err().to_string();
        let no_certificate = crate::PlatformKeys::new()
            .with_certificate(&private)
            .unwrap_err()
            .to_string();
        let encrypted = MerchantKey::from_pem(private.replace("PRIVATE", "ENCRYPTED PRIVATE")).unwrap_err();
        let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";

        assert_eq!(swapped, "expected a private key, found PUBLIC KEY");
        assert_eq!(no_certificate, "expected a certificate, found PRIVATE KEY");
        assert!(matches!(encrypted, KeyError::Encrypted));
        assert!(matches!(MerchantKey::from_pem(nonsense), Err(KeyError::Rejected(_))));
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

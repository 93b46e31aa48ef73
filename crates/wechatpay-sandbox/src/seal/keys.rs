//! Keys. RSA keys: signing and verifying with PKCS#1 v1.5 and SHA-256, opening and sealing with OAEP and SHA-1.
//! With the feature `gm` also SM2 keys, which `sm.rs` works with.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeyPair as RsaKeyPair, KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey, PublicEncryptingKey, PublicKey as RsaPublicKey,
};
use aws_lc_rs::signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[cfg(feature = "gm")]
use super::sm;
use crate::seal::Suite;

/// A private RSA key that signs with PKCS#1 v1.5 and SHA-256; or an SM2 key.
pub struct SigningKey(Private);

enum Private {
    Rsa(RsaKeyPair),
    #[cfg(feature = "gm")]
    Sm2(Box<sm::PrivateKey>),
}

/// The key material is none that aws-lc-rs accepts.
#[derive(Debug, thiserror::Error)]
#[error("not a usable key: {0}")]
pub struct KeyError(String);

impl SigningKey {
    /// Makes a new RSA-2048 key.
    ///
    /// # Errors
    /// When the library cannot make one.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|error| KeyError(error.to_string()))?;
        Ok(Self(Private::Rsa(pair)))
    }

    /// Makes a new key for these algorithms.
    pub(crate) fn generate_for(suite: Suite) -> Result<Self, KeyError> {
        match suite {
            Suite::Rsa => Self::generate(),
            #[cfg(feature = "gm")]
            Suite::Sm => Ok(Self(Private::Sm2(Box::new(sm::PrivateKey::generate())))),
        }
    }

    pub(crate) fn suite(&self) -> Suite {
        match &self.0 {
            Private::Rsa(_) => Suite::Rsa,
            #[cfg(feature = "gm")]
            Private::Sm2(_) => Suite::Sm,
        }
    }

    /// Reads `BEGIN PRIVATE KEY` (PKCS#8) or `BEGIN RSA PRIVATE KEY` (PKCS#1).
    ///
    /// # Errors
    /// When the text is neither.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (label, der) = unpem(pem)?;
        #[cfg(feature = "gm")]
        if let Some(key) = sm::PrivateKey::from_der(&der) {
            return Ok(Self(Private::Sm2(Box::new(key))));
        }
        let pair = match label.as_str() {
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            other => return Err(KeyError(format!("BEGIN {other} is no private key"))),
        };
        let pair = pair.map_err(|error| KeyError(error.to_string()))?;
        Ok(Self(Private::Rsa(pair)))
    }

    /// Signs and encodes as base64.
    pub fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(match &self.0 {
            Private::Rsa(pair) => rsa_sign(pair, message),
            #[cfg(feature = "gm")]
            Private::Sm2(key) => key.sign(message),
        })
    }

    /// Opens a sensitive field (protocol 4.5): RSAES-OAEP with SHA-1 and MGF1-SHA-1, or SM2, in base64.
    ///
    /// # Errors
    /// When it is no base64, or was not sealed for this key.
    pub fn open(&self, ciphertext_b64: &str) -> Result<Vec<u8>, KeyError> {
        let ciphertext = STANDARD
            .decode(ciphertext_b64)
            .map_err(|error| KeyError(error.to_string()))?;
        #[cfg(feature = "gm")]
        if let Private::Sm2(key) = &self.0 {
            let opened = key.open(&ciphertext);
            return opened.ok_or_else(|| KeyError("the ciphertext was not made for this SM2 key".into()));
        }
        let key = PrivateDecryptingKey::from_pkcs8(&self.private_der()).map_err(|error| KeyError(error.to_string()))?;
        let key = OaepPrivateDecryptingKey::new(key).map_err(|error| KeyError(error.to_string()))?;
        let mut plaintext = vec![0; key.min_output_size()];
        let opened = key
            .decrypt(&OAEP_SHA1_MGF1SHA1, &ciphertext, &mut plaintext, None)
            .map_err(|_| KeyError("the ciphertext was not made for this key with OAEP and SHA-1".into()))?;
        Ok(opened.to_vec())
    }

    /// The key that checks what this one signs.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey::from_der(&self.public_der()).expect("the library reads the key it wrote")
    }

    pub(crate) fn private_der(&self) -> Vec<u8> {
        match &self.0 {
            Private::Rsa(pair) => rsa_private_der(pair),
            #[cfg(feature = "gm")]
            Private::Sm2(key) => key.private_der(),
        }
    }

    pub(crate) fn public_der(&self) -> Vec<u8> {
        match &self.0 {
            Private::Rsa(pair) => rsa_public_der(pair),
            #[cfg(feature = "gm")]
            Private::Sm2(key) => key.public_der(),
        }
    }

    /// `BEGIN PRIVATE KEY` (PKCS#8).
    pub fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &self.private_der())
    }

    pub(crate) fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der())
    }
}

fn rsa_sign(pair: &RsaKeyPair, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
        .expect("a loaded RSA key signs any message");
    signature
}

fn rsa_private_der(pair: &RsaKeyPair) -> Vec<u8> {
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("the library writes the key it made");
    der.as_ref().to_vec()
}

fn rsa_public_der(pair: &RsaKeyPair) -> Vec<u8> {
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("the library writes the key it made");
    der.as_ref().to_vec()
}

/// A public RSA key, or an SM2 one.
#[derive(Clone)]
pub struct VerifyingKey(Public);

#[derive(Clone)]
enum Public {
    Rsa {
        key: ParsedPublicKey,
        spki: Vec<u8>,
    },
    #[cfg(feature = "gm")]
    Sm2(Box<sm::PublicKey>),
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
        #[cfg(feature = "gm")]
        if let Some(key) = sm::PublicKey::from_der(der) {
            return Ok(Self(Public::Sm2(Box::new(key))));
        }
        let key = RsaPublicKey::from_der(der).map_err(|error| KeyError(error.to_string()))?;
        let spki: PublicKeyX509Der<'_> = key.as_der().map_err(|error| KeyError(error.to_string()))?;
        let spki = spki.as_ref().to_vec();
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &spki);
        let key = key.map_err(|error| KeyError(error.to_string()))?;
        Ok(Self(Public::Rsa { key, spki }))
    }

    /// The key as SPKI in DER.
    pub fn spki(&self) -> &[u8] {
        match &self.0 {
            Public::Rsa { spki, .. } => spki,
            #[cfg(feature = "gm")]
            Public::Sm2(key) => &key.spki,
        }
    }

    /// Seals a sensitive field for the owner of this key. `None` when the text is too long for it.
    pub fn seal(&self, plaintext: &[u8]) -> Option<String> {
        #[cfg(feature = "gm")]
        if let Public::Sm2(key) = &self.0 {
            return Some(STANDARD.encode(key.seal(plaintext)?));
        }
        let key = PublicEncryptingKey::from_der(self.spki()).expect("the library reads the key it wrote");
        let key = OaepPublicEncryptingKey::new(key).expect("an RSA key encrypts");
        let mut ciphertext = vec![0; key.ciphertext_size()];
        let sealed = key
            .encrypt(&OAEP_SHA1_MGF1SHA1, plaintext, &mut ciphertext, None)
            .ok()?;
        Some(STANDARD.encode(sealed))
    }

    /// Whether the base64 text is a signature of the message by this key. Bad base64 is a bad signature.
    pub fn verifies(&self, message: &[u8], signature_b64: &str) -> bool {
        STANDARD.decode(signature_b64).is_ok_and(|signature| match &self.0 {
            Public::Rsa { key, .. } => key.verify_sig(message, &signature).is_ok(),
            #[cfg(feature = "gm")]
            Public::Sm2(key) => key.verifies(message, &signature),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_sealed_field_opens_with_the_right_key_only() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());

        let sealed = key.verifying_key().seal("秘密".as_bytes()).unwrap();

        assert_eq!(key.open(&sealed).unwrap(), "秘密".as_bytes());
        assert!(other.open(&sealed).is_err());
        assert!(key.open("no base64!").is_err());
        assert!(key.open("").is_err());
        assert!(key.verifying_key().seal(&[0; 214]).is_some());
        assert!(key.verifying_key().seal(&[0; 215]).is_none());
    }
}

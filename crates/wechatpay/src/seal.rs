//! Sealed data: AES-256-GCM in callbacks and certificates, RSA-OAEP in sensitive fields (敏感信息加密).
//!
//! Lives here: opening and sealing both, and the digest of uploads. Does not live here: keys (`keys`), the envelopes
//! around sealed data (`notify`, `api`; the callers).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::keys::{ApiV3Key, MerchantKey};
use crate::platform_keys::PlatformKey;
use crate::verify::VerifyError;

/// How a callback or a certificate is sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Algorithm {
    Aes256Gcm,
    #[cfg(feature = "gm")]
    Sm4Gcm,
}

impl Algorithm {
    pub(crate) fn named(name: &str) -> Option<Algorithm> {
        match name {
            "AEAD_AES_256_GCM" => Some(Algorithm::Aes256Gcm),
            #[cfg(feature = "gm")]
            "AEAD_SM4_GCM" => Some(Algorithm::Sm4Gcm),
            _ => None,
        }
    }
}

impl ApiV3Key {
    /// Opens with the algorithm that the envelope names.
    pub(crate) fn open_with(
        &self,
        algorithm: Algorithm,
        nonce: &str,
        associated_data: &str,
        ciphertext_b64: &str,
    ) -> Result<Vec<u8>, SealError> {
        match algorithm {
            Algorithm::Aes256Gcm => self.open(nonce, associated_data, ciphertext_b64),
            #[cfg(feature = "gm")]
            Algorithm::Sm4Gcm => {
                crate::gm::sm4_gcm_open(&crate::gm::sm4_key(self), nonce, associated_data, ciphertext_b64)
            }
        }
    }

    /// Opens AES-256-GCM. Nonce and associated data are taken as they stand; the last 16 bytes of the ciphertext are
    /// the tag.
    ///
    /// # Errors
    /// When the base64, the nonce's length, or the tag is wrong; then there is no plaintext.
    pub fn open(&self, nonce: &str, associated_data: &str, ciphertext_b64: &str) -> Result<Vec<u8>, SealError> {
        let mut sealed = STANDARD.decode(ciphertext_b64).map_err(|_| SealError::Base64)?;
        let opened = self
            .gcm()
            .open_in_place(gcm_nonce(nonce)?, Aad::from(associated_data), &mut sealed)
            .map_err(|_| SealError::Open("the APIv3 key"))?
            .len();
        sealed.truncate(opened);
        Ok(sealed)
    }

    /// Seals with AES-256-GCM; base64 of ciphertext and tag. A nonce must never be used twice with one key.
    ///
    /// # Errors
    /// When the nonce has not 12 bytes.
    pub fn seal(&self, nonce: &str, associated_data: &str, plaintext: &[u8]) -> Result<String, SealError> {
        let mut sealed = plaintext.to_vec();
        self.gcm()
            .seal_in_place_append_tag(gcm_nonce(nonce)?, Aad::from(associated_data), &mut sealed)
            .map_err(|_| SealError::TooLong(usize::MAX))?;
        Ok(STANDARD.encode(sealed))
    }

    fn gcm(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.bytes()).expect("the key has 32 bytes"))
    }
}

impl PlatformKey {
    /// Seals a sensitive field for WeChat Pay: RSA-OAEP with SHA-1, base64. Send the key's id as `Wechatpay-Serial`.
    ///
    /// # Errors
    /// When the text is too long: 214 bytes for a key of 2048 bits.
    pub fn seal(&self, plaintext: &str) -> Result<String, SealError> {
        let sealed = self.seal_bytes(plaintext.as_bytes()).map_err(SealError::TooLong)?;
        Ok(STANDARD.encode(sealed))
    }
}

impl MerchantKey {
    /// Opens a sensitive field that WeChat Pay sealed for the merchant: RSA-OAEP with SHA-1.
    ///
    /// # Errors
    /// When the base64 is wrong, or it was not sealed for this key.
    pub fn open(&self, ciphertext_b64: &str) -> Result<Vec<u8>, SealError> {
        let sealed = STANDARD.decode(ciphertext_b64).map_err(|_| SealError::Base64)?;
        self.unseal(&sealed).ok_or(SealError::Open("the merchant key"))
    }
}

/// The SHA-256 digest in lower-case hex, as uploads and downloads name it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// The digest that a signed answer gave for a file: what makes an unsigned download believable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    algorithm: &'static aws_lc_rs::digest::Algorithm,
    hex: String,
}

impl Digest {
    /// A SHA-256 digest in hex.
    ///
    /// # Errors
    /// [`SealError::Digest`] when it is not 64 hex digits.
    pub fn sha256(hex: impl AsRef<str>) -> Result<Digest, SealError> {
        Digest::new(&SHA256, hex.as_ref())
    }

    /// A SHA-1 digest in hex, as bills have it (`hash_type` `SHA1`). It guards against damage and mix-ups; against an
    /// attacker who found a collision it does not.
    ///
    /// # Errors
    /// [`SealError::Digest`] when it is not 40 hex digits.
    pub fn sha1(hex: impl AsRef<str>) -> Result<Digest, SealError> {
        Digest::new(&SHA1_FOR_LEGACY_USE_ONLY, hex.as_ref())
    }

    fn new(algorithm: &'static aws_lc_rs::digest::Algorithm, hex: &str) -> Result<Digest, SealError> {
        let digits = algorithm.output_len() * 2;
        if hex.len() != digits || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(SealError::Digest(digits));
        }
        let hex = hex.to_ascii_lowercase();
        Ok(Digest { algorithm, hex })
    }

    pub(crate) fn check(&self, body: &[u8]) -> Result<(), VerifyError> {
        let found = hex(digest(self.algorithm, body).as_ref());
        if found == self.hex {
            Ok(())
        } else {
            Err(VerifyError::Digest {
                expected: self.hex.clone(),
                found,
            })
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sealed data that cannot be opened, or data that cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The ciphertext is not strict base64.
    #[error("the ciphertext is not base64")]
    Base64,
    /// AES-GCM takes nonces of 12 bytes.
    #[error("the nonce must have 12 bytes, this one has {0}")]
    Nonce(usize),
    /// It was sealed for another key, or was damaged.
    #[error("it cannot be opened with {0}: it was sealed for another key, or was damaged")]
    Open(&'static str),
    /// A digest has another form.
    #[error("the digest must have {0} hex digits")]
    Digest(usize),
    /// The plaintext is longer than the key can seal.
    #[error("the text is longer than {0} bytes")]
    TooLong(usize),
}

fn gcm_nonce(nonce: &str) -> Result<Nonce, SealError> {
    let bytes: [u8; NONCE_LEN] = nonce.as_bytes().try_into().map_err(|_| SealError::Nonce(nonce.len()))?;
    Ok(Nonce::assume_unique_for_key(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::fresh_key;

    fn key() -> ApiV3Key {
        ApiV3Key::new("0123456789abcdef0123456789ABCDEF").unwrap()
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_context_only() {
        let sealed = key().seal("0123456789ab", "certificate", b"hello").unwrap();

        assert_eq!(key().open("0123456789ab", "certificate", &sealed).unwrap(), b"hello");
        assert!(key().open("0123456789ab", "", &sealed).is_err());
        assert!(key().open("0123456789aX", "certificate", &sealed).is_err());
        assert!(
            ApiV3Key::new([0; 32])
                .unwrap()
                .open("0123456789ab", "certificate", &sealed)
                .is_err()
        );
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        assert_eq!(key().open("short", "", "AAAA"), Err(SealError::Nonce(5)));
        assert_eq!(key().open("0123456789ab", "", "A*"), Err(SealError::Base64));
        for short in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(
                key().open("0123456789ab", "", short),
                Err(SealError::Open("the APIv3 key"))
            );
        }
    }

    #[test]
    fn sensitive_fields_go_both_ways_up_to_214_bytes() {
        let key = fresh_key().1;
        let public = key.public("00").unwrap();
        let longest = "字".repeat(71);

        assert_eq!(key.open(&public.seal(&longest).unwrap()).unwrap(), longest.as_bytes());
        assert_eq!(public.seal(&"x".repeat(215)), Err(SealError::TooLong(214)));
        assert!(fresh_key().1.open(&public.seal("x").unwrap()).is_err());
        assert!(key.open("").is_err() && key.open("AAAA").is_err());
    }
}

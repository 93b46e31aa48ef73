//! AES-256-GCM under the APIv3 key, as certificates and callbacks are encrypted (protocol 4.1, 5); SM4-GCM with SM keys.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::seal::random_text;

/// The key or the nonce has not the length that AES-256-GCM wants: 32 and 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("AES-256-GCM takes a key of 32 bytes and a nonce of 12")]
pub struct KeyLength;

/// Seals the text; base64 of ciphertext and tag. Key, nonce and associated data are the bytes of their texts.
///
/// # Errors
/// For a key or a nonce of another length.
pub fn gcm_seal(key: &str, nonce: &str, associated_data: &str, plaintext: &[u8]) -> Result<String, KeyLength> {
    let key = UnboundKey::new(&AES_256_GCM, key.as_bytes()).map_err(|_| KeyLength)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).map_err(|_| KeyLength)?;
    let mut sealed = plaintext.to_vec();
    LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, Aad::from(associated_data.as_bytes()), &mut sealed)
        .expect("AES-GCM seals any text that fits into memory");
    Ok(STANDARD.encode(sealed))
}

/// The algorithms that belong together: those of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Suite {
    /// RSA with SHA-256, AES-256-GCM.
    #[default]
    Rsa,
    /// SM2 with SM3, SM4-GCM (国密).
    #[cfg(feature = "gm")]
    Sm,
}

impl Suite {
    /// The scheme of Authorization, and the `Wechatpay-Signature-Type` of answers.
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Self::Rsa => "WECHATPAY2-SHA256-RSA2048",
            #[cfg(feature = "gm")]
            Self::Sm => "WECHATPAY2-SM2-WITH-SM3",
        }
    }

    /// What `algorithm_type` of `GET /v3/certificates` calls it.
    pub(crate) fn algorithm_type(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            #[cfg(feature = "gm")]
            Self::Sm => "SM2",
        }
    }
}

/// What certificates and callbacks are sealed with.
pub(crate) struct Envelopes {
    pub(crate) api_v3_key: String,
    pub(crate) suite: Suite,
}

impl Envelopes {
    /// The `algorithm` of an envelope.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.suite {
            Suite::Rsa => "AEAD_AES_256_GCM",
            #[cfg(feature = "gm")]
            Suite::Sm => "AEAD_SM4_GCM",
        }
    }

    /// A fresh nonce and the ciphertext.
    pub(crate) fn seal(&self, associated_data: &str, plaintext: &[u8]) -> (String, String) {
        let (key, nonce) = (&self.api_v3_key, random_nonce());
        let sealed = match self.suite {
            Suite::Rsa => gcm_seal(key, &nonce, associated_data, plaintext),
            #[cfg(feature = "gm")]
            Suite::Sm => super::sm::sm4_gcm_seal(super::sm::sm4_key(key), &nonce, associated_data, plaintext),
        };
        let sealed = sealed.expect("the sandbox made a key of 32 and a nonce of 12 bytes");
        (nonce, sealed)
    }
}

/// A nonce as real ciphertexts have it: 12 characters.
fn random_nonce() -> String {
    random_text(12)
}

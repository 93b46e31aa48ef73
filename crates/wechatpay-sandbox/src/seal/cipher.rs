//! AES-256-GCM under the APIv3 key, as certificates and callbacks are encrypted (protocol 4.1, 5).

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

/// A nonce as real ciphertexts have it: 12 characters.
pub(crate) fn random_nonce() -> String {
    random_text(12)
}

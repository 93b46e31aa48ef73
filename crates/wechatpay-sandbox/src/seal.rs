//! Signing, verifying and encrypting as the platform does it: the sandbox's own code, on purpose.
//!
//! Nothing here is shared with the SDK. Both are held to `vectors/`, so that one misreading of the protocol cannot pass
//! its own test. `keys` are RSA keys, `cipher` is AES-GCM, `sm` the same with SM2 and SM4, `answers` are the `Wechatpay-*` headers. Called by `check.rs`
//! (requests), `keyring.rs` (answers and callbacks) and by endpoints.

mod answers;
mod cipher;
mod keys;
#[cfg(feature = "gm")]
mod sm;

use aws_lc_rs::digest::{SHA256, digest};

pub(crate) use answers::{PlatformKey, Sealer, Twist};
pub(crate) use cipher::{Envelopes, Suite};
pub use cipher::{KeyLength, gcm_seal};
pub use keys::{Held, KeyError, SigningKey, VerifyingKey};
#[cfg(feature = "gm")]
pub(crate) use sm::certificate as sm_certificate;
#[cfg(feature = "gm")]
pub use sm::{sm3_hex, sm4_gcm_seal, sm4_key};

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
    random_bytes(length)
        .into_iter()
        .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
        .collect()
}

/// Random digits.
pub(crate) fn random_digits(length: usize) -> String {
    random_bytes(length)
        .into_iter()
        .map(|byte| char::from(b'0' + byte % 10))
        .collect()
}

/// Asked for at once: every answer has a random id, and asking byte by byte took longer than the rest of it.
fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
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
}

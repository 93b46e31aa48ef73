//! The SM algorithms (国密): SM2 signatures and encryption, SM3, SM4-GCM. Only with the feature `gm`.
//!
//! WeChat Pay opens them per merchant. A [`MerchantKey`](crate::MerchantKey) or [`PlatformKey`](crate::PlatformKey) that is
//! read from an SM2 key uses them by itself: requests are signed with `WECHATPAY2-SM2-WITH-SM3`, certificates are fetched
//! with `algorithm_type=SM2`, and what is sealed with `AEAD_SM4_GCM` is opened.
//!
//! The algorithms are those of the RustCrypto crates, which nobody has audited. Checked against `vectors/`, whose values were
//! made with OpenSSL: verifying signatures (user id `1234567812345678`, DER), opening encryption (ASN.1, C1C3C2), SM3, the
//! SM4 key from the APIv3 key, opening SM4-GCM. The other way round, by hand: a signature and a sealed field of this crate
//! were verified and opened by OpenSSL 3.0. Against the sandbox in SM mode, whose code is another one on the same crates:
//! fetching and rotating SM2 certificates, signed calls and answers, a sealed callback, a sealed field both ways. Not
//! checked: anything against WeChat Pay itself.
//!
//! Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012075987>.

use aes_gcm::AesGcm;
use aes_gcm::aead::array::Array;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sm2::dsa::signature::{Signer as _, Verifier as _};
use sm2::dsa::{Signature, SigningKey, VerifyingKey};
use sm2::elliptic_curve::common::getrandom::SysRng;
use sm2::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use sm2::pke::{DecryptingKey, EncryptingKey};
use sm3::{Digest as _, Sm3};
use zeroize::Zeroizing;

use crate::keys::ApiV3Key;
use crate::seal::SealError;

/// The Authorization scheme of SM2 signatures.
pub const SCHEME: &str = "WECHATPAY2-SM2-WITH-SM3";

/// The user id that WeChat Pay signs and verifies with.
const USER_ID: &str = "1234567812345678";

/// The SM3 digest in lower-case hex.
pub fn sm3_hex(bytes: &[u8]) -> String {
    Sm3::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SM4 key that belongs to an APIv3 key: the first half of its SM3 digest. Wiped on drop.
pub fn sm4_key(api_v3_key: &ApiV3Key) -> Zeroizing<[u8; 16]> {
    let digest = Sm3::digest(api_v3_key.bytes());
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&digest[..16]);
    key
}

/// Opens SM4-GCM. Nonce and associated data are taken as they stand; the last 16 bytes of the ciphertext are the tag.
///
/// # Errors
/// When the base64, the nonce's length, or the tag is wrong; then there is no plaintext.
pub fn sm4_gcm_open(
    key: &[u8; 16],
    nonce: &str,
    associated_data: &str,
    ciphertext_b64: &str,
) -> Result<Vec<u8>, SealError> {
    let sealed = STANDARD.decode(ciphertext_b64).map_err(|_| SealError::Base64)?;
    let bytes: [u8; 12] = nonce.as_bytes().try_into().map_err(|_| SealError::Nonce(nonce.len()))?;
    let sealed = Payload {
        msg: &sealed,
        aad: associated_data.as_bytes(),
    };
    AesGcm::<sm4::Sm4, U12>::new(&Array(*key))
        .decrypt(&Array(bytes), sealed)
        .map_err(|_| SealError::Open("the SM4 key of the APIv3 key"))
}

/// An SM2 private key.
pub(crate) struct PrivateKey {
    signing: SigningKey,
    opening: DecryptingKey,
}

impl PrivateKey {
    /// Reads PKCS#8.
    pub(crate) fn from_der(der: &[u8]) -> Option<PrivateKey> {
        let key = sm2::SecretKey::from_pkcs8_der(der).ok()?;
        Some(PrivateKey {
            signing: SigningKey::new(USER_ID, &key).ok()?,
            opening: DecryptingKey::new(key),
        })
    }

    /// DER (r, s).
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.signing.sign(message);
        signature.to_der().as_bytes().to_vec()
    }

    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.opening.decrypt_der(sealed).ok()
    }

    pub(crate) fn spki(&self) -> Option<Vec<u8>> {
        let public = sm2::PublicKey::from_affine(*self.signing.verifying_key().as_affine()).ok()?;
        Some(public.to_public_key_der().ok()?.into_vec())
    }
}

/// An SM2 public key.
pub(crate) struct PublicKey {
    verifying: VerifyingKey,
    sealing: EncryptingKey,
    pub(crate) spki: Vec<u8>,
}

impl PublicKey {
    /// Reads SPKI.
    pub(crate) fn from_der(der: &[u8]) -> Option<PublicKey> {
        let key = sm2::PublicKey::from_public_key_der(der).ok()?;
        Some(PublicKey {
            verifying: VerifyingKey::new(USER_ID, key).ok()?,
            sealing: EncryptingKey::new(key),
            spki: key.to_public_key_der().ok()?.into_vec(),
        })
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_der(signature).is_ok_and(|signature| self.verifying.verify(message, &signature).is_ok())
    }

    pub(crate) fn seal(&self, plaintext: &[u8]) -> Option<Vec<u8>> {
        self.sealing.encrypt_der(&mut SysRng, plaintext).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MerchantKey, PlatformKey};

    // Made with openssl genpkey -algorithm SM2 for this test.
    const KEY: &str = include_str!("../tests/files/sm2_key.pem");

    fn keys() -> (MerchantKey, PlatformKey) {
        let key = MerchantKey::from_pem(KEY).unwrap();
        let public = key.public("AB01").unwrap();
        (key, public)
    }

    #[test]
    fn what_is_signed_verifies_and_what_is_sealed_opens() {
        let (key, public) = keys();
        let signature = STANDARD.decode(key.sign(b"message")).unwrap();

        assert!(public.verify(b"message", &signature) && !public.verify(b"massage", &signature));
        assert!(!public.verify(b"message", b"") && !public.verify(b"message", &signature[1..]));
        let sealed = public.seal("李四").unwrap();
        assert_eq!(key.open(&sealed).unwrap(), "李四".as_bytes());
        assert!(key.open("AAAA").is_err() && key.open("").is_err());
    }

    #[test]
    fn a_request_is_signed_with_the_sm_scheme() {
        let merchant = crate::Merchant::new("1900000109", "AB01", keys().0);

        assert!(
            merchant
                .authorize("GET", "/", "1", "n", b"")
                .starts_with("WECHATPAY2-SM2-WITH-SM3 mchid=")
        );
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let key = [7; 16];
        assert_eq!(sm4_gcm_open(&key, "short", "", "AAAA"), Err(SealError::Nonce(5)));
        assert_eq!(sm4_gcm_open(&key, "0123456789ab", "", "A*"), Err(SealError::Base64));
        for short in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(matches!(
                sm4_gcm_open(&key, "0123456789ab", "", short),
                Err(SealError::Open(_))
            ));
        }
    }
}

//! SM2, SM3 and SM4 (国密, protocol 4.6): the same steps as with RSA and AES, by the algorithms of the RustCrypto crates.
//!
//! Only with the feature `gm`. The key types of `keys.rs` and the envelopes of `cipher.rs` come here for SM2 keys.

use aes_gcm::AesGcm;
use aes_gcm::aead::array::Array;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sm2::dsa::signature::{Signer as _, Verifier as _};
use sm2::dsa::{Signature, SigningKey, VerifyingKey};
use sm2::elliptic_curve::common::getrandom::SysRng;
use sm2::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use sm2::pke::{DecryptingKey, EncryptingKey};
use sm3::{Digest as _, Sm3};
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder as _, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::EncodePem as _;
use x509_cert::der::pem::LineEnding;
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use crate::seal::{KeyLength, random};

/// The user id that goes into every signature.
const USER_ID: &str = "1234567812345678";

/// SM3 in lower-case hex.
pub fn sm3_hex(bytes: &[u8]) -> String {
    super::hex_upper(&Sm3::digest(bytes)).to_lowercase()
}

/// The SM4 key that belongs to an APIv3 key: the first half of its SM3 digest.
pub fn sm4_key(api_v3_key: &str) -> [u8; 16] {
    let digest = Sm3::digest(api_v3_key.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

/// Seals with SM4-GCM; base64 of ciphertext and tag.
///
/// # Errors
/// For a nonce that has not 12 bytes.
pub fn sm4_gcm_seal(key: [u8; 16], nonce: &str, associated_data: &str, plaintext: &[u8]) -> Result<String, KeyLength> {
    let nonce: [u8; 12] = nonce.as_bytes().try_into().map_err(|_| KeyLength)?;
    let text = Payload {
        msg: plaintext,
        aad: associated_data.as_bytes(),
    };
    let sealed = AesGcm::<sm4::Sm4, U12>::new(&Array(key))
        .encrypt(&Array(nonce), text)
        .expect("GCM seals any text that fits into memory");
    Ok(STANDARD.encode(sealed))
}

/// An SM2 key that signs and opens.
pub(super) struct PrivateKey {
    key: sm2::SecretKey,
    signing: SigningKey,
    opening: DecryptingKey,
}

impl PrivateKey {
    pub(super) fn generate() -> Self {
        loop {
            // All but a sliver of the 32-byte numbers are keys.
            if let Ok(key) = sm2::SecretKey::from_slice(&random::<32>())
                && let Some(key) = Self::of(key)
            {
                return key;
            }
        }
    }

    /// Reads PKCS#8; `None` for what is no SM2 key.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        Self::of(sm2::SecretKey::from_pkcs8_der(der).ok()?)
    }

    fn of(key: sm2::SecretKey) -> Option<Self> {
        Some(Self {
            signing: SigningKey::new(USER_ID, &key).ok()?,
            opening: DecryptingKey::new(key.clone()),
            key,
        })
    }

    /// DER (r, s).
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.signing.sign(message);
        signature.to_der().as_bytes().to_vec()
    }

    /// Opens ASN.1 in the order C1C3C2.
    pub(super) fn open(&self, ciphertext: &[u8]) -> Option<Vec<u8>> {
        self.opening.decrypt_der(ciphertext).ok()
    }

    pub(super) fn private_der(&self) -> Vec<u8> {
        let der = self.key.to_pkcs8_der().expect("the library writes the key it made");
        der.as_bytes().to_vec()
    }

    pub(super) fn public_der(&self) -> Vec<u8> {
        let der = self.key.public_key().to_public_key_der();
        der.expect("the library writes the key it made").into_vec()
    }
}

/// An SM2 key that verifies and seals.
#[derive(Clone)]
pub(super) struct PublicKey {
    verifying: VerifyingKey,
    sealing: EncryptingKey,
    pub(super) spki: Vec<u8>,
}

impl PublicKey {
    /// Reads SPKI; `None` for what is no SM2 key.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let key = sm2::PublicKey::from_public_key_der(der).ok()?;
        Some(Self {
            verifying: VerifyingKey::new(USER_ID, key).ok()?,
            sealing: EncryptingKey::new(key),
            spki: key.to_public_key_der().ok()?.into_vec(),
        })
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_der(signature).is_ok_and(|signature| self.verifying.verify(message, &signature).is_ok())
    }

    pub(super) fn seal(&self, plaintext: &[u8]) -> Option<Vec<u8>> {
        self.sealing.encrypt_der(&mut SysRng, plaintext).ok()
    }
}

/// A certificate for an SM2 key, PEM, from an authority that is forgotten at once: nobody checks the chain, because trust in
/// a platform certificate comes from the APIv3 key that it was sealed with.
pub(crate) fn certificate(
    public_der: &[u8],
    common_name: &str,
    serial: &[u8],
    not_before: Timestamp,
    not_after: Timestamp,
) -> Option<String> {
    let profile = Issued {
        subject: format!("CN={common_name}").parse().ok()?,
        issuer: "CN=wechatpay-sandbox SM2 CA".parse().ok()?,
    };
    let time = |at: Timestamp| {
        let since_1970 = std::time::Duration::from_secs(at.as_second().unsigned_abs());
        Some(Time::UtcTime(
            x509_cert::der::asn1::UtcTime::from_unix_duration(since_1970).ok()?,
        ))
    };
    let validity = Validity::new(time(not_before)?, time(not_after)?);
    let key = SubjectPublicKeyInfo::try_from(public_der).ok()?;
    let builder = CertificateBuilder::new(profile, SerialNumber::new(serial).ok()?, validity, key).ok()?;
    let certificate = builder.build::<_, Signature>(&PrivateKey::generate().signing).ok()?;
    certificate.to_pem(LineEnding::LF).ok()
}

/// Names alone, no extensions.
struct Issued {
    subject: Name,
    issuer: Name,
}

impl BuilderProfile for Issued {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        _certificate: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(Vec::new())
    }
}

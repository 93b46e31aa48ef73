//! The public keys of WeChat Pay: what verifies, and what seals sensitive fields.
//!
//! Lives here: reading them, holding several side by side, looking one up by the id that answers name. Does not live here:
//! fetching them (`platform`), certificates (`certificate`), what is verified (`verify`) or sealed (`seal`).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKey};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};

use crate::certificate::Certificate;
use crate::keys::{KeyError, check_serial};
use crate::pem;

const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_";

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::{fresh_key, public_pem};

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
    fn the_public_key_seals_else_the_newest_certificate() {
        let key = || fresh_key().1;
        let old = key().public("0A").unwrap().effective_from(1);
        let new = key().public("0B").unwrap().effective_from(2);
        let certificates = PlatformKeys::new().with(new).with(old);
        let public = PlatformKeys::new().with(key().public("PUB_KEY_ID_01").unwrap());

        let sealing = |keys: &PlatformKeys| keys.sealing().map(|key| key.id().to_owned());
        assert_eq!(sealing(&PlatformKeys::new()), None);
        assert_eq!(sealing(&certificates).as_deref(), Some("0B"));
        assert_eq!(sealing(&public.and(&certificates)).as_deref(), Some("PUB_KEY_ID_01"));
    }
}

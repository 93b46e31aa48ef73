//! Who signs: number, serial and key of a merchant, from whichever files there are.
//!
//! Lives here: [`Merchant`] and the ways to put one together. Does not live here: the key's own operations (`keys`), reading
//! certificates (`certificate`). Called by users and by `sign`.

use std::fmt;
use std::sync::Arc;

use crate::certificate::Certificate;
use crate::keys::{KeyError, MerchantKey, check_serial};

/// Who signs: a merchant (商户) or a service provider (服务商).
#[derive(Clone)]
pub struct Merchant {
    mchid: String,
    serial_no: String,
    key: Arc<MerchantKey>,
}

impl Merchant {
    /// Puts together the number of the merchant, the serial of its API certificate (商户API证书) and that
    /// certificate's private key. The serial may be written in lower case.
    pub fn new(mchid: impl Into<String>, serial_no: impl AsRef<str>, key: MerchantKey) -> Merchant {
        Merchant {
            mchid: mchid.into(),
            serial_no: serial_no.as_ref().to_ascii_uppercase(),
            key: Arc::new(key),
        }
    }

    /// Takes the serial from the merchant API certificate (`apiclient_cert.pem`), which must have been issued for this key.
    ///
    /// # Errors
    /// When there is no certificate in the text, it is damaged, or it belongs to another key.
    pub fn from_certificate(
        mchid: impl Into<String>,
        certificate_pem: impl AsRef<[u8]>,
        key: MerchantKey,
    ) -> Result<Merchant, KeyError> {
        Merchant::with_certificate(mchid, &Certificate::from_pem(certificate_pem)?, key)
    }

    /// Takes key and serial from `apiclient_cert.p12`. Its password is the mchid unless somebody changed it.
    ///
    /// # Errors
    /// When the file is damaged, the password is wrong, or there is no RSA key with its certificate in it.
    #[cfg(feature = "p12")]
    pub fn from_p12(
        mchid: impl Into<String>,
        p12: impl AsRef<[u8]>,
        password: impl AsRef<str>,
    ) -> Result<Merchant, KeyError> {
        let archive = p12_keystore::Pkcs12Archive::from_pkcs12(p12.as_ref(), password.as_ref())
            .map_err(|error| KeyError::P12(error.to_string()))?;
        let mchid = mchid.into();
        for bag in &archive.keys {
            for certificate in &archive.certs {
                let key = MerchantKey::from_der(bag.key.as_der())?;
                let certificate = Certificate::from_der(certificate.cert.as_der())?;
                if let Ok(merchant) = Merchant::with_certificate(mchid.clone(), &certificate, key) {
                    return Ok(merchant);
                }
            }
        }
        Err(KeyError::EmptyP12)
    }

    fn with_certificate(
        mchid: impl Into<String>,
        certificate: &Certificate,
        key: MerchantKey,
    ) -> Result<Merchant, KeyError> {
        let serial_no = certificate.serial_no();
        if certificate.platform_key()?.spki_der() != key.spki_der()? {
            return Err(KeyError::OtherKey(serial_no));
        }
        Ok(Merchant::new(mchid, serial_no, key))
    }

    /// The number of the merchant (商户号).
    pub fn mchid(&self) -> &str {
        &self.mchid
    }

    /// The serial of its API certificate, in upper case.
    pub fn serial_no(&self) -> &str {
        &self.serial_no
    }

    /// The key that signs.
    pub fn key(&self) -> &MerchantKey {
        &self.key
    }

    /// Refuses what would only come back from WeChat Pay as a puzzling 401.
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        if self.mchid.is_empty() || self.mchid.len() > 32 || !self.mchid.bytes().all(|b| b.is_ascii_digit()) {
            return Err(KeyError::Mchid);
        }
        check_serial(&self.serial_no)
    }
}

impl fmt::Debug for Merchant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merchant")
            .field("mchid", &self.mchid)
            .field("serial_no", &self.serial_no)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ApiV3Key;
    use crate::keys::tests::fresh_key;

    const CERTIFICATE: &str = include_str!("../tests/files/apiclient_cert.pem");
    const KEY: &str = include_str!("../tests/files/apiclient_key.pem");
    const SERIAL_NO: &str = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1";

    #[test]
    fn the_serial_comes_from_the_certificate_of_this_very_key() {
        let merchant =
            Merchant::from_certificate("1900000109", CERTIFICATE, MerchantKey::from_pem(KEY).unwrap()).unwrap();
        let other = Merchant::from_certificate("1900000109", CERTIFICATE, fresh_key().1).unwrap_err();

        assert_eq!((merchant.mchid(), merchant.serial_no()), ("1900000109", SERIAL_NO));
        assert!(matches!(other, KeyError::OtherKey(serial) if serial == SERIAL_NO));
        assert!(
            Merchant::from_certificate("1", KEY, fresh_key().1).is_err(),
            "no certificate"
        );
    }

    #[cfg(feature = "p12")]
    #[test]
    fn a_p12_file_of_either_age_holds_both() {
        // Made with openssl pkcs12 -export: `-legacy` (RC2, 3DES, as WeChat Pay's tool does) and today's default (AES).
        let files: [&[u8]; 2] = [
            include_bytes!("../tests/files/legacy.p12"),
            include_bytes!("../tests/files/modern.p12"),
        ];

        for file in files {
            let merchant = Merchant::from_p12("1900000109", file, "1900000109").unwrap();
            let pem = MerchantKey::from_pem(KEY).unwrap();
            assert_eq!(merchant.serial_no(), SERIAL_NO);
            assert_eq!(merchant.key().sign(b"m"), pem.sign(b"m"));
            assert!(matches!(
                Merchant::from_p12("1900000109", file, "wrong"),
                Err(KeyError::P12(_))
            ));
            assert!(Merchant::from_p12("1900000109", &file[..file.len() / 2], "1900000109").is_err());
        }
        assert!(Merchant::from_p12("1900000109", b"", "").is_err());
    }

    #[test]
    fn no_debug_shows_a_secret() {
        let (_, key) = fresh_key();
        let merchant = Merchant::new("1900000109", "ab01", key);
        let api_v3 = ApiV3Key::new([b'k'; 32]).unwrap();

        assert_eq!(
            format!("{merchant:?} {:?} {api_v3:?}", merchant.key()),
            r#"Merchant { mchid: "1900000109", serial_no: "AB01", .. } MerchantKey(..) ApiV3Key(..)"#
        );
    }

    #[test]
    fn a_merchant_that_wechat_pay_cannot_know_is_refused() {
        for (mchid, serial) in [("", "AB"), ("19000x", "AB"), ("1900000109", ""), ("1900000109", "AB\"")] {
            assert!(
                Merchant::new(mchid, serial, fresh_key().1).check().is_err(),
                "{mchid} {serial}"
            );
        }
    }
}

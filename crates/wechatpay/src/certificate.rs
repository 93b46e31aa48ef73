//! X.509 certificates: what WeChat Pay and its merchants read from them.
//!
//! Lives here: serial, validity, names and key. Validity and issuer are never judged here: WeChat Pay shortens lives at
//! will, and trust comes from how the certificate was fetched. Called by `keys` and by users who ask for a serial.

use std::fmt;

use x509_cert::der::{Decode as _, Encode as _};

use crate::keys::KeyError;
use crate::pem;
use crate::platform_keys::PlatformKey;

/// An X.509 certificate: the merchant's own or one of the platform.
#[derive(Clone)]
pub struct Certificate(x509_cert::Certificate);

impl Certificate {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Certificate, KeyError> {
        let mut all = Certificate::all_from_pem(pem)?;
        Ok(all.swap_remove(0))
    }

    /// Reads a certificate from DER.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn from_der(der: &[u8]) -> Result<Certificate, KeyError> {
        x509_cert::Certificate::from_der(der)
            .map(Certificate)
            .map_err(KeyError::Certificate)
    }

    pub(crate) fn all_from_pem(pem: impl AsRef<[u8]>) -> Result<Vec<Certificate>, KeyError> {
        let blocks = pem::blocks(pem.as_ref())?;
        let all = blocks
            .iter()
            .filter(|block| block.label == "CERTIFICATE")
            .map(|block| Certificate::from_der(&block.der))
            .collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            Err(KeyError::found("a certificate", &blocks))
        } else {
            Ok(all)
        }
    }

    /// The serial as WeChat Pay writes it: upper-case hex, two digits per byte.
    pub fn serial_no(&self) -> String {
        let bytes = self.0.tbs_certificate().serial_number().as_bytes();
        // DER puts a zero byte before a number whose top bit is set; it is not part of the number.
        let bytes = bytes
            .strip_prefix(&[0])
            .filter(|rest| !rest.is_empty())
            .unwrap_or(bytes);
        bytes.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// Start and end of its validity, in Unix seconds.
    pub fn validity(&self) -> (i64, i64) {
        let validity = self.0.tbs_certificate().validity();
        let seconds =
            |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        (seconds(validity.not_before), seconds(validity.not_after))
    }

    /// Whom it was issued to, as RFC 4514 text.
    pub fn subject(&self) -> String {
        self.0.tbs_certificate().subject().to_string()
    }

    /// Who issued it, as RFC 4514 text.
    pub fn issuer(&self) -> String {
        self.0.tbs_certificate().issuer().to_string()
    }

    /// Its public key, under its serial.
    ///
    /// # Errors
    /// When it is not an RSA key of at least 2048 bits.
    pub fn platform_key(&self) -> Result<PlatformKey, KeyError> {
        let spki = self
            .0
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .map_err(KeyError::Certificate)?;
        Ok(PlatformKey::from_der(&self.serial_no(), &spki)?.effective_from(self.validity().0))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.serial_no()).finish()
    }
}

//! Platform certificates (平台证书): reading the answer of `GET /v3/certificates`.
//!
//! Lives here: opening its entries, and choosing the one to seal with. Does not live here: asking for it.
//!
//! Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012551764>.

use jiff::Timestamp;
use serde::Deserialize;

use crate::error::BoxError;
use crate::keys::ApiV3Key;
use crate::seal::{Algorithm, SealError};

/// One platform certificate, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformCertificate {
    /// The serial that answers name it by.
    pub serial_no: String,
    /// From when on it signs, RFC 3339.
    pub effective_time: String,
    /// Until when it signs, RFC 3339. May be earlier than the certificate itself says.
    pub expire_time: String,
    /// The certificate.
    pub pem: String,
}

/// Opens every entry of the answer's body, in order.
///
/// # Errors
/// When the body does not have the documented shape, or an entry cannot be opened.
pub fn open(body: &[u8], api_v3_key: &ApiV3Key) -> Result<Vec<PlatformCertificate>, CertificatesError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|source| CertificatesError::Shape(source.into()))?;
    answer
        .data
        .into_iter()
        .map(|entry| open_entry(entry, api_v3_key))
        .collect()
}

/// The one to seal with: the newest by effective time.
///
/// # Errors
/// When an effective time cannot be read, or there is no entry.
pub fn newest(entries: &[PlatformCertificate]) -> Result<&PlatformCertificate, CertificatesError> {
    let mut newest = None;
    for entry in entries {
        let from: Timestamp = entry
            .effective_time
            .parse()
            .map_err(|source: jiff::Error| CertificatesError::Shape(source.into()))?;
        if newest.is_none_or(|(latest, _)| from > latest) {
            newest = Some((from, entry));
        }
    }
    newest
        .map(|(_, entry)| entry)
        .ok_or_else(|| CertificatesError::Shape("there is no entry".into()))
}

fn open_entry(entry: Entry, api_v3_key: &ApiV3Key) -> Result<PlatformCertificate, CertificatesError> {
    let Entry {
        serial_no,
        effective_time,
        expire_time,
        encrypt_certificate: sealed,
    } = entry;
    let Some(algorithm) = Algorithm::named(&sealed.algorithm) else {
        return Err(CertificatesError::Shape(
            format!("the algorithm {:?} is not known", sealed.algorithm).into(),
        ));
    };
    let associated_data = sealed.associated_data.as_deref().unwrap_or_default();
    let opened = api_v3_key.open_with(algorithm, &sealed.nonce, associated_data, &sealed.ciphertext);
    let opened = opened.map_err(|source| CertificatesError::Open {
        serial_no: serial_no.clone(),
        source,
    })?;
    let pem = String::from_utf8(opened).map_err(|source| CertificatesError::Shape(source.into()))?;
    Ok(PlatformCertificate {
        serial_no,
        effective_time,
        expire_time,
        pem,
    })
}

/// The answer of `GET /v3/certificates` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificatesError {
    /// It does not have the documented shape.
    #[error("the list of platform certificates does not have the documented shape")]
    Shape(#[source] BoxError),
    /// An entry cannot be opened.
    #[error("the platform certificate {serial_no} cannot be opened; check the APIv3 key")]
    Open {
        /// Which entry.
        serial_no: String,
        /// Why.
        source: SealError,
    },
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    serial_no: String,
    // The documentation's example writes these two names with a blank at the end.
    #[serde(alias = "effective_time ")]
    effective_time: String,
    #[serde(alias = "expire_time ")]
    expire_time: String,
    encrypt_certificate: Sealed,
}

#[derive(Deserialize)]
struct Sealed {
    algorithm: String,
    nonce: String,
    associated_data: Option<String>,
    ciphertext: String,
}

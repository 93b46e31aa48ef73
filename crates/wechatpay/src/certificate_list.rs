//! Platform certificates (平台证书): reading and trusting the answer of `GET /v3/certificates`.
//!
//! Lives here: opening its entries, choosing the one to seal with, and whether the answer is believed. Pure: time is an
//! argument. Does not live here: asking for it (`client`), when to (`platform`).
//!
//! Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012551764>.

use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;

use crate::certificate::Certificate;
use crate::error::{BoxError, Chain, Error, Retry};
use crate::keys::{ApiV3Key, KeyError};
use crate::platform_keys::PlatformKeys;
use crate::seal::{Algorithm, SealError};
use crate::verify::{VerifyError, verify};

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

/// The platform certificates could not be had.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// This merchant has none, as is usual since 2024.
    #[error(
        "this merchant has no platform certificate (RESOURCE_NOT_EXISTS, request {request_id}): it uses the WeChat Pay \
         public key; download pub_key.pem in the merchant console and add it with PlatformKeys::with_public_key"
    )]
    NoCertificates {
        /// WeChat Pay's `Request-ID`.
        request_id: String,
    },
    /// The call failed.
    #[error("the platform certificates could not be fetched")]
    Call(#[source] Arc<Error>),
    /// The answer could not be opened with the APIv3 key.
    #[error("the fetched platform certificates cannot be read")]
    Unreadable(#[source] Arc<CertificatesError>),
    /// A certificate in it cannot be used.
    #[error("the fetched platform certificate {serial_no} cannot be used")]
    Certificate {
        /// The serial that the list names it by.
        serial_no: String,
        /// Why.
        source: Arc<KeyError>,
    },
    /// A certificate is not the one that the list names.
    #[error("the fetched platform certificate {listed} has another serial, {found}")]
    OtherSerial {
        /// The serial in the list.
        listed: String,
        /// The serial in the certificate.
        found: String,
    },
    /// The answer is not signed by any key in it or held before.
    #[error("the list of platform certificates failed verification")]
    Unverified(#[source] VerifyError),
    /// Asked a moment ago, in vain.
    #[error("the platform certificates were fetched {0} s ago; the next try is not due yet")]
    TooSoon(i64),
}

impl PlatformError {
    /// Whether another try can help without any change.
    pub(crate) fn passes(&self) -> bool {
        match self {
            PlatformError::Call(error) => error.retry() != Retry::Never,
            PlatformError::TooSoon(_) | PlatformError::Unverified(_) => true,
            PlatformError::NoCertificates { .. }
            | PlatformError::Unreadable(_)
            | PlatformError::Certificate { .. }
            | PlatformError::OtherSerial { .. } => false,
        }
    }
}

/// Opens and trusts an answer of `GET /v3/certificates`: what the APIv3 key opens was sealed by WeChat Pay, and the answer
/// must be signed by a key in it, or by one that was held before.
pub(crate) fn trust(
    headers: &HeaderMap,
    body: &[u8],
    api_v3_key: &ApiV3Key,
    held: &PlatformKeys,
    now: i64,
) -> Result<PlatformKeys, PlatformError> {
    let entries = open(body, api_v3_key).map_err(|source| PlatformError::Unreadable(Arc::new(source)))?;
    let mut listed = PlatformKeys::new();
    for entry in &entries {
        let unusable = |source| PlatformError::Certificate {
            serial_no: entry.serial_no.clone(),
            source: Arc::new(source),
        };
        let certificate = Certificate::from_pem(&entry.pem).map_err(unusable)?;
        let found = certificate.serial_no();
        if !found.eq_ignore_ascii_case(&entry.serial_no) {
            return Err(PlatformError::OtherSerial {
                listed: entry.serial_no.clone(),
                found,
            });
        }
        let key = certificate.platform_key().map_err(unusable)?;
        // The list may say another time than the certificate; it is the list that counts.
        let from = entry.effective_time.parse::<jiff::Timestamp>();
        listed = listed.with(match from {
            Ok(from) => key.effective_from(from.as_second()),
            Err(_) => key,
        });
    }
    verify(headers, body, &held.clone().and(&listed), now).map_err(PlatformError::Unverified)?;
    Ok(listed)
}

pub(crate) fn explained(error: Error) -> PlatformError {
    match error.code() {
        Some("RESOURCE_NOT_EXISTS") => PlatformError::NoCertificates {
            request_id: error.request_id().unwrap_or("-").to_owned(),
        },
        _ => PlatformError::Call(Arc::new(error)),
    }
}

/// Says in one line why a key that an answer names is not held.
pub(crate) fn not_fetched(serial: &str, error: &PlatformError) -> VerifyError {
    VerifyError::NotFetched {
        serial: serial.to_owned(),
        reason: Chain(error).to_string(),
    }
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

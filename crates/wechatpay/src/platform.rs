//! The platform keys of a running client: as given, or fetched, trusted and rotated by itself.
//!
//! Lives here: where keys come from ([`Platform`]), and whether a fetched list is trusted. Does not live here: what is held
//! and when more is asked for (`held`), reading the list (`api::certificates`), looking a key up (`platform_keys`). Called
//! by `sender`.
//!
//! Official pages: <https://pay.weixin.qq.com/doc/v3/merchant/4012551764> (certificates),
//! <https://pay.weixin.qq.com/doc/v3/merchant/4012154180> (moving to the public key).

mod held;

use std::sync::Arc;

use http::HeaderMap;

use crate::api::certificates::{self, CertificatesError};
use crate::certificate::Certificate;
use crate::error::{Chain, Error};
use crate::keys::{ApiV3Key, KeyError};
use crate::platform_keys::PlatformKeys;
use crate::verify::{VerifyError, verify};

pub(crate) use held::{Because, Held};

/// Where a client takes the platform keys from. A [`PlatformKeys`] by itself is one, too: keys that stay as they are.
///
/// ```no_run
/// # fn example(public_key: wechatpay::PlatformKeys) -> Result<(), wechatpay::KeyError> {
/// use wechatpay::{ApiV3Key, Platform};
///
/// let api_v3_key = ApiV3Key::new(std::env::var("WECHATPAY_API_V3_KEY").unwrap_or_default())?;
/// // Certificates (平台证书), fetched before the first call and rotated from then on.
/// let platform = Platform::fetched(api_v3_key.clone());
/// // The same while the merchant moves to the public key (微信支付公钥): both verify.
/// let platform = Platform::fetched(api_v3_key).with(public_key);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Platform {
    given: PlatformKeys,
    api_v3_key: Option<ApiV3Key>,
}

impl Platform {
    /// Platform certificates, fetched from WeChat Pay and kept up to date: every six hours, and when an answer names one
    /// that is not held. The APIv3 key is what the first answer is trusted by.
    pub fn fetched(api_v3_key: ApiV3Key) -> Platform {
        Platform {
            given: PlatformKeys::new(),
            api_v3_key: Some(api_v3_key),
        }
    }

    /// Holds these keys too, from the start and for good: the public key during the migration, or certificates that were
    /// saved earlier.
    pub fn with(mut self, keys: PlatformKeys) -> Platform {
        self.given = self.given.and(&keys);
        self
    }

    pub(crate) fn given(&self) -> &PlatformKeys {
        &self.given
    }

    pub(crate) fn is_fetched(&self) -> bool {
        self.api_v3_key.is_some()
    }
}

impl From<PlatformKeys> for Platform {
    fn from(given: PlatformKeys) -> Platform {
        Platform {
            given,
            api_v3_key: None,
        }
    }
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
            PlatformError::Call(error) => error.retry() != crate::error::Retry::Never,
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
fn open(
    headers: &HeaderMap,
    body: &[u8],
    api_v3_key: &ApiV3Key,
    held: &PlatformKeys,
    now: i64,
) -> Result<PlatformKeys, PlatformError> {
    let entries = certificates::open(body, api_v3_key).map_err(|source| PlatformError::Unreadable(Arc::new(source)))?;
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

fn explained(error: Error) -> PlatformError {
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

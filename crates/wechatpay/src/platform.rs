//! The platform keys of a running client: as given, or fetched, trusted and rotated by itself.
//!
//! Lives here: where keys come from ([`Platform`]). Does not live here: what is held and when more is asked for (`held`),
//! whether a fetched list is trusted (`certificate_list`), looking a key up (`platform_keys`). Called by `client`.
//!
//! Official pages: <https://pay.weixin.qq.com/doc/v3/merchant/4012551764> (certificates),
//! <https://pay.weixin.qq.com/doc/v3/merchant/4012154180> (moving to the public key).

mod held;

use crate::keys::ApiV3Key;
use crate::platform_keys::PlatformKeys;

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

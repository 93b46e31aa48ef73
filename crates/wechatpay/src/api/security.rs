//! The self-test (回显): the only harmless production call that tries signing, verifying, sealing and notification.
//!
//! Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4014551946>.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::api::calls::{calls, read};
use crate::api::fields::{FieldError, check_https, check_prose};
use crate::error::Error;
use crate::platform_keys::PlatformKey;
use crate::request::Request;

const ECHO: &str = "/v3/security/echo";

calls! {
    /// The self-test (回显), typed. Made by `client.security()`.
    Security from security {
        /// Sends a message, and the same sealed with `key` (see [`PlatformKeys::sealing`](crate::PlatformKeys::sealing));
        /// both come back, the sealed one for the merchant's key.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4014551946>.
        ///
        /// # Errors
        /// [`Error::Build`] when the message is empty or too long to seal; else as every call.
        fn echo(echo: &NewEcho, key: &PlatformKey) -> Echo {
            echo.request(key),
            read
        }
    }
}

/// What to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewEcho {
    /// Comes back as it is.
    pub echo_message: String,
    /// Is sealed, and comes back sealed for the merchant.
    pub secret_message: Option<String>,
    /// Where a notification with the message goes; HTTPS.
    pub notify_url: Option<String>,
}

impl NewEcho {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_prose("echo_message", &self.echo_message, 256)?;
        match &self.notify_url {
            Some(url) => check_https("notify_url", url, 256),
            None => Ok(()),
        }
    }

    fn request(&self, key: &PlatformKey) -> Result<Request, Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            echo_message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            encrypted_echo_message: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            notify_url: Option<&'a str>,
        }
        self.check().map_err(|source| Error::build(ECHO, source))?;
        let sealed = self
            .secret_message
            .as_deref()
            .map(|message| key.seal(message))
            .transpose();
        let body = Body {
            echo_message: &self.echo_message,
            encrypted_echo_message: sealed.map_err(|source| Error::build(ECHO, source))?,
            notify_url: self.notify_url.as_deref(),
        };
        let request = Request::new(Method::POST, ECHO).repeatable();
        request.json(&body)?.header("Wechatpay-Serial", key.id())
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Echo {
    /// As it was sent.
    pub echo_message: String,
    /// Sealed for the merchant: [`MerchantKey::open`](crate::MerchantKey::open).
    #[serde(default)]
    pub encrypted_echo_message: Option<String>,
}

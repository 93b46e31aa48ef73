//! Notifications (回调通知): what WeChat Pay posts to the merchant.
//!
//! Lives here: verifying and opening one, and the answers to it. Framework-free and pure: headers and body
//! come in as they were received, time is an argument. Does not live here: what it tells ([`crate::api::notifications`]),
//! fetching a certificate that is not held yet ([`Client::open_notification`](crate::Client::open_notification)).
//!
//! Acknowledge first and work later: WeChat Pay waits two to five seconds. With axum, where `http` types are answers:
//!
//! ```text
//! async fn notified(State(app): State<App>, headers: HeaderMap, body: Bytes) -> http::Response<String> {
//!     let opened = app.client.open_notification(&app.api_v3_key, &headers, &body).await;
//!     if opened.is_ok_and(|notification| app.store(notification)) { notify::accepted() } else { notify::refused() }
//! }
//! ```
//!
//! With actix-web the same two lines end in `HttpResponse::Ok().content_type("application/json").body(ACKNOWLEDGED)`.

mod replay;
mod reply;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;
use crate::keys::ApiV3Key;
use crate::platform_keys::PlatformKeys;
use crate::seal::{Algorithm, SealError};
use crate::verify::{VerifyError, verify};

pub use replay::ReplayGuard;
pub use reply::ReplySignature;

/// The body of a good answer, sent with status 200 within two seconds. Work comes after.
pub const ACKNOWLEDGED: &str = r#"{"code":"SUCCESS","message":"成功"}"#;
/// The body of a bad answer, sent with a 4xx or 5xx; WeChat Pay then sends the notification again.
pub const REFUSED: &str = r#"{"code":"FAIL","message":"失败"}"#;

/// The answer to a notification that was verified and stored: 200 with [`ACKNOWLEDGED`], which satisfies every page.
pub fn accepted() -> Response<String> {
    answer(StatusCode::OK, ACKNOWLEDGED)
}

/// The answer to one that was not: 500 with [`REFUSED`]. WeChat Pay sends it again.
pub fn refused() -> Response<String> {
    answer(StatusCode::INTERNAL_SERVER_ERROR, REFUSED)
}

fn answer(status: StatusCode, body: &str) -> Response<String> {
    let mut answer = Response::new(body.to_owned());
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

/// Opens notifications with the platform keys and the APIv3 key.
///
/// ```no_run
/// # fn example(headers: &http::HeaderMap, body: &[u8]) -> Result<(), wechatpay::notify::NotifyError> {
/// # let (platform, api_v3_key): (wechatpay::PlatformKeys, wechatpay::ApiV3Key) = unimplemented!();
/// let notifications = wechatpay::notify::Notifications::new(platform, api_v3_key);
/// let notification = notifications.open(headers, body, jiff::Timestamp::now().as_second())?;
/// assert_eq!(notification.event_type, "MALL_TRANSACTION.SUCCESS");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Notifications {
    platform: PlatformKeys,
    api_v3_key: ApiV3Key,
}

impl Notifications {
    /// Believes what these keys signed and opens what this key sealed.
    pub fn new(platform: PlatformKeys, api_v3_key: ApiV3Key) -> Notifications {
        Notifications { platform, api_v3_key }
    }

    /// Verifies and opens one notification. `body` is what came over the wire, byte for byte; `now` is in Unix seconds.
    ///
    /// # Errors
    /// When it is not believed, has another shape, or cannot be opened. Answer with a 4xx or 5xx then; a resend has a new
    /// timestamp and signature.
    pub fn open(&self, headers: &HeaderMap, body: &[u8], now: i64) -> Result<Notification, NotifyError> {
        open(headers, body, &self.platform, &self.api_v3_key, now)
    }
}

/// As [`Notifications::open`], with the keys as arguments.
///
/// # Errors
/// The same.
pub fn open(
    headers: &HeaderMap,
    body: &[u8],
    platform: &PlatformKeys,
    api_v3_key: &ApiV3Key,
    now: i64,
) -> Result<Notification, NotifyError> {
    verify(headers, body, platform, now).map_err(NotifyError::Verify)?;
    let envelope: Envelope = serde_json::from_slice(body).map_err(|source| NotifyError::Shape(source.into()))?;
    let resource = envelope.resource;
    let Some(algorithm) = Algorithm::named(&resource.algorithm) else {
        return Err(NotifyError::Algorithm(resource.algorithm.chars().take(64).collect()));
    };
    let associated_data = resource.associated_data.as_deref().unwrap_or_default();
    let plaintext = api_v3_key
        .open_with(algorithm, &resource.nonce, associated_data, &resource.ciphertext)
        .map_err(NotifyError::Open)?;
    Ok(Notification {
        id: envelope.id,
        create_time: envelope.create_time,
        event_type: envelope.event_type,
        summary: envelope.summary,
        original_type: resource.original_type,
        plaintext,
    })
}

/// A notification that was verified and opened.
#[derive(Clone)]
#[non_exhaustive]
pub struct Notification {
    /// Unique, and the same over resends.
    pub id: String,
    /// When WeChat Pay made it, RFC 3339.
    pub create_time: String,
    /// What happened, such as `MALL_TRANSACTION.SUCCESS`; may be one that nobody knows.
    pub event_type: String,
    /// Free text.
    pub summary: String,
    /// What WeChat Pay says the resource is; unreliable, do not branch on it.
    pub original_type: Option<String>,
    /// The opened resource.
    pub plaintext: Vec<u8>,
}

impl Notification {
    /// Reads the opened resource into a type; unknown members are passed over.
    ///
    /// # Errors
    /// [`NotifyError::Shape`] when it does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, NotifyError> {
        serde_json::from_slice(&self.plaintext).map_err(|source| NotifyError::Shape(source.into()))
    }
}

impl std::fmt::Debug for Notification {
    /// Shows no resource: it is about somebody.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification")
            .field("id", &self.id)
            .field("create_time", &self.create_time)
            .field("event_type", &self.event_type)
            .finish_non_exhaustive()
    }
}

/// A notification that is not believed or cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// It does not come from WeChat Pay, or not now.
    #[error("the notification failed verification")]
    Verify(#[source] VerifyError),
    /// It is not JSON of the documented shape.
    #[error("the notification does not have the documented shape")]
    Shape(#[source] BoxError),
    /// Its resource is sealed in a way that is not known.
    #[error("the resource is sealed with {0:?}, which is not known; AEAD_SM4_GCM needs the feature gm")]
    Algorithm(String),
    /// Its resource cannot be opened.
    #[error("the resource cannot be opened; check the APIv3 key")]
    Open(#[source] SealError),
}

/// Only what is needed to open it is required; products differ in the rest.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: String,
    #[serde(default)]
    create_time: String,
    #[serde(default)]
    event_type: String,
    #[serde(default)]
    summary: String,
    resource: Resource,
}

#[derive(Deserialize)]
struct Resource {
    algorithm: String,
    ciphertext: String,
    nonce: String,
    associated_data: Option<String>,
    original_type: Option<String>,
}

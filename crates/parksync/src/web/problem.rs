//! Refusals as `application/problem+json` with a stable `code`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::limits;
use crate::store::StoreError;

/// The code of a refusal, for counting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) &'static str);

/// Why a request was refused. <https://www.rfc-editor.org/rfc/rfc9457>
#[derive(Debug, Clone, Serialize)]
pub(super) struct Problem {
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl Problem {
    pub(super) fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        let title = StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Refused");
        Self {
            title,
            status,
            code,
            detail: detail.into(),
            field: None,
        }
    }

    pub(super) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub(super) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(404, code, detail)
    }

    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self::new(503, "busy", detail)
    }
}

/// The cause stays in the log; a sender can do nothing with it but come back.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { .. } => Self::busy("too many events wait for the disk; send this one again"),
            StoreError::Failed { .. } | StoreError::Closed => {
                tracing::error!(%error, "a request could not be stored");
                Self::new(
                    503,
                    "store-failed",
                    "the event could not be written down; send it again",
                )
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        response.extensions_mut().insert(Code(self.code));
        if self.status == 401 {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"parksync\""),
            );
        }
        if matches!(self.status, 429 | 503)
            && let Ok(wait) = HeaderValue::from_str(&super::retry_after(limits::RETRY_AFTER))
        {
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
        response
    }
}

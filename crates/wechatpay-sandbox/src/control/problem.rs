//! What the control port says when it cannot do something, and how it reads bodies.

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An `application/problem+json` answer.
pub(crate) struct Problem {
    status: u16,
    code: &'static str,
    detail: String,
}

/// What a handler returns.
pub(crate) type Answer = Result<axum::Json<Value>, Problem>;

impl Problem {
    pub(crate) fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
        }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not_found", detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, "conflict", detail)
    }

    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(400, "bad_request", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({ "status": self.status, "code": self.code, "detail": self.detail });
        let mut response = (status, body.to_string()).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

/// Reads a body; an empty one counts as `{}`.
pub(crate) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body: &[u8] = if body.trim_ascii().is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body does not fit: {error}")))
}

/// Done, nothing more to say.
pub(crate) fn done() -> Answer {
    Ok(axum::Json(json!({ "done": true })))
}

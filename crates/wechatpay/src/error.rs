//! What can go wrong with a call, split by how far it got, because that decides what to do next.
//!
//! Lives here: [`Error`], the advice drawn from it ([`Retry`]), and [`Chain`] for printing. Does not live here: the
//! other causes, which stay with the file that finds them (`keys`, `route`, `verify`). Every file uses it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::certificate_list::PlatformError;
use crate::verify::VerifyError;

/// A cause of any kind.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A failed call.
///
/// `Display` says one layer only; print with [`Chain`] to get the causes too.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing was sent: the request could not be built or signed, or the client could not be set up.
    #[error("could not build the request for {path}")]
    Build {
        /// The path template, without the values bound to it.
        path: String,
        /// What is wrong with it.
        source: BoxError,
    },
    /// Nothing was sent: no platform key is held, and none could be fetched, so no answer could be believed.
    #[error("no platform key to verify answers with")]
    Keys {
        /// Why none could be fetched.
        source: PlatformError,
    },
    /// No usable reply. WeChat Pay may or may not have seen the request: see [`Error::is_ambiguous`].
    #[error("no reply from {host}")]
    Transport {
        /// Host and port that were called.
        host: String,
        /// How far the request got.
        source: TransportError,
    },
    /// A reply came back that cannot be trusted.
    #[error("reply {request_id} failed verification")]
    Verify {
        /// WeChat Pay's `Request-ID`, `-` when the reply had none.
        request_id: String,
        /// The check that failed.
        source: VerifyError,
    },
    /// WeChat Pay refused. `verified` is false when the refusal came unsigned.
    #[error("WeChat Pay refused with {code} (request {request_id}): {message}")]
    Api {
        /// The HTTP status.
        status: u16,
        /// WeChat Pay's code, or `HTTP <status>` when the body had none.
        code: String,
        /// WeChat Pay's text. It changes with `Accept-Language`: branch on the code.
        message: String,
        /// WeChat Pay's `Request-ID`, `-` when the reply had none.
        request_id: String,
        /// Whether the refusal was signed by a platform key.
        verified: bool,
        /// How long WeChat Pay asks to wait.
        retry_after: Option<Duration>,
        /// Which field is wrong, when WeChat Pay says so.
        detail: Option<Box<Detail>>,
        /// The clock, when it explains the refusal.
        source: Option<ClockSkew>,
    },
    /// A trusted reply does not have the documented shape.
    #[error("reply {request_id} is not a {expected}")]
    Decode {
        /// WeChat Pay's `Request-ID`, `-` when the reply had none.
        request_id: String,
        /// What the documentation promises.
        expected: &'static str,
        /// Where it differs.
        source: BoxError,
    },
}

/// Whether the same call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not as it stands: something must be changed first.
    Never,
    /// Yes, after a pause that the caller chooses.
    Later,
    /// Yes, but not before this much time has passed.
    After(Duration),
}

impl Error {
    /// Says whether the same call may be made again. A refusal that nobody documented as passing is `Never`.
    pub fn retry(&self) -> Retry {
        match self {
            Error::Build { .. } | Error::Decode { .. } => Retry::Never,
            Error::Keys { source } if !source.passes() => Retry::Never,
            Error::Keys { .. } | Error::Transport { .. } | Error::Verify { .. } => Retry::Later,
            Error::Api {
                status,
                code,
                message,
                retry_after,
                ..
            } => {
                let passes = is_rate_limit(*status, code)
                    || (matches!(status, 500 | 502 | 503 | 504) && !is_settled_500(code, message));
                match (passes, retry_after) {
                    (false, _) => Retry::Never,
                    (true, Some(pause)) => Retry::After(*pause),
                    (true, None) => Retry::Later,
                }
            }
        }
    }

    /// True when WeChat Pay may have acted on the request although no usable answer came back: it was sent and the
    /// connection broke or timed out, the answer could not be verified, or the status was a 5xx.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Error::Build { .. } | Error::Keys { .. } | Error::Decode { .. } => false,
            Error::Transport { source, .. } => source.may_have_been_sent(),
            Error::Verify { .. } => true,
            Error::Api { status, .. } => *status >= 500,
        }
    }

    /// True when no byte of the request can have reached WeChat Pay: it was not built, or no connection was made.
    pub fn nothing_sent(&self) -> bool {
        match self {
            Error::Build { .. } | Error::Keys { .. } => true,
            Error::Transport { source, .. } => !source.may_have_been_sent(),
            Error::Verify { .. } | Error::Api { .. } | Error::Decode { .. } => false,
        }
    }

    /// True when WeChat Pay asks to slow down, under any of the names it has for that.
    pub fn is_rate_limit(&self) -> bool {
        matches!(self, Error::Api { status, code, .. } if is_rate_limit(*status, code))
    }

    /// WeChat Pay's error code, such as `PARAM_ERROR`. `None` when it sent none.
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Api { code, .. } => Some(code.as_str()).filter(|code| !code.starts_with(NO_CODE)),
            Error::Build { .. }
            | Error::Keys { .. }
            | Error::Transport { .. }
            | Error::Verify { .. }
            | Error::Decode { .. } => None,
        }
    }

    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Api { status, .. } => Some(*status),
            Error::Build { .. }
            | Error::Keys { .. }
            | Error::Transport { .. }
            | Error::Verify { .. }
            | Error::Decode { .. } => None,
        }
    }

    /// WeChat Pay's `Request-ID`, which its support asks for.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Error::Verify { request_id, .. } | Error::Api { request_id, .. } | Error::Decode { request_id, .. } => {
                Some(request_id.as_str()).filter(|id| *id != NO_REQUEST_ID)
            }
            Error::Build { .. } | Error::Keys { .. } | Error::Transport { .. } => None,
        }
    }

    /// How long WeChat Pay asks to wait (`Retry-After`).
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Api { retry_after, .. } => *retry_after,
            Error::Build { .. }
            | Error::Keys { .. }
            | Error::Transport { .. }
            | Error::Verify { .. }
            | Error::Decode { .. } => None,
        }
    }

    /// Which field WeChat Pay found wrong, if it says so.
    pub fn detail(&self) -> Option<&Detail> {
        match self {
            Error::Api { detail, .. } => detail.as_deref(),
            Error::Build { .. }
            | Error::Keys { .. }
            | Error::Transport { .. }
            | Error::Verify { .. }
            | Error::Decode { .. } => None,
        }
    }

    pub(crate) fn build(path: impl Into<String>, source: impl Into<BoxError>) -> Error {
        Error::Build {
            path: path.into(),
            source: source.into(),
        }
    }
}

/// An exchange that gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Every slot for calls was busy for as long as a call may wait. Nothing was sent.
    #[error("no free slot within {0:?}: too many calls are in flight")]
    Busy(Duration),
    /// No connection could be made: name, TCP, TLS, or the deadline for them. Nothing was sent.
    #[error("no connection")]
    Connect(#[source] BoxError),
    /// The answer did not come in time.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
    /// The connection closed before any byte of the answer came.
    #[error("{} closed without an answer", if *.reused { "a kept-alive connection" } else { "the connection" })]
    Closed {
        /// Whether the connection was made before this call: servers close idle ones, and a restart closes all.
        reused: bool,
        /// How it closed.
        source: BoxError,
    },
    /// The connection broke in the middle of the answer.
    #[error("the connection broke")]
    Broken(#[source] BoxError),
    /// The answer is larger than it may be.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl TransportError {
    /// False when it is certain that nothing was sent.
    pub fn may_have_been_sent(&self) -> bool {
        !matches!(self, TransportError::Busy(_) | TransportError::Connect(_))
    }
}

/// What stands in `code` when the body of a refusal has none; the status follows it.
pub(crate) const NO_CODE: &str = "HTTP ";
/// What stands in `request_id` when the reply has none.
pub(crate) const NO_REQUEST_ID: &str = "-";

/// The spellings of "too many requests" found in the documentation, some of them under other statuses than 429.
const RATE_LIMITS: [&str; 6] = [
    "RATELIMIT_EXCEEDED",
    "FREQUENCY_LIMITED",
    "FREQUENCY_LIMIT_EXCEED",
    "FREQUENCY_LIMIT",
    "FREQENCY_LIMIT",
    "RATE_LIMITED",
];

fn is_rate_limit(status: u16, code: &str) -> bool {
    status == 429 || RATE_LIMITS.contains(&code)
}

/// One misconfiguration is documented both as 403 and as 500. Trying again cannot cure it.
fn is_settled_500(code: &str, message: &str) -> bool {
    matches!(code, "SYSTEM_ERROR" | "SYSTEMERROR") && message.contains("brandid无对应的唯一商圈mainid")
}

/// Which field WeChat Pay found wrong, with `PARAM_ERROR` and `INVALID_REQUEST`.
///
/// The offending value is left out: it may be somebody's plate or openid.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Detail {
    /// A JSON Pointer (`/amount/currency`) into the body, or the name of a parameter.
    pub field: String,
    /// What is wrong with it.
    pub issue: String,
    /// `body`, `url` or `query`.
    pub location: String,
}

/// The local clock differs from WeChat Pay's, which refuses more than five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockSkew {
    /// By this many seconds, measured with the reply's `Date`; positive when the local clock is ahead.
    #[error("the local clock is {} s {} WeChat Pay's; synchronise it (NTP)", .0.unsigned_abs(), if *.0 > 0 { "ahead of" } else { "behind" })]
    Measured(i64),
    /// WeChat Pay says so, but its reply had no usable `Date`.
    #[error("the local clock is more than five minutes off WeChat Pay's; synchronise it (NTP)")]
    Reported,
}

/// Prints an error with all its causes on one line, joined by colons.
///
/// ```
/// # let error = wechatpay::PlatformKeys::new().with_certificate("no PEM").unwrap_err();
/// eprintln!("{}", wechatpay::Chain(&error));
/// ```
pub struct Chain<'a>(pub &'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &str, message: &str) -> Error {
        Error::Api {
            status,
            code: code.into(),
            message: message.into(),
            request_id: "08F1".into(),
            verified: true,
            retry_after: None,
            detail: None,
            source: None,
        }
    }

    #[test]
    fn advice_follows_the_documented_table() {
        let table = [
            (400, "PARAM_ERROR", "参数错误", Retry::Never),
            (401, "SIGN_ERROR", "验证不通过", Retry::Never),
            (403, "NO_AUTH", "父子关系不匹配", Retry::Never),
            (403, "RATE_LIMITED", "", Retry::Later),
            (404, "HTTP 404", "", Retry::Never),
            (429, "FREQUENCY_LIMITED", "", Retry::Later),
            (429, "HTTP 429", "", Retry::Later),
            (500, "SYSTEM_ERROR", "系统异常，请稍后重试", Retry::Later),
            (500, "SYSTEM_ERROR", "brandid无对应的唯一商圈mainid", Retry::Never),
            (500, "RATELIMIT_EXCEEDED", "", Retry::Later),
            (501, "HTTP 501", "", Retry::Never),
            (502, "HTTP 502", "", Retry::Later),
            (503, "SERVICE_UNAVAILABLE", "", Retry::Later),
            (418, "NEVER_HEARD_OF", "", Retry::Never),
        ];

        for (status, code, message, advice) in table {
            assert_eq!(
                refusal(status, code, message).retry(),
                advice,
                "{status} {code} {message}"
            );
        }
    }

    #[test]
    fn retry_after_sets_the_pause_but_never_turns_a_refusal_into_a_retry() {
        let asked = |status| {
            let mut error = refusal(status, "X", "");
            if let Error::Api { retry_after, .. } = &mut error {
                *retry_after = Some(Duration::from_secs(7));
            }
            error
        };

        assert_eq!(asked(429).retry(), Retry::After(Duration::from_secs(7)));
        assert_eq!(asked(400).retry(), Retry::Never);
        assert_eq!(asked(400).retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_refusal_without_code_has_none() {
        assert_eq!(refusal(404, "HTTP 404", "").code(), None);
        assert_eq!(refusal(400, "PARAM_ERROR", "").code(), Some("PARAM_ERROR"));
    }

    #[test]
    fn the_chain_joins_the_causes_once() {
        let error = Error::build("/v3/x", Error::build("/v3/y", "no such thing"));

        assert_eq!(
            Chain(&error).to_string(),
            "could not build the request for /v3/x: could not build the request for /v3/y: no such thing"
        );
    }
}

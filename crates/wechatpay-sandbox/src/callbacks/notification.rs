//! One callback: its tries, its envelope, and what is done wrong with it on purpose. Pure.

use std::time::Duration;

use http::Uri;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::callbacks::Event;
use crate::china;
use crate::seal::{self, Envelopes, Twist};

/// One callback, and what became of it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Notification {
    /// Its `id`, the same in every try.
    pub id: String,
    /// What it tells.
    pub event: Event,
    /// Where it goes.
    pub url: Uri,
    /// When it happened, by the calendar.
    pub created_at: Timestamp,
    /// The decrypted resource, in clear: this is a test's data.
    pub resource: Value,
    /// The tries so far.
    pub attempts: Vec<Attempt>,
    /// How it stands.
    pub progress: Progress,
    /// What is done wrong with it on purpose.
    pub trick: Option<Trick>,
    /// Seconds before each try; those behind `attempts.len()` are left.
    pub(super) pauses: &'static [u32],
    /// Tries that the plan does not count, because they were asked for.
    pub(super) extra: usize,
    /// It has to come once more though acknowledged.
    pub(super) repeat: bool,
}

/// The resource may hold openids and plates: it is left out.
impl std::fmt::Debug for Notification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notification")
            .field("id", &self.id)
            .field("event", &self.event)
            .field("progress", &self.progress)
            .field("trick", &self.trick)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// How a callback stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The next try is at this time of the calendar.
    Waiting(Timestamp),
    /// A try is under way.
    Sending,
    /// The merchant acknowledged it.
    Acknowledged,
    /// The plan is used up; nothing more comes.
    GivenUp,
}

/// One try.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// When it was due, by the calendar.
    pub at: Timestamp,
    /// The status of the merchant's answer; `None`: there was none.
    pub status: Option<u16>,
    /// The beginning of the answer's body.
    pub answer: String,
    /// How long the answer took.
    pub after: Duration,
    /// `None`: acknowledged. Else why it counts as failed, and what to do.
    pub failure: Option<String>,
}

/// What is done wrong with one callback, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trick {
    /// Once acknowledged it comes a second time, with a fresh signature.
    Duplicate,
    /// The first try comes this much later than the plan says.
    Late(Duration),
    /// The first try is a signature probe (签名探测流量). To acknowledge it is a fault.
    Probe,
    /// The first try has a signature that was made over something else. To acknowledge it is a fault.
    WrongSignature,
    /// The first try was signed ten minutes ago. To acknowledge it is a fault.
    StaleTimestamp,
    /// The first try names a key that nobody holds. To acknowledge it is a fault.
    UnknownSerial,
    /// The first try is rightly signed, but its ciphertext is damaged. To acknowledge it is a fault.
    BadCiphertext,
}

impl Trick {
    pub(super) fn twist(self) -> Twist {
        match self {
            Self::Probe => Twist::Probe,
            Self::WrongSignature => Twist::WrongSignature,
            Self::StaleTimestamp => Twist::StaleTimestamp,
            Self::UnknownSerial => Twist::UnknownSerial,
            Self::Duplicate | Self::Late(_) | Self::BadCiphertext => Twist::None,
        }
    }

    /// Whether a server that looks has to refuse the first try.
    pub(super) fn is_forgery(self) -> bool {
        self.twist() != Twist::None || self == Self::BadCiphertext
    }
}

impl Notification {
    /// Whether a try was acknowledged, even if a duplicate is still to come.
    pub fn is_acknowledged(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.failure.is_none())
    }

    pub(super) fn after_attempt(&mut self, due: Timestamp, acknowledged: bool) -> Progress {
        let was_acknowledged = acknowledged || self.is_acknowledged();
        if was_acknowledged && std::mem::take(&mut self.repeat) {
            return Progress::Waiting(due);
        }
        if was_acknowledged {
            return Progress::Acknowledged;
        }
        // A try that was asked for does not use the plan up.
        match self.pauses.get(self.attempts.len().saturating_sub(self.extra)) {
            Some(pause) => Progress::Waiting(later_s(due, *pause)),
            None => Progress::GivenUp,
        }
    }
}

pub(super) fn envelope(notification: &Notification, trick: Option<Trick>, envelopes: &Envelopes) -> Vec<u8> {
    let event = notification.event;
    let (associated_data, plaintext) = (event.associated_data(), notification.resource.to_string());
    let (nonce, mut ciphertext) = envelopes.seal(associated_data, plaintext.as_bytes());
    if trick == Some(Trick::BadCiphertext) {
        let first = if ciphertext.starts_with('A') { "B" } else { "A" };
        ciphertext.replace_range(..1, first);
    }
    let mut resource = json!({
        "algorithm": envelopes.algorithm(),
        "ciphertext": ciphertext,
        "nonce": nonce,
        "associated_data": associated_data,
    });
    if let Some(original_type) = event.original_type() {
        resource["original_type"] = original_type.into();
    }
    let envelope = json!({
        "id": notification.id,
        "create_time": china::text(notification.created_at),
        "resource_type": "encrypt-resource",
        "event_type": event.event_type(),
        "summary": event.summary(),
        "resource": resource,
    });
    envelope.to_string().into_bytes()
}

pub(super) fn later_s(time: Timestamp, seconds: u32) -> Timestamp {
    later(time, Duration::from_secs(seconds.into()))
}

pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Real notification ids look like UUIDs.
pub(super) fn uuid() -> String {
    let hex = seal::hex_upper(&seal::random::<16>()).to_lowercase();
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
    format!("{a}-{b}-4{c}-a{d}-{e}")
}

//! Callbacks to the merchant (回调通知): what is to be told, when it is tried next, and what became of each try.
//!
//! Bookkeeping only. `push.rs` takes what is due, posts it, and settles it here; `event.rs` has the kinds and their
//! plans, `notification.rs` one callback, `judge.rs` what acknowledges. Filled by members, payments and endpoints as things happen.

mod event;
mod judge;
mod notification;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::Uri;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use event::{AuthorizationPlan, Event};
pub(crate) use judge::Answered;
pub use judge::PaymentAck;
pub use notification::{Attempt, Notification, Progress, Trick};
use notification::{envelope, later, later_s, uuid};

use crate::clock::Clock;
use crate::seal::Envelopes;
use crate::seal::Twist;

/// Handle to a sandbox's callbacks.
#[derive(Clone)]
pub struct Callbacks {
    inner: Arc<Inner>,
}

struct Inner {
    envelopes: Envelopes,
    clock: Clock,
    rules: CallbackRules,
    desk: Mutex<Desk>,
    changed: watch::Sender<u64>,
}

/// What the documents leave open, chosen at the start.
#[derive(Clone, Copy, Default)]
pub(crate) struct CallbackRules {
    pub(crate) payment_ack: PaymentAck,
    pub(crate) authorization_plan: AuthorizationPlan,
}

#[derive(Default)]
struct Desk {
    authorization_url: Option<Uri>,
    payment_url: Option<Uri>,
    parking_fee_url: Option<Uri>,
    ca_pem: Option<String>,
    tricks: VecDeque<Trick>,
    /// Oldest first.
    notifications: VecDeque<Notification>,
    dropped: u64,
}

/// A URL that WeChat Pay would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no callback URL: {why}")]
pub struct UrlError {
    url: String,
    why: &'static str,
}

/// Checks a callback URL: HTTPS with a path and without a query; here plain HTTP too, on the loopback.
pub(crate) fn callback_url(url: &str) -> Result<Uri, UrlError> {
    let wrong = |why| UrlError {
        url: url.to_owned(),
        why,
    };
    let uri: Uri = url.parse().map_err(|_| wrong("it is malformed"))?;
    let host = uri.host().ok_or_else(|| wrong("it has no host"))?;
    let local = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if local => {}
        Some("http") => return Err(wrong("plain HTTP goes to the loopback only, use https")),
        Some(_) | None => return Err(wrong("it begins neither with https:// nor with http://")),
    }
    if uri.query().is_some() {
        return Err(wrong("a query string is not allowed"));
    }
    Ok(uri)
}

/// One try to make.
pub(crate) struct Errand {
    pub(crate) id: String,
    pub(crate) event: Event,
    pub(crate) url: Uri,
    pub(crate) due: Timestamp,
    pub(crate) body: Vec<u8>,
    pub(crate) ca_pem: Option<String>,
    /// The payment it is about.
    pub(crate) transaction_id: Option<String>,
    trick: Option<Trick>,
}

impl Errand {
    pub(crate) fn twist(&self) -> Twist {
        self.trick.map_or(Twist::None, Trick::twist)
    }
}

/// How a try ended, before it is judged.
pub(crate) enum Ended<'a> {
    Answered(Answered<'a>),
    /// No connection, no answer, or none in time.
    Nothing {
        why: String,
        after: Duration,
    },
}

impl Callbacks {
    pub(crate) fn new(envelopes: Envelopes, clock: Clock, rules: CallbackRules) -> Self {
        Self {
            inner: Arc::new(Inner {
                envelopes,
                clock,
                rules,
                desk: Mutex::default(),
                changed: watch::Sender::new(0),
            }),
        }
    }

    /// Where authorisations go. As long as there is no URL, none are sent.
    ///
    /// # Errors
    /// For a URL that WeChat Pay would not take.
    pub fn set_authorization_url(&self, url: &str) -> Result<(), UrlError> {
        self.lock().authorization_url = Some(callback_url(url)?);
        Ok(())
    }

    /// Where payments and refunds go: one URL for both.
    ///
    /// # Errors
    /// For a URL that WeChat Pay would not take.
    pub fn set_payment_url(&self, url: &str) -> Result<(), UrlError> {
        self.lock().payment_url = Some(callback_url(url)?);
        Ok(())
    }

    /// Where the fee of a stay is asked for (parking_info_scv_url).
    ///
    /// # Errors
    /// For a URL that WeChat Pay would not take.
    pub fn set_parking_fee_url(&self, url: &str) -> Result<(), UrlError> {
        self.lock().parking_fee_url = Some(callback_url(url)?);
        Ok(())
    }

    /// Trusts this authority for `https` URLs, PEM. The sandbox's own authority is always trusted.
    pub fn trust(&self, ca_pem: &str) {
        self.lock().ca_pem = Some(ca_pem.to_owned());
    }

    /// Plays this trick on the next callback; further ones queue up behind it.
    pub fn next(&self, trick: Trick) {
        let mut desk = self.lock();
        if desk.tricks.len() < MAX_NOTIFICATIONS {
            desk.tricks.push_back(trick);
        }
    }

    /// Asks the merchant for the fee of a stay. Returns the notification's id; `None` without a URL.
    pub fn query_parking_fee(
        &self,
        out_serial_number: &str,
        plate_number: &str,
        out_parking_id: &str,
    ) -> Option<String> {
        let url = self.lock().parking_fee_url.clone()?;
        let resource = json!({
            "out_serial_number": out_serial_number,
            "plate_number": plate_number,
            "out_parking_id": out_parking_id,
        });
        Some(self.post(Event::ParkingFee, url, resource))
    }

    /// Sends any resource as this event, whatever the sandbox knows: for trying a server out.
    ///
    /// # Errors
    /// For a URL that WeChat Pay would not take.
    pub fn send(&self, event: Event, url: &str, resource: Value) -> Result<String, UrlError> {
        Ok(self.post(event, callback_url(url)?, resource))
    }

    /// Sends a known notification once more, now, whatever became of it. False when it is not known.
    pub fn resend(&self, id: &str) -> bool {
        let now = self.inner.clock.now();
        let mut desk = self.lock();
        let Some(notification) = desk.find(id) else {
            return false;
        };
        if notification.progress != Progress::Sending {
            notification.extra += 1;
            notification.progress = Progress::Waiting(now);
        }
        drop(desk);
        self.changed();
        true
    }

    /// All callbacks, oldest first; of more than ten thousand the newest.
    pub fn all(&self) -> Vec<Notification> {
        self.lock().notifications.iter().cloned().collect()
    }

    /// One callback.
    pub fn find(&self, id: &str) -> Option<Notification> {
        self.lock().find(id).cloned()
    }

    /// When the next try is due, by the calendar.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.lock().next_due()
    }

    /// Waits until the predicate holds, looking again after every change. False when the time was up first.
    #[must_use = "false means that it did not happen in time"]
    pub async fn wait_for(&self, mut predicate: impl FnMut(&Self) -> bool, timeout: Duration) -> bool {
        let mut changes = self.changes();
        let holds = async {
            while !predicate(self) {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(timeout, holds).await.unwrap_or(false)
    }

    /// Forgets notifications and tricks. The URLs stay.
    pub fn clear(&self) {
        let mut desk = self.lock();
        desk.notifications.clear();
        desk.tricks.clear();
        drop(desk);
        self.changed();
    }

    pub(crate) fn authorization_url(&self) -> Option<Uri> {
        self.lock().authorization_url.clone()
    }

    pub(crate) fn payment_url(&self) -> Option<Uri> {
        self.lock().payment_url.clone()
    }

    /// Begins to tell the merchant.
    pub(crate) fn post(&self, event: Event, url: Uri, resource: Value) -> String {
        self.post_at(self.inner.clock.now(), event, url, resource)
    }

    /// Tells the merchant at this time of the calendar what happened then.
    pub(crate) fn post_at(&self, now: Timestamp, event: Event, url: Uri, resource: Value) -> String {
        let pauses = event.pauses(self.inner.rules.authorization_plan);
        let id = uuid();
        let mut desk = self.lock();
        let trick = desk.tricks.pop_front();
        let late = if let Some(Trick::Late(late)) = trick {
            late
        } else {
            Duration::ZERO
        };
        if desk.notifications.len() >= MAX_NOTIFICATIONS {
            desk.notifications.pop_front();
            desk.dropped += 1;
        }
        desk.notifications.push_back(Notification {
            id: id.clone(),
            event,
            url,
            created_at: now,
            resource,
            attempts: Vec::new(),
            progress: Progress::Waiting(later(later_s(now, pauses[0]), late)),
            trick,
            pauses,
            extra: 0,
            repeat: trick == Some(Trick::Duplicate),
        });
        drop(desk);
        self.changed();
        id
    }

    /// The next try that is due now, marked as under way.
    pub(crate) fn take_due(&self) -> Option<Errand> {
        let now = self.inner.clock.now();
        let mut desk = self.lock();
        let ca_pem = desk.ca_pem.clone();
        let notification = desk
            .notifications
            .iter_mut()
            .filter_map(|notification| match notification.progress {
                Progress::Waiting(due) if due <= now => Some((due, notification)),
                Progress::Waiting(_) | Progress::Sending | Progress::Acknowledged | Progress::GivenUp => None,
            })
            .min_by_key(|(due, _)| *due);
        let (due, notification) = notification?;
        notification.progress = Progress::Sending;
        let trick = notification.trick.filter(|_| notification.attempts.is_empty());
        Some(Errand {
            id: notification.id.clone(),
            event: notification.event,
            url: notification.url.clone(),
            due,
            body: envelope(notification, trick, &self.inner.envelopes),
            ca_pem,
            transaction_id: notification.resource["transaction_id"].as_str().map(str::to_owned),
            trick,
        })
    }

    /// What a try that ended so is worth.
    pub(crate) fn judge(&self, errand: &Errand, ended: Ended<'_>) -> Attempt {
        let (status, answer, after, mut failure) = match ended {
            Ended::Nothing { why, after } => (None, String::new(), after, Some(why)),
            Ended::Answered(answered) => {
                let beginning = &answered.body[..answered.body.len().min(MAX_ANSWER)];
                let answer = String::from_utf8_lossy(beginning).into_owned();
                let failure = judge::judge(errand.event, self.inner.rules.payment_ack, &answered).err();
                (Some(answered.status), answer, answered.after, failure)
            }
        };
        if let Some(trick) = errand.trick.filter(|trick| trick.is_forgery())
            && failure.is_none()
        {
            failure = Some(format!(
                "acknowledged although it was forged ({trick:?}): verify signature, clock, serial and ciphertext first"
            ));
        }
        Attempt {
            at: errand.due,
            status,
            answer,
            after,
            failure,
        }
    }

    /// Notes a try, and when the next one is due.
    pub(crate) fn settle(&self, errand: &Errand, attempt: Attempt) {
        let mut desk = self.lock();
        if let Some(notification) = desk.find(&errand.id) {
            let acknowledged = attempt.failure.is_none();
            notification.attempts.push(attempt);
            notification.progress = notification.after_attempt(errand.due, acknowledged);
        }
        drop(desk);
        self.changed();
    }

    /// How long one whole exchange may take.
    pub(crate) fn deadline(&self, event: Event) -> Duration {
        judge::deadline(event, self.inner.rules.payment_ack)
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    fn changed(&self) {
        self.inner.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.inner.desk.lock().expect("no holder of the callbacks panics")
    }
}

impl Desk {
    fn find(&mut self, id: &str) -> Option<&mut Notification> {
        self.notifications.iter_mut().find(|notification| notification.id == id)
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.notifications
            .iter()
            .filter_map(|notification| match notification.progress {
                Progress::Waiting(due) => Some(due),
                Progress::Sending | Progress::Acknowledged | Progress::GivenUp => None,
            })
            .min()
    }
}

impl std::fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let desk = self.lock();
        f.debug_struct("Callbacks")
            .field("notifications", &desk.notifications.len())
            .field("dropped", &desk.dropped)
            .finish()
    }
}

const MAX_NOTIFICATIONS: usize = 10_000;
/// Bytes of the merchant's answer that are kept.
const MAX_ANSWER: usize = 1024;

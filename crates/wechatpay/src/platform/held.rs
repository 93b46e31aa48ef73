//! What platform keys are held at this moment, and when more are asked for.
//!
//! Lives here: the state, its clock rules, and the single flight of a refresh. Does not live here: trusting an answer
//! (`certificate_list`), sending the question (`sender`, the caller).

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use http::HeaderMap;

use super::Platform;
use crate::certificate_list::{PlatformError, explained, trust};
use crate::error::Error;
use crate::platform_keys::PlatformKeys;

/// WeChat Pay asks for less than twelve hours.
const REFRESH_SECONDS: i64 = 6 * 3600;
/// After a refresh that failed.
const REFRESH_AGAIN_SECONDS: i64 = 300;
/// A serial that the list does not have is asked for no more often than this: it may be made up.
const UNKNOWN_SERIAL_SECONDS: i64 = 60;
/// The same after a refresh that failed: the serial may be real.
const UNKNOWN_SERIAL_AGAIN_SECONDS: i64 = 2;

/// What is held at this moment, and the state of asking for more.
pub(crate) struct Held {
    platform: Platform,
    keys: RwLock<Arc<PlatformKeys>>,
    asking: Mutex<Asking>,
    /// One refresh at a time; whoever waits for it sees its outcome.
    gate: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Asking {
    /// When the next refresh by time is due. `None` before the first.
    due_at: Option<i64>,
    /// The last refresh, whatever its cause.
    last: Option<Last>,
    /// The last refresh because an answer named an unknown serial.
    answered_at: Option<i64>,
    /// The last one because a notification did. Kept apart: anybody can post one, and what he makes up must not use up
    /// what a rotation needs.
    notified_at: Option<i64>,
    /// Fetched last time. Answers signed just before a rotation ended are still on their way.
    listed: PlatformKeys,
}

#[derive(Clone)]
struct Last {
    at: i64,
    /// Counts refreshes, so that a waiter knows whether one has ended since it came.
    number: u64,
    failure: Option<PlatformError>,
}

/// Why a refresh is wanted.
#[derive(Clone, Copy)]
pub(crate) enum Because<'a> {
    /// There is no key at all.
    NoKey,
    /// An answer names a key that is not held.
    Answer(&'a str),
    /// A notification does.
    Notification(&'a str),
    /// It is time.
    Due,
    /// The user asks.
    Asked,
}

impl Held {
    pub(crate) fn new(platform: Platform) -> Held {
        Held {
            keys: RwLock::new(Arc::new(platform.given.clone())),
            platform,
            asking: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn keys(&self) -> Arc<PlatformKeys> {
        Arc::clone(&self.keys.read().expect("no holder of the keys panics"))
    }

    pub(crate) fn is_fetched(&self) -> bool {
        self.platform.is_fetched()
    }

    /// Whether a key must be fetched before anything can be believed.
    pub(crate) fn needs_first(&self) -> bool {
        self.is_fetched() && self.keys().is_empty()
    }

    /// Whether a refresh by time is due. Says so to one caller only; the others go on.
    pub(crate) fn take_due(&self, now: i64) -> bool {
        if !self.is_fetched() {
            return false;
        }
        let mut asking = self.asking();
        let due = asking.due_at.is_none_or(|due_at| now >= due_at);
        if due {
            // Until the outcome sets a better time: nobody else needs to look.
            asking.due_at = Some(now + REFRESH_AGAIN_SECONDS);
        }
        due
    }

    /// Asks for the certificates with `fetch`, unless somebody else just did. Any number of callers share one exchange.
    ///
    /// When a caller goes away in the middle, nothing is half-done: the next one in line asks anew.
    pub(crate) async fn refresh<F>(&self, because: Because<'_>, now: i64, fetch: F) -> Result<(), PlatformError>
    where
        F: Future<Output = Result<(HeaderMap, bytes::Bytes), Error>>,
    {
        let Some(api_v3_key) = &self.platform.api_v3_key else {
            return Ok(());
        };
        let before = self.asking().last.as_ref().map_or(0, |last| last.number);
        let _turn = self.gate.lock().await;
        if let Some(outcome) = self.settled(because, before, now) {
            return outcome;
        }
        match because {
            Because::Answer(_) => self.asking().answered_at = Some(now),
            Because::Notification(_) => self.asking().notified_at = Some(now),
            Because::NoKey | Because::Due | Because::Asked => {}
        }
        let fetched = fetch
            .await
            .map_err(explained)
            .and_then(|(headers, body)| trust(&headers, &body, api_v3_key, &self.keys(), now));
        self.settle(fetched, now)
    }

    /// The outcome without asking: of a refresh that ended while this caller waited, or that another is not due.
    fn settled(&self, because: Because<'_>, before: u64, now: i64) -> Option<Result<(), PlatformError>> {
        if let Because::Answer(serial) | Because::Notification(serial) = because
            && self.keys().find(serial).is_some()
        {
            return Some(Ok(()));
        }
        let asking = self.asking();
        let last = asking.last.as_ref()?;
        if last.number > before {
            return Some(last.failure.clone().map_or(Ok(()), Err));
        }
        let age = now - last.at;
        // Counted from the last refresh with this cause: one by time must not stand in the way of a rotation.
        let limited = |asked_at: Option<i64>| {
            let age = now - asked_at?;
            (0..UNKNOWN_SERIAL_SECONDS)
                .contains(&age)
                .then_some(Err(PlatformError::TooSoon(age)))
        };
        let pause = match because {
            Because::Notification(_) => return limited(asking.notified_at),
            Because::Answer(_) if last.failure.is_some() => UNKNOWN_SERIAL_AGAIN_SECONDS,
            Because::Answer(_) => return limited(asking.answered_at),
            Because::NoKey if last.failure.as_ref().is_some_and(PlatformError::passes) => UNKNOWN_SERIAL_AGAIN_SECONDS,
            Because::NoKey => UNKNOWN_SERIAL_SECONDS,
            Because::Due | Because::Asked => 0,
        };
        // A clock that was set back gives a negative age: then ask.
        (0..pause)
            .contains(&age)
            .then(|| Err(last.failure.clone().unwrap_or(PlatformError::TooSoon(age))))
    }

    fn settle(&self, fetched: Result<PlatformKeys, PlatformError>, now: i64) -> Result<(), PlatformError> {
        let mut asking = self.asking();
        let number = asking.last.as_ref().map_or(0, |last| last.number) + 1;
        let (pause, failure) = match fetched {
            Ok(listed) => {
                let before = std::mem::replace(&mut asking.listed, listed.clone());
                let keys = self.platform.given.clone().and(&before).and(&listed);
                *self.keys.write().expect("no holder of the keys panics") = Arc::new(keys);
                (REFRESH_SECONDS, None)
            }
            Err(failure) => (REFRESH_AGAIN_SECONDS, Some(failure)),
        };
        asking.due_at = Some(now + pause);
        asking.last = Some(Last {
            at: now,
            number,
            failure: failure.clone(),
        });
        failure.map_or(Ok(()), Err)
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().expect("no holder of the state panics")
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests read the clock")]
mod tests {
    use super::*;
    use crate::keys::ApiV3Key;

    const NOW: i64 = 1_795_451_485;

    fn held() -> Held {
        Held::new(Platform::fetched(ApiV3Key::new([b'k'; 32]).unwrap()))
    }

    async fn failing() -> Result<(HeaderMap, bytes::Bytes), Error> {
        Err(Error::Api {
            status: 500,
            code: "SYSTEM_ERROR".into(),
            message: String::new(),
            request_id: "08".into(),
            verified: false,
            retry_after: None,
            detail: None,
            source: None,
        })
    }

    async fn never() -> Result<(HeaderMap, bytes::Bytes), Error> {
        panic!("it must not be asked")
    }

    #[tokio::test]
    async fn an_unknown_serial_is_asked_for_again_only_after_a_pause() {
        let held = held();
        let because = Because::Answer("AB");

        assert!(matches!(
            held.refresh(because, NOW, failing()).await,
            Err(PlatformError::Call(_))
        ));
        assert!(held.refresh(because, NOW + 1, never()).await.is_err());
        assert!(held.refresh(because, NOW + 2, failing()).await.is_err(), "asked again");
        assert!(
            held.refresh(because, NOW + 1, failing()).await.is_err(),
            "a clock set back"
        );
    }

    #[tokio::test]
    async fn a_merchant_without_certificates_is_told_what_to_do() {
        let missing = async {
            let mut error = failing().await.unwrap_err();
            if let Error::Api { code, status, .. } = &mut error {
                (*code, *status) = ("RESOURCE_NOT_EXISTS".to_owned(), 404);
            }
            Err(error)
        };

        let error = held().refresh(Because::NoKey, NOW, missing).await.unwrap_err();

        assert!(
            !error.passes() && error.to_string().contains("PlatformKeys::with_public_key"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn any_number_of_callers_share_one_refresh() {
        let held = Arc::new(held());
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let callers: Vec<_> = (0..64)
            .map(|_| {
                let (held, asked) = (held.clone(), asked.clone());
                tokio::spawn(async move {
                    let fetch = async {
                        asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        failing().await
                    };
                    held.refresh(Because::Answer("AB"), NOW, fetch).await
                })
            })
            .collect();

        for caller in callers {
            assert!(caller.await.unwrap().is_err());
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn made_up_notifications_do_not_use_up_what_a_rotation_needs() {
        let held = held();
        let forged = Because::Notification("00");

        assert!(matches!(
            held.refresh(forged, NOW, failing()).await,
            Err(PlatformError::Call(_))
        ));
        assert!(matches!(
            held.refresh(forged, NOW + 59, never()).await,
            Err(PlatformError::TooSoon(59))
        ));
        assert!(matches!(
            held.refresh(Because::Answer("AB"), NOW + 2, failing()).await,
            Err(PlatformError::Call(_))
        ));
        assert!(matches!(
            held.refresh(forged, NOW + 60, failing()).await,
            Err(PlatformError::Call(_))
        ));
    }

    #[test]
    fn a_refresh_by_time_is_for_one_caller() {
        let held = held();

        assert!(held.take_due(NOW) && !held.take_due(NOW));
        assert!(!held.take_due(NOW + 299) && held.take_due(NOW + 300));
        assert!(!Held::new(PlatformKeys::new().into()).take_due(NOW));
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_the_turn_to_the_next() {
        let held = Arc::new(held());
        let stuck = tokio::spawn({
            let held = held.clone();
            async move { held.refresh(Because::Due, NOW, std::future::pending()).await }
        });
        tokio::task::yield_now().await;
        stuck.abort();
        let _ = stuck.await;

        assert!(matches!(
            held.refresh(Because::Due, NOW, failing()).await,
            Err(PlatformError::Call(_))
        ));
    }
}

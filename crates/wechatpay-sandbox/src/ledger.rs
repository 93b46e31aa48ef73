//! What arrived, in order, and what became of it: for tests to read and for the program to print.
//!
//! The ledger only records. Appending is cheap; the oldest entries go when a bound is reached (calls: see
//! `Builder::ledger_limit`; bytes of bodies: 256 MiB). Written by `platform.rs`.

#![expect(clippy::disallowed_methods, reason = "an edge: it reads the clock or starts tasks")]

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::endpoints::parkings::Report;
use crate::fault::Fault;
use crate::presence::State;
use crate::refusal::{Help, Refusal};

/// One request, complete with its body, and its fate.
#[derive(Clone)]
#[non_exhaustive]
pub struct Call {
    /// 1 for the first call; calls are numbered as their last byte arrives.
    pub number: u64,
    /// When it arrived, by the sandbox's clock.
    pub time: Timestamp,
    /// When it arrived, for measuring.
    pub received: Instant,
    /// The method.
    pub method: Method,
    /// Path and query, byte for byte.
    pub path: String,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The `Request-ID` of the answer.
    pub request_id: String,
    /// Status of the answer; `None` while there is none, and for ever when none was meant to be sent.
    pub status: Option<u16>,
    /// WeChat Pay's code when it was refused; empty otherwise.
    pub code: Cow<'static, str>,
    /// WeChat Pay's message when it was refused; empty otherwise.
    pub message: Cow<'static, str>,
    /// Whether the call was carried out, whatever the caller got to hear.
    pub committed: bool,
    /// What became of the answer.
    pub answer: Answer,
    /// The fault that struck, if any.
    pub fault: Option<Fault>,
    /// What the developer should know about the refusal. Never sent.
    pub help: Option<Box<Help>>,
    parking: Option<u64>,
}

impl Call {
    /// The body as JSON, when it is JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// The body and the path may hold plates and openids: only sizes are shown.
impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("number", &self.number)
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .field("status", &self.status)
            .field("code", &self.code)
            .field("message", &self.message)
            .field("committed", &self.committed)
            .field("answer", &self.answer)
            .field("fault", &self.fault)
            .field("help", &self.help)
            .finish_non_exhaustive()
    }
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not decided yet, or the caller went away before it was.
    Pending,
    /// Handed to the connection.
    Sent,
    /// The call was carried out, then the connection was closed or reset without an answer.
    Dropped,
    /// The connection was reset before anything was done.
    Reset,
    /// Silence until the caller gave up.
    Silent,
}

/// One accepted parking state (停车状态).
#[derive(Clone)]
#[non_exhaustive]
pub struct Parking {
    /// Number of the call that reported it.
    pub call: u64,
    /// The member, in clear: this is a test's data.
    pub openid: String,
    /// The brand.
    pub brandid: u64,
    /// The mini-program.
    pub appid: String,
    /// The child merchant, in provider mode.
    pub sub_mchid: Option<String>,
    /// The plate, in clear.
    pub plate_number: String,
    /// In or out.
    pub state: State,
    /// `time` as it was sent.
    pub time: String,
    /// `time` as an instant.
    pub at: Timestamp,
    /// When the call arrived, for measuring.
    pub received: Instant,
    /// Whether an answer was handed to the connection. It may have been unsigned or wrongly signed.
    pub answered: bool,
}

/// Plate and openid are masked; read the fields to see them.
impl std::fmt::Debug for Parking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parking")
            .field("call", &self.call)
            .field("plate_number", &mask(&self.plate_number))
            .field("state", &self.state)
            .field("time", &self.time)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

fn mask(plate: &str) -> String {
    plate.chars().take(2).chain("***".chars()).collect()
}

/// Handle to a sandbox's ledger. Clones look at the same one.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Mutex<Inner>>,
    version: watch::Sender<u64>,
}

struct Inner {
    limit: usize,
    max_body_bytes: usize,
    calls: VecDeque<Call>,
    /// Of the calls that are kept.
    body_bytes: usize,
    /// Number of the next call; also how many have arrived.
    arrived: u64,
    parkings: VecDeque<Parking>,
    accepted: u64,
}

impl Ledger {
    pub(crate) fn new(limit: usize) -> Self {
        Self::with_bounds(limit, MAX_BODY_BYTES)
    }

    fn with_bounds(limit: usize, max_body_bytes: usize) -> Self {
        let inner = Inner {
            limit,
            max_body_bytes,
            calls: VecDeque::new(),
            body_bytes: 0,
            arrived: 0,
            parkings: VecDeque::new(),
            accepted: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            version: watch::Sender::new(0),
        }
    }

    /// The calls, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.iter().cloned().collect()
    }

    /// One call, while it is kept.
    pub fn call(&self, number: u64) -> Option<Call> {
        self.lock().call(number).cloned()
    }

    /// The newest calls that fit, newest first, at most so many. Looks at ten thousand.
    pub(crate) fn newest(&self, limit: usize, fits: impl Fn(&Call) -> bool) -> Vec<Call> {
        let inner = self.lock();
        let newest = inner.calls.iter().rev().take(LOOKED_AT);
        newest.filter(|call| fits(call)).take(limit).cloned().collect()
    }

    /// Counts the changes.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The accepted parking states, in the order in which they took effect.
    pub fn parkings(&self) -> Vec<Parking> {
        self.lock().parkings.iter().cloned().collect()
    }

    /// How many calls have arrived, forgotten ones included. Costs nothing.
    pub fn len(&self) -> usize {
        usize::try_from(self.lock().arrived).unwrap_or(usize::MAX)
    }

    /// Whether nothing has arrived yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many parking states were accepted, forgotten ones included. Costs nothing.
    pub fn accepted(&self) -> usize {
        usize::try_from(self.lock().accepted).unwrap_or(usize::MAX)
    }

    /// Waits until the predicate holds, looking again after every change. False when the time was up first.
    ///
    /// The predicate may call every other method. Count with [`len`](Self::len) and [`accepted`](Self::accepted)
    /// where you can: the lists are copied.
    #[must_use = "false means that it did not happen in time"]
    pub async fn wait_for(&self, mut predicate: impl FnMut(&Self) -> bool, timeout: Duration) -> bool {
        let mut changes = self.version.subscribe();
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

    /// Notes a request whose last byte is there.
    pub(crate) fn arrive(&self, time: Timestamp, method: Method, path: String, body: Bytes, request_id: String) -> u64 {
        let mut inner = self.lock();
        inner.arrived += 1;
        let number = inner.arrived;
        inner.body_bytes += body.len();
        while inner.calls.len() >= inner.limit || (inner.body_bytes > inner.max_body_bytes && !inner.calls.is_empty()) {
            let forgotten = inner.calls.pop_front();
            inner.body_bytes -= forgotten.map_or(0, |call| call.body.len());
        }
        // A body is a slice of the buffer it came in, headers and all: the copy lets go of that.
        let body = Bytes::copy_from_slice(&body);
        inner.calls.push_back(Call {
            number,
            time,
            received: Instant::now(),
            method,
            path,
            body,
            request_id,
            status: None,
            code: Cow::Borrowed(""),
            message: Cow::Borrowed(""),
            committed: false,
            answer: Answer::Pending,
            fault: None,
            help: None,
            parking: None,
        });
        drop(inner);
        self.changed();
        number
    }

    pub(crate) fn struck(&self, number: u64, fault: &Fault) {
        if let Some(call) = self.lock().call(number) {
            call.fault = Some(fault.clone());
        }
    }

    /// Notes that the call took effect.
    pub(crate) fn commit(&self, number: u64) {
        if let Some(call) = self.lock().call(number) {
            call.committed = true;
        }
        self.changed();
    }

    /// Notes that the call took effect as a parking state.
    pub(crate) fn commit_parking(&self, number: u64, report: Report) {
        let mut inner = self.lock();
        inner.accepted += 1;
        let accepted = inner.accepted;
        let received = match inner.call(number) {
            Some(call) => {
                call.committed = true;
                call.parking = Some(accepted);
                call.received
            }
            None => Instant::now(),
        };
        if inner.parkings.len() >= inner.limit {
            inner.parkings.pop_front();
        }
        inner.parkings.push_back(Parking {
            call: number,
            openid: report.openid,
            brandid: report.brandid,
            appid: report.appid,
            sub_mchid: report.sub_mchid,
            plate_number: report.plate_number,
            state: report.state,
            time: report.time,
            at: report.at,
            received,
            answered: false,
        });
        drop(inner);
        self.changed();
    }

    /// Notes the end of a call and returns a copy of its entry.
    pub(crate) fn finish(
        &self,
        number: u64,
        answer: Answer,
        status: Option<u16>,
        refusal: Option<&Refusal>,
    ) -> Option<Call> {
        let mut inner = self.lock();
        let call = inner.call(number)?;
        call.answer = answer;
        call.status = status;
        if let Some(refusal) = refusal {
            call.code = refusal.code.clone();
            call.message = refusal.message.clone();
            call.help = refusal.help.clone();
        }
        let call = call.clone();
        if let (Answer::Sent, Some(parking)) = (answer, call.parking) {
            inner.answered(parking);
        }
        drop(inner);
        self.changed();
        Some(call)
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the ledger panics")
    }
}

impl Inner {
    fn call(&mut self, number: u64) -> Option<&mut Call> {
        let index = index(number, self.arrived, self.calls.len())?;
        self.calls.get_mut(index)
    }

    fn answered(&mut self, parking: u64) {
        let index = index(parking, self.accepted, self.parkings.len());
        if let Some(parking) = index.and_then(|index| self.parkings.get_mut(index)) {
            parking.answered = true;
        }
    }
}

/// Where entry `number` lies when the last one is `last` and the newest `kept` are there.
fn index(number: u64, last: u64, kept: usize) -> Option<usize> {
    let from_the_end = usize::try_from(last.checked_sub(number)?).ok()?;
    kept.checked_sub(from_the_end + 1)
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("len", &self.len())
            .field("accepted", &self.accepted())
            .finish()
    }
}

const LOOKED_AT: usize = 10_000;
/// Bodies are kept up to so many bytes in all; the oldest calls go first.
const MAX_BODY_BYTES: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(ledger: &Ledger) -> u64 {
        ledger.arrive(
            Timestamp::UNIX_EPOCH,
            Method::GET,
            "/".into(),
            Bytes::new(),
            "id".into(),
        )
    }

    #[test]
    fn a_full_ledger_forgets_the_oldest_and_keeps_counting() {
        let ledger = Ledger::new(2);
        for _ in 0..3 {
            arrive(&ledger);
        }

        ledger.finish(1, Answer::Sent, Some(500), None);
        ledger.finish(3, Answer::Sent, Some(200), None);

        let calls: Vec<_> = ledger.calls().iter().map(|call| (call.number, call.status)).collect();
        assert_eq!(calls, [(2, None), (3, Some(200))]);
        assert_eq!(ledger.len(), 3);
    }

    #[test]
    fn large_bodies_push_out_old_calls() {
        let ledger = Ledger::with_bounds(1000, 250);
        let body = Bytes::from(vec![0; 100]);
        for _ in 0..4 {
            ledger.arrive(
                Timestamp::UNIX_EPOCH,
                Method::POST,
                "/".into(),
                body.clone(),
                "id".into(),
            );
        }

        let numbers: Vec<_> = ledger.calls().iter().map(|call| call.number).collect();
        assert_eq!(numbers, [3, 4]);
    }

    #[tokio::test]
    async fn waiting_ends_when_it_happens_or_when_time_is_up() {
        let ledger = Ledger::new(10);
        let writer = ledger.clone();

        let (seen, ()) = tokio::join!(
            ledger.wait_for(|ledger| ledger.len() == 1, Duration::from_secs(5)),
            async {
                arrive(&writer);
            }
        );

        assert!(seen);
        assert!(
            !ledger
                .wait_for(|ledger| ledger.len() == 2, Duration::from_millis(1))
                .await
        );
    }

    #[test]
    fn debug_output_shows_neither_plate_nor_openid() {
        let ledger = Ledger::new(10);
        let number = ledger.arrive(
            Timestamp::UNIX_EPOCH,
            Method::POST,
            "/v3/users/oSecret".into(),
            Bytes::from_static("粤B12345".as_bytes()),
            "id".into(),
        );
        ledger.commit_parking(
            number,
            Report {
                sub_mchid: None,
                brandid: 1,
                appid: "wx".into(),
                openid: "oSecret".into(),
                plate_number: "粤B12345".into(),
                state: State::In,
                time: String::new(),
                at: Timestamp::UNIX_EPOCH,
            },
        );

        let shown = format!("{:?} {:?}", ledger.calls(), ledger.parkings());

        assert!(!shown.contains("B12345") && !shown.contains("oSecret"), "{shown}");
    }
}

//! Gates that post entries and exits of their own cars, and post again what was not acknowledged; and what they remember.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, header};
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinHandle;
use wechatpay_sandbox::{Ledger, State};

use crate::app::{Http, Mall, PATIENCE, wait_for};

const SENDERS: u32 = 6;
const CARS_PER_SENDER: u32 = 40;
/// Acknowledged and not delivered yet, about. Beyond it gates wait, so that kills meet deliveries and not a backlog.
const BACKLOG: usize = 400;
/// The same for several nodes: lanes of a dead one wait for the end of their claims, the others must have work meanwhile.
const BACKLOG_OF_NODES: usize = 4000;
/// How long ago the first car came. Each car moves on by a second at least, and never into the future.
const HEAD_START_S: i64 = 300;

/// What a car did, and when.
pub(crate) type Crossing = (State, i64);

/// What the gates remember.
#[derive(Default)]
pub(crate) struct Book {
    /// What each car was acknowledged as, in order.
    pub(crate) cars: BTreeMap<String, Vec<Crossing>>,
    /// Acknowledged events.
    pub(crate) total: usize,
    /// When the latest post left that was acknowledged.
    pub(crate) acknowledged_until: Option<Instant>,
    /// Posts that were refused, by status.
    pub(crate) refused: BTreeMap<u16, usize>,
    /// Refusals without a word about when to come back.
    pub(crate) without_retry_after: usize,
    /// Posts that nobody answered.
    pub(crate) unanswered: usize,
}

/// The gates at work.
pub(crate) struct Senders {
    work: Vec<JoinHandle<()>>,
    done: Arc<AtomicBool>,
    book: Arc<Mutex<Book>>,
}

impl Senders {
    pub(crate) fn start(mall: &Mall) -> Self {
        let most = if mall.nodes() == 1 { BACKLOG } else { BACKLOG_OF_NODES };
        let (done, book) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let start = Timestamp::now().as_second() - HEAD_START_S;
        let work = (0..SENDERS).map(|number| {
            let sender = Sender {
                number,
                http: mall.http.clone(),
                key: mall.gate_key.clone(),
                ledger: mall.sandbox.ledger(),
                most,
                done: Arc::clone(&done),
                book: Arc::clone(&book),
            };
            tokio::spawn(sender.work(start))
        });
        Self {
            work: work.collect(),
            done,
            book,
        }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Waits until so many more events are acknowledged.
    pub(crate) async fn wait_for_more(&self, more: usize) {
        let goal = self.book().total + more;
        wait_for("no more events are acknowledged", async || self.book().total >= goal).await;
    }

    /// Waits until so many more posts are refused with 503.
    pub(crate) async fn wait_for_refusals(&self, more: usize) {
        let count = || self.book().refused.get(&503).copied().unwrap_or_default();
        let goal = count() + more;
        wait_for("no posts are refused", async || count() >= goal).await;
    }

    /// Lets every gate finish: all it ever posted is acknowledged then.
    pub(crate) async fn finish(self) -> Book {
        self.done.store(true, Ordering::Relaxed);
        for sender in self.work {
            sender.await.unwrap();
        }
        Arc::into_inner(self.book).unwrap().into_inner().unwrap()
    }
}

struct Sender {
    number: u32,
    http: Http,
    key: String,
    ledger: Ledger,
    /// How many may be acknowledged and not delivered.
    most: usize,
    done: Arc<AtomicBool>,
    book: Arc<Mutex<Book>>,
}

impl Sender {
    async fn work(self, start: i64) {
        for second in start.. {
            let state = if (second - start) % 2 == 0 {
                State::In
            } else {
                State::Out
            };
            while second > Timestamp::now().as_second() && !self.is_done() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for car in 0..CARS_PER_SENDER {
                while self.backlog() > self.most && !self.is_done() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if self.is_done() {
                    return;
                }
                self.post(plate(self.number, car), state, second).await;
            }
        }
    }

    /// Posts one crossing until it is acknowledged.
    async fn post(&self, plate: String, state: State, second: i64) {
        let time = Timestamp::from_second(second).unwrap().to_string();
        let body = json!({ "lot": "P1", "gate": "G1", "plate": plate, "state": word(state), "time": time }).to_string();
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "the service does not come back");
            let began = Instant::now();
            let answer = self.http.post("/v1/events", &self.key, body.clone()).await;
            if self.note(&plate, (state, second), began, answer.as_ref()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Writes an answer down. Says whether it acknowledges the crossing.
    fn note(&self, plate: &str, crossing: Crossing, began: Instant, answer: Option<&Response<Bytes>>) -> bool {
        let mut book = self.book.lock().unwrap();
        let Some(answer) = answer else {
            book.unanswered += 1;
            return false;
        };
        let acknowledged = answer.status() == 200;
        if acknowledged {
            book.cars.entry(plate.to_owned()).or_default().push(crossing);
            book.total += 1;
            book.acknowledged_until = book.acknowledged_until.max(Some(began));
        } else {
            *book.refused.entry(answer.status().as_u16()).or_default() += 1;
            book.without_retry_after += usize::from(!answer.headers().contains_key(header::RETRY_AFTER));
        }
        acknowledged
    }

    fn backlog(&self) -> usize {
        let total = self.book.lock().unwrap().total;
        total.saturating_sub(self.ledger.accepted())
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

fn plate(sender: u32, car: u32) -> String {
    format!("宁Y{:05}", sender * 1000 + car + 1)
}

const fn word(state: State) -> &'static str {
    match state {
        State::In => "IN",
        State::Out => "OUT",
    }
}

/// Every car with a member of its own, for `members import`.
pub(crate) fn members() -> String {
    let cars = (0..SENDERS).flat_map(|sender| (0..CARS_PER_SENDER).map(move |car| (sender, car)));
    cars.fold("openid,plate\n".to_owned(), |csv, (sender, car)| {
        csv + &format!("openid-{sender}-{car},{}\n", plate(sender, car))
    })
}

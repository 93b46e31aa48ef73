//! WeChat Pay in the simulation: takes calls, refuses, throttles, loses answers; and notices what must never happen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parksync::delivery::courier::Courier;
use parksync::domain::delivery::{Delivery, Outcome};
use parksync::domain::gate::Direction;

use crate::world::{Accepted, Book, Dice, Pair};

/// Waits before the n-th repetition, in seconds, as promised.
const PROMISED: [i64; 8] = [1, 2, 5, 15, 60, 300, 900, 1800];
/// How long the service lets a message live in the simulation.
pub(crate) const TIME_TO_LIVE: SignedDuration = SignedDuration::from_mins(100);

/// Its state. One per seed; it outlives the process that calls it.
pub(crate) struct WeChat {
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) dice: Mutex<Dice>,
    pub(crate) now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) mood: Mutex<Mood>,
    lanes: Mutex<BTreeMap<(String, String), Lane>>,
}

/// How it feels.
#[derive(Clone, Default)]
pub(crate) struct Mood {
    /// In a hundred calls, how many go wrong.
    pub(crate) bad: u64,
    /// This circle is misconfigured.
    pub(crate) refused_circle: Option<String>,
    /// Since when, by its first refusal, and how many calls came since.
    pub(crate) refused: Option<(Timestamp, u32)>,
    /// Nothing may come before this.
    pub(crate) shut_until: Option<Timestamp>,
}

/// One member, as seen from here.
#[derive(Default)]
struct Lane {
    in_flight: Option<(i64, Timestamp)>,
    /// The message whose outcome nobody knows, and since when it waits: it has to come again before any other.
    unknown: Option<(i64, Timestamp)>,
    /// The last failure of a message that counts against the schedule: message, how often, when.
    failed: Option<(i64, usize, Timestamp)>,
}

impl WeChat {
    pub(crate) fn new(book: Arc<Mutex<Book>>, seed: u64, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            book,
            dice: Mutex::new(Dice::new(seed ^ 0xA5A5)),
            now: Box::new(now),
            mood: Mutex::default(),
            lanes: Mutex::default(),
        }
    }

    /// The process that called died: what was under way is over, and nobody knows how.
    pub(crate) fn caller_died(&self) {
        for lane in self.lanes.lock().unwrap().values_mut() {
            // It was sent, and nobody knows how that ended.
            lane.unknown = lane.in_flight.take().or(lane.unknown);
            lane.failed = None;
        }
    }

    /// A member took a car out: what was to be repeated of it is withdrawn.
    pub(crate) fn forget(&self, openid: &str) {
        for (_, lane) in self
            .lanes
            .lock()
            .unwrap()
            .iter_mut()
            .filter(|(lane, _)| lane.1 == openid)
        {
            lane.unknown = None;
        }
    }

    fn pair(delivery: &Delivery) -> Pair {
        (
            delivery.member.openid.expose().to_owned(),
            delivery.plate.expose().to_owned(),
        )
    }

    /// What must hold when a call arrives.
    fn look(&self, delivery: &Delivery) {
        let pair = Self::pair(delivery);
        let now = (self.now)();
        let mut book = self.book.lock().unwrap();
        book.calls += 1;
        let what = |text: &str| format!("{text}: {} {} of {}", delivery.state, delivery.at, pair.1);
        if !book.bound.get(&pair).copied().unwrap_or(false) {
            book.wrong(what("told of a car that its member has unbound"));
        }
        let told = book
            .possible
            .get(&pair.1)
            .and_then(|told| told.get(&(delivery.at, delivery.state == Direction::In)));
        match told.copied() {
            None => book.wrong(what("told something that no gate ever told")),
            Some(None) => {}
            Some(Some(batch)) => {
                let key = (pair.clone(), batch);
                let of_batch = book.of_batch.entry(key).or_default();
                of_batch.insert(delivery.at);
                // A process that died in between took longer than a replay waits for its next message.
                if of_batch.len() > 1 && !book.disturbed {
                    book.wrong(what("told more than the newest state of a replay"));
                }
            }
        }
        if !book.disturbed && delivery.at > now {
            book.wrong(what("told a time in the future"));
        }
        // At a late bind it is told: the member says that the car is there.
        let is_late_bind = book.bound_at.get(&pair).is_some_and(|bound_at| {
            book.told.get(&pair.1).is_some_and(|told| {
                told.iter()
                    .any(|told| told.at == delivery.at && told.acknowledged_at <= *bound_at)
            })
        });
        if delivery.state == Direction::In
            && now.duration_since(delivery.at) > SignedDuration::from_hours(12)
            && !is_late_bind
        {
            book.wrong(what("told an entry of twelve hours ago by itself"));
        }
        if now.duration_since(delivery.enqueued_at) > TIME_TO_LIVE + SignedDuration::from_mins(2) {
            book.wrong(what("told after its time to live"));
        }
        let disturbed = book.disturbed;
        let mut lanes = self.lanes.lock().unwrap();
        let lane = lanes.entry(lane_of(delivery)).or_default();
        if lane.in_flight.is_some() {
            book.wrong(what("two calls of one member at once"));
        }
        lane.in_flight = Some((delivery.id, delivery.enqueued_at));
        let waits = lane
            .unknown
            .filter(|(_, since)| now.duration_since(*since) < TIME_TO_LIVE - SignedDuration::from_mins(1));
        if waits.is_some_and(|(unknown, _)| unknown != delivery.id) {
            book.wrong(what("another message went before the one with an unknown outcome"));
        }
        if let Some((id, times, at)) = lane.failed.filter(|(id, ..)| *id == delivery.id && !disturbed) {
            let promised = PROMISED[(times - 1).min(PROMISED.len() - 1)];
            if now.duration_since(at) < SignedDuration::from_secs(promised) {
                book.wrong(format!(
                    "message {id} came again after {} and not after {promised} s",
                    now.duration_since(at)
                ));
            }
        }
        drop(lanes);
        let mut mood = self.mood.lock().unwrap();
        if mood.shut_until.is_some_and(|until| now < until) && !disturbed {
            book.wrong(what("called before Retry-After was over"));
        }
        if mood.refused_circle.as_deref() == Some(&delivery.member.circle)
            && let Some((since, calls)) = &mut mood.refused
        {
            *calls += 1;
            // What was under way at the first refusal, then at most four probes a minute (a probe without an answer is repeated).
            let minutes = now.duration_since(*since).as_secs() / 60 + 1;
            if i64::from(*calls) > 10 + 5 * minutes {
                book.wrong(what("a circle on hold was called again and again"));
            }
        }
    }

    fn accept(&self, delivery: &Delivery, epoch: u32) {
        let pair = Self::pair(delivery);
        let mut book = self.book.lock().unwrap();
        let log = book.accepted.entry(pair.clone()).or_default();
        let last = log.iter().rfind(|accepted| accepted.epoch == epoch).cloned();
        let this = Accepted {
            state: delivery.state,
            at: delivery.at,
            epoch,
            doubtful: true,
        };
        log.push(this);
        let Some(last) = last else { return };
        if last.at > delivery.at {
            book.wrong(format!(
                "out of order: {} {} of {} after {} {}",
                delivery.state, delivery.at, pair.1, last.state, last.at
            ));
        }
        if (last.at, last.state) == (delivery.at, delivery.state) {
            book.repeats += 1;
            if !last.doubtful {
                book.wrong(format!(
                    "told twice although it was certain: {} {} of {}",
                    delivery.state, delivery.at, pair.1
                ));
            }
        }
    }

    fn settled(&self, delivery: &Delivery, outcome: &Outcome) {
        let now = (self.now)();
        let mut lanes = self.lanes.lock().unwrap();
        let lane = lanes.entry(lane_of(delivery)).or_default();
        lane.in_flight = None;
        lane.unknown = matches!(outcome, Outcome::Unknown { .. }).then_some((delivery.id, delivery.enqueued_at));
        let counts = match outcome {
            Outcome::Unknown { .. } | Outcome::NotSent { .. } => true,
            Outcome::Refused {
                status, rate_limited, ..
            } => *status >= 500 && !rate_limited,
            Outcome::Accepted { .. } | Outcome::Unbuildable { .. } | Outcome::Expired | Outcome::Unclaimed { .. } => {
                false
            }
        };
        lane.failed = counts.then(|| {
            let times = lane
                .failed
                .filter(|(id, ..)| *id == delivery.id)
                .map_or(1, |(_, times, _)| times + 1);
            (delivery.id, times, now)
        });
    }
}

/// One person who is a member of two malls has two lanes.
fn lane_of(delivery: &Delivery) -> (String, String) {
    (
        delivery.member.circle.clone(),
        delivery.member.openid.expose().to_owned(),
    )
}

fn refused(status: u16, code: &str, message: &str, retry_after: Option<Duration>) -> Outcome {
    Outcome::Refused {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
        request_id: "sim".to_owned(),
        rate_limited: status == 429,
        retry_after,
    }
}

#[async_trait]
impl Courier for WeChat {
    async fn deliver(&self, delivery: &Delivery) -> Outcome {
        self.look(delivery);
        let epoch = self.book.lock().unwrap().epoch(&WeChat::pair(delivery));
        let (latency, fate, at_all, mood) = {
            let mut dice = self.dice.lock().unwrap();
            let mood = self.mood.lock().unwrap().clone();
            (5 + dice.below(120), dice.below(8), dice.in_hundred(mood.bad), mood)
        };
        // Nothing stays undecided over this point: a process that dies now has sent it, and WeChat Pay may take it or not.
        tokio::time::sleep(Duration::from_millis(latency)).await;
        let now = (self.now)();
        let outcome = if mood.refused_circle.as_deref() == Some(&delivery.member.circle) {
            self.mood.lock().unwrap().refused.get_or_insert((now, 0));
            refused(403, "NO_AUTH", "brandid与AppID不匹配", None)
        } else if delivery.at > now + SignedDuration::from_secs(1) {
            refused(400, "PARAM_ERROR", "time超出取值范围", None)
        } else if !at_all {
            self.accept(delivery, epoch);
            Outcome::Accepted {
                request_id: "sim".to_owned(),
            }
        } else {
            match fate {
                0 => refused(500, "SYSTEM_ERROR", "系统异常，请稍后重试", None),
                1 => {
                    let wait = Duration::from_secs(1 + self.dice.lock().unwrap().below(20));
                    self.mood.lock().unwrap().shut_until = Some(now + wait);
                    refused(429, "RATELIMIT_EXCEEDED", "", Some(wait))
                }
                2 => Outcome::NotSent {
                    why: "connection refused".to_owned(),
                },
                3 => Outcome::Unknown {
                    why: "the connection broke".to_owned(),
                },
                4 => {
                    self.book
                        .lock()
                        .unwrap()
                        .killed
                        .insert((WeChat::pair(delivery), delivery.at));
                    refused(400, "PARAM_ERROR", "OpenID有误", None)
                }
                5 => {
                    self.accept(delivery, epoch);
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    Outcome::Unknown {
                        why: "no answer within the deadline".to_owned(),
                    }
                }
                _ => {
                    self.accept(delivery, epoch);
                    Outcome::Unknown {
                        why: "the answer's signature does not verify".to_owned(),
                    }
                }
            }
        };
        // A process that dies before this line has lost the answer; otherwise what was accepted is certain from here on.
        if matches!(outcome, Outcome::Accepted { .. })
            && let Some(log) = self.book.lock().unwrap().accepted.get_mut(&WeChat::pair(delivery))
            && let Some(last) = log.last_mut()
        {
            last.doubtful = false;
        }
        self.settled(delivery, &outcome);
        outcome
    }
}

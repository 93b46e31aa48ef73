//! WeChat Pay in the simulation: takes calls, refuses, throttles, loses answers; and notices what must never happen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parksync::domain::delivery::{Delivery, Outcome};
use parksync::domain::gate::Direction;

use tokio::sync::oneshot;

use crate::claims::Claims;
use crate::run::DEADLINE;
use crate::trouble::STORE_CLOCK_STEP;
use crate::world::{Accepted, Book, Dice, Pair, story};

/// Waits before the n-th repetition, in seconds, as promised.
const PROMISED: [i64; 8] = [1, 2, 5, 15, 60, 300, 900, 1800];
/// How long after a throttle every process has heard of it: two beats, and what was claimed before.
const EVERYBODY_HEARS: SignedDuration = SignedDuration::from_secs(6);
/// How long the service lets a message live in the simulation.
pub(crate) const TIME_TO_LIVE: SignedDuration = SignedDuration::from_mins(100);

/// Its state. One per seed; it outlives the processes that call it.
pub(crate) struct WeChat {
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) dice: Mutex<Dice>,
    pub(crate) now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) mood: Mutex<Mood>,
    /// Several processes call.
    pub(crate) is_shared: bool,
    pub(crate) claims: Mutex<Claims>,
    lanes: Mutex<BTreeMap<(String, String), Lane>>,
}

/// How it feels.
#[derive(Clone, Default)]
pub(crate) struct Mood {
    /// In a hundred calls, how many go wrong.
    pub(crate) bad: u64,
    /// This circle is misconfigured.
    pub(crate) refused_circle: Option<String>,
    /// Since when a process wrote that down, and how many calls came since.
    pub(crate) refused: Option<(Timestamp, u32)>,
    /// Nothing may come before this …
    pub(crate) shut_until: Option<Timestamp>,
    /// … from here on, so that every process can have heard of it.
    pub(crate) shut_from: Option<Timestamp>,
    /// The process that makes the next call of this member freezes right before it, for so long.
    pub(crate) fumble: Option<(String, Duration)>,
    /// A person let the circle go on meanwhile.
    pub(crate) was_released: bool,
    /// Calls a second that all processes together may make.
    pub(crate) ceiling: f64,
    /// When the latest calls came.
    pub(crate) came: VecDeque<Timestamp>,
}

/// Under what circumstances a call leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Plain,
    /// Its process cannot know how late it is.
    Blind,
    /// Its process froze after it had looked at its claim.
    AfterAFreeze,
}

/// One member, as seen from here.
#[derive(Default)]
struct Lane {
    in_flight: Vec<Call>,
    /// The message whose outcome nobody knows, and since when it waits: it has to come again before any other.
    unknown: Option<(i64, Timestamp)>,
    /// The last failure of a message that counts against the schedule: message, how often, when.
    failed: Option<(i64, usize, Timestamp)>,
}

struct Call {
    process: u32,
    id: i64,
    enqueued_at: Timestamp,
}

impl WeChat {
    pub(crate) fn new(
        book: Arc<Mutex<Book>>,
        seed: u64,
        is_shared: bool,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self {
            book,
            dice: Mutex::new(Dice::new(seed ^ 0xA5A5)),
            now: Box::new(now),
            mood: Mutex::new(Mood {
                ceiling: 50.0,
                ..Mood::default()
            }),
            is_shared,
            claims: Mutex::default(),
            lanes: Mutex::default(),
        }
    }

    /// A process that called died: what was under way is over, and nobody knows how.
    pub(crate) fn caller_died(&self, process: u32) {
        for lane in self.lanes.lock().unwrap().values_mut() {
            for call in lane.in_flight.extract_if(.., |call| call.process == process) {
                // It was sent, and nobody knows how that ended.
                lane.unknown = Some((call.id, call.enqueued_at));
            }
            lane.failed = None;
        }
        self.nobody_may_have_heard();
    }

    /// Something happened to a process, so that the others may not have heard of the latest throttle.
    pub(crate) fn nobody_may_have_heard(&self) {
        if self.is_shared {
            self.mood.lock().unwrap().shut_until = None;
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

    pub(crate) fn pair(delivery: &Delivery) -> Pair {
        (
            delivery.member.openid.expose().to_owned(),
            delivery.plate.expose().to_owned(),
        )
    }

    /// What must hold when a call leaves. Says whether it is late: its claim is over.
    fn look(&self, process: u32, delivery: &Delivery, how: How) -> bool {
        let pair = Self::pair(delivery);
        let now = (self.now)();
        let mut book = self.book.lock().unwrap();
        book.calls += 1;
        let what = |text: &str| format!("{text}: {} {} of {}", delivery.state, delivery.at, pair.1);
        let (is_late, claimed_at) = self.under_a_claim(process, delivery, how, &mut book);
        let claimed_before = self.is_shared && book.unbound_at.get(&pair).is_some_and(|at| claimed_at <= *at);
        if !book.bound.get(&pair).copied().unwrap_or(false) && !claimed_before {
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
        if now.duration_since(delivery.enqueued_at) > TIME_TO_LIVE + SignedDuration::from_mins(2) && !is_late {
            book.wrong(what("told after its time to live"));
        }
        self.keep_the_rate(now, &mut book);
        if is_late {
            return true;
        }
        let disturbed = book.disturbed;
        let mut lanes = self.lanes.lock().unwrap();
        let lane = lanes.entry(lane_of(delivery)).or_default();
        if !lane.in_flight.is_empty() {
            book.wrong(what("two calls of one member at once"));
        }
        lane.in_flight.push(Call {
            process,
            id: delivery.id,
            enqueued_at: delivery.enqueued_at,
        });
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
        let others = lanes
            .iter()
            .filter(|(lane, _)| lane.0 == delivery.member.circle)
            .map(|(_, lane)| lane.in_flight.len())
            .sum::<usize>()
            - 1;
        drop(lanes);
        let mut mood = self.mood.lock().unwrap();
        let heard = mood.shut_from.is_none_or(|from| now >= from);
        // The wait is told in the time of the database, whose clock may be set meanwhile.
        let shut = mood.shut_until.is_some_and(|until| now + STORE_CLOCK_STEP < until);
        if shut && heard && how == How::Plain && (!disturbed || self.is_shared) {
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
            if others > 0 && now.duration_since(*since) > SignedDuration::from_secs(30) && !mood.was_released {
                book.wrong(what("a circle on hold got two probes at once"));
            }
        }
        false
    }

    /// All processes together keep to the rate of the merchant.
    fn keep_the_rate(&self, now: Timestamp, book: &mut Book) {
        const WINDOW: SignedDuration = SignedDuration::from_secs(10);
        let mut mood = self.mood.lock().unwrap();
        mood.came.push_back(now);
        while mood
            .came
            .front()
            .is_some_and(|first| now.duration_since(*first) > WINDOW)
        {
            mood.came.pop_front();
        }
        // Each of at most five processes may have saved one call up, and joins and leaves are heard of a moment later.
        let most = mood.ceiling * (WINDOW.as_secs_f64() + 1.0) + 8.0;
        if self.is_shared && mood.came.len() as f64 > most {
            book.wrong(format!(
                "{} calls within {WINDOW:#}, of at most {most}",
                mood.came.len()
            ));
        }
    }

    fn accept(&self, delivery: &Delivery, epoch: u32, is_late: bool) {
        let pair = Self::pair(delivery);
        let mut book = self.book.lock().unwrap();
        let log = book.accepted.entry(pair.clone()).or_default();
        let last = log.iter().rfind(|accepted| accepted.epoch == epoch).cloned();
        let this = Accepted {
            id: delivery.id,
            state: delivery.state,
            at: delivery.at,
            epoch,
            late: is_late,
            doubtful: true,
        };
        log.push(this);
        if is_late {
            book.late += 1;
            return;
        }
        let Some(last) = last else { return };
        if last.at > delivery.at && !last.late {
            book.wrong(format!(
                "out of order: {} {} of {} after {} {}",
                delivery.state, delivery.at, pair.1, last.state, last.at
            ));
        }
        if (last.at, last.state) == (delivery.at, delivery.state) {
            book.repeats += 1;
            if self.is_shared && last.id != delivery.id {
                book.reassertions += 1;
            } else if !last.doubtful {
                book.wrong(format!(
                    "told twice although it was certain: {} {} of {}",
                    delivery.state, delivery.at, pair.1
                ));
            }
        }
    }

    /// The answer is there.
    fn answered(&self, process: u32, delivery: &Delivery, epoch: u32, outcome: &Outcome) {
        let now = (self.now)();
        // A member who took the car out meanwhile withdrew what was to be repeated.
        let is_wanted = self.book.lock().unwrap().epoch(&Self::pair(delivery)) == epoch;
        story(|| {
            format!(
                "process {process} is answered, message {}: {}",
                delivery.id,
                outcome.brief()
            )
        });
        let mut lanes = self.lanes.lock().unwrap();
        let lane = lanes.entry(lane_of(delivery)).or_default();
        let before = lane.in_flight.len();
        lane.in_flight
            .retain(|call| (call.process, call.id) != (process, delivery.id));
        if lane.in_flight.len() == before {
            // Its process died meanwhile.
            return;
        }
        let is_unknown = matches!(outcome, Outcome::Unknown { .. }) && is_wanted;
        lane.unknown = is_unknown.then_some((delivery.id, delivery.enqueued_at));
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

    /// A process wrote down that the circle is misconfigured: from here on all can know.
    pub(crate) fn known_to_be_refused(&self, circle: &str) {
        let mut mood = self.mood.lock().unwrap();
        if mood.refused_circle.as_deref() == Some(circle) {
            mood.refused.get_or_insert(((self.now)(), 0));
        }
    }

    /// One of several processes heard an answer, and can tell the others.
    pub(crate) fn heard(&self, outcome: &Outcome) {
        if let Outcome::Refused {
            retry_after: Some(wait),
            ..
        } = outcome
            && self.is_shared
        {
            let now = (self.now)();
            let mut mood = self.mood.lock().unwrap();
            mood.shut_until = Some(now + *wait);
            mood.shut_from = Some(now + EVERYBODY_HEARS);
        }
    }

    /// The claim of a lane was taken from a process that had sent under it: that message comes first now.
    pub(crate) fn unsettled(&self, head: &Delivery) {
        let mut lanes = self.lanes.lock().unwrap();
        let lane = lanes.entry(lane_of(head)).or_default();
        lane.unknown = Some((head.id, head.enqueued_at));
        lane.failed = None;
    }

    /// The outcome of a message is known, settled, and the last of it.
    pub(crate) fn over_for_certain(&self, head: &Delivery) {
        let mut lanes = self.lanes.lock().unwrap();
        let lane = lanes.entry(lane_of(head)).or_default();
        lane.unknown.take_if(|(id, _)| *id == head.id);
    }

    /// Whether the process that makes this call is to freeze over it.
    pub(crate) fn fumble(&self, delivery: &Delivery) -> Option<Duration> {
        let mut mood = self.mood.lock().unwrap();
        let openid = delivery.member.openid.expose();
        mood.fumble
            .take_if(|(whose, _)| whose == openid)
            .map(|(_, how_long)| how_long)
    }

    /// A call leaves. What becomes of it does not depend on its process any more.
    pub(crate) fn send(this: &Arc<Self>, process: u32, delivery: &Delivery, how: How) -> oneshot::Receiver<Outcome> {
        let is_late = this.look(process, delivery, how);
        let epoch = this.book.lock().unwrap().epoch(&Self::pair(delivery));
        let (answer, answered) = oneshot::channel();
        let (wechat, delivery) = (Arc::clone(this), delivery.clone());
        tokio::spawn(async move {
            let outcome = wechat.take(&delivery, epoch, is_late).await;
            wechat.answered(process, &delivery, epoch, &outcome);
            // A process that is gone does not hear it.
            let _ = answer.send(outcome);
        });
        answered
    }

    async fn take(&self, delivery: &Delivery, epoch: u32, is_late: bool) -> Outcome {
        let (latency, fate, at_all, mood) = {
            let mut dice = self.dice.lock().unwrap();
            let mood = self.mood.lock().unwrap().clone();
            (5 + dice.below(120), dice.below(8), dice.in_hundred(mood.bad), mood)
        };
        // Nothing stays undecided over this point: a process that dies now has sent it, and WeChat Pay takes it or not.
        tokio::time::sleep(Duration::from_millis(latency)).await;
        let now = (self.now)();
        if mood.refused_circle.as_deref() == Some(&delivery.member.circle) {
            return refused(403, "NO_AUTH", "brandid与AppID不匹配", None);
        }
        if delivery.at > now + SignedDuration::from_secs(1) {
            return refused(400, "PARAM_ERROR", "time超出取值范围", None);
        }
        if !at_all {
            self.accept(delivery, epoch, is_late);
            return Outcome::Accepted {
                request_id: "sim".to_owned(),
            };
        }
        match fate {
            0 => refused(500, "SYSTEM_ERROR", "系统异常，请稍后重试", None),
            1 => {
                let wait = Duration::from_secs(1 + self.dice.lock().unwrap().below(20));
                if !self.is_shared {
                    let mut mood = self.mood.lock().unwrap();
                    mood.shut_until = Some(now + wait);
                    // What leaves in the same moment has not heard of it.
                    mood.shut_from = Some(now + Duration::from_millis(1));
                }
                refused(429, "RATELIMIT_EXCEEDED", "", Some(wait))
            }
            2 => Outcome::NotSent {
                why: "connection refused".to_owned(),
            },
            3 => Outcome::Unknown {
                why: "the connection broke".to_owned(),
            },
            4 => {
                let killed = (Self::pair(delivery), delivery.at);
                self.book.lock().unwrap().killed.insert(killed);
                refused(400, "PARAM_ERROR", "OpenID有误", None)
            }
            5 => {
                self.accept(delivery, epoch, is_late);
                tokio::time::sleep(DEADLINE).await;
                Outcome::Unknown {
                    why: "no answer within the deadline".to_owned(),
                }
            }
            _ => {
                self.accept(delivery, epoch, is_late);
                Outcome::Unknown {
                    why: "the answer's signature does not verify".to_owned(),
                }
            }
        }
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

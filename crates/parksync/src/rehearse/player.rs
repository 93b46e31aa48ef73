//! Posts a trace to the service, each event at its time of receipt, and moves the service's clock along.
//!
//! However fast it goes, the outcome is that of the real days: whatever is due before the next event is delivered first.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::Speed;
use super::trace::{Event, Trace};
use crate::cli::{Exit, Failure};
use crate::demo::poster::accepted;
use crate::demo::stage::Stage;
use crate::demo::told::Acknowledged;
use crate::domain::plate::Plate;
use crate::domain::presence::Policy;
use crate::domain::story::Place;
use crate::store::{OutboxFilter, Status, StoreError};

/// Events of one request at most.
const BATCH: usize = 100;
/// A longer pause of the trace is not begun before everything under way has arrived.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// How long calls under way may take, in real time, before the rehearsal is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages that are looked at in one step.
const PAGE: u32 = 500;

/// Plays one trace on one stage.
pub(super) struct Player<'a> {
    stage: &'a Stage,
    trace: &'a Trace,
    policy: Policy,
    /// Cars with a message that may be on its way.
    on_the_way: BTreeSet<Plate>,
    acknowledged: Acknowledged,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<ItemResult>,
}

#[derive(Deserialize)]
struct ItemResult {
    recorded: Option<String>,
}

impl<'a> Player<'a> {
    pub(super) fn new(stage: &'a Stage, trace: &'a Trace) -> Self {
        Self {
            stage,
            trace,
            policy: Policy::default(),
            on_the_way: BTreeSet::new(),
            acknowledged: Acknowledged::new(),
        }
    }

    /// Plays all of it; `show` hears the time and how many events are in.
    pub(super) async fn play(
        mut self,
        speed: Speed,
        mut show: impl FnMut(Timestamp, usize),
    ) -> Result<Acknowledged, Failure> {
        let began = Instant::now();
        let mut done = 0;
        let first = self.trace.events.first().map(|event| event.received);
        let together = self.trace.events.chunk_by(|one, next| one.received == next.received);
        for events in together.flat_map(|events| events.chunks(BATCH)) {
            let Some(now) = events.first().map(|event| event.received) else {
                continue;
            };
            self.advance(now).await?;
            if let Some(pause) = first.and_then(|first| speed.real_time(now.duration_since(first))) {
                tokio::time::sleep_until((began + pause).into()).await;
            }
            if events
                .iter()
                .filter_map(|event| event.car.as_ref())
                .any(|car| self.on_the_way.contains(car))
            {
                self.arrive().await?;
            }
            self.post(events).await?;
            done += events.len();
            show(now, done);
        }
        self.arrive().await?;
        Ok(self.acknowledged)
    }

    /// Moves the clock, from one due time to the next.
    async fn advance(&mut self, to: Timestamp) -> Result<(), Failure> {
        let clock = &self.stage.clock;
        loop {
            let now = clock.now();
            if to.duration_since(now) > PAUSE {
                self.arrive().await?;
            }
            match self
                .stage
                .service
                .store()
                .next_due()
                .await
                .map_err(|error| unreadable(&error))?
            {
                Some(due) if due > now && due <= to => {
                    clock.set(due);
                    self.arrive().await?;
                }
                Some(_) | None => break,
            }
        }
        clock.set(to);
        Ok(())
    }

    /// Returns when nothing is due or under way.
    async fn arrive(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        while self.is_on_the_way().await? {
            if Instant::now() > end {
                return Err(Failure::new(Exit::Later, "calls do not end: the machine is too busy")
                    .hint("try again with a lower --speed"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.on_the_way.clear();
        Ok(())
    }

    async fn is_on_the_way(&self) -> Result<bool, Failure> {
        let now = self.stage.clock.now();
        let mut after = 0;
        loop {
            let filter = OutboxFilter {
                status: Status::Waiting,
                circle: None,
                reason: None,
                after,
                limit: PAGE,
            };
            let page = self
                .stage
                .service
                .store()
                .outbox(filter)
                .await
                .map_err(|error| unreadable(&error))?;
            let moves = |place: &Place| matches!(place, Place::Waiting(waiting) if waiting.in_flight || waiting.due_at.is_some_and(|due| due <= now));
            if page.iter().any(|entry| moves(&entry.place)) {
                return Ok(true);
            }
            match page.last() {
                Some(last) if page.len() >= PAGE as usize => after = last.id,
                Some(_) | None => return Ok(false),
            }
        }
    }

    async fn post(&mut self, events: &[Event]) -> Result<(), Failure> {
        let body: Vec<_> = events.iter().map(|event| self.json(event)).collect();
        let (status, answer) = self.stage.poster.events(json!(body).to_string().into()).await?;
        // 422 says that none of them can be read, which is counted as any other.
        if status != http::StatusCode::UNPROCESSABLE_ENTITY {
            accepted(status, &answer)?;
        }
        let at = Instant::now();
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| {
            Failure::new(Exit::Unexpected, "the service answered something else").cause(error.to_string())
        })?;
        for (event, result) in events.iter().zip(answer.results) {
            let Some(car) = event
                .car
                .as_ref()
                .filter(|_| result.recorded.as_deref() == Some("queued"))
            else {
                continue;
            };
            let crossed = event.at(&self.policy);
            // What is back-dated, or ahead of its time, waits on purpose: its time does not count.
            let age = event.received.duration_since(crossed);
            if (SignedDuration::ZERO..=self.policy.backdated_after).contains(&age) {
                self.on_the_way.insert(car.clone());
                let key = (car.expose().to_owned(), event.state, crossed.as_second());
                self.acknowledged.insert(key, at);
            }
        }
        Ok(())
    }

    fn json(&self, event: &Event) -> serde_json::Value {
        let lane = &self.trace.lanes[event.lane];
        let lot = self.trace.lot_of(lane);
        let mut json = json!({
            "lot": format!("L{lot}"),
            "gate": format!("G{}", event.lane),
            "plate": event.plate,
            "state": event.state,
        });
        if let Some(at) = event.claimed {
            json["time"] = json!(at.to_string());
        }
        if !event.record_id.is_empty() {
            json["id"] = json!(event.record_id);
        }
        json
    }
}

fn unreadable(error: &StoreError) -> Failure {
    Failure::new(Exit::Unexpected, "the outbox cannot be read").cause(error.to_string())
}

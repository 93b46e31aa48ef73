//! Plays the day over HTTP, as the gates and the member system would, and notes when each message was acknowledged.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::day::{Day, Step, What};
use super::poster::{Poster, accepted};
use super::told::Acknowledged;
use crate::cli::{Exit, Failure};
use crate::clock::Clock;
use crate::domain::gate::Direction;

/// Steps this close together overlap.
const WINDOW: SignedDuration = SignedDuration::from_secs(15);

/// Plays the steps of a day.
pub(super) struct Player {
    poster: Poster,
}

impl Player {
    pub(super) const fn new(poster: Poster) -> Self {
        Self { poster }
    }

    /// Plays all steps; `show` hears the time and how many are done.
    pub(super) async fn play(
        &self,
        day: &Day,
        clock: &Clock,
        mut show: impl FnMut(Timestamp, usize),
    ) -> Result<Acknowledged, Failure> {
        let mut acknowledged = Acknowledged::new();
        let mut left = day.steps();
        while let Some(first) = left.first() {
            let end = first.at + WINDOW;
            let (window, rest) = left.split_at(left.iter().position(|step| step.at > end).unwrap_or(left.len()));
            left = rest;
            clock.set(window.last().map_or(end, |step| step.at));
            for done in self.play_window(window).await? {
                acknowledged.extend(done);
            }
            show(clock.now(), day.steps().len() - left.len());
        }
        Ok(acknowledged)
    }

    /// What happens close together overlaps, but one car's messages keep their order.
    async fn play_window(&self, window: &[Step]) -> Result<Vec<Acknowledged>, Failure> {
        let mut groups: BTreeMap<u64, Vec<Task>> = BTreeMap::new();
        for step in window {
            groups.entry(step.group).or_default().push(Task::of(step));
        }
        let mut running = JoinSet::new();
        for tasks in groups.into_values() {
            let poster = self.poster.clone();
            running.spawn(async move {
                let mut acknowledged = Acknowledged::new();
                for task in tasks {
                    if let Some(tells) = task.run(&poster).await? {
                        acknowledged.insert(tells, Instant::now());
                    }
                }
                Ok::<_, Failure>(acknowledged)
            });
        }
        let mut done = Vec::new();
        while let Some(finished) = running.join_next().await {
            done.push(
                finished
                    .map_err(|error| Failure::new(Exit::Unexpected, "a gate broke off").cause(error.to_string()))??,
            );
        }
        Ok(done)
    }
}

/// A step on its way, with nothing borrowed.
enum Task {
    Post {
        lot: &'static str,
        gate: &'static str,
        content_type: &'static str,
        body: Bytes,
        tells: Option<(String, Direction, i64)>,
    },
    Bind {
        openid: String,
        plate: String,
    },
}

impl Task {
    fn of(step: &Step) -> Self {
        match &step.what {
            What::Post { gate, message, tells } => Self::Post {
                lot: gate.lot,
                gate: gate.id,
                content_type: message.content_type,
                body: message.body.clone().into(),
                tells: tells.clone(),
            },
            What::Bind { openid, plate } => Self::Bind {
                openid: openid.clone(),
                plate: plate.clone(),
            },
        }
    }

    async fn run(self, poster: &Poster) -> Result<Option<(String, Direction, i64)>, Failure> {
        match self {
            Self::Post {
                lot,
                gate,
                content_type,
                body,
                tells,
            } => {
                let (status, answer) = poster.gate(lot, gate, content_type, body).await?;
                accepted(status, &answer)?;
                Ok(tells)
            }
            Self::Bind { openid, plate } => {
                poster.bind(&openid, &plate).await?;
                Ok(None)
            }
        }
    }
}

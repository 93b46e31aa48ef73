//! The end of a seed: everything calms down, and the books are compared.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parksync::domain::delivery::Scope;
use parksync::store::sqlite::inline::set_fate;
use parksync::store::{OutboxFilter, Status, Store};

use crate::run::Sim;
use crate::wechat::{Mood, TIME_TO_LIVE};
use crate::world::{Pair, Told};

impl Sim {
    /// WeChat Pay feels well, and nothing pauses for a rush.
    pub(crate) async fn calm_down(&mut self) {
        {
            let mut mood = self.wechat.mood.lock().unwrap();
            *mood = Mood {
                ceiling: mood.ceiling,
                came: std::mem::take(&mut mood.came),
                ..Mood::default()
            };
        }
        if self.rush_until.is_some() {
            self.end_rush().await;
        }
    }

    pub(crate) async fn drain(&mut self) {
        set_fate(None);
        self.live_on().await;
        self.calm_down().await;
        if let Some(since) = self.held_since {
            // Longer than messages live: what waited that long must not be told any more.
            self.wait_until(since + TIME_TO_LIVE + SignedDuration::from_mins(12))
                .await;
            let (store, _) = self.some_store().await;
            store.release(Scope::Circle, "south".to_owned()).await.unwrap();
        }
        if self.scale.is_shared() {
            self.one_stays().await;
        }
        for _ in 0..600 {
            let (store, _) = self.some_store().await;
            let counters = store.counters().await.unwrap();
            let waiting: i64 = counters
                .iter()
                .filter(|counter| counter.name == "waiting" && counter.word == "waiting")
                .map(|counter| counter.value)
                .sum();
            if waiting == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        self.book
            .lock()
            .unwrap()
            .wrong("something still waits after five quiet hours");
    }

    /// Whoever is frozen or cut off comes back; all leave in good order; one that is in no hurry stays.
    async fn one_stays(&mut self) {
        for machine in &self.machines {
            if let Some(process) = &machine.process {
                process.trouble.lose_claim.store(false, Ordering::Relaxed);
                process.trouble.freeze_in_claim.lock().unwrap().take();
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.lanes_are_free_in_time();
        for machine in 0..self.machines.len() {
            self.stop(machine).await;
            self.machines[machine].back_at = Timestamp::MAX;
        }
        let wrong = &self.machines[0].wrong;
        wrong.ahead_ms.store(0, Ordering::Relaxed);
        self.start(0, true).await;
    }

    pub(crate) async fn hold_against_truth(&mut self) {
        let (store, _) = self.some_store().await;
        let list = |status| OutboxFilter {
            status,
            circle: None,
            reason: None,
            after: 0,
            limit: 10_000,
        };
        let dead = store.outbox(list(Status::Dead)).await.unwrap();
        let mut book = self.book.lock().unwrap();
        if book.reassertions > book.lost_claims {
            let (told, lost) = (book.reassertions, book.lost_claims);
            book.wrong(format!(
                "{told} states were told again for {lost} claims that were lost"
            ));
        }
        let mut expired: Vec<(Pair, Timestamp)> = Vec::new();
        for entry in dead {
            let pair = (entry.openid.expose().to_owned(), entry.plate.expose().to_owned());
            let key = (pair, entry.at);
            let is_expired = format!("{:?}", entry.place).contains("time to live");
            if is_expired {
                expired.push(key);
            } else if !book.killed.contains(&key) {
                book.wrong(format!(
                    "given up without need: {} {} of {}: {:?}",
                    entry.state, entry.at, key.0.1, entry.place
                ));
            }
        }
        let bound: Vec<Pair> = book
            .bound
            .iter()
            .filter(|(_, bound)| **bound)
            .map(|(pair, _)| pair.clone())
            .collect();
        for pair in bound {
            let Some(newest) = newest(&book.told, &pair.1) else {
                continue;
            };
            let key = (pair.clone(), newest.at);
            let old = newest.acknowledged_at.duration_since(newest.at) > SignedDuration::from_hours(12);
            let before = book
                .bound_at
                .get(&pair)
                .is_some_and(|bound_at| newest.acknowledged_at <= *bound_at);
            if old || before || book.killed.contains(&key) || expired.contains(&key) {
                continue;
            }
            let held = book
                .accepted
                .get(&pair)
                .and_then(|log| log.last())
                .map(|last| (last.state, last.at));
            if held != Some((newest.state, newest.at)) {
                book.wrong(format!(
                    "WeChat Pay holds {held:?} of {} for {}, the truth is {} {} (replay: {})",
                    pair.1,
                    pair.0,
                    newest.state,
                    newest.at,
                    newest.batch.is_some()
                ));
            }
        }
    }
}

pub(crate) fn newest(told: &BTreeMap<String, Vec<Told>>, plate: &str) -> Option<Told> {
    told.get(plate)?.iter().max_by_key(|told| told.at).cloned()
}

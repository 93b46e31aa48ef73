//! What goes wrong in the world of a seed, and right again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;
use parksync::domain::delivery::{Outcome, Scope, Verdict};
use parksync::domain::gate::{Direction, Read, TimeSource};
use parksync::domain::plate::Plate;
use parksync::limits;
use parksync::store::{ClaimRequest, NodeId, Settled, Store};

use crate::gates::Message;
use crate::ice::Kind;
use crate::machine::{Machine, Process};
use crate::run::{Sim, circle_of};
use crate::truth::newest;
use crate::world::{Pair, story};

/// How far the clock of the database is set at most: what is left of a claim when a call leaves under it is longer.
pub(crate) const STORE_CLOCK_STEP: Duration = Duration::from_millis(1_500);

impl Sim {
    /// Something goes wrong, or right again.
    pub(crate) async fn trouble(&mut self) {
        let is_slow = self.scale.is_shared() && self.scale.ceiling < 1.0;
        if is_slow && self.rush_until.is_none() && self.dice.in_hundred(25) {
            self.rush().await;
        } else if self.scale.is_shared() && self.dice.in_hundred(60) {
            self.trouble_of_many().await;
        } else {
            self.trouble_of_any().await;
        }
        self.live_on().await;
        self.lanes_are_free_in_time();
    }

    async fn trouble_of_any(&mut self) {
        let calm = self.scale.calm;
        match self.dice.below(12) {
            0 | 1 if !calm => {
                let machine = self.some_well().await;
                self.die(machine).await;
            }
            2 if !calm => {
                self.book.lock().unwrap().disturbed = true;
                let most = if self.scale.is_shared() {
                    limits::NODE_CLOCK.as_secs()
                } else {
                    60
                };
                let jump = i64::try_from(self.dice.below(2 * most.unsigned_abs())).unwrap() - most;
                let machine = usize::try_from(self.dice.below(self.machines.len() as u64)).unwrap();
                let Machine { wrong, process, .. } = &self.machines[machine];
                story(|| format!("the clock of machine {machine} is set {jump} s ahead"));
                match process {
                    Some(process) => process.ice.set_clock(jump * 1000),
                    None => wrong.ahead_ms.store(jump * 1000, Ordering::Relaxed),
                }
                // A wait goes by the clock that was set.
                self.wechat.nobody_may_have_heard();
            }
            3 | 4 => self.wechat.mood.lock().unwrap().bad = 60,
            5 => self.wechat.mood.lock().unwrap().bad = 5,
            6 => {
                let circle = if self.dice.in_hundred(50) { "north" } else { "south" };
                let mut mood = self.wechat.mood.lock().unwrap();
                mood.refused_circle = mood.refused_circle.is_none().then(|| circle.to_owned());
                mood.refused = None;
                mood.was_released = false;
            }
            7 => {
                let pair = self.some_pair();
                if self.book.lock().unwrap().bound.get(&pair).copied().unwrap_or(false) {
                    self.unbind(&pair).await;
                }
            }
            8 | 9 => {
                let pair = self.some_pair();
                if !self.book.lock().unwrap().bound.get(&pair).copied().unwrap_or(false) {
                    self.bind(&pair).await;
                }
            }
            10 => self.settle_by_a_ghost().await,
            11 if self.scale.is_shared() => self.rush().await,
            11 if self.held_since.is_none() && self.dice.in_hundred(25) => {
                let (store, now) = self.some_store().await;
                if store
                    .hold(Scope::Circle, "south".to_owned(), "by hand".to_owned(), now)
                    .await
                    .is_ok()
                {
                    self.held_since = Some(self.true_now());
                }
            }
            _ => {}
        }
    }

    /// What only happens to a process that is not the only one.
    async fn trouble_of_many(&mut self) {
        let machine = self.some_well().await;
        let long = Duration::from_secs(1 + self.dice.below(40));
        let kind = [Kind::Process, Kind::Machine, Kind::MachineAndWall][usize::try_from(self.dice.below(3)).unwrap()];
        self.wechat.nobody_may_have_heard();
        match self.dice.below(9) {
            0 => self.die(machine).await,
            1 => self.process(machine).ice.freeze(long, kind),
            2 | 3 => {
                let trouble = &self.process(machine).trouble;
                *trouble.freeze_in_claim.lock().unwrap() = Some((long, kind));
            }
            4 => {
                story(|| format!("machine {machine} cannot reach the database for {long:?}"));
                self.process(machine).trouble.cut(long);
            }
            5 => self.leave(machine).await,
            6 => {
                let most = u64::try_from(STORE_CLOCK_STEP.as_millis()).unwrap();
                let ahead = i64::try_from(self.dice.below(most)).unwrap();
                story(|| format!("the clock of the database is set {ahead} ms ahead"));
                self.store_wrong.ahead_ms.store(ahead, Ordering::Relaxed);
            }
            _ => {
                self.frozen_sender().await;
            }
        }
    }

    fn process(&self, machine: usize) -> &Process {
        self.machines[machine].process.as_ref().unwrap()
    }

    fn some_pair(&mut self) -> Pair {
        let at = self.dice.below(self.members.len() as u64);
        self.members[usize::try_from(at).unwrap()].clone()
    }

    /// A process leaves in good order; a moment before, the answer to a claim of it was lost. Another one comes.
    async fn leave(&mut self, machine: usize) {
        let trouble = self.process(machine).trouble.clone();
        trouble.lose_claim.store(true, Ordering::Relaxed);
        for _ in 0..20 {
            if !trouble.lose_claim.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if self.machines[machine].process.as_ref().is_some_and(Process::is_well) {
            self.stop(machine).await;
        }
    }

    pub(crate) async fn stop(&mut self, machine: usize) {
        let Some(node) = self.machines[machine].stop().await else {
            return;
        };
        self.machines[machine].back_at = self.true_now() + Duration::from_secs(self.dice.below(20));
        let look = self.look.as_ref().unwrap();
        let held: i64 = look
            .query_row("SELECT count(*) FROM lane WHERE node_id = ?1", [node.0], |row| {
                row.get(0)
            })
            .unwrap();
        if held > 0 {
            let mut book = self.book.lock().unwrap();
            book.wrong(format!("a node that left in good order still holds {held} lanes"));
        }
    }

    /// Everything pauses by hand for some minutes; then much is due at once.
    async fn rush(&mut self) {
        for circle in ["north", "south"] {
            let (store, now) = self.some_store().await;
            let _ = store
                .hold(Scope::Circle, circle.to_owned(), "by hand".to_owned(), now)
                .await;
        }
        self.rush_until = Some(self.true_now() + SignedDuration::from_secs(200));
    }

    pub(crate) async fn end_rush(&mut self) {
        self.rush_until = None;
        self.wechat.mood.lock().unwrap().was_released = true;
        for circle in ["north", "south"] {
            loop {
                let (store, _) = self.some_store().await;
                if store.release(Scope::Circle, circle.to_owned()).await.is_ok() {
                    break;
                }
                self.live_on().await;
            }
        }
    }

    /// The worst moment: a process freezes between its last look at the claim and the send. Its lane is taken over, the message is
    /// repeated, a newer one follows, and then the old one arrives. Says whether it came to that.
    async fn frozen_sender(&mut self) -> bool {
        let fit: Vec<Pair> = {
            let book = self.book.lock().unwrap();
            let is_bound = |pair: &Pair| book.bound.get(pair).copied().unwrap_or(false);
            let is_fit = |pair: &&Pair| is_bound(pair) && !self.turning.contains(&pair.1);
            self.members.iter().filter(is_fit).cloned().collect()
        };
        if fit.is_empty() {
            return false;
        }
        let pair = &fit[usize::try_from(self.dice.below(fit.len() as u64)).unwrap()];
        let frozen = Duration::from_secs(16 + self.dice.below(20));
        self.wechat.mood.lock().unwrap().fumble = Some((pair.0.clone(), frozen));
        self.cross(&pair.1).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        if self.wechat.mood.lock().unwrap().fumble.take().is_some() {
            return false;
        }
        self.wechat.nobody_may_have_heard();
        let free_again = limits::LEASE.unsigned_abs() - Duration::from_secs(2);
        tokio::time::sleep(free_again).await;
        self.cross(&pair.1).await;
        true
    }

    /// After a quiet while, the worst moment once more. Nothing that comes later can cover what it left behind.
    pub(crate) async fn last_word(&mut self) {
        self.calm_down().await;
        tokio::time::sleep(Duration::from_secs(90)).await;
        for _ in 0..4 {
            if self.frozen_sender().await {
                break;
            }
        }
    }

    /// A car crosses a gate at this moment, in the direction that is left to it.
    async fn cross(&mut self, plate: &str) {
        let now = self.true_now();
        let last = newest(&self.book.lock().unwrap().told, plate);
        if last.as_ref().is_some_and(|last| last.at >= now) {
            return;
        }
        let state = match last.map(|last| last.state) {
            Some(Direction::In) => Direction::Out,
            Some(Direction::Out) | None => Direction::In,
        };
        let message = Message {
            send_at: now,
            plate: plate.to_owned(),
            circle: circle_of(plate).to_owned(),
            read: Read {
                plate: Plate::from_stored(plate.to_owned()),
                state,
                at: now,
                time_source: TimeSource::Sender,
                record_id: Some(format!("{plate}-at-{}", now.as_millisecond())),
                device: None,
                replayed: false,
            },
            batch: None,
            must_be: None,
            turns_round: false,
        };
        self.possible(&message);
        self.post(&message).await;
    }

    /// A lane whose claim ended is free two beats later, as long as any process is well.
    pub(crate) fn lanes_are_free_in_time(&mut self) {
        if !self.scale.is_shared() {
            return;
        }
        let beats = limits::BEAT * 2 + Duration::from_millis(200);
        let somebody = self
            .machines
            .iter()
            .filter_map(|machine| machine.process.as_ref())
            .any(|process| process.is_well() && process.well_since().elapsed() > beats + limits::BEAT);
        if !somebody {
            return;
        }
        let latest = (self.store_clock.now() - SignedDuration::try_from(beats).unwrap()).as_millisecond();
        let look = self.look.as_ref().unwrap();
        let late: i64 = look
            .query_row(
                "SELECT count(*) FROM lane WHERE node_id IS NOT NULL AND lease_until < ?1",
                [latest],
                |row| row.get(0),
            )
            .unwrap();
        if late > 0 {
            let mut book = self.book.lock().unwrap();
            book.wrong(format!("{late} lanes were not taken over within two beats"));
        }
    }

    /// A claim that was given back long ago is settled once more, as by a process that was frozen meanwhile.
    async fn settle_by_a_ghost(&mut self) {
        if self.scale.calm || self.scale.is_shared() {
            return;
        }
        self.book.lock().unwrap().disturbed = true;
        let (store, now) = self.some_store().await;
        // Also what is not due yet: there is hardly ever anything that the worker has not taken.
        let ahead = now + SignedDuration::from_hours(1);
        let Ok(leases) = store.claim(ClaimRequest::new(NodeId(0), ahead, 1)).await else {
            return;
        };
        let Some(lease) = leases.into_iter().next() else { return };
        let settled = |outcome, verdict| Settled {
            lease: lease.clone(),
            began_at: now,
            took_ms: 1,
            outcome,
            verdict,
        };
        let back = settled(
            Outcome::NotSent {
                why: "ghost".to_owned(),
            },
            Verdict::RetryAt {
                at: now + SignedDuration::from_secs(60),
                counts: false,
            },
        );
        while store.settle(vec![back.clone()]).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let again = settled(
            Outcome::Accepted {
                request_id: "ghost".to_owned(),
            },
            Verdict::Delivered,
        );
        if let Ok(0) = store.settle(vec![again]).await {
            self.book
                .lock()
                .unwrap()
                .wrong("a claim that was given back could still settle");
        }
    }
}

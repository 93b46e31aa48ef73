//! What a group of gate events does, worked out in memory. A store loads what is known of their cars, asks, and writes down what
//! changed. No SQL here, no I/O.

mod parted;
mod rows;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::vault::{Tag, Vault};
use super::{GateEvent, MEMBERS_PER_PLATE, Recorded};
use crate::domain::gate::{Direction, TimeSource};
use crate::domain::presence::{self, Arrival, At, Crossing, LaneView, Policy, Seen, Step, Tell, Visit};
use crate::sabotage::{self, Sabotage};
use rows::{HELD, REPLACED, TURNED_ROUND};

pub(super) use rows::{
    Car, CarKey, Cause, Changes, Counts, Listener, NewEvent, NewMessage, PartedEvent, Place, ReadRow, VisitRow, Waits,
};

/// One gate event with everything that does not depend on what is stored.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) event: GateEvent,
    /// When the car crossed, after a wrong clock was found out.
    pub(super) at: Timestamp,
    pub(super) time_source: TimeSource,
    pub(super) plate_tag: Tag,
    /// What makes a resend the same event.
    pub(super) dedupe: Tag,
    /// The key under which the sender's own record is found again.
    pub(super) record_tag: Option<Tag>,
}

impl Prepared {
    pub(super) fn new(vault: &Vault, event: GateEvent) -> Self {
        let (at, time_source) = presence::trusted_time(event.read.at, event.received_at, &event.policy);
        Self {
            at,
            time_source,
            plate_tag: vault.plate_tag(&event.read.plate),
            dedupe: dedupe_tag(vault, &event),
            record_tag: event
                .read
                .record_id
                .as_ref()
                .map(|id| record_tag(vault, &event.circle, &event.lot, id)),
            event,
        }
    }

    fn car(&self) -> CarKey {
        (self.event.circle.clone(), self.plate_tag)
    }
}

/// What makes a resend the same event: the sender's own record, or everything it says.
fn dedupe_tag(vault: &Vault, event: &GateEvent) -> Tag {
    if sabotage::is(Sabotage::NoDedupe) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        return vault.tag(&["never the same", &NUMBER.fetch_add(1, Ordering::Relaxed).to_string()]);
    }
    let read = &event.read;
    let (circle, lot) = (&*event.circle, &*event.lot);
    let gate = event.gate.as_deref().unwrap_or_default();
    let (state, plate) = (read.state.as_str(), read.plate.expose());
    match &read.record_id {
        // The plate belongs to it: a corrected plate under the same record is news.
        Some(id) => vault.tag(&["record", circle, lot, gate, id, state, plate]),
        None => {
            let device = read.device.as_deref().unwrap_or_default();
            let at = read.at.as_millisecond().to_string();
            vault.tag(&["content", circle, lot, gate, device, state, plate, &at])
        }
    }
}

/// The key under which a sender's own record is found again.
pub(super) fn record_tag(vault: &Vault, circle: &str, lot: &str, id: &str) -> Tag {
    vault.tag(&["amend", circle, lot, id])
}

/// What is known of the cars of a group of events, and what has changed.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) cars: HashMap<CarKey, Car>,
    /// Events that are known.
    pub(super) seen: HashSet<Tag>,
    /// Numbers for new rows.
    pub(super) event_ids: std::vec::IntoIter<i64>,
    pub(super) visit_ids: std::vec::IntoIter<i64>,
    pub(super) changes: Changes,
}

impl Book {
    /// Takes one event of the group in. `None`: more has to be loaded first. What was taken in until then has to be saved, and this
    /// event and those behind it are for another book.
    pub(super) fn record(&mut self, index: usize, one: &Prepared) -> Option<Recorded> {
        let recorded = if self.seen.contains(&one.dedupe) {
            Recorded::Duplicate
        } else {
            self.record_new(index, one)?
        };
        let lot = &one.event.lot;
        count(&mut self.changes.counts, "event", lot, recorded.word(), 1);
        if one.time_source == TimeSource::Receipt {
            count(&mut self.changes.counts, "clock", lot, "ahead", 1);
        }
        Some(recorded)
    }

    fn record_new(&mut self, index: usize, one: &Prepared) -> Option<Recorded> {
        let event = &one.event;
        let crossing = Crossing {
            lot: &event.lot,
            state: event.read.state,
            at: one.at,
        };
        let key = one.car();
        let car = self.cars.entry(key.clone()).or_default();
        let of_member = !car.listeners.is_empty();
        let (mut step, mut visit, mut parted) = (None, None, None);
        if !event.policy.inner {
            let followed = presence::follow(car.last_visit().as_ref(), crossing, &event.policy);
            parted = car.parted_by(crossing, followed, &event.policy)?;
            let before = car.visits.clone();
            let (followed, moved) = match &parted {
                Some(parted) => parted.split(car, one, crossing, &mut self.visit_ids, &mut self.changes),
                None => car.follow(followed, one, crossing, &mut self.visit_ids, &mut self.changes.counts),
            };
            (step, visit) = (Some(followed), moved);
            for row in car.visits.iter_mut().filter(|row| Some(row.id) == moved) {
                row.of_member |= of_member;
            }
            for row in car.visits.iter().filter(|row| !before.contains(row)) {
                self.changes.visits.insert(row.id, (key.clone(), row.clone()));
            }
            // This read is one more of them.
            car.reads = None;
        }
        self.seen.insert(one.dedupe);
        let event_id = self.event_ids.next().expect("there is a number for each event");
        let arrival = Arrival {
            received_at: event.received_at,
            replayed: event.read.replayed,
        };
        let tells = match step {
            None | Some(Step::Merged) => Vec::new(),
            Some(_) => car.tell(&mut self.changes, index, one, event_id, crossing, arrival, &[]),
        };
        let recorded = summary(step, of_member, &tells);
        self.changes.events.push(NewEvent {
            index,
            id: event_id,
            visit,
            of_member,
            recorded,
        });
        if let Some(parted) = parted {
            parted.tell(car, &mut self.changes, index, one);
        }
        Some(recorded)
    }
}

impl Car {
    /// Moves the visit and says how, and which one it was.
    fn follow(
        &mut self,
        step: Step,
        one: &Prepared,
        crossing: Crossing<'_>,
        visit_ids: &mut std::vec::IntoIter<i64>,
        counts: &mut Counts,
    ) -> (Step, Option<i64>) {
        let now = one.event.received_at;
        let mut opened = VisitRow::default();
        match (step, crossing.state, self.visits.last_mut()) {
            (Step::Merged, Direction::In, Some(last)) => {
                last.entered_at = last.entered_at.min(Some(crossing.at));
                last.reread = true;
            }
            (Step::Merged, Direction::Out, Some(last)) => {
                last.left_at = last.left_at.max(Some(crossing.at));
                last.reread = true;
            }
            (Step::Left, _, Some(last)) => last.leave(crossing.lot, crossing.at, now),
            (Step::Opened | Step::Reopened, _, last) => {
                if step == Step::Reopened {
                    if let Some(last) = last.filter(|last| last.ended.is_none()) {
                        last.ended = Some("no-exit-seen".to_owned());
                        last.forget_from = Some(now);
                    }
                    count(counts, "visit", crossing.lot, "no-exit-seen", 1);
                }
                opened.entered_lot = Some(crossing.lot.to_owned());
                opened.entered_at = Some(crossing.at);
            }
            (Step::LeftUnseen, ..) => {
                count(counts, "visit", crossing.lot, "no-entry-seen", 1);
                opened.leave(crossing.lot, crossing.at, now);
            }
            (Step::Late | Step::Merged | Step::Left, ..) => {}
        }
        if matches!(step, Step::Opened | Step::Reopened | Step::LeftUnseen) {
            opened.id = visit_ids.next().expect("there is a number for each event");
            self.visits.push(opened);
        }
        (step, self.visits.last().map(|visit| visit.id))
    }

    /// Puts a crossing into the lanes of the members, but for those who have it. Returns what became of it in each.
    #[expect(clippy::too_many_arguments, reason = "what is told, of which event, and how it came")]
    fn tell(
        &mut self,
        changes: &mut Changes,
        index: usize,
        one: &Prepared,
        event_id: i64,
        crossing: Crossing<'_>,
        arrival: Arrival,
        but_for: &[i64],
    ) -> Vec<Tell> {
        let policy = &one.event.policy;
        let listeners = self
            .listeners
            .iter_mut()
            .filter(|listener| !but_for.contains(&listener.member));
        let mut tells = Vec::new();
        for listener in listeners {
            let tell = presence::tell(listener.view(policy), crossing, arrival, policy);
            let message = NewMessage {
                index,
                event_id,
                member: listener.member,
                state: crossing.state,
                at: crossing.at,
                not_before: one.event.received_at,
                status: "waiting",
                reason: None,
            };
            listener.apply(changes, one, tell, message);
            tells.push(tell);
        }
        tells
    }

    /// The latest visit, as decisions see it.
    pub(super) fn last_visit(&self) -> Option<Visit> {
        let (last, before) = self.visits.split_last()?;
        let seen = |lot: &Option<String>, at: Option<Timestamp>| {
            let (lot, at) = (lot.clone()?, at?);
            Some(Seen { lot, at })
        };
        Some(Visit {
            entered: seen(&last.entered_lot, last.entered_at),
            left: seen(&last.left_lot, last.left_at),
            before: before.last().and_then(|before| before.entered_at.max(before.left_at)),
        })
    }
}

impl VisitRow {
    fn leave(&mut self, lot: &str, at: Timestamp, now: Timestamp) {
        self.left_lot = Some(lot.to_owned());
        self.left_at = Some(at);
        self.ended = Some("left".to_owned());
        self.forget_from = Some(now);
    }
}

impl Listener {
    fn view(&self, policy: &Policy) -> LaneView {
        LaneView {
            told: self.told,
            waiting: self.newest(|_| true).map(|at| self.waiting[at].at),
            other_car_inside: policy.one_car_is_enough && self.other_car_inside,
        }
    }

    /// The place of the newest message that is asked for. Of equal times the later one counts.
    fn newest(&self, wanted: impl Fn(At) -> bool) -> Option<usize> {
        let places = self.waiting.iter().enumerate().filter(|(_, waits)| wanted(waits.at));
        places
            .max_by_key(|(place, waits)| (waits.at.at, *place))
            .map(|(place, _)| place)
    }

    fn apply(&mut self, changes: &mut Changes, one: &Prepared, tell: Tell, mut message: NewMessage) {
        let (circle, now) = (&one.event.circle, one.event.received_at);
        let at = At {
            state: message.state,
            at: message.at,
        };
        match tell {
            Tell::Queue {
                not_before,
                supersedes_older,
            } => {
                if supersedes_older {
                    let (older, newer) = self.waiting.iter().partition(|waits| waits.at.at <= at.at);
                    self.waiting = newer;
                    supersede(changes, circle, older, REPLACED, now);
                }
                message.not_before = not_before;
                self.waiting.push(Waits {
                    at,
                    place: Place::New(changes.messages.len()),
                });
                changes.lanes.insert(self.member);
                changes.messages.push(message);
                count(&mut changes.counts, "waiting", circle, "waiting", 1);
            }
            Tell::CancelOut => {
                let entry = self.newest(|waits| waits.state == Direction::In && waits.at <= at.at);
                let taken = entry.map(|place| self.waiting.remove(place));
                supersede(changes, circle, taken.into_iter().collect(), TURNED_ROUND, now);
                changes.lanes.insert(self.member);
            }
            Tell::Hold => {
                message.status = "held";
                message.reason = Some(HELD);
                changes.messages.push(message);
                count(&mut changes.counts, "waiting", circle, "held", 1);
            }
            Tell::OlderThanTold | Tell::OlderThanWaiting | Tell::OtherCarInside => {}
        }
    }
}

fn supersede(changes: &mut Changes, circle: &str, out: Vec<Waits>, why: &'static str, now: Timestamp) {
    for waits in &out {
        match waits.place {
            Place::Stored(id) => changes.superseded.push((id, why, now)),
            Place::New(index) => {
                changes.messages[index].status = "superseded";
                changes.messages[index].reason = Some(why);
            }
        }
    }
    leave_waiting(&mut changes.counts, circle, "superseded", out.len());
}

/// Counts what left the waiting ones, and how.
pub(super) fn leave_waiting(counts: &mut Counts, circle: &str, word: &str, by: usize) {
    if by > 0 {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        count(counts, "waiting", circle, "waiting", -by);
        count(counts, "delivery", circle, word, by);
    }
}

pub(super) fn count(counts: &mut Counts, name: &'static str, scope: &str, word: &str, by: i64) {
    *counts.entry((name, scope.to_owned(), word.to_owned())).or_default() += by;
}

/// What to tell the sender, in one word.
fn summary(step: Option<Step>, has_member: bool, tells: &[Tell]) -> Recorded {
    match step {
        None => return Recorded::Inner,
        Some(Step::Merged) => return Recorded::Merged,
        Some(_) if !has_member => return Recorded::NoMember,
        Some(_) => {}
    }
    let queued = tells.iter().filter(|tell| matches!(tell, Tell::Queue { .. })).count();
    if queued > 0 {
        return Recorded::Queued(u32::try_from(queued).unwrap_or(MEMBERS_PER_PLATE));
    }
    let any = |wanted: Tell| tells.contains(&wanted);
    if any(Tell::CancelOut) {
        Recorded::TurnedRound
    } else if any(Tell::OtherCarInside) {
        Recorded::OtherCarInside
    } else if any(Tell::Hold) {
        Recorded::Held
    } else {
        Recorded::History
    }
}

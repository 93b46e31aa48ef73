//! Re-reads that were none: a late crossing the other way lies between reads of one passage, so that the later ones are a passage of
//! their own. `presence::parted` decides; here it becomes two visits of one, and messages.

use jiff::Timestamp;

use super::{Car, Changes, PartedEvent, Prepared, ReadRow, VisitRow, summary};
use crate::domain::gate::Direction;
use crate::domain::presence::{self, Crossing, Policy, Step};
use crate::sabotage::{self, Sabotage};

/// A passage that was parted from the one before.
pub(super) struct Parted {
    lot: String,
    state: Direction,
    /// The latest read that stays with the passage before.
    before: Timestamp,
    /// The reads of the passage, in order. Never empty.
    reads: Vec<ReadRow>,
}

impl Car {
    /// The passage that a crossing parts from the reads of the other end of the last visit, if any. `None`: the reads must be loaded
    /// to say.
    pub(super) fn parted_by(&self, crossing: Crossing<'_>, step: Step, policy: &Policy) -> Option<Option<Parted>> {
        let Some(visit) = self.visits.last().filter(|visit| visit.reread) else {
            return Some(None);
        };
        // An exit among the entries of an open visit, an entry among the exits of one that ended.
        let (state, lot) = match (crossing.state, step) {
            (Direction::Out, Step::Left) => (Direction::In, &visit.entered_lot),
            (Direction::In, Step::Late) => (Direction::Out, &visit.left_lot),
            _ => return Some(None),
        };
        let Some(lot) = lot.as_ref().filter(|_| !sabotage::is(Sabotage::RereadsStayMerged)) else {
            return Some(None);
        };
        let of_this_end = |read: &&ReadRow| read.state == state && read.lot == *lot;
        let reads: Vec<&ReadRow> = self.reads.as_ref()?.iter().filter(of_this_end).collect();
        let times: Vec<_> = reads.iter().map(|read| read.at).collect();
        let parted = presence::parted(&times, crossing.at, policy).map(|after| Parted {
            lot: lot.clone(),
            state,
            before: times[after - 1],
            reads: reads[after..].iter().copied().cloned().collect(),
        });
        Some(parted)
    }
}

impl Parted {
    fn first(&self) -> &ReadRow {
        self.reads.first().expect("a passage has a read")
    }

    /// Makes two visits of one. Returns what the crossing did to the visits, and the visit it belongs to.
    pub(super) fn split(
        &self,
        car: &mut Car,
        one: &Prepared,
        crossing: Crossing<'_>,
        visit_ids: &mut std::vec::IntoIter<i64>,
        changes: &mut Changes,
    ) -> (Step, Option<i64>) {
        let now = one.event.received_at;
        let id = visit_ids.next().expect("there is a number for each event");
        let mut new = VisitRow {
            id,
            reread: self.reads.len() > 1,
            ..VisitRow::default()
        };
        let old = car.visits.last_mut().expect("its reads belong to a visit");
        new.of_member = old.of_member;
        let old_id = old.id;
        let moved = self.reads.iter().map(|read| (read.event_id, id));
        changes.moved.extend(moved);
        let step = match self.state {
            // The crossing is the exit of the visit; the later entries open another one.
            Direction::In => {
                old.leave(crossing.lot, crossing.at, now);
                new.entered_lot = Some(self.lot.clone());
                new.entered_at = Some(self.first().at);
                (Step::Left, Some(old_id))
            }
            // The crossing is an entry, and the later exits are its own.
            Direction::Out => {
                old.leave(&self.lot, self.before, now);
                new.entered_lot = Some(crossing.lot.to_owned());
                new.entered_at = Some(crossing.at);
                new.leave(&self.lot, self.reads.last().map_or(crossing.at, |read| read.at), now);
                (Step::Opened, Some(id))
            }
        };
        car.visits.push(new);
        step
    }

    /// Tells the members what was taken for a re-read, behind the crossing that parted it. It came when it came: it is as fresh as
    /// then.
    pub(super) fn tell(&self, car: &mut Car, changes: &mut Changes, index: usize, one: &Prepared) {
        let first = self.first();
        let crossing = Crossing {
            lot: &self.lot,
            state: self.state,
            at: first.at,
        };
        let told_to: Vec<i64> = self
            .reads
            .iter()
            .flat_map(|read| read.told_to.iter().copied())
            .collect();
        let of_member = !car.listeners.is_empty();
        let tells = car.tell(changes, index, one, first.event_id, crossing, first.arrival, &told_to);
        // Counters of events only grow: it stays counted as what it was taken for.
        changes.parted.push(PartedEvent {
            event_id: first.event_id,
            index,
            of_member,
            recorded: summary(Some(Step::Opened), of_member, &tells),
        });
    }
}

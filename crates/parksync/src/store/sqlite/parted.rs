//! Re-reads that were none, inside a transaction: a late crossing the other way lies between reads of one passage, so that the
//! later ones are a passage of their own. `record` finds the crossing; `presence::parted` decides.

use jiff::Timestamp;

use super::lanes::{Cause, Message};
use super::record::{apply, summary, tell as tell_member};
use super::{Failure, Tx, millis, timestamp};
use crate::domain::gate::Direction;
use crate::domain::presence::{self, Arrival, Crossing, Policy, Step, Visit};
use crate::sabotage::{self, Sabotage};
use crate::store::GateEvent;
use crate::store::vault::Tag;

/// A passage that was parted from the one before.
pub(super) struct Parted {
    lot: String,
    state: Direction,
    /// The latest read that stays with the passage before.
    before: Timestamp,
    first: Reread,
    /// Events of the passage, the first among them.
    events: Vec<i64>,
    last: Timestamp,
}

/// A read as its own event tells it.
struct Reread {
    event_id: i64,
    at: Timestamp,
    arrival: Arrival,
}

/// The passage that a crossing parts from the reads of the other end of a visit.
pub(super) fn find(
    tx: &Tx<'_>,
    id: i64,
    visit: &Visit,
    step: Step,
    crossing: Crossing<'_>,
    policy: &Policy,
) -> Result<Option<Parted>, Failure> {
    // An exit among the entries of an open visit, an entry among the exits of one that ended.
    let (state, end) = match (crossing.state, step) {
        (Direction::Out, Step::Left) => (Direction::In, &visit.entered),
        (Direction::In, Step::Late) => (Direction::Out, &visit.left),
        _ => return Ok(None),
    };
    let Some(lot) = end.as_ref().map(|end| end.lot.clone()) else {
        return Ok(None);
    };
    if sabotage::is(Sabotage::RereadsStayMerged) {
        return Ok(None);
    }
    let mut reads: Vec<Reread> = tx
        .db
        .prepare_cached(
            "SELECT id, at, received_at, replayed FROM event
             WHERE visit_id = ?1 AND state = ?2 AND lot = ?3 AND recorded NOT IN ('corrected', 'cancelled') ORDER BY at, id",
        )?
        .query_map((id, state.as_str(), &lot), |row| row.try_into())?
        .map(|row| {
            let (event_id, at, received_at, replayed) = row?;
            let arrival = Arrival {
                received_at: timestamp(received_at)?,
                replayed,
            };
            Ok(Reread {
                event_id,
                at: timestamp(at)?,
                arrival,
            })
        })
        .collect::<Result<_, Failure>>()?;
    let times: Vec<_> = reads.iter().map(|read| read.at).collect();
    let Some(after) = presence::parted(&times, crossing.at, policy) else {
        return Ok(None);
    };
    let events = reads[after..].iter().map(|read| read.event_id).collect();
    Ok(Some(Parted {
        lot,
        state,
        before: times[after - 1],
        first: reads.swap_remove(after),
        events,
        last: times[times.len() - 1],
    }))
}

/// Makes two visits of one. Returns what the crossing did to the visits, and the visit it belongs to.
pub(super) fn split(
    tx: &Tx<'_>,
    event: &GateEvent,
    crossing: Crossing<'_>,
    plate_tag: &Tag,
    id: i64,
    parted: &Parted,
) -> Result<(Step, i64), Failure> {
    let now = millis(event.received_at);
    let (entered_lot, entered_at, left_lot, left_at) = match parted.state {
        // The crossing is the exit of the visit; the later entries open another one.
        Direction::In => (parted.lot.as_str(), parted.first.at, crossing.lot, crossing.at),
        // The crossing is an entry, and the later exits are its own.
        Direction::Out => (crossing.lot, crossing.at, parted.lot.as_str(), parted.before),
    };
    tx.db
        .prepare_cached("UPDATE visit SET left_lot = ?2, left_at = ?3, ended = 'left', forget_from = ?4 WHERE id = ?1")?
        .execute((id, left_lot, millis(left_at), now))?;
    tx.db
        .prepare_cached("INSERT INTO visit (circle, plate_tag, entered_lot, entered_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute((&event.circle, plate_tag, entered_lot, millis(entered_at)))?;
    let new = tx.db.last_insert_rowid();
    for event in &parted.events {
        tx.db
            .prepare_cached("UPDATE event SET visit_id = ?2 WHERE id = ?1")?
            .execute((event, new))?;
    }
    if parted.state == Direction::In {
        return Ok((Step::Left, id));
    }
    tx.db
        .prepare_cached("UPDATE visit SET left_lot = ?2, left_at = ?3, ended = 'left', forget_from = ?4 WHERE id = ?1")?
        .execute((new, &parted.lot, millis(parted.last), now))?;
    Ok((Step::Opened, new))
}

/// Tells the members what was taken for a re-read, behind the crossing that parted it. It came when it came: it is as fresh as then.
pub(super) fn tell(
    tx: &Tx<'_>,
    event: &GateEvent,
    members: &[i64],
    parted: &Parted,
    plate_tag: &Tag,
) -> Result<(), Failure> {
    let first = &parted.first;
    let crossing = Crossing {
        lot: &parted.lot,
        state: parted.state,
        at: first.at,
    };
    let message = Message {
        event_id: first.event_id,
        plate: &event.read.plate,
        plate_tag: *plate_tag,
        state: parted.state,
        at: first.at,
        cause: Cause::Crossing,
    };
    let mut tells = Vec::new();
    for member in members {
        if !has_message(tx, *member, &parted.events)? {
            let tell = tell_member(tx, *member, event, crossing, first.arrival, plate_tag)?;
            apply(tx, event, *member, tell, &message)?;
            tells.push((*member, tell));
        }
    }
    // Counters of events only grow: it stays counted as what it was taken for.
    let sealed = (!members.is_empty()).then(|| tx.vault.seal_plate(&event.read.plate));
    tx.db
        .prepare_cached(
            "UPDATE event SET recorded = ?2, plate_sealed = coalesce(plate_sealed, ?3) WHERE id = ?1 AND recorded = 'merged'",
        )?
        .execute((
            first.event_id,
            summary(Some(Step::Opened), !members.is_empty(), &tells).word(),
            sealed,
        ))?;
    Ok(())
}

/// Whether one of these events was put into a member's lane already.
fn has_message(tx: &Tx<'_>, member: i64, events: &[i64]) -> Result<bool, Failure> {
    for event in events {
        let known = tx
            .db
            .prepare_cached("SELECT 1 FROM delivery WHERE event_id = ?1 AND member_id = ?2")?
            .exists((event, member))?;
        if known {
            return Ok(true);
        }
    }
    Ok(false)
}

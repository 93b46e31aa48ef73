//! One gate event, inside a transaction: dedupe, move the visit, decide, append to the lanes.

use rusqlite::OptionalExtension;

use super::{Failure, Tx, lanes, millis, timestamp};
use crate::domain::gate::{Direction, TimeSource};
use crate::domain::presence::{self, Arrival, Crossing, LaneView, Seen, Step, Tell, Visit};
use crate::store::vault::Tag;
use crate::store::{GateEvent, Recorded};

/// Members that one car can stand for. A family has a few; more is a mistake in the member system.
pub(super) const MEMBERS_PER_PLATE: u32 = 10;

pub(super) fn record(tx: &Tx<'_>, event: &GateEvent) -> Result<Recorded, Failure> {
    let read = &event.read;
    let (at, time_source) = presence::trusted_time(read.at, event.received_at, &event.policy);
    let crossing = Crossing {
        lot: &event.lot,
        state: read.state,
        at,
    };
    let plate_tag = tx.vault.plate_tag(&read.plate);
    let dedupe = dedupe_tag(tx, event);
    let recorded = if tx
        .db
        .prepare_cached("SELECT 1 FROM event WHERE dedupe = ?1")?
        .exists([dedupe])?
    {
        Recorded::Duplicate
    } else {
        let step = follow(tx, event, crossing, &plate_tag)?;
        let members = bound_members(tx, &event.circle, &plate_tag)?;
        let tells = match step {
            Step::Merged => Vec::new(),
            Step::Opened | Step::Reopened | Step::Left | Step::LeftUnseen | Step::Late => members
                .iter()
                .map(|member| Ok((*member, tell(tx, *member, event, crossing, &plate_tag)?)))
                .collect::<Result<_, Failure>>()?,
        };
        let recorded = summary(step, !members.is_empty(), &tells);
        let plate_sealed = (!members.is_empty()).then(|| tx.vault.seal_plate(&read.plate));
        tx.db
            .prepare_cached(
                "INSERT INTO event (dedupe, circle, lot, gate, plate_tag, plate_sealed, state, at, at_claimed, received_at,
                                    replayed, recorded)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute((
                dedupe,
                &event.circle,
                &event.lot,
                &event.gate,
                plate_tag,
                &plate_sealed,
                read.state.as_str(),
                millis(at),
                (time_source == TimeSource::Receipt).then(|| millis(read.at)),
                millis(event.received_at),
                read.replayed,
                recorded.word(),
            ))?;
        let event_id = tx.db.last_insert_rowid();
        for (member, tell) in tells {
            let message = lanes::Message {
                event_id: Some(event_id),
                plate: &read.plate,
                plate_tag,
                state: read.state,
                at,
            };
            apply(tx, event, member, tell, &message)?;
        }
        recorded
    };
    tx.count("event", &event.lot, recorded.word(), 1);
    if time_source == TimeSource::Receipt {
        tx.count("clock", &event.lot, "ahead", 1);
    }
    Ok(recorded)
}

/// What makes a resend the same event: the sender's own record, or everything it says.
fn dedupe_tag(tx: &Tx<'_>, event: &GateEvent) -> Tag {
    let read = &event.read;
    let gate = event.gate.as_deref().unwrap_or_default();
    let plate = read.plate.expose();
    match &read.record_id {
        // The plate belongs to it: a corrected plate under the same record is news.
        Some(id) => tx.vault.tag(&[
            "record",
            &event.circle,
            &event.lot,
            gate,
            id,
            read.state.as_str(),
            plate,
        ]),
        None => {
            let device = read.device.as_deref().unwrap_or_default();
            let at = millis(read.at).to_string();
            tx.vault.tag(&[
                "content",
                &event.circle,
                &event.lot,
                gate,
                device,
                read.state.as_str(),
                plate,
                &at,
            ])
        }
    }
}

/// Moves the visit of the plate and says how.
fn follow(tx: &Tx<'_>, event: &GateEvent, crossing: Crossing<'_>, plate_tag: &Tag) -> Result<Step, Failure> {
    let last = last_visit(tx, &event.circle, plate_tag)?;
    let step = presence::follow(last.as_ref().map(|(_, visit)| visit), crossing, &event.policy);
    let at = millis(crossing.at);
    let id = last.as_ref().map(|(id, _)| *id);
    match (step, crossing.state) {
        (Step::Merged, Direction::In) => {
            tx.db
                .prepare_cached("UPDATE visit SET entered_at = min(entered_at, ?2) WHERE id = ?1")?
                .execute((id, at))?;
        }
        (Step::Merged, Direction::Out) => {
            tx.db
                .prepare_cached("UPDATE visit SET left_at = max(left_at, ?2) WHERE id = ?1")?
                .execute((id, at))?;
        }
        (Step::Left, _) => {
            tx.db
                .prepare_cached("UPDATE visit SET left_lot = ?2, left_at = ?3, ended = 'left' WHERE id = ?1")?
                .execute((id, crossing.lot, at))?;
        }
        (Step::Opened | Step::Reopened, _) => {
            if step == Step::Reopened {
                tx.db
                    .prepare_cached("UPDATE visit SET ended = 'no-exit-seen' WHERE id = ?1")?
                    .execute([id])?;
                tx.count("visit", &event.lot, "no-exit-seen", 1);
            }
            tx.db
                .prepare_cached(
                    "INSERT INTO visit (circle, plate_tag, entered_lot, entered_at) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute((&event.circle, plate_tag, crossing.lot, at))?;
        }
        (Step::LeftUnseen, _) => {
            tx.count("visit", &event.lot, "no-entry-seen", 1);
            tx.db
                .prepare_cached(
                    "INSERT INTO visit (circle, plate_tag, left_lot, left_at, ended) VALUES (?1, ?2, ?3, ?4, 'left')",
                )?
                .execute((&event.circle, plate_tag, crossing.lot, at))?;
        }
        (Step::Late, _) => {}
    }
    Ok(step)
}

/// The latest visit of a plate, with its row.
pub(super) fn last_visit(tx: &Tx<'_>, circle: &str, plate_tag: &Tag) -> Result<Option<(i64, Visit)>, Failure> {
    type Row = (i64, Option<String>, Option<i64>, Option<String>, Option<i64>);
    let row: Option<Row> = tx
        .db
        .prepare_cached(
            "SELECT id, entered_lot, entered_at, left_lot, left_at FROM visit
             WHERE circle = ?1 AND plate_tag = ?2 ORDER BY id DESC LIMIT 1",
        )?
        .query_row((circle, plate_tag), |row| row.try_into())
        .optional()?;
    let seen = |lot: Option<String>, at: Option<i64>| match (lot, at) {
        (Some(lot), Some(at)) => Ok::<_, Failure>(Some(Seen {
            lot,
            at: timestamp(at)?,
        })),
        _ => Ok(None),
    };
    row.map(|(id, entered_lot, entered_at, left_lot, left_at)| {
        Ok((
            id,
            Visit {
                entered: seen(entered_lot, entered_at)?,
                left: seen(left_lot, left_at)?,
            },
        ))
    })
    .transpose()
}

fn bound_members(tx: &Tx<'_>, circle: &str, plate_tag: &Tag) -> Result<Vec<i64>, Failure> {
    let mut statement = tx.db.prepare_cached(
        "SELECT member_id FROM binding WHERE circle = ?1 AND plate_tag = ?2 ORDER BY member_id LIMIT ?3",
    )?;
    let members = statement.query_map((circle, plate_tag, MEMBERS_PER_PLATE), |row| row.get(0))?;
    Ok(members.collect::<Result<_, _>>()?)
}

fn tell(tx: &Tx<'_>, member: i64, event: &GateEvent, crossing: Crossing<'_>, plate_tag: &Tag) -> Result<Tell, Failure> {
    let (told_at, waiting_at): (Option<i64>, Option<i64>) = tx
        .db
        .prepare_cached(
            "SELECT (SELECT at FROM told WHERE member_id = ?1 AND plate_tag = ?2),
                    (SELECT max(at) FROM delivery WHERE member_id = ?1 AND status = 'waiting' AND plate_tag = ?2)",
        )?
        .query_row((member, plate_tag), |row| row.try_into())?;
    let view = LaneView {
        told_at: told_at.map(timestamp).transpose()?,
        waiting_at: waiting_at.map(timestamp).transpose()?,
    };
    let arrival = Arrival {
        received_at: event.received_at,
        replayed: event.read.replayed,
    };
    Ok(presence::tell(view, crossing, arrival, &event.policy))
}

fn apply(tx: &Tx<'_>, event: &GateEvent, member: i64, tell: Tell, message: &lanes::Message<'_>) -> Result<(), Failure> {
    match tell {
        Tell::Queue {
            not_before,
            supersedes_older,
        } => {
            if supersedes_older {
                lanes::supersede_older(tx, &event.circle, member, message, event.received_at)?;
            }
            lanes::queue(tx, &event.circle, member, message, not_before, event.received_at)
        }
        Tell::Hold => lanes::hold(tx, &event.circle, member, message, event.received_at),
        Tell::OlderThanTold | Tell::OlderThanWaiting => Ok(()),
    }
}

fn summary(step: Step, has_member: bool, tells: &[(i64, Tell)]) -> Recorded {
    if step == Step::Merged {
        return Recorded::Merged;
    }
    if !has_member {
        return Recorded::NoMember;
    }
    let queued = tells
        .iter()
        .filter(|(_, tell)| matches!(tell, Tell::Queue { .. }))
        .count();
    if queued > 0 {
        return Recorded::Queued(u32::try_from(queued).unwrap_or(MEMBERS_PER_PLATE));
    }
    if tells.iter().any(|(_, tell)| matches!(tell, Tell::Hold)) {
        Recorded::Held
    } else {
        Recorded::History
    }
}

//! One gate event, inside a transaction: dedupe, move the visit, decide, append to the lanes.

use rusqlite::OptionalExtension;

use super::lanes::{self, Cause, Message};
use super::parted::{self, Parted};
use super::{Failure, Tx, direction, millis, timestamp};
use crate::domain::gate::{Direction, TimeSource};
use crate::domain::presence::{self, Arrival, At, Crossing, LaneView, Seen, Step, Tell, Visit};
use crate::sabotage::{self, Sabotage};
use crate::store::vault::Tag;
use crate::store::{GateEvent, MEMBERS_PER_PLATE, Recorded};

pub(super) fn record(tx: &Tx<'_>, event: &GateEvent) -> Result<Recorded, Failure> {
    let (at, time_source) = presence::trusted_time(event.read.at, event.received_at, &event.policy);
    let recorded = record_at(tx, event, at, time_source)?;
    tx.count("event", &event.lot, recorded.word(), 1);
    if time_source == TimeSource::Receipt {
        tx.count("clock", &event.lot, "ahead", 1);
    }
    Ok(recorded)
}

fn record_at(
    tx: &Tx<'_>,
    event: &GateEvent,
    at: jiff::Timestamp,
    time_source: TimeSource,
) -> Result<Recorded, Failure> {
    let read = &event.read;
    let crossing = Crossing {
        lot: &event.lot,
        state: read.state,
        at,
    };
    let plate_tag = tx.vault.plate_tag(&read.plate);
    let dedupe = dedupe_tag(tx, event);
    if tx
        .db
        .prepare_cached("SELECT 1 FROM event WHERE dedupe = ?1")?
        .exists([dedupe])?
    {
        return Ok(Recorded::Duplicate);
    }
    let members = bound_members(tx, &event.circle, &plate_tag)?;
    let (step, visit, parted) = if event.policy.inner {
        (None, None, None)
    } else {
        follow(tx, event, crossing, &plate_tag)?
    };
    let arrival = Arrival {
        received_at: event.received_at,
        replayed: read.replayed,
    };
    let tells = match step {
        None | Some(Step::Merged) => Vec::new(),
        Some(_) => members
            .iter()
            .map(|member| Ok((*member, tell(tx, *member, event, crossing, arrival, &plate_tag)?)))
            .collect::<Result<_, Failure>>()?,
    };
    let recorded = summary(step, !members.is_empty(), &tells);
    tx.db
        .prepare_cached(
            "INSERT INTO event (dedupe, record_tag, visit_id, circle, lot, gate, plate_tag, plate_sealed, state, at, at_claimed,
                                received_at, replayed, recorded)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute((
            dedupe,
            read.record_id.as_ref().map(|id| record_tag(tx, &event.circle, &event.lot, id)),
            visit,
            &event.circle,
            &event.lot,
            &event.gate,
            plate_tag,
            (!members.is_empty()).then(|| tx.vault.seal_plate(&read.plate)),
            read.state.as_str(),
            millis(at),
            (time_source == TimeSource::Receipt).then(|| millis(read.at)),
            millis(event.received_at),
            read.replayed,
            recorded.word(),
        ))?;
    let message = Message {
        event_id: tx.db.last_insert_rowid(),
        plate: &read.plate,
        plate_tag,
        state: read.state,
        at,
        cause: Cause::Crossing,
    };
    for (member, tell) in tells {
        apply(tx, event, member, tell, &message)?;
    }
    if let Some(parted) = parted {
        parted::tell(tx, event, &members, &parted, &plate_tag)?;
    }
    Ok(recorded)
}

/// What makes a resend the same event: the sender's own record, or everything it says.
fn dedupe_tag(tx: &Tx<'_>, event: &GateEvent) -> Tag {
    let read = &event.read;
    let gate = event.gate.as_deref().unwrap_or_default();
    let plate = read.plate.expose();
    if sabotage::is(Sabotage::NoDedupe) {
        let number = tx.db.last_insert_rowid().to_string();
        return tx
            .vault
            .tag(&["never the same", &number, &millis(event.received_at).to_string()]);
    }
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

/// The key under which a sender's own record is found again.
pub(super) fn record_tag(tx: &Tx<'_>, circle: &str, lot: &str, id: &str) -> Tag {
    tx.vault.tag(&["amend", circle, lot, id])
}

/// How the visit of a plate moved, which visit it was, and the passage that this parted from it.
type Followed = (Option<Step>, Option<i64>, Option<Parted>);

fn follow(tx: &Tx<'_>, event: &GateEvent, crossing: Crossing<'_>, plate_tag: &Tag) -> Result<Followed, Failure> {
    let last = last_visit(tx, &event.circle, plate_tag)?;
    let step = presence::follow(last.as_ref().map(|(_, visit)| visit), crossing, &event.policy);
    if let Some((id, visit)) = &last
        && let Some(parted) = parted::find(tx, *id, visit, step, crossing, &event.policy)?
    {
        let (step, visit) = parted::split(tx, event, crossing, plate_tag, *id, &parted)?;
        return Ok((Some(step), Some(visit), Some(parted)));
    }
    let at = millis(crossing.at);
    let now = millis(event.received_at);
    let id = last.as_ref().map(|(id, _)| *id);
    let visit = match (step, crossing.state) {
        (Step::Merged, Direction::In) => {
            tx.db
                .prepare_cached("UPDATE visit SET entered_at = min(entered_at, ?2) WHERE id = ?1")?
                .execute((id, at))?;
            id
        }
        (Step::Merged, Direction::Out) => {
            tx.db
                .prepare_cached("UPDATE visit SET left_at = max(left_at, ?2) WHERE id = ?1")?
                .execute((id, at))?;
            id
        }
        (Step::Left, _) => {
            tx.db
                .prepare_cached(
                    "UPDATE visit SET left_lot = ?2, left_at = ?3, ended = 'left', forget_from = ?4 WHERE id = ?1",
                )?
                .execute((id, crossing.lot, at, now))?;
            id
        }
        (Step::Opened | Step::Reopened, _) => {
            if step == Step::Reopened {
                tx.db
                    .prepare_cached(
                        "UPDATE visit SET ended = 'no-exit-seen', forget_from = ?2 WHERE id = ?1 AND ended IS NULL",
                    )?
                    .execute((id, now))?;
                tx.count("visit", &event.lot, "no-exit-seen", 1);
            }
            tx.db
                .prepare_cached(
                    "INSERT INTO visit (circle, plate_tag, entered_lot, entered_at) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute((&event.circle, plate_tag, crossing.lot, at))?;
            Some(tx.db.last_insert_rowid())
        }
        (Step::LeftUnseen, _) => {
            tx.count("visit", &event.lot, "no-entry-seen", 1);
            tx.db
                .prepare_cached(
                    "INSERT INTO visit (circle, plate_tag, left_lot, left_at, ended, forget_from)
                     VALUES (?1, ?2, ?3, ?4, 'left', ?5)",
                )?
                .execute((&event.circle, plate_tag, crossing.lot, at, now))?;
            Some(tx.db.last_insert_rowid())
        }
        (Step::Late, _) => id,
    };
    Ok((Some(step), visit, None))
}

/// The latest visit of a plate, with its row. A visit that was cancelled did not happen.
pub(super) fn last_visit(tx: &Tx<'_>, circle: &str, plate_tag: &Tag) -> Result<Option<(i64, Visit)>, Failure> {
    type Row = (i64, Option<String>, Option<i64>, Option<String>, Option<i64>);
    let rows: Vec<Row> = tx
        .db
        .prepare_cached(
            "SELECT id, entered_lot, entered_at, left_lot, left_at FROM visit
             WHERE circle = ?1 AND plate_tag = ?2 AND ended IS NOT 'cancelled' ORDER BY id DESC LIMIT 2",
        )?
        .query_map((circle, plate_tag), |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    let seen = |lot: Option<String>, at: Option<i64>| match (lot, at) {
        (Some(lot), Some(at)) => Ok::<_, Failure>(Some(Seen {
            lot,
            at: timestamp(at)?,
        })),
        _ => Ok(None),
    };
    let mut rows = rows.into_iter();
    let Some((id, entered_lot, entered_at, left_lot, left_at)) = rows.next() else {
        return Ok(None);
    };
    let before = rows
        .next()
        .and_then(|(_, _, entered_at, _, left_at)| entered_at.max(left_at));
    let visit = Visit {
        entered: seen(entered_lot, entered_at)?,
        left: seen(left_lot, left_at)?,
        before: before.map(timestamp).transpose()?,
    };
    Ok(Some((id, visit)))
}

pub(super) fn bound_members(tx: &Tx<'_>, circle: &str, plate_tag: &Tag) -> Result<Vec<i64>, Failure> {
    let mut statement = tx.db.prepare_cached(
        "SELECT member_id FROM binding WHERE circle = ?1 AND plate_tag = ?2 ORDER BY member_id LIMIT ?3",
    )?;
    let members = statement.query_map((circle, plate_tag, MEMBERS_PER_PLATE), |row| row.get(0))?;
    Ok(members.collect::<Result<_, _>>()?)
}

pub(super) fn tell(
    tx: &Tx<'_>,
    member: i64,
    event: &GateEvent,
    crossing: Crossing<'_>,
    arrival: Arrival,
    plate_tag: &Tag,
) -> Result<Tell, Failure> {
    let other_car_inside = event.policy.one_car_is_enough
        && tx
            .db
            .prepare_cached("SELECT 1 FROM told WHERE member_id = ?1 AND plate_tag <> ?2 AND state = 'IN'")?
            .exists((member, plate_tag))?;
    let view = LaneView {
        told: told(tx, member, plate_tag)?,
        waiting: newest_waiting(tx, member, plate_tag)?,
        other_car_inside,
    };
    Ok(presence::tell(view, crossing, arrival, &event.policy))
}

/// The newest state of a plate that was sent for a member, or may have been.
pub(super) fn told(tx: &Tx<'_>, member: i64, plate_tag: &Tag) -> Result<Option<At>, Failure> {
    let row: Option<(String, i64)> = tx
        .db
        .prepare_cached("SELECT state, at FROM told WHERE member_id = ?1 AND plate_tag = ?2")?
        .query_row((member, plate_tag), |row| row.try_into())
        .optional()?;
    row.map(|(state, at)| {
        Ok(At {
            state: direction(&state)?,
            at: timestamp(at)?,
        })
    })
    .transpose()
}

fn newest_waiting(tx: &Tx<'_>, member: i64, plate_tag: &Tag) -> Result<Option<At>, Failure> {
    let row: Option<(String, i64)> = tx
        .db
        .prepare_cached(
            "SELECT state, at FROM delivery WHERE member_id = ?1 AND status = 'waiting' AND plate_tag = ?2
               AND id IS NOT (SELECT head_id FROM lane WHERE member_id = ?1)
             ORDER BY at DESC, id DESC LIMIT 1",
        )?
        .query_row((member, plate_tag), |row| row.try_into())
        .optional()?;
    row.map(|(state, at)| {
        Ok(At {
            state: direction(&state)?,
            at: timestamp(at)?,
        })
    })
    .transpose()
}

pub(super) fn apply(
    tx: &Tx<'_>,
    event: &GateEvent,
    member: i64,
    tell: Tell,
    message: &Message<'_>,
) -> Result<(), Failure> {
    let (circle, now) = (&event.circle, event.received_at);
    match tell {
        Tell::Queue {
            not_before,
            supersedes_older,
        } => {
            if supersedes_older {
                lanes::supersede_older(tx, circle, member, message, now)?;
            }
            lanes::queue(tx, circle, member, message, not_before, now)
        }
        Tell::CancelOut => lanes::take_out_newest(tx, circle, member, message, now),
        Tell::Hold => lanes::hold(tx, circle, member, message, now),
        Tell::OlderThanTold | Tell::OlderThanWaiting | Tell::OtherCarInside => Ok(()),
    }
}

pub(super) fn summary(step: Option<Step>, has_member: bool, tells: &[(i64, Tell)]) -> Recorded {
    match step {
        None => return Recorded::Inner,
        Some(Step::Merged) => return Recorded::Merged,
        Some(_) if !has_member => return Recorded::NoMember,
        Some(_) => {}
    }
    let queued = tells
        .iter()
        .filter(|(_, tell)| matches!(tell, Tell::Queue { .. }))
        .count();
    if queued > 0 {
        return Recorded::Queued(u32::try_from(queued).unwrap_or(MEMBERS_PER_PLATE));
    }
    if tells.iter().any(|(_, tell)| matches!(tell, Tell::CancelOut)) {
        return Recorded::TurnedRound;
    }
    if tells.iter().any(|(_, tell)| matches!(tell, Tell::OtherCarInside)) {
        return Recorded::OtherCarInside;
    }
    if tells.iter().any(|(_, tell)| matches!(tell, Tell::Hold)) {
        Recorded::Held
    } else {
        Recorded::History
    }
}

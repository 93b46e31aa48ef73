//! Lanes and what waits in them, inside a transaction: queue, take out, supersede, withdraw.

use jiff::Timestamp;

use super::{Failure, Tx, millis};
use crate::domain::gate::Direction;
use crate::domain::plate::Plate;
use crate::store::vault::Tag;

pub(super) use crate::store::book::Cause;

/// What a lane is to tell.
pub(super) struct Message<'a> {
    pub(super) event_id: i64,
    pub(super) plate: &'a Plate,
    pub(super) plate_tag: Tag,
    pub(super) state: Direction,
    pub(super) at: Timestamp,
    pub(super) cause: Cause,
}

/// Appends a message to a lane.
pub(super) fn queue(
    tx: &Tx<'_>,
    circle: &str,
    member: i64,
    message: &Message<'_>,
    not_before: Timestamp,
    now: Timestamp,
) -> Result<(), Failure> {
    insert(tx, member, message, not_before, now, "waiting", None)?;
    tx.count("waiting", circle, "waiting", 1);
    refresh(tx, member)
}

/// Writes a message down.
pub(super) fn insert(
    tx: &Tx<'_>,
    member: i64,
    message: &Message<'_>,
    not_before: Timestamp,
    now: Timestamp,
    status: &str,
    reason: Option<&str>,
) -> Result<(), Failure> {
    tx.db
        .prepare_cached(
            "INSERT INTO delivery (member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at,
                                   status, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute((
            member,
            message.event_id,
            message.plate_tag,
            tx.vault.seal_plate(message.plate),
            message.state.as_str(),
            millis(message.at),
            message.cause.as_str(),
            millis(not_before),
            millis(now),
            status,
            reason,
        ))?;
    Ok(())
}

/// Takes one message out that waits and was never tried. Says whether there was one.
pub(super) fn remove(tx: &Tx<'_>, circle: &str, delivery: i64, why: &str, now: Timestamp) -> Result<bool, Failure> {
    let member: Option<i64> = tx
        .db
        .prepare_cached(
            "UPDATE delivery SET status = 'superseded', settled_at = ?2, reason = ?3
             WHERE id = ?1 AND status = 'waiting'
               AND id IS NOT (SELECT head_id FROM lane WHERE lane.member_id = delivery.member_id)
             RETURNING member_id",
        )?
        .query_map((delivery, millis(now), why), |row| row.get(0))?
        .next()
        .transpose()?;
    let Some(member) = member else { return Ok(false) };
    tx.leave_waiting(circle, "superseded", 1);
    refresh(tx, member)?;
    Ok(true)
}

/// Takes the messages of a plate out of a lane. What is in flight finishes.
pub(super) fn withdraw(
    tx: &Tx<'_>,
    circle: &str,
    member: i64,
    plate_tag: &Tag,
    now: Timestamp,
) -> Result<usize, Failure> {
    let mut withdrawn = 0;
    for status in ["waiting", "held"] {
        let rows = tx
            .db
            .prepare_cached(
                "UPDATE delivery SET status = 'withdrawn', settled_at = ?4, reason = 'the plate was unbound'
                 WHERE member_id = ?1 AND plate_tag = ?2 AND status = ?3",
            )?
            .execute((member, plate_tag, status, millis(now)))?;
        if rows > 0 {
            let by = i64::try_from(rows).unwrap_or(i64::MAX);
            tx.count("waiting", circle, status, -by);
            tx.count("delivery", circle, "withdrawn", by);
        }
        withdrawn += rows;
    }
    tx.db
        .prepare_cached(
            "UPDATE lane SET head_id = NULL WHERE member_id = ?1 AND node_id IS NULL
               AND head_id IN (SELECT id FROM delivery WHERE id = head_id AND status = 'withdrawn')",
        )?
        .execute([member])?;
    refresh(tx, member)?;
    Ok(withdrawn)
}

/// Sets when a lane is due: at the time of its first message. A lane that is claimed, or that has to repeat a try, stays as it is.
pub(super) fn refresh(tx: &Tx<'_>, member: i64) -> Result<(), Failure> {
    tx.db
        .prepare_cached(
            "UPDATE lane SET due_at = (SELECT not_before FROM delivery WHERE member_id = ?1 AND status = 'waiting'
                                       ORDER BY at, id LIMIT 1)
             WHERE member_id = ?1 AND node_id IS NULL AND head_id IS NULL",
        )?
        .execute([member])?;
    tx.woke.set(true);
    Ok(())
}

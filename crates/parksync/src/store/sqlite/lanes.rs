//! Lanes and what waits in them, inside a transaction: queue, claim, settle.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::{Failure, Tx, millis, timestamp};
use crate::domain::delivery::{Delivery, Outcome, Verdict};
use crate::domain::gate::Direction;
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;
use crate::store::vault::Tag;
use crate::store::{Lease, Settled};

/// What a lane is to tell.
pub(super) struct Message<'a> {
    pub(super) event_id: Option<i64>,
    pub(super) plate: &'a Plate,
    pub(super) plate_tag: Tag,
    pub(super) state: Direction,
    pub(super) at: Timestamp,
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
    insert(tx, member, message, not_before, now, "waiting")?;
    tx.count("waiting", circle, "waiting", 1);
    refresh(tx, member)
}

/// Writes a message down that waits for a person. The lane goes on without it.
pub(super) fn hold(
    tx: &Tx<'_>,
    circle: &str,
    member: i64,
    message: &Message<'_>,
    now: Timestamp,
) -> Result<(), Failure> {
    insert(tx, member, message, now, now, "held")?;
    tx.count("waiting", circle, "held", 1);
    Ok(())
}

fn insert(
    tx: &Tx<'_>,
    member: i64,
    message: &Message<'_>,
    not_before: Timestamp,
    now: Timestamp,
    status: &str,
) -> Result<(), Failure> {
    tx.db
        .prepare_cached(
            "INSERT INTO delivery (member_id, event_id, plate_tag, plate_sealed, state, at, not_before, enqueued_at, status)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            member,
            message.event_id,
            message.plate_tag,
            tx.vault.seal_plate(message.plate),
            message.state.as_str(),
            millis(message.at),
            millis(not_before),
            millis(now),
            status,
        ))?;
    Ok(())
}

/// Takes older states of the same plate out of a lane, unless one of them may have been sent already.
pub(super) fn supersede_older(
    tx: &Tx<'_>,
    circle: &str,
    member: i64,
    message: &Message<'_>,
    now: Timestamp,
) -> Result<(), Failure> {
    let superseded = tx
        .db
        .prepare_cached(
            "UPDATE delivery SET status = 'superseded', settled_at = ?4, reason = 'a newer state of the same batch replaced it'
             WHERE member_id = ?1 AND status = 'waiting' AND at <= ?2 AND plate_tag = ?3
               AND id IS NOT (SELECT head_id FROM lane WHERE member_id = ?1)",
        )?
        .execute((member, millis(message.at), message.plate_tag, millis(now)))?;
    settled(tx, circle, "superseded", superseded);
    Ok(())
}

fn settled(tx: &Tx<'_>, circle: &str, word: &str, by: usize) {
    if by > 0 {
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        tx.count("waiting", circle, "waiting", -by);
        tx.count("delivery", circle, word, by);
    }
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
    for (status, word) in [("waiting", "waiting"), ("held", "held")] {
        let rows = tx
            .db
            .prepare_cached(
                "UPDATE delivery SET status = 'withdrawn', settled_at = ?4, reason = 'the plate was unbound'
                 WHERE member_id = ?1 AND plate_tag = ?2 AND status = ?3",
            )?
            .execute((member, plate_tag, status, millis(now)))?;
        let by = i64::try_from(rows).unwrap_or(i64::MAX);
        tx.count("waiting", circle, word, -by);
        tx.count("delivery", circle, "withdrawn", by);
        withdrawn += rows;
    }
    tx.db
        .prepare_cached(
            "UPDATE lane SET head_id = NULL WHERE member_id = ?1 AND claimed = 0
               AND head_id IN (SELECT id FROM delivery WHERE id = head_id AND status = 'withdrawn')",
        )?
        .execute([member])?;
    refresh(tx, member)?;
    Ok(withdrawn)
}

/// Sets when a lane is due: at the time of its first message. A lane that is claimed, or that has to repeat a try, stays as it is.
fn refresh(tx: &Tx<'_>, member: i64) -> Result<(), Failure> {
    tx.db
        .prepare_cached(
            "UPDATE lane SET due_at = (SELECT not_before FROM delivery WHERE member_id = ?1 AND status = 'waiting'
                                       ORDER BY at, id LIMIT 1)
             WHERE member_id = ?1 AND claimed = 0 AND head_id IS NULL",
        )?
        .execute([member])?;
    Ok(())
}

/// Frees what a killed process held. What was in flight has an unknown outcome and stays the head of its lane.
pub(super) fn free_all(tx: &Tx<'_>) -> Result<(), Failure> {
    tx.db
        .execute("UPDATE lane SET claimed = 0, due_at = 0 WHERE claimed = 1", [])?;
    Ok(())
}

pub(super) fn next_due(db: &Connection) -> Result<Option<Timestamp>, Failure> {
    let due: Option<i64> = db
        .prepare_cached("SELECT min(due_at) FROM lane WHERE due_at IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    due.map(timestamp).transpose()
}

pub(super) fn claim(tx: &Tx<'_>, now: Timestamp, limit: u32) -> Result<Vec<Lease>, Failure> {
    let due: Vec<(i64, Option<i64>, i64)> = tx
        .db
        .prepare_cached("SELECT member_id, head_id, epoch FROM lane WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2")?
        .query_map((millis(now), limit), |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    let mut leases = Vec::with_capacity(due.len());
    for (lane, head, epoch) in due {
        let Some((head, plate_tag)) = load_head(tx, lane, head)? else {
            // The head was settled in another way (withdrawn while it was to be repeated): look for the next one.
            tx.db
                .prepare_cached("UPDATE lane SET head_id = NULL WHERE member_id = ?1")?
                .execute([lane])?;
            refresh(tx, lane)?;
            continue;
        };
        tx.db
            .prepare_cached(
                "UPDATE lane SET claimed = 1, epoch = epoch + 1, due_at = NULL, head_id = ?2 WHERE member_id = ?1",
            )?
            .execute((lane, head.id))?;
        tx.db
            .prepare_cached(
                "INSERT INTO told (member_id, plate_tag, at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (member_id, plate_tag) DO UPDATE SET at = max(at, excluded.at)",
            )?
            .execute((lane, plate_tag, millis(head.at)))?;
        leases.push(Lease {
            lane,
            epoch: epoch + 1,
            head,
        });
    }
    Ok(leases)
}

/// The head of a lane: the message that has to be repeated, else the earliest one that waits.
fn load_head(tx: &Tx<'_>, lane: i64, head: Option<i64>) -> Result<Option<(Delivery, Tag)>, Failure> {
    type Row = (i64, Tag, Vec<u8>, String, i64, i64, u32, String, String, Vec<u8>);
    const COLUMNS: &str = "SELECT d.id, d.plate_tag, d.plate_sealed, d.state, d.at, d.enqueued_at, d.tries,
               m.circle, m.appid, m.openid_sealed FROM delivery d JOIN member m ON m.id = d.member_id";
    let row: Option<Row> = match head {
        Some(head) => tx
            .db
            .prepare_cached(&format!("{COLUMNS} WHERE d.id = ?1 AND d.status = 'waiting'"))?
            .query_row([head], |row| row.try_into())
            .optional()?,
        None => tx
            .db
            .prepare_cached(&format!(
                "{COLUMNS} WHERE d.member_id = ?1 AND d.status = 'waiting' ORDER BY d.at, d.id LIMIT 1"
            ))?
            .query_row([lane], |row| row.try_into())
            .optional()?,
    };
    let Some((id, plate_tag, plate, state, at, enqueued_at, tries, circle, appid, openid)) = row else {
        return Ok(None);
    };
    let state = match state.as_str() {
        "IN" => Direction::In,
        "OUT" => Direction::Out,
        _ => return Err(Failure::Damaged("a state is neither IN nor OUT")),
    };
    let delivery = Delivery {
        id,
        member: MemberKey {
            circle,
            appid,
            openid: tx.vault.open_openid(&openid)?,
        },
        plate: tx.vault.open_plate(&plate)?,
        state,
        at: timestamp(at)?,
        enqueued_at: timestamp(enqueued_at)?,
        tries,
    };
    Ok(Some((delivery, plate_tag)))
}

pub(super) fn settle(tx: &Tx<'_>, settled: &[Settled]) -> Result<usize, Failure> {
    let mut lost = 0;
    for one in settled {
        if !settle_one(tx, one)? {
            lost += 1;
        }
    }
    Ok(lost)
}

fn settle_one(tx: &Tx<'_>, one: &Settled) -> Result<bool, Failure> {
    let Lease { lane, epoch, head } = &one.lease;
    let freed = tx
        .db
        .prepare_cached(
            "UPDATE lane SET claimed = 0, head_id = NULL WHERE member_id = ?1 AND epoch = ?2 AND claimed = 1",
        )?
        .execute((lane, epoch))?;
    if freed == 0 {
        return Ok(false);
    }
    let (outcome, status, code, request_id) = attempt_columns(&one.outcome);
    tx.db
        .prepare_cached(
            "INSERT INTO attempt (delivery_id, began_at, took_ms, outcome, status, code, request_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            head.id,
            millis(one.began_at),
            one.took_ms,
            outcome,
            status,
            code,
            request_id,
        ))?;
    let circle = &head.member.circle;
    let now = millis(one.began_at) + one.took_ms;
    match &one.verdict {
        Verdict::Delivered => {
            let waited = finish(tx, head.id, "delivered", None, now)?;
            if waited == 0 {
                // Withdrawn while it was in flight: it reached WeChat Pay all the same, so say so.
                tx.db
                    .prepare_cached("UPDATE delivery SET status = 'delivered', settled_at = ?2 WHERE id = ?1")?
                    .execute((head.id, now))?;
                tx.count("delivery", circle, "withdrawn", -1);
                tx.count("delivery", circle, "delivered", 1);
            }
            self::settled(tx, circle, "delivered", waited);
        }
        Verdict::Dead { reason } => {
            let waited = finish(tx, head.id, "dead", Some(reason), now)?;
            self::settled(tx, circle, "dead", waited);
        }
        Verdict::RetryAt { at, counts } => {
            tx.count("retry", circle, outcome, 1);
            let waits = tx
                .db
                .prepare_cached("UPDATE delivery SET tries = tries + ?2 WHERE id = ?1 AND status = 'waiting'")?
                .execute((head.id, *counts))?;
            if waits > 0 {
                tx.db
                    .prepare_cached("UPDATE lane SET head_id = ?2, due_at = ?3 WHERE member_id = ?1")?
                    .execute((lane, head.id, millis(*at)))?;
            }
        }
    }
    refresh(tx, *lane)?;
    Ok(true)
}

fn finish(tx: &Tx<'_>, id: i64, status: &str, reason: Option<&str>, now: i64) -> Result<usize, Failure> {
    Ok(tx
        .db
        .prepare_cached(
            "UPDATE delivery SET status = ?2, reason = ?3, settled_at = ?4, tries = tries + 1
             WHERE id = ?1 AND status = 'waiting'",
        )?
        .execute((id, status, reason, now))?)
}

type AttemptColumns<'a> = (&'static str, Option<u16>, Option<&'a str>, Option<&'a str>);

fn attempt_columns(outcome: &Outcome) -> AttemptColumns<'_> {
    match outcome {
        Outcome::Accepted { request_id } => ("accepted", None, None, Some(request_id)),
        Outcome::Refused {
            status,
            code,
            request_id,
            ..
        } => ("refused", Some(*status), Some(code), Some(request_id)),
        Outcome::Unknown { .. } => ("unknown", None, None, None),
        Outcome::NotSent { .. } => ("not-sent", None, None, None),
        Outcome::Unbuildable { .. } => ("unbuildable", None, None, None),
    }
}

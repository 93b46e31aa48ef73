//! Settles: what tries came to, inside a transaction; and what is told again because a claim was lost.

use jiff::Timestamp;
use rusqlite::OptionalExtension;

use super::holds::{pause, release};
use super::lanes::{Cause, Message, queue, refresh};
use super::{Failure, Tx, millis, record};
use crate::domain::delivery::{Delivery, Outcome, Scope, Verdict};
use crate::sabotage::{self, Sabotage};
use crate::store::vault::Tag;
use crate::store::{Lease, PROBE_AGAIN_MS, Settled};

pub(super) fn settle(tx: &Tx<'_>, settled: &[Settled]) -> Result<usize, Failure> {
    // Mostly nothing pauses, and then no outcome can end a pause.
    let mut pauses = tx.db.prepare_cached("SELECT 1 FROM hold")?.exists([])?;
    let mut lost = 0;
    for one in settled {
        let Some(freed) = free(tx, &one.lease)? else {
            settle_late(tx, one)?;
            lost += 1;
            continue;
        };
        write_attempt(tx, one)?;
        settle_one(tx, one, &freed)?;
        pauses |= matches!(one.verdict, Verdict::Hold { .. });
        if pauses {
            judge_holds(tx, one)?;
        }
    }
    Ok(lost)
}

/// A lane that was freed, with the message, and its plate, that a node which lost the lane may still send.
struct Freed {
    suspect: Option<(i64, Tag)>,
}

/// Frees a claimed lane; it is due when the first of its other messages is. Nothing when the claim is void.
fn free(tx: &Tx<'_>, lease: &Lease) -> Result<Option<Freed>, Failure> {
    let freed: Option<(Option<i64>, Option<Tag>, bool)> = tx
        .db
        .prepare_cached(
            "UPDATE lane SET node_id = NULL, lease_until = NULL, head_id = NULL,
                 due_at = (SELECT not_before FROM delivery WHERE member_id = ?1 AND status = 'waiting' AND id <> ?4
                           ORDER BY at, id LIMIT 1)
             WHERE member_id = ?1 AND (epoch = ?2 OR ?3) AND node_id IS NOT NULL
             RETURNING suspect_id, suspect_plate, due_at IS NOT NULL",
        )?
        .query_row(
            (
                lease.lane,
                lease.epoch,
                sabotage::is(Sabotage::EpochIgnored),
                lease.head.id,
            ),
            |row| row.try_into(),
        )
        .optional()?;
    let Some((suspect, plate, more)) = freed else {
        return Ok(sabotage::is(Sabotage::SettleWithoutClaim).then_some(Freed { suspect: None }));
    };
    tx.woke.set(tx.woke.get() || more);
    Ok(Some(Freed {
        suspect: suspect.zip(plate),
    }))
}

/// What a try came to, for its message and its lane.
fn settle_one(tx: &Tx<'_>, one: &Settled, freed: &Freed) -> Result<(), Failure> {
    let Lease { lane, head, .. } = &one.lease;
    let circle = &head.member.circle;
    let now = millis(one.ended_at());
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
            tx.leave_waiting(circle, "delivered", waited);
            if let Some(suspect) = freed.suspect {
                settle_suspect(tx, *lane, head, suspect, one.ended_at())?;
            }
        }
        Verdict::Dead { reason } => {
            let waited = finish(tx, head.id, "dead", Some(reason), now)?;
            tx.leave_waiting(circle, "dead", waited);
            // A first try that was refused never became news: what was told before stands.
            if head.tries == 0 && !matches!(one.outcome, Outcome::Unknown { .. }) && is_news(tx, head.id)? {
                untell(tx, *lane, head)?;
            }
        }
        Verdict::RetryAt { at, counts } => {
            tx.count("retry", circle, one.outcome.word(), 1);
            repeat(tx, *lane, head.id, millis(*at), *counts)?;
        }
        Verdict::Hold { .. } => {
            tx.count("retry", circle, "hold", 1);
            // Due at once, and the head again: it is the next probe.
            repeat(tx, *lane, head.id, now, false)?;
        }
    }
    Ok(())
}

/// What an outcome means for what pauses.
fn judge_holds(tx: &Tx<'_>, one: &Settled) -> Result<(), Failure> {
    let Lease { merchant, head, .. } = &one.lease;
    let circle = &head.member.circle;
    let now = millis(one.ended_at());
    if let Verdict::Hold { scope, reason } = &one.verdict {
        let name = match scope {
            Scope::Circle => circle,
            Scope::Merchant => merchant,
        };
        if *scope == Scope::Circle {
            // Its signature was good enough to be told what is wrong with the circle.
            release(tx, Scope::Merchant, merchant)?;
        }
        return pause(tx, *scope, name, reason, now);
    }
    if one.verdict.is_judgement(&one.outcome) {
        release(tx, Scope::Circle, circle)?;
        return release(tx, Scope::Merchant, merchant);
    }
    // A probe that told nothing: another one goes soon.
    let probes = tx
        .db
        .prepare_cached(
            "UPDATE hold SET probing_until = 0, probe_at = ?3
             WHERE probing_until > 0 AND ((scope = 'circle' AND name = ?1) OR (scope = 'merchant' AND name = ?2))",
        )?
        .execute((circle, merchant, now + PROBE_AGAIN_MS))?;
    tx.woke.set(tx.woke.get() || probes > 0);
    Ok(())
}

/// A try whose claim was lost. What it saw counts for nothing, but it may have arrived behind something newer: then that is told again.
/// An outcome that was settled already, and is said twice because its commit was in doubt, changes nothing.
fn settle_late(tx: &Tx<'_>, one: &Settled) -> Result<(), Failure> {
    let Lease { lane, epoch, head, .. } = &one.lease;
    let said_twice = tx
        .db
        .prepare_cached("SELECT 1 FROM lane WHERE member_id = ?1 AND epoch = ?2")?
        .exists((lane, epoch))?;
    let silent_from = one.silent_from().filter(|_| !said_twice);
    let Some(silent_from) = silent_from else { return Ok(()) };
    let under_way: Option<i64> = tx
        .db
        .prepare_cached("SELECT head_id FROM lane WHERE member_id = ?1")?
        .query_row([lane], |row| row.get(0))
        .optional()?
        .flatten();
    if under_way == Some(head.id) {
        // Nothing newer was told.
        return Ok(());
    }
    let behind = tx
        .db
        .prepare_cached(
            "UPDATE delivery SET not_before = max(not_before, ?3)
             WHERE member_id = ?1 AND status = 'waiting' AND plate_tag = ?2 AND id IS NOT ?4",
        )?
        .execute((lane, tx.vault.plate_tag(&head.plate), millis(silent_from), under_way))?;
    if behind > 0 {
        // The newest is yet to be told, and comes behind it.
        return refresh(tx, *lane);
    }
    tell_again(tx, *lane, head, silent_from, one.ended_at())
}

/// Once what a lost lane may still say late has been overtaken by something newer, the newest is told once more.
fn settle_suspect(
    tx: &Tx<'_>,
    lane: i64,
    head: &Delivery,
    (suspect, suspect_plate): (i64, Tag),
    now: Timestamp,
) -> Result<(), Failure> {
    let plate_tag = tx.vault.plate_tag(&head.plate);
    if plate_tag != suspect_plate {
        return Ok(());
    }
    let more = tx
        .db
        .prepare_cached("SELECT 1 FROM delivery WHERE member_id = ?1 AND status = 'waiting' AND plate_tag = ?2")?
        .exists((lane, plate_tag))?;
    if more {
        return Ok(());
    }
    tx.db
        .prepare_cached("UPDATE lane SET suspect_id = NULL, suspect_plate = NULL WHERE member_id = ?1")?
        .execute([lane])?;
    if suspect != head.id {
        tell_again(tx, lane, head, now, now)?;
    }
    Ok(())
}

/// Tells the newest state of a car once more, unless the plate is not bound any more.
fn tell_again(tx: &Tx<'_>, lane: i64, of: &Delivery, not_before: Timestamp, now: Timestamp) -> Result<(), Failure> {
    if sabotage::is(Sabotage::NoReassertion) {
        return Ok(());
    }
    let plate_tag = tx.vault.plate_tag(&of.plate);
    let Some(newest) = record::told(tx, lane, &plate_tag)? else {
        return Ok(());
    };
    let circle = &of.member.circle;
    if !record::bound_members(tx, circle, &plate_tag)?.contains(&lane) {
        return Ok(());
    }
    let event_id = tx
        .db
        .prepare_cached("SELECT event_id FROM delivery WHERE id = ?1")?
        .query_row([of.id], |row| row.get(0))?;
    let message = Message {
        event_id,
        plate: &of.plate,
        plate_tag,
        state: newest.state,
        at: newest.at,
        cause: Cause::Reassertion,
    };
    queue(tx, circle, lane, &message, not_before, now)
}

/// Whether a message tells something for the first time. What is told once more may be with WeChat Pay already.
fn is_news(tx: &Tx<'_>, id: i64) -> Result<bool, Failure> {
    Ok(tx
        .db
        .prepare_cached("SELECT 1 FROM delivery WHERE id = ?1 AND cause NOT IN ('reassertion', 'replay')")?
        .exists([id])?)
}

/// Forgets a state that WeChat Pay certainly does not hold.
fn untell(tx: &Tx<'_>, lane: i64, head: &Delivery) -> Result<(), Failure> {
    let tag = tx.vault.plate_tag(&head.plate);
    let key = (lane, tag, millis(head.at), head.state.as_str());
    tx.db
        .prepare_cached(
            "DELETE FROM told WHERE member_id = ?1 AND plate_tag = ?2 AND at = ?3 AND state = ?4 AND was_at IS NULL",
        )?
        .execute(key)?;
    tx.db
        .prepare_cached(
            "UPDATE told SET state = was_state, at = was_at, was_state = NULL, was_at = NULL
             WHERE member_id = ?1 AND plate_tag = ?2 AND at = ?3 AND state = ?4 AND was_at IS NOT NULL",
        )?
        .execute(key)?;
    Ok(())
}

fn repeat(tx: &Tx<'_>, lane: i64, delivery: i64, due_at: i64, counts: bool) -> Result<(), Failure> {
    let waits = tx
        .db
        .prepare_cached("UPDATE delivery SET tries = tries + ?2 WHERE id = ?1 AND status = 'waiting'")?
        .execute((delivery, counts))?;
    if waits > 0 && !sabotage::is(Sabotage::UnknownIsNotRepeated) {
        tx.db
            .prepare_cached("UPDATE lane SET head_id = ?2, due_at = ?3 WHERE member_id = ?1")?
            .execute((lane, delivery, due_at))?;
        tx.woke.set(true);
        return Ok(());
    }
    refresh(tx, lane)
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

fn write_attempt(tx: &Tx<'_>, one: &Settled) -> Result<(), Failure> {
    let Some(answer) = one.outcome.answer() else {
        return Ok(());
    };
    tx.db
        .prepare_cached(
            "INSERT INTO attempt (delivery_id, began_at, took_ms, outcome, status, code, request_id, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            one.lease.head.id,
            millis(one.began_at),
            one.took_ms,
            one.outcome.word(),
            answer.status,
            answer.code,
            answer.request_id,
            answer.detail,
        ))?;
    Ok(())
}

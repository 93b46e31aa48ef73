//! Settles: what tries came to, in batches, inside a transaction. What went well is written together; the rest one by one.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::lanes::{self, Cause, Ended, NewRow};
use super::tx::{Failure, Tx, clean, direction, millis, timestamp};
use super::{holds, members};
use crate::domain::delivery::{Answer, Delivery, Outcome, Scope, Verdict};
use crate::domain::presence::At;
use crate::store::vault::Tag;
use crate::store::{Lease, PROBE_AGAIN_MS, Settled};

/// A lane, as the settle finds it.
struct Lane {
    epoch: i64,
    claimed: bool,
    suspect: bool,
}

pub(super) async fn settle(tx: &Tx<'_>, settled: &[Settled]) -> Result<usize, Failure> {
    let (mut lanes, held) = tokio::try_join!(biased; lock(tx, settled), holds::names(tx))?;
    let mut valid: Vec<&Settled> = Vec::with_capacity(settled.len());
    let mut late: Vec<&Settled> = Vec::new();
    for one in settled {
        match lanes.get_mut(&one.lease.lane) {
            Some(lane) if lane.epoch == one.lease.epoch && lane.claimed => {
                lane.claimed = false;
                valid.push(one);
            }
            // An outcome that was settled already, and is said twice because its commit was in doubt, changes nothing.
            Some(lane) if lane.epoch == one.lease.epoch => {}
            _ => late.push(one),
        }
    }
    let lost = settled.len() - valid.len();
    kill(tx, &valid).await?;
    // In this order: a lane is due when the first of the messages is that still wait.
    tokio::try_join!(biased; write_attempts(tx, &valid), deliver(tx, &valid), free(tx, &valid))?;
    repeat(tx, &valid).await?;
    judge_holds(tx, &valid, &held).await?;
    for one in &valid {
        let suspect = lanes.get(&one.lease.lane).is_some_and(|lane| lane.suspect);
        if suspect && matches!(one.verdict, Verdict::Delivered) {
            settle_suspect(tx, one).await?;
        }
    }
    for one in late {
        settle_late(tx, one).await?;
    }
    Ok(lost)
}

/// Lanes that were claimed are free now, and due when their next message is.
pub(super) const FREE: &str = "UPDATE lane SET node_id = NULL, lease_until = NULL, head_id = NULL,
           due_at = (SELECT m.not_before FROM message m
                     WHERE m.member_id = lane.member_id AND m.status = 'waiting' ORDER BY m.at, m.id LIMIT 1)
    WHERE member_id = ANY($1::bigint[]) RETURNING due_at";

async fn free(tx: &Tx<'_>, valid: &[&Settled]) -> Result<(), Failure> {
    let ids: Vec<i64> = valid.iter().map(|one| one.lease.lane).collect();
    let due = tx.rows(FREE, &[&ids]).await?;
    tx.wake(lanes::due_times(&due)?);
    Ok(())
}

async fn lock(tx: &Tx<'_>, settled: &[Settled]) -> Result<HashMap<i64, Lane>, Failure> {
    let ids: Vec<i64> = settled.iter().map(|one| one.lease.lane).collect();
    let rows = tx
        .rows(
            "SELECT member_id, epoch, node_id IS NOT NULL, suspect_id IS NOT NULL FROM lane WHERE member_id = ANY($1::bigint[])
             ORDER BY member_id FOR UPDATE",
            &[&ids],
        )
        .await?;
    rows.into_iter()
        .map(|row| {
            let lane = Lane {
                epoch: row.try_get(1)?,
                claimed: row.try_get(2)?,
                suspect: row.try_get(3)?,
            };
            Ok((row.try_get(0)?, lane))
        })
        .collect()
}

fn ended_at(one: &Settled) -> i64 {
    millis(one.ended_at())
}

async fn deliver(tx: &Tx<'_>, valid: &[&Settled]) -> Result<(), Failure> {
    let delivered = || valid.iter().filter(|one| matches!(one.verdict, Verdict::Delivered));
    let ended: Vec<Ended> = delivered()
        .map(|one| Ended {
            id: one.lease.head.id,
            status: "delivered",
            reason: None,
            tried: true,
            at: ended_at(one),
        })
        .collect();
    let waited = lanes::end(tx, &ended).await?;
    for one in delivered() {
        let Lease { head, .. } = &one.lease;
        let circle = &head.member.circle;
        if waited.contains(&head.id) {
            tx.leave_waiting(circle, "delivered", 1);
            continue;
        }
        // Withdrawn while it was in flight: it reached WeChat Pay all the same, so say so.
        let rows = tx
            .execute(
                "UPDATE delivery SET status = 'delivered', settled_at = $2 WHERE id = $1 AND status = 'withdrawn'",
                &[&head.id, &ended_at(one)],
            )
            .await?;
        if rows > 0 {
            tx.count("delivery", circle, "withdrawn", -1);
            tx.count("delivery", circle, "delivered", 1);
        }
    }
    Ok(())
}

async fn kill(tx: &Tx<'_>, valid: &[&Settled]) -> Result<(), Failure> {
    for one in valid {
        let Verdict::Dead { reason } = &one.verdict else {
            continue;
        };
        let Lease { lane, head, .. } = &one.lease;
        let rows = tx
            .execute(
                "UPDATE message SET status = 'dead', reason = $2, settled_at = $3, tries = tries + 1
                 WHERE id = $1 AND status || '' = 'waiting'",
                &[&head.id, &clean(reason), &ended_at(one)],
            )
            .await?;
        tx.leave_waiting(&head.member.circle, "dead", usize::try_from(rows).unwrap_or(0));
        // A first try that was refused never became news: what was told before stands. What is told once more may be with WeChat Pay.
        let news = "SELECT FROM message WHERE id = $1 AND cause NOT IN ('reassertion', 'replay')";
        if head.tries == 0 && !matches!(one.outcome, Outcome::Unknown { .. }) && tx.exists(news, &[&head.id]).await? {
            untell(tx, *lane, head).await?;
        }
    }
    Ok(())
}

async fn untell(tx: &Tx<'_>, lane: i64, head: &Delivery) -> Result<(), Failure> {
    let tag = tx.vault.plate_tag(&head.plate);
    let (at, state) = (millis(head.at), head.state.as_str());
    tx.execute(
        "DELETE FROM told WHERE member_id = $1 AND plate_tag = $2 AND at = $3 AND state = $4 AND was_at IS NULL",
        &[&lane, &tag.as_slice(), &at, &state],
    )
    .await?;
    tx.execute(
        "UPDATE told SET state = was_state, at = was_at, was_state = NULL, was_at = NULL
         WHERE member_id = $1 AND plate_tag = $2 AND at = $3 AND state = $4 AND was_at IS NOT NULL",
        &[&lane, &tag.as_slice(), &at, &state],
    )
    .await?;
    Ok(())
}

/// Messages that have to be tried again, before any other of their lanes.
async fn repeat(tx: &Tx<'_>, valid: &[&Settled]) -> Result<(), Failure> {
    let (mut ids, mut lanes, mut counts, mut due) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for one in valid {
        let circle = &one.lease.head.member.circle;
        let (word, at, counted) = match &one.verdict {
            Verdict::RetryAt { at, counts } => (one.outcome.word(), millis(*at), *counts),
            // Due at once, and the head again: it is the next probe.
            Verdict::Hold { .. } => ("hold", ended_at(one), false),
            Verdict::Delivered | Verdict::Dead { .. } => continue,
        };
        tx.count("retry", circle, word, 1);
        ids.push(one.lease.head.id);
        lanes.push(one.lease.lane);
        counts.push(i64::from(counted));
        due.push(at);
    }
    if ids.is_empty() {
        return Ok(());
    }
    tx.execute(REPEAT, &[&ids, &lanes, &counts, &due]).await?;
    tx.wake(due);
    Ok(())
}

pub(super) const REPEAT: &str =
    "WITH k AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                                           AS k (id, lane, counts, due)),
    again AS (UPDATE message SET tries = tries + (SELECT counts FROM k WHERE k.id = message.id)
              WHERE id = ANY($1::bigint[]) AND status || '' = 'waiting' RETURNING id)
    UPDATE lane SET head_id = k.id, due_at = k.due FROM k JOIN again USING (id) WHERE lane.member_id = k.lane";

/// What the outcomes mean for what pauses.
async fn judge_holds(tx: &Tx<'_>, valid: &[&Settled], held: &HashSet<(&'static str, String)>) -> Result<(), Failure> {
    let is_held = |one: &Settled| {
        held.contains(&("circle", one.lease.head.member.circle.clone()))
            || held.contains(&("merchant", one.lease.merchant.clone()))
    };
    // What comes behind a refusal of the set-up may end the pause again.
    let refused = |one: &&Settled| matches!(one.verdict, Verdict::Hold { .. });
    let first = valid.iter().position(refused).unwrap_or(valid.len());
    let (before, behind) = valid.split_at(first);
    let concerned: Vec<&Settled> = before
        .iter()
        .filter(|one| is_held(one))
        .chain(behind)
        .copied()
        .collect();
    if concerned.is_empty() {
        return Ok(());
    }
    holds::lock(tx).await?;
    for one in concerned {
        let (circle, merchant) = (&one.lease.head.member.circle, &one.lease.merchant);
        if let Verdict::Hold { scope, reason } = &one.verdict {
            let name = match scope {
                Scope::Circle => {
                    // Its signature was good enough to be told what is wrong with the circle.
                    holds::release(tx, Scope::Merchant, merchant).await?;
                    circle
                }
                Scope::Merchant => merchant,
            };
            holds::pause(tx, *scope, name, reason, ended_at(one)).await?;
        } else if one.verdict.is_judgement(&one.outcome) {
            holds::release(tx, Scope::Circle, circle).await?;
            holds::release(tx, Scope::Merchant, merchant).await?;
        } else {
            holds::probe_again(tx, circle, merchant, ended_at(one) + PROBE_AGAIN_MS).await?;
        }
    }
    Ok(())
}

async fn write_attempts(tx: &Tx<'_>, valid: &[&Settled]) -> Result<(), Failure> {
    let rows: Vec<(&Settled, Answer<'_>)> = valid
        .iter()
        .filter_map(|one| Some((*one, one.outcome.answer()?)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = rows.iter().map(|(one, _)| one.lease.head.id).collect();
    let began: Vec<i64> = rows.iter().map(|(one, _)| millis(one.began_at)).collect();
    let took: Vec<i64> = rows.iter().map(|(one, _)| one.took_ms).collect();
    let outcomes: Vec<&str> = rows.iter().map(|(one, _)| one.outcome.word()).collect();
    let status: Vec<Option<i64>> = rows.iter().map(|(_, row)| row.status.map(i64::from)).collect();
    let text = |value: Option<&str>| value.map(clean);
    let codes: Vec<Option<String>> = rows.iter().map(|(_, row)| text(row.code)).collect();
    let request_ids: Vec<Option<String>> = rows.iter().map(|(_, row)| text(row.request_id)).collect();
    let details: Vec<Option<String>> = rows.iter().map(|(_, row)| text(row.detail)).collect();
    tx.execute(
        "INSERT INTO attempt (delivery_id, began_at, took_ms, outcome, status, code, request_id, detail)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[])",
        &[&ids, &began, &took, &outcomes, &status, &codes, &request_ids, &details],
    )
    .await?;
    Ok(())
}

/// A try whose claim was lost. What it saw counts for nothing, but it may have arrived behind something newer: then that is told again.
async fn settle_late(tx: &Tx<'_>, one: &Settled) -> Result<(), Failure> {
    let Some(silent_from) = one.silent_from() else {
        return Ok(());
    };
    let Lease { lane, head, .. } = &one.lease;
    let row = tx.row("SELECT head_id FROM lane WHERE member_id = $1", &[lane]).await?;
    let under_way: Option<i64> = row.map(|row| row.try_get(0)).transpose()?.flatten();
    if under_way == Some(head.id) {
        // Nothing newer was told.
        return Ok(());
    }
    let plate_tag = tx.vault.plate_tag(&head.plate);
    let behind = tx
        .execute(
            "UPDATE message SET not_before = greatest(not_before, $3)
             WHERE member_id = $1 AND status = 'waiting' AND plate_tag = $2 AND id IS DISTINCT FROM $4",
            &[lane, &plate_tag.as_slice(), &millis(silent_from), &under_way],
        )
        .await?;
    if behind > 0 {
        // The newest is yet to be told, and comes behind it.
        return lanes::refresh(tx, &[*lane]).await;
    }
    tell_again(tx, one, silent_from).await
}

/// Once what a lost lane may still say late has been overtaken by something newer, the newest is told once more.
async fn settle_suspect(tx: &Tx<'_>, one: &Settled) -> Result<(), Failure> {
    let Lease { lane, head, .. } = &one.lease;
    let tag = tx.vault.plate_tag(&head.plate);
    let row = tx
        .row(
            "SELECT suspect_id FROM lane WHERE member_id = $1 AND suspect_plate = $2
               AND NOT EXISTS (SELECT FROM message WHERE member_id = $1 AND status = 'waiting' AND plate_tag = $2)",
            &[lane, &tag.as_slice()],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    let suspect: Option<i64> = row.try_get(0)?;
    let Some(suspect) = suspect else { return Ok(()) };
    tx.execute(
        "UPDATE lane SET suspect_id = NULL, suspect_plate = NULL WHERE member_id = $1",
        &[lane],
    )
    .await?;
    if suspect != head.id {
        tell_again(tx, one, one.ended_at()).await?;
    }
    Ok(())
}

/// Tells the newest state of a car once more, unless the plate is not bound any more.
async fn tell_again(tx: &Tx<'_>, one: &Settled, not_before: Timestamp) -> Result<(), Failure> {
    let Lease { lane, head: of, .. } = &one.lease;
    // By the clock of the node that settles: claims go by the clocks of nodes, too.
    let now = one.ended_at();
    let plate_tag = tx.vault.plate_tag(&of.plate);
    let Some(newest) = told(tx, *lane, &plate_tag).await? else {
        return Ok(());
    };
    let circle = &of.member.circle;
    if !members::is_bound(tx, circle, &plate_tag, *lane).await? {
        return Ok(());
    }
    let event = tx
        .row(
            "SELECT event_id FROM message WHERE id = $1 UNION ALL SELECT event_id FROM delivery WHERE id = $1 LIMIT 1",
            &[&of.id],
        )
        .await?;
    let Some(event) = event else { return Ok(()) };
    let row = NewRow {
        member: *lane,
        event_id: event.try_get(0)?,
        plate: &of.plate,
        plate_tag,
        state: newest.state,
        at: newest.at,
        cause: Cause::Reassertion,
        not_before,
        now,
        status: "waiting",
        reason: None,
    };
    lanes::queue(tx, circle, row).await
}

/// The newest state of a plate that was sent for a member, or may have been.
pub(super) async fn told(tx: &Tx<'_>, member: i64, plate_tag: &Tag) -> Result<Option<At>, Failure> {
    let row = tx
        .row(
            "SELECT state, at FROM told WHERE member_id = $1 AND plate_tag = $2",
            &[&member, &plate_tag.as_slice()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let at: Timestamp = timestamp(row.try_get(1)?)?;
    Ok(Some(At {
        state: direction(row.try_get(0)?)?,
        at,
    }))
}

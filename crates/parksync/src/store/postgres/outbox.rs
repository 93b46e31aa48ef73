//! What people look up in the outbox, and what they send again.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::lanes::{self, Cause};
use super::settle::told;
use super::tx::{Failure, Tx, direction, maybe_timestamp, millis, tag, timestamp};
use super::{holds, members};
use crate::domain::gate::Direction;
use crate::domain::story::{Pause, Place, Waiting};
use crate::store::{Entry, OutboxFilter, Replay, Status, Try};

/// What a row of the outbox is made of. What is open and what is over have the same columns.
fn columns(table: &str) -> String {
    format!(
        "SELECT d.id, d.plate_sealed, d.state, d.at, d.cause, d.status, d.reason, d.tries, d.enqueued_at, d.settled_at, m.circle,
                m.openid_sealed, l.node_id IS NOT NULL, l.due_at, l.head_id,
                (SELECT f.id FROM message f WHERE f.member_id = d.member_id AND f.status = 'waiting' ORDER BY f.at, f.id LIMIT 1),
                (SELECT coalesce(a.status || ' ' || coalesce(a.code, '') || coalesce(': ' || a.detail, ''), a.detail, a.outcome)
                   FROM attempt a WHERE a.delivery_id = d.id ORDER BY a.began_at DESC LIMIT 1),
                h.scope, h.name, h.reason, h.probe_at
         FROM {table} d JOIN member m ON m.id = d.member_id JOIN lane l ON l.member_id = d.member_id
         LEFT JOIN LATERAL (SELECT * FROM hold
                            WHERE (scope = 'circle' AND name = m.circle)
                               OR (scope = 'merchant' AND name = (SELECT c.merchant FROM circle c WHERE c.name = m.circle))
                            ORDER BY scope DESC LIMIT 1) h ON true"
    )
}

/// Messages of one status, oldest first.
pub(super) async fn list(tx: &Tx<'_>, filter: &OutboxFilter) -> Result<Vec<Entry>, Failure> {
    let table = match filter.status {
        Status::Waiting | Status::Held | Status::Dead => "message",
        Status::Delivered | Status::Superseded | Status::Withdrawn => "delivery",
    };
    let sql = format!(
        "{} WHERE d.status = '{}' AND d.id > $1 AND ($2::text IS NULL OR m.circle = $2)
           AND ($3::text IS NULL OR strpos(coalesce(d.reason, ''), $3) > 0) ORDER BY d.id LIMIT $4",
        columns(table),
        filter.status.as_str()
    );
    let rows = tx
        .rows(
            &sql,
            &[&filter.after, &filter.circle, &filter.reason, &i64::from(filter.limit)],
        )
        .await?;
    rows.iter().map(|row| entry(tx, row)).collect()
}

/// One message with its tries.
pub(super) async fn show(tx: &Tx<'_>, id: i64) -> Result<Option<(Entry, Vec<Try>)>, Failure> {
    for table in ["message", "delivery"] {
        if let Some(row) = tx.row(&format!("{} WHERE d.id = $1", columns(table)), &[&id]).await? {
            return Ok(Some((entry(tx, &row)?, tries(tx, id).await?)));
        }
    }
    Ok(None)
}

async fn tries(tx: &Tx<'_>, id: i64) -> Result<Vec<Try>, Failure> {
    let rows = tx
        .rows(
            "SELECT began_at, took_ms, outcome, status, code, request_id, detail FROM attempt WHERE delivery_id = $1
             ORDER BY began_at",
            &[&id],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let status: Option<i64> = row.try_get(3)?;
            Ok(Try {
                began_at: timestamp(row.try_get(0)?)?,
                took_ms: row.try_get(1)?,
                outcome: row.try_get(2)?,
                status: status.and_then(|status| u16::try_from(status).ok()),
                code: row.try_get(4)?,
                request_id: row.try_get(5)?,
                detail: row.try_get(6)?,
            })
        })
        .collect()
}

fn entry(tx: &Tx<'_>, row: &Row) -> Result<Entry, Failure> {
    let id: i64 = row.try_get(0)?;
    let reason: String = row.try_get::<_, Option<String>>(6)?.unwrap_or_default();
    let settled_at = timestamp(row.try_get::<_, Option<i64>>(9)?.unwrap_or(0))?;
    let place = match Status::parse(row.try_get(5)?).ok_or(Failure::Damaged("a status is unknown"))? {
        Status::Waiting => {
            let (head, first): (Option<i64>, Option<i64>) = (row.try_get(14)?, row.try_get(15)?);
            let is_head = head.or(first) == Some(id);
            let tries: i64 = row.try_get(7)?;
            Place::Waiting(Waiting {
                in_flight: row.try_get::<_, bool>(12)? && is_head,
                behind: !is_head,
                due_at: maybe_timestamp(row.try_get(13)?)?,
                tries: u32::try_from(tries).unwrap_or(u32::MAX),
                last_try: row.try_get(16)?,
                hold: pause(row)?,
            })
        }
        Status::Held => Place::Held { reason },
        Status::Dead => Place::Dead { reason, at: settled_at },
        Status::Delivered => Place::Delivered { at: settled_at },
        Status::Superseded => Place::Superseded { reason, at: settled_at },
        Status::Withdrawn => Place::Withdrawn { at: settled_at },
    };
    Ok(Entry {
        id,
        circle: row.try_get(10)?,
        openid: tx.vault.open_openid(row.try_get(11)?)?,
        plate: tx.vault.open_plate(row.try_get(1)?)?,
        state: direction(row.try_get(2)?)?,
        at: timestamp(row.try_get(3)?)?,
        cause: row.try_get(4)?,
        enqueued_at: timestamp(row.try_get(8)?)?,
        place,
    })
}

fn pause(row: &Row) -> Result<Option<Pause>, Failure> {
    let scope: Option<&str> = row.try_get(17)?;
    let Some(scope) = scope else { return Ok(None) };
    Ok(Some(Pause {
        scope: holds::scope(scope),
        name: row.try_get(18)?,
        reason: row.try_get(19)?,
        probe_at: maybe_timestamp(row.try_get(20)?)?,
    }))
}

/// Sends a dead or held message again, or says what that would do. One that would turn the present back needs `force`.
pub(super) async fn replay(tx: &Tx<'_>, id: i64, force: bool, really: bool, now: Timestamp) -> Result<Replay, Failure> {
    let Some(row) = find(tx, id).await? else {
        return Ok(Replay::Unknown);
    };
    let member: i64 = row.try_get(0)?;
    lanes::lock(tx, &[member]).await?;
    // Now that nobody else changes it.
    let Some(row) = find(tx, id).await? else {
        return Ok(Replay::Unknown);
    };
    let plate_tag = tag(row.try_get(1)?)?;
    let state: Direction = direction(row.try_get(2)?)?;
    let at = timestamp(row.try_get(3)?)?;
    let (status, circle): (String, String) = (row.try_get(4)?, row.try_get(5)?);
    if !matches!(status.as_str(), "dead" | "held") {
        return Ok(Replay::NotOpen { status });
    }
    if !members::is_bound(tx, &circle, &plate_tag, member).await? {
        return Ok(Replay::NoMember);
    }
    let turns_back = told(tx, member, &plate_tag).await?.filter(|told| told.at > at);
    if let Some(told) = turns_back.filter(|_| !force) {
        return Ok(Replay::TurnsBack {
            told: told.state,
            told_at: told.at,
        });
    }
    if !really {
        return Ok(Replay::Would { state, at });
    }
    tx.execute(
        "UPDATE message SET status = 'waiting', reason = NULL, settled_at = NULL, tries = 0, cause = $2, not_before = $3, enqueued_at = $3
         WHERE id = $1",
        &[&id, &Cause::Replay.as_str(), &millis(now)],
    )
    .await?;
    tx.count("waiting", &circle, "waiting", 1);
    if status == "held" {
        tx.count("waiting", &circle, "held", -1);
    }
    lanes::refresh(tx, &[member]).await?;
    Ok(Replay::Queued { state, at })
}

async fn find(tx: &Tx<'_>, id: i64) -> Result<Option<Row>, Failure> {
    for table in ["message", "delivery"] {
        let sql = format!(
            "SELECT d.member_id, d.plate_tag, d.state, d.at, d.status, m.circle
             FROM {table} d JOIN member m ON m.id = d.member_id WHERE d.id = $1"
        );
        if let Some(row) = tx.row(&sql, &[&id]).await? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

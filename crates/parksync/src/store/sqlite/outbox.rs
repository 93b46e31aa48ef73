//! What people look up in the outbox, and what they send again.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::{Failure, Tx, direction, lanes, millis, timestamp};
use crate::domain::delivery::Scope;
use crate::domain::gate::Direction;
use crate::domain::story::{Pause, Place, Waiting};
use crate::store::vault::{Tag, Vault};
use crate::store::{Entry, OutboxFilter, Replay, Status, Try};

const COLUMNS: &str = "SELECT d.id, d.plate_sealed, d.plate_tag, d.state, d.at, d.cause, d.status, d.reason, d.tries, d.enqueued_at,
           d.not_before, d.settled_at, m.circle, m.openid_sealed, l.node_id IS NOT NULL, l.due_at, l.head_id,
           (SELECT f.id FROM delivery f WHERE f.member_id = d.member_id AND f.status = 'waiting' ORDER BY f.at, f.id LIMIT 1),
           (SELECT coalesce(a.status || ' ' || coalesce(a.code, '') || coalesce(': ' || a.detail, ''), a.detail, a.outcome)
              FROM attempt a WHERE a.delivery_id = d.id ORDER BY a.rowid DESC LIMIT 1),
           (SELECT c.merchant FROM circle c WHERE c.name = m.circle), d.member_id
    FROM delivery d JOIN member m ON m.id = d.member_id JOIN lane l ON l.member_id = d.member_id";

/// Messages of one status, oldest first.
pub(super) fn list(db: &Connection, vault: &Vault, filter: &OutboxFilter) -> Result<Vec<Entry>, Failure> {
    let sql = format!(
        "{COLUMNS} WHERE d.status = ?1 AND d.id > ?2 AND (?3 IS NULL OR m.circle = ?3)
           AND (?4 IS NULL OR instr(coalesce(d.reason, ''), ?4) > 0) ORDER BY d.id LIMIT ?5"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let key = (
        filter.status.as_str(),
        filter.after,
        &filter.circle,
        &filter.reason,
        filter.limit,
    );
    let mut rows = statement.query(key)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(entry(db, vault, row)?);
    }
    Ok(entries)
}

/// One message with its tries.
pub(super) fn show(db: &Connection, vault: &Vault, id: i64) -> Result<Option<(Entry, Vec<Try>)>, Failure> {
    let sql = format!("{COLUMNS} WHERE d.id = ?1");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let entry = entry(db, vault, row)?;
    Ok(Some((entry, tries(db, id)?)))
}

pub(super) fn tries(db: &Connection, delivery: i64) -> Result<Vec<Try>, Failure> {
    type Columns = (
        i64,
        i64,
        String,
        Option<u16>,
        Option<String>,
        Option<String>,
        Option<String>,
    );
    let rows: Vec<Columns> = db
        .prepare_cached(
            "SELECT began_at, took_ms, outcome, status, code, request_id, detail FROM attempt WHERE delivery_id = ?1
             ORDER BY rowid",
        )?
        .query_map([delivery], |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    rows.into_iter()
        .map(|(began_at, took_ms, outcome, status, code, request_id, detail)| {
            Ok(Try {
                began_at: timestamp(began_at)?,
                took_ms,
                outcome,
                status,
                code,
                request_id,
                detail,
            })
        })
        .collect()
}

fn entry(db: &Connection, vault: &Vault, row: &Row<'_>) -> Result<Entry, Failure> {
    let id: i64 = row.get(0)?;
    let circle: String = row.get(12)?;
    let merchant: Option<String> = row.get(19)?;
    let status: String = row.get(6)?;
    let reason: Option<String> = row.get(7)?;
    let reason = reason.unwrap_or_default();
    let settled_at = timestamp(row.get::<_, Option<i64>>(11)?.unwrap_or(0))?;
    let place = match Status::parse(&status).ok_or(Failure::Damaged("a status is unknown"))? {
        Status::Waiting => {
            let head: Option<i64> = row.get(16)?;
            let first: Option<i64> = row.get(17)?;
            let is_head = head.or(first) == Some(id);
            Place::Waiting(Waiting {
                in_flight: row.get::<_, bool>(14)? && is_head,
                behind: !is_head,
                due_at: row.get::<_, Option<i64>>(15)?.map(timestamp).transpose()?,
                tries: row.get(8)?,
                last_try: row.get(18)?,
                hold: pause(db, &circle, merchant.as_deref().unwrap_or_default())?,
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
        circle,
        openid: vault.open_openid(&row.get::<_, Vec<u8>>(13)?)?,
        plate: vault.open_plate(&row.get::<_, Vec<u8>>(1)?)?,
        state: direction(&row.get::<_, String>(3)?)?,
        at: timestamp(row.get(4)?)?,
        cause: row.get(5)?,
        enqueued_at: timestamp(row.get(9)?)?,
        place,
    })
}

fn pause(db: &Connection, circle: &str, merchant: &str) -> Result<Option<Pause>, Failure> {
    let row: Option<(String, String, String, Option<i64>)> = db
        .prepare_cached(
            "SELECT scope, name, reason, probe_at FROM hold
             WHERE (scope = 'merchant' AND name = ?2) OR (scope = 'circle' AND name = ?1) ORDER BY scope DESC LIMIT 1",
        )?
        .query_row((circle, merchant), |row| row.try_into())
        .optional()?;
    row.map(|(scope, name, reason, probe_at)| {
        let scope = if scope == "merchant" {
            Scope::Merchant
        } else {
            Scope::Circle
        };
        Ok(Pause {
            scope,
            name,
            reason,
            probe_at: probe_at.map(timestamp).transpose()?,
        })
    })
    .transpose()
}

/// Sends a dead or held message again, or says what that would do. One that would turn the present back needs `force`.
pub(super) fn replay(tx: &Tx<'_>, id: i64, force: bool, really: bool, now: Timestamp) -> Result<Replay, Failure> {
    type Columns = (i64, Tag, String, i64, String, String);
    let row: Option<Columns> = tx
        .db
        .prepare_cached(
            "SELECT d.member_id, d.plate_tag, d.state, d.at, d.status, m.circle
             FROM delivery d JOIN member m ON m.id = d.member_id WHERE d.id = ?1",
        )?
        .query_row([id], |row| row.try_into())
        .optional()?;
    let Some((member, plate_tag, state, at, status, circle)) = row else {
        return Ok(Replay::Unknown);
    };
    if !matches!(status.as_str(), "dead" | "held") {
        return Ok(Replay::NotOpen { status });
    }
    if !tx
        .db
        .prepare_cached("SELECT 1 FROM binding WHERE circle = ?1 AND plate_tag = ?2 AND member_id = ?3")?
        .exists((&circle, plate_tag, member))?
    {
        return Ok(Replay::NoMember);
    }
    let told = super::record::told(tx, member, &plate_tag)?;
    let state: Direction = direction(&state)?;
    let at = timestamp(at)?;
    let turns_back = told.filter(|told| told.at > at);
    if let Some(told) = turns_back.filter(|_| !force) {
        return Ok(Replay::TurnsBack {
            told: told.state,
            told_at: told.at,
        });
    }
    if !really {
        return Ok(Replay::Would { state, at });
    }
    tx.db
        .prepare_cached(
            "UPDATE delivery SET status = 'waiting', reason = NULL, settled_at = NULL, tries = 0, cause = ?2,
                                 not_before = ?3, enqueued_at = ?3 WHERE id = ?1",
        )?
        .execute((id, lanes::Cause::Replay.as_str(), millis(now)))?;
    tx.count("waiting", &circle, "waiting", 1);
    if status == "held" {
        tx.count("waiting", &circle, "held", -1);
    }
    lanes::refresh(tx, member)?;
    Ok(Replay::Queued { state, at })
}

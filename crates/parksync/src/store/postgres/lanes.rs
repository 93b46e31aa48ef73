//! Cars and lanes: their locks, and what is put into lanes and taken out of them, inside a transaction.

use std::collections::HashSet;

use jiff::Timestamp;
use tokio_postgres::Row;

use super::tx::{Failure, Tx, clean, millis};
use crate::domain::gate::Direction;
use crate::domain::plate::Plate;
use crate::store::vault::Tag;

pub(super) use crate::store::book::Cause;

/// A message to write down.
pub(super) struct NewRow<'a> {
    pub(super) member: i64,
    pub(super) event_id: i64,
    pub(super) plate: &'a Plate,
    pub(super) plate_tag: Tag,
    pub(super) state: Direction,
    pub(super) at: Timestamp,
    pub(super) cause: Cause,
    pub(super) not_before: Timestamp,
    pub(super) now: Timestamp,
    pub(super) status: &'static str,
    pub(super) reason: Option<&'static str>,
}

/// A message that is over, and how.
pub(super) struct Ended {
    pub(super) id: i64,
    pub(super) status: &'static str,
    pub(super) reason: Option<String>,
    /// A try was made just now.
    pub(super) tried: bool,
    pub(super) at: i64,
}

/// Locks cars until the commit, in the order in which everybody does. Two cars that share a lock only wait for each other.
pub(super) async fn lock_cars(tx: &Tx<'_>, tags: &[&[u8]]) -> Result<(), Failure> {
    let mut keys: Vec<i64> = tags
        .iter()
        .filter_map(|tag| tag.first_chunk::<8>())
        .map(|bytes| i64::from_be_bytes(*bytes))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    tx.rows("SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) k", &[&keys])
        .await?;
    Ok(())
}

/// Locks lanes until the commit, in the order in which everybody does. Cars come before.
pub(super) async fn lock(tx: &Tx<'_>, members: &[i64]) -> Result<(), Failure> {
    tx.rows(
        "SELECT member_id FROM lane WHERE member_id = ANY($1::bigint[]) ORDER BY member_id FOR UPDATE",
        &[&members],
    )
    .await?;
    Ok(())
}

/// Writes messages down: open ones into `message`, such as are over already into `delivery`.
pub(super) async fn insert(tx: &Tx<'_>, table: &'static str, rows: &[NewRow<'_>]) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let members: Vec<i64> = rows.iter().map(|row| row.member).collect();
    let events: Vec<i64> = rows.iter().map(|row| row.event_id).collect();
    let tags: Vec<&[u8]> = rows.iter().map(|row| row.plate_tag.as_slice()).collect();
    let sealed: Vec<Vec<u8>> = rows.iter().map(|row| tx.vault.seal_plate(row.plate)).collect();
    let states: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
    let at: Vec<i64> = rows.iter().map(|row| millis(row.at)).collect();
    let causes: Vec<&str> = rows.iter().map(|row| row.cause.as_str()).collect();
    let not_before: Vec<i64> = rows.iter().map(|row| millis(row.not_before)).collect();
    let now: Vec<i64> = rows.iter().map(|row| millis(row.now)).collect();
    let status: Vec<&str> = rows.iter().map(|row| row.status).collect();
    let reasons: Vec<Option<&str>> = rows.iter().map(|row| row.reason).collect();
    let over: Vec<Option<i64>> = rows
        .iter()
        .map(|row| (table == "delivery").then(|| millis(row.now)))
        .collect();
    let sql = if table == "delivery" { INSERT_OVER } else { INSERT_OPEN };
    tx.execute(
        sql,
        &[
            &members,
            &events,
            &tags,
            &sealed,
            &states,
            &at,
            &causes,
            &not_before,
            &now,
            &status,
            &reasons,
            &over,
        ],
    )
    .await?;
    Ok(())
}

/// In the order they are given, so that of equal times the earlier one has the smaller id.
const INSERT_OPEN: &str = "INSERT INTO message (member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at,
                                                status, reason, settled_at)
    SELECT k.member_id, k.event_id, k.plate_tag, k.plate_sealed, k.state, k.at, k.cause, k.not_before, k.enqueued_at, k.status, k.reason,
           k.settled_at
    FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[],
                $10::text[], $11::text[], $12::bigint[]) WITH ORDINALITY
         k (member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at, status, reason, settled_at, n)
    ORDER BY k.n";

const INSERT_OVER: &str = "INSERT INTO delivery (id, member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at,
                                                 status, reason, tries, settled_at)
    SELECT day_ids(transaction_timestamp()) + nextval('message_number') % 10000000000, k.member_id, k.event_id, k.plate_tag,
           k.plate_sealed, k.state, k.at, k.cause, k.not_before, k.enqueued_at, k.status, k.reason, 0, k.settled_at
    FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[],
                $10::text[], $11::text[], $12::bigint[])
         k (member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at, status, reason, settled_at)";

/// Puts one message into a lane that is locked.
pub(super) async fn queue(tx: &Tx<'_>, circle: &str, row: NewRow<'_>) -> Result<(), Failure> {
    let member = row.member;
    insert(tx, "message", &[row]).await?;
    tx.count("waiting", circle, "waiting", 1);
    refresh(tx, &[member]).await
}

/// Moves waiting messages to those that are over. Says which: one that waits no more stays as it is.
pub(super) async fn end(tx: &Tx<'_>, ended: &[Ended]) -> Result<HashSet<i64>, Failure> {
    if ended.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<i64> = ended.iter().map(|one| one.id).collect();
    let status: Vec<&str> = ended.iter().map(|one| one.status).collect();
    let reasons: Vec<Option<String>> = ended.iter().map(|one| one.reason.as_deref().map(clean)).collect();
    let tried: Vec<i64> = ended.iter().map(|one| i64::from(one.tried)).collect();
    let at: Vec<i64> = ended.iter().map(|one| one.at).collect();
    let rows = tx.rows(END, &[&ids, &status, &reasons, &tried, &at]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Statistics of `message` are of a table that is empty most of the time, and on those any way through it looks as cheap as the right
/// one; it is not while a backlog waits, or while a snapshot that is held open keeps all that was ever there. So who knows ids says
/// `id = ANY(…)` and does not join, and says `status || ''`, which the index of the waiting ones does not answer to; who knows lanes asks
/// for one at a time, behind `OFFSET 0`. A test holds the plans to it.
pub(super) const END: &str = "WITH k AS (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
                              AS k (id, status, reason, tried, settled_at)),
    gone AS (DELETE FROM message WHERE id = ANY($1::bigint[]) AND status || '' = 'waiting' RETURNING *)
    INSERT INTO delivery (id, member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at, status, reason,
                          tries, settled_at)
    SELECT id, member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at, k.status, k.reason,
           tries + tried, k.settled_at
    FROM gone JOIN k USING (id) RETURNING id";

/// Takes one message out that waits and was never tried. Says whether there was one.
pub(super) async fn remove(tx: &Tx<'_>, circle: &str, id: i64, why: &str, now: Timestamp) -> Result<bool, Failure> {
    let row = tx
        .row(
            "SELECT m.member_id FROM message m JOIN lane l ON l.member_id = m.member_id
             WHERE m.id = $1 AND m.status || '' = 'waiting' AND l.head_id IS DISTINCT FROM m.id",
            &[&id],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let ended = Ended {
        id,
        status: "superseded",
        reason: Some(why.to_owned()),
        tried: false,
        at: millis(now),
    };
    end(tx, &[ended]).await?;
    tx.leave_waiting(circle, "superseded", 1);
    refresh(tx, &[row.try_get(0)?]).await?;
    Ok(true)
}

/// Takes the messages of a plate out of a lane that is locked. What is in flight finishes.
pub(super) async fn withdraw(
    tx: &Tx<'_>,
    circle: &str,
    member: i64,
    plate_tag: &Tag,
    now: Timestamp,
) -> Result<usize, Failure> {
    let gone = tx
        .rows(
            "WITH gone AS (DELETE FROM message WHERE member_id = $1 AND plate_tag = $2 AND status IN ('waiting', 'held')
                           RETURNING *),
                  kept AS (INSERT INTO delivery (id, member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before,
                                                 enqueued_at, status, reason, tries, settled_at)
                           SELECT id, member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at,
                                  'withdrawn', 'the plate was unbound', tries, $3 FROM gone)
             SELECT id, status FROM gone",
            &[&member, &plate_tag.as_slice(), &millis(now)],
        )
        .await?;
    for row in &gone {
        tx.count("waiting", circle, row.try_get(1)?, -1);
        tx.count("delivery", circle, "withdrawn", 1);
    }
    let ids: Vec<i64> = gone.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    tx.execute(
        "UPDATE lane SET head_id = NULL WHERE member_id = $1 AND node_id IS NULL AND head_id = ANY($2::bigint[])",
        &[&member, &ids],
    )
    .await?;
    refresh(tx, &[member]).await?;
    Ok(gone.len())
}

/// Sets when lanes are due: at the time of their first messages. A lane that is claimed, or that has to repeat a try, stays as it is.
pub(super) async fn refresh(tx: &Tx<'_>, members: &[i64]) -> Result<(), Failure> {
    if members.is_empty() {
        return Ok(());
    }
    let due = tx.rows(REFRESH, &[&members]).await?;
    tx.wake(due_times(&due)?);
    Ok(())
}

const REFRESH: &str = "UPDATE lane SET due_at = (SELECT m.not_before FROM message m
                                                 WHERE m.member_id = lane.member_id AND m.status = 'waiting' ORDER BY m.at, m.id LIMIT 1)
    WHERE member_id = ANY($1::bigint[]) AND node_id IS NULL AND head_id IS NULL RETURNING due_at";

/// When the lanes of such rows are due, those that are.
pub(super) fn due_times(rows: &[Row]) -> Result<Vec<i64>, Failure> {
    rows.iter()
        .filter_map(|row| row.try_get(0).map_err(Failure::from).transpose())
        .collect()
}

//! Counters, inside a transaction. What is counted is appended and added up later, so no two writers wait for one row, and a snapshot
//! that somebody keeps open leaves no old versions of a row in their way.
//!
//! Whoever adds up, or reads (the view `counters`), begins where it was added up to: what lies before is gone, but the dead rows may still be there. That place
//! is a transaction, not a time, because a commit may come long after its first row. In a database that was restored from a dump the
//! numbers of transactions begin anew, below that place; then everything is looked at.

use super::tx::{Failure, Tx};
use crate::store::Counter;

/// Writes down changes of counters.
pub(super) const COUNT: &str = "INSERT INTO counted (name, scope, word, value)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])";

/// Adds up what ended transactions counted. One node at a time.
pub(super) const ADD_UP: &str = "WITH last AS (SELECT xid FROM added_up FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM counted USING last
             WHERE counted.xid >= CASE WHEN last.xid <= pg_snapshot_xmin(pg_current_snapshot()) THEN last.xid ELSE '0' END
               AND counted.xid < pg_snapshot_xmin(pg_current_snapshot())
             RETURNING name, scope, word, value),
    moved AS (UPDATE added_up SET xid = pg_snapshot_xmin(pg_current_snapshot()) FROM last)
    INSERT INTO counter (name, scope, word, value)
    SELECT name, scope, word, sum(value)::bigint FROM gone GROUP BY name, scope, word
    ON CONFLICT (name, scope, word) DO UPDATE SET value = counter.value + excluded.value";

pub(super) const READ: &str = "SELECT name, scope, word, value FROM counters ORDER BY name, scope, word";

pub(super) async fn add_up(tx: &Tx<'_>) -> Result<(), Failure> {
    tx.execute(ADD_UP, &[]).await?;
    Ok(())
}

pub(super) async fn counters(tx: &Tx<'_>) -> Result<Vec<Counter>, Failure> {
    let rows = tx.rows(READ, &[]).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Counter {
                name: row.try_get(0)?,
                scope: row.try_get(1)?,
                word: row.try_get(2)?,
                value: row.try_get(3)?,
            })
        })
        .collect()
}

//! Counters. What a transaction counts is appended and added up later, so no two writers wait for one row, and a snapshot that somebody
//! keeps open leaves no old versions of a row in their way.
//!
//! Adding up moves every change that can be seen. The mark says where the next look begins: at the oldest transaction that was under way,
//! since what ended before it was seen and is gone. Without the mark each look would pass the dead rows of all that is gone.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio::runtime::Runtime;
use tracing::warn;

use super::inner::Inner;
use super::tx::{Failure, Tx, in_time};
use crate::store::Counter;

const EVERY: Duration = Duration::from_secs(10);

/// Writes down changes of counters.
pub(super) const COUNT: &str = "INSERT INTO counter_change (name, scope, word, value)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])";

/// Adds up what was counted. One process at a time.
pub(super) const ADD_UP: &str = "WITH mark AS (SELECT xid FROM counter_mark FOR UPDATE SKIP LOCKED),
    gone AS (DELETE FROM counter_change c USING mark WHERE c.xid >= mark.xid RETURNING name, scope, word, value),
    moved AS (UPDATE counter_mark SET xid = pg_snapshot_xmin(pg_current_snapshot()) FROM mark)
    INSERT INTO counter (name, scope, word, value)
    SELECT name, scope, word, sum(value)::bigint FROM gone GROUP BY name, scope, word
    ON CONFLICT (name, scope, word) DO UPDATE SET value = counter.value + excluded.value";

/// What was added up, and what was counted since.
pub(super) const READ: &str = "SELECT name, scope, word, value FROM counters ORDER BY name, scope, word";

/// In a server that was restored from a dump, transactions are numbered anew, below the mark. Then everything is looked at once.
pub(super) async fn check_mark(client: &Object) -> Result<(), Failure> {
    let check = "UPDATE counter_mark SET xid = '0' WHERE xid > pg_snapshot_xmin(pg_current_snapshot())";
    client.execute(check, &[]).await?;
    Ok(())
}

/// Adds up every ten seconds, for as long as the runtime lives.
pub(super) fn start(runtime: &Runtime, inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    runtime.spawn(async move {
        loop {
            if let Err(error) = in_time(add_up(&inner)).await {
                // They are right all the same; reading them takes longer.
                warn!(%error, "the counters could not be added up; next try in ten seconds");
            }
            tokio::time::sleep(EVERY).await;
        }
    });
}

async fn add_up(inner: &Inner) -> Result<(), Failure> {
    let mut client = inner.client().await?;
    let tx = Tx::begin(&mut client, inner).await?;
    tx.execute(ADD_UP, &[]).await?;
    tx.commit(inner).await
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

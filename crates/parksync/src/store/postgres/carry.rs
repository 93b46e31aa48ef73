//! The receiving end of a move from an SQLite file.

use serde_json::Value;

use super::tx::{Failure, Tx};
use crate::store::moving::Checksum;

/// Whether the database may receive: no node works on it, and what is in it came from a move that did not end.
pub(super) async fn ready(tx: &Tx<'_>) -> Result<Result<(), String>, Failure> {
    tx.execute(
        "CREATE TABLE IF NOT EXISTS carried (name text PRIMARY KEY, rows bigint NOT NULL, complete boolean NOT NULL DEFAULT false)",
        &[],
    )
    .await?;
    if tx
        .exists("SELECT FROM node WHERE seen_at > now_ms() - 60000", &[])
        .await?
    {
        return Ok(Err("nodes work on that database: stop them first".to_owned()));
    }
    let begun = tx.exists("SELECT FROM carried", &[]).await?;
    let used = tx
        .exists("SELECT FROM member UNION ALL SELECT FROM visit LIMIT 1", &[])
        .await?;
    if tx.exists("SELECT FROM carried WHERE complete", &[]).await? {
        return Ok(Err("a move into that database has ended already".to_owned()));
    }
    if used && !begun {
        return Ok(Err(
            "that database has members or visits of its own: take an empty one".to_owned()
        ));
    }
    Ok(Ok(()))
}

/// Rows of a table that are here.
pub(super) async fn carried(tx: &Tx<'_>, table: &str) -> Result<u64, Failure> {
    let row = tx.row("SELECT rows FROM carried WHERE name = $1", &[&table]).await?;
    let rows: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// Writes a portion, and down to where the table is here.
pub(super) async fn carry_in(tx: &Tx<'_>, table: &'static str, rows: &Value, done: u64) -> Result<(), Failure> {
    let identity = if matches!(table, "circle") {
        "OVERRIDING SYSTEM VALUE"
    } else {
        ""
    };
    // The type of a row is taken from the table itself: by its name, `circle` would be a figure of geometry.
    let sql = format!(
        "INSERT INTO {table} {identity}
         SELECT * FROM jsonb_populate_recordset((SELECT t FROM {table} t LIMIT 0), $1::text::jsonb) ON CONFLICT DO NOTHING"
    );
    tx.execute(&sql, &[&rows.to_string()]).await?;
    tx.execute(
        "INSERT INTO carried (name, rows) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET rows = excluded.rows",
        &[&table, &i64::try_from(done).unwrap_or(i64::MAX)],
    )
    .await?;
    Ok(())
}

/// Reads a table back.
pub(super) async fn checksum(tx: &Tx<'_>, table: &'static str) -> Result<Checksum, Failure> {
    tx.execute("SET LOCAL statement_timeout = 0", &[]).await?;
    tx.execute(
        &format!("DECLARE back CURSOR FOR SELECT to_jsonb(t)::text FROM {table} t"),
        &[],
    )
    .await?;
    let mut checksum = Checksum::default();
    loop {
        let rows = tx.rows("FETCH 5000 FROM back", &[]).await?;
        if rows.is_empty() {
            return Ok(checksum);
        }
        for row in rows {
            let row = serde_json::from_str(row.try_get(0)?).map_err(|_| Failure::Damaged("a row is no JSON"))?;
            checksum.add(&row);
        }
    }
}

/// Counting goes on behind what was carried over: members, circles, visits, events, messages. The move is complete.
pub(super) async fn number_on(tx: &Tx<'_>, newest: [i64; 5]) -> Result<(), Failure> {
    let sequences = [
        "pg_get_serial_sequence('member', 'id')",
        "pg_get_serial_sequence('circle', 'id')",
        "'visit_number'",
        "'event_number'",
        "'message_number'",
    ];
    for (sequence, newest) in sequences.iter().zip(newest) {
        tx.rows(&format!("SELECT setval({sequence}::regclass, $1)"), &[&newest])
            .await?;
    }
    tx.execute("UPDATE carried SET complete = true", &[]).await?;
    Ok(())
}

//! The schema: its migrations, whether this program can work with it, and the partitions of the coming days.

use deadpool_postgres::Object;
use tokio_postgres::Client;

use super::connect::{Address, OpenError};
use super::tx::Failure;
use crate::store::vault::Vault;

/// A step of the schema. Steps only add (expand); what an older program still needs goes one release later (contract).
struct Migration {
    sql: &'static str,
    /// The oldest schema whose programs can work with this one.
    works_with: i64,
}

const MIGRATIONS: [Migration; 1] = [Migration {
    sql: include_str!("../migrations/postgres/0001_start.sql"),
    works_with: 1,
}];

/// The schema that this program writes: the number of its migrations.
pub const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Tables that have a partition a day.
const DAILY: [&str; 3] = ["event", "delivery", "attempt"];
/// Days whose partitions are made ahead.
const AHEAD: i32 = 3;
/// One at a time makes or drops partitions, or migrates.
const LOCK: i64 = 0x7061_726b_7379_6e63;

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The schema before; 0 is an empty database.
    pub from: i64,
    /// The schema now.
    pub to: i64,
}

/// Brings a database up to date, one migration at a time, each in a transaction of its own.
pub(super) async fn migrate(address: &Address) -> Result<Migrated, OpenError> {
    let away = |error: tokio_postgres::Error| OpenError::away(Failure::from(error).to_string());
    let (mut client, mut driver) = address.connect().await.map_err(away)?;
    let work = async {
        client.batch_execute("SET lock_timeout = '10s'").await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
        client
            .batch_execute(
                "CREATE TABLE IF NOT EXISTS schema_version
                 (version bigint PRIMARY KEY, works_with bigint NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
            )
            .await?;
        let from = version(&client).await?.map_or(0, |(version, _)| version);
        let first = usize::try_from(from).unwrap_or(0).min(MIGRATIONS.len());
        for (number, step) in MIGRATIONS.iter().enumerate().skip(first) {
            let transaction = client.transaction().await?;
            transaction.batch_execute(step.sql).await?;
            let version = i64::try_from(number).unwrap_or(0) + 1;
            transaction
                .execute(
                    "INSERT INTO schema_version (version, works_with) VALUES ($1, $2)",
                    &[&version, &step.works_with],
                )
                .await?;
            transaction.commit().await?;
        }
        client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
        Ok(from)
    };
    let drive = async {
        while let Some(message) = std::future::poll_fn(|cx| driver.poll_message(cx)).await {
            message?;
        }
        // The client is still there, so a connection that ends has broken.
        std::future::pending::<Result<i64, tokio_postgres::Error>>().await
    };
    let from = tokio::select! {
        from = work => from,
        broken = drive => broken,
    }
    .map_err(away)?;
    if from > SCHEMA {
        return Err(OpenError::Newer {
            found: from,
            known: SCHEMA,
        });
    }
    Ok(Migrated { from, to: SCHEMA })
}

/// The schema of a database, and the oldest one whose programs can work with it.
async fn version(client: &Client) -> Result<Option<(i64, i64)>, tokio_postgres::Error> {
    let row = client
        .query_opt(
            "SELECT version, works_with FROM schema_version ORDER BY version DESC LIMIT 1",
            &[],
        )
        .await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// Whether this program can work with the database.
pub(super) async fn check(client: &Object) -> Result<(), OpenError> {
    let exists = client
        .query_one("SELECT to_regclass('schema_version') IS NOT NULL", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| OpenError::away(Failure::from(error).to_string()))?;
    let found = if exists {
        version(client)
            .await
            .map_err(|error| OpenError::away(Failure::from(error).to_string()))?
    } else {
        None
    };
    let (found, works_with) = found.unwrap_or((0, 0));
    if found < SCHEMA {
        Err(OpenError::Older { found, needed: SCHEMA })
    } else if works_with > SCHEMA {
        Err(OpenError::Newer { found, known: SCHEMA })
    } else {
        Ok(())
    }
}

/// Whether the vault has every key that this database was ever sealed with. New keys are noted.
pub(super) async fn check_vault(client: &Object, vault: &Vault) -> Result<(), OpenError> {
    let away = |error: tokio_postgres::Error| OpenError::away(Failure::from(error).to_string());
    for number in vault.key_numbers() {
        client
            .execute(
                "INSERT INTO vault_check (number, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                &[&i64::from(number), &vault.seal_check(number)],
            )
            .await
            .map_err(away)?;
    }
    let rows = client
        .query("SELECT sealed FROM vault_check", &[])
        .await
        .map_err(away)?;
    for row in rows {
        let sealed: Vec<u8> = row.try_get(0).map_err(away)?;
        if !vault.opens_check(&sealed) {
            return Err(OpenError::WrongVault);
        }
    }
    Ok(())
}

/// Makes the partitions of today and the coming days, where they are missing.
pub(super) async fn ensure_days(client: &Client) -> Result<(), Failure> {
    let days = client
        .query(
            "SELECT to_char((transaction_timestamp() AT TIME ZONE 'UTC')::date + n, 'YYMMDD') FROM generate_series(0, $1) n",
            &[&AHEAD],
        )
        .await?;
    let days: Vec<String> = days.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    make_days(client, &days).await
}

/// Makes the partitions of some days (`YYMMDD`), where they are missing.
pub(super) async fn make_days(client: &Client, days: &[String]) -> Result<(), Failure> {
    let missing = client
        .query(
            "SELECT t.name, d.day FROM unnest($1::text[]) t (name), unnest($2::text[]) d (day)
             WHERE to_regclass(t.name || '_' || d.day) IS NULL",
            &[&DAILY.as_slice(), &days],
        )
        .await?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut sql = format!("SELECT pg_advisory_xact_lock({LOCK});");
    for row in missing {
        let (table, day): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let key = if table == "attempt" { "delivery_id" } else { "id" };
        // Made beside the parent and attached with a check, so that nobody waits for it.
        sql.push_str(&format!(
            "CREATE TABLE IF NOT EXISTS {table}_{day} (LIKE {table} INCLUDING DEFAULTS INCLUDING INDEXES,
               CONSTRAINT day CHECK ({key} >= {day}0000000000 AND {key} < {day}0000000000 + 10000000000));
             DO $$ BEGIN
               IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = '{table}_{day}'::regclass) THEN
                 ALTER TABLE {table} ATTACH PARTITION {table}_{day}
                   FOR VALUES FROM ({day}0000000000) TO ({day}0000000000 + 10000000000);
               END IF;
             END $$;"
        ));
    }
    in_one(client, &sql).await
}

/// Several statements in one transaction, which gives up instead of making others wait.
async fn in_one(client: &Client, sql: &str) -> Result<(), Failure> {
    let done = client
        .batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = '2s'; {sql} COMMIT"))
        .await;
    if done.is_err() {
        // The connection goes back to the pool: not in the middle of a transaction.
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(done?)
}

/// Drops the days that ended before a time, in milliseconds. A day on which something began that is still open stays.
pub(super) async fn drop_days(client: &Client, before: i64) -> Result<(), Failure> {
    let old = client
        .query(
            "SELECT p.relname::text, c.relname::text, d.first
             FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent,
                  LATERAL (SELECT right(c.relname, 6)::bigint * 10000000000 AS first) d
             WHERE p.relname = ANY($1) AND d.first < day_ids(to_timestamp($2::bigint / 1000.0))
               AND NOT EXISTS (SELECT FROM message m WHERE m.id >= d.first AND m.id < d.first + 10000000000)
               AND NOT EXISTS (SELECT FROM message m WHERE m.event_id >= d.first AND m.event_id < d.first + 10000000000)
             ORDER BY d.first",
            &[&DAILY.as_slice(), &before],
        )
        .await?;
    for row in old {
        let (parent, day, first): (String, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if parent == "event" {
            forget_seen(client, &day, first).await?;
        }
        in_one(
            client,
            &format!("ALTER TABLE {parent} DETACH PARTITION {day}; DROP TABLE {day};"),
        )
        .await?;
        tracing::info!(day, "a day that is old enough was dropped");
    }
    Ok(())
}

/// The events of a day are forgotten: a resend of them would be news again. In portions, since a day may be long.
async fn forget_seen(client: &Client, day: &str, first: i64) -> Result<(), Failure> {
    let sql = format!(
        "WITH old AS (SELECT id, dedupe FROM {day} WHERE id > $1 ORDER BY id LIMIT 10000),
              gone AS (DELETE FROM seen WHERE dedupe IN (SELECT dedupe FROM old))
         SELECT max(id) FROM old"
    );
    let mut after = Some(first - 1);
    while let Some(last) = after {
        after = client.query_one(&sql, &[&last]).await?.try_get(0)?;
    }
    Ok(())
}

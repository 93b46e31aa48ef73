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

/// Makes the partitions of today and the coming days.
pub(super) async fn ensure_days(client: &Client) -> Result<(), Failure> {
    let missing = client
        .query(
            "SELECT t.name, to_char(d.day, 'YYMMDD')
             FROM unnest($1::text[]) t (name),
                  (SELECT (transaction_timestamp() AT TIME ZONE 'UTC')::date + n AS day FROM generate_series(0, $2) n) d
             WHERE to_regclass(t.name || '_' || to_char(d.day, 'YYMMDD')) IS NULL",
            &[&DAILY.as_slice(), &AHEAD],
        )
        .await?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut sql = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK});");
    for row in missing {
        let (table, day): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let key = if table == "attempt" { "delivery_id" } else { "id" };
        // Made beside the parent and attached with a check, so that nobody waits for it.
        sql.push_str(&format!(
            "CREATE TABLE IF NOT EXISTS {table}_{day} (LIKE {table} INCLUDING DEFAULTS INCLUDING INDEXES,
               CONSTRAINT day CHECK ({key} >= {day}0000000000 AND {key} < {day}0000000000 + 10000000000));
             DO $$ BEGIN
               IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = '{table}_{day}'::regclass) THEN
                 ALTER TABLE {table} ATTACH PARTITION {table}_{day} FOR VALUES FROM ({day}0000000000) TO ({day}0000000000 + 10000000000);
               END IF;
             END $$;"
        ));
    }
    sql.push_str("COMMIT");
    let done = client.batch_execute(&sql).await;
    if done.is_err() {
        // The connection goes back to the pool: not in the middle of a transaction.
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(done?)
}

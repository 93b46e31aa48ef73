//! The processes that work on this database and what they tell each other, inside a transaction.

use jiff::{SignedDuration, Timestamp};

use super::bell;
use super::tx::{Failure, Tx, maybe_timestamp, millis, timestamp};
use crate::limits;
use crate::store::{Beat, MerchantNews, MerchantState, Node, NodeCard, NodeId, Pace, Pulse};

/// How long a node that was not heard of is still listed.
const LISTED: SignedDuration = SignedDuration::from_hours(24);

pub(super) async fn join(tx: &Tx<'_>, card: &NodeCard) -> Result<NodeId, Failure> {
    let rows = tx
        .rows(
            "INSERT INTO node (name, role, version, started_at, seen_at) VALUES ($1, $2, $3, now_ms(), now_ms()) RETURNING id",
            &[&card.name, &card.role, &card.version],
        )
        .await?;
    let row = rows.first().ok_or(Failure::Damaged("a node got no number"))?;
    Ok(NodeId(row.try_get(0)?))
}

pub(super) async fn beat(tx: &Tx<'_>, pulse: Pulse) -> Result<Beat, Failure> {
    let store_now = tx.store_now().await?;
    let now = millis(store_now);
    let known = tx
        .execute(
            "UPDATE node SET seen_at = $2, ahead_ms = $3, in_flight = $4, sent = $5 WHERE id = $1",
            &[
                &pulse.node.0,
                &now,
                &(millis(pulse.now) - now),
                &i64::from(pulse.in_flight),
                &pulse.sent,
            ],
        )
        .await?;
    tx.execute(
        "DELETE FROM node WHERE id IN (SELECT id FROM node WHERE seen_at < $1 FOR UPDATE SKIP LOCKED)",
        &[&millis(store_now - LISTED)],
    )
    .await?;
    let workers = tx
        .rows(
            "SELECT count(*) FROM node WHERE seen_at > $1 AND role <> 'web'",
            &[&millis(store_now - limits::NODE_SILENT)],
        )
        .await?;
    let workers: i64 = match workers.first() {
        Some(row) => row.try_get(0)?,
        None => 1,
    };
    let rows = tx
        .rows(
            "SELECT mchid, pace, paced_at, shut_until, backup_since FROM merchant",
            &[],
        )
        .await?;
    let merchants = rows.into_iter().map(|row| {
        Ok(MerchantState {
            mchid: row.try_get(0)?,
            pace: Pace {
                share: row.try_get(1)?,
                at: timestamp(row.try_get(2)?)?,
                shut_until: timestamp(row.try_get(3)?)?,
            },
            backup_since: maybe_timestamp(row.try_get(4)?)?,
        })
    });
    Ok(Beat {
        store_now,
        workers: u32::try_from(workers.max(1)).unwrap_or(u32::MAX),
        merchants: merchants.collect::<Result<_, Failure>>()?,
        forgotten: known == 0,
    })
}

pub(super) async fn leave(tx: &Tx<'_>, node: NodeId) -> Result<(), Failure> {
    let freed = tx
        .rows(
            "WITH mine AS (SELECT member_id FROM lane WHERE node_id = $1 ORDER BY member_id FOR UPDATE),
                  freed AS (UPDATE lane SET node_id = NULL, lease_until = NULL, due_at = 0, epoch = epoch + 1
                            FROM mine WHERE lane.member_id = mine.member_id RETURNING lane.head_id),
                  tried AS (UPDATE message SET tries = tries + 1
                            WHERE id = ANY(ARRAY(SELECT head_id FROM freed)) AND status || '' = 'waiting')
             SELECT FROM freed",
            &[&node.0],
        )
        .await?;
    tx.execute("DELETE FROM node WHERE id = $1", &[&node.0]).await?;
    if !freed.is_empty() {
        // In the transaction itself, unlike everywhere else: this process may end before its bell has rung.
        tx.execute("SELECT pg_notify($1, '0')", &[&bell::CHANNEL]).await?;
    }
    Ok(())
}

pub(super) async fn nodes(tx: &Tx<'_>) -> Result<Vec<Node>, Failure> {
    let store_now = tx.store_now().await?;
    let rows = tx
        .rows(
            "SELECT id, name, role, version, started_at, seen_at, ahead_ms, in_flight, sent,
                    (SELECT count(*) FROM lane WHERE node_id = node.id)
             FROM node ORDER BY name, id",
            &[],
        )
        .await?;
    rows.into_iter()
        .map(|row| {
            let seen_at = timestamp(row.try_get(5)?)?;
            let number = |place: usize| -> Result<u32, Failure> {
                Ok(u32::try_from(row.try_get::<_, i64>(place)?).unwrap_or(u32::MAX))
            };
            Ok(Node {
                id: NodeId(row.try_get(0)?),
                name: row.try_get(1)?,
                role: row.try_get(2)?,
                version: row.try_get(3)?,
                started_at: timestamp(row.try_get(4)?)?,
                seen_at,
                silent: store_now.duration_since(seen_at),
                ahead: SignedDuration::from_millis(row.try_get(6)?),
                lanes: number(9)?,
                in_flight: number(7)?,
                sent: row.try_get(8)?,
            })
        })
        .collect()
}

/// Two nodes may learn of one throttle: the newer pace wins, and the longer wait.
pub(super) async fn share(tx: &Tx<'_>, mchid: &str, news: MerchantNews) -> Result<(), Failure> {
    match news {
        MerchantNews::Paced(pace) => {
            tx.execute(
                "INSERT INTO merchant (mchid, pace, paced_at, shut_until) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (mchid) DO UPDATE
                 SET pace = CASE WHEN excluded.paced_at >= merchant.paced_at THEN excluded.pace ELSE merchant.pace END,
                     paced_at = greatest(merchant.paced_at, excluded.paced_at),
                     shut_until = greatest(merchant.shut_until, excluded.shut_until)",
                &[&mchid, &pace.share, &millis(pace.at), &millis(pace.shut_until)],
            )
            .await?;
        }
        MerchantNews::Domain { backup_since } => {
            tx.execute(
                "INSERT INTO merchant (mchid, backup_since) VALUES ($1, $2)
                 ON CONFLICT (mchid) DO UPDATE SET backup_since = excluded.backup_since",
                &[&mchid, &backup_since.map(millis)],
            )
            .await?;
        }
    }
    Ok(())
}

pub(super) async fn heartbeat(tx: &Tx<'_>, now: Timestamp) -> Result<(), Failure> {
    tx.execute(
        "INSERT INTO heartbeat VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET at = excluded.at",
        &[&millis(now)],
    )
    .await?;
    Ok(())
}

/// How far what is committed is from being lost with one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// A commit is on a standby before it counts.
    Synchronous {
        /// Standbys that answer for it.
        standbys: i64,
    },
    /// A standby is asked for and none is there: commits wait.
    Waiting,
    /// Standbys follow, some time later.
    Asynchronous {
        /// How many.
        standbys: i64,
    },
    /// Commits count before they are on the server's own disk.
    Off {
        /// What `synchronous_commit` says.
        setting: String,
    },
    /// There is no standby.
    None,
    /// Our role may not see what the standbys do.
    Hidden,
}

/// What the server says of its standbys, and its time.
pub(super) async fn replication(tx: &Tx<'_>) -> Result<(Replication, Timestamp), Failure> {
    let row = tx
        .row(
            "SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> '',
                    count(*), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')), count(*) FILTER (WHERE state IS NULL)
             FROM pg_stat_replication",
            &[],
        )
        .await?
        .ok_or(Failure::Damaged("the server does not say how it replicates"))?;
    let setting: String = row.try_get(0)?;
    let (asked, standbys, synchronous): (bool, i64, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    // Without pg_read_all_stats the rows of others are there, and empty.
    let hidden: i64 = row.try_get(4)?;
    let replication = if setting == "off" || (setting == "local" && asked) {
        Replication::Off { setting }
    } else if asked && synchronous > 0 {
        Replication::Synchronous { standbys: synchronous }
    } else if asked && hidden > 0 {
        Replication::Hidden
    } else if asked {
        Replication::Waiting
    } else if standbys > 0 {
        Replication::Asynchronous { standbys }
    } else {
        Replication::None
    };
    Ok((replication, tx.store_now().await?))
}

//! The processes that work on the store, and what they tell each other, inside a transaction.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

use super::{Failure, Tx, claims, millis, timestamp};
use crate::limits;
use crate::sabotage::{self, Sabotage};
use crate::store::{Beat, MerchantNews, MerchantState, Node, NodeCard, NodeId, Pace, Pulse};

/// How long a node that was not heard of is still listed.
const LISTED: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn join(tx: &Tx<'_>, card: &NodeCard) -> Result<NodeId, Failure> {
    tx.db
        .prepare_cached("INSERT INTO node (name, role, version, started_at, seen_at) VALUES (?1, ?2, ?3, ?4, ?4)")?
        .execute((&card.name, card.role, card.version, millis(tx.store_now)))?;
    Ok(NodeId(tx.db.last_insert_rowid()))
}

pub(super) fn beat(tx: &Tx<'_>, pulse: Pulse) -> Result<Beat, Failure> {
    let now = millis(tx.store_now);
    let known = tx
        .db
        .prepare_cached("UPDATE node SET seen_at = ?2, ahead_ms = ?3, in_flight = ?4, sent = ?5 WHERE id = ?1")?
        .execute((pulse.node.0, now, millis(pulse.now) - now, pulse.in_flight, pulse.sent))?;
    tx.db
        .prepare_cached("DELETE FROM node WHERE seen_at < ?1")?
        .execute([millis(tx.store_now - LISTED)])?;
    let workers: u32 = tx
        .db
        .prepare_cached("SELECT count(*) FROM node WHERE seen_at > ?1 AND role <> 'web'")?
        .query_row([millis(tx.store_now - limits::NODE_SILENT)], |row| row.get(0))?;
    let rows: Vec<(String, f64, i64, i64, Option<i64>)> = tx
        .db
        .prepare_cached("SELECT mchid, pace, paced_at, shut_until, backup_since FROM merchant")?
        .query_map([], |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    let merchants = rows.into_iter().map(|(mchid, share, at, shut_until, backup_since)| {
        Ok(MerchantState {
            mchid,
            pace: Pace {
                share,
                at: timestamp(at)?,
                shut_until: timestamp(shut_until)?,
            },
            backup_since: backup_since.map(timestamp).transpose()?,
        })
    });
    Ok(Beat {
        store_now: tx.store_now,
        workers: workers.max(1),
        merchants: merchants.collect::<Result<_, Failure>>()?,
        forgotten: known == 0,
    })
}

pub(super) fn leave(tx: &Tx<'_>, node: NodeId) -> Result<(), Failure> {
    let freed = if sabotage::is(Sabotage::LeavingKeepsLanes) {
        0
    } else {
        claims::count_lost_try(tx, "node_id = ?1", [node.0])?;
        tx.db
            .prepare_cached(
                "UPDATE lane SET node_id = NULL, lease_until = NULL, due_at = 0, epoch = epoch + 1 WHERE node_id = ?1",
            )?
            .execute([node.0])?
    };
    tx.db
        .prepare_cached("DELETE FROM node WHERE id = ?1")?
        .execute([node.0])?;
    tx.woke.set(tx.woke.get() || freed > 0);
    Ok(())
}

pub(super) fn nodes(db: &Connection, store_now: Timestamp) -> Result<Vec<Node>, Failure> {
    type Row = (i64, String, String, String, i64, i64, i64, u32, i64, u32);
    let rows: Vec<Row> = db
        .prepare_cached(
            "SELECT id, name, role, version, started_at, seen_at, ahead_ms, in_flight, sent,
                    (SELECT count(*) FROM lane WHERE node_id = node.id)
             FROM node ORDER BY name, id",
        )?
        .query_map([], |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    rows.into_iter()
        .map(
            |(id, name, role, version, started_at, seen_at, ahead_ms, in_flight, sent, lanes)| {
                let seen_at = timestamp(seen_at)?;
                Ok(Node {
                    id: NodeId(id),
                    name,
                    role,
                    version,
                    started_at: timestamp(started_at)?,
                    seen_at,
                    silent: store_now.duration_since(seen_at),
                    ahead: SignedDuration::from_millis(ahead_ms),
                    lanes,
                    in_flight,
                    sent,
                })
            },
        )
        .collect()
}

/// Two nodes may learn of one throttle: the newer pace wins, and the longer wait.
pub(super) fn share(tx: &Tx<'_>, mchid: &str, news: MerchantNews) -> Result<(), Failure> {
    match news {
        MerchantNews::Paced(pace) => {
            tx.db
                .prepare_cached(
                    "INSERT INTO merchant (mchid, pace, paced_at, shut_until) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (mchid) DO UPDATE
                     SET pace = iif(excluded.paced_at >= paced_at, excluded.pace, pace),
                         paced_at = max(paced_at, excluded.paced_at),
                         shut_until = max(shut_until, excluded.shut_until)",
                )?
                .execute((mchid, pace.share, millis(pace.at), millis(pace.shut_until)))?;
        }
        MerchantNews::Domain { backup_since } => {
            tx.db
                .prepare_cached(
                    "INSERT INTO merchant (mchid, backup_since) VALUES (?1, ?2)
                     ON CONFLICT (mchid) DO UPDATE SET backup_since = excluded.backup_since",
                )?
                .execute((mchid, backup_since.map(millis)))?;
        }
    }
    Ok(())
}

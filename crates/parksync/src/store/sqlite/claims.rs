//! Claims, inside a transaction: which lanes are due, who gets them, and what a node that is away held.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::holds::Holds;
use super::lanes::refresh;
use super::{Failure, Tx, direction, millis, timestamp};
use crate::domain::delivery::Delivery;
use crate::domain::member::MemberKey;
use crate::sabotage::{self, Sabotage};
use crate::store::vault::Tag;
use crate::store::{ClaimRequest, Lease};

/// Makes circles known, with the merchants that sign for them.
pub(super) fn set_circles(tx: &Tx<'_>, circles: &[(String, String)]) -> Result<(), Failure> {
    for (name, merchant) in circles {
        tx.db
            .prepare_cached(
                "INSERT INTO circle (name, merchant) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET merchant = excluded.merchant",
            )?
            .execute((name, merchant))?;
    }
    Ok(())
}

/// Frees what a killed process held. What was in flight has an unknown outcome and stays the head of its lane.
pub(super) fn free_all(tx: &Tx<'_>) -> Result<(), Failure> {
    if sabotage::is(Sabotage::ClaimsSurviveARestart) {
        return Ok(());
    }
    count_lost_try(tx, "node_id IS NOT NULL", [])?;
    tx.db.execute(
        "UPDATE lane SET node_id = NULL, lease_until = NULL, due_at = 0 WHERE node_id IS NOT NULL",
        [],
    )?;
    tx.db.execute("UPDATE hold SET probing_until = 0", [])?;
    tx.db.execute("DELETE FROM node", [])?;
    Ok(())
}

/// Counts a try of the head of each lane that is taken from its node: it may have been sent, so it is not the first try any more.
pub(super) fn count_lost_try(tx: &Tx<'_>, which: &'static str, of: impl rusqlite::Params) -> Result<(), Failure> {
    let sql = format!(
        "UPDATE delivery SET tries = tries + 1 WHERE status = 'waiting' AND id IN (SELECT head_id FROM lane WHERE {which})"
    );
    tx.db.prepare_cached(&sql)?.execute(of)?;
    Ok(())
}

/// Frees lanes whose claim ended, due at once whatever the clocks of the nodes say. Their node may be slow instead of dead, so its
/// message may still arrive: it is remembered.
pub(super) fn take_over(tx: &Tx<'_>) -> Result<u32, Failure> {
    if sabotage::is(Sabotage::NeverTakenOver) {
        return Ok(0);
    }
    let early = if sabotage::is(Sabotage::TakenOverEarly) {
        12_000
    } else {
        0
    };
    let counted = !sabotage::is(Sabotage::EpochNotCounted);
    let ended = millis(tx.store_now) + early;
    count_lost_try(tx, "node_id IS NOT NULL AND lease_until <= ?1", [ended])?;
    let lanes: Vec<(i64, String)> = tx
        .db
        .prepare_cached(
            "UPDATE lane SET node_id = NULL, lease_until = NULL, due_at = 0, epoch = epoch + ?2, suspect_id = head_id,
                             suspect_plate = (SELECT plate_tag FROM delivery WHERE id = head_id)
             WHERE node_id IS NOT NULL AND lease_until <= ?1
             RETURNING member_id, (SELECT name FROM circle WHERE id = circle_id)",
        )?
        .query_map((ended, counted), |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    for (_, circle) in &lanes {
        tx.count("retry", circle, "taken-over", 1);
    }
    tx.woke.set(tx.woke.get() || !lanes.is_empty());
    Ok(u32::try_from(lanes.len()).unwrap_or(u32::MAX))
}

/// A circle with something in its lanes.
pub(super) struct Circle {
    id: i64,
    pub(super) name: String,
    pub(super) merchant: String,
}

/// The circles that have a lane with a time, in their order. One seek each, however long their lanes are.
fn active_circles(db: &Connection) -> Result<Vec<Circle>, Failure> {
    let mut next = db.prepare_cached(
        "SELECT c.id, c.name, c.merchant FROM circle c
         WHERE c.id = (SELECT min(circle_id) FROM lane WHERE due_at IS NOT NULL AND circle_id > ?1)",
    )?;
    let mut circles = Vec::new();
    let mut after = i64::MIN;
    while let Some((id, name, merchant)) = next.query_row([after], |row| row.try_into()).optional()? {
        circles.push(Circle { id, name, merchant });
        after = id;
    }
    Ok(circles)
}

/// When the next lane that may be claimed is due. A circle on hold is due when its probe is.
pub(super) fn next_due(db: &Connection, store_now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let holds = Holds::load(db, store_now)?;
    let mut earliest = db.prepare_cached("SELECT min(due_at) FROM lane WHERE circle_id = ?1 AND due_at IS NOT NULL")?;
    let mut next: Option<i64> = None;
    for circle in active_circles(db)? {
        let mut due: Option<i64> = earliest.query_row([circle.id], |row| row.get(0))?;
        if let Some(hold) = holds.over(&circle) {
            due = hold
                .probe_at
                .filter(|_| !hold.probing)
                .and_then(|probe| due.map(|due| due.max(probe)));
        }
        next = [next, due].into_iter().flatten().min();
    }
    next.map(timestamp).transpose()
}

/// Takes lanes that are due, the same share for every circle; what one circle does not need, the others get.
pub(super) fn claim(tx: &Tx<'_>, request: &ClaimRequest) -> Result<Vec<Lease>, Failure> {
    let mut holds = Holds::load(tx.db, tx.store_now)?;
    let mut circles = active_circles(tx.db)?;
    if circles.is_empty() || request.limit == 0 {
        return Ok(Vec::new());
    }
    // With more circles than places, each turn begins with another one.
    let first = usize::try_from(request.turn % circles.len() as u64).unwrap_or(0);
    circles.rotate_left(first);
    let mut allowed = request.allowed.clone();
    let mut left = request.limit;
    let mut leases = Vec::new();
    let share = (request.limit / u32::try_from(circles.len()).unwrap_or(u32::MAX)).max(1);
    for quota in [share, u32::MAX] {
        for circle in &circles {
            let allowance = allowed.get(&circle.merchant).copied().unwrap_or(u32::MAX);
            let mut most = quota.min(left).min(allowance);
            if let Some(hold) = holds.over_mut(circle).filter(|_| !sabotage::is(Sabotage::HoldIgnored)) {
                let probes = sabotage::is(Sabotage::ProbeStorm)
                    || hold.probe_at.is_some_and(|at| at <= millis(request.now))
                        && (!hold.probing || sabotage::is(Sabotage::EachNodeProbes));
                most = most.min(u32::from(probes));
            }
            if most == 0 {
                continue;
            }
            let claimed = claim_of(tx, circle, request, most, &mut leases)?;
            left -= claimed;
            if let Some(allowance) = allowed.get_mut(&circle.merchant) {
                *allowance -= claimed;
            }
            if let Some(hold) = holds.over_mut(circle).filter(|_| claimed > 0) {
                hold.probing = true;
                tx.db
                    .prepare_cached("UPDATE hold SET probing_until = ?3 WHERE scope = ?1 AND name = ?2")?
                    .execute((hold.scope, &hold.name, millis(tx.store_now + request.lease)))?;
            }
        }
    }
    Ok(leases)
}

fn claim_of(
    tx: &Tx<'_>,
    circle: &Circle,
    request: &ClaimRequest,
    most: u32,
    leases: &mut Vec<Lease>,
) -> Result<u32, Failure> {
    let now = request.now;
    let lease_until = millis(tx.store_now + request.lease);
    let due: Vec<(i64, Option<i64>, i64)> = tx
        .db
        .prepare_cached(
            "SELECT member_id, head_id, epoch FROM lane WHERE circle_id = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3",
        )?
        .query_map((circle.id, millis(now), most), |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    let counted = !sabotage::is(Sabotage::EpochNotCounted);
    let mut claimed = 0;
    for (lane, head, epoch) in due {
        let loaded = match load_head(tx, lane, head) {
            Err(Failure::Vault(error)) => {
                // One message that cannot be read must not stop the others. It waits for the right key, and for a person.
                set_aside(tx, circle, lane, head, &error.to_string(), now)?;
                continue;
            }
            loaded => loaded?,
        };
        let Some((head, plate_tag)) = loaded else {
            // The head was settled in another way (withdrawn while it was to be repeated): look for the next one.
            tx.db
                .prepare_cached("UPDATE lane SET head_id = NULL WHERE member_id = ?1")?
                .execute([lane])?;
            refresh(tx, lane)?;
            continue;
        };
        tx.db
            .prepare_cached(
                "UPDATE lane SET node_id = ?3, lease_until = ?4, epoch = epoch + ?5, due_at = NULL, head_id = ?2
                 WHERE member_id = ?1",
            )?
            .execute((lane, head.id, request.node.0, lease_until, counted))?;
        if !sabotage::is(Sabotage::ToldAfterTheSend) {
            tx.db
                .prepare_cached(
                    "INSERT INTO told (member_id, plate_tag, state, at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (member_id, plate_tag) DO UPDATE
                 SET state = excluded.state, at = excluded.at, was_state = told.state, was_at = told.at
                 WHERE excluded.at > told.at OR (excluded.at = told.at AND excluded.state <> told.state)",
                )?
                .execute((lane, plate_tag, head.state.as_str(), millis(head.at)))?;
        }
        if sabotage::is(Sabotage::SeveralInFlight) {
            tx.db
                .prepare_cached("UPDATE lane SET due_at = ?2, head_id = NULL WHERE member_id = ?1")?
                .execute((lane, millis(now)))?;
        }
        if sabotage::is(Sabotage::ClaimedTwice) {
            tx.db
                .prepare_cached("UPDATE lane SET due_at = ?2 WHERE member_id = ?1")?
                .execute((lane, millis(now) + 50))?;
        }
        leases.push(Lease {
            lane,
            epoch: epoch + i64::from(counted),
            merchant: circle.merchant.clone(),
            head,
        });
        claimed += 1;
    }
    Ok(claimed)
}

/// Puts the head of a lane aside for a person.
fn set_aside(
    tx: &Tx<'_>,
    circle: &Circle,
    lane: i64,
    head: Option<i64>,
    why: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let rows = tx
        .db
        .prepare_cached(
            "UPDATE delivery SET status = 'held', reason = ?3, settled_at = ?4
             WHERE id = coalesce(?2, (SELECT id FROM delivery WHERE member_id = ?1 AND status = 'waiting' ORDER BY at, id LIMIT 1))
               AND status = 'waiting'",
        )?
        .execute((lane, head, why, millis(now)))?;
    if rows > 0 {
        tx.count("waiting", &circle.name, "waiting", -1);
        tx.count("waiting", &circle.name, "held", 1);
        tracing::error!(
            circle.id = circle.name,
            why,
            "a message cannot be opened and waits for a person"
        );
    }
    tx.db
        .prepare_cached("UPDATE lane SET head_id = NULL WHERE member_id = ?1")?
        .execute([lane])?;
    refresh(tx, lane)
}

/// The head of a lane: the message that has to be repeated, else the earliest one that waits.
fn load_head(tx: &Tx<'_>, lane: i64, head: Option<i64>) -> Result<Option<(Delivery, Tag)>, Failure> {
    type Row = (i64, Tag, Vec<u8>, String, i64, i64, u32, String, String, Vec<u8>);
    const BY_ID: &str = "SELECT d.id, d.plate_tag, d.plate_sealed, d.state, d.at, d.enqueued_at, d.tries,
                                m.circle, m.appid, m.openid_sealed
                         FROM delivery d JOIN member m ON m.id = d.member_id WHERE d.id = ?1 AND d.status = 'waiting'";
    const FIRST_COME: &str = "SELECT d.id, d.plate_tag, d.plate_sealed, d.state, d.at, d.enqueued_at, d.tries,
                                     m.circle, m.appid, m.openid_sealed
                              FROM delivery d JOIN member m ON m.id = d.member_id
                              WHERE d.member_id = ?1 AND d.status = 'waiting' ORDER BY d.id LIMIT 1";
    const EARLIEST: &str = "SELECT d.id, d.plate_tag, d.plate_sealed, d.state, d.at, d.enqueued_at, d.tries,
                                   m.circle, m.appid, m.openid_sealed
                            FROM delivery d JOIN member m ON m.id = d.member_id
                            WHERE d.member_id = ?1 AND d.status = 'waiting' ORDER BY d.at, d.id LIMIT 1";
    let earliest = if sabotage::is(Sabotage::OrderOfArrival) {
        FIRST_COME
    } else {
        EARLIEST
    };
    let (sql, key) = head.map_or((earliest, lane), |head| (BY_ID, head));
    let row: Option<Row> = tx
        .db
        .prepare_cached(sql)?
        .query_row([key], |row| row.try_into())
        .optional()?;
    let Some((id, plate_tag, plate, state, at, enqueued_at, tries, circle, appid, openid)) = row else {
        return Ok(None);
    };
    let appid = appid.parse().map_err(|_| Failure::Damaged("an appid is none"))?;
    let delivery = Delivery {
        id,
        member: MemberKey {
            circle,
            appid,
            openid: tx.vault.open_openid(&openid)?,
        },
        plate: tx.vault.open_plate(&plate)?,
        state: direction(&state)?,
        at: timestamp(at)?,
        enqueued_at: timestamp(enqueued_at)?,
        tries,
    };
    Ok(Some((delivery, plate_tag)))
}

//! What time does by itself, inside a transaction: stale visits, presence that is renewed at midnight, rows that grew old.
//! Each step takes a bounded number of rows, so that no sweep holds up the gates.

use jiff::Timestamp;

use super::lanes::{self, Cause, Message};
use super::{Failure, Tx, millis};
use crate::domain::gate::Direction;
use crate::store::vault::Tag;
use crate::store::{Renewal, Retention, Swept};

/// Rows of one kind in one step.
const STEP: u32 = 500;

/// Marks visits stale that have lasted too long. Nothing is sent: nobody saw the car leave.
pub(super) fn mark_stale(tx: &Tx<'_>, entered_before: Timestamp, lot: &str, now: Timestamp) -> Result<u32, Failure> {
    let rows = tx
        .db
        .prepare_cached(
            "UPDATE visit SET ended = 'stale', forget_from = ?3
             WHERE id IN (SELECT id FROM visit WHERE ended IS NULL AND entered_at < ?1 AND entered_lot = ?2
                          ORDER BY entered_at LIMIT ?4)",
        )?
        .execute((millis(entered_before), lot, millis(now), STEP))?;
    if rows > 0 {
        tx.count("visit", lot, "stale", i64::try_from(rows).unwrap_or(0));
    }
    Ok(u32::try_from(rows).unwrap_or(u32::MAX))
}

/// Tells again that cars are inside, since WeChat Pay forgets presence at midnight. Each car once per midnight.
pub(super) fn renew(tx: &Tx<'_>, renewal: &Renewal) -> Result<u32, Failure> {
    type Row = (i64, i64, Tag, Vec<u8>, i64);
    let rows: Vec<Row> = tx
        .db
        .prepare_cached(
            "SELECT b.member_id, e.id, v.plate_tag, b.plate_sealed, v.id
             FROM visit v
             JOIN binding b ON b.circle = v.circle AND b.plate_tag = v.plate_tag
             JOIN event e ON e.id = (SELECT id FROM event WHERE visit_id = v.id AND state = 'IN' ORDER BY id LIMIT 1)
             LEFT JOIN told t ON t.member_id = b.member_id AND t.plate_tag = v.plate_tag
             WHERE v.ended IS NULL AND v.entered_at < ?1 AND v.entered_lot = ?2 AND (t.at IS NULL OR t.at < ?1)
               AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.member_id = b.member_id AND d.status = 'waiting'
                                 AND d.plate_tag = v.plate_tag AND d.at >= ?1)
             LIMIT ?3",
        )?
        .query_map((millis(renewal.midnight), &renewal.lot, STEP), |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    for (member, event_id, plate_tag, sealed, visit) in &rows {
        tx.db
            .prepare_cached("UPDATE visit SET of_member = 1 WHERE id = ?1 AND NOT of_member")?
            .execute([visit])?;
        let plate = tx.vault.open_plate(sealed)?;
        let message = Message {
            event_id: *event_id,
            plate: &plate,
            plate_tag: *plate_tag,
            state: Direction::In,
            at: renewal.midnight,
            cause: Cause::Midnight,
        };
        lanes::queue(tx, &renewal.circle, *member, &message, renewal.now, renewal.now)?;
    }
    Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
}

/// Removes what is older than it may get: what strangers left soon, what members left later.
pub(super) fn forget(tx: &Tx<'_>, retention: &Retention) -> Result<Swept, Failure> {
    let strangers = millis(retention.now - retention.strangers);
    let all = millis(retention.now - retention.all);
    let visits: Vec<(i64, i64, i64, bool)> = tx
        .db
        .prepare_cached(
            "SELECT v.id, v.forget_from, max(coalesce(v.entered_at, 0), coalesce(v.left_at, 0)),
                    v.of_member OR EXISTS (SELECT 1 FROM binding b WHERE b.circle = v.circle AND b.plate_tag = v.plate_tag)
             FROM visit v WHERE v.forget_from < ?1 ORDER BY v.forget_from LIMIT ?2",
        )?
        .query_map((strangers, STEP), |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    let mut swept = Swept {
        looked: u32::try_from(visits.len()).unwrap_or(STEP),
        ..Swept::default()
    };
    for (visit, since, last_at, of_member) in visits {
        // A member's visit is looked at twice: now, and when everything of its age goes.
        let later = since + (strangers - all).max(1);
        if of_member && (last_at >= all || has_open_delivery(tx, visit)?) {
            tx.db
                .prepare_cached("UPDATE visit SET forget_from = ?2 WHERE id = ?1")?
                .execute((visit, later.max(strangers)))?;
            continue;
        }
        swept.events += forget_visit(tx, visit)?;
        swept.visits += 1;
    }
    // Crossings of inner lots belong to no visit.
    let inner = tx
        .db
        .prepare_cached(
            "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE visit_id IS NULL AND received_at < ?1 LIMIT ?2)",
        )?
        .execute((strangers, STEP))?;
    swept.events += u32::try_from(inner).unwrap_or(u32::MAX);
    Ok(swept)
}

fn has_open_delivery(tx: &Tx<'_>, visit: i64) -> Result<bool, Failure> {
    Ok(tx
        .db
        .prepare_cached(
            "SELECT 1 FROM event e JOIN delivery d ON d.event_id = e.id
             WHERE e.visit_id = ?1 AND d.status IN ('waiting', 'held')",
        )?
        .exists([visit])?)
}

fn forget_visit(tx: &Tx<'_>, visit: i64) -> Result<u32, Failure> {
    for sql in [
        "DELETE FROM attempt WHERE delivery_id IN
           (SELECT d.id FROM delivery d JOIN event e ON e.id = d.event_id WHERE e.visit_id = ?1)",
        "DELETE FROM delivery WHERE event_id IN (SELECT id FROM event WHERE visit_id = ?1)",
    ] {
        tx.db.prepare_cached(sql)?.execute([visit])?;
    }
    let events = tx
        .db
        .prepare_cached("DELETE FROM event WHERE visit_id = ?1")?
        .execute([visit])?;
    tx.db
        .prepare_cached("DELETE FROM visit WHERE id = ?1")?
        .execute([visit])?;
    Ok(u32::try_from(events).unwrap_or(u32::MAX))
}

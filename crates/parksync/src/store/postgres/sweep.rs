//! What time does by itself, inside a transaction: stale visits, presence that is renewed at midnight, rows that grew old.
//! Each step takes a bounded number of rows, so that no sweep holds up the gates. Whole days go by partition.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::lanes::{self, Cause, NewRow};
use super::tx::{Failure, Tx, millis, tag};
use crate::domain::gate::Direction;
use crate::store::{Renewal, Retention, Swept};

/// Rows of one kind in one step.
const STEP: i64 = 500;

/// Marks visits stale that have lasted too long. Nothing is sent: nobody saw the car leave.
pub(super) async fn mark_stale(
    tx: &Tx<'_>,
    entered_before: Timestamp,
    lot: &str,
    now: Timestamp,
) -> Result<u32, Failure> {
    let rows = tx
        .rows(
            "SELECT id, plate_tag FROM visit WHERE ended IS NULL AND entered_at < $1 AND entered_lot = $2
             ORDER BY entered_at LIMIT $3",
            &[&millis(entered_before), &lot, &STEP],
        )
        .await?;
    lock_cars(tx, &rows, 1).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let marked = tx
        .execute(
            "UPDATE visit SET ended = 'stale', forget_from = $2 WHERE id = ANY($1::bigint[]) AND ended IS NULL",
            &[&ids, &millis(now)],
        )
        .await?;
    tx.count("visit", lot, "stale", i64::try_from(marked).unwrap_or(0));
    Ok(u32::try_from(marked).unwrap_or(u32::MAX))
}

async fn lock_cars(tx: &Tx<'_>, rows: &[Row], column: usize) -> Result<(), Failure> {
    let tags: Vec<&[u8]> = rows.iter().map(|row| row.try_get(column)).collect::<Result<_, _>>()?;
    lanes::lock_cars(tx, &tags).await
}

/// Tells again that cars are inside, since WeChat Pay forgets presence at midnight. Each car once per midnight.
pub(super) async fn renew(tx: &Tx<'_>, renewal: &Renewal) -> Result<u32, Failure> {
    let args: super::tx::Args<'_> = &[&millis(renewal.midnight), &renewal.lot, &STEP];
    let rows = tx.rows(RENEW, args).await?;
    lock_cars(tx, &rows, 2).await?;
    let members: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    lanes::lock(tx, &members).await?;
    // Again, now that nobody else changes them: another node renews as well.
    let rows = tx.rows(RENEW, args).await?;
    let mut renewed = Vec::with_capacity(rows.len());
    for row in rows
        .iter()
        .filter(|row| row.try_get(0).is_ok_and(|id| members.contains(&id)))
    {
        let plate = tx.vault.open_plate(row.try_get(3)?)?;
        renewed.push((
            row.try_get::<_, i64>(0)?,
            row.try_get::<_, i64>(1)?,
            tag(row.try_get(2)?)?,
            plate,
        ));
    }
    let messages: Vec<NewRow<'_>> = renewed
        .iter()
        .map(|(member, event_id, plate_tag, plate)| NewRow {
            member: *member,
            event_id: *event_id,
            plate,
            plate_tag: *plate_tag,
            state: Direction::In,
            at: renewal.midnight,
            cause: Cause::Midnight,
            not_before: renewal.now,
            now: renewal.now,
            status: "waiting",
            reason: None,
        })
        .collect();
    lanes::insert(tx, "message", &messages).await?;
    let visits: Vec<i64> = rows.iter().map(|row| row.try_get(4)).collect::<Result<_, _>>()?;
    tx.execute(
        "UPDATE visit SET of_member = true WHERE id = ANY($1::bigint[]) AND NOT of_member",
        &[&visits],
    )
    .await?;
    lanes::refresh(tx, &members).await?;
    let count = messages.len();
    tx.count("waiting", &renewal.circle, "waiting", i64::try_from(count).unwrap_or(0));
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

const RENEW: &str = "SELECT b.member_id, e.id, v.plate_tag, b.plate_sealed, v.id
    FROM visit v
    JOIN binding b ON b.circle = v.circle AND b.plate_tag = v.plate_tag,
    LATERAL (SELECT id FROM event WHERE visit_id = v.id AND state = 'IN' ORDER BY id LIMIT 1) e
    WHERE v.ended IS NULL AND v.entered_at < $1 AND v.entered_lot = $2
      AND NOT EXISTS (SELECT FROM told t WHERE t.member_id = b.member_id AND t.plate_tag = v.plate_tag AND t.at >= $1)
      AND NOT EXISTS (SELECT FROM message d WHERE d.member_id = b.member_id AND d.status = 'waiting'
                                              AND d.plate_tag = v.plate_tag AND d.at >= $1)
    ORDER BY v.id, b.member_id LIMIT $3";

/// Removes what is older than it may get: what strangers left soon, what members left later.
pub(super) async fn forget(tx: &Tx<'_>, retention: &Retention) -> Result<Swept, Failure> {
    let strangers = millis(retention.now - retention.strangers);
    let all = millis(retention.now - retention.all);
    let rows = tx
        .rows(
            "SELECT v.id, v.forget_from, greatest(v.entered_at, v.left_at, 0),
                    v.of_member OR EXISTS (SELECT FROM binding b WHERE b.circle = v.circle AND b.plate_tag = v.plate_tag)
             FROM visit v WHERE v.forget_from < $1 ORDER BY v.forget_from LIMIT $2 FOR UPDATE OF v SKIP LOCKED",
            &[&strangers, &STEP],
        )
        .await?;
    let mut swept = Swept {
        looked: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        ..Swept::default()
    };
    let (mut gone, mut later_ids, mut later) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let (id, since, last_at): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let open = "SELECT FROM message WHERE event_id IN (SELECT id FROM event WHERE visit_id = $1) LIMIT 1";
        // A member's visit is looked at twice: now, and when everything of its age goes.
        if row.try_get(3)? && (last_at >= all || tx.exists(open, &[&id]).await?) {
            later_ids.push(id);
            later.push((since + (strangers - all).max(1)).max(strangers));
        } else {
            gone.push(id);
        }
    }
    tx.execute(
        "UPDATE visit SET forget_from = k.later FROM unnest($1::bigint[], $2::bigint[]) k (id, later) WHERE visit.id = k.id",
        &[&later_ids, &later],
    )
    .await?;
    // What members left is in partitions that go as a whole, with their messages and tries.
    let events = tx
        .execute(
            "WITH gone AS (DELETE FROM event WHERE visit_id = ANY($1::bigint[]) AND plate_sealed IS NULL RETURNING dedupe)
             DELETE FROM seen WHERE dedupe IN (SELECT dedupe FROM gone)",
            &[&gone],
        )
        .await?;
    let visits = tx
        .execute("DELETE FROM visit WHERE id = ANY($1::bigint[])", &[&gone])
        .await?;
    // Crossings of inner lots belong to no visit.
    let inner = tx
        .execute(
            "WITH old AS (SELECT id FROM event WHERE visit_id IS NULL AND received_at < $1 LIMIT $2),
                  gone AS (DELETE FROM event WHERE id IN (SELECT id FROM old) RETURNING dedupe)
             DELETE FROM seen WHERE dedupe IN (SELECT dedupe FROM gone)",
            &[&strangers, &STEP],
        )
        .await?;
    swept.events = u32::try_from(events + inner).unwrap_or(u32::MAX);
    swept.visits = u32::try_from(visits).unwrap_or(u32::MAX);
    Ok(swept)
}

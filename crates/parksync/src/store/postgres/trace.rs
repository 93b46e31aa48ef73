//! The visits of one car, with what each read, message and try came to.

use jiff::Timestamp;

use super::tx::{Failure, Tx, direction, maybe_timestamp, timestamp};
use super::{members, outbox};
use crate::domain::plate::Plate;
use crate::domain::presence::Seen;
use crate::store::{Traced, TracedEvent, TracedVisit};

/// Visits of one car in one trace: a few weeks of daily parking.
const VISITS: i64 = 50;

/// The latest visits of a plate in all circles, or of all cars of a member, oldest first.
pub(super) async fn trace(tx: &Tx<'_>, of: &Traced) -> Result<Vec<TracedVisit>, Failure> {
    let mut visits = Vec::new();
    match of {
        Traced::Plate(plate) => {
            for row in tx.rows("SELECT name FROM circle ORDER BY id", &[]).await? {
                visits.extend(of_plate(tx, row.try_get(0)?, plate).await?);
            }
        }
        Traced::Member(member) => {
            let id = members::find(tx, member).await?;
            let rows = tx
                .rows("SELECT plate_sealed FROM binding WHERE member_id = $1", &[&id])
                .await?;
            for row in rows {
                let plate = tx.vault.open_plate(row.try_get(0)?)?;
                visits.extend(of_plate(tx, &member.circle, &plate).await?);
            }
        }
    }
    Ok(visits)
}

async fn of_plate(tx: &Tx<'_>, circle: &str, plate: &Plate) -> Result<Vec<TracedVisit>, Failure> {
    let tag = tx.vault.plate_tag(plate);
    let rows = tx
        .rows(
            "SELECT * FROM (SELECT id, entered_lot, entered_at, left_lot, left_at, ended,
                                   (SELECT count(*) FROM binding WHERE plate_tag = $2 AND circle = $1) FROM visit
                            WHERE plate_tag = $2 AND circle = $1 ORDER BY id DESC LIMIT $3) v ORDER BY id",
            &[&circle, &tag.as_slice(), &VISITS],
        )
        .await?;
    let mut visits = Vec::with_capacity(rows.len());
    for row in rows {
        let members: i64 = row.try_get(6)?;
        visits.push(TracedVisit {
            circle: circle.to_owned(),
            plate: plate.clone(),
            entered: seen(row.try_get(1)?, maybe_timestamp(row.try_get(2)?)?),
            left: seen(row.try_get(3)?, maybe_timestamp(row.try_get(4)?)?),
            ended: row.try_get(5)?,
            members: u32::try_from(members).unwrap_or(u32::MAX),
            events: events(tx, row.try_get(0)?).await?,
        });
    }
    Ok(visits)
}

fn seen(lot: Option<String>, at: Option<Timestamp>) -> Option<Seen> {
    Some(Seen { lot: lot?, at: at? })
}

async fn events(tx: &Tx<'_>, visit: i64) -> Result<Vec<TracedEvent>, Failure> {
    let rows = tx
        .rows(
            "SELECT id, lot, gate, state, at, at_claimed, received_at, replayed, recorded FROM event
             WHERE visit_id = $1 ORDER BY at, id",
            &[&visit],
        )
        .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let id: i64 = row.try_get(0)?;
        let told = tx
            .rows(
                "SELECT id FROM message WHERE event_id = $1 UNION ALL SELECT id FROM delivery WHERE event_id = $1 ORDER BY id",
                &[&id],
            )
            .await?;
        let mut messages = Vec::with_capacity(told.len());
        for message in told {
            messages.extend(outbox::show(tx, message.try_get(0)?).await?);
        }
        events.push(TracedEvent {
            lot: row.try_get(1)?,
            gate: row.try_get(2)?,
            state: direction(row.try_get(3)?)?,
            at: timestamp(row.try_get(4)?)?,
            at_claimed: maybe_timestamp(row.try_get(5)?)?,
            received_at: timestamp(row.try_get(6)?)?,
            replayed: row.try_get(7)?,
            recorded: row.try_get(8)?,
            messages,
        });
    }
    Ok(events)
}

//! Corrections and cancellations of records, inside a transaction.

use jiff::Timestamp;

use super::ingest;
use super::lanes::{self, Cause, NewRow};
use super::settle::told;
use super::tx::{Failure, Tx, direction, millis, tag, timestamp};
use crate::domain::gate::Direction;
use crate::domain::plate::Plate;
use crate::domain::presence::{At, Undo, undo};
use crate::store::book::{self, Prepared};
use crate::store::vault::Tag;
use crate::store::{Amend, Amended, Recorded};

/// An event that turned out wrong.
struct Wrong {
    id: i64,
    visit: Option<i64>,
    gate: Option<String>,
    plate_tag: Tag,
    plate: Option<Plate>,
    crossing: At,
}

pub(super) async fn amend(tx: &Tx<'_>, amend: &Amend) -> Result<Amended, Failure> {
    lock(tx, amend).await?;
    let wrongs = find(tx, amend).await?;
    let mut amended = Amended::UnknownRecord;
    for wrong in &wrongs {
        amended = amend_event(tx, amend, wrong).await?;
    }
    if wrongs.is_empty() {
        tx.count("amend", &amend.lot, "unknown-record", 1);
    }
    Ok(amended)
}

/// Locks every car and lane that this may touch, in everybody's order.
async fn lock(tx: &Tx<'_>, amend: &Amend) -> Result<(), Failure> {
    let wrongs = find(tx, amend).await?;
    let right = amend.plate.as_ref().map(|plate| tx.vault.plate_tag(plate));
    let tags: Vec<&[u8]> = wrongs
        .iter()
        .map(|wrong| wrong.plate_tag.as_slice())
        .chain(right.as_ref().map(<[u8; 16]>::as_slice))
        .collect();
    lanes::lock_cars(tx, &tags).await?;
    let events: Vec<i64> = wrongs.iter().map(|wrong| wrong.id).collect();
    tx.rows(
        "SELECT member_id FROM lane
         WHERE member_id IN (SELECT member_id FROM message WHERE event_id = ANY($1::bigint[])
                             UNION SELECT member_id FROM delivery WHERE event_id = ANY($1::bigint[])
                             UNION SELECT member_id FROM binding WHERE plate_tag = ANY($2::bytea[]) AND circle = $3)
         ORDER BY member_id FOR UPDATE",
        &[&events, &tags, &amend.circle],
    )
    .await?;
    Ok(())
}

/// A record is one crossing, or the two ends of a visit.
async fn amend_event(tx: &Tx<'_>, amend: &Amend, wrong: &Wrong) -> Result<Amended, Failure> {
    if amend
        .plate
        .as_ref()
        .is_some_and(|plate| tx.vault.plate_tag(plate) == wrong.plate_tag)
    {
        return Ok(Amended::Unchanged);
    }
    undo_event(tx, amend, wrong).await?;
    let word = if amend.plate.is_some() {
        "corrected"
    } else {
        "cancelled"
    };
    tx.execute(
        "UPDATE event SET recorded = $2, record_tag = NULL WHERE id = $1",
        &[&wrong.id, &word],
    )
    .await?;
    tx.count("amend", &amend.lot, word, 1);
    let Some(plate) = &amend.plate else {
        return Ok(Amended::Cancelled);
    };
    let event = amend.corrected(plate, wrong.gate.clone(), wrong.crossing);
    let event = Prepared::new(tx.vault, event);
    let recorded = Box::pin(ingest::record(tx, &[&event])).await?.pop();
    Ok(Amended::Corrected(recorded.unwrap_or(Recorded::Duplicate)))
}

/// The events of a sender's record, in the order of their time.
async fn find(tx: &Tx<'_>, amend: &Amend) -> Result<Vec<Wrong>, Failure> {
    let record = book::record_tag(tx.vault, &amend.circle, &amend.lot, &amend.record_id);
    let rows = tx
        .rows(
            "SELECT id, visit_id, gate, plate_tag, plate_sealed, state, at FROM event WHERE record_tag = $1 ORDER BY at, id",
            &[&record.as_slice()],
        )
        .await?;
    rows.into_iter()
        .map(|row| {
            let plate: Option<&[u8]> = row.try_get(4)?;
            Ok(Wrong {
                id: row.try_get(0)?,
                visit: row.try_get(1)?,
                gate: row.try_get(2)?,
                plate_tag: tag(row.try_get(3)?)?,
                plate: plate.map(|sealed| tx.vault.open_plate(sealed)).transpose()?,
                crossing: At {
                    state: direction(row.try_get(5)?)?,
                    at: timestamp(row.try_get(6)?)?,
                },
            })
        })
        .collect()
}

/// Takes back what the wrong event did: its visit, and what its members' lanes told or would tell.
async fn undo_event(tx: &Tx<'_>, amend: &Amend, wrong: &Wrong) -> Result<(), Failure> {
    match wrong.crossing.state {
        Direction::In => {
            tx.execute(
                "UPDATE visit SET ended = 'cancelled', forget_from = $2 WHERE id = $1 AND left_at IS NULL",
                &[&wrong.visit, &millis(amend.received_at)],
            )
            .await?;
        }
        Direction::Out => {
            tx.execute(
                "UPDATE visit SET left_lot = NULL, left_at = NULL, ended = NULL, forget_from = NULL
                 WHERE id = $1 AND entered_at IS NOT NULL AND left_at = $2",
                &[&wrong.visit, &millis(wrong.crossing.at)],
            )
            .await?;
        }
    }
    let Some(plate) = &wrong.plate else { return Ok(()) };
    let messages = tx
        .rows(
            "SELECT id, member_id, status FROM message WHERE event_id = $1
             UNION ALL SELECT id, member_id, status FROM delivery WHERE event_id = $1 ORDER BY id",
            &[&wrong.id],
        )
        .await?;
    for row in messages {
        let (id, member, status): (i64, i64, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let why = "the record was corrected or cancelled before it was told";
        let waits = status == "waiting" && lanes::remove(tx, &amend.circle, id, why, amend.received_at).await?;
        let told = told(tx, member, &wrong.plate_tag).await?;
        match undo(told, wrong.crossing, waits) {
            Undo::TellOut => {
                let out = NewRow {
                    member,
                    event_id: wrong.id,
                    plate,
                    plate_tag: wrong.plate_tag,
                    state: Direction::Out,
                    at: amended_at(amend, wrong.crossing.at),
                    cause: if amend.plate.is_some() {
                        Cause::Correction
                    } else {
                        Cause::Cancellation
                    },
                    not_before: amend.received_at,
                    now: amend.received_at,
                    status: "waiting",
                    reason: None,
                };
                lanes::queue(tx, &amend.circle, out).await?;
            }
            Undo::Remove | Undo::Nothing => {}
        }
    }
    Ok(())
}

/// The time of the exit that takes an entry back: when the correction came, never before the entry itself.
fn amended_at(amend: &Amend, crossing: Timestamp) -> Timestamp {
    amend.received_at.max(crossing)
}

//! Corrections and cancellations of records, inside a transaction.

use jiff::Timestamp;

use super::lanes::{self, Cause, Message};
use super::{Failure, Tx, direction, millis, record, timestamp};
use crate::domain::gate::Direction;
use crate::domain::plate::Plate;
use crate::domain::presence::{At, Undo, undo};
use crate::store::book::{self, Prepared};
use crate::store::vault::Tag;
use crate::store::{Amend, Amended};

/// An event that turned out wrong.
struct Wrong {
    id: i64,
    visit: Option<i64>,
    gate: Option<String>,
    plate_tag: Tag,
    plate: Option<Plate>,
    crossing: At,
}

pub(super) fn amend(tx: &Tx<'_>, amend: &Amend) -> Result<Amended, Failure> {
    let wrongs = find(tx, amend)?;
    let mut amended = Amended::UnknownRecord;
    for wrong in &wrongs {
        amended = amend_event(tx, amend, wrong)?;
    }
    if wrongs.is_empty() {
        tx.count("amend", &amend.lot, "unknown-record", 1);
    }
    Ok(amended)
}

/// A record is one crossing, or the two ends of a visit.
fn amend_event(tx: &Tx<'_>, amend: &Amend, wrong: &Wrong) -> Result<Amended, Failure> {
    if amend
        .plate
        .as_ref()
        .is_some_and(|plate| tx.vault.plate_tag(plate) == wrong.plate_tag)
    {
        return Ok(Amended::Unchanged);
    }
    undo_event(tx, amend, wrong)?;
    let word = if amend.plate.is_some() {
        "corrected"
    } else {
        "cancelled"
    };
    tx.db
        .prepare_cached("UPDATE event SET recorded = ?2, record_tag = NULL WHERE id = ?1")?
        .execute((wrong.id, word))?;
    tx.count("amend", &amend.lot, word, 1);
    let Some(plate) = &amend.plate else {
        return Ok(Amended::Cancelled);
    };
    let event = amend.corrected(plate, wrong.gate.clone(), wrong.crossing);
    Ok(Amended::Corrected(record::record(tx, &Prepared::new(tx.vault, event))?))
}

/// The events of a sender's record, in the order of their time.
fn find(tx: &Tx<'_>, amend: &Amend) -> Result<Vec<Wrong>, Failure> {
    type Row = (i64, Option<i64>, Option<String>, Tag, Option<Vec<u8>>, String, i64);
    let tag = book::record_tag(tx.vault, &amend.circle, &amend.lot, &amend.record_id);
    let rows: Vec<Row> = tx
        .db
        .prepare_cached(
            "SELECT id, visit_id, gate, plate_tag, plate_sealed, state, at FROM event WHERE record_tag = ?1 ORDER BY at, id",
        )?
        .query_map([tag], |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    rows.into_iter()
        .map(|(id, visit, gate, plate_tag, plate, state, at)| {
            Ok(Wrong {
                id,
                visit,
                gate,
                plate_tag,
                plate: plate.map(|sealed| tx.vault.open_plate(&sealed)).transpose()?,
                crossing: At {
                    state: direction(&state)?,
                    at: timestamp(at)?,
                },
            })
        })
        .collect()
}

/// Takes back what the wrong event did: its visit, and what its members' lanes told or would tell.
fn undo_event(tx: &Tx<'_>, amend: &Amend, wrong: &Wrong) -> Result<(), Failure> {
    match wrong.crossing.state {
        Direction::In => {
            tx.db
                .prepare_cached(
                    "UPDATE visit SET ended = 'cancelled', forget_from = ?2 WHERE id = ?1 AND left_at IS NULL",
                )?
                .execute((wrong.visit, millis(amend.received_at)))?;
        }
        Direction::Out => {
            tx.db
                .prepare_cached(
                    "UPDATE visit SET left_lot = NULL, left_at = NULL, ended = NULL, forget_from = NULL
                     WHERE id = ?1 AND entered_at IS NOT NULL AND left_at = ?2",
                )?
                .execute((wrong.visit, millis(wrong.crossing.at)))?;
        }
    }
    let Some(plate) = &wrong.plate else { return Ok(()) };
    let deliveries: Vec<(i64, i64, String)> = tx
        .db
        .prepare_cached("SELECT id, member_id, status FROM delivery WHERE event_id = ?1")?
        .query_map([wrong.id], |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    for (delivery, member, status) in deliveries {
        let why = "the record was corrected or cancelled before it was told";
        let waits = status == "waiting" && lanes::remove(tx, &amend.circle, delivery, why, amend.received_at)?;
        let told = record::told(tx, member, &wrong.plate_tag)?;
        match undo(told, wrong.crossing, waits) {
            Undo::TellOut => {
                let message = Message {
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
                };
                lanes::queue(
                    tx,
                    &amend.circle,
                    member,
                    &message,
                    amend.received_at,
                    amend.received_at,
                )?;
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

//! One gate event, inside a transaction: what is known of its car is loaded, `book` works out what it does, the changes are written.

use jiff::Timestamp;
use rusqlite::OptionalExtension;

use super::lanes::{self, Cause, Message};
use super::{Failure, Tx, direction, millis, timestamp};
use crate::domain::gate::TimeSource;
use crate::domain::presence::{Arrival, At};
use crate::store::book::{Book, Car, Changes, Listener, Place, Prepared, ReadRow, VisitRow, Waits};
use crate::store::vault::Tag;
use crate::store::{MEMBERS_PER_PLATE, Recorded};

pub(super) fn record(tx: &Tx<'_>, one: &Prepared) -> Result<Recorded, Failure> {
    let mut book = load(tx, one)?;
    let recorded = book
        .record(0, one)
        .ok_or(Failure::Damaged("a visit whose reads are not there"))?;
    save(tx, one, book.changes)?;
    Ok(recorded)
}

fn load(tx: &Tx<'_>, one: &Prepared) -> Result<Book, Failure> {
    let mut book = Book::default();
    if tx
        .db
        .prepare_cached("SELECT 1 FROM event WHERE dedupe = ?1")?
        .exists([one.dedupe])?
    {
        book.seen.insert(one.dedupe);
        return Ok(book);
    }
    let (circle, tag) = (&one.event.circle, &one.plate_tag);
    let mut car = Car {
        visits: visits(tx, circle, tag)?,
        ..Car::default()
    };
    if let Some(visit) = car.visits.last().filter(|visit| visit.reread) {
        car.reads = Some(reads(tx, visit.id)?);
    }
    for member in bound_members(tx, circle, tag)? {
        car.listeners.push(Listener {
            member,
            told: told(tx, member, tag)?,
            other_car_inside: one.event.policy.one_car_is_enough && other_car_inside(tx, member, tag)?,
            waiting: waiting(tx, member, tag)?,
        });
    }
    book.cars.insert((circle.clone(), *tag), car);
    book.event_ids = next_id(tx, "SELECT max(id) FROM event")?;
    book.visit_ids = next_id(tx, "SELECT max(id) FROM visit")?;
    Ok(book)
}

/// The number of the next row of a table. There is one writer, so nobody else takes it.
fn next_id(tx: &Tx<'_>, newest: &str) -> Result<std::vec::IntoIter<i64>, Failure> {
    let newest: Option<i64> = tx.db.prepare_cached(newest)?.query_row([], |row| row.get(0))?;
    Ok(vec![newest.unwrap_or(0) + 1].into_iter())
}

/// The latest visits of a plate, oldest first. A visit that was cancelled did not happen.
pub(super) fn visits(tx: &Tx<'_>, circle: &str, plate_tag: &Tag) -> Result<Vec<VisitRow>, Failure> {
    let at = |at: Option<i64>| at.map(timestamp).transpose();
    let mut statement = tx.db.prepare_cached(
        "SELECT id, entered_lot, entered_at, left_lot, left_at, ended, forget_from, of_member, reread FROM visit
         WHERE circle = ?1 AND plate_tag = ?2 AND ended IS NOT 'cancelled' ORDER BY id DESC LIMIT 2",
    )?;
    let mut rows = statement.query((circle, plate_tag))?;
    let mut visits = Vec::new();
    while let Some(row) = rows.next()? {
        visits.push(VisitRow {
            id: row.get(0)?,
            entered_lot: row.get(1)?,
            entered_at: at(row.get(2)?)?,
            left_lot: row.get(3)?,
            left_at: at(row.get(4)?)?,
            ended: row.get(5)?,
            forget_from: at(row.get(6)?)?,
            of_member: row.get(7)?,
            reread: row.get(8)?,
        });
    }
    visits.reverse();
    Ok(visits)
}

/// The reads of a visit, in order.
fn reads(tx: &Tx<'_>, visit: i64) -> Result<Vec<ReadRow>, Failure> {
    let mut told_to = tx
        .db
        .prepare_cached("SELECT member_id FROM delivery WHERE event_id = ?1")?;
    let mut statement = tx.db.prepare_cached(
        "SELECT id, lot, state, at, received_at, replayed FROM event
         WHERE visit_id = ?1 AND recorded NOT IN ('corrected', 'cancelled') ORDER BY at, id",
    )?;
    let mut rows = statement.query([visit])?;
    let mut reads = Vec::new();
    while let Some(row) = rows.next()? {
        let event_id: i64 = row.get(0)?;
        let state: String = row.get(2)?;
        reads.push(ReadRow {
            event_id,
            lot: row.get(1)?,
            state: direction(&state)?,
            at: timestamp(row.get(3)?)?,
            arrival: Arrival {
                received_at: timestamp(row.get(4)?)?,
                replayed: row.get(5)?,
            },
            told_to: told_to
                .query_map([event_id], |row| row.get(0))?
                .collect::<Result<_, _>>()?,
        });
    }
    Ok(reads)
}

pub(super) fn bound_members(tx: &Tx<'_>, circle: &str, plate_tag: &Tag) -> Result<Vec<i64>, Failure> {
    let mut statement = tx.db.prepare_cached(
        "SELECT member_id FROM binding WHERE circle = ?1 AND plate_tag = ?2 ORDER BY member_id LIMIT ?3",
    )?;
    let members = statement.query_map((circle, plate_tag, MEMBERS_PER_PLATE), |row| row.get(0))?;
    Ok(members.collect::<Result<_, _>>()?)
}

/// The newest state of a plate that was sent for a member, or may have been.
pub(super) fn told(tx: &Tx<'_>, member: i64, plate_tag: &Tag) -> Result<Option<At>, Failure> {
    let row: Option<(String, i64)> = tx
        .db
        .prepare_cached("SELECT state, at FROM told WHERE member_id = ?1 AND plate_tag = ?2")?
        .query_row((member, plate_tag), |row| row.try_into())
        .optional()?;
    row.map(|(state, at)| {
        Ok(At {
            state: direction(&state)?,
            at: timestamp(at)?,
        })
    })
    .transpose()
}

fn other_car_inside(tx: &Tx<'_>, member: i64, plate_tag: &Tag) -> Result<bool, Failure> {
    Ok(tx
        .db
        .prepare_cached("SELECT 1 FROM told WHERE member_id = ?1 AND plate_tag <> ?2 AND state = 'IN'")?
        .exists((member, plate_tag))?)
}

/// What waits for a member of this plate and was never tried.
fn waiting(tx: &Tx<'_>, member: i64, plate_tag: &Tag) -> Result<Vec<Waits>, Failure> {
    let rows: Vec<(i64, String, i64)> = tx
        .db
        .prepare_cached(
            "SELECT id, state, at FROM delivery WHERE member_id = ?1 AND status = 'waiting' AND plate_tag = ?2
               AND id IS NOT (SELECT head_id FROM lane WHERE member_id = ?1) ORDER BY id",
        )?
        .query_map((member, plate_tag), |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    rows.into_iter()
        .map(|(id, state, at)| {
            Ok(Waits {
                at: At {
                    state: direction(&state)?,
                    at: timestamp(at)?,
                },
                place: Place::Stored(id),
            })
        })
        .collect()
}

fn save(tx: &Tx<'_>, one: &Prepared, changes: Changes) -> Result<(), Failure> {
    let plate = &one.event.read.plate;
    for ((circle, tag), visit) in changes.visits.values() {
        save_visit(tx, circle, tag, visit)?;
    }
    for event in &changes.events {
        let read = &one.event.read;
        tx.db
            .prepare_cached(
                "INSERT INTO event (id, dedupe, record_tag, visit_id, circle, lot, gate, plate_tag, plate_sealed, state, at, at_claimed,
                                    received_at, replayed, recorded)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?
            .execute((
                event.id,
                one.dedupe,
                one.record_tag,
                event.visit,
                &one.event.circle,
                &one.event.lot,
                &one.event.gate,
                one.plate_tag,
                event.of_member.then(|| tx.vault.seal_plate(plate)),
                read.state.as_str(),
                millis(one.at),
                (one.time_source == TimeSource::Receipt).then(|| millis(read.at)),
                millis(one.event.received_at),
                read.replayed,
                event.recorded.word(),
            ))?;
    }
    for (event, visit) in &changes.moved {
        tx.db
            .prepare_cached("UPDATE event SET visit_id = ?2 WHERE id = ?1")?
            .execute((event, visit))?;
    }
    for parted in &changes.parted {
        let sealed = parted.of_member.then(|| tx.vault.seal_plate(plate));
        tx.db
            .prepare_cached(
                "UPDATE event SET recorded = ?2, plate_sealed = coalesce(plate_sealed, ?3) WHERE id = ?1 AND recorded = 'merged'",
            )?
            .execute((parted.event_id, parted.recorded.word(), sealed))?;
    }
    for (id, reason, at) in &changes.superseded {
        supersede(tx, *id, reason, *at)?;
    }
    for new in &changes.messages {
        let message = Message {
            event_id: new.event_id,
            plate,
            plate_tag: one.plate_tag,
            state: new.state,
            at: new.at,
            cause: Cause::Crossing,
        };
        let now = one.event.received_at;
        lanes::insert(tx, new.member, &message, new.not_before, now, new.status, new.reason)?;
    }
    for member in changes.lanes {
        lanes::refresh(tx, member)?;
    }
    tx.count_all(changes.counts);
    Ok(())
}

fn save_visit(tx: &Tx<'_>, circle: &str, plate_tag: &Tag, visit: &VisitRow) -> Result<(), Failure> {
    let at = |at: Option<Timestamp>| at.map(millis);
    tx.db
        .prepare_cached(
            "INSERT INTO visit (id, circle, plate_tag, entered_lot, entered_at, left_lot, left_at, ended, forget_from, of_member, reread)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (id) DO UPDATE
             SET entered_lot = excluded.entered_lot, entered_at = excluded.entered_at, left_lot = excluded.left_lot,
                 left_at = excluded.left_at, ended = excluded.ended, forget_from = excluded.forget_from,
                 of_member = excluded.of_member, reread = excluded.reread",
        )?
        .execute((
            visit.id,
            circle,
            plate_tag,
            &visit.entered_lot,
            at(visit.entered_at),
            &visit.left_lot,
            at(visit.left_at),
            &visit.ended,
            at(visit.forget_from),
            visit.of_member,
            visit.reread,
        ))?;
    Ok(())
}

fn supersede(tx: &Tx<'_>, id: i64, reason: &str, at: Timestamp) -> Result<(), Failure> {
    tx.db
        .prepare_cached("UPDATE delivery SET status = 'superseded', settled_at = ?2, reason = ?3 WHERE id = ?1")?
        .execute((id, millis(at), reason))?;
    Ok(())
}

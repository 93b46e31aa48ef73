//! The visits of one car, with what each read, message and try came to.

use rusqlite::{Connection, OptionalExtension};

use super::{Failure, direction, outbox, timestamp};
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;
use crate::domain::presence::Seen;
use crate::store::vault::{Tag, Vault};
use crate::store::{TracedEvent, TracedVisit};

/// Visits of one car in one trace: a few weeks of daily parking.
const VISITS: u32 = 50;

/// The latest visits of a plate in all circles, oldest first.
pub(super) fn of_plate(db: &Connection, vault: &Vault, plate: &Plate) -> Result<Vec<TracedVisit>, Failure> {
    let circles: Vec<String> = db
        .prepare_cached("SELECT name FROM circle")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut visits = Vec::new();
    for circle in circles {
        visits.extend(of_tag(db, vault, &circle, plate, &vault.plate_tag(plate))?);
    }
    Ok(visits)
}

/// The latest visits of all cars of a member.
pub(super) fn of_member(db: &Connection, vault: &Vault, member: &MemberKey) -> Result<Vec<TracedVisit>, Failure> {
    let id: Option<i64> = db
        .prepare_cached("SELECT id FROM member WHERE member_tag = ?1")?
        .query_row([vault.member_tag(member)], |row| row.get(0))
        .optional()?;
    let sealed: Vec<Vec<u8>> = db
        .prepare_cached("SELECT plate_sealed FROM binding WHERE member_id = ?1")?
        .query_map([id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut visits = Vec::new();
    for sealed in sealed {
        let plate = vault.open_plate(&sealed)?;
        visits.extend(of_tag(db, vault, &member.circle, &plate, &vault.plate_tag(&plate))?);
    }
    Ok(visits)
}

fn of_tag(db: &Connection, vault: &Vault, circle: &str, plate: &Plate, tag: &Tag) -> Result<Vec<TracedVisit>, Failure> {
    type Columns = (
        i64,
        Option<String>,
        Option<i64>,
        Option<String>,
        Option<i64>,
        Option<String>,
    );
    let rows: Vec<Columns> = db
        .prepare_cached(
            "SELECT id, entered_lot, entered_at, left_lot, left_at, ended FROM visit
             WHERE circle = ?1 AND plate_tag = ?2 ORDER BY id DESC LIMIT ?3",
        )?
        .query_map((circle, tag, VISITS), |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    let seen = |lot: Option<String>, at: Option<i64>| match (lot, at) {
        (Some(lot), Some(at)) => Ok::<_, Failure>(Some(Seen {
            lot,
            at: timestamp(at)?,
        })),
        _ => Ok(None),
    };
    let members: u32 = db
        .prepare_cached("SELECT count(*) FROM binding WHERE circle = ?1 AND plate_tag = ?2")?
        .query_row((circle, tag), |row| row.get(0))?;
    rows.into_iter()
        .rev()
        .map(|(id, entered_lot, entered_at, left_lot, left_at, ended)| {
            Ok(TracedVisit {
                circle: circle.to_owned(),
                plate: plate.clone(),
                entered: seen(entered_lot, entered_at)?,
                left: seen(left_lot, left_at)?,
                ended,
                members,
                events: events(db, vault, id)?,
            })
        })
        .collect()
}

fn events(db: &Connection, vault: &Vault, visit: i64) -> Result<Vec<TracedEvent>, Failure> {
    type Columns = (i64, String, Option<String>, String, i64, Option<i64>, i64, bool, String);
    let rows: Vec<Columns> = db
        .prepare_cached(
            "SELECT id, lot, gate, state, at, at_claimed, received_at, replayed, recorded FROM event
             WHERE visit_id = ?1 ORDER BY at, id",
        )?
        .query_map([visit], |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    let mut of_event = db.prepare_cached("SELECT id FROM delivery WHERE event_id = ?1 ORDER BY id")?;
    rows.into_iter()
        .map(
            |(id, lot, gate, state, at, at_claimed, received_at, replayed, recorded)| {
                let deliveries: Vec<i64> = of_event.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
                let messages = deliveries.into_iter().map(|delivery| outbox::show(db, vault, delivery));
                Ok(TracedEvent {
                    lot,
                    gate,
                    state: direction(&state)?,
                    at: timestamp(at)?,
                    at_claimed: at_claimed.map(timestamp).transpose()?,
                    received_at: timestamp(received_at)?,
                    replayed,
                    recorded,
                    messages: messages.filter_map(Result::transpose).collect::<Result<_, _>>()?,
                })
            },
        )
        .collect()
}

//! Members and their plates, inside a transaction.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::lanes::{self, Cause, Message};
use super::{Failure, Tx, millis, record};
use crate::domain::gate::Direction;
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;
use crate::sabotage::{self, Sabotage};
use crate::store::vault::{Tag, Vault};
use crate::store::{Bound, LATE_BIND, MEMBERS_PER_PLATE, Member, Unbound};

pub(super) fn bind(
    tx: &Tx<'_>,
    member: &MemberKey,
    plates: &[Plate],
    sole: bool,
    now: Timestamp,
) -> Result<Bound, Failure> {
    let id = member_id(tx, member, now)?;
    let mut bound = Bound::default();
    for plate in plates {
        let plate_tag = tx.vault.plate_tag(plate);
        let others: Vec<i64> = record::bound_members(tx, &member.circle, &plate_tag)?
            .into_iter()
            .filter(|other| *other != id)
            .collect();
        if sole {
            for other in &others {
                unbind_plate(tx, &member.circle, *other, &plate_tag, now)?;
            }
        } else if others.len() >= MEMBERS_PER_PLATE as usize {
            bound.full += 1;
            continue;
        }
        let added = tx
            .db
            .prepare_cached(
                "INSERT INTO binding (circle, plate_tag, member_id, plate_sealed, bound_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO NOTHING",
            )?
            .execute((&member.circle, plate_tag, id, tx.vault.seal_plate(plate), millis(now)))?;
        if added > 0 {
            bound.added += 1;
            bound.inside += u32::from(tell_entry(tx, member, id, plate, plate_tag, now)?);
        }
    }
    Ok(bound)
}

/// Late bind: tells the entry of a car that is inside. Says whether it was.
fn tell_entry(
    tx: &Tx<'_>,
    member: &MemberKey,
    id: i64,
    plate: &Plate,
    plate_tag: Tag,
    now: Timestamp,
) -> Result<bool, Failure> {
    let Some(visit) = record::visits(tx, &member.circle, &plate_tag)?.pop() else {
        return Ok(false);
    };
    let (Some(entered), None) = (visit.entered_at, visit.left_at) else {
        return Ok(false);
    };
    let event: Option<i64> = tx
        .db
        .prepare_cached("SELECT id FROM event WHERE visit_id = ?1 AND state = 'IN' ORDER BY id LIMIT 1")?
        .query_row([visit.id], |row| row.get(0))
        .optional()?;
    let Some(event_id) = event.filter(|_| now.duration_since(entered) <= LATE_BIND) else {
        return Ok(false);
    };
    tx.db
        .prepare_cached("UPDATE visit SET of_member = 1 WHERE id = ?1")?
        .execute([visit.id])?;
    let message = Message {
        event_id,
        plate,
        plate_tag,
        state: Direction::In,
        at: if sabotage::is(Sabotage::LateBindTellsNow) {
            now
        } else {
            entered
        },
        cause: Cause::LateBind,
    };
    // A clock that runs ahead within tolerance: WeChat Pay refuses the future.
    lanes::queue(tx, &member.circle, id, &message, now.max(entered), now)?;
    Ok(true)
}

pub(super) fn unbind(tx: &Tx<'_>, member: &MemberKey, plates: &[Plate], now: Timestamp) -> Result<Unbound, Failure> {
    let Some(id) = find(tx, member)? else {
        return Ok(Unbound::default());
    };
    let tags: Vec<Tag> = if plates.is_empty() {
        tx.db
            .prepare_cached("SELECT plate_tag FROM binding WHERE member_id = ?1")?
            .query_map([id], |row| row.get(0))?
            .collect::<Result<_, _>>()?
    } else {
        plates.iter().map(|plate| tx.vault.plate_tag(plate)).collect()
    };
    let mut unbound = Unbound::default();
    for tag in tags {
        let (removed, withdrawn) = unbind_plate(tx, &member.circle, id, &tag, now)?;
        unbound.removed += u32::from(removed);
        unbound.withdrawn += u32::try_from(withdrawn).unwrap_or(u32::MAX);
    }
    Ok(unbound)
}

/// Ends one binding at once: what waits is taken out, what was told is forgotten.
fn unbind_plate(tx: &Tx<'_>, circle: &str, member: i64, tag: &Tag, now: Timestamp) -> Result<(bool, usize), Failure> {
    if sabotage::is(Sabotage::UnbindIsForgotten) {
        return Ok((true, 0));
    }
    let removed = tx
        .db
        .prepare_cached("DELETE FROM binding WHERE circle = ?1 AND plate_tag = ?2 AND member_id = ?3")?
        .execute((circle, tag, member))?;
    let withdrawn = if sabotage::is(Sabotage::UnbindKeepsMessages) {
        0
    } else {
        lanes::withdraw(tx, circle, member, tag, now)?
    };
    tx.db
        .prepare_cached("DELETE FROM told WHERE member_id = ?1 AND plate_tag = ?2")?
        .execute((member, tag))?;
    Ok((removed > 0, withdrawn))
}

pub(super) fn find(tx: &Tx<'_>, member: &MemberKey) -> Result<Option<i64>, Failure> {
    let tag = tx.vault.member_tag(member);
    Ok(tx
        .db
        .prepare_cached("SELECT id FROM member WHERE member_tag = ?1")?
        .query_row([tag], |row| row.get(0))
        .optional()?)
}

fn member_id(tx: &Tx<'_>, member: &MemberKey, now: Timestamp) -> Result<i64, Failure> {
    if let Some(id) = find(tx, member)? {
        return Ok(id);
    }
    tx.db
        .prepare_cached(
            "INSERT INTO member (circle, appid, member_tag, openid_sealed, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            &member.circle,
            member.appid.as_str(),
            tx.vault.member_tag(member),
            tx.vault.seal_openid(&member.openid),
            millis(now),
        ))?;
    let id = tx.db.last_insert_rowid();
    // `serve` says whose merchant it is; an import may come before the first start.
    tx.db
        .prepare_cached("INSERT OR IGNORE INTO circle (name, merchant) VALUES (?1, '')")?
        .execute([&member.circle])?;
    tx.db
        .prepare_cached("INSERT INTO lane (member_id, circle_id) SELECT ?1, id FROM circle WHERE name = ?2")?
        .execute((id, &member.circle))?;
    Ok(id)
}

pub(super) fn list(
    db: &Connection,
    vault: &Vault,
    circle: Option<&str>,
    after: i64,
    limit: u32,
) -> Result<(Vec<Member>, Option<i64>), Failure> {
    type Row = (i64, String, String, Vec<u8>);
    let rows: Vec<Row> = db
        .prepare_cached(
            "SELECT id, circle, appid, openid_sealed FROM member
             WHERE id > ?1 AND (?2 IS NULL OR circle = ?2) ORDER BY id LIMIT ?3",
        )?
        .query_map((after, circle, limit), |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    let next = rows.last().map(|(id, ..)| *id).filter(|_| rows.len() == limit as usize);
    let mut plates = db.prepare_cached("SELECT plate_sealed FROM binding WHERE member_id = ?1 ORDER BY bound_at")?;
    let mut members = Vec::with_capacity(rows.len());
    for (id, circle, appid, openid) in rows {
        let sealed: Vec<Vec<u8>> = plates.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let plates = sealed
            .iter()
            .map(|plate| vault.open_plate(plate))
            .collect::<Result<_, _>>()?;
        let appid = appid.parse().map_err(|_| Failure::Damaged("an appid is none"))?;
        members.push(Member {
            key: MemberKey {
                circle,
                appid,
                openid: vault.open_openid(&openid)?,
            },
            plates,
        });
    }
    Ok((members, next))
}

//! Members and their plates, inside a transaction.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::{Failure, Tx, lanes, millis, record};
use crate::domain::gate::Direction;
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;
use crate::store::vault::{Tag, Vault};
use crate::store::{Bound, Member, Unbound};

/// A car that entered longer ago than this is not told at a late bind: nobody knows whether it is still there.
const LATE_BIND: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn bind(tx: &Tx<'_>, member: &MemberKey, plates: &[Plate], now: Timestamp) -> Result<Bound, Failure> {
    let id = member_id(tx, member, now)?;
    let mut bound = Bound::default();
    for plate in plates {
        let plate_tag = tx.vault.plate_tag(plate);
        let added = tx
            .db
            .prepare_cached(
                "INSERT INTO binding (circle, plate_tag, member_id, plate_sealed, bound_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO NOTHING",
            )?
            .execute((&member.circle, plate_tag, id, tx.vault.seal_plate(plate), millis(now)))?;
        if added == 0 {
            continue;
        }
        bound.added += 1;
        let Some((_, visit)) = record::last_visit(tx, &member.circle, &plate_tag)? else {
            continue;
        };
        let Some(entered) = visit.entered.as_ref().filter(|_| visit.is_open()) else {
            continue;
        };
        if now.duration_since(entered.at) <= LATE_BIND {
            let message = lanes::Message {
                event_id: None,
                plate,
                plate_tag,
                state: Direction::In,
                at: entered.at,
            };
            lanes::queue(tx, &member.circle, id, &message, now, now)?;
            bound.inside += 1;
        }
    }
    Ok(bound)
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
        let removed = tx
            .db
            .prepare_cached("DELETE FROM binding WHERE circle = ?1 AND plate_tag = ?2 AND member_id = ?3")?
            .execute((&member.circle, tag, id))?;
        unbound.removed += u32::try_from(removed).unwrap_or(u32::MAX);
        let withdrawn = lanes::withdraw(tx, &member.circle, id, &tag, now)?;
        unbound.withdrawn += u32::try_from(withdrawn).unwrap_or(u32::MAX);
    }
    Ok(unbound)
}

fn find(tx: &Tx<'_>, member: &MemberKey) -> Result<Option<i64>, Failure> {
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
            &member.appid,
            tx.vault.member_tag(member),
            tx.vault.seal_openid(&member.openid),
            millis(now),
        ))?;
    let id = tx.db.last_insert_rowid();
    tx.db
        .prepare_cached("INSERT INTO lane (member_id) VALUES (?1)")?
        .execute([id])?;
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

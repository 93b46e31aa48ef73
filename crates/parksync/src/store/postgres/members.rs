//! Members and their plates, inside a transaction.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::lanes::{self, Cause, NewRow};
use super::tx::{Failure, Tx, maybe_timestamp, millis};
use crate::domain::gate::Direction;
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;
use crate::store::vault::Tag;
use crate::store::{Bound, LATE_BIND, MEMBERS_PER_PLATE, Member, Unbound};

pub(super) async fn bind(
    tx: &Tx<'_>,
    member: &MemberKey,
    plates: &[Plate],
    sole: bool,
    now: Timestamp,
) -> Result<Bound, Failure> {
    let tags: Vec<Tag> = plates.iter().map(|plate| tx.vault.plate_tag(plate)).collect();
    let slices: Vec<&[u8]> = tags.iter().map(<[u8; 16]>::as_slice).collect();
    lanes::lock_cars(tx, &slices).await?;
    let id = member_id(tx, member, now).await?;
    let mut lanes: BTreeSet<i64> = bound_to(tx, &member.circle, &slices).await?;
    lanes.insert(id);
    lanes::lock(tx, &Vec::from_iter(lanes)).await?;
    let mut bound = Bound::default();
    for (plate, plate_tag) in plates.iter().zip(tags) {
        let mut others = bound_to(tx, &member.circle, &[plate_tag.as_slice()]).await?;
        others.remove(&id);
        if sole {
            for other in &others {
                unbind_plate(tx, &member.circle, *other, &plate_tag, now).await?;
            }
        } else if others.len() >= MEMBERS_PER_PLATE as usize {
            bound.full += 1;
            continue;
        }
        let added = tx
            .execute(
                "INSERT INTO binding (circle, plate_tag, member_id, plate_sealed, bound_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT DO NOTHING",
                &[
                    &member.circle,
                    &plate_tag.as_slice(),
                    &id,
                    &tx.vault.seal_plate(plate),
                    &millis(now),
                ],
            )
            .await?;
        if added > 0 {
            bound.added += 1;
            bound.inside += u32::from(tell_entry(tx, member, id, plate, plate_tag, now).await?);
        }
    }
    Ok(bound)
}

/// Members that have one of the plates.
async fn bound_to(tx: &Tx<'_>, circle: &str, tags: &[&[u8]]) -> Result<BTreeSet<i64>, Failure> {
    let rows = tx
        .rows(
            "SELECT member_id FROM binding WHERE plate_tag = ANY($1::bytea[]) AND circle = $2",
            &[&tags, &circle],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

pub(super) async fn is_bound(tx: &Tx<'_>, circle: &str, plate_tag: &Tag, member: i64) -> Result<bool, Failure> {
    Ok(bound_to(tx, circle, &[plate_tag.as_slice()]).await?.contains(&member))
}

/// Late bind: tells the entry of a car that is inside. Says whether it was.
async fn tell_entry(
    tx: &Tx<'_>,
    member: &MemberKey,
    id: i64,
    plate: &Plate,
    plate_tag: Tag,
    now: Timestamp,
) -> Result<bool, Failure> {
    let row = tx
        .row(
            "SELECT v.id, v.entered_at, v.left_at, (SELECT e.id FROM event e WHERE e.visit_id = v.id AND e.state = 'IN' ORDER BY e.id LIMIT 1)
             FROM visit v WHERE v.plate_tag = $1 AND v.circle = $2 AND v.ended IS DISTINCT FROM 'cancelled'
             ORDER BY v.id DESC LIMIT 1",
            &[&plate_tag.as_slice(), &member.circle],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let (visit, event): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(3)?);
    let (entered, left) = (maybe_timestamp(row.try_get(1)?)?, maybe_timestamp(row.try_get(2)?)?);
    let (Some(event_id), Some(entered), None) = (event, entered, left) else {
        return Ok(false);
    };
    if now.duration_since(entered) > LATE_BIND {
        return Ok(false);
    }
    tx.execute("UPDATE visit SET of_member = true WHERE id = $1", &[&visit])
        .await?;
    let row = NewRow {
        member: id,
        event_id,
        plate,
        plate_tag,
        state: Direction::In,
        at: entered,
        cause: Cause::LateBind,
        // A clock that runs ahead within tolerance: WeChat Pay refuses the future.
        not_before: now.max(entered),
        now,
        status: "waiting",
        reason: None,
    };
    lanes::queue(tx, &member.circle, row).await?;
    Ok(true)
}

pub(super) async fn unbind(
    tx: &Tx<'_>,
    member: &MemberKey,
    plates: &[Plate],
    now: Timestamp,
) -> Result<Unbound, Failure> {
    let Some(id) = find(tx, member).await? else {
        return Ok(Unbound::default());
    };
    let tags: Vec<Vec<u8>> = if plates.is_empty() {
        let rows = tx
            .rows("SELECT plate_tag FROM binding WHERE member_id = $1", &[&id])
            .await?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?
    } else {
        plates.iter().map(|plate| tx.vault.plate_tag(plate).to_vec()).collect()
    };
    let slices: Vec<&[u8]> = tags.iter().map(Vec::as_slice).collect();
    lanes::lock_cars(tx, &slices).await?;
    lanes::lock(tx, &[id]).await?;
    let mut unbound = Unbound::default();
    for tag in slices {
        let (removed, withdrawn) = unbind_plate(tx, &member.circle, id, &super::tx::tag(tag)?, now).await?;
        unbound.removed += u32::from(removed);
        unbound.withdrawn += u32::try_from(withdrawn).unwrap_or(u32::MAX);
    }
    Ok(unbound)
}

/// Ends one binding at once: what waits is taken out, what was told is forgotten.
async fn unbind_plate(
    tx: &Tx<'_>,
    circle: &str,
    member: i64,
    tag: &Tag,
    now: Timestamp,
) -> Result<(bool, usize), Failure> {
    let removed = tx
        .execute(
            "DELETE FROM binding WHERE circle = $1 AND plate_tag = $2 AND member_id = $3",
            &[&circle, &tag.as_slice(), &member],
        )
        .await?;
    let withdrawn = lanes::withdraw(tx, circle, member, tag, now).await?;
    tx.execute(
        "DELETE FROM told WHERE member_id = $1 AND plate_tag = $2",
        &[&member, &tag.as_slice()],
    )
    .await?;
    Ok((removed > 0, withdrawn))
}

pub(super) async fn find(tx: &Tx<'_>, member: &MemberKey) -> Result<Option<i64>, Failure> {
    let tag = tx.vault.member_tag(member);
    let row = tx
        .row("SELECT id FROM member WHERE member_tag = $1", &[&tag.as_slice()])
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The member's number; one is made when there is none. Another node may make it at the same time: then this waits for it.
async fn member_id(tx: &Tx<'_>, member: &MemberKey, now: Timestamp) -> Result<i64, Failure> {
    if let Some(id) = find(tx, member).await? {
        return Ok(id);
    }
    let made = tx
        .rows(
            "INSERT INTO member (circle, appid, member_tag, openid_sealed, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (member_tag) DO NOTHING RETURNING id",
            &[
                &member.circle,
                &member.appid.as_str(),
                &tx.vault.member_tag(member).as_slice(),
                &tx.vault.seal_openid(&member.openid),
                &millis(now),
            ],
        )
        .await?;
    let Some(row) = made.first() else {
        return find(tx, member)
            .await?
            .ok_or(Failure::Damaged("a member is gone again"));
    };
    let id: i64 = row.try_get(0)?;
    // `serve` says whose merchant it is; an import may come before the first start.
    tx.execute(
        "INSERT INTO circle (name, merchant) VALUES ($1, '') ON CONFLICT (name) DO NOTHING",
        &[&member.circle],
    )
    .await?;
    tx.execute(
        "INSERT INTO lane (member_id, circle_id) SELECT $1, id FROM circle WHERE name = $2",
        &[&id, &member.circle],
    )
    .await?;
    Ok(id)
}

pub(super) async fn list(
    tx: &Tx<'_>,
    circle: Option<&str>,
    after: i64,
    limit: u32,
) -> Result<(Vec<Member>, Option<i64>), Failure> {
    let rows = tx
        .rows(
            "SELECT id, circle, appid, openid_sealed FROM member
             WHERE id > $1 AND ($2::text IS NULL OR circle = $2) ORDER BY id LIMIT $3",
            &[&after, &circle, &i64::from(limit)],
        )
        .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let next = ids.last().copied().filter(|_| ids.len() == limit as usize);
    let plates = tx
        .rows(
            "SELECT member_id, plate_sealed FROM binding WHERE member_id = ANY($1::bigint[]) ORDER BY bound_at",
            &[&ids],
        )
        .await?;
    let mut members = Vec::with_capacity(rows.len());
    for row in rows {
        let id: i64 = row.try_get(0)?;
        let appid: String = row.try_get(2)?;
        let mut cars = Vec::new();
        for plate in &plates {
            if plate.try_get::<_, i64>(0)? == id {
                cars.push(tx.vault.open_plate(plate.try_get(1)?)?);
            }
        }
        members.push(Member {
            key: MemberKey {
                circle: row.try_get(1)?,
                appid: appid.parse().map_err(|_| Failure::Damaged("an appid is none"))?,
                openid: tx.vault.open_openid(row.try_get(3)?)?,
            },
            plates: cars,
        });
    }
    Ok((members, next))
}

//! Claims: lanes that are due, fairly between circles, and the heads of them, inside a transaction.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use tokio_postgres::Row;

use super::holds::Holds;
use super::lanes;
use super::looks::Begin;
use super::tx::{Args, Failure, Tx, clean, direction, millis, tag, timestamp};
use crate::domain::delivery::Delivery;
use crate::domain::member::MemberKey;
use crate::store::vault::Tag;
use crate::store::{ClaimRequest, Lease};

/// Makes circles known, with the merchants that sign for them.
pub(super) async fn set_circles(tx: &Tx<'_>, circles: &[(String, String)]) -> Result<(), Failure> {
    let mut sorted = circles.to_vec();
    sorted.sort();
    for (name, merchant) in &sorted {
        tx.execute(
            "INSERT INTO circle (name, merchant) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET merchant = excluded.merchant WHERE circle.merchant <> excluded.merchant",
            &[name, merchant],
        )
        .await?;
    }
    Ok(())
}

/// Frees lanes whose claim ended. Their node may be slow instead of dead, so its message may still arrive: it is remembered, and that
/// it may have been tried.
///
/// With `everywhere` all of them, else those that ended within the last 20 s: as with looks for due lanes, the front of the index may be
/// full of dead entries.
pub(super) async fn take_over(tx: &Tx<'_>, everywhere: bool) -> Result<u32, Failure> {
    let lanes = tx
        .rows(
            "WITH ended AS (SELECT member_id FROM lane WHERE node_id IS NOT NULL AND lease_until <= now_ms()
                              AND lease_until > CASE WHEN $1 THEN 0 ELSE now_ms() - 20000 END
                            ORDER BY member_id FOR UPDATE SKIP LOCKED),
                  freed AS (UPDATE lane SET node_id = NULL, lease_until = NULL, due_at = 0, epoch = epoch + 1, suspect_id = head_id,
                                            suspect_plate = (SELECT plate_tag FROM message WHERE id = head_id)
                            FROM ended WHERE lane.member_id = ended.member_id RETURNING lane.head_id, lane.circle_id),
                  tried AS (UPDATE message SET tries = tries + 1
                            WHERE id = ANY(ARRAY(SELECT head_id FROM freed)) AND status || '' = 'waiting')
             SELECT c.name FROM freed JOIN circle c ON c.id = freed.circle_id",
            &[&everywhere],
        )
        .await?;
    for row in &lanes {
        tx.count("retry", row.try_get(0)?, "taken-over", 1);
    }
    if !lanes.is_empty() {
        tx.wake([0]);
    }
    Ok(u32::try_from(lanes.len()).unwrap_or(u32::MAX))
}

/// A circle with something in its lanes.
#[derive(Clone)]
pub(super) struct Circle {
    id: i64,
    pub(super) name: String,
    pub(super) merchant: String,
}

/// The circles, in their order, and when the next lane of each is due. One look into the index each, however long their lanes are.
async fn circles(tx: &Tx<'_>, begin: &Begin) -> Result<Vec<(Circle, Option<i64>)>, Failure> {
    let (known, from) = begin.known();
    let rows = tx.rows(CIRCLES, &[&known, &from]).await?;
    let circle = |row: Row| {
        let circle = Circle {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            merchant: row.try_get(2)?,
        };
        Ok((circle, row.try_get(3)?))
    };
    rows.into_iter().map(circle).collect()
}

/// Known circles, each from where its look begins, and those that are new, whose numbers are greater.
pub(super) const CIRCLES: &str = "SELECT c.id, c.name, c.merchant, l.due_at
    FROM (SELECT * FROM unnest($1::bigint[], $2::bigint[]) k (id, since)
          UNION ALL SELECT id, -9223372036854775808 FROM circle WHERE id > coalesce((SELECT max(id) FROM unnest($1::bigint[]) id), 0)) k,
         LATERAL (SELECT id, name, merchant FROM circle WHERE id = k.id OFFSET 0) c
         LEFT JOIN LATERAL (SELECT due_at FROM lane WHERE circle_id = c.id AND due_at >= k.since AND due_at IS NOT NULL
                            ORDER BY due_at LIMIT 1) l ON true
    ORDER BY c.id";

/// When the next lane that may be claimed is due. A circle on hold is due when its probe is.
pub(super) async fn next_due(tx: &Tx<'_>, begin: &Begin) -> Result<Option<Timestamp>, Failure> {
    let (holds, circles) = tokio::try_join!(biased; Holds::load(tx), circles(tx, begin))?;
    let mut next: Option<i64> = None;
    for (circle, due) in circles {
        let due = due.and_then(|due| match holds.over(&circle) {
            Some(hold) => hold.probe_at.filter(|_| !hold.probing).map(|probe| due.max(probe)),
            None => Some(due),
        });
        next = [next, due].into_iter().flatten().min();
    }
    next.map(timestamp).transpose()
}

/// Takes lanes that are due, the same share for every circle; what one circle does not need, the others get. Also says up to when
/// nothing is due any more, by circle, once this is committed.
pub(super) async fn claim(
    tx: &Tx<'_>,
    request: &ClaimRequest,
    begin: &Begin,
) -> Result<(Vec<Lease>, HashMap<i64, i64>), Failure> {
    let now = millis(request.now);
    let (mut holds, all) = tokio::try_join!(biased; Holds::load_for_claim(tx, now), circles(tx, begin))?;
    let mut ended: HashMap<i64, i64> = all
        .iter()
        .map(|(circle, due)| (circle.id, due.map_or(now, |due| due.min(now))))
        .collect();
    let is_due = |(circle, due): (Circle, Option<i64>)| due.is_some_and(|due| due <= now).then_some(circle);
    let mut circles: Vec<Circle> = all.into_iter().filter_map(is_due).collect();
    if circles.is_empty() {
        return Ok((Vec::new(), ended));
    }
    // With more circles than places, each turn begins with another one.
    let first = usize::try_from(request.turn % circles.len() as u64).unwrap_or(0);
    circles.rotate_left(first);
    let mut allowed = request.allowed.clone();
    let mut taken: Vec<Taken> = Vec::new();
    let share = (request.limit / u32::try_from(circles.len()).unwrap_or(u32::MAX)).max(1);
    for quota in [share, u32::MAX] {
        let (asked, quotas) = ask(&circles, &mut allowed, &mut holds, quota, request, taken.len());
        let more = take(tx, &asked, &quotas, &taken, now, begin).await?;
        for ((circle, quota), held) in asked.iter().zip(&quotas).zip(more.iter()) {
            let unused = quota - u32::try_from(held.len()).unwrap_or(0);
            if let Some(allowance) = allowed.get_mut(&circle.merchant) {
                *allowance += unused;
            }
            let last = held.last().filter(|_| unused == 0).map_or(now, |taken| taken.due);
            ended.insert(circle.id, last);
            if !held.is_empty() {
                holds.probe(tx, circle, lease_ms(request)).await?;
            }
        }
        // Who did not get his quota has nothing more that is due.
        let full: HashSet<i64> = asked
            .iter()
            .zip(&quotas)
            .zip(&more)
            .filter(|((_, quota), held)| held.len() == **quota as usize)
            .map(|((circle, _), _)| circle.id)
            .collect();
        let rested: HashSet<i64> = asked.iter().map(|circle| circle.id).collect();
        circles.retain(|circle| full.contains(&circle.id) || !rested.contains(&circle.id));
        taken.extend(more.into_iter().flatten());
    }
    Ok((lease(tx, request, taken).await?, ended))
}

fn lease_ms(request: &ClaimRequest) -> i64 {
    i64::try_from(request.lease.as_millis()).unwrap_or(i64::MAX)
}

/// How many lanes each circle may have in this round. What is asked for is taken off the allowances; the caller gives back what was
/// not there.
fn ask(
    circles: &[Circle],
    allowed: &mut HashMap<String, u32>,
    holds: &mut Holds,
    quota: u32,
    request: &ClaimRequest,
    taken: usize,
) -> (Vec<Circle>, Vec<u32>) {
    let mut left = request.limit - u32::try_from(taken).unwrap_or(request.limit).min(request.limit);
    let (mut asked, mut quotas) = (Vec::new(), Vec::new());
    for circle in circles {
        let allowance = allowed.get(&circle.merchant).copied().unwrap_or(u32::MAX);
        let mut most = quota.min(left).min(allowance);
        if let Some(hold) = holds.over(circle) {
            most = most.min(u32::from(hold.probe_is_due(millis(request.now))));
        }
        if most == 0 {
            continue;
        }
        holds.asked(circle);
        left -= most;
        if let Some(allowance) = allowed.get_mut(&circle.merchant) {
            *allowance -= most;
        }
        asked.push(circle.clone());
        quotas.push(most);
    }
    (asked, quotas)
}

/// A lane that is locked for a claim.
struct Taken {
    circle: Circle,
    lane: i64,
    head: Option<i64>,
    epoch: i64,
    due: i64,
}

/// Locks lanes that are due and that nobody else is about to take. The lanes of each circle that was asked for.
async fn take(
    tx: &Tx<'_>,
    circles: &[Circle],
    quotas: &[u32],
    before: &[Taken],
    now: i64,
    begin: &Begin,
) -> Result<Vec<Vec<Taken>>, Failure> {
    let mut taken: Vec<Vec<Taken>> = circles.iter().map(|_| Vec::new()).collect();
    if circles.is_empty() {
        return Ok(taken);
    }
    let ids: Vec<i64> = circles.iter().map(|circle| circle.id).collect();
    let quotas: Vec<i64> = quotas.iter().copied().map(i64::from).collect();
    let ours: Vec<i64> = before.iter().map(|taken| taken.lane).collect();
    let from: Vec<i64> = ids.iter().map(|circle| begin.of(*circle)).collect();
    for row in tx.rows(TAKE, &[&ids, &quotas, &now, &ours, &from]).await? {
        let place: i64 = row.try_get(0)?;
        let place = usize::try_from(place - 1).unwrap_or(0);
        taken[place].push(Taken {
            circle: circles[place].clone(),
            lane: row.try_get(1)?,
            head: row.try_get(2)?,
            epoch: row.try_get(3)?,
            due: row.try_get(4)?,
        });
    }
    Ok(taken)
}

pub(super) const TAKE: &str = "SELECT q.n, l.member_id, l.head_id, l.epoch, l.due_at
    FROM unnest($1::bigint[], $2::bigint[], $5::bigint[]) WITH ORDINALITY q (circle_id, quota, since, n),
         LATERAL (SELECT member_id, head_id, epoch, due_at FROM lane
                  WHERE circle_id = q.circle_id AND due_at BETWEEN q.since AND $3 AND due_at IS NOT NULL AND member_id <> ALL($4::bigint[])
                  ORDER BY due_at LIMIT q.quota FOR UPDATE SKIP LOCKED) l";

/// Writes the claims down, and what they are about to tell. The heads are read after the lanes are locked: nobody changes them now.
async fn lease(tx: &Tx<'_>, request: &ClaimRequest, taken: Vec<Taken>) -> Result<Vec<Lease>, Failure> {
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    let lanes: Vec<i64> = taken.iter().map(|taken| taken.lane).collect();
    let heads: Vec<Option<i64>> = taken.iter().map(|taken| taken.head).collect();
    let mut found: HashMap<i64, Row> = HashMap::new();
    for row in tx.rows(HEADS, &[&lanes, &heads]).await? {
        found.insert(row.try_get(0)?, row);
    }
    let mut leases: Vec<(Lease, Tag)> = Vec::with_capacity(taken.len());
    for taken in taken {
        let Some(row) = found.remove(&taken.lane) else {
            // The head was settled in another way (withdrawn while it was to be repeated): look for the next one.
            forget_head(tx, taken.lane).await?;
            continue;
        };
        let head = match open_head(tx, &row) {
            Err(Failure::Vault(error)) => {
                // One message that cannot be read must not stop the others. It waits for the right key, and for a person.
                set_aside(tx, &taken, row.try_get(1)?, &error.to_string(), request.now).await?;
                continue;
            }
            head => head?,
        };
        leases.push((
            Lease {
                lane: taken.lane,
                epoch: taken.epoch + 1,
                merchant: taken.circle.merchant,
                head,
            },
            tag(row.try_get(2)?)?,
        ));
    }
    // One order for everybody who writes several rows of `told`.
    leases.sort_by_key(|(lease, _)| lease.lane);
    let lanes: Vec<i64> = leases.iter().map(|(lease, _)| lease.lane).collect();
    let heads: Vec<i64> = leases.iter().map(|(lease, _)| lease.head.id).collect();
    let tags: Vec<&[u8]> = leases.iter().map(|(_, tag)| tag.as_slice()).collect();
    let states: Vec<&str> = leases.iter().map(|(lease, _)| lease.head.state.as_str()).collect();
    let at: Vec<i64> = leases.iter().map(|(lease, _)| millis(lease.head.at)).collect();
    let lease = lease_ms(request);
    let claims: Args<'_> = &[&lanes, &heads, &request.node.0, &lease];
    let tells: Args<'_> = &[&lanes, &tags, &states, &at];
    tokio::try_join!(tx.execute(CLAIM, claims), tx.execute(TELL, tells))?;
    Ok(leases.into_iter().map(|(lease, _)| lease).collect())
}

/// The head of each lane: the message that has to be repeated, else the earliest one that waits.
pub(super) const HEADS: &str =
    "SELECT k.lane, m.id, m.plate_tag, m.plate_sealed, m.state, m.at, m.enqueued_at, m.tries, p.circle, p.appid,
                            p.openid_sealed
    FROM unnest($1::bigint[], $2::bigint[]) k (lane, head),
         LATERAL (SELECT * FROM message WHERE id = coalesce(k.head, (SELECT id FROM message WHERE member_id = k.lane
                      AND status = 'waiting' ORDER BY at, id LIMIT 1)) AND status || '' = 'waiting' OFFSET 0) m
    JOIN member p ON p.id = m.member_id";

const CLAIM: &str =
    "UPDATE lane SET node_id = $3, lease_until = now_ms() + $4, epoch = epoch + 1, due_at = NULL, head_id = k.head
    FROM unnest($1::bigint[], $2::bigint[]) k (id, head) WHERE lane.member_id = k.id";

const TELL: &str = "INSERT INTO told (member_id, plate_tag, state, at)
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::text[], $4::bigint[])
    ON CONFLICT (member_id, plate_tag) DO UPDATE
    SET state = excluded.state, at = excluded.at, was_state = told.state, was_at = told.at
    WHERE excluded.at > told.at OR (excluded.at = told.at AND excluded.state <> told.state)";

fn open_head(tx: &Tx<'_>, row: &Row) -> Result<Delivery, Failure> {
    let appid: String = row.try_get(9)?;
    let tries: i64 = row.try_get(7)?;
    Ok(Delivery {
        id: row.try_get(1)?,
        member: MemberKey {
            circle: row.try_get(8)?,
            appid: appid.parse().map_err(|_| Failure::Damaged("an appid is none"))?,
            openid: tx.vault.open_openid(row.try_get(10)?)?,
        },
        plate: tx.vault.open_plate(row.try_get(3)?)?,
        state: direction(row.try_get(4)?)?,
        at: timestamp(row.try_get(5)?)?,
        enqueued_at: timestamp(row.try_get(6)?)?,
        tries: u32::try_from(tries).unwrap_or(u32::MAX),
    })
}

async fn forget_head(tx: &Tx<'_>, lane: i64) -> Result<(), Failure> {
    tx.execute("UPDATE lane SET head_id = NULL WHERE member_id = $1", &[&lane])
        .await?;
    lanes::refresh(tx, &[lane]).await
}

/// Puts the head of a lane aside for a person.
async fn set_aside(tx: &Tx<'_>, taken: &Taken, id: i64, why: &str, now: Timestamp) -> Result<(), Failure> {
    let rows = tx
        .execute(
            "UPDATE message SET status = 'held', reason = $2, settled_at = $3 WHERE id = $1 AND status || '' = 'waiting'",
            &[&id, &clean(why), &millis(now)],
        )
        .await?;
    if rows > 0 {
        let circle = &taken.circle.name;
        tx.count("waiting", circle, "waiting", -1);
        tx.count("waiting", circle, "held", 1);
        tracing::error!(
            circle.id = circle,
            why,
            "a message cannot be opened and waits for a person"
        );
    }
    forget_head(tx, taken.lane).await
}

//! Gate events: the callers' jobs are gathered, and each group is one transaction. Two groups are under way at one time, so that one
//! is worked out while the other waits for the disk.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::lanes;
use super::tx::{self, Args, Failure, Tx, direction, maybe_timestamp, millis, tag, timestamp};
use super::{Inner, QUEUE};
use crate::domain::gate::TimeSource;
use crate::domain::presence::{Arrival, At};
use crate::sabotage;
use crate::store::book::{
    Book, Car, CarKey, Listener, NewEvent, NewMessage, PartedEvent, Place, Prepared, ReadRow, VisitRow, Waits,
};
use crate::store::{NeverSent, Recorded, StoreError};

/// Events in one transaction. Beyond it the first caller waits for nothing.
const GROUP: usize = 1000;
/// Groups under way at one time.
const WRITERS: usize = 2;

/// What one caller wants written.
pub(super) struct Job {
    events: Vec<Prepared>,
    never: Vec<NeverSent>,
    reply: oneshot::Sender<Result<Vec<Recorded>, StoreError>>,
}

/// Queues a job and waits for its commit, or says at once that too many wait.
pub(super) async fn offer(
    queue: &mpsc::Sender<Job>,
    events: Vec<Prepared>,
    never: Vec<NeverSent>,
) -> Result<Vec<Recorded>, StoreError> {
    let (reply, done) = oneshot::channel();
    let job = Job { events, never, reply };
    queue.try_send(job).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => StoreError::Busy { waiting: QUEUE },
        mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
    })?;
    done.await.map_err(|_| StoreError::Closed)?
}

pub(super) fn start(runtime: &Runtime, inner: &Arc<Inner>, queue: mpsc::Receiver<Job>) {
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..WRITERS {
        let (inner, queue) = (Arc::clone(inner), Arc::clone(&queue));
        runtime.spawn(async move {
            while let Some(group) = gather(&queue).await {
                write(&inner, group).await;
            }
        });
    }
}

/// The next job, and what waits behind it.
async fn gather(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Vec<Job>> {
    let mut queue = queue.lock().await;
    let first = queue.recv().await?;
    let mut events = first.events.len();
    let mut group = vec![first];
    while events < GROUP
        && let Ok(next) = queue.try_recv()
    {
        events += next.events.len();
        group.push(next);
    }
    Some(group)
}

/// Writes a group and answers its callers. What fails together is tried one by one: a job that the database does not take must not
/// take its neighbours with it.
async fn write(inner: &Inner, group: Vec<Job>) {
    let failure = match commit(inner, &group).await {
        Ok(recorded) => return answer(group, recorded),
        Err(failure) => failure,
    };
    if group.len() == 1 || !matches!(failure, Failure::Damaged(_) | Failure::Vault(_)) && !failure.is_of_the_data() {
        let error = failure.told("record gate events");
        for job in group {
            // A caller that went away does not hear of it.
            let _ = job.reply.send(Err(error.clone()));
        }
        return;
    }
    for job in group {
        let alone = [job];
        let result = commit(inner, &alone).await;
        let [job] = alone;
        let result = result.map(|mut recorded| recorded.pop().unwrap_or_default());
        let _ = job
            .reply
            .send(result.map_err(|failure| failure.told("record gate events")));
    }
}

fn answer(group: Vec<Job>, recorded: Vec<Vec<Recorded>>) {
    for (job, recorded) in group.into_iter().zip(recorded) {
        let _ = job.reply.send(Ok(recorded));
    }
}

async fn commit(inner: &Inner, group: &[Job]) -> Result<Vec<Vec<Recorded>>, Failure> {
    let mut tries = 0;
    loop {
        let mut client = inner.client().await?;
        let result = tx::in_time(commit_once(inner, &mut client, group)).await;
        match result {
            Err(failure) if inner.again(&failure, Some(client), &mut tries).await => {}
            result => return result,
        }
    }
}

async fn commit_once(
    inner: &Inner,
    client: &mut deadpool_postgres::Object,
    group: &[Job],
) -> Result<Vec<Vec<Recorded>>, Failure> {
    let tx = Tx::begin(client, inner).await?;
    for read in group.iter().flat_map(|job| &job.never) {
        tx.count("never", &read.lot, read.reason, 1);
    }
    let events: Vec<&Prepared> = group.iter().flat_map(|job| &job.events).collect();
    let mut recorded = Box::pin(record(&tx, &events)).await?.into_iter();
    sabotage::crash_point("before-commit");
    tx.commit(inner).await?;
    sabotage::crash_point("after-commit");
    Ok(group
        .iter()
        .map(|job| recorded.by_ref().take(job.events.len()).collect())
        .collect())
}

/// Records events in their order, inside a transaction.
pub(super) async fn record(tx: &Tx<'_>, events: &[&Prepared]) -> Result<Vec<Recorded>, Failure> {
    let mut recorded = Vec::with_capacity(events.len());
    // Once, but where one event needs what another one of the group has just changed.
    while recorded.len() < events.len() {
        let rest = &events[recorded.len()..];
        let mut book = load(tx, rest).await?;
        let taken = rest
            .iter()
            .enumerate()
            .map_while(|(index, event)| book.record(index, event));
        let before = recorded.len();
        recorded.extend(taken);
        if recorded.len() == before {
            return Err(Failure::Damaged("a visit whose reads are not there"));
        }
        save(tx, rest, book).await?;
    }
    Ok(recorded)
}

/// The plates of the events, each once, with their circles.
fn cars<'a>(events: &[&'a Prepared]) -> (Vec<&'a str>, Vec<&'a [u8]>) {
    let mut cars: Vec<(&[u8], &str)> = events
        .iter()
        .map(|one| (one.plate_tag.as_slice(), &*one.event.circle))
        .collect();
    cars.sort_unstable();
    cars.dedup();
    cars.into_iter().map(|(tag, circle)| (circle, tag)).unzip()
}

/// Locks the cars and their members' lanes, then loads what is known of them.
async fn load(tx: &Tx<'_>, events: &[&Prepared]) -> Result<Book, Failure> {
    let (circles, tags) = cars(events);
    let dedupe: Vec<&[u8]> = events.iter().map(|one| one.dedupe.as_slice()).collect();
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let cars: Args<'_> = &[&circles, &tags];
    let (known, numbered): (Args<'_>, Args<'_>) = (&[&dedupe], &[&count]);
    // The server works them off one after the other, as of when it comes to each; they only travel together. Behind the locks nobody
    // else changes any of this.
    let ((), lanes, seen, visits, listeners, waiting, numbers) = tokio::try_join!(
        biased;
        lanes::lock_cars(tx, &tags),
        tx.rows(LOCK_LANES, cars),
        tx.rows("SELECT dedupe FROM seen WHERE dedupe = ANY($1::bytea[])", known),
        tx.rows(VISITS, cars),
        tx.rows(LISTENERS, cars),
        tx.rows(WAITING, cars),
        tx.rows(NUMBERS, numbered),
    )?;
    let mut book = Book::default();
    for row in seen {
        book.seen.insert(tag(row.try_get(0)?)?);
    }
    for row in visits {
        let key = (row.try_get(0)?, tag(row.try_get(1)?)?);
        let visit = VisitRow {
            id: row.try_get(2)?,
            entered_lot: row.try_get(3)?,
            entered_at: maybe_timestamp(row.try_get(4)?)?,
            left_lot: row.try_get(5)?,
            left_at: maybe_timestamp(row.try_get(6)?)?,
            ended: row.try_get(7)?,
            forget_from: maybe_timestamp(row.try_get(8)?)?,
            of_member: row.try_get(9)?,
            reread: row.try_get(10)?,
        };
        book.cars.entry(key).or_default().visits.push(visit);
    }
    load_reads(tx, &mut book).await?;
    let heads: HashMap<i64, Option<i64>> = lanes
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, Failure>>()?;
    for row in listeners {
        let key = (row.try_get(0)?, tag(row.try_get(1)?)?);
        let (state, at): (Option<&str>, Option<i64>) = (row.try_get(3)?, row.try_get(4)?);
        let told = match (state, at) {
            (Some(state), Some(at)) => Some(At {
                state: direction(state)?,
                at: timestamp(at)?,
            }),
            _ => None,
        };
        let listener = Listener {
            member: row.try_get(2)?,
            told,
            other_car_inside: row.try_get(5)?,
            waiting: Vec::new(),
        };
        book.cars.entry(key).or_default().listeners.push(listener);
    }
    for row in waiting {
        let key = (row.try_get(0)?, tag(row.try_get(1)?)?);
        let (member, id): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
        if heads.get(&member).copied().flatten() == Some(id) {
            continue;
        }
        let waits = Waits {
            at: At {
                state: direction(row.try_get(4)?)?,
                at: timestamp(row.try_get(5)?)?,
            },
            place: Place::Stored(id),
        };
        let Car { listeners, .. } = book.cars.entry(key).or_default();
        if let Some(listener) = listeners.iter_mut().find(|listener| listener.member == member) {
            listener.waiting.push(waits);
        }
    }
    let mut event_ids = Vec::with_capacity(numbers.len());
    let mut visit_ids = Vec::with_capacity(numbers.len());
    for row in numbers {
        event_ids.push(row.try_get(0)?);
        visit_ids.push(row.try_get(1)?);
    }
    book.event_ids = event_ids.into_iter();
    book.visit_ids = visit_ids.into_iter();
    Ok(book)
}

/// Loads the reads of visits where some were merged. There are few of them.
async fn load_reads(tx: &Tx<'_>, book: &mut Book) -> Result<(), Failure> {
    let mut cars: HashMap<i64, &mut Car> = HashMap::new();
    for car in book.cars.values_mut() {
        if let Some(id) = car.visits.last().filter(|visit| visit.reread).map(|visit| visit.id) {
            car.reads = Some(Vec::new());
            cars.insert(id, car);
        }
    }
    if cars.is_empty() {
        return Ok(());
    }
    let visits: Vec<i64> = cars.keys().copied().collect();
    for row in tx.rows(READS, &[&visits]).await? {
        let visit: i64 = row.try_get(0)?;
        let read = ReadRow {
            event_id: row.try_get(1)?,
            lot: row.try_get(2)?,
            state: direction(row.try_get(3)?)?,
            at: timestamp(row.try_get(4)?)?,
            arrival: Arrival {
                received_at: timestamp(row.try_get(5)?)?,
                replayed: row.try_get(6)?,
            },
            told_to: row.try_get(7)?,
        };
        if let Some(reads) = cars.get_mut(&visit).and_then(|car| car.reads.as_mut()) {
            reads.push(read);
        }
    }
    Ok(())
}

const READS: &str = "SELECT e.visit_id, e.id, e.lot, e.state, e.at, e.received_at, e.replayed,
           ARRAY(SELECT member_id FROM message WHERE event_id = e.id UNION ALL SELECT member_id FROM delivery WHERE event_id = e.id)
    FROM event e WHERE e.visit_id = ANY($1::bigint[]) AND e.recorded NOT IN ('corrected', 'cancelled') ORDER BY e.at, e.id";

/// Lanes of all members of the cars, in the order in which everybody locks them.
pub(super) const LOCK_LANES: &str = "SELECT l.member_id, l.head_id FROM lane l
    WHERE l.member_id = ANY(ARRAY(SELECT b.member_id FROM unnest($1::text[], $2::bytea[]) k (circle, tag)
                                  JOIN binding b ON b.plate_tag = k.tag AND b.circle = k.circle))
    ORDER BY l.member_id FOR UPDATE OF l";

pub(super) const VISITS: &str = "SELECT k.circle, k.tag, v.*
    FROM unnest($1::text[], $2::bytea[]) k (circle, tag),
         LATERAL (SELECT id, entered_lot, entered_at, left_lot, left_at, ended, forget_from, of_member, reread FROM visit
                  WHERE plate_tag = k.tag AND circle = k.circle AND ended IS DISTINCT FROM 'cancelled'
                  ORDER BY id DESC LIMIT 2) v
    ORDER BY v.id";

pub(super) const LISTENERS: &str = "SELECT k.circle, k.tag, b.member_id, t.state, t.at,
           EXISTS (SELECT FROM told o WHERE o.member_id = b.member_id AND o.plate_tag <> k.tag AND o.state = 'IN')
    FROM unnest($1::text[], $2::bytea[]) k (circle, tag)
    JOIN binding b ON b.plate_tag = k.tag AND b.circle = k.circle
    LEFT JOIN told t ON t.member_id = b.member_id AND t.plate_tag = k.tag
    ORDER BY b.member_id";

pub(super) const WAITING: &str = "SELECT k.circle, k.tag, b.member_id, m.id, m.state, m.at
    FROM unnest($1::text[], $2::bytea[]) k (circle, tag)
    JOIN binding b ON b.plate_tag = k.tag AND b.circle = k.circle,
         LATERAL (SELECT id, state, at FROM message WHERE member_id = b.member_id AND status = 'waiting' AND plate_tag = k.tag OFFSET 0) m
    ORDER BY m.id";

const NUMBERS: &str =
    "SELECT day_ids(transaction_timestamp()) + nextval('event_number') % 10000000000, nextval('visit_number')
    FROM generate_series(1, $1::bigint)";

/// Writes down what changed.
async fn save(tx: &Tx<'_>, events: &[&Prepared], book: Book) -> Result<(), Failure> {
    let changes = book.changes;
    tx.count_all(changes.counts);
    let (messages, superseded_at_once): (Vec<&NewMessage>, Vec<&NewMessage>) = changes
        .messages
        .iter()
        .partition(|message| message.status != "superseded");
    let superseded: Vec<lanes::Ended> = changes
        .superseded
        .iter()
        .map(|(id, reason, at)| lanes::Ended {
            id: *id,
            status: "superseded",
            reason: Some((*reason).to_owned()),
            tried: false,
            at: millis(*at),
        })
        .collect();
    let lanes: Vec<i64> = changes.lanes.iter().copied().collect();
    tokio::try_join!(
        biased;
        write_events(tx, events, &changes.events),
        write_visits(tx, changes.visits.into_values()),
        write_messages(tx, events, "message", &messages),
        write_messages(tx, events, "delivery", &superseded_at_once),
        write_parted(tx, events, &changes.moved, &changes.parted),
        lanes::end(tx, &superseded),
        tx.write_counts(),
    )?;
    lanes::refresh(tx, &lanes).await
}

async fn write_parted(
    tx: &Tx<'_>,
    events: &[&Prepared],
    moved: &[(i64, i64)],
    parted: &[PartedEvent],
) -> Result<(), Failure> {
    for (event, visit) in moved {
        tx.execute("UPDATE event SET visit_id = $2 WHERE id = $1", &[event, visit])
            .await?;
    }
    for one in parted {
        let plate = &events[one.index].event.read.plate;
        let sealed = one.of_member.then(|| tx.vault.seal_plate(plate));
        tx.execute(
            "UPDATE event SET recorded = $2, plate_sealed = coalesce(plate_sealed, $3) WHERE id = $1 AND recorded = 'merged'",
            &[&one.event_id, &one.recorded.word(), &sealed],
        )
        .await?;
    }
    Ok(())
}

async fn write_events(tx: &Tx<'_>, events: &[&Prepared], new: &[NewEvent]) -> Result<(), Failure> {
    if new.is_empty() {
        return Ok(());
    }
    let of = |index: usize| events[index];
    let rows = || new.iter().map(|event| (event, of(event.index)));
    let ids: Vec<i64> = new.iter().map(|event| event.id).collect();
    let dedupe: Vec<&[u8]> = rows().map(|(_, one)| one.dedupe.as_slice()).collect();
    let records: Vec<Option<&[u8]>> = rows()
        .map(|(_, one)| one.record_tag.as_ref().map(<[u8; 16]>::as_slice))
        .collect();
    let visits: Vec<Option<i64>> = new.iter().map(|event| event.visit).collect();
    let circles: Vec<&str> = rows().map(|(_, one)| &*one.event.circle).collect();
    let lots: Vec<&str> = rows().map(|(_, one)| &*one.event.lot).collect();
    let gates: Vec<Option<&str>> = rows().map(|(_, one)| one.event.gate.as_deref()).collect();
    let tags: Vec<&[u8]> = rows().map(|(_, one)| one.plate_tag.as_slice()).collect();
    let sealed: Vec<Option<Vec<u8>>> = rows()
        .map(|(event, one)| event.of_member.then(|| tx.vault.seal_plate(&one.event.read.plate)))
        .collect();
    let states: Vec<&str> = rows().map(|(_, one)| one.event.read.state.as_str()).collect();
    let at: Vec<i64> = rows().map(|(_, one)| millis(one.at)).collect();
    let claimed: Vec<Option<i64>> = rows()
        .map(|(_, one)| (one.time_source == TimeSource::Receipt).then(|| millis(one.event.read.at)))
        .collect();
    let received: Vec<i64> = rows().map(|(_, one)| millis(one.event.received_at)).collect();
    let replayed: Vec<bool> = rows().map(|(_, one)| one.event.read.replayed).collect();
    let recorded: Vec<&str> = new.iter().map(|event| event.recorded.word()).collect();
    let known: Args<'_> = &[&dedupe];
    let columns: Args<'_> = &[
        &ids, &dedupe, &records, &visits, &circles, &lots, &gates, &tags, &sealed, &states, &at, &claimed, &received,
        &replayed, &recorded,
    ];
    tokio::try_join!(
        biased;
        tx.execute("INSERT INTO seen (dedupe) SELECT unnest($1::bytea[])", known),
        tx.execute(INSERT_EVENTS, columns),
    )?;
    Ok(())
}

const INSERT_EVENTS: &str = "INSERT INTO event (id, dedupe, record_tag, visit_id, circle, lot, gate, plate_tag, plate_sealed, state, at,
                                               at_claimed, received_at, replayed, recorded)
    SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                         $9::bytea[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::boolean[], $15::text[])";

async fn write_visits(tx: &Tx<'_>, visits: impl Iterator<Item = (CarKey, VisitRow)>) -> Result<(), Failure> {
    let visits: Vec<_> = visits.collect();
    if visits.is_empty() {
        return Ok(());
    }
    let rows = || visits.iter().map(|(_, visit)| visit);
    let ids: Vec<i64> = rows().map(|visit| visit.id).collect();
    let circles: Vec<&str> = visits.iter().map(|((circle, _), _)| &**circle).collect();
    let tags: Vec<&[u8]> = visits.iter().map(|((_, tag), _)| tag.as_slice()).collect();
    let entered_lots: Vec<Option<&str>> = rows().map(|visit| visit.entered_lot.as_deref()).collect();
    let entered: Vec<Option<i64>> = rows().map(|visit| visit.entered_at.map(millis)).collect();
    let left_lots: Vec<Option<&str>> = rows().map(|visit| visit.left_lot.as_deref()).collect();
    let left: Vec<Option<i64>> = rows().map(|visit| visit.left_at.map(millis)).collect();
    let ended: Vec<Option<&str>> = rows().map(|visit| visit.ended.as_deref()).collect();
    let forget: Vec<Option<i64>> = rows().map(|visit| visit.forget_from.map(millis)).collect();
    let of_member: Vec<bool> = rows().map(|visit| visit.of_member).collect();
    let reread: Vec<bool> = rows().map(|visit| visit.reread).collect();
    tx.execute(
        "INSERT INTO visit (id, circle, plate_tag, entered_lot, entered_at, left_lot, left_at, ended, forget_from, of_member, reread)
         SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::text[],
                              $9::bigint[], $10::boolean[], $11::boolean[])
         ON CONFLICT (id) DO UPDATE
         SET entered_lot = excluded.entered_lot, entered_at = excluded.entered_at, left_lot = excluded.left_lot,
             left_at = excluded.left_at, ended = excluded.ended, forget_from = excluded.forget_from, of_member = excluded.of_member,
             reread = excluded.reread",
        &[
            &ids, &circles, &tags, &entered_lots, &entered, &left_lots, &left, &ended, &forget, &of_member, &reread,
        ],
    )
    .await?;
    Ok(())
}

async fn write_messages(
    tx: &Tx<'_>,
    events: &[&Prepared],
    table: &'static str,
    messages: &[&NewMessage],
) -> Result<(), Failure> {
    let rows: Vec<lanes::NewRow> = messages
        .iter()
        .map(|message| {
            let one = events[message.index];
            lanes::NewRow {
                member: message.member,
                event_id: message.event_id,
                plate: &one.event.read.plate,
                plate_tag: one.plate_tag,
                state: message.state,
                at: message.at,
                cause: lanes::Cause::Crossing,
                not_before: message.not_before,
                now: one.event.received_at,
                status: message.status,
                reason: message.reason,
            }
        })
        .collect();
    lanes::insert(tx, table, &rows).await
}

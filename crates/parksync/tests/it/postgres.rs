//! What only a PostgreSQL store has: its schema, its partitions, the plans of its hot statements, and receiving a move.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use parksync::domain::delivery::{Outcome, Scope, Verdict};
use parksync::domain::gate::Direction;
use parksync::store::moving::{self, MoveError};
use parksync::store::postgres::{Address, OpenError, PLANNER_OFF, PgStore, SCHEMA, hot_statements};
use parksync::store::sqlite::SqliteStore;
use parksync::store::vault::Vault;
use parksync::store::{GateEvent, NodeCard, OutboxFilter, Retention, Status, Store, Traced};

use crate::app::PATIENCE;
use crate::contract::{KEY, at, claim, delivered, event, member, open, plate, record, settled};
use crate::pg;

fn vault() -> Arc<Vault> {
    Arc::new(Vault::from_key_file(KEY).unwrap())
}

/// A database with the schema: its server, its name there, its address.
async fn migrated() -> (&'static pg::Server, String, Address) {
    let server = pg::shared();
    let name = server.database();
    let address = Address::new(&server.url(&name), None, None).unwrap();
    PgStore::migrate(&address).await.unwrap();
    (server, name, address)
}

#[tokio::test]
async fn a_database_that_does_not_fit_is_refused_with_what_to_do() {
    let server = pg::shared();
    let name = server.database();
    let address = Address::new(&server.url(&name), None, None).unwrap();

    assert!(matches!(
        PgStore::open(&address, vault()).await,
        Err(OpenError::Older { found: 0, .. })
    ));
    assert_eq!(PgStore::migrate(&address).await.unwrap().from, 0);
    let again = PgStore::migrate(&address).await.unwrap();
    assert_eq!((again.from, again.to), (SCHEMA, SCHEMA));
    PgStore::open(&address, vault()).await.unwrap();

    let other = Arc::new(Vault::from_key_file(&KEY.replace('0', "1")).unwrap());
    assert!(matches!(
        PgStore::open(&address, other).await,
        Err(OpenError::WrongVault)
    ));
    // A newer version that this one can work beside, and one that it cannot.
    server.sql(&name, "INSERT INTO schema_version (version, works_with) VALUES (98, 1)");
    PgStore::open(&address, vault()).await.unwrap();
    server.sql(
        &name,
        "INSERT INTO schema_version (version, works_with) VALUES (99, 98)",
    );
    assert!(matches!(
        PgStore::open(&address, vault()).await,
        Err(OpenError::Newer { found: 99, .. })
    ));
    assert!(matches!(
        PgStore::migrate(&address).await,
        Err(OpenError::Newer { found: 99, .. })
    ));
}

#[tokio::test]
async fn old_days_are_dropped_whole_but_for_what_is_open() {
    let (server, name, address) = migrated().await;
    let store = PgStore::open(&address, vault()).await.unwrap();
    for day in ["200101", "200102"] {
        for table in ["event", "delivery", "attempt"] {
            server.sql(
                &name,
                &format!(
                    "CREATE TABLE {table}_{day} PARTITION OF {table} FOR VALUES FROM ({day}0000000000) TO ({day}9999999999)"
                ),
            );
        }
        server.sql(
            &name,
            &format!(
                "INSERT INTO event (id, dedupe, circle, lot, plate_tag, state, at, received_at, replayed, recorded, visit_id)
                 VALUES ({day}0000000001, '{day}', 'mall', 'P1', '', 'IN', 0, 0, false, 'queued', 1);
                 INSERT INTO seen VALUES ('{day}')"
            ),
        );
    }
    server.sql(
        &name,
        "INSERT INTO message (id, member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at, status)
         VALUES (2001020000000001, 1, 2001020000000001, '', '', 'IN', 0, 'crossing', 0, 0, 'dead')",
    );

    let month = Retention {
        now: Timestamp::now(),
        strangers: SignedDuration::from_hours(24),
        all: SignedDuration::from_hours(24 * 30),
    };
    store.forget(month).await.unwrap();

    let days = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname LIKE '%_2001__' AND relkind = 'r'";
    assert_eq!(server.sql(&name, days), "attempt_200102 delivery_200102 event_200102");
    assert_eq!(
        server.sql(&name, "SELECT string_agg(encode(dedupe, 'escape'), ' ') FROM seen"),
        "200102"
    );
    let ahead = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass";
    assert_eq!(
        server.sql(&name, ahead),
        "5",
        "today, three days ahead, and the one that stays"
    );
}

/// Statistics of these tables are always wrong, so the plans are held to their indexes. An index that vanishes shows here.
#[tokio::test]
async fn the_hot_statements_go_by_their_indexes() {
    let (server, name, address) = migrated().await;
    PgStore::open(&address, vault()).await.unwrap();

    let fresh = plans(server, &name);
    assert_eq!(fresh, include_str!("plans.txt"), "the plans are now:\n{fresh}");
    // What the statistics are of most of the time: tables where something was.
    let gone = "INSERT INTO circle (name, merchant) VALUES ('mall', 'm');
        INSERT INTO member (circle, appid, member_tag, openid_sealed, created_at) VALUES ('mall', 'wx', '', '', 0);
        INSERT INTO lane (member_id, circle_id, due_at) SELECT m.id, c.id, 0 FROM member m, circle c;
        INSERT INTO message (member_id, event_id, plate_tag, plate_sealed, state, at, cause, not_before, enqueued_at, status)
          SELECT id, number, '', '', 'IN', 0, 'crossing', 0, 0, 'waiting' FROM member, generate_series(1, 5000) number;
        DELETE FROM message";
    server.sql(&name, gone);
    server.sql(&name, "ANALYZE message, lane");
    let analyzed = plans(server, &name);
    assert_eq!(analyzed, fresh, "analyzed while empty, the plans are now:\n{analyzed}");
}

fn plans(server: &pg::Server, name: &str) -> String {
    let settings =
        PLANNER_OFF.map(|way| format!("SET {way} = off; ")).concat() + "SET plan_cache_mode = force_generic_plan";
    let mut plans = String::new();
    for (title, sql, arguments) in hot_statements() {
        let arguments = if arguments.is_empty() {
            String::new()
        } else {
            format!("({arguments})")
        };
        let explain = format!("{settings}; PREPARE hot AS {sql}; EXPLAIN (COSTS OFF) EXECUTE hot {arguments}");
        let plan = server.sql(name, &explain);
        plans.push_str(title);
        plans.push('\n');
        let is_told = |line: &&str| line.contains("Scan") || line.contains("Index Cond");
        for line in plan.lines().filter(is_told) {
            let scan = line.trim().trim_start_matches("->").trim();
            // One line for all days.
            if !scan.contains("_2") {
                plans.push_str(&format!("  {scan}\n"));
            }
        }
    }
    plans
}

#[tokio::test]
async fn an_installation_moves_over_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parksync.db");
    let source = open(&path).unwrap();
    fill(&source).await;
    // As the command does it: the lock of `serve`, which gives back what a dead process had claimed.
    let lock = source.serve(&path).await.unwrap();
    let before = picture(&source).await;
    drop((lock, source));
    let address = pg::shared().address();
    PgStore::migrate(&address).await.unwrap();
    let target = PgStore::open(&address, vault()).await.unwrap();

    // Interrupted after the first portion of each kind that comes before the events.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    tokio::select! {
        biased;
        _ = stopped => {}
        ended = moving::carry(&path, &target, |table, _, _| if table == "visit" { drop(stop.take()); }) => panic!("it was not interrupted: {ended:?}"),
    }
    let moved = moving::carry(&path, &target, |_, _, _| {}).await.unwrap();

    assert!(moved.iter().any(|table| table.table == "message" && table.rows > 0));
    assert!(moved.iter().any(|table| table.table == "attempt" && table.rows > 0));
    assert_eq!(picture(&target).await, before);
    assert!(matches!(
        moving::carry(&path, &target, |_, _, _| {}).await,
        Err(MoveError::InUse(_))
    ));
    // It goes on: a resend is known, the head that has to be repeated goes first, new rows get new numbers.
    assert_eq!(record(&target, event(3, Direction::In, 300)).await.word(), "duplicate");
    let lease = claim(&target, at(5000), 1).await.unwrap().remove(0);
    assert_eq!((lease.head.plate.clone(), lease.head.tries), (plate(1), 1));
    target.settle(vec![delivered(lease)]).await.unwrap();
    assert_eq!(record(&target, event(4, Direction::In, 6000)).await.word(), "queued");
    target.bind(member(9), vec![plate(9)], false, at(6000)).await.unwrap();
}

/// Members, visits, and messages in every state.
async fn fill(store: &SqliteStore) {
    for number in 1..=5 {
        store
            .bind(member(number), vec![plate(number)], false, at(0))
            .await
            .unwrap();
    }
    record(store, event(1, Direction::In, 100)).await;
    let lease = claim(store, at(100), 1).await.unwrap().remove(0);
    let lost = Outcome::Unknown {
        why: "no reply".to_owned(),
    };
    let again = Verdict::RetryAt {
        at: at(130),
        counts: true,
    };
    store.settle(vec![settled(lease, lost, again)]).await.unwrap();
    record(store, event(2, Direction::In, 200)).await;
    let lease = claim(store, at(120), 9).await.unwrap().pop();
    assert!(lease.is_none(), "nothing is due yet");
    let lease = claim(store, at(200), 9).await.unwrap();
    let dead = Verdict::Dead {
        reason: "400".to_owned(),
    };
    for lease in lease {
        let (outcome, verdict) = if lease.head.plate == plate(2) {
            (Outcome::NotSent { why: "\0".to_owned() }, dead.clone())
        } else {
            let why = "no claim";
            (
                Outcome::Unclaimed { why },
                Verdict::RetryAt {
                    at: at(4000),
                    counts: false,
                },
            )
        };
        store.settle(vec![settled(lease, outcome, verdict)]).await.unwrap();
    }
    record(store, event(3, Direction::In, 300)).await;
    for lease in claim(store, at(300), 9).await.unwrap() {
        store.settle(vec![delivered(lease)]).await.unwrap();
    }
    let mut old = event(4, Direction::In, 400);
    old.received_at = at(400) + SignedDuration::from_hours(13);
    record(store, GateEvent { ..old }).await;
    for number in 100..2200 {
        record(store, event(number, Direction::In, 500)).await;
    }
    store
        .hold(Scope::Circle, "other".to_owned(), "by hand".to_owned(), at(600))
        .await
        .unwrap();
}

/// What people see, without the numbers that are new over there.
async fn picture(store: &dyn Store) -> Vec<String> {
    let mut seen = Vec::new();
    for status in Status::ALL {
        let filter = OutboxFilter {
            status,
            circle: None,
            reason: None,
            after: 0,
            limit: 100,
        };
        for mut entry in store.outbox(filter).await.unwrap() {
            let tries = store.message(entry.id).await.unwrap().unwrap().1;
            entry.id = 0;
            seen.push(format!("{entry:?} {tries:?}").replace("\\0", ""));
        }
    }
    for number in 1..=5 {
        let visits = store.trace(Traced::Plate(plate(number))).await.unwrap();
        seen.push(format!(
            "{} visits, {:?}",
            visits.len(),
            visits.first().map(|visit| &visit.entered)
        ));
    }
    let (members, _) = store.members(None, 0, 100).await.unwrap();
    seen.push(format!("{members:?} {:?}", store.holds().await.unwrap()));
    let mut counters = store.counters().await.unwrap();
    counters.sort();
    seen.push(format!("{counters:?}"));
    seen
}

#[tokio::test]
async fn a_process_that_starts_takes_over_whatever_ended_however_long_ago() {
    let (server, name, address) = migrated().await;
    let dead = PgStore::open(&address, vault()).await.unwrap();
    dead.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
    record(&dead, event(1, Direction::In, 100)).await;
    assert_eq!(claim(&dead, at(100), 1).await.unwrap().len(), 1);
    drop(dead);
    server.sql(&name, "UPDATE lane SET lease_until = 1");

    let other = PgStore::open(&address, vault()).await.unwrap();

    assert_eq!(other.take_over().await.unwrap(), 1);
    assert_eq!(claim(&other, at(100), 1).await.unwrap().len(), 1);
}

/// What a transaction counted is neither lost nor counted twice, however long it takes while others are added up.
#[tokio::test]
async fn counters_are_right_before_while_and_after_they_are_added_up() {
    let (server, name, address) = migrated().await;
    let store = PgStore::open(&address, vault()).await.unwrap();
    let count = |table: &str| server.sql(&name, &format!("SELECT count(*) FROM {table}"));
    store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
    record(&store, event(1, Direction::In, 100)).await;
    let (slow, connection) = tokio_postgres::connect(&server.url(&name), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let begin = "BEGIN; INSERT INTO counter_change (name, scope, word, value) VALUES ('event', 'P1', 'queued', 40)";
    slow.batch_execute(begin).await.unwrap();
    record(&store, event(1, Direction::Out, 5_000)).await;
    assert_eq!((queued(&store).await, &*count("counter")), (2, "0"));

    add_up(server, &name, &store).await;

    assert_eq!(
        (queued(&store).await, &*count("counter_change")),
        (2, "0"),
        "what can be seen"
    );
    slow.batch_execute("COMMIT").await.unwrap();
    assert_eq!((queued(&store).await, &*count("counter_change")), (42, "1"));
    let other = PgStore::open(&address, vault()).await.unwrap();
    add_up(server, &name, &other).await;
    assert_eq!((queued(&store).await, &*count("counter_change")), (42, "0"));

    // Restored from a dump into a server whose transactions are numbered anew.
    server.sql(&name, "UPDATE counter_mark SET xid = '1000000000'");
    let restored = PgStore::open(&address, vault()).await.unwrap();
    record(&restored, event(1, Direction::In, 9_000)).await;
    assert_eq!(queued(&restored).await, 43);
    add_up(server, &name, &restored).await;
    assert_eq!((queued(&store).await, &*count("counter_change")), (43, "0"));
}

async fn queued(store: &PgStore) -> i64 {
    let counters = store.counters().await.unwrap();
    let queued = counters
        .iter()
        .filter(|one| one.name == "event" && one.word == "queued");
    queued.map(|one| one.value).sum()
}

/// A process that joins the nodes adds the counters up. Returns once the mark was moved.
async fn add_up(server: &pg::Server, name: &str, store: &PgStore) {
    let card = NodeCard {
        name: "adds-up".to_owned(),
        role: "web",
        version: "test",
    };
    // Each adding up writes the mark anew, also when it stays where it is.
    let moved_by = || server.sql(name, "SELECT xmin FROM counter_mark");
    let before = moved_by();
    store.join(card).await.unwrap();
    let end = Instant::now() + PATIENCE;
    while moved_by() == before {
        assert!(Instant::now() < end, "nobody adds the counters up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nodes_hear_of_each_others_commits() {
    let (_, _, address) = migrated().await;
    let (one, other) = tokio::join!(PgStore::open(&address, vault()), PgStore::open(&address, vault()));
    let (one, other) = (one.unwrap(), other.unwrap());
    one.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();

    // Until the bell of the other one is up: the commit itself is there at once.
    let mut second = 0;
    let heard = async {
        loop {
            second += 200;
            record(&one, event(1, Direction::In, second)).await;
            if tokio::time::timeout(Duration::from_secs(1), other.changed())
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), heard).await.unwrap();
    assert_eq!(claim(&other, at(999_999), 1).await.unwrap().len(), 1);
}

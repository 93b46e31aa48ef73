//! What every store owes the service. Each case runs against SQLite and against PostgreSQL.

mod settles;
mod visits;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parksync::domain::delivery::{Outcome, Verdict};
use parksync::domain::gate::{Direction, Read, TimeSource};
use parksync::domain::member::{MemberKey, Openid};
use parksync::domain::plate::Plate;
use parksync::domain::presence::Policy;
use parksync::store::postgres::PgStore;
use parksync::store::sqlite::{OpenError, SqliteStore};
use parksync::store::vault::Vault;
use parksync::store::{
    Amend, Amended, ClaimRequest, GateEvent, Lease, NeverSent, NodeId, Recorded, Renewal, Retention, Settled, Store,
    StoreError,
};

use crate::pg;

pub(crate) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(crate) fn plate(number: u32) -> Plate {
    Plate::from_stored(format!("宁Y{number:05}"))
}

pub(crate) fn member(number: u32) -> MemberKey {
    let openid = Openid::parse(&format!("openid-{number}")).unwrap();
    MemberKey {
        circle: "mall".to_owned(),
        appid: "wx1".parse().unwrap(),
        openid,
    }
}

pub(crate) fn event(number: u32, state: Direction, seconds: i64) -> GateEvent {
    GateEvent {
        circle: "mall".to_owned(),
        lot: "P1".to_owned(),
        gate: Some("E1".to_owned()),
        read: Read {
            plate: plate(number),
            state,
            at: at(seconds),
            time_source: TimeSource::Sender,
            record_id: None,
            device: None,
            replayed: false,
        },
        received_at: at(seconds),
        policy: Policy::default(),
    }
}

pub(crate) fn settled(lease: Lease, outcome: Outcome, verdict: Verdict) -> Settled {
    Settled {
        began_at: lease.head.at,
        lease,
        took_ms: 1,
        outcome,
        verdict,
    }
}

pub(crate) fn delivered(lease: Lease) -> Settled {
    settled(
        lease,
        Outcome::Accepted {
            request_id: "r".to_owned(),
        },
        Verdict::Delivered,
    )
}

pub(crate) async fn claim(store: &dyn Store, now: Timestamp, limit: u32) -> Result<Vec<Lease>, StoreError> {
    store.claim(ClaimRequest::new(NodeId(1), now, limit)).await
}

pub(crate) async fn record(store: &dyn Store, event: GateEvent) -> Recorded {
    store.record(vec![event], Vec::new()).await.unwrap()[0]
}

/// Runs a case on every store.
pub(crate) async fn on_every_store<F: Future<Output = ()>>(case: impl Fn(Arc<dyn Store>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    case(Arc::new(open(&folder.path().join("parksync.db")).unwrap())).await;
    case(Arc::new(open_postgres().await)).await;
}

async fn open_postgres() -> PgStore {
    let address = pg::shared().address();
    PgStore::migrate(&address).await.unwrap();
    PgStore::open(&address, Arc::new(Vault::from_key_file(KEY).unwrap()))
        .await
        .unwrap()
}

pub(crate) fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, Arc::new(Vault::from_key_file(KEY).unwrap()))
}

#[tokio::test]
async fn an_event_is_recorded_once() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();

        assert_eq!(record(&*store, event(1, Direction::In, 10)).await, Recorded::Queued(1));
        assert_eq!(record(&*store, event(1, Direction::In, 10)).await, Recorded::Duplicate);
        assert_eq!(record(&*store, event(1, Direction::In, 40)).await, Recorded::Merged);
        assert_eq!(record(&*store, event(2, Direction::In, 10)).await, Recorded::NoMember);
        assert_eq!(claim(&*store, at(60), 10).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_lane_has_one_message_out_and_keeps_its_order() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&*store, event(1, Direction::Out, 600)).await;
        record(&*store, event(1, Direction::In, 300)).await;

        let first = claim(&*store, at(700), 10).await.unwrap();
        assert_eq!(
            first.iter().map(|lease| lease.head.state).collect::<Vec<_>>(),
            [Direction::In]
        );
        assert!(claim(&*store, at(700), 10).await.unwrap().is_empty());

        store.settle(first.into_iter().map(delivered).collect()).await.unwrap();
        let second = claim(&*store, at(700), 10).await.unwrap();
        assert_eq!(second[0].head.state, Direction::Out);
    })
    .await;
}

#[tokio::test]
async fn lanes_do_not_wait_for_each_other_and_a_claim_is_bounded() {
    on_every_store(|store| async move {
        for number in 0..5 {
            store
                .bind(member(number), vec![plate(number)], false, at(0))
                .await
                .unwrap();
            record(&*store, event(number, Direction::In, 10)).await;
        }

        assert_eq!(claim(&*store, at(20), 3).await.unwrap().len(), 3);
        assert_eq!(claim(&*store, at(20), 3).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_retry_waits_for_its_time_and_stays_the_head() {
    on_every_store(|store| async move {
        store
            .bind(member(1), vec![plate(1), plate(2)], false, at(0))
            .await
            .unwrap();
        record(&*store, event(1, Direction::In, 100)).await;
        let lease = claim(&*store, at(100), 1).await.unwrap().remove(0);
        let lost = Outcome::Unknown {
            why: "no reply".to_owned(),
        };
        let again = Verdict::RetryAt {
            at: at(130),
            counts: true,
        };
        store.settle(vec![settled(lease, lost, again)]).await.unwrap();
        // An older event of the member's other car arrives; the message that may have been sent goes first all the same.
        record(
            &*store,
            GateEvent {
                received_at: at(110),
                ..event(2, Direction::In, 90)
            },
        )
        .await;

        assert!(claim(&*store, at(129), 1).await.unwrap().is_empty());
        assert_eq!(store.next_due().await.unwrap(), Some(at(130)));
        let lease = claim(&*store, at(130), 1).await.unwrap().remove(0);
        assert_eq!((lease.head.at, lease.head.tries), (at(100), 1));
    })
    .await;
}

#[tokio::test]
async fn what_may_have_been_sent_is_not_overtaken() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&*store, event(1, Direction::Out, 600)).await;
        let lease = claim(&*store, at(600), 1).await.unwrap();

        assert_eq!(
            record(
                &*store,
                GateEvent {
                    received_at: at(610),
                    ..event(1, Direction::In, 300)
                }
            )
            .await,
            Recorded::History
        );
        store.settle(lease.into_iter().map(delivered).collect()).await.unwrap();
        assert_eq!(
            record(
                &*store,
                GateEvent {
                    received_at: at(620),
                    ..event(1, Direction::In, 400)
                }
            )
            .await,
            Recorded::History
        );
        assert!(claim(&*store, at(9999), 1).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_member_who_leaves_is_not_told_of_any_more() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&*store, event(1, Direction::In, 10)).await;
        record(&*store, event(1, Direction::Out, 200)).await;
        let in_flight = claim(&*store, at(200), 1).await.unwrap().remove(0);

        let unbound = store.unbind(member(1), Vec::new(), at(210)).await.unwrap();
        assert_eq!((unbound.removed, unbound.withdrawn), (1, 2));
        let lost = Outcome::Unknown {
            why: "no reply".to_owned(),
        };
        let again = Verdict::RetryAt {
            at: at(220),
            counts: true,
        };
        store.settle(vec![settled(in_flight, lost, again)]).await.unwrap();

        assert!(claim(&*store, at(9999), 10).await.unwrap().is_empty());
        assert_eq!(waiting(&*store).await, 0);
        assert_eq!(record(&*store, event(1, Direction::In, 9999)).await, Recorded::NoMember);
    })
    .await;
}

async fn waiting(store: &dyn Store) -> i64 {
    let counters = store.counters().await.unwrap();
    counters
        .iter()
        .filter(|counter| counter.name == "waiting")
        .map(|counter| counter.value)
        .sum()
}

#[tokio::test]
async fn counters_are_kept() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        let never = NeverSent {
            lot: "P1".to_owned(),
            reason: "no-plate-read",
        };
        store
            .record(
                vec![event(1, Direction::In, 10), event(2, Direction::In, 10)],
                vec![never],
            )
            .await
            .unwrap();

        let counters = store.counters().await.unwrap();
        let value = |name: &str, word: &str| {
            counters
                .iter()
                .find(|counter| counter.name == name && counter.word == word)
                .map(|counter| counter.value)
        };
        assert_eq!(value("event", "queued"), Some(1));
        assert_eq!(value("event", "no-member"), Some(1));
        assert_eq!(value("never", "no-plate-read"), Some(1));
        assert_eq!(value("waiting", "waiting"), Some(1));
    })
    .await;
}

#[tokio::test]
async fn members_come_page_by_page() {
    on_every_store(|store| async move {
        for number in 0..5 {
            store
                .bind(member(number), vec![plate(number)], false, at(0))
                .await
                .unwrap();
        }

        let (first, next) = store.members(None, 0, 3).await.unwrap();
        let (second, end) = store.members(None, next.unwrap(), 3).await.unwrap();
        assert_eq!((first.len(), second.len(), end), (3, 2, None));
        assert_eq!(first[0].plates, [plate(0)]);
        assert!(
            store
                .members(Some("other".to_owned()), 0, 3)
                .await
                .unwrap()
                .0
                .is_empty()
        );
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_process_held_is_free_again_and_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parksync.db");
    {
        let store = open(&path).unwrap();
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&store, event(1, Direction::In, 10)).await;
        claim(&store, at(10), 1).await.unwrap();
    }
    let store = open(&path).unwrap();
    assert!(claim(&store, at(999), 1).await.unwrap().is_empty());
    let _lock = store.serve(&path).await.unwrap();

    let lease = claim(&store, at(999), 1).await.unwrap().remove(0);
    assert_eq!(lease.head.at, at(10));
}

#[tokio::test]
async fn one_process_serves_a_database_with_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("parksync.db");
    let store = open(&path).unwrap();
    let lock = store.serve(&path).await.unwrap();

    assert!(matches!(
        open(&path).unwrap().serve(&path).await,
        Err(OpenError::Served { .. })
    ));
    drop(lock);
    assert!(open(&path).unwrap().serve(&path).await.is_ok());
    let other = Vault::from_key_file(&KEY.replace('0', "1")).unwrap();
    assert!(matches!(
        SqliteStore::open(&path, Arc::new(other)),
        Err(OpenError::WrongVault { .. })
    ));
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parksync.db");
    drop(open(&path).unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();

    assert!(matches!(open(&path), Err(OpenError::Newer { found: 99, .. })));
}

/// Sends everything that is due. Returns what WeChat Pay heard, in order.
#[tokio::test]
async fn a_refused_state_is_no_news_that_others_must_follow() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&*store, event(1, Direction::In, 200)).await;
        let lease = claim(&*store, at(200), 1).await.unwrap().remove(0);
        let refused = Outcome::Refused {
            status: 400,
            code: "PARAM_ERROR".to_owned(),
            message: "time格式有误".to_owned(),
            request_id: "r".to_owned(),
            rate_limited: false,
            retry_after: None,
        };
        let dead = Verdict::Dead {
            reason: "400".to_owned(),
        };
        store.settle(vec![settled(lease, refused, dead)]).await.unwrap();

        let exit = GateEvent {
            received_at: at(210),
            ..event(1, Direction::Out, 150)
        };
        assert_eq!(record(&*store, exit).await, Recorded::Queued(1));
    })
    .await;
}

#[tokio::test]
async fn circles_share_a_claim() {
    on_every_store(|store| async move {
        store
            .set_circles(vec![
                ("mall".to_owned(), "m".to_owned()),
                ("other".to_owned(), "m".to_owned()),
            ])
            .await
            .unwrap();
        for number in 0..20 {
            store
                .bind(member(number), vec![plate(number)], false, at(0))
                .await
                .unwrap();
            record(&*store, event(number, Direction::In, 10)).await;
        }
        let late = MemberKey {
            circle: "other".to_owned(),
            ..member(99)
        };
        store.bind(late, vec![plate(99)], false, at(0)).await.unwrap();
        record(
            &*store,
            GateEvent {
                circle: "other".to_owned(),
                ..event(99, Direction::In, 20)
            },
        )
        .await;

        let claimed = claim(&*store, at(30), 4).await.unwrap();
        assert_eq!(claimed.len(), 4);
        assert!(
            claimed.iter().any(|lease| lease.head.member.circle == "other"),
            "the short lane waited for the long one"
        );
    })
    .await;
}

#[tokio::test]
async fn old_things_go_strangers_first() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        for number in [1, 2] {
            record(&*store, event(number, Direction::In, 0)).await;
            record(&*store, event(number, Direction::Out, 600)).await;
        }
        while let Some(lease) = claim(&*store, at(600), 1).await.unwrap().pop() {
            store.settle(vec![delivered(lease)]).await.unwrap();
        }
        let after = |hours| Retention {
            now: at(600) + SignedDuration::from_hours(hours),
            strangers: SignedDuration::from_hours(24),
            all: SignedDuration::from_hours(24 * 30),
        };

        assert_eq!(store.forget(after(23)).await.unwrap().visits, 0);
        assert_eq!(store.forget(after(25)).await.unwrap().visits, 1);
        assert_eq!(store.forget(after(26)).await.unwrap().looked, 0);
        assert_eq!(store.forget(after(24 * 30 + 1)).await.unwrap().visits, 1);
    })
    .await;
}

#[tokio::test]
async fn a_database_that_was_sealed_with_more_keys_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parksync.db");
    let other = KEY.replace('0', "1");
    let both = Vault::from_key_file(&format!("1:{KEY}\n2:{other}")).unwrap();
    drop(SqliteStore::open(&path, Arc::new(both)).unwrap());

    assert!(matches!(open(&path), Err(OpenError::WrongVault { .. })));
}

//! Lost claims, on every store: what their tries may still say late, and what is told again because of it.

use jiff::SignedDuration;
use parksync::domain::delivery::{Outcome, Verdict};
use parksync::domain::gate::Direction;
use parksync::store::{ClaimRequest, GateEvent, Lease, NodeId, Recorded, Settled, Store};

use crate::contract::{at, claim, delivered, event, member, on_every_store, plate, record, settled};

/// Claims the head of the only lane due then, and loses it at once.
async fn lose(store: &dyn Store, seconds: i64) -> Lease {
    let ended = ClaimRequest {
        lease: SignedDuration::from_secs(-1),
        ..ClaimRequest::new(NodeId(1), at(seconds), 1)
    };
    let lost = store.claim(ended).await.unwrap().remove(0);
    assert_eq!(store.take_over().await.unwrap(), 1);
    lost
}

/// The car of the only member comes; the first node that tells it loses its claim, the next one delivers. Returns the lost claim.
async fn lose_an_entry(store: &dyn Store) -> Lease {
    store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
    record(store, event(1, Direction::In, 100)).await;
    let lost = lose(store, 100).await;
    deliver(store, 100).await;
    lost
}

async fn deliver(store: &dyn Store, seconds: i64) {
    let leases = claim(store, at(seconds), 1).await.unwrap();
    assert_eq!(leases.len(), 1);
    store.settle(leases.into_iter().map(delivered).collect()).await.unwrap();
}

#[tokio::test]
async fn a_lost_claim_cannot_settle() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&*store, event(1, Direction::In, 10)).await;
        let lease = claim(&*store, at(10), 1).await.unwrap().remove(0);
        let older = Lease {
            epoch: lease.epoch - 1,
            ..lease.clone()
        };

        assert_eq!(store.settle(vec![delivered(older)]).await.unwrap(), 1);
        assert_eq!(store.settle(vec![delivered(lease.clone())]).await.unwrap(), 0);
        assert_eq!(store.settle(vec![delivered(lease)]).await.unwrap(), 1);
    })
    .await;
}

/// The try of a node that lost its claim may have arrived. If the next one is refused, what was told before does not stand.
#[tokio::test]
async fn a_refusal_after_a_lost_try_does_not_bring_back_what_was_told_before() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&*store, event(1, Direction::In, 100)).await;
        deliver(&*store, 100).await;
        record(&*store, event(1, Direction::Out, 500)).await;
        let lost = lose(&*store, 500).await;
        let lease = claim(&*store, at(500), 1).await.unwrap().remove(0);
        assert_eq!((lease.head.id, lease.head.tries), (lost.head.id, 1));
        let refused = Outcome::Refused {
            status: 400,
            code: "PARAM_ERROR".to_owned(),
            message: "OpenID有误".to_owned(),
            request_id: "r".to_owned(),
            rate_limited: false,
            retry_after: None,
        };
        let dead = Verdict::Dead {
            reason: "400".to_owned(),
        };
        store
            .settle(vec![settled(lease, refused.clone(), dead.clone())])
            .await
            .unwrap();
        // The lost try did arrive, and says so late.
        store.settle(vec![delivered(lost)]).await.unwrap();

        let again = claim(&*store, at(9999), 1).await.unwrap().remove(0);
        assert_eq!(
            again.head.state,
            Direction::Out,
            "an entry was told again behind the exit"
        );

        // Nor does a refusal of what is told once more.
        store.settle(vec![settled(again, refused, dead)]).await.unwrap();
        let older = GateEvent {
            received_at: at(510),
            ..event(1, Direction::In, 300)
        };
        assert_eq!(record(&*store, older).await, Recorded::History);
    })
    .await;
}

/// A node that stood still stops waiting for its call the moment it runs again. The call may arrive all the same, a moment later: what
/// is told again because of it has to come behind it.
#[tokio::test]
async fn what_is_told_again_does_not_overtake_the_late_call() {
    on_every_store(|store| async move {
        let lost = lose_an_entry(&*store).await;
        record(&*store, event(1, Direction::Out, 500)).await;
        deliver(&*store, 500).await;

        let unknown = Outcome::Unknown { why: "late".to_owned() };
        let late = settled(
            lost,
            unknown,
            Verdict::RetryAt {
                at: at(700),
                counts: true,
            },
        );
        let late = Settled {
            began_at: at(700),
            ..late
        };
        store.settle(vec![late]).await.unwrap();

        assert!(
            claim(&*store, at(755), 1).await.unwrap().is_empty(),
            "told again before the late call can be over"
        );
        let again = claim(&*store, at(761), 1).await.unwrap().remove(0);
        assert_eq!((again.head.state, again.head.at), (Direction::Out, at(500)));
    })
    .await;
}

/// What is under way when a late call shows may have been before it.
#[tokio::test]
async fn what_is_under_way_when_a_late_call_shows_is_told_again() {
    on_every_store(|store| async move {
        let lost = lose_an_entry(&*store).await;
        record(&*store, event(1, Direction::Out, 500)).await;
        let under_way = claim(&*store, at(500), 1).await.unwrap().remove(0);

        store.settle(vec![delivered(lost)]).await.unwrap();
        assert!(claim(&*store, at(9999), 1).await.unwrap().is_empty(), "two at once");
        store.settle(vec![delivered(under_way)]).await.unwrap();

        let again = claim(&*store, at(9999), 1).await.unwrap().remove(0);
        assert_eq!((again.head.state, again.head.at), (Direction::Out, at(500)));
        store.settle(vec![delivered(again)]).await.unwrap();
        assert!(
            claim(&*store, at(9999), 1).await.unwrap().is_empty(),
            "told a third time"
        );
    })
    .await;
}

//! What an outcome means for holds and for the lane of a message that was withdrawn meanwhile.

use parksync::domain::delivery::{Outcome, Scope, Verdict};
use parksync::domain::gate::Direction;
use parksync::store::Store;

use super::{at, claim, delivered, event, member, on_every_store, plate, record, settled};

fn refused() -> Outcome {
    Outcome::Refused {
        status: 403,
        code: "NO_AUTH".to_owned(),
        message: String::new(),
        request_id: "r".to_owned(),
        rate_limited: false,
        retry_after: None,
    }
}

fn hold() -> Verdict {
    Verdict::Hold {
        scope: Scope::Circle,
        reason: "NO_AUTH".to_owned(),
    }
}

async fn holds(store: &dyn Store) -> (usize, i64) {
    let counters = store.counters().await.unwrap();
    let counted = counters.iter().filter(|counter| counter.name == "hold");
    (
        store.holds().await.unwrap().len(),
        counted.map(|counter| counter.value).sum(),
    )
}

#[tokio::test]
async fn of_outcomes_that_are_settled_together_the_last_decides_whether_a_circle_pauses() {
    on_every_store(|store| async move {
        for number in 1..=2 {
            store
                .bind(member(number), vec![plate(number)], false, at(0))
                .await
                .unwrap();
            record(&*store, event(number, Direction::In, 100)).await;
        }
        let mut leases = claim(&*store, at(200), 10).await.unwrap();
        let (second, first) = (leases.pop().unwrap(), leases.pop().unwrap());

        let both = vec![settled(first, refused(), hold()), delivered(second)];
        store.settle(both).await.unwrap();
        assert_eq!(holds(&*store).await, (0, 0), "what came last was accepted");

        record(&*store, event(2, Direction::Out, 1_000)).await;
        let mut leases = claim(&*store, at(1_100), 10).await.unwrap();
        let (second, first) = (leases.pop().unwrap(), leases.pop().unwrap());
        let both = vec![delivered(first), settled(second, refused(), hold())];
        store.settle(both).await.unwrap();
        assert_eq!(holds(&*store).await, (1, 1), "what came last was refused");
    })
    .await;
}

#[tokio::test]
async fn whatever_became_of_a_withdrawn_message_the_next_of_its_lane_goes() {
    on_every_store(|store| async move {
        let retry = Verdict::RetryAt {
            at: at(9_000_000),
            counts: true,
        };
        let dead = Verdict::Dead {
            reason: "PARAM_ERROR".to_owned(),
        };
        for (number, verdict) in (1..).zip([retry, dead, hold()]) {
            let (withdrawn, next) = (2 * number, 2 * number + 1);
            let plates = vec![plate(withdrawn), plate(next)];
            store.bind(member(number), plates, false, at(0)).await.unwrap();
            record(&*store, event(withdrawn, Direction::In, 100)).await;
            let lease = claim(&*store, at(200), 10).await.unwrap().pop().unwrap();
            record(&*store, event(next, Direction::In, 300)).await;
            store
                .unbind(member(number), vec![plate(withdrawn)], at(400))
                .await
                .unwrap();

            store
                .settle(vec![settled(lease, refused(), verdict.clone())])
                .await
                .unwrap();

            let due = claim(&*store, at(90_000), 10).await.unwrap();
            let told: Vec<_> = due.iter().map(|lease| lease.head.plate.clone()).collect();
            assert_eq!(told, [plate(next)], "after {verdict:?}");
            store.settle(due.into_iter().map(delivered).collect()).await.unwrap();
        }
    })
    .await;
}

//! What crossings do to visits, and what lanes hear of them, on every store.

use super::*;

#[tokio::test]
async fn a_late_bind_tells_the_entry_of_a_day_at_most() {
    on_every_store(|store| async move {
        record(&*store, event(1, Direction::In, 0)).await;
        record(&*store, event(2, Direction::In, 0)).await;
        let day = SignedDuration::from_hours(24);

        assert_eq!(
            store
                .bind(member(1), vec![plate(1)], false, at(0) + day)
                .await
                .unwrap()
                .inside,
            1
        );
        assert_eq!(
            store
                .bind(member(2), vec![plate(2)], false, at(1) + day)
                .await
                .unwrap()
                .inside,
            0
        );
    })
    .await;
}

#[tokio::test]
async fn a_late_re_read_of_an_earlier_visit_does_not_move_this_one() {
    on_every_store(|store| async move {
        for (state, seconds) in [(Direction::In, 0), (Direction::Out, 40), (Direction::In, 80)] {
            record(&*store, event(1, state, seconds)).await;
        }
        record(
            &*store,
            GateEvent {
                received_at: at(100),
                ..event(1, Direction::In, 2)
            },
        )
        .await;

        store.bind(member(1), vec![plate(1)], false, at(110)).await.unwrap();
        let lease = claim(&*store, at(110), 1).await.unwrap().remove(0);
        assert_eq!((lease.head.state, lease.head.at), (Direction::In, at(80)));
    })
    .await;
}

fn received(seconds: i64, event: GateEvent) -> GateEvent {
    GateEvent {
        received_at: at(seconds),
        ..event
    }
}

async fn hears(store: &dyn Store, now: i64) -> Vec<(Direction, Timestamp)> {
    let mut heard = Vec::new();
    loop {
        let leases = claim(store, at(now), 10).await.unwrap();
        if leases.is_empty() {
            return heard;
        }
        heard.extend(leases.iter().map(|lease| (lease.head.state, lease.head.at)));
        store.settle(leases.into_iter().map(delivered).collect()).await.unwrap();
    }
}

#[tokio::test]
async fn a_re_read_that_was_a_passage_of_its_own_is_told_once_that_is_known() {
    use Direction::{In, Out};
    for (there, back) in [(In, Out), (Out, In)] {
        // What was sent when the crossing in between comes: nothing, or the first read.
        for sent_before in [0, 1] {
            on_every_store(|store| async move {
                store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
                record(&*store, event(1, there, 10)).await;
                assert_eq!(record(&*store, event(1, there, 70)).await, Recorded::Merged);
                assert_eq!(record(&*store, event(1, there, 90)).await, Recorded::Merged);
                let mut heard = Vec::new();
                if sent_before == 1 {
                    heard = hears(&*store, 95).await;
                    assert_eq!(heard.len(), 1);
                }

                let between = received(100, event(1, back, 40));
                assert_eq!(record(&*store, between.clone()).await, Recorded::Queued(1));

                heard.extend(hears(&*store, 110).await);
                assert_eq!(heard, [(there, at(10)), (back, at(40)), (there, at(70))]);
                assert_eq!(record(&*store, between).await, Recorded::Duplicate);
                assert_eq!(
                    record(&*store, received(120, event(1, there, 75))).await,
                    Recorded::Merged
                );
                assert_eq!(record(&*store, event(1, back, 3600)).await, Recorded::Queued(1));
                assert_eq!(hears(&*store, 3600).await, [(back, at(3600))]);
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_passage_that_was_parted_is_two_visits() {
    use Direction::{In, Out};
    on_every_store(|store| async move {
        // The later read comes first, and is what the member was told.
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&*store, event(1, In, 70)).await;
        assert_eq!(hears(&*store, 75).await, [(In, at(70))]);
        assert_eq!(record(&*store, received(80, event(1, In, 10))).await, Recorded::Merged);
        let between = received(100, event(1, Out, 40));
        assert_eq!(record(&*store, between).await, Recorded::History);

        assert_eq!(hears(&*store, 200).await, []);
        // A member who binds the plate now hears of the second entry.
        let bound = store.bind(member(2), vec![plate(1)], false, at(200)).await.unwrap();
        assert_eq!(bound.inside, 1);
        assert_eq!(hears(&*store, 200).await, [(In, at(70))]);
        let visits = store.trace(parksync::store::Traced::Plate(plate(1))).await.unwrap();
        let ends: Vec<_> = visits
            .iter()
            .map(|visit| {
                (
                    visit.entered.as_ref().unwrap().at,
                    visit.left.as_ref().map(|left| left.at),
                    visit.events.len(),
                )
            })
            .collect();
        assert_eq!(ends, [(at(10), Some(at(40)), 2), (at(70), None, 1)]);
    })
    .await;
}

#[tokio::test]
async fn of_the_same_moment_what_came_first_is_told_first() {
    use Direction::{In, Out};
    on_every_store(|store| async move {
        store
            .bind(member(1), vec![plate(1), plate(2)], false, at(0))
            .await
            .unwrap();
        for (car, state) in [(2, Out), (1, In), (2, In), (1, Out)] {
            assert_eq!(record(&*store, event(car, state, 10)).await, Recorded::Queued(1));
        }

        let mut heard = Vec::new();
        while let Some(lease) = claim(&*store, at(10), 1).await.unwrap().pop() {
            heard.push((lease.head.plate.clone(), lease.head.state));
            store.settle(vec![delivered(lease)]).await.unwrap();
        }
        assert_eq!(
            heard,
            [(plate(2), Out), (plate(1), In), (plate(2), In), (plate(1), Out)]
        );
    })
    .await;
}

#[tokio::test]
async fn a_gate_of_an_inner_car_park_moves_nothing() {
    use Direction::{In, Out};
    on_every_store(|store| async move {
        let inner = |state, seconds| GateEvent {
            lot: "P1-inner".to_owned(),
            policy: Policy {
                inner: true,
                ..Policy::default()
            },
            ..event(1, state, seconds)
        };
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        assert_eq!(record(&*store, inner(In, 10)).await, Recorded::Inner);
        assert_eq!(hears(&*store, 10).await, []);

        assert_eq!(record(&*store, event(1, In, 600)).await, Recorded::Queued(1));
        for (state, seconds) in [(In, 700), (Out, 1000), (Out, 1001)] {
            assert_eq!(record(&*store, inner(state, seconds)).await, Recorded::Inner);
        }
        assert_eq!(record(&*store, inner(In, 700)).await, Recorded::Duplicate);
        // The car is inside as before: whoever binds it now is told of its entry, and an exit ends this visit.
        let bound = store.bind(member(2), vec![plate(1)], false, at(1100)).await.unwrap();
        assert_eq!(bound.inside, 1);
        assert_eq!(record(&*store, event(1, Out, 2000)).await, Recorded::Queued(2));
        let heard = hears(&*store, 2000).await;
        assert_eq!(heard, [(In, at(600)), (In, at(600)), (Out, at(2000)), (Out, at(2000))]);
        let visits = store.trace(parksync::store::Traced::Plate(plate(1))).await.unwrap();
        assert_eq!(visits.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_corrected_plate_and_a_cancelled_entry_take_back_what_they_did() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        store.bind(member(2), vec![plate(2)], false, at(0)).await.unwrap();
        let mut wrong = event(1, Direction::In, 100);
        wrong.read.record_id = Some("r1".to_owned());
        record(&*store, wrong).await;
        let lease = claim(&*store, at(100), 1).await.unwrap().remove(0);
        store.settle(vec![delivered(lease)]).await.unwrap();
        let amend = |plate, seconds| Amend {
            circle: "mall".to_owned(),
            lot: "P1".to_owned(),
            record_id: "r1".to_owned(),
            plate,
            received_at: at(seconds),
            policy: Policy::default(),
        };

        let corrected = store.amend(amend(Some(plate(2)), 5000)).await.unwrap();
        assert_eq!(corrected, Amended::Corrected(Recorded::Queued(1)));
        let mut told: Vec<_> = claim(&*store, at(5001), 10).await.unwrap();
        told.sort_by_key(|lease| lease.lane);
        let states: Vec<_> = told
            .iter()
            .map(|lease| (lease.head.plate.clone(), lease.head.state, lease.head.at))
            .collect();
        assert_eq!(
            states,
            [(plate(1), Direction::Out, at(5000)), (plate(2), Direction::In, at(100))]
        );

        assert_eq!(
            store.amend(amend(Some(plate(2)), 5010)).await.unwrap(),
            Amended::Unchanged
        );
        store.settle(told.into_iter().map(delivered).collect()).await.unwrap();
        assert_eq!(store.amend(amend(None, 5020)).await.unwrap(), Amended::Cancelled);
        let out = claim(&*store, at(5021), 10).await.unwrap().remove(0);
        assert_eq!((out.head.plate.clone(), out.head.state), (plate(2), Direction::Out));
        assert_eq!(store.amend(amend(None, 5030)).await.unwrap(), Amended::UnknownRecord);
    })
    .await;
}

#[tokio::test]
async fn presence_is_renewed_once_a_midnight_and_long_stays_go_stale() {
    on_every_store(|store| async move {
        store.bind(member(1), vec![plate(1)], false, at(0)).await.unwrap();
        record(&*store, event(1, Direction::In, 100)).await;
        let lease = claim(&*store, at(100), 1).await.unwrap();
        store.settle(lease.into_iter().map(delivered).collect()).await.unwrap();
        let renewal = Renewal {
            circle: "mall".to_owned(),
            lot: "P1".to_owned(),
            midnight: at(5000),
            now: at(5001),
        };

        assert_eq!(store.renew(renewal.clone()).await.unwrap(), 1);
        assert_eq!(store.renew(renewal.clone()).await.unwrap(), 0);
        let lease = claim(&*store, at(5001), 1).await.unwrap().remove(0);
        assert_eq!((lease.head.state, lease.head.at), (Direction::In, at(5000)));
        store.settle(vec![delivered(lease)]).await.unwrap();
        assert_eq!(store.renew(renewal).await.unwrap(), 0);

        assert_eq!(store.mark_stale(at(50), "P1".to_owned(), at(9000)).await.unwrap(), 0);
        assert_eq!(store.mark_stale(at(101), "P1".to_owned(), at(9000)).await.unwrap(), 1);
        assert!(claim(&*store, at(99_999), 1).await.unwrap().is_empty());
    })
    .await;
}

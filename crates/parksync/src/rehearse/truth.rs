//! What WeChat Pay has to hold in the end, worked out from the file alone. Pure.
//!
//! Only the newest crossing of each car counts, and who is a member. How the service gets there is its own business.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::roll::Roll;
use super::trace::Event;
use crate::demo::told::{State, States};
use crate::domain::gate::Direction;
use crate::domain::plate::Plate;
use crate::domain::presence::Policy;

/// The newest passage of one car: it may have been read several times, and any of these times will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) state: Direction,
    /// Unix seconds of its reads, the newest first.
    pub(super) times: Vec<i64>,
    /// Line of the newest read.
    pub(super) line: u64,
}

/// A member's car that ends wrongly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) plate: Plate,
    pub(super) expected: Option<Newest>,
    pub(super) found: Option<State>,
}

/// The newest passage of each car.
///
/// An entry that surfaces half a day late waits for a person: nothing of it may be told, so it does not count.
pub(super) fn newest(events: &[Event], policy: &Policy) -> BTreeMap<Plate, Newest> {
    let mut reads: BTreeMap<&Plate, Vec<(Timestamp, &Event)>> = BTreeMap::new();
    for event in events {
        let at = event.at(policy);
        let is_late = event.received.duration_since(at) > policy.hold_in_after;
        if let Some(car) = event.car.as_ref().filter(|_| event.state == Direction::Out || !is_late) {
            reads.entry(car).or_default().push((at, event));
        }
    }
    let cars = reads.into_iter().filter_map(|(car, mut reads)| {
        // Of the same moment the one that came last counts; they come in that order.
        reads.sort_by_key(|(at, _)| *at);
        let (last_at, last) = *reads.last()?;
        let mut times = vec![last_at.as_second()];
        let mut earliest = last_at;
        for (at, event) in reads.iter().rev().skip(1) {
            if event.state != last.state || earliest.duration_since(*at) > policy.merge_window {
                break;
            }
            earliest = *at;
            times.push(at.as_second());
        }
        let newest = Newest {
            state: last.state,
            times,
            line: last.line,
        };
        Some((car.clone(), newest))
    });
    cars.collect()
}

/// Compares each member's car, and finds what was told of anybody else's.
pub(super) fn compare(newest: &BTreeMap<Plate, Newest>, roll: &Roll, told: &States) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for (openid, plate) in &roll.bindings {
        let expected = newest.get(plate);
        let key = (openid.expose().to_owned(), plate.expose().to_owned());
        let found = told.get(&key).and_then(|states| states.last());
        let fits = match (expected, found) {
            (None, None) => true,
            (Some(expected), Some((state, at))) => *state == expected.state && expected.times.contains(at),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !fits {
            wrong.push(Wrong {
                plate: plate.clone(),
                expected: expected.cloned(),
                found: found.copied(),
            });
        }
    }
    let known: BTreeSet<_> = roll
        .bindings
        .iter()
        .map(|(openid, plate)| (openid.expose(), plate.expose()))
        .collect();
    for ((openid, plate), states) in told {
        if !known.contains(&(openid.as_str(), plate.as_str())) {
            wrong.push(Wrong {
                plate: Plate::from_stored(plate.clone()),
                expected: None,
                found: states.last().copied(),
            });
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::table::Table;
    use super::super::trace::Trace;
    use super::*;
    use jiff::tz::{TimeZone, offset};

    fn newest_of(lines: &str) -> BTreeMap<Plate, Newest> {
        let table = Table::of(&format!("received,record_id,lane,state,plate,time\n{lines}"));
        let now = "2024-07-08T00:00:00Z".parse().unwrap();
        let trace = Trace::read(&table, &TimeZone::fixed(offset(8)), now).ok().unwrap();
        assert!(trace.bad.is_empty());
        newest(&trace.events, &Policy::default())
    }

    /// State, line, number of times.
    fn of(lines: &str) -> Option<(Direction, u64, usize)> {
        let newest = newest_of(lines);
        newest
            .values()
            .next()
            .map(|newest| (newest.state, newest.line, newest.times.len()))
    }

    #[test]
    fn the_newest_crossing_counts_however_late_it_came() {
        use Direction::{In, Out};
        let day = "2024-07-06";

        assert_eq!(
            of(&format!(
                "{day} 10:00:00,,E,IN,宁YR0001,\n{day} 11:00:00,,X,OUT,宁YR0001,\n"
            )),
            Some((Out, 3, 1))
        );
        let late_exit = format!("{day} 12:00:00,,E,IN,宁YR0001,\n{day} 13:00:00,,X,OUT,宁YR0001,{day} 11:00:00\n");
        assert_eq!(of(&late_exit), Some((In, 2, 1)));
        let two_cameras = format!("{day} 12:00:00,,E,IN,宁YR0001,\n{day} 12:00:09,,E,IN,宁YR0001,\n");
        assert_eq!(of(&two_cameras), Some((In, 3, 2)));
        let far_ahead = format!("{day} 12:00:00,,E,IN,宁YR0001,{day} 20:00:00\n{day} 13:00:00,,X,OUT,宁YR0001,\n");
        assert_eq!(of(&far_ahead), Some((Out, 3, 1)));
        let same_moment = format!("{day} 12:00:00,,E,IN,宁YR0001,\n{day} 12:00:00,,X,OUT,宁YR0001,\n");
        assert_eq!(of(&same_moment), Some((Out, 3, 1)));
        assert_eq!(of(&format!("{day} 23:00:00,,E,IN,宁YR0001,{day} 09:00:00\n")), None);
        assert_eq!(
            of(&format!("{day} 23:00:00,,X,OUT,宁YR0001,{day} 09:00:00\n")),
            Some((Out, 2, 1))
        );
    }

    #[test]
    fn every_kind_of_wrong_end_is_found() {
        let day = "2024-07-06";
        let newest = newest_of(&format!(
            "{day} 10:00:00,,E,IN,宁YR0001,\n{day} 11:00:00,,E,IN,宁YR0002,\n"
        ));
        let table = Table::of("openid,plate\nopenid-1,宁YR0001\n");
        let roll = Roll::read(&table).ok().unwrap();
        let at = newest.values().next().unwrap().times[0];
        let found = |openid: &str, plate: &str, states: &[State]| {
            let told = States::from([((openid.to_owned(), plate.to_owned()), states.to_vec())]);
            compare(&newest, &roll, &told).len()
        };

        assert_eq!(found("openid-1", "宁YR0001", &[(Direction::In, at)]), 0);
        assert_eq!(
            found(
                "openid-1",
                "宁YR0001",
                &[(Direction::In, at), (Direction::Out, at + 60)]
            ),
            1
        );
        assert_eq!(found("openid-1", "宁YR0001", &[(Direction::In, at - 3600)]), 1);
        assert_eq!(found("openid-1", "宁YR0001", &[]), 1);
        // Nothing of the member's car, and something of a stranger's.
        assert_eq!(found("openid-1", "宁YR0002", &[(Direction::In, at)]), 2);
        assert_eq!(found("openid-2", "宁YR0001", &[(Direction::In, at)]), 2);
    }
}

//! The file of a rehearsal: what reached the lot system when, line by line. Pure.
//!
//! A line is bad when nobody could post it: no time of receipt, no direction, no lane. A bad plate is no bad line: gates send
//! such, and the service has an answer to them.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::table::Table;
use crate::cli::{Exit, Failure};
use crate::domain::gate::Direction;
use crate::domain::plate::{self, Plate};
use crate::domain::presence::Policy;

/// Different plates in one trace.
const MOST_PLATES: usize = 100_000;
/// Different lanes in one trace.
const MOST_LANES: usize = 1000;
/// Characters of a lane's name, and of a record's id.
const LONGEST_NAME: usize = 128;
/// A trace that ended longer ago is moved.
const OLDEST: SignedDuration = SignedDuration::from_hours(365 * 24);

/// One event.
pub(super) struct Event {
    /// Its line in the file.
    pub(super) line: u64,
    pub(super) received: Timestamp,
    pub(super) record_id: String,
    /// Its place in `Trace::lanes`.
    pub(super) lane: usize,
    pub(super) state: Direction,
    /// As the sender wrote it; may be anything.
    pub(super) plate: String,
    /// The plate, where it is one.
    pub(super) car: Option<Plate>,
    /// What the sender said, if it said a time.
    pub(super) claimed: Option<Timestamp>,
}

impl Event {
    /// When the car crossed: what the sender says, unless that lies further in the future than a clock may be off.
    pub(super) fn at(&self, policy: &Policy) -> Timestamp {
        let known = self
            .claimed
            .filter(|at| at.duration_since(self.received) <= policy.future_tolerance);
        known.unwrap_or(self.received)
    }
}

/// A lane, by its name in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    /// Its car park; empty when the file names none.
    pub(super) lot: String,
    pub(super) gate: String,
}

/// A whole file.
pub(super) struct Trace {
    /// By time of receipt; of the same time, as they stand in the file.
    pub(super) events: Vec<Event>,
    pub(super) lanes: Vec<Lane>,
    /// Lines that were left out, with the reason.
    pub(super) bad: Vec<(u64, String)>,
    /// By how many days all times were moved.
    pub(super) shifted_days: i64,
}

impl Trace {
    /// Reads a table. `zone` is for times that name none; `now` decides whether the whole has to be moved into the past.
    pub(super) fn read(table: &Table, zone: &TimeZone, now: Timestamp) -> Result<Self, Failure> {
        let columns = table.columns(["received", "record_id", "lane", "state", "plate", "time"])?;
        let mut trace = Self {
            events: Vec::new(),
            lanes: Vec::new(),
            bad: Vec::new(),
            shifted_days: 0,
        };
        for line in table.lines() {
            let event = line.fields.and_then(|fields| {
                let texts = columns.map(|column| fields.get(column));
                let Some(texts) = all(texts) else {
                    return Err(format!("the line has {} fields, and the header more", fields.len()));
                };
                trace.event(line.number, texts, zone)
            });
            match event {
                Ok(event) => trace.events.push(event),
                Err(why) => trace.bad.push((line.number, why)),
            }
            if trace.lanes.len() > MOST_LANES {
                return Err(
                    Failure::new(Exit::Usage, format!("the trace has more than {MOST_LANES} lanes"))
                        .hint("is another column named lane?"),
                );
            }
        }
        trace.events.sort_by_key(|event| event.received);
        if trace.cars().len() > MOST_PLATES {
            return Err(Failure::new(
                Exit::Usage,
                format!("the trace has more than {MOST_PLATES} different plates"),
            )
            .hint("rehearse a few days at a time"));
        }
        trace.shift(zone, now);
        Ok(trace)
    }

    /// The different cars.
    pub(super) fn cars(&self) -> BTreeSet<&Plate> {
        self.events.iter().filter_map(|event| event.car.as_ref()).collect()
    }

    /// The number of a lane's car park. Names may be anything; what is configured may not.
    pub(super) fn lot_of(&self, lane: &Lane) -> usize {
        let first = self.lanes.iter().position(|other| other.lot == lane.lot);
        first.unwrap_or_default()
    }

    fn event(&mut self, line: u64, texts: [&str; 6], zone: &TimeZone) -> Result<Event, String> {
        let [received, record_id, lane, state, plate, claimed] = texts;
        let received = time(received, zone).map_err(|why| format!("received: {why}"))?;
        let claimed = match claimed {
            "" => None,
            text => Some(time(text, zone).map_err(|why| format!("time: {why}"))?),
        };
        let state = match state {
            _ if state.eq_ignore_ascii_case("IN") => Direction::In,
            _ if state.eq_ignore_ascii_case("OUT") => Direction::Out,
            _ => return Err("state: neither IN nor OUT".to_owned()),
        };
        for (name, text) in [("record_id", record_id), ("lane", lane)] {
            if text.chars().count() > LONGEST_NAME {
                return Err(format!("{name}: longer than {LONGEST_NAME} characters"));
            }
        }
        let (lot, gate) = lane.split_once('/').unwrap_or(("", lane));
        if gate.is_empty() {
            return Err("lane: the field names no gate".to_owned());
        }
        let lane = Lane {
            lot: lot.to_owned(),
            gate: gate.to_owned(),
        };
        let known = self.lanes.iter().position(|known| *known == lane);
        let lane = known.unwrap_or_else(|| {
            self.lanes.push(lane);
            self.lanes.len() - 1
        });
        Ok(Event {
            line,
            received,
            record_id: record_id.to_owned(),
            lane,
            state,
            plate: plate.to_owned(),
            car: plate::check(plate).plate.filter(Plate::wechat_can_carry),
            claimed,
        })
    }

    /// WeChat Pay refuses the future, and nobody rehearses last year's: such a trace is moved by whole days, to end yesterday.
    fn shift(&mut self, zone: &TimeZone, now: Timestamp) {
        let Some(last) = self.events.last().map(|event| event.received) else {
            return;
        };
        let age = now.duration_since(last);
        // A sender's clock may be ahead of the receipt, and that has to have passed, too.
        if (Policy::default().future_tolerance..OLDEST).contains(&age) {
            return;
        }
        let day = |at: Timestamp| at.to_zoned(zone.clone()).date();
        let yesterday = day(now).saturating_sub(1.day());
        self.shifted_days = yesterday.duration_since(day(last)).as_hours() / 24;
        let by = SignedDuration::from_hours(self.shifted_days * 24);
        for event in &mut self.events {
            event.received += by;
            event.claimed = event.claimed.map(|at| at + by);
        }
    }
}

fn all(texts: [Option<&str>; 6]) -> Option<[&str; 6]> {
    let [a, b, c, d, e, f] = texts;
    Some([a?, b?, c?, d?, e?, f?])
}

/// RFC 3339, or the same without an offset and in the zone.
fn time(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let unreadable = || "no time such as 2024-07-06 09:30:00 or 2024-07-06T09:30:00+08:00".to_owned();
    // A date alone would pass for midnight.
    if text.len() > 64 || !text.contains(':') {
        return Err(unreadable());
    }
    let instant = text.parse::<Timestamp>().ok();
    let local = || {
        text.parse::<DateTime>()
            .ok()
            .and_then(|local| zone.to_timestamp(local).ok())
    };
    let at = instant.or_else(local).ok_or_else(unreadable)?;
    let year = at.to_zoned(TimeZone::UTC).year();
    if (2010..2100).contains(&year) {
        Ok(at)
    } else {
        Err(format!("the year {year} is none in which a gate saw a car"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::offset;

    const NOW: &str = "2024-07-08T04:00:00Z";

    fn read(lines: &str) -> Trace {
        let table = Table::of(&format!("plate,time,lane,state,record_id,received,fee\n{lines}"));
        let zone = TimeZone::fixed(offset(8));
        Trace::read(&table, &zone, NOW.parse().unwrap()).ok().unwrap()
    }

    #[test]
    fn bad_lines_are_named_and_left_out() {
        let good = "宁YR0001,2024-07-06 09:00:00,P1/E1,in,A1,2024-07-06T09:00:01+08:00,5";
        let long = "x".repeat(1025);
        let trace = read(&format!(
            "{good}\n宁YR0001,,E1,IN,,yesterday,\n宁YR0001,,E1,inside,,2024-07-06 09:00:00,\n\n\
             宁YR0001,2024-07-06,E1,IN,,2024-07-06 09:00:00,\n宁YR0001,,P1/,IN,,2024-07-06 09:00:00,\n宁YR0001,\n{long}\n\
             宁YR0001,1970-01-01 08:00:00,E1,IN,,2024-07-06 09:00:00,\nhello,,E1,OUT,,2024-07-06 08:00:00,\n"
        ));

        let told: Vec<_> = trace
            .bad
            .iter()
            .map(|(line, why)| (*line, why.split([':', ' ']).next().unwrap()))
            .collect();
        let expected = [
            (3, "received"),
            (4, "state"),
            (6, "time"),
            (7, "lane"),
            (8, "the"),
            (9, "the"),
            (10, "time"),
        ];
        assert_eq!(told, expected);
        // By time of receipt; what is no plate stays, and is no car.
        let events: Vec<_> = trace
            .events
            .iter()
            .map(|event| (event.line, event.car.is_some()))
            .collect();
        assert_eq!(events, [(11, false), (2, true)]);
        assert_eq!((trace.lanes.len(), trace.cars().len(), trace.shifted_days), (2, 1, 0));
        let first = &trace.events[1];
        assert_eq!((first.received - first.claimed.unwrap()).get_seconds(), 1);
    }

    #[test]
    fn the_future_and_long_ago_move_to_yesterday_as_a_whole() {
        for (last, days) in [
            ("2024-07-08 11:59:00", -1),
            ("2031-07-10 23:00:00", -2559),
            ("2022-01-01 00:00:00", 918),
        ] {
            let trace = read(&format!("宁YR0001,2010-01-01 12:00:00,E1,IN,,{last},\n"));
            let received = trace.events[0].received.to_zoned(TimeZone::fixed(offset(8)));

            assert_eq!(trace.shifted_days, days, "{last}");
            assert_eq!(received.date().to_string(), "2024-07-07");
            assert_eq!(received.time().to_string(), last[11..]);
        }
        assert_eq!(read("宁YR0001,,E1,IN,,2023-07-30 09:00:00,\n").shifted_days, 0);
        assert_eq!(read("").shifted_days, 0);
    }
}

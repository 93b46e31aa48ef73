//! Holds what the sandbox took against the day's truth, call by call.

use std::io::{self, Write};
use std::time::Duration;

use super::day::Day;
use super::rows::{millis, row};
use super::stage::Counters;
use super::told::{State, States, Told};
use crate::domain::plate::Plate;

/// Differences that are printed one by one.
const SHOWN: usize = 10;

/// What came out.
#[derive(Debug)]
pub(super) struct Audit {
    told: Told,
    expected: usize,
    differences: Vec<String>,
}

/// Compares. A state may stand twice in a row only when WeChat Pay's answer to the first was lost or could not be verified.
pub(super) fn audit(day: &Day, told: Told) -> Audit {
    let mut audit = Audit {
        told,
        expected: 0,
        differences: Vec::new(),
    };
    audit.compare(day.truth());
    audit
}

impl Audit {
    fn compare(&mut self, truth: &States) {
        let held = &self.told.states;
        for (key, expected) in truth {
            self.expected += expected.len();
            let found = held.get(key).map_or(&[][..], Vec::as_slice);
            if found != expected {
                self.differences.push(difference(key, expected, found));
            }
        }
        for (key, found) in held.iter().filter(|(key, _)| !truth.contains_key(*key)) {
            self.differences.push(difference(key, &[], found));
        }
    }

    pub(super) fn passed(&self) -> bool {
        self.differences.is_empty()
    }

    pub(super) fn print(&self, out: &mut impl Write, day: &Day, counted: &Counters, took: Duration) -> io::Result<()> {
        let tally = &day.tally;
        let event = |word| counted.sum("event", Some(word));
        let note = format!("{} cars, in {:.1} s", tally.cars, took.as_secs_f64());
        row(out, "messages of gates 消息", day.steps().len(), &note)?;
        row(out, "events 事件", counted.sum("event", None), "")?;
        let note = format!("{} of them only history: older than what was told", event("history"));
        row(
            out,
            "matched a member 命中会员",
            event("queued") + event("history"),
            &note,
        )?;
        let note = format!("{} resends, {} second cameras", event("duplicate"), event("merged"));
        row(
            out,
            "duplicates merged 重复合并",
            event("duplicate") + event("merged"),
            &note,
        )?;
        let note = format!("{} late binds among the causes", tally.late_binds);
        row(out, "delivered 已送达", self.told.delivered, &note)?;
        let note = "the only repeats that are allowed";
        row(out, "repeated after a lost answer 补发", self.told.repeats, note)?;
        row(
            out,
            "tries that failed and were repeated",
            counted.sum("retry", None),
            "",
        )?;
        let note = format!(
            "{} superseded by a newer state",
            counted.sum("delivery", Some("superseded"))
        );
        row(out, "replayed by a lane that was offline", tally.replayed, &note)?;
        row(out, "exits nobody saw 未见出场", tally.missing_exits, "")?;
        row(
            out,
            "never sent 不上报",
            counted.sum("never", None) + event("no-member"),
            "",
        )?;
        let note = format!("{} misreads among them", tally.misreads);
        row(out, "  no member has the plate 非会员", event("no-member"), &note)?;
        for (reason, count) in counted.by_word("never") {
            row(out, &format!("  {reason}"), count, "")?;
        }
        let note = "gate's answer to WeChat Pay's, live reads";
        row(out, "acknowledged → 204, p50", millis(self.told.wait(50)), note)?;
        row(
            out,
            "acknowledged → 204, p99",
            millis(self.told.wait(99)),
            "with the retries above",
        )?;
        writeln!(out)?;
        if self.passed() {
            return writeln!(
                out,
                "PASSED 通过: WeChat Pay holds exactly the {} states of the day's truth, each in its place.",
                self.expected
            );
        }
        for difference in self.differences.iter().take(SHOWN) {
            writeln!(out, "  {difference}")?;
        }
        writeln!(
            out,
            "FAILED 未通过: {} members' cars differ from the day's truth.",
            self.differences.len()
        )
    }
}

fn difference(key: &(String, String), expected: &[State], found: &[State]) -> String {
    let words = |states: &[State]| {
        let states: Vec<_> = states.iter().map(|(state, at)| format!("{state} {at}")).collect();
        states.join(", ")
    };
    let plate = Plate::from_stored(key.1.clone());
    format!(
        "{plate}: expected [{}], WeChat Pay holds [{}]",
        words(expected),
        words(found)
    )
}

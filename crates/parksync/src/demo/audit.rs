//! Holds what the sandbox took against the day's truth, call by call.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Duration;

use wechatpay_sandbox::Ledger;

use super::day::{Day, Truth};
use super::player::Acknowledged;
use crate::domain::gate::Direction;
use crate::domain::plate::Plate;
use crate::store::Counter;

/// Differences that are printed one by one.
const SHOWN: usize = 10;

/// What came out.
#[derive(Debug)]
pub(super) struct Audit {
    expected: usize,
    delivered: usize,
    repeats: usize,
    differences: Vec<String>,
    waits: Vec<Duration>,
}

/// Compares. A state may stand twice in a row only when WeChat Pay's answer to the first was lost or could not be verified.
pub(super) fn audit(day: &Day, ledger: &Ledger, acknowledged: &Acknowledged) -> Audit {
    let mut held: BTreeMap<(String, String), Vec<(Direction, i64)>> = BTreeMap::new();
    let mut doubtful: BTreeMap<(String, String), bool> = BTreeMap::new();
    let mut audit = Audit {
        expected: 0,
        delivered: 0,
        repeats: 0,
        differences: Vec::new(),
        waits: Vec::new(),
    };
    // Whatever fault struck an accepted call, it was the answer that suffered.
    let struck: BTreeSet<u64> = ledger
        .calls()
        .into_iter()
        .filter(|call| call.fault.is_some())
        .map(|call| call.number)
        .collect();
    for call in ledger.parkings() {
        let key = (call.openid.clone(), call.plate_number.clone());
        let state = if call.state == wechatpay_sandbox::State::In {
            Direction::In
        } else {
            Direction::Out
        };
        let told = (state, call.at.as_second());
        let states = held.entry(key.clone()).or_default();
        let was_doubtful = doubtful.insert(key, struck.contains(&call.call)).unwrap_or(false);
        if was_doubtful && states.last() == Some(&told) {
            audit.repeats += 1;
            continue;
        }
        states.push(told);
        audit.delivered += 1;
        if let Some(at) = acknowledged.get(&(call.plate_number.clone(), told.0, told.1)) {
            audit.waits.push(call.received.saturating_duration_since(*at));
        }
    }
    audit.waits.sort();
    audit.compare(day.truth(), &held);
    audit
}

impl Audit {
    fn compare(&mut self, truth: &Truth, held: &Truth) {
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

    pub(super) fn print(
        &self,
        out: &mut impl Write,
        day: &Day,
        counters: &[Counter],
        took: Duration,
    ) -> io::Result<()> {
        let sum = |name: &str, word: Option<&str>| -> i64 {
            let of_name = counters.iter().filter(|counter| counter.name == name);
            of_name
                .filter(|counter| word.is_none_or(|word| counter.word == word))
                .map(|counter| counter.value)
                .sum()
        };
        let tally = &day.tally;
        let mut row = |label: &str, value: String, note: String| {
            // A Chinese character is two columns wide.
            let width: usize = label
                .chars()
                .map(|character| if character < '\u{2e80}' { 1 } else { 2 })
                .sum();
            writeln!(
                out,
                "  {label}{}{value:>8}   {note}",
                " ".repeat(36_usize.saturating_sub(width))
            )
        };
        row(
            "messages of gates 消息",
            day.steps().len().to_string(),
            format!("{} cars, in {:.1} s", tally.cars, took.as_secs_f64()),
        )?;
        row("events 事件", sum("event", None).to_string(), String::new())?;
        row(
            "matched a member 命中会员",
            (sum("event", Some("queued")) + sum("event", Some("history"))).to_string(),
            format!(
                "{} of them only history: older than what was told",
                sum("event", Some("history"))
            ),
        )?;
        row(
            "duplicates merged 重复合并",
            (sum("event", Some("duplicate")) + sum("event", Some("merged"))).to_string(),
            format!(
                "{} resends, {} second cameras",
                sum("event", Some("duplicate")),
                sum("event", Some("merged"))
            ),
        )?;
        row(
            "delivered 已送达",
            self.delivered.to_string(),
            format!("{} late binds among the causes", tally.late_binds),
        )?;
        row(
            "repeated after a lost answer 补发",
            self.repeats.to_string(),
            "the only repeats that are allowed".to_owned(),
        )?;
        row(
            "tries that failed and were repeated",
            sum("retry", None).to_string(),
            String::new(),
        )?;
        row(
            "replayed by a lane that was offline",
            tally.replayed.to_string(),
            format!("{} superseded by a newer state", sum("delivery", Some("superseded"))),
        )?;
        row(
            "exits nobody saw 未见出场",
            tally.missing_exits.to_string(),
            String::new(),
        )?;
        row(
            "never sent 不上报",
            (sum("never", None) + sum("event", Some("no-member"))).to_string(),
            String::new(),
        )?;
        row(
            "  no member has the plate 非会员",
            sum("event", Some("no-member")).to_string(),
            format!("{} misreads among them", tally.misreads),
        )?;
        let mut reasons: BTreeMap<&str, i64> = BTreeMap::new();
        for counter in counters
            .iter()
            .filter(|counter| counter.name == "never" && counter.value > 0)
        {
            *reasons.entry(&counter.word).or_default() += counter.value;
        }
        for (reason, count) in reasons {
            row(&format!("  {reason}"), count.to_string(), String::new())?;
        }
        row(
            "acknowledged → 204, p50",
            millis(self.share(50)),
            "gate's answer to WeChat Pay's, live reads".to_owned(),
        )?;
        row(
            "acknowledged → 204, p99",
            millis(self.share(99)),
            "with the retries above".to_owned(),
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

    fn share(&self, percent: usize) -> Option<Duration> {
        let last = self.waits.len().checked_sub(1)?;
        self.waits.get(last * percent / 100).copied()
    }
}

fn millis(wait: Option<Duration>) -> String {
    wait.map_or_else(
        || "-".to_owned(),
        |wait| format!("{:.0} ms", wait.as_secs_f64() * 1000.0),
    )
}

fn difference(key: &(String, String), expected: &[(Direction, i64)], found: &[(Direction, i64)]) -> String {
    let words = |states: &[(Direction, i64)]| {
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

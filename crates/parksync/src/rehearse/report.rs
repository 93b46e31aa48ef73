//! What came of a rehearsal, for people and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::roll::Roll;
use super::trace::Trace;
use super::truth::Wrong;
use crate::demo::rows::{millis, row};
use crate::demo::stage::Counters;
use crate::demo::told::Told;

/// Wrong ends that are printed one by one.
const SHOWN: usize = 20;

/// The numbers.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    events: usize,
    bad_lines: usize,
    plates: usize,
    members: usize,
    bindings: usize,
    shifted_days: i64,
    /// Calls that told WeChat Pay something.
    sent: usize,
    /// Calls that told the same again.
    repeats: usize,
    /// Second reads of a passage.
    merged: i64,
    /// The same record again.
    duplicates: i64,
    /// Messages that a newer state made pointless before they were sent.
    superseded: i64,
    /// Messages that wait for a person.
    held: i64,
    /// Messages that WeChat Pay refused for good, or that still wait.
    undelivered: i64,
    /// Entries of cars that were still inside.
    no_exit_seen: i64,
    /// Exits of cars that never came.
    no_entry_seen: i64,
    never_sent: BTreeMap<String, i64>,
    wrong_final_states: usize,
    wrong: Vec<WrongEnd>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    took_s: f64,
}

/// One member's car that ended wrongly.
#[derive(Debug, Serialize)]
struct WrongEnd {
    plate: String,
    line: Option<u64>,
    trace_says: Option<String>,
    wechat_pay_holds: Option<String>,
}

impl Report {
    pub(super) fn new(
        trace: &Trace,
        roll: &Roll,
        told: &Told,
        counted: &Counters,
        wrong: &[Wrong],
        zone: &TimeZone,
        took: Duration,
    ) -> Self {
        let event = |word| counted.sum("event", Some(word));
        let mut never_sent: BTreeMap<String, i64> = BTreeMap::new();
        for (reason, count) in counted.by_word("never") {
            never_sent.insert(reason.to_owned(), count);
        }
        // Not for lack of a reading: nobody may or need hear of these.
        for (word, reason) in [("no-member", "no-member"), ("history", "older-than-told")] {
            if event(word) > 0 {
                never_sent.insert(reason.to_owned(), event(word));
            }
        }
        // A repeat without a fault would be one that nobody asked for.
        let unasked: usize = told
            .states
            .values()
            .map(|states| states.windows(2).filter(|pair| pair[0] == pair[1]).count())
            .sum();
        let ms = |wait: Option<Duration>| wait.map(|wait| (wait.as_secs_f64() * 1e4).round() / 10.0);
        Self {
            events: trace.events.len(),
            bad_lines: trace.bad.len() + roll.bad.len(),
            plates: trace.cars().len(),
            members: roll.members(),
            bindings: roll.bindings.len(),
            shifted_days: trace.shifted_days,
            sent: told.delivered - unasked,
            repeats: told.repeats + unasked,
            merged: event("merged"),
            duplicates: event("duplicate"),
            superseded: counted.sum("delivery", Some("superseded")),
            held: counted.sum("waiting", Some("held")),
            undelivered: counted.sum("delivery", Some("dead")) + counted.sum("waiting", Some("waiting")),
            no_exit_seen: counted.sum("visit", Some("no-exit-seen")),
            no_entry_seen: counted.sum("visit", Some("no-entry-seen")),
            never_sent,
            wrong_final_states: wrong.len(),
            wrong: wrong
                .iter()
                .take(SHOWN)
                .map(|wrong| WrongEnd::new(wrong, zone, trace.shifted_days))
                .collect(),
            p50_ms: ms(told.wait(50)),
            p99_ms: ms(told.wait(99)),
            took_s: (took.as_secs_f64() * 10.0).round() / 10.0,
        }
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let note = format!("{} plates, in {:.1} s", self.plates, self.took_s);
        row(out, "events 事件", self.events, &note)?;
        let note = format!("{} bindings 绑定", self.bindings);
        row(out, "members 会员", self.members, &note)?;
        row(
            out,
            "sent 已上报",
            self.sent,
            "calls that WeChat Pay took, each another state",
        )?;
        row(out, "repeats 重复上报", self.repeats, "the same state again")?;
        row(out, "duplicates 重发", self.duplicates, "the same record again")?;
        row(out, "merged 合并", self.merged, "another read of the same passage")?;
        let note = "a newer state of the same batch replaced it";
        row(out, "superseded 被新状态取代", self.superseded, note)?;
        let note = "an entry that surfaced half a day late";
        row(out, "held 待人工处理", self.held, note)?;
        row(out, "undelivered 未送达", self.undelivered, "")?;
        row(
            out,
            "exits nobody saw 未见出场",
            self.no_exit_seen,
            "the car came again",
        )?;
        row(out, "entries nobody saw 未见入场", self.no_entry_seen, "")?;
        row(out, "never sent 不上报", self.never_sent.values().sum::<i64>(), "")?;
        for (reason, count) in &self.never_sent {
            row(out, &format!("  {reason}"), count, "")?;
        }
        let wait = |ms: Option<f64>| millis(ms.map(|ms| Duration::from_secs_f64(ms / 1000.0)));
        let note = "from the gate's answer to WeChat Pay's, live events";
        row(out, "acknowledged → 204, p50", wait(self.p50_ms), note)?;
        row(out, "acknowledged → 204, p99", wait(self.p99_ms), "")?;
        row(out, "wrong final states 最终状态错误", self.wrong_final_states, "")?;
        writeln!(out)?;
        for wrong in &self.wrong {
            wrong.print(out)?;
        }
        if self.wrong_final_states == 0 {
            return writeln!(
                out,
                "PASSED 通过: of each of the {} members' cars WeChat Pay holds the newest state of the trace.",
                self.bindings
            );
        }
        writeln!(
            out,
            "FAILED 未通过: of {} of {} members' cars WeChat Pay does not hold the newest state of the trace.",
            self.wrong_final_states, self.bindings
        )
    }
}

impl WrongEnd {
    /// Times are those of the file again.
    fn new(wrong: &Wrong, zone: &TimeZone, shifted_days: i64) -> Self {
        let state = |state: crate::demo::told::State| {
            let at = Timestamp::from_second(state.1 - shifted_days * 24 * 3600)
                .unwrap_or_default()
                .to_zoned(zone.clone());
            format!("{} {}", state.0, at.strftime("%Y-%m-%d %H:%M:%S"))
        };
        let newest = wrong.expected.as_ref();
        Self {
            plate: wrong.plate.masked(),
            line: newest.map(|newest| newest.line),
            trace_says: newest.and_then(|newest| Some(state((newest.state, *newest.times.first()?)))),
            wechat_pay_holds: wrong.found.map(state),
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let or_nothing = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
        let line = self.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        writeln!(
            out,
            "  {line}{}: the trace ends with {}, WeChat Pay holds {}",
            self.plate,
            or_nothing(&self.trace_says),
            or_nothing(&self.wechat_pay_holds)
        )
    }
}

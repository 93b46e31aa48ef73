//! One visit told in sentences, from gate message to WeChat Pay's answer, or why nothing was sent and what happens next.
//!
//! From the store's facts to text; the faces (`cli`, `web`) print it. Plates and openids are masked.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::domain::story::{Standing, clock, standing};
use crate::store::{Entry, Node, TracedEvent, TracedVisit, Try};

/// One step of a visit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// When, by China time.
    pub at: String,
    /// What happened.
    pub text: String,
}

/// Tells one visit, step by step.
#[must_use]
pub fn tell(visit: &TracedVisit, now: Timestamp) -> Vec<Line> {
    let mut lines = Vec::new();
    for event in &visit.events {
        tell_event(event, visit.members, now, &mut lines);
    }
    lines
}

/// The head line of a visit.
#[must_use]
pub fn title(visit: &TracedVisit) -> String {
    let entered = visit.entered.as_ref().map_or("entry not seen".to_owned(), |seen| {
        format!("in {} at {}", seen.lot, clock(seen.at))
    });
    let left = match (&visit.left, visit.ended.as_deref()) {
        (Some(seen), _) => format!("out {} at {}", seen.lot, clock(seen.at)),
        (None, Some("no-exit-seen")) => "exit not seen; the car came again".to_owned(),
        (None, Some("stale")) => "no exit for so long that nobody knows whether it is still there".to_owned(),
        (None, Some("cancelled")) => "cancelled: the car did not come in".to_owned(),
        (None, _) => "inside".to_owned(),
    };
    format!("{} in {}: {entered}, {left}", visit.plate, visit.circle)
}

fn tell_event(event: &TracedEvent, members: u32, now: Timestamp, lines: &mut Vec<Line>) {
    let gate = event.gate.as_deref().unwrap_or("(no gate named)");
    let mut text = format!("gate {}/{gate} told {} of {}", event.lot, event.state, clock(event.at));
    if event.replayed {
        text.push_str(", replayed after an outage");
    }
    if let Some(claimed) = event.at_claimed {
        text.push_str(&format!(
            "; its own clock said {}, which lies in the future, so the time of receipt counts",
            clock(claimed)
        ));
    }
    lines.push(Line {
        at: clock(event.received_at),
        text,
    });
    lines.push(Line {
        at: clock(event.received_at),
        text: became(event, members).to_owned(),
    });
    for (entry, tries) in &event.messages {
        tell_message(entry, tries, now, lines);
    }
}

fn became(event: &TracedEvent, members: u32) -> &'static str {
    match event.recorded.as_str() {
        "queued" => "written down, and put into the lane of each member who has the plate",
        "merged" => "a second read of the same passage; nothing is sent for it",
        "no-member" if members > 0 => "no member had the plate then, so nothing was sent",
        "no-member" => {
            "no member has the plate, so nothing is sent; if one binds it while the car is inside, the entry is sent"
        }
        "history" => "kept as history: WeChat Pay was already told something newer of this car",
        "waits-for-person" => "an old entry that surfaced after an outage: a person decides whether it is sent",
        "turned-round" => "the car turned round before its entry was told, so neither is told",
        "other-car-inside" => "another car of the member is inside, and the settings say that one is enough",
        "inner" => "a gate of an inner car park: nobody entered or left the mall",
        "corrected" => "the plate was read wrongly; the sender corrected it",
        "cancelled" => "the sender took it back: the car did not cross",
        _ => "written down",
    }
}

fn tell_message(entry: &Entry, tries: &[Try], now: Timestamp, lines: &mut Vec<Line>) {
    let why = match entry.cause.as_str() {
        "late-bind" => ", because the member bound the plate while the car was inside",
        "correction" => ", to take back what a wrong reading had told",
        "cancellation" => ", to take back an entry that did not happen",
        "midnight" => ", because WeChat Pay forgets presence at midnight",
        "replay" => ", because a person sent it again",
        _ => "",
    };
    lines.push(Line {
        at: clock(entry.enqueued_at),
        text: format!(
            "message {}: member {} is to be told as {} since {}{why}",
            entry.id,
            entry.openid,
            entry.state,
            clock(entry.at)
        ),
    });
    for one in tries {
        lines.push(Line {
            at: clock(one.began_at),
            text: format!("message {}: {}", entry.id, answer(one)),
        });
    }
    let Standing { why, next } = standing(entry.id, &entry.place, now);
    lines.push(Line {
        at: clock(now),
        text: format!("message {}: {why}. Next: {next}", entry.id),
    });
}

/// What one try saw, in words.
#[must_use]
pub fn answer(one: &Try) -> String {
    let request = one
        .request_id
        .as_deref()
        .filter(|id| !id.is_empty())
        .map_or(String::new(), |id| format!(", Request-ID {id}"));
    let detail = one.detail.as_deref().unwrap_or_default();
    let code = one.code.as_deref().unwrap_or_default();
    match (one.outcome.as_str(), one.status) {
        ("accepted", _) => format!("WeChat Pay took it in {} ms{request}", one.took_ms),
        ("refused", Some(status)) => format!(
            "WeChat Pay refused with {status} {code}: {detail} ({} ms{request})",
            one.took_ms
        ),
        ("unknown", _) => format!(
            "sent, but nobody can say whether WeChat Pay has it: {detail} ({} ms)",
            one.took_ms
        ),
        ("not-sent", _) => format!("WeChat Pay was not reached: {detail} ({} ms)", one.took_ms),
        _ => format!("{}: {detail}", one.outcome),
    }
}

/// A message for machines: masked, with why and what next.
#[must_use]
pub fn message(entry: &Entry, tries: Option<&[Try]>, now: Timestamp) -> Value {
    let standing = standing(entry.id, &entry.place, now);
    let mut value = json!({
        "id": entry.id,
        "circle": entry.circle,
        "openid": entry.openid.masked(),
        "plate": entry.plate.masked(),
        "state": entry.state,
        "at": entry.at.to_string(),
        "cause": entry.cause,
        "since": entry.enqueued_at.to_string(),
        "why": standing.why,
        "next": standing.next,
    });
    if let Some(tries) = tries {
        value["tries"] = tries.iter().map(try_json).collect();
    }
    value
}

fn try_json(one: &Try) -> Value {
    json!({
        "at": one.began_at.to_string(),
        "took_ms": one.took_ms,
        "outcome": one.outcome,
        "status": one.status,
        "code": one.code,
        "request_id": one.request_id,
        "detail": one.detail,
    })
}

/// A node as JSON, with what it did since an earlier look at all of them.
#[must_use]
pub fn node(before: &[Node], node: &Node) -> Value {
    json!({
        "id": node.id.0,
        "name": node.name,
        "role": node.role,
        "version": node.version,
        "started_at": node.started_at.to_string(),
        "seen_at": node.seen_at.to_string(),
        "silent_ms": millis(node.silent),
        "lanes": node.lanes,
        "in_flight": node.in_flight,
        "sent": node.sent,
        "calls_per_second": calls_per_second(before, node),
        "clock_ahead_ms": millis(node.ahead),
    })
}

/// A node in one line.
#[must_use]
pub fn node_line(before: &[Node], node: &Node) -> String {
    let seconds = |of: SignedDuration| of.as_secs_f64();
    let rate = calls_per_second(before, node).map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    format!(
        "{} #{}  {}  {}  seen {:.1} s ago  {} lanes, {} in flight  {rate} calls/s, {} since {}  clock {:+.3} s",
        node.name,
        node.id.0,
        node.role,
        node.version,
        seconds(node.silent),
        node.lanes,
        node.in_flight,
        node.sent,
        clock(node.started_at),
        seconds(node.ahead),
    )
}

/// Calls a second between two beats of a node. `None` when it was not heard of in between.
fn calls_per_second(before: &[Node], node: &Node) -> Option<f64> {
    let before = before.iter().find(|before| before.id == node.id)?;
    let passed = node.seen_at.duration_since(before.seen_at);
    let sent = node.sent - before.sent;
    (passed.is_positive() && sent >= 0).then(|| sent as f64 / passed.as_secs_f64())
}

fn millis(of: SignedDuration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NodeId;

    #[test]
    fn a_node_is_told_with_its_calls_a_second() {
        let at = |millis: i64| Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap();
        let seen = |millis, sent| Node {
            id: NodeId(3),
            name: "n1".to_owned(),
            role: "worker".to_owned(),
            version: "1".to_owned(),
            started_at: at(0),
            seen_at: at(millis),
            silent: SignedDuration::from_millis(400),
            ahead: SignedDuration::from_millis(-12),
            lanes: 7,
            in_flight: 2,
            sent,
        };

        let value = node(&[seen(1000, 100)], &seen(3000, 150));
        assert_eq!(
            (&value["calls_per_second"], &value["clock_ahead_ms"]),
            (&json!(25.0), &json!(-12))
        );
        assert_eq!(
            node(&[seen(3000, 150)], &seen(3000, 150))["calls_per_second"],
            Value::Null
        );
        let line = node_line(&[], &seen(3000, 150));
        assert!(
            line.contains("seen 0.4 s ago  7 lanes, 2 in flight  - calls/s") && line.ends_with("clock -0.012 s"),
            "{line}"
        );
    }
}

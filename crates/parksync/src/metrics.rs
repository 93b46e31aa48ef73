//! Every metric name, and how the store's counters become Prometheus text. Labels name lots and circles, never a car or a member.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::metrics::counter::Counter as Total;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::store::{Counter, Node};

type Seconds = Gauge<f64, AtomicU64>;

/// What the text is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfLot {
    lot: String,
    word: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCircle {
    circle: String,
    word: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfHold {
    scope: String,
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfGate {
    lot: String,
    gate: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfNode {
    node: String,
    id: String,
    role: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCode {
    code: String,
}

/// Writes all metrics.
///
/// # Errors
/// The text cannot be written.
pub fn encode(
    counters: &[Counter],
    refused: &BTreeMap<&'static str, u64>,
    gate_clocks: &BTreeMap<(String, String), i64>,
    nodes: &[Node],
    text: &mut String,
) -> fmt::Result {
    let events = Family::<OfLot, Total>::default();
    let never = Family::<OfLot, Total>::default();
    let visits = Family::<OfLot, Total>::default();
    let clocks = Family::<OfLot, Total>::default();
    let deliveries = Family::<OfCircle, Total>::default();
    let retries = Family::<OfCircle, Total>::default();
    let waiting = Family::<OfCircle, Gauge>::default();
    let amended = Family::<OfLot, Total>::default();
    let holds = Family::<OfHold, Gauge>::default();
    let refusals = Family::<OfCode, Total>::default();
    let gates = Family::<OfGate, Gauge>::default();
    for ((lot, gate), seconds) in gate_clocks {
        gates
            .get_or_create(&OfGate {
                lot: lot.clone(),
                gate: gate.clone(),
            })
            .set(*seconds);
    }
    for (code, count) in refused {
        refusals
            .get_or_create(&OfCode {
                code: (*code).to_owned(),
            })
            .inc_by(*count);
    }
    for Counter {
        name,
        scope,
        word,
        value,
    } in counters
    {
        let of_lot = || OfLot {
            lot: scope.clone(),
            word: word.clone(),
        };
        let of_circle = || OfCircle {
            circle: scope.clone(),
            word: word.clone(),
        };
        let total = u64::try_from(*value).unwrap_or(0);
        match name.as_str() {
            "event" => drop(events.get_or_create(&of_lot()).inc_by(total)),
            "never" => drop(never.get_or_create(&of_lot()).inc_by(total)),
            "visit" => drop(visits.get_or_create(&of_lot()).inc_by(total)),
            "clock" => drop(clocks.get_or_create(&of_lot()).inc_by(total)),
            "amend" => drop(amended.get_or_create(&of_lot()).inc_by(total)),
            "hold" => drop(
                holds
                    .get_or_create(&OfHold {
                        scope: word.clone(),
                        name: scope.clone(),
                    })
                    .set(*value),
            ),
            "delivery" => drop(deliveries.get_or_create(&of_circle()).inc_by(total)),
            "retry" => drop(retries.get_or_create(&of_circle()).inc_by(total)),
            "waiting" => drop(waiting.get_or_create(&of_circle()).set(*value)),
            _ => {}
        }
    }
    let mut registry = Registry::with_prefix("parksync");
    register_nodes(&mut registry, nodes);
    registry.register(
        "gate_events",
        "Gate events written down, by what became of them",
        events,
    );
    registry.register(
        "never_sent",
        "Messages of gates that never lead to a call, by reason",
        never,
    );
    registry.register("visits", "Visits with an end that was not seen", visits);
    registry.register("clock_ahead", "Events whose sender's clock was wrong", clocks);
    registry.register(
        "amendments",
        "Records that senders corrected or cancelled, by what became of them",
        amended,
    );
    registry.register(
        "gate_clock_behind_seconds",
        "How far the clock of a gate is behind ours, median of its last messages",
        gates,
    );
    registry.register("held", "Circles and merchants whose deliveries pause", holds);
    registry.register(
        "refused_requests",
        "Requests that were refused since the start, by code",
        refusals,
    );
    registry.register(
        "deliveries",
        "Messages to WeChat Pay that are settled, by how",
        deliveries,
    );
    registry.register("retries", "Tries that have to be repeated, by what they saw", retries);
    registry.register(
        "waiting",
        "Messages to WeChat Pay that wait, or are held for a person",
        waiting,
    );
    encode_text(text, &registry)
}

fn register_nodes(registry: &mut Registry, nodes: &[Node]) {
    let silent = Family::<OfNode, Seconds>::default();
    let ahead = Family::<OfNode, Seconds>::default();
    let lanes = Family::<OfNode, Gauge>::default();
    let in_flight = Family::<OfNode, Gauge>::default();
    let calls = Family::<OfNode, Total>::default();
    for node in nodes {
        let of_node = OfNode {
            node: node.name.clone(),
            id: node.id.0.to_string(),
            role: node.role.clone(),
        };
        silent.get_or_create(&of_node).set(node.silent.as_secs_f64());
        ahead.get_or_create(&of_node).set(node.ahead.as_secs_f64());
        lanes.get_or_create(&of_node).set(node.lanes.into());
        in_flight.get_or_create(&of_node).set(node.in_flight.into());
        calls
            .get_or_create(&of_node)
            .inc_by(u64::try_from(node.sent).unwrap_or(0));
    }
    registry.register("node_silent_seconds", "How long ago a node was heard of", silent);
    registry.register(
        "node_clock_ahead_seconds",
        "How far the clock of a node is ahead of the database's",
        ahead,
    );
    registry.register("node_lanes", "Lanes that a node has claimed", lanes);
    registry.register("node_in_flight", "Calls of a node under way", in_flight);
    registry.register("node_calls", "Calls of a node since it joined", calls);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_metrics() {
        let counter = |name: &str, word: &str, value| Counter {
            name: name.to_owned(),
            scope: "P1".to_owned(),
            word: word.to_owned(),
            value,
        };
        let mut text = String::new();

        encode(
            &[counter("event", "merged", 3), counter("waiting", "waiting", 5)],
            &BTreeMap::new(),
            &BTreeMap::new(),
            &[],
            &mut text,
        )
        .unwrap();

        assert!(
            text.contains("parksync_gate_events_total{lot=\"P1\",word=\"merged\"} 3"),
            "{text}"
        );
        assert!(
            text.contains("parksync_waiting{circle=\"P1\",word=\"waiting\"} 5"),
            "{text}"
        );
    }
}

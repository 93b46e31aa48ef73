//! Lots, gates and what a gate saw. Parsing of vendor messages lives in `ingest`; what an event means, in `presence`.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plate::Plate;

/// Which way a car crossed the gate. Spelled as WeChat Pay's `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Direction {
    /// The car drove into the mall.
    In,
    /// The car left the mall.
    Out,
}

impl Direction {
    /// `IN` or `OUT`, the words of the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "IN",
            Self::Out => "OUT",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the time of a read comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeSource {
    /// The sender said when the car crossed.
    Sender,
    /// The sender said no time (or an impossible one): the moment we received the message.
    Receipt,
}

/// One car crossed a gate, as a sender tells it: the outcome of parsing, before lot and gate are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The normalised plate.
    pub plate: Plate,
    /// Which way the car went.
    pub state: Direction,
    /// When the car crossed.
    pub at: Timestamp,
    /// Whether the sender said `at`.
    pub time_source: TimeSource,
    /// The sender's own id of the record, when there is one that is stable over resends.
    pub record_id: Option<String>,
    /// The sending device's own id (serial number, MAC), when the message names it.
    pub device: Option<String>,
    /// The sender marks the record as replayed after an outage.
    pub replayed: bool,
}

//! Gate messages: bytes of one sender in, what they mean out, and the exact words that the sender waits for.
//!
//! One pure parser per format lives in `ingest/`; what they share (plate policy, direction, time) in `ingest::crossing`.
//! Not here: which lot and gate a message came from, what an event means for a member, storing. Called by `web` for live
//! messages and by `gate try`. No clock: the time of receipt is part of the message.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::domain::gate::{Direction, Read, TimeSource};
use crate::domain::plate::Plate;

mod crossing;
pub mod generic;
mod hikvision;
mod huaxia;
mod multipart;
mod times;
mod vzenith;

pub use times::{UnknownZone, parse_zone};

/// The language a gate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// 臻识 (`VisionZenith`) cameras and compatible ones: JSON by HTTP push.
    VzenithHttp,
    /// Hikvision cameras and barriers: ISAPI event notification, XML, plain or in a multipart form.
    HikvisionIsapi,
    /// 华夏智信 cameras: URL-encoded form, protocol mode 5.
    #[serde(rename = "huaxia-mode5")]
    HuaxiaMode5,
    /// Our own JSON, for everybody who can choose.
    Generic,
}

impl Format {
    /// Every format, in the order of the documentation.
    pub const ALL: [Self; 4] = [
        Self::VzenithHttp,
        Self::HikvisionIsapi,
        Self::HuaxiaMode5,
        Self::Generic,
    ];

    /// The name in configuration and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VzenithHttp => "vzenith-http",
            Self::HikvisionIsapi => "hikvision-isapi",
            Self::HuaxiaMode5 => "huaxia-mode5",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no gate format; there are vzenith-http, hikvision-isapi, huaxia-mode5 and generic")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| UnknownFormat(name.chars().take(40).collect()))
    }
}

/// What the configuration says about the gate that a message came through.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The direction of the lane. It wins over anything a message says.
    pub direction: Option<Direction>,
    /// The zone of times that come without one.
    pub zone: Option<TimeZone>,
}

/// One message as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The `Content-Type` header. Cameras are careless with it, so the body decides and this only helps.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
    /// When it arrived.
    pub received_at: Timestamp,
}

/// Why something became of an item, for counting and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// A short stable word, the same for every item with this fate.
    pub word: &'static str,
    /// A sentence that says what to do about it. Never holds a plate.
    pub sentence: Cow<'static, str>,
}

impl Reason {
    pub(crate) fn new(word: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self {
            word,
            sentence: sentence.into(),
        }
    }

    /// Whether the gate's configuration is incomplete rather than the message bad. Such an item must not be
    /// acknowledged: once the configuration is right, the sender's repeat is good.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self.word, words::NO_DIRECTION | words::TIME_WITHOUT_ZONE)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// The words of `Reason::word` and `Note::word`, beside those of `plate::why`.
pub mod words {
    /// A sign of life.
    pub const HEARTBEAT: &str = "heartbeat";
    /// An event that is no plate read.
    pub const OTHER_EVENT: &str = "other-event";
    /// A plate read that is no passage: stranded, cleared, turned back.
    pub const NOT_A_PASSAGE: &str = "not-a-passage";
    /// Neither the message nor the configuration says in or out.
    pub const NO_DIRECTION: &str = "no-direction";
    /// A local time, and no zone is configured.
    pub const TIME_WITHOUT_ZONE: &str = "time-without-zone";
    /// Text that is no time.
    pub const TIME_UNREADABLE: &str = "time-unreadable";
    /// A time before 2010 or after 2099.
    pub const TIME_IMPLAUSIBLE: &str = "time-implausible";
    /// A record replayed after an outage without its time.
    pub const TIME_MISSING: &str = "time-missing";
    /// Bytes in another encoding than the format's.
    pub const NOT_UTF8: &str = "not-utf8";
    /// A required member is missing.
    pub const MISSING: &str = "missing";
    /// A member has a value of the wrong kind.
    pub const WRONG_KIND: &str = "wrong-kind";
    /// A member that the format does not have.
    pub const UNKNOWN_FIELD: &str = "unknown-field";
    /// A member that is there twice.
    pub const DUPLICATE_FIELD: &str = "duplicate-field";
    /// Members that contradict one another.
    pub const WRONG_COMBINATION: &str = "wrong-combination";
    /// More of something than the bound.
    pub const TOO_MUCH: &str = "too-much";
    /// Not the syntax of the format.
    pub const SYNTAX: &str = "syntax";
    /// Good syntax, but another format's.
    pub const OTHER_FORMAT: &str = "other-format";
    /// Note: the message says another direction than the configuration, which won.
    pub const DIRECTION_OVERRIDDEN: &str = "direction-overridden";
    /// Note: the sender's two clocks disagree.
    pub const CLOCK_CONFLICT: &str = "clock-conflict";
    /// Note: the sender's time is unreadable or impossible, the time of receipt was taken.
    pub const RECEIPT_TIME: &str = "receipt-time";
    /// Note: the sender's time is more than five minutes in the future.
    pub const TIME_AHEAD: &str = "time-ahead";
}

/// What could be made out of an item that is no event: for people, never to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The plate, or what looks like one.
    pub plate: Option<Plate>,
    /// The direction.
    pub state: Option<Direction>,
    /// The time.
    pub at: Option<Timestamp>,
    /// Whether the sender said it.
    pub time_source: Option<TimeSource>,
}

/// One thing that a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A car crossed the gate.
    Event(Read),
    /// An earlier record of the same sender was wrong.
    Amend {
        /// The sender's id of that record. A visit record has one id for both its crossings.
        record_id: String,
        /// The plate that it should have had; `None` when the car did not cross at all.
        plate: Option<Plate>,
    },
    /// Nothing to do with cars crossing: acknowledge and forget.
    Ignored {
        /// What it is.
        reason: Reason,
    },
    /// A car crossed, the camera read no plate: count it.
    NoPlate {
        /// How the sender says so.
        reason: Reason,
        /// What is known all the same.
        seen: Seen,
    },
    /// For a person.
    Held {
        /// Why.
        reason: Reason,
        /// The complete read where the plate is only doubtful. It may be sent if a member bound exactly this plate.
        read: Option<Read>,
        /// What could be made out.
        seen: Seen,
    },
    /// Refused.
    Rejected {
        /// The member of the message that is to blame.
        field: Cow<'static, str>,
        /// Why.
        reason: Reason,
        /// What could be made out.
        seen: Seen,
    },
}

/// Something to know about an item that changes nothing about its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Index into `Parsed::items`.
    pub item: usize,
    /// The member of the message that it is about.
    pub field: &'static str,
    /// A short stable word.
    pub word: &'static str,
    /// A sentence for people.
    pub sentence: &'static str,
}

/// The answer that makes the sender stop repeating. To be sent only after everything is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Status 200 with exactly this body, with `Content-Length`, never compressed, never chunked.
    Body {
        /// The `Content-Type`.
        content_type: &'static str,
        /// The body.
        body: String,
    },
    /// A result per item, in the words of the HTTP interface.
    PerItem,
}

/// A message that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it says, in its order.
    pub items: Vec<Item>,
    /// What is odd about it.
    pub notes: Vec<Note>,
    /// What to answer.
    pub reply: Reply,
}

impl Parsed {
    fn one(judged: (Item, Vec<Note>), reply: Reply) -> Self {
        Self {
            items: vec![judged.0],
            notes: judged.1,
            reply,
        }
    }

    fn ignored(word: &'static str, sentence: &'static str, reply: Reply) -> Self {
        Self::one(
            (
                Item::Ignored {
                    reason: Reason::new(word, sentence),
                },
                Vec::new(),
            ),
            reply,
        )
    }
}

/// A message that could not be understood at all. The sender gets 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Malformed {
    /// The member, header or part that is to blame.
    pub field: Cow<'static, str>,
    /// Why.
    pub reason: Reason,
}

impl Malformed {
    pub(crate) fn new(
        field: impl Into<Cow<'static, str>>,
        word: &'static str,
        sentence: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field: field.into(),
            reason: Reason::new(word, sentence),
        }
    }

    /// Names the place, never the value: serde's own text may quote a plate.
    fn json(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        // serde_json has no other word for it.
        if error.to_string().starts_with("recursion limit exceeded") {
            let sentence =
                format!("JSON nested too deep from line {line} column {column} on; a message needs a few levels");
            return Self::new("body", words::TOO_MUCH, sentence);
        }
        match error.classify() {
            serde_json::error::Category::Data => Self::new(
                "body",
                words::OTHER_FORMAT,
                format!("JSON, but a member at line {line} column {column} has not the kind this format has there"),
            ),
            serde_json::error::Category::Eof => Self::new(
                "body",
                words::SYNTAX,
                format!("JSON that ends early, at line {line} column {column}"),
            ),
            serde_json::error::Category::Io | serde_json::error::Category::Syntax => Self::new(
                "body",
                words::SYNTAX,
                format!("not JSON from line {line} column {column} on"),
            ),
        }
    }
}

/// Parses one message of a gate.
///
/// # Errors
///
/// `Malformed` when the message as a whole is not of this format.
pub fn parse(format: Format, message: &Message<'_>, source: &Source) -> Result<Parsed, Malformed> {
    match format {
        Format::VzenithHttp => vzenith::parse(message, source),
        Format::HikvisionIsapi => hikvision::parse(message, source),
        Format::HuaxiaMode5 => huaxia::parse(message, source),
        Format::Generic => generic::parse(message, source),
    }
}

/// Text of a body that should be UTF-8. Damage stays visible as U+FFFD instead of costing the message: where it is in
/// the plate, the plate is refused; elsewhere nobody reads it.
fn text_of(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body))
}

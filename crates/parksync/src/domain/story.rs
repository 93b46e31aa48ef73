//! Tells people where a message stands: why, since when, and what happens next. Every undelivered message has an answer.

use jiff::{Timestamp, tz};

use super::delivery::Scope;

/// Where a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its lane.
    Waiting(Waiting),
    /// Put aside for a person.
    Held {
        /// Why.
        reason: String,
    },
    /// Given up.
    Dead {
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// WeChat Pay has it.
    Delivered {
        /// When its answer came.
        at: Timestamp,
    },
    /// Something newer made it pointless.
    Superseded {
        /// What.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// The member left, or unbound the plate.
    Withdrawn {
        /// When.
        at: Timestamp,
    },
}

/// What keeps a message in its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// A call for this lane is under way right now.
    pub in_flight: bool,
    /// An older message of the same member goes first.
    pub behind: bool,
    /// When the lane is due.
    pub due_at: Option<Timestamp>,
    /// Tries that counted.
    pub tries: u32,
    /// What the last try saw.
    pub last_try: Option<String>,
    /// What pauses the circle or merchant.
    pub hold: Option<Pause>,
}

/// A hold, as far as a story needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// How far it reaches.
    pub scope: Scope,
    /// The circle or the mchid.
    pub name: String,
    /// Why.
    pub reason: String,
    /// When the next probe goes; `None` when a person holds it.
    pub probe_at: Option<Timestamp>,
}

/// An answer to "why, and what next".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Why it stands where it stands.
    pub why: String,
    /// What happens next, or what a person can do.
    pub next: String,
}

/// Says where a message stands.
#[must_use]
pub fn standing(id: i64, place: &Place, now: Timestamp) -> Standing {
    let told = |why: String, next: String| Standing { why, next };
    match place {
        Place::Waiting(waiting) => standing_of_waiting(waiting, now),
        Place::Held { reason } => told(
            reason.clone(),
            format!("a person decides: `parksync outbox replay {id} --yes` sends it, leaving it alone keeps it out"),
        ),
        Place::Dead { reason, at } => told(
            format!("given up {}: {reason}", clock(*at)),
            format!("mend the cause, then `parksync outbox replay {id} --yes`"),
        ),
        Place::Delivered { at } => told(
            format!("WeChat Pay confirmed it {}", clock(*at)),
            "nothing; it is done".to_owned(),
        ),
        Place::Superseded { reason, at } => told(
            format!("{reason} ({})", clock(*at)),
            "nothing; the newer state counts".to_owned(),
        ),
        Place::Withdrawn { at } => told(
            format!("the plate was unbound {}", clock(*at)),
            "nothing; nothing is told of a car without a member".to_owned(),
        ),
    }
}

fn standing_of_waiting(waiting: &Waiting, now: Timestamp) -> Standing {
    let Waiting {
        in_flight,
        behind,
        due_at,
        tries,
        last_try,
        hold,
    } = waiting;
    if let Some(pause) = hold {
        let what = match pause.scope {
            Scope::Circle => "circle",
            Scope::Merchant => "merchant",
        };
        let (why, next) = match pause.probe_at {
            Some(probe_at) => (
                format!(
                    "{what} {} pauses: WeChat Pay refuses its set-up: {}",
                    pause.name, pause.reason
                ),
                format!(
                    "mend the set-up; one message probes it {}, and all go on by themselves once it works",
                    clock(probe_at)
                ),
            ),
            None => (
                format!("{what} {} is held by a person: {}", pause.name, pause.reason),
                format!("`parksync outbox release --{what} {}` lets it go on", pause.name),
            ),
        };
        return Standing { why, next };
    }
    if *behind {
        return Standing {
            why: "an older message of the same member goes first".to_owned(),
            next: "it leaves when that one is settled".to_owned(),
        };
    }
    let again = match last_try {
        Some(last) => format!("the last of {} tries saw: {last}", (*tries).max(1)),
        None => "it was not tried yet".to_owned(),
    };
    if *in_flight {
        return Standing {
            why: again,
            next: "a call is under way right now".to_owned(),
        };
    }
    match due_at {
        Some(due) if *due > now => Standing {
            why: again,
            next: format!("it is tried {}", clock(*due)),
        },
        _ => Standing {
            why: again,
            next: "it is due, and leaves with the next free place".to_owned(),
        },
    }
}

/// A time for people: China's, to the second.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    at.to_zoned(tz::TimeZone::fixed(tz::offset(8)))
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn waiting() -> Waiting {
        Waiting {
            in_flight: false,
            behind: false,
            due_at: Some(at(60)),
            tries: 0,
            last_try: None,
            hold: None,
        }
    }

    #[test]
    fn every_place_says_why_and_what_next() {
        let pause = |probe_at| {
            Some(Pause {
                scope: Scope::Circle,
                name: "mall".to_owned(),
                reason: "403".to_owned(),
                probe_at,
            })
        };
        let table = [
            (Place::Waiting(waiting()), "not tried", "2023-11-15 06:14:20"),
            (
                Place::Waiting(Waiting {
                    last_try: Some("500 SYSTEM_ERROR".to_owned()),
                    ..waiting()
                }),
                "500 SYSTEM_ERROR",
                "tried",
            ),
            (
                Place::Waiting(Waiting {
                    behind: true,
                    ..waiting()
                }),
                "goes first",
                "settled",
            ),
            (
                Place::Waiting(Waiting {
                    in_flight: true,
                    ..waiting()
                }),
                "not tried",
                "under way",
            ),
            (
                Place::Waiting(Waiting {
                    hold: pause(Some(at(5))),
                    ..waiting()
                }),
                "refuses its set-up",
                "probes",
            ),
            (
                Place::Waiting(Waiting {
                    hold: pause(None),
                    ..waiting()
                }),
                "held by a person",
                "outbox release --circle mall",
            ),
            (
                Place::Held {
                    reason: "an old entry".to_owned(),
                },
                "an old entry",
                "outbox replay 7",
            ),
            (
                Place::Dead {
                    reason: "400".to_owned(),
                    at: at(0),
                },
                "400",
                "outbox replay 7",
            ),
            (Place::Delivered { at: at(0) }, "confirmed", "nothing"),
            (
                Place::Superseded {
                    reason: "newer".to_owned(),
                    at: at(0),
                },
                "newer",
                "nothing",
            ),
            (Place::Withdrawn { at: at(0) }, "unbound", "nothing"),
        ];

        for (place, why, next) in table {
            let standing = standing(7, &place, at(0));
            assert!(standing.why.contains(why), "{place:?}: {standing:?}");
            assert!(standing.next.contains(next), "{place:?}: {standing:?}");
        }
    }
}

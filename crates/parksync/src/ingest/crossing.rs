//! One crossing as a format found it, and what becomes of it: plate policy, direction, time, in this order.
//!
//! The same for every sender. Gates are judged leniently: a garbled plate matches no member and harms nobody. Called by
//! the formats.

use jiff::{SignedDuration, Timestamp};

use crate::domain::gate::{Direction, Read, TimeSource};
use crate::domain::plate::{self, Plate, Verdict, why};

use super::times::{self, Told};
use super::{Item, Note, Reason, Seen, Source, words};

/// What a message says about one car.
pub(super) struct Crossing<'a> {
    /// The plate as sent.
    pub(super) plate: &'a str,
    /// The member that held it.
    pub(super) plate_field: &'static str,
    /// The direction, where the message says in or out.
    pub(super) state: Option<Direction>,
    /// What to name when nobody says it.
    pub(super) state_field: &'static str,
    /// The time.
    pub(super) time: Told,
    /// The member that held it.
    pub(super) time_field: &'static str,
    /// Whether an impossible time refuses the item. Cameras lose their clocks and mean well: theirs does not.
    pub(super) strict_time: bool,
    /// The sender's id of the record.
    pub(super) record_id: Option<String>,
    /// The sender's id of the device.
    pub(super) device: Option<String>,
    /// Whether the sender replays it after an outage.
    pub(super) replayed: bool,
}

/// Ids longer than this are no ids.
const LONGEST_ID: usize = 200;

/// The sender's time may be this far ahead of ours before it is worth a word. The store waits for such a time and
/// replaces a later one.
const AHEAD_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// An id if it is usable as one. Control characters are what C strings and serial lines leave in it.
pub(super) fn id(text: &str) -> Option<String> {
    if text.len() > LONGEST_ID {
        return None;
    }
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// A plate that may stand in place of a wrong one. A doubtful one is good enough: it leads to a call only where a member
/// bound exactly this plate.
pub(super) fn usable_plate(text: &str) -> Result<Plate, Reason> {
    let checked = plate::check(text);
    match (checked.verdict, checked.plate) {
        (Verdict::Ok | Verdict::Repaired | Verdict::Review, Some(plate)) => Ok(plate),
        (Verdict::Ok | Verdict::Repaired | Verdict::Review, None)
        | (Verdict::OkNosync | Verdict::NoPlate | Verdict::Reject, _) => Err(plate_reason(checked.why)),
    }
}

/// Judges a crossing. The notes carry item 0; a batch renumbers them.
pub(super) fn judge(
    crossing: Crossing<'_>,
    source: &Source,
    received_at: Timestamp,
    mut notes: Vec<Note>,
) -> (Item, Vec<Note>) {
    let (state, overridden) = match (source.direction, crossing.state) {
        (Some(configured), told) => (Some(configured), told.is_some_and(|told| told != configured)),
        (None, told) => (told, false),
    };
    let time = settle_time(&crossing, source, received_at, &mut notes);
    let checked = plate::check(crossing.plate);
    let seen = Seen {
        plate: checked.plate.clone().or_else(|| checked.seen.clone()),
        state,
        at: time.as_ref().ok().map(|&(at, _)| at),
        time_source: time.as_ref().ok().map(|&(_, time_source)| time_source),
    };

    let rejected = |field: &'static str, reason, seen| Item::Rejected {
        field: field.into(),
        reason,
        seen,
    };
    let item = match (checked.verdict, checked.plate, state, time) {
        (Verdict::NoPlate, ..) => Item::NoPlate {
            reason: plate_reason(checked.why),
            seen,
        },
        (Verdict::Reject, ..) if crossing.plate.contains(char::REPLACEMENT_CHARACTER) => {
            let sentence = "the plate is not UTF-8; set the sender's character encoding to UTF-8";
            rejected(crossing.plate_field, Reason::new(words::NOT_UTF8, sentence), seen)
        }
        (Verdict::Reject, ..) if checked.why == why::NOT_MAINLAND => Item::Held {
            reason: plate_reason(checked.why),
            read: None,
            seen,
        },
        (Verdict::Reject | Verdict::OkNosync, ..) => rejected(crossing.plate_field, plate_reason(checked.why), seen),
        // A list of plates: nobody can say which one crossed.
        (Verdict::Ok | Verdict::Repaired | Verdict::Review, None, ..) => Item::Held {
            reason: plate_reason(checked.why),
            read: None,
            seen,
        },
        (_, Some(_), None, _) => {
            let sentence = "neither the message nor the configuration says in or out; set the gate's direction";
            rejected(crossing.state_field, Reason::new(words::NO_DIRECTION, sentence), seen)
        }
        (_, Some(_), _, Err(reason)) => rejected(crossing.time_field, reason, seen),
        (verdict, Some(plate), Some(state), Ok((at, time_source))) => {
            let read = Read {
                plate,
                state,
                at,
                time_source,
                record_id: crossing.record_id,
                device: crossing.device,
                replayed: crossing.replayed,
            };
            if overridden {
                notes.push(Note {
                    item: 0,
                    field: crossing.state_field,
                    word: words::DIRECTION_OVERRIDDEN,
                    sentence: "the message says the other direction; the gate's configured one was taken",
                });
            }
            if verdict.may_be_sent() {
                Item::Event(read)
            } else {
                Item::Held {
                    reason: plate_reason(checked.why),
                    read: Some(read),
                    seen,
                }
            }
        }
    };
    (item, notes)
}

/// The time of a crossing and who says so.
fn settle_time(
    crossing: &Crossing<'_>,
    source: &Source,
    received_at: Timestamp,
    notes: &mut Vec<Note>,
) -> Result<(Timestamp, TimeSource), Reason> {
    let unreadable = || {
        Reason::new(
            words::TIME_UNREADABLE,
            "the time is none that this format has; check how the sender writes it",
        )
    };
    // Cameras mean well and lose their clocks; a record that is hours old has no use for the time of receipt.
    let lenient = !crossing.strict_time && !crossing.replayed;
    let mut note = |word, sentence| {
        notes.push(Note {
            item: 0,
            field: crossing.time_field,
            word,
            sentence,
        });
    };
    let lost = "the sender's time is unreadable or impossible; the time of receipt was taken";
    let at = match crossing.time {
        Told::At(at) => at,
        Told::Local(local) => {
            let Some(zone) = &source.zone else {
                let sentence = "the time has no zone and none is configured; set the gate's zone, for example +08:00";
                return Err(Reason::new(words::TIME_WITHOUT_ZONE, sentence));
            };
            times::in_zone(local, zone).ok_or_else(unreadable)?
        }
        Told::Missing if crossing.replayed => {
            return Err(Reason::new(
                words::TIME_MISSING,
                "a record replayed after an outage must say its time",
            ));
        }
        Told::Missing => return Ok((received_at, TimeSource::Receipt)),
        Told::Unreadable if lenient => {
            note(words::RECEIPT_TIME, lost);
            return Ok((received_at, TimeSource::Receipt));
        }
        Told::Unreadable => return Err(unreadable()),
    };
    if times::is_plausible(at) {
        if at.duration_since(received_at) > AHEAD_TOLERANCE {
            let sentence = "the time is in the future; the time of receipt is taken when it is stored";
            note(words::TIME_AHEAD, sentence);
        }
        return Ok((at, TimeSource::Sender));
    }
    if lenient {
        note(words::RECEIPT_TIME, lost);
        return Ok((received_at, TimeSource::Receipt));
    }
    let sentence = "the time is before 2010 or after 2099; check the sender's clock and the unit";
    Err(Reason::new(words::TIME_IMPLAUSIBLE, sentence))
}

/// What each word of `plate::why` means to the person who runs the gate.
fn plate_reason(word: &'static str) -> Reason {
    let sentence = match word {
        why::NO_PLATE => "the camera read no plate",
        why::LOOSE => "province, letter and six more, but no new-energy number",
        why::CATEGORY_WORD => "a category word where no official series has it",
        why::AUTHORITY_O => "authority letter O: an old government plate or a misread one",
        why::LIST => "several plates in one reading",
        why::NOT_FOR_WECHAT => "a genuine plate that does not begin with a province; WeChat Pay cannot carry it",
        why::MASKED => "the sender hides part of the plate; turn masking off",
        why::PLACEHOLDER => "a number that is never issued, used to fill the field",
        why::NOT_MAINLAND => {
            "letters and digits without a province: another country or region, or the first character was lost"
        }
        why::TOO_LONG => "too long to be a plate",
        _ => "not the shape of a plate",
    };
    Reason::new(word, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::{TimeZone, offset};

    const RECEIVED: i64 = 1_720_078_200;

    fn crossing(plate: &str) -> Crossing<'_> {
        Crossing {
            plate,
            plate_field: "plate",
            state: None,
            state_field: "direction",
            time: Told::from_unix(RECEIVED - 5),
            time_field: "time",
            strict_time: false,
            record_id: None,
            device: None,
            replayed: false,
        }
    }

    fn judged(crossing: Crossing<'_>, direction: Option<Direction>, zone: Option<i8>) -> (Item, Vec<&'static str>) {
        let source = Source {
            direction,
            zone: zone.map(|hours| TimeZone::fixed(offset(hours))),
        };
        let (item, notes) = judge(crossing, &source, Timestamp::from_second(RECEIVED).unwrap(), Vec::new());
        (item, notes.iter().map(|note| note.word).collect())
    }

    fn rejection(item: &Item) -> Option<(&str, &'static str)> {
        match item {
            Item::Rejected { field, reason, .. } => Some((field, reason.word)),
            Item::Event(_) | Item::Amend { .. } | Item::Ignored { .. } | Item::NoPlate { .. } | Item::Held { .. } => {
                None
            }
        }
    }

    #[test]
    fn the_configured_direction_wins_and_says_so() {
        let told = Crossing {
            state: Some(Direction::In),
            ..crossing("粤B12345")
        };

        let (item, notes) = judged(told, Some(Direction::Out), None);

        assert!(
            matches!(
                item,
                Item::Event(Read {
                    state: Direction::Out,
                    ..
                })
            ),
            "{item:?}"
        );
        assert_eq!(notes, [words::DIRECTION_OVERRIDDEN]);
    }

    #[test]
    fn without_any_direction_the_direction_is_named() {
        let (item, _) = judged(crossing("粤B12345"), None, None);

        assert_eq!(rejection(&item), Some(("direction", words::NO_DIRECTION)));
    }

    #[test]
    fn a_local_time_needs_a_zone() {
        let local = || Crossing {
            time: Told::from_text("2024-07-04T15:30:00"),
            ..crossing("粤B12345")
        };

        let (without, _) = judged(local(), Some(Direction::In), None);
        let (with, _) = judged(local(), Some(Direction::In), Some(8));

        assert_eq!(rejection(&without), Some(("time", words::TIME_WITHOUT_ZONE)));
        let expected = "2024-07-04T07:30:00Z".parse().unwrap();
        assert!(matches!(&with, Item::Event(read) if read.at == expected), "{with:?}");
    }

    #[test]
    fn an_impossible_clock_costs_a_live_camera_nothing_and_a_replay_its_record() {
        let lost = || Crossing {
            time: Told::from_unix(12),
            ..crossing("粤B12345")
        };

        let (live, notes) = judged(lost(), Some(Direction::In), None);
        let (replayed, _) = judged(
            Crossing {
                replayed: true,
                ..lost()
            },
            Some(Direction::In),
            None,
        );
        let (strict, _) = judged(
            Crossing {
                strict_time: true,
                ..lost()
            },
            Some(Direction::In),
            None,
        );

        assert!(
            matches!(
                live,
                Item::Event(Read {
                    time_source: TimeSource::Receipt,
                    ..
                })
            ),
            "{live:?}"
        );
        assert_eq!(notes, [words::RECEIPT_TIME]);
        assert_eq!(rejection(&replayed), Some(("time", words::TIME_IMPLAUSIBLE)));
        assert_eq!(rejection(&strict), Some(("time", words::TIME_IMPLAUSIBLE)));
    }

    #[test]
    fn a_missing_time_is_the_time_of_receipt_unless_replayed() {
        let missing = || Crossing {
            time: Told::Missing,
            ..crossing("粤B12345")
        };

        let (live, _) = judged(missing(), Some(Direction::In), None);
        let (replayed, _) = judged(
            Crossing {
                replayed: true,
                ..missing()
            },
            Some(Direction::In),
            None,
        );

        assert!(
            matches!(
                live,
                Item::Event(Read {
                    time_source: TimeSource::Receipt,
                    ..
                })
            ),
            "{live:?}"
        );
        assert_eq!(rejection(&replayed), Some(("time", words::TIME_MISSING)));
    }

    #[test]
    fn plates_go_where_the_policy_sends_them() {
        let fate = |plate: &str| judged(crossing(plate), Some(Direction::In), None).0;

        assert!(matches!(fate("粤BO1234"), Item::Event(read) if read.plate.expose() == "粤B01234"));
        assert!(matches!(fate("粤B888888"), Item::Held { read: Some(read), .. } if read.plate.expose() == "粤B888888"));
        assert!(matches!(fate("粤B12345,粤B54321"), Item::Held { read: None, .. }));
        assert!(
            matches!(fate("PECT600"), Item::Held { read: None, reason, seen } if reason.word == why::NOT_MAINLAND
            && seen.plate.as_ref().is_some_and(|plate| plate.expose() == "PECT600") && seen.at.is_some())
        );
        assert_eq!(rejection(&fate("WJ京12345")), Some(("plate", why::NOT_FOR_WECHAT)));
        assert_eq!(rejection(&fate("粤B***45")), Some(("plate", why::MASKED)));
        assert_eq!(
            rejection(&fate("\u{fffd}\u{fffd}B12345")),
            Some(("plate", words::NOT_UTF8))
        );
        assert!(matches!(fate("_无_"), Item::NoPlate { .. }));
    }
}

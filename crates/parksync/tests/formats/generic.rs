//! Our own JSON.

use std::borrow::Cow;

use jiff::tz::{TimeZone, offset};
use parksync::domain::gate::{Direction, Read};
use parksync::domain::plate::why;
use parksync::ingest::generic::{self, MOST_EVENTS};
use parksync::ingest::{self, Format, Item, Parsed, Reason, Reply, Source, words};

use crate::*;

/// Parses for a gate about which nothing is configured.
fn batch(body: &str) -> Parsed {
    let parsed = ingest::parse(
        Format::Generic,
        &message(Some("application/json"), body.as_bytes()),
        &Source::default(),
    );
    parsed.unwrap_or_else(|malformed| panic!("{malformed}: {body}"))
}

#[test]
fn an_event_comes_alone_in_an_array_or_in_an_object() {
    let one = r#"{"plate":"粤B12345","state":"IN","time":"2024-07-04T15:30:00+08:00","id":"r-1","replayed":true}"#;

    for body in [
        one.to_owned(),
        format!("[{one}]"),
        format!("{{\"events\":[{one}]}}"),
        format!("\u{feff}{one}"),
    ] {
        let parsed = batch(&body);
        assert_eq!(parsed.reply, Reply::PerItem);
        let read = event(parsed);
        assert_eq!((read.plate.expose(), read.state), ("粤B12345", Direction::In));
        assert_eq!(read.at, at("2024-07-04T15:30:00+08:00"));
        assert_eq!((read.record_id.as_deref(), read.replayed), (Some("r-1"), true));
    }
}

#[test]
fn a_bad_event_is_named_and_costs_no_other() {
    let good = r#"{"plate":"粤B12345","state":"IN"}"#;
    for (bad, field, word) in [
        (
            r#"{"plate":"粤B12345","state":"IN","tiem":"2024-07-04T15:30:00+08:00"}"#,
            "tiem",
            words::UNKNOWN_FIELD,
        ),
        (
            r#"{"plate":"粤B12345","state":"IN","粤B12345":1}"#,
            "(a member with an odd name)",
            words::UNKNOWN_FIELD,
        ),
        (r#"{"state":"IN"}"#, "plate", words::MISSING),
        (r#"{"plate":null,"state":"IN"}"#, "plate", words::MISSING),
        (r#"{"plate":12345,"state":"IN"}"#, "plate", words::WRONG_KIND),
        (r#"{"plate":"京A@1234","state":"IN"}"#, "plate", why::NO_SHAPE),
        (r#"{"plate":"粤B12345"}"#, "state", words::NO_DIRECTION),
        (r#"{"plate":"粤B12345","state":"INSIDE"}"#, "state", words::WRONG_KIND),
        (r#"{"plate":"粤B12345","state":1}"#, "state", words::WRONG_KIND),
        (
            r#"{"plate":"粤B12345","state":"IN","time":"2024-07-04T15:30:00"}"#,
            "time",
            words::TIME_WITHOUT_ZONE,
        ),
        (
            r#"{"plate":"粤B12345","state":"IN","time":"soon"}"#,
            "time",
            words::TIME_UNREADABLE,
        ),
        (
            r#"{"plate":"粤B12345","state":"IN","time":1720078200}"#,
            "time",
            words::WRONG_KIND,
        ),
        (
            r#"{"plate":"粤B12345","state":"IN","time":"1999-07-04T15:30:00+08:00"}"#,
            "time",
            words::TIME_IMPLAUSIBLE,
        ),
        (
            r#"{"plate":"粤B12345","state":"IN","replayed":true}"#,
            "time",
            words::TIME_MISSING,
        ),
        (
            r#"{"plate":"粤B12345","state":"IN","replayed":"yes"}"#,
            "replayed",
            words::WRONG_KIND,
        ),
        (r#"{"plate":"粤B12345","state":"IN","id":7}"#, "id", words::WRONG_KIND),
        (
            r#"{"plate":"粤B12345","state":"IN","lot":["a"]}"#,
            "lot",
            words::WRONG_KIND,
        ),
        (r#""粤B12345""#, "event", words::WRONG_KIND),
        (
            r#"{"plate":"粤B12345","state":"IN","plate":"粤B12346"}"#,
            "plate",
            words::DUPLICATE_FIELD,
        ),
        (
            r#"{"plate":"粤B12345","state":"IN","state":"IN"}"#,
            "state",
            words::DUPLICATE_FIELD,
        ),
        (
            r#"{"plate":"粤B12345","state":"IN","class":7}"#,
            "class",
            words::WRONG_KIND,
        ),
        (
            r#"{"cancels":"r-1","corrects":"r-2"}"#,
            "corrects",
            words::WRONG_COMBINATION,
        ),
        (
            r#"{"cancels":"r-1","in_time":"2024-07-04T15:30:00+08:00"}"#,
            "in_time",
            words::WRONG_COMBINATION,
        ),
        (
            r#"{"plate":"粤B12345","corrects":"r-1","out_time":"2024-07-04T15:30:00+08:00"}"#,
            "out_time",
            words::WRONG_COMBINATION,
        ),
        (r#"{"cancels":" "}"#, "cancels", words::MISSING),
        (
            r#"{"plate":"粤B12345","state":"IN","corrects":""}"#,
            "corrects",
            words::MISSING,
        ),
        (r#"{"cancels":7}"#, "cancels", words::WRONG_KIND),
        (r#"{"corrects":"r-1"}"#, "plate", words::MISSING),
        (r#"{"corrects":"r-1","plate":"_无_"}"#, "plate", why::NO_PLATE),
        (
            r#"{"corrects":"r-1","plate":"WJ京12345"}"#,
            "plate",
            why::NOT_FOR_WECHAT,
        ),
        (r#"{"corrects":"r-1","plate":"粤B***45"}"#, "plate", why::MASKED),
        (
            r#"{"plate":"粤B12345","state":"IN","in_time":"2024-07-04T15:30:00+08:00"}"#,
            "state",
            words::WRONG_COMBINATION,
        ),
        (
            r#"{"plate":"粤B12345","time":"2024-07-04T15:30:00+08:00","out_time":"2024-07-04T15:30:00+08:00"}"#,
            "time",
            words::WRONG_COMBINATION,
        ),
        (
            r#"{"plate":"粤B12345","in_time":"soon"}"#,
            "in_time",
            words::TIME_UNREADABLE,
        ),
        (r#"{"plate":"粤B12345","in_time":null}"#, "in_time", words::MISSING),
        (
            r#"{"plate":"粤B12345","in_time":"","out_time":null}"#,
            "in_time",
            words::MISSING,
        ),
        (r#"{"in_time":"2024-07-04T15:30:00+08:00"}"#, "plate", words::MISSING),
    ] {
        let parsed = batch(&format!("[{good},{bad},{good}]"));

        let [
            Item::Event(_),
            Item::Rejected {
                field: found, reason, ..
            },
            Item::Event(_),
        ] = &parsed.items[..]
        else {
            panic!("{bad}: {parsed:?}")
        };
        assert_eq!((found.as_ref(), reason.word), (field, word), "{bad}");
        assert!(!reason.sentence.contains("12345"), "{reason}");
    }
}

#[test]
fn what_is_no_batch_is_refused_as_a_whole() {
    let many = format!(
        "[{}]",
        vec![r#"{"plate":"粤B12345","state":"IN"}"#; MOST_EVENTS + 1].join(",")
    );
    for (body, field, word) in [
        ("", "body", words::SYNTAX),
        ("[{]", "body", words::SYNTAX),
        ("[{\"plate\":", "body", words::SYNTAX),
        ("7", "body", words::OTHER_FORMAT),
        ("{}", "plate", words::OTHER_FORMAT),
        (r#"{"events":{}}"#, "events", words::WRONG_KIND),
        (r#"{"events":[],"lot":"a"}"#, "lot", words::UNKNOWN_FIELD),
        (r#"{"events":[],"events":[]}"#, "events", words::DUPLICATE_FIELD),
        (&"[".repeat(10_000), "body", words::TOO_MUCH),
        (many.as_str(), "events", words::TOO_MUCH),
    ] {
        let malformed = parse(Format::Generic, body.as_bytes()).unwrap_err();
        assert_eq!(
            (malformed.field.as_ref(), malformed.reason.word),
            (field, word),
            "{malformed}"
        );
    }
    assert_eq!(
        batch(&many.replacen(r#"{"plate":"粤B12345","state":"IN"},"#, "", 1))
            .items
            .len(),
        MOST_EVENTS
    );
    assert!(batch("[]").items.is_empty());
    let form = message(Some("application/x-www-form-urlencoded"), b"{}");
    assert_eq!(
        ingest::parse(Format::Generic, &form, &entry_gate()).unwrap_err().field,
        "content-type"
    );
}

#[test]
fn a_batch_may_speak_for_several_gates() {
    let exit = Source {
        direction: Some(Direction::Out),
        zone: Some(TimeZone::fixed(offset(8))),
    };
    let body = r#"[
        {"plate":"粤B12345","lot":"mall","gate":"exit-1","time":"2024-07-04 15:30:00"},
        {"plate":"粤B12345","lot":"mall","gate":"nowhere","state":"IN"},
        {"plate":"粤B12345","state":"IN"}
    ]"#;

    let entries = generic::parse_batch(&message(None, body.as_bytes()), |lot, gate| match (lot, gate) {
        (Some("mall"), Some("exit-1")) => Ok(Cow::Borrowed(&exit)),
        (None, None) => Ok(Cow::Owned(Source::default())),
        _ => Err((
            "gate",
            Reason {
                word: "unknown-gate",
                sentence: "no such gate".into(),
            },
        )),
    })
    .unwrap();

    assert_eq!(
        (entries[0].lot.as_deref(), entries[0].gate.as_deref()),
        (Some("mall"), Some("exit-1"))
    );
    assert!(
        matches!(
            &entries[0].items[0],
            Item::Event(Read {
                state: Direction::Out,
                ..
            })
        ),
        "{entries:?}"
    );
    assert!(
        matches!(&entries[1].items[0], Item::Rejected { field, reason, .. } if field == "gate" && reason.word == "unknown-gate")
    );
    assert!(matches!(&entries[2].items[0], Item::Event(_)), "{entries:?}");
}

#[test]
fn names_of_formats_are_those_of_the_documentation() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
        assert_eq!(serde_json::to_value(format).unwrap(), format.as_str());
    }
    assert!(
        "dahua"
            .parse::<Format>()
            .unwrap_err()
            .to_string()
            .contains("vzenith-http")
    );
}

#[test]
fn json_that_is_too_deep_is_told_so() {
    let malformed = parse(Format::Generic, "[".repeat(1000).as_bytes()).unwrap_err();

    assert!(malformed.reason.sentence.contains("too deep"), "{malformed}");
}

#[test]
fn a_visit_record_gives_an_entry_and_an_exit() {
    let entered = r#""in_time":"2024-07-04T15:30:00+08:00""#;
    let left = r#""out_time":"2024-07-04T17:00:00+08:00""#;
    let reads = |more: &str| -> Vec<Read> {
        let parsed = batch(&format!(r#"{{"plate":"粤B12345","id":"v-1",{more}}}"#));
        let events = parsed.items.into_iter().map(|item| match item {
            Item::Event(read) => read,
            other => panic!("{more}: {other:?}"),
        });
        events.collect()
    };

    let both = reads(&format!("{entered},{left}"));
    assert_eq!(
        both.iter().map(|read| (read.state, read.at)).collect::<Vec<_>>(),
        [
            (Direction::In, at("2024-07-04T15:30:00+08:00")),
            (Direction::Out, at("2024-07-04T17:00:00+08:00"))
        ]
    );
    // The record grows: what it said before, it says again in the same words.
    for inside in [
        entered.to_owned(),
        format!("{entered},\"out_time\":null"),
        format!("{entered},\"out_time\":\"\""),
    ] {
        assert_eq!(reads(&inside), both[..1], "{inside}");
    }
    assert_eq!(reads(left), both[1..]);
    assert!(both.iter().all(|read| read.record_id.as_deref() == Some("v-1")));
    // A template with every member is still one crossing.
    assert_eq!(reads(r#""state":"IN","in_time":null,"out_time":null"#).len(), 1);
}

#[test]
fn a_visit_record_says_its_directions_itself() {
    let body = r#"{"plate":"粤B12345","in_time":"2024-07-04 15:30:00","out_time":"soon"}"#;

    let parsed = parse(Format::Generic, body.as_bytes()).unwrap();
    let exit = Source {
        direction: Some(Direction::Out),
        ..entry_gate()
    };
    let at_exit = ingest::parse(Format::Generic, &message(None, body.as_bytes()), &exit).unwrap();

    assert_eq!(parsed, at_exit);
    assert!(
        matches!(&parsed.items[..], [Item::Event(read), Item::Rejected { field, .. }]
            if read.state == Direction::In && read.at == at("2024-07-04T15:30:00+08:00") && field == "out_time"),
        "{parsed:?}"
    );
}

#[test]
fn an_earlier_record_is_cancelled_or_corrected() {
    let amend = |body: &str| match only(batch(body)) {
        Item::Amend { record_id, plate } => (record_id, plate.map(|plate| plate.expose().to_owned())),
        other => panic!("{body}: {other:?}"),
    };

    for body in [
        r#"{"cancels":"r-1"}"#,
        r#"{"cancels":"r-1","corrects":null,"plate":"粤B12345","state":"IN","id":"r-2"}"#,
    ] {
        assert_eq!(amend(body), ("r-1".to_owned(), None), "{body}");
    }
    for (plate, right) in [
        ("粤b·12345", "粤B12345"),
        ("粤BO1234", "粤B01234"),
        ("粤B888888", "粤B888888"),
    ] {
        let body = format!(r#"{{"corrects":"r-1","plate":"{plate}"}}"#);
        assert_eq!(amend(&body), ("r-1".to_owned(), Some(right.to_owned())), "{body}");
    }
}

#[test]
fn the_class_of_a_car_is_kept_beside_what_it_did() {
    let entries = |body: &str| {
        let here = |_: Option<&str>, _: Option<&str>| -> generic::Resolved<'_> { Ok(Cow::Owned(Source::default())) };
        generic::parse_batch(&message(None, body.as_bytes()), here).unwrap()
    };

    let found = entries(
        r#"[{"plate":"粤B12345","state":"IN","class":"staff"},{"plate":"粤B12345","state":"IN","class":" "},
            {"plate":"粤B12345","in_time":"2026-05-01T21:00:00+08:00","out_time":"2026-05-01T22:00:00+08:00","class":"月卡"}]"#,
    );

    let classes: Vec<_> = found.iter().map(|entry| entry.class.as_deref()).collect();
    assert_eq!(classes, [Some("staff"), None, Some("月卡")]);
    // Notes say which item of their entry they are about.
    let notes: Vec<_> = found[2].notes.iter().map(|note| (note.item, note.field)).collect();
    assert_eq!(notes, [(0, "in_time"), (1, "out_time")]);
    let long = format!(r#"{{"plate":"粤B12345","state":"IN","class":"{}"}}"#, "x".repeat(65));
    assert_eq!(rejection(batch(&long)), ("class".to_owned(), words::TOO_MUCH));
}

#[test]
fn notes_of_a_batch_say_which_item_they_are_about() {
    let parsed = batch(
        r#"[{"plate":"粤B12345","in_time":"2026-05-01T19:00:00+08:00","out_time":"2026-05-01T20:05:01+08:00"},
            {"plate":"粤B12345","state":"IN","time":"2026-05-01T20:05:00+08:00"},
            {"plate":"粤B12345","state":"IN","time":"2026-05-01T21:00:00+08:00"}]"#,
    );

    let notes: Vec<_> = parsed
        .notes
        .iter()
        .map(|note| (note.item, note.word, note.field))
        .collect();
    assert_eq!(
        notes,
        [(1, words::TIME_AHEAD, "out_time"), (3, words::TIME_AHEAD, "time")]
    );
    assert!(
        parsed.items.iter().all(|item| matches!(item, Item::Event(_))),
        "{parsed:?}"
    );
}

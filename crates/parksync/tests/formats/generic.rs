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
            &entries[0].item,
            Item::Event(Read {
                state: Direction::Out,
                ..
            })
        ),
        "{entries:?}"
    );
    assert!(
        matches!(&entries[1].item, Item::Rejected { field, reason, .. } if field == "gate" && reason.word == "unknown-gate")
    );
    assert!(matches!(&entries[2].item, Item::Event(_)), "{entries:?}");
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

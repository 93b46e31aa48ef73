//! Every message in `examples/gate-messages` against its expected outcome.

use std::collections::BTreeMap;

use parksync::domain::gate::{Direction, TimeSource};
use parksync::domain::plate::why;
use parksync::ingest::{self, Format, Item, Source, words};

use crate::*;

#[test]
fn the_macau_plate_of_a_live_vzenith_read() {
    let parsed = parse(Format::VzenithHttp, &sample("vzenith-http-online-macau-plate.json")).unwrap();

    assert_eq!(
        body_of(&parsed.reply),
        r#"{"Response_AlarmInfoPlate":{"content":"retransfer_stop","info":"no","plateid":21085}}"#
    );
    assert_eq!(notes(&parsed), [""; 0]);
    let read = event(parsed);
    assert_eq!(read.plate.expose(), "粤Z9065澳");
    assert_eq!(
        (read.state, read.at, read.time_source),
        (Direction::In, at("2023-06-09T16:39:54+08:00"), TimeSource::Sender)
    );
    assert_eq!(read.record_id.as_deref(), Some("fe71e106-57263272/21085/1686299994"));
    assert_eq!(read.device.as_deref(), Some("fe71e106-57263272"));
    assert!(!read.replayed);
}

#[test]
fn the_second_before_midnight_stays_in_its_month() {
    let parsed = parse(Format::VzenithHttp, &sample("vzenith-oss-http-shandong-midnight.json")).unwrap();

    assert_eq!(notes(&parsed), [""; 0]);
    let read = event(parsed);
    assert_eq!(
        (read.plate.expose(), read.at),
        ("鲁VF0050", at("2022-02-28T23:59:59+08:00"))
    );
}

#[test]
fn of_three_territories_the_mainland_plate_counts() {
    let read = event(parse(Format::VzenithHttp, &sample("vzenith-oss-three-territory-plate.json")).unwrap());

    assert_eq!(
        (read.plate.expose(), read.at),
        ("粤ZJ068澳", at("2022-02-28T23:59:59+08:00"))
    );
}

#[test]
fn an_unread_plate_is_counted_and_its_clocks_are_suspect() {
    let parsed = parse(
        Format::VzenithHttp,
        &sample("vzenith-http-unread-plate-clock-conflict.json"),
    )
    .unwrap();

    assert_eq!(notes(&parsed), [words::CLOCK_CONFLICT]);
    assert!(
        matches!(&parsed.items[..], [Item::NoPlate { seen, .. }] if seen.at == Some(at("2015-09-10T00:12:51+08:00")))
    );
}

#[test]
fn a_loop_trigger_is_acknowledged_and_dropped() {
    let parsed = parse(Format::VzenithHttp, &sample("vzenith-http-gpio-not-a-plate.json")).unwrap();

    assert!(body_of(&parsed.reply).starts_with(r#"{"Response_AlarmGioIn""#));
    assert_eq!(ignored(parsed), words::OTHER_EVENT);
}

#[test]
fn a_foreign_plate_is_held_and_never_sent() {
    let alphadigi = only(parse(Format::VzenithHttp, &sample("alphadigi-http-alarminfoplate.json")).unwrap());
    let hikvision = only(parse(Format::HikvisionIsapi, &sample("hikvision-isapi-anpr-v58.xml")).unwrap());

    for (item, plate, time) in [
        (alphadigi, "OTM2022", "2022-12-14T08:09:10+08:00"),
        (hikvision, "PECT600", "2024-01-19T11:17:19+08:00"),
    ] {
        let Item::Held {
            reason,
            read: None,
            seen,
        } = item
        else {
            panic!("{item:?}")
        };
        assert_eq!(reason.word, why::NOT_MAINLAND);
        assert_eq!(seen.plate.as_ref().map(|plate| plate.expose()), Some(plate));
        assert_eq!((seen.state, seen.at), (Some(Direction::In), Some(at(time))));
    }
}

#[test]
fn a_barrier_camera_keeps_its_milliseconds_and_zone() {
    let template = String::from_utf8(sample("hikvision-isapi-anpr-ds-tcg405.xml")).unwrap();

    let read = event(parse(Format::HikvisionIsapi, template.replace("%s", "粤B12345").as_bytes()).unwrap());

    assert_eq!(
        (read.plate.expose(), read.at),
        ("粤B12345", at("2024-05-07T18:48:03.847+08:00"))
    );
    assert_eq!(
        read.record_id.as_deref(),
        Some("44:a6:42:f3:2a:d7/a0fe72d4-3652-464a-aebd-3f9190010236")
    );
    assert_eq!(
        rejection(parse(Format::HikvisionIsapi, template.as_bytes()).unwrap()),
        ("ANPR/licensePlate".to_owned(), why::NO_SHAPE)
    );
}

#[test]
fn an_alert_without_a_time_gets_the_time_of_receipt() {
    let prefixed = String::from_utf8(sample("hikvision-isapi-anpr-prefixed-namespace.xml")).unwrap();

    let Item::Held { seen, .. } = only(parse(Format::HikvisionIsapi, prefixed.as_bytes()).unwrap()) else {
        panic!()
    };
    assert_eq!(seen.plate.unwrap().expose(), "WA99999");
    assert_eq!(
        (seen.at, seen.time_source),
        (Some(at(RECEIVED)), Some(TimeSource::Receipt))
    );

    let read = event(
        parse(
            Format::HikvisionIsapi,
            prefixed.replace("WA99999", "粤B12345").as_bytes(),
        )
        .unwrap(),
    );
    assert_eq!((read.at, read.time_source), (at(RECEIVED), TimeSource::Receipt));
}

#[test]
fn an_unknown_plate_and_a_motion_alert_are_no_events() {
    let unknown = only(
        parse(
            Format::HikvisionIsapi,
            &sample("hikvision-isapi-anpr-unknown-plate.xml"),
        )
        .unwrap(),
    );
    let motion = parse(Format::HikvisionIsapi, &sample("hikvision-isapi-motion-not-anpr.xml")).unwrap();

    assert!(matches!(unknown, Item::NoPlate { .. }), "{unknown:?}");
    assert!(body_of(&motion.reply).contains("<statusCode>1</statusCode>"));
    assert_eq!(ignored(motion), words::OTHER_EVENT);
}

#[test]
fn a_huaxia_form_says_its_direction() {
    let source = Source {
        direction: None,
        ..entry_gate()
    };
    let body = sample("huaxia-httppost-mode5-form.txt");

    let parsed = ingest::parse(Format::HuaxiaMode5, &message(None, &body), &source).unwrap();

    assert_eq!(body_of(&parsed.reply), r#"{"error_num":0,"error_str":"noerror"}"#);
    let read = event(parsed);
    assert_eq!(
        (read.plate.expose(), read.state, read.at),
        ("粤B12345", Direction::In, at("2023-06-09T16:39:54+08:00"))
    );
    assert_eq!(
        (read.device.as_deref(), read.record_id.as_deref()),
        (Some("cam-01"), None)
    );
}

/// Messages of the formats built here. All others in the folder are refused by every format.
const OWN: [(&str, Format); 12] = [
    ("alphadigi-http-alarminfoplate.json", Format::VzenithHttp),
    ("hikvision-isapi-anpr-ds-tcg405.xml", Format::HikvisionIsapi),
    ("hikvision-isapi-anpr-prefixed-namespace.xml", Format::HikvisionIsapi),
    ("hikvision-isapi-anpr-unknown-plate.xml", Format::HikvisionIsapi),
    ("hikvision-isapi-anpr-v58.xml", Format::HikvisionIsapi),
    ("hikvision-isapi-motion-not-anpr.xml", Format::HikvisionIsapi),
    ("huaxia-httppost-mode5-form.txt", Format::HuaxiaMode5),
    ("vzenith-http-gpio-not-a-plate.json", Format::VzenithHttp),
    ("vzenith-http-online-macau-plate.json", Format::VzenithHttp),
    ("vzenith-http-unread-plate-clock-conflict.json", Format::VzenithHttp),
    ("vzenith-oss-http-shandong-midnight.json", Format::VzenithHttp),
    ("vzenith-oss-three-territory-plate.json", Format::VzenithHttp),
];

#[test]
fn a_message_of_another_format_is_refused_with_a_reason() {
    let own = BTreeMap::from(OWN);
    let mut seen = 0;
    for file in std::fs::read_dir(folder()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let body = sample(&name);
        for format in Format::ALL {
            let parsed = parse(format, &body);
            if own.get(name.as_str()) == Some(&format) {
                assert!(parsed.is_ok(), "{name} as {format}: {parsed:?}");
                seen += 1;
            } else {
                let malformed = parsed.expect_err(&name);
                assert!(
                    !malformed.field.is_empty() && malformed.reason.sentence.len() > 10,
                    "{name} as {format}"
                );
            }
        }
    }
    assert_eq!(seen, OWN.len());
}

//! The rules of the camera formats, beyond what the sample messages show.

use parksync::domain::gate::TimeSource;
use parksync::ingest::{Format, words};

use crate::*;

fn vzenith_at(timeval: &str) -> Result<Parsed, Malformed> {
    let body = format!(
        r#"{{"AlarmInfoPlate":{{"result":{{"PlateResult":{{"license":"粤B12345","timeStamp":{{"Timeval":{timeval}}}}}}}}}}}"#
    );
    parse(Format::VzenithHttp, body.as_bytes())
}

#[test]
fn an_offline_record_is_marked_and_asks_for_the_next_one() {
    let parsed = parse(
        Format::VzenithHttp,
        vzenith("粤B12345", r#","plateid":123,"isoffline":1"#).as_bytes(),
    )
    .unwrap();

    let sample: serde_json::Value = serde_json::from_slice(&sample("vzenith-http-ack-offline-response.json")).unwrap();
    let reply: serde_json::Value = serde_json::from_str(body_of(&parsed.reply)).unwrap();
    assert_eq!(reply, sample);
    assert!(event(parsed).replayed);
}

#[test]
fn no_answer_to_a_camera_ever_opens_the_barrier() {
    let bodies = [
        vzenith("粤B12345", ""),
        vzenith("粤B12345", r#","plateid":"ok""#),
        vzenith("粤B12345", r#","isoffline":1"#),
        vzenith("_无_", r#","plateid":1"#),
        r#"{"heartbeat":{"countid":1}}"#.to_owned(),
        r#"{"AlarmInfoPlate":{"heartbeat":1}}"#.to_owned(),
        r#"{"AlarmGioIn":{}}"#.to_owned(),
        r#"{"SerialData":{"data":"Y2guY29tFw=="}}"#.to_owned(),
        r#"{"TriggerImage":{"imageFile":""}}"#.to_owned(),
    ];
    for body in bodies {
        let reply = parse(Format::VzenithHttp, body.as_bytes()).unwrap().reply;
        let reply: serde_json::Value = serde_json::from_str(body_of(&reply)).unwrap();
        let (_, answer) = reply.as_object().unwrap().iter().next().unwrap();
        assert!(
            answer["info"] == "no" || answer.get("ContinuePushOffline").is_some(),
            "{reply}"
        );
    }
    assert!(!body_of(&parse(Format::HuaxiaMode5, b"type=heartbeat").unwrap().reply).contains("gpio_data"));
}

#[test]
fn signs_of_life_are_acknowledged_and_dropped() {
    let login = "--caa771fe\r\nContent-Disposition: form-data; name=\"device_name\"\r\n\r\nIVS\r\n--caa771fe\r\n\
        Content-Disposition: form-data; name=\"pass_wd\"\r\n\r\nadmin\r\n--caa771fe\r\n\
        Content-Disposition: form-data; name=\"serialno\"\r\n\r\nd85b1269-8f942256\r\n--caa771fe--\r\n";
    for (format, body) in [
        (Format::VzenithHttp, r#"{"heartbeat":{"countid":1}}"#),
        (Format::VzenithHttp, r#"{"AlarmInfoPlate":{"heartbeat":1}}"#),
        (Format::VzenithHttp, login),
        (
            Format::VzenithHttp,
            "device_name=IVS&ipaddr=192.168.1.2&user_name=admin&pass_wd=admin&serialno=d85b1269",
        ),
        (Format::HuaxiaMode5, "type=heartbeat&cam_ip=192.168.1.100"),
    ] {
        let parsed = parse(format, body.as_bytes()).unwrap();

        assert!(!format!("{parsed:?}").contains("admin"));
        assert_eq!(ignored(parsed), words::HEARTBEAT, "{body}");
    }
}

#[test]
fn a_car_that_stands_in_the_lane_or_turns_back_did_not_pass() {
    for trigger in [64, 65, 66] {
        let body = vzenith("粤B12345", &format!(r#","triggerType":{trigger}"#));
        assert_eq!(
            ignored(parse(Format::VzenithHttp, body.as_bytes()).unwrap()),
            words::NOT_A_PASSAGE
        );
    }
    for trigger in [1, 2, 4, 8] {
        let body = vzenith("粤B12345", &format!(r#","triggerType":{trigger}"#));
        event(parse(Format::VzenithHttp, body.as_bytes()).unwrap());
    }
}

#[test]
fn a_resend_has_the_same_record_id_and_a_restarted_counter_another() {
    let id = |more: &str| event(parse(Format::VzenithHttp, vzenith("粤B12345", more).as_bytes()).unwrap()).record_id;

    assert_eq!(id(r#","plateid":7"#), id(r#","plateid":7,"isoffline":1"#));
    assert_eq!(id(r#","plateid":7"#).as_deref(), Some("s-1/7/1686299994"));
    assert_eq!(id(r#","plateid":"7""#).as_deref(), Some("s-1/7/1686299994"));
    assert_eq!(id(""), None);
}

#[test]
fn the_two_clocks_of_a_camera_are_compared() {
    let wall = r#""decyear":2023,"decmon":6,"decday":9,"dechour":16,"decmin":39,"decsec":54"#;
    let truth = at("2023-06-09T16:39:54+08:00");

    for (timeval, expected, note) in [
        (format!(r#"{{"sec":1686299994,{wall}}}"#), Some(truth), None),
        (format!(r#"{{"sec":"1686299994",{wall}}}"#), Some(truth), None),
        (format!("{{{wall}}}"), Some(truth), None),
        (
            format!(r#"{{"sec":12,{wall}}}"#),
            Some(truth),
            Some(words::CLOCK_CONFLICT),
        ),
        (
            format!(r#"{{"sec":1686296394,{wall}}}"#),
            Some(at("2023-06-09T15:39:54+08:00")),
            Some(words::CLOCK_CONFLICT),
        ),
        (r#"{"sec":12}"#.to_owned(), None, Some(words::RECEIPT_TIME)),
        (r#"{"sec":15232151231}"#.to_owned(), None, Some(words::RECEIPT_TIME)),
        ("{}".to_owned(), None, None),
    ] {
        let parsed = vzenith_at(&timeval).unwrap();
        assert_eq!(notes(&parsed), note.into_iter().collect::<Vec<_>>(), "{timeval}");
        let read = event(parsed);
        let source = if expected.is_some() {
            TimeSource::Sender
        } else {
            TimeSource::Receipt
        };
        assert_eq!(
            (read.at, read.time_source),
            (expected.unwrap_or(at(RECEIVED)), source),
            "{timeval}"
        );
    }
}

#[test]
fn a_time_in_the_future_is_noted_and_taken_in_every_format() {
    // Six minutes after the time of receipt, and exactly five.
    for (ahead, expected) in [(360, &[words::TIME_AHEAD][..]), (300, &[])] {
        let second = at(RECEIVED).as_second() + ahead;
        let time = jiff::Timestamp::from_second(second).unwrap();
        let xml = ANPR.to_owned() + &format!("<dateTime>{time}</dateTime>");
        for (format, body) in [
            (
                Format::VzenithHttp,
                vzenith("粤B12345", "").replace("1686299994", &second.to_string()),
            ),
            (Format::HikvisionIsapi, alert(&xml)),
            (
                Format::HuaxiaMode5,
                format!("type=online&plate_num=粤B12345&start_time={second}"),
            ),
            (
                Format::Generic,
                format!(r#"{{"plate":"粤B12345","state":"IN","time":"{time}"}}"#),
            ),
        ] {
            let parsed = parse(format, body.as_bytes()).unwrap();

            assert_eq!(notes(&parsed), expected, "{format}");
            assert!(
                parsed
                    .notes
                    .iter()
                    .all(|note| note.sentence.contains("future") && note.field.to_lowercase().contains("time")),
                "{parsed:?}"
            );
            assert_eq!(event(parsed).at, time, "{format}");
        }
    }
}

#[test]
fn a_live_read_with_an_unreadable_time_is_taken_at_its_receipt() {
    let stamp = |stamp: &str, more: &str| {
        format!(
            r#"{{"AlarmInfoPlate":{{"result":{{"PlateResult":{{"license":"粤B12345","timeStamp":{stamp}{more}}}}}}}}}"#
        )
    };
    let form = |time: &str, kind: &str| format!("type={kind}&plate_num=粤B12345&start_time={time}");
    for (format, live, replayed) in [
        r#""2023-06-09 16:39:54""#,
        "1686299994",
        "[]",
        "true",
        r#"{"Timeval":1686299994}"#,
        r#"{"Timeval":[1686299994]}"#,
        r#"{"Timeval":{"sec":"yesterday"}}"#,
        r#"{"Timeval":{"sec":[]}}"#,
    ]
    .iter()
    .map(|time| (Format::VzenithHttp, stamp(time, ""), stamp(time, r#","isoffline":1"#)))
    .chain(
        ["2023-06-09", "now", "1e9"]
            .iter()
            .map(|time| (Format::HuaxiaMode5, form(time, "online"), form(time, "offline"))),
    ) {
        let parsed = parse(format, live.as_bytes()).unwrap();
        assert_eq!(notes(&parsed), [words::RECEIPT_TIME], "{live}");
        let read = event(parsed);
        assert_eq!(
            (read.at, read.time_source),
            (at(RECEIVED), TimeSource::Receipt),
            "{live}"
        );

        // Hours later the time of receipt is not the time of the crossing.
        let (field, word) = rejection(parse(format, replayed.as_bytes()).unwrap());
        assert_eq!(word, words::TIME_UNREADABLE, "{replayed}");
        assert!(field.ends_with("sec") || field == "start_time", "{field}");
    }
    for silent in ["null", "{}", r#"{"Timeval":null}"#] {
        let parsed = parse(Format::VzenithHttp, stamp(silent, "").as_bytes()).unwrap();
        assert_eq!(notes(&parsed), [""; 0], "{silent}");
        assert_eq!(event(parsed).time_source, TimeSource::Receipt, "{silent}");
    }
}

#[test]
fn seconds_may_come_as_milliseconds_and_numbers_as_text() {
    let expected = at("2023-06-09T16:39:54+08:00");
    for sec in ["1686299994", r#""1686299994""#, "1686299994000", r#"" 1686299994000 ""#] {
        let parsed = vzenith_at(&format!(r#"{{"sec":{sec}}}"#)).unwrap();
        assert_eq!(notes(&parsed), [""; 0], "{sec}");
        assert_eq!(event(parsed).at, expected, "{sec}");
    }
    for time in ["1686299994", "1686299994000", "+1686299994000+"] {
        let body = format!("type=online&plate_num=粤B12345&start_time={time}");
        assert_eq!(
            event(parse(Format::HuaxiaMode5, body.as_bytes()).unwrap()).at,
            expected,
            "{time}"
        );
    }
}

#[test]
fn an_end_mark_behind_the_json_does_not_matter() {
    for end in ["\0", "\0\0\0\r\n", "\r\n\0"] {
        let body = vzenith("粤B12345", "") + end;
        event(parse(Format::VzenithHttp, body.as_bytes()).unwrap());
    }
    let deep = r#"{"AlarmInfoPlate":{"serialno":"#.to_owned() + &"[".repeat(1000);
    let malformed = parse(Format::VzenithHttp, deep.as_bytes()).unwrap_err();
    assert!(malformed.reason.sentence.contains("too deep"), "{malformed}");
}

#[test]
fn a_device_is_named_without_control_characters() {
    let vzenith = vzenith("粤B12345", r#","plateid":7"#).replace("s-1", r"\u0002 s-1\r\n\u0000");
    let form = "type=online&plate_num=粤B12345&start_time=1686299994&cam_id=%02s-1%0D%0A%00&cam_ip=1.2.3.4";
    let blank = "type=online&plate_num=粤B12345&start_time=1686299994&cam_id=%00&cam_ip=s-1";
    let xml = alert(&format!("<macAddress>\u{2}s-1\u{3}</macAddress>{ANPR}"));
    for (format, body) in [
        (Format::VzenithHttp, vzenith.as_str()),
        (Format::HuaxiaMode5, form),
        (Format::HuaxiaMode5, blank),
        (Format::HikvisionIsapi, &xml),
    ] {
        let read = event(parse(format, body.as_bytes()).unwrap());
        assert_eq!(read.device.as_deref(), Some("s-1"), "{body}");
        assert!(!read.record_id.unwrap_or_default().contains(char::is_control), "{body}");
    }
}

#[test]
fn an_empty_field_does_not_hide_a_filled_plate() {
    for body in [
        "type=online&plate_num=&car_plate=粤B12345&start_time=1686299994",
        "type=online&plate_num=+%00&car_plate=粤B12345&start_time=1686299994",
        "type=online&plate_num=粤B12345&car_plate=粤B54321&start_time=1686299994",
    ] {
        assert_eq!(
            event(parse(Format::HuaxiaMode5, body.as_bytes()).unwrap())
                .plate
                .expose(),
            "粤B12345",
            "{body}"
        );
    }
}

#[test]
fn a_camera_that_speaks_gbk_is_told_so() {
    let mut body = vzenith("X", "").into_bytes();
    let at = body.windows(3).position(|bytes| bytes == b"\"X\"").unwrap();
    body.splice(at + 1..at + 2, *b"\xd4\xc1B12345");
    let form = b"type=online&plate_num=%D4%C1B12345&start_time=1686299994&vdc_type=in";
    let xml = b"<EventNotificationAlert><eventType>ANPR</eventType><ANPR><licensePlate>\xd4\xc1B12345</licensePlate></ANPR></EventNotificationAlert>";

    for (format, body, field) in [
        (
            Format::VzenithHttp,
            &body[..],
            "AlarmInfoPlate.result.PlateResult.license",
        ),
        (Format::HuaxiaMode5, form, "plate_num"),
        (Format::HikvisionIsapi, xml, "ANPR/licensePlate"),
    ] {
        assert_eq!(
            rejection(parse(format, body).unwrap()),
            (field.to_owned(), words::NOT_UTF8),
            "{format}"
        );
    }
    assert_eq!(
        parse(Format::Generic, b"{\"plate\":\"\xd4\xc1B12345\"}")
            .unwrap_err()
            .reason
            .word,
        words::NOT_UTF8
    );
}

#[test]
fn the_mqtt_form_of_a_camera_is_named() {
    let malformed = parse(Format::VzenithHttp, &sample("vzenith-mqtt-ivs_result-base64.json")).unwrap_err();

    assert_eq!(
        (malformed.field.as_ref(), malformed.reason.word),
        ("AlarmInfoPlate", words::OTHER_FORMAT)
    );
    assert!(malformed.to_string().contains("MQTT"), "{malformed}");
}

//! Alerts of Hikvision cameras beyond the samples.

use parksync::domain::gate::TimeSource;
use parksync::domain::plate::why;
use parksync::ingest::{self, Format, Source, words};

use crate::*;

#[test]
fn an_alert_without_a_time_has_the_one_of_its_picture() {
    let inside = |first: &str, more: &str| {
        alert(&format!(
            "{more}<eventType>ANPR</eventType><ANPR><licensePlate>粤B12345</licensePlate><pictureInfoList>\
            <pictureInfo><absTime>{first}</absTime></pictureInfo><pictureInfo><absTime>20200101000000000</absTime>\
            </pictureInfo></pictureInfoList></ANPR>"
        ))
    };
    let no_zone = Source {
        zone: None,
        ..entry_gate()
    };
    let replay = "<isDataRetransmission>true</isDataRetransmission>";
    let parse = |body: &str, source: &Source| {
        ingest::parse(Format::HikvisionIsapi, &message(None, body.as_bytes()), source).unwrap()
    };
    let time = |body: &str, source: &Source| {
        let read = event(parse(body, source));
        (read.at, read.time_source)
    };

    for (body, expected) in [
        (inside("20240119111719654", ""), "2024-01-19T11:17:19.654+08:00"),
        (inside("20240119111719", replay), "2024-01-19T11:17:19+08:00"),
        (
            inside("20240119111719654", "<dateTime>2024-01-19T11:17:18+08:00</dateTime>"),
            "2024-01-19T11:17:18+08:00",
        ),
    ] {
        assert_eq!(time(&body, &entry_gate()), (at(expected), TimeSource::Sender), "{body}");
    }
    // Nobody knows its zone, or it is none: as good as no time.
    for (body, source) in [
        (inside("20240119111719654", ""), &no_zone),
        (inside("20241319111719654", ""), &entry_gate()),
        (inside("2024-01-19 11:17", ""), &entry_gate()),
    ] {
        assert_eq!(time(&body, source), (at(RECEIVED), TimeSource::Receipt), "{body}");
    }
    let replayed = inside("20240119111719654", replay);
    assert_eq!(
        rejection(parse(&replayed, &no_zone)),
        ("absTime".to_owned(), words::TIME_WITHOUT_ZONE)
    );
}

#[test]
fn of_several_xml_parts_the_alert_counts() {
    let alert = alert(ANPR).replace("EventNotificationAlert", "h:EventNotificationAlert");
    let alert = alert.replace(
        "<h:EventNotificationAlert>",
        "<h:EventNotificationAlert xmlns:h=\"http://h\">",
    );
    for other in [
        "<html><body><p>status</body></html>",
        "<!DOCTYPE html><html></html>",
        "<?xml version=\"1.0\"?><!-- <EventNotificationAlert> --><Status/>",
        "<",
    ] {
        for parts in [[other, alert.as_str()], [alert.as_str(), other]] {
            let body: String = parts
                .iter()
                .map(|part| format!("--b\r\nContent-Type: text/xml\r\n\r\n{part}\r\n"))
                .collect();
            let parsed = parse(Format::HikvisionIsapi, (body + "--b--\r\n").as_bytes());
            assert_eq!(event(parsed.unwrap()).plate.expose(), "粤B12345", "{other}");
        }
    }
    let no_alert = b"--b\r\nContent-Type: text/xml\r\n\r\n<Plates/>\r\n--b--\r\n";
    assert_eq!(
        parse(Format::HikvisionIsapi, no_alert).unwrap_err().reason.word,
        words::OTHER_FORMAT
    );
}

#[test]
fn an_overlong_plate_of_an_alert_is_no_unread_one() {
    for long in [
        "粤B12345".repeat(100),
        "9".repeat(100_000),
        format!("粤B{}12345", " ".repeat(3000)),
        "粤B12345<!-- -->".repeat(1000),
    ] {
        let body = alert(&ANPR.replace("粤B12345", &long));
        assert_eq!(
            rejection(parse(Format::HikvisionIsapi, body.as_bytes()).unwrap()),
            ("ANPR/licensePlate".to_owned(), why::TOO_LONG)
        );
    }
    let padded = alert(&ANPR.replace("粤B12345", &format!("{}粤B12345", " ".repeat(5000))));
    event(parse(Format::HikvisionIsapi, padded.as_bytes()).unwrap());
}

#[test]
fn an_alert_is_found_in_a_form_whatever_its_parts_are_called() {
    let mut jpeg = vec![0xff, 0xd8, 0xff, 0xe0];
    jpeg.extend(std::iter::repeat_n(b'<', 300_000));
    for (name, kind) in [
        ("anpr.xml", "application/xml"),
        ("xml_file", "text/xml"),
        ("whatever", "application/octet-stream"),
    ] {
        for picture_first in [true, false] {
            let xml = format!(
                "Content-Disposition: form-data; name=\"{name}\"; filename=\"anpr.xml\"\r\nContent-Type: {kind}\r\n\r\n{}\r\n",
                alert(ANPR)
            );
            let mut picture =
                b"Content-Disposition: form-data; name=\"licensePlatePicture.jpg\"\r\nContent-Type: image/jpeg\r\nContent-Length: 300004\r\n\r\n".to_vec();
            picture.extend_from_slice(&jpeg);
            picture.extend_from_slice(b"\r\n");
            let parts = if picture_first {
                [picture, xml.into_bytes()]
            } else {
                [xml.into_bytes(), picture]
            };
            let mut body = Vec::new();
            for part in parts {
                body.extend_from_slice(b"--MIME_boundary\r\n");
                body.extend(part);
            }
            body.extend_from_slice(b"--MIME_boundary--\r\n");

            for content_type in [
                Some("multipart/form-data; boundary=MIME_boundary"),
                Some("application/xml"),
                None,
            ] {
                let parsed = ingest::parse(Format::HikvisionIsapi, &message(content_type, &body), &entry_gate());
                assert_eq!(event(parsed.unwrap()).plate.expose(), "粤B12345");
            }
        }
    }
    let pictures = b"--b\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\r\n--b--\r\n";
    assert_eq!(
        parse(Format::HikvisionIsapi, pictures).unwrap_err().reason.word,
        words::MISSING
    );
}

#[test]
fn the_members_of_an_alert_are_read() {
    let inside = format!(
        "<macAddress>44:a6</macAddress><dateTime>2024-05-07T17:48:03</dateTime><UUID>abcdefgh</UUID>\
        <isDataRetransmission>true</isDataRetransmission><activePostCount>80</activePostCount>{ANPR}"
    );

    let read = event(parse(Format::HikvisionIsapi, alert(&inside).as_bytes()).unwrap());

    assert_eq!(read.at, at("2024-05-07T17:48:03+08:00"));
    assert_eq!(read.record_id.as_deref(), Some("44:a6/abcdefgh"));
    assert!(read.replayed);

    let no_zone = Source {
        zone: None,
        ..entry_gate()
    };
    let parsed = ingest::parse(
        Format::HikvisionIsapi,
        &message(None, alert(&inside).as_bytes()),
        &no_zone,
    )
    .unwrap();
    assert_eq!(rejection(parsed), ("dateTime".to_owned(), words::TIME_WITHOUT_ZONE));
}

#[test]
fn text_of_an_alert_may_be_written_in_any_way_xml_allows() {
    for plate in [
        "粤B12345",
        "<![CDATA[粤B12345]]>",
        "&#x7ca4;B12345",
        "&#31908;B1<!-- -->2345",
        "\n 粤B12345 \n",
    ] {
        let inside = ANPR.replace("粤B12345", plate);
        let read = event(parse(Format::HikvisionIsapi, alert(&inside).as_bytes()).unwrap());
        assert_eq!(read.plate.expose(), "粤B12345", "{plate}");
    }
    let original =
        "<eventType>anpr</eventType><ANPR><licensePlate/><originalLicensePlate>粤B12345</originalLicensePlate></ANPR>";
    assert_eq!(
        event(parse(Format::HikvisionIsapi, alert(original).as_bytes()).unwrap())
            .plate
            .expose(),
        "粤B12345"
    );
    let padded = format!("\u{feff}\r\n{}\r\n\0\0 trailing", alert(ANPR));
    event(parse(Format::HikvisionIsapi, padded.as_bytes()).unwrap());
}

#[test]
fn xml_that_could_grow_is_refused() {
    let bomb = format!(
        "<!DOCTYPE x [<!ENTITY a \"{}\"><!ENTITY b \"&a;&a;\">]><EventNotificationAlert>&b;</EventNotificationAlert>",
        "ha".repeat(100)
    );
    let deep = alert(&"<a>".repeat(10_000));
    let long = alert(&format!("<x>{}</x>{ANPR}", " ".repeat(2_000_000)));
    let entity = alert("<eventType>&bomb;</eventType>");
    let cut = alert(ANPR)[..60].to_owned();
    let query = sample("hikvision-isapi-plates-query.xml");

    for (body, word) in [
        (bomb.as_bytes(), words::SYNTAX),
        (deep.as_bytes(), words::TOO_MUCH),
        (long.as_bytes(), words::TOO_MUCH),
        (entity.as_bytes(), words::SYNTAX),
        (cut.as_bytes(), words::SYNTAX),
        (&query, words::OTHER_FORMAT),
    ] {
        assert_eq!(parse(Format::HikvisionIsapi, body).unwrap_err().reason.word, word);
    }
}

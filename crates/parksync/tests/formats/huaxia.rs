//! Forms of Huaxia barriers beyond the samples.

use parksync::domain::gate::Direction;
use parksync::domain::plate::why;
use parksync::ingest::{self, Format, Item, Source, words};

use crate::*;

#[test]
fn a_huaxia_form_survives_what_happens_to_forms() {
    let picture = "/9j/4AAQSkZJRgABAQ+AAAD==".repeat(20_000);
    for body in [
        format!("type=online&picture={picture}&plate_num=%E7%B2%A4B12345&start_time=1686299994&vdc_type=in"),
        format!("\r\nplate_num=%E7%B2%A4B12345&start_time=1686299994&closeup_pic={picture}&type=online\r\n"),
        "type=online&&&novalue&plate_num=粤B12345&start_time=1686299994".to_owned(),
        "type=ONLINE&car_plate=%E7%B2%A4B12345&start_time=+1686299994+".to_owned(),
        "plate_num=%e7%b2%a4B12345&start_time=1686299994&x=%zz%".to_owned(),
        "--b\r\nContent-Disposition: form-data; name=\"type\"\r\n\r\nonline\r\n--b\r\nContent-Disposition: form-data; name=\"plate_num\"\r\n\r\n粤B12345\r\n\
        --b\r\nContent-Disposition: form-data; name=\"start_time\"\r\n\r\n1686299994\r\n--b--\r\n".to_owned(),
    ] {
        let read = event(parse(Format::HuaxiaMode5, body.as_bytes()).unwrap());
        assert_eq!((read.plate.expose(), read.at), ("粤B12345", at("2023-06-09T16:39:54+08:00")));
    }
}

#[test]
fn a_huaxia_form_is_refused_by_field() {
    let source = Source {
        direction: None,
        zone: None,
    };
    for (body, field, word) in [
        (
            "type=online&plate_num=粤B12345&start_time=1686299994",
            "direction",
            words::NO_DIRECTION,
        ),
        (
            "type=online&plate_num=粤B12345&start_time=1686299994&vdc_type=both",
            "direction",
            words::NO_DIRECTION,
        ),
        (
            "type=offline&plate_num=粤B12345&vdc_type=in",
            "start_time",
            words::TIME_MISSING,
        ),
        (
            "type=online&plate_num=WJ京12345&start_time=1686299994&vdc_type=in",
            "plate_num",
            why::NOT_FOR_WECHAT,
        ),
    ] {
        let parsed = ingest::parse(Format::HuaxiaMode5, &message(None, body.as_bytes()), &source).unwrap();
        assert_eq!(rejection(parsed), (field.to_owned(), word), "{body}");
    }
    for (body, field) in [
        ("", "body"),
        ("type=online", "plate_num"),
        ("nothing here", "type"),
        ("{\"type\":\"online\"}", "body"),
    ] {
        assert_eq!(
            parse(Format::HuaxiaMode5, body.as_bytes()).unwrap_err().field,
            field,
            "{body}"
        );
    }
    for (body, class) in [
        ("type=online&plate_num=", "no-plate"),
        ("type=online&plate_num=%E6%97%A0%E7%89%8C%E8%BD%A6", "no-plate"),
    ] {
        assert!(
            matches!(
                only(parse(Format::HuaxiaMode5, body.as_bytes()).unwrap()),
                Item::NoPlate { .. }
            ),
            "{body} is {class}"
        );
    }
}

#[test]
fn the_configured_direction_wins_over_the_form() {
    let source = Source {
        direction: Some(Direction::Out),
        zone: None,
    };
    let body = sample("huaxia-httppost-mode5-form.txt");

    let parsed = ingest::parse(Format::HuaxiaMode5, &message(None, &body), &source).unwrap();

    assert_eq!(notes(&parsed), [words::DIRECTION_OVERRIDDEN]);
    assert_eq!(event(parsed).state, Direction::Out);
}

#[test]
fn an_offline_form_is_a_replay() {
    let body = "type=offline&plate_num=粤B12345&start_time=1686299994&vdc_type=in";

    assert!(event(parse(Format::HuaxiaMode5, body.as_bytes()).unwrap()).replayed);
}

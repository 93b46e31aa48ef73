//! What must hold for any bytes at all: random ones, and sample messages damaged in transit.

use parksync::ingest::generic::MOST_EVENTS;
use parksync::ingest::{self, Format, Item, Source};
use proptest::prelude::*;

use crate::*;

/// Whatever the bytes, the answer has a shape, and no plate in clear is in anything that is printed.
fn holds_for(body: &[u8], content_type: Option<&str>) {
    for format in Format::ALL {
        for source in [Source::default(), entry_gate()] {
            match ingest::parse(format, &message(content_type, body), &source) {
                Err(malformed) => {
                    assert!(!malformed.field.is_empty() && !malformed.reason.word.is_empty());
                    assert!(!malformed.to_string().contains("12345"), "{malformed}");
                }
                Ok(parsed) => {
                    assert!(parsed.items.len() <= 2 * MOST_EVENTS);
                    assert!(parsed.notes.iter().all(|note| note.item < parsed.items.len()));
                    for item in &parsed.items {
                        if let Item::Event(read) | Item::Held { read: Some(read), .. } = item {
                            assert!(read.plate.wechat_can_carry(), "{read:?}");
                        }
                    }
                }
            }
        }
    }
}

fn samples() -> impl Strategy<Value = Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    bodies.push(alert(ANPR).into_bytes());
    bodies.push(vzenith("粤B12345", r#","plateid":1"#).into_bytes());
    bodies.push("[{\"plate\":\"粤B12345\",\"state\":\"IN\"}]".into());
    bodies.push(
        "[{\"plate\":\"粤B12345\",\"in_time\":\"2026-05-01T19:00:00Z\",\"out_time\":\"2026-05-01T20:00:00Z\"},\
        {\"corrects\":\"a\",\"plate\":\"粤B12345\"}]"
            .into(),
    );
    bodies.push("type=online&plate_num=粤B12345&start_time=1686299994&vdc_type=in".into());
    proptest::sample::select(bodies)
}

#[derive(Clone, Debug)]
enum Damage {
    Cut(usize),
    Set(usize, u8),
    Repeat(usize, usize),
    Insert(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let tokens = [
        "<",
        ">",
        "&",
        "=",
        "{",
        "}",
        "[",
        "\"",
        "--",
        "\r\n\r\n",
        "\0",
        "null",
        "1e999",
        "-1",
        "%",
        "\u{feff}",
        "<![CDATA[",
    ];
    prop_oneof![
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<usize>(), 1..200usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        (any::<usize>(), proptest::sample::select(tokens.to_vec()))
            .prop_map(|(at, token)| Damage::Insert(at, token.as_bytes().to_vec())),
    ]
}

fn damaged(mut body: Vec<u8>, damages: Vec<Damage>) -> Vec<u8> {
    for damage in damages {
        if body.is_empty() {
            break;
        }
        let length = body.len();
        match damage {
            Damage::Cut(at) => body.truncate(at % length),
            Damage::Set(at, byte) => body[at % length] = byte,
            Damage::Repeat(at, count) => {
                let from = at % length;
                let slice = body[from..(from + count).min(length)].to_vec();
                body.splice(from..from, slice);
            }
            Damage::Insert(at, bytes) => {
                let from = at % length;
                body.splice(from..from, bytes);
            }
        }
    }
    body
}

proptest! {
    #[test]
    fn random_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..600)) {
        holds_for(&body, None);
    }

    #[test]
    fn damaged_messages_are_survived(body in samples(), damages in proptest::collection::vec(damage(), 1..6)) {
        holds_for(&damaged(body, damages), None);
    }

    #[test]
    fn damaged_forms_are_survived(
        parts in proptest::collection::vec("(--b|--b--|\r\n|\n|Content-Disposition: form-data; name=\"(type|plate_num|a)\"|:|<EventNotificationAlert>|x|=)", 0..40),
        content_type in proptest::option::of("(multipart/form-data; boundary=(b|\"b\"|)|multipart/|application/json|é{0,12})"),
    ) {
        holds_for(parts.concat().as_bytes(), content_type.as_deref());
    }
}

//! What the single values look like: plates, openids, appids, merchant numbers, times. Pure.

use jiff::Timestamp;

/// WeChat Pay's rule: a province character, then upper-case letters, digits and Chinese characters, at most 32 in all.
pub(crate) fn is_plate(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| PROVINCES.contains(first))
        && (1..MAX_PLATE).contains(&characters.clone().count())
        && characters.all(|c| {
            c.is_ascii_uppercase()
                || c.is_ascii_digit()
                || matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}')
        })
}

/// Letters, digits, `_` and `-`, at most so many. Only the length is documented.
pub(crate) fn is_openid(text: &str, max: usize) -> bool {
    !text.is_empty()
        && text.len() <= max
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

pub(crate) fn is_appid(text: &str) -> bool {
    let hex = text.strip_prefix("wx").unwrap_or_default();
    hex.len() == 16
        && hex
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

pub(crate) fn is_mchid(text: &str) -> bool {
    (8..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 3339 as WeChat Pay writes it: capital `T` and `Z`, seconds there, fraction optional, zone `Z` or `+hh:mm`.
pub(crate) fn instant(text: &str) -> Option<Timestamp> {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    if bytes.len() < SHAPE.len() || bytes.len() > MAX_TIME || !fits(&bytes[..SHAPE.len()], SHAPE) {
        return None;
    }
    // The calendar library would round a 60th second down.
    if &bytes[17..19] > b"59".as_slice() {
        return None;
    }
    let mut zone = &bytes[SHAPE.len()..];
    if let Some(fraction) = zone.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        zone = &fraction[digits..];
    }
    if zone != b"Z" && !fits(zone, b"+dd:dd") && !fits(zone, b"-dd:dd") {
        return None;
    }
    text.parse().ok()
}

fn fits(text: &[u8], shape: &[u8]) -> bool {
    let fits = |(byte, place): (&u8, &u8)| {
        if *place == b'd' {
            byte.is_ascii_digit()
        } else {
            byte == place
        }
    };
    text.len() == shape.len() && text.iter().zip(shape).all(fits)
}

const PROVINCES: &str = "京津沪渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新";
/// Characters. Whether the documented 32 counts bytes is unknown.
const MAX_PLATE: usize = 32;
const MAX_TIME: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plates_follow_the_one_documented_sentence() {
        for plate in ["粤B888888", "沪AD07979", "粤Z9065澳", "京X1234应急", "闽20401领"] {
            assert!(is_plate(plate), "{plate}");
        }
        for plate in [
            "",
            "粤",
            "B888888",
            "粤b12345",
            "粤B·12345",
            "粤B 12345",
            "使123456",
            "粤B１２",
            &"粤".repeat(33),
        ] {
            assert!(!is_plate(plate), "{plate}");
        }
    }

    #[test]
    fn times_have_four_spellings_and_no_more() {
        for time in [
            "2022-06-01T10:43:39+08:00",
            "2022-06-01T10:43:39.120+08:00",
            "2022-06-01T02:43:39Z",
            "2022-06-01T02:43:39.1Z",
        ] {
            assert!(instant(time).is_some(), "{time}");
        }
        for time in [
            "",
            "2022-06-01",
            "2022-06-01T10:43:39",
            "2022-06-01 10:43:39+08:00",
            "2022-06-01t10:43:39z",
            "20220601T104339Z",
            "2022-06-01T10:43+08:00",
            "2022-06-01T10:43:39+0800",
            "2022-06-01T10:43:39.+08:00",
            "2022-13-01T10:43:39Z",
            "2022-06-01T24:00:00Z",
            "2022-06-01T10:43:60Z",
            "2022-06-01T10:43:39+08:00[Asia/Shanghai]",
            "2022-06-01T10:43:39é",
        ] {
            assert!(instant(time).is_none(), "{time}");
        }
        assert_eq!(instant("2022-06-01T10:43:39+08:00"), instant("2022-06-01T02:43:39Z"));
    }
}

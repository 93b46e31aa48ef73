//! What the typed requests and answers are made of: checks that name the field, texts about people, open enums, times.
//!
//! Called by every file of `api` and by `notify`.

use std::fmt;
use std::ops::Deref;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A field that WeChat Pay would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct FieldError {
    /// The field, as the documentation spells it.
    pub field: &'static str,
    /// What is wrong with it. Values are described, never repeated.
    pub problem: String,
}

impl FieldError {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> FieldError {
        FieldError {
            field,
            problem: problem.into(),
        }
    }
}

/// A text about a person, such as a plate or an openid. `Debug` hides its middle, and it has no `Display`.
///
/// ```
/// use wechatpay::Personal;
///
/// let openid = Personal::from("oUpF8uMuAJOM2pxb1Q");
/// assert_eq!(format!("{openid:?}"), "oUpF****xb1Q");
/// assert_eq!(&*openid, "oUpF8uMuAJOM2pxb1Q");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Personal(String);

impl Personal {
    /// The text itself.
    pub fn into_inner(self) -> String {
        self.0
    }
}

impl Deref for Personal {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Personal {
    fn from(text: &str) -> Personal {
        Personal(text.to_owned())
    }
}

impl From<String> for Personal {
    fn from(text: String) -> Personal {
        Personal(text)
    }
}

impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = if self.chars().count() < 16 { (2, 1) } else { (4, 4) };
        f.write_str(&masked(self, ends.0, ends.1))
    }
}

/// Keeps a few characters at both ends; a text too short for that is hidden whole.
pub(crate) fn masked(text: &str, front: usize, back: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() < (front + back) * 2 {
        return "****".to_owned();
    }
    let end = characters.len() - back;
    characters[..front]
        .iter()
        .chain(&['*'; 4])
        .chain(&characters[end..])
        .collect()
}

/// An identifier: there, not too long, without blanks.
pub(crate) fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), FieldError> {
    check_prose(field, text, max)?;
    match text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => Err(FieldError::new(field, "has a blank or a control character in it")),
        false => Ok(()),
    }
}

/// A text for people: there, not too long.
pub(crate) fn check_prose(field: &'static str, text: &str, max: usize) -> Result<(), FieldError> {
    if text.is_empty() {
        return Err(FieldError::new(field, "is empty"));
    }
    // Whether the limits count characters or bytes is not documented. Identifiers are ASCII; for prose, characters are
    // the reading that refuses nothing that might be taken.
    let length = if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    };
    if length > max {
        let problem = format!("has {length} characters, at most {max} are allowed");
        return Err(FieldError::new(field, problem));
    }
    Ok(())
}

pub(crate) fn check_optional(field: &'static str, text: Option<&String>, max: usize) -> Result<(), FieldError> {
    text.map_or(Ok(()), |text| check_prose(field, text, max))
}

pub(crate) fn check_https(field: &'static str, url: &str, max: usize) -> Result<(), FieldError> {
    check_text(field, url, max)?;
    match url.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        _ => Err(FieldError::new(field, "must start with https:// and name a host")),
    }
}

pub(crate) fn check_positive(field: &'static str, number: i64) -> Result<(), FieldError> {
    match number > 0 {
        true => Ok(()),
        false => Err(FieldError::new(field, "must be greater than 0")),
    }
}

pub(crate) fn check_not_negative(field: &'static str, number: i64) -> Result<(), FieldError> {
    match number >= 0 {
        true => Ok(()),
        false => Err(FieldError::new(field, "must not be negative")),
    }
}

/// The 31 short names of provinces that a plate begins with.
const PROVINCES: &str = "京津沪渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新";

/// The documented rule. It admits more than real plates, such as the documentation's own 粤B888888.
pub(crate) fn check_plate(plate: &str, max: usize) -> Result<(), FieldError> {
    const FIELD: &str = "plate_number";
    check_text(FIELD, plate, max)?;
    let mut characters = plate.chars();
    if !characters.next().is_some_and(|first| PROVINCES.contains(first)) {
        let problem = "must begin with the Chinese short name of a province, such as 粤";
        return Err(FieldError::new(FIELD, problem));
    }
    if characters.clone().next().is_none() {
        return Err(FieldError::new(FIELD, "is only a province"));
    }
    match characters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || is_chinese(c)) {
        true => Ok(()),
        false => Err(FieldError::new(
            FIELD,
            "may hold only upper-case letters, digits and Chinese characters after the first one",
        )),
    }
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}')
}

/// China time in whole seconds. Fractions are cut, not rounded: a rounded time could lie in the future, which is refused.
pub(crate) fn china_time<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    let whole = Timestamp::from_second(time.as_millisecond().div_euclid(1000)).map_err(serde::ser::Error::custom)?;
    out.collect_str(&whole.display_with_offset(Offset::constant(8)))
}

/// China time with milliseconds, as the example of points sync has it.
pub(crate) fn china_time_ms<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    let zoned = time.to_zoned(jiff::tz::TimeZone::fixed(Offset::constant(8)));
    out.collect_str(&zoned.strftime("%Y-%m-%dT%H:%M:%S.%3f%:z"))
}

/// A time that is absent, empty or unreadable is none: it must not cost the rest of the answer.
pub(crate) fn lenient_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<serde_json::Value>::deserialize(from)?;
    Ok(text.and_then(|text| text.as_str()?.trim().parse().ok()))
}

/// Writes an enum that keeps what it does not know: WeChat Pay adds values at any time.
macro_rules! open_enum {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $wire:literal $(| $also:literal)*,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value,)*
            /// A value that this version does not know, as it came; empty when none was given.
            Unlisted(String),
        }

        impl $name {
            /// The word on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $($name::$value => $wire,)*
                    $name::Unlisted(word) => word,
                }
            }

            /// Refuses a required value that was not set.
            #[allow(dead_code, clippy::allow_attributes, reason = "not every enum stands in a request")]
            pub(crate) fn check(&self, field: &'static str) -> Result<(), $crate::api::fields::FieldError> {
                match self.as_str().is_empty() {
                    true => Err($crate::api::fields::FieldError::new(field, "is not set")),
                    false => Ok(()),
                }
            }
        }

        impl Default for $name {
            fn default() -> $name {
                $name::Unlisted(String::new())
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> $name {
                // One documented sample ends in a blank.
                match word.trim() {
                    $($wire $(| $also)* => $name::$value,)*
                    other => $name::Unlisted(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                Ok($name::from(&*word))
            }
        }
    )*};
}
pub(crate) use open_enum;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::vehicle::TradeState;

    #[test]
    fn enums_keep_what_they_do_not_know() {
        let read = |json: &str| serde_json::from_str::<TradeState>(json).unwrap();

        assert_eq!(read(r#""ACCEPTED ""#), TradeState::Accepted);
        assert_eq!(read(r#""ACCEPT""#), TradeState::Accepted);
        assert_eq!(read(r#""PINK""#), TradeState::Unlisted("PINK".into()));
        assert_eq!(serde_json::to_string(&read(r#""PINK""#)).unwrap(), r#""PINK""#);
        assert_eq!(serde_json::to_string(&TradeState::Accepted).unwrap(), r#""ACCEPTED""#);
        assert!(TradeState::default().check("state").is_err() && TradeState::Refund.check("state").is_ok());
    }

    #[test]
    fn times_are_read_in_all_four_spellings_and_never_cost_the_rest() {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default, deserialize_with = "lenient_time")]
            time: Option<Timestamp>,
        }
        let read = |json: &str| serde_json::from_str::<Answer>(json).unwrap().time;

        for text in [
            "2020-05-20T13:29:35+08:00",
            "2020-05-20T13:29:35.120+08:00",
            "2020-05-20T05:29:35Z",
            "2020-05-20T05:29:35.12Z",
        ] {
            let seconds = read(&format!(r#"{{"time":"{text}"}}"#)).map(|time| time.as_second());
            assert_eq!(seconds, Some(1_589_952_575), "{text}");
        }
        for json in [
            "{}",
            r#"{"time":""}"#,
            r#"{"time":null}"#,
            r#"{"time":"soon"}"#,
            r#"{"time":7}"#,
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn times_are_written_in_china_time() {
        #[derive(Serialize)]
        struct Times(
            #[serde(serialize_with = "china_time")] Timestamp,
            #[serde(serialize_with = "china_time_ms")] Timestamp,
        );
        let time: Timestamp = "2020-05-20T05:29:35.129Z".parse().unwrap();

        assert_eq!(
            serde_json::to_string(&Times(time, time)).unwrap(),
            r#"["2020-05-20T13:29:35+08:00","2020-05-20T13:29:35.129+08:00"]"#
        );
    }

    #[test]
    fn texts_about_people_hide_their_middle() {
        assert_eq!(format!("{:?}", Personal::from("粤B888888")), "粤B****8");
        assert_eq!(format!("{:?}", Personal::from("粤B888")), "****");
        assert_eq!(format!("{:?}", Personal::from("abc")), "****");
    }

    #[test]
    fn addresses_must_be_https() {
        assert!(check_https("notify_url", "https://a.example/x", 256).is_ok());
        for url in ["http://a.example", "https://", "https:///x", ""] {
            assert!(check_https("notify_url", url, 256).is_err(), "{url}");
        }
    }
}

//! Times as senders write them, before zone and plausibility are settled.
//!
//! Whether a time is fresh, late or in the future is the domain's business. Called by the formats and `crossing`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{Offset, TimeZone};

/// What a sender says about the time of a crossing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing.
    Missing,
    /// An instant.
    At(Timestamp),
    /// The sender's wall clock, without a zone.
    Local(DateTime),
    /// Something that is no time.
    Unreadable,
}

impl Told {
    /// Seconds since 1970, or milliseconds where only these give a time at which a gate can have seen a car.
    pub(super) fn from_unix(number: i64) -> Self {
        let seconds = Timestamp::from_second(number).ok();
        let millis = Timestamp::from_millisecond(number).ok();
        [seconds, millis]
            .into_iter()
            .flatten()
            .find(|&at| is_plausible(at))
            .or(seconds)
            .map_or(Self::Unreadable, Self::At)
    }

    /// RFC 3339, or the same without an offset. Blank text says nothing.
    pub(super) fn from_text(text: &str) -> Self {
        let text = text.trim();
        if text.is_empty() {
            return Self::Missing;
        }
        // A date alone would pass for midnight.
        if text.len() > 64 || !text.contains(':') {
            return Self::Unreadable;
        }
        let parser = DateTimeParser::new();
        match (parser.parse_timestamp(text), parser.parse_datetime(text)) {
            (Ok(at), _) => Self::At(at),
            (Err(_), Ok(local)) => Self::Local(local),
            (Err(_), Err(_)) => Self::Unreadable,
        }
    }
}

/// Text that is no zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a zone is an offset such as +08:00 or a name such as Asia/Shanghai")]
pub struct UnknownZone;

/// Reads the zone of a gate from configuration: an offset or a name.
///
/// # Errors
///
/// `UnknownZone` when the text is neither.
pub fn parse_zone(text: &str) -> Result<TimeZone, UnknownZone> {
    // All of China, without daylight saving since 1991: known even where no zone files are installed.
    if text == "Asia/Shanghai" {
        return Ok(TimeZone::fixed(Offset::constant(8)));
    }
    let Some(digits) = text.strip_prefix(['+', '-']) else {
        return TimeZone::get(text).map_err(|_| UnknownZone);
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None => digits.split_at_checked(2).unwrap_or((digits, "")),
    };
    let number = |text: &str| match text {
        _ if text.len() > 2 || !text.bytes().all(|b| b.is_ascii_digit()) => None,
        "" => Some(0),
        _ => text.parse::<i32>().ok(),
    };
    let (hours, minutes) = (number(hours).ok_or(UnknownZone)?, number(minutes).ok_or(UnknownZone)?);
    if digits.is_empty() || minutes > 59 {
        return Err(UnknownZone);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60))
        .map(TimeZone::fixed)
        .map_err(|_| UnknownZone)
}

/// The instant of a wall clock in a zone.
pub(super) fn in_zone(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_timestamp(local).ok()
}

/// Whether a gate can have seen a car at this time: a clock that was never set starts in 1970 or 2000, a number in other
/// units ends up centuries away.
pub(super) fn is_plausible(at: Timestamp) -> bool {
    const FROM: i64 = 1_262_304_000; // 2010-01-01T00:00:00Z
    const UNTIL: i64 = 4_102_444_800; // 2100-01-01T00:00:00Z
    (FROM..UNTIL).contains(&at.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Told {
        Told::At(text.parse().unwrap())
    }

    #[test]
    fn a_time_with_an_offset_is_an_instant() {
        assert_eq!(
            Told::from_text("2024-07-04T15:30:00+08:00"),
            instant("2024-07-04T07:30:00Z")
        );
        assert_eq!(
            Told::from_text("2024-07-04 15:30:00.250+08:00"),
            instant("2024-07-04T07:30:00.25Z")
        );
        assert_eq!(
            Told::from_text(" 2024-07-04T07:30:00Z "),
            instant("2024-07-04T07:30:00Z")
        );
    }

    #[test]
    fn a_time_without_an_offset_is_a_wall_clock() {
        let local = Told::Local(jiff::civil::date(2024, 7, 4).at(15, 30, 0, 0));

        assert_eq!(Told::from_text("2024-07-04T15:30:00"), local);
        assert_eq!(Told::from_text("2024-07-04 15:30:00"), local);
    }

    #[test]
    fn what_is_no_time_is_not_guessed() {
        assert_eq!(Told::from_text("  "), Told::Missing);
        let long = "1".repeat(1000);
        for text in [
            "2024-07-04",
            "1720078200",
            "now",
            "2024-13-04T15:30:00",
            "15:30",
            "2024年7月4日 15:30:00",
            long.as_str(),
        ] {
            assert_eq!(Told::from_text(text), Told::Unreadable, "{text}");
        }
        assert_eq!(Told::from_unix(i64::MAX), Told::Unreadable);
    }

    #[test]
    fn the_unit_of_a_number_is_the_one_that_makes_sense() {
        assert_eq!(Told::from_unix(1_720_078_200), instant("2024-07-04T07:30:00Z"));
        assert_eq!(Told::from_unix(1_720_078_200_250), instant("2024-07-04T07:30:00.25Z"));
        // Neither unit makes sense: the number stays what the format says.
        assert_eq!(Told::from_unix(12), instant("1970-01-01T00:00:12Z"));
        let far = Timestamp::from_second(15_232_151_231).unwrap();
        assert_eq!(Told::from_unix(15_232_151_231), Told::At(far));
    }

    #[test]
    fn zones_are_offsets_or_names() {
        let offset = |text: &str| parse_zone(text).map(|zone| zone.to_offset(Timestamp::UNIX_EPOCH).seconds());

        for (text, seconds) in [
            ("+08:00", 28_800),
            ("+0800", 28_800),
            ("+08", 28_800),
            ("+8", 28_800),
            ("+8:00", 28_800),
            ("-05:30", -19_800),
            ("UTC", 0),
            ("Asia/Shanghai", 28_800),
        ] {
            assert_eq!(offset(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "+",
            "-",
            "8",
            "+25:99",
            "+99:00",
            "+08:60",
            "+-8:00",
            "+０８:00",
            "+080000",
            "Nowhere/Land",
        ] {
            assert_eq!(offset(text), Err(UnknownZone), "{text}");
        }
    }

    #[test]
    fn offsets_are_read_as_firmware_writes_them() {
        for text in [
            "2024-07-04T15:30:00+0800",
            "2024-07-04T15:30:00+08",
            "2024-07-04t15:30:00+08:00",
        ] {
            assert_eq!(Told::from_text(text), instant("2024-07-04T07:30:00Z"), "{text}");
        }
    }

    #[test]
    fn only_this_century_is_plausible() {
        let plausible = |text: &str| is_plausible(text.parse().unwrap());

        assert!(plausible("2010-01-01T00:00:00Z") && plausible("2099-12-31T23:59:59Z"));
        assert!(!plausible("2009-12-31T23:59:59Z") && !plausible("2100-01-01T00:00:00Z"));
    }
}

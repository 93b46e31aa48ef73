//! China's calendar (UTC+8, no summer time): days and how WeChat Pay writes times.
//!
//! That days are counted in China time is unverified (protocol 1.1), but nothing else is likely. Pure.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, offset};

/// The day that China's calendars show.
pub(crate) fn day(time: Timestamp) -> Date {
    time.to_zoned(zone()).date()
}

/// 23:59:59 of that day.
pub(crate) fn end_of_day(time: Timestamp) -> Timestamp {
    let last_second = day(time).at(23, 59, 59, 0);
    last_second
        .to_zoned(zone())
        .map_or(Timestamp::MAX, |end| end.timestamp())
}

/// RFC 3339 with `+08:00`, in whole seconds.
pub(crate) fn text(time: Timestamp) -> String {
    time.to_zoned(zone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// The same with milliseconds.
pub(crate) fn text_ms(time: Timestamp) -> String {
    time.to_zoned(zone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

fn zone() -> TimeZone {
    TimeZone::fixed(offset(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_ends_at_midnight_in_china() {
        let end: Timestamp = "2026-06-01T23:59:59+08:00".parse().unwrap();
        for time in [
            "2026-06-01T00:00:00+08:00",
            "2026-05-31T16:00:00Z",
            "2026-06-01T23:59:59+08:00",
        ] {
            assert_eq!(end_of_day(time.parse().unwrap()), end, "{time}");
        }
        assert_ne!(end_of_day("2026-06-02T00:00:00+08:00".parse().unwrap()), end);
        assert_eq!(text(end), "2026-06-01T23:59:59+08:00");
        assert_eq!(text_ms(end), "2026-06-01T23:59:59.000+08:00");
    }
}

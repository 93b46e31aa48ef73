//! `/v3/parking/reminders/{application…,parking-lot}` (停车场进件, protocol 7.3, 7.4): car parks and their review.
//!
//! Only the four common errors are documented. What is wrong with a state gets 400 `INVALID_REQUEST` in the sandbox's
//! own words.

use serde_json::{Value, json};

use crate::endpoints::fields::{Fields, PARAM_ERROR};
use crate::endpoints::reminders::{CAR_TYPES, VEHICLE_TYPES, done};
use crate::endpoints::{Ask, Reply};
use crate::refusal::Refusal;
use crate::reminders::ParkingLot;
use crate::world::World;

/// `POST …/application`.
pub(crate) fn apply(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let body = Fields::body(ask.body)?;
    let lot = body.required_object("parking_lot")?;
    check_lot(&lot)?;
    let out_parking_lot_id = lot.required_short("out_parking_lot_id", 64)?;
    if let Some(rule) = lot.object("charging_rule")? {
        check_rule(&rule)?;
    }

    let audit_no = world.reminders.apply(out_parking_lot_id, lot.members().clone());
    let audit_no = audit_no.ok_or_else(|| Refusal::invalid("该停车场已有审核中的申请单"))?;
    Ok(Reply::ok(&json!({ "parking_lot_audit_no": audit_no })))
}

/// `GET …/application/query`.
pub(crate) fn query(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let query = Fields::query(ask.query);
    let audit_no = query.required_short("parking_lot_audit_no", 64)?;
    let out_id = query.required_short("out_parking_lot_id", 64)?;
    let applications = world.reminders.applications();
    let application = applications
        .iter()
        .find(|application| application.parking_lot_audit_no == audit_no && application.out_parking_lot_id == out_id);
    let application = application.ok_or_else(no_application)?;
    Ok(Reply::ok(&with_lot_id(
        world,
        out_id,
        json!({ "application": application.answer() }),
    )))
}

/// `GET …/applications`.
pub(crate) fn list(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let query = Fields::query(ask.query);
    let out_id = query.required_short("out_parking_lot_id", 64)?;
    let position = |name: &str, default: usize| -> Result<usize, Refusal> {
        let number = query.number(name)?.map_or(Ok(default), usize::try_from);
        number.map_err(|_| query.wrong(PARAM_ERROR, name, "too large"))
    };
    let (offset, limit) = (position("offset", 0)?, position("limit", 10)?);
    let list: Vec<Value> = world
        .reminders
        .applications()
        .iter()
        .filter(|application| application.out_parking_lot_id == out_id)
        .skip(offset)
        .take(limit)
        .map(|application| application.answer())
        .collect();
    Ok(Reply::ok(&with_lot_id(
        world,
        out_id,
        json!({ "application_list": list }),
    )))
}

/// `POST …/application/withdraw`.
pub(crate) fn withdraw(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let body = Fields::body(ask.body)?;
    let audit_no = body.required_short("parking_lot_audit_no", 64)?;
    let out_id = body.required_short("out_parking_lot_id", 64)?;
    match world.reminders.withdraw(audit_no, out_id) {
        Ok(()) => Ok(done(world)),
        Err(true) => Err(Refusal::invalid("申请单状态不允许撤回")),
        Err(false) => Err(no_application()),
    }
}

/// `GET …/parking-lot`.
pub(crate) fn lot(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let query = Fields::query(ask.query);
    let out_id = query.short("out_parking_lot_id", 64)?;
    let lot = match (query.short("wx_parking_lot_id", 64)?, out_id) {
        (Some(wx_id), _) => world.reminders.lot(|lot| lot.wx_parking_lot_id == wx_id),
        (None, Some(out_id)) => world.reminders.lot(|lot| lot.out_parking_lot_id == out_id),
        (None, None) => return Err(query.missing(PARAM_ERROR, "wx_parking_lot_id")),
    };
    let lot = lot.ok_or_else(|| Refusal::invalid("停车场不存在"))?;
    Ok(Reply::ok(&describe(&lot)))
}

fn describe(lot: &ParkingLot) -> Value {
    let mut answer = json!({
        "wx_parking_lot_id": lot.wx_parking_lot_id,
        "out_parking_lot_id": lot.out_parking_lot_id,
        "enabled_state": if lot.offline.is_some() { "ENABLED_STATE_OFFLINE" } else { "ENABLED_STATE_ENABLED" },
    });
    for (name, sent_as) in [
        ("parking_lot_name", "parking_lot_name"),
        ("parking_lot_address", "parking_lot_address"),
        ("payment_mini_prog_appid", "payment_mini_prog_appid"),
        ("payment_mini_prog_path", "payment_path"),
        ("parking_order_mini_prog_appid", "parking_order_mini_prog_appid"),
        ("parking_order_mini_prog_path", "parking_order_path"),
    ] {
        if let Some(value) = lot.parking_lot.get(sent_as) {
            answer[name] = value.clone();
        }
    }
    if let Some(reason) = &lot.offline {
        answer["reason"] = reason.as_str().into();
    }
    answer
}

/// Adds WeChat Pay's id of the car park once it has one.
fn with_lot_id(world: &World, out_id: &str, mut answer: Value) -> Value {
    if let Some(lot) = world.reminders.lot(|lot| lot.out_parking_lot_id == out_id) {
        answer["wx_parking_lot_id"] = lot.wx_parking_lot_id.into();
    }
    answer
}

fn no_application() -> Refusal {
    Refusal::invalid("申请单不存在")
}

fn check_lot(lot: &Fields) -> Result<(), Refusal> {
    lot.required_short("parking_lot_name", 128)?;
    let out_id = lot.required_short("out_parking_lot_id", 64)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !out_id.bytes().all(plain) {
        return Err(lot.wrong(PARAM_ERROR, "out_parking_lot_id", "not letters, digits, _ and -"));
    }
    lot.required_short("parking_lot_address", 256)?;
    for (name, limit) in [("longitude", 180.0), ("latitude", 90.0)] {
        if !is_degrees(lot.required_short(name, 16)?, limit) {
            return Err(lot.wrong(PARAM_ERROR, name, "not degrees with at most 8 decimals"));
        }
    }
    lot.required_coded(
        "parking_lot_type",
        "PARKING_LOT_TYPE_",
        &[
            "UNKNOWN",
            "BUSINESS_DISTRICT",
            "OFFICE_BUILDING",
            "TRANSPORTATION_HUB",
            "RESIDENTIAL_AREA",
            "PARK_AREA",
            "OTHER_PUBLIC_FACILITY",
        ],
    )?;
    lot.required_short("phone_number", 20)?;
    lot.short("parking_sign_url", 512)?;
    let texts = lot.list("notification_text_list")?.unwrap_or_default();
    let fits = |text: &Value| {
        text.as_str()
            .is_some_and(|text| (1..=128).contains(&text.chars().count()))
    };
    if texts.len() > 6 || !texts.iter().all(fits) {
        return Err(lot.wrong(
            PARAM_ERROR,
            "notification_text_list",
            "not at most 6 texts of 1 to 128 characters",
        ));
    }
    lot.short("payment_mini_prog_appid", 32)?;
    lot.required_short("payment_path", 256)?;
    lot.short("parking_order_mini_prog_appid", 32)?;
    lot.short("parking_order_path", 256)?;
    Ok(())
}

fn is_degrees(text: &str, limit: f64) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    plain(whole)
        && plain(decimals)
        && decimals.len() <= 8
        && text.parse::<f64>().is_ok_and(|degrees| degrees.abs() <= limit)
}

fn check_rule(rule: &Fields) -> Result<(), Refusal> {
    let kinds = ["UNKNOWN", "FIXED_INTERVAL", "SEGMENT", "PER_ENTRY"];
    let kind = rule.required_coded("rule_type", "CHARGING_RULE_", &kinds)?;
    for (name, prefix, words) in RULE_WORDS {
        rule.coded(name, prefix, words)?;
    }
    rule.number("free_entry_duration")?;
    rule.number("free_exit_duration")?;
    for (needed_by, list, words, numbers) in RULE_LISTS {
        let items = rule.objects(list)?;
        if kind == *needed_by && items.is_empty() {
            return Err(rule.missing(PARAM_ERROR, list));
        }
        for item in &items {
            check_item(item, words, numbers)?;
        }
    }
    Ok(())
}

fn check_item(item: &Fields, words: &[Words], numbers: &[&str]) -> Result<(), Refusal> {
    for (name, prefix, words) in ITEM_WORDS.iter().chain(words) {
        item.coded(name, prefix, words)?;
    }
    for name in ["start_time", "end_time"] {
        if item.text(name)?.is_some_and(|time| !is_time_of_day(time)) {
            return Err(item.wrong(PARAM_ERROR, name, "not HH:MM"));
        }
    }
    item.number("max_fee_per_day")?;
    for name in numbers {
        item.number(name)?;
    }
    item.truth("is_green_vehicle_free_parking")?;
    Ok(())
}

fn is_time_of_day(text: &str) -> bool {
    let Some((hours, minutes)) = text.split_once(':') else {
        return false;
    };
    let below = |part: &str, limit: u8| part.len() == 2 && part.parse::<u8>().is_ok_and(|number| number < limit);
    // Whether a day may end at 24:00 is unknown; it hurts nobody.
    text == "24:00" || (below(hours, 24) && below(minutes, 60))
}

/// Name, prefix, words.
type Words = (&'static str, &'static str, &'static [&'static str]);

const RULE_WORDS: &[Words] = &[
    ("fee_limit_type", "FEE_LIMIT_", &["UNKNOWN", "AGGREGATE", "SINGLE"]),
    (
        "daily_limit_type",
        "DAILY_LIMIT_",
        &["UNKNOWN", "ROLLING_24H", "CALENDAR_DAY"],
    ),
    ("time_rounding_type", "TIME_ROUND_", &["UNKNOWN", "DOWN", "UP"]),
    (
        "holiday_mode",
        "HOLIDAY_MODE_",
        &["UNKNOWN", "LEGAL_MODY", "CALENDAR_MODY", "FINANCIAL_MODY"],
    ),
    (
        "aggregate_limit_mode",
        "AGGREGATE_LIMIT_MODE_",
        &["UNKNOWN", "NORMAL", "MIN"],
    ),
    (
        "first_charge_time_mode",
        "FIRST_CHARGE_TIME_MODE_",
        &["UNKNOWN", "ENTER", "AFTER_FREE"],
    ),
];

const ITEM_WORDS: &[Words] = &[
    ("day_type", "DAY_TYPE_", &["UNKNOWN", "WEEKDAY", "HOLIDAY", "ALL_DAY"]),
    ("vehicle_type", "VEHICLE_TYPE_", VEHICLE_TYPES),
    ("plate_type", "PLATE_TYPE_", CAR_TYPES),
];

/// Which rule type needs which list, and what its items may hold beyond the common members.
const RULE_LISTS: &[(&str, &str, &[Words], &[&str])] = &[
    (
        "CHARGING_RULE_FIXED_INTERVAL",
        "fixed_interval_rule",
        &[
            (
                "free_period_charging_mode",
                "FREE_PERIOD_CHARGING_",
                &[
                    "UNKNOWN",
                    "ONCE_PER_ENTRY",
                    "ONCE_PER_24_HOURS",
                    "ONCE_PER_CALENDAR_DAY",
                    "CUMULATIVE_QUOTA_CALCULATION",
                ],
            ),
            (
                "free_period_calculation_mode",
                "FREE_PERIOD_CAL_",
                &["UNKNOWN", "CONCURRENT_START", "SEQUENTIAL_START"],
            ),
            (
                "first_duration_mode",
                "FIRST_DURATION_MODE_",
                &["UNKNOWN", "ONLY_FIRST_DURATION", "EVERY_FIRST_DURATION"],
            ),
        ],
        &[
            "first_duration",
            "interval_duration",
            "first_amount",
            "interval_amount",
            "interval_max_amount",
        ],
    ),
    (
        "CHARGING_RULE_SEGMENT",
        "duration_segment_rule",
        &[("charge_mode", "", &["UNKNOWN", "INTERVAL", "ONE_TIME"])],
        &[
            "duration_from",
            "duration_to",
            "fixed_amount",
            "interval_min",
            "interval_amount",
            "interval_max_amount",
        ],
    ),
    // Spelt like this on the page.
    ("CHARGING_RULE_PER_ENTRY", "pre_entry_rule", &[], &["amount"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_have_eight_decimals_and_a_limit() {
        for (text, good) in [
            ("113.934528", true),
            ("-113.93452812", true),
            ("180", true),
            ("180.5", false),
            ("113.934528123", false),
            ("113.", false),
            ("1e2", false),
            ("", false),
            ("+1", false),
        ] {
            assert_eq!(is_degrees(text, 180.0), good, "{text}");
        }
    }

    #[test]
    fn times_of_day_have_two_digits_each() {
        for (text, good) in [
            ("08:00", true),
            ("24:00", true),
            ("8:00", false),
            ("24:01", false),
            ("0800", false),
        ] {
            assert_eq!(is_time_of_day(text), good, "{text}");
        }
    }
}

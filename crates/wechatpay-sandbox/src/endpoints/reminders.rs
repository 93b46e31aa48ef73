//! `/v3/parking/reminders/{entry,exit,payment,ext-payment,parking-fee}` (停车便捷缴费, protocol 7.3, 7.4): stays.
//!
//! Only the four common errors are documented. What is wrong with a state gets 400 `INVALID_REQUEST` in the sandbox's
//! own words. Times are Unix seconds here.

use serde_json::json;

use crate::endpoints::fields::{Fields, PARAM_ERROR};
use crate::endpoints::formats::{is_openid, is_plate};
use crate::endpoints::{Ask, Reply};
use crate::refusal::Refusal;
use crate::reminders::{ReminderAnswer, Unfit};
use crate::world::World;

/// `POST …/entry` (同步车辆入场).
pub(crate) fn enter(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let body = Fields::body(ask.body)?;
    let out_serial_number = body.required_short("out_serial_number", 64)?;
    body.required_short("parking_id", 64)?;
    required_plate(&body)?;
    body.required_number("enter_timestamp")?;
    body.required_coded("plate_color", "PLATE_COLOR_", COLORS)?;
    body.required_coded("car_type", "PLATE_TYPE_", CAR_TYPES)?;
    body.required_coded("vehicle_type", "VEHICLE_TYPE_", VEHICLE_TYPES)?;
    let entrance = body.short("entrance_number", 128)?;
    if entrance.is_some_and(|entrance| !entrance.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        return Err(body.wrong(PARAM_ERROR, "entrance_number", "not letters and digits"));
    }
    body.short("entrance_name", 64)?;
    let templates = body.list("discount_template_id")?.unwrap_or_default();
    if templates.len() > 3 || !templates.iter().all(|template| template.is_i64() || template.is_u64()) {
        return Err(body.wrong(PARAM_ERROR, "discount_template_id", "not at most three whole numbers"));
    }

    let entered = world.reminders.enter(out_serial_number, body.members().clone());
    let serial_number = entered.map_err(refuse)?;
    Ok(Reply::ok(&json!({ "serial_number": serial_number })))
}

/// `POST …/exit` (同步车辆离场), with its payment when that is reported here.
pub(crate) fn leave(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let body = Fields::body(ask.body)?;
    let out_serial_number = body.required_short("out_serial_number", 64)?;
    body.required_number("exit_timestamp")?;
    required_plate(&body)?;
    body.required_coded("plate_color", "PLATE_COLOR_", COLORS)?;
    body.required_short("parking_id", 64)?;
    let paid = body.coded("pay_state", "PAY_STATUS_", &["UNKNOWN", "UNPAID", "PAID"])? == Some("PAY_STATUS_PAID");
    check_payment(&body, paid)?;

    let left = world.reminders.leave(out_serial_number, body.members().clone(), paid);
    left.map_err(refuse)?;
    Ok(done(world))
}

/// `POST …/payment` (同步支付结果).
pub(crate) fn pay(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let body = Fields::body(ask.body)?;
    let out_serial_number = body.required_short("out_serial_number", 64)?;
    required_plate(&body)?;
    body.required_short("parking_id", 64)?;
    body.required_coded(
        "parking_state",
        "PARKING_STATUS_",
        &["UNKNOWN", "PARKING", "NOT_PARKING"],
    )?;
    body.short("sub_mchid", 32)?;
    check_payment(&body, true)?;

    let paid = world.reminders.pay(out_serial_number, body.members().clone());
    paid.map_err(refuse)?;
    Ok(done(world))
}

/// `POST …/ext-payment` (非临停扩展支付): monthly cards and the like. Stored only.
pub(crate) fn pay_ext(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let body = Fields::body(ask.body)?;
    body.required_short("out_trade_no", 64)?;
    let items = body.objects("fee_items")?;
    if items.is_empty() {
        return Err(body.missing(PARAM_ERROR, "fee_items"));
    }
    for item in &items {
        item.required_coded(
            "fee_type",
            "EXT_PARKING_PAYMENT_FEE_TYPE_",
            &["UNKNOWN", "MONTHLY", "QUARTERLY", "MEMBER"],
        )?;
        item.required_number("amount")?;
    }
    body.required_number("pay_time")?;
    body.short("wx_parking_lot_id", 64)?;
    body.short("wx_trade_no", 64)?;

    world.reminders.pay_ext(body.members().clone()).map_err(refuse)?;
    Ok(done(world))
}

/// `POST …/parking-fee`: what WeChat Pay knows of a stay.
pub(crate) fn fee(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let body = Fields::body(ask.body)?;
    let out_serial_number = body.required_short("out_serial_number", 64)?;
    plate(&body)?;
    body.short("out_parking_id", 64)?;

    let stay = world.reminders.stay(out_serial_number);
    let stay = stay.ok_or_else(|| refuse(Unfit::UnknownStay))?;
    let seconds = |fields: &serde_json::Map<String, serde_json::Value>, name: &str| fields[name].as_i64().unwrap_or(0);
    let until = stay
        .exit
        .as_ref()
        .map_or(ask.now.as_second(), |exit| seconds(exit, "exit_timestamp"));
    let paid = stay.paid_amount();
    let total: u64 = stay
        .payments
        .iter()
        .filter_map(|payment| payment["total_amount"].as_u64())
        .sum();
    Ok(Reply::ok(&json!({
        "total_amount": total,
        "parking_timestamp": (until - seconds(&stay.entry, "enter_timestamp")).max(0),
        "parking_state": if stay.exit.is_some() { "PARKING_STATE_EXITED" } else { "PARKING_STATE_ENTERED" },
        "pay_state": if stay.payments.is_empty() { "PAY_STATUS_UNPAID" } else { "PAY_STATUS_PAID" },
        "payable_amount": total.saturating_sub(paid),
        "paid_amount": paid,
    })))
}

/// The members of a payment. A payment must say by which way, under which number, how much and whose it was.
fn check_payment(body: &Fields, paid: bool) -> Result<(), Refusal> {
    let pay_type = body.coded("pay_type", "PAY_TYPE_", &["UNKNOWN", "WXPAY", "OTHERS"])?;
    let out_trade_no = body.short("out_trade_no", 64)?;
    let wx_trade_no = body.short("wx_trade_no", 64)?;
    let total_amount = body.number("total_amount")?;
    let paid_amount = body.number("paid_amount")?;
    let openid = body.short("openid", 128)?;
    body.coded(
        "pay_channel",
        "PAY_CHANNEL_",
        &[
            "UNKNOWN",
            "WECHAT_PAY_NOTIF",
            "SCAN_QRCODE",
            "OFFICIAL_ACCOUNT",
            "MCH_MINI_PROG",
            "OTHERS",
        ],
    )?;
    body.number("pay_time")?;
    body.short("token", 256)?;
    if openid.is_some_and(|openid| !is_openid(openid, 128)) {
        return Err(body.wrong(PARAM_ERROR, "openid", "not an openid"));
    }
    if !paid {
        return Ok(());
    }
    match pay_type {
        None => return Err(body.missing(PARAM_ERROR, "pay_type")),
        Some("PAY_TYPE_WXPAY") => {}
        Some(_) => return Err(body.wrong(PARAM_ERROR, "pay_type", "only PAY_TYPE_WXPAY is accepted")),
    }
    if out_trade_no.is_none() && wx_trade_no.is_none() {
        return Err(body.missing(PARAM_ERROR, "out_trade_no"));
    }
    if total_amount.is_none() {
        return Err(body.missing(PARAM_ERROR, "total_amount"));
    }
    match paid_amount {
        None => return Err(body.missing(PARAM_ERROR, "paid_amount")),
        Some(0) => return Err(body.wrong(PARAM_ERROR, "paid_amount", "0 is no payment")),
        Some(_) => {}
    }
    if openid.is_none() {
        return Err(body.missing(PARAM_ERROR, "openid"));
    }
    Ok(())
}

fn required_plate(fields: &Fields) -> Result<(), Refusal> {
    if plate(fields)?.is_none() {
        return Err(fields.missing(PARAM_ERROR, "plate_number"));
    }
    Ok(())
}

/// Province and 6 letters or digits, 7 for new energy; the plates of 粤Z end in a Chinese character.
fn plate(fields: &Fields) -> Result<Option<&str>, Refusal> {
    let plate = fields.short("plate_number", 16)?;
    let fits = |plate: &str| is_plate(plate) && (7..=8).contains(&plate.chars().count());
    if plate.is_some_and(|plate| !fits(plate)) {
        return Err(fields.wrong(PARAM_ERROR, "plate_number", "not a province character and 6 or 7 more"));
    }
    Ok(plate)
}

fn refuse(why: Unfit) -> Refusal {
    match why {
        Unfit::UnknownLot => {
            Refusal::invalid("停车场不存在").hint("parking_id is the wx_parking_lot_id of an approved car park")
        }
        Unfit::OtherEntry => Refusal::invalid("商户停车单号已被其他入场信息使用"),
        Unfit::UnknownStay => Refusal::invalid("停车单不存在").hint("report the entry of this out_serial_number first"),
        Unfit::OtherLot => Refusal::invalid("parking_id与入场时不一致"),
        Unfit::OtherPlate => Refusal::invalid("plate_number与入场时不一致"),
        Unfit::Full => {
            Refusal::new(500, "SYSTEM_ERROR", "系统异常，请稍后重试").hint("the sandbox's own bound is reached")
        }
    }
}

/// Success without data.
pub(crate) fn done(world: &World) -> Reply {
    match world.rules.reminder_answer {
        ReminderAnswer::EmptyObject => Reply::ok(&json!({})),
        ReminderAnswer::NoContent => Reply::no_content(),
    }
}

const COLORS: &[&str] = &[
    "UNKNOWN",
    "BLUE",
    "YELLOW",
    "BLACK",
    "WHITE",
    "GREEN",
    "YELLOW_GREEN",
    "AGRICULTURAL_YELLOW",
    "OTHER",
];
pub(crate) const CAR_TYPES: &[&str] = &["UNKNOWN", "TEMPORARY", "MONTHLY", "FREE", "PREPAID", "OTHERS"];
pub(crate) const VEHICLE_TYPES: &[&str] = &["UNKNOWN", "SMALL", "LARGE", "EXTRA_LARGE", "ALL_TYPE"];

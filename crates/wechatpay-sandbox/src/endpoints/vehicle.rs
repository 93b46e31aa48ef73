//! `/v3/vehicle/…` (微信支付分停车, protocol 7.1, 7.2): is a plate open, a car drives in, a charge, its state.
//!
//! The documents give codes and meanings of the refusals, not their words: the messages here are the sandbox's.

use http::Uri;
use serde_json::{Map, Value, json};

use crate::callbacks::callback_url;
use crate::china;
use crate::endpoints::fields::{Fields, PARAM_ERROR, wrong_variable};
use crate::endpoints::formats::{instant, is_appid, is_openid, is_plate};
use crate::endpoints::{Ask, Reply};
use crate::members::Standing;
use crate::refusal::Refusal;
use crate::vehicles::{ServiceState, Uncharged, VehicleMerchant};
use crate::world::World;

/// `GET /v3/vehicle/parking/services/find` (查询车牌服务开通信息).
pub(crate) fn find_service(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let query = Fields::query(ask.query);
    let appid = appid(&query, "appid")?;
    let plate_number = plate(&query)?;
    let plate_color = query.required_word("plate_color", COLORS)?;
    let openid = query.required_short("openid", 32)?;
    let sub_mchid = query.short("sub_mchid", 32)?;

    admitted(world)?;
    if sub_mchid.is_some_and(|sub_mchid| !world.identity.merchant.has_child(sub_mchid)) {
        return Err(Refusal::invalid("子商户号不存在"));
    }
    if !is_openid(openid, 32) || world.members.standing(openid, appid) != Standing::Member {
        return Err(Refusal::invalid("OpenID错误"));
    }

    let service = world.vehicles.service(plate_number, plate_color);
    // Unknown: what is said about a plate that somebody else opened. Taken as not opened by this member.
    let service = service.filter(|service| service.openid == openid);
    let state = service
        .as_ref()
        .map_or(ServiceState::OutService, |service| service.state);
    let mut answer = json!({
        "plate_number": plate_number,
        "plate_color": plate_color,
        "openid": openid,
        "service_state": state.word(),
    });
    if let Some(service) = service {
        answer["service_open_time"] = china::text(service.opened_at).into();
    }
    Ok(Reply::ok(&answer))
}

/// `POST /v3/vehicle/parking/parkings` (创建停车入场).
pub(crate) fn enter(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let body = Fields::body(ask.body)?;
    let sub_mchid = body.short("sub_mchid", 32)?;
    body.required_short("out_parking_no", 64)?;
    plate(&body)?;
    body.required_word("plate_color", COLORS)?;
    let notify_url = notify_url(&body)?;
    time(&body, "start_time")?;
    body.required_short("parking_name", 128)?;
    body.required_number("free_duration")?;

    admitted(world)?;
    bound(world, sub_mchid)?;
    let entry = world.vehicles.enter(body.members().clone(), notify_url);
    let entry = entry.map_err(|()| Refusal::invalid("商户入场ID已被其他入场信息使用"))?;

    let mut answer = json!({ "id": entry.id, "state": "NORMAL" });
    copy(
        &entry.request,
        &mut answer,
        &[
            "out_parking_no",
            "plate_number",
            "plate_color",
            "start_time",
            "parking_name",
            "free_duration",
        ],
    );
    if let Some(reason) = entry.block_reason {
        answer["state"] = "BLOCKED".into();
        answer["block_reason"] = reason.into();
    }
    Ok(Reply::ok(&answer))
}

/// `POST /v3/vehicle/transactions/parking` (扣费受理).
pub(crate) fn charge(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let merchant = &world.identity.merchant;
    let body = Fields::body(ask.body)?;
    let appid = appid(&body, "appid")?;
    let sub_appid = body.short("sub_appid", 32)?;
    let sub_mchid = body.short("sub_mchid", 32)?;
    let notify_url = check_charge(&body)?;

    if !merchant.has_appid(appid) {
        return Err(Refusal::invalid("商户号与AppID未绑定"));
    }
    let unbound = sub_mchid.is_some_and(|sub_mchid| !merchant.has_child(sub_mchid))
        || sub_appid.is_some_and(|sub_appid| sub_mchid.is_none() || !merchant.has_appid(sub_appid));
    if unbound {
        return Err(Refusal::invalid("商户号、子商户号与sub_appid未绑定"));
    }
    let charge = world.vehicles.charge(body.members().clone(), notify_url);
    let charge = charge.map_err(|why| match why {
        Uncharged::OutTradeNoUsed => Refusal::new(400, "ALREADY_EXISTS", "商户订单号已被其他订单使用"),
        Uncharged::MayNotCharge => Refusal::no_auth("商户无扣费权限"),
        Uncharged::NotSupported => Refusal::invalid("不支持该商户"),
        Uncharged::UnknownParking => Refusal::invalid("停车入场ID不存在"),
        Uncharged::OtherScene => Refusal::invalid("场景信息与停车入场ID不匹配"),
        Uncharged::Abnormal => Refusal::invalid("用户状态异常"),
        Uncharged::TooMuch => Refusal::invalid("扣费金额超过限额"),
        Uncharged::Overdue => Refusal::new(403, "NOT_ENOUGH", "用户欠费过多"),
        Uncharged::TooMany => Refusal::new(403, "RULE_LIMIT", "用户当日扣费次数超限"),
    })?;
    Ok(Reply::ok(&charge.answer(&merchant.mchid, ask.now)))
}

/// `GET /v3/vehicle/transactions/out-trade-no/{out_trade_no}` (查询订单).
pub(crate) fn find_charge(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let out_trade_no = ask.variable;
    if !is_out_trade_no(out_trade_no) {
        return Err(wrong_variable(
            "商户订单号错误",
            "out_trade_no",
            out_trade_no,
            NO_TRADE_NO,
        ));
    }
    bound(world, Fields::query(ask.query).short("sub_mchid", 32)?)?;
    if world.vehicles.is_other_order(out_trade_no) {
        return Err(Refusal::invalid("非微信支付分停车订单"));
    }
    let charge = world.vehicles.find_charge(out_trade_no);
    let charge = charge.ok_or_else(|| Refusal::new(404, "NOT_FOUND", "订单不存在"))?;
    Ok(Reply::ok(&charge.answer(&world.identity.merchant.mchid, ask.now)))
}

/// The form of a charge; its `notify_url`.
fn check_charge(body: &Fields) -> Result<Uri, Refusal> {
    body.required_short("description", 128)?;
    body.short("attach", 128)?;
    if !is_out_trade_no(body.required_short("out_trade_no", 32)?) {
        return Err(body.wrong(PARAM_ERROR, "out_trade_no", NO_TRADE_NO));
    }
    body.required_word("trade_scene", &["PARKING"])?;
    body.short("goods_tag", 32)?;
    let notify_url = notify_url(body)?;
    body.word("profit_sharing", &["Y", "N"])?;
    let amount = body.required_object("amount")?;
    if amount.required_number("total")? == 0 {
        return Err(amount.wrong(PARAM_ERROR, "total", "less than 1 fen"));
    }
    amount.word("currency", &["CNY"])?;
    let info = body.required_object("parking_info")?;
    info.required_short("parking_id", 32)?;
    plate(&info)?;
    info.required_word("plate_color", COLORS)?;
    let start = time(&info, "start_time")?;
    let end = time(&info, "end_time")?;
    // From a community answer, unverified: the two must differ. That the end comes later goes without saying.
    if end <= start {
        return Err(info.wrong(PARAM_ERROR, "end_time", "not after start_time"));
    }
    info.required_short("parking_name", 32)?;
    info.required_number("charging_duration")?;
    info.required_short("device_id", 32)?;
    Ok(notify_url)
}

fn admitted(world: &World) -> Result<(), Refusal> {
    if world.vehicles.merchant() == VehicleMerchant::NotAdmitted {
        return Err(Refusal::no_auth(
            "商户号该产品权限未开通，请前往商户平台>产品中心检查后重试",
        ));
    }
    Ok(())
}

fn bound(world: &World, sub_mchid: Option<&str>) -> Result<(), Refusal> {
    if sub_mchid.is_some_and(|sub_mchid| !world.identity.merchant.has_child(sub_mchid)) {
        return Err(Refusal::invalid("服务商与子商户未绑定"));
    }
    Ok(())
}

fn appid<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, Refusal> {
    let appid = fields.required_short(name, 32)?;
    if !is_appid(appid) {
        return Err(fields.wrong(PARAM_ERROR, name, "not wx and 16 hex digits"));
    }
    Ok(appid)
}

fn plate(fields: &Fields) -> Result<&str, Refusal> {
    let plate = fields.required_short("plate_number", 32)?;
    if !is_plate(plate) {
        return Err(fields.wrong(PARAM_ERROR, "plate_number", "not a province character and a plate"));
    }
    Ok(plate)
}

fn time(fields: &Fields, name: &str) -> Result<jiff::Timestamp, Refusal> {
    instant(fields.required_short(name, 32)?)
        .ok_or_else(|| fields.wrong(PARAM_ERROR, name, "not yyyy-MM-DDThh:mm:ss+TIMEZONE"))
}

fn notify_url(fields: &Fields) -> Result<Uri, Refusal> {
    callback_url(fields.required_short("notify_url", 256)?)
        .map_err(|error| fields.wrong(PARAM_ERROR, "notify_url", error.to_string()))
}

fn copy(from: &Map<String, Value>, to: &mut Value, names: &[&str]) {
    for name in names {
        if let Some(value) = from.get(*name) {
            to[*name] = value.clone();
        }
    }
}

fn is_out_trade_no(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'*'))
}

const NO_TRADE_NO: &str = "not 1 to 32 digits, letters, _ - *";
const COLORS: &[&str] = &["BLUE", "GREEN", "YELLOW", "BLACK", "WHITE", "LIMEGREEN"];

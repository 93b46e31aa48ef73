//! `POST /v3/businesscircle/points/notify` (商圈会员积分同步, protocol 2.3).
//!
//! Three messages are documented word for word; the others are the sandbox's. The order of the checks is unknown.

use crate::endpoints::fields::{Fields, PARAM_ERROR};
use crate::endpoints::formats::{instant, is_appid, is_openid};
use crate::endpoints::parkings::{WRONG_APPID, WRONG_OPENID};
use crate::endpoints::{Ask, Reply};
use crate::members::Standing;
use crate::payments::{Points, Unready};
use crate::refusal::Refusal;
use crate::world::World;

pub(crate) fn notify(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let merchant = &world.identity.merchant;
    let body = Fields::body(ask.body)?;
    let transaction_id = body.required_short("transaction_id", 64)?;
    let appid = body.required_short("appid", 128)?;
    let openid = body.required("openid", WRONG_OPENID)?;
    let earn_points = body.truth("earn_points")?;
    let earn_points = earn_points.ok_or_else(|| body.missing(PARAM_ERROR, "earn_points"))?;
    let increased_points = body.required_number("increased_points")?;
    let update_time = body.required_short("points_update_time", 32)?;
    let remarks = body.short("no_points_remarks", 128)?;
    let total_points = body.number("total_points")?;
    let sub_mchid = body.short("sub_mchid", 64)?;

    if instant(update_time).is_none() {
        return Err(body.wrong(PARAM_ERROR, "points_update_time", "not RFC 3339 with a zone"));
    }
    if !earn_points && remarks.is_none() {
        return Err(body.missing("未获得积分时no_points_remarks不能为空", "no_points_remarks"));
    }
    if !is_appid(appid) || !merchant.has_appid(appid) {
        return Err(body.wrong(WRONG_APPID, "appid", "not a mini-program of the mall"));
    }
    if !is_openid(openid, 64) || world.members.standing(openid, appid) != Standing::Member {
        return Err(body.wrong(WRONG_OPENID, "openid", "not an openid under this appid"));
    }
    if sub_mchid.is_some_and(|sub_mchid| sub_mchid != merchant.sub_mchid) {
        return Err(Refusal::new(400, "MCH_NOT_EXISTS", "商圈商户不存在"));
    }

    let points = Points {
        earn_points,
        increased_points,
        total_points,
        remarks: remarks.map(str::to_owned),
    };
    match world.payments.report(transaction_id, openid, points, ask.now) {
        Ok(()) => Ok(Reply::no_content()),
        Err(Unready::NotSubmitted(why)) => Err(Refusal::invalid("该订单未提交积分").hint(why)),
        Err(Unready::Reported) => Err(Refusal::invalid("该订单积分已回传")),
        Err(Unready::TooLate) => Err(Refusal::invalid("该订单已超过回传时效")
            .hint("only the day (China time) of the payment's notification counts")),
        Err(Unready::OtherMember) => Err(body.wrong(WRONG_OPENID, "openid", "another member's payment")),
    }
}

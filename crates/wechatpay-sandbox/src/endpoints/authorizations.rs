//! `GET /v3/businesscircle/user-authorizations/{openid}` (商圈会员积分服务授权状态查询, protocol 2.1).
//!
//! The documents give codes and meanings of the refusals, not their words: the messages here are the sandbox's.

use serde_json::json;

use crate::china;
use crate::endpoints::fields::{Fields, PARAM_ERROR, wrong_variable};
use crate::endpoints::formats::{is_appid, is_mchid, is_openid};
use crate::endpoints::parkings::{WRONG_APPID, WRONG_OPENID};
use crate::endpoints::{Ask, Reply};
use crate::mall::MallState;
use crate::members::Standing;
use crate::refusal::Refusal;
use crate::world::World;

pub(crate) fn query(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let merchant = &world.identity.merchant;
    let query = Fields::query(ask.query);
    let openid = ask.variable;
    // The table has one row for a missing and a malformed appid: "appid invalid".
    let appid = query.required("appid", WRONG_APPID)?;
    if !is_appid(appid) {
        return Err(query.wrong(WRONG_APPID, "appid", "not wx and 16 hex digits"));
    }
    let standing = world.members.standing(openid, appid);
    if !is_openid(openid, 64) || standing == Standing::Invalid {
        return Err(wrong_variable(WRONG_OPENID, "openid", openid, "not an openid"));
    }
    let sub_mchid = query.text("sub_mchid")?;
    if sub_mchid.is_some_and(|sub_mchid| !is_mchid(sub_mchid)) {
        return Err(query.wrong(PARAM_ERROR, "sub_mchid", "not a merchant number"));
    }

    if sub_mchid.is_some_and(|sub_mchid| sub_mchid != merchant.sub_mchid) {
        return Err(Refusal::invalid("调用方不是该商圈的服务商"));
    }
    if world.moods().mall == MallState::PointsNotOpened {
        return Err(Refusal::invalid("商圈未开通支付即积分"));
    }
    world.moods().mall.check()?;
    if !merchant.has_appid(appid) {
        return Err(query.wrong(
            "AppID不是商圈积分服务配置的小程序",
            "appid",
            "not configured for the mall",
        ));
    }
    if standing == Standing::OtherAppid {
        return Err(query.wrong("OpenID与AppID不匹配", "appid", "the openid belongs to another appid"));
    }

    let authorization = world.members.authorization(openid);
    let mut answer = json!({ "openid": openid, "authorize_state": authorization.state() });
    if let Some(time) = authorization.authorized_at {
        answer["authorize_time"] = china::text(time).into();
    }
    if let Some(time) = authorization.deauthorized_at {
        answer["deauthorize_time"] = china::text(time).into();
    }
    Ok(Reply::ok(&answer))
}

//! `GET /v3/businesscircle/users/{openid}/points/commit_status` (商圈会员待积分状态查询, protocol 2.2).
//!
//! Where the table repeats a row of the parkings table, the message is the one documented there.

use serde_json::json;

use crate::endpoints::fields::{Fields, wrong_variable};
use crate::endpoints::formats::{is_appid, is_mchid, is_openid};
use crate::endpoints::parkings::{NO_APPID, NO_OPENID, WRONG_APPID, WRONG_OPENID, WRONG_SUB_MCHID, brandid};
use crate::endpoints::{Ask, Reply};
use crate::mall::{Claim, MallState};
use crate::members::Standing;
use crate::refusal::Refusal;
use crate::world::World;

/// What a successful query of pending points looks like. The sources disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitStatusAnswer {
    /// 200 with `points_commit_status`, as the official page has it.
    #[default]
    Body,
    /// 204 without a body, as community descriptions have it.
    NoContent,
}

pub(crate) fn query(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let merchant = &world.identity.merchant;
    let query = Fields::query(ask.query);
    let openid = ask.variable;
    let appid = query.required("appid", NO_APPID)?;
    let brandid = brandid(&query)?;
    if openid.trim().is_empty() {
        return Err(wrong_variable(NO_OPENID, "openid", openid, "missing"));
    }
    let standing = world.members.standing(openid, appid);
    if !is_openid(openid, 128) || standing == Standing::Invalid {
        return Err(wrong_variable(WRONG_OPENID, "openid", openid, "not an openid"));
    }
    if !is_appid(appid) {
        return Err(query.wrong(WRONG_APPID, "appid", "not wx and 16 hex digits"));
    }
    let sub_mchid = query.text("sub_mchid")?;
    if sub_mchid.is_some_and(|sub_mchid| !is_mchid(sub_mchid)) {
        return Err(query.wrong(WRONG_SUB_MCHID, "sub_mchid", "not a merchant number"));
    }

    let claim = Claim {
        brandid,
        appid,
        standing,
        sub_mchid,
    };
    let mall = world.moods().mall;
    claim.check(merchant, mall)?;
    if mall == MallState::BeforeMemberProduct {
        return Err(Refusal::no_auth("仅支持商圈会员产品的商圈调用，请升级至商圈会员3.0"));
    }
    if !world.members.authorization(openid).is_authorized() {
        return Err(Refusal::invalid("OpenID未授权该商圈"));
    }

    let status = if world.payments.has_pending(openid, ask.now) {
        "PENDING"
    } else {
        "FINISHED"
    };
    match world.rules.commit_status {
        CommitStatusAnswer::Body => Ok(Reply::ok(&json!({ "points_commit_status": status }))),
        CommitStatusAnswer::NoContent => Ok(Reply::no_content()),
    }
}

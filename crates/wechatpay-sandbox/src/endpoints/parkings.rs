//! `POST /v3/businesscircle/parkings` (商圈会员停车状态同步, protocol 1).
//!
//! [`Report::read`] is pure and refuses in the order of the documented error table: shape, presence, format, permission.
//! That the real platform checks in this order is unknown.

use jiff::Timestamp;

use crate::endpoints::fields::{Fields, PARAM_ERROR};
use crate::endpoints::formats::{instant, is_appid, is_mchid, is_openid, is_plate};
use crate::endpoints::{Ask, Reply};
use crate::mall::{Claim, MallState};
use crate::members::{Members, Standing};
use crate::merchant::Merchant;
use crate::presence::{Presence, State};
use crate::refusal::Refusal;
use crate::world::World;

pub(crate) fn sync(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let merchant = &world.identity.merchant;
    let report = Report::read(ask.body, ask.now, merchant, &world.members, world.moods().mall)?;
    let presence = Presence {
        openid: report.openid.clone(),
        appid: report.appid.clone(),
        plate_number: report.plate_number.clone(),
        state: report.state,
        at: report.at,
    };
    world
        .presences
        .record(presence, || world.ledger.commit_parking(ask.number, report));
    Ok(Reply::no_content())
}

/// A checked report.
pub(crate) struct Report {
    pub(crate) sub_mchid: Option<String>,
    pub(crate) brandid: u64,
    pub(crate) appid: String,
    pub(crate) openid: String,
    pub(crate) plate_number: String,
    pub(crate) state: State,
    pub(crate) time: String,
    pub(crate) at: Timestamp,
}

impl Report {
    fn read(
        body: &[u8],
        now: Timestamp,
        merchant: &Merchant,
        members: &Members,
        mall: MallState,
    ) -> Result<Self, Refusal> {
        let body = Fields::body(body)?;
        let brandid = brandid(&body)?;
        let appid = body.required("appid", NO_APPID)?;
        let openid = body.required("openid", NO_OPENID)?;
        let plate_number = body.required("plate_number", "业务必填字段plate_number为空")?;
        let state = body.required("state", "业务必填字段state为空")?;
        let time = body.required("time", "业务必填字段time为空")?;
        // Unknown: what an empty sub_mchid means. Taken as absent, as for every other text.
        let sub_mchid = body.text("sub_mchid")?;

        let state = match state {
            "IN" => State::In,
            "OUT" => State::Out,
            _ => return Err(body.wrong(PARAM_ERROR, "state", "not IN or OUT")),
        };
        if !is_plate(plate_number) {
            return Err(body.wrong(
                "plate_number格式有误",
                "plate_number",
                "not a province character and letters, digits, Chinese",
            ));
        }
        let at = instant(time).ok_or_else(|| body.wrong("time格式有误", "time", "not yyyy-MM-DDThh:mm:ss+TIMEZONE"))?;
        if at > now {
            return Err(body.wrong("time超出取值范围", "time", "in the future"));
        }
        let standing = members.standing(openid, appid);
        if !is_openid(openid, 64) || standing == Standing::Invalid {
            return Err(body.wrong(WRONG_OPENID, "openid", "not an openid"));
        }
        if !is_appid(appid) {
            return Err(body.wrong(WRONG_APPID, "appid", "not wx and 16 hex digits"));
        }
        if sub_mchid.is_some_and(|sub_mchid| !is_mchid(sub_mchid)) {
            return Err(body.wrong(WRONG_SUB_MCHID, "sub_mchid", "not a merchant number"));
        }

        let claim = Claim {
            brandid,
            appid,
            standing,
            sub_mchid,
        };
        claim.check(merchant, mall)?;
        Ok(Self {
            sub_mchid: sub_mchid.map(str::to_owned),
            brandid,
            appid: appid.to_owned(),
            openid: openid.to_owned(),
            plate_number: plate_number.to_owned(),
            state,
            time: time.to_owned(),
            at,
        })
    }
}

/// Unknown: what brandid 0 gives. Taken as missing.
pub(crate) fn brandid(fields: &Fields) -> Result<u64, Refusal> {
    let missing = || fields.missing("业务必填字段brand_id为空", "brandid");
    match fields.number("brandid")? {
        None | Some(0) => Err(missing()),
        Some(brandid) => Ok(brandid),
    }
}

pub(crate) const NO_APPID: &str = "业务必填字段AppID为空";
pub(crate) const NO_OPENID: &str = "业务必填字段OpenID为空";
pub(crate) const WRONG_OPENID: &str = "OpenID有误";
pub(crate) const WRONG_APPID: &str = "AppID有误";
pub(crate) const WRONG_SUB_MCHID: &str = "sub_mch_code有误";

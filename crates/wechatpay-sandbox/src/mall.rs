//! The mall (商圈) behind the brand, and who may act for it: the permission rows that several endpoints share.
//!
//! Pure. The endpoints call it once the form of a request is right.

use crate::members::Standing;
use crate::merchant::Merchant;
use crate::refusal::Refusal;

/// Which mall (商圈) the platform finds for the brand. The documents give the same misconfiguration as 403 and as 500.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MallState {
    /// One, as it should be.
    #[default]
    Unique,
    /// None or several: 403 `NO_AUTH`.
    NotUnique,
    /// None or several: 500 `SYSTEM_ERROR` with the same message.
    NotUnique500,
    /// "请求失败，商户号下暂无商圈". Status and code are unknown; the sandbox says 403 `NO_AUTH`.
    Missing,
    /// It has not opened pay-for-points (支付即积分): the authorisation query is refused.
    PointsNotOpened,
    /// It is not on the member product 3.0 (商圈会员3.0): the query of pending points is refused.
    BeforeMemberProduct,
}

impl MallState {
    /// Whether there is one mall to act for.
    pub(crate) fn check(self) -> Result<(), Refusal> {
        match self {
            Self::Unique | Self::PointsNotOpened | Self::BeforeMemberProduct => Ok(()),
            Self::NotUnique => Err(Refusal::no_auth("brandid无对应的唯一商圈mainid")),
            Self::NotUnique500 => Err(Refusal::new(500, "SYSTEM_ERROR", "brandid无对应的唯一商圈mainid")),
            Self::Missing => Err(Refusal::no_auth("请求失败，商户号下暂无商圈")),
        }
    }
}

/// Who acts, for whom, under which mini-program.
pub(crate) struct Claim<'a> {
    pub(crate) brandid: u64,
    pub(crate) appid: &'a str,
    pub(crate) standing: Standing,
    pub(crate) sub_mchid: Option<&'a str>,
}

impl Claim<'_> {
    /// The 403 rows of the endpoints that take a `brandid`, in the order of their tables.
    pub(crate) fn check(&self, merchant: &Merchant, mall: MallState) -> Result<(), Refusal> {
        if self.brandid != merchant.brandid {
            return Err(Refusal::no_auth("mch_id与brand_id关系不匹配"));
        }
        if self.standing == Standing::OtherAppid {
            return Err(Refusal::no_auth("OpenID与AppID不匹配"));
        }
        if !merchant.has_appid(self.appid) {
            return Err(Refusal::no_auth("brandid与AppID不匹配"));
        }
        mall.check()?;
        match self.sub_mchid {
            Some(other) if other == merchant.other_sub_mchid => Err(Refusal::no_auth("sub_mch_code与brand_id不匹配")),
            Some(other) if other != merchant.sub_mchid => Err(Refusal::no_auth("父子关系不匹配")),
            Some(_) | None => Ok(()),
        }
    }
}

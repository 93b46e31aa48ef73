//! What to do about a refusal whose words do not say it: one line per documented message.
//!
//! Pure, for the ledger only; nothing of it is sent. `platform.rs` asks. A refusal that knows more says so itself, with
//! `Refusal::hint`.

use crate::refusal::{Help, Refusal};

/// The refusal with a hint, when it has none and there is one to give.
pub(crate) fn explained(refusal: Refusal) -> Refusal {
    if refusal.help.is_some() {
        return refusal;
    }
    let hint = match (&refusal.detail, known(&refusal.message)) {
        (Some(detail), _) => format!("{} in the {}: {}", detail.field, detail.location, detail.issue),
        (None, Some(fix)) => fix.to_owned(),
        (None, None) => return refusal,
    };
    Refusal {
        help: Some(Box::new(Help {
            hint,
            string_to_sign: None,
            signed_instead: None,
        })),
        ..refusal
    }
}

fn known(message: &str) -> Option<&'static str> {
    let row = REMEDIES.iter().find(|(known, _)| *known == message)?;
    Some(row.1)
}

const REMEDIES: [(&str, &str); 41] = [
    // The merchant's certificate (check.rs).
    (
        "商户未设置APIv3密钥。",
        "set the APIv3 key in the merchant console, account centre, API security",
    ),
    (
        "商户未申请过证书。",
        "apply for the merchant API certificate in the merchant console",
    ),
    (
        "商户证书已过期。",
        "apply for a new merchant API certificate; the old one's five years are over",
    ),
    (
        "商户证书已作废。",
        "this certificate was revoked: sign with the key and the serial of a live one",
    ),
    (
        "已更换证书，请使用新证书。",
        "sign with the key and the serial of the new certificate",
    ),
    // The mall (mall.rs).
    (
        "brandid无对应的唯一商圈mainid",
        "no single mall belongs to this brand: the mall's contact at WeChat Pay has to link it",
    ),
    (
        "请求失败，商户号下暂无商圈",
        "this merchant has no mall yet: it is opened in the merchant console",
    ),
    (
        "mch_id与brand_id关系不匹配",
        "send the brandid of this merchant's own brand",
    ),
    (
        "OpenID与AppID不匹配",
        "an openid counts under the appid that it came from only: send that appid",
    ),
    (
        "brandid与AppID不匹配",
        "this appid is not bound to the brand: bind it, or send a bound one",
    ),
    (
        "sub_mch_code与brand_id不匹配",
        "this sub_mchid does not own the brand: send the one that does",
    ),
    (
        "父子关系不匹配",
        "this sub_mchid is no child of the merchant that signs",
    ),
    (
        "仅支持商圈会员产品的商圈调用，请升级至商圈会员3.0",
        "the mall needs the member product (商圈会员3.0) for this endpoint",
    ),
    (
        "OpenID未授权该商圈",
        "the member has not authorised the mall, or has taken it back: ask for the authorisation again",
    ),
    (
        "商圈未开通支付即积分",
        "the mall has not opened pay-for-points: it is opened in the merchant console",
    ),
    (
        "调用方不是该商圈的服务商",
        "send the sub_mchid of the mall that this service provider works for",
    ),
    ("商圈商户不存在", "the sub_mchid is no mall's merchant"),
    (
        "该订单积分已回传",
        "the points of this payment were reported already: treat it as done",
    ),
    (
        "平台证书已过期失效，请联系微信支付客服",
        "all platform certificates have expired: verify with the public key, or ask WeChat Pay",
    ),
    (
        "商户号该产品权限未开通，请前往商户平台>产品中心检查后重试",
        "the product is opened per merchant in the merchant console, product centre",
    ),
    (
        "服务商与子商户未绑定",
        "this sub_mchid is no child of the merchant that signs",
    ),
    // Pay-score parking (vehicle.rs).
    (
        "子商户号不存在",
        "send the sub_mchid of a child of the merchant that signs",
    ),
    ("OpenID错误", "no member has this openid under this appid"),
    (
        "商户入场ID已被其他入场信息使用",
        "out_parking_no is taken by another entry: use one of its own per stay",
    ),
    (
        "商户号与AppID未绑定",
        "bind the appid to the merchant, or send a bound one",
    ),
    (
        "商户号、子商户号与sub_appid未绑定",
        "the sub_mchid is no child, or sub_appid is not bound to it",
    ),
    (
        "商户订单号已被其他订单使用",
        "a repeated charge must be the same in every field; for another one use another out_trade_no",
    ),
    (
        "商户无扣费权限",
        "the merchant may not charge: the permission is opened by WeChat Pay",
    ),
    ("不支持该商户", "this kind of merchant cannot charge"),
    (
        "停车入场ID不存在",
        "parking_id is the id that the answer to the entry gave",
    ),
    (
        "场景信息与停车入场ID不匹配",
        "parking_info has to say what the entry said",
    ),
    (
        "用户状态异常",
        "the user cannot be charged without asking: let the driver pay himself",
    ),
    (
        "扣费金额超过限额",
        "above the limit of one charge: let the driver pay himself",
    ),
    ("用户欠费过多", "the user owes too much: let the driver pay himself"),
    (
        "用户当日扣费次数超限",
        "charged too often today: let the driver pay himself",
    ),
    ("非微信支付分停车订单", "this order belongs to another scene"),
    ("订单不存在", "no charge has this out_trade_no"),
    // Parking reminders (reminders.rs, reminder_lots.rs).
    (
        "商户停车单号已被其他入场信息使用",
        "out_serial_number is taken by another entry: use one of its own per stay",
    ),
    ("parking_id与入场时不一致", "send the parking_id of the entry"),
    ("plate_number与入场时不一致", "send the plate_number of the entry"),
    (
        "停车场不存在",
        "no approved car park has this id: wait for the application to pass",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Detail;

    #[test]
    fn a_refusal_gets_the_hint_that_fits_unless_it_has_one() {
        let hint = |refusal: Refusal| explained(refusal).help.map(|help| help.hint);
        let detail = Detail {
            field: "/state".into(),
            value: Some("oSecret".into()),
            issue: "not IN or OUT".into(),
            location: "body",
        };

        assert_eq!(
            hint(Refusal::parameter("参数错误", detail)).as_deref(),
            Some("/state in the body: not IN or OUT")
        );
        assert!(hint(Refusal::no_auth("父子关系不匹配")).unwrap().contains("no child"));
        assert_eq!(
            hint(Refusal::no_auth("父子关系不匹配").hint("own")).as_deref(),
            Some("own")
        );
        assert_eq!(hint(Refusal::new(500, "SYSTEM_ERROR", "系统异常，请稍后重试")), None);
    }
}

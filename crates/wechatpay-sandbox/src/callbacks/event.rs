//! The kinds of callback: their names, their envelopes, and how often they are sent again (protocol 2.4, 4.5, 7).
//!
//! Pure. The tables of resends are lists of pauses: the first one before the first try, each further one after a try
//! that failed.

use std::time::Duration;

/// What a callback tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A member opened a card, or authorised the points service (会员积分服务授权结果通知).
    Authorization,
    /// A member paid in a shop of the mall (场内支付结果通知).
    Payment,
    /// Such a payment was refunded (场内退款通知).
    Refund,
    /// A plate's state changed while the car is inside (停车入场状态变更通知).
    VehicleEntrance,
    /// A parking charge succeeded.
    VehicleSuccess,
    /// A parking charge failed.
    VehicleFail,
    /// A parking charge that WeChat Pay had advanced was paid back.
    VehiclePayBack,
    /// WeChat Pay asks for the fee of a stay (停车缴费查询).
    ParkingFee,
    /// The echo of `POST /v3/security/echo`.
    SecurityEcho,
}

impl Event {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Authorization,
        Self::Payment,
        Self::Refund,
        Self::VehicleEntrance,
        Self::VehicleSuccess,
        Self::VehicleFail,
        Self::VehiclePayBack,
        Self::ParkingFee,
        Self::SecurityEcho,
    ];

    /// `event_type` on the wire.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Authorization => "MALL_AUTH.ACTIVATE_CARD",
            Self::Payment => "MALL_TRANSACTION.SUCCESS",
            Self::Refund => "MALL_REFUND.SUCCESS",
            Self::VehicleEntrance => "VEHICLE.ENTRANCE_STATE_CHANGE",
            Self::VehicleSuccess => "TRANSACTION.SUCCESS",
            Self::VehicleFail => "TRANSACTION.FAIL",
            Self::VehiclePayBack => "TRANSACTION.PAY_BACK",
            Self::ParkingFee => "PARKING_FEE.QUERY_TRANS_INFO",
            Self::SecurityEcho => "SECURITY_ECHO.SUCCESS",
        }
    }

    pub(crate) fn summary(self) -> &'static str {
        match self {
            Self::Authorization => "会员卡激活通知",
            Self::Payment => "支付成功",
            Self::Refund => "退款成功",
            Self::VehicleEntrance => "车牌状态变更通知",
            Self::VehicleSuccess => "扣款成功",
            Self::VehicleFail => "扣款失败",
            Self::VehiclePayBack => "还款成功",
            Self::ParkingFee => "停车缴费查询交易信息",
            Self::SecurityEcho => "安全测试",
        }
    }

    /// `original_type`; the charge results come without one.
    pub(crate) fn original_type(self) -> Option<&'static str> {
        match self {
            Self::Authorization | Self::Payment => Some("discount_card"),
            Self::Refund => Some("mall_refund"),
            Self::VehicleEntrance => Some("transaction"),
            Self::VehicleSuccess | Self::VehicleFail | Self::VehiclePayBack => None,
            Self::ParkingFee => Some("parking_fee"),
            Self::SecurityEcho => Some("security"),
        }
    }

    pub(crate) fn associated_data(self) -> &'static str {
        match self {
            Self::Refund => "mall_refund",
            Self::ParkingFee => "parking_fee",
            Self::Authorization
            | Self::Payment
            | Self::VehicleEntrance
            | Self::VehicleSuccess
            | Self::VehicleFail
            | Self::VehiclePayBack
            | Self::SecurityEcho => "",
        }
    }

    /// Seconds before each try.
    pub(crate) fn pauses(self, plan: AuthorizationPlan) -> &'static [u32] {
        match self {
            Self::Authorization => match plan {
                AuthorizationPlan::Merchant => &MERCHANT,
                AuthorizationPlan::Partner => &TEN_STEPS,
                AuthorizationPlan::General => &FIFTEEN_STEPS,
            },
            Self::SecurityEcho => &TEN_STEPS,
            Self::ParkingFee => &[0],
            Self::Payment
            | Self::Refund
            | Self::VehicleEntrance
            | Self::VehicleSuccess
            | Self::VehicleFail
            | Self::VehiclePayBack => &FIFTEEN_STEPS,
        }
    }

    /// How long the merchant's server may take to let itself be connected to.
    pub(crate) fn connect_timeout(self) -> Duration {
        Duration::from_secs(if self == Self::ParkingFee { 2 } else { 5 })
    }
}

/// How often an authorisation's callback is sent again. The documents have three versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthorizationPlan {
    /// The merchant page: after 1 s, then 10 s five times, then 1 min four times.
    #[default]
    Merchant,
    /// The partner page: at once, then 15 s, 15 s, 30 s, 3 min, 30 min four times, 1 h.
    Partner,
    /// The general plan of payments.
    General,
}

const MERCHANT: [u32; 10] = [1, 10, 10, 10, 10, 10, 60, 60, 60, 60];
const TEN_STEPS: [u32; 10] = [0, 15, 15, 30, 180, 1800, 1800, 1800, 1800, 3600];
/// The documents count the fifteen resends, which sum to 24 h 4 min; the first try is at once.
const FIFTEEN_STEPS: [u32; 16] = [
    0, 15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_have_the_documented_lengths() {
        let whole = |event: Event| event.pauses(AuthorizationPlan::Merchant).iter().sum::<u32>();

        assert_eq!(whole(Event::Payment), (24 * 60 + 4) * 60);
        for event in [Event::Authorization, Event::SecurityEcho] {
            assert_eq!(event.pauses(AuthorizationPlan::Merchant).len(), 10);
        }
        assert_eq!(Event::ParkingFee.pauses(AuthorizationPlan::Merchant), [0]);
    }
}

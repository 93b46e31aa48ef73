//! What a notification tells, typed.
//!
//! Lives here: the resources of the mall, of pay-score parking, of parking reminders and of the self-test. Does not live
//! here: opening (`notify`). Everything beyond what a caller cannot do without may be absent: the samples differ.

mod fee;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::api::fields::{Personal, lenient_time, open_enum};
use crate::api::reminders::FeeQuery;
use crate::api::vehicle::{BlockReason, Charge, EntryState, PlateColor};
use crate::notify::{Notification, NotifyError};

pub use fee::{FeeReply, StayFee};

/// What a notification tells.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// `MALL_AUTH.ACTIVATE_CARD`: a member opened a card or authorised points (会员积分服务授权结果通知).
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012285836>.
    MallAuthorization(MallAuthorization),
    /// `MALL_TRANSACTION.SUCCESS`: a member paid in a shop of the mall (场内支付结果通知).
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012285856>.
    MallPayment(MallPayment),
    /// `MALL_REFUND.SUCCESS`: such a payment was refunded (场内退款通知).
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012285869>.
    MallRefund(MallRefund),
    /// `VEHICLE.ENTRANCE_STATE_CHANGE`: a plate's state changed while the car is inside.
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012284177>.
    VehicleEntrance(VehicleEntrance),
    /// `TRANSACTION.SUCCESS`, `.FAIL` or `.PAY_BACK` about a stay: what became of a charge.
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012284311>.
    VehicleCharge(Box<Charge>),
    /// `PARKING_FEE.QUERY_TRANS_INFO`: WeChat Pay asks what a stay costs, and waits for the
    /// [reply](FeeReply).
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4024070065>.
    ParkingFeeQuery(FeeQuery),
    /// `SECURITY_ECHO.SUCCESS`: the self-test.
    ///
    /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4015164042>.
    SecurityEcho(SecurityEcho),
    /// Any other one, with its resource as it came. Acknowledge it: it would only be sent again.
    Unknown {
        /// Its type.
        event_type: String,
        /// Its resource; may be about somebody.
        resource: Value,
    },
}

impl std::fmt::Debug for Event {
    /// Shows no resource that nobody knows: it may be about somebody.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::MallAuthorization(told) => told.fmt(f),
            Event::MallPayment(told) => told.fmt(f),
            Event::MallRefund(told) => told.fmt(f),
            Event::VehicleEntrance(told) => told.fmt(f),
            Event::VehicleCharge(told) => told.fmt(f),
            Event::ParkingFeeQuery(told) => told.fmt(f),
            Event::SecurityEcho(told) => told.fmt(f),
            Event::Unknown { event_type, .. } => f
                .debug_struct("Unknown")
                .field("event_type", event_type)
                .finish_non_exhaustive(),
        }
    }
}

impl Notification {
    /// Reads what it tells.
    ///
    /// # Errors
    /// [`NotifyError::Shape`] when the resource of a known event lacks what the documentation promises.
    pub fn event(&self) -> Result<Event, NotifyError> {
        Ok(match self.event_type.as_str() {
            "MALL_AUTH.ACTIVATE_CARD" => Event::MallAuthorization(self.json()?),
            "MALL_TRANSACTION.SUCCESS" => Event::MallPayment(self.json()?),
            "MALL_REFUND.SUCCESS" => Event::MallRefund(self.json()?),
            "VEHICLE.ENTRANCE_STATE_CHANGE" => Event::VehicleEntrance(self.json()?),
            "PARKING_FEE.QUERY_TRANS_INFO" => Event::ParkingFeeQuery(self.json()?),
            "SECURITY_ECHO.SUCCESS" => Event::SecurityEcho(self.json()?),
            "TRANSACTION.SUCCESS" | "TRANSACTION.FAIL" | "TRANSACTION.PAY_BACK" => self.transaction()?,
            _ => self.unknown()?,
        })
    }

    /// Ordinary payments have the same event types, and one page prints them for an entrance, too: the resource decides.
    fn transaction(&self) -> Result<Event, NotifyError> {
        let resource: Value = self.json()?;
        let has = |name| resource.get(name).is_some();
        if resource["trade_scene"] == "PARKING" || has("parking_info") {
            Ok(Event::VehicleCharge(Box::new(self.json()?)))
        } else if has("parking_state") && has("parking_id") {
            Ok(Event::VehicleEntrance(self.json()?))
        } else {
            self.unknown()
        }
    }

    fn unknown(&self) -> Result<Event, NotifyError> {
        Ok(Event::Unknown {
            event_type: self.event_type.clone(),
            resource: self.json()?,
        })
    }
}

/// A member opened a card or authorised points. It has no `appid`; withdrawals are not told: ask with
/// [`authorization`](crate::BusinessCircle::authorization).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct MallAuthorization {
    /// The member under the mini-program used.
    pub openid: Personal,
    /// The code of the member's card.
    #[serde(default)]
    pub code: Personal,
    /// The mall.
    #[serde(default)]
    pub mchid: String,
    /// What was authorised.
    pub auth_type: AuthType,
}

open_enum! {
    /// What a member authorised (用户授权类型).
    AuthType {
        /// A card was opened, points were not authorised.
        Registered = "REGISTERED_MODE",
        /// A card was opened and points were authorised.
        RegisteredAndAuthorized = "REGISTERED_AND_AUTHORIZATION_MODE",
    }
}

/// A member paid in a shop of the mall.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct MallPayment {
    /// The mall.
    #[serde(default)]
    pub mchid: String,
    /// The mall's name.
    #[serde(default)]
    pub merchant_name: String,
    /// The shop's name, as entered.
    #[serde(default)]
    pub shop_name: String,
    /// The shop's number, as entered: maps to the mall's own.
    #[serde(default)]
    pub shop_number: String,
    /// The mini-program used when authorising.
    pub appid: String,
    /// The member under it.
    pub openid: Personal,
    /// When.
    #[serde(default, deserialize_with = "lenient_time")]
    pub time_end: Option<Timestamp>,
    /// What was paid, in fen.
    pub amount: i64,
    /// WeChat Pay's number: the key for points and for repeats.
    pub transaction_id: String,
    /// There only when the member handed the payment in by hand.
    #[serde(default)]
    pub commit_tag: Option<String>,
}

/// A payment in a shop of the mall was refunded. Told for 30 days, when points were reported for the payment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct MallRefund {
    /// The mall.
    #[serde(default)]
    pub mchid: String,
    /// The mall's name.
    #[serde(default)]
    pub merchant_name: String,
    /// The shop's name, as entered.
    #[serde(default)]
    pub shop_name: String,
    /// The shop's number, as entered.
    #[serde(default)]
    pub shop_number: String,
    /// The mini-program used when authorising.
    pub appid: String,
    /// The member under it.
    pub openid: Personal,
    /// When.
    #[serde(default, deserialize_with = "lenient_time")]
    pub refund_time: Option<Timestamp>,
    /// What had been paid, in fen.
    #[serde(default)]
    pub pay_amount: i64,
    /// What goes back, in fen.
    pub refund_amount: i64,
    /// The payment.
    pub transaction_id: String,
    /// The refund: the key for repeats.
    pub refund_id: String,
}

/// A plate's state changed while the car is inside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct VehicleEntrance {
    /// The caller.
    #[serde(default)]
    pub sp_mchid: String,
    /// The sub-merchant.
    #[serde(default)]
    pub sub_mchid: Option<String>,
    /// WeChat Pay's number of the stay.
    pub parking_id: String,
    /// The merchant's own.
    #[serde(default)]
    pub out_parking_no: String,
    /// The plate.
    pub plate_number: Personal,
    /// Its colour.
    #[serde(default)]
    pub plate_color: PlateColor,
    /// When it drove in.
    #[serde(default, deserialize_with = "lenient_time")]
    pub start_time: Option<Timestamp>,
    /// The car park.
    #[serde(default)]
    pub parking_name: String,
    /// Free seconds.
    #[serde(default)]
    pub free_duration: i64,
    /// Whether the stay can be charged afterwards.
    pub parking_state: EntryState,
    /// Why it cannot.
    #[serde(default)]
    pub blocked_state_description: Option<BlockReason>,
    /// When the state changed.
    #[serde(default, deserialize_with = "lenient_time")]
    pub state_update_time: Option<Timestamp>,
}

/// The self-test came back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct SecurityEcho {
    /// As it was sent.
    #[serde(default)]
    pub echo_message: String,
    /// Sealed for the merchant. Named differently here than in the answer of the call.
    #[serde(default, alias = "encrypted_echo_message")]
    pub encrypt_echo_message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::vehicle::TradeState;

    fn event(event_type: &str, plaintext: &str) -> Result<Event, NotifyError> {
        let notification = Notification {
            id: "EV-1".into(),
            create_time: String::new(),
            event_type: event_type.into(),
            summary: String::new(),
            original_type: None,
            plaintext: plaintext.as_bytes().to_vec(),
        };
        notification.event()
    }

    #[test]
    fn the_published_samples_are_read() {
        let auth = event(
            "MALL_AUTH.ACTIVATE_CARD",
            r#"{"openid":"oWmnN4xxxxxxxxxxe92NHIGf1xd8","code":"478515832665","mchid":"1230000109","auth_type":"REGISTERED_MODE "}"#,
        );
        let Ok(Event::MallAuthorization(auth)) = auth else {
            panic!("{auth:?}")
        };
        assert_eq!(auth.auth_type, AuthType::Registered, "the sample ends in a blank");

        let paid = event(
            "MALL_TRANSACTION.SUCCESS",
            r#"{"mchid":"1230000109","merchant_name":"腾讯广场","shop_name":"微信支付","shop_number":"123456",
                "appid":"wxd678efh567hg6787","openid":"oUpF8uMuAJ2pxb1Q9zNjWUHsd","amount":200,
                "time_end":"2020-05-20T13:29:35+08:00","transaction_id":"1234567890","code":"x","auth_type":"y"}"#,
        );
        let Ok(Event::MallPayment(paid)) = paid else {
            panic!("{paid:?}")
        };
        assert_eq!(
            (paid.amount, paid.transaction_id.as_str(), paid.commit_tag),
            (200, "1234567890", None)
        );
        assert_eq!(paid.time_end.map(Timestamp::as_second), Some(1_589_952_575));

        let refund = event(
            "MALL_REFUND.SUCCESS",
            r#"{"appid":"wx2c23be954ff1624f","openid":"swe23be954ffots3jrvjweslfmde","refund_amount":100,
                "transaction_id":"42000001217201407033233368018","refund_id":"1217752501201407033233368999"}"#,
        );
        assert!(matches!(refund, Ok(Event::MallRefund(refund)) if refund.refund_amount == 100));
        let echo = event(
            "SECURITY_ECHO.SUCCESS",
            r#"{"echo_message":"hello","encrypt_echo_message":"AAAA"}"#,
        );
        assert!(matches!(echo, Ok(Event::SecurityEcho(echo)) if echo.encrypt_echo_message.is_some()));
        let fee = event(
            "PARKING_FEE.QUERY_TRANS_INFO",
            r#"{"out_serial_number":"PARK20260423001","plate_number":"粤B12345","out_parking_id":"lot"}"#,
        );
        assert!(matches!(fee, Ok(Event::ParkingFeeQuery(fee)) if fee.out_serial_number == "PARK20260423001"));
    }

    #[test]
    fn the_resource_tells_the_transactions_apart() {
        let entrance = r#"{"parking_id":"5K82","plate_number":"粤B888888","parking_state":"BLOCKED",
            "blocked_state_description":"REMOVE","state_update_time":"2015-05-20T13:29:35.120+08:00"}"#;
        for event_type in ["VEHICLE.ENTRANCE_STATE_CHANGE", "TRANSACTION.SUCCESS"] {
            let Ok(Event::VehicleEntrance(entrance)) = event(event_type, entrance) else {
                panic!("{event_type}")
            };
            assert_eq!(entrance.blocked_state_description, Some(BlockReason::Remove));
        }

        let charge = r#"{"out_trade_no":"1","trade_state":"ACCEPT","trade_scene":"PARKING","payer":{"openid":"o"}}"#;
        let Ok(Event::VehicleCharge(charge)) = event("TRANSACTION.FAIL", charge) else {
            panic!()
        };
        assert_eq!(charge.trade_state, TradeState::Accepted);

        let ordinary = event("TRANSACTION.SUCCESS", r#"{"out_trade_no":"1","trade_type":"JSAPI"}"#);
        assert!(matches!(ordinary, Ok(Event::Unknown { .. })));
    }

    #[test]
    fn unknown_events_are_kept_and_broken_ones_refused() {
        let unknown = event("VEHICLE.USER_STATE_CHANGE", r#"{"a":1}"#).unwrap();
        assert_eq!(
            unknown,
            Event::Unknown {
                event_type: "VEHICLE.USER_STATE_CHANGE".into(),
                resource: serde_json::json!({"a": 1})
            }
        );
        assert_eq!(
            format!("{unknown:?}"),
            r#"Unknown { event_type: "VEHICLE.USER_STATE_CHANGE", .. }"#
        );
        assert!(matches!(event("MALL_REFUND.SUCCESS", "{}"), Err(NotifyError::Shape(_))));
        assert!(matches!(
            event("MALL_REFUND.SUCCESS", "no JSON"),
            Err(NotifyError::Shape(_))
        ));
    }
}

//! A charge, as it is asked for and as WeChat Pay holds it.
//!
//! Called by `vehicle`; notifications carry the same.

use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PlateColor, TRANSACTION, TradeState, YesNo, check_sub_mchid, check_time};
use crate::api::fields::{
    FieldError, Personal, check_https, check_not_negative, check_plate, check_positive, check_prose, check_text,
    china_time, lenient_time,
};
use crate::error::Error;
use crate::request::Request;
use crate::route::Route;

/// A stay to be charged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewCharge {
    /// The application.
    pub appid: String,
    /// The sub-merchant's application; service providers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_appid: Option<String>,
    /// The sub-merchant; service providers only, required there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_mchid: Option<String>,
    /// Shown on the bill.
    pub description: String,
    /// Comes back unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach: Option<String>,
    /// The merchant's own number of the charge: digits, letters, `_`, `-`, `*`; unique.
    pub out_trade_no: String,
    /// For coupons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goods_tag: Option<String>,
    /// Where WeChat Pay tells the outcome; HTTPS.
    pub notify_url: String,
    /// Whether the money may be shared later; no when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profit_sharing: Option<YesNo>,
    /// How much.
    pub amount: NewAmount,
    /// Always `PARKING`.
    pub trade_scene: Scene,
    /// For which stay.
    pub parking_info: ParkingInfo,
}

/// `PARKING`, the only scene there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Scene {
    /// Parking (停车).
    #[default]
    #[serde(rename = "PARKING")]
    Parking,
}

/// How much is charged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewAmount {
    /// In fen.
    pub total: i64,
    /// `CNY` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// Which stay is charged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ParkingInfo {
    /// WeChat Pay's number of the stay ([`Entry::id`](crate::api::vehicle::Entry::id)).
    pub parking_id: String,
    /// The plate.
    pub plate_number: Personal,
    /// Its colour.
    pub plate_color: PlateColor,
    /// When it drove in. Written in China time.
    #[serde(serialize_with = "china_time")]
    pub start_time: Timestamp,
    /// When it drove out; not the same moment.
    #[serde(serialize_with = "china_time")]
    pub end_time: Timestamp,
    /// The car park; shorter than at the entry.
    pub parking_name: String,
    /// For how long is charged, in seconds.
    pub charging_duration: i64,
    /// The gate.
    pub device_id: String,
}

impl NewCharge {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_text("appid", &self.appid, 32)?;
        if let Some(sub_appid) = &self.sub_appid {
            check_text("sub_appid", sub_appid, 32)?;
        }
        check_sub_mchid(self.sub_mchid.as_deref())?;
        check_prose("description", &self.description, 128)?;
        if let Some(attach) = &self.attach {
            check_prose("attach", attach, 128)?;
        }
        check_out_trade_no(&self.out_trade_no)?;
        if let Some(goods_tag) = &self.goods_tag {
            check_prose("goods_tag", goods_tag, 32)?;
        }
        check_https("notify_url", &self.notify_url, 256)?;
        check_positive("amount.total", self.amount.total)?;
        if let Some(currency) = &self.amount.currency {
            check_text("amount.currency", currency, 16)?;
        }
        self.parking_info.check()
    }
}

impl ParkingInfo {
    fn check(&self) -> Result<(), FieldError> {
        check_text("parking_info.parking_id", &self.parking_id, 32)?;
        check_plate(&self.plate_number, 32)?;
        self.plate_color.check("parking_info.plate_color")?;
        check_time("parking_info.start_time", self.start_time)?;
        if self.end_time <= self.start_time {
            return Err(FieldError::new("parking_info.end_time", "must be after start_time"));
        }
        check_prose("parking_info.parking_name", &self.parking_name, 32)?;
        check_not_negative("parking_info.charging_duration", self.charging_duration)?;
        check_text("parking_info.device_id", &self.device_id, 32)
    }
}

/// A charge as WeChat Pay holds it; what the charge, the query and the notification answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Charge {
    /// The application.
    #[serde(default)]
    pub appid: String,
    /// The caller, in merchant mode too.
    #[serde(default)]
    pub sp_mchid: String,
    /// The sub-merchant's application.
    #[serde(default)]
    pub sub_appid: Option<String>,
    /// The sub-merchant.
    #[serde(default)]
    pub sub_mchid: Option<String>,
    /// The merchant's own number of the charge.
    pub out_trade_no: String,
    /// WeChat Pay's.
    #[serde(default)]
    pub transaction_id: Option<String>,
    /// What became of it.
    pub trade_state: TradeState,
    /// The same in words.
    #[serde(default)]
    pub trade_state_description: Option<String>,
    /// Shown on the bill.
    #[serde(default)]
    pub description: String,
    /// As given.
    #[serde(default)]
    pub attach: Option<String>,
    /// When it was taken on.
    #[serde(default, deserialize_with = "lenient_time")]
    pub create_time: Option<Timestamp>,
    /// When it was paid.
    #[serde(default, deserialize_with = "lenient_time")]
    pub success_time: Option<Timestamp>,
    /// The bank; `BPA` when WeChat Pay advanced the money (垫资).
    #[serde(default)]
    pub bank_type: Option<String>,
    /// Whether the user has repaid; only with `BPA`.
    #[serde(default)]
    pub user_repaid: Option<YesNo>,
    /// The scene.
    #[serde(default)]
    pub trade_scene: String,
    /// Which stay.
    #[serde(default)]
    pub parking_info: Option<ParkingInfoAnswer>,
    /// Who paid.
    #[serde(default)]
    pub payer: Option<Payer>,
    /// How much.
    #[serde(default)]
    pub amount: Option<Amount>,
    /// Discounts.
    #[serde(default)]
    pub promotion_detail: Vec<Promotion>,
}

/// Which stay was charged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ParkingInfoAnswer {
    /// WeChat Pay's number of the stay.
    pub parking_id: String,
    /// The plate.
    pub plate_number: Personal,
    /// Its colour.
    pub plate_color: PlateColor,
    /// When it drove in.
    #[serde(deserialize_with = "lenient_time")]
    pub start_time: Option<Timestamp>,
    /// When it drove out.
    #[serde(deserialize_with = "lenient_time")]
    pub end_time: Option<Timestamp>,
    /// The car park.
    pub parking_name: String,
    /// For how long was charged, in seconds.
    pub charging_duration: i64,
    /// The gate.
    pub device_id: String,
}

/// Who paid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Payer {
    /// The user under `appid`.
    pub openid: Personal,
    /// The user under `sub_appid`.
    pub sub_openid: Option<Personal>,
}

/// How much, in fen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Amount {
    /// Charged.
    pub total: i64,
    /// `CNY`.
    pub currency: Option<String>,
    /// Paid by the user.
    pub payer_total: Option<i64>,
    /// Paid by discounts.
    pub discount_total: Option<i64>,
}

/// One discount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Promotion {
    /// The coupon; one sample calls it `promotion_id`.
    #[serde(alias = "promotion_id")]
    pub coupon_id: String,
    /// Its name.
    pub name: Option<String>,
    /// `GLOBAL` or `SINGLE`.
    pub scope: Option<String>,
    /// `CASH`, `NOCASH`, or in one sample `DISCOUNT`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The batch; notifications call it `activity_id`.
    #[serde(alias = "activity_id")]
    pub stock_id: Option<String>,
    /// In fen.
    pub amount: i64,
    /// WeChat Pay's part.
    pub wechatpay_contribute: Option<i64>,
    /// The merchant's part.
    pub merchant_contribute: Option<i64>,
    /// Others' part.
    pub other_contribute: Option<i64>,
    /// `CNY`.
    pub currency: Option<String>,
}

pub(super) fn charge_request(out_trade_no: &str, sub_mchid: Option<&str>) -> Result<Request, Error> {
    check_out_trade_no(out_trade_no)
        .and_then(|()| check_sub_mchid(sub_mchid))
        .map_err(|source| Error::build(TRANSACTION, source))?;
    let route = Route::new(TRANSACTION)
        .bind("out_trade_no", out_trade_no)
        .query_if("sub_mchid", sub_mchid);
    Ok(Request::new(Method::GET, route))
}

fn check_out_trade_no(number: &str) -> Result<(), FieldError> {
    check_text("out_trade_no", number, 32)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-*".contains(&byte);
    match number.bytes().all(allowed) {
        true => Ok(()),
        false => Err(FieldError::new(
            "out_trade_no",
            "may hold only digits, letters, _, - and *",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn charge() -> NewCharge {
        let time = |text: &str| text.parse().unwrap();
        NewCharge {
            appid: "wxcbda96de0b165486".into(),
            sub_mchid: Some("1900000109".into()),
            description: "停车场扣费".into(),
            out_trade_no: "20150806125346".into(),
            notify_url: "https://yoursite.com/wxpay.html".into(),
            profit_sharing: Some(YesNo::Yes),
            amount: NewAmount {
                total: 888,
                currency: Some("CNY".into()),
            },
            parking_info: ParkingInfo {
                parking_id: "5K8264ILTKCH16CQ250".into(),
                plate_number: "粤B888888".into(),
                plate_color: PlateColor::Blue,
                start_time: time("2017-08-26T10:43:39+08:00"),
                end_time: time("2017-08-26T11:43:39+08:00"),
                parking_name: "欢乐海岸停车场".into(),
                charging_duration: 3600,
                device_id: "12313".into(),
            },
            ..NewCharge::default()
        }
    }

    #[test]
    fn a_charge_is_written_as_documented() {
        let written = serde_json::to_value(charge()).unwrap();

        assert_eq!(
            written,
            json!({
                "appid": "wxcbda96de0b165486", "sub_mchid": "1900000109", "description": "停车场扣费",
                "out_trade_no": "20150806125346", "trade_scene": "PARKING", "profit_sharing": "Y",
                "notify_url": "https://yoursite.com/wxpay.html", "amount": {"total": 888, "currency": "CNY"},
                "parking_info": {
                    "parking_id": "5K8264ILTKCH16CQ250", "plate_number": "粤B888888", "plate_color": "BLUE",
                    "start_time": "2017-08-26T10:43:39+08:00", "end_time": "2017-08-26T11:43:39+08:00",
                    "parking_name": "欢乐海岸停车场", "charging_duration": 3600, "device_id": "12313",
                },
            })
        );
        assert_eq!(charge().check(), Ok(()));
    }

    #[test]
    fn the_wrong_field_is_named() {
        type Change = fn(&mut NewCharge);
        let table: [(Change, &str); 7] = [
            (|c| c.appid.clear(), "appid is empty"),
            (|c| c.out_trade_no = "a b".into(), "out_trade_no has a blank"),
            (|c| c.out_trade_no = "a/b".into(), "out_trade_no may hold only"),
            (
                |c| c.notify_url = "http://a.example".into(),
                "notify_url must start with https",
            ),
            (|c| c.amount.total = 0, "amount.total must be greater than 0"),
            (
                |c| c.parking_info.end_time = c.parking_info.start_time,
                "parking_info.end_time must be after",
            ),
            (
                |c| c.parking_info.plate_color = PlateColor::default(),
                "parking_info.plate_color is not set",
            ),
        ];

        for (change, message) in table {
            let mut changed = charge();
            change(&mut changed);
            let problem = changed.check().unwrap_err().to_string();
            assert!(problem.starts_with(message), "{problem}");
        }
    }

    #[test]
    fn a_charge_of_a_notification_is_read_with_its_other_names() {
        let charge: Charge = serde_json::from_value(json!({
            "out_trade_no": "20150806125346", "trade_state": "ACCEPT", "user_repaid": "Y",
            "promotion_detail": [{"promotion_id": "109519", "activity_id": "931386", "type": "DISCOUNT", "amount": 1}],
        }))
        .unwrap();

        assert_eq!(charge.trade_state, TradeState::Accepted);
        assert_eq!(charge.user_repaid, Some(YesNo::Yes));
        let [promotion] = &charge.promotion_detail[..] else {
            panic!()
        };
        assert_eq!(
            (promotion.coupon_id.as_str(), promotion.stock_id.as_deref()),
            ("109519", Some("931386"))
        );
    }
}

//! Pay-score parking (微信支付分停车): drive out first, pay later.
//!
//! Lives here: its four calls, and the types that its notifications share with them. Does not live here: opening
//! notifications (`notify`).
//!
//! Official pages: <https://pay.weixin.qq.com/doc/v3/merchant/4012077223> (overview),
//! <https://pay.weixin.qq.com/doc/v3/merchant/4012077649> (guide).

mod charges;

use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::calls::{calls, post, read};
use crate::api::fields::{
    FieldError, Personal, check_https, check_not_negative, check_plate, check_prose, check_text, china_time,
    lenient_time, open_enum,
};
use crate::error::Error;
use crate::request::Request;
use crate::route::Route;

pub use charges::{Amount, Charge, NewAmount, NewCharge, ParkingInfo, ParkingInfoAnswer, Payer, Promotion, Scene};

use charges::charge_request;

const SERVICES: &str = "/v3/vehicle/parking/services/find";
const PARKINGS: &str = "/v3/vehicle/parking/parkings";
const TRANSACTIONS: &str = "/v3/vehicle/transactions/parking";
const TRANSACTION: &str = "/v3/vehicle/transactions/out-trade-no/{out_trade_no}";

calls! {
    /// Pay-score parking (微信支付分停车), typed. Made by `client.vehicle_parking()`.
    VehicleParking from vehicle_parking {
        /// Asks whether the service is open for a plate (查询车牌服务开通信息).
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012534043>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn find_service(query: &ServiceQuery) -> Service {
            query.request(),
            read
        }

        /// Tells WeChat Pay that a car drove in (创建停车入场). Repeating it with the same `out_parking_no` and the same
        /// fields is safe.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012533937>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn create_entry(entry: &NewEntry) -> Entry {
            post(PARKINGS, entry, entry.check()).map(Request::repeatable),
            read
        }

        /// Charges a stay (扣费受理). Open the gate only when the answer says [`TradeState::Accepted`]. Repeating it with
        /// the same `out_trade_no` and the same fields is safe.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012534352>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn charge(charge: &NewCharge) -> Charge {
            post(TRANSACTIONS, charge, charge.check()).map(Request::repeatable),
            read
        }

        /// Asks what became of a charge (查询订单).
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012534308>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn find_charge(out_trade_no: &str, sub_mchid: Option<&str>) -> Charge {
            charge_request(out_trade_no, sub_mchid),
            read
        }
    }
}

open_enum! {
    /// The colour of a plate (车牌颜色).
    PlateColor {
        /// 蓝.
        Blue = "BLUE",
        /// 绿: new energy, small.
        Green = "GREEN",
        /// 黄.
        Yellow = "YELLOW",
        /// 黑.
        Black = "BLACK",
        /// 白.
        White = "WHITE",
        /// 黄绿: new energy, large.
        LimeGreen = "LIMEGREEN",
    }

    /// Whether the service is open for a plate.
    ServiceState {
        /// It is.
        Normal = "NORMAL",
        /// Suspended.
        Pause = "PAUSE",
        /// Not opened.
        OutService = "OUT_SERVICE",
    }

    /// Whether a stay can be charged afterwards.
    EntryState {
        /// It can.
        Normal = "NORMAL",
        /// It cannot; see the reason.
        Blocked = "BLOCKED",
    }

    /// Why a stay cannot be charged afterwards. Entries and notifications have different words for it.
    BlockReason {
        /// The service is suspended.
        Pause = "PAUSE",
        /// Something is owed.
        Overdue = "OVERDUE",
        /// Not opened.
        OutService = "OUT_SERVICE",
        /// The assessment failed.
        EvaluationFailed = "EVALUATION_FAILED",
        /// The user removed the plate.
        Remove = "REMOVE",
    }

    /// What became of a charge.
    TradeState {
        /// Paid, or advanced by WeChat Pay.
        Success = "SUCCESS",
        /// Taken on; open the gate. The notification spells it `ACCEPT`.
        Accepted = "ACCEPTED" | "ACCEPT",
        /// Not paid. The same `out_trade_no` may be used again.
        PayFail = "PAY_FAIL",
        /// Paid back.
        Refund = "REFUND",
    }

    /// Yes or no, where WeChat Pay writes a letter.
    YesNo {
        /// Yes.
        Yes = "Y",
        /// No.
        No = "N",
    }
}

/// Which plate is asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceQuery {
    /// The sub-merchant; service providers only, required there.
    pub sub_mchid: Option<String>,
    /// The application.
    pub appid: String,
    /// The plate.
    pub plate_number: Personal,
    /// Its colour.
    pub plate_color: PlateColor,
    /// The user under `appid`.
    pub openid: Personal,
}

impl ServiceQuery {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_sub_mchid(self.sub_mchid.as_deref())?;
        check_text("appid", &self.appid, 32)?;
        check_plate(&self.plate_number, 32)?;
        self.plate_color.check("plate_color")?;
        check_text("openid", &self.openid, 32)
    }

    fn request(&self) -> Result<Request, Error> {
        self.check().map_err(|source| Error::build(SERVICES, source))?;
        let route = Route::new(SERVICES)
            .query_if("sub_mchid", self.sub_mchid.as_ref())
            .query("appid", &self.appid)
            .query("plate_number", &*self.plate_number)
            .query("plate_color", &self.plate_color)
            .query("openid", &*self.openid);
        Ok(Request::new(Method::GET, route))
    }
}

/// Whether the service is open for a plate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Service {
    /// The plate.
    pub plate_number: Personal,
    /// Its colour.
    pub plate_color: PlateColor,
    /// Since when.
    #[serde(default, deserialize_with = "lenient_time")]
    pub service_open_time: Option<Timestamp>,
    /// The user.
    pub openid: Personal,
    /// Whether it is open.
    pub service_state: ServiceState,
}

/// A car that drove in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewEntry {
    /// The sub-merchant; service providers only, required there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_mchid: Option<String>,
    /// The merchant's own number of the stay (商户入场ID), unique.
    pub out_parking_no: String,
    /// The plate.
    pub plate_number: Personal,
    /// Its colour.
    pub plate_color: PlateColor,
    /// Where WeChat Pay tells about changes; HTTPS.
    pub notify_url: String,
    /// When it drove in. Written in China time.
    #[serde(serialize_with = "china_time")]
    pub start_time: Timestamp,
    /// The car park.
    pub parking_name: String,
    /// How long parking is free, in seconds.
    pub free_duration: i64,
}

impl NewEntry {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_sub_mchid(self.sub_mchid.as_deref())?;
        check_text("out_parking_no", &self.out_parking_no, 64)?;
        check_plate(&self.plate_number, 32)?;
        self.plate_color.check("plate_color")?;
        check_https("notify_url", &self.notify_url, 256)?;
        check_time("start_time", self.start_time)?;
        check_prose("parking_name", &self.parking_name, 128)?;
        check_not_negative("free_duration", self.free_duration)
    }
}

/// An entry as WeChat Pay holds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// WeChat Pay's number of the stay: `parking_id` from here on.
    pub id: String,
    /// The merchant's own.
    #[serde(default)]
    pub out_parking_no: String,
    /// The plate.
    pub plate_number: Personal,
    /// Its colour.
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
    pub state: EntryState,
    /// Why it cannot. The documentation's example has a reason together with `NORMAL`: look at `state` first.
    #[serde(default)]
    pub block_reason: Option<BlockReason>,
}

fn check_sub_mchid(sub_mchid: Option<&str>) -> Result<(), FieldError> {
    sub_mchid.map_or(Ok(()), |sub_mchid| check_text("sub_mchid", sub_mchid, 32))
}

fn check_time(field: &'static str, time: Timestamp) -> Result<(), FieldError> {
    match time == Timestamp::UNIX_EPOCH {
        true => Err(FieldError::new(field, "is not set")),
        false => Ok(()),
    }
}

//! Parking reminders (停车便捷缴费): WeChat Pay reminds the driver to pay.
//!
//! Lives here: the ten calls and the words they share. Does not live here: stays (`stays`), car parks (`lots`) and their
//! prices (`tariff`), the fee query by WeChat Pay (`notify`).
//!
//! Times are Unix seconds here, unlike everywhere else. Where sources disagree on 200 or 204, both are taken.
//!
//! Official pages: <https://pay.weixin.qq.com/doc/v3/partner/4019514964> (overview),
//! <https://pay.weixin.qq.com/doc/v3/partner/4020339052> (guide).

mod lots;
mod stays;
mod tariff;

use crate::api::calls::{calls, done, post, read};
use crate::api::fields::{FieldError, open_enum};
use crate::error::Error;
use crate::request::Request;
use crate::response::Response;
use crate::route::Route;
use http::Method;

pub use lots::*;
pub use stays::*;
pub use tariff::*;

const APPLICATION: &str = "/v3/parking/reminders/application";
const APPLICATION_QUERY: &str = "/v3/parking/reminders/application/query";
const APPLICATIONS: &str = "/v3/parking/reminders/applications";
const WITHDRAW: &str = "/v3/parking/reminders/application/withdraw";
const PARKING_LOT: &str = "/v3/parking/reminders/parking-lot";
const ENTRY: &str = "/v3/parking/reminders/entry";
const EXIT: &str = "/v3/parking/reminders/exit";
const PAYMENT: &str = "/v3/parking/reminders/payment";
const EXT_PAYMENT: &str = "/v3/parking/reminders/ext-payment";
const PARKING_FEE: &str = "/v3/parking/reminders/parking-fee";

calls! {
    /// Parking reminders (停车便捷缴费), typed. Made by `client.parking_reminders()`.
    ParkingReminders from parking_reminders {
        /// Submits a car park (停车场进件); answers the number of the application.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4019557780>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn apply(parking_lot: &ParkingLotApplication) -> ApplicationNumber {
            post(APPLICATION, &Submitted { parking_lot }, parking_lot.check()),
            read
        }

        /// Asks for one application.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4019557794>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn application(which: &ApplicationKey) -> FoundApplication {
            which.query(),
            read
        }

        /// Lists the applications of a car park.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4019557811>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn applications(page: &ApplicationsQuery) -> Applications {
            page.request(),
            read
        }

        /// Withdraws an application.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4019557799>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn withdraw(which: &ApplicationKey) -> Response {
            post(WITHDRAW, which, which.check()),
            done
        }

        /// Asks for a car park and whether it is enabled.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4023070758>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn parking_lot(which: &ParkingLotKey) -> ParkingLot {
            which.request(),
            read
        }

        /// Tells that a car drove in (同步车辆入场).
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4019557757>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn entry(entry: &Entry) -> EntryAnswer {
            post(ENTRY, entry, entry.check()),
            read
        }

        /// Tells that a car drove out (同步车辆离场), with its payment unless [`payment`](Self::payment) told that.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4019557725>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn exit(exit: &Exit) -> Response {
            post(EXIT, exit, exit.check()),
            done
        }

        /// Tells that a stay was paid (同步支付结果). Report one payment once: here or with the exit.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4019557765>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn payment(payment: &Payment) -> Response {
            post(PAYMENT, payment, payment.check()),
            done
        }

        /// Tells a payment that belongs to no stay, such as a monthly card (非临停扩展支付).
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4020338487>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn ext_payment(payment: &ExtPayment) -> Response {
            post(EXT_PAYMENT, payment, payment.check()),
            done
        }

        /// Asks what a stay costs.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/partner/4019557825>.
        ///
        /// # Errors
        /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
        fn parking_fee(query: &FeeQuery) -> Fee {
            post(PARKING_FEE, query, query.check()).map(Request::repeatable),
            read
        }
    }
}

open_enum! {
    /// The colour of a plate (车牌颜色).
    PlateColor {
        /// Unknown.
        Unknown = "PLATE_COLOR_UNKNOWN",
        /// 蓝.
        Blue = "PLATE_COLOR_BLUE",
        /// 黄.
        Yellow = "PLATE_COLOR_YELLOW",
        /// 黑.
        Black = "PLATE_COLOR_BLACK",
        /// 白.
        White = "PLATE_COLOR_WHITE",
        /// 绿.
        Green = "PLATE_COLOR_GREEN",
        /// 黄绿.
        YellowGreen = "PLATE_COLOR_YELLOW_GREEN",
        /// 农黄.
        AgriculturalYellow = "PLATE_COLOR_AGRICULTURAL_YELLOW",
        /// Another one.
        Other = "PLATE_COLOR_OTHER",
    }

    /// How the car parks here (车辆类型); `plate_type` in tariffs.
    PlateType {
        /// Unknown.
        Unknown = "PLATE_TYPE_UNKNOWN",
        /// By the hour (临停).
        Temporary = "PLATE_TYPE_TEMPORARY",
        /// Monthly card (月卡).
        Monthly = "PLATE_TYPE_MONTHLY",
        /// Free (免费).
        Free = "PLATE_TYPE_FREE",
        /// Prepaid (储值).
        Prepaid = "PLATE_TYPE_PREPAID",
        /// Another way.
        Others = "PLATE_TYPE_OTHERS",
    }

    /// The size of the car.
    VehicleType {
        /// Unknown.
        Unknown = "VEHICLE_TYPE_UNKNOWN",
        /// Small.
        Small = "VEHICLE_TYPE_SMALL",
        /// Large.
        Large = "VEHICLE_TYPE_LARGE",
        /// Larger.
        ExtraLarge = "VEHICLE_TYPE_EXTRA_LARGE",
        /// Any; in tariffs.
        AllType = "VEHICLE_TYPE_ALL_TYPE",
    }

    /// Whether a stay is paid.
    PayState {
        /// Unknown.
        Unknown = "PAY_STATUS_UNKNOWN",
        /// No.
        Unpaid = "PAY_STATUS_UNPAID",
        /// Yes.
        Paid = "PAY_STATUS_PAID",
    }

    /// With what it was paid.
    PayType {
        /// Unknown.
        Unknown = "PAY_TYPE_UNKNOWN",
        /// WeChat Pay.
        WxPay = "PAY_TYPE_WXPAY",
        /// Something else.
        Others = "PAY_TYPE_OTHERS",
    }

    /// Where it was paid.
    PayChannel {
        /// Unknown.
        Unknown = "PAY_CHANNEL_UNKNOWN",
        /// From the reminder.
        WechatPayNotif = "PAY_CHANNEL_WECHAT_PAY_NOTIF",
        /// By scanning a code.
        ScanQrcode = "PAY_CHANNEL_SCAN_QRCODE",
        /// In an official account.
        OfficialAccount = "PAY_CHANNEL_OFFICIAL_ACCOUNT",
        /// In the merchant's mini-program.
        MchMiniProg = "PAY_CHANNEL_MCH_MINI_PROG",
        /// Elsewhere.
        Others = "PAY_CHANNEL_OTHERS",
    }

    /// Where the car is, as payments and the reply to a fee query say it. One source spells it `PARKING_STATE_…`.
    ParkingStatus {
        /// Unknown.
        Unknown = "PARKING_STATUS_UNKNOWN" | "PARKING_STATE_UNKNOWN",
        /// Inside.
        Parking = "PARKING_STATUS_PARKING" | "PARKING_STATE_PARKING",
        /// Not inside.
        NotParking = "PARKING_STATUS_NOT_PARKING" | "PARKING_STATE_NOT_PARKING",
    }

    /// Where the car is, as the answer about its fee says it.
    StayState {
        /// Unknown.
        Unknown = "PARKING_STATE_UNKNOWN",
        /// Inside.
        Entered = "PARKING_STATE_ENTERED",
        /// At the exit.
        ExitGate = "PARKING_STATE_EXIT_GATE",
        /// Gone.
        Exited = "PARKING_STATE_EXITED",
        /// Closed without an exit.
        UnexpectedClose = "PARKING_STATE_UNEXPECTED_CLOSE",
    }

    /// What a payment without a stay was for.
    ExtFeeType {
        /// Unknown.
        Unknown = "EXT_PARKING_PAYMENT_FEE_TYPE_UNKNOWN",
        /// A month.
        Monthly = "EXT_PARKING_PAYMENT_FEE_TYPE_MONTHLY",
        /// A quarter.
        Quarterly = "EXT_PARKING_PAYMENT_FEE_TYPE_QUARTERLY",
        /// A membership.
        Member = "EXT_PARKING_PAYMENT_FEE_TYPE_MEMBER",
    }
}

fn get(path: &'static str, route: Route, check: Result<(), FieldError>) -> Result<Request, Error> {
    check.map_err(|source| Error::build(path, source))?;
    Ok(Request::new(Method::GET, route))
}

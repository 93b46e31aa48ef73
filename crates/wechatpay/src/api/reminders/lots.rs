//! A car park as it is applied for, and as WeChat Pay holds it.
//!
//! Lives here: the types behind the five calls about car parks. Called by `reminders`.

use serde::{Deserialize, Serialize};

use super::{APPLICATION_QUERY, APPLICATIONS, ChargingRule, PARKING_LOT, get};
use crate::api::fields::{FieldError, check_optional, check_prose, check_text, open_enum};
use crate::error::Error;
use crate::request::Request;
use crate::route::Route;

#[derive(Serialize)]
pub(super) struct Submitted<'a> {
    pub(super) parking_lot: &'a ParkingLotApplication,
}

/// A car park to be approved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParkingLotApplication {
    /// Its name.
    pub parking_lot_name: String,
    /// The provider's own number: letters, digits, `_`, `-`; unique.
    pub out_parking_lot_id: String,
    /// Its address.
    pub parking_lot_address: String,
    /// Degrees with at most eight decimals.
    pub longitude: String,
    /// Degrees with at most eight decimals.
    pub latitude: String,
    /// What kind of place it belongs to.
    pub parking_lot_type: ParkingLotType,
    /// Whom to call.
    pub phone_number: String,
    /// A photo of the tariff sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parking_sign_url: Option<String>,
    /// At most six texts for the reminder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notification_text_list: Vec<String>,
    /// The mini-program to pay in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_mini_prog_appid: Option<String>,
    /// The path in it.
    pub payment_path: String,
    /// The mini-program with the orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parking_order_mini_prog_appid: Option<String>,
    /// The path in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parking_order_path: Option<String>,
    /// The tariff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charging_rule: Option<ChargingRule>,
}

impl ParkingLotApplication {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_prose("parking_lot_name", &self.parking_lot_name, 128)?;
        check_text("out_parking_lot_id", &self.out_parking_lot_id, 64)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if !self.out_parking_lot_id.bytes().all(plain) {
            let problem = "may hold only letters, digits, _ and -";
            return Err(FieldError::new("out_parking_lot_id", problem));
        }
        check_prose("parking_lot_address", &self.parking_lot_address, 256)?;
        check_degrees("longitude", &self.longitude, 180.0)?;
        check_degrees("latitude", &self.latitude, 90.0)?;
        self.parking_lot_type.check("parking_lot_type")?;
        check_prose("phone_number", &self.phone_number, 20)?;
        check_optional("parking_sign_url", self.parking_sign_url.as_ref(), 512)?;
        if self.notification_text_list.len() > 6 {
            return Err(FieldError::new("notification_text_list", "has more than 6 entries"));
        }
        for text in &self.notification_text_list {
            check_prose("notification_text_list", text, 128)?;
        }
        check_optional("payment_mini_prog_appid", self.payment_mini_prog_appid.as_ref(), 32)?;
        check_prose("payment_path", &self.payment_path, 256)?;
        let order_appid = self.parking_order_mini_prog_appid.as_ref();
        check_optional("parking_order_mini_prog_appid", order_appid, 32)?;
        check_optional("parking_order_path", self.parking_order_path.as_ref(), 256)?;
        self.charging_rule.as_ref().map_or(Ok(()), ChargingRule::check)
    }
}

fn check_degrees(field: &'static str, text: &str, limit: f64) -> Result<(), FieldError> {
    check_text(field, text, 16)?;
    let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
    match text.parse::<f64>() {
        Ok(degrees) if plain && decimals <= 8 && degrees.abs() <= limit => Ok(()),
        Ok(_) | Err(_) => Err(FieldError::new(field, "must be degrees with at most 8 decimals")),
    }
}

/// The number of an application.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ApplicationNumber {
    /// The number.
    pub parking_lot_audit_no: String,
}

/// Which application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ApplicationKey {
    /// Its number.
    pub parking_lot_audit_no: String,
    /// The provider's own number of the car park.
    pub out_parking_lot_id: String,
}

impl ApplicationKey {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_text("parking_lot_audit_no", &self.parking_lot_audit_no, 64)?;
        check_text("out_parking_lot_id", &self.out_parking_lot_id, 64)
    }

    pub(super) fn query(&self) -> Result<Request, Error> {
        let route = Route::new(APPLICATION_QUERY)
            .query("parking_lot_audit_no", &self.parking_lot_audit_no)
            .query("out_parking_lot_id", &self.out_parking_lot_id);
        get(APPLICATION_QUERY, route, self.check())
    }
}

/// Which applications.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplicationsQuery {
    /// The provider's own number of the car park.
    pub out_parking_lot_id: String,
    /// From which on; 0 when left out.
    pub offset: Option<u32>,
    /// How many; 10 when left out.
    pub limit: Option<u32>,
}

impl ApplicationsQuery {
    pub(super) fn request(&self) -> Result<Request, Error> {
        let route = Route::new(APPLICATIONS)
            .query("out_parking_lot_id", &self.out_parking_lot_id)
            .query_if("offset", self.offset)
            .query_if("limit", self.limit);
        let check = check_text("out_parking_lot_id", &self.out_parking_lot_id, 64);
        get(APPLICATIONS, route, check)
    }
}

/// One application, found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FoundApplication {
    /// The application.
    pub application: Application,
    /// WeChat Pay's number of the car park, once it has one.
    pub wx_parking_lot_id: Option<String>,
}

/// The applications of a car park.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Applications {
    /// The applications.
    pub application_list: Vec<Application>,
    /// WeChat Pay's number of the car park, once it has one.
    pub wx_parking_lot_id: Option<String>,
}

/// One application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Application {
    /// Its number.
    pub parking_lot_audit_no: String,
    /// Where it stands.
    pub audit_status: AuditStatus,
    /// When it was submitted, in Unix seconds.
    pub submit_time: Option<i64>,
    /// What was submitted.
    pub parking_lot: ParkingLotApplication,
    /// What is wrong, when it was rejected.
    pub audit_comment: Option<AuditComment>,
}

/// Why an application was rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AuditComment {
    /// By field.
    pub fields: Vec<FieldComment>,
    /// In all.
    pub recommendation: Option<String>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FieldComment {
    /// Which field.
    pub field: String,
    /// What is wrong.
    pub comment: String,
}

/// Which car park; at least one number, WeChat Pay's wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkingLotKey {
    /// The provider's own number.
    pub out_parking_lot_id: Option<String>,
    /// WeChat Pay's number.
    pub wx_parking_lot_id: Option<String>,
}

impl ParkingLotKey {
    pub(super) fn request(&self) -> Result<Request, Error> {
        let check = match (&self.out_parking_lot_id, &self.wx_parking_lot_id) {
            (None, None) => Err(FieldError::new("out_parking_lot_id", "or wx_parking_lot_id is needed")),
            (out, wx) => check_optional("out_parking_lot_id", out.as_ref(), 64)
                .and_then(|()| check_optional("wx_parking_lot_id", wx.as_ref(), 64)),
        };
        let route = Route::new(PARKING_LOT)
            .query_if("out_parking_lot_id", self.out_parking_lot_id.as_ref())
            .query_if("wx_parking_lot_id", self.wx_parking_lot_id.as_ref());
        get(PARKING_LOT, route, check)
    }
}

/// A car park as WeChat Pay holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ParkingLot {
    /// WeChat Pay's number: `parking_id` of entries.
    pub wx_parking_lot_id: String,
    /// The provider's own.
    pub out_parking_lot_id: String,
    /// Its name.
    pub parking_lot_name: String,
    /// Its address.
    pub parking_lot_address: String,
    /// The mini-program to pay in.
    pub payment_mini_prog_appid: Option<String>,
    /// The path in it.
    pub payment_mini_prog_path: Option<String>,
    /// The mini-program with the orders.
    pub parking_order_mini_prog_appid: Option<String>,
    /// The path in it.
    pub parking_order_mini_prog_path: Option<String>,
    /// Whether it is enabled.
    pub enabled_state: EnabledState,
    /// Why it is not.
    pub reason: Option<String>,
}

open_enum! {
    /// What kind of place a car park belongs to.
    ParkingLotType {
        /// Unknown.
        Unknown = "PARKING_LOT_TYPE_UNKNOWN",
        /// Shops (商圈).
        BusinessDistrict = "PARKING_LOT_TYPE_BUSINESS_DISTRICT",
        /// Offices.
        OfficeBuilding = "PARKING_LOT_TYPE_OFFICE_BUILDING",
        /// Station or airport.
        TransportationHub = "PARKING_LOT_TYPE_TRANSPORTATION_HUB",
        /// Homes.
        ResidentialArea = "PARKING_LOT_TYPE_RESIDENTIAL_AREA",
        /// A park.
        ParkArea = "PARKING_LOT_TYPE_PARK_AREA",
        /// Another public place.
        OtherPublicFacility = "PARKING_LOT_TYPE_OTHER_PUBLIC_FACILITY",
    }

    /// Where an application stands.
    AuditStatus {
        /// Unknown.
        Unknown = "AUDIT_STATUS_UNKNOWN",
        /// Waiting.
        Pending = "AUDIT_STATUS_PENDING",
        /// Withdrawn.
        Withdrawn = "AUDIT_STATUS_WITHDRAWN",
        /// Approved.
        Approved = "AUDIT_STATUS_APPROVED",
        /// Rejected.
        Rejected = "AUDIT_STATUS_REJECTED",
    }

    /// Whether a car park is enabled.
    EnabledState {
        /// Unknown.
        Unknown = "ENABLED_STATE_UNKNOWN",
        /// Not yet.
        NotEnabled = "ENABLED_STATE_NOT_ENABLED",
        /// Yes.
        Enabled = "ENABLED_STATE_ENABLED",
        /// No longer.
        Offline = "ENABLED_STATE_OFFLINE",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ChargingRuleType, FixedIntervalRule};
    use super::*;

    fn application() -> ParkingLotApplication {
        ParkingLotApplication {
            parking_lot_name: "XX购物中心停车场".into(),
            out_parking_lot_id: "PARK001".into(),
            parking_lot_address: "XX市XX区XX路XX号".into(),
            longitude: "116.397128".into(),
            latitude: "39.916527".into(),
            parking_lot_type: ParkingLotType::BusinessDistrict,
            phone_number: "13800138000".into(),
            payment_path: "pages/pay/index".into(),
            charging_rule: Some(ChargingRule {
                rule_type: ChargingRuleType::FixedInterval,
                fixed_interval_rule: vec![FixedIntervalRule {
                    first_duration: Some(60),
                    ..FixedIntervalRule::default()
                }],
                ..ChargingRule::default()
            }),
            ..ParkingLotApplication::default()
        }
    }

    #[test]
    fn an_application_goes_out_and_comes_back_the_same() {
        let written = serde_json::to_string(&application()).unwrap();

        assert_eq!(application().check(), Ok(()));
        assert!(!written.contains("null"), "{written}");
        assert_eq!(
            serde_json::from_str::<ParkingLotApplication>(&written).unwrap(),
            application()
        );
    }

    #[test]
    fn the_wrong_field_is_named() {
        type Change = fn(&mut ParkingLotApplication);
        let table: [(Change, &str); 7] = [
            (|a| a.parking_lot_name.clear(), "parking_lot_name"),
            (|a| a.out_parking_lot_id = "停".into(), "out_parking_lot_id"),
            (|a| a.longitude = "181".into(), "longitude"),
            (|a| a.latitude = "1e1".into(), "latitude"),
            (|a| a.latitude = "39.123456789".into(), "latitude"),
            (
                |a| a.notification_text_list = vec!["x".into(); 7],
                "notification_text_list",
            ),
            (
                |a| a.charging_rule.as_mut().unwrap().rule_type = ChargingRuleType::PerEntry,
                "pre_entry_rule",
            ),
        ];

        for (change, field) in table {
            let mut changed = application();
            change(&mut changed);
            assert_eq!(changed.check().unwrap_err().field, field);
        }
        assert!(ParkingLotKey::default().request().is_err() && ApplicationKey::default().check().is_err());
    }
}

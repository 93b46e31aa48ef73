//! A stay: the car in, the payment, the car out, and what it costs.
//!
//! Called by `reminders`; WeChat Pay's own fee query carries the same.

use serde::{Deserialize, Serialize};

use super::{ExtFeeType, ParkingStatus, PayChannel, PayState, PayType, PlateColor, PlateType, StayState, VehicleType};
use crate::api::fields::{
    FieldError, Personal, check_not_negative, check_optional, check_plate, check_positive, check_text,
};

/// A car that drove in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The provider's own number of the stay (商户停车单号), unique; 32 characters or less are advised.
    pub out_serial_number: String,
    /// WeChat Pay's number of the car park, given after approval.
    pub parking_id: String,
    /// The plate.
    pub plate_number: Personal,
    /// When, in Unix seconds.
    pub enter_timestamp: i64,
    /// The plate's colour.
    pub plate_color: PlateColor,
    /// How the car parks here.
    pub car_type: PlateType,
    /// The size of the car.
    pub vehicle_type: VehicleType,
    /// Letters and digits, such as `A01`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrance_number: Option<String>,
    /// The entrance's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrance_name: Option<String>,
    /// At most three.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discount_template_id: Vec<i64>,
}

impl Entry {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_stay(&self.out_serial_number, &self.parking_id, &self.plate_number)?;
        check_positive("enter_timestamp", self.enter_timestamp)?;
        self.plate_color.check("plate_color")?;
        self.car_type.check("car_type")?;
        self.vehicle_type.check("vehicle_type")?;
        check_optional("entrance_number", self.entrance_number.as_ref(), 128)?;
        check_optional("entrance_name", self.entrance_name.as_ref(), 64)?;
        match self.discount_template_id.len() {
            0..=3 => Ok(()),
            more => Err(FieldError::new(
                "discount_template_id",
                format!("has {more} entries, at most 3 are allowed"),
            )),
        }
    }
}

/// WeChat Pay's number of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct EntryAnswer {
    /// The number.
    #[serde(default)]
    pub serial_number: String,
}

/// A car that drove out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// As at the entry.
    pub out_serial_number: String,
    /// As at the entry.
    pub parking_id: String,
    /// When, in Unix seconds.
    pub exit_timestamp: i64,
    /// The plate.
    pub plate_number: Personal,
    /// Its colour.
    pub plate_color: PlateColor,
    /// The payment, when it is told here.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub paid: Option<ExitPayment>,
}

/// The payment of a stay, told with its exit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExitPayment {
    /// Whether it is paid.
    pub pay_state: PayState,
    /// With what and how much; needed when it is paid.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub details: Option<PaymentDetails>,
}

/// With what a stay was paid, and how much.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PaymentDetails {
    /// Only [`PayType::WxPay`] is taken.
    pub pay_type: PayType,
    /// The provider's number of the payment. This one or `wx_trade_no` is needed, both are advised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_trade_no: Option<String>,
    /// WeChat Pay's number of the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wx_trade_no: Option<String>,
    /// What the stay cost, in fen.
    pub total_amount: i64,
    /// What was paid, in fen; not 0.
    pub paid_amount: i64,
    /// Who paid; needed for WeChat Pay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openid: Option<Personal>,
    /// Where it was paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pay_channel: Option<PayChannel>,
    /// When it was paid, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pay_time: Option<i64>,
    /// The token that came with the payment link, unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl Exit {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_stay(&self.out_serial_number, &self.parking_id, &self.plate_number)?;
        check_positive("exit_timestamp", self.exit_timestamp)?;
        self.plate_color.check("plate_color")?;
        let Some(paid) = &self.paid else { return Ok(()) };
        paid.pay_state.check("pay_state")?;
        match &paid.details {
            Some(details) => details.check(),
            None if paid.pay_state == PayState::Paid => {
                Err(FieldError::new("pay_type", "is needed when the stay is paid"))
            }
            None => Ok(()),
        }
    }
}

impl PaymentDetails {
    fn check(&self) -> Result<(), FieldError> {
        if self.pay_type != PayType::WxPay {
            return Err(FieldError::new(
                "pay_type",
                "must be PAY_TYPE_WXPAY, others are refused",
            ));
        }
        if self.out_trade_no.is_none() && self.wx_trade_no.is_none() {
            return Err(FieldError::new("out_trade_no", "or wx_trade_no is needed"));
        }
        check_optional("out_trade_no", self.out_trade_no.as_ref(), 64)?;
        check_optional("wx_trade_no", self.wx_trade_no.as_ref(), 64)?;
        check_not_negative("total_amount", self.total_amount)?;
        check_positive("paid_amount", self.paid_amount)?;
        match &self.openid {
            Some(openid) => check_text("openid", openid, 128)?,
            None => return Err(FieldError::new("openid", "is needed for WeChat Pay")),
        }
        check_optional("token", self.token.as_ref(), 256)
    }
}

/// A stay that was paid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Payment {
    /// As at the entry.
    pub out_serial_number: String,
    /// As at the entry.
    pub parking_id: String,
    /// The plate.
    pub plate_number: Personal,
    /// Where the car is.
    pub parking_state: ParkingStatus,
    /// The sub-merchant, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_mchid: Option<String>,
    /// With what it was paid, and how much.
    #[serde(flatten)]
    pub details: PaymentDetails,
}

impl Payment {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_stay(&self.out_serial_number, &self.parking_id, &self.plate_number)?;
        self.parking_state.check("parking_state")?;
        check_optional("sub_mchid", self.sub_mchid.as_ref(), 32)?;
        self.details.check()
    }
}

/// A payment that belongs to no stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExtPayment {
    /// The provider's number of the payment.
    pub out_trade_no: String,
    /// What it was for; at least one.
    pub fee_items: Vec<ExtFeeItem>,
    /// When, in Unix seconds.
    pub pay_time: i64,
    /// WeChat Pay's number of the car park.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wx_parking_lot_id: Option<String>,
    /// WeChat Pay's number of the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wx_trade_no: Option<String>,
}

/// One item of such a payment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExtFeeItem {
    /// What for.
    pub fee_type: ExtFeeType,
    /// In fen.
    pub amount: i64,
}

impl ExtPayment {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_text("out_trade_no", &self.out_trade_no, 64)?;
        if self.fee_items.is_empty() {
            return Err(FieldError::new("fee_items", "is empty"));
        }
        for item in &self.fee_items {
            item.fee_type.check("fee_items.fee_type")?;
            check_not_negative("fee_items.amount", item.amount)?;
        }
        check_positive("pay_time", self.pay_time)?;
        check_optional("wx_parking_lot_id", self.wx_parking_lot_id.as_ref(), 64)?;
        check_optional("wx_trade_no", self.wx_trade_no.as_ref(), 64)
    }
}

/// Which stay's fee is asked for. Also what WeChat Pay asks the provider with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeQuery {
    /// The provider's own number of the stay.
    pub out_serial_number: String,
    /// The plate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plate_number: Option<Personal>,
    /// The provider's own number of the car park.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_parking_id: Option<String>,
}

impl FeeQuery {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_text("out_serial_number", &self.out_serial_number, 64)?;
        if let Some(plate_number) = &self.plate_number {
            check_plate(plate_number, 16)?;
        }
        check_optional("out_parking_id", self.out_parking_id.as_ref(), 64)
    }
}

/// What a stay costs so far. Amounts in fen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Fee {
    /// In all.
    pub total_amount: Option<i64>,
    /// Seconds parked, despite the name.
    pub parking_timestamp: Option<i64>,
    /// Where the car is.
    pub parking_state: Option<StayState>,
    /// Whether it is paid.
    pub pay_state: Option<PayState>,
    /// Seconds left to drive out.
    pub allowed_exit_timestamp: Option<i64>,
    /// The next price.
    pub next_raise_price: Option<i64>,
    /// From when on, in Unix seconds.
    pub next_raise_timestamp: Option<i64>,
    /// Still to be paid.
    pub payable_amount: Option<i64>,
    /// Paid.
    pub paid_amount: Option<i64>,
}

fn check_stay(out_serial_number: &str, parking_id: &str, plate_number: &str) -> Result<(), FieldError> {
    check_text("out_serial_number", out_serial_number, 64)?;
    check_text("parking_id", parking_id, 64)?;
    check_plate(plate_number, 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn details() -> PaymentDetails {
        PaymentDetails {
            pay_type: PayType::WxPay,
            out_trade_no: Some("TRADE202407041530001".into()),
            total_amount: 1500,
            paid_amount: 1500,
            openid: Some("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".into()),
            ..PaymentDetails::default()
        }
    }

    fn exit() -> Exit {
        Exit {
            out_serial_number: "PARK202407041530001".into(),
            parking_id: "WXPARK001".into(),
            exit_timestamp: 1_720_081_800,
            plate_number: "粤B12345".into(),
            plate_color: PlateColor::Blue,
            paid: Some(ExitPayment {
                pay_state: PayState::Paid,
                details: Some(details()),
            }),
        }
    }

    #[test]
    fn an_exit_with_its_payment_is_written_flat() {
        assert_eq!(exit().check(), Ok(()));
        assert_eq!(
            serde_json::to_value(exit()).unwrap(),
            json!({
                "out_serial_number": "PARK202407041530001", "parking_id": "WXPARK001", "exit_timestamp": 1_720_081_800,
                "plate_number": "粤B12345", "plate_color": "PLATE_COLOR_BLUE", "pay_state": "PAY_STATUS_PAID",
                "pay_type": "PAY_TYPE_WXPAY", "out_trade_no": "TRADE202407041530001", "total_amount": 1500,
                "paid_amount": 1500, "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
            })
        );
        let unpaid = Exit { paid: None, ..exit() };
        assert_eq!(serde_json::to_value(&unpaid).unwrap().as_object().unwrap().len(), 5);
    }

    #[test]
    fn what_is_needed_when_paid_is_asked_for() {
        let paid = |change: fn(&mut PaymentDetails)| {
            let mut changed = details();
            change(&mut changed);
            let payment = Payment {
                out_serial_number: "1".into(),
                parking_id: "2".into(),
                plate_number: "粤B12345".into(),
                parking_state: ParkingStatus::Parking,
                sub_mchid: None,
                details: changed,
            };
            payment.check().map_err(|error| error.field)
        };

        assert_eq!(paid(|_| {}), Ok(()));
        assert_eq!(paid(|d| d.pay_type = PayType::Others), Err("pay_type"));
        assert_eq!(paid(|d| d.out_trade_no = None), Err("out_trade_no"));
        assert_eq!(paid(|d| d.paid_amount = 0), Err("paid_amount"));
        assert_eq!(paid(|d| d.openid = None), Err("openid"));
        let mut exit = exit();
        exit.paid.as_mut().unwrap().details = None;
        assert_eq!(exit.check().map_err(|error| error.field), Err("pay_type"));
    }

    #[test]
    fn required_fields_are_named_in_order() {
        let mut entry = Entry {
            out_serial_number: "1".into(),
            parking_id: "2".into(),
            plate_number: "粤B12345".into(),
            ..Entry::default()
        };
        assert_eq!(entry.check().unwrap_err().field, "enter_timestamp");
        entry.enter_timestamp = 1;
        assert_eq!(entry.check().unwrap_err().field, "plate_color");
        entry.plate_color = PlateColor::Unknown;
        assert_eq!(entry.check().unwrap_err().field, "car_type");
        entry.car_type = PlateType::Temporary;
        entry.vehicle_type = VehicleType::Small;
        assert_eq!(entry.check(), Ok(()));
        entry.discount_template_id = vec![1, 2, 3, 4];
        assert_eq!(entry.check().unwrap_err().field, "discount_template_id");
        assert_eq!(ExtPayment::default().check().unwrap_err().field, "out_trade_no");
    }
}

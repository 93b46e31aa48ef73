//! Pay-score parking and parking reminders, typed, against the sandbox.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use wechatpay::Error;
use wechatpay::api::reminders::{
    self, ApplicationKey, ApplicationsQuery, AuditStatus, EnabledState, FeeQuery, ParkingLotApplication, ParkingLotKey,
    ParkingLotType, ParkingStatus, PayState, PayType, StayState, VehicleType,
};
use wechatpay::api::vehicle::{
    BlockReason, EntryState, NewAmount, NewCharge, NewEntry, ParkingInfo, PlateColor, ServiceQuery, ServiceState,
    TradeState, YesNo,
};
use wechatpay_sandbox as sandbox;
use wechatpay_sandbox::{ChargeFate, SETTLING, Sandbox, VehicleMerchant};

use crate::client;

const OPENID: &str = "oUpF8uMuAJOM2pxb1Q";
const PLATE: &str = "粤B888888";

fn ago(minutes: i64) -> jiff::Timestamp {
    jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes)
}

fn entry() -> NewEntry {
    NewEntry {
        out_parking_no: "1231243".into(),
        plate_number: PLATE.into(),
        plate_color: PlateColor::Blue,
        notify_url: "https://127.0.0.1:9/notify".into(),
        start_time: ago(60),
        parking_name: "欢乐海岸停车场".into(),
        free_duration: 3600,
        ..NewEntry::default()
    }
}

fn charge(sandbox: &Sandbox, parking_id: &str, entry: &NewEntry) -> NewCharge {
    NewCharge {
        appid: sandbox.merchant().appid.clone(),
        description: "停车场扣费".into(),
        out_trade_no: "20150806125346".into(),
        notify_url: entry.notify_url.clone(),
        amount: NewAmount {
            total: 888,
            currency: Some("CNY".into()),
        },
        parking_info: ParkingInfo {
            parking_id: parking_id.into(),
            plate_number: PLATE.into(),
            plate_color: PlateColor::Blue,
            start_time: entry.start_time,
            end_time: ago(1),
            parking_name: entry.parking_name.clone(),
            charging_duration: 3600,
            device_id: "12313".into(),
        },
        ..NewCharge::default()
    }
}

fn line(error: &Error) -> String {
    format!("{} {}", error.status().unwrap_or_default(), error.code().unwrap_or("-"))
}

#[tokio::test]
async fn a_car_enters_is_charged_and_found() {
    let sandbox = Sandbox::start().await.unwrap();
    let vehicles = client(&sandbox).vehicle_parking();
    let query = ServiceQuery {
        appid: sandbox.merchant().appid.clone(),
        plate_number: PLATE.into(),
        plate_color: PlateColor::Blue,
        openid: OPENID.into(),
        ..ServiceQuery::default()
    };

    let closed = vehicles.find_service(&query).await.unwrap();
    let blocked = vehicles.create_entry(&entry()).await.unwrap();
    sandbox
        .vehicles()
        .set_service(PLATE, "BLUE", OPENID, sandbox::ServiceState::Normal);
    let open = vehicles.find_service(&query).await.unwrap();
    let entry = NewEntry {
        out_parking_no: "2".into(),
        ..entry()
    };
    let entered = vehicles.create_entry(&entry).await.unwrap();
    let charge = charge(&sandbox, &entered.id, &entry);
    sandbox.vehicles().next_charge(ChargeFate::Advanced);
    let accepted = vehicles.charge(&charge).await.unwrap();
    sandbox.clock().advance(SETTLING);
    let found = vehicles.find_charge(&charge.out_trade_no, None).await.unwrap();

    assert_eq!(closed.service_state, ServiceState::OutService);
    assert_eq!(
        (blocked.state, blocked.block_reason),
        (EntryState::Blocked, Some(BlockReason::OutService))
    );
    assert_eq!(open.service_state, ServiceState::Normal);
    assert!(open.service_open_time.is_some());
    assert_eq!(
        (entered.state, entered.out_parking_no.as_str()),
        (EntryState::Normal, "2")
    );
    assert_eq!(accepted.trade_state, TradeState::Accepted);
    assert_eq!(accepted.amount.map(|amount| amount.total), Some(888));
    assert_eq!(found.trade_state, TradeState::Success);
    assert_eq!(
        (found.bank_type.as_deref(), found.user_repaid),
        (Some("BPA"), Some(YesNo::No))
    );
    assert_eq!(&*found.payer.unwrap().openid, OPENID);
    assert_eq!(found.parking_info.unwrap().parking_id, entered.id);
}

#[tokio::test]
async fn refusals_of_pay_score_parking_are_typed() {
    let sandbox = Sandbox::start().await.unwrap();
    let vehicles = client(&sandbox).vehicle_parking();
    sandbox
        .vehicles()
        .set_service(PLATE, "BLUE", OPENID, sandbox::ServiceState::Normal);
    let entered = vehicles.create_entry(&entry()).await.unwrap();

    let other = NewEntry {
        free_duration: 60,
        ..entry()
    };
    assert_eq!(
        line(&vehicles.create_entry(&other).await.unwrap_err()),
        "400 INVALID_REQUEST"
    );
    let charge = charge(&sandbox, &entered.id, &entry());
    vehicles.charge(&charge).await.unwrap();
    let differs = NewCharge {
        description: "别的".into(),
        ..charge.clone()
    };
    assert_eq!(
        line(&vehicles.charge(&differs).await.unwrap_err()),
        "400 ALREADY_EXISTS"
    );
    assert_eq!(
        line(&vehicles.find_charge("1", None).await.unwrap_err()),
        "404 NOT_FOUND"
    );
    sandbox.vehicles().set_merchant(VehicleMerchant::NotAdmitted);
    let error = vehicles.create_entry(&entry()).await.unwrap_err();
    assert_eq!(line(&error), "403 NO_AUTH");
    assert!(vehicles.find_charge("a/b", None).await.unwrap_err().nothing_sent());
}

fn lot() -> ParkingLotApplication {
    ParkingLotApplication {
        parking_lot_name: "XX购物中心停车场".into(),
        out_parking_lot_id: "PARK001".into(),
        parking_lot_address: "XX市XX区XX路XX号".into(),
        longitude: "116.397128".into(),
        latitude: "39.916527".into(),
        parking_lot_type: ParkingLotType::BusinessDistrict,
        phone_number: "13800138000".into(),
        notification_text_list: vec!["停车优惠".into()],
        payment_path: "pages/pay/index".into(),
        charging_rule: Some(reminders::ChargingRule {
            rule_type: reminders::ChargingRuleType::FixedInterval,
            fixed_interval_rule: vec![reminders::FixedIntervalRule {
                day_type: Some(reminders::DayType::Weekday),
                first_duration: Some(60),
                first_amount: Some(500),
                is_green_vehicle_free_parking: Some(false),
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_car_park_is_applied_for_withdrawn_approved_and_found() {
    let sandbox = Sandbox::start().await.unwrap();
    let reminders = client(&sandbox).parking_reminders();
    let key = |number: reminders::ApplicationNumber| ApplicationKey {
        parking_lot_audit_no: number.parking_lot_audit_no,
        out_parking_lot_id: "PARK001".into(),
    };

    let first = key(reminders.apply(&lot()).await.unwrap());
    reminders.withdraw(&first).await.unwrap();
    let second = key(reminders.apply(&lot()).await.unwrap());
    let pending = reminders.application(&second).await.unwrap();
    let parking_id = sandbox.reminders().approve("PARK001").unwrap();
    let list = reminders
        .applications(&ApplicationsQuery {
            out_parking_lot_id: "PARK001".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let found = reminders
        .parking_lot(&ParkingLotKey {
            wx_parking_lot_id: Some(parking_id.clone()),
            ..Default::default()
        })
        .await
        .unwrap();

    assert_eq!(pending.application.audit_status, AuditStatus::Pending);
    assert_eq!(pending.application.parking_lot, lot(), "comes back as it went");
    let states: Vec<_> = list
        .application_list
        .iter()
        .map(|one| one.audit_status.clone())
        .collect();
    assert_eq!(states, [AuditStatus::Withdrawn, AuditStatus::Approved]);
    assert_eq!(
        (found.wx_parking_lot_id, found.enabled_state),
        (parking_id, EnabledState::Enabled)
    );
    let again = reminders.withdraw(&first).await.unwrap_err();
    assert_eq!(line(&again), "400 INVALID_REQUEST");
}

#[tokio::test]
async fn a_stay_is_entered_paid_and_left() {
    let sandbox = Sandbox::start().await.unwrap();
    let reminders = client(&sandbox).parking_reminders();
    reminders.apply(&lot()).await.unwrap();
    let parking_id = sandbox.reminders().approve("PARK001").unwrap();
    let entry = reminders::Entry {
        out_serial_number: "PARK202407041530001".into(),
        parking_id: parking_id.clone(),
        plate_number: "粤B12345".into(),
        enter_timestamp: ago(60).as_second(),
        plate_color: reminders::PlateColor::Blue,
        car_type: reminders::PlateType::Temporary,
        vehicle_type: VehicleType::Small,
        entrance_number: Some("A01".into()),
        ..Default::default()
    };
    let query = FeeQuery {
        out_serial_number: entry.out_serial_number.clone(),
        ..Default::default()
    };
    let details = reminders::PaymentDetails {
        pay_type: PayType::WxPay,
        out_trade_no: Some("TRADE202407041530001".into()),
        total_amount: 1500,
        paid_amount: 1400,
        openid: Some("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".into()),
        ..Default::default()
    };

    let number = reminders.entry(&entry).await.unwrap().serial_number;
    let before = reminders.parking_fee(&query).await.unwrap();
    let payment = reminders::Payment {
        out_serial_number: entry.out_serial_number.clone(),
        parking_id: parking_id.clone(),
        plate_number: "粤B12345".into(),
        parking_state: ParkingStatus::Parking,
        sub_mchid: None,
        details: details.clone(),
    };
    reminders.payment(&payment).await.unwrap();
    let exit = reminders::Exit {
        out_serial_number: entry.out_serial_number.clone(),
        parking_id,
        exit_timestamp: ago(0).as_second(),
        plate_number: "粤B12345".into(),
        plate_color: reminders::PlateColor::Blue,
        paid: None,
    };
    reminders.exit(&exit).await.unwrap();
    let after = reminders.parking_fee(&query).await.unwrap();
    let monthly = reminders::ExtPayment {
        out_trade_no: "M1".into(),
        fee_items: vec![reminders::ExtFeeItem {
            fee_type: reminders::ExtFeeType::Monthly,
            amount: 30_000,
        }],
        pay_time: ago(1).as_second(),
        ..Default::default()
    };
    reminders.ext_payment(&monthly).await.unwrap();

    assert!(!number.is_empty());
    assert_eq!(
        (before.pay_state, before.parking_state),
        (Some(PayState::Unpaid), Some(StayState::Entered))
    );
    assert_eq!((after.pay_state, after.paid_amount), (Some(PayState::Paid), Some(1400)));
    assert_eq!(sandbox.reminders().ext_payments().len(), 1);
}

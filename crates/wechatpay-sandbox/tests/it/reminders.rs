//! Parking reminders: a car park from application to service, and the stays in it (protocol 7.3, 7.4).

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use jiff::Timestamp;
use serde_json::{Value, json};
use wechatpay_sandbox::{ReminderAnswer, Sandbox};

use crate::client::{Reply, get, post, with};

const PATH: &str = "/v3/parking/reminders";
const GENERIC: &str = "400 PARAM_ERROR 参数错误";
const PLATE: &str = "粤B12345";

async fn send(sandbox: &Sandbox, what: &str, body: &Value) -> Reply {
    post(sandbox, &format!("{PATH}/{what}"), body).await
}

async fn ask(sandbox: &Sandbox, what: &str) -> Reply {
    get(sandbox, &format!("{PATH}/{what}")).await
}

fn application() -> Value {
    json!({ "parking_lot": {
        "parking_lot_name": "XX购物中心停车场",
        "out_parking_lot_id": "PARK001",
        "parking_lot_address": "XX市XX区XX路XX号",
        "longitude": "116.397128",
        "latitude": "39.916527",
        "parking_lot_type": "PARKING_LOT_TYPE_BUSINESS_DISTRICT",
        "phone_number": "13800138000",
        "notification_text_list": ["停车优惠", "会员免费2小时"],
        "payment_mini_prog_appid": "wx1234567890abcdef",
        "payment_path": "pages/pay/index",
        "charging_rule": {
            "rule_type": "CHARGING_RULE_FIXED_INTERVAL",
            "fee_limit_type": "FEE_LIMIT_AGGREGATE",
            "free_entry_duration": 30,
            "fixed_interval_rule": [{
                "day_type": "DAY_TYPE_WEEKDAY", "start_time": "09:00", "end_time": "18:00",
                "vehicle_type": "VEHICLE_TYPE_SMALL", "plate_type": "PLATE_TYPE_TEMPORARY",
                "first_duration": 60, "first_amount": 500, "interval_duration": 30, "interval_amount": 200,
                "max_fee_per_day": 5000, "is_green_vehicle_free_parking": false,
                "first_duration_mode": "FIRST_DURATION_MODE_ONLY_FIRST_DURATION",
            }],
        },
    }})
}

/// A car park in service; its parking_id.
async fn lot(sandbox: &Sandbox) -> String {
    assert_eq!(send(sandbox, "application", &application()).await.status, 200);
    sandbox.reminders().approve("PARK001").unwrap()
}

fn entry(parking_id: &str) -> Value {
    json!({
        "out_serial_number": "PARK202407041530001",
        "parking_id": parking_id,
        "plate_number": PLATE,
        "enter_timestamp": Timestamp::now().as_second() - 3600,
        "plate_color": "PLATE_COLOR_BLUE",
        "car_type": "PLATE_TYPE_TEMPORARY",
        "vehicle_type": "VEHICLE_TYPE_SMALL",
        "entrance_number": "A01",
        "discount_template_id": [1, 2],
    })
}

fn exit(parking_id: &str) -> Value {
    json!({
        "out_serial_number": "PARK202407041530001",
        "exit_timestamp": Timestamp::now().as_second(),
        "plate_number": PLATE,
        "plate_color": "PLATE_COLOR_BLUE",
        "parking_id": parking_id,
        "pay_state": "PAY_STATUS_PAID",
        "pay_type": "PAY_TYPE_WXPAY",
        "out_trade_no": "TRADE202407041530001",
        "total_amount": 1500,
        "paid_amount": 1400,
        "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
        "pay_channel": "PAY_CHANNEL_WECHAT_PAY_NOTIF",
        "pay_time": 1_720_081_800,
        "token": "token1234567890",
    })
}

fn payment(parking_id: &str) -> Value {
    let exit = exit(parking_id);
    with(
        exit,
        &json!({ "exit_timestamp": null, "pay_state": null, "plate_color": null, "parking_state": "PARKING_STATUS_PARKING" }),
    )
}

#[tokio::test]
async fn a_car_park_is_applied_for_reviewed_and_found() {
    let sandbox = Sandbox::start().await.unwrap();

    let applied = send(&sandbox, "application", &application()).await;
    let audit_no = applied.json()["parking_lot_audit_no"].as_str().unwrap().to_owned();
    let query = format!("application/query?parking_lot_audit_no={audit_no}&out_parking_lot_id=PARK001");
    let pending = ask(&sandbox, &query).await.json();
    let twice = send(&sandbox, "application", &application()).await;
    let wx_id = sandbox.reminders().approve("PARK001").unwrap();
    let approved = ask(&sandbox, &query).await.json();
    let by_own_id = ask(&sandbox, "parking-lot?out_parking_lot_id=PARK001").await.json();
    let by_wx_id = ask(
        &sandbox,
        &format!("parking-lot?wx_parking_lot_id={wx_id}&out_parking_lot_id=x"),
    )
    .await
    .json();
    sandbox.reminders().set_offline("PARK001", Some("进场时延过高"));
    let offline = ask(&sandbox, "parking-lot?out_parking_lot_id=PARK001").await.json();

    assert!(applied.verifies(&sandbox));
    assert_eq!(pending["application"]["audit_status"], "AUDIT_STATUS_PENDING");
    assert_eq!(pending["application"]["parking_lot"], application()["parking_lot"]);
    assert!(pending["application"]["submit_time"].is_u64() && pending.get("wx_parking_lot_id").is_none());
    assert_eq!(twice.line(), "400 INVALID_REQUEST 该停车场已有审核中的申请单");
    assert_eq!(approved["application"]["audit_status"], "AUDIT_STATUS_APPROVED");
    assert_eq!(approved["wx_parking_lot_id"], wx_id);
    assert_eq!(by_own_id["enabled_state"], "ENABLED_STATE_ENABLED");
    assert_eq!(by_own_id["payment_mini_prog_path"], "pages/pay/index");
    assert_eq!(by_wx_id, by_own_id);
    assert_eq!(
        (&offline["enabled_state"], &offline["reason"]),
        (&json!("ENABLED_STATE_OFFLINE"), &json!("进场时延过高"))
    );
}

#[tokio::test]
async fn applications_are_rejected_withdrawn_and_listed() {
    let sandbox = Sandbox::start().await.unwrap();
    let apply = async || {
        let reply = send(&sandbox, "application", &application()).await;
        reply.json()["parking_lot_audit_no"].as_str().unwrap().to_owned()
    };

    apply().await;
    assert!(
        sandbox
            .reminders()
            .reject("PARK001", "parking_lot_name", "停车场名称不符合规范")
    );
    let second = apply().await;
    let withdraw = json!({ "parking_lot_audit_no": second, "out_parking_lot_id": "PARK001" });
    let withdrawn = send(&sandbox, "application/withdraw", &withdraw).await;
    let again = send(&sandbox, "application/withdraw", &withdraw).await;
    let strange = send(
        &sandbox,
        "application/withdraw",
        &with(withdraw, &json!({ "out_parking_lot_id": "x" })),
    )
    .await;
    let all = ask(&sandbox, "applications?out_parking_lot_id=PARK001").await.json();
    let one = ask(&sandbox, "applications?out_parking_lot_id=PARK001&offset=1&limit=1")
        .await
        .json();

    assert_eq!((withdrawn.status.as_u16(), withdrawn.json()), (200, json!({})));
    assert_eq!(again.line(), "400 INVALID_REQUEST 申请单状态不允许撤回");
    assert_eq!(strange.line(), "400 INVALID_REQUEST 申请单不存在");
    let list = all["application_list"].as_array().unwrap();
    let states: Vec<_> = list
        .iter()
        .map(|application| application["audit_status"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["AUDIT_STATUS_REJECTED", "AUDIT_STATUS_WITHDRAWN"]);
    assert_eq!(list[0]["audit_comment"]["fields"][0]["field"], "parking_lot_name");
    assert_eq!(one["application_list"], json!([list[1]]));
    for (what, line) in [
        ("applications", GENERIC),
        ("applications?out_parking_lot_id=PARK001&limit=x", GENERIC),
        ("application/query?out_parking_lot_id=PARK001", GENERIC),
        (
            "application/query?out_parking_lot_id=PARK001&parking_lot_audit_no=x",
            "400 INVALID_REQUEST 申请单不存在",
        ),
        ("parking-lot", GENERIC),
        ("parking-lot?out_parking_lot_id=x", "400 INVALID_REQUEST 停车场不存在"),
    ] {
        assert_eq!(ask(&sandbox, what).await.line(), line, "{what}");
    }
}

#[tokio::test]
async fn an_application_has_its_form_checked() {
    let sandbox = Sandbox::start().await.unwrap();
    let rule = "parking_lot/charging_rule";
    for (name, value) in [
        ("parking_lot".to_owned(), Value::Null),
        ("parking_lot/parking_lot_name".into(), Value::Null),
        ("parking_lot/out_parking_lot_id".into(), json!("停车场")),
        ("parking_lot/longitude".into(), json!("181")),
        ("parking_lot/latitude".into(), json!("39.123456789")),
        ("parking_lot/parking_lot_type".into(), json!("BUSINESS_DISTRICT")),
        ("parking_lot/phone_number".into(), json!("1".repeat(21))),
        (
            "parking_lot/notification_text_list".into(),
            json!(["1", "2", "3", "4", "5", "6", "7"]),
        ),
        ("parking_lot/notification_text_list".into(), json!([""])),
        ("parking_lot/payment_path".into(), Value::Null),
        (format!("{rule}/rule_type"), Value::Null),
        (format!("{rule}/fee_limit_type"), json!("FEE_LIMIT_NONE")),
        (format!("{rule}/free_entry_duration"), json!("30")),
        (format!("{rule}/fixed_interval_rule"), json!([])),
        (format!("{rule}/fixed_interval_rule/0/start_time"), json!("9:00")),
        (format!("{rule}/fixed_interval_rule/0/first_amount"), json!(-1)),
        (
            format!("{rule}/fixed_interval_rule/0/first_duration_mode"),
            json!("NEVER"),
        ),
        (
            format!("{rule}/fixed_interval_rule/0/is_green_vehicle_free_parking"),
            json!("no"),
        ),
    ] {
        let reply = send(
            &sandbox,
            "application",
            &with(application(), &json!({ name.as_str(): value })),
        )
        .await;
        assert_eq!(reply.line(), GENERIC, "{name} {value}");
        assert_eq!(reply.json()["detail"]["field"], format!("/{name}"));
    }
    assert!(sandbox.reminders().applications().is_empty());
}

#[tokio::test]
async fn a_stay_is_entered_paid_and_left() {
    let sandbox = Sandbox::start().await.unwrap();
    let parking_id = lot(&sandbox).await;
    let fee = json!({ "out_serial_number": "PARK202407041530001", "plate_number": PLATE });

    let entered = send(&sandbox, "entry", &entry(&parking_id)).await;
    let again = send(&sandbox, "entry", &entry(&parking_id)).await;
    let before = send(&sandbox, "parking-fee", &fee).await.json();
    let paid = send(&sandbox, "payment", &payment(&parking_id)).await;
    let left = send(&sandbox, "exit", &exit(&parking_id)).await;
    let after = send(&sandbox, "parking-fee", &fee).await.json();

    assert!(entered.json()["serial_number"].is_string());
    assert_eq!(again.json(), entered.json());
    for done in [&paid, &left] {
        assert_eq!((done.status.as_u16(), done.json()), (200, json!({})));
        assert!(done.verifies(&sandbox));
    }
    assert_eq!(
        (&before["pay_state"], &before["parking_state"]),
        (&json!("PAY_STATUS_UNPAID"), &json!("PARKING_STATE_ENTERED"))
    );
    assert!((3600..3700).contains(&before["parking_timestamp"].as_u64().unwrap()));
    assert_eq!(
        (&after["pay_state"], &after["parking_state"]),
        (&json!("PAY_STATUS_PAID"), &json!("PARKING_STATE_EXITED"))
    );
    assert_eq!(after["paid_amount"], 1400, "reported twice, counted once");
    let stay = sandbox.reminders().stay("PARK202407041530001").unwrap();
    assert_eq!((stay.payments.len(), stay.exit.is_some()), (1, true));
}

#[tokio::test]
async fn a_stay_is_refused_where_it_does_not_fit() {
    let sandbox = Sandbox::start().await.unwrap();
    let parking_id = lot(&sandbox).await;
    let unknown = "400 INVALID_REQUEST 停车单不存在";

    assert_eq!(send(&sandbox, "exit", &exit(&parking_id)).await.line(), unknown);
    assert_eq!(send(&sandbox, "payment", &payment(&parking_id)).await.line(), unknown);
    assert_eq!(
        send(&sandbox, "parking-fee", &json!({ "out_serial_number": "x" }))
            .await
            .line(),
        unknown
    );
    assert_eq!(
        send(&sandbox, "entry", &entry("nowhere")).await.line(),
        "400 INVALID_REQUEST 停车场不存在"
    );
    send(&sandbox, "entry", &entry(&parking_id)).await;
    let other = with(entry(&parking_id), &json!({ "entrance_number": "B2" }));
    assert_eq!(
        send(&sandbox, "entry", &other).await.line(),
        "400 INVALID_REQUEST 商户停车单号已被其他入场信息使用"
    );
    let elsewhere = send(&sandbox, "exit", &exit("elsewhere")).await;
    assert_eq!(elsewhere.line(), "400 INVALID_REQUEST parking_id与入场时不一致");
    let other_car = with(exit(&parking_id), &json!({ "plate_number": "粤B54321" }));
    assert_eq!(
        send(&sandbox, "exit", &other_car).await.line(),
        "400 INVALID_REQUEST plate_number与入场时不一致"
    );
}

#[tokio::test]
async fn reports_have_their_form_checked() {
    let sandbox = Sandbox::start().await.unwrap();
    let parking_id = lot(&sandbox).await;
    let of_entry = [
        json!({ "out_serial_number": "1".repeat(65) }),
        json!({ "parking_id": null }),
        json!({ "plate_number": "粤B1234" }),
        json!({ "plate_number": null }),
        json!({ "enter_timestamp": "1719128975" }),
        json!({ "plate_color": "BLUE" }),
        json!({ "car_type": null }),
        json!({ "vehicle_type": "VEHICLE_TYPE_TINY" }),
        json!({ "entrance_number": "A-01" }),
        json!({ "entrance_name": "东".repeat(65) }),
        json!({ "discount_template_id": [1, 2, 3, 4] }),
        json!({ "discount_template_id": ["1"] }),
    ];
    let of_exit = [
        json!({ "exit_timestamp": null }),
        json!({ "plate_color": null }),
        json!({ "pay_state": "PAID" }),
        json!({ "pay_type": null }),
        json!({ "pay_type": "PAY_TYPE_OTHERS" }),
        json!({ "out_trade_no": null }),
        json!({ "total_amount": null }),
        json!({ "paid_amount": null }),
        json!({ "paid_amount": 0 }),
        json!({ "openid": null }),
        json!({ "openid": "no openid" }),
        json!({ "pay_channel": "PAY_CHANNEL_CASH" }),
        json!({ "token": "t".repeat(257) }),
    ];
    let of_payment = [
        json!({ "parking_state": null }),
        json!({ "parking_state": "PARKING_STATE_PARKING" }),
        json!({ "pay_type": "PAY_TYPE_OTHERS" }),
        json!({ "sub_mchid": "1".repeat(33) }),
    ];

    for (what, body, rows) in [
        ("entry", entry(&parking_id), &of_entry[..]),
        ("exit", exit(&parking_id), &of_exit[..]),
        ("payment", payment(&parking_id), &of_payment[..]),
    ] {
        for members in rows {
            let reply = send(&sandbox, what, &with(body.clone(), members)).await;
            assert_eq!(reply.line(), GENERIC, "{what} {members}");
            let name = members.as_object().unwrap().keys().next().unwrap();
            assert_eq!(reply.json()["detail"]["field"], format!("/{name}"));
        }
    }
}

#[tokio::test]
async fn an_exit_without_a_payment_needs_none_of_its_members() {
    let sandbox = Sandbox::start().await.unwrap();
    let parking_id = lot(&sandbox).await;
    send(&sandbox, "entry", &entry(&parking_id)).await;
    let mut body = exit(&parking_id);
    body.as_object_mut().unwrap().retain(|name, _| {
        [
            "out_serial_number",
            "exit_timestamp",
            "plate_number",
            "plate_color",
            "parking_id",
        ]
        .contains(&name.as_str())
    });

    assert_eq!(send(&sandbox, "exit", &body).await.status, 200);
}

#[tokio::test]
async fn other_payments_are_stored_and_answers_may_be_empty() {
    let sandbox = Sandbox::builder()
        .reminder_answer(ReminderAnswer::NoContent)
        .start()
        .await
        .unwrap();
    let body = json!({
        "out_trade_no": "TRADE1",
        "fee_items": [{ "fee_type": "EXT_PARKING_PAYMENT_FEE_TYPE_MONTHLY", "amount": 30_000 }],
        "pay_time": 1_720_081_800,
    });

    let stored = send(&sandbox, "ext-payment", &body).await;

    assert_eq!(stored.line(), "204");
    assert_eq!(sandbox.reminders().ext_payments().len(), 1);
    for members in [
        json!({ "out_trade_no": null }),
        json!({ "fee_items": [] }),
        json!({ "fee_items": [7] }),
        json!({ "fee_items": [{ "fee_type": "MONTHLY", "amount": 1 }] }),
        json!({ "fee_items": [{ "fee_type": "EXT_PARKING_PAYMENT_FEE_TYPE_MEMBER" }] }),
        json!({ "pay_time": null }),
    ] {
        assert_eq!(
            send(&sandbox, "ext-payment", &with(body.clone(), &members))
                .await
                .line(),
            GENERIC,
            "{members}"
        );
    }
}

//! Pay-score parking: each row of protocol 7.1, made to happen, and the way of one car.

use std::time::Duration;

use serde_json::{Value, json};
use wechatpay_sandbox::{ChargeFate, Event, SETTLING, Sandbox, ServiceState, VehicleMerchant};

use crate::client::{Reply, get, post, with};
use crate::shop::{Answer, Shop};

const OPENID: &str = "oUpF8uMuAJOM2pxb1Q";
const PLATE: &str = "粤B888888";
const ENTER: &str = "/v3/vehicle/parking/parkings";
const CHARGE: &str = "/v3/vehicle/transactions/parking";
const NOWHERE: &str = "http://127.0.0.1:9/notify";
const GENERIC: &str = "400 PARAM_ERROR 参数错误";

fn entry() -> Value {
    json!({
        "out_parking_no": "1231243",
        "plate_number": PLATE,
        "plate_color": "BLUE",
        "notify_url": NOWHERE,
        "start_time": "2017-08-26T10:43:39+08:00",
        "parking_name": "欢乐海岸停车场",
        "free_duration": 3600,
    })
}

fn charge(sandbox: &Sandbox, parking_id: &str) -> Value {
    json!({
        "appid": sandbox.merchant().appid,
        "description": "停车场扣费",
        "attach": "深圳分店",
        "out_trade_no": "20150806125346",
        "trade_scene": "PARKING",
        "notify_url": NOWHERE,
        "amount": { "total": 888, "currency": "CNY" },
        "parking_info": {
            "parking_id": parking_id,
            "plate_number": PLATE,
            "plate_color": "BLUE",
            "start_time": "2017-08-26T10:43:39+08:00",
            "end_time": "2017-08-26T12:43:39+08:00",
            "parking_name": "欢乐海岸停车场",
            "charging_duration": 3600,
            "device_id": "12313",
        },
    })
}

fn open(sandbox: &Sandbox, state: ServiceState) {
    sandbox.vehicles().set_service(PLATE, "BLUE", OPENID, state);
}

/// A car inside, with an open service; its parking_id.
async fn inside(sandbox: &Sandbox) -> String {
    open(sandbox, ServiceState::Normal);
    post(sandbox, ENTER, &entry()).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn find(sandbox: &Sandbox, more: &str) -> Reply {
    let plate = "%E7%B2%A4B888888";
    let appid = &sandbox.merchant().appid;
    let query = format!("appid={appid}&plate_number={plate}&plate_color=BLUE&openid={OPENID}{more}");
    get(sandbox, &format!("/v3/vehicle/parking/services/find?{query}")).await
}

#[tokio::test]
async fn a_plates_service_is_found_as_it_stands() {
    let sandbox = Sandbox::start().await.unwrap();

    let unknown = find(&sandbox, "").await;
    assert!(unknown.verifies(&sandbox));
    assert_eq!(
        unknown.json(),
        json!({ "plate_number": PLATE, "plate_color": "BLUE", "openid": OPENID, "service_state": "OUT_SERVICE" })
    );
    for (state, word) in [(ServiceState::Normal, "NORMAL"), (ServiceState::Pause, "PAUSE")] {
        open(&sandbox, state);
        let answer = find(&sandbox, "").await.json();
        assert_eq!(answer["service_state"], word);
        assert!(answer["service_open_time"].is_string());
    }
}

#[tokio::test]
async fn the_query_of_a_service_refuses_what_the_table_lists() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.members().belongs_to("o-other", &sandbox.merchant().appids[1]);
    for (more, line) in [
        ("&plate_number=B888888", GENERIC),
        ("&plate_color=PINK", GENERIC),
        ("&appid=wx1", GENERIC),
        ("&openid=", GENERIC),
        ("&openid=no%20openid", "400 INVALID_REQUEST OpenID错误"),
        ("&openid=o-other", "400 INVALID_REQUEST OpenID错误"),
        ("&sub_mchid=1234567890", "400 INVALID_REQUEST 子商户号不存在"),
    ] {
        assert_eq!(find(&sandbox, more).await.line(), line, "{more}");
    }
    let provider = format!("&sub_mchid={}", sandbox.merchant().sub_mchid);
    assert_eq!(find(&sandbox, &provider).await.status, 200);
    sandbox.vehicles().set_merchant(VehicleMerchant::NotAdmitted);
    let no_auth = "403 NO_AUTH 商户号该产品权限未开通，请前往商户平台>产品中心检查后重试";
    assert_eq!(find(&sandbox, "").await.line(), no_auth);
    assert_eq!(post(&sandbox, ENTER, &entry()).await.line(), no_auth);
}

#[tokio::test]
async fn a_car_enters_once_per_number_and_may_be_blocked() {
    let sandbox = Sandbox::start().await.unwrap();
    open(&sandbox, ServiceState::Normal);

    let first = post(&sandbox, ENTER, &entry()).await;
    let again = post(&sandbox, ENTER, &entry()).await;
    let other = post(&sandbox, ENTER, &with(entry(), &json!({ "free_duration": 60 }))).await;

    assert_eq!((first.status.as_u16(), first.verifies(&sandbox)), (200, true));
    let answer = first.json();
    assert_eq!(
        (&answer["state"], &answer["out_parking_no"]),
        (&json!("NORMAL"), &json!("1231243"))
    );
    assert!(answer.get("block_reason").is_none() && answer.get("notify_url").is_none());
    assert_eq!(again.json(), answer);
    assert_eq!(other.line(), "400 INVALID_REQUEST 商户入场ID已被其他入场信息使用");
    for (number, state, reason) in [
        ("2", ServiceState::Pause, "PAUSE"),
        ("3", ServiceState::OutService, "OUT_SERVICE"),
        ("4", ServiceState::Overdue, "OVERDUE"),
        ("5", ServiceState::EvaluationFailed, "EVALUATION_FAILED"),
    ] {
        open(&sandbox, state);
        let blocked = post(&sandbox, ENTER, &with(entry(), &json!({ "out_parking_no": number }))).await;
        assert_eq!(blocked.json()["state"], "BLOCKED");
        assert_eq!(blocked.json()["block_reason"], reason);
    }
}

#[tokio::test]
async fn an_entry_has_its_form_checked() {
    let sandbox = Sandbox::start().await.unwrap();
    for members in [
        json!({ "out_parking_no": null }),
        json!({ "out_parking_no": "1".repeat(65) }),
        json!({ "plate_number": "B888888" }),
        json!({ "plate_color": "blue" }),
        json!({ "notify_url": "http://mall.example.com/notify" }),
        json!({ "start_time": "2017-08-26" }),
        json!({ "parking_name": "停".repeat(129) }),
        json!({ "free_duration": "3600" }),
        json!({ "free_duration": null }),
    ] {
        assert_eq!(
            post(&sandbox, ENTER, &with(entry(), &members)).await.line(),
            GENERIC,
            "{members}"
        );
    }
    let strange = with(entry(), &json!({ "sub_mchid": "1234567890" }));
    assert_eq!(
        post(&sandbox, ENTER, &strange).await.line(),
        "400 INVALID_REQUEST 服务商与子商户未绑定"
    );
}

#[tokio::test]
async fn a_charge_is_accepted_then_paid_told_and_found() {
    let shop = Shop::start(|_, _| Answer::new(204, "")).await;
    let sandbox = Sandbox::start().await.unwrap();
    let parking_id = inside(&sandbox).await;
    let body = with(charge(&sandbox, &parking_id), &json!({ "notify_url": shop.url() }));

    let accepted = post(&sandbox, CHARGE, &body).await;
    let again = post(&sandbox, CHARGE, &body).await;
    let other = post(&sandbox, CHARGE, &with(body.clone(), &json!({ "description": "别的" }))).await;
    sandbox.clock().advance(SETTLING);
    let callbacks = sandbox.callbacks();
    let acknowledged = callbacks.wait_for(
        |callbacks| {
            callbacks
                .all()
                .iter()
                .any(|notification| notification.is_acknowledged())
        },
        Duration::from_secs(10),
    );
    assert!(acknowledged.await);
    let found = get(&sandbox, "/v3/vehicle/transactions/out-trade-no/20150806125346").await;

    let answer = accepted.json();
    assert_eq!(
        (&answer["trade_state"], &answer["sp_mchid"]),
        (&json!("ACCEPTED"), &json!(sandbox.merchant().mchid))
    );
    assert_eq!(
        (&answer["payer"]["openid"], &answer["amount"]["total"]),
        (&json!(OPENID), &json!(888))
    );
    assert_eq!(answer["parking_info"]["parking_id"], parking_id);
    assert!(answer.get("success_time").is_none());
    assert_eq!(again.json()["transaction_id"], answer["transaction_id"]);
    assert_eq!(other.line(), "400 ALREADY_EXISTS 商户订单号已被其他订单使用");
    assert_eq!(found.json()["trade_state"], "SUCCESS");
    let got = &shop.got()[0];
    assert_eq!(got.envelope()["event_type"], "TRANSACTION.SUCCESS");
    assert!(got.envelope()["resource"].get("original_type").is_none());
    assert_eq!(got.resource(&sandbox), found.json());
    assert!(sandbox.vehicles().refund("20150806125346"));
    let refunded = get(&sandbox, "/v3/vehicle/transactions/out-trade-no/20150806125346").await;
    assert_eq!(refunded.json()["trade_state"], "REFUND");
}

#[tokio::test]
async fn an_advance_is_paid_back_and_a_failed_number_used_again() {
    let shop = Shop::start(|_, _| Answer::new(204, "")).await;
    let sandbox = Sandbox::start().await.unwrap();
    let parking_id = inside(&sandbox).await;
    let body = with(charge(&sandbox, &parking_id), &json!({ "notify_url": shop.url() }));
    let callbacks = sandbox.callbacks();
    let told = async |count: usize| {
        callbacks
            .wait_for(
                |callbacks| callbacks.all().iter().filter(|told| told.is_acknowledged()).count() == count,
                Duration::from_secs(10),
            )
            .await
    };

    sandbox.vehicles().next_charge(ChargeFate::Fail);
    post(&sandbox, CHARGE, &body).await;
    sandbox.clock().advance(SETTLING);
    assert!(told(1).await);
    sandbox.vehicles().next_charge(ChargeFate::Advanced);
    let second = post(&sandbox, CHARGE, &with(body, &json!({ "attach": "再来" }))).await;
    assert_eq!(second.json()["trade_state"], "ACCEPTED");
    assert_eq!(sandbox.vehicles().repay("20150806125346"), None, "not yet paid");
    sandbox.clock().advance(SETTLING);
    assert!(told(2).await);
    assert!(sandbox.vehicles().repay("20150806125346").is_some());
    assert!(told(3).await);

    let seen: Vec<_> = shop
        .got()
        .iter()
        .map(|got| {
            let resource = got.resource(&sandbox);
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            (
                text(&got.envelope()["event_type"]),
                text(&resource["trade_state"]),
                text(&resource["user_repaid"]),
            )
        })
        .collect();
    let row = |event: &str, state: &str, repaid: &str| (event.to_owned(), state.to_owned(), repaid.to_owned());
    assert_eq!(
        seen,
        [
            row("TRANSACTION.FAIL", "PAY_FAIL", "-"),
            row("TRANSACTION.SUCCESS", "SUCCESS", "N"),
            row("TRANSACTION.PAY_BACK", "SUCCESS", "Y"),
        ]
    );
}

#[tokio::test]
async fn a_charge_has_its_form_checked() {
    let sandbox = Sandbox::start().await.unwrap();
    let parking_id = inside(&sandbox).await;
    for members in [
        json!({ "appid": "wx1" }),
        json!({ "description": null }),
        json!({ "attach": "a".repeat(129) }),
        json!({ "out_trade_no": "a b" }),
        json!({ "out_trade_no": "1".repeat(33) }),
        json!({ "trade_scene": "TOLL" }),
        json!({ "notify_url": "ftp://x/y" }),
        json!({ "profit_sharing": "M" }),
        json!({ "amount": null }),
        json!({ "amount": 888 }),
        json!({ "amount/total": 0 }),
        json!({ "amount/total": null }),
        json!({ "amount/currency": "USD" }),
        json!({ "parking_info": null }),
        json!({ "parking_info/plate_number": "B1" }),
        json!({ "parking_info/plate_color": null }),
        json!({ "parking_info/start_time": "today" }),
        json!({ "parking_info/end_time": "2017-08-26T10:43:39+08:00" }),
        json!({ "parking_info/parking_name": "停".repeat(33) }),
        json!({ "parking_info/charging_duration": null }),
        json!({ "parking_info/device_id": null }),
    ] {
        let reply = post(&sandbox, CHARGE, &with(charge(&sandbox, &parking_id), &members)).await;
        assert_eq!(reply.line(), GENERIC, "{members}");
        let name = members.as_object().unwrap().keys().next().unwrap();
        assert_eq!(reply.json()["detail"]["field"], format!("/{name}"));
    }
}

#[tokio::test]
async fn a_charge_is_refused_as_the_table_lists() {
    let sandbox = Sandbox::start().await.unwrap();
    let parking_id = inside(&sandbox).await;
    let body = charge(&sandbox, &parking_id);
    let vehicles = sandbox.vehicles();
    for (members, line) in [
        (
            json!({ "appid": "wx0123456789abcdef" }),
            "400 INVALID_REQUEST 商户号与AppID未绑定",
        ),
        (
            json!({ "sub_mchid": "1234567890" }),
            "400 INVALID_REQUEST 商户号、子商户号与sub_appid未绑定",
        ),
        (
            json!({ "sub_mchid": sandbox.merchant().sub_mchid, "sub_appid": "wx0123456789abcdef" }),
            "400 INVALID_REQUEST 商户号、子商户号与sub_appid未绑定",
        ),
        (
            json!({ "parking_info/parking_id": "5K8264ILTKCH16CQ250" }),
            "400 INVALID_REQUEST 停车入场ID不存在",
        ),
        (
            json!({ "parking_info/plate_number": "粤B88888" }),
            "400 INVALID_REQUEST 场景信息与停车入场ID不匹配",
        ),
        (
            json!({ "amount/total": 50_001 }),
            "400 INVALID_REQUEST 扣费金额超过限额",
        ),
    ] {
        assert_eq!(post(&sandbox, CHARGE, &with(body.clone(), &members)).await.line(), line);
    }
    for (state, line) in [
        (ServiceState::Abnormal, "400 INVALID_REQUEST 用户状态异常"),
        (ServiceState::OutService, "400 INVALID_REQUEST 用户状态异常"),
        (ServiceState::Overdue, "403 NOT_ENOUGH 用户欠费过多"),
    ] {
        open(&sandbox, state);
        assert_eq!(post(&sandbox, CHARGE, &body).await.line(), line);
    }
    open(&sandbox, ServiceState::Normal);
    for (merchant, line) in [
        (VehicleMerchant::MayNotCharge, "403 NO_AUTH 商户无扣费权限"),
        (VehicleMerchant::NotSupported, "400 INVALID_REQUEST 不支持该商户"),
    ] {
        vehicles.set_merchant(merchant);
        assert_eq!(post(&sandbox, CHARGE, &body).await.line(), line);
    }
    vehicles.set_merchant(VehicleMerchant::Admitted);
    vehicles.set_limits(50_000, 1);
    assert_eq!(post(&sandbox, CHARGE, &body).await.status, 200);
    let second = with(body, &json!({ "out_trade_no": "2" }));
    assert_eq!(
        post(&sandbox, CHARGE, &second).await.line(),
        "403 RULE_LIMIT 用户当日扣费次数超限"
    );
}

#[tokio::test]
async fn the_query_of_a_charge_refuses_what_the_table_lists() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.vehicles().other_order("1217752501");
    let path = "/v3/vehicle/transactions/out-trade-no";
    for (target, line) in [
        (format!("{path}/1"), "404 NOT_FOUND 订单不存在"),
        (format!("{path}/a%20b"), "400 PARAM_ERROR 商户订单号错误"),
        (format!("{path}/1217752501"), "400 INVALID_REQUEST 非微信支付分停车订单"),
        (
            format!("{path}/1?sub_mchid=1234567890"),
            "400 INVALID_REQUEST 服务商与子商户未绑定",
        ),
    ] {
        assert_eq!(get(&sandbox, &target).await.line(), line, "{target}");
    }
}

#[tokio::test]
async fn a_change_of_state_inside_is_told() {
    let shop = Shop::start(|_, _| Answer::new(200, "")).await;
    let sandbox = Sandbox::start().await.unwrap();
    open(&sandbox, ServiceState::Normal);
    let body = with(entry(), &json!({ "notify_url": shop.url() }));
    post(&sandbox, ENTER, &body).await;

    let id = sandbox.vehicles().set_entry_state("1231243", Some("OVERDUE")).unwrap();
    let callbacks = sandbox.callbacks();
    let told = callbacks.wait_for(
        |callbacks| callbacks.find(&id).unwrap().is_acknowledged(),
        Duration::from_secs(10),
    );
    assert!(told.await);

    assert_eq!(sandbox.callbacks().find(&id).unwrap().event, Event::VehicleEntrance);
    let resource = shop.got()[0].resource(&sandbox);
    assert_eq!(resource["parking_state"], "BLOCKED");
    assert_eq!(resource["blocked_state_description"], "OVERDUE");
    assert_eq!(
        (&resource["plate_number"], &resource["out_parking_no"]),
        (&json!(PLATE), &json!("1231243"))
    );
    assert_eq!(resource["state_update_time"].as_str().unwrap().len(), 29);
    assert_eq!(sandbox.vehicles().set_entry_state("nobody's", None), None);
}

//! Each documented error row (protocol 1.4, 2, 3.5), made to happen by the sandbox, becomes the right typed error.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use serde_json::{Value, json};
use wechatpay::api::business_circle::{AuthorizationQuery, CommitStatusQuery, Points};
use wechatpay::{Chain, Client, Error, Merchant, MerchantKey, Retry};
use wechatpay_sandbox::{CertificateState, Fault, MallState, Purchase, Refusal, Sandbox};

use crate::{PATH, body, builder, client};

/// Status, code and message of the refusal that this body earns.
async fn refusal(sandbox: &Sandbox, members: Value) -> (String, Error) {
    let error = client(sandbox)[PATH].post(&body(sandbox, &members)).await.unwrap_err();
    (line(&error), error)
}

fn line(error: &Error) -> String {
    let Error::Api {
        status, code, message, ..
    } = error
    else {
        panic!("{}", Chain(error))
    };
    format!("{status} {code} {message}")
}

#[tokio::test]
async fn every_row_about_the_body_names_its_field() {
    let sandbox = Sandbox::start().await.unwrap();
    let tomorrow = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
    let rows = [
        ("brandid", json!(null), "业务必填字段brand_id为空"),
        ("appid", json!(null), "业务必填字段AppID为空"),
        ("openid", json!(null), "业务必填字段OpenID为空"),
        ("plate_number", json!(null), "业务必填字段plate_number为空"),
        ("state", json!(null), "业务必填字段state为空"),
        ("time", json!(null), "业务必填字段time为空"),
        ("plate_number", json!("B888888"), "plate_number格式有误"),
        ("time", json!("2022-06-01 10:43:39"), "time格式有误"),
        ("time", json!(tomorrow), "time超出取值范围"),
        ("openid", json!("no openid"), "OpenID有误"),
        ("appid", json!("wx123"), "AppID有误"),
        ("sub_mchid", json!("mall"), "sub_mch_code有误"),
        ("state", json!("in"), "参数错误"),
    ];

    for (field, value, message) in rows {
        let (line, error) = refusal(&sandbox, json!({ field: value })).await;

        assert_eq!(line, format!("400 PARAM_ERROR {message}"));
        assert_eq!(
            (error.retry(), error.is_ambiguous()),
            (Retry::Never, false),
            "{message}"
        );
        let detail = error.detail().unwrap();
        assert_eq!(
            (detail.field.as_str(), detail.location.as_str()),
            (&*format!("/{field}"), "body")
        );
        assert!(matches!(error, Error::Api { verified: true, .. }));
    }
    assert!(sandbox.ledger().parkings().is_empty());
}

#[tokio::test]
async fn every_row_about_permission_waits_for_a_person() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();
    sandbox.members().belongs_to("o-other", &merchant.appids[1]);
    let rows = [
        (json!({ "brandid": 77 }), "mch_id与brand_id关系不匹配"),
        (json!({ "openid": "o-other" }), "OpenID与AppID不匹配"),
        (json!({ "appid": "wx0123456789abcdef" }), "brandid与AppID不匹配"),
        (json!({ "sub_mchid": "1234567890" }), "父子关系不匹配"),
        (
            json!({ "sub_mchid": merchant.other_sub_mchid }),
            "sub_mch_code与brand_id不匹配",
        ),
    ];

    for (members, message) in rows {
        let (line, error) = refusal(&sandbox, members).await;
        assert_eq!(line, format!("403 NO_AUTH {message}"));
        assert_eq!((error.retry(), error.is_ambiguous()), (Retry::Never, false));
    }
    for (mall, expected) in [
        (MallState::NotUnique, "403 NO_AUTH brandid无对应的唯一商圈mainid"),
        (
            MallState::NotUnique500,
            "500 SYSTEM_ERROR brandid无对应的唯一商圈mainid",
        ),
        (MallState::Missing, "403 NO_AUTH 请求失败，商户号下暂无商圈"),
    ] {
        sandbox.set_mall(mall);
        let (line, error) = refusal(&sandbox, json!({})).await;
        assert_eq!((line.as_str(), error.retry()), (expected, Retry::Never));
    }
}

#[tokio::test]
async fn rows_that_pass_are_tried_again_later() {
    let sandbox = Sandbox::start().await.unwrap();
    let system = |message: &'static str| Fault::Refuse(Refusal::new(500, "SYSTEM_ERROR", message));
    let rows = [
        (Fault::SystemError, "500 SYSTEM_ERROR 系统异常，请稍后重试"),
        (
            system("系统必填字段source为空"),
            "500 SYSTEM_ERROR 系统必填字段source为空",
        ),
        (
            system("系统必填字段machine_key为空"),
            "500 SYSTEM_ERROR 系统必填字段machine_key为空",
        ),
        (
            system("系统必填字段mch_id为空"),
            "500 SYSTEM_ERROR 系统必填字段mch_id为空",
        ),
        (system("保存数据失败"), "500 SYSTEM_ERROR 保存数据失败"),
        (Fault::BadGateway, "502 HTTP 502 the answer has no body"),
        (Fault::Unavailable, "503 HTTP 503 the answer has no body"),
    ];

    for (fault, expected) in rows {
        sandbox.faults().next(fault);
        let (line, error) = refusal(&sandbox, json!({})).await;
        assert_eq!(line, expected);
        assert_eq!(
            (error.retry(), error.is_ambiguous()),
            (Retry::Later, true),
            "{expected}"
        );
    }
}

/// Another caller than the sandbox's merchant in one respect.
fn stranger(sandbox: &Sandbox, mchid: &str, serial_no: &str, key_pem: &str) -> Client {
    let merchant = Merchant::new(mchid, serial_no, MerchantKey::from_pem(key_pem).unwrap());
    Client::builder(merchant, crate::public_key(sandbox))
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .build()
        .unwrap()
}

#[tokio::test]
async fn every_401_is_a_refusal_that_came_unsigned() {
    let sandbox = Sandbox::start().await.unwrap();
    let other = Sandbox::builder().fresh_keys().start().await.unwrap();
    let (own, foreign) = (sandbox.merchant(), other.merchant());
    let wrong_serial = "401 SIGN_ERROR 商户证书序列号有误。请使用签名私钥匹配的证书序列号";
    let callers = [
        (
            stranger(&sandbox, &own.mchid, &foreign.serial_no, &own.private_key_pem),
            wrong_serial,
        ),
        (
            stranger(&sandbox, "1900000001", &own.serial_no, &own.private_key_pem),
            wrong_serial,
        ),
        (
            stranger(&sandbox, &own.mchid, &own.serial_no, &foreign.private_key_pem),
            "401 SIGN_ERROR 错误的签名，导致验签失败。",
        ),
    ];
    for (caller, expected) in callers {
        let error = caller[PATH].post(&body(&sandbox, &json!({}))).await.unwrap_err();
        assert_eq!(line(&error), expected);
        assert_unsigned_and_final(&error);
    }
    for (state, expected) in [
        (CertificateState::ApiV3KeyNotSet, "401 SIGN_ERROR 商户未设置APIv3密钥。"),
        (CertificateState::NotApplied, "401 SIGN_ERROR 商户未申请过证书。"),
        (CertificateState::Expired, "401 SIGN_ERROR 商户证书已过期。"),
        (CertificateState::Revoked, "401 SIGN_ERROR 商户证书已作废。"),
        (CertificateState::Replaced, "401 SIGN_ERROR 已更换证书，请使用新证书。"),
    ] {
        sandbox.set_certificate(state);
        let (line, error) = refusal(&sandbox, json!({})).await;
        assert_eq!(line, expected);
        assert_unsigned_and_final(&error);
    }
}

fn assert_unsigned_and_final(error: &Error) {
    assert!(
        matches!(
            error,
            Error::Api {
                verified: false,
                source: None,
                ..
            }
        ),
        "no talk of clocks: {}",
        Chain(error)
    );
    assert_eq!((error.retry(), error.is_ambiguous()), (Retry::Never, false));
}

#[tokio::test]
async fn headers_and_paths_that_do_not_exist_are_refused_before_authentication() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = builder(&sandbox).build().unwrap();
    let valid = body(&sandbox, &json!({}));

    let accept = client
        .chain(PATH)
        .header("Accept", "text/html")
        .post(&valid)
        .await
        .unwrap_err();
    let unknown = client
        .chain("v3/businesscircle/parking")
        .post(&valid)
        .await
        .unwrap_err();
    let method = client.chain(PATH).put(&valid).await.unwrap_err();

    assert_eq!(
        line(&accept),
        "400 INVALID_REQUEST HTTP 请求不符合微信支付 APIv3 接口规则"
    );
    assert_eq!(line(&unknown), "404 HTTP 404 the answer has no body");
    assert_eq!(line(&method), "405 HTTP 405 the answer has no body");
    for error in [accept, unknown, method] {
        assert!(matches!(error, Error::Api { verified: false, .. }));
        assert_eq!(error.retry(), Retry::Never);
    }
}

#[tokio::test]
async fn every_row_of_the_authorisation_query_is_a_final_refusal() {
    let sandbox = Sandbox::start().await.unwrap();
    let appids = &sandbox.merchant().appids;
    sandbox.members().belongs_to("o-other", &appids[1]);
    let ask = async |openid: &str, appid: &str, sub_mchid: Option<&str>| {
        let query = AuthorizationQuery {
            openid: openid.into(),
            appid: appid.into(),
            sub_mchid: sub_mchid.map(str::to_owned),
        };
        let circle = client(&sandbox).business_circle();
        let error = circle.authorization(&query).await.unwrap_err();
        assert_eq!((error.retry(), error.is_ambiguous()), (Retry::Never, false));
        line(&error)
    };

    assert_eq!(ask("o-1", "wx1", None).await, "400 PARAM_ERROR AppID有误");
    assert_eq!(ask("no.openid!", &appids[0], None).await, "400 PARAM_ERROR OpenID有误");
    assert_eq!(
        ask("o-1", "wx0123456789abcdef", None).await,
        "400 PARAM_ERROR AppID不是商圈积分服务配置的小程序"
    );
    assert_eq!(
        ask("o-other", &appids[0], None).await,
        "400 PARAM_ERROR OpenID与AppID不匹配"
    );
    assert_eq!(
        ask("o-1", &appids[0], Some("1234567890")).await,
        "400 INVALID_REQUEST 调用方不是该商圈的服务商"
    );
    sandbox.set_mall(MallState::PointsNotOpened);
    assert_eq!(
        ask("o-1", &appids[0], None).await,
        "400 INVALID_REQUEST 商圈未开通支付即积分"
    );
}

#[tokio::test]
async fn every_row_of_the_pending_points_query_is_a_final_refusal() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();
    sandbox.members().authorize("o-1");
    sandbox.members().authorize("o-other");
    sandbox.members().belongs_to("o-other", &merchant.appids[1]);
    let good = CommitStatusQuery {
        openid: "o-1".into(),
        sub_mchid: None,
        brandid: merchant.brandid,
        appid: merchant.appid.clone(),
    };
    let ask = async |query: CommitStatusQuery| {
        let circle = client(&sandbox).business_circle();
        let error = circle.points_commit_status(&query).await.unwrap_err();
        assert_eq!((error.retry(), error.is_ambiguous()), (Retry::Never, false));
        line(&error)
    };
    let with = |change: fn(&mut CommitStatusQuery)| {
        let mut query = good.clone();
        change(&mut query);
        query
    };

    let rows = [
        (with(|q| q.openid = "no.openid!".into()), "400 PARAM_ERROR OpenID有误"),
        (
            with(|q| q.sub_mchid = Some("mall".into())),
            "400 PARAM_ERROR sub_mch_code有误",
        ),
        (with(|q| q.openid = "o-other".into()), "403 NO_AUTH OpenID与AppID不匹配"),
        (
            with(|q| q.appid = "wx0123456789abcdef".into()),
            "403 NO_AUTH brandid与AppID不匹配",
        ),
        (
            with(|q| q.sub_mchid = Some("1234567890".into())),
            "403 NO_AUTH 父子关系不匹配",
        ),
    ];
    for (query, expected) in rows {
        assert_eq!(ask(query).await, expected);
    }
    let mut stepchild = good.clone();
    stepchild.sub_mchid = Some(merchant.other_sub_mchid.clone());
    assert_eq!(ask(stepchild).await, "403 NO_AUTH sub_mch_code与brand_id不匹配");
    for (mall, expected) in [
        (MallState::NotUnique, "403 NO_AUTH brandid无对应的唯一商圈mainid"),
        (
            MallState::BeforeMemberProduct,
            "403 NO_AUTH 仅支持商圈会员产品的商圈调用，请升级至商圈会员3.0",
        ),
    ] {
        sandbox.set_mall(mall);
        assert_eq!(ask(good.clone()).await, expected);
    }
}

#[tokio::test]
async fn every_row_of_points_sync_is_a_final_refusal() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();
    sandbox.members().authorize("o-1");
    let payment = sandbox.payments().pay(Purchase::new("o-1", 100));
    let good = Points {
        transaction_id: payment.transaction_id,
        appid: merchant.appid.clone(),
        openid: "o-1".into(),
        earn_points: true,
        increased_points: 1,
        points_update_time: jiff::Timestamp::now(),
        ..Points::default()
    };
    let with = |change: fn(&mut Points)| {
        let mut points = good.clone();
        change(&mut points);
        points
    };

    for (points, expected) in [
        (with(|_| {}), "400 INVALID_REQUEST 该订单未提交积分"),
        (with(|p| p.openid = "no.openid!".into()), "400 PARAM_ERROR OpenID有误"),
        (
            with(|p| p.sub_mchid = Some("1234567890".into())),
            "400 MCH_NOT_EXISTS 商圈商户不存在",
        ),
    ] {
        let error = client(&sandbox)
            .business_circle()
            .notify_points(&points)
            .await
            .unwrap_err();
        assert_eq!((line(&error).as_str(), error.retry()), (expected, Retry::Never));
    }
    sandbox.faults().next(Fault::Refuse(Refusal::new(
        400,
        "INVALID_REQUEST",
        "该订单已超过回传时效",
    )));
    let late = client(&sandbox)
        .business_circle()
        .notify_points(&good)
        .await
        .unwrap_err();
    assert_eq!(line(&late), "400 INVALID_REQUEST 该订单已超过回传时效");
}

#[tokio::test]
async fn what_this_sdk_never_sends_would_still_be_told_as_what_it_is() {
    let sandbox = Sandbox::start().await.unwrap();
    let valid = body(&sandbox, &json!({}));
    let rows = [
        "Http头Authorization认证类型不正确",
        "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》",
    ];

    for message in rows {
        let refusal = Refusal::new(401, "SIGN_ERROR", message);
        sandbox.faults().next(Fault::Refuse(refusal));
        let error = client(&sandbox)[PATH].post(&valid).await.unwrap_err();
        assert_eq!(
            (line(&error), error.retry()),
            (format!("401 SIGN_ERROR {message}"), Retry::Never)
        );
    }
}

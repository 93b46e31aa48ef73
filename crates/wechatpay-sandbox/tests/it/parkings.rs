//! Each row of the parkings error table (protocol 1.4), made to happen; and what an accepted report leaves behind.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use wechatpay_sandbox::{Fault, KeyMode, MallState, Refusal, Sandbox, State};

use crate::client::{Reply, Signed, parking, report, send, with};

/// The reply to the example with these members put in; a null takes one out.
async fn reply_with(sandbox: &Sandbox, members: Value) -> Reply {
    report(sandbox, &with(parking(sandbox), &members)).await
}

async fn raw(sandbox: &Sandbox, body: &str) -> Reply {
    let mut signed = Signed::post(sandbox, &Value::Null);
    signed.body = body.as_bytes().to_vec();
    send(sandbox, signed.signed_by(sandbox)).await.unwrap()
}

#[tokio::test]
async fn a_valid_report_is_answered_with_a_signed_204_and_remembered() {
    let sandbox = Sandbox::start().await.unwrap();
    let body = parking(&sandbox);

    let reply = report(&sandbox, &body).await;

    assert_eq!(reply.line(), "204");
    assert!(reply.body.is_empty());
    assert!(reply.verifies(&sandbox));
    assert_eq!(reply.header("wechatpay-signature-type"), "WECHATPAY2-SHA256-RSA2048");
    let [parking] = sandbox.ledger().parkings().try_into().unwrap();
    assert_eq!(
        (parking.openid.as_str(), parking.plate_number.as_str()),
        ("oUpF8uMuAJOM2pxb1Q", "粤B888888")
    );
    assert_eq!(
        (parking.state, parking.time.as_str()),
        (State::In, body["time"].as_str().unwrap())
    );
    assert_eq!(parking.at, body["time"].as_str().unwrap().parse().unwrap());
    assert!(parking.answered);
}

#[tokio::test]
async fn presence_is_the_last_state_per_member_and_plate() {
    let sandbox = Sandbox::start().await.unwrap();

    for (openid, plate, state) in [
        ("a", "粤B888888", "IN"),
        ("b", "粤B888888", "IN"),
        ("a", "粤B888888", "OUT"),
    ] {
        let members = json!({ "openid": openid, "plate_number": plate, "state": state });
        assert_eq!(reply_with(&sandbox, members).await.line(), "204");
    }

    let mut held: Vec<_> = sandbox
        .presences()
        .into_iter()
        .map(|held| (held.openid, held.state))
        .collect();
    held.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(held, [("a".into(), State::Out), ("b".into(), State::In)]);
    let states: Vec<_> = sandbox
        .ledger()
        .parkings()
        .iter()
        .map(|parking| parking.state.to_string())
        .collect();
    assert_eq!(states, ["IN", "IN", "OUT"]);
}

#[tokio::test]
async fn missing_members_are_named() {
    let sandbox = Sandbox::start().await.unwrap();
    let rows = [
        ("brandid", "400 PARAM_ERROR 业务必填字段brand_id为空"),
        ("appid", "400 PARAM_ERROR 业务必填字段AppID为空"),
        ("openid", "400 PARAM_ERROR 业务必填字段OpenID为空"),
        ("plate_number", "400 PARAM_ERROR 业务必填字段plate_number为空"),
        ("state", "400 PARAM_ERROR 业务必填字段state为空"),
        ("time", "400 PARAM_ERROR 业务必填字段time为空"),
    ];

    for (name, line) in rows {
        let absent = reply_with(&sandbox, json!({ name: null })).await;
        assert_eq!(absent.line(), line);
        assert_eq!(absent.json()["detail"]["field"], format!("/{name}"));
        assert_eq!(absent.json()["detail"]["location"], "body");
        let empty = if name == "brandid" { json!(0) } else { json!("") };
        assert_eq!(reply_with(&sandbox, json!({ name: empty })).await.line(), line);
    }
    assert_eq!(
        report(&sandbox, &json!({})).await.line(),
        rows[0].1,
        "the first one in documented order"
    );
}

#[tokio::test]
async fn members_of_the_wrong_form_are_named() {
    let sandbox = Sandbox::start().await.unwrap();
    let future = Timestamp::now() + 60.seconds();
    let rows = [
        ("plate_number", json!("B888888"), "400 PARAM_ERROR plate_number格式有误"),
        (
            "plate_number",
            json!("粤B·88888"),
            "400 PARAM_ERROR plate_number格式有误",
        ),
        (
            "plate_number",
            json!("粤b88888"),
            "400 PARAM_ERROR plate_number格式有误",
        ),
        (
            "plate_number",
            json!("使123456"),
            "400 PARAM_ERROR plate_number格式有误",
        ),
        ("time", json!("2022-06-01 10:43:39"), "400 PARAM_ERROR time格式有误"),
        ("time", json!("2022-06-01T10:43:39"), "400 PARAM_ERROR time格式有误"),
        ("time", json!(future.to_string()), "400 PARAM_ERROR time超出取值范围"),
        ("openid", json!("no openid"), "400 PARAM_ERROR OpenID有误"),
        ("openid", json!("o".repeat(65)), "400 PARAM_ERROR OpenID有误"),
        ("appid", json!("wx123"), "400 PARAM_ERROR AppID有误"),
        ("sub_mchid", json!("mall"), "400 PARAM_ERROR sub_mch_code有误"),
        ("state", json!("in"), "400 PARAM_ERROR 参数错误"),
        ("brandid", json!("1000"), "400 PARAM_ERROR 参数错误"),
        ("brandid", json!(1000.5), "400 PARAM_ERROR 参数错误"),
        ("openid", json!(7), "400 PARAM_ERROR 参数错误"),
    ];

    for (name, value, line) in rows {
        let reply = reply_with(&sandbox, json!({ name: value })).await;
        assert_eq!(reply.line(), line, "{name} {value}");
        assert_eq!(reply.json()["detail"]["field"], format!("/{name}"));
        assert_eq!(reply.json()["detail"]["value"], value);
    }
    assert!(sandbox.ledger().parkings().is_empty());
}

#[tokio::test]
async fn a_body_that_is_no_apiv3_json_is_refused() {
    let sandbox = Sandbox::start().await.unwrap();
    let rule = "400 INVALID_REQUEST HTTP 请求不符合微信支付 APIv3 接口规则";

    for body in ["", "{", "[]", "\"text\"", "{\"a\":1} x"] {
        assert_eq!(raw(&sandbox, body).await.line(), rule, "{body}");
    }
    let mut latin = Signed::post(&sandbox, &Value::Null);
    latin.body = b"{\"a\":\"\xe9\"}".to_vec();
    assert_eq!(send(&sandbox, latin.signed_by(&sandbox)).await.unwrap().line(), rule);
    for member in [
        r#""note":null"#,
        r#""note":{"deep":[null]}"#,
        r#""note":"😀""#,
        r#""note":"\ud83d\ude00""#,
    ] {
        let body = parking(&sandbox).to_string().replacen('{', &format!("{{{member},"), 1);
        let reply = raw(&sandbox, &body).await;
        assert_eq!(reply.line(), "400 PARAM_ERROR 参数错误", "{member}");
        assert_eq!(reply.json()["detail"]["field"], "/note");
    }
}

#[tokio::test]
async fn times_are_accepted_in_four_spellings_and_judged_by_the_platforms_clock() {
    let sandbox = Sandbox::start().await.unwrap();
    for time in [
        "2022-06-01T10:43:39+08:00",
        "2022-06-01T10:43:39.120+08:00",
        "2022-06-01T02:43:39Z",
        "2022-06-01T02:43:39.120Z",
    ] {
        assert_eq!(
            reply_with(&sandbox, json!({ "time": time })).await.line(),
            "204",
            "{time}"
        );
    }

    sandbox.set_clock_offset(-60);
    let now = Timestamp::now().to_string();
    assert_eq!(
        reply_with(&sandbox, json!({ "time": now })).await.line(),
        "400 PARAM_ERROR time超出取值范围"
    );
    sandbox.set_clock_offset(60);
    assert_eq!(reply_with(&sandbox, json!({ "time": now })).await.line(), "204");
}

#[tokio::test]
async fn permissions_are_refused_with_403() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();
    sandbox.members().belongs_to("o-other", &merchant.appids[1]);
    let rows = [
        (json!({ "brandid": 77 }), "403 NO_AUTH mch_id与brand_id关系不匹配"),
        (json!({ "openid": "o-other" }), "403 NO_AUTH OpenID与AppID不匹配"),
        (
            json!({ "appid": "wx0123456789abcdef" }),
            "403 NO_AUTH brandid与AppID不匹配",
        ),
        (json!({ "sub_mchid": "1234567890" }), "403 NO_AUTH 父子关系不匹配"),
        (
            json!({ "sub_mchid": merchant.other_sub_mchid }),
            "403 NO_AUTH sub_mch_code与brand_id不匹配",
        ),
    ];

    for (members, line) in rows {
        assert_eq!(reply_with(&sandbox, members).await.line(), line);
    }

    let own_appid = json!({ "openid": "o-other", "appid": merchant.appids[1] });
    assert_eq!(reply_with(&sandbox, own_appid).await.line(), "204");
    let provider = json!({ "sub_mchid": merchant.sub_mchid });
    assert_eq!(reply_with(&sandbox, provider).await.line(), "204");
    assert_eq!(
        sandbox.ledger().parkings()[1].sub_mchid.as_ref(),
        Some(&merchant.sub_mchid)
    );
}

#[tokio::test]
async fn an_openid_can_be_declared_invalid() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.members().invalid("o-gone");

    let refused = reply_with(&sandbox, json!({ "openid": "o-gone" })).await;
    sandbox.members().clear();
    let accepted = reply_with(&sandbox, json!({ "openid": "o-gone" })).await;

    assert_eq!(refused.line(), "400 PARAM_ERROR OpenID有误");
    assert_eq!(accepted.line(), "204");
}

#[tokio::test]
async fn a_mall_that_is_not_unique_is_refused_in_both_documented_ways() {
    let sandbox = Sandbox::start().await.unwrap();
    let body = parking(&sandbox);

    for (mall, line) in [
        (MallState::NotUnique, "403 NO_AUTH brandid无对应的唯一商圈mainid"),
        (
            MallState::NotUnique500,
            "500 SYSTEM_ERROR brandid无对应的唯一商圈mainid",
        ),
        (MallState::Missing, "403 NO_AUTH 请求失败，商户号下暂无商圈"),
        (MallState::Unique, "204"),
    ] {
        sandbox.set_mall(mall);
        assert_eq!(report(&sandbox, &body).await.line(), line);
    }
}

#[tokio::test]
async fn rows_that_only_the_platforms_inside_can_cause_are_asked_for() {
    let sandbox = Sandbox::start().await.unwrap();
    let body = parking(&sandbox);

    for (status, code, message) in [
        (500, "SYSTEM_ERROR", "系统必填字段source为空"),
        (500, "SYSTEM_ERROR", "系统必填字段machine_key为空"),
        (500, "SYSTEM_ERROR", "系统必填字段mch_id为空"),
        (500, "SYSTEM_ERROR", "保存数据失败"),
        (500, "SYSTEM_ERROR", "系统异常，请稍后重试"),
        // The table's general row; what is wrong with a signature is told in other words.
        (401, "SIGN_ERROR", "验证不通过"),
    ] {
        sandbox
            .faults()
            .next(Fault::Refuse(Refusal::new(status, code, message)));
        assert_eq!(
            report(&sandbox, &body).await.line(),
            format!("{status} {code} {message}")
        );
    }
    assert!(sandbox.ledger().parkings().is_empty());
}

#[tokio::test]
async fn refusals_are_signed_unless_set_otherwise() {
    let signing = Sandbox::start().await.unwrap();
    let silent = Sandbox::builder().sign_refusals(false).start().await.unwrap();

    let signed = report(&signing, &json!({})).await;
    let unsigned = report(&silent, &json!({})).await;

    assert!(signed.verifies(&signing));
    assert!(unsigned.is_unsigned());
    assert_eq!(unsigned.line(), signed.line());
}

#[tokio::test]
async fn the_key_that_signs_is_the_one_asked_for() {
    let old = Sandbox::start().await.unwrap();
    let new = Sandbox::builder().key_mode(KeyMode::PublicKey).start().await.unwrap();
    let merchant = old.merchant();
    let (public, certificate) = (
        merchant.public_key_id.as_str(),
        merchant.platform_certificate_serial.as_str(),
    );

    for (sandbox, asked, serial) in [
        (&old, None, certificate),
        (&old, Some(public), public),
        (&old, Some(certificate), certificate),
        (&old, Some("PUB_KEY_ID_0000"), certificate),
        (&new, None, public),
        (&new, Some(certificate), certificate),
    ] {
        let mut signed = Signed::post(sandbox, &parking(sandbox));
        if let Some(asked) = asked {
            signed = signed.with("wechatpay-serial", asked);
        }
        let reply = send(sandbox, signed.signed_by(sandbox)).await.unwrap();
        assert_eq!(reply.header("wechatpay-serial"), serial);
        assert!(reply.verifies(sandbox));
    }
}

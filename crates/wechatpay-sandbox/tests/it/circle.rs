//! The other endpoints of the business circle: each row of protocol 2.1 to 2.3, made to happen, and the state behind them.

use std::time::Duration;

use serde_json::{Value, json};
use wechatpay_sandbox::{CommitStatusAnswer, MallState, Payment, Purchase, Sandbox, Submission, SubmitError};

use crate::client::{Reply, get, parking, post, report, with};

const OPENID: &str = "oUpF8uMuAJOM2pxb1Q";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn authorization(sandbox: &Sandbox) -> String {
    let appid = &sandbox.merchant().appid;
    format!("/v3/businesscircle/user-authorizations/{OPENID}?appid={appid}")
}

fn commit_status(sandbox: &Sandbox) -> String {
    let merchant = sandbox.merchant();
    let (brandid, appid) = (merchant.brandid, &merchant.appid);
    format!("/v3/businesscircle/users/{OPENID}/points/commit_status?brandid={brandid}&appid={appid}")
}

/// The documented example, for this payment.
fn points(sandbox: &Sandbox, transaction_id: &str) -> Value {
    json!({
        "transaction_id": transaction_id,
        "appid": sandbox.merchant().appid,
        "openid": OPENID,
        "earn_points": true,
        "increased_points": 100,
        "points_update_time": "2020-05-20T13:29:35.120+08:00",
        "total_points": 888_888,
    })
}

async fn notify(sandbox: &Sandbox, body: &Value) -> Reply {
    post(sandbox, "/v3/businesscircle/points/notify", body).await
}

/// Whether the ledger says of the last call what to do about its refusal.
fn is_explained(sandbox: &Sandbox) -> bool {
    sandbox.ledger().calls().pop().unwrap().help.is_some()
}

/// A payment that was handed in by itself and acknowledged.
async fn submitted(sandbox: &Sandbox) -> Payment {
    sandbox.members().authorize(OPENID);
    assert_eq!(report(sandbox, &parking(sandbox)).await.line(), "204");
    let payment = sandbox.payments().pay(Purchase::new(OPENID, 200));
    assert_eq!(payment.submission, Submission::Automatic);
    assert!(sandbox.payments().acknowledge(&payment.transaction_id));
    payment
}

#[tokio::test]
async fn an_authorisation_is_given_and_withdrawn() {
    let sandbox = Sandbox::start().await.unwrap();
    let query = authorization(&sandbox);

    let never = get(&sandbox, &query).await;
    sandbox.members().authorize(OPENID);
    let given = get(&sandbox, &query).await;
    sandbox.clock().advance(DAY);
    sandbox.members().deauthorize(OPENID);
    let withdrawn = get(&sandbox, &query).await;
    sandbox.members().authorize(OPENID);
    let again = get(&sandbox, &query).await;

    assert!(never.verifies(&sandbox));
    assert_eq!(
        never.json(),
        json!({ "openid": OPENID, "authorize_state": "UNAUTHORIZED" })
    );
    assert_eq!(given.json()["authorize_state"], "AUTHORIZED");
    assert!(given.json()["authorize_time"].as_str().unwrap().ends_with("+08:00"));
    assert!(given.json().get("deauthorize_time").is_none());
    assert_eq!(withdrawn.json()["authorize_state"], "DEAUTHORIZED");
    let day = |name: &str| withdrawn.json()[name].as_str().unwrap()[..10].to_owned();
    assert_ne!(day("authorize_time"), day("deauthorize_time"));
    assert_eq!(again.json()["authorize_state"], "AUTHORIZED");
}

#[tokio::test]
async fn the_authorisation_query_refuses_what_the_table_lists() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();
    sandbox.members().belongs_to("o-other", &merchant.appids[1]);
    sandbox.members().invalid("o-gone");
    let path = "/v3/businesscircle/user-authorizations";
    let appid = &merchant.appid;
    let good = authorization(&sandbox);
    let rows = [
        (format!("{path}/{OPENID}"), "400 PARAM_ERROR AppID有误"),
        (format!("{path}/{OPENID}?appid=wx1"), "400 PARAM_ERROR AppID有误"),
        (
            format!("{path}/no%20openid?appid={appid}"),
            "400 PARAM_ERROR OpenID有误",
        ),
        (format!("{path}/o-gone?appid={appid}"), "400 PARAM_ERROR OpenID有误"),
        (
            format!("{path}/{}?appid={appid}", "o".repeat(65)),
            "400 PARAM_ERROR OpenID有误",
        ),
        (
            format!("{path}/{OPENID}?appid=wx0123456789abcdef"),
            "400 PARAM_ERROR AppID不是商圈积分服务配置的小程序",
        ),
        (
            format!("{path}/o-other?appid={appid}"),
            "400 PARAM_ERROR OpenID与AppID不匹配",
        ),
        (
            format!("{good}&sub_mchid={}", merchant.other_sub_mchid),
            "400 INVALID_REQUEST 调用方不是该商圈的服务商",
        ),
        (format!("{good}&sub_mchid=mall"), "400 PARAM_ERROR 参数错误"),
    ];

    for (target, line) in rows {
        assert_eq!(get(&sandbox, &target).await.line(), line, "{target}");
        assert!(is_explained(&sandbox), "{target}");
    }
    let detail = get(&sandbox, &format!("{path}/o-gone?appid={appid}")).await.json()["detail"].clone();
    assert_eq!(
        (&detail["field"], &detail["location"]),
        (&json!("openid"), &json!("url"))
    );
    let detail = get(&sandbox, &format!("{path}/{OPENID}?appid=wx1")).await.json()["detail"].clone();
    assert_eq!(
        (&detail["field"], &detail["location"]),
        (&json!("appid"), &json!("query"))
    );
    let provider = format!("{good}&sub_mchid={}", merchant.sub_mchid);
    assert_eq!(get(&sandbox, &provider).await.status, 200);
    sandbox.set_mall(MallState::PointsNotOpened);
    assert_eq!(
        get(&sandbox, &good).await.line(),
        "400 INVALID_REQUEST 商圈未开通支付即积分"
    );
}

#[tokio::test]
async fn pending_points_are_todays_payments_that_were_not_handed_in() {
    let sandbox = Sandbox::start().await.unwrap();
    let query = commit_status(&sandbox);
    let mut seen = Vec::new();

    sandbox.members().authorize(OPENID);
    seen.push(get(&sandbox, &query).await.json());
    let payment = sandbox.payments().pay(Purchase::new(OPENID, 200));
    seen.push(get(&sandbox, &query).await.json());
    let handed_in = sandbox.payments().hand_in(&payment.transaction_id).unwrap();
    seen.push(get(&sandbox, &query).await.json());
    let late = sandbox.payments().pay(Purchase::new(OPENID, 300));
    sandbox.clock().advance(DAY);
    seen.push(get(&sandbox, &query).await.json());

    let states: Vec<_> = seen
        .iter()
        .map(|answer| answer["points_commit_status"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["FINISHED", "PENDING", "FINISHED", "FINISHED"]);
    assert_eq!(handed_in.submission, Submission::ByHand);
    let payments = sandbox.payments();
    assert_eq!(
        payments.hand_in(&handed_in.transaction_id).unwrap_err(),
        SubmitError::NotOpen
    );
    assert_eq!(
        payments.hand_in(&late.transaction_id).unwrap_err(),
        SubmitError::TooLate
    );
    assert_eq!(payments.hand_in("1").unwrap_err(), SubmitError::Unknown);
}

#[tokio::test]
async fn the_query_of_pending_points_refuses_what_the_table_lists() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();
    let (appid, brandid) = (&merchant.appid, merchant.brandid);
    sandbox.members().belongs_to("o-other", &merchant.appids[1]);
    let path = |openid: &str| format!("/v3/businesscircle/users/{openid}/points/commit_status");
    let good = commit_status(&sandbox);
    let rows = [
        (good.clone(), "400 INVALID_REQUEST OpenID未授权该商圈"),
        (
            format!("{}?brandid={brandid}", path(OPENID)),
            "400 PARAM_ERROR 业务必填字段AppID为空",
        ),
        (
            format!("{}?appid={appid}", path(OPENID)),
            "400 PARAM_ERROR 业务必填字段brand_id为空",
        ),
        (
            format!("{}?appid={appid}&brandid={brandid}", path("%20")),
            "400 PARAM_ERROR 业务必填字段OpenID为空",
        ),
        (
            format!("{}?appid={appid}&brandid={brandid}", path("a%20b")),
            "400 PARAM_ERROR OpenID有误",
        ),
        (format!("{good}&sub_mchid=mall"), "400 PARAM_ERROR sub_mch_code有误"),
        (
            format!("{}?appid={appid}&brandid=one", path(OPENID)),
            "400 PARAM_ERROR 参数错误",
        ),
        (
            format!("{}?appid={appid}&brandid={brandid}", path("o-other")),
            "403 NO_AUTH OpenID与AppID不匹配",
        ),
        (
            format!("{}?appid=wx0123456789abcdef&brandid={brandid}", path(OPENID)),
            "403 NO_AUTH brandid与AppID不匹配",
        ),
        (
            format!("{good}&sub_mchid={}", merchant.other_sub_mchid),
            "403 NO_AUTH sub_mch_code与brand_id不匹配",
        ),
        (format!("{good}&sub_mchid=1234567890"), "403 NO_AUTH 父子关系不匹配"),
    ];

    for (target, line) in rows {
        assert_eq!(get(&sandbox, &target).await.line(), line, "{target}");
        assert!(is_explained(&sandbox), "{target}");
    }
    for (mall, line) in [
        (MallState::NotUnique, "403 NO_AUTH brandid无对应的唯一商圈mainid"),
        (
            MallState::BeforeMemberProduct,
            "403 NO_AUTH 仅支持商圈会员产品的商圈调用，请升级至商圈会员3.0",
        ),
    ] {
        sandbox.set_mall(mall);
        assert_eq!(get(&sandbox, &good).await.line(), line);
    }
}

#[tokio::test]
async fn the_answer_about_pending_points_may_have_no_body() {
    let builder = Sandbox::builder().commit_status(CommitStatusAnswer::NoContent);
    let sandbox = builder.start().await.unwrap();
    sandbox.members().authorize(OPENID);

    let reply = get(&sandbox, &commit_status(&sandbox)).await;

    assert_eq!(reply.line(), "204");
    assert!(reply.verifies(&sandbox));
}

#[tokio::test]
async fn points_are_reported_once_and_remembered() {
    let sandbox = Sandbox::start().await.unwrap();
    let payment = submitted(&sandbox).await;
    let body = points(&sandbox, &payment.transaction_id);

    let first = notify(&sandbox, &body).await;
    let second = notify(&sandbox, &body).await;

    assert_eq!(first.line(), "204");
    assert!(first.verifies(&sandbox));
    assert_eq!(second.line(), "400 INVALID_REQUEST 该订单积分已回传");
    let kept = sandbox
        .payments()
        .find(&payment.transaction_id)
        .unwrap()
        .points
        .unwrap();
    assert_eq!(
        (kept.earn_points, kept.increased_points, kept.total_points),
        (true, 100, Some(888_888))
    );
    let committed: Vec<_> = sandbox.ledger().calls().iter().map(|call| call.committed).collect();
    assert_eq!(committed, [true, true, false]);
    assert_eq!(sandbox.ledger().accepted(), 1, "only parking states count");
}

#[tokio::test]
async fn points_need_a_payment_that_was_handed_in_acknowledged_and_of_today() {
    let sandbox = Sandbox::start().await.unwrap();
    let payments = sandbox.payments();
    let not_submitted = "400 INVALID_REQUEST 该订单未提交积分";
    let stranger = payments.pay(Purchase::new(OPENID, 100));
    sandbox.members().authorize(OPENID);
    let open = payments.pay(Purchase::new(OPENID, 100));
    let unacknowledged = payments.pay(Purchase::new(OPENID, 100));
    payments.hand_in(&unacknowledged.transaction_id).unwrap();
    let late = submitted(&sandbox).await;

    assert_eq!(stranger.submission, Submission::NotEligible);
    for transaction_id in [
        "4200000000",
        &stranger.transaction_id,
        &open.transaction_id,
        &unacknowledged.transaction_id,
    ] {
        let reply = notify(&sandbox, &points(&sandbox, transaction_id)).await;
        assert_eq!(reply.line(), not_submitted);
    }
    sandbox.clock().advance(DAY);
    let reply = notify(&sandbox, &points(&sandbox, &late.transaction_id)).await;
    assert_eq!(reply.line(), "400 INVALID_REQUEST 该订单已超过回传时效");
}

#[tokio::test]
async fn a_report_of_points_has_its_form_checked() {
    let sandbox = Sandbox::start().await.unwrap();
    let payment = submitted(&sandbox).await;
    let body = points(&sandbox, &payment.transaction_id);
    let generic = "400 PARAM_ERROR 参数错误";
    let rows = [
        (json!({ "transaction_id": null }), generic),
        (json!({ "transaction_id": "4".repeat(65) }), generic),
        (json!({ "appid": null }), generic),
        (json!({ "appid": "wx0123456789abcdef" }), "400 PARAM_ERROR AppID有误"),
        (json!({ "openid": null }), "400 PARAM_ERROR OpenID有误"),
        (json!({ "openid": "no openid" }), "400 PARAM_ERROR OpenID有误"),
        (json!({ "openid": "o-somebody-else" }), "400 PARAM_ERROR OpenID有误"),
        (json!({ "earn_points": null }), generic),
        (json!({ "earn_points": "true" }), generic),
        (
            json!({ "earn_points": false, "increased_points": 0 }),
            "400 PARAM_ERROR 未获得积分时no_points_remarks不能为空",
        ),
        (json!({ "increased_points": null }), generic),
        (json!({ "increased_points": -1 }), generic),
        (json!({ "points_update_time": null }), generic),
        (json!({ "points_update_time": "2020-05-20" }), generic),
        (json!({ "total_points": "888" }), generic),
        (
            json!({ "earn_points": false, "no_points_remarks": "无".repeat(129) }),
            generic,
        ),
        (
            json!({ "sub_mchid": "1234567890" }),
            "400 MCH_NOT_EXISTS 商圈商户不存在",
        ),
    ];

    for (members, line) in rows {
        assert_eq!(
            notify(&sandbox, &with(body.clone(), &members)).await.line(),
            line,
            "{members}"
        );
    }
    let none = json!({
        "earn_points": false,
        "increased_points": 0,
        "no_points_remarks": "不参与积分",
        "sub_mchid": sandbox.merchant().sub_mchid,
    });
    assert_eq!(notify(&sandbox, &with(body, &none)).await.line(), "204");
}

#[tokio::test]
async fn presence_is_forgotten_at_the_end_of_the_day() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.members().authorize(OPENID);

    let before = sandbox.is_present(OPENID);
    report(&sandbox, &parking(&sandbox)).await;
    let inside = sandbox.is_present(OPENID);
    let end = sandbox.presences()[0].ends_at().unwrap();
    sandbox.clock().advance(DAY);
    let next_day = sandbox.is_present(OPENID);
    let payment = sandbox.payments().pay(Purchase::new(OPENID, 100));

    assert_eq!((before, inside, next_day), (false, true, false));
    assert!(end.to_string().ends_with("T15:59:59Z"), "{end}: 23:59:59 in China");
    assert_eq!(payment.submission, Submission::Open);
}

#[tokio::test]
async fn a_reset_forgets_members_payments_and_presences() {
    let sandbox = Sandbox::start().await.unwrap();
    submitted(&sandbox).await;

    sandbox.reset();

    assert!(sandbox.payments().all().is_empty());
    assert!(sandbox.members().authorizations().is_empty());
    assert!(sandbox.presences().is_empty());
    assert_eq!(sandbox.ledger().accepted(), 1);
}

//! What is refused before the business: routes, headers, Authorization, clock, serial, signature (protocol 3.1 to 3.5).

use serde_json::json;
use wechatpay_sandbox::{CertificateState, Sandbox};

use crate::client::{Reply, Signed, parking, report, send, sign};

const MALFORMED: &str = "401 SIGN_ERROR Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》";
const WRONG_SIGNATURE: &str = "401 SIGN_ERROR 错误的签名，导致验签失败。";
const WRONG_SERIAL: &str = "401 SIGN_ERROR 商户证书序列号有误。请使用签名私钥匹配的证书序列号";
const CLOCK: &str = "401 SIGN_ERROR Http头Authorization中的timestamp与发起请求的时间不得超过5分钟";

async fn reply(sandbox: &Sandbox, spoil: impl FnOnce(Signed) -> Signed) -> Reply {
    let reply = send(
        sandbox,
        spoil(Signed::post(sandbox, &parking(sandbox))).signed_by(sandbox),
    )
    .await
    .unwrap();
    assert!(
        reply.is_unsigned(),
        "an answer before or at authentication carries no Wechatpay-* header"
    );
    reply
}

/// With this signature, made from the request.
async fn reply_signed(sandbox: &Sandbox, spoil: impl FnOnce(&Signed) -> String) -> Reply {
    let signed = Signed::post(sandbox, &parking(sandbox));
    let authorization = signed.authorization(&spoil(&signed));
    send(sandbox, signed.with("authorization", authorization).build())
        .await
        .unwrap()
}

fn hint(sandbox: &Sandbox) -> String {
    sandbox.ledger().calls().pop().unwrap().help.unwrap().hint
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_without_a_body_and_before_authentication() {
    let sandbox = Sandbox::start().await.unwrap();
    let bare = |method: &str, target: &str| {
        let mut signed = Signed::post(&sandbox, &json!({}));
        (signed.method, signed.target, signed.headers) = (method.into(), target.into(), Vec::new());
        signed.with("host", "127.0.0.1").build()
    };

    for (method, target, status) in [
        ("POST", "/v3/businesscircle/parking", "404"),
        ("POST", "/v3/businesscircle/parkings/", "404"),
        ("GET", "/", "404"),
        ("GET", "/v3/businesscircle/parkings", "405"),
        ("PUT", "/v3/businesscircle/parkings?x=y", "405"),
    ] {
        let reply = send(&sandbox, bare(method, target)).await.unwrap();
        assert_eq!(reply.line(), status, "{method} {target}");
        assert!(reply.is_unsigned());
    }
}

#[tokio::test]
async fn missing_headers_are_refused_before_authentication() {
    let sandbox = Sandbox::start().await.unwrap();
    let missing = "400 INVALID_REQUEST Http头缺少Accept或User-Agent";
    let rule = "400 INVALID_REQUEST HTTP 请求不符合微信支付 APIv3 接口规则";

    for name in ["accept", "user-agent"] {
        assert_eq!(reply(&sandbox, |signed| signed.without(name)).await.line(), missing);
        let unauthorized = Signed::post(&sandbox, &json!({})).without(name).build();
        assert_eq!(send(&sandbox, unauthorized).await.unwrap().line(), missing);
    }
    assert_eq!(
        reply(&sandbox, |signed| signed.with("accept", "text/html"))
            .await
            .line(),
        rule
    );
    assert_eq!(
        reply(&sandbox, |signed| signed.without("content-type")).await.line(),
        rule
    );
    assert_eq!(
        reply(&sandbox, |signed| signed.with("content-type", "text/json"))
            .await
            .line(),
        rule
    );
}

#[tokio::test]
async fn headers_may_be_spelt_as_clients_spell_them() {
    let sandbox = Sandbox::start().await.unwrap();
    for (name, value) in [
        ("accept", "*/*"),
        ("accept", "text/html, Application/JSON;q=0.9"),
        ("content-type", "application/json; charset=utf-8"),
    ] {
        let signed = Signed::post(&sandbox, &parking(&sandbox)).with(name, value);
        assert_eq!(
            send(&sandbox, signed.signed_by(&sandbox)).await.unwrap().line(),
            "204",
            "{value}"
        );
    }
}

#[tokio::test]
async fn a_crooked_authorization_is_refused() {
    let sandbox = Sandbox::start().await.unwrap();
    let absent = Signed::post(&sandbox, &parking(&sandbox)).build();
    assert_eq!(send(&sandbox, absent).await.unwrap().line(), MALFORMED);

    for (authorization, line) in [
        ("WECHATPAY2-SHA256-RSA2048", MALFORMED),
        ("WECHATPAY2-SHA256-RSA2048 mchid=\"1\"", MALFORMED),
        ("Bearer token", "401 SIGN_ERROR Http头Authorization认证类型不正确"),
        (
            "WECHATPAY2-SM2-WITH-SM3 mchid=\"1\"",
            "401 SIGN_ERROR Http头Authorization认证类型不正确",
        ),
    ] {
        let request = Signed::post(&sandbox, &parking(&sandbox))
            .with("authorization", authorization)
            .build();
        assert_eq!(send(&sandbox, request).await.unwrap().line(), line, "{authorization}");
    }
}

#[tokio::test]
async fn the_clock_is_checked_before_serial_and_signature() {
    let sandbox = Sandbox::start().await.unwrap();
    for skew in [-310, 310, i64::MAX - 2_000_000_000] {
        let reply = reply(&sandbox, |mut signed| {
            signed.timestamp += skew;
            signed.serial_no = "0".repeat(40);
            signed
        });
        assert_eq!(reply.await.line(), CLOCK, "{skew}");
    }
    for skew in [-290, 290] {
        let mut signed = Signed::post(&sandbox, &parking(&sandbox));
        signed.timestamp += skew;
        assert_eq!(
            send(&sandbox, signed.signed_by(&sandbox)).await.unwrap().line(),
            "204",
            "{skew}"
        );
    }
}

#[tokio::test]
async fn the_platforms_clock_can_be_moved() {
    let sandbox = Sandbox::builder().clock_offset(400).start().await.unwrap();
    let early = report(&sandbox, &parking(&sandbox)).await;
    sandbox.set_clock_offset(0);
    let right = report(&sandbox, &parking(&sandbox)).await;

    assert_eq!(early.line(), CLOCK);
    assert_eq!(right.line(), "204");
    assert!(hint_of(&sandbox, 0).contains("-400 s") || hint_of(&sandbox, 0).contains("-401 s"));
    let date = |reply: &Reply| {
        jiff::fmt::rfc2822::parse(&reply.header("date").replace("GMT", "+0000"))
            .unwrap()
            .timestamp()
            .as_second()
    };
    assert!((398..=402).contains(&(date(&early) - date(&right))));
}

fn hint_of(sandbox: &Sandbox, call: usize) -> String {
    sandbox.ledger().calls()[call].help.clone().unwrap().hint
}

#[tokio::test]
async fn a_caller_that_is_not_known_is_refused() {
    let sandbox = Sandbox::start().await.unwrap();

    let other_serial = reply(&sandbox, |mut signed| {
        signed.serial_no = "A".repeat(40);
        signed
    });
    assert_eq!(other_serial.await.line(), WRONG_SERIAL);
    assert!(hint(&sandbox).contains(&sandbox.merchant().serial_no));
    let other_mchid = reply(&sandbox, |mut signed| {
        signed.mchid = "1900000001".into();
        signed
    });
    assert_eq!(other_mchid.await.line(), WRONG_SERIAL);
    assert!(hint(&sandbox).contains(&sandbox.merchant().mchid));
}

#[tokio::test]
async fn a_certificate_that_is_no_longer_good_is_refused() {
    let sandbox = Sandbox::start().await.unwrap();
    for (state, line) in [
        (CertificateState::ApiV3KeyNotSet, "401 SIGN_ERROR 商户未设置APIv3密钥。"),
        (CertificateState::NotApplied, "401 SIGN_ERROR 商户未申请过证书。"),
        (CertificateState::Expired, "401 SIGN_ERROR 商户证书已过期。"),
        (CertificateState::Revoked, "401 SIGN_ERROR 商户证书已作废。"),
        (CertificateState::Replaced, "401 SIGN_ERROR 已更换证书，请使用新证书。"),
    ] {
        sandbox.set_certificate(state);
        assert_eq!(reply(&sandbox, |signed| signed).await.line(), line);
    }
    sandbox.set_certificate(CertificateState::Good);
    assert_eq!(report(&sandbox, &parking(&sandbox)).await.line(), "204");
}

#[tokio::test]
async fn a_wrong_signature_is_refused_and_the_ledger_says_what_was_checked() {
    let sandbox = Sandbox::start().await.unwrap();
    let own = &sandbox.merchant().private_key_pem;
    let stranger = Sandbox::builder().fresh_keys().start().await.unwrap();
    let foreign = &stranger.merchant().private_key_pem;

    for signature in ["ZmFrZQ==", "not base64!"] {
        assert_eq!(
            reply_signed(&sandbox, |_| signature.into()).await.line(),
            WRONG_SIGNATURE
        );
    }
    assert_eq!(
        reply_signed(&sandbox, |signed| sign(foreign, &signed.message()))
            .await
            .line(),
        WRONG_SIGNATURE
    );
    assert!(hint(&sandbox).contains("another key"));

    let reply = reply_signed(&sandbox, |signed| {
        let mut message = signed.message();
        message.pop();
        sign(own, &message)
    });
    assert_eq!(reply.await.line(), WRONG_SIGNATURE);
    assert!(hint(&sandbox).contains("line feed"), "{}", hint(&sandbox));
    let call = sandbox.ledger().calls().pop().unwrap();
    let checked = call.help.unwrap().string_to_sign.unwrap();
    assert!(checked.starts_with("POST\n/v3/businesscircle/parkings\n"));
    assert!(checked.ends_with(&format!("{}\n", String::from_utf8(call.body.to_vec()).unwrap())));
    assert_eq!(
        (call.status, &*call.code, call.committed),
        (Some(401), "SIGN_ERROR", false)
    );
}

#[tokio::test]
async fn the_query_and_the_exact_bytes_are_part_of_what_is_signed() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut signed = Signed::post(&sandbox, &parking(&sandbox));
    signed.target = "/v3/businesscircle/parkings?a=%E4%BA%AC&b".into();
    signed.body.insert(1, b' ');
    assert_eq!(send(&sandbox, signed.signed_by(&sandbox)).await.unwrap().line(), "204");

    let mut sent = Signed::post(&sandbox, &parking(&sandbox));
    let signature = sign(&sandbox.merchant().private_key_pem, &sent.message());
    sent.target += "?a=b";
    let authorization = sent.authorization(&signature);
    let reply = send(&sandbox, sent.with("authorization", authorization).build())
        .await
        .unwrap();
    assert_eq!(reply.line(), WRONG_SIGNATURE);
    assert!(hint(&sandbox).contains("query"));
}

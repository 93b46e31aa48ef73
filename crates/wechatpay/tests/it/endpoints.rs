//! The typed calls against the sandbox, and files in both directions.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use serde_json::json;
use wechatpay::api::business_circle::{
    AuthorizationQuery, AuthorizeState, CommitStatusQuery, Points, PointsCommitStatus, PointsOutcome,
};
use wechatpay::api::security::NewEcho;
use wechatpay::{Chain, Digest, Error, MerchantKey, Personal, Upload, VerifyError, seal};
use wechatpay_sandbox::{Fault, Refusal, Sandbox};

use crate::server::{Script, Server};
use crate::{blocking, client};

const OPENID: &str = "oUpF8uMuAJOM2pxb1Q";

#[tokio::test]
async fn a_members_authorisation_is_read() {
    let sandbox = Sandbox::start().await.unwrap();
    let query = AuthorizationQuery {
        openid: OPENID.into(),
        appid: sandbox.merchant().appid.clone(),
        sub_mchid: None,
    };

    let found = client(&sandbox).business_circle().authorization(&query).await.unwrap();
    assert_eq!(&*found.openid, OPENID);
    assert!(
        matches!(
            found.authorize_state,
            AuthorizeState::Authorized | AuthorizeState::Unauthorized
        ),
        "{found:?}"
    );
    assert!(!format!("{found:?}").contains(OPENID));

    let wrong = AuthorizationQuery {
        appid: "wx0123456789abcdef".into(),
        ..query.clone()
    };
    let error = client(&sandbox)
        .business_circle()
        .authorization(&wrong)
        .await
        .unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(400), Some("PARAM_ERROR")));

    let empty = AuthorizationQuery {
        openid: Personal::default(),
        ..query
    };
    let error = client(&sandbox)
        .business_circle()
        .authorization(&empty)
        .await
        .unwrap_err();
    assert!(error.nothing_sent() && Chain(&error).to_string().ends_with("openid is empty"));
}

#[test]
fn the_blocking_client_has_the_same_typed_calls() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sandbox = runtime.block_on(Sandbox::start()).unwrap();
    let query = CommitStatusQuery {
        openid: OPENID.into(),
        sub_mchid: Some(sandbox.merchant().sub_mchid.clone()),
        brandid: sandbox.merchant().brandid,
        appid: sandbox.merchant().appid.clone(),
    };

    sandbox.members().authorize(OPENID);

    let status = blocking(&sandbox)
        .business_circle()
        .points_commit_status(&query)
        .unwrap();

    assert_eq!(status, Some(PointsCommitStatus::Finished));
    let call = sandbox.ledger().calls().pop().unwrap();
    assert!(call.path.starts_with("/v3/businesscircle/users/"), "{}", call.path);
}

#[tokio::test]
async fn points_that_were_reported_already_are_success_only_when_that_is_signed() {
    let sandbox = Sandbox::start().await.unwrap();
    let silent = Sandbox::builder().sign_refusals(false).start().await.unwrap();
    let reported = || Fault::Refuse(Refusal::new(400, "INVALID_REQUEST", "该订单积分已回传"));
    let points = Points {
        transaction_id: "4200000533202000000000000000".into(),
        appid: sandbox.merchant().appid.clone(),
        openid: OPENID.into(),
        earn_points: true,
        increased_points: 100,
        points_update_time: jiff::Timestamp::now(),
        ..Points::default()
    };

    sandbox.faults().next(reported());
    let signed = client(&sandbox).business_circle().notify_points(&points).await;
    silent.faults().next(reported());
    let unsigned = client(&silent).business_circle().notify_points(&points).await;
    let unknown = client(&sandbox)
        .business_circle()
        .notify_points(&points)
        .await
        .unwrap_err();

    assert_eq!(signed.unwrap(), PointsOutcome::AlreadyRecorded);
    assert!(matches!(unsigned, Err(Error::Api { verified: false, .. })));
    assert_eq!(
        unknown.code(),
        Some("INVALID_REQUEST"),
        "no such payment: {}",
        Chain(&unknown)
    );
    let none = Points {
        earn_points: false,
        ..points
    };
    let error = client(&sandbox)
        .business_circle()
        .notify_points(&none)
        .await
        .unwrap_err();
    assert!(error.nothing_sent() && Chain(&error).to_string().contains("no_points_remarks is needed"));
}

#[tokio::test]
async fn the_echo_goes_sealed_both_ways() {
    let sandbox = Sandbox::start().await.unwrap();
    let client = client(&sandbox);
    let keys = client.platform_keys();
    let echo = NewEcho {
        echo_message: "hello".into(),
        secret_message: Some("李四".into()),
        notify_url: None,
    };

    let answer = client.security().echo(&echo, keys.sealing().unwrap()).await.unwrap();

    assert_eq!(answer.echo_message, "hello");
    let merchant_key = MerchantKey::from_pem(&sandbox.merchant().private_key_pem).unwrap();
    let opened = merchant_key.open(&answer.encrypted_echo_message.unwrap()).unwrap();
    assert_eq!(opened, "李四".as_bytes());
}

#[tokio::test]
async fn an_upload_is_signed_over_its_meta() {
    let server = Server::start().await;
    let file = [0, 255, b'\r', b'\n', b'-', b'-'];
    let upload = Upload::new("营业执照.jpg", "image/jpeg", file.to_vec());

    server
        .client()
        .chain("v3/merchant/media/upload")
        .upload(&upload)
        .await
        .unwrap();

    let [arrived] = server.take_arrived().try_into().unwrap();
    let meta = format!(
        r#"{{"filename":"营业执照.jpg","sha256":"{}"}}"#,
        seal::sha256_hex(&file)
    );
    server.assert_signed_over(&arrived, meta.as_bytes());
    let kind = arrived.headers["content-type"].to_str().unwrap();
    let boundary = kind.strip_prefix("multipart/form-data;boundary=").unwrap();
    let body = &arrived.body;
    assert!(body.starts_with(format!("--{boundary}\r\n").as_bytes()));
    assert!(body.ends_with(format!("\r\n--{boundary}--\r\n").as_bytes()));
    assert!(body.windows(file.len()).any(|window| window == file));
    assert!(body.windows(meta.len()).any(|window| window == meta.as_bytes()));
}

#[tokio::test]
async fn a_download_is_believed_by_its_digest_only() {
    let server = Server::start().await;
    let bill = "交易时间,公众账号ID\n";
    server.script(Script {
        status: 200,
        body: bill.into(),
        unsigned: true,
        ..Script::default()
    });
    let url = "https://api.mch.weixin.qq.com/v3/billdownload/file?token=a%2Fb";
    let digest = Digest::sha256(seal::sha256_hex(bill.as_bytes())).unwrap();

    let answer = server.client().download(url, digest.clone()).await.unwrap();
    let [arrived] = server.take_arrived().try_into().unwrap();
    assert_eq!(answer.body(), bill);
    assert_eq!(arrived.target, "/v3/billdownload/file?token=a%2Fb");
    server.assert_signed(&arrived);

    let other = Digest::sha256("0".repeat(64)).unwrap();
    let error = server.client().download(url, other).await.unwrap_err();
    assert!(matches!(
        error,
        Error::Verify {
            source: VerifyError::Digest { .. },
            ..
        }
    ));
    let plain = server.client().chain("v3/billdownload/file").get().await.unwrap_err();
    assert!(
        matches!(plain, Error::Verify { .. }),
        "every other route needs a signature"
    );
    server.script(Script {
        status: 404,
        ..Script::default()
    });
    let refused = server.client().download(url, digest).await.unwrap_err();
    assert_eq!(refused.status(), Some(404));
    assert!(Digest::sha1("zz").is_err() && Digest::sha1("0".repeat(40)).is_ok());
}

#[tokio::test]
async fn answers_with_and_without_a_body_mean_done() {
    use wechatpay::api::reminders::ApplicationKey;
    let server = Server::start().await;
    let which = ApplicationKey {
        parking_lot_audit_no: "PLA202604230001".into(),
        out_parking_lot_id: "PARK001".into(),
    };

    for (status, body) in [(204, ""), (200, "{}"), (200, "")] {
        server.script(Script {
            status,
            body: body.into(),
            ..Script::default()
        });
        server.client().parking_reminders().withdraw(&which).await.unwrap();
    }
    let sent: serde_json::Value = serde_json::from_slice(&server.take_arrived()[0].body).unwrap();
    assert_eq!(
        sent,
        json!({"parking_lot_audit_no": "PLA202604230001", "out_parking_lot_id": "PARK001"})
    );
}

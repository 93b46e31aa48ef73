//! Platform certificates, the public key, and the way from one to the other (protocol 4).

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use wechatpay_sandbox::{KeyMode, Sandbox};
use x509_cert::Certificate;
use x509_cert::der::DecodePem;

use crate::client::{Reply, Signed, certificate_key, get, open, parking, pem_to_der, post, report, send};

const CERTIFICATES: &str = "/v3/certificates";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Serial and PEM of each entry.
fn opened(sandbox: &Sandbox, answer: &Value) -> Vec<(String, String)> {
    let api_v3_key = &sandbox.merchant().api_v3_key;
    let entries = answer["data"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| {
            let pem = open(api_v3_key, &entry["encrypt_certificate"]);
            (entry["serial_no"].as_str().unwrap().to_owned(), pem)
        })
        .collect()
}

fn serial(pem: &str) -> String {
    let certificate = Certificate::from_pem(pem).unwrap();
    let bytes = certificate.tbs_certificate().serial_number().as_bytes().to_vec();
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Calls by serial of the key that signed, each verified with a downloaded certificate.
async fn signers(sandbox: &Sandbox, calls: usize) -> HashMap<String, usize> {
    let held: HashMap<_, _> = opened(sandbox, &get(sandbox, CERTIFICATES).await.json())
        .into_iter()
        .collect();
    let mut seen = HashMap::new();
    for _ in 0..calls {
        let reply = report(sandbox, &parking(sandbox)).await;
        let serial = reply.header("wechatpay-serial").to_owned();
        assert!(reply.verifies_with(&certificate_key(&held[&serial])), "{serial}");
        *seen.entry(serial).or_default() += 1;
    }
    seen
}

#[tokio::test]
async fn the_first_download_verifies_with_the_certificate_inside() {
    let sandbox = Sandbox::start().await.unwrap();

    let reply = get(&sandbox, CERTIFICATES).await;

    assert_eq!(reply.status, 200);
    let answer = reply.json();
    let [(serial_no, pem)] = opened(&sandbox, &answer).try_into().unwrap();
    assert_eq!(serial_no, reply.header("wechatpay-serial"));
    assert_eq!((serial_no.len(), serial(&pem)), (40, serial_no));
    assert!(reply.verifies_with(&certificate_key(&pem)));
    assert_eq!(pem, sandbox.merchant().platform_certificate_pem);
    let entry = &answer["data"][0];
    let time = |name: &str| entry[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(time("effective_time") < Timestamp::now() && Timestamp::now() < time("expire_time"));
}

#[tokio::test]
async fn the_algorithm_may_be_named() {
    let sandbox = Sandbox::start().await.unwrap();

    for (query, line) in [
        (
            "?algorithm_type=SM2",
            "404 RESOURCE_NOT_EXISTS 无可用的平台证书，请在商户平台使用微信支付公钥",
        ),
        ("?algorithm_type=DSA", "400 PARAM_ERROR 参数错误"),
    ] {
        assert_eq!(get(&sandbox, &format!("{CERTIFICATES}{query}")).await.line(), line);
    }
    for query in ["?algorithm_type=RSA", "?algorithm_type=ALL", "?algorithm_type="] {
        let answer = get(&sandbox, &format!("{CERTIFICATES}{query}")).await.json();
        assert_eq!(answer["data"].as_array().unwrap().len(), 1, "{query}");
    }
}

#[tokio::test]
async fn a_rotation_moves_signing_over_in_shares() {
    let sandbox = Sandbox::start().await.unwrap();
    let old = sandbox.merchant().platform_certificate_serial.clone();
    let platform = sandbox.platform();

    let new = platform.rotate().await.unwrap();
    let entries = opened(&sandbox, &get(&sandbox, CERTIFICATES).await.json());
    let at_first = signers(&sandbox, 4).await;
    platform.sign_with_newest(0.25);
    let meanwhile = signers(&sandbox, 8).await;
    platform.sign_with_newest(1.0);
    let at_last = signers(&sandbox, 4).await;
    platform.expire_old();
    let left = opened(&sandbox, &get(&sandbox, CERTIFICATES).await.json());

    let serials = |entries: &[(String, String)]| entries.iter().map(|(serial, _)| serial.clone()).collect::<Vec<_>>();
    assert_eq!(serials(&entries), [old.clone(), new.clone()]);
    assert!(entries.iter().all(|(serial_no, pem)| serial(pem) == *serial_no));
    assert_eq!(at_first, HashMap::from([(old.clone(), 4)]));
    // The download of the certificates is signed too, and takes its turn.
    assert_eq!(meanwhile.values().sum::<usize>(), 8);
    assert_eq!(meanwhile[&new], 2);
    assert_eq!(at_last, HashMap::from([(new.clone(), 4)]));
    assert_eq!(serials(&left), [new]);
}

#[tokio::test]
async fn an_expiry_ahead_of_time_shows_and_then_counts() {
    let sandbox = Sandbox::start().await.unwrap();
    let new = sandbox.platform().rotate().await.unwrap();

    sandbox.platform().expire_old_in(DAY);
    let announced = sandbox.platform().certificates();
    sandbox.clock().advance(DAY);
    let signed_by = signers(&sandbox, 2).await;

    assert_eq!(announced.len(), 2);
    assert!(announced[0].expire_time < announced[1].expire_time);
    assert_eq!(signed_by, HashMap::from([(new, 2)]));
    sandbox.clock().advance(DAY * 366 * 6);
    assert_eq!(
        get(&sandbox, CERTIFICATES).await.line(),
        "403 NOT_ENOUGH 平台证书已过期失效，请联系微信支付客服"
    );
}

#[tokio::test]
async fn a_merchant_with_the_public_key_only_has_no_certificates() {
    let sandbox = Sandbox::builder()
        .key_mode(KeyMode::PublicKeyOnly)
        .start()
        .await
        .unwrap();

    let refused = get(&sandbox, CERTIFICATES).await;
    let mut signed = Signed::post(&sandbox, &parking(&sandbox));
    signed = signed.with("wechatpay-serial", &*sandbox.merchant().platform_certificate_serial);
    let reply = send(&sandbox, signed.signed_by(&sandbox)).await.unwrap();

    assert_eq!(
        refused.line(),
        "404 RESOURCE_NOT_EXISTS 无可用的平台证书，请在商户平台使用微信支付公钥"
    );
    for reply in [&refused, &reply] {
        assert_eq!(reply.header("wechatpay-serial"), sandbox.merchant().public_key_id);
        assert!(reply.verifies(&sandbox));
    }
    assert!(sandbox.platform().certificates().is_empty());
}

#[tokio::test]
async fn the_merchants_certificate_names_its_mchid_and_serial() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();

    let certificate = Certificate::from_pem(&merchant.certificate_pem).unwrap();

    assert_eq!(serial(&merchant.certificate_pem), merchant.serial_no);
    assert_eq!(
        certificate.tbs_certificate().subject().to_string(),
        format!("CN={}", merchant.mchid)
    );
}

fn seal(spki: &[u8], text: &str) -> String {
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(spki).unwrap()).unwrap();
    let mut sealed = vec![0; key.ciphertext_size()];
    let sealed = key.encrypt(&OAEP_SHA1_MGF1SHA1, text.as_bytes(), &mut sealed, None);
    STANDARD.encode(sealed.unwrap())
}

fn unseal(private_key_pem: &str, sealed: &str) -> String {
    let key = PrivateDecryptingKey::from_pkcs8(&pem_to_der(private_key_pem)).unwrap();
    let key = OaepPrivateDecryptingKey::new(key).unwrap();
    let mut text = vec![0; key.min_output_size()];
    let sealed = STANDARD.decode(sealed).unwrap();
    let text = key.decrypt(&OAEP_SHA1_MGF1SHA1, &sealed, &mut text, None).unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

async fn echo(sandbox: &Sandbox, named_key: &str, body: &Value) -> Reply {
    let signed = Signed::new(sandbox, "POST", "/v3/security/echo", body.to_string());
    let signed = signed.with("wechatpay-serial", named_key).signed_by(sandbox);
    send(sandbox, signed).await.unwrap()
}

#[tokio::test]
async fn an_echo_opens_what_was_sealed_and_seals_it_for_the_merchant() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();
    let public_key = pem_to_der(&merchant.public_key_pem);
    let certificate = certificate_key(&merchant.platform_certificate_pem);

    for (id, spki) in [
        (&merchant.public_key_id, &public_key),
        (&merchant.platform_certificate_serial, &certificate),
    ] {
        let body = json!({ "echo_message": "hello", "encrypted_echo_message": seal(spki, "你好") });
        let reply = echo(&sandbox, id, &body).await;
        assert_eq!((reply.status.as_u16(), reply.verifies(&sandbox)), (200, true));
        assert_eq!(reply.header("wechatpay-serial"), id);
        let answer = reply.json();
        assert_eq!(answer["echo_message"], "hello");
        let sealed = answer["encrypted_echo_message"].as_str().unwrap();
        assert_eq!(unseal(&merchant.private_key_pem, sealed), "你好");
    }
}

#[tokio::test]
async fn an_echo_needs_its_message_and_the_name_of_a_live_key() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchant = sandbox.merchant();
    let hello = json!({ "echo_message": "hello" });
    let wrong = seal(&certificate_key(&merchant.platform_certificate_pem), "你好");

    let unnamed = post(&sandbox, "/v3/security/echo", &hello).await;
    let strange = echo(&sandbox, "PUB_KEY_ID_1", &hello).await;
    let empty = echo(&sandbox, &merchant.public_key_id, &json!({})).await;
    let body = json!({ "echo_message": "hello", "encrypted_echo_message": wrong });
    let for_another = echo(&sandbox, &merchant.public_key_id, &body).await;
    let plain = echo(&sandbox, &merchant.public_key_id, &hello).await;

    assert_eq!(unnamed.line(), "400 INVALID_REQUEST Http头缺少Wechatpay-Serial");
    assert_eq!(strange.line(), "400 INVALID_REQUEST Http头Wechatpay-Serial有误");
    assert_eq!(empty.line(), "400 PARAM_ERROR 参数错误");
    assert_eq!(for_another.line(), "400 PARAM_ERROR 加密字段解密失败");
    assert_eq!(plain.json(), hello);
}

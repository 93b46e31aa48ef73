//! The SM algorithms (国密) against a sandbox in SM mode: two implementations that share no code, only the RustCrypto crates.

use serde_json::json;
use wechatpay::api::notifications::Event;
use wechatpay::api::security::NewEcho;
use wechatpay::{Client, Error, MerchantKey, Platform};
use wechatpay_sandbox::{Fault, Progress, Purchase, Sandbox};

use crate::notifications::{Shop, api_v3_key, settled};
use crate::{PATH, body, merchant, state};

async fn sandbox() -> Sandbox {
    Sandbox::builder().gm().start().await.unwrap()
}

fn client(sandbox: &Sandbox) -> Client {
    Client::builder(merchant(sandbox), Platform::fetched(api_v3_key(sandbox)))
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_certificates_are_fetched_and_the_parking_call_goes_through() {
    let sandbox = sandbox().await;
    let client = client(&sandbox);

    let accepted = client.business_circle().report_parking(&state(&sandbox)).await.unwrap();

    assert_eq!((accepted.status(), sandbox.ledger().accepted()), (204, 1));
    let paths: Vec<_> = sandbox.ledger().calls().into_iter().map(|call| call.path).collect();
    assert_eq!(
        paths,
        ["/v3/certificates?algorithm_type=SM2", "/v3/businesscircle/parkings"]
    );
    let keys = client.platform_keys();
    let key = keys.sealing().unwrap();
    assert_eq!(key.id(), sandbox.merchant().platform_certificate_serial);

    let echo = NewEcho {
        echo_message: "你好".into(),
        secret_message: Some("李四".into()),
        notify_url: None,
    };
    let echoed = client.security().echo(&echo, key).await.unwrap();
    let own = MerchantKey::from_pem(&sandbox.merchant().private_key_pem).unwrap();
    assert_eq!(
        own.open(&echoed.encrypted_echo_message.unwrap()).unwrap(),
        "李四".as_bytes()
    );
}

#[tokio::test]
async fn a_spoilt_signature_is_not_believed_and_a_rotated_key_is() {
    let sandbox = sandbox().await;
    let client = client(&sandbox);
    client[PATH].post(&body(&sandbox, &json!({}))).await.unwrap();

    sandbox.faults().next(Fault::WrongSignature);
    let spoilt = client[PATH].post(&body(&sandbox, &json!({}))).await.unwrap_err();
    let serial = sandbox.platform().rotate().await.unwrap();
    sandbox.platform().sign_with_newest(1.0);
    client[PATH].post(&body(&sandbox, &json!({}))).await.unwrap();

    assert!(matches!(spoilt, Error::Verify { .. }), "{spoilt:?}");
    assert_eq!(client.platform_keys().sealing().unwrap().id(), serial);
}

#[tokio::test]
async fn a_payment_sealed_with_sm4_is_opened_and_acknowledged() {
    let sandbox = sandbox().await;
    let (url, outcomes) = Shop::open(&sandbox, Platform::fetched(api_v3_key(&sandbox))).await;
    sandbox.callbacks().set_payment_url(&url).unwrap();
    let parked = state(&sandbox);
    sandbox.members().authorize(&parked.openid);
    client(&sandbox)
        .business_circle()
        .report_parking(&parked)
        .await
        .unwrap();

    let payment = sandbox.payments().pay(Purchase::new(&parked.openid, 200));
    let (progress, failures) = settled(&sandbox, &payment.notification.unwrap()).await;

    assert_eq!((progress, failures), (Progress::Acknowledged, vec![None]));
    let event = outcomes.lock().unwrap().remove(0).unwrap();
    let Event::MallPayment(told) = event else {
        panic!("{event:?}")
    };
    assert_eq!((told.amount, told.transaction_id), (200, payment.transaction_id));
}

#[tokio::test]
async fn an_rsa_client_is_told_which_scheme_is_wanted() {
    let (rsa, sandbox) = (Sandbox::start().await.unwrap(), sandbox().await);
    let client = Client::builder(merchant(&rsa), crate::public_key(&rsa))
        .base_url(sandbox.base_url())
        .roots_pem(sandbox.ca_pem())
        .build()
        .unwrap();

    let refused = client[PATH].post(&body(&sandbox, &json!({}))).await.unwrap_err();

    assert!(matches!(&refused, Error::Api { status: 401, .. }), "{refused:?}");
    let hint = sandbox.ledger().calls().pop().unwrap().help.unwrap().hint;
    assert!(hint.contains("it must be WECHATPAY2-SM2-WITH-SM3"), "{hint}");
}

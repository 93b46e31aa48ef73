//! The control port's page in a real browser: the ledger live, and what was wrong with a refused call.
//!
//! The picture that a test leaves under `target/tmp` is for people.

use std::path::Path;

use serde_json::json;
use wechatpay_sandbox::{Fault, Sandbox};

use crate::browser::Browser;
use crate::client::{Signed, parking, report, send, sign};

async fn sandbox() -> Sandbox {
    let builder = Sandbox::builder().control("127.0.0.1:0".parse().unwrap());
    builder.start().await.unwrap()
}

/// One that signs its method in lower case.
async fn sign_something_else(sandbox: &Sandbox) {
    let signed = Signed::post(sandbox, &parking(sandbox));
    let message = String::from_utf8(signed.message()).unwrap().replacen("POST", "post", 1);
    let signature = sign(&sandbox.merchant().private_key_pem, message.as_bytes());
    let authorization = signed.authorization(&signature);
    let reply = send(sandbox, signed.with("authorization", authorization).build()).await;
    assert_eq!(reply.unwrap().status, 401);
}

#[tokio::test]
async fn the_page_shows_the_ledger_live_and_marks_what_was_signed_wrongly() {
    let sandbox = sandbox().await;
    let Some(mut browser) = Browser::open(sandbox.control_url().unwrap(), 1200) else {
        return;
    };
    browser.wait_for("document.querySelector('#info')?.textContent.includes('mchid')");
    browser.evaluate("window.sameAsBefore = true");

    report(&sandbox, &parking(&sandbox)).await;
    browser.wait_for("document.querySelector('#calls .ok')?.textContent === '204'");
    browser.wait_for("document.querySelector('#presences')?.textContent.includes('粤B888888')");
    sign_something_else(&sandbox).await;
    browser.wait_for("document.querySelectorAll('#calls mark').length === 2");
    let mut wrong = parking(&sandbox);
    wrong["state"] = json!("PARKED");
    report(&sandbox, &wrong).await;
    sandbox.faults().next(Fault::RateLimited { retry_after_s: Some(3) });
    report(&sandbox, &parking(&sandbox)).await;
    browser.wait_for("document.querySelectorAll('#calls > tr').length === 4");

    let marked = browser.evaluate("[...document.querySelectorAll('#calls mark')].map((mark) => mark.textContent)");
    let refused = browser.evaluate("document.querySelectorAll('#calls > tr')[2].innerText");
    let refused = refused.as_str().unwrap();
    assert_eq!(marked, json!(["POST", "post"]));
    assert!(refused.contains("401 SIGN_ERROR 错误的签名"), "{refused}");
    assert!(
        refused.contains("you signed with the method in lower case"),
        "{refused}"
    );
    let field = browser.evaluate("document.querySelectorAll('#calls > tr')[1].innerText");
    assert!(field.as_str().unwrap().contains("/state in the body"), "{field}");
    assert_eq!(browser.evaluate("window.sameAsBefore"), true, "it was loaded again");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    browser.photograph(&folder.join("page.png"));

    browser.evaluate("document.querySelector('#refused').click()");
    browser.wait_for("document.querySelectorAll('#calls > tr').length === 3");
    sandbox.stop();
    browser.wait_for("document.querySelector('#state').textContent.includes('已停止')");
}

//! The six calling styles: what arrives is the same whichever is used.

use serde_json::json;

use crate::PATH;
use crate::server::{PLATFORM_ID, Server};

/// Every verb in one spelling, whatever that is.
macro_rules! every_verb {
    ($call:expr, $body:expr $(, $await:tt)?) => {{
        $call.get()$(.$await)?.unwrap();
        $call.post($body)$(.$await)?.unwrap();
        $call.put($body)$(.$await)?.unwrap();
        $call.patch($body)$(.$await)?.unwrap();
        $call.delete()$(.$await)?.unwrap();
    }};
}

fn assert_every_verb_arrived(server: &Server, body: &serde_json::Value, spelling: &str) {
    let arrived = server.take_arrived();
    let verbs: Vec<&str> = arrived.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(verbs, ["GET", "POST", "PUT", "PATCH", "DELETE"], "{spelling}");
    for request in &arrived {
        server.assert_signed(request);
        assert_eq!(request.target, "/v3/businesscircle/parkings", "{spelling}");
        let has_body = !matches!(request.method.as_str(), "GET" | "DELETE");
        let expected = if has_body { body.to_string() } else { String::new() };
        assert_eq!(request.body, expected, "{spelling} {}", request.method);
        let header = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("accept"), Some("application/json"));
        assert_eq!(header("content-type"), has_body.then_some("application/json"));
        assert_eq!(header("wechatpay-serial"), Some(PLATFORM_ID));
        assert!(header("user-agent").unwrap().starts_with("wechatpay-apiv3-rust/"));
    }
}

// Two workers: the blocking calls hold one, the server needs another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_six_calling_styles_send_the_same_signed_request() {
    let server = Server::start().await;
    let body = json!({"plate_number": "粤B888888"});

    let client = server.client();
    every_verb!(client.v3().businesscircle().parkings(), &body, await);
    assert_every_verb_arrived(&server, &body, "chained");
    every_verb!(client.chain(PATH), &body, await);
    assert_every_verb_arrived(&server, &body, "declared");
    every_verb!(client[PATH], &body, await);
    assert_every_verb_arrived(&server, &body, "indexed");

    // Inside a runtime on purpose; the next test is outside.
    let client = server.blocking();
    every_verb!(client.v3().businesscircle().parkings(), &body);
    assert_every_verb_arrived(&server, &body, "blocking chained");
    every_verb!(client.chain(PATH), &body);
    assert_every_verb_arrived(&server, &body, "blocking declared");
    every_verb!(client[PATH], &body);
    assert_every_verb_arrived(&server, &body, "blocking indexed");
}

#[tokio::test]
async fn path_variables_and_queries_are_signed_as_sent() {
    let server = Server::start().await;
    let client = server.client();
    let (openid, appid) = ("a/b%粤 c", "wx 1");

    client
        .v3()
        .businesscircle()
        .users()
        .openid(openid)
        .points()
        .commit_status()
        .query("appid", appid)
        .get()
        .await
        .unwrap();
    client
        .chain("v3/businesscircle/users/{openid}/points/commit_status")
        .bind("openid", openid)
        .query("appid", appid)
        .get()
        .await
        .unwrap();
    client["v3/businesscircle/users/{openid}/points/commit_status?appid=wx%201"]
        .bind("openid", openid)
        .get()
        .await
        .unwrap();
    client
        .v3()
        .seg("pay")
        .seg("transactions")
        .seg("jsapi")
        .header("Idempotency-Key", "k1")
        .post(&json!({}))
        .await
        .unwrap();

    let arrived = server.take_arrived();
    arrived.iter().for_each(|request| server.assert_signed(request));
    for request in &arrived[..3] {
        assert_eq!(
            request.target,
            "/v3/businesscircle/users/a%2Fb%25%E7%B2%A4%20c/points/commit_status?appid=wx%201"
        );
    }
    assert_eq!(arrived[3].target, "/v3/pay/transactions/jsapi");
    assert_eq!(arrived[3].headers["idempotency-key"], "k1");
}

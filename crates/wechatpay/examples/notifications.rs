//! A server for notifications (回调通知): verify, open, acknowledge, then work.
//!
//! ```sh
//! cargo run --example notifications
//! ```
//!
//! WeChat Pay wants HTTPS: put a proxy in front that hands body and headers through unchanged.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use wechatpay::api::notifications::Event;
use wechatpay::notify::{self, ReplayGuard};
use wechatpay::{ApiV3Key, Chain, Client, Merchant, MerchantKey, Platform};

struct Mall {
    client: Client,
    api_v3_key: ApiV3Key,
    guard: ReplayGuard,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = MerchantKey::from_pem(std::fs::read(settings("KEY_FILE")?)?)?;
    let merchant = Merchant::new(settings("MCHID")?, settings("SERIAL_NO")?, key);
    let api_v3_key = ApiV3Key::new(settings("API_V3_KEY")?)?;
    let mall = Arc::new(Mall {
        // Certificates that sign notifications are fetched when one names them.
        client: Client::builder(merchant, Platform::fetched(api_v3_key.clone())).build()?,
        api_v3_key,
        guard: ReplayGuard::new(100_000),
    });

    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let mall = mall.clone();
        let service = service_fn(move |request| answer(mall.clone(), request));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    mall: Arc<Mall>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    // Bounded, and byte for byte: the signature is over exactly this.
    let answer = match Limited::new(body, 2 << 20).collect().await {
        Ok(body) => notified(&mall, &parts.headers, &body.to_bytes()).await,
        Err(_) => notify::refused(),
    };
    Ok(answer.map(|body| Full::new(Bytes::from(body))))
}

async fn notified(mall: &Mall, headers: &http::HeaderMap, body: &[u8]) -> http::Response<String> {
    let opened = mall.client.open_notification(&mall.api_v3_key, headers, body).await;
    let (id, event) = match opened.and_then(|opened| Ok((opened.id.clone(), opened.event()?))) {
        Ok(told) => told,
        Err(error) => {
            eprintln!("not believed: {}", Chain(&error));
            return notify::refused();
        }
    };
    if !mall.guard.admit(headers, jiff::Timestamp::now().as_second()) {
        return notify::refused();
    }
    // Store it here under its id, then acknowledge; the work comes after. Repeats of an id are normal.
    if let Event::MallPayment(payment) = &event {
        eprintln!("{id}: {} fen were paid, points are due", payment.amount);
    } else {
        // Plates and openids hide themselves.
        eprintln!("{id}: {event:?}");
    }
    notify::accepted()
}

/// `WECHATPAY_MCHID`, `WECHATPAY_KEY_FILE` and so on.
fn settings(name: &str) -> Result<String, String> {
    let name = format!("WECHATPAY_{name}");
    std::env::var(&name).map_err(|_| format!("set {name}"))
}

//! Two domains, deadlines, and repeats of what passes.
//!
//! ```sh
//! cargo run --example backup_domain
//! ```

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::time::Duration;

use wechatpay::{Chain, Client, Merchant, MerchantKey, PlatformKeys, RetryPolicy};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = MerchantKey::from_pem(std::fs::read(settings("KEY_FILE")?)?)?;
    let merchant = Merchant::new(settings("MCHID")?, settings("SERIAL_NO")?, key);
    let platform = PlatformKeys::new()
        .with_public_key(settings("PUBLIC_KEY_ID")?, std::fs::read(settings("PUBLIC_KEY_FILE")?)?)?;
    let client = Client::builder(merchant, platform)
        // These two are the defaults; another base_url has no backup unless one is given.
        .base_url("https://api.mch.weixin.qq.com")
        .backup_url("https://api2.mch.weixin.qq.com")
        .connect_timeout(Duration::from_secs(3))
        .request_timeout(Duration::from_secs(10))
        .total_timeout(Duration::from_secs(30))
        .retry(RetryPolicy::new(3))
        .build()?;

    let order = client
        .chain("v3/pay/transactions/out-trade-no/{out_trade_no}")
        .bind("out_trade_no", settings("OUT_TRADE_NO")?)
        .query("mchid", settings("MCHID")?)
        .get()
        .await;
    match order {
        Ok(answer) => eprintln!("{}", answer.json::<serde_json::Value>()?["trade_state"]),
        // With Transport errors the host says which domain it was.
        Err(error) => eprintln!("{}; nothing sent: {}", Chain(&error), error.nothing_sent()),
    }
    Ok(())
}

/// `WECHATPAY_MCHID`, `WECHATPAY_KEY_FILE` and so on.
fn settings(name: &str) -> Result<String, String> {
    let name = format!("WECHATPAY_{name}");
    std::env::var(&name).map_err(|_| format!("set {name}"))
}

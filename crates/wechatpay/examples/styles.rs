//! The three asynchronous spellings of one call, and path variables.
//!
//! ```sh
//! cargo run --example styles
//! ```
//!
//! Reads the settings from the environment; see `settings` for the names.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use serde_json::json;
use wechatpay::{Chain, Client, Merchant, MerchantKey, PlatformKeys};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = client()?;
    let state = json!({
        "brandid": settings("BRANDID")?.parse::<u64>()?,
        "appid": settings("APPID")?,
        "openid": settings("OPENID")?,
        "plate_number": "粤B888888",
        "state": "IN",
        "time": "2022-06-01T10:43:39+08:00",
    });

    // Pure chain (纯链式): completed by the editor.
    let chained = client.v3().businesscircle().parkings().post(&state).await;
    // Declared (声明式): the path as the documentation writes it.
    let declared = client.chain("v3/businesscircle/parkings").post(&state).await;
    // Indexed (属性式): the same as an index.
    let indexed = client["v3/businesscircle/parkings"].post(&state).await;

    for (spelling, outcome) in [("chained", chained), ("declared", declared), ("indexed", indexed)] {
        match outcome {
            Ok(answer) => eprintln!("{spelling}: {} {}", answer.status(), answer.request_id().unwrap_or("-")),
            Err(error) => eprintln!("{spelling}: {}; again: {:?}", Chain(&error), error.retry()),
        }
    }

    // Path variables are named, percent-encoded once, and signed as sent.
    let authorization = client["v3/businesscircle/user-authorizations/{openid}"]
        .bind("openid", settings("OPENID")?)
        .query("appid", settings("APPID")?)
        .get()
        .await?;
    eprintln!(
        "authorization: {}",
        authorization.json::<serde_json::Value>()?["authorize_state"]
    );
    Ok(())
}

fn client() -> Result<Client, Box<dyn std::error::Error>> {
    let key = MerchantKey::from_pem(std::fs::read(settings("KEY_FILE")?)?)?;
    let merchant = Merchant::new(settings("MCHID")?, settings("SERIAL_NO")?, key);
    let platform = PlatformKeys::new()
        .with_public_key(settings("PUBLIC_KEY_ID")?, std::fs::read(settings("PUBLIC_KEY_FILE")?)?)?;
    Ok(Client::builder(merchant, platform).build()?)
}

/// `WECHATPAY_MCHID`, `WECHATPAY_KEY_FILE` and so on.
fn settings(name: &str) -> Result<String, String> {
    let name = format!("WECHATPAY_{name}");
    std::env::var(&name).map_err(|_| format!("set {name}"))
}

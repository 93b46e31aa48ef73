//! The three blocking spellings of one call, and the typed one on top. No runtime is needed.
//!
//! ```sh
//! cargo run --example blocking_styles
//! ```

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use serde_json::json;
use wechatpay::blocking::Client;
use wechatpay::{Chain, Merchant, MerchantKey, ParkingState, ParkingStateKind, PlatformKeys, Retry};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = MerchantKey::from_pem(std::fs::read(settings("KEY_FILE")?)?)?;
    let merchant = Merchant::new(settings("MCHID")?, settings("SERIAL_NO")?, key);
    let platform = PlatformKeys::new()
        .with_public_key(settings("PUBLIC_KEY_ID")?, std::fs::read(settings("PUBLIC_KEY_FILE")?)?)?;
    let client = Client::builder(merchant, platform).build()?;

    let state = ParkingState {
        sub_mchid: None,
        brandid: settings("BRANDID")?.parse()?,
        appid: settings("APPID")?,
        openid: settings("OPENID")?,
        plate_number: "粤B888888".to_owned(),
        state: ParkingStateKind::In,
        time: jiff::Timestamp::now(),
    };

    // Anything that serialises is a body: the typed state, or the documentation's own JSON.
    let outcomes = [
        client.v3().businesscircle().parkings().post(&state),
        client.chain("v3/businesscircle/parkings").post(&state),
        client["v3/businesscircle/parkings"].post(&json!({"brandid": 1000})),
        // Checked before it is sent; a wrong field is named.
        client.business_circle().report_parking(&state),
    ];
    for outcome in outcomes {
        match outcome {
            Ok(answer) => eprintln!("{} {}", answer.status(), answer.request_id().unwrap_or("-")),
            Err(error) if error.retry() == Retry::Never => eprintln!("refused: {}", Chain(&error)),
            Err(error) => eprintln!("later again: {}", Chain(&error)),
        }
    }
    Ok(())
}

/// `WECHATPAY_MCHID`, `WECHATPAY_KEY_FILE` and so on.
fn settings(name: &str) -> Result<String, String> {
    let name = format!("WECHATPAY_{name}");
    std::env::var(&name).map_err(|_| format!("set {name}"))
}

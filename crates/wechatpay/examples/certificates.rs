//! Platform certificates (平台证书) that the client fetches and rotates, and the self-test that tries everything out.
//!
//! ```sh
//! cargo run --example certificates
//! ```

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use wechatpay::api::security::NewEcho;
use wechatpay::{ApiV3Key, Chain, Client, Merchant, MerchantKey, Platform, PlatformKeys};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = MerchantKey::from_pem(std::fs::read(settings("KEY_FILE")?)?)?;
    // The serial is read from the certificate, which must belong to the key.
    let merchant = Merchant::from_certificate(settings("MCHID")?, std::fs::read(settings("CERTIFICATE_FILE")?)?, key)?;
    let mut platform = Platform::fetched(ApiV3Key::new(settings("API_V3_KEY")?)?);
    // While the merchant moves to the WeChat Pay public key, both verify.
    if let Ok(file) = settings("PUBLIC_KEY_FILE") {
        platform =
            platform.with(PlatformKeys::new().with_public_key(settings("PUBLIC_KEY_ID")?, std::fs::read(file)?)?);
    }
    let client = Client::builder(merchant.clone(), platform).build()?;

    let keys = match client.refresh_platform_keys().await {
        Ok(keys) => keys,
        Err(error) => {
            eprintln!("no certificates: {}", Chain(&error));
            client.platform_keys()
        }
    };
    for key in keys.iter() {
        eprintln!("{}", key.id());
    }
    let sealing = keys.sealing().ok_or("no key to seal with")?;
    let echo = NewEcho {
        echo_message: "hello".to_owned(),
        secret_message: Some("a sensitive field".to_owned()),
        notify_url: None,
    };
    let answer = client.security().echo(&echo, sealing).await?;
    let opened = answer
        .encrypted_echo_message
        .map(|sealed| merchant.key().open(&sealed))
        .transpose()?;
    eprintln!("{} {:?}", answer.echo_message, opened.map(String::from_utf8));
    Ok(())
}

/// `WECHATPAY_MCHID`, `WECHATPAY_KEY_FILE` and so on.
fn settings(name: &str) -> Result<String, String> {
    let name = format!("WECHATPAY_{name}");
    std::env::var(&name).map_err(|_| format!("set {name}"))
}

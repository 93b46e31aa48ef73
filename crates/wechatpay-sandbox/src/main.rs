//! The sandbox as a program: starts it, writes a folder to begin with, and prints every refused call with the reason.
//!
//! Arguments in, talk out. Everything it does is in the library.

#![expect(clippy::disallowed_methods, reason = "an edge: it reads the clock or starts tasks")]
#![expect(clippy::print_stdout, reason = "a program that people read")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Parser;
use http::Uri;
use wechatpay_sandbox::{Answer, Attempt, Call, Event, Folder, Help, KeyMode, Sandbox, seal};

/// WeChat Pay APIv3 on your desk (微信支付沙箱): checks, answers and misbehaves as the real one does.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder for key files and a ready parksync.toml; made when missing, overwritten at the next start.
    #[arg(long)]
    dir: PathBuf,
    /// Address for HTTPS; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Address for plain HTTP, loopback only.
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    /// Come back with the same ids and keys next time: they are kept in the folder. Otherwise they die with the process.
    #[arg(long)]
    keep_keys: bool,
    /// Address for the control port and its page, loopback only.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Where callbacks about authorisations, payments and refunds go: https, or http on the loopback.
    #[arg(long)]
    notify_url: Option<String>,
    /// Which key signs when the caller names none.
    #[arg(long, value_enum, default_value_t = Keys::Certificate)]
    keys: Keys,
    /// SM2 keys for merchant and platform (国密): WECHATPAY2-SM2-WITH-SM3, AEAD_SM4_GCM.
    #[cfg(feature = "gm")]
    #[arg(long)]
    gm: bool,
    /// Let every valid call succeed. Otherwise about three in a hundred go wrong, as they do in real life.
    #[arg(long)]
    polite: bool,
    /// Seed of the misbehaviour; the same seed misbehaves the same way. Default: a new one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Reuse signatures within a second, for load tests.
    #[arg(long)]
    cached_signatures: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Keys {
    /// The platform certificate (平台证书).
    Certificate,
    /// The public key (微信支付公钥), while certificates still count.
    PublicKey,
    /// The public key, and no certificates at all.
    PublicKeyOnly,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(seed_of_the_moment);
    let kept = arguments.dir.join(KEPT);
    let mut builder = Sandbox::builder();
    if arguments.keep_keys {
        builder = builder.kept_keys(&kept);
    }
    #[cfg(feature = "gm")]
    if arguments.gm {
        builder = builder.gm();
    }
    let sandbox = builder
        .listen(arguments.listen)
        .listen_http(arguments.http)
        .control(arguments.control)
        .polite(arguments.polite)
        .seed(seed)
        .cached_signatures(arguments.cached_signatures)
        .ledger_limit(LEDGER_LIMIT)
        .key_mode(match arguments.keys {
            Keys::Certificate => KeyMode::Certificate,
            Keys::PublicKey => KeyMode::PublicKey,
            Keys::PublicKeyOnly => KeyMode::PublicKeyOnly,
        })
        .on_call(log)
        .on_callback(log_callback)
        .start()
        .await?;
    if let Some(url) = &arguments.notify_url {
        sandbox.callbacks().set_authorization_url(url)?;
        sandbox.callbacks().set_payment_url(url)?;
    }
    let folder = sandbox.write_folder(&arguments.dir)?;
    if arguments.keep_keys {
        sandbox.keep_keys(&kept)?;
    }
    introduce(&sandbox, &folder, &arguments, (!arguments.polite).then_some(seed));
    stop_signal().await.context("cannot listen for signals")?;
    println!(
        "stopped after {} calls, {} accepted",
        sandbox.ledger().len(),
        sandbox.ledger().accepted()
    );
    Ok(())
}

fn introduce(sandbox: &Sandbox, folder: &Folder, arguments: &Arguments, seed: Option<u64>) {
    let merchant = sandbox.merchant();
    println!("WeChat Pay sandbox (微信支付沙箱)");
    println!("  base URL (HTTPS)     {}", sandbox.base_url());
    println!("  base URL (HTTP)      {}", sandbox.http_url());
    println!("  control and page     {}", sandbox.control_url().unwrap_or_default());
    println!("  trust this CA        {}", folder.ca.display());
    println!("  keys and config      {}", folder.dir.display());
    println!(
        "  mchid (商户号)       {}    serial_no (商户API证书序列号) {}",
        merchant.mchid, merchant.serial_no
    );
    println!("  public key id        {} (微信支付公钥ID)", merchant.public_key_id);
    println!(
        "  platform certificate {} (平台证书序列号)",
        merchant.platform_certificate_serial
    );
    println!(
        "  brandid (品牌ID)     {}    appid {}",
        merchant.brandid,
        merchant.appids.join(", ")
    );
    println!(
        "  sub_mchid (子商户号) {} in provider mode (服务商模式)",
        merchant.sub_mchid
    );
    println!("Try it: parksync serve --config {}", folder.config.display());
    println!(
        "    or: bash {}, and the same in PHP, Node.js, Python, Go, Java, Rust beside it",
        folder.dir.join("examples/park.sh").display()
    );
    println!("Endpoints:");
    for endpoint in Sandbox::endpoints() {
        println!("  {endpoint}");
    }
    match seed {
        Some(seed) => {
            println!("Impolite: about 3 % of valid calls go wrong (--polite stops that; --seed {seed} repeats it).")
        }
        None => println!("Polite: every valid call succeeds."),
    }
    let keys = if arguments.keep_keys {
        "they are kept in the folder"
    } else {
        "they die with this process"
    };
    println!("Test keys, never real ones: {keys}. Refused calls are printed below; Ctrl-C stops.");
}

/// Prints what did not go well. Bodies hold plates and openids: of them only size and shape are shown.
fn log(call: &Call) {
    if call.answer == Answer::Sent && call.committed && call.fault.is_none() {
        return;
    }
    let path = call.path.split('?').next().unwrap_or_default();
    let status = call.status.map_or_else(
        || format!("{:?}", call.answer).to_lowercase(),
        |status| status.to_string(),
    );
    let committed = if call.committed { " (carried out)" } else { "" };
    println!(
        "#{} {} {path} → {status}{committed} {} {}",
        call.number, call.method, call.code, call.message
    );
    if let Some(fault) = &call.fault {
        println!("    on purpose (故意): {fault:?}");
    }
    let Some(Help {
        hint, string_to_sign, ..
    }) = call.help.as_deref()
    else {
        return;
    };
    println!("    hint: {hint}");
    if let Some(text) = string_to_sign {
        let head: Vec<_> = text.splitn(5, '\n').take(4).collect();
        println!("    string to sign (签名串): {:?} and the body:", head.join("\n"));
        println!(
            "    {} bytes, SHA-256 {}",
            call.body.len(),
            seal::sha256_hex(&call.body)
        );
    }
}

/// Prints every try of a callback: how the merchant's server answered, and why that does not count.
fn log_callback(event: Event, url: &Uri, attempt: &Attempt) {
    let status = attempt
        .status
        .map_or("no answer".to_owned(), |status| status.to_string());
    let (event, after) = (event.event_type(), attempt.after.as_millis());
    println!("callback {event} to {url} → {status} in {after} ms");
    if let Some(failure) = &attempt.failure {
        println!("    not acknowledged (未确认): {failure}");
    }
}

#[cfg(unix)]
async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn stop_signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// Another one at each start; nothing depends on its quality.
fn seed_of_the_moment() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::from(time.subsec_nanos()))
}

/// Within the folder.
const KEPT: &str = "keys/sandbox-identity.json";
/// A program runs for days.
const LEDGER_LIMIT: usize = 100_000;

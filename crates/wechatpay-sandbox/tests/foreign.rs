//! SDKs that nobody here wrote, unchanged but for base URL and trust: `wechatpay-axios-plugin` (npm) and `wechatpayv3`
//! (PyPI). The test installs them under `target/tmp` and drives them with the scripts in `foreign/`.
//!
//! Without npm or pip a test is skipped, loudly, except where `CI` is set.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use wechatpay_sandbox::{Fault, Purchase, Sandbox, Trick};

const OPENID: &str = "oUpF8uMuAJOM2pxb1Q";

/// A script at work. Ends with the test, whatever happens.
struct Script {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Script {
    fn start(mut command: Command, sandbox: &Sandbox, folder: &Path) -> Self {
        let ca = folder.join("sandbox-ca.pem");
        std::fs::write(&ca, sandbox.ca_pem()).unwrap();
        let child = command
            .env("SANDBOX", told(sandbox).to_string())
            .env("NODE_EXTRA_CA_CERTS", &ca)
            .env("REQUESTS_CA_BUNDLE", &ca)
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing it says, which must be about this step.
    fn next(&mut self, step: &str) -> Value {
        let line = self
            .lines
            .next()
            .unwrap_or_else(|| panic!("it ended before {step:?}"))
            .unwrap();
        let mut said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(said["step"], step, "{line}");
        said.as_object_mut().unwrap().remove("step");
        said
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

fn told(sandbox: &Sandbox) -> Value {
    let merchant = sandbox.merchant();
    json!({
        "base_url": sandbox.base_url(),
        "mchid": merchant.mchid,
        "serial_no": merchant.serial_no,
        "private_key_pem": merchant.private_key_pem,
        "wrong_key_pem": wechatpay_sandbox::seal::SigningKey::generate().unwrap().private_pem(),
        "api_v3_key": merchant.api_v3_key,
        "public_key_id": merchant.public_key_id,
        "public_key_pem": merchant.public_key_pem,
        "certificate_serial": merchant.platform_certificate_serial,
        "certificate_pem": merchant.platform_certificate_pem,
        "parking": {
            "brandid": merchant.brandid,
            "appid": merchant.appid,
            "openid": OPENID,
            "plate_number": "粤B888888",
            "state": "IN",
        },
    })
}

/// Runs it to its end; what it printed when it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Whether to go on without this tool: only outside CI, and not in silence.
fn is_missing(tool: &str, command: &mut Command) -> bool {
    let Err(why) = run(command) else {
        return false;
    };
    assert!(std::env::var_os("CI").is_none(), "{tool} must be there in CI: {why}");
    eprintln!("SKIPPED, SKIPPED, SKIPPED: there is no {tool}, so a foreign SDK is not tried: {why}");
    true
}

/// A folder under `target/tmp` for one SDK.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The rest of every script: a spoilt answer, and a forged and a good callback, whose points are then asked for.
async fn spoil_and_call_back(script: &mut Script, sandbox: &Sandbox) -> Value {
    script.next("spoil");
    sandbox.faults().next(Fault::WrongSignature);
    script.go_on();
    let spoilt = script.next("spoilt");
    let port = script.next("listening")["port"].as_u64().unwrap();
    let callbacks = sandbox.callbacks();
    callbacks
        .set_payment_url(&format!("http://127.0.0.1:{port}/notify"))
        .unwrap();
    callbacks.next(Trick::WrongSignature);
    let payment = sandbox.payments().pay(Purchase::new(OPENID, 200));
    let id = payment.notification.unwrap();
    let tried = callbacks.wait_for(
        |callbacks| callbacks.find(&id).unwrap().attempts.len() == 1,
        Duration::from_secs(20),
    );
    assert!(tried.await);
    sandbox.clock().advance(Duration::from_secs(15));
    let acknowledged = callbacks.wait_for(
        |callbacks| callbacks.find(&id).unwrap().is_acknowledged(),
        Duration::from_secs(20),
    );
    assert!(acknowledged.await, "{:?}", callbacks.find(&id));
    let statuses: Vec<_> = callbacks
        .find(&id)
        .unwrap()
        .attempts
        .iter()
        .map(|attempt| attempt.status)
        .collect();
    assert_eq!(statuses, [Some(401), Some(200)]);
    let resource = script.next("callback");
    assert_eq!(resource["transaction_id"], payment.transaction_id);
    assert_eq!(
        (&resource["openid"], &resource["amount"]),
        (&json!(OPENID), &json!(200))
    );
    spoilt
}

#[tokio::test]
async fn wechatpay_axios_plugin_from_npm_works_unchanged() {
    if is_missing("npm", Command::new("npm").arg("--version")) {
        return;
    }
    let folder = folder("foreign-npm");
    let package = "wechatpay-axios-plugin@0.9.6";
    if !folder.join("node_modules/wechatpay-axios-plugin").exists() {
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=peer"]);
        let installed = run(install.args(["--no-save", "--prefix"]).arg(&folder).arg(package));
        assert_eq!(installed, Ok(()), "cannot install {package}");
    }
    let script = folder.join("check.mjs");
    std::fs::write(&script, include_str!("foreign/npm.mjs")).unwrap();
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.members().authorize(OPENID);
    let merchant = sandbox.merchant();
    let mut command = Command::new("node");
    command.arg(&script);

    let mut script = Script::start(command, &sandbox, &folder);

    for style in ["chain", "declared", "indexed"] {
        assert_eq!(script.next(style), json!({ "status": 204 }));
    }
    assert_eq!(script.next("public key")["serial"], merchant.public_key_id);
    assert_eq!(script.next("wrong key"), json!({ "status": 401, "code": "SIGN_ERROR" }));
    assert_eq!(
        script.next("wrong plate"),
        json!({ "status": 400, "code": "PARAM_ERROR" })
    );
    assert_eq!(script.next("authorization")["authorize_state"], "AUTHORIZED");
    assert_eq!(
        script.next("commit status"),
        json!({ "points_commit_status": "FINISHED" })
    );
    assert_eq!(script.next("bootstrap"), json!({ "verified": true }));
    assert_eq!(
        script.next("certificates"),
        json!({ "serials": [merchant.platform_certificate_serial] })
    );
    assert_eq!(script.next("echo"), json!({ "opened": "你好" }));
    let spoilt = spoil_and_call_back(&mut script, &sandbox).await;
    assert_eq!(spoilt["code"], "EV3_RES_HEADER_SIGNATURE_DIGEST");
    assert_eq!(sandbox.ledger().accepted(), 5);
}

#[tokio::test]
async fn wechatpayv3_from_pypi_works_unchanged() {
    let pip = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command
            .args(["-m", "pip", "--disable-pip-version-check"])
            .args(arguments);
        command
    };
    if is_missing("pip", &mut pip(&["--version"])) {
        return;
    }
    let folder = folder("foreign-pypi");
    let package = "wechatpayv3==2.0.4";
    let packages = folder.join("packages");
    if !packages.join("wechatpayv3").exists() {
        let installed = run(pip(&["install", "--quiet", "--target"]).arg(&packages).arg(package));
        assert_eq!(installed, Ok(()), "cannot install {package}");
    }
    let script = folder.join("check.py");
    std::fs::write(&script, include_str!("foreign/pypi.py")).unwrap();
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.members().authorize(OPENID);
    let mut command = Command::new("python3");
    command.arg(&script).env("PYTHONPATH", &packages).env("PYTHONUTF8", "1");

    let mut script = Script::start(command, &sandbox, &folder);

    assert_eq!(
        script.next("certificates"),
        json!({ "serials": [sandbox.merchant().platform_certificate_serial] })
    );
    assert_eq!(script.next("park"), json!({ "status": 204 }));
    assert_eq!(script.next("public key"), json!({ "status": 204 }));
    assert_eq!(script.next("wrong key"), json!({ "status": 401, "code": "SIGN_ERROR" }));
    assert_eq!(
        script.next("wrong plate"),
        json!({ "status": 400, "code": "PARAM_ERROR" })
    );
    assert_eq!(script.next("authorization")["authorize_state"], "AUTHORIZED");
    assert_eq!(script.next("echo"), json!({ "opened": "你好" }));
    let spoilt = spoil_and_call_back(&mut script, &sandbox).await;
    assert_eq!(spoilt["error"], "failed to verify the signature");
    assert_eq!(sandbox.ledger().accepted(), 3);
}

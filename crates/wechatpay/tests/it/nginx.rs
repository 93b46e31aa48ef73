//! A server that nobody here wrote: nginx with a pre-signed answer, over TLS, reloaded again and again under load.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use wechatpay::{Chain, Client, Merchant, MerchantKey, PlatformKeys};

use crate::PATH;

const PLATFORM_ID: &str = "PUB_KEY_ID_0119000001092024101100397200000006";
/// The answer was signed at this second, so the client's clock stands there.
const SIGNED_AT: i64 = 1_700_000_000;

struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.signal("stop").status();
        let _ = self.child.wait();
    }
}

impl Nginx {
    fn start(port: u16, certificate: &str, key: &str, headers: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(at("tls.crt"), certificate).unwrap();
        std::fs::write(at("tls.key"), key).unwrap();
        let configuration = format!(
            "daemon off; worker_processes 2; pid {}; error_log {} error; worker_shutdown_timeout 5s;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; client_body_temp_path {}; proxy_temp_path {}; fastcgi_temp_path {};\n\
             uwsgi_temp_path {}; scgi_temp_path {};\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; keepalive_timeout 8;\n\
             location / {{ {headers} return 204; }} }} }}\n",
            at("nginx.pid"),
            at("error.log"),
            at("body"),
            at("proxy"),
            at("fastcgi"),
            at("uwsgi"),
            at("scgi"),
            at("tls.crt"),
            at("tls.key"),
        );
        std::fs::write(at("nginx.conf"), configuration).unwrap();
        let child = command(folder.path()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, folder }
    }

    fn signal(&self, name: &str) -> Command {
        let mut command = command(self.folder.path());
        command.args(["-s", name]).stderr(Stdio::null());
        command
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_callers_lose_no_call_while_nginx_reloads_eight_times_in_four_seconds() {
    if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "nginx must be there in CI");
        eprintln!("SKIPPED, SKIPPED, SKIPPED: there is no nginx, so a reload of it is not tried");
        return;
    }
    let tls = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pem = || {
        let der = KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        )
    };
    let platform = MerchantKey::from_pem(pem()).unwrap();
    let signature = platform.sign(format!("{SIGNED_AT}\nnonce\n\n").as_bytes());
    let headers = format!(
        "add_header Wechatpay-Timestamp {SIGNED_AT}; add_header Wechatpay-Nonce nonce;\
         add_header Wechatpay-Serial {PLATFORM_ID}; add_header Wechatpay-Signature '{signature}';"
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let nginx = Nginx::start(port, &tls.cert.pem(), &tls.signing_key.serialize_pem(), &headers);
    let merchant = Merchant::new(
        "1900000109",
        "5157F09EFDC096DE15EBE81A47057A7232F1B8E1",
        MerchantKey::from_pem(pem()).unwrap(),
    );
    let keys = PlatformKeys::new().with(platform.public(PLATFORM_ID).unwrap());
    let client = Client::builder(merchant, keys)
        .base_url(format!("https://127.0.0.1:{port}"))
        .roots_pem(tls.cert.pem())
        .clock(|| jiff::Timestamp::from_second(SIGNED_AT).unwrap())
        .build()
        .unwrap();
    for _ in 0..100 {
        if client[PATH].post(&json!({})).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::SeqCst) {
                    let outcome = client[PATH].post(&json!({})).await;
                    outcome.unwrap_or_else(|error| panic!("{}", Chain(&error)));
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(nginx.signal("reload").status().unwrap().success());
    }
    stop.store(true, Ordering::SeqCst);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }

    assert!(calls > 200, "{calls} calls say nothing");
    println!("{calls} calls, none lost");
}

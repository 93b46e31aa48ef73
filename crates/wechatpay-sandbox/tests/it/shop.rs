//! The merchant's server, as callbacks see it: keeps what it got and answers as it is told.

#![expect(clippy::disallowed_methods, reason = "tests measure, start tasks and read the clock")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wechatpay_sandbox::{Notification, Progress, Sandbox};

use crate::client::{Reply, open, parking, report};

pub(crate) const OPENID: &str = "oUpF8uMuAJOM2pxb1Q";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(10);
pub(crate) const SUCCESS: &str = r#"{"code":"SUCCESS","message":"成功"}"#;

/// One request as it came; `Reply` knows how to verify its headers and body.
#[derive(Clone)]
pub(crate) struct Got(Arc<Reply>);

impl Got {
    pub(crate) fn envelope(&self) -> Value {
        self.0.json()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.0.header(name)
    }

    pub(crate) fn verifies(&self, sandbox: &Sandbox) -> bool {
        self.0.verifies(sandbox)
    }

    pub(crate) fn resource(&self, sandbox: &Sandbox) -> Value {
        let text = open(&sandbox.merchant().api_v3_key, &self.envelope()["resource"]);
        serde_json::from_str(&text).unwrap()
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) authorization: Option<String>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self {
            status,
            body: body.into(),
            authorization: None,
        }
    }
}

pub(crate) struct Shop {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    scheme: &'static str,
}

type Rule = Arc<dyn Fn(usize, &Got) -> Answer + Send + Sync>;

impl Shop {
    /// Answers by this rule, which is told how many requests came before.
    pub(crate) async fn start(rule: impl Fn(usize, &Got) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, rule).await
    }

    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        rule: impl Fn(usize, &Got) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (kept, rule): (_, Rule) = (Arc::clone(&got), Arc::new(rule));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, rule, tls) = (Arc::clone(&kept), Arc::clone(&rule), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, kept, rule).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, kept, rule).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, got, scheme }
    }

    /// Acknowledges everything as the FAQ wants it.
    pub(crate) async fn content() -> Self {
        Self::start(|_, _| Answer::new(200, SUCCESS)).await
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/notify", self.scheme, self.address)
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, kept: Arc<Mutex<Vec<Got>>>, rule: Rule) {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (kept, rule) = (Arc::clone(&kept), Arc::clone(&rule));
        async move {
            let (parts, body) = request.into_parts();
            assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/notify"));
            let got = Got(Arc::new(Reply {
                status: StatusCode::OK,
                headers: parts.headers,
                body: body.collect().await.unwrap().to_bytes(),
            }));
            let before = {
                let mut kept = kept.lock().unwrap();
                kept.push(got.clone());
                kept.len() - 1
            };
            let answer = rule(before, &got);
            let mut response = Response::builder().status(answer.status);
            if let Some(authorization) = answer.authorization {
                response = response.header("authorization", authorization);
            }
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(answer.body))).unwrap())
        }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// A sandbox whose member is authorised and present, and whose payments are told to this shop.
pub(crate) async fn sandbox(shop: &Shop) -> Sandbox {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.members().authorize(OPENID);
    assert_eq!(report(&sandbox, &parking(&sandbox)).await.line(), "204");
    sandbox.callbacks().set_payment_url(&shop.url()).unwrap();
    sandbox
}

pub(crate) async fn settled(sandbox: &Sandbox, id: &str) -> Notification {
    let done =
        |notification: &Notification| matches!(notification.progress, Progress::Acknowledged | Progress::GivenUp);
    let callbacks = sandbox.callbacks();
    let settled = callbacks.wait_for(|callbacks| callbacks.find(id).is_some_and(|found| done(&found)), SOON);
    assert!(settled.await, "{:?}", callbacks.find(id));
    callbacks.find(id).unwrap()
}

/// Waits for this many tries.
pub(crate) async fn tried(sandbox: &Sandbox, id: &str, tries: usize) -> Notification {
    let callbacks = sandbox.callbacks();
    let tried = callbacks.wait_for(
        |callbacks| callbacks.find(id).is_some_and(|found| found.attempts.len() >= tries),
        SOON,
    );
    assert!(tried.await, "{:?}", callbacks.find(id));
    callbacks.find(id).unwrap()
}

/// Seconds between the times.
pub(crate) fn pauses(times: &[Timestamp]) -> Vec<i64> {
    times
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]).as_secs())
        .collect()
}

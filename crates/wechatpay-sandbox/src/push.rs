//! Posts callbacks to the merchant's server as they become due by the calendar, and hands back what it answered.
//!
//! What is due, and what an answer is worth, is decided in `callbacks.rs`. Runs on the sandbox's own thread, started by
//! `server.rs`.

#![expect(clippy::disallowed_methods, reason = "an edge: it reads the clock or starts tasks")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::callbacks::{Answered, Ended, Errand, Event};
use crate::world::World;

/// Runs until it is dropped.
pub(crate) async fn run(world: Arc<World>) {
    let mut errands = JoinSet::new();
    let (mut turns, mut changes) = (world.clock.turns(), world.callbacks.changes());
    loop {
        // Seen before looking, so that nothing that happens while looking is missed.
        turns.mark_unchanged();
        changes.mark_unchanged();
        while errands.len() < MAX_ERRANDS
            && let Some(errand) = world.callbacks.take_due()
        {
            errands.spawn(carry_out(Arc::clone(&world), errand));
        }
        let pause = match world.callbacks.next_due() {
            Some(due) if errands.len() < MAX_ERRANDS => world.clock.wait_until(due).min(FOR_EVER),
            Some(_) | None => FOR_EVER,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = turns.changed() => {}
            _ = changes.changed() => {}
            Some(_) = errands.join_next() => {}
        }
    }
}

async fn carry_out(world: Arc<World>, errand: Errand) {
    let started = Instant::now();
    let mut headers = HeaderMap::new();
    world.keys.seal_callback(&mut headers, &errand.body, errand.twist());
    let deadline = world.callbacks.deadline(errand.event);
    let answer = tokio::time::timeout(deadline, post(&errand, headers, &world.identity.ca_pem)).await;
    let after = started.elapsed();
    let ended = match &answer {
        Ok(Ok(answer)) => Ended::Answered(Answered {
            status: answer.status,
            body: &answer.body,
            authorization: answer.authorization.as_deref(),
            after,
        }),
        Ok(Err(why)) => Ended::Nothing {
            why: why.clone(),
            after,
        },
        Err(_) => Ended::Nothing {
            why: format!("no answer within {} s", deadline.as_secs()),
            after,
        },
    };
    let attempt = world.callbacks.judge(&errand, ended);
    if let (Event::Payment, None, Some(transaction_id)) = (errand.event, &attempt.failure, &errand.transaction_id) {
        world.payments.acknowledge(transaction_id);
    }
    if let Some(observer) = &world.on_callback {
        observer(errand.event, &errand.url, &attempt);
    }
    world.callbacks.settle(&errand, attempt);
}

struct Answer {
    status: u16,
    body: Bytes,
    authorization: Option<String>,
}

/// One exchange on a connection of its own. The error says in words what did not work.
async fn post(errand: &Errand, headers: HeaderMap, own_ca_pem: &str) -> Result<Answer, String> {
    let url = &errand.url;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let connecting = TcpStream::connect((host, port));
    let stream = match tokio::time::timeout(errand.event.connect_timeout(), connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("cannot connect to {host}:{port}: {error}")),
        Err(_) => return Err(format!("cannot connect to {host}:{port} in time")),
    };
    // The request is small and complete: waiting for more to send only delays it.
    let _ = stream.set_nodelay(true);
    let request = request(errand, headers);
    if !secure {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = connector(own_ca_pem, errand.ca_pem.as_deref())?;
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|error| format!("TLS with {host}:{port} failed: {error}"))?;
    exchange(stream, request).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let no_answer = |error: hyper::Error| format!("no answer: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
    let sending = async {
        let (parts, body) = sender.send_request(request).await.map_err(no_answer)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer's body broke off or is too long: {error}"))?;
        let authorization = parts.headers.get(AUTHORIZATION);
        Ok(Answer {
            status: parts.status.as_u16(),
            body: body.to_bytes(),
            authorization: authorization.and_then(|value| value.to_str().ok()).map(str::to_owned),
        })
    };
    // The connection has to run until the answer is complete, and may end first.
    tokio::pin!(sending);
    tokio::select! {
        answer = &mut sending => answer,
        _ = connection => sending.await,
    }
}

fn request(errand: &Errand, mut headers: HeaderMap) -> Request<Full<Bytes>> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static("Mozilla/4.0"));
    let authority = errand.url.authority().map_or("", |authority| authority.as_str());
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.insert(HOST, host);
    }
    let mut request = Request::new(Full::new(Bytes::from(errand.body.clone())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::try_from(errand.url.path()).unwrap_or_default();
    *request.headers_mut() = headers;
    request
}

/// Trusts the sandbox's own authority and the one that was given, nobody else.
fn connector(own_ca_pem: &str, given_ca_pem: Option<&str>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    for pem in [Some(own_ca_pem), given_ca_pem].into_iter().flatten() {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| format!("the given CA is no PEM certificate: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("the given CA is not usable: {error}"))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

const MAX_ERRANDS: usize = 64;
const MAX_ANSWER: usize = 64 * 1024;
/// Until something changes.
const FOR_EVER: Duration = Duration::from_secs(3600);

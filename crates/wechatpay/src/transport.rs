//! Carrying a signed request to WeChat Pay and the raw answer back.
//!
//! Lives here: the [`Transport`] trait and the default one over hyper and rustls, with its deadlines and bounds. Does not
//! live here: signing, verifying, retrying. Called by `client`.

mod connector;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::time::Instant;

use crate::error::{BoxError, TransportError};

use connector::{Connector, Stage, Trace};

/// What [`Transport::execute`] gives back.
pub type Exchange<'a> = Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, TransportError>> + Send + 'a>>;

/// Carries one signed request and brings back the raw answer, whatever its status.
///
/// An implementation sends method, path, query and body exactly as given: they are signed. It never repeats a request
/// of which a byte may have been sent, and it never turns off the check of the server's certificate.
pub trait Transport: Send + Sync + 'static {
    /// Makes one exchange.
    fn execute(&self, request: http::Request<Bytes>) -> Exchange<'_>;
}

/// An extension of a request that must not travel on a kept-alive connection: it is the repeat of one that such a
/// connection swallowed.
#[derive(Debug, Clone, Copy)]
pub struct FreshConnection;

/// Bounds and trust of the default transport.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) roots_pem: Option<Vec<u8>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) max_idle: usize,
    pub(crate) max_body: usize,
}

/// The default transport: HTTP/1.1 over TLS with kept-alive connections.
pub(crate) struct HyperTransport {
    pooled: Http,
    /// Keeps no connection.
    fresh: Http,
    request_timeout: Duration,
    max_body: usize,
}

type Http = Client<Connector<HttpsConnector<HttpConnector>>, Full<Bytes>>;

/// The platform closes idle connections after 8 s; a connection used in its last moment would lose the request.
const IDLE: Duration = Duration::from_secs(7);

impl HyperTransport {
    pub(crate) fn new(settings: &Settings) -> Result<HyperTransport, BoxError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // The connector below adds TLS, so this one must accept the https scheme.
        tcp.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(settings.roots_pem.as_deref())?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let connector = Connector {
            connector: https,
            limit: settings.connect_timeout,
        };
        let pooled = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.max_idle)
            .build(connector.clone());
        let fresh = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(HyperTransport {
            pooled,
            fresh,
            request_timeout: settings.request_timeout,
            max_body: settings.max_body,
        })
    }

    async fn exchange(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, TransportError> {
        let client = match request.extensions().get::<FreshConnection>() {
            Some(FreshConnection) => &self.fresh,
            None => &self.pooled,
        };
        let started = Instant::now();
        let reply = client.request(request.map(Full::new)).await;
        let reply = reply.map_err(|error| no_answer(error, started))?;
        let (parts, body) = reply.into_parts();
        let body = Limited::new(body, self.max_body).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                TransportError::TooLarge(self.max_body)
            } else {
                TransportError::Broken(error)
            }
        })?;
        Ok(http::Response::from_parts(parts, body.to_bytes()))
    }
}

impl Transport for HyperTransport {
    fn execute(&self, request: http::Request<Bytes>) -> Exchange<'_> {
        Box::pin(async move {
            match tokio::time::timeout(self.request_timeout, self.exchange(request)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(TransportError::Timeout(self.request_timeout)),
            }
        })
    }
}

/// Tells by what the connection saw how far the request got.
fn no_answer(error: hyper_util::client::legacy::Error, started: Instant) -> TransportError {
    if error.is_connect() {
        return TransportError::Connect(error.into());
    }
    let mut extensions = http::Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extensions);
    }
    match extensions.get::<Trace>() {
        Some(trace) if trace.stage() == Stage::Asked => TransportError::Closed {
            reused: trace.is_older_than(started),
            source: error.into(),
        },
        Some(_) | None => TransportError::Broken(error.into()),
    }
}

/// Whether plain http may be used for this host: it never leaves the machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn tls(roots_pem: Option<&[u8]>) -> Result<rustls::ClientConfig, BoxError> {
    // Named here because `builder()` panics as soon as another crate of the program brings a second provider.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match roots_pem {
        Some(pem) => builder.with_root_certificates(roots(pem)?),
        None => builder.with_platform_verifier()?,
    };
    Ok(builder.with_no_client_auth())
}

fn roots(pem: &[u8]) -> Result<rustls::RootCertStore, BoxError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err("roots_pem holds no certificate".into());
    }
    Ok(roots)
}

impl fmt::Debug for HyperTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HyperTransport")
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["127.0.0.1", "127.8.8.8", "[::1]", "localhost", "LOCALHOST"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "api.mch.weixin.qq.com",
            "10.0.0.1",
            "localhost.example",
            "127.0.0.1.example",
            "0.0.0.0",
            "",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn roots_without_certificate_are_refused() {
        assert!(roots(b"").is_err());
        assert!(roots(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}

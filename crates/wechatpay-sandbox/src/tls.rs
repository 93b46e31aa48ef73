//! TLS as the platform offers it, and as it fails on purpose. Called by `builder.rs` and `server.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::StartError;
use crate::fault::TlsFault;
use crate::identity::Identity;

/// Offers a certificate for this address and the names of the loopback, spoilt as the fault says.
pub(crate) fn acceptor(identity: &Identity, ip: IpAddr, fault: Option<TlsFault>) -> Result<TlsAcceptor, StartError> {
    let names = ["localhost", "127.0.0.1", "::1"]
        .map(String::from)
        .into_iter()
        .chain([ip.to_string()])
        .collect();
    let (certificate, key) = identity.tls_certificate(names, fault)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A handshake that goes wrong. A caller who does not look at the certificate gets a connection all the same.
pub(crate) async fn spoil(mut stream: TcpStream, identity: &Identity, fault: TlsFault) -> Option<TlsStream<TcpStream>> {
    if fault == TlsFault::Alert {
        // Whoever has gone already needs no alert.
        let _ = stream.write_all(&HANDSHAKE_FAILURE).await;
        let _ = stream.shutdown().await;
        return None;
    }
    let ip = stream.local_addr().ok()?.ip();
    let acceptor = acceptor(identity, ip, Some(fault)).ok()?;
    acceptor.accept(stream).await.ok()
}

/// Alert record, TLS 1.2, two bytes: fatal, handshake_failure.
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

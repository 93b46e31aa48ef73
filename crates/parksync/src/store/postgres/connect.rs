//! Where the database is, and how it is spoken to: over a socket or loopback in clear, to other machines over verified TLS only.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connections at most: two writers of events, claims, settles, and what people ask.
const CONNECTIONS: usize = 8;
/// A connection that takes longer has failed.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a transaction may take. The server's own limits end before it does, but none of them ends a COMMIT that waits for a
/// synchronous standby, and a server that is frozen has none: then the connection is given up, and whether it was written is not known.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
/// How long a verb waits for a free connection.
const WAIT: Duration = Duration::from_secs(5);
/// What the planner may not do. The statements here are look-ups by key in tables that fill and empty within seconds, so that statistics
/// are always wrong: it is told to use the keys.
pub const PLANNER_OFF: [&str; 5] = [
    "enable_seqscan",
    "enable_hashjoin",
    "enable_mergejoin",
    "enable_bitmapscan",
    "jit",
];
/// What else every connection is set to. A node that freezes inside a transaction must not keep its locks.
const OPTIONS: &str = "-c statement_timeout=15s -c lock_timeout=10s -c idle_in_transaction_session_timeout=5s \
                       -c client_connection_check_interval=2s";

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is none.
    #[error("the address of the database: {0}")]
    Address(String),
    /// It cannot be reached, or refuses.
    #[error("cannot use the database: {0}")]
    Away(String),
    /// It is empty or older than this program.
    #[error("the database has schema {found}, this parksync needs {needed}: run `parksync migrate`")]
    Older {
        /// Its schema.
        found: i64,
        /// What this program needs.
        needed: i64,
    },
    /// It was written by a newer Parksync that this one cannot work beside.
    #[error("the database has schema {found}, this parksync knows {known}: install the newer parksync on this machine")]
    Newer {
        /// Its schema.
        found: i64,
        /// The newest schema we know.
        known: i64,
    },
    /// The vault key does not belong to this database.
    #[error("the vault key does not open the database: use the key file that it was made with, the same on every node")]
    WrongVault,
    /// The system gives no threads.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl OpenError {
    pub(super) fn away(cause: impl Into<String>) -> Self {
        Self::Away(cause.into())
    }
}

/// Where a database is, with everything that it takes to speak to it.
#[derive(Clone)]
pub struct Address {
    pub(super) config: Config,
    tls: Option<ClientConfig>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("hosts", &self.config.get_hosts())
            .field("dbname", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}

impl Address {
    /// Reads a URL, `postgres://user@host1,host2/name`. The password comes from elsewhere; `ca` replaces the system's roots.
    ///
    /// # Errors
    /// It is no such URL, it holds a password, or the CA cannot be read.
    pub fn new(url: &str, password: Option<&str>, ca: Option<&Path>) -> Result<Self, OpenError> {
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            OpenError::Address(format!(
                "{why}; it looks like postgres://parksync@db1,db2/parksync, with the password in password_file"
            ))
        })?;
        if config.get_password().is_some() {
            return Err(OpenError::Address(
                "there is a password in the url: write it into a file and name that as password_file".to_owned(),
            ));
        }
        if config.get_hosts().is_empty() {
            return Err(OpenError::Address("it names no host".to_owned()));
        }
        if let Some(password) = password {
            config.password(password);
        }
        let planner = PLANNER_OFF.map(|way| format!("-c {way}=off")).join(" ");
        let options = [config.get_options().unwrap_or_default(), &planner, OPTIONS].join(" ");
        config
            .options(options.trim())
            .application_name("parksync")
            .connect_timeout(CONNECT)
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3)
            // Of several servers the one that can write: after a failover that is another one.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let tls = if config.get_hosts().iter().all(is_here) && config.get_ssl_mode() != SslMode::Require {
            config.ssl_mode(SslMode::Disable);
            None
        } else {
            config.ssl_mode(SslMode::Require);
            Some(tls(ca)?)
        };
        Ok(Self { config, tls })
    }

    /// One connection outside of the pool, with the task that drives it. May take for ever with a server that accepts and is silent.
    pub(super) async fn connect(&self) -> Result<(tokio_postgres::Client, Driver), tokio_postgres::Error> {
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                Ok((client, Driver::Plain(Box::new(connection))))
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(MakeRustlsConnect::new(tls.clone())).await?;
                Ok((client, Driver::Tls(Box::new(connection))))
            }
        }
    }

    pub(super) fn pool(&self) -> Result<Pool, OpenError> {
        let settings = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match &self.tls {
            None => Manager::from_config(self.config.clone(), NoTls, settings),
            Some(tls) => Manager::from_config(self.config.clone(), MakeRustlsConnect::new(tls.clone()), settings),
        };
        Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(WAIT),
                create: Some(CONNECT * 2),
                recycle: Some(CONNECT),
            })
            .build()
            .map_err(|error| OpenError::away(error.to_string()))
    }
}

/// What moves the bytes of a connection.
pub(super) enum Driver {
    Plain(Box<tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>>),
    Tls(
        Box<
            tokio_postgres::Connection<
                tokio_postgres::Socket,
                <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>>::Stream,
            >,
        >,
    ),
}

impl Driver {
    pub(super) fn poll_message(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<tokio_postgres::AsyncMessage, tokio_postgres::Error>>> {
        match self {
            Self::Plain(connection) => connection.poll_message(cx),
            Self::Tls(connection) => connection.poll_message(cx),
        }
    }
}

/// Whether a host is this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    }
}

fn tls(ca: Option<&Path>) -> Result<ClientConfig, OpenError> {
    let bad = |why: String| OpenError::Address(format!("TLS: {why}"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?;
    let builder = match ca {
        None => builder
            .with_platform_verifier()
            .map_err(|error| bad(error.to_string()))?,
        Some(file) => {
            let mut roots = RootCertStore::empty();
            let pem =
                CertificateDer::pem_file_iter(file).map_err(|error| bad(format!("{}: {error}", file.display())))?;
            for certificate in pem {
                let certificate = certificate.map_err(|error| bad(format!("{}: {error}", file.display())))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    Ok(builder.with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_spoken_to_over_tls_only() {
        let mode = |url: &str| Address::new(url, None, None).unwrap().config.get_ssl_mode();

        assert_eq!(mode("postgres://parksync@127.0.0.1/parksync"), SslMode::Disable);
        assert_eq!(
            mode("postgres://parksync@localhost:5433,[::1]/parksync"),
            SslMode::Disable
        );
        assert_eq!(
            mode("postgres://parksync@%2Frun%2Fpostgresql/parksync"),
            SslMode::Disable
        );
        assert_eq!(mode("postgres://parksync@db1/parksync"), SslMode::Require);
        assert_eq!(mode("postgres://parksync@localhost,db2/parksync"), SslMode::Require);
        assert_eq!(
            mode("postgres://parksync@db1/parksync?sslmode=disable"),
            SslMode::Require
        );
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_shown() {
        let error = Address::new("postgres://parksync:geheim@db1/parksync", None, None).unwrap_err();
        assert!(error.to_string().contains("password_file") && !error.to_string().contains("geheim"));
        let address = Address::new("postgres://parksync@127.0.0.1/parksync", Some("geheim"), None).unwrap();
        assert!(!format!("{address:?}").contains("geheim"));
    }

    #[test]
    fn an_address_that_is_none_says_what_one_looks_like() {
        let error = Address::new("mysql://db1", None, None).unwrap_err().to_string();
        assert!(error.contains("postgres://"), "{error}");
    }
}

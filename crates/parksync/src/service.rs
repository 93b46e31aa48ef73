//! Wiring: builds the parts from the settings, starts them, stops them in order.

#![expect(clippy::disallowed_methods, reason = "this is the room that starts tasks")]

mod listener;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;
use wechatpay::{ApiV3Key, Chain, Client, Merchant, MerchantKey, Platform, PlatformKeys};

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::delivery::courier::{Road, WechatCourier};
use crate::delivery::janitor::{Janitor, LotRules};
use crate::delivery::worker::{Rates, Worker, jitter};
use crate::ingest::Source;
use crate::limits;
use crate::store::sqlite::{OpenError, ServeLock, SqliteStore};
use crate::store::vault::Vault;
use crate::store::{NodeCard, Store};
use crate::web::pressure::{self, Pressure};
use crate::web::{self, Access, Gate, Lot, Site, Web};

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key or certificate that the settings name cannot be used.
    #[error("{what}: {why}")]
    Key {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The database cannot be written.
    #[error("cannot write the circles into the database: {0}")]
    Circles(String),
    /// The port.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address from the settings.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread or a runtime.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    store: Arc<SqliteStore>,
    stop_web: CancellationToken,
    stop_worker: CancellationToken,
    web: tokio::task::JoinHandle<()>,
    worker: JoinHandle<()>,
    worker_ended: CancellationToken,
    _lock: ServeLock,
}

impl Service {
    /// Starts everything: store, worker, web.
    ///
    /// # Errors
    /// A key, the database or the port cannot be used.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let courier = WechatCourier::new(roads(config)?);
        let access = access(config)?;
        let store = Arc::new(SqliteStore::open(&config.store.path, Arc::new(vault(config)?))?);
        let lock = store.serve(&config.store.path).await?;
        let circles = config
            .circle
            .iter()
            .map(|circle| (circle.id.clone(), circle.merchant.clone()));
        store
            .set_circles(circles.collect())
            .await
            .map_err(|error| StartError::Circles(error.to_string()))?;
        let listener = TcpListener::bind(config.server.listen)
            .await
            .map_err(|source| StartError::Listen {
                address: config.server.listen,
                source,
            })?;
        let address = listener.local_addr().map_err(|source| StartError::Listen {
            address: config.server.listen,
            source,
        })?;
        let node = store
            .join(NodeCard {
                name: config.node.name(),
                role: config.node.role.as_str(),
                version: env!("CARGO_PKG_VERSION"),
            })
            .await
            .map_err(|error| StartError::Circles(error.to_string()))?;
        let worker = Worker {
            node,
            store: store.clone(),
            courier: Arc::new(courier),
            clock: clock.clone(),
            policy: config.delivery.retry_policy(),
            max_in_flight: config.delivery.max_in_flight,
            rates: Rates::new(
                config.merchant.iter().map(|merchant| merchant.mchid.clone()),
                config.delivery.calls_per_second,
                clock.now(),
            ),
            look_again: limits::LOOK_AGAIN,
            jitter,
        };
        let janitor = Janitor {
            store: store.clone(),
            clock: clock.clone(),
            lots: config.lot.iter().map(|lot| lot_rules(config, lot)).collect(),
            strangers: SignedDuration::from_hours(config.retention.strangers_h.into()),
            visits: SignedDuration::from_hours(i64::from(config.retention.visits_d) * 24),
        };
        let (stop_web, stop_worker) = (CancellationToken::new(), CancellationToken::new());
        let worker_ended = CancellationToken::new();
        let worker = run_worker(worker, janitor, stop_worker.clone(), worker_ended.clone().drop_guard())?;
        let watched = Arc::new(Pressure::default());
        let bounds = pressure::Bounds {
            waiting: config.limits.waiting,
            folder: config.store.path.parent().map(Path::to_path_buf).unwrap_or_default(),
            free_bytes: config.limits.free_disk_mib * 1024 * 1024,
            free_percent: config.limits.free_disk_percent,
        };
        tokio::spawn(Arc::clone(&watched).watch(store.clone(), bounds, stop_web.clone()));
        let router = web::router(Web {
            store: store.clone(),
            clock,
            access: Arc::new(access),
            site: Arc::new(site(config)),
            pressure: watched,
            bounds: Arc::default(),
            refused: Arc::default(),
            clocks: Arc::default(),
        });
        let web = tokio::spawn(listener::serve(listener, router, stop_web.clone()));
        info!(%address, "parksync serves");
        Ok(Self {
            address,
            store,
            stop_web,
            stop_worker,
            web,
            worker,
            worker_ended,
            _lock: lock,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its store.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Returns when the deliveries have ended although nobody stopped them. That is a fault, and the process should be restarted.
    pub async fn broken(&self) {
        self.worker_ended.cancelled().await;
    }

    /// Stops: first no new requests, then no new calls; what is under way finishes and is written down.
    pub async fn stop(self) {
        self.stop_web.cancel();
        // A panic in there was logged by its own thread; stopping goes on.
        let _ = self.web.await;
        self.stop_worker.cancel();
        let worker = self.worker;
        let _ = tokio::task::spawn_blocking(move || worker.join()).await;
        info!("parksync stopped");
    }
}

fn lot_rules(config: &Config, lot: &config::Lot) -> LotRules {
    LotRules {
        circle: lot.circle.clone(),
        lot: lot.id.clone(),
        max_stay: config.policy_of(lot).max_stay,
        renew_at_midnight: lot.renew_at_midnight.unwrap_or(config.policy.renew_at_midnight),
    }
}

/// Deliveries have a runtime of their own: a signature takes most of a millisecond, and a camera must not wait for it.
fn run_worker(
    worker: Worker,
    janitor: Janitor,
    stop: CancellationToken,
    ended: DropGuard,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("delivery")
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            let _ended = ended;
            runtime.block_on(async {
                tokio::join!(Arc::new(worker).run(stop.clone()), janitor.run(stop));
            });
        })
        .map_err(StartError::Thread)
}

/// Reads the vault's key file.
///
/// # Errors
/// It cannot be read or holds no key.
pub fn vault(config: &Config) -> Result<Vault, StartError> {
    let key = |why: String| StartError::Key {
        what: "vault".to_owned(),
        why,
    };
    Vault::from_key_file(&config::read_secret(&config.vault.key_file).map_err(key)?)
        .map_err(|error| key(error.to_string()))
}

fn access(config: &Config) -> Result<Access, StartError> {
    let keys = config.api_key.iter().map(|key| {
        let secret = config::read_secret(&key.key_file).map_err(|why| StartError::Key {
            what: format!("api_key \"{}\"", key.name),
            why,
        })?;
        Ok((secret, key.role))
    });
    Ok(Access::new(keys.collect::<Result<Vec<_>, StartError>>()?))
}

/// The way to WeChat Pay for every circle. One client per merchant, shared by its circles.
///
/// # Errors
/// A merchant's key or certificate cannot be used.
pub fn roads(config: &Config) -> Result<HashMap<String, Road>, StartError> {
    let clients = config
        .merchant
        .iter()
        .map(|merchant| {
            let client = client(merchant, &config.delivery).map_err(|why| StartError::Key {
                what: format!("merchant \"{}\"", merchant.mchid),
                why,
            })?;
            Ok((&*merchant.mchid, client))
        })
        .collect::<Result<HashMap<_, _>, StartError>>()?;
    let roads = config.circle.iter().filter_map(|circle| {
        let client = clients.get(&*circle.merchant)?.clone();
        Some((
            circle.id.clone(),
            Road {
                client,
                brandid: circle.brandid,
                sub_mchid: circle.sub_mchid.clone(),
            },
        ))
    });
    Ok(roads.collect())
}

fn client(merchant: &config::Merchant, delivery: &config::Delivery) -> Result<Client, String> {
    let told = |error: &(dyn std::error::Error + 'static)| Chain(error).to_string();
    let key = config::read_secret(&merchant.private_key_file)?;
    let key = MerchantKey::from_pem(&key)
        .map_err(|error| format!("{}: {}", merchant.private_key_file.display(), told(&error)))?;
    let mut platform = PlatformKeys::new();
    if let (Some(id), Some(file)) = (&merchant.public_key_id, &merchant.public_key_file) {
        let pem = config::read_secret(file)?;
        platform = platform
            .with_public_key(id, &pem)
            .map_err(|error| format!("{}: {}", file.display(), told(&error)))?;
    }
    for file in &merchant.certificate_files {
        let pem = config::read_secret(file)?;
        platform = platform
            .with_certificate(&pem)
            .map_err(|error| format!("{}: {}", file.display(), told(&error)))?;
    }
    let given = platform.clone();
    let mut platform = Platform::from(platform);
    if let Some(file) = &merchant.api_v3_key_file {
        // Read in any case: a wrong one should be found now.
        let key = ApiV3Key::new(config::read_secret(file)?)
            .map_err(|error| format!("{}: {}", file.display(), told(&error)))?;
        if merchant.public_key_file.is_none() {
            // Certificates rotate; with the APIv3 key the client follows by itself.
            platform = Platform::fetched(key).with(given);
        }
    }
    let mut builder = Client::builder(Merchant::new(&merchant.mchid, &merchant.serial_no, key), platform)
        .base_url(&merchant.base_url)
        .connect_timeout(delivery.connect_timeout())
        .request_timeout(delivery.request_timeout())
        .max_in_flight(delivery.max_in_flight)
        .user_agent(concat!("parksync/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = &merchant.ca_file {
        builder = builder.roots_pem(&config::read_secret(file)?);
    }
    builder.build().map_err(|error| told(&error))
}

/// The configured car parks, as the web face needs them.
#[must_use]
pub fn site(config: &Config) -> Site {
    let circles = config
        .circle
        .iter()
        .map(|circle| (circle.id.clone(), circle.appid.clone()))
        .collect();
    let lots = config.lot.iter().map(|lot| {
        let gates = config.gate.iter().filter(|gate| gate.lot == lot.id).map(|gate| {
            let zone = gate.zone.as_ref().or(lot.zone.as_ref()).map(config::Zone::time_zone);
            let source = Source {
                direction: gate.direction.map(Into::into),
                zone,
            };
            (
                gate.id.clone(),
                Gate {
                    format: gate.format,
                    source,
                },
            )
        });
        let lot_source = Source {
            direction: None,
            zone: lot.zone.as_ref().map(config::Zone::time_zone),
        };
        let entry = Lot {
            circle: lot.circle.clone(),
            policy: config.policy_of(lot),
            leave_out_classes: lot.leave_out_classes.clone(),
            source: lot_source,
            gates: gates.collect(),
        };
        (lot.id.clone(), entry)
    });
    Site {
        merchants: config.merchant.iter().map(|merchant| merchant.mchid.clone()).collect(),
        circles,
        lots: lots.collect(),
    }
}

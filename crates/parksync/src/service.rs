//! Wiring: builds the parts from the settings, starts them, stops them in order.

#![expect(clippy::disallowed_methods, reason = "this is the room that starts tasks")]

pub mod deliveries;
mod listener;
pub mod stores;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;
use wechatpay::{ApiV3Key, Chain, Client, Merchant, MerchantKey, Platform, PlatformKeys};

use crate::clock::Clock;
use crate::config::NodeRole;
use crate::config::{self, Config};
use crate::delivery::courier::{Courier, Road, WechatCourier};
use crate::delivery::janitor::{Janitor, LotRules};
use crate::delivery::node::{self, Node};
use crate::delivery::rates::Rates;
use crate::delivery::worker::{Worker, jitter};
use crate::ingest::Source;
use crate::limits;
use crate::store::sqlite::ServeLock;
use crate::store::vault::Vault;
use crate::store::{NodeCard, Store, StoreError};
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
    Store(stores::OpenError),
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
pub struct Service {
    address: SocketAddr,
    store: Arc<dyn Store>,
    stop_web: CancellationToken,
    stop_work: CancellationToken,
    web: tokio::task::JoinHandle<()>,
    work: Work,
    /// Cancelled when the deliveries have ended.
    work_ended: CancellationToken,
    _lock: Option<ServeLock>,
}

/// What a node does beside answering requests.
enum Work {
    /// It delivers, on threads of its own.
    Delivers(JoinHandle<()>),
    /// It only says that it is there.
    Beats(tokio::task::JoinHandle<()>),
}

impl Service {
    /// Starts everything that the role of this node asks for: store, worker, web.
    ///
    /// # Errors
    /// A key, the database or the port cannot be used.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let role = config.node.role;
        let courier = WechatCourier::new(roads(config)?);
        let access = access(config)?;
        let (store, lock) = stores::open_to_serve(config).await?;
        let circles = config
            .circle
            .iter()
            .map(|circle| (circle.id.clone(), circle.merchant.clone()));
        let unusable = |error: StoreError| StartError::Circles(error.to_string());
        store.set_circles(circles.collect()).await.map_err(unusable)?;
        let listen = |source| StartError::Listen {
            address: config.server.listen,
            source,
        };
        let listener = TcpListener::bind(config.server.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let courier: Option<Arc<dyn Courier>> = match role {
            NodeRole::All | NodeRole::Worker => Some(Arc::new(courier)),
            NodeRole::Web => None,
        };
        let node = Node::join(parts(config, store.clone(), courier.clone(), clock.clone()));
        let node = Arc::new(node.await.map_err(unusable)?);
        let (stop_web, stop_work) = (CancellationToken::new(), CancellationToken::new());
        let work_ended = CancellationToken::new();
        let work = match courier {
            Some(courier) => {
                let worker = Worker {
                    node,
                    store: store.clone(),
                    courier,
                    clock: clock.clone(),
                    policy: config.delivery.retry_policy(),
                    max_in_flight: config.delivery.max_in_flight,
                    look_again: limits::LOOK_AGAIN,
                    jitter,
                };
                let janitor = janitor(config, store.clone(), clock.clone());
                let ended = work_ended.clone().drop_guard();
                Work::Delivers(
                    deliveries::start(worker, janitor, stop_work.clone(), ended).map_err(StartError::Thread)?,
                )
            }
            None => Work::Beats(tokio::spawn(beat(node, stop_work.clone()))),
        };
        let watched = Arc::new(Pressure::default());
        let bounds = pressure::Bounds {
            waiting: config.limits.waiting,
            // The disk of a PostgreSQL is on its own machine, and a full one says so to each write.
            folder: (config.store.url.is_empty())
                .then(|| config.store.path.parent().map(Path::to_path_buf).unwrap_or_default()),
            free_bytes: config.limits.free_disk_mib * 1024 * 1024,
            free_percent: config.limits.free_disk_percent,
        };
        tokio::spawn(Arc::clone(&watched).watch(store.clone(), bounds, stop_web.clone()));
        let web = Web {
            store: store.clone(),
            clock,
            access: Arc::new(access),
            site: Arc::new(site(config)),
            pressure: watched,
            bounds: Arc::default(),
            refused: Arc::default(),
            clocks: Arc::default(),
        };
        let router = match role {
            NodeRole::All | NodeRole::Web => web::router(web),
            NodeRole::Worker => web::router_of_worker(web),
        };
        let web = tokio::spawn(listener::serve(listener, router, stop_web.clone()));
        info!(%address, role = role.as_str(), "parksync serves");
        Ok(Self {
            address,
            store,
            stop_web,
            stop_work,
            web,
            work,
            work_ended,
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
        self.work_ended.cancelled().await;
    }

    /// Stops: first no new requests, then no new calls; what is under way finishes and is written down.
    pub async fn stop(self) {
        self.stop_web.cancel();
        // A panic in there was logged by its own thread; stopping goes on.
        let _ = self.web.await;
        self.stop_work.cancel();
        match self.work {
            Work::Delivers(worker) => drop(tokio::task::spawn_blocking(move || worker.join()).await),
            Work::Beats(beats) => drop(beats.await),
        }
        info!("parksync stopped");
    }
}

fn parts(config: &Config, store: Arc<dyn Store>, courier: Option<Arc<dyn Courier>>, clock: Clock) -> node::Parts {
    let merchants = config.merchant.iter().map(|merchant| merchant.mchid.clone());
    let rates = Rates::new(merchants, config.delivery.calls_per_second, clock.now());
    node::Parts {
        store,
        courier,
        clock,
        card: NodeCard {
            name: config.node.name(),
            role: config.node.role.as_str(),
            version: env!("CARGO_PKG_VERSION"),
        },
        rates,
        beat: limits::BEAT,
        terms: node::terms(config.delivery.request_timeout()),
    }
}

/// A node that only takes events is one of the nodes, too.
async fn beat(node: Arc<Node>, stop: CancellationToken) {
    tokio::select! {
        () = node.run() => {}
        () = stop.cancelled() => {}
    }
    node.leave().await;
}

fn janitor(config: &Config, store: Arc<dyn Store>, clock: Clock) -> Janitor {
    Janitor {
        store,
        clock,
        lots: config.lot.iter().map(|lot| lot_rules(config, lot)).collect(),
        strangers: SignedDuration::from_hours(config.retention.strangers_h.into()),
        visits: SignedDuration::from_hours(i64::from(config.retention.visits_d) * 24),
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
                merchant: circle.merchant.clone(),
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
        // With everything that belongs to it (the other domain, a fresh connection): a call must be over before its claim is.
        .total_timeout(delivery.request_timeout())
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

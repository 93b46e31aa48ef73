//! One machine of the simulation, and the process on it: it starts, freezes, dies, leaves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use parksync::clock::{Clock, Wrong};
use parksync::delivery::courier::Courier;
use parksync::delivery::node::{Node, Parts, terms};
use parksync::delivery::rates::Rates;
use parksync::delivery::worker::Worker;
use parksync::domain::delivery::RetryPolicy;
use parksync::domain::lease::Terms;
use parksync::limits;
use parksync::store::sqlite::SqliteStore;
use parksync::store::vault::Vault;
use parksync::store::{NodeCard, NodeId, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ice::{Ice, OnIce};
use crate::run::DEADLINE;
use crate::seed::jitter;
use crate::wechat::{TIME_TO_LIVE, WeChat};
use crate::wire::{Line, Trouble, Wire};

/// A machine with its clocks. The process on it comes and goes.
pub(crate) struct Machine {
    pub(crate) clock: Clock,
    pub(crate) wrong: Wrong,
    pub(crate) process: Option<Process>,
    /// When its process is started again.
    pub(crate) back_at: Timestamp,
}

/// A process, as long as it lives.
pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) node: Arc<Node>,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) ice: Arc<Ice>,
    pub(crate) trouble: Arc<Trouble>,
    started_at: tokio::time::Instant,
    writer: JoinHandle<()>,
    worker: JoinHandle<()>,
    stop: CancellationToken,
}

/// What a process is started with.
pub(crate) struct Start<'a> {
    pub(crate) number: u32,
    pub(crate) path: &'a Path,
    pub(crate) vault: &'a Arc<Vault>,
    pub(crate) wechat: &'a Arc<WeChat>,
    /// What the database takes for the time.
    pub(crate) store_clock: &'a Clock,
    /// It has the database for itself.
    pub(crate) alone: bool,
    /// It need not hurry, so that hours pass quickly.
    pub(crate) slow: bool,
    pub(crate) trouble: Arc<Trouble>,
    pub(crate) ceiling: f64,
}

impl Machine {
    pub(crate) fn new(origin: Timestamp, started: tokio::time::Instant) -> Self {
        let wrong = Wrong::default();
        Self {
            clock: Clock::of_runtime(origin, started, wrong.clone()),
            wrong,
            process: None,
            back_at: origin,
        }
    }

    pub(crate) async fn start(&mut self, start: Start<'_>) {
        let Start { number, path, .. } = start;
        let (store, writer) =
            SqliteStore::open_inline(path, Arc::clone(start.vault), start.store_clock.clone(), number).unwrap();
        let store = Arc::new(store);
        let lock = if start.alone {
            let lock = store.serve(path).await.unwrap();
            if !store.nodes().await.unwrap().is_empty() {
                let mut book = start.wechat.book.lock().unwrap();
                book.wrong("a process that died still has its lanes");
            }
            start.wechat.all_freed();
            Some(lock)
        } else {
            None
        };
        let circles = ["north", "south"].map(|circle| (circle.to_owned(), "m1".to_owned()));
        store.set_circles(circles.to_vec()).await.unwrap();
        let ice = Ice::new(number, self.wrong.clone());
        let courier: Arc<dyn Courier> = Arc::new(Line {
            process: number,
            trouble: Arc::clone(&start.trouble),
            wechat: Arc::clone(start.wechat),
            ice: Arc::clone(&ice),
        });
        let wire: Arc<dyn Store> = Arc::new(Wire {
            process: number,
            store: Arc::clone(&store),
            wechat: Arc::clone(start.wechat),
            ice: Arc::clone(&ice),
            trouble: Arc::clone(&start.trouble),
        });
        let (beat, terms) = if start.slow {
            let patient = Terms {
                frozen_after: Duration::from_secs(600),
                silent: Duration::from_secs(600),
                ..terms(DEADLINE)
            };
            (Duration::from_secs(30), patient)
        } else {
            (limits::BEAT, terms(DEADLINE))
        };
        let node = Node::join(Parts {
            store: Arc::clone(&wire),
            courier: Some(Arc::clone(&courier)),
            clock: self.clock.clone(),
            card: NodeCard {
                name: format!("sim-{number}"),
                role: "all",
                version: "sim",
            },
            rates: Rates::new(["m1".to_owned()], start.ceiling, self.clock.now()),
            beat,
            terms,
        });
        let node = Arc::new(node.await.unwrap());
        let stop = CancellationToken::new();
        let worker = Arc::new(Worker {
            node: Arc::clone(&node),
            store: wire,
            courier,
            clock: self.clock.clone(),
            policy: RetryPolicy {
                time_to_live: TIME_TO_LIVE,
            },
            max_in_flight: 4,
            look_again: Duration::from_secs(if start.slow { 20 } else { 2 }),
            jitter,
        });
        let stopped = stop.clone();
        let work = async move {
            let _lock = lock;
            worker.run(stopped).await;
        };
        let worker = tokio::spawn(OnIce {
            work: Box::pin(work),
            ice: Arc::clone(&ice),
        });
        self.process = Some(Process {
            number,
            node,
            store,
            ice,
            trouble: start.trouble,
            started_at: tokio::time::Instant::now(),
            writer,
            worker,
            stop,
        });
    }

    /// The process dies where it stands. Returns which one it was.
    pub(crate) async fn die(&mut self) -> Option<u32> {
        let process = self.process.take()?;
        let number = process.number;
        process.ice.die();
        process.worker.abort();
        process.writer.abort();
        let _ = (process.worker.await, process.writer.await);
        Some(number)
    }

    /// The process stops in good order. Returns which node it was.
    pub(crate) async fn stop(&mut self) -> Option<NodeId> {
        let process = self.process.take()?;
        process.stop.cancel();
        let node = process.node.id();
        process.worker.await.unwrap();
        process.writer.abort();
        Some(node)
    }
}

impl Process {
    /// Since when nothing has kept it from its work.
    pub(crate) fn well_since(&self) -> tokio::time::Instant {
        let thawed_at = self.ice.thawed_at().unwrap_or(self.started_at);
        let mended_at = self.trouble.mended_at().unwrap_or(self.started_at);
        self.started_at.max(thawed_at).max(mended_at)
    }

    /// Whether it can work right now.
    pub(crate) fn is_well(&self) -> bool {
        !self.ice.is_frozen() && !self.trouble.cut.load(Ordering::Relaxed)
    }
}

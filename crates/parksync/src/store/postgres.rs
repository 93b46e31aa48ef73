//! The store on PostgreSQL, for several nodes that share the work.
//!
//! Every verb is one transaction. Gate events of all callers share commits; claims and settles come in batches. What keeps nodes apart:
//! cars are locked first (advisory, by tag), then lanes in the order of their number, then holds. Counters are appended. Nothing waits for a
//! lock the other way round.

mod amend;
mod bell;
mod carry;
mod claims;
mod connect;
mod counters;
mod holds;
mod ingest;
mod inner;
mod lanes;
mod looks;
mod members;
mod nodes;
mod outbox;
mod schema;
mod settle;
mod sweep;
mod trace;
mod tx;

use std::sync::{Arc, Once};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};

use super::book::Prepared;
use super::moving::Checksum;
use super::vault::Vault;
use super::{
    Amend, Amended, Beat, Bound, ClaimRequest, Counter, Entry, GateEvent, Hold, Lease, Member, MerchantNews, NeverSent,
    Node, NodeCard, NodeId, OutboxFilter, Pulse, Recorded, Renewal, Replay, Retention, Settled, Store, StoreError,
    Swept, Traced, TracedVisit, Try, Unbound,
};
use crate::domain::delivery::Scope;
use crate::domain::member::MemberKey;
use crate::domain::plate::Plate;
use inner::Inner;
use tx::{Failure, Tx};

pub use connect::{Address, OpenError, PLANNER_OFF};
pub use nodes::Replication;
pub use schema::{Migrated, SCHEMA};

/// Threads for the connections. The database does the work; these speak with it.
const THREADS: usize = 2;
/// Jobs that may wait for a writer. A sender beyond it is told to come back.
const QUEUE: usize = 4096;
/// Bindings under way at one time.
const BINDS: usize = 4;

/// A store in a PostgreSQL database.
#[derive(Debug)]
pub struct PgStore {
    inner: Arc<Inner>,
    ingest: mpsc::Sender<ingest::Job>,
    /// An import binds hundreds of plates at once: they wait here, for as long as it takes, and leave connections to others.
    binds: Semaphore,
    /// Counters are added up by a process that joined the nodes.
    adds_up: Once,
    /// Connections live on threads of their own, so that no signature keeps them waiting. `None` only while dropping.
    runtime: Option<Runtime>,
}

impl Drop for PgStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs a step in one transaction on the store's own threads, again when the database gave it up for another one's sake.
macro_rules! transact {
    ($store:expr, $doing:literal, |$tx:ident| $step:expr) => {{
        let inner = Arc::clone(&$store.inner);
        $store
            .on_own_threads($doing, async move {
                let mut tries = 0;
                loop {
                    let mut client = inner.client().await?;
                    let result: Result<_, Failure> = tx::in_time(async {
                        let $tx = Tx::begin(&mut client, &inner).await?;
                        let value = $step.await?;
                        $tx.commit(&inner).await?;
                        Ok(value)
                    })
                    .await;
                    match result {
                        Ok(value) => return Ok(value),
                        Err(failure) => {
                            if !inner.again(&failure, Some(client), &mut tries).await {
                                return Err(failure);
                            }
                        }
                    }
                }
            })
            .await
    }};
}

impl PgStore {
    /// Opens a database that [`PgStore::migrate`] has prepared.
    ///
    /// # Errors
    /// It cannot be reached, has another schema, or was made with another vault key.
    pub async fn open(address: &Address, vault: Arc<Vault>) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(OpenError::Thread)?;
        let inner = Arc::new(Inner::new(address.pool()?, vault));
        let (ingest, queue) = mpsc::channel(QUEUE);
        let checked = Arc::clone(&inner);
        let ready = async move {
            let client = checked
                .client()
                .await
                .map_err(|failure| OpenError::away(failure.to_string()))?;
            schema::check(&client).await?;
            schema::check_vault(&client, &checked.vault).await?;
            let away = |failure: Failure| OpenError::away(failure.to_string());
            counters::check_mark(&client).await.map_err(away)?;
            schema::ensure_days(&client).await.map_err(away)
        };
        let ready = runtime.spawn(async move {
            let in_time = tokio::time::timeout(connect::ANSWER, ready).await;
            in_time.unwrap_or_else(|_| Err(OpenError::away(Failure::Silent.to_string())))
        });
        let ready = ready
            .await
            .unwrap_or_else(|gone| Err(OpenError::away(gone.to_string())));
        if let Err(error) = ready {
            runtime.shutdown_background();
            return Err(error);
        }
        ingest::start(&runtime, &inner, queue);
        bell::start(&runtime, &inner, address);
        Ok(Self {
            inner,
            ingest,
            binds: Semaphore::new(BINDS),
            adds_up: Once::new(),
            runtime: Some(runtime),
        })
    }

    /// Brings a database to the schema of this program.
    ///
    /// # Errors
    /// It cannot be reached, refuses, or is newer than this program.
    pub async fn migrate(address: &Address) -> Result<Migrated, OpenError> {
        schema::migrate(address).await
    }

    /// How far what is committed is from being lost with one machine, and the time of the database.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn replication(&self) -> Result<(Replication, Timestamp), StoreError> {
        transact!(self, "ask for the standbys", |tx| nodes::replication(&tx))
    }

    // The receiving end of a move: see `moving`.

    pub(super) async fn ready_for_move(&self) -> Result<Result<(), String>, StoreError> {
        transact!(self, "begin a move", |tx| carry::ready(&tx))
    }

    pub(super) async fn make_days(&self, days: Vec<String>) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        self.on_own_threads("make days", async move {
            schema::make_days(&*inner.client().await?, &days).await
        })
        .await
    }

    pub(super) async fn carried(&self, table: &'static str) -> Result<u64, StoreError> {
        transact!(self, "look what was moved", |tx| carry::carried(&tx, table))
    }

    pub(super) async fn carry_in(&self, table: &'static str, rows: Value, done: u64) -> Result<(), StoreError> {
        transact!(self, "move rows", |tx| carry::carry_in(&tx, table, &rows, done))
    }

    pub(super) async fn checksum(&self, table: &'static str) -> Result<Checksum, StoreError> {
        transact!(self, "compare rows", |tx| carry::checksum(&tx, table))
    }

    pub(super) async fn number_on(&self, newest: [i64; 5]) -> Result<(), StoreError> {
        transact!(self, "end a move", |tx| carry::number_on(&tx, newest))
    }

    async fn on_own_threads<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let runtime = self.runtime.as_ref().expect("only dropping takes it");
        runtime
            .spawn(work)
            .await
            .map_err(|_| StoreError::Closed)?
            .map_err(|failure| failure.told(doing))
    }
}

/// The statements that every event and every claim goes through, and those of the counters, with arguments to explain them by. For the
/// test of their plans.
#[must_use]
pub const fn hot_statements() -> [(&'static str, &'static str, &'static str); 12] {
    let cars = "ARRAY['mall'], ARRAY['tag'::bytea]";
    [
        (
            "claim: take",
            claims::TAKE,
            "ARRAY[1], ARRAY[64], 1, ARRAY[0], ARRAY[0]",
        ),
        ("claim: circles", claims::CIRCLES, "ARRAY[1], ARRAY[0]"),
        ("claim: heads", claims::HEADS, "ARRAY[1], ARRAY[NULL::bigint]"),
        (
            "settle: end",
            lanes::END,
            "ARRAY[1], ARRAY['delivered'], ARRAY[NULL], ARRAY[1], ARRAY[1]",
        ),
        ("settle: free", settle::FREE, "ARRAY[1]"),
        (
            "settle: repeat",
            settle::REPEAT,
            "ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[1]",
        ),
        ("record: lanes", ingest::LOCK_LANES, cars),
        ("record: visits", ingest::VISITS, cars),
        ("record: listeners", ingest::LISTENERS, cars),
        ("record: waiting", ingest::WAITING, cars),
        ("counters: add up", counters::ADD_UP, ""),
        ("counters: read", counters::READ, ""),
    ]
}

#[async_trait]
impl Store for PgStore {
    async fn record(&self, events: Vec<GateEvent>, never: Vec<NeverSent>) -> Result<Vec<Recorded>, StoreError> {
        let vault = &self.inner.vault;
        let events = events.into_iter().map(|event| Prepared::new(vault, event)).collect();
        ingest::offer(&self.ingest, events, never).await
    }

    async fn amend(&self, amend: Amend) -> Result<Amended, StoreError> {
        transact!(self, "amend a record", |tx| amend::amend(&tx, &amend))
    }

    async fn bind(
        &self,
        member: MemberKey,
        plates: Vec<Plate>,
        sole: bool,
        now: Timestamp,
    ) -> Result<Bound, StoreError> {
        let _turn = self.binds.acquire().await.map_err(|_| StoreError::Closed)?;
        transact!(self, "bind plates", |tx| members::bind(
            &tx, &member, &plates, sole, now
        ))
    }

    async fn unbind(&self, member: MemberKey, plates: Vec<Plate>, now: Timestamp) -> Result<Unbound, StoreError> {
        transact!(self, "unbind plates", |tx| members::unbind(&tx, &member, &plates, now))
    }

    async fn members(
        &self,
        circle: Option<String>,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<Member>, Option<i64>), StoreError> {
        transact!(self, "list members", |tx| members::list(
            &tx,
            circle.as_deref(),
            after,
            limit
        ))
    }

    async fn set_circles(&self, circles: Vec<(String, String)>) -> Result<(), StoreError> {
        transact!(self, "make circles known", |tx| claims::set_circles(&tx, &circles))
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Lease>, StoreError> {
        let begin = self.inner.looks().begin(request.now);
        let claimed = transact!(self, "claim lanes", |tx| claims::claim(&tx, &request, &begin));
        match claimed {
            Ok((leases, ended)) => {
                self.inner.looks().ended(ended);
                Ok(leases)
            }
            Err(error) => {
                self.inner.looks().failed();
                Err(error)
            }
        }
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<usize, StoreError> {
        transact!(self, "settle deliveries", |tx| settle::settle(&tx, &settled))
    }

    async fn take_over(&self) -> Result<u32, StoreError> {
        let everywhere = self.inner.takes_over_everywhere();
        transact!(self, "take lanes over", |tx| claims::take_over(&tx, everywhere))
    }

    async fn join(&self, card: NodeCard) -> Result<NodeId, StoreError> {
        if let Some(runtime) = &self.runtime {
            // A process that stays. A command comes and goes.
            self.adds_up.call_once(|| counters::start(runtime, &self.inner));
        }
        transact!(self, "join", |tx| nodes::join(&tx, &card))
    }

    async fn beat(&self, pulse: Pulse) -> Result<Beat, StoreError> {
        transact!(self, "beat", |tx| nodes::beat(&tx, pulse))
    }

    async fn leave(&self, node: NodeId) -> Result<(), StoreError> {
        transact!(self, "leave", |tx| nodes::leave(&tx, node))
    }

    async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        transact!(self, "list the nodes", |tx| nodes::nodes(&tx))
    }

    async fn share(&self, mchid: String, news: MerchantNews) -> Result<(), StoreError> {
        transact!(self, "tell the nodes", |tx| nodes::share(&tx, &mchid, news))
    }

    async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        transact!(self, "list the holds", |tx| holds::holds(&tx))
    }

    async fn hold(&self, scope: Scope, name: String, reason: String, now: Timestamp) -> Result<(), StoreError> {
        transact!(self, "hold", |tx| holds::hold_by_hand(&tx, scope, &name, &reason, now))
    }

    async fn release(&self, scope: Scope, name: String) -> Result<bool, StoreError> {
        transact!(self, "release", |tx| holds::release_by_hand(&tx, scope, &name))
    }

    async fn outbox(&self, filter: OutboxFilter) -> Result<Vec<Entry>, StoreError> {
        transact!(self, "list the outbox", |tx| outbox::list(&tx, &filter))
    }

    async fn message(&self, id: i64) -> Result<Option<(Entry, Vec<Try>)>, StoreError> {
        transact!(self, "look a message up", |tx| outbox::show(&tx, id))
    }

    async fn replay(&self, id: i64, force: bool, really: bool, now: Timestamp) -> Result<Replay, StoreError> {
        transact!(self, "replay a message", |tx| outbox::replay(
            &tx, id, force, really, now
        ))
    }

    async fn trace(&self, of: Traced) -> Result<Vec<TracedVisit>, StoreError> {
        transact!(self, "trace visits", |tx| trace::trace(&tx, &of))
    }

    async fn mark_stale(&self, entered_before: Timestamp, lot: String, now: Timestamp) -> Result<u32, StoreError> {
        transact!(self, "mark stale visits", |tx| sweep::mark_stale(
            &tx,
            entered_before,
            &lot,
            now
        ))
    }

    async fn renew(&self, renewal: Renewal) -> Result<u32, StoreError> {
        transact!(self, "renew presence", |tx| sweep::renew(&tx, &renewal))
    }

    async fn forget(&self, retention: Retention) -> Result<Swept, StoreError> {
        let swept = transact!(self, "forget old visits", |tx| sweep::forget(&tx, &retention))?;
        if swept.looked == 0 {
            let inner = Arc::clone(&self.inner);
            self.on_own_threads("make and drop days", async move {
                let client = inner.client().await?;
                schema::ensure_days(&client).await?;
                schema::drop_days(&client, (retention.now - retention.all).as_millisecond()).await
            })
            .await?;
        }
        Ok(swept)
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let begin = self.inner.looks().peek();
        transact!(self, "find the next due lane", |tx| claims::next_due(&tx, &begin))
    }

    async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    async fn heartbeat(&self, now: Timestamp) -> Result<(), StoreError> {
        transact!(self, "write", |tx| nodes::heartbeat(&tx, now))
    }

    async fn counters(&self) -> Result<Vec<Counter>, StoreError> {
        transact!(self, "read the counters", |tx| counters::counters(&tx))
    }
}

//! What all tasks of a store share: connections, and what was heard of lanes that are due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deadpool_postgres::{Object, Pool};
use tokio::sync::Notify;

use super::looks::Looks;
use super::tx::Failure;
use crate::store::vault::Vault;

/// How often a transaction is tried again that the database gave up for another one's sake.
const TRIES: u32 = 5;
/// The first look for claims that ended sees all of them, and every tenth after it.
const TAKE_OVERS: u64 = 10;

/// What all tasks of a store share.
pub(super) struct Inner {
    pub(super) pool: Pool,
    pub(super) vault: Arc<Vault>,
    pub(super) changed: Notify,
    /// How often it was looked for claims that ended.
    take_overs: AtomicU64,
    looks: Mutex<Looks>,
    /// Something was written that other nodes have to hear of, and the time of the earliest lane that may be due by it.
    pub(super) ring: Notify,
    pub(super) rings: Mutex<Option<i64>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Inner {
    pub(super) fn new(pool: Pool, vault: Arc<Vault>) -> Self {
        Self {
            pool,
            vault,
            changed: Notify::new(),
            take_overs: AtomicU64::new(0),
            ring: Notify::new(),
            looks: Mutex::default(),
            rings: Mutex::default(),
        }
    }

    /// Whether this look for claims that ended is one for all of them.
    pub(super) fn takes_over_everywhere(&self) -> bool {
        self.take_overs
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(TAKE_OVERS)
    }

    pub(super) async fn client(&self) -> Result<Object, Failure> {
        Ok(self.pool.get().await?)
    }

    /// Lanes may be due, the earliest at this time: says so here and to the other nodes.
    pub(super) fn woke(&self, due: i64) {
        self.heard(due);
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        *rings = rings.into_iter().chain([due]).min();
        drop(rings);
        self.ring.notify_one();
    }

    /// Lanes may be due, the earliest at this time.
    pub(super) fn heard(&self, due: i64) {
        self.looks().lower(due);
        self.changed.notify_one();
    }

    pub(super) fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to try again after a failure. A connection that cannot write any more is given up, so that the next one finds the new
    /// primary.
    pub(super) async fn again(&self, failure: &Failure, client: Option<Object>, tries: &mut u32) -> bool {
        if failure.is_of_the_connection() {
            if let Some(client) = client {
                drop(Object::take(client));
            }
            self.pool.retain(|_, _| false);
        }
        *tries += 1;
        if !failure.is_for_another() || *tries >= TRIES {
            return false;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5 << *tries)).await;
        true
    }
}

//! Whether more can be taken: how many messages wait, and how much disk is free. Looked at once a second, asked for by every post.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::problem::Problem;
use crate::store::Store;

const FINE: u8 = 0;
const FULL: u8 = 1;
const NO_DISK: u8 = 2;

/// The answer of the last look, and whether the last events could be written down.
#[derive(Debug, Default)]
pub struct Pressure(AtomicU8, AtomicBool);

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Messages that may wait.
    pub waiting: u64,
    /// The folder of the database, when it is on this machine.
    pub folder: Option<PathBuf>,
    /// Free bytes below which nothing is taken …
    pub free_bytes: u64,
    /// … unless this share of the disk is free all the same.
    pub free_percent: u64,
}

impl Pressure {
    /// Notes whether events could be written down. A small write may still fit on a disk where they do not.
    pub(super) fn wrote(&self, events: bool) {
        self.1.store(!events, Ordering::Relaxed);
    }

    /// Whether the last events could be written down.
    pub(super) fn writes(&self) -> bool {
        !self.1.load(Ordering::Relaxed)
    }

    /// Whether a post may be taken now.
    pub(super) fn check(&self) -> Result<(), Problem> {
        match self.0.load(Ordering::Relaxed) {
            FULL => Err(Problem::new(
                429,
                "outbox-full",
                "too many messages wait for WeChat Pay; send this one again later",
            )),
            NO_DISK => Err(Problem::new(
                503,
                "disk-full",
                "the disk is nearly full; nothing is taken until there is room",
            )),
            _ => Ok(()),
        }
    }

    /// Looks once a second until told to stop.
    pub async fn watch(self: Arc<Self>, store: Arc<dyn Store>, bounds: Bounds, stop: CancellationToken) {
        loop {
            let now = look(&*store, &bounds).await;
            let before = self.0.swap(now, Ordering::Relaxed);
            match (before, now) {
                (FULL | NO_DISK, FINE) => info!("events are taken again"),
                (_, FULL) if before != FULL => error!("the outbox is full: senders are told to come back"),
                (_, NO_DISK) if before != NO_DISK => error!("the disk is nearly full: senders are told to come back"),
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn look(store: &dyn Store, bounds: &Bounds) -> u8 {
    if free_disk(bounds).is_some_and(|(free, total)| free < bounds.free_bytes.min(total / 100 * bounds.free_percent)) {
        return NO_DISK;
    }
    let waiting: i64 = match store.counters().await {
        Ok(counters) => counters
            .iter()
            .filter(|counter| counter.name == "waiting")
            .map(|counter| counter.value)
            .sum(),
        // A store that cannot be read says so to every post by itself.
        Err(_) => 0,
    };
    if u64::try_from(waiting).is_ok_and(|waiting| waiting >= bounds.waiting) {
        FULL
    } else {
        FINE
    }
}

fn free_disk(bounds: &Bounds) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(bounds.folder.as_ref()?).ok()?;
    Some((disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize))
}

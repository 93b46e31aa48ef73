//! Tells the nodes of each other's commits: one connection beside the pool that listens, and rings at most a hundred times a second.
//!
//! A NOTIFY inside the transactions themselves would make their commits wait for each other. A bell that is not heard costs little: the
//! workers look by themselves as well.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::AsyncMessage;
use tracing::debug;

use super::Inner;
use super::connect::{ANSWER, Address};

pub(super) const CHANNEL: &str = "parksync_due";
/// Commits within this time are told together.
const GATHER: Duration = Duration::from_millis(10);
/// How long it rests after the connection broke.
const REST: Duration = Duration::from_secs(1);

pub(super) fn start(runtime: &Runtime, inner: &Arc<Inner>, address: &Address) {
    let (inner, address) = (Arc::clone(inner), address.clone());
    runtime.spawn(async move {
        loop {
            if let Err(error) = listen(&inner, &address).await {
                debug!(%error, "the nodes do not hear each other; next try in a second");
            }
            tokio::time::sleep(REST).await;
        }
    });
}

async fn listen(inner: &Inner, address: &Address) -> Result<(), tokio_postgres::Error> {
    let Ok(connected) = tokio::time::timeout(ANSWER, address.connect()).await else {
        return Ok(());
    };
    let (client, mut driver) = connected?;
    let hear = async {
        loop {
            match std::future::poll_fn(|cx| driver.poll_message(cx)).await {
                // Without a number that can be read: from the start.
                Some(Ok(AsyncMessage::Notification(told))) => inner.heard(told.payload().parse().unwrap_or(0)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    };
    let ring = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        loop {
            inner.ring.notified().await;
            let due = inner.rings.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(due) = due {
                client.batch_execute(&format!("NOTIFY {CHANNEL}, '{due}'")).await?;
            }
            tokio::time::sleep(GATHER).await;
        }
    };
    tokio::select! {
        ended = hear => ended,
        ended = ring => ended,
    }
}

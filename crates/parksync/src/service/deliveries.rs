//! Deliveries have a runtime of their own: a signature takes most of a millisecond, and a camera must not wait for it.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::delivery::janitor::Janitor;
use crate::delivery::worker::Worker;

/// Starts the threads that deliver, until told to stop. `ended` is dropped when nothing is delivered any more, for whatever reason.
///
/// # Errors
/// The system gives no thread.
pub fn start(
    worker: Worker,
    janitor: Janitor,
    stop: CancellationToken,
    ended: DropGuard,
) -> io::Result<JoinHandle<()>> {
    let runtime = runtime::Builder::new_multi_thread()
        .thread_name("delivery")
        .enable_all()
        .build()?;
    thread::Builder::new().name("worker".to_owned()).spawn(move || {
        let stopped = stop.clone();
        // A task among those of its calls: on a thread of its own, each answer would cost a change of threads.
        let worker = runtime.spawn(async move {
            let _ended = ended;
            Arc::new(worker).run(stopped).await;
        });
        // A panic of the worker was logged when it came.
        let _ = runtime.block_on(async { tokio::join!(worker, janitor.run(stop)) });
    })
}

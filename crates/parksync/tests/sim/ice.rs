//! How a process of the simulation stands still while the world goes on: nothing of it runs, what it has sent is on its way.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parksync::clock::Wrong;
use parksync::limits;
use tokio::time::Instant;

use crate::world::story;

/// What a process that stood still can know of it afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SIGSTOP, or a machine that sleeps: its clocks went on.
    Process,
    /// A virtual machine whose steady clock stood still with it; its time of day is right again at once.
    Machine,
    /// As before, and its time of day stood still, too: only the clock of the store can tell.
    MachineAndWall,
}

/// One process, running or frozen.
#[derive(Default)]
pub(crate) struct Ice {
    process: u32,
    frozen: AtomicBool,
    /// It will never run again.
    dead: AtomicBool,
    /// Its clocks are behind, and it has not heard the store since.
    blind: AtomicBool,
    thawed_at: Mutex<Option<Instant>>,
    waiting: Mutex<Vec<Waker>>,
    /// When its time of day was set last, and how far ahead it was before.
    was_set: Mutex<Option<(Instant, i64)>>,
    wrong: Wrong,
}

impl Ice {
    pub(crate) fn new(process: u32, wrong: Wrong) -> Arc<Self> {
        Arc::new(Self {
            process,
            wrong,
            ..Self::default()
        })
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    /// Its time of day is set.
    pub(crate) fn set_clock(&self, ahead_ms: i64) {
        let before = self.wrong.ahead_ms.swap(ahead_ms, Ordering::Relaxed);
        *self.was_set.lock().unwrap() = Some((Instant::now(), before));
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn thawed_at(&self) -> Option<Instant> {
        *self.thawed_at.lock().unwrap()
    }

    pub(crate) fn is_blind(&self) -> bool {
        self.blind.load(Ordering::Relaxed)
    }

    /// It heard what the store said then: it can know how late it is, unless it stood still since.
    pub(crate) fn sees(&self, said_at: Instant) {
        if !self.is_frozen() && self.thawed_at().is_none_or(|thawed_at| thawed_at <= said_at) {
            self.blind.store(false, Ordering::Relaxed);
        }
    }

    /// Stands still for that long.
    pub(crate) fn freeze(self: &Arc<Self>, how_long: Duration, kind: Kind) {
        if self.frozen.swap(true, Ordering::Relaxed) {
            return;
        }
        let process = self.process;
        story(|| format!("process {process} freezes for {how_long:?}: {kind:?}"));
        // Against what its last look showed, which is a beat ago at most.
        let was_set = self
            .was_set
            .lock()
            .unwrap()
            .filter(|(at, _)| at.elapsed() <= 2 * limits::BEAT);
        let ahead_ms = self.wrong.ahead_ms.load(Ordering::Relaxed);
        let ahead_ms = was_set.map_or(ahead_ms, |(_, before)| ahead_ms.max(before));
        let ice = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(how_long).await;
            let millis = u64::try_from(how_long.as_millis()).unwrap();
            if kind == Kind::MachineAndWall {
                let behind = i64::try_from(millis).unwrap();
                ice.wrong.ahead_ms.fetch_sub(behind, Ordering::Relaxed);
            }
            if kind != Kind::Process {
                ice.wrong.stood_ms.fetch_add(millis, Ordering::Relaxed);
                // Somebody may also have set its time of day back meanwhile.
                let is_behind = ice.wrong.ahead_ms.load(Ordering::Relaxed) < ahead_ms;
                ice.blind.fetch_or(is_behind, Ordering::Relaxed);
            }
            story(|| format!("process {process} runs again"));
            ice.frozen.store(false, Ordering::Relaxed);
            *ice.thawed_at.lock().unwrap() = Some(Instant::now());
            for waker in ice.waiting.lock().unwrap().drain(..) {
                waker.wake();
            }
        });
    }

    /// Returns when it runs.
    pub(crate) async fn thawed(&self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_frozen() {
            self.waiting.lock().unwrap().push(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// Work that does not go on while its process is frozen.
pub(crate) struct OnIce<F> {
    pub(crate) work: Pin<Box<F>>,
    pub(crate) ice: Arc<Ice>,
}

impl<F: Future> Future for OnIce<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match self.ice.poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => self.work.as_mut().poll(context),
        }
    }
}

//! Faults that tests put into the service on purpose: promises broken one at a time, and places where the process dies.
//!
//! Without the feature `sabotage` every question here is a constant `false`, and nothing of it is in the program. The simulation
//! must catch each broken promise; the crash tests kill the real process at each place.

/// A promise, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sabotage {
    /// Senders are answered before the commit.
    AcknowledgeBeforeCommit = 1,
    /// An event is looked up for its resend by nothing.
    NoDedupe,
    /// Second reads of one passage are events of their own.
    NoMerge,
    /// A second read stays one, also when the car turns out to have crossed the other way in between.
    RereadsStayMerged,
    /// A settle is believed whatever claim it names.
    SettleWithoutClaim,
    /// A retry may leave before its time.
    EarlyJitter,
    /// A hold costs tries, so that messages die of it.
    HoldBurnsTries,
    /// A hold stops nothing.
    HoldIgnored,
    /// Probes of a hold go out as fast as they can.
    ProbeStorm,
    /// Of a back-dated batch every state is sent.
    EveryStateOfABatch,
    /// An old entry that surfaces is sent at once.
    OldEntryNotHeld,
    /// A message older than what was told is sent all the same.
    OlderThanToldIsSent,
    /// What may have been sent is not written down before the send.
    ToldAfterTheSend,
    /// After an unknown outcome the lane goes on with another message.
    UnknownIsNotRepeated,
    /// An unknown outcome counts as delivered.
    UnknownIsDelivered,
    /// A passing refusal kills the message.
    TransientIsDead,
    /// A lane's messages go out in the order they came.
    OrderOfArrival,
    /// Several messages of one lane are under way at once.
    SeveralInFlight,
    /// Unbinding leaves what waits in the outbox.
    UnbindKeepsMessages,
    /// A member who unbound is still told of new events.
    UnbindIsForgotten,
    /// A late bind tells the time of the binding.
    LateBindTellsNow,
    /// A time in the future is sent at once.
    FutureIsSentAtOnce,
    /// A 429 does not slow anything down.
    ThrottleIgnored,
    /// Lanes that a killed process held stay claimed.
    ClaimsSurviveARestart,
    /// A message past its time to live is sent.
    TimeToLiveIgnored,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::AcknowledgeBeforeCommit,
        Self::NoDedupe,
        Self::NoMerge,
        Self::RereadsStayMerged,
        Self::SettleWithoutClaim,
        Self::EarlyJitter,
        Self::HoldBurnsTries,
        Self::HoldIgnored,
        Self::ProbeStorm,
        Self::EveryStateOfABatch,
        Self::OldEntryNotHeld,
        Self::OlderThanToldIsSent,
        Self::ToldAfterTheSend,
        Self::UnknownIsNotRepeated,
        Self::UnknownIsDelivered,
        Self::TransientIsDead,
        Self::OrderOfArrival,
        Self::SeveralInFlight,
        Self::UnbindKeepsMessages,
        Self::UnbindIsForgotten,
        Self::LateBindTellsNow,
        Self::FutureIsSentAtOnce,
        Self::ThrottleIgnored,
        Self::ClaimsSurviveARestart,
        Self::TimeToLiveIgnored,
    ];
}

#[cfg(not(feature = "sabotage"))]
mod switch {
    use super::Sabotage;

    /// Whether a promise is broken: never, in a program for use.
    #[inline(always)]
    pub const fn is(_: Sabotage) -> bool {
        false
    }

    /// A place where a test may kill the process: nothing, in a program for use.
    #[inline(always)]
    pub const fn crash_point(_: &str) {}
}

#[cfg(feature = "sabotage")]
mod switch {
    use std::cell::Cell;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Sabotage;

    thread_local! {
        static BROKEN: Cell<u8> = const { Cell::new(0) };
    }

    /// Whether a promise is broken on this thread.
    pub fn is(sabotage: Sabotage) -> bool {
        BROKEN.get() == sabotage as u8
    }

    /// Breaks a promise on this thread, or none.
    pub fn set(sabotage: Option<Sabotage>) {
        BROKEN.set(sabotage.map_or(0, |sabotage| sabotage as u8));
    }

    /// The process dies here, as by SIGKILL, when `PARKSYNC_CRASH=NAME:N` names this place for the N-th time.
    #[expect(
        clippy::disallowed_methods,
        reason = "a test says through the environment of the process where it dies"
    )]
    pub fn crash_point(name: &str) {
        static WHERE: OnceLock<Option<(String, u64)>> = OnceLock::new();
        static PASSED: AtomicU64 = AtomicU64::new(0);
        let crash = WHERE.get_or_init(|| {
            let text = std::env::var("PARKSYNC_CRASH").ok()?;
            let (name, count) = text.split_once(':')?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        if let Some((at, count)) = crash
            && at == name
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

pub use switch::*;

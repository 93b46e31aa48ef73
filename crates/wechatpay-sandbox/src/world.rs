//! Everything the simulated WeChat Pay knows: ids, members, presences, payments, the mall, and the time.
//!
//! Only a bundle: each part keeps its own state under its own lock. `platform.rs` hands it to the endpoints.

use std::sync::{Arc, Mutex, MutexGuard};

use http::Uri;

use crate::callbacks::{Attempt, CallbackRules, Callbacks, Event};
use crate::check::CertificateState;
use crate::clock::Clock;
use crate::endpoints::commit_status::CommitStatusAnswer;
use crate::identity::Identity;
use crate::keyring::PlatformKeys;
use crate::ledger::Ledger;
use crate::mall::MallState;
use crate::members::Members;
use crate::payments::Payments;
use crate::presence::Presences;
use crate::reminders::{ReminderAnswer, Reminders};
use crate::vehicles::Vehicles;

pub(crate) struct World {
    pub(crate) identity: Arc<Identity>,
    pub(crate) keys: PlatformKeys,
    pub(crate) rules: Rules,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) members: Members,
    pub(crate) presences: Arc<Presences>,
    pub(crate) payments: Payments,
    pub(crate) callbacks: Callbacks,
    pub(crate) on_callback: Option<CallbackObserver>,
    pub(crate) vehicles: Vehicles,
    pub(crate) reminders: Reminders,
    moods: Mutex<Moods>,
}

/// Told of every try of a callback, once it is judged.
pub(crate) type CallbackObserver = Arc<dyn Fn(Event, &Uri, &Attempt) + Send + Sync>;

/// What the documents leave open, chosen at the start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) commit_status: CommitStatusAnswer,
    pub(crate) callbacks: CallbackRules,
    pub(crate) reminder_answer: ReminderAnswer,
}

/// What a test may change while the sandbox runs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moods {
    pub(crate) mall: MallState,
    pub(crate) certificate: CertificateState,
}

impl World {
    pub(crate) fn new(identity: Arc<Identity>, keys: PlatformKeys, rules: Rules, clock: Clock, ledger: Ledger) -> Self {
        let merchant = &identity.merchant;
        let callbacks = Callbacks::new(identity.envelopes(), clock.clone(), rules.callbacks);
        let members = Members::new(clock.clone(), callbacks.clone(), merchant.mchid.clone());
        let presences = Arc::new(Presences::default());
        let payments = Payments::new(
            merchant,
            members.clone(),
            Arc::clone(&presences),
            clock.clone(),
            callbacks.clone(),
        );
        let vehicles = Vehicles::new(clock.clone(), callbacks.clone(), merchant.mchid.clone());
        let reminders = Reminders::new(clock.clone());
        Self {
            identity,
            keys,
            rules,
            clock,
            ledger,
            members,
            presences,
            payments,
            callbacks,
            on_callback: None,
            vehicles,
            reminders,
            moods: Mutex::default(),
        }
    }

    pub(crate) fn moods(&self) -> Moods {
        *self.lock_moods()
    }

    pub(crate) fn lock_moods(&self) -> MutexGuard<'_, Moods> {
        self.moods.lock().expect("no holder of the moods panics")
    }
}

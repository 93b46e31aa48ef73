//! The settings of a sandbox, and its start.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use crate::callbacks::{Attempt, AuthorizationPlan, Event, PaymentAck};
use crate::clock::Clock;
use crate::endpoints::commit_status::CommitStatusAnswer;
use crate::fault::{FaultPlan, Faults};
use crate::identity::{Identity, IdentityError};
use crate::keyring::{KeyMode, PlatformKeys};
use crate::ledger::{Call, Ledger};
use crate::platform::{Observer, Platform, Settings};
use crate::reminders::ReminderAnswer;
use crate::seal::{Sealer, Suite};
use crate::server::{Addresses, Server};
use crate::world::{CallbackObserver, Rules, World};
use crate::{Sandbox, StartError, tls};

/// Settings of a sandbox.
#[derive(Clone)]
pub struct Builder {
    addresses: Addresses,
    polite: bool,
    seed: u64,
    clock_offset_s: i64,
    fresh_keys: bool,
    kept_keys: Option<PathBuf>,
    suite: Suite,
    cached_signatures: bool,
    ledger_limit: usize,
    key_mode: KeyMode,
    settings: Settings,
    rules: Rules,
    on_callback: Option<CallbackObserver>,
}

impl Default for Builder {
    fn default() -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            addresses: Addresses {
                https: any_port,
                http: any_port,
                control: None,
            },
            polite: true,
            seed: 0,
            clock_offset_s: 0,
            fresh_keys: false,
            kept_keys: None,
            suite: Suite::default(),
            cached_signatures: false,
            ledger_limit: 1_000_000,
            key_mode: KeyMode::default(),
            settings: Settings {
                sign_refusals: true,
                keep_alive: Duration::from_secs(8),
                observer: None,
            },
            rules: Rules::default(),
            on_callback: None,
        }
    }
}

impl Builder {
    /// Whether valid calls always succeed. Default true; when false, [`FaultPlan::impolite`] runs from the start.
    #[must_use]
    pub fn polite(mut self, polite: bool) -> Self {
        self.polite = polite;
        self
    }

    /// Seed of the impolite plan. Default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Where HTTPS listens. Default a free port of 127.0.0.1.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.addresses.https = address;
        self
    }

    /// Where plain HTTP listens; a loopback address. Default a free port of 127.0.0.1.
    #[must_use]
    pub fn listen_http(mut self, address: SocketAddr) -> Self {
        self.addresses.http = address;
        self
    }

    /// Opens the control port here: a loopback address, port 0 takes a free one. Default none.
    #[must_use]
    pub fn control(mut self, address: SocketAddr) -> Self {
        self.addresses.control = Some(address);
        self
    }

    /// Seconds by which the platform's clock is ahead of the machine's. Default 0.
    #[must_use]
    pub fn clock_offset(mut self, seconds: i64) -> Self {
        self.clock_offset_s = seconds;
        self
    }

    /// Makes ids and keys of its own, in a second or less. By default all sandboxes of a process share theirs.
    #[must_use]
    pub fn fresh_keys(mut self) -> Self {
        self.fresh_keys = true;
        self
    }

    /// Comes back with the ids and keys of this file, which [`Sandbox::keep_keys`] wrote; makes its own while there is none.
    #[must_use]
    pub fn kept_keys(mut self, path: impl Into<PathBuf>) -> Self {
        self.kept_keys = Some(path.into());
        self
    }

    /// A merchant and a platform with SM2 keys (国密): requests and answers are signed with `WECHATPAY2-SM2-WITH-SM3`,
    /// certificates are SM2 ones (`algorithm_type=SM2`), envelopes are `AEAD_SM4_GCM`. Never the shared keys.
    ///
    /// Assumed, since it is documented nowhere: such a merchant has no RSA keys beside them, and its public key is an SM2
    /// one, too. TLS stays as it is.
    #[cfg(feature = "gm")]
    #[must_use]
    pub fn gm(mut self) -> Self {
        self.suite = Suite::Sm;
        self
    }

    /// Which key signs when the caller names none. Default the platform certificate.
    #[must_use]
    pub fn key_mode(mut self, mode: KeyMode) -> Self {
        self.key_mode = mode;
        self
    }

    /// Whether refusals after authentication are signed. Default true: the documents say so, nobody has checked.
    #[must_use]
    pub fn sign_refusals(mut self, sign: bool) -> Self {
        self.settings.sign_refusals = sign;
        self
    }

    /// What a successful query of pending points looks like. Default 200 with a body.
    #[must_use]
    pub fn commit_status(mut self, answer: CommitStatusAnswer) -> Self {
        self.rules.commit_status = answer;
        self
    }

    /// What acknowledges an in-mall payment. Default as the FAQ has it: 200 with a SUCCESS body within 2 s.
    #[must_use]
    pub fn payment_ack(mut self, ack: PaymentAck) -> Self {
        self.rules.callbacks.payment_ack = ack;
        self
    }

    /// How often an authorisation's callback is sent again. Default as the merchant page has it.
    #[must_use]
    pub fn authorization_plan(mut self, plan: AuthorizationPlan) -> Self {
        self.rules.callbacks.authorization_plan = plan;
        self
    }

    /// What some reminder endpoints answer on success. Default 200 with an empty object.
    #[must_use]
    pub fn reminder_answer(mut self, answer: ReminderAnswer) -> Self {
        self.rules.reminder_answer = answer;
        self
    }

    /// How long an idle connection stays open. Default 8 s, as the real one announces.
    #[must_use]
    pub fn keep_alive(mut self, idle: Duration) -> Self {
        self.settings.keep_alive = idle;
        self
    }

    /// Pre-signed answers, for load tests: one nonce and signature per key, status, body and second. Default off.
    ///
    /// A signature costs 0.7 ms of CPU, more than all the rest of an answer. The answers stay valid; only their nonces
    /// repeat within a second, which the real platform does not do.
    #[must_use]
    pub fn cached_signatures(mut self, cached: bool) -> Self {
        self.cached_signatures = cached;
        self
    }

    /// How many calls and parking states the ledger keeps before it forgets the oldest. Default a million.
    #[must_use]
    pub fn ledger_limit(mut self, limit: usize) -> Self {
        self.ledger_limit = limit.max(1);
        self
    }

    /// Is told of every call once its fate is decided, on the sandbox's thread: be quick.
    #[must_use]
    pub fn on_call(mut self, observer: impl Fn(&Call) + Send + Sync + 'static) -> Self {
        let observer: Observer = Arc::new(observer);
        self.settings.observer = Some(observer);
        self
    }

    /// Is told of every try of a callback once it is judged, on the sandbox's thread: be quick.
    #[must_use]
    pub fn on_callback(mut self, observer: impl Fn(Event, &Uri, &Attempt) + Send + Sync + 'static) -> Self {
        self.on_callback = Some(Arc::new(observer));
        self
    }

    /// Starts the sandbox.
    ///
    /// # Errors
    /// When a port cannot be opened or keys cannot be made.
    pub async fn start(self) -> Result<Sandbox, StartError> {
        let Addresses { https, http, control } = self.addresses;
        let plain = [Some(http), control].into_iter().flatten();
        for address in plain {
            if !address.ip().is_loopback() {
                return Err(StartError::HttpNotLoopback(address));
            }
        }
        let kept = self.kept_keys.as_deref().map(Identity::read).transpose()?.flatten();
        let identity = match kept {
            Some(kept) => kept,
            None if self.fresh_keys || self.kept_keys.is_some() || self.suite != Suite::Rsa => {
                Identity::fresh(self.suite).await?
            }
            None => Identity::shared().await?,
        };
        if identity.suite() != self.suite {
            return Err(IdentityError::OtherAlgorithms.into());
        }
        let tls = tls::acceptor(&identity, https.ip(), None)?;
        let faults = Faults::default();
        if !self.polite {
            faults.plan(FaultPlan::impolite(self.seed));
        }
        let clock = Clock::new(self.clock_offset_s);
        let sealer = Sealer::new(self.cached_signatures);
        let keys = PlatformKeys::new(Arc::clone(&identity), clock.clone(), self.key_mode, sealer);
        let mut world = World::new(identity, keys, self.rules, clock, Ledger::new(self.ledger_limit));
        world.on_callback = self.on_callback;
        let platform = Arc::new(Platform {
            world: Arc::new(world),
            settings: self.settings,
            faults,
        });
        let server = Server::start(Arc::clone(&platform), tls, self.addresses).await?;
        let base_url = format!("https://{}", server.bound.https);
        let http_url = format!("http://{}", server.bound.http);
        let control_url = server.bound.control.map(|address| format!("http://{address}"));
        Ok(Sandbox {
            platform,
            _server: server,
            base_url,
            http_url,
            control_url,
        })
    }
}

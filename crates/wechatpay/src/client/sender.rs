//! The one path that every call takes: wait for a slot, sign, exchange, judge; perhaps again.
//!
//! Lives here: [`Sender`], the half of a client that sends. An edge: it reads the clock and draws nonces. Does not live
//! here: the decisions on the way, which are pure (`sign`, `response`, `failover`, `retry`), and how bytes travel
//! (`transport`). Called by `client`, `blocking` and the typed `api`.

#![expect(clippy::disallowed_methods, reason = "an edge: it reads the clock or starts tasks")]

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::certificate_list::{self, PlatformError};
use crate::error::{Error, TransportError};
use crate::failover::{Domain, Failover};
use crate::platform::{Because, Held};
use crate::platform_keys::PlatformKeys;
use crate::request::Request;
use crate::response::{self, Response};
use crate::retry::{Next, RetryPolicy, Tries};
use crate::route::Route;
use crate::sign::{self, Caller, Origin};
use crate::transport::{FreshConnection, Transport};
use crate::verify::{self, VerifyError};

/// The half of a client that sends. A [`Call`](crate::Call) holds one.
#[derive(Clone)]
pub struct Sender(Arc<Shared>);

/// What all clones of a client share.
pub(crate) struct Shared {
    pub(crate) caller: Caller,
    pub(crate) held: Held,
    pub(crate) main: Origin,
    pub(crate) backup: Option<Origin>,
    pub(crate) failover: Mutex<Failover>,
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) slots: Semaphore,
    pub(crate) slot_timeout: Duration,
    pub(crate) total_timeout: Duration,
    pub(crate) retry: Option<RetryPolicy>,
}

impl Sender {
    pub(crate) fn new(shared: Shared) -> Sender {
        Sender(Arc::new(shared))
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Response, Error> {
        let deadline = Instant::now() + self.0.total_timeout;
        self.have_keys().await?;
        let mut tries = Tries::new(self.0.retry.as_ref(), request.is_repeatable());
        let mut fresh = false;
        loop {
            let error = match self.attempt(&request, fresh, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            fresh = match tries.next(&error, left(deadline), dice()) {
                Next::GiveUp => return Err(error),
                Next::Fresh => true,
                Next::After(pause) => {
                    tokio::time::sleep(pause).await;
                    false
                }
            };
        }
    }

    /// The platform keys held at this moment.
    pub(crate) fn keys(&self) -> Arc<PlatformKeys> {
        self.0.held.keys()
    }

    pub(crate) fn now(&self) -> i64 {
        (self.0.clock)().as_second()
    }

    /// Keys that hold the serial named there, if it can be had at all; else why not.
    pub(crate) async fn keys_for<'a>(
        &self,
        headers: &'a HeaderMap,
        because: fn(&'a str) -> Because<'a>,
    ) -> (Arc<PlatformKeys>, Option<VerifyError>) {
        let keys = self.keys();
        let unknown = verify::serial(headers).filter(|serial| {
            // There is no API to fetch a public key: an unknown one is a matter of configuration.
            self.0.held.is_fetched() && keys.find(serial).is_none() && !serial.starts_with("PUB_KEY_ID_")
        });
        let Some(serial) = unknown else { return (keys, None) };
        let outcome = self.refresh(because(serial)).await;
        let why = outcome.err().map(|error| certificate_list::not_fetched(serial, &error));
        (self.keys(), why)
    }

    pub(crate) async fn refresh(&self, because: Because<'_>) -> Result<(), PlatformError> {
        self.0.held.refresh(because, self.now(), self.fetch()).await
    }

    /// The first keys are waited for; later ones come beside the calls, which can be verified without them.
    async fn have_keys(&self) -> Result<(), Error> {
        let due = self.0.held.take_due(self.now());
        if self.0.held.needs_first() {
            let outcome = self.refresh(Because::NoKey).await;
            return outcome.map_err(|source| Error::Keys { source });
        }
        if due {
            let sender = self.clone();
            // A failure is kept in the state of the keys and tried again; nobody waits for this one.
            tokio::spawn(async move { sender.refresh(Because::Due).await });
        }
        Ok(())
    }

    /// Asks for the platform certificates. Takes no slot: those who hold one may be waiting for this.
    async fn fetch(&self) -> Result<(HeaderMap, Bytes), Error> {
        let deadline = Instant::now() + self.0.total_timeout;
        let route = match self.0.caller.merchant.key().scheme() {
            sign::SCHEME => Route::new("/v3/certificates"),
            _ => Route::new("/v3/certificates").query("algorithm_type", "SM2"),
        };
        let request = Request::new(Method::GET, route);
        let mut tries = Tries::new(self.0.retry.as_ref(), true);
        let mut fresh = false;
        let reply = loop {
            let error = match self.exchange(&request, fresh, deadline).await {
                Ok(reply) => break reply,
                Err(error) => error,
            };
            match tries.next(&error, left(deadline), dice()) {
                Next::Fresh => fresh = true,
                // Pausing is for the next refresh: others wait for this one.
                Next::GiveUp | Next::After(_) => return Err(error),
            }
        };
        if reply.status().is_success() {
            let (parts, body) = reply.into_parts();
            return Ok((parts.headers, body));
        }
        Err(response::refused(reply, &self.keys(), self.now()))
    }

    async fn attempt(&self, request: &Request, fresh: bool, deadline: Instant) -> Result<Response, Error> {
        let reply = {
            // Before signing: a signature must not grow old while it waits.
            let _slot = self.slot(deadline).await?;
            self.exchange(request, fresh, deadline).await?
        };
        let (keys, why) = self.keys_for(reply.headers(), Because::Answer).await;
        response::judge(reply, request, &keys, self.now()).map_err(|error| match (error, why) {
            (
                Error::Verify {
                    request_id,
                    source: VerifyError::UnknownSerial(_),
                },
                Some(source),
            ) => Error::Verify { request_id, source },
            (error, _) => error,
        })
    }

    /// One exchange with the domain whose turn it is; with the other one when no connection could be made.
    async fn exchange(
        &self,
        request: &Request,
        fresh: bool,
        deadline: Instant,
    ) -> Result<http::Response<Bytes>, Error> {
        let Some(backup) = &self.0.backup else {
            return self.exchange_with(&self.0.main, request, fresh, deadline).await;
        };
        let origin = |domain| match domain {
            Domain::Main => &self.0.main,
            Domain::Backup => backup,
        };
        let domain = self.failover(|failover, now| failover.choose(now));
        let first = self.exchange_with(origin(domain), request, fresh, deadline).await;
        if !self.tell(domain, &first) {
            return first;
        }
        let second = self
            .exchange_with(origin(domain.other()), request, fresh, deadline)
            .await;
        if self.tell(domain.other(), &second) {
            first
        } else {
            second
        }
    }

    pub(crate) fn domain(&self) -> Domain {
        self.failover(|failover, _| failover.preferred())
    }

    pub(crate) fn follow(&self, domain: Domain) -> bool {
        let known = domain == Domain::Main || self.0.backup.is_some();
        known && self.failover(|failover, now| failover.follow(domain, now))
    }

    /// Tells the failover how it went; true when no connection could be made.
    fn tell(&self, domain: Domain, outcome: &Result<http::Response<Bytes>, Error>) -> bool {
        let unreachable = matches!(
            outcome,
            Err(Error::Transport {
                source: TransportError::Connect(_),
                ..
            })
        );
        if unreachable {
            self.failover(|failover, now| failover.failed(domain, now));
        } else if outcome.is_ok() {
            self.failover(|failover, now| failover.worked(domain, now));
        }
        unreachable
    }

    fn failover<T>(&self, act: impl FnOnce(&mut Failover, std::time::Instant) -> T) -> T {
        let mut failover = self.0.failover.lock().expect("no holder of the failover panics");
        act(&mut failover, Instant::now().into_std())
    }

    async fn exchange_with(
        &self,
        origin: &Origin,
        request: &Request,
        fresh: bool,
        deadline: Instant,
    ) -> Result<http::Response<Bytes>, Error> {
        let mut signed = self.0.caller.sign(request, origin, self.now(), &nonce())?;
        if fresh {
            signed.extensions_mut().insert(FreshConnection);
        }
        let no_reply = |source| Error::Transport {
            host: origin.authority.to_string(),
            source,
        };
        match tokio::time::timeout_at(deadline, self.0.transport.execute(signed)).await {
            Ok(reply) => reply.map_err(no_reply),
            Err(_) => Err(no_reply(TransportError::Timeout(self.0.total_timeout))),
        }
    }

    async fn slot(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Error> {
        const OPEN: &str = "the semaphore is never closed";
        if let Ok(slot) = self.0.slots.try_acquire() {
            return Ok(slot);
        }
        let limit = self.0.slot_timeout.min(left(deadline));
        match tokio::time::timeout(limit, self.0.slots.acquire()).await {
            Ok(slot) => Ok(slot.expect(OPEN)),
            Err(_) => Err(self.no_reply(TransportError::Busy(limit))),
        }
    }

    pub(crate) fn no_reply(&self, source: TransportError) -> Error {
        Error::Transport {
            host: self.0.main.authority.to_string(),
            source,
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.0.caller).finish()
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// 32 upper-case hex digits, as the documentation uses.
pub(crate) fn nonce() -> String {
    format!("{:032X}", u128::from_be_bytes(random()))
}

/// A number from 0 up to 1.
fn dice() -> f64 {
    f64::from(u32::from_be_bytes(random())) / f64::from(u32::MAX)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

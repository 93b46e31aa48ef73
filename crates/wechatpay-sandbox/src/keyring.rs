//! The platform's keys: which ones live, which one signs, how they are changed (protocol 4).
//!
//! Answers and callbacks are signed with the public key or with a platform certificate. Certificates rotate: two live at
//! a time, and signing moves over in shares. A merchant migrates to the public key in shares too, as far as callbacks go.
//! `platform.rs` and `push.rs` sign through here; tests turn the keys through [`PlatformKeys`].

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::identity::{Identity, IdentityError, PlatformCertificate};
use crate::seal::{PlatformKey, Sealer, Twist};

/// Which key signs answers to callers who did not ask for one with `Wechatpay-Serial` (protocol 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyMode {
    /// The platform certificate (平台证书), as for a merchant that has not migrated.
    #[default]
    Certificate,
    /// The WeChat Pay public key (微信支付公钥), as for a merchant that has migrated and still has certificates.
    PublicKey,
    /// The public key, always: a new merchant has no platform certificate at all.
    PublicKeyOnly,
}

/// Handle to the platform's keys.
#[derive(Clone)]
pub struct PlatformKeys {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Arc<Identity>,
    clock: Clock,
    sealer: Sealer,
    state: Mutex<State>,
}

struct State {
    mode: KeyMode,
    /// Oldest first.
    certificates: Vec<Arc<PlatformCertificate>>,
    /// How much of the signing the newest certificate does.
    newest: Share,
    /// How many callbacks the public key signs.
    callbacks: Share,
}

/// A share of a whole, dealt out evenly and the same way every time: 0.25 is every fourth.
struct Share {
    of: f64,
    owed: f64,
}

impl Share {
    fn new(of: f64) -> Self {
        Self {
            of: if of.is_nan() { 0.0 } else { of.clamp(0.0, 1.0) },
            owed: 0.0,
        }
    }

    fn draw(&mut self) -> bool {
        self.owed += self.of;
        // Sums of tenths come out a hair below the whole.
        let due = self.owed > 1.0 - 1e-9;
        if due {
            self.owed -= 1.0;
        }
        due
    }
}

/// One platform certificate, as `GET /v3/certificates` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateEntry {
    /// Its serial.
    pub serial_no: String,
    /// X.509 PEM.
    pub pem: String,
    /// From when on it counts.
    pub effective_time: Timestamp,
    /// Until when it counts; may be earlier than the PEM says.
    pub expire_time: Timestamp,
}

impl PlatformKeys {
    pub(crate) fn new(identity: Arc<Identity>, clock: Clock, mode: KeyMode, sealer: Sealer) -> Self {
        let state = State {
            mode,
            certificates: vec![Arc::new(identity.certificate.clone())],
            newest: Share::new(1.0),
            callbacks: Share::new(if mode == KeyMode::Certificate { 0.0 } else { 1.0 }),
        };
        Self {
            inner: Arc::new(Inner {
                identity,
                clock,
                sealer,
                state: Mutex::new(state),
            }),
        }
    }

    /// A second certificate goes live, and signs nothing yet. Returns its serial. Takes as long as an RSA key takes.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub async fn rotate(&self) -> Result<String, IdentityError> {
        let certificate = self
            .inner
            .identity
            .next_platform_certificate(self.inner.clock.wire_now())
            .await?;
        let serial = certificate.key.id.clone();
        let mut state = self.lock();
        if state.certificates.len() >= MAX_CERTIFICATES {
            state.certificates.remove(0);
        }
        state.certificates.push(Arc::new(certificate));
        state.newest = Share::new(0.0);
        Ok(serial)
    }

    /// The newest certificate signs this share of answers and callbacks from now on, 0.0 to 1.0; the one before it the rest.
    pub fn sign_with_newest(&self, share: f64) {
        self.lock().newest = Share::new(share);
    }

    /// The older certificates stop to count this long from now by the calendar; the newest then signs everything.
    /// The real platform shortens an expiry 24 hours ahead.
    pub fn expire_old_in(&self, delay: Duration) {
        let expire_time = self.inner.clock.now().saturating_add(delay).unwrap_or(Timestamp::MAX);
        let mut state = self.lock();
        let old = state.certificates.len().saturating_sub(1);
        for certificate in &mut state.certificates[..old] {
            if expire_time < certificate.expire_time {
                *certificate = Arc::new(PlatformCertificate {
                    expire_time,
                    ..PlatformCertificate::clone(certificate)
                });
            }
        }
    }

    /// The older certificates are gone now.
    pub fn expire_old(&self) {
        self.expire_old_in(Duration::ZERO);
    }

    /// Changes which key signs when the caller names none.
    pub fn set_mode(&self, mode: KeyMode) {
        self.lock().mode = mode;
    }

    /// The public key signs this share of the callbacks, 0.0 to 1.0, as in the week of a migration (protocol 4.3).
    pub fn sign_callbacks_with_public_key(&self, share: f64) {
        self.lock().callbacks = Share::new(share);
    }

    /// The certificates that count now, oldest first; none for a merchant with the public key only.
    pub fn certificates(&self) -> Vec<CertificateEntry> {
        let now = self.inner.clock.now();
        let state = self.lock();
        if state.mode == KeyMode::PublicKeyOnly {
            return Vec::new();
        }
        state
            .live(now)
            .map(|certificate| CertificateEntry {
                serial_no: certificate.key.id.clone(),
                pem: certificate.pem.clone(),
                effective_time: certificate.effective_time,
                expire_time: certificate.expire_time,
            })
            .collect()
    }

    pub(crate) fn mode(&self) -> KeyMode {
        self.lock().mode
    }

    /// The key that callers hold under this id, if it is one of ours and counts.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<PlatformKey>> {
        if id == self.inner.identity.public_key.id {
            return Some(Arc::clone(&self.inner.identity.public_key));
        }
        let now = self.inner.clock.now();
        let state = self.lock();
        if state.mode == KeyMode::PublicKeyOnly {
            return None;
        }
        let found = state.live(now).find(|held| held.key.id.eq_ignore_ascii_case(id))?;
        Some(Arc::clone(&found.key))
    }

    /// Signs an answer to a caller who named this key in `Wechatpay-Serial` (empty: none).
    pub(crate) fn seal_answer(&self, headers: &mut HeaderMap, named: &str, status: u16, body: &[u8], twist: Twist) {
        let now = self.inner.clock.wire_now().as_second();
        let key = self.answering_key(named);
        self.inner.sealer.seal(headers, &key, status, body, now, twist);
    }

    /// Signs a callback.
    pub(crate) fn seal_callback(&self, headers: &mut HeaderMap, body: &[u8], twist: Twist) {
        let key = {
            let calendar = self.inner.clock.now();
            let mut state = self.lock();
            if state.mode == KeyMode::PublicKeyOnly || state.callbacks.draw() {
                Arc::clone(&self.inner.identity.public_key)
            } else {
                state.certificate(calendar)
            }
        };
        let now = self.inner.clock.wire_now().as_second();
        self.inner.sealer.seal(headers, &key, 0, body, now, twist);
    }

    /// The public key for those who ask for it, a certificate for those who ask for one that counts, else what the mode
    /// says. An id that is not ours is ignored (unknown on the real platform).
    fn answering_key(&self, named: &str) -> Arc<PlatformKey> {
        let public_key = &self.inner.identity.public_key;
        let now = self.inner.clock.now();
        let mut state = self.lock();
        let asks_for_certificate = state.live(now).any(|held| held.key.id.eq_ignore_ascii_case(named));
        let certificate = match state.mode {
            KeyMode::Certificate => named != public_key.id,
            KeyMode::PublicKey => asks_for_certificate,
            KeyMode::PublicKeyOnly => false,
        };
        if certificate {
            state.certificate(now)
        } else {
            Arc::clone(public_key)
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("no holder of the keyring panics")
    }
}

impl State {
    fn live(&self, now: Timestamp) -> impl DoubleEndedIterator<Item = &Arc<PlatformCertificate>> {
        self.certificates
            .iter()
            .filter(move |certificate| certificate.expire_time > now)
    }

    /// The certificate whose turn it is. When all have expired the newest goes on signing.
    fn certificate(&mut self, now: Timestamp) -> Arc<PlatformKey> {
        let by_newest = self.newest.draw();
        let mut live = self.live(now).rev();
        let newest = live.next();
        let before = live.next();
        let chosen = if by_newest { newest } else { before.or(newest) };
        let chosen = chosen.or(self.certificates.last());
        Arc::clone(&chosen.expect("the platform never loses its last certificate").key)
    }
}

impl std::fmt::Debug for PlatformKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("PlatformKeys")
            .field("mode", &state.mode)
            .field("certificates", &state.certificates.len())
            .finish()
    }
}

/// The real platform has two at most; a test may turn faster than it cleans up.
const MAX_CERTIFICATES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_dealt_out_evenly() {
        for (of, drawn) in [(0.0, 0), (0.1, 10), (0.25, 25), (0.5, 50), (1.0, 100), (7.0, 100)] {
            let mut share = Share::new(of);
            assert_eq!((0..100).filter(|_| share.draw()).count(), drawn, "{of}");
        }
    }
}

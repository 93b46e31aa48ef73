//! Misbehaviour on purpose: one fault for the next call, or a seeded plan with rates.
//!
//! Decides which fault strikes. What a fault does to a call is in `platform.rs`, to a signature in `seal.rs`.
//! Faults strike calls that passed authentication, so that a test's `next(…)` is not used up by a wrong signature.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::answer_body::AnswerBody;
use crate::endpoints;
use crate::refusal::Refusal;
use crate::seal::Twist;

/// One way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Waits before the call is handled, then behaves.
    Latency(Duration),
    /// 500 `SYSTEM_ERROR`; nothing was written.
    SystemError,
    /// 502 without a body, as a gateway sends it; nothing was written.
    BadGateway,
    /// 503 without a body; nothing was written.
    Unavailable,
    /// 429 `RATELIMIT_EXCEEDED`; nothing was written. The real one may leave `Retry-After` out.
    RateLimited {
        /// Seconds for the `Retry-After` header.
        retry_after_s: Option<u32>,
    },
    /// This refusal, for rows of the tables that only the platform's inside can cause; nothing was written.
    Refuse(Refusal),
    /// The connection is reset (RST) before anything was written.
    ResetBeforeCommit,
    /// The call is carried out, then the connection closes without an answer. The caller cannot know.
    DropReplyAfterCommit,
    /// The call is carried out, then silence until the caller gives up (or two minutes have passed).
    NoAnswer,
    /// Silence without anything written.
    NoAnswerBeforeCommit,
    /// The call is carried out, then the connection is reset (RST). The caller cannot know.
    ResetAfterCommit,
    /// A success whose body comes in pieces over this time; one without a body is not slower.
    SlowBody(Duration),
    /// A success whose body breaks off in the middle, and the connection with it. One without a body (204) turns into a
    /// 200 that announces one and breaks off.
    TruncatedBody,
    /// A success with so many blanks behind its body, in chunks. The signature does not cover them.
    OversizedBody(u64),
    /// A success without `Wechatpay-*` headers.
    Unsigned,
    /// A success signed wrongly.
    WrongSignature,
    /// A success signed ten minutes ago.
    StaleTimestamp,
    /// A success signed under a serial nobody knows.
    UnknownSerial,
    /// A success with a signature probe (签名探测流量).
    SignatureProbe,
}

impl Fault {
    /// What this fault does to the signature of an answer.
    pub(crate) fn twist(&self) -> Twist {
        match self {
            Self::WrongSignature => Twist::WrongSignature,
            Self::StaleTimestamp => Twist::StaleTimestamp,
            Self::UnknownSerial => Twist::UnknownSerial,
            Self::SignatureProbe => Twist::Probe,
            Self::Latency(_)
            | Self::SystemError
            | Self::BadGateway
            | Self::Unavailable
            | Self::RateLimited { .. }
            | Self::Refuse(_)
            | Self::ResetBeforeCommit
            | Self::DropReplyAfterCommit
            | Self::NoAnswer
            | Self::NoAnswerBeforeCommit
            | Self::ResetAfterCommit
            | Self::SlowBody(_)
            | Self::TruncatedBody
            | Self::OversizedBody(_)
            | Self::Unsigned => Twist::None,
        }
    }

    /// The answer's body, as this fault leaves it.
    pub(crate) fn body(&self, body: Vec<u8>) -> AnswerBody {
        if let Self::SlowBody(over) = self {
            AnswerBody::slow(body, *over)
        } else if let Self::OversizedBody(padding) = self {
            AnswerBody::oversized(body, *padding)
        } else if *self == Self::TruncatedBody {
            AnswerBody::truncated(&body)
        } else {
            AnswerBody::whole(body)
        }
    }

    /// The refusal that this fault is, when it is one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::SystemError => Some(Refusal::new(500, "SYSTEM_ERROR", "系统异常，请稍后重试")),
            Self::BadGateway => Some(Refusal::empty(502)),
            Self::Unavailable => Some(Refusal::empty(503)),
            Self::RateLimited { .. } => Some(Refusal::new(429, "RATELIMIT_EXCEEDED", "请求频率超限，请稍后重试")),
            Self::Refuse(refusal) => Some(refusal.clone()),
            Self::Latency(_)
            | Self::ResetBeforeCommit
            | Self::DropReplyAfterCommit
            | Self::NoAnswer
            | Self::NoAnswerBeforeCommit
            | Self::ResetAfterCommit
            | Self::SlowBody(_)
            | Self::TruncatedBody
            | Self::OversizedBody(_)
            | Self::Unsigned
            | Self::WrongSignature
            | Self::StaleTimestamp
            | Self::UnknownSerial
            | Self::SignatureProbe => None,
        }
    }
}

/// Faults at random, the same ones for the same seed and the same number of calls.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    dice: Dice,
    rates: Vec<(Fault, f64)>,
}

impl FaultPlan {
    /// A plan without faults yet.
    pub fn seeded(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            rates: Vec::new(),
        }
    }

    /// Adds a fault that strikes this share of the calls, 0.0 to 1.0. The shares should sum to at most 1.
    #[must_use]
    pub fn with(mut self, fault: Fault, share: f64) -> Self {
        self.rates.push((fault, share));
        self
    }

    /// What the program does unless told to be polite: a little under three percent of valid calls go wrong.
    pub fn impolite(seed: u64) -> Self {
        Self::seeded(seed)
            .with(Fault::SystemError, 0.008)
            .with(Fault::Unavailable, 0.005)
            .with(Fault::RateLimited { retry_after_s: Some(1) }, 0.003)
            .with(Fault::ResetBeforeCommit, 0.003)
            .with(Fault::DropReplyAfterCommit, 0.004)
            .with(Fault::Latency(Duration::from_millis(1500)), 0.003)
            .with(Fault::SignatureProbe, 0.002)
    }

    fn draw(&mut self) -> Option<Fault> {
        let mut point = self.dice.share();
        for (fault, share) in &self.rates {
            if point < *share {
                return Some(fault.clone());
            }
            point -= share;
        }
        None
    }
}

/// Handle to a sandbox's faults.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: VecDeque<Fault>,
    rules: Vec<FaultRule>,
    plan: Option<FaultPlan>,
    handshakes: VecDeque<TlsFault>,
}

/// A fault for the calls of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultRule {
    /// Which paths: one with `{…}` for any segment, or the beginning of one with a `*` behind it.
    pub path: String,
    /// What strikes.
    pub fault: Fault,
    /// How many more calls; `None`: all.
    pub times: Option<u32>,
}

/// One way to spoil a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The platform ends it with an alert.
    Alert,
    /// The certificate is one that nobody vouches for.
    Untrusted,
    /// The certificate is past its time.
    Expired,
    /// The certificate is for another name.
    WrongName,
}

impl Faults {
    /// Strikes the next authenticated call; further ones queue up behind it.
    pub fn next(&self, fault: Fault) {
        let mut inner = self.lock();
        if inner.next.len() < MAX_QUEUED {
            inner.next.push_back(fault);
        }
    }

    /// Strikes authenticated calls of these paths, so many times or (`None`) always: `/v3/security/echo`,
    /// `/v3/businesscircle/users/{openid}/points/commit_status`, `/v3/vehicle/*`. Of several rules the first one strikes.
    pub fn on(&self, path: &str, fault: Fault, times: Option<u32>) {
        let mut inner = self.lock();
        if inner.rules.len() < MAX_RULES {
            let path = path.to_owned();
            inner.rules.push(FaultRule { path, fault, times });
        }
    }

    /// The rules that are left.
    pub fn rules(&self) -> Vec<FaultRule> {
        self.lock().rules.clone()
    }

    /// Spoils the next TLS handshake; further ones queue up behind it.
    pub fn next_handshake(&self, fault: TlsFault) {
        let mut inner = self.lock();
        if inner.handshakes.len() < MAX_QUEUED {
            inner.handshakes.push_back(fault);
        }
    }

    /// Misbehaves by this plan from now on.
    pub fn plan(&self, plan: FaultPlan) {
        self.lock().plan = Some(plan);
    }

    /// Behaves from now on.
    pub fn clear(&self) {
        *self.lock() = Inner::default();
    }

    /// What strikes a call of this path.
    pub(crate) fn draw(&self, path: &str) -> Option<Fault> {
        let mut inner = self.lock();
        if let Some(fault) = inner.next.pop_front() {
            return Some(fault);
        }
        if let Some(index) = inner.rules.iter().position(|rule| rule.covers(path)) {
            let fault = inner.rules[index].fault.clone();
            if let Some(left) = &mut inner.rules[index].times {
                *left -= 1;
                if *left == 0 {
                    inner.rules.remove(index);
                }
            }
            return Some(fault);
        }
        inner.plan.as_mut().and_then(FaultPlan::draw)
    }

    pub(crate) fn draw_handshake(&self) -> Option<TlsFault> {
        self.lock().handshakes.pop_front()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the faults panics")
    }
}

impl FaultRule {
    fn covers(&self, path: &str) -> bool {
        self.times != Some(0)
            && match self.path.strip_suffix('*') {
                Some(beginning) => path.starts_with(beginning),
                None => endpoints::matches(&self.path, path).is_some(),
            }
    }
}

const MAX_RULES: usize = 1000;
const MAX_QUEUED: usize = 100_000;

/// SplitMix64: small, fast, and the same on every machine.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    /// A number from 0 up to, but without, 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(plan: FaultPlan) -> Vec<Option<Fault>> {
        let faults = Faults::default();
        faults.plan(plan);
        (0..10_000).map(|_| faults.draw("/v3/x")).collect()
    }

    #[test]
    fn a_plan_repeats_itself_for_its_seed() {
        assert_eq!(drawn(FaultPlan::impolite(7)), drawn(FaultPlan::impolite(7)));
        assert_ne!(drawn(FaultPlan::impolite(7)), drawn(FaultPlan::impolite(8)));
    }

    #[test]
    fn a_plan_keeps_its_rates() {
        let struck = drawn(FaultPlan::impolite(1)).iter().flatten().count();

        assert!((200..400).contains(&struck), "{struck} of 10,000");
    }

    #[test]
    fn a_rule_strikes_its_paths_so_many_times() {
        let faults = Faults::default();
        faults.on("/v3/a/{id}", Fault::BadGateway, Some(2));
        faults.on("/v3/*", Fault::SystemError, None);

        let paths = ["/v3/a/1", "/v3/b", "/v3/a/2", "/v3/a/3", "/v4"];
        let drawn: Vec<_> = paths.iter().map(|path| faults.draw(path)).collect();

        let (gateway, system) = (Some(Fault::BadGateway), Some(Fault::SystemError));
        assert_eq!(drawn, [gateway.clone(), system.clone(), gateway, system, None]);
        assert_eq!(faults.rules().len(), 1);
    }

    #[test]
    fn what_was_asked_for_comes_before_the_plan_and_in_order() {
        let faults = Faults::default();
        faults.plan(FaultPlan::seeded(1).with(Fault::NoAnswer, 1.0));
        faults.next(Fault::BadGateway);
        faults.next(Fault::SystemError);

        let drawn: Vec<_> = (0..3).filter_map(|_| faults.draw("/v3/x")).collect();
        faults.clear();

        assert_eq!(drawn, [Fault::BadGateway, Fault::SystemError, Fault::NoAnswer]);
        assert_eq!(faults.draw("/v3/x"), None);
    }
}

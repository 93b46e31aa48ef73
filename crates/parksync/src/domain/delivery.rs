//! One message to WeChat Pay, what a try saw, and what we do about it.
//!
//! The schedule and the table are pure; the worker in `delivery` carries them out.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::gate::Direction;
use super::member::MemberKey;
use super::plate::Plate;
use crate::sabotage::{self, Sabotage};

/// One message for one member: what WeChat Pay should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The number of the message in the outbox.
    pub id: i64,
    /// Whose presence changes.
    pub member: MemberKey,
    /// The car.
    pub plate: Plate,
    /// In or out.
    pub state: Direction,
    /// When the car crossed.
    pub at: Timestamp,
    /// When the message was written into the outbox; its time to live counts from here.
    pub enqueued_at: Timestamp,
    /// Tries so far that count against the schedule.
    pub tries: u32,
}

/// What one try saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A verified success.
    Accepted {
        /// WeChat Pay's number of the call.
        request_id: String,
    },
    /// WeChat Pay answered with a refusal. It may be unsigned, so it steers retries and nothing else.
    Refused {
        /// HTTP status.
        status: u16,
        /// Error code, empty when the answer had none.
        code: String,
        /// Text of the refusal.
        message: String,
        /// WeChat Pay's number of the call.
        request_id: String,
        /// The answer asks to slow down, under one of the names that WeChat Pay has for it.
        rate_limited: bool,
        /// `Retry-After`, when there was one.
        retry_after: Option<Duration>,
    },
    /// The call left, and nobody can say whether WeChat Pay acted: no answer, or one that cannot be verified.
    Unknown {
        /// What happened, with causes.
        why: String,
    },
    /// The call certainly did not reach WeChat Pay.
    NotSent {
        /// What happened, with causes.
        why: String,
    },
    /// It was not even tried: it waited longer than its time to live.
    Expired,
    /// It was not even tried: the claim of its lane ends too soon, or is void. Another claim will do.
    Unclaimed {
        /// What is wrong with the claim.
        why: &'static str,
    },
    /// The message cannot be built at all (a field is out of its bounds, the merchant is not configured).
    Unbuildable {
        /// What is wrong.
        why: String,
    },
}

impl Outcome {
    /// In a few words, for logs: without the text of a refusal, since that may repeat what was sent.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Accepted { .. } => "accepted".to_owned(),
            Self::Expired => "expired".to_owned(),
            Self::Unclaimed { why } => (*why).to_owned(),
            Self::Refused { status, code, .. } => format!("{status} {code}"),
            Self::Unknown { why } | Self::NotSent { why } | Self::Unbuildable { why } => why.clone(),
        }
    }

    /// In one stable word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Refused { .. } => "refused",
            Self::Unknown { .. } => "unknown",
            Self::NotSent { .. } => "not-sent",
            Self::Unbuildable { .. } => "unbuildable",
            Self::Expired => "expired",
            Self::Unclaimed { .. } => "unclaimed",
        }
    }

    /// What is kept of a try. `None` when there was none.
    #[must_use]
    pub fn answer(&self) -> Option<Answer<'_>> {
        let answer = |status, code, request_id, detail| Answer {
            status,
            code,
            request_id,
            detail,
        };
        match self {
            Self::Accepted { request_id } => Some(answer(None, None, Some(request_id), None)),
            Self::Refused {
                status,
                code,
                message,
                request_id,
                ..
            } => Some(answer(Some(*status), Some(code), Some(request_id), Some(message))),
            Self::Unknown { why } | Self::NotSent { why } | Self::Unbuildable { why } => {
                Some(answer(None, None, None, Some(why)))
            }
            Self::Expired | Self::Unclaimed { .. } => None,
        }
    }
}

/// What is kept of a try, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// HTTP status of a refusal.
    pub status: Option<u16>,
    /// WeChat Pay's code.
    pub code: Option<&'a str>,
    /// WeChat Pay's number of the call.
    pub request_id: Option<&'a str>,
    /// WeChat Pay's text, or what broke.
    pub detail: Option<&'a str>,
}

/// What we do after a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// WeChat Pay has it.
    Delivered,
    /// Try again at a time.
    RetryAt {
        /// When.
        at: Timestamp,
        /// Whether this try moves the schedule on. Throttling and account-level refusals cost nothing.
        counts: bool,
    },
    /// Given up, with the reason that people see.
    Dead {
        /// Why.
        reason: String,
    },
    /// Nothing is wrong with the message: the set-up of a circle or of a whole merchant is. All of it pauses, one probe goes on.
    Hold {
        /// How far the pause reaches.
        scope: Scope,
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// Whether the set-up of the account was good enough for WeChat Pay to judge the message itself.
    #[must_use]
    pub const fn is_judgement(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Delivered => true,
            Self::Dead { .. } => matches!(outcome, Outcome::Refused { .. }),
            Self::RetryAt { .. } | Self::Hold { .. } => false,
        }
    }
}

/// How far an account-level refusal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One circle: its brand, appid or child merchant.
    Circle,
    /// All circles of a merchant: its key, serial, certificate or clock.
    Merchant,
}

/// How long a hold waits before its next probe: longer each time, so that a forgotten set-up costs WeChat Pay and us little.
#[must_use]
pub fn probe_after(probes: u32) -> SignedDuration {
    const MINUTES: [i64; 4] = [1, 1, 2, 5];
    SignedDuration::from_mins(MINUTES[(probes as usize).min(MINUTES.len() - 1)])
}

/// When to try again, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long after it was enqueued a message is still worth telling.
    pub time_to_live: SignedDuration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            time_to_live: SignedDuration::from_hours(24),
        }
    }
}

/// Waits between tries, in seconds; the last one repeats.
const SCHEDULE: [i64; 8] = [1, 2, 5, 15, 60, 300, 900, 1800];

/// Two clocks that both pass for right may differ by this much: the window in which WeChat Pay accepts a signature.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// How refusals are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Transient,
    Throttled,
    Account(Scope),
    Message,
}

impl RetryPolicy {
    /// Whether a message is too old to be worth telling, for example after a long hold.
    #[must_use]
    pub fn expired(&self, delivery: &Delivery, now: Timestamp) -> bool {
        now.duration_since(delivery.enqueued_at) > self.time_to_live && !sabotage::is(Sabotage::TimeToLiveIgnored)
    }

    /// Turns what a try saw into what happens next. `jitter` in `0.0..1.0` lengthens a wait by up to a fifth, never shortens it.
    #[must_use]
    pub fn judge(&self, delivery: &Delivery, outcome: &Outcome, now: Timestamp, jitter: f64) -> Verdict {
        let scheduled = || {
            let step = SCHEDULE[(delivery.tries as usize).min(SCHEDULE.len() - 1)];
            lengthened(SignedDuration::from_secs(step), jitter)
        };
        if sabotage::is(Sabotage::UnknownIsDelivered) && matches!(outcome, Outcome::Unknown { .. }) {
            return Verdict::Delivered;
        }
        let (wait, counts, reason) = match outcome {
            Outcome::Accepted { .. } => return Verdict::Delivered,
            Outcome::Expired => {
                return Verdict::Dead {
                    reason: "waited longer than its time to live".to_owned(),
                };
            }
            // The lane is given back as it was: nothing is wrong with the message, and nothing was learned of WeChat Pay.
            Outcome::Unclaimed { .. } => return Verdict::RetryAt { at: now, counts: false },
            Outcome::Unbuildable { why } => return Verdict::Dead { reason: why.clone() },
            Outcome::Unknown { why } | Outcome::NotSent { why } => (scheduled(), true, why.clone()),
            Outcome::Refused {
                status,
                code,
                message,
                rate_limited,
                retry_after,
                ..
            } => {
                let asked = retry_after.map_or(SignedDuration::ZERO, |asked| {
                    SignedDuration::try_from(asked)
                        .unwrap_or(SignedDuration::from_hours(1))
                        .min(SignedDuration::from_hours(1))
                });
                let reason = format!("{status} {code}: {message}");
                match refusal(*status, code, message, *rate_limited, delivery.at, now) {
                    Refusal::Message => return Verdict::Dead { reason },
                    Refusal::Transient if sabotage::is(Sabotage::TransientIsDead) => return Verdict::Dead { reason },
                    Refusal::Transient => (scheduled().max(asked), true, reason),
                    Refusal::Throttled => (
                        lengthened(SignedDuration::from_secs(1), jitter).max(asked),
                        false,
                        reason,
                    ),
                    Refusal::Account(_) if sabotage::is(Sabotage::HoldBurnsTries) => {
                        return Verdict::Dead { reason };
                    }
                    Refusal::Account(scope) => return Verdict::Hold { scope, reason },
                }
            }
        };
        let at = now + wait;
        if at.duration_since(delivery.enqueued_at) > self.time_to_live {
            return Verdict::Dead {
                reason: format!("not delivered within its time to live; last: {reason}"),
            };
        }
        Verdict::RetryAt { at, counts }
    }
}

fn lengthened(wait: SignedDuration, jitter: f64) -> SignedDuration {
    if sabotage::is(Sabotage::EarlyJitter) {
        return wait - SignedDuration::from_secs_f64(wait.as_secs_f64() * 0.5 * jitter);
    }
    wait + SignedDuration::from_secs_f64(wait.as_secs_f64() * 0.2 * jitter.clamp(0.0, 1.0))
}

/// The classes of <https://pay.weixin.qq.com/doc/v3/merchant/4012535502>. One code has many meanings, so two rows need the text.
fn refusal(status: u16, code: &str, message: &str, rate_limited: bool, at: Timestamp, now: Timestamp) -> Refusal {
    if rate_limited {
        return Refusal::Throttled;
    }
    // The same misconfiguration comes as 403 and as 500; only the text tells it from a passing fault.
    if message.contains("brandid无对应的唯一商圈mainid") {
        return Refusal::Account(Scope::Circle);
    }
    // Not WeChat Pay's words: a proxy, a portal, a wrong address. Nobody judged the message.
    if code.is_empty() {
        return Refusal::Transient;
    }
    // In the future by a clock that is a little behind ours: it passes once that clock has caught up.
    if message.contains("time超出取值范围") && now.duration_since(at) < CLOCKS_APART {
        return Refusal::Transient;
    }
    match status {
        401 => Refusal::Account(Scope::Merchant),
        // The member is not the member of this appid: nothing is wrong with the account.
        403 if message.contains("OpenID与AppID不匹配") => Refusal::Message,
        403 => Refusal::Account(Scope::Circle),
        202 | 408 | 500.. => Refusal::Transient,
        _ => Refusal::Message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::member::Openid;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn delivery(tries: u32) -> Delivery {
        let openid = Openid::parse("openid-1").unwrap();
        Delivery {
            id: 1,
            member: MemberKey {
                circle: "mall".to_owned(),
                appid: "wx1".parse().unwrap(),
                openid,
            },
            plate: Plate::from_stored("粤B00000".to_owned()),
            state: Direction::In,
            at: at(0),
            enqueued_at: at(0),
            tries,
        }
    }

    fn refused(status: u16, code: &str, message: &str) -> Outcome {
        Outcome::Refused {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: String::new(),
            rate_limited: status == 429 || code == "FREQUENCY_LIMITED",
            retry_after: None,
        }
    }

    fn judge(tries: u32, outcome: &Outcome) -> Verdict {
        RetryPolicy::default().judge(&delivery(tries), outcome, at(10), 0.0)
    }

    #[test]
    fn the_outcome_decides() {
        let retry = |seconds: i64, counts| Verdict::RetryAt {
            at: at(10 + seconds),
            counts,
        };
        let hold = |scope, reason: &str| Verdict::Hold {
            scope,
            reason: reason.to_owned(),
        };
        let dead = |reason: &str| Verdict::Dead {
            reason: reason.to_owned(),
        };
        let lost = Outcome::Unknown {
            why: "no reply".to_owned(),
        };
        let table = [
            (
                judge(
                    0,
                    &Outcome::Accepted {
                        request_id: String::new(),
                    },
                ),
                Verdict::Delivered,
            ),
            (judge(0, &lost), retry(1, true)),
            (judge(3, &lost), retry(15, true)),
            (judge(50, &lost), retry(1800, true)),
            (judge(1, &refused(500, "SYSTEM_ERROR", "系统异常")), retry(2, true)),
            (judge(1, &refused(502, "", "")), retry(2, true)),
            (judge(3, &Outcome::Unclaimed { why: "" }), retry(0, false)),
            (judge(4, &refused(429, "RATELIMIT_EXCEEDED", "")), retry(1, false)),
            (judge(4, &refused(403, "FREQUENCY_LIMITED", "")), retry(1, false)),
            (
                judge(0, &refused(401, "SIGN_ERROR", "签名错误")),
                hold(Scope::Merchant, "401 SIGN_ERROR: 签名错误"),
            ),
            (
                judge(0, &refused(403, "NO_AUTH", "brandid与AppID不匹配")),
                hold(Scope::Circle, "403 NO_AUTH: brandid与AppID不匹配"),
            ),
            (
                judge(0, &refused(500, "SYSTEM_ERROR", "brandid无对应的唯一商圈mainid")),
                hold(Scope::Circle, "500 SYSTEM_ERROR: brandid无对应的唯一商圈mainid"),
            ),
            (
                judge(0, &refused(403, "NO_AUTH", "OpenID与AppID不匹配")),
                dead("403 NO_AUTH: OpenID与AppID不匹配"),
            ),
            (
                judge(0, &refused(400, "PARAM_ERROR", "time格式有误")),
                dead("400 PARAM_ERROR: time格式有误"),
            ),
        ];

        for (judged, expected) in table {
            assert_eq!(judged, expected);
        }
    }

    #[test]
    fn a_time_in_the_future_of_a_slow_clock_is_waited_for() {
        let ahead = refused(400, "PARAM_ERROR", "time超出取值范围");
        let long_ago = RetryPolicy::default().judge(&delivery(0), &ahead, at(400), 0.0);

        assert_eq!(
            judge(0, &ahead),
            Verdict::RetryAt {
                at: at(11),
                counts: true
            }
        );
        assert!(matches!(long_ago, Verdict::Dead { .. }));
    }

    #[test]
    fn what_is_not_wechat_pays_answer_judges_nothing() {
        for status in [302, 400, 403, 404, 407] {
            assert!(
                matches!(judge(0, &refused(status, "", "")), Verdict::RetryAt { .. }),
                "{status}"
            );
        }
    }

    #[test]
    fn jitter_only_lengthens() {
        let lost = Outcome::NotSent { why: String::new() };
        let Verdict::RetryAt { at: late, .. } = RetryPolicy::default().judge(&delivery(3), &lost, at(0), 1.0) else {
            panic!("retried")
        };

        assert_eq!(late, at(18));
    }

    #[test]
    fn retry_after_is_a_floor() {
        let mut asked = refused(429, "", "");
        if let Outcome::Refused { retry_after, .. } = &mut asked {
            *retry_after = Some(Duration::from_secs(7));
        }

        assert_eq!(
            judge(0, &asked),
            Verdict::RetryAt {
                at: at(17),
                counts: false
            }
        );
    }

    #[test]
    fn a_message_past_its_time_to_live_is_dead() {
        let lost = Outcome::NotSent {
            why: "refused".to_owned(),
        };
        let verdict = RetryPolicy::default().judge(&delivery(9), &lost, at(86_400), 0.0);

        assert!(matches!(verdict, Verdict::Dead { reason } if reason.contains("refused")));
    }
}

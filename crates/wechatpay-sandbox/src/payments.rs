//! Payments in the mall's shops (场内支付): what members paid, whether it was handed in for points, what came of it.
//!
//! A payment of an authorised member who is present by parking state is handed in by itself (自动积分). Without presence the
//! member can hand it in the same day. Points can be reported once, on the day of the notification, and only when the
//! mall acknowledged that (protocol 2.3). Read and written by `endpoints/points.rs` and by tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::callbacks::{Callbacks, Event};
use crate::china;
use crate::clock::Clock;
use crate::members::Members;
use crate::merchant::Merchant;
use crate::presence::Presences;
use crate::seal;

/// Handle to a sandbox's payments.
#[derive(Clone)]
pub struct Payments {
    book: Arc<Mutex<HashMap<String, Payment>>>,
    members: Members,
    presences: Arc<Presences>,
    clock: Clock,
    callbacks: Callbacks,
    mchid: String,
    appid: String,
}

/// What a member buys.
#[derive(Clone)]
pub struct Purchase {
    /// The member.
    pub openid: String,
    /// Fen paid (分).
    pub amount: u64,
    /// The shop's name (门店名称).
    pub shop_name: String,
    /// The shop's number (门店编号).
    pub shop_number: String,
}

impl Purchase {
    /// A purchase in the shop of the documentation's example.
    pub fn new(openid: &str, amount: u64) -> Self {
        Self {
            openid: openid.to_owned(),
            amount,
            shop_name: "微信支付".to_owned(),
            shop_number: "123456".to_owned(),
        }
    }
}

/// One payment, as WeChat Pay knows it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Payment {
    /// WeChat Pay's number (微信订单号).
    pub transaction_id: String,
    /// The member.
    pub openid: String,
    /// The mini-program.
    pub appid: String,
    /// Fen paid.
    pub amount: u64,
    /// The shop's name.
    pub shop_name: String,
    /// The shop's number.
    pub shop_number: String,
    /// When it was paid, by the calendar.
    pub paid_at: Timestamp,
    /// Whether it was handed in for points.
    pub submission: Submission,
    /// When the mall was first told of it, or would have been.
    pub notified_at: Option<Timestamp>,
    /// Whether the mall acknowledged that.
    pub acknowledged: bool,
    /// Id of the callback that told the mall; `None` when it was not told.
    pub notification: Option<String>,
    /// What the mall reported.
    pub points: Option<Points>,
    /// What was paid back.
    pub refunds: Vec<Refund>,
}

/// One refund.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refund {
    /// WeChat Pay's number (微信支付退款单号).
    pub refund_id: String,
    /// Fen paid back.
    pub amount: u64,
    /// Id of the callback that told the mall, or why it is not told.
    pub notification: Result<String, Untold>,
}

/// Why the mall is not told of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// Points were never reported.
    #[error("the payment's points were never reported with points/notify")]
    NoPoints,
    /// None were earned.
    #[error("the payment earned no points")]
    NoneEarned,
    /// WeChat Pay watches for 30 days.
    #[error("the payment is more than 30 days old")]
    TooLate,
    /// There is no URL.
    #[error("there is no URL for payments and refunds")]
    NoUrl,
}

/// Why nothing can be refunded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefundError {
    /// No such payment.
    #[error("there is no such payment")]
    Unknown,
    /// More than was paid, or nothing.
    #[error("a refund is at least 1 fen and at most what is left of the payment")]
    Amount,
}

/// Openid and shop are left out; read the fields to see them.
impl std::fmt::Debug for Payment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payment")
            .field("transaction_id", &self.transaction_id)
            .field("submission", &self.submission)
            .field("acknowledged", &self.acknowledged)
            .field("points", &self.points)
            .finish_non_exhaustive()
    }
}

/// Whether a payment was handed in for points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// By itself, because the member was present.
    Automatic,
    /// By the member.
    ByHand,
    /// Not yet; the member may until the end of the day.
    Open,
    /// The payer had not authorised the points service: such a payment never counts.
    NotEligible,
}

/// What the mall reported with points/notify.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Points {
    /// Whether points were earned.
    pub earn_points: bool,
    /// How many.
    pub increased_points: u64,
    /// The member's total, when it was given.
    pub total_points: Option<u64>,
    /// Why none were earned.
    pub remarks: Option<String>,
}

/// Why points cannot be reported.
pub(crate) enum Unready {
    NotSubmitted(&'static str),
    Reported,
    TooLate,
    OtherMember,
}

/// Why a payment cannot be handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// No such payment.
    #[error("there is no such payment")]
    Unknown,
    /// Handed in before, or never eligible.
    #[error("the payment was handed in before, or the payer had not authorised the points service")]
    NotOpen,
    /// Only payments of today can be handed in.
    #[error("the payment is not of today")]
    TooLate,
}

impl Payments {
    pub(crate) fn new(
        merchant: &Merchant,
        members: Members,
        presences: Arc<Presences>,
        clock: Clock,
        callbacks: Callbacks,
    ) -> Self {
        Self {
            book: Arc::default(),
            members,
            presences,
            clock,
            callbacks,
            mchid: merchant.mchid.clone(),
            appid: merchant.appid.clone(),
        }
    }

    /// The member pays, now by the calendar. If that is handed in by itself, the mall is told. Past half a million payments an arbitrary old one is forgotten.
    pub fn pay(&self, purchase: Purchase) -> Payment {
        let now = self.clock.now();
        let openid = &purchase.openid;
        let submission = if !self.members.authorization(openid).is_authorized() {
            Submission::NotEligible
        } else if self.presences.is_present(openid, now) {
            Submission::Automatic
        } else {
            Submission::Open
        };
        let mut payment = Payment {
            transaction_id: format!("4200{}", seal::random_digits(24)),
            appid: self.members.own_appid(openid).unwrap_or_else(|| self.appid.clone()),
            openid: purchase.openid,
            amount: purchase.amount,
            shop_name: purchase.shop_name,
            shop_number: purchase.shop_number,
            paid_at: now,
            submission,
            notified_at: (submission == Submission::Automatic).then_some(now),
            acknowledged: false,
            notification: None,
            points: None,
            refunds: Vec::new(),
        };
        let mut book = self.lock();
        if book.len() >= MAX_PAYMENTS
            && let Some(old) = book.keys().next().cloned()
        {
            book.remove(&old);
        }
        // Told under the lock: an acknowledgement must find the payment.
        if submission == Submission::Automatic {
            payment.notification = self.tell(&payment);
        }
        book.insert(payment.transaction_id.clone(), payment.clone());
        payment
    }

    /// The member hands a payment of today in by hand (手动积分), and the mall is told.
    ///
    /// # Errors
    /// When it is not open to that.
    pub fn hand_in(&self, transaction_id: &str) -> Result<Payment, SubmitError> {
        let now = self.clock.now();
        let mut book = self.lock();
        let payment = book.get_mut(transaction_id).ok_or(SubmitError::Unknown)?;
        if payment.submission != Submission::Open {
            return Err(SubmitError::NotOpen);
        }
        if china::day(payment.paid_at) != china::day(now) {
            return Err(SubmitError::TooLate);
        }
        payment.submission = Submission::ByHand;
        payment.notified_at = Some(now);
        payment.notification = self.tell(payment);
        Ok(payment.clone())
    }

    /// A shop pays so much back. The mall is told when points were earned, for 30 days.
    ///
    /// # Errors
    /// When there is no such payment, or less left of it.
    pub fn refund(&self, transaction_id: &str, amount: u64) -> Result<Refund, RefundError> {
        let now = self.clock.now();
        let mut book = self.lock();
        let payment = book.get_mut(transaction_id).ok_or(RefundError::Unknown)?;
        let before: u64 = payment.refunds.iter().map(|refund| refund.amount).sum();
        if amount == 0 || amount > payment.amount - before {
            return Err(RefundError::Amount);
        }
        let refund_id = format!("5030{}", seal::random_digits(24));
        let notification = self.tell_refund(payment, &refund_id, amount, now);
        let refund = Refund {
            refund_id,
            amount,
            notification,
        };
        payment.refunds.push(refund.clone());
        Ok(refund)
    }

    /// The mall acknowledged the notification of this payment. True when there is such a notification.
    pub fn acknowledge(&self, transaction_id: &str) -> bool {
        match self.lock().get_mut(transaction_id) {
            Some(payment) if payment.notified_at.is_some() => {
                payment.acknowledged = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// One payment.
    pub fn find(&self, transaction_id: &str) -> Option<Payment> {
        self.lock().get(transaction_id).cloned()
    }

    /// All payments, oldest first.
    pub fn all(&self) -> Vec<Payment> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| (a.paid_at, &a.transaction_id).cmp(&(b.paid_at, &b.transaction_id)));
        all
    }

    /// Forgets all payments.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Whether the member can still hand in a payment of today.
    pub(crate) fn has_pending(&self, openid: &str, now: Timestamp) -> bool {
        let today = china::day(now);
        self.lock().values().any(|payment| {
            payment.openid == openid && payment.submission == Submission::Open && china::day(payment.paid_at) == today
        })
    }

    /// Takes the mall's report of points.
    pub(crate) fn report(
        &self,
        transaction_id: &str,
        openid: &str,
        points: Points,
        now: Timestamp,
    ) -> Result<(), Unready> {
        let mut book = self.lock();
        let payment = book
            .get_mut(transaction_id)
            .ok_or(Unready::NotSubmitted("WeChat Pay knows no such payment"))?;
        if payment.openid != openid {
            return Err(Unready::OtherMember);
        }
        let notified_at = payment
            .notified_at
            .ok_or(Unready::NotSubmitted("the payment was never handed in for points"))?;
        if payment.points.is_some() {
            return Err(Unready::Reported);
        }
        if china::day(notified_at) != china::day(now) {
            return Err(Unready::TooLate);
        }
        if !payment.acknowledged {
            let why = "the payment's callback was not acknowledged: answer it with 200 and the SUCCESS body within 2 s";
            return Err(Unready::NotSubmitted(why));
        }
        payment.points = Some(points);
        Ok(())
    }

    fn tell(&self, payment: &Payment) -> Option<String> {
        let url = self.callbacks.payment_url()?;
        let mut resource = self.common(payment);
        resource["time_end"] = china::text(payment.paid_at).into();
        resource["amount"] = payment.amount.into();
        if payment.submission == Submission::ByHand {
            // Its values are unknown; that it is there is all that counts.
            resource["commit_tag"] = "MANUAL".into();
        }
        Some(self.callbacks.post(Event::Payment, url, resource))
    }

    fn tell_refund(&self, payment: &Payment, refund_id: &str, amount: u64, now: Timestamp) -> Result<String, Untold> {
        let points = payment.points.as_ref().ok_or(Untold::NoPoints)?;
        if !points.earn_points {
            return Err(Untold::NoneEarned);
        }
        if now.duration_since(payment.paid_at) > WATCHED {
            return Err(Untold::TooLate);
        }
        let url = self.callbacks.payment_url().ok_or(Untold::NoUrl)?;
        let mut resource = self.common(payment);
        resource["refund_time"] = china::text(now).into();
        resource["pay_amount"] = payment.amount.into();
        resource["refund_amount"] = amount.into();
        resource["refund_id"] = refund_id.into();
        Ok(self.callbacks.post(Event::Refund, url, resource))
    }

    fn common(&self, payment: &Payment) -> Value {
        json!({
            "mchid": self.mchid,
            "merchant_name": "腾讯广场",
            "shop_name": payment.shop_name,
            "shop_number": payment.shop_number,
            "appid": payment.appid,
            "openid": payment.openid,
            "transaction_id": payment.transaction_id,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Payment>> {
        self.book.lock().expect("no holder of the payments panics")
    }
}

impl std::fmt::Debug for Payments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payments").field("len", &self.lock().len()).finish()
    }
}

const MAX_PAYMENTS: usize = 500_000;
/// Refunds are told for 30 days.
const WATCHED: SignedDuration = SignedDuration::from_hours(30 * 24);

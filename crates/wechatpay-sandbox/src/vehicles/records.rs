//! What is on record for pay-score parking: services, cars inside, charges. Pure.

use std::time::Duration;

use http::Uri;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::china;

/// How the merchant stands to the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VehicleMerchant {
    /// It may use it.
    Admitted,
    /// It is not admitted: 403 `NO_AUTH` everywhere.
    NotAdmitted,
    /// It may let cars in, but not charge: 403 `NO_AUTH` for charges.
    MayNotCharge,
    /// Its kind is not supported: 400 `INVALID_REQUEST` for charges.
    NotSupported,
}

/// How a plate's service stands (车牌服务). `Default` is a plate nobody opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceState {
    /// Open.
    Normal,
    /// Paused by its owner.
    Pause,
    /// Not opened.
    #[default]
    OutService,
    /// Open, but its owner owes too much.
    Overdue,
    /// Open, but the evaluation at the entry fails.
    EvaluationFailed,
    /// Open, but its owner's account is frozen or at risk: charges are refused.
    Abnormal,
}

impl ServiceState {
    /// `service_state`. That a plate with debts counts as open is the sandbox's reading.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Normal | Self::Overdue | Self::EvaluationFailed | Self::Abnormal => "NORMAL",
            Self::Pause => "PAUSE",
            Self::OutService => "OUT_SERVICE",
        }
    }

    pub(super) fn block_reason(self) -> Option<&'static str> {
        match self {
            Self::Normal | Self::Abnormal => None,
            Self::Pause => Some("PAUSE"),
            Self::OutService => Some("OUT_SERVICE"),
            Self::Overdue => Some("OVERDUE"),
            Self::EvaluationFailed => Some("EVALUATION_FAILED"),
        }
    }
}

/// One plate's service.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) openid: String,
    pub(crate) state: ServiceState,
    pub(crate) opened_at: Timestamp,
}

/// One car inside.
#[derive(Clone)]
#[non_exhaustive]
pub struct Entry {
    /// WeChat Pay's id, the later `parking_id`.
    pub id: String,
    /// What the merchant sent.
    pub request: Map<String, Value>,
    /// Why the car may not leave on credit; `None`: it may.
    pub block_reason: Option<&'static str>,
    pub(super) notify_url: Uri,
}

/// What becomes of an accepted charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeFate {
    /// Paid.
    Success,
    /// WeChat Pay advances the money (垫资); the member owes it.
    Advanced,
    /// Not paid: the same out_trade_no may be used again.
    Fail,
}

/// One charge.
#[derive(Clone)]
#[non_exhaustive]
pub struct Charge {
    /// What the merchant sent.
    pub request: Map<String, Value>,
    /// WeChat Pay's number.
    pub transaction_id: String,
    /// The member charged.
    pub openid: String,
    /// When it was accepted, by the calendar.
    pub accepted_at: Timestamp,
    /// What becomes of it [`SETTLING`] later.
    pub fate: ChargeFate,
    /// Whether an advance was paid back.
    pub repaid: bool,
    /// Whether it was paid back by the shop.
    pub refunded: bool,
    pub(super) notify_url: Uri,
}

/// Plates and openids are left out; read the fields to see them.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("block_reason", &self.block_reason)
            .finish_non_exhaustive()
    }
}

/// Plates and openids are left out; read the fields to see them.
impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Charge")
            .field("transaction_id", &self.transaction_id)
            .field("fate", &self.fate)
            .finish_non_exhaustive()
    }
}

/// Why a charge is not accepted.
pub(crate) enum Uncharged {
    OutTradeNoUsed,
    MayNotCharge,
    NotSupported,
    UnknownParking,
    OtherScene,
    Abnormal,
    TooMuch,
    Overdue,
    TooMany,
}

impl Charge {
    /// `trade_state` at this time.
    pub fn state_at(&self, now: Timestamp) -> &'static str {
        if self.refunded {
            "REFUND"
        } else if now < self.settles_at() {
            "ACCEPTED"
        } else if self.fate == ChargeFate::Fail {
            "PAY_FAIL"
        } else {
            "SUCCESS"
        }
    }

    pub(super) fn settles_at(&self) -> Timestamp {
        let after = SignedDuration::try_from(SETTLING).unwrap_or(SignedDuration::ZERO);
        self.accepted_at.saturating_add(after).unwrap_or(Timestamp::MAX)
    }

    /// The answer of accepting and of querying; also what the callback tells.
    pub(crate) fn answer(&self, sp_mchid: &str, now: Timestamp) -> Value {
        let state = self.state_at(now);
        let mut answer = json!({
            "sp_mchid": sp_mchid,
            "create_time": china::text(self.accepted_at),
            "transaction_id": self.transaction_id,
            "trade_state": state,
            "payer": { "openid": self.openid },
        });
        for name in [
            "appid",
            "sub_appid",
            "sub_mchid",
            "description",
            "out_trade_no",
            "attach",
            "trade_scene",
        ] {
            if let Some(value) = self.request.get(name) {
                answer[name] = value.clone();
            }
        }
        if let Some(info) = self.request.get("parking_info") {
            answer["parking_info"] = info.clone();
        }
        let total = &self.request["amount"]["total"];
        answer["amount"] = json!({ "total": total, "currency": "CNY" });
        answer["trade_state_description"] = match state {
            "SUCCESS" => "扣款成功",
            "PAY_FAIL" => "支付失败，请重新下单支付",
            "REFUND" => "转入退款",
            _ => "扣费受理成功",
        }
        .into();
        if matches!(state, "SUCCESS" | "REFUND") {
            answer["success_time"] = china::text(self.settles_at()).into();
            answer["amount"]["payer_total"] = total.clone();
            answer["amount"]["discount_total"] = 0.into();
            answer["bank_type"] = "OTHERS".into();
            if self.fate == ChargeFate::Advanced {
                answer["bank_type"] = "BPA".into();
                answer["user_repaid"] = if self.repaid { "Y" } else { "N" }.into();
            }
        }
        answer
    }
}

/// How long an accepted charge takes, by the calendar. Invented.
pub const SETTLING: Duration = Duration::from_secs(5);

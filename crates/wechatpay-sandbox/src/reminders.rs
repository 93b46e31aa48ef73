//! Parking reminders (停车便捷缴费, protocol 7.3): car parks under review and in service, and the stays in them.
//!
//! Checked requests come from `endpoints/reminders.rs` and `endpoints/reminder_lots.rs`; tests and the control port play
//! the reviewer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::seal;

/// What withdraw, exit, payment and ext-payment answer on success. The sources disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReminderAnswer {
    /// 200 with an empty object, as the official pages have it.
    #[default]
    EmptyObject,
    /// 204, as the community description has it.
    NoContent,
}

/// Handle to a sandbox's parking reminders.
#[derive(Clone)]
pub struct Reminders {
    desk: Arc<Mutex<Desk>>,
    clock: Clock,
}

#[derive(Default)]
struct Desk {
    /// Oldest first.
    applications: Vec<Application>,
    lots: Vec<ParkingLot>,
    /// By `out_serial_number`.
    stays: HashMap<String, Stay>,
    ext_payments: Vec<Map<String, Value>>,
}

/// How a review stands (审核状态).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Waiting for the reviewer.
    Pending,
    /// Taken back by the merchant.
    Withdrawn,
    /// Accepted.
    Approved,
    /// Refused, because of this field, with this comment.
    Rejected {
        /// Name of the field.
        field: String,
        /// What is wrong with it.
        comment: String,
    },
}

impl Audit {
    fn word(&self) -> &'static str {
        match self {
            Self::Pending => "AUDIT_STATUS_PENDING",
            Self::Withdrawn => "AUDIT_STATUS_WITHDRAWN",
            Self::Approved => "AUDIT_STATUS_APPROVED",
            Self::Rejected { .. } => "AUDIT_STATUS_REJECTED",
        }
    }
}

/// One application for a car park (停车场进件).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Application {
    /// WeChat Pay's number for it.
    pub parking_lot_audit_no: String,
    /// The merchant's id of the car park.
    pub out_parking_lot_id: String,
    /// When it came, by the calendar.
    pub submitted_at: Timestamp,
    /// How the review stands.
    pub audit: Audit,
    /// `parking_lot` as it was sent.
    pub parking_lot: Map<String, Value>,
}

impl Application {
    pub(crate) fn answer(&self) -> Value {
        let mut answer = json!({
            "parking_lot_audit_no": self.parking_lot_audit_no,
            "audit_status": self.audit.word(),
            "submit_time": self.submitted_at.as_second(),
            "parking_lot": self.parking_lot,
        });
        if let Audit::Rejected { field, comment } = &self.audit {
            answer["audit_comment"] = json!({
                "fields": [{ "field": field, "comment": comment }],
                "recommendation": "请修改后重新提交",
            });
        }
        answer
    }
}

/// A car park in service.
#[derive(Clone, Debug)]
pub(crate) struct ParkingLot {
    pub(crate) wx_parking_lot_id: String,
    pub(crate) out_parking_lot_id: String,
    pub(crate) parking_lot: Map<String, Value>,
    /// Why it is offline; `None`: it is enabled.
    pub(crate) offline: Option<String>,
}

/// One stay.
#[derive(Clone)]
#[non_exhaustive]
pub struct Stay {
    /// WeChat Pay's number.
    pub serial_number: String,
    /// The entry as it was sent.
    pub entry: Map<String, Value>,
    /// The exit as it was sent.
    pub exit: Option<Map<String, Value>>,
    /// The payments as they were sent, those within an exit included.
    pub payments: Vec<Map<String, Value>>,
}

/// Plates and openids are left out; read the fields to see them.
impl std::fmt::Debug for Stay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stay")
            .field("serial_number", &self.serial_number)
            .field("left", &self.exit.is_some())
            .field("payments", &self.payments.len())
            .finish_non_exhaustive()
    }
}

impl Stay {
    /// Fen paid for it.
    pub fn paid_amount(&self) -> u64 {
        let amounts = self.payments.iter().filter_map(|payment| payment.get("paid_amount"));
        amounts.filter_map(Value::as_u64).sum()
    }
}

/// Why a report about a stay is refused.
pub(crate) enum Unfit {
    UnknownLot,
    OtherEntry,
    UnknownStay,
    OtherLot,
    OtherPlate,
    Full,
}

impl Reminders {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            desk: Arc::default(),
            clock,
        }
    }

    /// The reviewer accepts the newest waiting application for this car park. Returns WeChat Pay's id of it
    /// (`wx_parking_lot_id`, the later `parking_id`); `None` when nothing waits.
    pub fn approve(&self, out_parking_lot_id: &str) -> Option<String> {
        let mut desk = self.lock();
        let application = desk.waiting(out_parking_lot_id)?;
        application.audit = Audit::Approved;
        let parking_lot = application.parking_lot.clone();
        if let Some(known) = desk
            .lots
            .iter_mut()
            .find(|lot| lot.out_parking_lot_id == out_parking_lot_id)
        {
            known.parking_lot = parking_lot;
            return Some(known.wx_parking_lot_id.clone());
        }
        let wx_parking_lot_id = seal::random_digits(32);
        desk.lots.push(ParkingLot {
            wx_parking_lot_id: wx_parking_lot_id.clone(),
            out_parking_lot_id: out_parking_lot_id.to_owned(),
            parking_lot,
            offline: None,
        });
        Some(wx_parking_lot_id)
    }

    /// The reviewer refuses the newest waiting application for this car park. False when nothing waits.
    pub fn reject(&self, out_parking_lot_id: &str, field: &str, comment: &str) -> bool {
        let mut desk = self.lock();
        let Some(application) = desk.waiting(out_parking_lot_id) else {
            return false;
        };
        application.audit = Audit::Rejected {
            field: field.to_owned(),
            comment: comment.to_owned(),
        };
        true
    }

    /// Takes a car park offline for this reason, or back into service. False when it is not known.
    pub fn set_offline(&self, out_parking_lot_id: &str, reason: Option<&str>) -> bool {
        let mut desk = self.lock();
        let lot = desk
            .lots
            .iter_mut()
            .find(|lot| lot.out_parking_lot_id == out_parking_lot_id);
        lot.map(|lot| lot.offline = reason.map(str::to_owned)).is_some()
    }

    /// The applications, oldest first.
    pub fn applications(&self) -> Vec<Application> {
        self.lock().applications.clone()
    }

    /// One stay, by the merchant's number.
    pub fn stay(&self, out_serial_number: &str) -> Option<Stay> {
        self.lock().stays.get(out_serial_number).cloned()
    }

    /// Monthly cards and the like, as they were sent.
    pub fn ext_payments(&self) -> Vec<Map<String, Value>> {
        self.lock().ext_payments.clone()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.lock() = Desk::default();
    }

    /// Takes an application. `None` when one for this car park is waiting already, or there are too many.
    pub(crate) fn apply(&self, out_parking_lot_id: &str, parking_lot: Map<String, Value>) -> Option<String> {
        let submitted_at = self.clock.now();
        let mut desk = self.lock();
        if desk.waiting(out_parking_lot_id).is_some() || desk.applications.len() >= MAX_LOTS {
            return None;
        }
        let parking_lot_audit_no = format!("PLA{}", seal::random_digits(16));
        desk.applications.push(Application {
            parking_lot_audit_no: parking_lot_audit_no.clone(),
            out_parking_lot_id: out_parking_lot_id.to_owned(),
            submitted_at,
            audit: Audit::Pending,
            parking_lot,
        });
        Some(parking_lot_audit_no)
    }

    /// The merchant takes an application back. `Err(true)`: it waits no longer; `Err(false)`: there is none.
    pub(crate) fn withdraw(&self, audit_no: &str, out_parking_lot_id: &str) -> Result<(), bool> {
        let mut desk = self.lock();
        let application = desk.applications.iter_mut().find(|application| {
            application.parking_lot_audit_no == audit_no && application.out_parking_lot_id == out_parking_lot_id
        });
        let application = application.ok_or(false)?;
        if application.audit != Audit::Pending {
            return Err(true);
        }
        application.audit = Audit::Withdrawn;
        Ok(())
    }

    pub(crate) fn lot(&self, fits: impl Fn(&ParkingLot) -> bool) -> Option<ParkingLot> {
        self.lock().lots.iter().find(|lot| fits(lot)).cloned()
    }

    /// A car drives in. The same number with the same data again gives the same answer.
    pub(crate) fn enter(&self, out_serial_number: &str, entry: Map<String, Value>) -> Result<String, Unfit> {
        let mut desk = self.lock();
        if !desk.lots.iter().any(|lot| entry["parking_id"] == lot.wx_parking_lot_id) {
            return Err(Unfit::UnknownLot);
        }
        if let Some(known) = desk.stays.get(out_serial_number) {
            return if known.entry == entry {
                Ok(known.serial_number.clone())
            } else {
                Err(Unfit::OtherEntry)
            };
        }
        if desk.stays.len() >= MAX_STAYS {
            return Err(Unfit::Full);
        }
        let serial_number = format!("WX{}", seal::random_digits(18));
        let stay = Stay {
            serial_number: serial_number.clone(),
            entry,
            exit: None,
            payments: Vec::new(),
        };
        desk.stays.insert(out_serial_number.to_owned(), stay);
        Ok(serial_number)
    }

    /// A car leaves, perhaps with its payment.
    pub(crate) fn leave(&self, out_serial_number: &str, exit: Map<String, Value>, paid: bool) -> Result<(), Unfit> {
        let mut desk = self.lock();
        let stay = desk.stay(out_serial_number, &exit)?;
        if paid {
            stay.pay(&exit)?;
        }
        stay.exit = Some(exit);
        Ok(())
    }

    /// A payment by itself.
    pub(crate) fn pay(&self, out_serial_number: &str, payment: Map<String, Value>) -> Result<(), Unfit> {
        self.lock().stay(out_serial_number, &payment)?.pay(&payment)
    }

    pub(crate) fn pay_ext(&self, payment: Map<String, Value>) -> Result<(), Unfit> {
        let mut desk = self.lock();
        if desk.ext_payments.len() >= MAX_STAYS {
            return Err(Unfit::Full);
        }
        desk.ext_payments.push(payment);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("no holder of the reminders panics")
    }
}

impl Desk {
    fn waiting(&mut self, out_parking_lot_id: &str) -> Option<&mut Application> {
        self.applications.iter_mut().rev().find(|application| {
            application.audit == Audit::Pending && application.out_parking_lot_id == out_parking_lot_id
        })
    }

    /// The stay of a report, which must be in the car park and of the car of its entry.
    fn stay(&mut self, out_serial_number: &str, report: &Map<String, Value>) -> Result<&mut Stay, Unfit> {
        let stay = self.stays.get_mut(out_serial_number).ok_or(Unfit::UnknownStay)?;
        if stay.entry.get("parking_id") != report.get("parking_id") {
            return Err(Unfit::OtherLot);
        }
        if stay.entry.get("plate_number") != report.get("plate_number") {
            return Err(Unfit::OtherPlate);
        }
        Ok(stay)
    }
}

impl Stay {
    /// The guide forbids reporting a payment twice, the page allows it: the same one counts once.
    fn pay(&mut self, payment: &Map<String, Value>) -> Result<(), Unfit> {
        let same = |known: &Map<String, Value>| {
            ["out_trade_no", "wx_trade_no"]
                .iter()
                .any(|name| known.contains_key(*name) && known.get(*name) == payment.get(*name))
        };
        if self.payments.iter().any(same) {
            return Ok(());
        }
        if self.payments.len() >= MAX_PAYMENTS {
            return Err(Unfit::Full);
        }
        self.payments.push(payment.clone());
        Ok(())
    }
}

impl std::fmt::Debug for Reminders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let desk = self.lock();
        f.debug_struct("Reminders")
            .field("lots", &desk.lots.len())
            .field("stays", &desk.stays.len())
            .finish_non_exhaustive()
    }
}

const MAX_LOTS: usize = 10_000;
const MAX_STAYS: usize = 100_000;
/// Of one stay.
const MAX_PAYMENTS: usize = 100;

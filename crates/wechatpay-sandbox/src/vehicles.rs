//! Pay-score parking (微信支付分停车, protocol 7.1): which plates are open to it, which cars are inside, what was charged.
//!
//! Checked requests come from `endpoints/vehicle.rs`; tests and the control port decide what becomes of them.

mod records;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::Uri;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::callbacks::{Callbacks, Event};
use crate::china;
use crate::clock::Clock;
use crate::seal;

pub use records::{Charge, ChargeFate, Entry, SETTLING, ServiceState, VehicleMerchant};
pub(crate) use records::{Service, Uncharged};

/// Handle to a sandbox's pay-score parking.
#[derive(Clone)]
pub struct Vehicles {
    lot: Arc<Mutex<Lot>>,
    clock: Clock,
    callbacks: Callbacks,
    /// The caller, which answers call sp_mchid in merchant mode too.
    mchid: String,
}

struct Lot {
    merchant: VehicleMerchant,
    charge_limit: u64,
    charges_a_day: usize,
    next_fate: Option<ChargeFate>,
    /// By plate and colour.
    services: HashMap<(String, String), Service>,
    /// By `out_parking_no`.
    entries: HashMap<String, Entry>,
    /// By `out_trade_no`.
    charges: HashMap<String, Charge>,
    other_orders: Vec<String>,
}

impl Default for Lot {
    fn default() -> Self {
        Self {
            merchant: VehicleMerchant::Admitted,
            charge_limit: 50_000,
            charges_a_day: 20,
            next_fate: None,
            services: HashMap::new(),
            entries: HashMap::new(),
            charges: HashMap::new(),
            other_orders: Vec::new(),
        }
    }
}

impl Vehicles {
    pub(crate) fn new(clock: Clock, callbacks: Callbacks, mchid: String) -> Self {
        Self {
            lot: Arc::default(),
            clock,
            callbacks,
            mchid,
        }
    }

    /// How the merchant stands to the product. Default admitted.
    pub fn set_merchant(&self, merchant: VehicleMerchant) {
        self.lock().merchant = merchant;
    }

    /// The most one charge may be, in fen, and how many a member may have in a day. Both are invented: 500 yuan, 20.
    pub fn set_limits(&self, charge: u64, charges_a_day: usize) {
        let mut lot = self.lock();
        (lot.charge_limit, lot.charges_a_day) = (charge, charges_a_day);
    }

    /// The member's service for this plate and colour stands like this from now on.
    pub fn set_service(&self, plate_number: &str, plate_color: &str, openid: &str, state: ServiceState) {
        let opened_at = self.clock.now();
        let mut lot = self.lock();
        let key = (plate_number.to_owned(), plate_color.to_owned());
        if lot.services.len() < MAX_ENTRIES || lot.services.contains_key(&key) {
            let service = Service {
                openid: openid.to_owned(),
                state,
                opened_at,
            };
            lot.services.insert(key, service);
        }
    }

    /// What becomes of the next charge that is accepted. Default [`ChargeFate::Success`].
    pub fn next_charge(&self, fate: ChargeFate) {
        self.lock().next_fate = Some(fate);
    }

    /// This out_trade_no belongs to an order of another product: a query for it is refused.
    pub fn other_order(&self, out_trade_no: &str) {
        let mut lot = self.lock();
        if lot.other_orders.len() < MAX_ENTRIES {
            lot.other_orders.push(out_trade_no.to_owned());
        }
    }

    /// The state of a car inside changes, and its `notify_url` is told: `None` lets it leave on credit, else `PAUSE`,
    /// `OVERDUE` or `REMOVE`. Returns the callback's id; `None` for an unknown entry.
    pub fn set_entry_state(&self, out_parking_no: &str, blocked: Option<&'static str>) -> Option<String> {
        let now = self.clock.now();
        let mut lot = self.lock();
        let entry = lot.entries.get_mut(out_parking_no)?;
        entry.block_reason = blocked;
        let mut resource = json!({
            "sp_mchid": self.mchid,
            "parking_id": entry.id,
            "parking_state": if blocked.is_some() { "BLOCKED" } else { "NORMAL" },
            "state_update_time": china::text_ms(now),
        });
        for name in [
            "sub_mchid",
            "out_parking_no",
            "plate_number",
            "plate_color",
            "start_time",
            "parking_name",
            "free_duration",
        ] {
            if let Some(value) = entry.request.get(name) {
                resource[name] = value.clone();
            }
        }
        if let Some(reason) = blocked {
            resource["blocked_state_description"] = reason.into();
        }
        Some(
            self.callbacks
                .post(Event::VehicleEntrance, entry.notify_url.clone(), resource),
        )
    }

    /// The member pays an advance back, and the charge's `notify_url` is told. `None` unless there is such a charge.
    pub fn repay(&self, out_trade_no: &str) -> Option<String> {
        let now = self.clock.now();
        let mut lot = self.lock();
        let charge = lot.charges.get_mut(out_trade_no)?;
        if charge.fate != ChargeFate::Advanced || charge.state_at(now) != "SUCCESS" {
            return None;
        }
        charge.repaid = true;
        let resource = charge.answer(&self.mchid, now);
        Some(
            self.callbacks
                .post(Event::VehiclePayBack, charge.notify_url.clone(), resource),
        )
    }

    /// The shop pays a charge back: it is `REFUND` from now on. False unless there is such a charge and it was paid.
    pub fn refund(&self, out_trade_no: &str) -> bool {
        let now = self.clock.now();
        match self.lock().charges.get_mut(out_trade_no) {
            Some(charge) if charge.state_at(now) == "SUCCESS" => {
                charge.refunded = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The cars inside, in no order.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.values().cloned().collect()
    }

    /// The charges, in no order.
    pub fn charges(&self) -> Vec<Charge> {
        self.lock().charges.values().cloned().collect()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.lock() = Lot::default();
    }

    pub(crate) fn merchant(&self) -> VehicleMerchant {
        self.lock().merchant
    }

    pub(crate) fn service(&self, plate_number: &str, plate_color: &str) -> Option<Service> {
        let key = (plate_number.to_owned(), plate_color.to_owned());
        self.lock().services.get(&key).cloned()
    }

    /// A car drives in. `Err` when the number was used for other data.
    pub(crate) fn enter(&self, request: Map<String, Value>, notify_url: Uri) -> Result<Entry, ()> {
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let out_parking_no = text("out_parking_no");
        let key = (text("plate_number"), text("plate_color"));
        let mut lot = self.lock();
        if let Some(known) = lot.entries.get(&out_parking_no) {
            return if known.request == request {
                Ok(known.clone())
            } else {
                Err(())
            };
        }
        let state = lot.services.get(&key).map(|service| service.state).unwrap_or_default();
        let entry = Entry {
            id: seal::random_text(20),
            request,
            block_reason: state.block_reason(),
            notify_url,
        };
        forget_one(&mut lot.entries);
        lot.entries.insert(out_parking_no, entry.clone());
        Ok(entry)
    }

    /// Accepts a charge; what becomes of it is told later.
    pub(crate) fn charge(&self, request: Map<String, Value>, notify_url: Uri) -> Result<Charge, Uncharged> {
        let now = self.clock.now();
        let mut lot = self.lock();
        let out_trade_no = request["out_trade_no"].as_str().unwrap_or_default().to_owned();
        if let Some(known) = lot.charges.get(&out_trade_no)
            && known.state_at(now) != "PAY_FAIL"
        {
            return if known.request == request {
                Ok(known.clone())
            } else {
                Err(Uncharged::OutTradeNoUsed)
            };
        }
        let openid = lot.chargeable(&request, now)?;
        let charge = Charge {
            transaction_id: format!("1009{}", seal::random_digits(24)),
            openid,
            accepted_at: now,
            fate: lot.next_fate.take().unwrap_or(ChargeFate::Success),
            repaid: false,
            refunded: false,
            notify_url: notify_url.clone(),
            request,
        };
        let event = match charge.fate {
            ChargeFate::Success | ChargeFate::Advanced => Event::VehicleSuccess,
            ChargeFate::Fail => Event::VehicleFail,
        };
        let settles_at = charge.settles_at();
        let resource = charge.answer(&self.mchid, settles_at);
        forget_one(&mut lot.charges);
        lot.charges.insert(out_trade_no, charge.clone());
        self.callbacks.post_at(settles_at, event, notify_url, resource);
        Ok(charge)
    }

    pub(crate) fn find_charge(&self, out_trade_no: &str) -> Option<Charge> {
        self.lock().charges.get(out_trade_no).cloned()
    }

    pub(crate) fn is_other_order(&self, out_trade_no: &str) -> bool {
        self.lock().other_orders.iter().any(|other| other == out_trade_no)
    }

    fn lock(&self) -> MutexGuard<'_, Lot> {
        self.lot.lock().expect("no holder of the vehicles panics")
    }
}

impl Lot {
    /// Who pays, or why nobody can be charged.
    fn chargeable(&self, request: &Map<String, Value>, now: Timestamp) -> Result<String, Uncharged> {
        match self.merchant {
            VehicleMerchant::Admitted => {}
            VehicleMerchant::NotAdmitted | VehicleMerchant::MayNotCharge => return Err(Uncharged::MayNotCharge),
            VehicleMerchant::NotSupported => return Err(Uncharged::NotSupported),
        }
        let info = &request["parking_info"];
        let entry = self.entries.values().find(|entry| info["parking_id"] == entry.id);
        let entry = entry.ok_or(Uncharged::UnknownParking)?;
        let same = ["plate_number", "plate_color", "start_time"]
            .iter()
            .all(|name| entry.request.get(*name) == info.get(*name));
        if !same {
            return Err(Uncharged::OtherScene);
        }
        let text = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
        let service = self.services.get(&(text("plate_number"), text("plate_color")));
        let service = service.ok_or(Uncharged::Abnormal)?;
        match service.state {
            ServiceState::Normal | ServiceState::EvaluationFailed => {}
            ServiceState::Overdue => return Err(Uncharged::Overdue),
            ServiceState::Pause | ServiceState::OutService | ServiceState::Abnormal => return Err(Uncharged::Abnormal),
        }
        if request["amount"]["total"].as_u64().unwrap_or(u64::MAX) > self.charge_limit {
            return Err(Uncharged::TooMuch);
        }
        let today = self
            .charges
            .values()
            .filter(|charge| charge.openid == service.openid && china::day(charge.accepted_at) == china::day(now));
        if today.count() >= self.charges_a_day {
            return Err(Uncharged::TooMany);
        }
        Ok(service.openid.clone())
    }
}

/// Keeps a table bounded: past the limit an arbitrary old entry goes.
fn forget_one<T>(table: &mut HashMap<String, T>) {
    if table.len() >= MAX_ENTRIES
        && let Some(old) = table.keys().next().cloned()
    {
        table.remove(&old);
    }
}

impl std::fmt::Debug for Vehicles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lot = self.lock();
        f.debug_struct("Vehicles")
            .field("entries", &lot.entries.len())
            .field("charges", &lot.charges.len())
            .finish()
    }
}

const MAX_ENTRIES: usize = 100_000;

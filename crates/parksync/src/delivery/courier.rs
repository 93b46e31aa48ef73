//! Makes the call. The only caller of the SDK's client in this crate.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use wechatpay::{Chain, Client, Domain, Error, ParkingState, ParkingStateKind};

use crate::domain::delivery::{Delivery, Outcome};
use crate::domain::gate::Direction;
use crate::sabotage;

/// Brings one message to WeChat Pay and says what it saw.
#[async_trait]
pub trait Courier: Send + Sync {
    /// One try. It never waits longer than the client's own deadline.
    async fn deliver(&self, delivery: &Delivery) -> Outcome;

    /// Each merchant by its mchid, and whether its calls go to the backup domain right now.
    fn on_backup(&self) -> Vec<(String, bool)> {
        Vec::new()
    }

    /// Sends a merchant's calls to that domain from now on, since another node found out. False when it is too soon.
    fn follow(&self, _mchid: &str, _backup: bool) -> bool {
        false
    }
}

/// How the messages of one circle travel.
#[derive(Clone, Debug)]
pub struct Road {
    /// The mchid of the merchant that signs.
    pub merchant: String,
    /// Signs and verifies as the circle's merchant.
    pub client: Client,
    /// The brand of the circle.
    pub brandid: u64,
    /// The mall's own merchant, in service-provider mode.
    pub sub_mchid: Option<String>,
}

/// The courier to the real WeChat Pay, or to the sandbox.
#[derive(Debug)]
pub struct WechatCourier {
    roads: HashMap<String, Road>,
}

impl WechatCourier {
    /// A courier that knows the way for each circle, by its id.
    #[must_use]
    pub const fn new(roads: HashMap<String, Road>) -> Self {
        Self { roads }
    }
}

#[async_trait]
impl Courier for WechatCourier {
    async fn deliver(&self, delivery: &Delivery) -> Outcome {
        let circle = &delivery.member.circle;
        let Some(road) = self.roads.get(circle) else {
            let why = format!("the settings have no circle \"{circle}\" any more");
            return Outcome::NotSent { why };
        };
        let state = parking_state(road, delivery);
        sabotage::crash_point("before-send");
        let sent = road.client.business_circle().report_parking(&state).await;
        sabotage::crash_point("after-send");
        match sent {
            Ok(accepted) => Outcome::Accepted {
                request_id: accepted.request_id().unwrap_or_default().to_owned(),
            },
            Err(error) => outcome(&error, delivery),
        }
    }

    fn on_backup(&self) -> Vec<(String, bool)> {
        let merchants: BTreeMap<&str, bool> = self
            .roads
            .values()
            .map(|road| (&*road.merchant, road.client.domain() == Domain::Backup))
            .collect();
        merchants
            .into_iter()
            .map(|(merchant, backup)| (merchant.to_owned(), backup))
            .collect()
    }

    fn follow(&self, mchid: &str, backup: bool) -> bool {
        // Clones of one client share their choice.
        let road = self.roads.values().find(|road| road.merchant == mchid);
        let domain = if backup { Domain::Backup } else { Domain::Main };
        road.is_some_and(|road| road.client.use_domain(domain))
    }
}

fn parking_state(road: &Road, delivery: &Delivery) -> ParkingState {
    ParkingState {
        sub_mchid: road.sub_mchid.clone(),
        brandid: road.brandid,
        appid: delivery.member.appid.to_string(),
        openid: delivery.member.openid.expose().to_owned(),
        plate_number: delivery.plate.expose().to_owned(),
        state: match delivery.state {
            Direction::In => ParkingStateKind::In,
            Direction::Out => ParkingStateKind::Out,
        },
        time: delivery.at,
    }
}

/// What an SDK error says about the call.
fn outcome(error: &Error, delivery: &Delivery) -> Outcome {
    if let Error::Api {
        status,
        message,
        request_id,
        ..
    } = error
    {
        return Outcome::Refused {
            status: *status,
            code: error.code().unwrap_or_default().to_owned(),
            message: scrubbed(message, delivery),
            request_id: request_id.clone(),
            rate_limited: error.is_rate_limit(),
            retry_after: error.retry_after(),
        };
    }
    let why = Chain(error).to_string();
    if matches!(error, Error::Build { .. }) {
        Outcome::Unbuildable { why }
    } else if error.nothing_sent() {
        Outcome::NotSent { why }
    } else {
        Outcome::Unknown { why }
    }
}

/// A refusal may repeat what was sent. It is kept for people, so plate and openid go out of it.
fn scrubbed(message: &str, delivery: &Delivery) -> String {
    let (plate, openid) = (&delivery.plate, &delivery.member.openid);
    message
        .replace(plate.expose(), &plate.masked())
        .replace(openid.expose(), &openid.masked())
}

//! Who is a member, and who has authorised the mall's points service (积分服务授权).
//!
//! By default every well-formed openid is valid under every appid, and none has authorised anything. Tests and the control
//! port say otherwise. Read by the endpoints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde_json::json;

use crate::callbacks::{Callbacks, Event};
use crate::clock::Clock;
use crate::seal;

/// Handle to a sandbox's members.
#[derive(Clone)]
pub struct Members {
    roll: Arc<Mutex<Roll>>,
    clock: Clock,
    callbacks: Callbacks,
    mchid: String,
}

#[derive(Default)]
struct Roll {
    exceptions: HashMap<String, Exception>,
    authorizations: HashMap<String, Authorized>,
    /// Member-card code by openid.
    cards: HashMap<String, String>,
}

#[derive(Clone, Debug)]
enum Exception {
    Invalid,
    OnlyUnder(String),
}

/// How an openid stands to an appid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Member,
    Invalid,
    OtherAppid,
}

/// What WeChat Pay knows about one member's authorisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authorized {
    /// When the member authorised last; `None`: never.
    pub authorized_at: Option<Timestamp>,
    /// When the member withdrew, if that is how it stands.
    pub deauthorized_at: Option<Timestamp>,
}

impl Authorized {
    /// Whether it stands now.
    pub fn is_authorized(&self) -> bool {
        self.authorized_at.is_some() && self.deauthorized_at.is_none()
    }

    /// The wire word (授权状态).
    pub fn state(&self) -> &'static str {
        match (self.authorized_at, self.deauthorized_at) {
            (None, _) => "UNAUTHORIZED",
            (Some(_), None) => "AUTHORIZED",
            (Some(_), Some(_)) => "DEAUTHORIZED",
        }
    }
}

impl Members {
    pub(crate) fn new(clock: Clock, callbacks: Callbacks, mchid: String) -> Self {
        Self {
            roll: Arc::default(),
            clock,
            callbacks,
            mchid,
        }
    }

    /// The member opens a card and authorises the points service, now by the calendar. Returns the id of the callback
    /// that tells the mall; `None` without a URL for it.
    pub fn authorize(&self, openid: &str) -> Option<String> {
        let now = self.clock.now();
        let mut roll = self.lock();
        if roll.authorizations.len() < MAX_MEMBERS || roll.authorizations.contains_key(openid) {
            let authorized = Authorized {
                authorized_at: Some(now),
                deauthorized_at: None,
            };
            roll.authorizations.insert(openid.to_owned(), authorized);
        }
        drop(roll);
        self.tell(openid, "REGISTERED_AND_AUTHORIZATION_MODE")
    }

    /// The member opens a card without authorising the points service. Returns the id of the callback.
    pub fn register(&self, openid: &str) -> Option<String> {
        self.tell(openid, "REGISTERED_MODE")
    }

    fn tell(&self, openid: &str, auth_type: &'static str) -> Option<String> {
        let url = self.callbacks.authorization_url()?;
        let mut roll = self.lock();
        if roll.cards.len() >= MAX_MEMBERS {
            roll.cards.clear();
        }
        let code = roll.cards.entry(openid.to_owned());
        let code = code.or_insert_with(|| seal::random_digits(12)).clone();
        drop(roll);
        let resource = json!({
            "openid": openid,
            "code": code,
            "mchid": self.mchid,
            "auth_type": auth_type,
        });
        Some(self.callbacks.post(Event::Authorization, url, resource))
    }

    /// The member withdraws. No callback is documented for that: the mall has to ask. Nothing happens to one who never
    /// authorised.
    pub fn deauthorize(&self, openid: &str) {
        let now = self.clock.now();
        if let Some(authorized) = self.lock().authorizations.get_mut(openid) {
            authorized.deauthorized_at.get_or_insert(now);
        }
    }

    /// How the member's authorisation stands.
    pub fn authorization(&self, openid: &str) -> Authorized {
        self.lock().authorizations.get(openid).copied().unwrap_or_default()
    }

    /// All who ever authorised, in no order.
    pub fn authorizations(&self) -> Vec<(String, Authorized)> {
        self.lock()
            .authorizations
            .iter()
            .map(|(openid, authorized)| (openid.clone(), *authorized))
            .collect()
    }

    /// This openid belongs to this appid only: under another one it is refused with 403 "OpenID与AppID不匹配".
    pub fn belongs_to(&self, openid: &str, appid: &str) {
        self.except(openid, Exception::OnlyUnder(appid.to_owned()));
    }

    /// This openid is refused with 400 "OpenID有误".
    pub fn invalid(&self, openid: &str) {
        self.except(openid, Exception::Invalid);
    }

    /// Forgets all exceptions and authorisations.
    pub fn clear(&self) {
        *self.lock() = Roll::default();
    }

    pub(crate) fn standing(&self, openid: &str, appid: &str) -> Standing {
        match self.lock().exceptions.get(openid) {
            Some(Exception::Invalid) => Standing::Invalid,
            Some(Exception::OnlyUnder(own)) if own != appid => Standing::OtherAppid,
            Some(Exception::OnlyUnder(_)) | None => Standing::Member,
        }
    }

    /// The appid an openid was bound to, if a test bound it.
    pub(crate) fn own_appid(&self, openid: &str) -> Option<String> {
        match self.lock().exceptions.get(openid) {
            Some(Exception::OnlyUnder(appid)) => Some(appid.clone()),
            Some(Exception::Invalid) | None => None,
        }
    }

    fn except(&self, openid: &str, exception: Exception) {
        let mut roll = self.lock();
        if roll.exceptions.len() < MAX_MEMBERS || roll.exceptions.contains_key(openid) {
            roll.exceptions.insert(openid.to_owned(), exception);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().expect("no holder of the members panics")
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let roll = self.lock();
        f.debug_struct("Members")
            .field("exceptions", &roll.exceptions.len())
            .field("authorizations", &roll.authorizations.len())
            .finish()
    }
}

const MAX_MEMBERS: usize = 500_000;

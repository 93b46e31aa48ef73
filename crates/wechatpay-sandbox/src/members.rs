//! Who is a member: by default every well-formed openid, under every appid.
//!
//! Tests and the program name the exceptions. Read by the endpoints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Handle to a sandbox's members.
#[derive(Clone, Default)]
pub struct Members {
    exceptions: Arc<Mutex<HashMap<String, Exception>>>,
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

impl Members {
    /// This openid belongs to this appid only: under another one it is refused with 403 "OpenID与AppID不匹配".
    pub fn belongs_to(&self, openid: &str, appid: &str) {
        self.lock()
            .insert(openid.to_owned(), Exception::OnlyUnder(appid.to_owned()));
    }

    /// This openid is refused with 400 "OpenID有误".
    pub fn invalid(&self, openid: &str) {
        self.lock().insert(openid.to_owned(), Exception::Invalid);
    }

    /// Forgets all exceptions.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn standing(&self, openid: &str, appid: &str) -> Standing {
        match self.lock().get(openid) {
            Some(Exception::Invalid) => Standing::Invalid,
            Some(Exception::OnlyUnder(own)) if own != appid => Standing::OtherAppid,
            Some(Exception::OnlyUnder(_)) | None => Standing::Member,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Exception>> {
        self.exceptions.lock().expect("no holder of the members panics")
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members")
            .field("exceptions", &self.lock().len())
            .finish()
    }
}

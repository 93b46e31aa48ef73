//! One file per endpoint: what it accepts, in which order it refuses, what it remembers.
//!
//! An endpoint sees an authenticated request and knows nothing of signatures, faults or sockets. [`find`] is the table of
//! all of them. Called by `platform.rs`.

pub(crate) mod authorizations;
pub(crate) mod certificates;
pub(crate) mod commit_status;
pub(crate) mod echo;
pub(crate) mod fields;
pub(crate) mod formats;
pub(crate) mod parkings;
pub(crate) mod points;
pub(crate) mod reminder_lots;
pub(crate) mod reminders;
pub(crate) mod vehicle;

use std::borrow::Cow;

use http::{Method, StatusCode};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::refusal::Refusal;
use crate::world::World;

/// An authenticated request, as an endpoint sees it.
pub(crate) struct Ask<'a> {
    /// Its number in the ledger.
    pub(crate) number: u64,
    /// The calendar's time.
    pub(crate) now: Timestamp,
    /// What stands at the `{…}` of the path, decoded; empty for a path without.
    pub(crate) variable: &'a str,
    /// The query string, as it came.
    pub(crate) query: &'a str,
    pub(crate) body: &'a [u8],
    /// `Wechatpay-Serial` of the request; empty when there is none.
    pub(crate) named_key: &'a str,
}

/// A success.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn no_content() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            body: Vec::new(),
        }
    }

    pub(crate) fn ok(answer: &Value) -> Self {
        Self {
            status: StatusCode::OK,
            body: answer.to_string().into_bytes(),
        }
    }
}

type Handler = fn(&World, &Ask<'_>) -> Result<Reply, Refusal>;

/// An endpoint, and what stands at the `{…}` of its path.
pub(crate) struct Route<'a> {
    pub(crate) handler: Handler,
    pub(crate) variable: Cow<'a, str>,
}

/// Every endpoint there is.
const ROUTES: &[(Method, &str, Handler)] = &[
    (Method::POST, "/v3/businesscircle/parkings", parkings::sync),
    (
        Method::GET,
        "/v3/businesscircle/user-authorizations/{openid}",
        authorizations::query,
    ),
    (
        Method::GET,
        "/v3/businesscircle/users/{openid}/points/commit_status",
        commit_status::query,
    ),
    (Method::POST, "/v3/businesscircle/points/notify", points::notify),
    (Method::GET, "/v3/certificates", certificates::list),
    (Method::POST, "/v3/security/echo", echo::echo),
    (Method::GET, "/v3/vehicle/parking/services/find", vehicle::find_service),
    (Method::POST, "/v3/vehicle/parking/parkings", vehicle::enter),
    (Method::POST, "/v3/vehicle/transactions/parking", vehicle::charge),
    (
        Method::GET,
        "/v3/vehicle/transactions/out-trade-no/{out_trade_no}",
        vehicle::find_charge,
    ),
    (Method::POST, "/v3/parking/reminders/application", reminder_lots::apply),
    (
        Method::GET,
        "/v3/parking/reminders/application/query",
        reminder_lots::query,
    ),
    (Method::GET, "/v3/parking/reminders/applications", reminder_lots::list),
    (
        Method::POST,
        "/v3/parking/reminders/application/withdraw",
        reminder_lots::withdraw,
    ),
    (Method::GET, "/v3/parking/reminders/parking-lot", reminder_lots::lot),
    (Method::POST, "/v3/parking/reminders/entry", reminders::enter),
    (Method::POST, "/v3/parking/reminders/exit", reminders::leave),
    (Method::POST, "/v3/parking/reminders/payment", reminders::pay),
    (Method::POST, "/v3/parking/reminders/ext-payment", reminders::pay_ext),
    (Method::POST, "/v3/parking/reminders/parking-fee", reminders::fee),
];

/// Unknown path: 404, wrong method: 405, both without a body and before authentication (protocol 3.6).
pub(crate) fn find<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, Refusal> {
    let mut other_method = None;
    for (taken, template, handler) in ROUTES {
        let Some(variable) = matches(template, path) else {
            continue;
        };
        if taken == method {
            return Ok(Route {
                handler: *handler,
                variable,
            });
        }
        other_method = Some(taken);
    }
    Err(match other_method {
        Some(taken) => Refusal::empty(405).hint(format!("{path} takes {taken}, not {method}")),
        None => Refusal::empty(404).hint(format!("there is no {path:?}")),
    })
}

/// Methods and paths of all endpoints.
pub(crate) fn all() -> impl Iterator<Item = (&'static Method, &'static str)> {
    ROUTES.iter().map(|(method, path, _)| (method, *path))
}

/// Compares segment by segment; a `{…}` takes one that is not empty.
pub(crate) fn matches<'a>(template: &str, path: &'a str) -> Option<Cow<'a, str>> {
    let mut variable = Cow::Borrowed("");
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(variable),
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {
                variable = percent_decode_str(given).decode_utf8_lossy();
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            (_, _) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_takes_one_segment_and_is_decoded() {
        let template = "/v3/users/{openid}/points";

        assert_eq!(matches(template, "/v3/users/o%2F1/points").as_deref(), Some("o/1"));
        for path in [
            "/v3/users//points",
            "/v3/users/a/b/points",
            "/v3/users/a/points/",
            "/v3/users/a",
            "",
        ] {
            assert_eq!(matches(template, path), None, "{path}");
        }
    }
}

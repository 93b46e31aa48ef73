//! Members' points: reporting them, and asking who has authorised or still can hand in.
//!
//! Called by `business_circle`.

use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AUTHORIZATIONS, COMMIT_STATUS, check_brandid};
use crate::api::calls::done;
use crate::api::fields::{
    FieldError, Personal, check_not_negative, check_prose, check_text, china_time_ms, lenient_time, open_enum,
};
use crate::error::Error;
use crate::request::Request;
use crate::response::Response;
use crate::route::Route;

/// What one payment in the mall earned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Points {
    /// The mall's merchant number; service providers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_mchid: Option<String>,
    /// WeChat Pay's number of the payment, from its notification.
    pub transaction_id: String,
    /// The mini-program under which the member authorised.
    pub appid: String,
    /// The member under that `appid`.
    pub openid: Personal,
    /// Whether the payment earned points. After `false`, WeChat Pay tells nothing about refunds of it.
    pub earn_points: bool,
    /// How many; 0 when none.
    pub increased_points: i64,
    /// When. Written in China time with milliseconds.
    #[serde(serialize_with = "china_time_ms")]
    pub points_update_time: Timestamp,
    /// Why the payment earned none; required then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_points_remarks: Option<String>,
    /// The member's points in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_points: Option<i64>,
}

impl Points {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        if let Some(sub_mchid) = &self.sub_mchid {
            check_text("sub_mchid", sub_mchid, 64)?;
        }
        check_text("transaction_id", &self.transaction_id, 64)?;
        check_text("appid", &self.appid, 128)?;
        check_text("openid", &self.openid, 64)?;
        check_not_negative("increased_points", self.increased_points)?;
        match &self.no_points_remarks {
            Some(remarks) => check_prose("no_points_remarks", remarks, 128),
            None if !self.earn_points => Err(FieldError::new(
                "no_points_remarks",
                "is needed when no points were earned",
            )),
            None => Ok(()),
        }
    }
}

/// What became of a points report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointsOutcome {
    /// WeChat Pay has it.
    Recorded,
    /// WeChat Pay had it already, from an earlier try, and says so with its signature.
    AlreadyRecorded,
}

pub(super) fn points_outcome(outcome: Result<Response, Error>) -> Result<PointsOutcome, Error> {
    match done(outcome) {
        Ok(_) => Ok(PointsOutcome::Recorded),
        // An unsigned refusal must never be taken for success.
        Err(Error::Api {
            verified: true,
            code,
            message,
            ..
        }) if code == "INVALID_REQUEST" && message.contains("积分已回传") => Ok(PointsOutcome::AlreadyRecorded),
        Err(error) => Err(error),
    }
}

/// Whose authorisation is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationQuery {
    /// The member under `appid`.
    pub openid: Personal,
    /// The mini-program under which the member authorised.
    pub appid: String,
    /// The mall's merchant number; service providers only.
    pub sub_mchid: Option<String>,
}

impl AuthorizationQuery {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_text("openid", &self.openid, 64)?;
        check_text("appid", &self.appid, 128)?;
        match &self.sub_mchid {
            Some(sub_mchid) => check_text("sub_mchid", sub_mchid, 64),
            None => Ok(()),
        }
    }

    pub(super) fn request(&self) -> Result<Request, Error> {
        self.check().map_err(|source| Error::build(AUTHORIZATIONS, source))?;
        let route = Route::new(AUTHORIZATIONS)
            .bind("openid", &*self.openid)
            .query("appid", &self.appid)
            .query_if("sub_mchid", self.sub_mchid.as_ref());
        Ok(Request::new(Method::GET, route))
    }
}

/// Whether a member has authorised the mall's points.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Authorization {
    /// The member.
    pub openid: Personal,
    /// Whether he has.
    pub authorize_state: AuthorizeState,
    /// Since when.
    #[serde(default, deserialize_with = "lenient_time")]
    pub authorize_time: Option<Timestamp>,
    /// Until when he had.
    #[serde(default, deserialize_with = "lenient_time")]
    pub deauthorize_time: Option<Timestamp>,
}

/// Whose pending points are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitStatusQuery {
    /// The member under `appid`.
    pub openid: Personal,
    /// The mall's merchant number; service providers only.
    pub sub_mchid: Option<String>,
    /// The brand that belongs to the caller.
    pub brandid: u64,
    /// Bound to the brand for ordering.
    pub appid: String,
}

impl CommitStatusQuery {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), FieldError> {
        check_text("openid", &self.openid, 128)?;
        if let Some(sub_mchid) = &self.sub_mchid {
            check_text("sub_mchid", sub_mchid, 32)?;
        }
        check_brandid(self.brandid)?;
        check_text("appid", &self.appid, 128)
    }

    pub(super) fn request(&self) -> Result<Request, Error> {
        self.check().map_err(|source| Error::build(COMMIT_STATUS, source))?;
        let route = Route::new(COMMIT_STATUS)
            .bind("openid", &*self.openid)
            .query_if("sub_mchid", self.sub_mchid.as_ref())
            .query("brandid", self.brandid)
            .query("appid", &self.appid);
        Ok(Request::new(Method::GET, route))
    }
}

pub(super) fn commit_status(outcome: Result<Response, Error>) -> Result<Option<PointsCommitStatus>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        points_commit_status: Option<PointsCommitStatus>,
    }
    let answer = done(outcome)?;
    if answer.body().is_empty() {
        return Ok(None);
    }
    Ok(answer.json::<Answer>()?.points_commit_status)
}

open_enum! {
    /// Whether a member has authorised the mall's points (授权状态).
    AuthorizeState {
        /// Never.
        Unauthorized = "UNAUTHORIZED",
        /// Yes.
        Authorized = "AUTHORIZED",
        /// No longer.
        Deauthorized = "DEAUTHORIZED",
    }

    /// Whether there are payments of today to hand in (待积分状态).
    PointsCommitStatus {
        /// There are.
        Pending = "PENDING",
        /// There are none.
        Finished = "FINISHED",
    }
}

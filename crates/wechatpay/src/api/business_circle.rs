//! Smart business circle (智慧商圈): parking states, points, authorisations.
//!
//! Lives here: its four calls, and parking states with the checks the documentation allows to make. Does not live here:
//! points (`points`), notifications (`notify`), and whether a state should be reported at all; that is the caller's.
//!
//! Official pages: <https://pay.weixin.qq.com/doc/v3/merchant/4012535502> (parking),
//! <https://pay.weixin.qq.com/doc/v3/merchant/4012534698> (points),
//! <https://pay.weixin.qq.com/doc/v3/merchant/4012534848> (authorisation),
//! <https://pay.weixin.qq.com/doc/v3/merchant/4012534994> (pending points).

mod points;

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::api::calls::{calls, done, post, read};
use crate::api::fields::{FieldError, check_plate, check_text, china_time, masked};
use crate::response::Response;

pub use points::{
    Authorization, AuthorizationQuery, AuthorizeState, CommitStatusQuery, Points, PointsCommitStatus, PointsOutcome,
};

use points::{commit_status, points_outcome};

const PARKINGS: &str = "/v3/businesscircle/parkings";
const POINTS: &str = "/v3/businesscircle/points/notify";
const AUTHORIZATIONS: &str = "/v3/businesscircle/user-authorizations/{openid}";
const COMMIT_STATUS: &str = "/v3/businesscircle/users/{openid}/points/commit_status";

calls! {
    /// The smart business circle (智慧商圈), typed. Made by `client.business_circle()`.
    BusinessCircle from business_circle {
        /// Tells WeChat Pay that a member's car drove in or out (商圈会员停车状态同步).
        ///
        /// Sending the same state again is presumably harmless; the documentation says nothing about it.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012535502>.
        ///
        /// # Errors
        /// [`Error::Build`](crate::Error::Build) with a [`FieldError`] when a field cannot be right; else as every call.
        fn report_parking(state: &ParkingState) -> Response {
            post(PARKINGS, state, state.check()),
            done
        }

        /// Tells WeChat Pay what a payment earned (商圈会员积分同步), once per payment, on the day of its notification and
        /// after that was acknowledged.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012534698>.
        ///
        /// # Errors
        /// [`Error::Build`](crate::Error::Build) with a [`FieldError`] when a field cannot be right; else as every call. "Reported already" is
        /// no error when it is signed: see [`PointsOutcome`].
        fn notify_points(points: &Points) -> PointsOutcome {
            post(POINTS, points, points.check()),
            points_outcome
        }

        /// Asks whether a member has authorised the mall's points (商圈会员积分服务授权状态查询). At most 150 per second.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012534848>.
        ///
        /// # Errors
        /// [`Error::Build`](crate::Error::Build) with a [`FieldError`] when a field cannot be right; else as every call.
        fn authorization(query: &AuthorizationQuery) -> Authorization {
            query.request(),
            read
        }

        /// Asks whether a member has payments of today that can still be handed in (商圈会员待积分状态查询). `None` when
        /// WeChat Pay answers without a body, as one source says it does.
        ///
        /// Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012534994>.
        ///
        /// # Errors
        /// [`Error::Build`](crate::Error::Build) with a [`FieldError`] when a field cannot be right; else as every call.
        fn points_commit_status(query: &CommitStatusQuery) -> Option<PointsCommitStatus> {
            query.request(),
            commit_status
        }
    }
}

/// One change of presence of one member's car.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ParkingState {
    /// The mall's merchant number (子商户号); service providers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_mchid: Option<String>,
    /// The brand (品牌ID) that belongs to the caller.
    pub brandid: u64,
    /// The service account or mini-program, bound to the brand for ordering.
    pub appid: String,
    /// The member under exactly that `appid`.
    pub openid: String,
    /// The plate (车牌号): a province first, then upper-case letters, digits and Chinese characters.
    pub plate_number: String,
    /// Whether the car drove in or out.
    pub state: ParkingStateKind,
    /// When it did; not in the future. Written in China time, in whole seconds.
    #[serde(serialize_with = "china_time")]
    pub time: Timestamp,
}

/// Which way the car went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ParkingStateKind {
    /// Into the mall (驶入).
    In,
    /// Out of it (驶离).
    Out,
}

impl ParkingState {
    /// Checks what can be checked without WeChat Pay.
    ///
    /// # Errors
    /// The first field that cannot be right. Values are described, never repeated.
    pub fn check(&self) -> Result<(), FieldError> {
        if let Some(sub_mchid) = &self.sub_mchid {
            check_text("sub_mchid", sub_mchid, 32)?;
        }
        check_brandid(self.brandid)?;
        check_text("appid", &self.appid, 32)?;
        check_text("openid", &self.openid, 64)?;
        check_plate(&self.plate_number, 32)
    }
}

impl fmt::Debug for ParkingState {
    /// Masks the plate and the openid: they say who was where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkingState")
            .field("sub_mchid", &self.sub_mchid)
            .field("brandid", &self.brandid)
            .field("appid", &self.appid)
            .field("openid", &masked(&self.openid, 4, 4))
            .field("plate_number", &masked(&self.plate_number, 2, 1))
            .field("state", &self.state)
            .field("time", &self.time)
            .finish()
    }
}

fn check_brandid(brandid: u64) -> Result<(), FieldError> {
    match brandid {
        0 => Err(FieldError::new("brandid", "must be greater than 0")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Chain;

    fn example() -> ParkingState {
        ParkingState {
            sub_mchid: Some("1900000109".into()),
            brandid: 1000,
            appid: "wx931386123456789e".into(),
            openid: "oUpF8uMuAJOM2pxb1Q".into(),
            plate_number: "粤B888888".into(),
            state: ParkingStateKind::In,
            time: "2022-06-01T02:43:39.987Z".parse().unwrap(),
        }
    }

    #[test]
    fn the_documented_example_is_written_as_documented() {
        let written = serde_json::to_string(&example()).unwrap();

        assert_eq!(
            written,
            r#"{"sub_mchid":"1900000109","brandid":1000,"appid":"wx931386123456789e","openid":"oUpF8uMuAJOM2pxb1Q","plate_number":"粤B888888","state":"IN","time":"2022-06-01T10:43:39+08:00"}"#
        );
    }

    #[test]
    fn a_direct_merchant_leaves_the_sub_merchant_out() {
        let state = ParkingState {
            sub_mchid: None,
            state: ParkingStateKind::Out,
            ..example()
        };

        let written = serde_json::to_string(&state).unwrap();

        assert!(
            !written.contains("sub_mchid") && written.contains(r#""state":"OUT""#),
            "{written}"
        );
    }

    #[test]
    fn a_wrong_field_is_named_and_its_value_is_not_told() {
        let table: [(ParkingState, &str); 11] = [
            (
                ParkingState {
                    brandid: 0,
                    ..example()
                },
                "brandid must be greater than 0",
            ),
            (
                ParkingState {
                    sub_mchid: Some(String::new()),
                    ..example()
                },
                "sub_mchid is empty",
            ),
            (
                ParkingState {
                    appid: "a".repeat(33),
                    ..example()
                },
                "appid has 33 characters, at most 32 are allowed",
            ),
            (
                ParkingState {
                    openid: "o".repeat(65),
                    ..example()
                },
                "openid has 65 characters, at most 64 are allowed",
            ),
            (
                ParkingState {
                    openid: "o x".into(),
                    ..example()
                },
                "openid has a blank or a control character in it",
            ),
            (
                ParkingState {
                    plate_number: String::new(),
                    ..example()
                },
                "plate_number is empty",
            ),
            (
                ParkingState {
                    plate_number: "粤".into(),
                    ..example()
                },
                "plate_number is only a province",
            ),
            (
                ParkingState {
                    plate_number: "使123456".into(),
                    ..example()
                },
                "plate_number must begin with",
            ),
            (
                ParkingState {
                    plate_number: "B12345".into(),
                    ..example()
                },
                "plate_number must begin with",
            ),
            (
                ParkingState {
                    plate_number: "粤b12345".into(),
                    ..example()
                },
                "plate_number may hold only",
            ),
            (
                ParkingState {
                    plate_number: "粤B·12345".into(),
                    ..example()
                },
                "plate_number may hold only",
            ),
        ];

        for (state, message) in table {
            let shown = Chain(&post(PARKINGS, &state, state.check()).unwrap_err()).to_string();
            assert!(
                shown.starts_with("could not build the request for /v3/businesscircle/parkings: "),
                "{shown}"
            );
            assert!(shown.contains(message), "{shown}");
            assert!(!shown.contains("12345"), "{shown}");
        }
    }

    #[test]
    fn plates_of_every_sendable_kind_pass() {
        for plate in [
            "粤B12345",
            "沪AD07979",
            "渝B3587学",
            "粤Z9065澳",
            "粤A1234领",
            "闽20401领",
            "京X1234应急",
            "粤B888888",
        ] {
            assert!(
                ParkingState {
                    plate_number: plate.into(),
                    ..example()
                }
                .check()
                .is_ok(),
                "{plate}"
            );
        }
    }

    #[test]
    fn debug_shows_neither_plate_nor_openid() {
        let shown = format!("{:?}", example());

        assert!(
            !shown.contains("粤B888888") && !shown.contains("oUpF8uMuAJOM2pxb1Q"),
            "{shown}"
        );
        assert!(shown.contains("粤B****8") && shown.contains("oUpF****xb1Q"), "{shown}");
    }
}

//! Smart business circle (智慧商圈).
//!
//! Lives here: the member parking state (商圈会员停车状态同步) with the checks the documentation allows to make. Does not
//! live here: whether a state should be reported at all; that is the caller's.
//!
//! Official page: <https://pay.weixin.qq.com/doc/v3/merchant/4012535502>.

use std::fmt;

use http::Method;
use jiff::Timestamp;
use jiff::tz::Offset;
use serde::{Serialize, Serializer};

use crate::blocking;
use crate::client::Client;
use crate::error::Error;
use crate::request::Request;
use crate::response::Response;
use crate::sender::Sender;

const PARKINGS: &str = "/v3/businesscircle/parkings";

/// The calls of the smart business circle. Made by `client.business_circle()`.
#[derive(Debug, Clone)]
pub struct BusinessCircle<S = Sender> {
    sender: S,
}

impl Client {
    /// The smart business circle (智慧商圈), typed.
    pub fn business_circle(&self) -> BusinessCircle {
        BusinessCircle {
            sender: self.sender().clone(),
        }
    }
}

impl blocking::Client {
    /// The smart business circle (智慧商圈), typed.
    pub fn business_circle(&self) -> BusinessCircle<blocking::Sender> {
        BusinessCircle {
            sender: self.sender().clone(),
        }
    }
}

impl BusinessCircle {
    /// Tells WeChat Pay that a member's car drove in or out.
    ///
    /// Sending the same state again is presumably harmless; the documentation says nothing about it.
    ///
    /// # Errors
    /// [`Error::Build`] with a [`FieldError`] when a field cannot be right; else as every call.
    pub async fn report_parking(&self, state: &ParkingState) -> Result<Response, Error> {
        done(self.sender.send(parking_request(state)?).await?)
    }
}

impl BusinessCircle<blocking::Sender> {
    /// Tells WeChat Pay that a member's car drove in or out.
    ///
    /// # Errors
    /// As the asynchronous one.
    pub fn report_parking(&self, state: &ParkingState) -> Result<Response, Error> {
        done(self.sender.send(parking_request(state)?)?)
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
        if self.brandid == 0 {
            return Err(FieldError {
                field: "brandid",
                problem: "must be greater than 0".into(),
            });
        }
        check_text("appid", &self.appid, 32)?;
        check_text("openid", &self.openid, 64)?;
        check_text("plate_number", &self.plate_number, 32)?;
        check_plate(&self.plate_number)
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

/// A field that WeChat Pay would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct FieldError {
    /// The field, as the documentation spells it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Built from typed, checked values; the JSON writer checks the rest.
fn parking_request(state: &ParkingState) -> Result<Request, Error> {
    state.check().map_err(|source| Error::build(PARKINGS, source))?;
    Request::new(Method::POST, PARKINGS).json(state)
}

/// 204 is documented. A 200 means the same; anything else, such as 202, does not mean done.
fn done(response: Response) -> Result<Response, Error> {
    match response.status() {
        200 | 204 => Ok(response),
        status => Err(response.unexpected("204 without a body", format!("the status is {status}"))),
    }
}

fn china_time<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    // Fractions are cut, not rounded: a rounded time could lie in the future, which is refused.
    let whole = Timestamp::from_second(time.as_millisecond().div_euclid(1000)).map_err(serde::ser::Error::custom)?;
    out.collect_str(&whole.display_with_offset(Offset::constant(8)))
}

fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), FieldError> {
    let problem = |problem: String| Err(FieldError { field, problem });
    if text.is_empty() {
        return problem("is empty".to_owned());
    }
    // Whether the limit counts characters or bytes is not documented; bytes are the safe reading.
    if text.len() > max {
        return problem(format!("has {} bytes, at most {max} are allowed", text.len()));
    }
    match text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => problem("has a blank or a control character in it".to_owned()),
        false => Ok(()),
    }
}

/// The 31 short names of provinces that a plate begins with.
const PROVINCES: &str = "京津沪渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新";

/// The documented rule. It admits more than real plates, such as the documentation's own 粤B888888.
fn check_plate(plate: &str) -> Result<(), FieldError> {
    let problem = |problem: &str| {
        Err(FieldError {
            field: "plate_number",
            problem: problem.to_owned(),
        })
    };
    let mut characters = plate.chars();
    if !characters.next().is_some_and(|first| PROVINCES.contains(first)) {
        return problem("must begin with the Chinese short name of a province, such as 粤");
    }
    if characters.clone().next().is_none() {
        return problem("is only a province");
    }
    match characters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || is_chinese(c)) {
        true => Ok(()),
        false => problem("may hold only upper-case letters, digits and Chinese characters after the first one"),
    }
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}')
}

/// Keeps a few characters at both ends; a text too short for that is hidden whole.
fn masked(text: &str, front: usize, back: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() < (front + back) * 2 {
        return "****".to_owned();
    }
    let end = characters.len() - back;
    characters[..front]
        .iter()
        .chain(&['*'; 4])
        .chain(&characters[end..])
        .collect()
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
                "appid has 33 bytes, at most 32 are allowed",
            ),
            (
                ParkingState {
                    openid: "o".repeat(65),
                    ..example()
                },
                "openid has 65 bytes, at most 64 are allowed",
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
            let shown = Chain(&parking_request(&state).unwrap_err()).to_string();
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

//! `POST /v3/businesscircle/parkings` (商圈会员停车状态同步, protocol 1).
//!
//! [`Report::read`] is pure and refuses in the order of the documented error table: shape, presence, format, permission.
//! That the real platform checks in this order is unknown. [`Presences`] keeps what WeChat Pay would remember.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::members::{Members, Standing};
use crate::merchant::Merchant;
use crate::refusal::Refusal;

/// Whether a car drove in or out (状态).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// `IN`
    In,
    /// `OUT`
    Out,
}

impl State {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "IN",
            Self::Out => "OUT",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which mall (商圈) the platform finds for the brand. The documents give the same misconfiguration as 403 and as 500.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MallState {
    /// One, as it should be.
    #[default]
    Unique,
    /// None or several: 403 `NO_AUTH`.
    NotUnique,
    /// None or several: 500 `SYSTEM_ERROR` with the same message.
    NotUnique500,
    /// "请求失败，商户号下暂无商圈". Status and code are unknown; the sandbox says 403 `NO_AUTH`.
    Missing,
}

/// A checked report.
pub(crate) struct Report {
    pub(crate) sub_mchid: Option<String>,
    pub(crate) brandid: u64,
    pub(crate) appid: String,
    pub(crate) openid: String,
    pub(crate) plate_number: String,
    pub(crate) state: State,
    pub(crate) time: String,
    pub(crate) at: Timestamp,
}

impl Report {
    pub(crate) fn read(
        body: &[u8],
        now: Timestamp,
        merchant: &Merchant,
        members: &Members,
        mall: MallState,
    ) -> Result<Self, Refusal> {
        let body = object(body)?;
        let brandid = brandid(&body)?;
        let appid = required(&body, "appid", "业务必填字段AppID为空")?;
        let openid = required(&body, "openid", "业务必填字段OpenID为空")?;
        let plate_number = required(&body, "plate_number", "业务必填字段plate_number为空")?;
        let state = required(&body, "state", "业务必填字段state为空")?;
        let time = required(&body, "time", "业务必填字段time为空")?;
        // Unknown: what an empty sub_mchid means. Taken as absent, as for every other text.
        let sub_mchid = text(&body, "sub_mchid")?;

        let state = match state {
            "IN" => State::In,
            "OUT" => State::Out,
            other => return Err(wrong("参数错误", "state", other, "not IN or OUT")),
        };
        if !is_plate(plate_number) {
            return Err(wrong(
                "plate_number格式有误",
                "plate_number",
                plate_number,
                "not a province character and letters, digits, Chinese",
            ));
        }
        let at =
            instant(time).ok_or_else(|| wrong("time格式有误", "time", time, "not yyyy-MM-DDThh:mm:ss+TIMEZONE"))?;
        if at > now {
            return Err(wrong("time超出取值范围", "time", time, "in the future"));
        }
        let standing = members.standing(openid, appid);
        if !is_openid(openid) || standing == Standing::Invalid {
            return Err(wrong("OpenID有误", "openid", openid, "not an openid"));
        }
        if !is_appid(appid) {
            return Err(wrong("AppID有误", "appid", appid, "not wx and 16 hex digits"));
        }
        if let Some(sub_mchid) = sub_mchid.filter(|sub_mchid| !is_mchid(sub_mchid)) {
            return Err(wrong(
                "sub_mch_code有误",
                "sub_mchid",
                sub_mchid,
                "not a merchant number",
            ));
        }

        if brandid != merchant.brandid {
            return Err(Refusal::no_auth("mch_id与brand_id关系不匹配"));
        }
        if standing == Standing::OtherAppid {
            return Err(Refusal::no_auth("OpenID与AppID不匹配"));
        }
        if !merchant.appids.iter().any(|bound| bound == appid) {
            return Err(Refusal::no_auth("brandid与AppID不匹配"));
        }
        mall.check()?;
        match sub_mchid {
            Some(other) if other == merchant.other_sub_mchid => {
                return Err(Refusal::no_auth("sub_mch_code与brand_id不匹配"));
            }
            Some(other) if other != merchant.sub_mchid => return Err(Refusal::no_auth("父子关系不匹配")),
            Some(_) | None => {}
        }
        Ok(Self {
            sub_mchid: sub_mchid.map(str::to_owned),
            brandid,
            appid: appid.to_owned(),
            openid: openid.to_owned(),
            plate_number: plate_number.to_owned(),
            state,
            time: time.to_owned(),
            at,
        })
    }
}

impl MallState {
    fn check(self) -> Result<(), Refusal> {
        match self {
            Self::Unique => Ok(()),
            Self::NotUnique => Err(Refusal::no_auth("brandid无对应的唯一商圈mainid")),
            Self::NotUnique500 => Err(Refusal::new(500, "SYSTEM_ERROR", "brandid无对应的唯一商圈mainid")),
            Self::Missing => Err(Refusal::no_auth("请求失败，商户号下暂无商圈")),
        }
    }
}

/// What WeChat Pay holds about one member and plate: the last report it accepted, whatever its `time`.
///
/// Unknown on the real platform: whether an older `time` may overwrite a newer one. Here the later call wins.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presence {
    /// The member.
    pub openid: String,
    /// The mini-program.
    pub appid: String,
    /// The plate.
    pub plate_number: String,
    /// In or out.
    pub state: State,
    /// When the car crossed, as reported.
    pub at: Timestamp,
}

/// Plate and openid are left out; read the fields to see them.
impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presence")
            .field("state", &self.state)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// The presence table.
#[derive(Default)]
pub(crate) struct Presences {
    last: Mutex<HashMap<(String, String), Presence>>,
}

impl Presences {
    /// Remembers the report, and calls `also` before another report can take effect.
    ///
    /// The table is bounded: past the limit a new member and plate are recorded by `also` only.
    pub(crate) fn record(&self, report: Report, also: impl FnOnce(Report)) {
        let mut last = self.last.lock().expect("no holder of the presences panics");
        let key = (report.openid.clone(), report.plate_number.clone());
        if last.len() < MAX_PRESENCES || last.contains_key(&key) {
            let presence = Presence {
                openid: report.openid.clone(),
                appid: report.appid.clone(),
                plate_number: report.plate_number.clone(),
                state: report.state,
                at: report.at,
            };
            last.insert(key, presence);
        }
        also(report);
    }

    pub(crate) fn all(&self) -> Vec<Presence> {
        self.last
            .lock()
            .expect("no holder of the presences panics")
            .values()
            .cloned()
            .collect()
    }
}

/// A JSON object without nulls and without characters beyond the basic plane (protocol 3.4).
///
/// Unknown: what the real platform answers to a null or an emoji. Here: the generic `PARAM_ERROR`.
fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::invalid_request(format!("the body is not JSON in UTF-8: {error}")))?;
    let Value::Object(object) = value else {
        return Err(Refusal::invalid_request("the body is JSON, but not an object"));
    };
    for (name, value) in &object {
        if let Some(issue) = unsendable(value) {
            return Err(Refusal::parameter("参数错误", format!("/{name}"), None, issue));
        }
        if beyond_basic_plane(name) {
            return Err(Refusal::parameter(
                "参数错误",
                "",
                None,
                "a name has characters of four bytes",
            ));
        }
    }
    Ok(object)
}

fn unsendable(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => Some("null is not allowed, leave the member out"),
        Value::String(text) if beyond_basic_plane(text) => Some("characters of four bytes are not allowed"),
        Value::Array(items) => items.iter().find_map(unsendable),
        Value::Object(members) => members.values().find_map(unsendable),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn beyond_basic_plane(text: &str) -> bool {
    text.chars().any(|character| character > '\u{FFFF}')
}

/// Unknown: what brandid 0 gives. Taken as missing.
fn brandid(body: &Map<String, Value>) -> Result<u64, Refusal> {
    let missing = || Refusal::parameter("业务必填字段brand_id为空", "/brandid", None, "missing");
    let value = body.get("brandid").ok_or_else(missing)?;
    match value.as_u64() {
        Some(0) => Err(missing()),
        Some(brandid) => Ok(brandid),
        None => Err(Refusal::parameter(
            "参数错误",
            "/brandid",
            Some(value.clone()),
            "not a positive integer",
        )),
    }
}

fn required<'a>(body: &'a Map<String, Value>, name: &'static str, message: &'static str) -> Result<&'a str, Refusal> {
    text(body, name)?.ok_or_else(|| Refusal::parameter(message, format!("/{name}"), None, "missing"))
}

/// A text member; an empty one counts as absent.
fn text<'a>(body: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    match body.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(other) => Err(Refusal::parameter(
            "参数错误",
            format!("/{name}"),
            Some(other.clone()),
            "not a string",
        )),
    }
}

fn wrong(message: &'static str, name: &'static str, value: &str, issue: &'static str) -> Refusal {
    Refusal::parameter(message, format!("/{name}"), Some(Value::from(value)), issue)
}

/// WeChat Pay's rule: a province character, then upper-case letters, digits and Chinese characters, at most 32 in all.
fn is_plate(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| PROVINCES.contains(first))
        && (1..MAX_PLATE).contains(&characters.clone().count())
        && characters.all(|c| {
            c.is_ascii_uppercase()
                || c.is_ascii_digit()
                || matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}')
        })
}

fn is_openid(text: &str) -> bool {
    text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn is_appid(text: &str) -> bool {
    let hex = text.strip_prefix("wx").unwrap_or_default();
    hex.len() == 16
        && hex
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

fn is_mchid(text: &str) -> bool {
    (8..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 3339 as WeChat Pay writes it: capital `T` and `Z`, seconds there, fraction optional, zone `Z` or `+hh:mm`.
fn instant(text: &str) -> Option<Timestamp> {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    if bytes.len() < SHAPE.len() || bytes.len() > MAX_TIME || !fits(&bytes[..SHAPE.len()], SHAPE) {
        return None;
    }
    // The calendar library would round a 60th second down.
    if &bytes[17..19] > b"59".as_slice() {
        return None;
    }
    let mut zone = &bytes[SHAPE.len()..];
    if let Some(fraction) = zone.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        zone = &fraction[digits..];
    }
    if zone != b"Z" && !fits(zone, b"+dd:dd") && !fits(zone, b"-dd:dd") {
        return None;
    }
    text.parse().ok()
}

fn fits(text: &[u8], shape: &[u8]) -> bool {
    let fits = |(byte, place): (&u8, &u8)| {
        if *place == b'd' {
            byte.is_ascii_digit()
        } else {
            byte == place
        }
    };
    text.len() == shape.len() && text.iter().zip(shape).all(fits)
}

const PROVINCES: &str = "京津沪渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新";
/// Characters. Whether the documented 32 counts bytes is unknown.
const MAX_PLATE: usize = 32;
const MAX_TIME: usize = 32;
const MAX_PRESENCES: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plates_follow_the_one_documented_sentence() {
        for plate in ["粤B888888", "沪AD07979", "粤Z9065澳", "京X1234应急", "闽20401领"] {
            assert!(is_plate(plate), "{plate}");
        }
        for plate in [
            "",
            "粤",
            "B888888",
            "粤b12345",
            "粤B·12345",
            "粤B 12345",
            "使123456",
            "粤B１２",
            &"粤".repeat(33),
        ] {
            assert!(!is_plate(plate), "{plate}");
        }
    }

    #[test]
    fn times_have_four_spellings_and_no_more() {
        for time in [
            "2022-06-01T10:43:39+08:00",
            "2022-06-01T10:43:39.120+08:00",
            "2022-06-01T02:43:39Z",
            "2022-06-01T02:43:39.1Z",
        ] {
            assert!(instant(time).is_some(), "{time}");
        }
        for time in [
            "",
            "2022-06-01",
            "2022-06-01T10:43:39",
            "2022-06-01 10:43:39+08:00",
            "2022-06-01t10:43:39z",
            "20220601T104339Z",
            "2022-06-01T10:43+08:00",
            "2022-06-01T10:43:39+0800",
            "2022-06-01T10:43:39.+08:00",
            "2022-13-01T10:43:39Z",
            "2022-06-01T24:00:00Z",
            "2022-06-01T10:43:60Z",
            "2022-06-01T10:43:39+08:00[Asia/Shanghai]",
            "2022-06-01T10:43:39é",
        ] {
            assert!(instant(time).is_none(), "{time}");
        }
        assert_eq!(instant("2022-06-01T10:43:39+08:00"), instant("2022-06-01T02:43:39Z"));
    }
}

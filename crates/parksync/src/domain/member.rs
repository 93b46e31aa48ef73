//! Members of a circle and the plates bound to them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::plate::{self, Plate, Verdict};

/// WeChat Pay's id of a member under one appid. Masked wherever it is printed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Openid(String);

/// Why a text is no openid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an openid has 1 to 64 letters, digits, `-` or `_`; this text has {length} characters or holds another one")]
pub struct NotAnOpenid {
    /// Characters of the refused text.
    pub length: usize,
}

impl Openid {
    /// Reads an openid: 1 to 64 of `[A-Za-z0-9_-]` (the length is WeChat Pay's, the alphabet that of every openid seen).
    ///
    /// # Errors
    /// The text is empty, too long or holds another character.
    pub fn parse(text: &str) -> Result<Self, NotAnOpenid> {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnOpenid {
                length: text.chars().count(),
            })
        }
    }

    /// The openid in clear, for the call to WeChat Pay and for sealing only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first and last four characters, for people.
    #[must_use]
    pub fn masked(&self) -> String {
        if self.0.len() < 12 {
            return "****".to_owned();
        }
        format!("{}****{}", &self.0[..4], &self.0[self.0.len() - 4..])
    }
}

impl TryFrom<String> for Openid {
    type Error = NotAnOpenid;

    fn try_from(text: String) -> Result<Self, NotAnOpenid> {
        Self::parse(&text)
    }
}

impl fmt::Debug for Openid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for Openid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// The id of a mini-program or service account under which openids are handed out (应用ID).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Appid(String);

/// Why a text is no appid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an appid has 1 to 32 letters, digits, `-` or `_`")]
pub struct NotAnAppid;

impl Appid {
    /// The appid as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Appid {
    type Err = NotAnAppid;

    fn from_str(text: &str) -> Result<Self, NotAnAppid> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Appid {
    type Error = NotAnAppid;

    fn try_from(text: String) -> Result<Self, NotAnAppid> {
        let fits = (1..=32).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if fits { Ok(Self(text)) } else { Err(NotAnAppid) }
    }
}

impl fmt::Display for Appid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a member is: one openid under one appid in one circle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberKey {
    /// The circle (商圈) the member belongs to.
    pub circle: String,
    /// The appid under which the openid was handed out.
    pub appid: Appid,
    /// The member.
    pub openid: Openid,
}

/// A plate that may be bound: certain, and of a kind that WeChat Pay can carry. Otherwise the reason, without the plate.
///
/// Gates are read leniently, since a wrong reading matches nobody. Here a wrong plate would announce somebody else's car.
///
/// # Errors
/// The text is no plate, a doubtful one, or one that WeChat Pay cannot carry.
pub fn bindable_plate(raw: &str) -> Result<Plate, String> {
    let checked = plate::check(raw);
    match checked.verdict {
        Verdict::Ok => checked
            .plate
            .filter(Plate::wechat_can_carry)
            .ok_or_else(|| "WeChat Pay cannot carry plates of this kind".to_owned()),
        Verdict::Repaired => {
            Err("the plate holds a letter O or I where no plate has one: is it the digit 0 or 1?".to_owned())
        }
        Verdict::Review => Err(format!(
            "the plate is doubtful ({}): check it with the member",
            checked.why
        )),
        Verdict::OkNosync => Err("WeChat Pay cannot carry plates of this kind".to_owned()),
        Verdict::NoPlate | Verdict::Reject => Err(format!("this is no plate ({})", checked.why)),
    }
}

/// A plate that may be unbound: whatever can be read as one, since yesterday's rules may have bound it.
///
/// # Errors
/// The text is no plate at all.
pub fn readable_plate(raw: &str) -> Result<Plate, String> {
    let checked = plate::check(raw);
    checked
        .plate
        .ok_or_else(|| format!("this is no plate ({})", checked.why))
}

#[cfg(test)]
mod tests {
    use super::Openid;

    #[test]
    fn an_openid_is_masked_when_printed() {
        let openid = Openid::parse("oUpF8uMuAJOM2pxb1Q").unwrap();

        assert_eq!(format!("{openid} {openid:?}"), "oUpF****xb1Q oUpF****xb1Q");
    }

    #[test]
    fn blanks_and_overlong_texts_are_no_openid() {
        for text in ["", "a b", "o中文", &"o".repeat(65)] {
            assert!(Openid::parse(text).is_err(), "{text:?}");
        }
    }
}

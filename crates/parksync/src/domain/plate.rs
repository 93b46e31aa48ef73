//! Plates: what a raw reading is, and whether WeChat Pay can carry it.
//!
//! `check` is the whole of plate normalisation, from the bytes a camera calls a plate to a verdict. What the text of a
//! reading means lives in `plate::text`, the grammar of plates in `plate::shape`. Not here: which member a plate belongs
//! to, and what is done with a doubtful one. Called by `ingest`, the members file and `plate check`.

use std::fmt;

use serde::{Deserialize, Serialize};

mod shape;
mod text;

use shape::Fit;

/// A normalised plate. It is personal data: `Debug` and `Display` show it masked, `expose` in clear.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Plate(String);

impl Plate {
    /// Takes back text that was a `Plate` before, out of our own store.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The plate in clear: for the wire, the sealed column and the person who typed it. Never for logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The plate as people may see it: first two and last one character, `粤B****5`.
    #[must_use]
    pub fn masked(&self) -> String {
        let chars: Vec<char> = self.0.chars().collect();
        match chars.as_slice() {
            [first, second, .., last] if chars.len() > 4 => format!("{first}{second}****{last}"),
            _ => "****".to_owned(),
        }
    }

    /// Whether WeChat Pay's rule for `plate_number` holds: a province first, then 1 to 31 upper-case letters, digits or
    /// Chinese characters.
    #[must_use]
    pub fn wechat_can_carry(&self) -> bool {
        let mut chars = self.0.chars();
        let rest = self.0.chars().count().saturating_sub(1);
        chars.next().is_some_and(shape::is_province)
            && (1..=31).contains(&rest)
            && chars.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || text::is_han(c))
    }
}

impl fmt::Debug for Plate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plate({})", self.masked())
    }
}

impl fmt::Display for Plate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// What became of a raw reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A plate that may be sent.
    Ok,
    /// The letters O and I in the serial stood for 0 and 1; the corrected plate may be sent.
    Repaired,
    /// The shape is doubtful or the sources disagree: a person or a binding decides.
    Review,
    /// A genuine plate that WeChat Pay cannot carry.
    OkNosync,
    /// The sender says that it read no plate.
    NoPlate,
    /// No plate at all, or none of this country.
    Reject,
}

impl Verdict {
    /// The word for people and machines: `ok`, `repaired`, `review`, `ok-nosync`, `no-plate`, `reject`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Repaired => "repaired",
            Self::Review => "review",
            Self::OkNosync => "ok-nosync",
            Self::NoPlate => "no-plate",
            Self::Reject => "reject",
        }
    }

    /// Whether the plate may leave the house without anybody looking at it.
    #[must_use]
    pub const fn may_be_sent(self) -> bool {
        matches!(self, Self::Ok | Self::Repaired)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The series a plate belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Blue, yellow or motorcycle plate of 7 characters.
    #[serde(rename = "ordinary7")]
    Ordinary7,
    /// Small new-energy car, letter first.
    #[serde(rename = "newenergy8")]
    NewEnergy8,
    /// Large new-energy car, letter last.
    #[serde(rename = "newenergy8-large")]
    NewEnergy8Large,
    /// Police (警).
    Police,
    /// Driving school (学).
    Coach,
    /// Trailer (挂).
    Trailer,
    /// Test (试).
    Test,
    /// Oversize (超).
    Oversize,
    /// Hong Kong or Macau car admitted to Guangdong (粤Z … 港, 澳).
    #[serde(rename = "hkmacau")]
    HkMacau,
    /// Consulate before 2018 (领).
    ConsulOld,
    /// Consulate since 2018.
    #[serde(rename = "consul-2018")]
    Consul2018,
    /// Emergency rescue (应急).
    Emergency,
    /// Embassy before 2017 (使).
    EmbassyOld,
    /// Embassy since 2017.
    #[serde(rename = "embassy-2017")]
    Embassy2017,
    /// Airfield (民航).
    Aviation,
    /// Armed forces, series of 2012.
    #[serde(rename = "military-2012")]
    Military2012,
    /// Armed police (WJ).
    ArmedPolice,
    /// Province, letter and six more that are no new-energy number, as in WeChat Pay's own example.
    Loose,
}

/// The outcome of `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What became of the reading.
    pub verdict: Verdict,
    /// The plate, where the verdict leaves one.
    pub plate: Option<Plate>,
    /// The series, where it is known.
    pub kind: Option<Kind>,
    /// A short stable word for the reason, see `why`.
    pub why: &'static str,
    /// What was read where it looks like a plate of another country or region: to show to a person, never to send.
    pub seen: Option<Plate>,
}

/// The words of `Checked::why`.
pub mod why {
    /// Fits the grammar as it stands.
    pub const FITS: &str = "fits";
    /// Fits after O and I in the serial became 0 and 1.
    pub const LETTERS_REPAIRED: &str = "letters-repaired";
    /// Province, letter and six more that are no new-energy number.
    pub const LOOSE: &str = "loose-plate";
    /// A category word in a place or company it does not officially have.
    pub const CATEGORY_WORD: &str = "category-word";
    /// Authority letter O, an old government series.
    pub const AUTHORITY_O: &str = "authority-letter-o";
    /// Several plates in one reading.
    pub const LIST: &str = "several-plates";
    /// A genuine plate whose first character is no province.
    pub const NOT_FOR_WECHAT: &str = "not-for-wechat";
    /// The sender's way of saying that there was no plate.
    pub const NO_PLATE: &str = "no-plate-read";
    /// Characters hidden by the sender.
    pub const MASKED: &str = "masked-plate";
    /// A number that is never issued, used to fill a field.
    pub const PLACEHOLDER: &str = "placeholder-plate";
    /// Letters and digits without a province.
    pub const NOT_MAINLAND: &str = "not-a-mainland-plate";
    /// Longer than any reading of a plate.
    pub const TOO_LONG: &str = "too-long-for-a-plate";
    /// Anything else.
    pub const NO_SHAPE: &str = "no-plate-shape";
}

impl Checked {
    fn without_plate(verdict: Verdict, why: &'static str) -> Self {
        Self {
            verdict,
            plate: None,
            kind: None,
            why,
            seen: None,
        }
    }

    fn with_plate(verdict: Verdict, text: &str, kind: Option<Kind>, why: &'static str) -> Self {
        Self {
            verdict,
            plate: Some(Plate(text.to_owned())),
            kind,
            why,
            seen: None,
        }
    }
}

/// Normalises a raw reading and judges it. Never fails: what is no plate gets a verdict that says so.
#[must_use]
pub fn check(raw: &str) -> Checked {
    let Some(text) = text::fold(raw) else {
        return Checked::without_plate(Verdict::Reject, why::TOO_LONG);
    };
    // A word such as `N/A` holds a list separator, so words are tried on the whole reading first.
    if text::says_no_plate(&text.to_ascii_uppercase()) {
        return Checked::without_plate(Verdict::NoPlate, why::NO_PLATE);
    }
    // A cross-border car carries up to three plates, joined with bars; one of them is the mainland one.
    let parts: Vec<Checked> = text
        .split('|')
        .filter(|part| !part.trim().is_empty())
        .map(check_part_or_list)
        .collect();
    best_of(parts)
}

/// Of several readings of one car, the one that says most; two different plates are for a person.
fn best_of(mut parts: Vec<Checked>) -> Checked {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    for wanted in [
        &[Verdict::Ok, Verdict::Repaired][..],
        &[Verdict::Review],
        &[Verdict::OkNosync],
    ] {
        let mut found = parts.iter().filter(|part| wanted.contains(&part.verdict));
        if let Some(first) = found.next() {
            return if found.all(|other| other.plate == first.plate) {
                first.clone()
            } else {
                Checked::without_plate(Verdict::Review, why::LIST)
            };
        }
    }
    let foreign = parts.iter().position(|part| part.why == why::NOT_MAINLAND);
    let rejected = foreign.or_else(|| parts.iter().position(|part| part.verdict == Verdict::Reject));
    match rejected {
        Some(index) => parts.remove(index),
        None => Checked::without_plate(Verdict::NoPlate, why::NO_PLATE),
    }
}

/// Judges one part between bars. Where it is no plate but a list of several, nobody can say which car it was.
fn check_part_or_list(part: &str) -> Checked {
    let whole = check_part(part);
    if whole.verdict != Verdict::Reject || !part.contains(text::is_list_separator) {
        return whole;
    }
    let members: Vec<Checked> = part
        .split(text::is_list_separator)
        .filter(|member| !member.trim().is_empty())
        .map(check_part)
        .filter(|member| member.verdict != Verdict::NoPlate)
        .collect();
    match members.as_slice() {
        [] => Checked::without_plate(Verdict::NoPlate, why::NO_PLATE),
        [only] => only.clone(),
        several if several.iter().any(|member| member.plate.is_some()) => {
            Checked::without_plate(Verdict::Review, why::LIST)
        }
        _ => whole,
    }
}

/// Judges text that is one reading: as it stands, without colour words, repaired, doubtful, in this order.
fn check_part(part: &str) -> Checked {
    let upper = part.trim().to_ascii_uppercase();
    if text::says_no_plate(&upper) {
        return Checked::without_plate(Verdict::NoPlate, why::NO_PLATE);
    }
    if text::is_masked(part) {
        return Checked::without_plate(Verdict::Reject, why::MASKED);
    }
    let candidates = text::candidates(&upper);
    for candidate in &candidates {
        match shape::fit(candidate) {
            Some(Fit::Sendable(kind)) => return Checked::with_plate(Verdict::Ok, candidate, Some(kind), why::FITS),
            Some(Fit::NotForWechat(kind)) => {
                return Checked::with_plate(Verdict::OkNosync, candidate, Some(kind), why::NOT_FOR_WECHAT);
            }
            Some(Fit::Placeholder) => return Checked::without_plate(Verdict::Reject, why::PLACEHOLDER),
            None => {}
        }
    }
    for candidate in &candidates {
        let repaired = text::letters_to_digits(candidate);
        match shape::fit(&repaired) {
            Some(Fit::Sendable(kind)) => {
                return Checked::with_plate(Verdict::Repaired, &repaired, Some(kind), why::LETTERS_REPAIRED);
            }
            Some(Fit::Placeholder) => return Checked::without_plate(Verdict::Reject, why::PLACEHOLDER),
            Some(Fit::NotForWechat(_)) | None => {}
        }
    }
    for candidate in &candidates {
        match shape::doubt(candidate) {
            // No serial has an O or an I, so a loose plate with them is nobody's: the person, the binding and the key of
            // deduplication see it with digits. It stays doubtful, because a loose plate is that even when it was read
            // well; and 粤B0D1234 may as well have been 粤BDD1234.
            Some((kind @ Some(Kind::Loose), why)) => {
                return Checked::with_plate(Verdict::Review, &text::letters_to_digits(candidate), kind, why);
            }
            Some((kind, why)) => return Checked::with_plate(Verdict::Review, candidate, kind, why),
            None => {}
        }
    }
    let plain = text::without_separators(&upper);
    if text::looks_foreign(&plain) {
        let seen = Some(Plate(plain));
        return Checked {
            seen,
            ..Checked::without_plate(Verdict::Reject, why::NOT_MAINLAND)
        };
    }
    Checked::without_plate(Verdict::Reject, why::NO_SHAPE)
}

#[cfg(test)]
mod tests;

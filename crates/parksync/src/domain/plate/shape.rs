//! The grammar of mainland plates: which normalised text is a plate, of which series, and what is doubtful.
//!
//! The shapes are those that public validators, plate keyboards and camera manuals agree on (GA 36-2018 itself is not
//! public text). Cleaning happens before, in `plate::text`. Called by `plate::check` only.

use super::{Kind, why};

/// The 31 short names of provinces that a plate can begin with.
const PROVINCES: &str = "京津沪渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新";

/// First letters of the series of 2012: services, regions and, since the reform, theatres. AA12345 is nobody's.
const FORCES: &str = "VKHBSLJNGCEZQ";

/// Branches inside the armed police, written in place of or behind the region.
const ARMED_POLICE_BRANCHES: &str = "警消边通森金电";

/// Category words that have an official place at the end of a plate.
const CATEGORY_WORDS: &str = "警学挂试超领使港澳";

/// Category words that people and older lists write although no series has them.
const UNOFFICIAL_WORDS: &str = "练临使军外航农";

/// A text that is a plate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// WeChat Pay can carry it.
    Sendable(Kind),
    /// Genuine, but its first character is no province.
    NotForWechat(Kind),
    /// The shape is right, the number is never issued: somebody filled a field.
    Placeholder,
}

/// Whether a plate can begin with this character.
pub(super) fn is_province(c: char) -> bool {
    PROVINCES.contains(c)
}

/// The series that the text belongs to, if it is a plate.
pub(super) fn fit(text: &str) -> Option<Fit> {
    let chars: Vec<char> = text.chars().collect();
    if is_placeholder(&chars) {
        return Some(Fit::Placeholder);
    }
    match chars.first() {
        Some(&c) if is_province(c) => civil(&chars).map(Fit::Sendable),
        _ => state(&chars).map(Fit::NotForWechat),
    }
}

/// Plates that begin with a province.
fn civil(chars: &[char]) -> Option<Kind> {
    match *chars {
        // 2018: 闽20401领 has no authority letter.
        [_, ref number @ .., '领'] if (4..=6).contains(&number.len()) && all_digits(number) => Some(Kind::Consul2018),
        [_, 'X' | 'S', a, b, c, d, '应', '急'] if all_digits(&[a, b, c, d]) => Some(Kind::Emergency),
        [_, l, ref serial @ ..] if is_authority(l) => match *serial {
            [a, b, c, d, e] if all_serial(&[a, b, c, d, e]) => Some(Kind::Ordinary7),
            [a, b, c, d, word] if all_serial(&[a, b, c, d]) => category(chars[0], l, word),
            [letter, s, ref number @ ..]
                if number.len() == 4 && is_new_energy(letter) && is_serial(s) && all_digits(number) =>
            {
                Some(Kind::NewEnergy8)
            }
            [ref number @ .., letter] if number.len() == 5 && all_digits(number) && is_new_energy(letter) => {
                Some(Kind::NewEnergy8Large)
            }
            _ => None,
        },
        _ => None,
    }
}

fn category(province: char, authority: char, word: char) -> Option<Kind> {
    match word {
        '警' => Some(Kind::Police),
        '学' => Some(Kind::Coach),
        '挂' => Some(Kind::Trailer),
        '试' => Some(Kind::Test),
        '超' => Some(Kind::Oversize),
        '领' => Some(Kind::ConsulOld),
        '港' | '澳' if (province, authority) == ('粤', 'Z') => Some(Kind::HkMacau),
        _ => None,
    }
}

/// Plates of embassies, airfields, armed forces and armed police.
fn state(chars: &[char]) -> Option<Kind> {
    match *chars {
        ['使', ref number @ ..] if number.len() == 6 && all_digits(number) => Some(Kind::EmbassyOld),
        [ref number @ .., '使'] if number.len() == 6 && all_digits(number) => Some(Kind::Embassy2017),
        ['民', '航', ref serial @ ..] if serial.len() == 5 && all_serial(serial) => Some(Kind::Aviation),
        ['W', 'J', ref rest @ ..] if is_armed_police(rest) => Some(Kind::ArmedPolice),
        [first, second, ref number @ ..]
            if FORCES.contains(first)
                && second.is_ascii_uppercase()
                && second != 'I'
                && number.len() == 5
                && all_digits(number) =>
        {
            Some(Kind::Military2012)
        }
        _ => None,
    }
}

/// What follows WJ: a region (province, two digits, or a branch), then four or five places, the last of which may be
/// a letter or 警. The old `WJ12345` is shorter.
fn is_armed_police(rest: &[char]) -> bool {
    let number = match *rest {
        [a, b, c, ref tail @ ..] if all_digits(&[a, b]) && ARMED_POLICE_BRANCHES.contains(c) => tail,
        [a, b, ref tail @ ..] if all_digits(&[a, b]) => tail,
        [a, ref tail @ ..] if is_province(a) || ARMED_POLICE_BRANCHES.contains(a) => tail,
        _ => return false,
    };
    let shortest = if rest[0].is_ascii_digit() { 3 } else { 4 };
    match *number {
        [ref digits @ .., last] => {
            (shortest..=5).contains(&number.len())
                && all_digits(digits)
                && (last.is_ascii_digit() || last.is_ascii_uppercase() || last == '警')
        }
        [] => false,
    }
}

/// Text that is no plate of the grammar but may be one all the same: a person or a binding decides.
pub(super) fn doubt(text: &str) -> Option<(Option<Kind>, &'static str)> {
    let chars: Vec<char> = text.chars().collect();
    let [province, authority, ref serial @ ..] = *chars.as_slice() else {
        return None;
    };
    if !is_province(province) {
        return None;
    }
    let kind = |word| category(province, authority, word);
    match *serial {
        // An old government series. Turning its O into 0 would make another plate of it.
        [a, b, c, d, e] if authority == 'O' && all_serial(&[a, b, c, d]) => {
            (is_serial(e) || CATEGORY_WORDS.contains(e)).then_some((None, why::AUTHORITY_O))
        }
        _ if !is_authority(authority) => None,
        [a, b, c, d, '应', '急'] if all_serial(&[a, b, c, d]) => Some((Some(Kind::Emergency), why::CATEGORY_WORD)),
        [ref plain @ .., word]
            if (4..=5).contains(&plain.len())
                && all_serial(plain)
                && (CATEGORY_WORDS.contains(word) || UNOFFICIAL_WORDS.contains(word)) =>
        {
            Some((kind(word), why::CATEGORY_WORD))
        }
        ref six if six.len() == 6 && six.iter().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()) => {
            Some((Some(Kind::Loose), why::LOOSE))
        }
        _ => None,
    }
}

/// Numbers start at 1, so a serial of zeros only was never issued; 默A00000 and 警A00000 stand for "unknown" at toll
/// gates.
fn is_placeholder(chars: &[char]) -> bool {
    match *chars {
        [head, letter, ref zeros @ ..]
            if !head.is_ascii() && letter.is_ascii_uppercase() && (5..=6).contains(&zeros.len()) =>
        {
            zeros.iter().all(|&c| c == '0')
                || (zeros.len() == 6 && is_new_energy(zeros[0]) && zeros[1..].iter().all(|&c| c == '0'))
                || (zeros.len() == 6 && is_new_energy(zeros[5]) && zeros[..5].iter().all(|&c| c == '0'))
                || (zeros.len() == 5 && !zeros[4].is_ascii() && zeros[..4].iter().all(|&c| c == '0'))
        }
        _ => false,
    }
}

/// The letter of the issuing authority: neither I nor O.
fn is_authority(c: char) -> bool {
    c.is_ascii_uppercase() && c != 'I' && c != 'O'
}

/// A place of the serial: a digit, or a letter but neither I nor O.
fn is_serial(c: char) -> bool {
    c.is_ascii_digit() || is_authority(c)
}

/// D and F first; A B C E (battery) and G H J K (other) since those ran out.
fn is_new_energy(c: char) -> bool {
    matches!(c, 'A'..='H' | 'J' | 'K')
}

fn all_serial(chars: &[char]) -> bool {
    chars.iter().copied().all(is_serial)
}

fn all_digits(chars: &[char]) -> bool {
    chars.iter().all(char::is_ascii_digit)
}

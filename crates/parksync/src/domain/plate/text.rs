//! The text of a reading: folding what people and devices put around and into a plate, and the words that mean "none".
//!
//! Decoding bytes is the sender format's business, the grammar of plates is `plate::shape`'s. Called by `plate::check`
//! only.

/// More characters than this are no reading of a plate, however it is decorated.
const LONGEST: usize = 64;

/// Characters of work before giving up on a text that goes on after its blanks.
const LONGEST_RAW: usize = 1024;

const TRADITIONAL: &str = "滬遼蘇閩贛魯粵瓊貴雲陝寧晉學掛領應試練臨無識別車號檢測藍黃綠漸變";
const SIMPLIFIED: &str = "沪辽苏闽赣鲁粤琼贵云陕宁晋学挂领应试练临无识别车号检测蓝黄绿渐变";

/// Colour words that recognisers glue to a plate. 双 (two rows) and 摩 (motorcycle) stand in the same place.
const COLOURS: [&str; 17] = [
    "蓝",
    "黄",
    "白",
    "黑",
    "绿",
    "红",
    "黄绿",
    "渐变绿",
    "渐变",
    "新能源绿",
    "新能源",
    "蓝白",
    "黄绿双拼",
    "双",
    "摩",
    "未知",
    "其他",
];
const COLOUR_ENDINGS: [&str; 5] = ["", "色", "牌", "色牌", "底"];
const COLOURS_ENGLISH: [&str; 10] = [
    "BLUE",
    "YELLOW",
    "WHITE",
    "BLACK",
    "GREEN",
    "YELLOWGREEN",
    "GRADIENTGREEN",
    "NEWENERGY",
    "UNKNOWN",
    "OTHER",
];

/// "No plate" as the whole of a reading, punctuation left out.
const NO_PLATE_EXACT: [&str; 31] = [
    "空",
    "未知",
    "不详",
    "不明",
    "没有",
    "没牌",
    "新车",
    "默认",
    "默认车牌",
    "空牌",
    "NULL",
    "NIL",
    "NONE",
    "NA",
    "NAN",
    "NP",
    "UNK",
    "ERROR",
    "FAIL",
    "FAILED",
    "FALSE",
    "DEFAULT",
    "EMPTY",
    "BLANK",
    "NO",
    "N",
    "NOCAR",
    "NOTAG",
    "NODATA",
    "INVALID",
    "MISSING",
];

/// "No plate" as the beginning of a reading; a running number may follow. Anything that begins with 无 or 临 is one.
const NO_PLATE_START: [&str; 21] = [
    "无",
    "临",
    "UNKNOW",
    "UNKOWN",
    "UNRECOG",
    "UNREAD",
    "UNDETECT",
    "UNDEFINED",
    "UNIDENT",
    "UNLICENSED",
    "NOPLATE",
    "NOLICEN",
    "NOREAD",
    "NORESULT",
    "NOVEHICLE",
    "NONUMBER",
    "NOTREAD",
    "NOTRECOG",
    "NOTDETECT",
    "NOTFOUND",
    "CANNOTREAD",
];

/// "No plate" anywhere in a reading that does not begin like a plate.
const NO_PLATE_INSIDE: [&str; 22] = [
    "无牌",
    "无车牌",
    "无号牌",
    "没有车牌",
    "没有牌",
    "没车牌",
    "未识别",
    "未能识别",
    "识别失败",
    "无法识别",
    "不能识别",
    "识别不",
    "未检测",
    "未检出",
    "未上牌",
    "未挂牌",
    "未悬挂",
    "空车牌",
    "拒识",
    "遮挡",
    "污损",
    "看不清",
];

/// Numbers that hubs hand out to cars without a plate, as printed in their manuals. Such numbers have no shape of their
/// own: the first one looks like a plate of the armed forces.
const HUB_NUMBERS: [&str; 4] = ["EA47829", "7FEDR54", "6F4C859", "ES16V2A"];

/// Folds a raw reading: ends at the first NUL, without invisible characters, quotes and line breaks, full-width forms
/// as ASCII, one kind of blank, traditional characters as simplified ones. Case is kept, because `x` hides a character
/// where `X` is one. `None` when the text is too long to be a plate.
pub(super) fn fold(raw: &str) -> Option<String> {
    let mut folded = String::new();
    let mut length = 0;
    for c in raw.chars().take_while(|&c| c != '\0').map(narrow) {
        if is_invisible(c) || is_quote(c) || matches!(c, '\r' | '\n') {
            continue;
        }
        let c = if c.is_whitespace() || c == '\u{2800}' {
            ' '
        } else {
            simplify(c)
        };
        if folded.is_empty() && is_blank(c) {
            continue;
        }
        length += 1;
        if length > LONGEST_RAW {
            return None;
        }
        folded.push(c);
    }
    let text = folded.trim_end_matches(is_blank);
    (text.chars().count() <= LONGEST).then(|| text.to_owned())
}

/// Full-width forms to ASCII. Not NFKC: that would make a digit of ① as well.
fn narrow(c: char) -> char {
    match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(c as u32 - 0xFEE0).unwrap_or(c),
        '\u{3000}' => ' ',
        _ => c,
    }
}

fn simplify(c: char) -> char {
    TRADITIONAL
        .chars()
        .zip(SIMPLIFIED.chars())
        .find(|&(from, _)| from == c)
        .map_or(c, |(_, to)| to)
}

/// Around a plate, control characters are framing (STX, ETX); inside they are damage.
fn is_blank(c: char) -> bool {
    c == ' ' || c.is_control()
}

fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{AD}'
            | '\u{34F}'
            | '\u{61C}'
            | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{E0000}'..='\u{E0FFF}'
    )
}

fn is_quote(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | '`' | '´' | '«' | '»' | '‹' | '›' | '\u{2018}'..='\u{201F}' | '′' | '″' | '「'..='』' | '〝'..='〟'
    )
}

fn is_separator(c: char) -> bool {
    matches!(
        c,
        ' ' | '-' | '_' | '.' | '·' | '\u{387}' | '\u{2010}'
            ..='\u{2015}'
                | '•'
                | '\u{2024}'
                | '‧'
                | '\u{2212}'
                | '\u{2219}'
                | '⋅'
                | '●'
                | '⚫'
                | '。'
                | '・'
                | '\u{FF61}'
                | '\u{FF65}'
    )
}

/// What stands between the members of a list.
pub(super) fn is_list_separator(c: char) -> bool {
    matches!(c, ',' | ';' | '/' | '、' | '&' | '+')
}

/// The text without what people write between the parts of a plate.
pub(super) fn without_separators(text: &str) -> String {
    text.chars().filter(|&c| !is_separator(c)).collect()
}

/// The readings to try: the text as it stands, and without a colour word or code at either end.
///
/// As it stands comes first: 黑A12345 is a plate of Heilongjiang. The one exception is a code behind an underscore: once
/// the underscore is gone, `粤B12345_1` would pass for a longer plate.
pub(super) fn candidates(upper: &str) -> Vec<String> {
    let plain = without_separators(upper);
    let uncoded = without_code(upper).map(without_separators);
    if uncoded.is_none() && super::shape::fit(&plain).is_some() {
        return vec![plain];
    }
    let mut heads = Vec::new();
    for text in uncoded.iter().chain([&plain]) {
        heads.push(text.as_str());
        heads.extend(
            colours()
                .filter_map(|colour| trim_joint(text).strip_prefix(colour.as_str()))
                .map(trim_joint),
        );
    }
    let mut candidates: Vec<String> = heads.iter().copied().map(str::to_owned).collect();
    for head in heads {
        let tails = colours().filter_map(|colour| trim_joint(head).strip_suffix(colour.as_str()).map(trim_joint));
        candidates.extend(tails.map(str::to_owned));
    }
    candidates
}

/// The text before a colour code: `粤B12345_1`, with the codes of toll gates up to 12.
fn without_code(upper: &str) -> Option<&str> {
    let (head, code) = upper.rsplit_once(['_', ','])?;
    let code = code.trim();
    (matches!(code.len(), 1 | 2) && code.parse::<u8>().is_ok_and(|code| code <= 12)).then_some(head)
}

fn colours() -> impl Iterator<Item = String> {
    let chinese = COLOURS
        .iter()
        .flat_map(|colour| COLOUR_ENDINGS.iter().map(move |end| format!("{colour}{end}")));
    chinese.chain(COLOURS_ENGLISH.iter().map(|&colour| colour.to_owned()))
}

/// What joins a colour word to a plate: `苏AZ739W,blue`, `(蓝)粤B12345`.
fn trim_joint(text: &str) -> &str {
    text.trim_matches(|c: char| is_list_separator(c) || matches!(c, ':' | '(' | ')' | '[' | ']' | '【' | '】'))
}

/// O and I do not occur in a serial: there they are misread digits. B D S Z L 8 2 are legal and stay.
pub(super) fn letters_to_digits(text: &str) -> String {
    let digit = |(place, c)| match c {
        'O' if place >= 2 => '0',
        'I' if place >= 2 => '1',
        _ => c,
    };
    text.chars().enumerate().map(digit).collect()
}

/// Whether the sender says in words, or with a filling of zeros or stars, that it read no plate.
pub(super) fn says_no_plate(upper: &str) -> bool {
    let key: String = upper.chars().filter(|c| c.is_alphanumeric()).collect();
    if key.is_empty() {
        return upper
            .chars()
            .all(|c| c.is_ascii_punctuation() || is_separator(c) || c == '—');
    }
    let filling = key.chars().all(|c| c == '0') || (key.len() > 1 && key.chars().all(|c| c == 'X'));
    filling
        || NO_PLATE_EXACT.contains(&key.as_str())
        || HUB_NUMBERS.contains(&key.as_str())
        || NO_PLATE_START.iter().any(|word| key.starts_with(word))
        || (!begins_like_a_plate(&key) && NO_PLATE_INSIDE.iter().any(|word| key.contains(word)))
}

fn begins_like_a_plate(key: &str) -> bool {
    let mut chars = key.chars();
    chars.next().is_some_and(super::shape::is_province) && chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
}

/// Whether the sender hid characters. An `X` may belong to the plate: only a run of small ones among capitals, or four
/// in a row, is a mask.
pub(super) fn is_masked(text: &str) -> bool {
    let stars = text.contains(['*', '×', '∗', '✱', '﹡', '※']);
    let typed_small = text.chars().any(|c| c.is_ascii_lowercase() && c != 'x');
    stars || (text.contains("xx") && !typed_small) || text.to_ascii_uppercase().contains("XXXX")
}

/// Whether this looks like a plate that is just not one of the mainland: letters and digits of any script.
pub(super) fn looks_foreign(plain: &str) -> bool {
    let length = plain.chars().count();
    (3..=10).contains(&length) && plain.chars().all(|c| c.is_alphanumeric() && !is_han(c))
}

/// The script `Han`, as in the `\p{Han}` of WeChat Pay's rule.
pub(super) fn is_han(c: char) -> bool {
    matches!(
        c,
        '\u{2E80}'..='\u{2E99}'
            | '\u{2E9B}'..='\u{2EF3}'
            | '\u{2F00}'..='\u{2FD5}'
            | '\u{3005}'
            | '\u{3007}'
            | '\u{3021}'..='\u{3029}'
            | '\u{3038}'..='\u{303B}'
            | '\u{3400}'..='\u{4DBF}'
            | '\u{4E00}'..='\u{9FFF}'
            | '\u{F900}'..='\u{FA6D}'
            | '\u{FA70}'..='\u{FAD9}'
            | '\u{20000}'..='\u{2A6DF}'
            | '\u{2A700}'..='\u{2EE5D}'
            | '\u{2F800}'..='\u{2FA1D}'
            | '\u{30000}'..='\u{323AF}'
    )
}

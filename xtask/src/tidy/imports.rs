//! Finds the paths that a Rust file names, by reading its text.
//!
//! Not a parser: comments and strings are dropped, then every `a::b::{c, d}` is spelled out, whether in a `use` or in
//! the middle of a function. That is enough to see which room a file reaches into. Called by `rooms`.

/// A path with the line it stands on; `crate`, `self` and `super` resolved against the module's own path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    Other(char),
}

type Tokens<'a> = &'a [(usize, Token)];

/// The part of a file before its tests, which stand at the bottom.
pub(super) fn without_tests(text: &str) -> &str {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let after = &text[offset + line.len()..];
        let item = after.lines().find(|line| !line.starts_with("#["));
        if line.trim_end() == "#[cfg(test)]" && item.is_some_and(|item| item.starts_with("mod ")) {
            return &text[..offset];
        }
        offset += line.len();
    }
    text
}

/// Every path of two segments or more, and every single name that is imported.
pub(super) fn paths(text: &str, module: &[&str]) -> Vec<NamedPath> {
    let tokens = tokens(text);
    let word = |at: usize| match tokens.get(at) {
        Some((_, Token::Word(word))) => Some(word.as_str()),
        Some((_, Token::Colons | Token::Other(_))) | None => None,
    };
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match (word(at), word(at + 1)) {
            (Some("use"), _) => tree(&tokens, at + 1, &[], true, &mut found),
            (Some("extern"), Some("crate")) => tree(&tokens, at + 2, &[], true, &mut found),
            (Some(_), _) => tree(&tokens, at, &[], false, &mut found),
            (None, _) => at + 1,
        };
    }
    found.into_iter().map(|path| resolve(path, module)).collect()
}

/// Reads one path or tree of paths beginning at `at`; gives the place behind it.
fn tree(tokens: Tokens<'_>, mut at: usize, prefix: &[String], import: bool, found: &mut Vec<NamedPath>) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |(line, _)| *line);
    if matches!(tokens.get(at), Some((_, Token::Colons))) {
        at += 1;
    }
    loop {
        match tokens.get(at).map(|(_, token)| token) {
            Some(Token::Word(word)) => segments.push(word.clone()),
            Some(Token::Other('{')) if import || segments.len() > prefix.len() => {
                return group(tokens, at + 1, &segments, import, found);
            }
            Some(Token::Other('*')) if import => segments.push("*".to_owned()),
            Some(Token::Colons | Token::Other(_)) | None => break,
        }
        at += 1;
        if !matches!(tokens.get(at), Some((_, Token::Colons))) {
            break;
        }
        at += 1;
    }
    if segments.len() > 1 || (import && !segments.is_empty()) {
        found.push(NamedPath { line, segments });
    }
    at
}

/// Reads the inside of `{…}` up to its closing brace.
fn group(tokens: Tokens<'_>, mut at: usize, prefix: &[String], import: bool, found: &mut Vec<NamedPath>) -> usize {
    loop {
        match tokens.get(at).map(|(_, token)| token) {
            None => return at,
            Some(Token::Other('}')) => return at + 1,
            Some(Token::Other('{' | '*') | Token::Word(_)) => {
                let next = tree(tokens, at, prefix, import, found);
                // An alias is not a path of its own.
                let alias = matches!(tokens.get(next), Some((_, Token::Word(word))) if word == "as");
                at = if alias { next + 2 } else { next.max(at + 1) };
            }
            Some(Token::Colons | Token::Other(_)) => at += 1,
        }
    }
}

fn resolve(path: NamedPath, module: &[&str]) -> NamedPath {
    let NamedPath { line, segments } = path;
    let supers = segments.iter().take_while(|segment| *segment == "super").count();
    let relative = supers > 0 || segments.first().is_some_and(|first| first == "self");
    if !relative {
        return NamedPath { line, segments };
    }
    let above = &module[..module.len().saturating_sub(supers)];
    let base = std::iter::once("crate").chain(above.iter().copied()).map(str::to_owned);
    let rest = segments.into_iter().skip(supers.max(1));
    NamedPath {
        line,
        segments: base.chain(rest).collect(),
    }
}

fn tokens(text: &str) -> Vec<(usize, Token)> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let length = match rest {
            [' ' | '\t' | '\r' | '\n', ..] => 1,
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => string(rest),
            ['b' | 'c', '"', ..] => 1 + string(&rest[1..]),
            ['r', '"' | '#', ..] if raw_string(rest).is_some() => raw_string(rest).unwrap_or(1),
            ['b' | 'c', 'r', '"' | '#', ..] if raw_string(&rest[1..]).is_some() => {
                1 + raw_string(&rest[1..]).unwrap_or(1)
            }
            ['\'', '\\', ..] => 3 + rest[3..].iter().position(|c| *c == '\'').unwrap_or(0) + 1,
            ['\'', _, '\'', ..] => 3,
            [':', ':', ..] => {
                tokens.push((line, Token::Colons));
                2
            }
            [first, ..] if first.is_alphanumeric() || *first == '_' => {
                let end = rest
                    .iter()
                    .position(|c| !c.is_alphanumeric() && *c != '_')
                    .unwrap_or(rest.len());
                tokens.push((line, Token::Word(rest[..end].iter().collect())));
                end
            }
            [other, ..] => {
                tokens.push((line, Token::Other(*other)));
                1
            }
            [] => break,
        };
        let length = length.min(rest.len());
        line += rest[..length].iter().filter(|c| **c == '\n').count();
        at += length;
    }
    tokens
}

/// Block comments nest.
fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of `r"…"` or `r#"…"#`; nothing for a raw identifier.
fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let body = 2 + hashes;
    let ends = |at: &usize| rest[*at] == '"' && rest[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    Some((body..rest.len()).find(ends).map_or(rest.len(), |at| at + 1 + hashes))
}

#[cfg(test)]
mod tests {
    use super::{paths, without_tests};

    fn named(text: &str) -> Vec<String> {
        paths(text, &["web", "notify"])
            .iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn trees_are_spelled_out() {
        let text = "use crate::{domain::{gate, plate::{self, Plate as P}}, store::*};\nuse tokio;\nuse ::hyper::body;";

        let expected = [
            "crate::domain::gate",
            "crate::domain::plate::self",
            "crate::domain::plate::Plate",
            "crate::store::*",
            "tokio",
            "hyper::body",
        ];
        assert_eq!(named(text), expected);
    }

    #[test]
    fn paths_in_the_middle_of_code_are_found() {
        let text = "fn f(a: &crate::store::Store) -> tokio::Task<'_> { a.b::<u8>(); vec![rusqlite::open::<X>('a')] }";

        assert_eq!(named(text), ["crate::store::Store", "tokio::Task", "rusqlite::open"]);
    }

    #[test]
    fn relative_paths_are_resolved() {
        assert_eq!(
            named("use super::events; use super::super::store::X; self::own();"),
            ["crate::web::events", "crate::store::X", "crate::web::notify::own",]
        );
    }

    #[test]
    fn comments_strings_and_characters_are_not_code() {
        let text = "// crate::a\n/* crate::b /* crate::c */ */ \"crate::d \\\" crate::e\" r#\"crate::f\" crate::g\"# b\"crate::h\" \
                    '\"' '\\'' '\\u{1}' 'x: crate::i::j";

        assert_eq!(named(text), ["crate::i::j"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let found = paths("/*\n*/ \"\n\"\nuse crate::{\n    a,\n    b::c,\n};", &[]);

        assert_eq!(found.iter().map(|path| path.line).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn tests_at_the_bottom_are_left_out() {
        let text = "use a::b;\n#[cfg(test)]\nuse c::d;\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n use e::f;\n}\n";

        assert_eq!(named(without_tests(text)), ["a::b", "c::d"]);
    }
}

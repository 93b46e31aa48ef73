//! Rules about files as text: words that must not be in them, length, names, pairs of languages, plates.
//!
//! Called by `tidy`.

use std::collections::BTreeSet;

use super::imports::without_tests;
use super::{File, Finding};

/// A source file past this is mentioned: look for a second noun.
const LONG: usize = 500;

/// Pages that exist in English and, beside it, in Chinese.
const PAIRED: [&str; 6] = [
    "README",
    "docs/durability",
    "docs/gate-formats",
    "docs/operating",
    "docs/rehearse",
    "docs/sandbox",
];

/// Plates read off published photographs: for tests alone.
const PLATES: &str = "crates/parksync/tests/data/plates-dev.txt";

// In two halves, so that this file does not hold what it looks for.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
const REGISTRIES: [&str; 7] = [
    concat!("crates", ".io"),
    concat!("npmjs", ".org"),
    concat!("pypi", ".org"),
    concat!("docker", ".io"),
    concat!("ghcr", ".io"),
    concat!("proxy.golang", ".org"),
    concat!("spars", "e+http"),
];
const OPEN_ENDS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let plates = plates(files);
    let mut found: Vec<Finding> = files.iter().flat_map(|file| of_file(file, &plates)).collect();
    found.extend(unpaired(files));
    found
}

fn of_file(file: &File, plates: &[&str]) -> Vec<Finding> {
    let path = file.path.as_str();
    let mut found = Vec::new();
    if path.ends_with("/mod.rs") {
        found.push(Finding::rule(
            path,
            1,
            "name the file after its module, beside the folder".to_owned(),
        ));
    }
    let length = file.text.lines().count();
    if path.ends_with(".rs") && length > LONG {
        found.push(Finding::note(
            path,
            length,
            format!("{length} lines: look for a second noun"),
        ));
    }
    // Signatures and locked versions are not our words.
    if !path.ends_with("Cargo.lock") && !path.ends_with(".json") {
        for (line, text) in file.text.lines().enumerate().map(|(at, text)| (at + 1, text)) {
            found.extend(bad_words(text).into_iter().map(|what| Finding::rule(path, line, what)));
        }
    }
    if !may_hold_plates(path) {
        let text = without_tests(&file.text);
        for plate in plates.iter().filter(|plate| text.contains(**plate)) {
            let line = text
                .lines()
                .position(|line| line.contains(*plate))
                .map_or(1, |at| at + 1);
            found.push(Finding::rule(
                path,
                line,
                format!("the plate {plate} of the test data is for tests alone"),
            ));
        }
    }
    found
}

fn bad_words(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in MACHINE_PATHS {
        // After a letter it is the inside of another path or of an address.
        let begins =
            |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}'));
        if line.match_indices(path).any(|(at, _)| begins(at)) {
            found.push(format!("{path}… is a path of one machine"));
        }
    }
    for host in REGISTRIES {
        if line.contains(host) {
            found.push(format!("{host} names a registry"));
        }
    }
    for word in OPEN_ENDS {
        let bare = |at: usize| {
            let rest = &line[at + word.len()..];
            let owned = rest
                .strip_prefix('(')
                .is_some_and(|rest| !rest.starts_with(')') && rest.contains(')'));
            let whole = !line[..at].ends_with(char::is_alphanumeric) && !rest.starts_with(char::is_alphanumeric);
            whole && !owned
        };
        if line.match_indices(word).any(|(at, _)| bare(at)) {
            found.push(format!("{word} without an owner; write {word}(name)"));
        }
    }
    found
}

fn plates(files: &[File]) -> Vec<&str> {
    let list = files.iter().find(|file| file.path == PLATES);
    let lines = list
        .into_iter()
        .flat_map(|file| file.text.lines())
        .filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split('\t').next())
        .map(str::trim)
        .filter(|plate| !plate.is_empty())
        .collect()
}

fn may_hold_plates(path: &str) -> bool {
    path.split('/')
        .any(|part| matches!(part, "tests" | "examples" | "benches" | "fuzz" | "tests.rs"))
}

/// Pages that are there in one language only.
fn unpaired(files: &[File]) -> Vec<Finding> {
    const CHINESE: &str = ".zh-CN.md";
    let there: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let translated = there.iter().filter_map(|path| path.strip_suffix(CHINESE));
    let pages: BTreeSet<&str> = PAIRED.into_iter().chain(translated).collect();
    let missing = pages.into_iter().filter_map(|page| {
        let (english, chinese) = (format!("{page}.md"), format!("{page}{CHINESE}"));
        match (there.contains(english.as_str()), there.contains(chinese.as_str())) {
            (true, false) => Some(Finding::rule(&english, 1, format!("{chinese} is missing"))),
            (false, true) => Some(Finding::rule(&chinese, 1, format!("{english} is missing"))),
            (true, true) | (false, false) => None,
        }
    });
    missing.collect()
}

#[cfg(test)]
mod tests {
    use super::{PLATES, check};
    use crate::tidy::File;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        let files: Vec<File> = files.iter().map(file).collect();
        check(&files)
            .iter()
            .map(|finding| format!("{}:{}", finding.path, finding.line))
            .collect()
    }

    #[test]
    fn words_that_must_not_be_there_are_found() {
        for bad in [
            concat!("cd /wo", "rk/parksync"),
            concat!("key = \"/ro", "ot/key.pem\""),
            concat!("see https://crates", ".io/crates/x"),
            concat!("// TO", "DO: later"),
            concat!("# FIX", "ME() nobody"),
        ] {
            assert_eq!(found(&[("a.toml", &format!("fine\n{bad}\n"))]), ["a.toml:2"], "{bad}");
        }
        for good in [
            concat!("https://example.com/ho", "me/page"),
            concat!("// TO", "DO(parking team): later"),
            concat!("TO", "DOS"),
            "home work root",
        ] {
            assert_eq!(found(&[("a.toml", good)]), [] as [&str; 0], "{good}");
        }
        assert_eq!(found(&[("Cargo.lock", concat!("crates", ".io"))]), [] as [&str; 0]);
    }

    #[test]
    fn long_files_and_mod_files_are_found() {
        assert_eq!(found(&[("a.rs", &"x\n".repeat(500))]), [] as [&str; 0]);
        assert_eq!(found(&[("a.rs", &"x\n".repeat(501))]), ["a.rs:501"]);
        assert_eq!(found(&[("a/mod.rs", "")]), ["a/mod.rs:1"]);
    }

    #[test]
    fn plates_of_the_test_data_stay_in_tests() {
        let list = (PLATES, "# 京A00000\n京A00001\tordinary7\tyes\tmade-up\n");
        let with = |path: &str, text: &str| found(&[list, (path, text)]);

        assert_eq!(with("docs/own.md", "\n\n京A00001"), ["docs/own.md:3"]);
        assert_eq!(
            with("crates/parksync/src/cli/demo.rs", "let plate = \"京A00001\";"),
            ["crates/parksync/src/cli/demo.rs:1"]
        );
        assert_eq!(
            with(
                "crates/parksync/src/a.rs",
                "#[cfg(test)]\nmod tests {\n// 京A00001\n}\n"
            ),
            [] as [&str; 0]
        );
        assert_eq!(with("crates/parksync/tests/it/app.rs", "京A00001"), [] as [&str; 0]);
        assert_eq!(with("examples/gate-messages/a.json", "京A00001"), [] as [&str; 0]);
        assert_eq!(with("a.rs", "京A00000"), [] as [&str; 0]);
    }

    #[test]
    fn pages_come_in_both_languages() {
        assert_eq!(found(&[("README.md", "")]), ["README.md:1"]);
        assert_eq!(found(&[("docs/own.zh-CN.md", "")]), ["docs/own.zh-CN.md:1"]);
        assert_eq!(
            found(&[("README.md", ""), ("README.zh-CN.md", ""), ("docs/own.md", "")]),
            [] as [&str; 0]
        );
    }
}

//! Which crate may depend on which: read from the `Cargo.toml` files.
//!
//! Dev-dependencies are free, because tests may bring both sides together. Called by `tidy`.

use super::{File, Finding};

/// A package and the packages it must never depend on, outside of its tests.
const NEVER: [(&str, &[&str]); 3] = [
    (
        "crates/wechatpay/Cargo.toml",
        &["wechatpay-sandbox", "parksync", "wechatpay-vectors"],
    ),
    (
        "crates/wechatpay-sandbox/Cargo.toml",
        &["wechatpay", "wechatpay-apiv3", "parksync", "wechatpay-vectors"],
    ),
    (
        "vectors/Cargo.toml",
        &[
            "wechatpay",
            "wechatpay-apiv3",
            "wechatpay-sandbox",
            "parksync",
            "aws-lc-rs",
        ],
    ),
];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let Some((_, never)) = NEVER.into_iter().find(|(path, _)| *path == file.path) else {
        return Vec::new();
    };
    let forbidden = dependencies(&file.text)
        .into_iter()
        .filter(|(_, name)| never.contains(&name.as_str()));
    forbidden
        .map(|(line, name)| {
            Finding::rule(
                &file.path,
                line,
                format!("must not depend on {name}, except in its tests"),
            )
        })
        .collect()
}

/// The dependencies that are not for tests alone, by key and by `package`.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (line, text) in manifest.lines().enumerate().map(|(at, text)| (at + 1, text.trim())) {
        if let Some(table) = text.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            let dev = table.contains("dev-dependencies");
            inside = !dev && table.split('.').any(|part| part.ends_with("dependencies"));
            // `[dependencies.NAME]`
            let named = table.split_once("dependencies.").map(|(_, name)| name.to_owned());
            found.extend(named.filter(|_| inside).map(|name| (line, name)));
        } else if inside && !text.starts_with('#') {
            let Some((key, value)) = text.split_once('=') else {
                continue;
            };
            let key = key.trim().split('.').next().unwrap_or_default().trim_matches('"');
            found.push((line, key.to_owned()));
            let package = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
            let renamed = if key == "package" {
                value.split('"').nth(1)
            } else {
                package
            };
            found.extend(renamed.map(|name| (line, name.to_owned())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::File;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&File {
            path: path.to_owned(),
            text: text.to_owned(),
        })
        .iter()
        .map(|finding| finding.line)
        .collect()
    }

    #[test]
    fn a_dependency_of_the_sandbox_on_the_sdk_is_found_in_every_spelling() {
        let sandbox = "crates/wechatpay-sandbox/Cargo.toml";

        assert_eq!(
            lines(sandbox, "[dependencies]\nhttp = \"1\"\nwechatpay.workspace = true\n"),
            [3]
        );
        assert_eq!(
            lines(
                sandbox,
                "[dependencies]\nwp = { path = \"x\", package = \"wechatpay-apiv3\" }\n"
            ),
            [2]
        );
        assert_eq!(lines(sandbox, "[dependencies.wechatpay]\nworkspace = true\n"), [1]);
        assert_eq!(
            lines(sandbox, "[dependencies.wp]\npackage = \"wechatpay-apiv3\"\n"),
            [2]
        );
        assert_eq!(
            lines(sandbox, "[target.'cfg(unix)'.dependencies]\nwechatpay = \"1\"\n"),
            [2]
        );
        assert_eq!(lines(sandbox, "[build-dependencies]\nwechatpay = \"1\"\n"), [2]);
    }

    #[test]
    fn tests_may_bring_both_sides_together() {
        let text = "[dependencies]\nhttp = \"1\"\n\n[dev-dependencies]\nwechatpay-sandbox.workspace = true\nwechatpay-vectors.workspace = true\n";

        assert_eq!(lines("crates/wechatpay/Cargo.toml", text), [] as [usize; 0]);
        assert_eq!(lines("crates/wechatpay/Cargo.toml", &text.replace("dev-", "")), [5, 6]);
        assert_eq!(
            lines(
                "crates/parksync/Cargo.toml",
                "[dependencies]\nwechatpay.workspace = true\n"
            ),
            [] as [usize; 0]
        );
    }
}

//! The house rules that neither the compiler nor Clippy knows.
//!
//! Collects the files and hands them to one file per sort of rule; each is a plain function from text to findings.
//! Called by `main`. A rule about a file that is not there passes.

mod imports;
mod manifests;
mod rooms;
mod texts;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// A text file of the repository.
struct File {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

/// Something to look at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
    /// A note is only mentioned.
    pub(crate) breaks_a_rule: bool,
}

impl Finding {
    fn rule(path: &str, line: usize, what: String) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what,
            breaks_a_rule: true,
        }
    }

    fn note(path: &str, line: usize, what: String) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what,
            breaks_a_rule: false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = if self.breaks_a_rule { "" } else { "note: " };
        write!(f, "{}:{}: {note}{}", self.path, self.line, self.what)
    }
}

/// Checks the files of the repository in this folder.
///
/// # Errors
///
/// If they cannot be listed.
pub(crate) fn repository(folder: &Path) -> Result<Vec<Finding>> {
    Ok(check(&files(folder)?))
}

fn check(files: &[File]) -> Vec<Finding> {
    let mut found: Vec<Finding> = files
        .iter()
        .flat_map(|file| [rooms::check(file), manifests::check(file)])
        .flatten()
        .collect();
    found.extend(texts::check(files));
    found.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    found
}

/// Every text file that git knows or would add; without git, every one that is not built.
fn files(folder: &Path) -> Result<Vec<File>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let git = Command::new("git").args(list).current_dir(folder).output();
    let paths = match git {
        Ok(git) if git.status.success() => {
            let paths = String::from_utf8(git.stdout).context("a file's name is not UTF-8")?;
            paths.split_terminator('\0').map(str::to_owned).collect()
        }
        // An unpacked archive, or a checkout that belongs to somebody else.
        Ok(_) | Err(_) => walk(folder, "")?,
    };
    let read = |path: String| {
        Some(File {
            text: std::fs::read_to_string(folder.join(&path)).ok()?,
            path,
        })
    };
    Ok(paths.into_iter().filter_map(read).collect())
}

fn walk(folder: &Path, inside: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in folder
        .join(inside)
        .read_dir()
        .with_context(|| format!("cannot list {}", folder.display()))?
    {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        let path = if inside.is_empty() {
            name
        } else {
            format!("{inside}/{name}")
        };
        if entry.file_type()?.is_file() {
            paths.push(path);
        } else if entry.file_type()?.is_dir() && !matches!(path.as_str(), "target" | ".git") {
            paths.extend(walk(folder, &path)?);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::{files, repository, walk};

    #[test]
    fn this_repository_keeps_the_rules() {
        let found = repository(&crate::run::repository()).unwrap();

        let broken: Vec<String> = found
            .iter()
            .filter(|finding| finding.breaks_a_rule)
            .map(ToString::to_string)
            .collect();
        assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
    }

    #[test]
    fn without_git_the_same_sources_are_found() {
        let root = crate::run::repository();
        let walked = walk(&root, "").unwrap();

        let sources = files(&root).unwrap();
        assert!(sources.iter().any(|file| file.path == "xtask/src/tidy.rs"));
        assert!(sources.iter().all(|file| walked.contains(&file.path)));
        assert!(
            !walked
                .iter()
                .any(|path| path.starts_with("target/") || path.starts_with(".git/"))
        );
    }
}

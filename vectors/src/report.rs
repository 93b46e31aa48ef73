//! The outcome of a check: a table by kind, and every failure and skip by name.
//!
//! Counts and prints; decides nothing. Filled by the crate's root, read by tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;

/// What became of one vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    RefusedByLeave,
    Failed(String),
    Skipped(Vec<&'static str>),
}

/// One vector, key or file that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The file's name.
    pub file: String,
    /// The vector's kind; `rsa-key`, `sm2-key` or `file` for what is not a vector.
    pub kind: String,
    /// The vector's id, or the key's name.
    pub id: String,
    /// What differed.
    pub what: String,
}

/// How many of one kind went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Everything as expected.
    pub passed: usize,
    /// Refused an AES key or nonce of a length that the format allows to refuse.
    pub refused_by_leave: usize,
    /// Something differed.
    pub failed: usize,
    /// Something that was needed is not implemented.
    pub skipped: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.refused_by_leave += other.refused_by_leave;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The outcome of a check. Print it, or call one of the asserts.
#[derive(Clone, Debug, Default)]
pub struct Report {
    name: String,
    files: Vec<String>,
    kinds: BTreeMap<String, Counts>,
    failures: Vec<Failure>,
    /// Per kind, what was not implemented.
    skips: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Report {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn add_file(&mut self, file: &str) {
        self.files.push(file.to_owned());
    }

    pub(crate) fn add(&mut self, file: &str, kind: &str, id: &str, verdict: Verdict) {
        let counts = self.kinds.entry(kind.to_owned()).or_default();
        match verdict {
            Verdict::Passed => counts.passed += 1,
            Verdict::RefusedByLeave => counts.refused_by_leave += 1,
            Verdict::Failed(what) => {
                counts.failed += 1;
                self.failures.push(Failure {
                    file: file.into(),
                    kind: kind.into(),
                    id: id.into(),
                    what,
                });
            }
            Verdict::Skipped(reasons) => {
                counts.skipped += 1;
                self.skips.entry(kind.to_owned()).or_default().extend(reasons);
            }
        }
    }

    /// The counts of one kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> Counts {
        self.kinds.get(kind).copied().unwrap_or_default()
    }

    /// The counts of all kinds together.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.kinds.values().for_each(|counts| total.add(*counts));
        total
    }

    /// Everything that failed.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Prints the report, skips included, and panics if anything failed.
    ///
    /// # Panics
    ///
    /// If anything failed.
    pub fn assert(&self) {
        assert!(
            self.failures.is_empty(),
            "{} of the vectors failed\n{self}",
            self.failures.len()
        );
        // Straight to the stream: a passing test's `eprintln!` is swallowed, and a skip should be seen.
        let _ = std::io::stderr().lock().write_all(format!("\n{self}").as_bytes());
    }

    /// As [`Self::assert`], and panics if anything was skipped.
    ///
    /// # Panics
    ///
    /// If anything failed or was skipped.
    pub fn assert_nothing_skipped(&self) {
        self.assert();
        assert!(
            self.skips.is_empty(),
            "{} of the vectors were skipped\n{self}",
            self.total().skipped
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "vectors: {} against {}", self.name, self.files.join(", "))?;
        writeln!(
            f,
            "{:<28} {:>7} {:>9} {:>7} {:>8}",
            "kind", "passed", "by leave", "failed", "skipped"
        )?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, counts: Counts| {
            let Counts {
                passed,
                refused_by_leave,
                failed,
                skipped,
            } = counts;
            writeln!(
                f,
                "{name:<28} {passed:>7} {refused_by_leave:>9} {failed:>7} {skipped:>8}"
            )
        };
        for (kind, counts) in &self.kinds {
            row(f, kind, *counts)?;
        }
        row(f, "total", self.total())?;
        for (kind, reasons) in &self.skips {
            let reasons: Vec<_> = reasons.iter().copied().collect();
            writeln!(
                f,
                "skipped {} × {kind}: not implemented: {}",
                self.of(kind).skipped,
                reasons.join(", ")
            )?;
        }
        for Failure { file, kind, id, what } in &self.failures {
            writeln!(f, "FAILED {file}: {id} ({kind}): {what}")?;
        }
        Ok(())
    }
}

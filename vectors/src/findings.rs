//! What one vector's questions brought to light, and the verdict that follows.
//!
//! Compares answers with what the vector expects; asks nothing itself. Filled by `kinds` and `keys`.

use std::fmt::Debug;

use crate::implementation::{Answer, Refusal};
use crate::report::Verdict;

/// Collects what is wrong, missing or refused by leave in one vector.
#[derive(Default)]
pub(crate) struct Findings {
    wrong: Vec<String>,
    missing: Vec<&'static str>,
    leave: bool,
}

impl Findings {
    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    /// The value of an answer that has to be one.
    pub(crate) fn value<T>(&mut self, what: &str, answer: Answer<T>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(Refusal::Error(error)) => {
                self.wrong(format!("{what}: unexpected error: {error}"));
                None
            }
            Err(Refusal::NotImplemented(reason)) => {
                self.missing.push(reason);
                None
            }
        }
    }

    /// The answer must be this value.
    pub(crate) fn equal<T, W>(&mut self, what: &str, answer: Answer<T>, expected: &W)
    where
        T: Debug + PartialEq<W>,
        W: Debug + ?Sized,
    {
        if let Some(value) = self.value(what, answer)
            && value != *expected
        {
            self.wrong(format!("{what}: got {value:?}, expected {expected:?}"));
        }
    }

    /// The answer must be this plaintext; printed as text.
    pub(crate) fn plaintext(&mut self, answer: Answer<Vec<u8>>, expected: &str) {
        let as_text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap_or_else(|error| format!("{:02x?} (not UTF-8)", error.into_bytes()))
        };
        self.equal("plaintext", answer.map(as_text), expected);
    }

    /// As [`Self::plaintext`]; where there is leave, a clean error is right as well.
    pub(crate) fn plaintext_or_leave(&mut self, answer: Answer<Vec<u8>>, expected: &str, leave: bool) {
        if !self.refused_by_leave(&answer, leave) {
            self.plaintext(answer, expected);
        }
    }

    /// Whether the answer is an error that the format gives leave to.
    pub(crate) fn refused_by_leave<T>(&mut self, answer: &Answer<T>, leave: bool) -> bool {
        let refused = leave && matches!(answer, Err(Refusal::Error(_)));
        self.leave |= refused;
        refused
    }

    /// The answer must be an error.
    pub(crate) fn refused<T>(&mut self, what: &str, answer: Answer<T>) {
        match answer {
            Ok(_) => self.wrong(format!("{what}: no error was reported")),
            Err(Refusal::Error(_)) => {}
            Err(Refusal::NotImplemented(reason)) => self.missing.push(reason),
        }
    }

    /// The outcome of a verification must be this; an error is one way to say no.
    pub(crate) fn valid(&mut self, what: &str, answer: Answer<bool>, expected: bool) {
        match answer {
            Ok(valid) if valid == expected => {}
            Ok(valid) => self.wrong(format!("{what}: got {valid}, expected {expected}")),
            Err(Refusal::Error(error)) if expected => {
                self.wrong(format!("{what}: expected true, but there was an error: {error}"));
            }
            Err(Refusal::Error(_)) => {}
            Err(Refusal::NotImplemented(reason)) => self.missing.push(reason),
        }
    }

    /// What all this means for the vector.
    pub(crate) fn verdict(self) -> Verdict {
        if !self.wrong.is_empty() {
            Verdict::Failed(self.wrong.join("; "))
        } else if !self.missing.is_empty() {
            Verdict::Skipped(self.missing)
        } else if self.leave {
            Verdict::RefusedByLeave
        } else {
            Verdict::Passed
        }
    }
}

/// Whether an operation is there at all; for questions that are asked only of those who answer them.
pub(crate) fn implemented<T>(answer: Answer<T>) -> Option<Answer<T>> {
    (!matches!(answer, Err(Refusal::NotImplemented(_)))).then_some(answer)
}

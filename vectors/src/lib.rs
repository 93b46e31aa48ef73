//! Holds an implementation of WeChat Pay APIv3 to known facts.
//!
//! The facts are the vector files described in this folder's README.md: signatures, ciphertexts, digests. An
//! implementation answers [`Implementation`]'s questions; the checker asks them and compares. The checker does no
//! cryptography and knows no implementation, so the SDK and the sandbox can both be held to it without meeting.
//!
//! ```no_run
//! use wechatpay_vectors::{Answer, Implementation};
//!
//! struct Sdk;
//!
//! impl Implementation for Sdk {
//!     fn name(&self) -> &str {
//!         "wechatpay"
//!     }
//!
//!     fn received_message(&self, timestamp: &str, nonce: &str, body: &str) -> Answer<String> {
//!         Ok(format!("{timestamp}\n{nonce}\n{body}\n")) // in truth a call of the code under test
//!     }
//! }
//!
//! wechatpay_vectors::check(&Sdk).assert();
//! ```

mod authorization;
mod file;
mod findings;
mod implementation;
mod keys;
mod kinds;
mod report;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

pub use implementation::{
    Answer, Authorization, Certificate, HeldKey, Implementation, Notification, PlatformCertificate, PublicKey,
    Received, Refusal, Request, Signer,
};
pub use report::{Counts, Failure, Report};

use file::File;
use findings::Findings;
use report::Verdict;

/// The file that is always checked, as text.
pub const PROTOCOL_DEV: &str = include_str!("../protocol-dev.json");

/// The variable that names a folder with further vector files.
pub const FOLDER_VARIABLE: &str = "WECHATPAY_VECTORS";

/// Holds an implementation to the built-in file and to every `*.json` of the folder in `WECHATPAY_VECTORS`.
#[must_use]
pub fn check(implementation: &dyn Implementation) -> Report {
    let folder = std::env::var_os(FOLDER_VARIABLE)
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from);
    check_with_folder(implementation, folder.as_deref())
}

/// As [`check`], with the folder as an argument. A folder that is missing or holds no `*.json` is a failure.
#[must_use]
pub fn check_with_folder(implementation: &dyn Implementation, folder: Option<&Path>) -> Report {
    let mut report = Report::new(implementation.name());
    check_file(
        implementation,
        "protocol-dev.json",
        Ok(PROTOCOL_DEV.to_owned()),
        &mut report,
    );
    if let Some(folder) = folder {
        let name = folder.display().to_string();
        match json_files(folder) {
            Ok(files) if files.is_empty() => {
                report.add(
                    &name,
                    "file",
                    &name,
                    Verdict::Failed("no *.json in this folder".to_owned()),
                );
            }
            Ok(files) => {
                for path in files {
                    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
                    check_file(implementation, &path.display().to_string(), text, &mut report);
                }
            }
            Err(error) => {
                let what = format!("cannot list the folder that {FOLDER_VARIABLE} names: {error}");
                report.add(&name, "file", &name, Verdict::Failed(what));
            }
        }
    }
    report
}

/// Holds an implementation to one file, given as text.
#[must_use]
pub fn check_text(implementation: &dyn Implementation, name: &str, text: &str) -> Report {
    let mut report = Report::new(implementation.name());
    check_file(implementation, name, Ok(text.to_owned()), &mut report);
    report
}

fn json_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn check_file(implementation: &dyn Implementation, name: &str, text: Result<String, String>, report: &mut Report) {
    report.add_file(name);
    let json = text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    let json: serde_json::Value = match json {
        Ok(json) => json,
        Err(error) => return report.add(name, "file", name, Verdict::Failed(format!("cannot be read: {error}"))),
    };
    let file = match File::read(&json) {
        Ok(file) => file,
        Err(fault) => return report.add(name, "file", name, Verdict::Failed(fault)),
    };
    for fault in file.faults {
        report.add(name, "file", name, Verdict::Failed(fault));
    }
    for key in file.keys {
        let kind = keys::kind(key).unwrap_or("rsa-key");
        let verdict = guarded(|findings| keys::check(implementation, key, findings));
        report.add(name, kind, key.name, verdict);
    }
    for vector in &file.vectors {
        let verdict = guarded(|findings| kinds::check(implementation, vector, findings));
        report.add(name, vector.kind, vector.id, verdict);
    }
}

/// Runs one check; a panic of the implementation is a failure of the vector, not the end of the run.
fn guarded(check: impl FnOnce(&mut Findings) -> Result<(), String>) -> Verdict {
    let mut findings = Findings::default();
    let result = catch_unwind(AssertUnwindSafe(|| check(&mut findings)));
    match result {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => findings.wrong(fault),
        Err(panic) => findings.wrong(format!("panicked: {}", panic_text(&*panic))),
    }
    findings.verdict()
}

fn panic_text(panic: &dyn Any) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

//! The checker itself: what it lets pass, what it finds, what it reports.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod from_file;
mod partial;

use std::path::Path;

use from_file::{Fault, FromFile, OPERATIONS};
use serde_json::{Value, json};
use wechatpay_vectors::{Answer, Counts, Implementation, PROTOCOL_DEV, Report, check_text, check_with_folder};

struct Nothing;

impl Implementation for Nothing {
    fn name(&self) -> &str {
        "nothing"
    }
}

/// The built-in file after a change, checked against honest answers.
fn changed(change: impl FnOnce(&mut Value)) -> Report {
    let mut json: Value = serde_json::from_str(PROTOCOL_DEV).unwrap();
    change(&mut json);
    check_text(&FromFile::honest(), "changed.json", &json.to_string())
}

/// The first vector of a kind whose expectation has this member.
fn vector<'a>(json: &'a mut Value, kind: &str, expected: &str) -> &'a mut Value {
    let vectors = json["vectors"].as_array_mut().unwrap();
    vectors
        .iter_mut()
        .find(|vector| vector["kind"] == kind && vector["expected"].get(expected).is_some())
        .unwrap()
}

/// The report must hold exactly one failure, and its text these words.
#[track_caller]
fn one_failure(report: &Report, words: &str) {
    assert_eq!(report.failures().len(), 1, "{report}");
    assert!(report.to_string().contains(words), "{report}");
}

#[test]
fn right_answers_pass_everything() {
    let report = check_with_folder(&FromFile::honest(), None);

    assert_eq!(report.failures(), []);
    assert_eq!(
        report.total(),
        Counts {
            passed: 93,
            ..Counts::default()
        },
        "80 vectors, 13 keys\n{report}"
    );
}

#[test]
fn an_implementation_of_nothing_skips_everything() {
    let report = check_with_folder(&Nothing, None);

    assert_eq!(
        report.total(),
        Counts {
            skipped: 93,
            ..Counts::default()
        },
        "{report}"
    );
    assert!(
        report
            .to_string()
            .contains("skipped 3 × sm4-gcm-decrypt: not implemented: sm4_gcm_open, sm4_key\n")
    );
}

/// One digest, to keep what the asserts print short.
const ONE_DIGEST: &str = r#"{
    "about": "", "conventions": {}, "counts": {"total": 1, "by_kind": {"sha256": 1}}, "keys": {},
    "vectors": [{"id": "one", "kind": "sha256", "inputs": {"message": "x"}, "expected": {"digest_hex": "ab"}}]
}"#;

/// Digests everything to the same text.
struct Digests(&'static str);

impl Implementation for Digests {
    fn name(&self) -> &str {
        "a test of the checker"
    }
    fn sha256(&self, _message: &[u8]) -> Answer<String> {
        Ok(self.0.to_owned())
    }
}

#[test]
fn the_asserts_let_pass_what_passed() {
    check_text(&Digests("ab"), "one.json", ONE_DIGEST).assert_nothing_skipped();
}

#[test]
fn skips_are_let_pass() {
    check_text(&Nothing, "one.json", ONE_DIGEST).assert();
}

#[test]
#[should_panic(expected = "1 of the vectors were skipped")]
fn skips_can_be_forbidden() {
    check_text(&Nothing, "one.json", ONE_DIGEST).assert_nothing_skipped();
}

#[test]
#[should_panic(expected = "one (sha256): digest_hex: got \"cd\", expected \"ab\"")]
fn failures_panic() {
    check_text(&Digests("cd"), "one.json", ONE_DIGEST).assert();
}

#[test]
fn a_wrong_answer_of_any_operation_is_found() {
    for operation in OPERATIONS {
        let report = check_with_folder(&FromFile::faulty(operation, Fault::Wrong), None);

        assert!(!report.failures().is_empty(), "{operation} may lie");
    }
}

#[test]
fn an_error_of_any_operation_is_found() {
    for operation in OPERATIONS {
        let report = check_with_folder(&FromFile::faulty(operation, Fault::Error), None);

        assert!(!report.failures().is_empty(), "{operation} may report errors");
        assert!(report.to_string().contains("an error"), "{report}");
    }
}

#[test]
fn a_panic_of_any_operation_is_a_failure_and_not_the_end() {
    for operation in OPERATIONS {
        let report = check_with_folder(&FromFile::faulty(operation, Fault::Panic), None);

        let total = report.total();
        assert_eq!(total.passed + total.failed, 93, "{operation}\n{report}");
        assert!(
            report
                .failures()
                .iter()
                .any(|failure| failure.what.contains("panicked: a panic")),
            "{operation}"
        );
    }
}

#[test]
fn a_missing_operation_is_never_counted_as_passed() {
    for operation in OPERATIONS {
        let report = check_with_folder(&FromFile::faulty(operation, Fault::Missing), None);

        let total = report.total();
        assert_eq!(total.failed, 0, "{operation}\n{report}");
        // Telling probes apart is asked only of those who do.
        assert_eq!(
            total.skipped > 0,
            operation != "is_signature_probe",
            "{operation}\n{report}"
        );
        assert_eq!(total.passed + total.skipped, 93);
    }
}

#[test]
fn what_is_there_must_be_right_though_the_rest_is_missing() {
    struct Shouter;
    impl Implementation for Shouter {
        fn name(&self) -> &str {
            "shouter"
        }
        fn pay_message(&self, lines: &[&str]) -> Answer<String> {
            Ok(lines.join("\n").to_uppercase())
        }
    }

    let report = check_with_folder(&Shouter, None);

    assert_eq!(
        report.of("client-pay-signature-rsa"),
        Counts {
            failed: 1,
            ..Counts::default()
        }
    );
}

#[test]
fn unknown_kinds_and_members_are_reported() {
    one_failure(
        &changed(|json| {
            vector(json, "sm3", "digest_hex")["kind"] = json!("sm9");
            json["counts"]["by_kind"]["sm9"] = json!(1);
            json["counts"]["by_kind"]["sm3"] = json!(0);
        }),
        "dev-sm3 (sm9): the checker does not know this kind",
    );
    one_failure(
        &changed(|json| vector(json, "sm3", "digest_hex")["inputs"]["salt"] = json!("x")),
        "does not know the member salt of inputs",
    );
    one_failure(
        &changed(|json| vector(json, "sm3", "digest_hex")["expected"]["length"] = json!(32)),
        "does not know the member length of expected",
    );
    one_failure(
        &changed(|json| {
            vector(json, "certificates-response", "certificates")["expected"]["certificates"][0]["colour"] = json!("x");
        }),
        "does not know the member colour of certificate",
    );
    let notes = changed(|json| {
        vector(json, "sm3", "digest_hex")["note"] = json!("x");
        json["keys"]["dev-pair"]["note"] = json!("x");
    });
    assert_eq!(notes.failures(), []);
}

#[test]
fn a_vector_that_expects_nothing_is_reported() {
    let without = |kind: &'static str, member: &'static str| {
        changed(move |json| {
            vector(json, kind, member)["expected"]
                .as_object_mut()
                .unwrap()
                .remove(member);
        })
    };

    one_failure(&without("sm3", "digest_hex"), "expected has no member digest_hex");
    one_failure(
        &without("sm2-decrypt", "plaintext"),
        "expected must have either plaintext or error",
    );
    one_failure(
        &without("callback-rsa-aesgcm", "signature_valid"),
        "expected has no member signature_valid",
    );
    one_failure(
        &without("certificates-response", "certificates"),
        "expected has no member certificates",
    );
    one_failure(
        &without("response-signature-rsa", "valid"),
        "expected has no member valid",
    );
}

#[test]
fn counts_that_do_not_match_are_reported() {
    one_failure(
        &changed(|json| json["counts"]["total"] = json!(79)),
        "counts.total is 79, but there are 80 vectors",
    );
    one_failure(
        &changed(|json| json["counts"]["by_kind"]["sm3"] = json!(2)),
        "counts.by_kind says 2 of sm3, but there are 1",
    );
    one_failure(
        &changed(|json| json["counts"]["by_kind"]["sm9"] = json!(1)),
        "says 1 of sm9, but there are 0",
    );
    one_failure(
        &changed(|json| {
            json["counts"]["by_kind"].as_object_mut().unwrap().remove("sm3");
        }),
        "counts.by_kind has no member sm3",
    );
}

#[test]
fn files_that_are_not_of_the_format_are_reported() {
    one_failure(&check_text(&Nothing, "a.json", "{"), "a.json (file): cannot be read");
    one_failure(
        &check_text(&Nothing, "a.json", "{\"keys\":{}}"),
        "the file has no member vectors",
    );
    one_failure(
        &check_with_folder(&Nothing, Some(Path::new("no/such/folder"))),
        "cannot list the folder",
    );
    one_failure(
        &check_with_folder(&Nothing, Some(Path::new("src"))),
        "no *.json in this folder",
    );
    one_failure(
        &changed(|json| vector(json, "sm3", "digest_hex")["id"] = json!("dev-sha256")),
        "dev-sha256: two vectors have this id",
    );
}

#[test]
fn files_of_a_folder_are_checked_too() {
    let report = check_with_folder(&FromFile::honest(), Some(Path::new(env!("CARGO_MANIFEST_DIR"))));

    assert_eq!(report.total().passed, 2 * 93);
}

#[test]
fn a_key_spelled_as_another_key_is_found() {
    let other = |json: &Value| json["keys"]["dev-platform"]["certificate_pem"].clone();
    for entry in ["dev-pair", "dev-rsa4096", "dev-merchant-cert"] {
        let report = changed(|json| json["keys"][entry]["certificate_pem"] = other(json));

        assert!(report.of("rsa-key").failed > 0, "{entry}\n{report}");
    }
    let report = changed(|json| json["keys"]["dev-sm2"]["ec_public_key_hex"] = json!(format!("04{}", "11".repeat(64))));
    one_failure(&report, "ec_public_key_hex is another key");
    let report = changed(|json| json["keys"]["dev-sm2"]["ec_private_key_hex"] = json!("22".repeat(32)));
    one_failure(&report, "ec_private_key_hex is another key than private_key_pem");
}

#[test]
fn a_probe_is_described_as_it_is() {
    let report = changed(|json| vector(json, "signature-probe", "length")["expected"]["length"] = json!(1));
    one_failure(&report, "length of the value: got 344, expected 1");
    let report = changed(|json| {
        vector(json, "signature-probe", "length")["expected"]["strict_base64_decodes"] = json!(false);
    });
    one_failure(&report, "strict_base64_decodes of the value: got true, expected false");
}

#[test]
fn times_compare_as_instants() {
    let report = changed(|json| {
        let expected = &mut vector(json, "certificate-parse", "not_before_utc")["expected"];
        assert_eq!(expected["not_before_utc"], "2025-11-01T01:02:03+00:00");
        expected["not_before_utc"] = json!("2025-11-01T09:02:03+08:00");
    });

    assert_eq!(report.failures(), []);
}

//! Every kind of vector: which members it has, and who checks it.
//!
//! The table is the format's own table; the checks are in `kinds/`, by subject. Called by the crate's root.

mod certificates;
mod seals;
mod signatures;

use crate::file::{Object, Vector};
use crate::findings::Findings;
use crate::implementation::Implementation;

type Check = fn(&dyn Implementation, &Vector<'_>, &mut Findings) -> Result<(), String>;

struct Kind {
    name: &'static str,
    inputs: Members,
    expected: Members,
    check: Check,
}

/// Names of members, separated by blanks.
struct Members {
    required: &'static str,
    optional: &'static str,
}

const fn members(required: &'static str, optional: &'static str) -> Members {
    Members { required, optional }
}

const fn kind(name: &'static str, inputs: Members, expected: Members, check: Check) -> Kind {
    Kind {
        name,
        inputs,
        expected,
        check,
    }
}

const REQUEST: &str = "mchid serial_no method url_path_and_query timestamp nonce_str body";
const SIGNED_REQUEST: &str = "key mchid serial_no method url_path_and_query timestamp nonce_str body";
const SEALED: &str = "key_utf8 nonce associated_data ciphertext_b64";
const OPENED: Members = members("", "plaintext error reason");

static KINDS: [Kind; 19] = [
    kind(
        "request-signature-rsa",
        members(SIGNED_REQUEST, ""),
        members(
            "message signature_b64",
            "message_sha256 authorization_header_as_ordered_in_docs",
        ),
        signatures::request,
    ),
    kind(
        "client-pay-signature-rsa",
        members("key lines", ""),
        members("message signature_b64", ""),
        signatures::client_pay,
    ),
    kind(
        "authorization-header-format",
        members(REQUEST, ""),
        members("message", "authorization_header_as_ordered_in_go_sdk"),
        signatures::authorization_format,
    ),
    kind(
        "response-signature-rsa",
        members("key status headers body now_unix", "key_known_as"),
        members("valid", "message reason"),
        signatures::response,
    ),
    kind(
        "callback-rsa-aesgcm",
        members("key api_v3_key now_unix headers body", ""),
        members("", "error reason signature_valid event_type plaintext id create_time"),
        signatures::callback,
    ),
    kind(
        "signature-probe",
        members("header value", ""),
        members("valid is_probe strict_base64_decodes length", "reason"),
        signatures::probe,
    ),
    kind(
        "rsa-sha256-sign",
        members("key message", "mchid serial_no"),
        members("signature_b64", ""),
        signatures::sign,
    ),
    kind(
        "rsa-sha256-verify",
        members("key message signature_b64", "serial_no"),
        members("valid", "reason"),
        signatures::verify,
    ),
    kind(
        "rsa-sha256-sign-verify",
        members("key message", ""),
        members("signature_b64 valid", "reason"),
        signatures::sign_verify,
    ),
    kind(
        "aes-gcm-decrypt",
        members(SEALED, ""),
        members("", "plaintext error reason certificate_serial"),
        seals::aes_decrypt,
    ),
    kind(
        "aes-gcm-encrypt-decrypt",
        members(SEALED, ""),
        members("plaintext", ""),
        seals::aes_both_ways,
    ),
    kind(
        "rsa-oaep-sha1-decrypt",
        members("key ciphertext_b64", ""),
        OPENED,
        seals::rsa_oaep,
    ),
    kind(
        "certificates-response",
        members("api_v3_key status body", "headers now_unix"),
        members("", "certificates serials signature_valid_with newest_by_effective_time"),
        certificates::response,
    ),
    kind(
        "certificate-parse",
        members("certificate_pem", ""),
        members("serial_no_hex", "not_before_utc not_after_utc"),
        certificates::parse,
    ),
    kind(
        "sha256",
        members("message", ""),
        members("digest_hex", ""),
        seals::sha256,
    ),
    kind("sm3", members("message_b64", ""), members("digest_hex", ""), seals::sm3),
    kind(
        "sm2-sm3-verify",
        members("key message signature_b64", ""),
        members("valid", "reason"),
        signatures::sm2,
    ),
    kind("sm2-decrypt", members("key ciphertext_b64", ""), OPENED, seals::sm2),
    kind(
        "sm4-gcm-decrypt",
        members(
            "nonce associated_data ciphertext_b64",
            "api_v3_key sm4_key_hex sm4_key_utf8",
        ),
        OPENED,
        seals::sm4,
    ),
];

/// Checks one vector. An error means that the vector itself is not of the format.
pub(crate) fn check(
    implementation: &dyn Implementation,
    vector: &Vector<'_>,
    findings: &mut Findings,
) -> Result<(), String> {
    let kind = KINDS
        .iter()
        .find(|kind| kind.name == vector.kind)
        .ok_or("the checker does not know this kind, so nothing of it was checked")?;
    kind.inputs.hold("inputs", vector.inputs)?;
    kind.expected.hold("expected", vector.expected)?;
    (kind.check)(implementation, vector, findings)
}

impl Members {
    /// All required members must be there, and no unknown ones.
    fn hold(&self, part: &str, object: Object<'_>) -> Result<(), String> {
        let required = || self.required.split_whitespace();
        let known = |name: &str| {
            required()
                .chain(self.optional.split_whitespace())
                .any(|known| known == name)
        };
        if let Some(missing) = required().find(|name| !object.has(name)) {
            return Err(format!("{part} has no member {missing}"));
        }
        match object.names().find(|name| !known(name)) {
            Some(unknown) => Err(format!("the checker does not know the member {unknown} of {part}")),
            None => Ok(()),
        }
    }
}

/// Whether the vector expects an error instead of a value; it must expect one of the two.
fn error_expected(expected: Object<'_>, value: &str) -> Result<bool, String> {
    match (expected.has("error"), expected.has(value)) {
        (true, false) if expected.boolean("error")? => Ok(true),
        (true, false) => Err("expected.error is false".to_owned()),
        (false, true) => Ok(false),
        (true, true) | (false, false) => Err(format!("expected must have either {value} or error")),
    }
}

/// Whether the format gives leave to refuse this AES key or nonce.
fn leave(key: &str, nonce: &str) -> bool {
    key.len() != 32 || nonce.len() != 12
}

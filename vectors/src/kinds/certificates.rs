//! Kinds about certificates: the answer of `GET /v3/certificates`, and a certificate by itself.

use serde_json::Value;

use super::signatures::header;
use super::{Members, leave, members};
use crate::file::{Object, Vector};
use crate::findings::Findings;
use crate::implementation::{Answer, Certificate, HeldKey, Implementation, PlatformCertificate, PublicKey, Received};

const ENTRY: Members = members(
    "pem serial_no",
    "serial_of_decrypted_certificate not_before not_after effective_time expire_time subject issuer",
);
const UNSIGNED: Members = members("certificates", "");
const SIGNED: Members = members("serials signature_valid_with newest_by_effective_time", "");

pub(super) fn response(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let (api_v3_key, body) = (vector.inputs.text("api_v3_key")?, vector.inputs.text("body")?);
    let with_headers = vector.inputs.has("headers");
    if with_headers != vector.inputs.has("now_unix") {
        return Err("headers and now_unix come together".to_owned());
    }
    if with_headers { SIGNED } else { UNSIGNED }.hold("expected", vector.expected)?;
    let opened = by.open_certificates(api_v3_key, body);
    if findings.refused_by_leave(&opened, any_leave(api_v3_key, body)) {
        return Ok(());
    }
    let Some(entries) = findings.value("certificates", opened) else {
        return Ok(());
    };
    if with_headers {
        signed(by, vector, &entries, findings)
    } else {
        unsigned(by, vector, &entries, findings)
    }
}

fn any_leave(api_v3_key: &str, body: &str) -> bool {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let nonce = |entry: &Value| {
        entry["encrypt_certificate"]["nonce"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    body["data"]
        .as_array()
        .is_some_and(|data| data.iter().any(|entry| leave(api_v3_key, &nonce(entry))))
}

fn unsigned(
    by: &dyn Implementation,
    vector: &Vector<'_>,
    entries: &[PlatformCertificate],
    findings: &mut Findings,
) -> Result<(), String> {
    let expected = vector.expected.array("certificates")?;
    if expected.len() != entries.len() {
        findings.wrong(format!("{} certificates, expected {}", entries.len(), expected.len()));
        return Ok(());
    }
    for (entry, expected) in entries.iter().zip(expected) {
        let expected = Object::of("certificate", expected)?;
        ENTRY.hold("certificate", expected)?;
        findings.equal("pem", Ok(entry.pem.as_str()), &expected.text("pem")?);
        findings.equal("serial_no", Ok(entry.serial_no.as_str()), &expected.text("serial_no")?);
        for (member, got) in [
            ("effective_time", &entry.effective_time),
            ("expire_time", &entry.expire_time),
        ] {
            if let Some(text) = expected.optional_text(member)? {
                findings.equal(member, Ok(got.as_str()), &text);
            }
        }
        let certificate = by.certificate(expected.text("pem")?);
        serial(&certificate, expected, "serial_of_decrypted_certificate", findings)?;
        times(&certificate, expected, ["not_before", "not_after"], findings)?;
        let Ok(certificate) = certificate else { continue };
        for (member, got) in [("subject", certificate.subject), ("issuer", certificate.issuer)] {
            // Printing names is for those who can.
            if let (Some(text), Some(got)) = (expected.optional_text(member)?, got) {
                findings.equal(member, Ok(got), text);
            }
        }
    }
    Ok(())
}

fn signed(
    by: &dyn Implementation,
    vector: &Vector<'_>,
    entries: &[PlatformCertificate],
    findings: &mut Findings,
) -> Result<(), String> {
    let (inputs, expected) = (vector.inputs, vector.expected);
    let serials: Vec<&str> = entries.iter().map(|entry| entry.serial_no.as_str()).collect();
    findings.equal("serials", Ok(serials), &expected.texts("serials")?);
    findings.equal(
        "newest_by_effective_time",
        by.newest_certificate(entries),
        expected.text("newest_by_effective_time")?,
    );

    let headers = inputs.pairs("headers")?;
    let (body, now_unix) = (inputs.text("body")?, inputs.integer("now_unix")?);
    let verify = |held: &[HeldKey<'_>]| {
        by.verify(&Received {
            headers: &headers,
            body,
            now_unix,
            held,
        })
    };
    let signer = expected.text("signature_valid_with")?;
    let named = header(&headers, "Wechatpay-Serial").ok_or("the answer has no Wechatpay-Serial")?;
    if !named.eq_ignore_ascii_case(signer) {
        return Err(format!("the answer names {named} as its signer, the vector {signer}"));
    }
    let held = |entry: &'_ PlatformCertificate| entry.serial_no.eq_ignore_ascii_case(signer);
    findings.valid("signature with all certificates", verify(&hold(entries.iter())), true);
    let alone = verify(&hold(entries.iter().filter(|entry| held(entry))));
    findings.valid("signature_valid_with", alone, true);
    let without = verify(&hold(entries.iter().filter(|entry| !held(entry))));
    findings.valid("signature with the other certificates", without, false);
    Ok(())
}

fn hold<'a>(entries: impl Iterator<Item = &'a PlatformCertificate>) -> Vec<HeldKey<'a>> {
    entries
        .map(|entry| HeldKey {
            id: &entry.serial_no,
            key: PublicKey::Certificate(&entry.pem),
        })
        .collect()
}

pub(super) fn parse(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let certificate = by.certificate(vector.inputs.text("certificate_pem")?);
    serial(&certificate, vector.expected, "serial_no_hex", findings)?;
    times(
        &certificate,
        vector.expected,
        ["not_before_utc", "not_after_utc"],
        findings,
    )
}

fn serial(
    certificate: &Answer<Certificate>,
    expected: Object<'_>,
    member: &str,
    findings: &mut Findings,
) -> Result<(), String> {
    if let Some(serial) = expected.optional_text(member)? {
        findings.equal(
            member,
            certificate.clone().map(|certificate| certificate.serial_no),
            serial,
        );
    }
    Ok(())
}

/// Times compare as instants, whatever offset they are written with.
fn times(
    certificate: &Answer<Certificate>,
    expected: Object<'_>,
    [not_before, not_after]: [&str; 2],
    findings: &mut Findings,
) -> Result<(), String> {
    let instants = certificate
        .clone()
        .map(|certificate| (certificate.not_before_unix, certificate.not_after_unix));
    for (member, got) in [
        (not_before, instants.clone().map(|(not_before, _)| not_before)),
        (not_after, instants.map(|(_, not_after)| not_after)),
    ] {
        if let Some(text) = expected.optional_text(member)? {
            let instant: jiff::Timestamp = text.parse().map_err(|error| format!("{member} {text:?}: {error}"))?;
            findings.equal(member, got, &instant.as_second());
        }
    }
    Ok(())
}

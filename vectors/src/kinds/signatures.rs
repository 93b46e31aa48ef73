//! Kinds that sign or verify: requests, answers, notifications, probes, bare RSA and SM2.

use std::cell::Cell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{error_expected, leave};
use crate::authorization;
use crate::file::{Object, Vector};
use crate::findings::{Findings, implemented};
use crate::implementation::{Authorization, HeldKey, Implementation, Received, Request, Signer};

const RSA_SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";
const MOCK_SCHEME: &str = "WECHATPAY2-Mock";
const PROBE: &str = "WECHATPAY/SIGNTEST/";

fn read_request<'a>(inputs: Object<'a>) -> Result<Request<'a>, String> {
    Ok(Request {
        mchid: inputs.text("mchid")?,
        serial_no: inputs.text("serial_no")?,
        method: inputs.text("method")?,
        url_path_and_query: inputs.text("url_path_and_query")?,
        timestamp: inputs.text("timestamp")?,
        nonce_str: inputs.text("nonce_str")?,
        body: inputs.text("body")?,
    })
}

impl Request<'_> {
    fn authorization(&self, scheme: &str, signature: String) -> Authorization {
        Authorization {
            scheme: scheme.to_owned(),
            mchid: self.mchid.to_owned(),
            nonce_str: self.nonce_str.to_owned(),
            timestamp: self.timestamp.to_owned(),
            serial_no: self.serial_no.to_owned(),
            signature,
        }
    }
}

pub(super) fn request(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let (inputs, expected) = (vector.inputs, vector.expected);
    let request = read_request(inputs)?;
    let private_key_pem = vector.key()?.to_sign()?;
    let message = expected.text("message")?;
    findings.equal("message", by.request_message(&request), message);
    let signer = Signer {
        private_key_pem,
        mchid: Some(request.mchid),
        serial_no: Some(request.serial_no),
    };
    findings.equal(
        "signature_b64",
        by.rsa_sign(&signer, message),
        expected.text("signature_b64")?,
    );
    if let Some(digest) = expected.optional_text("message_sha256")? {
        findings.equal("message_sha256", by.sha256(message.as_bytes()), digest);
    }
    let Some(header) = expected.optional_text("authorization_header_as_ordered_in_docs")? else {
        return Ok(());
    };
    let parts = in_file(
        header,
        &request.authorization(RSA_SCHEME, expected.text("signature_b64")?.to_owned()),
    )?;
    let read = implemented(by.read_authorization(header));
    let written = implemented(by.authorize(private_key_pem, &request));
    if read.is_none() && written.is_none() {
        findings.value("Authorization", by.authorize(private_key_pem, &request));
    }
    if let Some(written) = written.and_then(|answer| findings.value("Authorization", answer)) {
        same_header(findings, &written, &parts);
    }
    if let Some(read) = read {
        findings.equal("Authorization taken apart", read, &parts);
    }
    Ok(())
}

/// The parts of the file's header, which must be those that the inputs make.
fn in_file(header: &str, from_inputs: &Authorization) -> Result<Authorization, String> {
    let parts = authorization::parse(header).map_err(|error| format!("the file's Authorization header: {error}"))?;
    if parts == *from_inputs {
        Ok(parts)
    } else {
        Err(format!(
            "the file's Authorization header says {parts:?}, its inputs make {from_inputs:?}"
        ))
    }
}

fn same_header(findings: &mut Findings, header: &str, expected: &Authorization) {
    match authorization::parse(header) {
        Ok(parts) => findings.equal("Authorization", Ok(parts), expected),
        Err(error) => findings.wrong(format!("Authorization {header:?}: {error}")),
    }
}

pub(super) fn authorization_format(
    by: &dyn Implementation,
    vector: &Vector<'_>,
    findings: &mut Findings,
) -> Result<(), String> {
    let request = read_request(vector.inputs)?;
    let message = vector.expected.text("message")?;
    findings.equal("message", by.request_message(&request), message);
    if let Some(header) = vector
        .expected
        .optional_text("authorization_header_as_ordered_in_go_sdk")?
    {
        let parts = in_file(header, &request.authorization(MOCK_SCHEME, format!("Sign:{message}")))?;
        if let Some(written) = findings.value("Authorization", by.lay_out_authorization(&parts)) {
            same_header(findings, &written, &parts);
        }
    }
    Ok(())
}

pub(super) fn client_pay(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let lines = vector.inputs.texts("lines")?;
    let message = vector.expected.text("message")?;
    findings.equal("message", by.pay_message(&lines), message);
    signature(by, vector, message, findings)
}

pub(super) fn sign(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    signature(by, vector, vector.inputs.text("message")?, findings)
}

pub(super) fn sign_verify(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let message = vector.inputs.text("message")?;
    signature(by, vector, message, findings)?;
    let signature = vector.expected.text("signature_b64")?;
    let answer = by.rsa_verify(vector.key()?.to_verify()?, message, signature);
    findings.valid("valid", answer, vector.expected.boolean("valid")?);
    Ok(())
}

fn signature(
    by: &dyn Implementation,
    vector: &Vector<'_>,
    message: &str,
    findings: &mut Findings,
) -> Result<(), String> {
    let signer = Signer {
        private_key_pem: vector.key()?.to_sign()?,
        mchid: vector.inputs.optional_text("mchid")?,
        serial_no: vector.inputs.optional_text("serial_no")?,
    };
    findings.equal(
        "signature_b64",
        by.rsa_sign(&signer, message),
        vector.expected.text("signature_b64")?,
    );
    Ok(())
}

pub(super) fn verify(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let key = vector.key()?;
    let (message, signature) = (vector.inputs.text("message")?, vector.inputs.text("signature_b64")?);
    let answer = match vector.inputs.optional_text("serial_no")? {
        Some(serial_no) => by.rsa_verify_by_serial(&key.held()?, serial_no, message, signature),
        None => by.rsa_verify(key.to_verify()?, message, signature),
    };
    findings.valid("valid", answer, vector.expected.boolean("valid")?);
    Ok(())
}

pub(super) fn sm2(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let (message, signature) = (vector.inputs.text("message")?, vector.inputs.text("signature_b64")?);
    let answer = by.sm2_verify(vector.key()?.to_verify()?, message, signature);
    findings.valid("valid", answer, vector.expected.boolean("valid")?);
    Ok(())
}

pub(super) fn response(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let (inputs, expected) = (vector.inputs, vector.expected);
    let key = vector.key()?;
    let held = match inputs.optional_text("key_known_as")? {
        Some(id) => key.held_as(Some(id))?,
        None => key.held()?,
    };
    let headers = inputs.pairs("headers")?;
    let body = inputs.text("body")?;
    let received = Received {
        headers: &headers,
        body,
        now_unix: inputs.integer("now_unix")?,
        held: &held,
    };
    findings.valid("valid", by.verify(&received), expected.boolean("valid")?);
    if let Some(message) = expected.optional_text("message")? {
        let header = |name| header(&headers, name).ok_or_else(|| format!("a message is expected without {name}"));
        let (timestamp, nonce) = (header("Wechatpay-Timestamp")?, header("Wechatpay-Nonce")?);
        findings.equal("message", by.received_message(timestamp, nonce, body), message);
    }
    Ok(())
}

pub(super) fn header<'a>(headers: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| *value)
}

pub(super) fn callback(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let (inputs, expected) = (vector.inputs, vector.expected);
    let held = vector.key()?.held()?;
    let headers = inputs.pairs("headers")?;
    let body = inputs.text("body")?;
    let received = Received {
        headers: &headers,
        body,
        now_unix: inputs.integer("now_unix")?,
        held: &held,
    };
    let api_v3_key = inputs.text("api_v3_key")?;
    let opened = by.open_notification(&received, api_v3_key);
    if error_expected(expected, "plaintext")? {
        findings.refused("notification", opened);
        return Ok(());
    }
    if !expected.boolean("signature_valid")? {
        return Err("expected.signature_valid is false".to_owned());
    }
    let event_type = expected.text("event_type")?;
    findings.valid("signature_valid", by.verify(&received), true);
    if findings.refused_by_leave(&opened, leave(api_v3_key, &nonce(body))) {
        return Ok(());
    }
    let Some(opened) = findings.value("notification", opened) else {
        return Ok(());
    };
    findings.plaintext(Ok(opened.plaintext), expected.text("plaintext")?);
    findings.equal("event_type", Ok(opened.event_type), event_type);
    if let Some(id) = expected.optional_text("id")? {
        findings.equal("id", Ok(opened.id), id);
    }
    if let Some(create_time) = expected.optional_text("create_time")? {
        let instant = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let same_instant = instant(create_time).is_some() && instant(create_time) == instant(&opened.create_time);
        if !same_instant {
            findings.equal("create_time", Ok(opened.create_time), create_time);
        }
    }
    Ok(())
}

fn nonce(body: &str) -> String {
    let envelope: Value = serde_json::from_str(body).unwrap_or_default();
    envelope["resource"]["nonce"].as_str().unwrap_or_default().to_owned()
}

/// No key and no message verifies a probe. What the vector says of the value itself is checked here, by reading it.
pub(super) fn probe(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let (name, value) = (vector.inputs.text("header")?, vector.inputs.text("value")?);
    let expected = vector.expected;
    if expected.boolean("valid")? {
        return Err("expected.valid is true".to_owned());
    }
    let is_probe = expected.boolean("is_probe")?;
    findings.equal("is_probe of the value", Ok(value.starts_with(PROBE)), &is_probe);
    if let Some(answer) = implemented(by.is_signature_probe(value)) {
        findings.equal("is_probe", answer, &is_probe);
    }
    let decodes = STANDARD.decode(value).is_ok();
    findings.equal(
        "strict_base64_decodes of the value",
        Ok(decodes),
        &expected.boolean("strict_base64_decodes")?,
    );
    let length = i64::try_from(value.chars().count()).map_err(|error| error.to_string())?;
    findings.equal("length of the value", Ok(length), &expected.integer("length")?);

    let asked = Cell::new(false);
    let mut never_valid = |what: String, answer| {
        if let Some(answer) = implemented(answer) {
            asked.set(true);
            findings.valid(&what, answer, false);
        }
    };
    for key in vector.all_keys()? {
        let public = key.to_verify()?;
        for message in ["", "\n\n\n", value] {
            never_valid(
                format!("valid with key {}", key.name),
                by.rsa_verify(public, message, value),
            );
        }
        let id = key.members.optional_text("serial_no")?.unwrap_or("PUB_KEY_ID_0");
        let headers = [
            ("Wechatpay-Timestamp", "1700000000"),
            ("Wechatpay-Nonce", "nonce"),
            ("Wechatpay-Serial", id),
            (name, value),
        ];
        let held = [HeldKey { id, key: public }];
        let received = Received {
            headers: &headers,
            body: "{}",
            now_unix: 1_700_000_000,
            held: &held,
        };
        never_valid(
            format!("valid in an answer, with key {}", key.name),
            by.verify(&received),
        );
    }
    if !asked.get() {
        let any = vector
            .all_keys()?
            .first()
            .map(|key| key.to_verify())
            .ok_or("the file has no key to try")??;
        findings.valid("valid", by.rsa_verify(any, "", value), false);
    }
    Ok(())
}

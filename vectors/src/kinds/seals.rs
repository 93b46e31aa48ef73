//! Kinds that open, seal or digest: AES-GCM, RSA-OAEP, SHA-256 and the SM family.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{error_expected, leave};
use crate::file::Vector;
use crate::findings::Findings;
use crate::implementation::{Answer, Implementation};

pub(super) fn aes_decrypt(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let inputs = vector.inputs;
    let (key, nonce) = (inputs.text("key_utf8")?, inputs.text("nonce")?);
    let opened = by.aes_gcm_open(
        key,
        nonce,
        inputs.text("associated_data")?,
        inputs.text("ciphertext_b64")?,
    );
    opens(vector, opened, leave(key, nonce), findings)?;
    if let Some(serial) = vector.expected.optional_text("certificate_serial")? {
        let certificate = by.certificate(vector.expected.text("plaintext")?);
        findings.equal(
            "certificate_serial",
            certificate.map(|certificate| certificate.serial_no),
            serial,
        );
    }
    Ok(())
}

pub(super) fn aes_both_ways(
    by: &dyn Implementation,
    vector: &Vector<'_>,
    findings: &mut Findings,
) -> Result<(), String> {
    let inputs = vector.inputs;
    let (key, nonce) = (inputs.text("key_utf8")?, inputs.text("nonce")?);
    let (associated_data, ciphertext) = (inputs.text("associated_data")?, inputs.text("ciphertext_b64")?);
    let plaintext = vector.expected.text("plaintext")?;
    let leave = leave(key, nonce);
    let opened = by.aes_gcm_open(key, nonce, associated_data, ciphertext);
    findings.plaintext_or_leave(opened, plaintext, leave);
    let sealed = by.aes_gcm_seal(key, nonce, associated_data, plaintext.as_bytes());
    if !findings.refused_by_leave(&sealed, leave) {
        findings.equal("ciphertext_b64", sealed, ciphertext);
    }
    Ok(())
}

pub(super) fn rsa_oaep(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let opened = by.rsa_oaep_open(vector.key()?.to_sign()?, vector.inputs.text("ciphertext_b64")?);
    opens(vector, opened, false, findings)
}

pub(super) fn sm2(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let opened = by.sm2_open(vector.key()?.to_sign()?, vector.inputs.text("ciphertext_b64")?);
    opens(vector, opened, false, findings)
}

pub(super) fn sm4(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let inputs = vector.inputs;
    let key = match (
        inputs.optional_text("api_v3_key")?,
        inputs.optional_text("sm4_key_utf8")?,
    ) {
        (Some(api_v3_key), None) => by.sm4_key(api_v3_key),
        (None, Some(raw)) => Ok(raw.as_bytes().to_vec()),
        (Some(_), Some(_)) | (None, None) => return Err("inputs must have either api_v3_key or sm4_key_utf8".into()),
    };
    if let Some(hex) = inputs.optional_text("sm4_key_hex")? {
        let got = key
            .clone()
            .map(|key| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        findings.equal("sm4_key_hex", got, hex);
    }
    let nonce = inputs.text("nonce")?;
    let (associated_data, ciphertext) = (inputs.text("associated_data")?, inputs.text("ciphertext_b64")?);
    let opened = key.and_then(|key| by.sm4_gcm_open(&key, nonce, associated_data, ciphertext));
    opens(vector, opened, false, findings)
}

pub(super) fn sha256(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let digest = by.sha256(vector.inputs.text("message")?.as_bytes());
    findings.equal("digest_hex", digest, vector.expected.text("digest_hex")?);
    Ok(())
}

pub(super) fn sm3(by: &dyn Implementation, vector: &Vector<'_>, findings: &mut Findings) -> Result<(), String> {
    let message = STANDARD
        .decode(vector.inputs.text("message_b64")?)
        .map_err(|error| format!("message_b64: {error}"))?;
    findings.equal("digest_hex", by.sm3(&message), vector.expected.text("digest_hex")?);
    Ok(())
}

/// Holds an opened ciphertext to `plaintext` or `error`.
fn opens(vector: &Vector<'_>, opened: Answer<Vec<u8>>, leave: bool, findings: &mut Findings) -> Result<(), String> {
    if error_expected(vector.expected, "plaintext")? {
        findings.refused("plaintext", opened);
    } else {
        findings.plaintext_or_leave(opened, vector.expected.text("plaintext")?, leave);
    }
    Ok(())
}

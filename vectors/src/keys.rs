//! Loads every spelling of a key entry and demands one and the same key.
//!
//! Reads PEM only as far as bytes go: where an encoding contains another one, that is compared too. Called by the
//! crate's root.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::file::KeyEntry;
use crate::findings::Findings;
use crate::implementation::{Answer, Implementation, PublicKey};

/// The object identifier 1.2.156.10197.1.301 in DER: in every encoding of an SM2 key, in none of an RSA key.
const SM2_CURVE: [u8; 10] = [0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d];

/// What an entry counts as in the report.
pub(crate) fn kind(entry: KeyEntry<'_>) -> Result<&'static str, String> {
    let (_, key) = entry.spellings()?[0];
    Ok(if contains(&der(key)?, &SM2_CURVE) {
        "sm2-key"
    } else {
        "rsa-key"
    })
}

/// Checks one key entry.
pub(crate) fn check(by: &dyn Implementation, entry: KeyEntry<'_>, findings: &mut Findings) -> Result<(), String> {
    let sm2 = kind(entry)? == "sm2-key";
    let mut first: Option<(&str, Vec<u8>)> = None;
    for (member, key) in entry.spellings()? {
        let der = der(key).map_err(|error| format!("{member}: {error}"))?;
        let answer: Answer<Vec<u8>> = if sm2 {
            by.sm2_public_key(key)
        } else {
            by.rsa_public_key(key)
        };
        let Some(spki) = findings.value(member, answer) else {
            continue;
        };
        let as_in_file = match key {
            PublicKey::Certificate(_) => contains(&der, &spki),
            PublicKey::Pem(pem) if !pem.contains("RSA PUBLIC KEY") => der == spki,
            PublicKey::Pem(_) => contains(&spki, &der),
            PublicKey::PrivateKey(_) => true,
        };
        if !as_in_file {
            findings.wrong(format!("{member}: the key is not the one in its own bytes"));
        }
        match &first {
            None => first = Some((member, spki)),
            Some((other, same)) if *same != spki => findings.wrong(format!("{member} is another key than {other}")),
            Some(_) => {}
        }
    }
    hex_spellings(entry, first, findings)
}

/// The point in hex ends the SPKI; the scalar in hex stands in the private key.
fn hex_spellings(entry: KeyEntry<'_>, spki: Option<(&str, Vec<u8>)>, findings: &mut Findings) -> Result<(), String> {
    if let Some(point) = entry.members.optional_text("ec_public_key_hex")? {
        let point = unhex(point)?;
        if spki.is_some_and(|(_, spki)| !spki.ends_with(&point)) {
            findings.wrong("ec_public_key_hex is another key");
        }
    }
    if let Some(scalar) = entry.members.optional_text("ec_private_key_hex")? {
        let scalar = unhex(scalar)?;
        for (member, key) in entry.spellings()? {
            if matches!(key, PublicKey::PrivateKey(_)) && !contains(&der(key)?, &scalar) {
                findings.wrong(format!("ec_private_key_hex is another key than {member}"));
            }
        }
    }
    Ok(())
}

/// The bytes between the two lines of a PEM.
fn der(key: PublicKey<'_>) -> Result<Vec<u8>, String> {
    let (PublicKey::Pem(pem) | PublicKey::Certificate(pem) | PublicKey::PrivateKey(pem)) = key;
    let base64: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN "))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END "))
        .collect();
    STANDARD
        .decode(base64)
        .map_err(|error| format!("the file's PEM does not decode: {error}"))
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{text:?} is not hex");
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(wrong());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len().max(1)).any(|window| window == part)
}

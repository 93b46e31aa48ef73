//! Holds the sandbox's own cryptography to the published examples. The SDK is held to the same files, elsewhere.
//!
//! What only a merchant does (verifying answers, opening notifications, writing the Authorization header) is not the
//! sandbox's business and is reported as skipped.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wechatpay_sandbox::Authorization as Parsed;
use wechatpay_sandbox::seal::{self, Held, SigningKey, VerifyingKey};
use wechatpay_vectors::{Answer, Authorization, HeldKey, Implementation, PublicKey, Refusal, Request, Signer, check};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{DecodePem, EncodePem};

struct Sandbox;

fn key(key: PublicKey<'_>) -> Answer<VerifyingKey> {
    match key {
        PublicKey::Pem(pem) => Ok(VerifyingKey::from_pem(pem)?),
        PublicKey::PrivateKey(pem) => Ok(SigningKey::from_pem(pem)?.verifying_key()),
        // The sandbox makes certificates and reads none: another crate takes the key out.
        PublicKey::Certificate(pem) => {
            let certificate = x509_cert::Certificate::from_pem(pem)?;
            let spki = certificate.tbs_certificate().subject_public_key_info();
            Ok(VerifyingKey::from_pem(&spki.to_pem(LineEnding::LF)?)?)
        }
    }
}

fn text(message: Vec<u8>) -> Answer<String> {
    Ok(String::from_utf8(message)?)
}

impl Implementation for Sandbox {
    fn name(&self) -> &str {
        "wechatpay-sandbox"
    }

    fn rsa_public_key(&self, public: PublicKey<'_>) -> Answer<Vec<u8>> {
        Ok(key(public)?.spki().to_vec())
    }

    fn request_message(&self, r: &Request<'_>) -> Answer<String> {
        text(seal::request_message(
            r.method,
            r.url_path_and_query,
            r.timestamp,
            r.nonce_str,
            r.body.as_bytes(),
        ))
    }

    fn read_authorization(&self, header: &str) -> Answer<Authorization> {
        let parsed = Parsed::parse(header).map_err(|refusal| Refusal::Error(refusal.message.into_owned()))?;
        Ok(Authorization {
            scheme: parsed.scheme.into(),
            mchid: parsed.mchid.into(),
            nonce_str: parsed.nonce_str.into(),
            timestamp: parsed.timestamp.into(),
            serial_no: parsed.serial_no.into(),
            signature: parsed.signature.into(),
        })
    }

    fn rsa_sign(&self, signer: &Signer<'_>, message: &str) -> Answer<String> {
        Ok(SigningKey::from_pem(signer.private_key_pem)?.sign(message.as_bytes()))
    }

    fn rsa_verify(&self, public: PublicKey<'_>, message: &str, signature_b64: &str) -> Answer<bool> {
        Ok(key(public)?.verifies(message.as_bytes(), signature_b64))
    }

    fn rsa_verify_by_serial(
        &self,
        held: &[HeldKey<'_>],
        serial_no: &str,
        message: &str,
        signature_b64: &str,
    ) -> Answer<bool> {
        let mut keys = Held::default();
        for HeldKey { id, key: public } in held {
            keys = keys.with(*id, key(*public)?);
        }
        Ok(keys
            .key(serial_no)
            .is_some_and(|key| key.verifies(message.as_bytes(), signature_b64)))
    }

    // The sandbox only seals; opening is the library's, so that both directions are compared.
    fn aes_gcm_open(&self, key: &str, nonce: &str, associated_data: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        let bad = |_| Refusal::Error("key, nonce or tag".into());
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_bytes()).map_err(bad)?);
        let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).map_err(bad)?;
        let mut text = STANDARD.decode(ciphertext_b64)?;
        let opened = key.open_in_place(nonce, Aad::from(associated_data.as_bytes()), &mut text);
        Ok(opened.map_err(bad)?.to_vec())
    }

    fn aes_gcm_seal(&self, key: &str, nonce: &str, associated_data: &str, plaintext: &[u8]) -> Answer<String> {
        Ok(seal::gcm_seal(key, nonce, associated_data, plaintext)?)
    }

    fn rsa_oaep_open(&self, private_key_pem: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        Ok(SigningKey::from_pem(private_key_pem)?.open(ciphertext_b64)?)
    }

    fn sha256(&self, message: &[u8]) -> Answer<String> {
        Ok(seal::sha256_hex(message))
    }

    #[cfg(feature = "gm")]
    fn sm2_public_key(&self, public: PublicKey<'_>) -> Answer<Vec<u8>> {
        Ok(key(public)?.spki().to_vec())
    }

    #[cfg(feature = "gm")]
    fn sm3(&self, message: &[u8]) -> Answer<String> {
        Ok(seal::sm3_hex(message))
    }

    #[cfg(feature = "gm")]
    fn sm2_verify(&self, public: PublicKey<'_>, message: &str, signature_b64: &str) -> Answer<bool> {
        Ok(key(public)?.verifies(message.as_bytes(), signature_b64))
    }

    #[cfg(feature = "gm")]
    fn sm2_open(&self, private_key_pem: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        Ok(SigningKey::from_pem(private_key_pem)?.open(ciphertext_b64)?)
    }

    #[cfg(feature = "gm")]
    fn sm4_key(&self, api_v3_key: &str) -> Answer<Vec<u8>> {
        Ok(seal::sm4_key(api_v3_key).to_vec())
    }

    /// The library opens, and what the sandbox makes of the text again must be the same ciphertext.
    #[cfg(feature = "gm")]
    fn sm4_gcm_open(&self, key: &[u8], nonce: &str, associated_data: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        use aes_gcm::AesGcm;
        use aes_gcm::aead::array::Array;
        use aes_gcm::aead::consts::U12;
        use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
        let (key, bytes): ([u8; 16], [u8; 12]) = (key.try_into()?, nonce.as_bytes().try_into()?);
        let sealed = Payload {
            msg: &STANDARD.decode(ciphertext_b64)?,
            aad: associated_data.as_bytes(),
        };
        let opened = AesGcm::<sm4::Sm4, U12>::new(&Array(key)).decrypt(&Array(bytes), sealed);
        let opened = opened.map_err(|_| Refusal::Error("key, nonce or tag".into()))?;
        assert_eq!(
            seal::sm4_gcm_seal(key, nonce, associated_data, &opened)?,
            ciphertext_b64
        );
        Ok(opened)
    }

    fn received_message(&self, timestamp: &str, nonce: &str, body: &str) -> Answer<String> {
        text(seal::answer_message(timestamp, nonce, body.as_bytes()))
    }
}

#[test]
fn the_sandbox_agrees_with_the_published_examples() {
    let report = check(&Sandbox);

    report.assert();
    for kind in [
        "request-signature-rsa",
        "rsa-sha256-sign",
        "rsa-sha256-verify",
        "sha256",
        "aes-gcm-encrypt-decrypt",
        "rsa-oaep-sha1-decrypt",
    ] {
        assert!(report.of(kind).passed > 0, "{kind}: nothing was checked");
    }
    if cfg!(feature = "gm") {
        for kind in ["sm2-sm3-verify", "sm2-decrypt", "sm4-gcm-decrypt", "sm3"] {
            let counted = report.of(kind);
            assert!(counted.passed > 0 && counted.skipped == 0, "{kind}: {counted:?}");
        }
    }
}

//! Holds the SDK to the known facts of `vectors/`.

#![expect(
    clippy::unwrap_used,
    reason = "tests; Clippy knows only the functions marked as such"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use wechatpay::api::certificates;
use wechatpay::notify::Notifications;
use wechatpay::{ApiV3Key, Certificate, Merchant, MerchantKey, PlatformKey, PlatformKeys, seal, sign, verify};
use wechatpay_vectors as vectors;
use wechatpay_vectors::{Answer, Authorization, HeldKey, Implementation, PublicKey, Received, Request, Signer};

#[test]
fn the_sdk_holds() {
    let report = vectors::check(&Sdk);
    // Without the SM algorithms their vectors are skipped, and only theirs.
    if cfg!(feature = "gm") {
        report.assert_nothing_skipped();
    } else {
        report.assert();
    }
}

struct Sdk;

/// The id of a key that is asked by itself.
const ANY: &str = "00";

fn platform_key(id: &str, key: PublicKey<'_>) -> Answer<PlatformKey> {
    Ok(match key {
        PublicKey::Pem(pem) => PlatformKey::from_public_key(id, pem)?,
        // Held under the id that the vector says, which need not be the certificate's serial.
        PublicKey::Certificate(pem) => {
            let key = Certificate::from_pem(pem)?.platform_key()?;
            PlatformKey::from_public_key(id, spki_pem(&key))?
        }
        PublicKey::PrivateKey(pem) => MerchantKey::from_pem(pem)?.public(id)?,
    })
}

fn spki_pem(key: &PlatformKey) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(key.spki_der())
    )
}

fn platform_keys(held: &[HeldKey<'_>]) -> Answer<PlatformKeys> {
    held.iter().try_fold(PlatformKeys::new(), |keys, held| {
        Ok(keys.with(platform_key(held.id, held.key)?))
    })
}

fn headers(received: &Received<'_>) -> Answer<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in received.headers {
        headers.append(HeaderName::try_from(*name)?, HeaderValue::try_from(*value)?);
    }
    Ok(headers)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

impl Implementation for Sdk {
    fn name(&self) -> &str {
        "wechatpay"
    }

    fn rsa_public_key(&self, key: PublicKey<'_>) -> Answer<Vec<u8>> {
        Ok(platform_key(ANY, key)?.spki_der().to_vec())
    }

    fn request_message(&self, request: &Request<'_>) -> Answer<String> {
        let Request {
            method,
            url_path_and_query,
            timestamp,
            nonce_str,
            body,
            ..
        } = request;
        Ok(text(sign::request_message(
            method,
            url_path_and_query,
            timestamp,
            nonce_str,
            body.as_bytes(),
        )))
    }

    fn authorize(&self, private_key_pem: &str, request: &Request<'_>) -> Answer<String> {
        let Request {
            mchid,
            serial_no,
            method,
            url_path_and_query,
            timestamp,
            nonce_str,
            body,
        } = request;
        let merchant = Merchant::new(*mchid, serial_no, MerchantKey::from_pem(private_key_pem)?);
        Ok(merchant.authorize(method, url_path_and_query, timestamp, nonce_str, body.as_bytes()))
    }

    fn lay_out_authorization(&self, parts: &Authorization) -> Answer<String> {
        let authorization = sign::Authorization {
            scheme: &parts.scheme,
            mchid: &parts.mchid,
            serial_no: &parts.serial_no,
            nonce_str: &parts.nonce_str,
            timestamp: &parts.timestamp,
            signature: &parts.signature,
        };
        Ok(authorization.to_header())
    }

    fn pay_message(&self, lines: &[&str]) -> Answer<String> {
        Ok(text(sign::message(lines)))
    }

    fn rsa_sign(&self, signer: &Signer<'_>, message: &str) -> Answer<String> {
        Ok(MerchantKey::from_pem(signer.private_key_pem)?.sign(message.as_bytes()))
    }

    fn rsa_verify(&self, key: PublicKey<'_>, message: &str, signature_b64: &str) -> Answer<bool> {
        let signature = STANDARD.decode(signature_b64)?;
        Ok(platform_key(ANY, key)?.verify(message.as_bytes(), &signature))
    }

    fn rsa_verify_by_serial(
        &self,
        held: &[HeldKey<'_>],
        serial_no: &str,
        message: &str,
        signature_b64: &str,
    ) -> Answer<bool> {
        let keys = platform_keys(held)?;
        let key = keys.find(serial_no).ok_or("not held")?;
        Ok(key.verify(message.as_bytes(), &STANDARD.decode(signature_b64)?))
    }

    fn received_message(&self, timestamp: &str, nonce: &str, body: &str) -> Answer<String> {
        Ok(text(verify::message(timestamp, nonce, body.as_bytes())))
    }

    fn verify(&self, received: &Received<'_>) -> Answer<bool> {
        let keys = platform_keys(received.held)?;
        verify::verify(&headers(received)?, received.body.as_bytes(), &keys, received.now_unix)?;
        Ok(true)
    }

    fn open_notification(&self, received: &Received<'_>, api_v3_key: &str) -> Answer<vectors::Notification> {
        let notifications = Notifications::new(platform_keys(received.held)?, ApiV3Key::new(api_v3_key)?);
        let opened = notifications.open(&headers(received)?, received.body.as_bytes(), received.now_unix)?;
        Ok(vectors::Notification {
            id: opened.id,
            create_time: opened.create_time,
            event_type: opened.event_type,
            plaintext: opened.plaintext,
        })
    }

    fn is_signature_probe(&self, signature: &str) -> Answer<bool> {
        Ok(verify::is_probe(signature))
    }

    fn aes_gcm_open(&self, key: &str, nonce: &str, associated_data: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        Ok(ApiV3Key::new(key)?.open(nonce, associated_data, ciphertext_b64)?)
    }

    fn aes_gcm_seal(&self, key: &str, nonce: &str, associated_data: &str, plaintext: &[u8]) -> Answer<String> {
        Ok(ApiV3Key::new(key)?.seal(nonce, associated_data, plaintext)?)
    }

    fn rsa_oaep_open(&self, private_key_pem: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        Ok(MerchantKey::from_pem(private_key_pem)?.open(ciphertext_b64)?)
    }

    fn open_certificates(&self, api_v3_key: &str, body: &str) -> Answer<Vec<vectors::PlatformCertificate>> {
        let entries = certificates::open(body.as_bytes(), &ApiV3Key::new(api_v3_key)?)?;
        let entries = entries.into_iter().map(|entry| vectors::PlatformCertificate {
            serial_no: entry.serial_no,
            effective_time: entry.effective_time,
            expire_time: entry.expire_time,
            pem: entry.pem,
        });
        Ok(entries.collect())
    }

    fn newest_certificate(&self, entries: &[vectors::PlatformCertificate]) -> Answer<String> {
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| certificates::PlatformCertificate {
                serial_no: entry.serial_no.clone(),
                effective_time: entry.effective_time.clone(),
                expire_time: entry.expire_time.clone(),
                pem: entry.pem.clone(),
            })
            .collect();
        Ok(certificates::newest(&entries)?.serial_no.clone())
    }

    fn certificate(&self, pem: &str) -> Answer<vectors::Certificate> {
        let certificate = Certificate::from_pem(pem)?;
        let (not_before_unix, not_after_unix) = certificate.validity();
        Ok(vectors::Certificate {
            serial_no: certificate.serial_no(),
            not_before_unix,
            not_after_unix,
            subject: Some(certificate.subject()),
            issuer: Some(certificate.issuer()),
        })
    }

    fn sha256(&self, message: &[u8]) -> Answer<String> {
        Ok(seal::sha256_hex(message))
    }

    #[cfg(feature = "gm")]
    fn sm2_public_key(&self, key: PublicKey<'_>) -> Answer<Vec<u8>> {
        Ok(platform_key(ANY, key)?.spki_der().to_vec())
    }

    #[cfg(feature = "gm")]
    fn sm3(&self, message: &[u8]) -> Answer<String> {
        Ok(wechatpay::gm::sm3_hex(message))
    }

    #[cfg(feature = "gm")]
    fn sm2_verify(&self, key: PublicKey<'_>, message: &str, signature_b64: &str) -> Answer<bool> {
        let signature = STANDARD.decode(signature_b64)?;
        Ok(platform_key(ANY, key)?.verify(message.as_bytes(), &signature))
    }

    #[cfg(feature = "gm")]
    fn sm2_open(&self, private_key_pem: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        Ok(MerchantKey::from_pem(private_key_pem)?.open(ciphertext_b64)?)
    }

    #[cfg(feature = "gm")]
    fn sm4_key(&self, api_v3_key: &str) -> Answer<Vec<u8>> {
        Ok(wechatpay::gm::sm4_key(&ApiV3Key::new(api_v3_key)?).to_vec())
    }

    #[cfg(feature = "gm")]
    fn sm4_gcm_open(&self, key: &[u8], nonce: &str, associated_data: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        let key = key.try_into()?;
        Ok(wechatpay::gm::sm4_gcm_open(
            key,
            nonce,
            associated_data,
            ciphertext_b64,
        )?)
    }
}

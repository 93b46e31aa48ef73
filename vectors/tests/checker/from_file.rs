//! An implementation that knows nothing but looks every answer up in the file, and can be told to get one wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wechatpay_vectors::{
    Answer, Authorization, Certificate, HeldKey, Implementation, Notification, PROTOCOL_DEV, PlatformCertificate,
    PublicKey, Received, Refusal, Request, Signer,
};

/// How one operation goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Wrong,
    Error,
    Panic,
    Missing,
}

pub(crate) struct FromFile {
    json: Value,
    faulty: Option<(&'static str, Fault)>,
}

/// Every operation that the built-in file needs.
pub(crate) const OPERATIONS: [&str; 25] = [
    "rsa_public_key",
    "sm2_public_key",
    "request_message",
    "authorize",
    "lay_out_authorization",
    "pay_message",
    "rsa_sign",
    "rsa_verify",
    "rsa_verify_by_serial",
    "received_message",
    "verify",
    "open_notification",
    "aes_gcm_open",
    "aes_gcm_seal",
    "rsa_oaep_open",
    "open_certificates",
    "newest_certificate",
    "certificate",
    "sha256",
    "sm3",
    "sm2_verify",
    "sm2_open",
    "sm4_key",
    "sm4_gcm_open",
    "is_signature_probe",
];

impl FromFile {
    pub(crate) fn honest() -> Self {
        Self {
            json: serde_json::from_str(PROTOCOL_DEV).unwrap(),
            faulty: None,
        }
    }

    pub(crate) fn faulty(operation: &'static str, fault: Fault) -> Self {
        Self {
            faulty: Some((operation, fault)),
            ..Self::honest()
        }
    }

    fn answer<T: Wrong>(&self, operation: &'static str, answer: Answer<T>) -> Answer<T> {
        match self.faulty {
            Some((faulty, fault)) if faulty == operation => match fault {
                Fault::Wrong => answer.map(T::wrong),
                Fault::Error => Err(Refusal::Error("an error".to_owned())),
                Fault::Panic => panic!("a panic"),
                Fault::Missing => Err(Refusal::NotImplemented("not there")),
            },
            _ => answer,
        }
    }

    fn vectors(&self) -> &[Value] {
        self.json["vectors"].as_array().unwrap()
    }

    /// Finds the vector with these inputs.
    fn vector(&self, inputs: &[(&str, &str)]) -> Answer<(&Value, &Value)> {
        let vectors = self.vectors();
        let same = |vector: &&Value| inputs.iter().all(|(name, text)| vector["inputs"][name] == *text);
        let vector = vectors.iter().find(same).ok_or("no such vector")?;
        Ok((&vector["inputs"], &vector["expected"]))
    }

    fn expected(&self, inputs: &[(&str, &str)], member: &str) -> Answer<String> {
        let (_, expected) = self.vector(inputs)?;
        Ok(expected[member].as_str().ok_or("an error is expected")?.to_owned())
    }

    fn opened(&self, inputs: &[(&str, &str)]) -> Answer<Vec<u8>> {
        Ok(self.expected(inputs, "plaintext")?.into_bytes())
    }

    /// The name and the members of the entry that holds this PEM.
    fn entry(&self, key: PublicKey<'_>) -> Answer<(&str, &Value)> {
        let (PublicKey::Pem(pem) | PublicKey::Certificate(pem) | PublicKey::PrivateKey(pem)) = key;
        let mut entries = self.json["keys"].as_object().unwrap().iter();
        let holds = |entry: &Value| entry.as_object().unwrap().values().any(|member| member == pem);
        let (name, entry) = entries.find(|(_, entry)| holds(entry)).ok_or("no such key")?;
        Ok((name, entry))
    }

    fn public_key(&self, key: PublicKey<'_>) -> Answer<Vec<u8>> {
        let (_, entry) = self.entry(key)?;
        let members = [
            "public_key_pem",
            "public_key_spki_pem",
            "certificate_pem",
            "private_key_pem",
        ];
        let pem = members.into_iter().find_map(|member| entry[member].as_str()).unwrap();
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        Ok(STANDARD.decode(base64)?)
    }

    fn received(&self, received: &Received<'_>) -> Answer<(&Value, &Value)> {
        let vectors = self.vectors();
        let same = |vector: &&Value| {
            let inputs = &vector["inputs"];
            inputs["headers"].as_object().is_some_and(|headers| {
                headers.len() == received.headers.len()
                    && received
                        .headers
                        .iter()
                        .all(|(name, value)| headers.get(*name).is_some_and(|other| other == value))
            }) && inputs["body"] == received.body
                && inputs["now_unix"] == received.now_unix
        };
        let vector = vectors.iter().find(same).ok_or("no such vector")?;
        Ok((&vector["inputs"], &vector["expected"]))
    }
}

fn request_inputs<'a>(request: &Request<'a>) -> [(&'static str, &'a str); 7] {
    [
        ("mchid", request.mchid),
        ("serial_no", request.serial_no),
        ("method", request.method),
        ("url_path_and_query", request.url_path_and_query),
        ("timestamp", request.timestamp),
        ("nonce_str", request.nonce_str),
        ("body", request.body),
    ]
}

impl Implementation for FromFile {
    fn name(&self) -> &str {
        "the file itself"
    }

    fn rsa_public_key(&self, key: PublicKey<'_>) -> Answer<Vec<u8>> {
        self.answer("rsa_public_key", self.public_key(key))
    }

    fn sm2_public_key(&self, key: PublicKey<'_>) -> Answer<Vec<u8>> {
        self.answer("sm2_public_key", self.public_key(key))
    }

    fn request_message(&self, request: &Request<'_>) -> Answer<String> {
        self.answer("request_message", self.expected(&request_inputs(request), "message"))
    }

    fn authorize(&self, _private_key_pem: &str, request: &Request<'_>) -> Answer<String> {
        let header = self.expected(&request_inputs(request), "authorization_header_as_ordered_in_docs");
        self.answer("authorize", header)
    }

    fn lay_out_authorization(&self, parts: &Authorization) -> Answer<String> {
        let inputs = [("nonce_str", parts.nonce_str.as_str())];
        self.answer(
            "lay_out_authorization",
            self.expected(&inputs, "authorization_header_as_ordered_in_go_sdk"),
        )
    }

    fn pay_message(&self, lines: &[&str]) -> Answer<String> {
        let vectors = self.vectors();
        let vector = vectors
            .iter()
            .find(|vector| vector["inputs"]["lines"] == serde_json::json!(lines))
            .unwrap();
        self.answer(
            "pay_message",
            Ok(vector["expected"]["message"].as_str().unwrap().to_owned()),
        )
    }

    fn rsa_sign(&self, _signer: &Signer<'_>, message: &str) -> Answer<String> {
        let signs = |vector: &&Value| {
            (vector["inputs"]["message"] == message || vector["expected"]["message"] == message)
                && vector["expected"]["signature_b64"].is_string()
        };
        let vector = self.vectors().iter().find(signs).unwrap();
        self.answer(
            "rsa_sign",
            Ok(vector["expected"]["signature_b64"].as_str().unwrap().to_owned()),
        )
    }

    fn rsa_verify(&self, key: PublicKey<'_>, message: &str, signature_b64: &str) -> Answer<bool> {
        let (name, _) = self.entry(key)?;
        let of_key = [("key", name), ("message", message)];
        let bare = self.vector(&[of_key[0], of_key[1], ("signature_b64", signature_b64)]);
        let valid = bare
            .or_else(|_| self.vector(&of_key))
            .is_ok_and(|(_, expected)| expected["valid"] == true);
        self.answer("rsa_verify", Ok(valid))
    }

    fn rsa_verify_by_serial(&self, held: &[HeldKey<'_>], serial: &str, message: &str, sig: &str) -> Answer<bool> {
        let (_, expected) = self.vector(&[("serial_no", serial), ("message", message), ("signature_b64", sig)])?;
        let valid = expected["valid"] == true && held.iter().any(|held| held.id == serial);
        self.answer("rsa_verify_by_serial", Ok(valid))
    }

    fn received_message(&self, timestamp: &str, nonce: &str, body: &str) -> Answer<String> {
        let vectors = self.vectors();
        let begin = format!("{timestamp}\n{nonce}\n");
        let begins = |vector: &&Value| {
            vector["expected"]["message"]
                .as_str()
                .is_some_and(|m| m.starts_with(&begin))
        };
        let vector = vectors
            .iter()
            .filter(begins)
            .find(|vector| vector["inputs"]["body"] == body)
            .unwrap();
        self.answer(
            "received_message",
            Ok(vector["expected"]["message"].as_str().unwrap().to_owned()),
        )
    }

    fn verify(&self, received: &Received<'_>) -> Answer<bool> {
        let valid = self.received(received).is_ok_and(|(_, expected)| {
            let signer = expected["signature_valid_with"].as_str();
            expected["valid"] == true
                || expected["signature_valid"] == true
                || signer.is_some_and(|signer| received.held.iter().any(|held| held.id == signer))
        });
        self.answer("verify", Ok(valid))
    }

    fn open_notification(&self, received: &Received<'_>, api_v3_key: &str) -> Answer<Notification> {
        let (inputs, expected) = self.received(received)?;
        let plaintext = expected["plaintext"]
            .as_str()
            .filter(|_| inputs["api_v3_key"] == api_v3_key);
        let text = |member: &str| expected[member].as_str().unwrap_or_default().to_owned();
        let open = || {
            Ok(Notification {
                id: text("id"),
                create_time: text("create_time"),
                event_type: text("event_type"),
                plaintext: plaintext.ok_or("an error is expected")?.as_bytes().to_vec(),
            })
        };
        self.answer("open_notification", open())
    }

    fn is_signature_probe(&self, signature: &str) -> Answer<bool> {
        let (_, expected) = self.vector(&[("value", signature)])?;
        self.answer("is_signature_probe", Ok(expected["is_probe"] == true))
    }

    fn aes_gcm_open(&self, key: &str, nonce: &str, associated_data: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        let sealed = [("associated_data", associated_data), ("ciphertext_b64", ciphertext_b64)];
        let inputs = [("key_utf8", key), ("nonce", nonce), sealed[0], sealed[1]];
        self.answer("aes_gcm_open", self.opened(&inputs))
    }

    fn aes_gcm_seal(&self, key: &str, nonce: &str, associated_data: &str, _plaintext: &[u8]) -> Answer<String> {
        let (inputs, _) = self.vector(&[
            ("key_utf8", key),
            ("nonce", nonce),
            ("associated_data", associated_data),
        ])?;
        self.answer(
            "aes_gcm_seal",
            Ok(inputs["ciphertext_b64"].as_str().unwrap().to_owned()),
        )
    }

    fn rsa_oaep_open(&self, _private_key_pem: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        self.answer("rsa_oaep_open", self.opened(&[("ciphertext_b64", ciphertext_b64)]))
    }

    fn open_certificates(&self, _api_v3_key: &str, body: &str) -> Answer<Vec<PlatformCertificate>> {
        let (_, expected) = self.vector(&[("body", body)])?;
        let entries = if let Some(serials) = expected["serials"].as_array() {
            let entry = |serial: &Value| PlatformCertificate {
                serial_no: serial.as_str().unwrap().to_owned(),
                effective_time: String::new(),
                expire_time: String::new(),
                pem: String::new(),
            };
            serials.iter().map(entry).collect()
        } else {
            let entry = |certificate: &Value| {
                let text = |member: &str| certificate[member].as_str().unwrap().to_owned();
                PlatformCertificate {
                    serial_no: text("serial_no"),
                    effective_time: text("effective_time"),
                    expire_time: text("expire_time"),
                    pem: text("pem"),
                }
            };
            expected["certificates"].as_array().unwrap().iter().map(entry).collect()
        };
        self.answer("open_certificates", Ok(entries))
    }

    fn newest_certificate(&self, entries: &[PlatformCertificate]) -> Answer<String> {
        let vectors = self.vectors();
        let newest = vectors
            .iter()
            .find_map(|vector| vector["expected"]["newest_by_effective_time"].as_str())
            .unwrap();
        assert!(entries.iter().any(|entry| entry.serial_no == newest));
        self.answer("newest_certificate", Ok(newest.to_owned()))
    }

    fn certificate(&self, pem: &str) -> Answer<Certificate> {
        let vectors = self.vectors();
        let inside = vectors
            .iter()
            .filter_map(|vector| vector["expected"]["certificates"].as_array())
            .flatten();
        let bare = vectors
            .iter()
            .filter(|vector| vector["inputs"]["certificate_pem"] == pem);
        let opened = vectors.iter().filter(|vector| vector["expected"]["plaintext"] == pem);
        let facts = inside
            .filter(|facts| facts["pem"] == pem)
            .chain(bare.chain(opened).map(|v| &v["expected"]));
        let facts: Vec<&Value> = facts.collect();
        let text = |members: &[&str]| {
            facts
                .iter()
                .flat_map(|facts| members.iter().filter_map(|member| facts[*member].as_str()))
                .next()
        };
        let instant =
            |members: &[&str]| text(members).map_or(0, |text| text.parse::<jiff::Timestamp>().unwrap().as_second());
        let serials = ["serial_of_decrypted_certificate", "serial_no_hex", "certificate_serial"];
        let certificate = Certificate {
            serial_no: text(&serials).unwrap().to_owned(),
            not_before_unix: instant(&["not_before", "not_before_utc"]),
            not_after_unix: instant(&["not_after", "not_after_utc"]),
            subject: text(&["subject"]).map(str::to_owned),
            issuer: None,
        };
        self.answer("certificate", Ok(certificate))
    }

    fn sha256(&self, message: &[u8]) -> Answer<String> {
        let message = str::from_utf8(message).unwrap();
        let vectors = self.vectors();
        let digest = vectors.iter().find_map(|vector| {
            let (inputs, expected) = (&vector["inputs"], &vector["expected"]);
            let of = if inputs["message"] == message {
                &expected["digest_hex"]
            } else {
                &expected["message_sha256"]
            };
            of.as_str()
                .filter(|_| inputs["message"] == message || expected["message"] == message)
        });
        self.answer("sha256", Ok(digest.unwrap().to_owned()))
    }

    fn sm3(&self, message: &[u8]) -> Answer<String> {
        self.answer(
            "sm3",
            self.expected(&[("message_b64", &STANDARD.encode(message))], "digest_hex"),
        )
    }

    fn sm2_verify(&self, _key: PublicKey<'_>, message: &str, signature_b64: &str) -> Answer<bool> {
        let (_, expected) = self.vector(&[("message", message), ("signature_b64", signature_b64)])?;
        self.answer("sm2_verify", Ok(expected["valid"] == true))
    }

    fn sm2_open(&self, _private_key_pem: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        self.answer("sm2_open", self.opened(&[("ciphertext_b64", ciphertext_b64)]))
    }

    fn sm4_key(&self, api_v3_key: &str) -> Answer<Vec<u8>> {
        let vectors = self.vectors();
        let mut inputs = vectors.iter().map(|vector| &vector["inputs"]);
        let inputs = inputs.find(|inputs| inputs["api_v3_key"] == api_v3_key && inputs["sm4_key_hex"].is_string());
        let hex = inputs.unwrap()["sm4_key_hex"].as_str().unwrap();
        let key = (0..16)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        self.answer("sm4_key", Ok(key))
    }

    fn sm4_gcm_open(&self, _key: &[u8], nonce: &str, _associated_data: &str, ciphertext_b64: &str) -> Answer<Vec<u8>> {
        self.answer(
            "sm4_gcm_open",
            self.opened(&[("nonce", nonce), ("ciphertext_b64", ciphertext_b64)]),
        )
    }
}

/// Makes a value wrong.
trait Wrong {
    fn wrong(self) -> Self;
}

impl Wrong for bool {
    fn wrong(self) -> Self {
        !self
    }
}

impl Wrong for String {
    fn wrong(self) -> Self {
        self + "x"
    }
}

impl Wrong for Vec<u8> {
    fn wrong(mut self) -> Self {
        self.push(b'x');
        self
    }
}

impl Wrong for Notification {
    fn wrong(self) -> Self {
        Self {
            event_type: self.event_type.wrong(),
            ..self
        }
    }
}

impl Wrong for Certificate {
    fn wrong(self) -> Self {
        Self {
            serial_no: self.serial_no.wrong(),
            ..self
        }
    }
}

impl Wrong for Vec<PlatformCertificate> {
    fn wrong(mut self) -> Self {
        self.reverse();
        self.truncate(1);
        self[0].pem.push('x');
        self
    }
}

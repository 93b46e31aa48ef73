//! Implementations that do a part, or less than all there is: receivers, and those that insist on usual lengths.

use serde_json::Value;
use wechatpay_vectors::{
    Answer, Authorization, Certificate, Counts, Implementation, Notification, Received, Refusal, Request, Signer,
    check_with_folder,
};

use crate::from_file::{Fault, FromFile};

#[test]
fn a_receiver_may_read_the_authorization_instead_of_writing_it() {
    struct Reader {
        file: FromFile,
        swapped: bool,
    }
    impl Implementation for Reader {
        fn name(&self) -> &str {
            "reader"
        }
        fn request_message(&self, request: &Request<'_>) -> Answer<String> {
            self.file.request_message(request)
        }
        fn rsa_sign(&self, signer: &Signer<'_>, message: &str) -> Answer<String> {
            self.file.rsa_sign(signer, message)
        }
        fn sha256(&self, message: &[u8]) -> Answer<String> {
            self.file.sha256(message)
        }
        fn read_authorization(&self, header: &str) -> Answer<Authorization> {
            let (scheme, members) = header.split_once(' ').ok_or("no scheme")?;
            let member = |name: &str| {
                let mut members = members.split(',').filter_map(|member| member.split_once('='));
                members
                    .find(|(other, _)| *other == name)
                    .map(|(_, value)| value.trim_matches('"').to_owned())
                    .unwrap()
            };
            let (mchid, serial_no) = if self.swapped {
                ("serial_no", "mchid")
            } else {
                ("mchid", "serial_no")
            };
            Ok(Authorization {
                scheme: scheme.to_owned(),
                mchid: member(mchid),
                nonce_str: member("nonce_str"),
                timestamp: member("timestamp"),
                serial_no: member(serial_no),
                signature: member("signature"),
            })
        }
    }

    let right = check_with_folder(
        &Reader {
            file: FromFile::honest(),
            swapped: false,
        },
        None,
    );
    let wrong = check_with_folder(
        &Reader {
            file: FromFile::honest(),
            swapped: true,
        },
        None,
    );

    assert_eq!(
        right.of("request-signature-rsa"),
        Counts {
            passed: 8,
            ..Counts::default()
        },
        "{right}"
    );
    assert_eq!(
        wrong.of("request-signature-rsa"),
        Counts {
            passed: 5,
            failed: 3,
            ..Counts::default()
        },
        "{wrong}"
    );
}

#[test]
fn leave_lets_unusual_keys_and_nonces_be_refused_but_not_be_wrong() {
    /// Insists on 32 and 12 bytes, as many libraries do.
    struct Insists(FromFile);
    impl Insists {
        fn usual(key: &str, nonce: &str) -> Result<(), Refusal> {
            if key.len() == 32 && nonce.len() == 12 {
                Ok(())
            } else {
                Err("unusual length".into())
            }
        }
    }
    impl Implementation for Insists {
        fn name(&self) -> &str {
            "insists"
        }
        fn aes_gcm_open(&self, key: &str, nonce: &str, aad: &str, ciphertext: &str) -> Answer<Vec<u8>> {
            Self::usual(key, nonce)?;
            self.0.aes_gcm_open(key, nonce, aad, ciphertext)
        }
        fn aes_gcm_seal(&self, key: &str, nonce: &str, aad: &str, plaintext: &[u8]) -> Answer<String> {
            Self::usual(key, nonce)?;
            self.0.aes_gcm_seal(key, nonce, aad, plaintext)
        }
        fn certificate(&self, pem: &str) -> Answer<Certificate> {
            self.0.certificate(pem)
        }
        fn verify(&self, received: &Received<'_>) -> Answer<bool> {
            self.0.verify(received)
        }
        fn open_notification(&self, received: &Received<'_>, key: &str) -> Answer<Notification> {
            let body: Value = serde_json::from_str(received.body)?;
            Self::usual(key, body["resource"]["nonce"].as_str().unwrap())?;
            self.0.open_notification(received, key)
        }
    }

    let report = check_with_folder(&Insists(FromFile::honest()), None);
    assert_eq!(report.failures(), []);
    assert_eq!(
        report.of("aes-gcm-encrypt-decrypt"),
        Counts {
            passed: 1,
            refused_by_leave: 1,
            ..Counts::default()
        }
    );
    assert_eq!(
        report.of("callback-rsa-aesgcm"),
        Counts {
            passed: 14,
            refused_by_leave: 2,
            ..Counts::default()
        }
    );

    // The signature half of such a callback is still held by itself.
    let report = check_with_folder(&Insists(FromFile::faulty("verify", Fault::Wrong)), None);
    assert_eq!(
        report.of("callback-rsa-aesgcm"),
        Counts {
            passed: 8,
            failed: 8,
            ..Counts::default()
        },
        "{report}"
    );
    // Another plaintext is never right.
    let report = check_with_folder(&FromFile::faulty("aes_gcm_open", Fault::Wrong), None);
    assert_eq!(
        report.of("aes-gcm-encrypt-decrypt"),
        Counts {
            failed: 2,
            ..Counts::default()
        }
    );
    // An error is right only where the lengths are unusual.
    let report = check_with_folder(&FromFile::faulty("aes_gcm_open", Fault::Error), None);
    assert_eq!(report.of("aes-gcm-encrypt-decrypt").failed, 1);
    assert_eq!(report.of("aes-gcm-encrypt-decrypt").refused_by_leave, 1);
}

//! `GET /v3/certificates` (下载平台证书, protocol 4.1).

use serde_json::{Value, json};

use crate::china;
use crate::endpoints::fields::Fields;
use crate::endpoints::{Ask, Reply};
use crate::keyring::KeyMode;
use crate::refusal::Refusal;
use crate::world::World;

pub(crate) fn list(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let query = Fields::query(ask.query);
    let algorithm = query.text("algorithm_type")?.unwrap_or("RSA");
    if !["RSA", "SM2", "ALL"].contains(&algorithm) {
        return Err(query.wrong("参数错误", "algorithm_type", "not RSA, SM2 or ALL"));
    }
    let none = || Refusal::new(404, "RESOURCE_NOT_EXISTS", NONE);
    if world.keys.mode() == KeyMode::PublicKeyOnly {
        return Err(none().hint("this merchant has the public key only: verify with pub_key.pem and its id"));
    }
    let envelopes = world.identity.envelopes();
    let own = envelopes.suite.algorithm_type();
    if algorithm != own && algorithm != "ALL" {
        // Unknown: what a merchant without SM2 gets (support opens it per merchant), and whether one with SM2 has RSA beside it.
        return Err(none().hint(format!(
            "this merchant has {own} certificates only: say algorithm_type={own}"
        )));
    }
    let certificates = world.keys.certificates();
    if certificates.is_empty() {
        // The code is documented, the status is not.
        return Err(Refusal::new(
            403,
            "NOT_ENOUGH",
            "平台证书已过期失效，请联系微信支付客服",
        ));
    }
    let data: Vec<Value> = certificates
        .iter()
        .map(|certificate| {
            let (nonce, ciphertext) = envelopes.seal(ASSOCIATED_DATA, certificate.pem.as_bytes());
            json!({
                "serial_no": certificate.serial_no,
                "effective_time": china::text(certificate.effective_time),
                "expire_time": china::text(certificate.expire_time),
                "encrypt_certificate": {
                    "algorithm": envelopes.algorithm(),
                    "nonce": nonce,
                    "associated_data": ASSOCIATED_DATA,
                    "ciphertext": ciphertext,
                },
            })
        })
        .collect();
    Ok(Reply::ok(&json!({ "data": data })))
}

const ASSOCIATED_DATA: &str = "certificate";
/// The documentation breaks off after the first clause.
const NONE: &str = "无可用的平台证书，请在商户平台使用微信支付公钥";

//! `POST /v3/security/echo` (protocol 4.5): the only harmless call for trying out signing, verifying and encryption.
//!
//! Unknown: what is said to a missing or strange `Wechatpay-Serial`, and to a field that does not open.

use serde_json::json;

use crate::callbacks::{Event, callback_url};
use crate::endpoints::fields::{Fields, PARAM_ERROR};
use crate::endpoints::{Ask, Reply};
use crate::refusal::Refusal;
use crate::world::World;

pub(crate) fn echo(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let body = Fields::body(ask.body)?;
    let echo_message = body.required("echo_message", PARAM_ERROR)?;
    let sealed = body.text("encrypted_echo_message")?;
    let notify_url = body.text("notify_url")?.map(callback_url).transpose();
    let notify_url = notify_url.map_err(|error| body.wrong(PARAM_ERROR, "notify_url", error.to_string()))?;
    if ask.named_key.is_empty() {
        return Err(Refusal::invalid("Http头缺少Wechatpay-Serial")
            .hint("send Wechatpay-Serial with the id of the key you encrypt with"));
    }
    let key = world.keys.find(ask.named_key);
    let key =
        key.ok_or_else(|| Refusal::invalid("Http头Wechatpay-Serial有误").hint("it names no live platform key"))?;

    let mut answer = json!({ "echo_message": echo_message });
    let mut resource = answer.clone();
    if let Some(sealed) = sealed {
        let opened = key
            .key
            .open(sealed)
            .map_err(|error| body.wrong("加密字段解密失败", "encrypted_echo_message", error.to_string()))?;
        let opened = String::from_utf8(opened)
            .map_err(|_| body.wrong("加密字段解密失败", "encrypted_echo_message", "not UTF-8 inside"))?;
        // What was sealed for one 2048-bit key fits the other.
        let again = world.identity.merchant_key.seal(opened.as_bytes());
        answer["encrypted_echo_message"] = again.clone().into();
        // Documented under another name than in the answer.
        resource["encrypt_echo_message"] = again.into();
    }
    if let Some(url) = notify_url {
        world.callbacks.post(Event::SecurityEcho, url, resource);
    }
    Ok(Reply::ok(&answer))
}

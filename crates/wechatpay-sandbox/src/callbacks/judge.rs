//! What counts as an acknowledgement (protocol 2.5, 7.4), and why an answer does not. Pure.

use std::time::Duration;

use serde_json::Value;

use crate::callbacks::Event;
use crate::check::Authorization;

/// What acknowledges an in-mall payment. The sources disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PaymentAck {
    /// The FAQ: 200 with `{"code":"SUCCESS",…}` within 2 s, else the plug-in shows error 272953870.
    #[default]
    Faq,
    /// The API page: 200 or 204 within 5 s.
    ApiPage,
}

/// What the merchant's server answered.
pub(crate) struct Answered<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    pub(crate) authorization: Option<&'a str>,
    pub(crate) after: Duration,
}

/// How long an answer may take.
pub(crate) fn deadline(event: Event, ack: PaymentAck) -> Duration {
    Duration::from_secs(match (event, ack) {
        (Event::Payment, PaymentAck::Faq) => 2,
        (Event::ParkingFee, _) => 3,
        (_, _) => 5,
    })
}

/// Whether the answer acknowledges; the error says why not, and what to do.
pub(crate) fn judge(event: Event, ack: PaymentAck, answered: &Answered<'_>) -> Result<(), String> {
    let allowed = deadline(event, ack);
    if answered.after > allowed {
        return Err(format!(
            "the answer took {} ms, {} ms are allowed: acknowledge first, work later",
            answered.after.as_millis(),
            allowed.as_millis()
        ));
    }
    let status = answered.status;
    let json: Option<Value> = serde_json::from_slice(answered.body).ok();
    let code = json.as_ref().and_then(|json| json["code"].as_str());
    if event == Event::ParkingFee {
        return judge_fee(status, json.as_ref(), answered.authorization);
    }
    if event == Event::Payment && ack == PaymentAck::Faq {
        return match (status, code) {
            (200, Some("SUCCESS")) => Ok(()),
            (200, _) => Err("200, but the body is not {\"code\":\"SUCCESS\",\"message\":\"成功\"}".into()),
            (204, _) => Err("204: the FAQ wants 200 with {\"code\":\"SUCCESS\",\"message\":\"成功\"}".into()),
            (_, _) => Err(format!("status {status}, 200 with a SUCCESS body acknowledges")),
        };
    }
    match (status, code) {
        // Unknown on the real platform; whoever writes FAIL means it.
        (200, Some("FAIL")) => Err("200, but the body says FAIL".into()),
        (200 | 204, _) => Ok(()),
        (_, _) => Err(format!("status {status}, 200 or 204 acknowledges")),
    }
}

/// The fee query wants data back, signed by the merchant. What the signature covers is unknown: only its form is checked.
fn judge_fee(status: u16, json: Option<&Value>, authorization: Option<&str>) -> Result<(), String> {
    if status != 200 {
        return Err(format!("status {status}, a fee is answered with 200"));
    }
    let json = json.ok_or("the body is not JSON")?;
    if json["code"] != "SUCCESS" {
        return Err(format!(
            "code is {}, anything but SUCCESS counts as failure",
            json["code"]
        ));
    }
    for name in ["total_amount", "parking_timestamp", "payable_amount", "paid_amount"] {
        if !json[name].is_u64() {
            return Err(format!("{name} is missing or no whole number"));
        }
    }
    // The page says PARKING_STATUS_, a community page PARKING_STATE_.
    let state = json["parking_state"].as_str().unwrap_or_default();
    if !state.starts_with("PARKING_STATUS_") && !state.starts_with("PARKING_STATE_") {
        return Err("parking_state is neither PARKING_STATUS_PARKING nor PARKING_STATUS_NOT_PARKING".into());
    }
    if !json["pay_state"]
        .as_str()
        .unwrap_or_default()
        .starts_with("PAY_STATUS_")
    {
        return Err("pay_state is no PAY_STATUS_…".into());
    }
    if !json["message"].is_string() {
        return Err("message is missing".into());
    }
    let authorization = authorization.ok_or("the answer has no Authorization header with the merchant's signature")?;
    match Authorization::parse(authorization) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(format!("the answer's Authorization header: {}", refusal.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(event: Event, ack: PaymentAck, status: u16, body: &str, after_ms: u64) -> bool {
        let answered = Answered {
            status,
            body: body.as_bytes(),
            authorization: None,
            after: Duration::from_millis(after_ms),
        };
        judge(event, ack, &answered).is_ok()
    }

    #[test]
    fn the_payment_wants_more_than_the_others() {
        use PaymentAck::{ApiPage, Faq};
        let success = r#"{"code":"SUCCESS","message":"成功"}"#;
        for (event, ack, status, body, after_ms, good) in [
            (Event::Payment, Faq, 200, success, 1999, true),
            (Event::Payment, Faq, 200, success, 2001, false),
            (Event::Payment, Faq, 200, "", 10, false),
            (Event::Payment, Faq, 204, "", 10, false),
            (Event::Payment, Faq, 500, success, 10, false),
            (Event::Payment, ApiPage, 204, "", 4999, true),
            (Event::Refund, Faq, 204, "", 10, true),
            (Event::Authorization, Faq, 200, "", 10, true),
            (Event::Authorization, Faq, 200, "", 5001, false),
            (Event::Authorization, Faq, 200, r#"{"code":"FAIL"}"#, 10, false),
            (Event::Authorization, Faq, 201, "", 10, false),
            (Event::Authorization, Faq, 302, "", 10, false),
        ] {
            assert_eq!(
                verdict(event, ack, status, body, after_ms),
                good,
                "{event:?} {ack:?} {status} {body} {after_ms}"
            );
        }
    }

    #[test]
    fn a_fee_is_answered_with_data_and_a_signature() {
        let good = r#"{"code":"SUCCESS","message":"","total_amount":1500,"parking_timestamp":3600,
            "parking_state":"PARKING_STATUS_PARKING","pay_state":"PAY_STATUS_UNPAID","payable_amount":1500,"paid_amount":0}"#;
        let signature =
            r#"WECHATPAY2-SHA256-RSA2048 mchid="1",nonce_str="n",signature="a",timestamp="2",serial_no="s""#;
        let json = |text: &str| serde_json::from_str::<Value>(text).ok();

        assert_eq!(judge_fee(200, json(good).as_ref(), Some(signature)), Ok(()));
        for (status, body, authorization) in [
            (204, good.to_owned(), Some(signature)),
            (200, String::new(), Some(signature)),
            (200, good.replace("SUCCESS", "FAIL"), Some(signature)),
            (200, good.replace("1500", "\"1500\""), Some(signature)),
            (200, good.replace("PARKING_STATUS", "STATUS"), Some(signature)),
            (200, good.replace("PAY_STATUS", "STATUS"), Some(signature)),
            (200, good.to_owned(), None),
            (200, good.to_owned(), Some("Bearer x")),
        ] {
            assert!(
                judge_fee(status, json(&body).as_ref(), authorization).is_err(),
                "{status} {body}"
            );
        }
    }
}

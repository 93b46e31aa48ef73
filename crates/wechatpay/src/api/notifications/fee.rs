//! The reply to WeChat Pay's question what a stay costs (停车缴费查询交易信息).
//!
//! Lives here: the reply. Pure: time and nonce are arguments. Does not live here: its signature (`notify`). WeChat Pay waits three seconds and
//! does not ask twice.
//!
//! Official page: <https://pay.weixin.qq.com/doc/v3/partner/4024070065>.

use http::Response;
use serde::Serialize;

use crate::api::reminders::{ParkingStatus, PayState};
use crate::merchant::Merchant;
use crate::notify::ReplySignature;

/// What a stay costs so far, or why that cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeeReply {
    /// What it costs.
    Fee(StayFee),
    /// It cannot be said; a text of at most 254 characters.
    Failure(String),
}

/// What a stay costs so far. Amounts in fen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StayFee {
    /// In all.
    pub total_amount: i64,
    /// Seconds parked, despite the name.
    pub parking_timestamp: u64,
    /// Where the car is.
    pub parking_state: ParkingStatus,
    /// Whether it is paid.
    pub pay_state: PayState,
    /// Seconds left to drive out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_exit_timestamp: Option<i64>,
    /// The next price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_raise_price: Option<i64>,
    /// From when on, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_raise_timestamp: Option<i64>,
    /// Still to be paid.
    pub payable_amount: i64,
    /// Paid, over all payments of the stay.
    pub paid_amount: i64,
}

impl FeeReply {
    /// Writes the whole HTTP answer. `now` is in Unix seconds; the nonce is any text that is never used twice.
    pub fn sign(&self, merchant: &Merchant, over: ReplySignature<'_>, now: i64, nonce: &str) -> Response<String> {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(flatten)]
            fee: Option<&'a StayFee>,
        }
        let body = match self {
            FeeReply::Fee(fee) => Body {
                code: "SUCCESS",
                message: "",
                fee: Some(fee),
            },
            FeeReply::Failure(message) => Body {
                code: "FAIL",
                message,
                fee: None,
            },
        };
        let body = serde_json::to_string(&body).expect("texts and numbers are always JSON");
        merchant.sign_reply(body, over, now, nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::fresh_key;
    use http::header::AUTHORIZATION;

    fn merchant() -> Merchant {
        Merchant::new("1900000109", "AB01", fresh_key().1)
    }

    #[test]
    fn the_reply_is_written_as_documented() {
        let fee = FeeReply::Fee(StayFee {
            total_amount: 1500,
            parking_timestamp: 3600,
            parking_state: ParkingStatus::Parking,
            pay_state: PayState::Unpaid,
            payable_amount: 1500,
            ..StayFee::default()
        });

        let answer = fee.sign(&merchant(), ReplySignature::AsAnswer, 1_719_128_975, "n");

        assert_eq!(
            answer.body(),
            r#"{"code":"SUCCESS","message":"","total_amount":1500,"parking_timestamp":3600,"parking_state":"PARKING_STATUS_PARKING","pay_state":"PAY_STATUS_UNPAID","payable_amount":1500,"paid_amount":0}"#
        );
        let failure = FeeReply::Failure("查无此车".into()).sign(&merchant(), ReplySignature::AsAnswer, 0, "n");
        assert_eq!(failure.body(), r#"{"code":"FAIL","message":"查无此车"}"#);
    }

    #[test]
    fn the_signature_covers_the_lines_that_were_chosen() {
        let merchant = merchant();
        let reply = FeeReply::Failure(String::new());
        let signature = |over| {
            let answer = reply.sign(&merchant, over, 7, "n");
            answer.headers()[AUTHORIZATION].to_str().unwrap().to_owned()
        };
        let body = r#"{"code":"FAIL","message":""}"#;

        let of = |message: String| format!(r#"signature="{}""#, merchant.key().sign(message.as_bytes()));
        assert!(signature(ReplySignature::AsAnswer).contains(&of(format!("7\nn\n{body}\n"))));
        assert!(signature(ReplySignature::AsRequest("/fee")).contains(&of(format!("POST\n/fee\n7\nn\n{body}\n"))));
    }
}

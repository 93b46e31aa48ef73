//! What a mini-program, a page or an app needs to open the payment (调起支付): values signed by the merchant.
//!
//! Lives here: the lines that are signed, and the values in the spelling that each side takes. Pure: time and nonce are
//! arguments. Does not live here: making the order, which is `POST /v3/pay/transactions/…` and gives the `prepay_id`. A
//! native payment (Native) needs no signature: its `code_url` is shown as it is.
//!
//! Official pages: <https://pay.weixin.qq.com/doc/v3/merchant/4012365339>,
//! <https://pay.weixin.qq.com/doc/v3/merchant/4012365340>, <https://pay.weixin.qq.com/doc/v3/merchant/4012365341>.

use serde::Serialize;

use crate::merchant::Merchant;
use crate::sign::message;

/// What `wx.requestPayment` and `WeixinJSBridge` take (JSAPI and mini-programs).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JsapiPayment {
    /// The mini-program or official account.
    pub app_id: String,
    /// Unix seconds.
    pub time_stamp: String,
    /// As signed.
    pub nonce_str: String,
    /// `prepay_id=` and the number.
    pub package: String,
    /// How it is signed.
    pub sign_type: &'static str,
    /// The signature.
    pub pay_sign: String,
}

/// What the SDK of an app takes (APP).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AppPayment {
    /// The app.
    #[serde(rename = "appid")]
    pub app_id: String,
    /// The merchant.
    #[serde(rename = "partnerid")]
    pub partner_id: String,
    /// The number of the order.
    #[serde(rename = "prepayid")]
    pub prepay_id: String,
    /// Always the same.
    pub package: &'static str,
    /// As signed.
    #[serde(rename = "noncestr")]
    pub nonce_str: String,
    /// Unix seconds.
    pub timestamp: String,
    /// The signature.
    pub sign: String,
}

impl Merchant {
    /// Signs what a page or a mini-program needs to open a payment. `now` is in Unix seconds.
    ///
    /// ```no_run
    /// # let merchant: wechatpay::Merchant = unimplemented!();
    /// let payment = merchant.jsapi_payment("wxd678efh567hg6787", "wx2016111104", 1_554_208_460, "593BEC0C930BF1AF");
    /// let for_the_page = serde_json::to_string(&payment)?;
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn jsapi_payment(&self, appid: &str, prepay_id: &str, now: i64, nonce: &str) -> JsapiPayment {
        let (time_stamp, package) = (now.to_string(), format!("prepay_id={prepay_id}"));
        let pay_sign = self.key().sign(&message([appid, &time_stamp, nonce, &package]));
        JsapiPayment {
            app_id: appid.to_owned(),
            time_stamp,
            nonce_str: nonce.to_owned(),
            package,
            sign_type: self.key().pay_sign_type(),
            pay_sign,
        }
    }

    /// Signs what an app needs to open a payment. `now` is in Unix seconds. A service provider gives the `mchid` under
    /// which the order was made.
    pub fn app_payment(&self, appid: &str, mchid: &str, prepay_id: &str, now: i64, nonce: &str) -> AppPayment {
        let timestamp = now.to_string();
        let sign = self.key().sign(&message([appid, &timestamp, nonce, prepay_id]));
        AppPayment {
            app_id: appid.to_owned(),
            partner_id: mchid.to_owned(),
            prepay_id: prepay_id.to_owned(),
            package: "Sign=WXPay",
            nonce_str: nonce.to_owned(),
            timestamp,
            sign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::MerchantKey;
    use crate::keys::tests::fresh_key;

    fn signed(key: &MerchantKey, message: &str) -> String {
        key.sign(message.as_bytes())
    }

    #[test]
    fn both_have_their_own_lines_and_spelling() {
        let merchant = Merchant::new("1900000109", "AB01", fresh_key().1);

        let page = serde_json::to_value(merchant.jsapi_payment("wx1", "wx2016", 1_554_208_460, "593BEC0C")).unwrap();
        let app = serde_json::to_value(merchant.app_payment("wx1", "1900000109", "wx2016", 1_554_208_460, "593BEC0C"))
            .unwrap();

        assert_eq!(
            page,
            serde_json::json!({
                "appId": "wx1", "timeStamp": "1554208460", "nonceStr": "593BEC0C", "package": "prepay_id=wx2016",
                "signType": "RSA",
                "paySign": signed(merchant.key(), "wx1\n1554208460\n593BEC0C\nprepay_id=wx2016\n"),
            })
        );
        assert_eq!(
            app,
            serde_json::json!({
                "appid": "wx1", "partnerid": "1900000109", "prepayid": "wx2016", "package": "Sign=WXPay",
                "noncestr": "593BEC0C", "timestamp": "1554208460",
                "sign": signed(merchant.key(), "wx1\n1554208460\n593BEC0C\nwx2016\n"),
            })
        );
    }
}

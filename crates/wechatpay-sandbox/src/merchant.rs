//! What the client under test is given: ids and keys of one throw-away merchant.
//!
//! Made in `identity.rs`, handed out by `lib.rs`.

/// Everything a client needs to call the sandbox as its one merchant.
///
/// The same merchant is a direct merchant (普通商户) when a call has no `sub_mchid`, and a service provider (服务商)
/// when it has one.
#[derive(Clone)]
#[non_exhaustive]
pub struct Merchant {
    /// The caller's number (商户号), ten digits.
    pub mchid: String,
    /// Serial of the merchant API certificate (商户API证书序列号), 40 upper-case hex characters.
    pub serial_no: String,
    /// The key that signs requests, PKCS#8 PEM, RSA-2048.
    pub private_key_pem: String,
    /// The merchant API certificate (商户API证书) for that key, X.509 PEM; its common name is `mchid`.
    pub certificate_pem: String,
    /// The APIv3 key (APIv3密钥), 32 letters and digits.
    pub api_v3_key: String,
    /// Id of the WeChat Pay public key (微信支付公钥ID).
    pub public_key_id: String,
    /// The WeChat Pay public key, SPKI PEM.
    pub public_key_pem: String,
    /// The platform certificate (平台证书), X.509 PEM. It belongs to another key than `public_key_pem`.
    pub platform_certificate_pem: String,
    /// Serial of the platform certificate.
    pub platform_certificate_serial: String,
    /// The mall's brand (品牌ID). The caller owns it.
    pub brandid: u64,
    /// The first of `appids`.
    pub appid: String,
    /// Mini-programs bound to the brand.
    pub appids: Vec<String>,
    /// Child of the caller that owns the brand: the one to send in provider mode.
    pub sub_mchid: String,
    /// Child of the caller that does not own the brand: refused with 403.
    pub other_sub_mchid: String,
}

impl Merchant {
    pub(crate) fn has_appid(&self, appid: &str) -> bool {
        self.appids.iter().any(|bound| bound == appid)
    }
}

impl Merchant {
    /// Whether this merchant number is a child of the caller (受理关系).
    pub(crate) fn has_child(&self, sub_mchid: &str) -> bool {
        sub_mchid == self.sub_mchid || sub_mchid == self.other_sub_mchid
    }
}

impl std::fmt::Debug for Merchant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merchant")
            .field("mchid", &self.mchid)
            .field("serial_no", &self.serial_no)
            .finish_non_exhaustive()
    }
}

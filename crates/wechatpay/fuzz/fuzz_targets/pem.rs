//! Whatever is in a key file: it may be refused, it may not crash.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wechatpay::{Certificate, Merchant, MerchantKey, PlatformKey, PlatformKeys};

fuzz_target!(|data: &[u8]| {
    let _ = MerchantKey::from_pem(data);
    let _ = MerchantKey::from_der(data);
    let _ = PlatformKey::from_public_key("AB01", data);
    let _ = PlatformKeys::new().with_certificate(data);
    let _ = Merchant::from_p12("1900000109", data, "1900000109");
    for certificate in [Certificate::from_pem(data), Certificate::from_der(data)].into_iter().flatten() {
        let _ = (certificate.serial_no(), certificate.validity(), certificate.subject(), certificate.issuer());
        let _ = certificate.platform_key();
    }
});

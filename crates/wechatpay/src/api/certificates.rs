//! Platform certificates (平台证书): the answer of `GET /v3/certificates`, for those who fetch it themselves.
//!
//! [`Platform::fetched`](crate::Platform::fetched) does all of it. Official page:
//! <https://pay.weixin.qq.com/doc/v3/merchant/4012551764>.

pub use crate::certificate_list::{CertificatesError, PlatformCertificate, newest, open};

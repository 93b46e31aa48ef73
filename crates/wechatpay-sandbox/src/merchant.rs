//! Throw-away ids and keys, made at start and handed to the client under test.
//!
//! Holds what one merchant and the platform own: nothing here knows a request. `lib.rs` hands out [`Merchant`];
//! `check.rs` and `platform.rs` use the rest.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::clock::Clock;
use crate::fault::TlsFault;
use crate::seal::{self, Held, KeyError, PlatformKey, SigningKey, VerifyingKey};

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

/// The keys could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make the sandbox's keys")]
pub enum IdentityError {
    /// An RSA key.
    Key(#[from] KeyError),
    /// A certificate.
    Certificate(#[from] rcgen::Error),
}

/// One merchant, the platform's two keys, and the authority that vouches for the TLS certificate.
pub(crate) struct Identity {
    pub(crate) merchant: Merchant,
    pub(crate) merchant_keys: Held,
    /// What sensitive fields are sealed for.
    pub(crate) merchant_key: VerifyingKey,
    pub(crate) public_key: Arc<PlatformKey>,
    pub(crate) certificate: PlatformCertificate,
    pub(crate) ca_pem: String,
    ca: Issuer<'static, KeyPair>,
}

/// A platform certificate (平台证书) with its key.
#[derive(Clone)]
pub(crate) struct PlatformCertificate {
    pub(crate) key: Arc<PlatformKey>,
    pub(crate) pem: String,
    pub(crate) effective_time: Timestamp,
    pub(crate) expire_time: Timestamp,
}

impl Identity {
    /// The identity that all sandboxes of this process share. Making RSA keys is the slow part of a start.
    pub(crate) async fn shared() -> Result<Arc<Self>, IdentityError> {
        static SHARED: Mutex<Option<Arc<Identity>>> = Mutex::new(None);
        on_a_thread(|| {
            // Whoever comes while the first one is at work waits for its keys instead of making more.
            let mut shared = SHARED.lock().expect("making keys does not panic");
            match &*shared {
                Some(identity) => Ok(Arc::clone(identity)),
                None => Ok(Arc::clone(shared.insert(Arc::new(Self::generate()?)))),
            }
        })
        .await
    }

    /// An identity of one's own.
    pub(crate) async fn fresh() -> Result<Arc<Self>, IdentityError> {
        on_a_thread(|| Self::generate().map(Arc::new)).await
    }

    fn generate() -> Result<Self, IdentityError> {
        let [merchant_key, public_key, certificate_key] = three_keys()?;
        let (ca_pem, ca) = certificate_authority()?;
        let now = Clock::new(0).wire_now();
        let certificate = platform_certificate(certificate_key, &ca, now)?;
        let mchid = format!("19{}", seal::random_digits(8));
        let merchant_certificate = issue(&merchant_key, &ca, &mchid, now)?;
        let public_key_id = format!("PUB_KEY_ID_01{}", seal::random_digits(32));
        let appids: Vec<String> = (0..2)
            .map(|_| format!("wx{}", seal::hex_upper(&seal::random::<8>()).to_lowercase()))
            .collect();
        let merchant = Merchant {
            mchid,
            serial_no: merchant_certificate.serial,
            private_key_pem: merchant_key.private_pem(),
            certificate_pem: merchant_certificate.pem,
            api_v3_key: seal::random_text(32),
            public_key_id: public_key_id.clone(),
            public_key_pem: public_key.public_pem(),
            platform_certificate_pem: certificate.pem.clone(),
            platform_certificate_serial: certificate.key.id.clone(),
            brandid: 1000,
            appid: appids[0].clone(),
            appids,
            sub_mchid: format!("16{}", seal::random_digits(8)),
            other_sub_mchid: format!("17{}", seal::random_digits(8)),
        };
        Ok(Self {
            merchant_keys: Held::default().with(merchant.serial_no.clone(), merchant_key.verifying_key()),
            merchant_key: merchant_key.verifying_key(),
            merchant,
            public_key: Arc::new(PlatformKey {
                id: public_key_id,
                key: public_key,
            }),
            certificate,
            ca_pem,
            ca,
        })
    }

    /// One more platform certificate, for a rotation.
    pub(crate) async fn next_platform_certificate(
        self: &Arc<Self>,
        now: Timestamp,
    ) -> Result<PlatformCertificate, IdentityError> {
        let identity = Arc::clone(self);
        on_a_thread(move || platform_certificate(SigningKey::generate()?, &identity.ca, now)).await
    }

    /// A TLS certificate for these names, with its key; spoilt as the fault says.
    pub(crate) fn tls_certificate(
        &self,
        mut names: Vec<String>,
        fault: Option<TlsFault>,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        if fault == Some(TlsFault::WrongName) {
            names = vec!["somebody-else.example".into()];
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "wechatpay-sandbox");
        params.use_authority_key_identifier_extension = true;
        if fault == Some(TlsFault::Expired) {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let certificate = if fault == Some(TlsFault::Untrusted) {
            params.self_signed(&key)?
        } else {
            params.signed_by(&key, &self.ca)?
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((certificate.der().clone(), key))
    }
}

/// Keeps slow work off the caller's runtime, whichever that is.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || drop(done.send(work())));
    result.await.expect("making keys does not panic")
}

fn three_keys() -> Result<[SigningKey; 3], KeyError> {
    std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(SigningKey::generate));
        let [a, b, c] = threads.map(|thread| thread.join().expect("making a key does not panic"));
        Ok([a?, b?, c?])
    })
}

fn platform_certificate(
    key: SigningKey,
    ca: &Issuer<'static, KeyPair>,
    now: Timestamp,
) -> Result<PlatformCertificate, IdentityError> {
    let issued = issue(&key, ca, "wechatpay-sandbox platform certificate", now)?;
    Ok(PlatformCertificate {
        key: Arc::new(PlatformKey { id: issued.serial, key }),
        pem: issued.pem,
        effective_time: issued.not_before,
        expire_time: issued.not_after,
    })
}

struct Issued {
    pem: String,
    serial: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A certificate from the sandbox's authority that begins a minute ago, for callers whose clock is a little behind.
fn issue(key: &SigningKey, ca: &Issuer<'static, KeyPair>, name: &str, now: Timestamp) -> Result<Issued, IdentityError> {
    let pkcs8 = PrivatePkcs8KeyDer::from(key.private_der());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_RSA_SHA256)?;
    let mut serial = seal::random::<20>();
    serial[0] = serial[0] & 0x3f | 0x40;
    let not_before_s = now.as_second() - 60;
    let not_after_s = not_before_s + CERTIFICATE_DAYS * 24 * 3600;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name.push(DnType::CommonName, name);
    let since_1970 = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_before_s);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_after_s);
    params.use_authority_key_identifier_extension = true;
    Ok(Issued {
        pem: params.signed_by(&key, ca)?.pem(),
        serial: seal::hex_upper(&serial),
        not_before: Timestamp::from_second(not_before_s).unwrap_or(Timestamp::MIN),
        not_after: Timestamp::from_second(not_after_s).unwrap_or(Timestamp::MAX),
    })
}

fn certificate_authority() -> Result<(String, Issuer<'static, KeyPair>), IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "wechatpay-sandbox CA, trust it in tests only");
    let pem = params.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(params, key)))
}

/// Certificates live five years.
const CERTIFICATE_DAYS: i64 = 5 * 365;

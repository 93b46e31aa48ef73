//! One merchant, the platform's first keys, and the authority that vouches for certificates: made at start, or kept.
//!
//! Nothing here knows a request. `check.rs`, `keyring.rs` and `tls.rs` use it; `folder.rs` may write it down.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::fault::TlsFault;
use crate::merchant::Merchant;
use crate::seal::{self, Envelopes, Held, KeyError, PlatformKey, SigningKey, Suite, VerifyingKey};

/// The keys could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make the sandbox's keys")]
pub enum IdentityError {
    /// An RSA key.
    Key(#[from] KeyError),
    /// A certificate.
    Certificate(#[from] rcgen::Error),
    /// A certificate for an SM2 key.
    #[cfg(feature = "gm")]
    SmCertificate,
    /// A kept identity without a mini-program.
    NoAppid,
    /// A kept identity whose keys are of other algorithms than asked for.
    OtherAlgorithms,
    /// A kept identity that cannot be read.
    #[error("{} is no identity that a sandbox kept", path.display())]
    Kept {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
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
    /// The same as text.
    pub(crate) kept: Kept,
}

/// An identity as a file has it, private keys and all: for a sandbox that is to come back with the same keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    mchid: String,
    serial_no: String,
    private_key_pem: String,
    certificate_pem: String,
    api_v3_key: String,
    public_key_id: String,
    public_key_private_pem: String,
    platform_certificate: KeptCertificate,
    brandid: u64,
    appids: Vec<String>,
    sub_mchid: String,
    other_sub_mchid: String,
    ca_pem: String,
    ca_key_pem: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptCertificate {
    serial_no: String,
    pem: String,
    private_key_pem: String,
    effective_time: Timestamp,
    expire_time: Timestamp,
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
    /// The algorithms of this merchant and its platform.
    pub(crate) fn suite(&self) -> Suite {
        self.public_key.key.suite()
    }

    /// What this merchant's certificates and callbacks are sealed with.
    pub(crate) fn envelopes(&self) -> Envelopes {
        Envelopes {
            api_v3_key: self.merchant.api_v3_key.clone(),
            suite: self.suite(),
        }
    }

    /// The identity that all sandboxes of this process share. Making RSA keys is the slow part of a start.
    pub(crate) async fn shared() -> Result<Arc<Self>, IdentityError> {
        static SHARED: Mutex<Option<Arc<Identity>>> = Mutex::new(None);
        on_a_thread(|| {
            // Whoever comes while the first one is at work waits for its keys instead of making more.
            let mut shared = SHARED.lock().expect("making keys does not panic");
            match &*shared {
                Some(identity) => Ok(Arc::clone(identity)),
                None => Ok(Arc::clone(shared.insert(Arc::new(Self::generate(Suite::Rsa)?)))),
            }
        })
        .await
    }

    /// An identity of one's own.
    pub(crate) async fn fresh(suite: Suite) -> Result<Arc<Self>, IdentityError> {
        on_a_thread(move || Self::generate(suite).map(Arc::new)).await
    }

    /// The identity that lies in this file; `None` when there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Option<Arc<Self>>, IdentityError> {
        let failed = |source| IdentityError::Kept {
            path: path.to_owned(),
            source,
        };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
        Self::from_kept(kept)
            .map(|identity| Some(Arc::new(identity)))
            .map_err(|error| failed(error.into()))
    }

    /// An identity that was kept.
    fn from_kept(kept: Kept) -> Result<Self, IdentityError> {
        let merchant_key = SigningKey::from_pem(&kept.private_key_pem)?.verifying_key();
        let public_key = SigningKey::from_pem(&kept.public_key_private_pem)?;
        let platform = &kept.platform_certificate;
        let certificate = PlatformCertificate {
            key: Arc::new(PlatformKey {
                id: platform.serial_no.clone(),
                key: SigningKey::from_pem(&platform.private_key_pem)?,
            }),
            pem: platform.pem.clone(),
            effective_time: platform.effective_time,
            expire_time: platform.expire_time,
        };
        let ca = Issuer::new(authority_params(), KeyPair::from_pem(&kept.ca_key_pem)?);
        let appid = kept.appids.first().ok_or(IdentityError::NoAppid)?.clone();
        let merchant = Merchant {
            mchid: kept.mchid.clone(),
            serial_no: kept.serial_no.clone(),
            private_key_pem: kept.private_key_pem.clone(),
            certificate_pem: kept.certificate_pem.clone(),
            api_v3_key: kept.api_v3_key.clone(),
            public_key_id: kept.public_key_id.clone(),
            public_key_pem: public_key.public_pem(),
            platform_certificate_pem: certificate.pem.clone(),
            platform_certificate_serial: certificate.key.id.clone(),
            brandid: kept.brandid,
            appid,
            appids: kept.appids.clone(),
            sub_mchid: kept.sub_mchid.clone(),
            other_sub_mchid: kept.other_sub_mchid.clone(),
        };
        Ok(Self {
            merchant_keys: Held::default().with(merchant.serial_no.clone(), merchant_key.clone()),
            merchant_key,
            merchant,
            public_key: Arc::new(PlatformKey {
                id: kept.public_key_id.clone(),
                key: public_key,
            }),
            certificate,
            ca_pem: kept.ca_pem.clone(),
            ca,
            kept,
        })
    }

    fn generate(suite: Suite) -> Result<Self, IdentityError> {
        let [merchant_key, public_key, certificate_key] = three_keys(suite)?;
        let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (ca_pem, ca_key_pem) = (authority_params().self_signed(&ca_key)?.pem(), ca_key.serialize_pem());
        let ca = Issuer::new(authority_params(), ca_key);
        let now = Clock::new(0).wire_now();
        let certificate = platform_certificate(certificate_key, &ca, now)?;
        let mchid = format!("19{}", seal::random_digits(8));
        let merchant_certificate = issue(&merchant_key, &ca, &mchid, now)?;
        let appid = || format!("wx{}", seal::hex_upper(&seal::random::<8>()).to_lowercase());
        Self::from_kept(Kept {
            mchid,
            serial_no: merchant_certificate.serial,
            private_key_pem: merchant_key.private_pem(),
            certificate_pem: merchant_certificate.pem,
            api_v3_key: seal::random_text(32),
            public_key_id: format!("PUB_KEY_ID_01{}", seal::random_digits(32)),
            public_key_private_pem: public_key.private_pem(),
            platform_certificate: KeptCertificate {
                serial_no: certificate.key.id.clone(),
                pem: certificate.pem,
                private_key_pem: certificate.key.key.private_pem(),
                effective_time: certificate.effective_time,
                expire_time: certificate.expire_time,
            },
            brandid: 1000,
            appids: vec![appid(), appid()],
            sub_mchid: format!("16{}", seal::random_digits(8)),
            other_sub_mchid: format!("17{}", seal::random_digits(8)),
            ca_pem,
            ca_key_pem,
        })
    }

    /// One more platform certificate, for a rotation.
    pub(crate) async fn next_platform_certificate(
        self: &Arc<Self>,
        now: Timestamp,
    ) -> Result<PlatformCertificate, IdentityError> {
        let identity = Arc::clone(self);
        on_a_thread(move || {
            let key = SigningKey::generate_for(identity.suite())?;
            platform_certificate(key, &identity.ca, now)
        })
        .await
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

fn three_keys(suite: Suite) -> Result<[SigningKey; 3], KeyError> {
    std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(move || SigningKey::generate_for(suite)));
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
    let mut serial = seal::random::<20>();
    serial[0] = serial[0] & 0x3f | 0x40;
    let not_before_s = now.as_second() - 60;
    let not_after_s = not_before_s + CERTIFICATE_DAYS * 24 * 3600;
    let not_before = Timestamp::from_second(not_before_s).unwrap_or(Timestamp::MIN);
    let not_after = Timestamp::from_second(not_after_s).unwrap_or(Timestamp::MAX);
    let pem = match key.suite() {
        Suite::Rsa => issue_rsa(key, ca, name, &serial, (not_before_s, not_after_s))?,
        #[cfg(feature = "gm")]
        Suite::Sm => seal::sm_certificate(&key.public_der(), name, &serial, not_before, not_after)
            .ok_or(IdentityError::SmCertificate)?,
    };
    Ok(Issued {
        pem,
        serial: seal::hex_upper(&serial),
        not_before,
        not_after,
    })
}

fn issue_rsa(
    key: &SigningKey,
    ca: &Issuer<'static, KeyPair>,
    name: &str,
    serial: &[u8],
    (not_before_s, not_after_s): (i64, i64),
) -> Result<String, IdentityError> {
    let pkcs8 = PrivatePkcs8KeyDer::from(key.private_der());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_RSA_SHA256)?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name.push(DnType::CommonName, name);
    let since_1970 = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_before_s);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_after_s);
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(&key, ca)?.pem())
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "wechatpay-sandbox CA, trust it in tests only");
    params
}

/// Certificates live five years.
const CERTIFICATE_DAYS: i64 = 5 * 365;

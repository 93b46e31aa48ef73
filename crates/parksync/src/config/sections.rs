//! The shapes of the settings. What each key means stands in `config.default.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::delivery::RetryPolicy;
use crate::domain::gate::Direction;
use crate::domain::member::Appid;
use crate::domain::presence::Policy;
use crate::ingest::{self, Format, UnknownZone};

/// All settings.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the reference is config.default.toml")]
pub struct Config {
    pub server: Server,
    pub store: StoreSettings,
    pub node: NodeSettings,
    pub vault: VaultFile,
    pub delivery: Delivery,
    pub policy: PolicySettings,
    pub retention: RetentionSettings,
    pub limits: LimitSettings,
    pub log: Log,
    #[serde(default)]
    pub api_key: Vec<ApiKey>,
    #[serde(default)]
    pub merchant: Vec<Merchant>,
    #[serde(default)]
    pub circle: Vec<Circle>,
    #[serde(default)]
    pub lot: Vec<Lot>,
    #[serde(default)]
    pub gate: Vec<Gate>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    pub path: PathBuf,
    pub url: String,
    pub password_file: PathBuf,
    pub ca_file: PathBuf,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    name: String,
    pub role: NodeRole,
}

impl NodeSettings {
    /// What people call this node.
    #[must_use]
    pub fn name(&self) -> String {
        if self.name.is_empty() {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            self.name.clone()
        }
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Takes events and delivers.
    All,
    /// Takes events.
    Web,
    /// Delivers.
    Worker,
}

impl NodeRole {
    /// The word of the settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Web => "web",
            Self::Worker => "worker",
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VaultFile {
    pub key_file: PathBuf,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    pub max_in_flight: usize,
    pub connect_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub time_to_live_h: u32,
    pub calls_per_second: f64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSettings {
    pub strangers_h: u32,
    pub visits_d: u32,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    pub waiting: u64,
    pub free_disk_mib: u64,
    pub free_disk_percent: u64,
}

impl Delivery {
    /// How long a try may take.
    #[must_use]
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// How long a connection may take.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// The rules for trying again.
    #[must_use]
    pub const fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            time_to_live: SignedDuration::from_hours(self.time_to_live_h as i64),
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySettings {
    pub merge_window_s: u32,
    pub backdated_after_s: u32,
    pub backdated_settle_s: u32,
    pub hold_in_after_h: u32,
    pub future_tolerance_s: u32,
    pub settle_s: u32,
    pub max_stay_h: u32,
    pub one_car_is_enough: bool,
    pub renew_at_midnight: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    pub name: String,
    pub role: Role,
    pub key_file: PathBuf,
}

/// What the holder of a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Post events.
    Gate,
    /// Everything.
    Admin,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Merchant {
    pub mchid: String,
    pub serial_no: String,
    pub private_key_file: PathBuf,
    pub api_v3_key_file: Option<PathBuf>,
    pub public_key_id: Option<String>,
    pub public_key_file: Option<PathBuf>,
    #[serde(default)]
    pub certificate_files: Vec<PathBuf>,
    #[serde(default = "main_domain")]
    pub base_url: String,
    pub ca_file: Option<PathBuf>,
}

/// <https://pay.weixin.qq.com/doc/v3/merchant/4012075113>
fn main_domain() -> String {
    "https://api.mch.weixin.qq.com".to_owned()
}

impl Merchant {
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.private_key_file)
            .chain(&self.api_v3_key_file)
            .chain(&self.public_key_file)
            .chain(&self.certificate_files)
            .chain(&self.ca_file)
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        std::iter::once(&mut self.private_key_file)
            .chain(&mut self.api_v3_key_file)
            .chain(&mut self.public_key_file)
            .chain(&mut self.certificate_files)
            .chain(&mut self.ca_file)
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Circle {
    pub id: String,
    pub merchant: String,
    pub brandid: u64,
    pub appid: Appid,
    pub sub_mchid: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lot {
    pub id: String,
    pub circle: String,
    pub zone: Option<Zone>,
    // Spelled out, since a flattened struct would switch `deny_unknown_fields` off.
    pub merge_window_s: Option<u32>,
    pub backdated_after_s: Option<u32>,
    pub backdated_settle_s: Option<u32>,
    pub hold_in_after_h: Option<u32>,
    pub future_tolerance_s: Option<u32>,
    pub settle_s: Option<u32>,
    pub max_stay_h: Option<u32>,
    pub one_car_is_enough: Option<bool>,
    pub renew_at_midnight: Option<bool>,
    pub inside_of: Option<String>,
    #[serde(default)]
    pub leave_out_classes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    pub lot: String,
    pub id: String,
    pub format: Format,
    pub direction: Option<GateDirection>,
    pub zone: Option<Zone>,
}

/// The direction of a gate, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GateDirection {
    /// Cars come in here.
    In,
    /// Cars leave here.
    Out,
}

impl From<GateDirection> for Direction {
    fn from(direction: GateDirection) -> Self {
        match direction {
            GateDirection::In => Self::In,
            GateDirection::Out => Self::Out,
        }
    }
}

/// A time zone: an offset such as `+08:00`, or a name such as `Asia/Shanghai`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    text: String,
    zone: TimeZone,
}

impl Zone {
    /// The zone for conversions.
    #[must_use]
    pub fn time_zone(&self) -> TimeZone {
        self.zone.clone()
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(text: &str) -> Result<Self, UnknownZone> {
        ingest::parse_zone(text).map(|zone| Self {
            text: text.to_owned(),
            zone,
        })
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Config {
    /// The rules of a lot: `[policy]` with what the lot sets for itself.
    #[must_use]
    pub fn policy_of(&self, lot: &Lot) -> Policy {
        let seconds = |own: Option<u32>, all: u32| SignedDuration::from_secs(i64::from(own.unwrap_or(all)));
        Policy {
            merge_window: seconds(lot.merge_window_s, self.policy.merge_window_s),
            backdated_after: seconds(lot.backdated_after_s, self.policy.backdated_after_s),
            backdated_settle: seconds(lot.backdated_settle_s, self.policy.backdated_settle_s),
            hold_in_after: seconds(lot.hold_in_after_h, self.policy.hold_in_after_h) * 3600,
            future_tolerance: seconds(lot.future_tolerance_s, self.policy.future_tolerance_s),
            settle: seconds(lot.settle_s, self.policy.settle_s),
            max_stay: seconds(lot.max_stay_h, self.policy.max_stay_h) * 3600,
            one_car_is_enough: lot.one_car_is_enough.unwrap_or(self.policy.one_car_is_enough),
            inner: lot.inside_of.is_some(),
        }
    }

    pub(super) fn resolve_paths(&mut self, folder: &Path) {
        let keys = self.api_key.iter_mut().map(|key| &mut key.key_file);
        let merchants = self.merchant.iter_mut().flat_map(Merchant::files_mut);
        let store = [&mut self.store.password_file, &mut self.store.ca_file];
        for path in [&mut self.store.path, &mut self.vault.key_file]
            .into_iter()
            .chain(store.into_iter().filter(|path| !path.as_os_str().is_empty()))
            .chain(keys)
            .chain(merchants)
        {
            *path = folder.join(&*path);
        }
    }
}

/// The keys of the lists, which have no defaults; the reference shows an example of each.
#[cfg(test)]
pub(super) const LIST_KEYS: &[&str] = &[
    "inside_of",
    "leave_out_classes",
    "name",
    "role",
    "key_file",
    "mchid",
    "serial_no",
    "private_key_file",
    "api_v3_key_file",
    "public_key_id",
    "public_key_file",
    "certificate_files",
    "base_url",
    "ca_file",
    "id",
    "merchant",
    "brandid",
    "appid",
    "sub_mchid",
    "circle",
    "zone",
    "merge_window_s",
    "lot",
    "format",
    "direction",
    "key_file",
];

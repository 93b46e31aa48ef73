//! Settings: layers, shapes, and the check that lists every problem at once.
//!
//! The embedded `config.default.toml` is the reference. Secrets are read here, from the files that the settings name.

mod layers;
mod sections;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::limits;

pub use sections::{
    ApiKey, Circle, Config, Delivery, Gate, GateDirection, LimitSettings, Log, LogFormat, Lot, Merchant, NodeRole,
    NodeSettings, PolicySettings, RetentionSettings, Role, Server, StoreSettings, VaultFile, Zone,
};

/// The reference: every setting with its default.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// Why there are no settings to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A value has the wrong type, or a key is unknown.
    #[error("setting `{key}`: {message}")]
    Value {
        /// The key, as a path.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// The settings contradict themselves or the files they name. All problems, one a line.
    #[error("{} in the settings:\n  - {}", count(.0.len()), .0.join("\n  - "))]
    Problems(Vec<String>),
}

fn count(problems: usize) -> String {
    if problems == 1 {
        "1 problem".to_owned()
    } else {
        format!("{problems} problems")
    }
}

/// Reads the layers: defaults, file, environment. Relative paths become relative to the file's folder.
///
/// # Errors
/// The file cannot be read or is not TOML, a value has the wrong type or an unknown key, or the settings do not fit together.
pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut config = layers::merge(path, &text, environment)?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    config.resolve_paths(folder);
    let problems = problems(&config);
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Problems(problems))
    }
}

/// Reads a secret from its file, without the line end that editors add.
///
/// # Errors
/// The file cannot be read, with its path.
pub fn read_secret(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Everything that is wrong, in the order of the file.
fn problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let mut say = |problem: String| problems.push(problem);
    for (what, file) in files(config) {
        if let Err(error) = std::fs::metadata(&file) {
            say(format!("{what}: cannot read {}: {error}", file.display()));
        }
    }
    let mut secrets: BTreeSet<String> = BTreeSet::new();
    for key in &config.api_key {
        let secret = match read_secret(&key.key_file) {
            Ok(secret) => secret,
            Err(why) => {
                say(format!("api_key \"{}\": {why}", key.name));
                continue;
            }
        };
        if secret
            .chars()
            .any(|character| character.is_whitespace() || character.is_control())
        {
            say(format!(
                "api_key \"{}\": the key in {} holds blanks",
                key.name,
                key.key_file.display()
            ));
        } else if !secrets.insert(secret.clone()) {
            say(format!("api_key \"{}\": another one has the same key", key.name));
        }
        if secret.chars().count() < 24 {
            say(format!(
                "api_key \"{}\": the key in {} is shorter than 24 characters",
                key.name,
                key.key_file.display()
            ));
        }
    }
    for merchant in &config.merchant {
        if merchant.public_key_file.is_some() != merchant.public_key_id.is_some() {
            say(format!(
                "merchant \"{}\": public_key_id and public_key_file go together",
                merchant.mchid
            ));
        }
        let has_certificates = !merchant.certificate_files.is_empty() || merchant.api_v3_key_file.is_some();
        if merchant.public_key_file.is_none() && !has_certificates {
            say(format!(
                "merchant \"{}\": no key to verify answers with: set public_key_id and public_key_file, or api_v3_key_file to fetch the certificates, or certificate_files",
                merchant.mchid
            ));
        }
    }
    let merchants = unique(
        "merchant",
        config.merchant.iter().map(|merchant| &*merchant.mchid),
        &mut say,
    );
    let circles = unique("circle", config.circle.iter().map(|circle| &*circle.id), &mut say);
    let lots = unique("lot", config.lot.iter().map(|lot| &*lot.id), &mut say);
    let gates: Vec<String> = config
        .gate
        .iter()
        .map(|gate| format!("{}/{}", gate.lot, gate.id))
        .collect();
    unique("gate", gates.iter().map(String::as_str), &mut say);
    unique("api_key", config.api_key.iter().map(|key| &*key.name), &mut say);
    for circle in config
        .circle
        .iter()
        .filter(|circle| !merchants.contains(&*circle.merchant))
    {
        say(format!(
            "circle \"{}\": there is no merchant \"{}\"",
            circle.id, circle.merchant
        ));
    }
    for circle in config.circle.iter().filter(|circle| circle.brandid == 0) {
        say(format!("circle \"{}\": brandid is 0", circle.id));
    }
    for lot in config.lot.iter().filter(|lot| !circles.contains(&*lot.circle)) {
        say(format!("lot \"{}\": there is no circle \"{}\"", lot.id, lot.circle));
    }
    for gate in config.gate.iter().filter(|gate| !lots.contains(&*gate.lot)) {
        say(format!("gate \"{}\": there is no lot \"{}\"", gate.id, gate.lot));
    }
    for id in lots.iter().copied().chain(config.gate.iter().map(|gate| &*gate.id)) {
        if matches!(id, "" | "." | "..")
            || !id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            say(format!(
                "\"{id}\" cannot be a lot or gate: it stands in a URL, so use letters, digits, `-`, `_` and `.`"
            ));
        }
    }
    for lot in &config.lot {
        if let Some(outer) = lot.inside_of.as_deref()
            && (outer == lot.id || !lots.contains(outer))
        {
            say(format!(
                "lot \"{}\": inside_of names \"{outer}\", which is no other lot",
                lot.id
            ));
        }
    }
    if !(config.delivery.calls_per_second > 0.0 && config.delivery.calls_per_second <= 100_000.0) {
        say("delivery.calls_per_second is not between 0 and 100,000".to_owned());
    }
    if u64::from(config.retention.strangers_h) > u64::from(config.retention.visits_d) * 24 {
        say(
            "retention.strangers_h is longer than retention.visits_d: strangers would be kept longer than members"
                .to_owned(),
        );
    }
    if config.delivery.request_timeout_ms < config.delivery.connect_timeout_ms {
        say("delivery.request_timeout_ms is shorter than delivery.connect_timeout_ms".to_owned());
    }
    if config.store.url.is_empty() && config.node.role != NodeRole::All {
        say(format!(
            "node.role is \"{}\": with an SQLite file there is one node, and it does all; several nodes need PostgreSQL, see store.url",
            config.node.role.as_str()
        ));
    }
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.level) {
        say(format!("log.level: {error}"));
    }
    for (key, value, least, most) in ranges(config) {
        if !(least..=most).contains(&value) {
            say(format!("{key} is {value}; it lies between {least} and {most}"));
        }
    }
    problems
}

/// The numbers that have bounds: name, value, least, most.
fn ranges(config: &Config) -> Vec<(&'static str, u64, u64, u64)> {
    const DAY_S: u64 = 86_400;
    let (delivery, policy) = (&config.delivery, &config.policy);
    // A node must never still be sending when its claim of a lane ends.
    let longest = limits::REQUEST_TIMEOUT_MAX.as_secs() * 1000;
    vec![
        // Each is a signature that the beats of this node may have to wait behind.
        ("delivery.max_in_flight", delivery.max_in_flight as u64, 1, 1024),
        ("delivery.connect_timeout_ms", delivery.connect_timeout_ms, 50, longest),
        ("delivery.request_timeout_ms", delivery.request_timeout_ms, 100, longest),
        ("delivery.time_to_live_h", delivery.time_to_live_h.into(), 1, 24 * 7),
        ("policy.merge_window_s", policy.merge_window_s.into(), 0, DAY_S),
        ("policy.backdated_after_s", policy.backdated_after_s.into(), 10, DAY_S),
        ("policy.backdated_settle_s", policy.backdated_settle_s.into(), 0, 3600),
        ("policy.hold_in_after_h", policy.hold_in_after_h.into(), 1, 24 * 30),
        ("policy.future_tolerance_s", policy.future_tolerance_s.into(), 0, 3600),
        ("policy.settle_s", policy.settle_s.into(), 0, 600),
        ("policy.max_stay_h", policy.max_stay_h.into(), 1, 24 * 365),
        ("retention.strangers_h", config.retention.strangers_h.into(), 1, 24 * 30),
        ("retention.visits_d", config.retention.visits_d.into(), 1, 180),
        ("limits.waiting", config.limits.waiting, 1, 100_000_000),
        ("limits.free_disk_percent", config.limits.free_disk_percent, 0, 90),
    ]
}

fn files(config: &Config) -> impl Iterator<Item = (String, PathBuf)> {
    let merchants = config.merchant.iter().flat_map(|merchant| {
        merchant
            .files()
            .map(|file| (format!("merchant \"{}\"", merchant.mchid), file.clone()))
            .collect::<Vec<_>>()
    });
    std::iter::once(("vault".to_owned(), config.vault.key_file.clone())).chain(merchants)
}

fn unique<'a>(what: &str, ids: impl Iterator<Item = &'a str>, say: &mut impl FnMut(String)) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            say(format!("{what} \"{id}\" is there twice"));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parksync.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("vault.key"), "00".repeat(32)).unwrap();
        load(
            &path,
            environment
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        )
    }

    const VAULT: &str = "[vault]\nkey_file = \"vault.key\"\n";

    #[test]
    fn the_environment_beats_the_file_and_the_file_beats_the_defaults() {
        let text = format!("[delivery]\nmax_in_flight = 7\nrequest_timeout_ms = 5000\n{VAULT}");
        let config = load_text(&text, &[("PARKSYNC__DELIVERY__MAX_IN_FLIGHT", "9"), ("HOME", "x")]).unwrap();

        assert_eq!(config.delivery.max_in_flight, 9);
        assert_eq!(config.delivery.request_timeout_ms, 5000);
        assert_eq!(config.delivery.connect_timeout_ms, 3000);
    }

    #[test]
    fn a_node_with_an_sqlite_file_does_all() {
        let error = load_text(VAULT, &[("PARKSYNC__NODE__ROLE", "web")])
            .unwrap_err()
            .to_string();

        assert!(
            error.contains("node.role is \"web\"") && error.contains("store.url"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = load_text(
            &format!("{VAULT}[[lot]]\nid = \"P1\"\ncircle = \"c\"\nzzone = \"+08:00\"\n"),
            &[],
        )
        .unwrap_err();

        assert!(
            error.to_string().contains("lot[0]") && error.to_string().contains("zzone"),
            "{error}"
        );
    }

    #[test]
    fn every_problem_is_listed_at_once() {
        let text = "[vault]\nkey_file = \"nowhere\"\n[[lot]]\nid = \"P 1\"\ncircle = \"none\"\n[[gate]]\nlot = \"P2\"\nid = \"E1\"\nformat = \"generic\"\n";
        let ConfigError::Problems(problems) = load_text(text, &[]).unwrap_err() else {
            panic!("problems")
        };

        assert_eq!(problems.len(), 4, "{problems:#?}");
    }

    #[test]
    fn the_reference_names_every_setting() {
        let config = load_text(VAULT, &[]).unwrap();
        let toml::Value::Table(sections) = toml::Value::try_from(&config).unwrap() else {
            panic!("a table")
        };

        for (section, keys) in sections {
            let toml::Value::Table(keys) = keys else { continue };
            for key in keys.keys() {
                assert!(
                    DEFAULTS.contains(&format!("\n{key} = ")),
                    "{section}.{key} is not in config.default.toml"
                );
            }
        }
        for key in sections::LIST_KEYS {
            assert!(
                DEFAULTS.contains(&format!("\n# {key} = ")),
                "{key} has no example in config.default.toml"
            );
        }
    }
}

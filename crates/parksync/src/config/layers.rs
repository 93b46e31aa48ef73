//! Puts the layers of the settings on top of one another.

use std::path::Path;

use toml::{Table, Value};

use super::{Config, ConfigError, DEFAULTS};

/// What every setting in the environment begins with.
const PREFIX: &str = "PARKSYNC__";

pub(super) fn merge(
    path: &Path,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut settings: Table = DEFAULTS
        .parse()
        .expect("the embedded defaults are TOML; a test reads them");
    let file: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        message: error.to_string(),
    })?;
    lay(&mut settings, file);
    for (name, value) in environment {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let (section, key) = key.split_once("__").ok_or_else(|| ConfigError::Value {
            key: name.clone(),
            message: format!("settings in the environment are named {PREFIX}SECTION__KEY"),
        })?;
        let layer = Table::from_iter([(key.to_lowercase(), scalar(&value))]);
        lay(
            &mut settings,
            Table::from_iter([(section.to_lowercase(), Value::Table(layer))]),
        );
    }
    serde_path_to_error::deserialize(Value::Table(settings)).map_err(|error| ConfigError::Value {
        key: error.path().to_string(),
        message: error.into_inner().to_string().trim().to_owned(),
    })
}

/// Lays a table over another one, key by key. Lists are replaced whole.
fn lay(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// A value of the environment: a number or a truth value where it reads as one, else text.
fn scalar(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::Integer(number);
    }
    match text {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => Value::String(text.to_owned()),
    }
}

//! JSON whose objects remember a member that came twice.
//!
//! `serde_json::Value` keeps the last of two plates and says nothing. Numbers lose their value here: no member of an event
//! is one. Called by `generic` only.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value.
#[derive(Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number,
    Text(String),
    Array(Vec<Json>),
    Object(Object),
}

/// An object.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// Its members; the first of its name counts.
    pub(super) members: BTreeMap<String, Json>,
    /// The first name that came twice.
    pub(super) twice: Option<String>,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut object = Object::default();
        while let Some((name, value)) = entries.next_entry::<String, Json>()? {
            match object.members.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(value);
                }
                Entry::Occupied(first) => {
                    object.twice.get_or_insert_with(|| first.key().clone());
                }
            }
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_comes_twice_is_remembered() {
        let Json::Object(object) = serde_json::from_str(r#"{"a":1,"b":"x","b":"y","a":[{"c":null}]}"#).unwrap() else {
            panic!("not an object")
        };

        assert_eq!(object.twice.as_deref(), Some("b"));
        assert!(matches!(&object.members["b"], Json::Text(text) if text == "x"));
        assert!(matches!(object.members["a"], Json::Number));
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let Json::Array(values) = serde_json::from_str(r#"[null,true,-1,1,1e3,"é\n",[],{}]"#).unwrap() else {
            panic!("not an array")
        };

        assert!(
            matches!(
                &values[..],
                [Json::Null, Json::Bool(true), Json::Number, Json::Number, Json::Number, Json::Text(text), Json::Array(_), Json::Object(_)]
                    if text == "é\n"
            ),
            "{values:?}"
        );
    }
}

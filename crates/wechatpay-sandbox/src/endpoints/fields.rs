//! Reads the members of a body, or the parameters of a query, and refuses what has the wrong form.
//!
//! What a refusal says when the tables have no row for it (wrong type, too long, null) is unknown: the generic
//! `PARAM_ERROR` with a detail that names the field. Used by every endpoint.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::refusal::{Detail, Refusal};

/// The members of one JSON object, or the parameters of one query.
pub(crate) struct Fields {
    members: Map<String, Value>,
    /// JSON Pointer to the object.
    pointer: String,
    location: Location,
}

#[derive(Clone, Copy, PartialEq)]
enum Location {
    Body,
    Query,
}

impl Fields {
    /// A JSON object without nulls and without characters beyond the basic plane (protocol 3.4).
    ///
    /// Unknown: what the real platform answers to a null or an emoji. Here: the generic `PARAM_ERROR`.
    pub(crate) fn body(body: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::invalid_request(format!("the body is not JSON in UTF-8: {error}")))?;
        let Value::Object(members) = value else {
            return Err(Refusal::invalid_request("the body is JSON, but not an object"));
        };
        let fields = Self {
            members,
            pointer: String::new(),
            location: Location::Body,
        };
        for (name, value) in &fields.members {
            if let Some(issue) = unsendable(value) {
                return Err(fields.refuse(PARAM_ERROR, name, None, issue));
            }
            if beyond_basic_plane(name) {
                return Err(fields.refuse(PARAM_ERROR, "", None, "a name has characters of four bytes"));
            }
        }
        Ok(fields)
    }

    /// The parameters of a query string. Of a repeated one the last counts (unknown on the real platform).
    pub(crate) fn query(query: &str) -> Self {
        let members = form_urlencoded::parse(query.as_bytes())
            .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
            .collect();
        Self {
            members,
            pointer: String::new(),
            location: Location::Query,
        }
    }

    /// A text; an empty one counts as absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.wrong(PARAM_ERROR, name, "not a string")),
        }
    }

    /// A text that must be there, or else this message.
    pub(crate) fn required(&self, name: &str, message: &'static str) -> Result<&str, Refusal> {
        self.text(name)?.ok_or_else(|| self.missing(message, name))
    }

    /// A text of at most so many characters. Whether the documented length counts bytes is unknown.
    pub(crate) fn short(&self, name: &str, max: usize) -> Result<Option<&str>, Refusal> {
        let text = self.text(name)?;
        if text.is_some_and(|text| text.chars().count() > max) {
            return Err(self.wrong(PARAM_ERROR, name, format!("longer than {max} characters")));
        }
        Ok(text)
    }

    /// A text of at most so many characters that must be there.
    pub(crate) fn required_short(&self, name: &str, max: usize) -> Result<&str, Refusal> {
        self.short(name, max)?.ok_or_else(|| self.missing(PARAM_ERROR, name))
    }

    /// One of these words.
    pub(crate) fn word(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Refusal> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(word)),
            None => Err(self.wrong(PARAM_ERROR, name, format!("not one of {}", words.join(", ")))),
        }
    }

    /// One of these words, which must be there.
    pub(crate) fn required_word(&self, name: &str, words: &[&'static str]) -> Result<&'static str, Refusal> {
        self.word(name, words)?.ok_or_else(|| self.missing(PARAM_ERROR, name))
    }

    /// A text that begins with this prefix and goes on with one of these words.
    pub(crate) fn coded(&self, name: &str, prefix: &str, words: &[&str]) -> Result<Option<&str>, Refusal> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match text.strip_prefix(prefix) {
            Some(word) if words.contains(&word) => Ok(Some(text)),
            Some(_) | None => Err(self.wrong(
                PARAM_ERROR,
                name,
                format!("not {prefix} and one of {}", words.join(", ")),
            )),
        }
    }

    /// The same, and it must be there.
    pub(crate) fn required_coded(&self, name: &str, prefix: &str, words: &[&str]) -> Result<&str, Refusal> {
        self.coded(name, prefix, words)?
            .ok_or_else(|| self.missing(PARAM_ERROR, name))
    }

    /// A whole number from 0 on: no field of these endpoints is below. In a query, its digits.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let number = match (self.members.get(name), self.location) {
            (None, _) => return Ok(None),
            (Some(Value::String(text)), Location::Query) if text.is_empty() => return Ok(None),
            (Some(Value::String(text)), Location::Query) => text.parse().ok(),
            (Some(value), _) => value.as_u64(),
        };
        match number.filter(|number| i64::try_from(*number).is_ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(PARAM_ERROR, name, "not a whole number from 0 on")),
        }
    }

    /// A whole number that must be there.
    pub(crate) fn required_number(&self, name: &str) -> Result<u64, Refusal> {
        self.number(name)?.ok_or_else(|| self.missing(PARAM_ERROR, name))
    }

    /// true or false.
    pub(crate) fn truth(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(_) => Err(self.wrong(PARAM_ERROR, name, "not true or false")),
        }
    }

    /// An object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>, Refusal> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(self.inner(name, members))),
            Some(_) => Err(self.wrong(PARAM_ERROR, name, "not an object")),
        }
    }

    /// An object that must be there.
    pub(crate) fn required_object(&self, name: &str) -> Result<Self, Refusal> {
        self.object(name)?.ok_or_else(|| self.missing(PARAM_ERROR, name))
    }

    /// A list.
    pub(crate) fn list(&self, name: &str) -> Result<Option<&[Value]>, Refusal> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(self.wrong(PARAM_ERROR, name, "not a list")),
        }
    }

    /// A list of objects; an absent one is empty.
    pub(crate) fn objects(&self, name: &str) -> Result<Vec<Self>, Refusal> {
        let items = self.list(name)?.unwrap_or_default();
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let members = item.as_object();
                let members =
                    members.ok_or_else(|| self.wrong(PARAM_ERROR, name, "holds something else than objects"))?;
                Ok(self.inner(&format!("{name}/{index}"), members))
            })
            .collect()
    }

    /// All members, as they came.
    pub(crate) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// 400 `PARAM_ERROR`: this member is not there.
    pub(crate) fn missing(&self, message: &'static str, name: &str) -> Refusal {
        self.refuse(message, name, None, "missing")
    }

    /// 400 `PARAM_ERROR`: this member has a wrong value.
    pub(crate) fn wrong(&self, message: &'static str, name: &str, issue: impl Into<Cow<'static, str>>) -> Refusal {
        self.refuse(message, name, self.members.get(name).cloned(), issue)
    }

    fn refuse(
        &self,
        message: &'static str,
        name: &str,
        value: Option<Value>,
        issue: impl Into<Cow<'static, str>>,
    ) -> Refusal {
        let field = match (self.location, name) {
            (Location::Query, _) => name.to_owned(),
            (Location::Body, "") => self.pointer.clone(),
            (Location::Body, _) => format!("{}/{name}", self.pointer),
        };
        Refusal::parameter(
            message,
            Detail {
                field: field.into(),
                value,
                issue: issue.into(),
                location: self.location.as_str(),
            },
        )
    }

    fn inner(&self, name: &str, members: &Map<String, Value>) -> Self {
        Self {
            members: members.clone(),
            pointer: format!("{}/{name}", self.pointer),
            location: self.location,
        }
    }
}

impl Location {
    fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Query => "query",
        }
    }
}

/// 400 `PARAM_ERROR` about the variable of a path, which the details call `url`.
pub(crate) fn wrong_variable(message: &'static str, name: &'static str, value: &str, issue: &'static str) -> Refusal {
    Refusal::parameter(
        message,
        Detail {
            field: name.into(),
            value: Some(Value::from(value)),
            issue: issue.into(),
            location: "url",
        },
    )
}

fn unsendable(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => Some("null is not allowed, leave the member out"),
        Value::String(text) if beyond_basic_plane(text) => Some("characters of four bytes are not allowed"),
        Value::Array(items) => items.iter().find_map(unsendable),
        Value::Object(members) => members.values().find_map(unsendable),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn beyond_basic_plane(text: &str) -> bool {
    text.chars().any(|character| character > '\u{FFFF}')
}

/// The generic message of 400 `PARAM_ERROR`.
pub(crate) const PARAM_ERROR: &str = "参数错误";

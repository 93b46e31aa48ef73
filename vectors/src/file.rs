//! A vector file as read: its vectors and its keys, with typed access to their members.
//!
//! Knows the JSON and nothing of what the members mean; that is `kinds` and `keys`. Called by the crate's root.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::implementation::{HeldKey, PublicKey};

/// An object of a vector file, with a name for messages.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a> {
    name: &'static str,
    members: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(crate) fn of(name: &'static str, value: &'a Value) -> Result<Self, String> {
        let members = value.as_object().ok_or_else(|| format!("{name} is not an object"))?;
        Ok(Self { name, members })
    }

    pub(crate) fn has(&self, member: &str) -> bool {
        self.members.contains_key(member)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.members.keys().map(String::as_str)
    }

    pub(crate) fn value(&self, member: &str) -> Result<&'a Value, String> {
        self.members
            .get(member)
            .ok_or_else(|| format!("{} has no member {member}", self.name))
    }

    /// Reads a member through `read`, which gives `None` for a wrong type.
    fn typed<T>(&self, member: &str, kind: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, String> {
        read(self.value(member)?).ok_or_else(|| format!("{}.{member} is not {kind}", self.name))
    }

    pub(crate) fn text(&self, member: &str) -> Result<&'a str, String> {
        self.typed(member, "text", Value::as_str)
    }

    pub(crate) fn optional_text(&self, member: &str) -> Result<Option<&'a str>, String> {
        self.has(member).then(|| self.text(member)).transpose()
    }

    pub(crate) fn integer(&self, member: &str) -> Result<i64, String> {
        self.typed(member, "an integer", Value::as_i64)
    }

    pub(crate) fn boolean(&self, member: &str) -> Result<bool, String> {
        self.typed(member, "true or false", Value::as_bool)
    }

    pub(crate) fn array(&self, member: &str) -> Result<&'a [Value], String> {
        self.typed(member, "an array", Value::as_array).map(Vec::as_slice)
    }

    pub(crate) fn texts(&self, member: &str) -> Result<Vec<&'a str>, String> {
        let wrong = || format!("{}.{member} holds something that is not text", self.name);
        self.array(member)?
            .iter()
            .map(|value| value.as_str().ok_or_else(wrong))
            .collect()
    }

    /// An object whose members are all text, as pairs.
    pub(crate) fn pairs(&self, member: &'static str) -> Result<Vec<(&'a str, &'a str)>, String> {
        let object = Object::of(member, self.value(member)?)?;
        object.names().map(|name| Ok((name, object.text(name)?))).collect()
    }
}

/// One key entry.
#[derive(Clone, Copy)]
pub(crate) struct KeyEntry<'a> {
    pub(crate) name: &'a str,
    pub(crate) members: Object<'a>,
}

const PRIVATE: [&str; 3] = ["private_key_pem", "private_key_pkcs8_pem", "private_key_pkcs1_pem"];
const PUBLIC: [&str; 3] = ["public_key_pem", "public_key_spki_pem", "public_key_pkcs1_pem"];

impl<'a> KeyEntry<'a> {
    /// Every PEM of the entry with its member name; those to verify with come in the format's order.
    pub(crate) fn spellings(self) -> Result<Vec<(&'static str, PublicKey<'a>)>, String> {
        let mut found = Vec::new();
        for member in PUBLIC {
            found.extend(
                self.members
                    .optional_text(member)?
                    .map(|pem| (member, PublicKey::Pem(pem))),
            );
        }
        let certificate = "certificate_pem";
        found.extend(
            self.members
                .optional_text(certificate)?
                .map(|pem| (certificate, PublicKey::Certificate(pem))),
        );
        for member in PRIVATE {
            found.extend(
                self.members
                    .optional_text(member)?
                    .map(|pem| (member, PublicKey::PrivateKey(pem))),
            );
        }
        if found.is_empty() {
            return Err(format!("key {} has no PEM", self.name));
        }
        Ok(found)
    }

    pub(crate) fn to_verify(self) -> Result<PublicKey<'a>, String> {
        Ok(self.spellings()?[0].1)
    }

    pub(crate) fn to_sign(self) -> Result<&'a str, String> {
        let member = PRIVATE.into_iter().find(|member| self.members.has(member));
        self.members
            .text(member.ok_or_else(|| format!("key {} has no private key", self.name))?)
    }

    /// The key held under its own serial; an entry without one is held by nobody.
    pub(crate) fn held(self) -> Result<Vec<HeldKey<'a>>, String> {
        self.held_as(self.members.optional_text("serial_no")?)
    }

    pub(crate) fn held_as(self, id: Option<&'a str>) -> Result<Vec<HeldKey<'a>>, String> {
        let key = self.to_verify()?;
        Ok(id.map(|id| HeldKey { id, key }).into_iter().collect())
    }
}

/// One vector with the keys of its file.
pub(crate) struct Vector<'a> {
    pub(crate) id: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) inputs: Object<'a>,
    pub(crate) expected: Object<'a>,
    keys: Object<'a>,
}

impl<'a> Vector<'a> {
    fn read(value: &'a Value, keys: Object<'a>) -> Result<Self, String> {
        let vector = Object::of("vector", value)?;
        let id = vector.text("id")?;
        let part = |name| vector.value(name).and_then(|value| Object::of(name, value));
        let read = || {
            Ok(Self {
                id,
                kind: vector.text("kind")?,
                inputs: part("inputs")?,
                expected: part("expected")?,
                keys,
            })
        };
        read().map_err(|error: String| format!("{id}: {error}"))
    }

    /// The key entry that the inputs name.
    pub(crate) fn key(&self) -> Result<KeyEntry<'a>, String> {
        entry(self.keys, self.inputs.text("key")?)
    }

    /// Every key entry of the file.
    pub(crate) fn all_keys(&self) -> Result<Vec<KeyEntry<'a>>, String> {
        all_entries(self.keys)
    }
}

fn entry<'a>(keys: Object<'a>, name: &'a str) -> Result<KeyEntry<'a>, String> {
    let value = keys.value(name)?;
    let members = Object::of("key", value).map_err(|_| format!("key {name} is not an object"))?;
    Ok(KeyEntry { name, members })
}

fn all_entries(keys: Object<'_>) -> Result<Vec<KeyEntry<'_>>, String> {
    keys.names().map(|name| entry(keys, name)).collect()
}

/// A whole file; what is wrong with the file itself is in `faults`, the rest is still checked.
pub(crate) struct File<'a> {
    pub(crate) vectors: Vec<Vector<'a>>,
    pub(crate) keys: Vec<KeyEntry<'a>>,
    pub(crate) faults: Vec<String>,
}

impl<'a> File<'a> {
    pub(crate) fn read(json: &'a Value) -> Result<Self, String> {
        let file = Object::of("the file", json)?;
        let mut faults = Vec::new();
        for member in ["about", "conventions"] {
            faults.extend(file.value(member).err());
        }
        let keys = Object::of("keys", file.value("keys")?)?;
        let mut vectors = Vec::new();
        for value in file.array("vectors")? {
            match Vector::read(value, keys) {
                Ok(vector) => vectors.push(vector),
                Err(fault) => faults.push(fault),
            }
        }
        let mut ids = BTreeSet::new();
        for vector in &vectors {
            if !ids.insert(vector.id) {
                faults.push(format!("{}: two vectors have this id", vector.id));
            }
        }
        match file.value("counts").and_then(|counts| Object::of("counts", counts)) {
            Ok(counts) => faults.extend(miscounted(counts, file.array("vectors")?)),
            Err(fault) => faults.push(fault),
        }
        Ok(Self {
            vectors,
            keys: all_entries(keys)?,
            faults,
        })
    }
}

/// How the counts differ from the vectors, by kind.
fn miscounted(counts: Object<'_>, vectors: &[Value]) -> Vec<String> {
    let mut faults = Vec::new();
    match counts.integer("total") {
        Ok(total) if usize::try_from(total) == Ok(vectors.len()) => {}
        Ok(total) => faults.push(format!(
            "counts.total is {total}, but there are {} vectors",
            vectors.len()
        )),
        Err(fault) => faults.push(fault),
    }
    let mut real: BTreeMap<&str, i64> = BTreeMap::new();
    for kind in vectors.iter().filter_map(|vector| vector["kind"].as_str()) {
        *real.entry(kind).or_default() += 1;
    }
    let by_kind = match counts
        .value("by_kind")
        .and_then(|by_kind| Object::of("counts.by_kind", by_kind))
    {
        Ok(by_kind) => by_kind,
        Err(fault) => {
            faults.push(fault);
            return faults;
        }
    };
    for kind in by_kind.names() {
        real.entry(kind).or_default();
    }
    for (kind, real) in real {
        match by_kind.integer(kind) {
            Ok(counted) if counted == real => {}
            Ok(counted) => faults.push(format!("counts.by_kind says {counted} of {kind}, but there are {real}")),
            Err(fault) => faults.push(fault),
        }
    }
    faults
}

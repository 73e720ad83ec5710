use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{FieldError, limits, text::printable};

/// What an instance says of itself: at most 32 keys of 1–64 `[A-Za-z0-9_.-]`, values of at most 256 characters
/// without control characters. Numbers and booleans are accepted and kept as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds or replaces a key.
    ///
    /// # Errors
    /// The key, the value or the number of keys breaks its rule; nothing is changed then.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), FieldError> {
        check_key(key)?;
        printable(value, 0, limits::METADATA_VALUE_MAX)
            .map_err(|rule| FieldError::new(format!("metadata.{key}"), rule))?;
        if self.0.len() == limits::METADATA_KEYS_MAX && !self.0.contains_key(key) {
            return Err(too_many());
        }
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Reads a JSON object, refusing duplicate keys.
    pub(crate) fn from_raw(raw: &RawValue) -> Result<Self, FieldError> {
        let pairs: Pairs<'_> = serde_json::from_str(raw.get())
            .map_err(|_| FieldError::new("metadata", "must be an object of texts, numbers or booleans"))?;
        let mut metadata = Self::default();
        for (key, value) in pairs.0 {
            let text = scalar_text(value.get()).ok_or_else(|| {
                check_key(&key).err().unwrap_or_else(|| {
                    FieldError::new(format!("metadata.{key}"), "must be a text, a number or a boolean")
                })
            })?;
            if metadata.0.contains_key(&key) {
                return Err(FieldError::new(format!("metadata.{key}"), "stands twice"));
            }
            metadata.insert(&key, &text)?;
        }
        Ok(metadata)
    }
}

/// The text of a JSON string, number or boolean, numbers as they were written.
fn scalar_text(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok(),
        b'-' | b'0'..=b'9' | b't' | b'f' => Some(json.to_owned()),
        _ => None,
    }
}

/// What a key may hold beside letters and digits.
pub(crate) const KEY_MARKS: &str = "_.-";

fn check_key(key: &str) -> Result<(), FieldError> {
    let bad = |rule: String| Err(FieldError::new("metadata", rule));
    if !(1..=limits::METADATA_KEY_MAX).contains(&key.chars().count()) {
        return bad(format!("keys must have 1 to {} characters", limits::METADATA_KEY_MAX));
    }
    if !key.chars().all(|c| c.is_ascii_alphanumeric() || KEY_MARKS.contains(c)) {
        return bad(format!("keys may hold ASCII letters, digits and any of '{KEY_MARKS}', but not {key:?}"));
    }
    Ok(())
}

fn too_many() -> FieldError {
    FieldError::new("metadata", format!("must have at most {} keys", limits::METADATA_KEYS_MAX))
}

/// A JSON object's pairs in order, values unread.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    /// For stored rows and answers; requests go through [`crate::Object`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        let mut metadata = Self::default();
        for (key, value) in map {
            metadata.insert(&key, &value).map_err(de::Error::custom)?;
        }
        Ok(metadata)
    }
}

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Most characters of an error that may come from the client.
const QUOTE_MAX: usize = 200;

/// So many keys are compared with each other in less time than it takes to hash them.
const FEW: usize = 16;

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct FieldError {
    field: Cow<'static, str>,
    rule: String,
}

impl FieldError {
    /// `rule` completes the sentence that begins with the field's name: "must be …".
    pub fn new(field: impl Into<Cow<'static, str>>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }

    /// The field's name; a key of an object after a dot.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What the field must be.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

/// Why a request body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not a JSON object in UTF-8, or one with a key twice: answered 400.
    #[error(transparent)]
    Malformed(FieldError),
    /// A JSON object with a field that breaks a rule: answered 422.
    #[error(transparent)]
    Invalid(#[from] FieldError),
}

impl BodyError {
    /// What was wrong with which field; a body that is no JSON object is the field `body`.
    pub fn field_error(&self) -> &FieldError {
        match self {
            Self::Malformed(error) | Self::Invalid(error) => error,
        }
    }
}

/// A JSON object of a request, its values not read yet.
///
/// Stricter than serde's derived structs, which take an array for a struct and let unknown keys stand twice.
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads the keys of a JSON object.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] for bytes that are not UTF-8, not JSON, not an object, or have a key twice.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let malformed = |rule: String| BodyError::Malformed(FieldError::new("body", rule));
        let text = std::str::from_utf8(body).map_err(|error| {
            malformed(format!("must be UTF-8, but is not from byte {}", error.valid_up_to()))
        })?;
        if !text.trim_start().starts_with('{') {
            return Err(malformed("must be a JSON object".into()));
        }
        let object: Self = serde_json::from_str(text)
            .map_err(|error| malformed(format!("must be a JSON object: {error}")))?;
        match object.twice() {
            Some(key) => Err(BodyError::Malformed(FieldError::new(clip(key), "stands twice"))),
            None => Ok(object),
        }
    }

    /// The first key that stood before.
    fn twice(&self) -> Option<&str> {
        if self.0.len() <= FEW {
            let before = |place: usize, key: &str| self.0[..place].iter().any(|(other, _)| other == key);
            let (_, (key, _)) = self.0.iter().enumerate().find(|(place, (key, _))| before(*place, key))?;
            return Some(key);
        }
        // A set, not a comparison of all with all: a body can hold thousands of keys.
        let mut seen = HashSet::with_capacity(self.0.len());
        self.0.iter().find(|(key, _)| !seen.insert(key)).map(|(key, _)| key.as_ref())
    }

    /// An object without keys: what an empty body of an optional kind means.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The value of a key as it was written; `None` when it is missing or null.
    pub(crate) fn raw(&self, field: &str) -> Option<&'a RawValue> {
        let raw = self.0.iter().find(|(key, _)| key == field)?.1;
        (raw.get() != "null").then_some(raw)
    }

    /// Reads a field that may be missing or null.
    ///
    /// # Errors
    /// The value is of the wrong type or breaks its type's rule.
    pub fn optional<T: Deserialize<'a>>(&self, field: &'static str) -> Result<Option<T>, FieldError> {
        self.raw(field)
            .map(|raw| serde_json::from_str(raw.get()).map_err(|error| FieldError::new(field, rule(&error))))
            .transpose()
    }

    /// Reads a field that must be there.
    ///
    /// # Errors
    /// As [`Object::optional`], and when it is missing or null.
    pub fn required<T: Deserialize<'a>>(&self, field: &'static str) -> Result<T, FieldError> {
        self.optional(field)?.ok_or_else(|| FieldError::new(field, "is required"))
    }
}

/// serde's message without the position, which is counted within the field and would mislead.
fn rule(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    match text.strip_prefix("invalid type: ") {
        Some(types) => format!("has the wrong type: {}", clip(types)),
        None => clip(text),
    }
}

/// Cuts what quotes the client: an answer, and a line of the log, need not hold 64 KiB of it.
fn clip(text: &str) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    pairs.push((key, value));
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// A key, borrowed from the body unless it holds escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

use crate::limits;

/// Makes a cheaply cloned string type that only its rule can build.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The field that carries it in bodies and problem documents.
            pub const FIELD: &'static str = $field;

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether a text keeps the rule, for who wants no copy of it.
            ///
            /// # Errors
            /// It does not.
            pub fn check(text: &str) -> Result<(), $crate::FieldError> {
                $check(text).map_err(|rule| $crate::FieldError::new($field, rule))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::FieldError;

            fn from_str(text: &str) -> Result<Self, $crate::FieldError> {
                Self::check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        /// Lets maps keyed by this type be searched by plain text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::name::Parsed(std::marker::PhantomData))
            }
        }
    };
}
pub(crate) use text_type;

/// Parses a text where it stands, without a copy.
pub(crate) struct Parsed<T>(pub(crate) std::marker::PhantomData<T>);

impl<T: std::str::FromStr<Err = crate::FieldError>> serde::de::Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|error: crate::FieldError| E::custom(error.rule()))
    }
}

text_type! {
    /// The name that readers ask for: 1–64 of `[A-Za-z0-9._-]`, beginning with a letter or digit.
    ServiceName, "service_name", service_name
}

text_type! {
    /// One running copy of a service: 1–128 of `[A-Za-z0-9._:-]`, beginning with a letter or digit.
    InstanceId, "instance_id", instance_id
}

text_type! {
    /// The random id that a sidecar process makes at start: 1–64 characters, none of them a control character.
    Session, "session", session
}

impl Default for InstanceId {
    /// The instance that a flat call without an id acts on.
    fn default() -> Self {
        Self(limits::DEFAULT_INSTANCE_ID.into())
    }
}

fn identifier(text: &str, max: usize, extra: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("must have 1 to {max} characters, but is empty"));
    }
    let length = text.chars().count();
    if length > max {
        return Err(format!("must have 1 to {max} characters, but has {length}"));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("must begin with an ASCII letter or digit".into());
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !extra.contains(*c)) {
        Some(bad) => Err(format!("may hold ASCII letters, digits and any of '{extra}', but not {bad:?}")),
        None => Ok(()),
    }
}

/// What a service name may hold beside letters and digits.
pub(crate) const SERVICE_NAME_MARKS: &str = "._-";

fn service_name(text: &str) -> Result<(), String> {
    identifier(text, limits::SERVICE_NAME_MAX, SERVICE_NAME_MARKS)
}

/// What an instance id may hold beside letters and digits.
pub(crate) const INSTANCE_ID_MARKS: &str = "._:-";

fn instance_id(text: &str) -> Result<(), String> {
    identifier(text, limits::INSTANCE_ID_MAX, INSTANCE_ID_MARKS)
}

fn session(text: &str) -> Result<(), String> {
    crate::text::printable(text, 1, limits::SESSION_MAX)
}

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{FieldError, limits, name::text_type};

/// Checks the length in characters and that none is a control character.
pub(crate) fn printable(text: &str, min: usize, max: usize) -> Result<(), String> {
    let length = text.chars().count();
    if !(min..=max).contains(&length) {
        return Err(format!("must have {min} to {max} characters, but has {length}"));
    }
    no_control(text, "")
}

fn no_control(text: &str, allowed: &str) -> Result<(), String> {
    match text.chars().find(|c| c.is_control() && !allowed.contains(*c)) {
        Some(bad) => Err(format!("must not hold control characters, but has U+{:04X}", u32::from(bad))),
        None => Ok(()),
    }
}

text_type! {
    /// Where the instance answers health checks: a path beginning with `/`, at most 256 characters, none of them
    /// white space or a control character.
    HealthPath, "health_endpoint", health_path
}

impl Default for HealthPath {
    /// `/health`.
    fn default() -> Self {
        Self::from_str(limits::DEFAULT_HEALTH_ENDPOINT)
            .unwrap_or_else(|_| unreachable!("the default keeps the rule"))
    }
}

fn health_path(text: &str) -> Result<(), String> {
    printable(text, 1, limits::HEALTH_ENDPOINT_MAX)?;
    if !text.starts_with('/') {
        return Err("must be a path that begins with '/'".into());
    }
    if text.contains(char::is_whitespace) {
        return Err("must not hold white space; write it as %20".into());
    }
    Ok(())
}

/// Makes a type for free text that is trimmed before it is measured.
macro_rules! trimmed_type {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct $name(String);

        impl $name {
            /// The text itself, trimmed.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Makes any text fit: control characters become spaces, then it is trimmed and cut to the limit.
            pub fn fit(text: &str) -> Self {
                let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                let cut: String = clean.trim().chars().take($max).collect();
                Self(cut.trim_end().to_owned())
            }
        }

        impl FromStr for $name {
            type Err = FieldError;

            fn from_str(text: &str) -> Result<Self, FieldError> {
                let text = text.trim();
                let length = text.chars().count();
                if length > $max {
                    let max = $max;
                    return Err(FieldError::new(
                        $field,
                        format!("must have at most {max} characters, but has {length}"),
                    ));
                }
                // Health checks and people write several lines.
                no_control(text, "\n\r\t").map_err(|rule| FieldError::new($field, rule))?;
                Ok(Self(text.to_owned()))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(|error: FieldError| de::Error::custom(error.rule()))
            }
        }
    };
}

trimmed_type! {
    /// The last health check's text: at most 256 characters after trimming.
    Output, "output", limits::OUTPUT_MAX
}

trimmed_type! {
    /// Why an instance is drained: at most 256 characters after trimming.
    Reason, "reason", limits::REASON_MAX
}

/// The length of a lease in whole seconds, 3 to 3600.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ttl(u32);

impl Ttl {
    /// The lease in seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// The lease as a duration.
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0 as u64)
    }

    /// Seconds between two beats of an instance with this lease.
    pub const fn heartbeat_interval(self) -> u32 {
        limits::heartbeat_interval(self.0)
    }
}

impl Default for Ttl {
    /// 90 s.
    fn default() -> Self {
        Self(limits::DEFAULT_TTL)
    }
}

impl TryFrom<u64> for Ttl {
    type Error = FieldError;

    fn try_from(seconds: u64) -> Result<Self, FieldError> {
        u32::try_from(seconds)
            .ok()
            .filter(|seconds| (limits::TTL_MIN..=limits::TTL_MAX).contains(seconds))
            .map(Self)
            .ok_or_else(|| {
                FieldError::new(
                    "ttl_seconds",
                    format!("must be {} to {} seconds, but is {seconds}", limits::TTL_MIN, limits::TTL_MAX),
                )
            })
    }
}

impl<'de> Deserialize<'de> for Ttl {
    /// A whole number, however it is written: to JSON `90.0` is one (JSON Schema Validation section 6.1.1).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl de::Visitor<'_> for Whole {
            type Value = u64;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a whole number of seconds")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<u64, E> {
                Ok(seconds)
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<u64, E> {
                #[expect(clippy::float_cmp, reason = "whole numbers of this size are exact")]
                let whole = (0..=limits::TTL_MAX).find(|whole| f64::from(*whole) == seconds);
                whole.map(u64::from).ok_or_else(|| E::invalid_type(de::Unexpected::Float(seconds), &self))
            }
        }
        let seconds = deserializer.deserialize_u64(Whole)?;
        Self::try_from(seconds).map_err(|error| de::Error::custom(error.rule()))
    }
}

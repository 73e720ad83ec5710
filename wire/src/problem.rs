//! Errors as clients read them: problem documents (RFC 9457).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The media type of a problem document (RFC 9457 section 3).
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Makes the list of problem types, each with its name in the `type` path, its status and its title.
macro_rules! problem_types {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong. The path that names it is stable: clients may match on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemType {
            $($(#[$doc])* $name,)*
        }

        impl ProblemType {
            /// Every type.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The `type` member: a path that names the type.
            pub const fn path(self) -> &'static str {
                match self { $(Self::$name => concat!("/problems/", $slug),)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The `title` member.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

problem_types! {
    /// The body is no JSON object, or has a key twice.
    Malformed = "malformed", 400, "The request is malformed";
    /// A field breaks a rule; `field` names it.
    Invalid = "invalid-field", 422, "A field breaks a rule";
    /// The body is longer than 64 KiB.
    BodyTooLarge = "body-too-large", 413, "The body is too large";
    /// The head is longer than 16 KiB.
    HeadTooLarge = "head-too-large", 431, "The request head is too large";
    /// The body is neither JSON nor empty.
    UnsupportedMedia = "unsupported-media-type", 415, "The body must be JSON";
    /// The path does not have this method; `Allow` names those it has.
    MethodNotAllowed = "method-not-allowed", 405, "The method is not allowed here";
    /// No such path.
    NotFound = "not-found", 404, "There is no such path";
    /// The body did not arrive in time.
    BodyTimeout = "body-timeout", 408, "The body did not arrive in time";
    /// No token, or a wrong one.
    Unauthorized = "unauthorized", 401, "A token is required";
    /// The token lacks the right, or nobody has it here.
    Forbidden = "forbidden", 403, "The call is not allowed";
    /// This registry knows that the instance is not there.
    UnknownInstance = "unknown-instance", 404, "The instance is not registered";
    /// This registry knows no instance of the service.
    UnknownService = "unknown-service", 404, "The service is not registered";
    /// The service has instances, but none that is usable.
    NoUsableInstance = "no-usable-instance", 404, "The service has no usable instance";
    /// The named session has ended: a later process took its place, or it was deregistered.
    Superseded = "superseded", 409, "The session has ended";
    /// Too much at once; `Retry-After` says when to come back.
    Overloaded = "overloaded", 429, "Too many requests";
    /// There are as many entries as there may be, and this would be one more.
    Full = "full", 429, "There is no room for another";
    /// This node does not know: its store is out of reach, or it has not loaded yet.
    Unavailable = "unavailable", 503, "This registry node cannot say";
    /// A bug of ours. Never the answer to something that a client sent.
    Internal = "internal", 500, "The registry failed";
}

/// A problem document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// A stable path that names the problem, such as `/problems/unknown-instance`.
    #[serde(rename = "type")]
    pub type_: Cow<'static, str>,
    /// The type in words.
    pub title: Cow<'static, str>,
    /// The HTTP status.
    #[cfg_attr(feature = "schema", schemars(range(min = 400, max = 599)))]
    pub status: u16,
    /// A sentence that a person can act on.
    pub detail: String,
    /// The field that was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When to come back, in seconds; also in `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub retry_after_seconds: Option<u32>,
    /// What became of an instance that is gone: `deregistered` or `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["deregistered", "expired"])))]
    pub state: Option<Cow<'static, str>>,
    /// The last beat of an instance that is gone, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<f64>,
    /// Why it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Problem {
    /// A problem of this type with a sentence for people.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            type_: kind.path().into(),
            title: kind.title().into(),
            status: kind.status(),
            detail: detail.into(),
            field: None,
            retry_after_seconds: None,
            state: None,
            last_seen: None,
            reason: None,
        }
    }

    /// Names the field.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Says when to come back, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// Whether it is of this type.
    pub fn is(&self, kind: ProblemType) -> bool {
        self.type_ == kind.path()
    }
}

//! What crosses the network between a registry and its clients.
//!
//! In: bytes of request and answer bodies, text of names and URLs.
//! Owns: names, limits, body types, problem codes. Imports nothing else of this workspace.
//! Out: values that keep their rules (an invalid name cannot exist), or a [`FieldError`] that names the field.

pub mod answer;
mod endpoint;
pub mod limits;
mod metadata;
mod name;
mod object;
pub mod problem;
pub mod request;
#[cfg(feature = "schema")]
pub mod schema;
mod status;
mod text;

pub use endpoint::Endpoint;
pub use metadata::Metadata;
pub use name::{InstanceId, ServiceName, Session};
pub use object::{BodyError, FieldError, Object};
pub use problem::{Problem, ProblemType};
pub use status::Status;
pub use text::{HealthPath, Output, Reason, Ttl};

//! JSON Schemas (2020-12, as in OpenAPI 3.1) of what crosses the network, made from the rules and limits beside them.
//! Only where the document of the interface is made: no binary holds them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{
    Endpoint, HealthPath, InstanceId, Metadata, Output, Reason, ServiceName, Session, Ttl, limits, metadata,
    name,
};

/// What [`char::is_control`] says, as a part of a regular expression.
const CONTROL: &str = r"\u0000-\u001f\u007f-\u009f";

/// Of these, what free text of several lines may hold left out.
const CONTROL_IN_A_LINE: &str = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f";

/// What [`char::is_whitespace`] says beyond the control characters.
const SPACE: &str = r"\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

macro_rules! schemas {
    ($($type:ty, $name:literal => $schema:tt;)*) => {
        $(impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        })*
    };
}

schemas! {
    ServiceName, "ServiceName" => {
        "type": "string",
        "minLength": 1,
        "maxLength": limits::SERVICE_NAME_MAX,
        "pattern": identifier(name::SERVICE_NAME_MARKS)
    };
    InstanceId, "InstanceId" => {
        "type": "string",
        "minLength": 1,
        "maxLength": limits::INSTANCE_ID_MAX,
        "pattern": identifier(name::INSTANCE_ID_MARKS)
    };
    Session, "Session" => {
        "description": "The random id that a process makes at start; no control characters.",
        "type": "string",
        "minLength": 1,
        "maxLength": limits::SESSION_MAX,
        "pattern": without(CONTROL)
    };
    Endpoint, "Endpoint" => {
        "description": "Absolute http or https URL; the host an IP address or RFC 1123 name in plain spelling, port 1 \
            to 65535, no user information, no fragment.",
        "type": "string",
        "format": "uri",
        "minLength": 1,
        "maxLength": limits::ENDPOINT_MAX,
        "pattern": endpoint()
    };
    HealthPath, "HealthEndpoint" => {
        "description": "A path; no white space or control characters.",
        "type": "string",
        "minLength": 1,
        "maxLength": limits::HEALTH_ENDPOINT_MAX,
        "pattern": format!("^/[^{CONTROL}{SPACE}]*$"),
        "default": limits::DEFAULT_HEALTH_ENDPOINT
    };
    Metadata, "Metadata" => {
        "type": "object",
        "maxProperties": limits::METADATA_KEYS_MAX,
        "propertyNames": {"pattern": metadata_key()},
        "additionalProperties":
            {"type": "string", "maxLength": limits::METADATA_VALUE_MAX, "pattern": without(CONTROL)}
    };
    MetadataInput, "MetadataInput" => {
        "description": "Numbers and booleans are kept as they were written; no control characters.",
        "type": "object",
        "maxProperties": limits::METADATA_KEYS_MAX,
        "propertyNames": {"pattern": metadata_key()},
        "additionalProperties": {
            "type": ["string", "number", "boolean"],
            "maxLength": limits::METADATA_VALUE_MAX,
            "pattern": without(CONTROL)
        }
    };
    Cursor, "Cursor" => {
        "description": "Where a page ended: for `after`.",
        "type": "string",
        "pattern": format!(
            "^{}/{}$",
            bounded(name::SERVICE_NAME_MARKS, limits::SERVICE_NAME_MAX),
            bounded(name::INSTANCE_ID_MARKS, limits::INSTANCE_ID_MAX)
        )
    };
    Ttl, "TtlSeconds" => {
        "description": format!("The lease. The node's default, usually {}, when left out.", limits::DEFAULT_TTL),
        "type": "integer",
        "minimum": limits::TTL_MIN,
        "maximum": limits::TTL_MAX
    };
    HeartbeatInterval, "HeartbeatInterval" => {
        "description": "Seconds between two beats: a third of the lease.",
        "type": "integer",
        "minimum": limits::heartbeat_interval(limits::TTL_MIN),
        "maximum": limits::heartbeat_interval(limits::TTL_MAX)
    };
    Output, "Output" => {
        "description": "The last health check's text, measured after trimming. Stored only with a change of status.",
        "type": "string",
        "maxLength": limits::OUTPUT_MAX,
        "pattern": without(CONTROL_IN_A_LINE)
    };
    Reason, "Reason" => {
        "description": "Why, for people; measured after trimming.",
        "type": "string",
        "maxLength": limits::REASON_MAX,
        "pattern": without(CONTROL_IN_A_LINE)
    };
}

/// [`Metadata`] as a request may write it.
#[derive(Clone, Copy, Debug)]
pub enum MetadataInput {}

/// Between two pages of instances: the names of the last one.
#[derive(Clone, Copy, Debug)]
pub enum Cursor {}

/// Seconds between two beats.
#[derive(Clone, Copy, Debug)]
pub enum HeartbeatInterval {}

/// The fields of a registration in the flat dialect, whose body is read field by field.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename = "FlatRegister")]
pub struct FlatRegisterBody {
    /// The service.
    pub service_name: ServiceName,
    /// The instance; `default` when missing.
    pub instance_id: Option<InstanceId>,
    /// Where the instance answers.
    pub endpoint: Endpoint,
    /// Where it answers health checks; `/health` when missing.
    pub health_endpoint: Option<HealthPath>,
    /// What it says of itself.
    pub metadata: Option<MetadataInput>,
    /// The lease; the registry's default when missing.
    pub ttl_seconds: Option<Ttl>,
}

/// The first a letter or digit, the others these marks as well.
fn identifier(marks: &str) -> String {
    format!("^[A-Za-z0-9][A-Za-z0-9{marks}]*$")
}

/// The same, and no longer than this.
fn bounded(marks: &str, max: usize) -> String {
    format!("[A-Za-z0-9][A-Za-z0-9{marks}]{{0,{}}}", max - 1)
}

fn metadata_key() -> String {
    format!("^[A-Za-z0-9{}]{{1,{}}}$", metadata::KEY_MARKS, limits::METADATA_KEY_MAX)
}

fn without(characters: &str) -> String {
    format!("^[^{characters}]*$")
}

/// What every endpoint is. Not each text of this form is one: a label has a length, an address a spelling.
fn endpoint() -> String {
    let name = "[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?[.]?";
    let address = r"\[[0-9A-Fa-f:.]+\]";
    let rest = format!(r"[/?][^{CONTROL}{SPACE}#\\]*");
    format!("^[Hh][Tt][Tt][Pp][Ss]?://({name}|{address})(:[1-9][0-9]{{0,4}})?({rest})?$")
}

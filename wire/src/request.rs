//! Request bodies. The registry parses them, our sidecar writes them.

use serde::Serialize;

use crate::{
    BodyError, Endpoint, HealthPath, InstanceId, Metadata, Object, Output, Reason, ServiceName, Session,
    Status, Ttl,
};

/// `PUT /services/{service}/instances/{instance}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Register {
    /// Where the instance answers.
    pub endpoint: Endpoint,
    /// Where it answers health checks; `/health` when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_endpoint: Option<HealthPath>,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::MetadataInput>"))]
    pub metadata: Metadata,
    /// The lease; the registry's default when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<Ttl>,
    /// The process that registers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// How its health check went; passing when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The health check's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}

impl Register {
    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let object = Object::parse(body)?;
        Ok(Self::from_object(&object)?)
    }

    fn from_object(object: &Object<'_>) -> Result<Self, crate::FieldError> {
        Ok(Self {
            endpoint: object.required("endpoint")?,
            health_endpoint: object.optional("health_endpoint")?,
            metadata: object.raw("metadata").map(Metadata::from_raw).transpose()?.unwrap_or_default(),
            ttl_seconds: object.optional("ttl_seconds")?,
            session: object.optional("session")?,
            status: object.optional("status")?,
            output: object.optional("output")?,
        })
    }
}

/// `PUT /services/{service}/instances/{instance}/heartbeat`; an empty body is an empty object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// The process that beats; without it the beat is for whatever is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// How its health check went; unchanged when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The health check's text, kept only with a change of status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}

impl Heartbeat {
    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let object = if body.is_empty() { Object::empty() } else { Object::parse(body)? };
        Ok(Self {
            session: object.optional("session")?,
            status: object.optional("status")?,
            output: object.optional("output")?,
        })
    }
}

/// `PUT /services/{service}/instances/{instance}/drain`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Drain {
    /// Why, for people.
    pub reason: Reason,
    /// With a session the drain ends with that session; without, it is the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

impl Drain {
    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let object = if body.is_empty() { Object::empty() } else { Object::parse(body)? };
        Ok(Self { reason: object.required("reason")?, session: object.optional("session")? })
    }
}

/// `POST /register`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatRegister {
    /// The service.
    pub service_name: ServiceName,
    /// The instance; `default` when the call names none.
    pub instance_id: InstanceId,
    /// The rest, without session, status and output, which this dialect does not have.
    pub register: Register,
}

impl FlatRegister {
    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let object = Object::parse(body)?;
        let service_name = object.required("service_name")?;
        let instance_id = object.optional("instance_id")?.unwrap_or_default();
        let register =
            Register { session: None, status: None, output: None, ..Register::from_object(&object)? };
        Ok(Self { service_name, instance_id, register })
    }
}

/// `POST /heartbeat`
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FlatHeartbeat {
    /// The service.
    pub service_name: ServiceName,
    /// The instance; `default` when the call names none.
    #[cfg_attr(feature = "schema", schemars(with = "Option<InstanceId>"))]
    pub instance_id: InstanceId,
}

impl FlatHeartbeat {
    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let object = Object::parse(body)?;
        Ok(Self {
            service_name: object.required("service_name")?,
            instance_id: object.optional("instance_id")?.unwrap_or_default(),
        })
    }
}

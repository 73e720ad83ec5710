use registry_wire::{
    Endpoint, HealthPath, Metadata, ServiceName,
    answer::{Beaten, Flat, Instance, Registered},
    limits,
    problem::Problem,
    request::{Drain, FlatHeartbeat, Heartbeat, Register},
    schema::{Cursor, FlatRegisterBody},
};
use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::operator::{Health, Ready, Status};

/// Where the document has its schemas.
const PLACE: &str = "/components/schemas";

/// One service: what `view` writes, field by field.
///
/// `endpoint` to `ttl_remaining` are those of the picked instance, and left out when none is usable.
#[derive(JsonSchema, Serialize)]
#[expect(clippy::struct_field_names, reason = "as the answer has them")]
pub(super) struct Service {
    service_name: ServiceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_endpoint: Option<HealthPath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    /// When this session registered, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    registered_at: Option<f64>,
    /// The last beat, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heartbeat: Option<f64>,
    /// What is left of the lease, in seconds; 0 when stale.
    #[schemars(range(max = limits::TTL_MAX))]
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_remaining: Option<u32>,
    instances: Vec<Instance>,
}

/// A page of instances.
#[derive(JsonSchema, Serialize)]
pub(super) struct InstancePage {
    #[schemars(length(max = limits::PAGE_MAX))]
    instances: Vec<Instance>,
    /// For `after`; null on the last page.
    #[schemars(with = "Option<Cursor>")]
    next: Option<String>,
}

/// The schemas of all bodies, and of what they are made of.
pub(super) fn schemas() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = PLACE.into();
        settings.meta_schema = None;
    });
    let mut requests = settings.clone().for_deserialize().into_generator();
    body::<Register>(&mut requests);
    body::<Heartbeat>(&mut requests);
    body::<Drain>(&mut requests);
    body::<FlatRegisterBody>(&mut requests);
    body::<FlatHeartbeat>(&mut requests);
    let mut answers = settings.for_serialize().into_generator();
    body::<Instance>(&mut answers);
    body::<Registered>(&mut answers);
    body::<Beaten>(&mut answers);
    body::<Service>(&mut answers);
    body::<InstancePage>(&mut answers);
    body::<Flat>(&mut answers);
    body::<Status>(&mut answers);
    body::<Ready>(&mut answers);
    body::<Health>(&mut answers);
    body::<Problem>(&mut answers);
    let mut schemas = requests.take_definitions(true);
    for (name, mut schema) in answers.take_definitions(true) {
        left_out_rather_than_null(&mut schema);
        let before = schemas.insert(name.clone(), schema.clone());
        // What stands in requests and in answers is the same in both.
        assert!(before.is_none_or(|before| before == schema), "{name} means two things");
    }
    let mut plain = RecursiveTransform(without_machine_formats);
    for schema in schemas.values_mut() {
        if let Ok(schema) = schema.try_into() {
            plain.transform(schema);
        }
    }
    schemas
}

fn body<T: JsonSchema>(generator: &mut SchemaGenerator) {
    let _: Schema = generator.subschema_for::<T>();
}

/// How Rust holds a number is nothing to clients; its bounds are.
fn without_machine_formats(schema: &mut Schema) {
    let machine = ["uint", "uint16", "uint32", "uint64", "double"];
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| machine.contains(&format)) {
        schema.remove("format");
    }
}

/// A field of an answer that need not be there is left out, and never null.
fn left_out_rather_than_null(schema: &mut Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (_, property) in
        properties.iter_mut().filter(|(name, _)| !required.contains(&(**name).clone().into()))
    {
        if let Some(types) = property.get_mut("type").filter(|types| types.is_array()) {
            *types = types[0].take();
        }
        if let Some(either) = property.get_mut("anyOf").and_then(Value::as_array_mut) {
            let one = either[0].take();
            property.as_object_mut().expect("an object").remove("anyOf");
            property["$ref"] = one["$ref"].clone();
        }
    }
}

//! Makes `openapi.json`: the calls from the table of routes, the schemas from the types, the problems from their list.
//!
//! Only in tests, of which one compares it with the file that is served: `make openapi` writes that anew. What is said
//! for people of each call stands in `calls.rs`.

mod answers;
mod calls;
mod types;

use std::collections::BTreeMap;

use registry_wire::{
    limits,
    problem::{CONTENT_TYPE, Problem},
};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use self::{
    answers::{name_of, refusals},
    calls::{Call, call, parameters},
};
use super::routes::{Need, ROUTES, Route};

/// The whole document.
fn document() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_default();
        item.insert(route.method.as_str().to_ascii_lowercase(), operation(route));
    }
    let (head, body) = (limits::HEAD_MAX / 1024, limits::BODY_MAX / 1024);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Service registry",
            "version": "1",
            "license": {"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")},
            "description": format!(
                "Leases over HTTP. 404 means that this registry knows; 503 that it does not know. Durations are whole \
                 seconds, times Unix seconds. Unknown request fields are ignored, a key that stands twice is refused; \
                 clients ignore response fields that they do not know. A request has a head of at most {head} KiB and a \
                 body of at most {body} KiB."
            )
        },
        "tags": [
            {"name": "Instances", "description": "The native dialect: many instances for each service, sessions, drains."},
            {"name": "Reads", "description": "Answered from memory, with their age in `Age`."},
            {"name": "Flat", "description": "The dialect of clients that know one endpoint for each service."},
            {"name": "Operation", "description": "For operators, balancers and Prometheus."}
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where tokens are configured, a write needs the write token or a signed one with the \
                        right `register` for the service (an operator's drain: `admin`), and, where reads are closed, a \
                        read any plain token or a signed one with the right `read`; a list of all services needs that of \
                        all. A heartbeat is taken for a day after the expiry of a signed token."
                },
                "registryToken": {"type": "apiKey", "in": "header", "name": "X-Registry-Token"}
            },
            "parameters": parameters(),
            "headers": {
                "Age": header("Seconds since this node last saw its store.", &json!({"type": "integer", "minimum": 0})),
                "RetryAfter": header("Seconds after which to come back.", &json!({"type": "integer", "minimum": 1})),
                "WwwAuthenticate": header("How to send a token.", &json!({"type": "string", "enum": ["Bearer"]}))
            },
            "responses": answers::components(),
            "schemas": types::schemas()
        }
    })
}

fn header(description: &str, schema: &Value) -> Value {
    json!({"description": description, "required": true, "schema": schema})
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

/// One call: what its line in the table says of it, and what is said for people.
fn operation(route: &Route) -> Value {
    let Call { tag, summary, description, query, body, answers, unknown, sessions } = call(route.name);
    let mut operation = json!({
        "operationId": route.name,
        "tags": [tag],
        "summary": summary,
        "security": security(route.need)
    });
    if !description.is_empty() {
        operation["description"] = description.into();
    }
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path: Vec<Value> = in_path.map(|name| reference("parameters", name)).collect();
    let named = !in_path.is_empty() || !query.is_empty() || body.is_some();
    let parameters = [in_path, query].concat();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    let mut responses = Map::new();
    for (status, answer) in answers {
        responses.insert(status.to_string(), answer);
    }
    let refusals = refusals(route, body.is_some(), named, unknown, sessions);
    for status in refusals {
        responses.insert(status.to_string(), reference("responses", name_of(status)));
    }
    responses.insert("default".into(), reference("responses", "Problem"));
    operation["responses"] = responses.into();
    if let Some((schema, required)) = body {
        let content = json!({"application/json": {"schema": reference("schemas", schema)}});
        operation["requestBody"] = json!({"required": required, "content": content});
    }
    operation
}

/// The token, or none where none is configured.
fn security(need: Need) -> Value {
    if need == Need::Nothing { json!([]) } else { json!([{"bearer": []}, {"registryToken": []}, {}]) }
}

/// A problem document of one of these types.
fn problem(types: &[&str]) -> Value {
    let schema = reference("schemas", &Problem::schema_name());
    let of = json!({"properties": {"type": {"enum": types}}});
    let schema = if types.is_empty() { schema } else { json!({"allOf": [schema, of]}) };
    json!({CONTENT_TYPE: {"schema": schema}})
}

mod tests;

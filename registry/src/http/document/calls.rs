//! What is said of each call for people, and what no line of the table says of it.

use registry_wire::limits;
use serde_json::{Value, json};

use super::reference;

/// One call.
pub(super) struct Call {
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    /// Parameters that are not in its path.
    pub(super) query: Vec<Value>,
    /// The schema of its body, and whether there must be one.
    pub(super) body: Option<(&'static str, bool)>,
    /// Its successes.
    pub(super) answers: Vec<(u16, Value)>,
    /// It can be about what is not there.
    pub(super) unknown: bool,
    /// It can name a session that has ended.
    pub(super) sessions: bool,
}

impl Call {
    fn new(tag: &'static str, summary: &'static str, answers: Vec<(u16, Value)>) -> Self {
        let (query, body) = (Vec::new(), None);
        Self { tag, summary, description: "", query, body, answers, unknown: false, sessions: false }
    }

    fn says(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    fn with(self, query: Vec<Value>) -> Self {
        Self { query, ..self }
    }

    fn body(self, schema: &'static str) -> Self {
        Self { body: Some((schema, true)), ..self }
    }

    fn unknown(self) -> Self {
        Self { unknown: true, ..self }
    }

    fn sessions(self) -> Self {
        Self { sessions: true, ..self }
    }
}

fn content(media: &str, schema: &Value, description: &str) -> Value {
    json!({"description": description, "content": {media: {"schema": schema}}})
}

/// A success with a body of this type.
fn answer(status: u16, schema: &str, description: &str) -> (u16, Value) {
    (status, content("application/json", &reference("schemas", schema), description))
}

/// The same from the view, with its age.
fn aged((status, mut answer): (u16, Value)) -> (u16, Value) {
    answer["headers"] = json!({"Age": reference("headers", "Age")});
    (status, answer)
}

/// The same with what can be asked next about what it names.
fn linked((status, mut answer): (u16, Value), links: &[(&str, &[&str])]) -> (u16, Value) {
    for (operation, names) in links {
        let pairs = names.iter().map(|name| {
            let field = if *name == "instance" { "instance_id" } else { "service_name" };
            ((*name).to_owned(), Value::from(format!("$response.body#/{field}")))
        });
        let parameters: serde_json::Map<_, _> = pairs.collect();
        answer["links"][operation] = json!({"operationId": operation, "parameters": parameters});
    }
    (status, answer)
}

fn query(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

/// The parameters that stand in paths, by the names that they have there, and those of several calls.
pub(super) fn parameters() -> Value {
    let path = |name: &str, description: &str, schema: &str| {
        let schema = reference("schemas", schema);
        json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema})
    };
    json!({
        "service": path("service", "The service's name, percent-decoded once.", "ServiceName"),
        "service_name": path("service_name", "The service's name, percent-decoded once.", "ServiceName"),
        "instance": path("instance", "The instance's id, percent-decoded once.", "InstanceId"),
        "session": query(
            "session",
            "Act only for this session; without it, on what is there.",
            &reference("schemas", "Session")
        ),
        "cacheControl": {
            "name": "Cache-Control",
            "in": "header",
            "description": "`max-age=N` with N of at least 1: 503 instead of an answer that is older than N seconds.",
            "schema": {"type": "string"}
        }
    })
}

/// What there is to say of a call, by its name in the table.
pub(super) fn call(name: &str) -> Call {
    flat(name).or_else(|| instance(name)).or_else(|| read(name)).or_else(|| operation(name)).unwrap_or_else(
        || {
            panic!(
                "'{name}' of the table of routes is not described: say in http/document/calls.rs what it does"
            )
        },
    )
}

fn instance(name: &str) -> Option<Call> {
    const TAG: &str = "Instances";
    let session = || vec![reference("parameters", "session")];
    let next: &[(&str, &[&str])] = &[
        ("heartbeat", &["service", "instance"]),
        ("getInstance", &["service", "instance"]),
        ("getService", &["service"]),
        ("drain", &["service", "instance"]),
        ("undrain", &["service", "instance"]),
        ("deregister", &["service", "instance"]),
    ];
    Some(match name {
        "register" => Call::new(
            TAG,
            "Register an instance, or replace it",
            vec![
                linked(answer(200, "Registered", "Replaced: the same instance, a new lease."), next),
                linked(answer(201, "Registered", "New: there was no entry, or its lease had ended."), next),
            ],
        )
        .says(
            "Idempotent. Answered after the change is committed. A session ends when a later call of the same id takes \
             its place; a call that names an ended session changes nothing and is answered 409.",
        )
        .body("Register")
        .sessions(),
        "deregister" => Call::new(TAG, "Remove an instance", vec![(204, json!({"description": "Removed."}))])
            .with(session())
            .unknown()
            .sessions(),
        "heartbeat" => {
            let acknowledged = "Acknowledged. Beat again after `heartbeat_interval_seconds`.";
            let call = Call::new(TAG, "Count the lease anew", vec![answer(200, "Beaten", acknowledged)]).says(
                "404: this registry knows that the instance, or the named session, is not there: register again. 503: \
                 it does not know: keep beating. A `status` that differs from the stored one is a change, answered \
                 after its commit.",
            );
            Call { body: Some(("Heartbeat", false)), ..call }.unknown().sessions()
        }
        "drain" => Call::new(
            TAG,
            "Take an instance out of rotation",
            vec![answer(200, "Instance", "It is listed, and no longer handed out.")],
        )
        .says(
            "A drain that names a session ends with that session. One without is the operator's: it survives \
             registrations and ends by DELETE or with the entry.",
        )
        .body("Drain")
        .unknown()
        .sessions(),
        "undrain" => Call::new(
            TAG,
            "Put an instance back into rotation",
            vec![(204, json!({"description": "It is handed out again, if it is healthy."}))],
        )
        .with(session())
        .unknown()
        .sessions(),
        _ => return None,
    })
}

fn read(name: &str) -> Option<Call> {
    const TAG: &str = "Reads";
    let age = || reference("parameters", "cacheControl");
    Some(match name {
        "getInstance" => Call::new(
            TAG,
            "One instance, also when it is critical or draining",
            vec![aged(answer(200, "Instance", "The instance."))],
        )
        .says("The 404 of an instance that went in the last 24 hours has `state`, `last_seen` and `reason`.")
        .with(vec![age()])
        .unknown(),
        "listServices" => {
            let names = json!({"type": "array", "items": reference("schemas", "ServiceName")});
            Call::new(
                TAG,
                "Names of all services with an unexpired instance",
                vec![aged((200, content("application/json", &names, "The names, sorted.")))],
            )
            .with(vec![
                query("limit", "Most names to list; all when left out.", &json!({"type": "integer", "minimum": 1})),
                query("after", "Only names that sort after this one.", &reference("schemas", "ServiceName")),
                age(),
            ])
        }
        "getService" => Call::new(
            TAG,
            "One usable instance of a service, and all of them beside it",
            vec![aged(answer(200, "Service", "The service."))],
        )
        .says(
            "The top level is one usable instance (passing or warning, not draining), picked at random. 404 when there \
             is none; its detail says when and why the last one went.",
        )
        .with(vec![
            query(
                "all",
                "List critical and draining instances too; then 200 as long as any entry exists.",
                &json!({"type": "boolean", "default": false}),
            ),
            age(),
        ])
        .unknown(),
        "listInstances" => Call::new(
            TAG,
            "Instances of all services, in pages",
            vec![aged(answer(200, "InstancePage", "A page."))],
        )
        .with(vec![
            query("service", "Of this service only.", &reference("schemas", "ServiceName")),
            query("status", "With this status only.", &reference("schemas", "Status")),
            json!({
                "name": "meta",
                "in": "query",
                "description": "With this metadata only: `meta.KEY=VALUE`, as often as needed; all must be met.",
                "style": "form",
                "explode": true,
                "schema": {
                    "type": "object",
                    "propertyNames": {"pattern": "^meta\\."},
                    "maxProperties": limits::METADATA_KEYS_MAX,
                    "additionalProperties": {"type": "string"}
                }
            }),
            query(
                "limit",
                "Most instances on the page.",
                &json!({
                    "type": "integer", "minimum": 1, "maximum": limits::PAGE_MAX, "default": limits::PAGE_DEFAULT
                }),
            ),
            query(
                "after",
                "The `next` of the page before.",
                &reference("schemas", "Cursor"),
            ),
            age(),
        ]),
        _ => return None,
    })
}

fn flat(name: &str) -> Option<Call> {
    const TAG: &str = "Flat";
    let mut default = reference("schemas", "InstanceId");
    default["default"] = limits::DEFAULT_INSTANCE_ID.into();
    let next: &[(&str, &[&str])] = &[("getService", &["service"]), ("flatDeregister", &["service_name"])];
    Some(match name {
        "flatRegister" => Call::new(
            TAG,
            "Register an instance",
            vec![linked(answer(201, "Flat", "Registered, or replaced."), next)],
        )
        .says(
            "For clients that know one endpoint for each service: without `instance_id` it is about the instance \
             `default`, and the last writer wins.",
        )
        .body("FlatRegister"),
        "flatHeartbeat" => Call::new(TAG, "Count the lease anew", vec![answer(200, "Flat", "Acknowledged.")])
            .body("FlatHeartbeat")
            .unknown(),
        "flatDeregister" => Call::new(TAG, "Remove an instance", vec![answer(200, "Flat", "Removed.")])
            .with(vec![query(
                "instance_id",
                "The instance; `default` when left out.",
                &default,
            )])
            .unknown(),
        _ => return None,
    })
}

fn operation(name: &str) -> Option<Call> {
    const TAG: &str = "Operation";
    let neighbours = "Needs no token from this machine or a trusted proxy.";
    let text =
        |media: &str, description: &str| vec![(200, content(media, &json!({"type": "string"}), description))];
    Some(match name {
        "livez" => Call::new(
            TAG,
            "Whether the process is alive; never asks the store",
            vec![answer(200, "Alive", "It is.")],
        ),
        "readyz" => Call::new(
            TAG,
            "Whether this node should be sent requests",
            vec![answer(200, "Ready", "It is loaded and sees its store.")],
        )
        .with(vec![query(
            "stale",
            "`ok`: ready as soon as it is loaded, also while it cannot see its store.",
            &json!({"const": "ok"}),
        )]),
        "health" => Call::new(
            TAG,
            "The state of this node",
            vec![answer(200, "Health", "It can answer lists.")],
        )
        .says("503 only while no list can be answered. Needs no token from this machine or a trusted proxy."),
        "metrics" => {
            Call::new(TAG, "Metrics in the text format of Prometheus", text("text/plain", "The metrics."))
                .says(neighbours)
        }
        "openapi" => {
            let document = content("application/json", &json!({"type": "object"}), "OpenAPI 3.1.");
            Call::new(TAG, "This document", vec![(200, document)])
        }
        "page" => Call::new(TAG, "A page for people", text("text/html", "HTML.")),
        _ => return None,
    })
}

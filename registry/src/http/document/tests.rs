use std::{fs, path::Path};

use super::*;

/// The file that is served and that a change of the interface is seen in.
const FILE: &str = "src/http/openapi.json";

#[test]
fn the_served_document_is_the_one_that_the_code_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let made = document();
    if std::env::var_os("OPENAPI_WRITE").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap();
        return fs::write(&path, text + "\n").unwrap();
    }
    let served: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mut differs = Vec::new();
    differences("", &served, &made, &mut differs);
    assert!(
        differs.is_empty(),
        "registry/{FILE} is not what the code makes. Look at the difference, and take it over with: make openapi\n{}",
        differs.join("\n")
    );
}

/// Where two values differ, as JSON pointers.
fn differences(place: &str, served: &Value, made: &Value, differs: &mut Vec<String>) {
    match (served, made) {
        (Value::Object(one), Value::Object(other)) => {
            let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
            for name in names {
                let at =
                    |value: &serde_json::Map<String, Value>| value.get(name).cloned().unwrap_or_default();
                differences(&format!("{place}/{}", name.replace('/', "~1")), &at(one), &at(other), differs);
            }
        }
        _ if served == made => {}
        _ => differs.push(format!("{place}: the file has {served}, the code makes {made}")),
    }
}

/// Whatever a document refers to is in it, and is referred to.
#[test]
fn it_is_whole_and_holds_nothing_else() {
    let document = document();
    let text = document.to_string();
    let mut count = 0;
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
        count += 1;
    }
    assert!(count > 100, "{count}");
    for kind in ["parameters", "headers", "responses", "schemas"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(
                text.contains(&format!("\"#/components/{kind}/{name}\"")),
                "{kind}/{name} is used nowhere"
            );
        }
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for link in item["put"]["responses"]["201"]["links"].as_object().into_iter().flatten() {
            assert!(
                text.contains(&format!("\"operationId\":\"{}\",\"parameters\":[", link.0)),
                "{path}: {link:?}"
            );
        }
    }
}

/// A rule is in the document as the parser has it: limits from their constants, names from their marks.
#[test]
fn limits_are_those_of_the_parsers() {
    let document = document();
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    for (name, field, limit) in [
        ("ServiceName", "maxLength", limits::SERVICE_NAME_MAX),
        ("InstanceId", "maxLength", limits::INSTANCE_ID_MAX),
        ("Session", "maxLength", limits::SESSION_MAX),
        ("Endpoint", "maxLength", limits::ENDPOINT_MAX),
        ("HealthEndpoint", "maxLength", limits::HEALTH_ENDPOINT_MAX),
        ("Output", "maxLength", limits::OUTPUT_MAX),
        ("Reason", "maxLength", limits::REASON_MAX),
        ("MetadataInput", "maxProperties", limits::METADATA_KEYS_MAX),
        ("TtlSeconds", "minimum", limits::TTL_MIN as usize),
        ("TtlSeconds", "maximum", limits::TTL_MAX as usize),
    ] {
        assert_eq!(schema(name)[field], limit, "{name}");
    }
    assert_eq!(schema("InstanceId")["pattern"], "^[A-Za-z0-9][A-Za-z0-9._:-]*$");
    assert_eq!(schema("InstancePage")["properties"]["instances"]["maxItems"], limits::PAGE_MAX);
}

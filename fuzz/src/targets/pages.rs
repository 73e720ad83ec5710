//! Queries and cursors of the lists: what is asked for is what comes, and a walk from page to page comes to its end.

use std::sync::LazyLock;

use http::{Request, Uri};
use http_body_util::Full;
use registry::config::Settings;
use registry_wire::limits;
use serde_json::Value;
use url::form_urlencoded;

use super::text;
use crate::bed::{Bed, records};

/// So many entries are on the node.
const ENTRIES: usize = 40;

std::thread_local! {
    static BED: LazyLock<Bed> = const { LazyLock::new(|| {
        let config = Settings::default().config().expect("a configuration");
        Bed::new(&config, &records(ENTRIES), true)
    }) };
}

pub(super) fn run(input: &[u8]) {
    let Some(query) = text(input) else { return };
    BED.with(|bed| {
        bed.refresh();
        instances(bed, query);
        if let Some((200, names)) = get(bed, "/services", query) {
            let names: Vec<&str> =
                names.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
            assert!(
                names.is_sorted() && names.len() <= asked(query, "limit").map_or(ENTRIES, |it| number(&it))
            );
            assert!(asked(query, "after").is_none_or(|after| names.iter().all(|name| **name > *after)));
        }
        if let Some((status, service)) = get(bed, "/services/web", query) {
            let all = asked(query, "all").is_some_and(|all| all == "true");
            let usable = |it: &Value| it["status"] != "critical" && it["draining"] == false;
            let list = service["instances"].as_array();
            assert!(status == 422 || list.is_some_and(|list| all || list.iter().all(usable)), "{service}");
        }
    });
}

/// The status and the body; `None`: this is no query.
fn get(bed: &Bed, path: &str, query: &str) -> Option<(u16, Value)> {
    let uri: Uri = format!("{path}?{query}").parse().ok()?;
    let answer = bed.call(Request::get(uri).body(Full::default()).ok()?);
    let status = answer.status().as_u16();
    let body = String::from_utf8(answer.into_body().to_vec()).expect("text");
    assert!([200, 422, 431].contains(&status), "{path}?{query}: {status} {body}");
    Some((status, serde_json::from_str(&body).expect("JSON")))
}

/// A parameter of a query that was taken, so that it stands there once.
fn asked(query: &str, name: &str) -> Option<String> {
    let query = query.split('#').next().unwrap_or_default();
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value.into_owned());
    assert_eq!(values.next(), None, "{name} stands twice in {query:?}");
    value
}

fn number(text: &str) -> usize {
    // A number that is larger than any is as good as the largest.
    text.parse().unwrap_or(usize::MAX)
}

fn name_of(instance: &Value) -> (String, String) {
    let text = |field: &str| instance[field].as_str().expect("a name").to_owned();
    (text("service_name"), text("instance_id"))
}

fn instances(bed: &Bed, query: &str) {
    let Some((200, first)) = get(bed, "/instances", query) else { return };
    let limit = asked(query, "limit").map_or(limits::PAGE_DEFAULT, |limit| number(&limit));
    assert!((1..=limits::PAGE_MAX).contains(&limit), "{query:?}");
    let mut page = first;
    let mut last = asked(query, "after").map(|after| {
        let (service, instance) = after.split_once('/').expect("a cursor");
        (service.to_owned(), instance.to_owned())
    });
    let mut seen = 0;
    loop {
        let listed = page["instances"].as_array().expect("a list");
        assert!(listed.len() <= limit, "{query:?}");
        for instance in listed {
            let name = Some(name_of(instance));
            assert!(name > last, "{name:?} after {last:?}: {query:?}");
            last = name;
            is_asked_for(instance, query);
            seen += 1;
        }
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!(
            (listed.len(), Some(next.to_owned())),
            (limit, last.as_ref().map(|(s, i)| format!("{s}/{i}")))
        );
        let Some((200, following)) = get(bed, "/instances", &with_cursor(query, next)) else {
            panic!("{next} is not taken: {query:?}")
        };
        page = following;
    }
    // As many as on one page that holds them all.
    if asked(query, "after").is_none() {
        let all =
            form_urlencoded::Serializer::new(without(query, "limit")).append_pair("limit", "1000").finish();
        let Some((200, all)) = get(bed, "/instances", &all) else { panic!("{all:?}") };
        assert_eq!(all["instances"].as_array().map(Vec::len), Some(seen), "{query:?}");
    }
}

fn is_asked_for(instance: &Value, query: &str) {
    let is = |name: &str, field: &str| asked(query, name).is_none_or(|value| instance[field] == *value);
    assert!(is("service", "service_name") && is("status", "status"), "{query:?}: {instance}");
    let query = query.split('#').next().unwrap_or_default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if let Some(key) = key.strip_prefix("meta.") {
            assert_eq!(instance["metadata"][key], *value, "{query:?}: {instance}");
        }
    }
}

/// The parameters without one of them.
fn without(query: &str, name: &str) -> String {
    let query = query.split('#').next().unwrap_or_default();
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key != name);
    form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish()
}

fn with_cursor(query: &str, next: &str) -> String {
    form_urlencoded::Serializer::new(without(query, "after")).append_pair("after", next).finish()
}

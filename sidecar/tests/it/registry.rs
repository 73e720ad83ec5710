//! A registry of one node that keeps its entries in memory and never ends a lease. The rules of sessions are those of
//! the real one; whatever else a test wants is said by its `override`.

use std::{
    collections::{HashMap, HashSet},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use registry_wire::{Problem, ProblemType};
use serde_json::{Value, json};

use crate::common::{Act, Seen, Server};

type Override = Box<dyn Fn(&Seen) -> Option<Act> + Send + Sync>;

#[derive(Default)]
pub(crate) struct Entries {
    /// By path, the last registration's body.
    pub(crate) entries: HashMap<String, Value>,
    ended: HashSet<String>,
}

pub(crate) struct Registry {
    pub(crate) server: Server,
    pub(crate) state: Arc<Mutex<Entries>>,
    rule: Arc<Mutex<Option<Override>>>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn start_on(listener: TcpListener) -> Self {
        let state = Arc::new(Mutex::new(Entries::default()));
        let rule: Arc<Mutex<Option<Override>>> = Arc::default();
        let (entries, current) = (Arc::clone(&state), Arc::clone(&rule));
        let server = Server::start_on(listener, move |seen| {
            let overridden = current.lock().unwrap().as_ref().and_then(|rule| rule(seen));
            overridden.unwrap_or_else(|| entries.lock().unwrap().answer(seen))
        });
        Self { server, state, rule }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// From now on, what this says goes before what a registry would.
    pub(crate) fn rule(&self, rule: impl Fn(&Seen) -> Option<Act> + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Some(Box::new(rule));
    }

    pub(crate) fn no_rule(&self) {
        *self.rule.lock().unwrap() = None;
    }

    pub(crate) fn wipe(&self) {
        *self.state.lock().unwrap() = Entries::default();
    }

    /// The one entry there is.
    pub(crate) fn entry(&self) -> Option<Value> {
        let state = self.state.lock().unwrap();
        assert!(state.entries.len() <= 1, "{:?}", state.entries);
        state.entries.values().next().cloned()
    }
}

pub(crate) fn problem(kind: ProblemType) -> Act {
    let body = serde_json::to_string(&Problem::new(kind, format!("because of {kind:?}"))).unwrap();
    Act::Answer(kind.status(), body)
}

impl Entries {
    fn answer(&mut self, seen: &Seen) -> Act {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let body = seen.json();
        let session = |value: &Value| value["session"].as_str().unwrap_or_default().to_owned();
        let named = match query.strip_prefix("session=") {
            Some(named) => named.to_owned(),
            None => session(&body),
        };
        if path == "/readyz" {
            return Act::Answer(200, "{}".into());
        }
        let entry_path = path.trim_end_matches("/heartbeat").trim_end_matches("/drain").to_owned();
        let current = self.entries.get(&entry_path).map(session);
        if self.ended.contains(&named) && current.is_some() {
            return problem(ProblemType::Superseded);
        }
        if seen.is_register() {
            let status = if current.is_some() { 200 } else { 201 };
            if let Some(old) = current.filter(|old| *old != named) {
                self.ended.insert(old);
            }
            let ttl = body["ttl_seconds"].as_u64().unwrap_or(90);
            let answer = json!({
                "service_name": "x", "instance_id": "y", "endpoint": body["endpoint"], "health_endpoint": "/health",
                "metadata": body["metadata"], "status": body["status"], "draining": false, "stale": false,
                "ttl_seconds": ttl, "ttl_remaining": ttl, "registered_at": 1.5, "last_heartbeat": 1.5,
                "heartbeat_interval_seconds": (ttl / 3).max(1),
            });
            self.entries.insert(entry_path, body);
            return Act::Answer(status, answer.to_string());
        }
        if current.is_none_or(|current| current != named) {
            return problem(ProblemType::UnknownInstance);
        }
        if seen.is_beat() {
            if let Some(entry) = self.entries.get_mut(&entry_path) {
                entry["status"] = body["status"].clone();
                entry["output"] = body["output"].clone();
            }
            return Act::Answer(200, r#"{"ttl_seconds":3,"heartbeat_interval_seconds":1}"#.into());
        }
        if seen.is_drain() {
            return Act::Answer(200, self.entries[&entry_path].to_string());
        }
        self.ended.insert(named);
        self.entries.remove(&entry_path);
        Act::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())
    }
}

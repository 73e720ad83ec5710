use std::time::Duration;

use registry_wire::{Problem, ProblemType, problem};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};
use testkit::Stopwatch;

/// Calls one port. Each value has connections of its own.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Seconds since the answering node saw its store.
    pub(crate) age: Option<u64>,
    pub(crate) body: Value,
    /// How long that took while this machine ran.
    pub(crate) took: Duration,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build().unwrap();
        Self { http, base: format!("http://127.0.0.1:{port}") }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> reqwest::Result<Reply> {
        let mut request = self.request(method.parse().unwrap(), path);
        if !body.is_null() {
            request = request.json(body);
        }
        Reply::of(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Result<Reply> {
        self.call("GET", path, &Value::Null).await
    }

    /// Registers an instance with a lease of an hour.
    pub(crate) async fn register(&self, service: &str, instance: &str) -> reqwest::Result<Reply> {
        let body = json!({"endpoint": "http://127.0.0.1:9", "ttl_seconds": 3600});
        self.call("PUT", &format!("/services/{service}/instances/{instance}"), &body).await
    }

    pub(crate) async fn beat(&self, service: &str, instance: &str) -> reqwest::Result<Reply> {
        self.call("PUT", &format!("/services/{service}/instances/{instance}/heartbeat"), &Value::Null).await
    }

    /// One of each write, as method, path and body, and the operation that the nodes count it as.
    pub(crate) fn writes() -> [(&'static str, &'static str, Value, &'static str); 5] {
        let endpoint = "http://127.0.0.1:9";
        [
            ("PUT", "/services/w/instances/one", json!({"endpoint": endpoint}), "register"),
            ("PUT", "/services/w/instances/one/heartbeat", Value::Null, "heartbeat"),
            ("POST", "/register", json!({"service_name": "w", "endpoint": endpoint}), "register"),
            ("POST", "/heartbeat", json!({"service_name": "w"}), "heartbeat"),
            ("DELETE", "/services/w/instances/one", Value::Null, "deregister"),
        ]
    }
}

impl Reply {
    pub(crate) async fn of(request: RequestBuilder) -> reqwest::Result<Self> {
        let begun = Stopwatch::start();
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let age = headers.get("age").and_then(|age| age.to_str().ok()?.parse().ok());
        let bytes = response.bytes().await?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Self { status, headers, age, body, took: begun.elapsed() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether a list of instances holds this one.
    pub(crate) fn lists(&self, instance: &str) -> bool {
        let list = self.body["instances"].as_array();
        list.is_some_and(|list| list.iter().any(|entry| entry["instance_id"] == instance))
    }

    /// Fails unless this is the document of a problem, exactly as the nodes write it.
    pub(crate) fn is_problem(&self, kind: ProblemType) -> &Self {
        assert_eq!(self.status, kind.status(), "{self:?}");
        assert_eq!(self.header("content-type"), Some(problem::CONTENT_TYPE), "{self:?}");
        let document: Problem = serde_json::from_value(self.body.clone()).unwrap();
        assert!(document.is(kind), "{document:?}");
        assert_eq!((document.status, &*document.title), (kind.status(), kind.title()));
        assert!(document.detail.ends_with('.'), "{document:?}");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self:?}");
        // RFC 9110 does not want it, PROTOCOL does: with every 503 and 429, as a header and in the document.
        if [503, 429].contains(&self.status) {
            let seconds = document.retry_after_seconds.unwrap();
            assert_eq!(self.header("retry-after"), Some(&*seconds.to_string()), "{self:?}");
            assert!((1..=60).contains(&seconds), "{self:?}");
        }
        self
    }
}

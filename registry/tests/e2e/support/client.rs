use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{SOON, TTL};

/// Calls one registry. Each value has connections of its own.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<String>,
    pub(crate) age: Option<u64>,
    pub(crate) body: Value,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        // A node closes what has been silent for 8 s; a call must not meet that.
        let idle = Duration::from_secs(3);
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(8))
            .pool_idle_timeout(idle)
            .build()
            .unwrap();
        Self { http, base: format!("http://127.0.0.1:{port}") }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: &Value) -> reqwest::Result<Reply> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !body.is_null() {
            request = request.json(body);
        }
        Reply::read(request.send().await?).await
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Result<Reply> {
        self.call(Method::GET, path, &Value::Null).await
    }

    /// A call that is made again while a node cannot see its store for a moment, as on a machine that is busy, and
    /// while none answers.
    pub(crate) async fn patient(&self, method: Method, path: &str, body: &Value) -> Reply {
        let begun = Instant::now();
        loop {
            let reply = self.call(method.clone(), path, body).await;
            match reply {
                Ok(reply) if reply.status != StatusCode::SERVICE_UNAVAILABLE => return reply,
                reply => assert!(begun.elapsed() < SOON, "{method} {path}: {reply:?}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// [`Client::patient`] with GET.
    pub(crate) async fn look(&self, path: &str) -> Reply {
        self.patient(Method::GET, path, &Value::Null).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.patient(Method::PUT, path, &body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.patient(Method::DELETE, path, &Value::Null).await
    }

    /// Registers an instance that a test beats for itself. Fails unless it is registered.
    pub(crate) async fn register(&self, service: &str, instance: &str, session: &str, ttl: u64) {
        let (path, body) = registration(service, instance, session, ttl);
        let reply = self.put(&path, body).await;
        // 200 where a call before it was carried out although it was answered with 503.
        assert!(reply.status.is_success(), "{reply:?}");
    }

    pub(crate) async fn beat(&self, service: &str, instance: &str, session: &str) -> Reply {
        let (path, body) = beat(service, instance, session);
        self.patient(Method::PUT, &path, &body).await
    }

    /// One registration, whatever comes of it.
    pub(crate) async fn register_once(&self, service: &str, instance: &str) -> reqwest::Result<Reply> {
        let (path, body) = registration(service, instance, "once", 30);
        self.call(Method::PUT, &path, &body).await
    }

    /// One beat, whatever comes of it.
    pub(crate) async fn beat_once(
        &self,
        service: &str,
        instance: &str,
        session: &str,
    ) -> reqwest::Result<Reply> {
        let (path, body) = beat(service, instance, session);
        self.call(Method::PUT, &path, &body).await
    }

    /// The instance object, if a node answers with one.
    pub(crate) async fn instance(&self, service: &str, instance: &str) -> Option<Value> {
        let reply = self.get(&format!("/services/{service}/instances/{instance}")).await.ok()?;
        (reply.status == StatusCode::OK).then_some(reply.body)
    }

    /// The instance object of one that is there, also from a node that cannot see its store for a moment.
    pub(crate) async fn entry(&self, service: &str, instance: &str) -> Value {
        let reply = self.look(&format!("/services/{service}/instances/{instance}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        reply.body
    }

    /// Whether an instance is among the usable ones; asks again while the node cannot see its store.
    pub(crate) async fn usable(&self, service: &str, instance: &str) -> bool {
        self.look(&format!("/services/{service}")).await.lists(instance)
    }

    /// Whether a node answers that an instance is among the usable ones.
    pub(crate) async fn lists(&self, service: &str, instance: &str) -> bool {
        self.get(&format!("/services/{service}")).await.is_ok_and(|reply| reply.lists(instance))
    }

    /// Whether the node says that it is ready.
    pub(crate) async fn ready(&self) -> bool {
        self.get("/readyz").await.is_ok_and(|reply| reply.status == StatusCode::OK)
    }

    /// Beats an instance three times in a lease until the task is aborted, and goes on whatever the answer is.
    pub(crate) fn beating(
        &self,
        service: &str,
        instance: &str,
        session: &str,
    ) -> tokio::task::JoinHandle<()> {
        let (client, service, instance, session) =
            (self.clone(), service.to_owned(), instance.to_owned(), session.to_owned());
        tokio::spawn(async move {
            loop {
                // An error is a missed beat; what follows from it is what the tests look at.
                let _ = client.beat_once(&service, &instance, &session).await;
                sleep(TTL / 4).await;
            }
        })
    }
}

fn registration(service: &str, instance: &str, session: &str, ttl: u64) -> (String, Value) {
    let body = json!({"endpoint": "http://127.0.0.1:9", "session": session, "ttl_seconds": ttl});
    (format!("/services/{service}/instances/{instance}"), body)
}

fn beat(service: &str, instance: &str, session: &str) -> (String, Value) {
    let body = json!({"session": session, "status": "passing"});
    (format!("/services/{service}/instances/{instance}/heartbeat"), body)
}

impl Reply {
    async fn read(response: Response) -> reqwest::Result<Self> {
        let status = response.status();
        let header =
            |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (retry_after, age) = (header("retry-after"), header("age").and_then(|age| age.parse().ok()));
        let bytes = response.bytes().await?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Self { status, retry_after, age, body })
    }

    /// Whether a list of instances holds this one.
    pub(crate) fn lists(&self, instance: &str) -> bool {
        self.status == StatusCode::OK
            && self.body["instances"]
                .as_array()
                .is_some_and(|list| list.iter().any(|entry| entry["instance_id"] == instance))
    }
}

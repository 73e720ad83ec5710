use std::{collections::BTreeSet, time::Duration};

use reqwest::{Method, header};
use serde_json::{Value, json};
use testkit::wait_until;

/// For what takes no time but the machine's.
const SOON: Duration = Duration::from_secs(30);

/// Calls one URL: nginx, or a node.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(3))
            .no_proxy()
            .build()
            .unwrap();
        Self { http, base: base.to_owned() }
    }

    /// `None`: no answer.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Reply> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            let body = serde_json::to_vec(body).unwrap();
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let body = response.bytes().await.ok()?;
        Some(Reply { status, retry_after, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Reply> {
        self.call(Method::GET, path, None).await
    }

    /// [`Client::call`], made again while it is not answered or refused, as on a machine that stands still for a moment.
    pub(crate) async fn patient(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let mut answer = None;
        wait_until(SOON, "an answer", async || {
            answer = self.call(method.clone(), path, body).await.filter(|reply| reply.status != 503);
            answer.is_some()
        })
        .await;
        answer.expect("it was waited for")
    }

    /// Registers an instance that nothing beats for.
    pub(crate) async fn register(&self, service: &str, instance: &str, ttl: u32) -> Option<Reply> {
        let body = json!({ "endpoint": "http://chaos.invalid:80", "ttl_seconds": ttl });
        self.call(Method::PUT, &format!("/services/{service}/instances/{instance}"), Some(&body)).await
    }

    /// `service/instance` of everything that is listed; `None` if a page is not answered with 200.
    pub(crate) async fn listed(&self) -> Option<BTreeSet<String>> {
        Some(self.instances().await?.into_iter().map(|(name, _)| name).collect())
    }

    /// [`Client::listed`], and whether each is stale.
    pub(crate) async fn instances(&self) -> Option<Vec<(String, bool)>> {
        let mut all = Vec::new();
        let mut path = "/instances?limit=1000".to_owned();
        loop {
            let reply = self.get(&path).await.filter(|reply| reply.status == 200)?;
            for one in reply.body["instances"].as_array()? {
                let name = format!("{}/{}", one["service_name"].as_str()?, one["instance_id"].as_str()?);
                all.push((name, one["stale"].as_bool()?));
            }
            let Some(next) = reply.body["next"].as_str() else { return Some(all) };
            path = format!("/instances?limit=1000&after={next}");
        }
    }
}

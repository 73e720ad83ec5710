use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use testkit::Cluster;
use tokio::{task::JoinHandle, time::sleep};

use super::{Client, keep};

/// A steady mix of every call in both dialects, which notes each answer that is not what a client may expect while
/// at least one node is well.
#[derive(Debug)]
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    errors: Arc<Mutex<Vec<String>>>,
    workers: Vec<JoinHandle<()>>,
}

struct Worker {
    client: Client,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Traffic {
    /// Begins, through nginx. The reads are about an instance that every node has heard of.
    pub(crate) async fn start(cluster: &Cluster, workers: usize) -> Self {
        let client = Client::new(cluster.nginx.port());
        keep(cluster, &client).await;
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let errors = Arc::new(Mutex::new(Vec::new()));
        let workers = (0..workers)
            .map(|number| {
                let worker = Worker {
                    client: client.clone(),
                    stop: Arc::clone(&stop),
                    calls: Arc::clone(&calls),
                    errors: Arc::clone(&errors),
                };
                tokio::spawn(worker.run(number))
            })
            .collect();
        Self { stop, calls, errors, workers }
    }

    /// Waits until this many more calls were answered, so that what a test does happens under load.
    pub(crate) async fn flows(&self, more: usize) {
        let until = self.calls() + more;
        testkit::wait_until(super::SOON, "the traffic goes on", async || self.calls() >= until).await;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Ends it. Fails if one call did not go as it should; else the number of calls.
    pub(crate) async fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.unwrap();
        }
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = self.calls.load(Ordering::Relaxed);
        assert!(errors.is_empty(), "{} of {calls} calls failed, the first: {}", errors.len(), errors[0]);
        calls
    }
}

impl Worker {
    async fn run(self, number: usize) {
        let native = format!("/services/load-{number}/instances/one");
        let flat = format!("load-{number}-flat");
        let registration = json!({"endpoint": "http://127.0.0.1:9"});
        let flat_registration = json!({"service_name": flat, "endpoint": "http://127.0.0.1:9"});
        while !self.stop.load(Ordering::Relaxed) {
            self.call("PUT", &native, &registration, &[200, 201]).await;
            self.call("POST", "/register", &flat_registration, &[201]).await;
            for _ in 0..3 {
                self.call("PUT", &format!("{native}/heartbeat"), &json!({}), &[200]).await;
                self.call("POST", "/heartbeat", &json!({"service_name": flat}), &[200]).await;
                self.read("/services/kept", |body| body["endpoint"] == "http://127.0.0.1:9").await;
                self.read("/services", |body| {
                    body.as_array().is_some_and(|names| names.contains(&json!("kept")))
                })
                .await;
            }
            self.read("/services/kept/instances/one", |body| body["instance_id"] == "one").await;
            self.read("/instances?service=kept", |body| body["instances"][0]["instance_id"] == "one").await;
            self.call("PUT", &format!("{native}/drain"), &json!({"reason": "test"}), &[200]).await;
            self.call("DELETE", &format!("{native}/drain"), &Value::Null, &[204]).await;
            // 404 where the node died after it had deleted.
            self.call("DELETE", &native, &Value::Null, &[204, 404]).await;
            self.call("DELETE", &format!("/deregister/{flat}"), &Value::Null, &[200, 404]).await;
        }
    }

    async fn read(&self, path: &str, right: impl Fn(&Value) -> bool) {
        if let Some(body) = self.call("GET", path, &Value::Null, &[200]).await
            && !right(&body)
        {
            self.wrong(format!("GET {path}: {body}"));
        }
    }

    async fn call(&self, method: &str, path: &str, body: &Value, expected: &[u16]) -> Option<Value> {
        let reply = self.client.call(method, path, body).await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        // A little air for the nodes, which share this machine with the tests.
        sleep(Duration::from_millis(1)).await;
        match reply {
            Ok(reply) if expected.contains(&reply.status) => return Some(reply.body),
            reply => self.wrong(format!("{method} {path}: {reply:?}")),
        }
        None
    }

    fn wrong(&self, what: String) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

//! A node in this process, and a client that looks closely.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use registry::{
    app,
    config::{Config, Settings},
    http::ROUTES,
};
use registry_wire::ProblemType;
use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Postgres, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// Long enough for a busy machine; nothing that works takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two attempts of a call that was answered "I do not know".
const PAUSE: Duration = Duration::from_millis(50);

/// A tick of the nodes under test. A node is blind after three.
pub(crate) const TICK_MS: u64 = 250;

/// Where a node keeps its entries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

impl Store {
    /// A node with settings of its own.
    pub(crate) async fn node_with(self, change: impl FnOnce(&mut Settings)) -> Node {
        let (url, dir) = self.fresh().await;
        Node::start(url, Some(dir), change).await
    }

    /// A node on which so many changes may wait for their commit.
    pub(crate) async fn node_with_queue(self, changes_waiting: usize) -> Node {
        let (url, dir) = self.fresh().await;
        let config = Node::settings(url).config().unwrap();
        Node::start_with(Config { changes_waiting, ..config }, Some(dir)).await
    }

    /// A database of its own, and the directory that it is in.
    pub(crate) async fn fresh(self) -> (String, TempDir) {
        let dir = testkit::memory_dir();
        let url = match self {
            Self::Sqlite => format!("sqlite://{}/registry.db", dir.path().display()),
            Self::Postgres => Postgres::shared().fresh_database().await,
        };
        (url, dir)
    }

    /// A node that anybody may call.
    pub(crate) async fn node(self) -> Node {
        self.node_with(|_| {}).await
    }
}

/// A node that runs in this process, and a client of it.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), app::RunError>>,
    _dir: Option<TempDir>,
}

impl Node {
    /// Starts a node on this database, and waits until it is ready.
    pub(crate) async fn start(url: String, dir: Option<TempDir>, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Self::settings(url);
        change(&mut settings);
        Self::start_with(settings.config().unwrap(), dir).await
    }

    async fn start_with(config: Config, dir: Option<TempDir>) -> Self {
        let listener = app::bind(SocketAddr::new(config.listen.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app::run(config, listener, async { drop(stopped.await) }));
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let node = Self { address, client, stop, running, _dir: dir };
        wait_until(PATIENCE, "the node is ready", async || node.get_once("/readyz").await.status == 200)
            .await;
        node
    }

    fn settings(database_url: String) -> Settings {
        Settings {
            database_url: Some(database_url),
            tick_ms: Some(TICK_MS.to_string()),
            node_id: Some("under-test".into()),
            ..Settings::default()
        }
    }

    /// Stops the node and waits for its end.
    pub(crate) async fn end(self) {
        drop(self.stop);
        timeout(PATIENCE, self.running).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::sure(|| self.request("GET", path)).await
    }

    /// Asks once, for what may be 503.
    pub(crate) async fn get_once(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        Answer::sure(|| self.request("PUT", path).json(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::sure(|| self.request("POST", path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::sure(|| self.request("DELETE", path)).await
    }

    /// Registers an instance that is not there yet.
    pub(crate) async fn register(&self, service: &str, instance: &str, body: &Value) -> Value {
        let answer = self.put(&path(service, instance), body).await;
        // 200 where a call before it was carried out although it was answered with 503.
        assert!(answer.status == 201 || answer.again && answer.status == 200, "{answer:?}");
        answer.body
    }

    pub(crate) async fn beat(&self, service: &str, instance: &str, body: &Value) -> Answer {
        self.put(&format!("{}/heartbeat", path(service, instance)), body).await
    }

    /// Everything that is listed, without what time alone changes.
    pub(crate) async fn state(&self) -> Value {
        let mut body = self.get("/instances?limit=1000").await.ok().clone();
        for instance in body["instances"].as_array_mut().unwrap() {
            let fields = instance.as_object_mut().unwrap();
            for time in ["ttl_remaining", "last_heartbeat", "stale"] {
                fields.remove(time).unwrap();
            }
        }
        body
    }

    /// Sends bytes as they are on a connection of their own, and reads one answer to its end.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.raw_once(bytes).await;
            if answer.status != 503 || begun.elapsed() > PATIENCE {
                return answer;
            }
            sleep(PAUSE).await;
        }
    }

    async fn raw_once(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The node may answer and close before it has read everything.
        drop(stream.write_all(bytes).await);
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            if let Some(answer) = Answer::parse(&answer) {
                return answer;
            }
            let read = timeout(PATIENCE, stream.read(&mut chunk)).await.expect("an answer in time");
            match read {
                Ok(count) if count > 0 => answer.extend_from_slice(&chunk[..count]),
                end => panic!("no whole answer: {end:?} after {:?}", String::from_utf8_lossy(&answer)),
            }
        }
    }
}

/// The path of an instance.
pub(crate) fn path(service: &str, instance: &str) -> String {
    format!("/services/{service}/instances/{instance}")
}

/// Every path that there is.
pub(crate) fn paths() -> BTreeSet<&'static str> {
    ROUTES.iter().map(|route| route.path).collect()
}

/// The calls that have a body, about an instance `web/a`.
pub(crate) const WITH_BODY: [(&str, &str); 5] = [
    ("PUT", "/services/web/instances/a"),
    ("PUT", "/services/web/instances/a/heartbeat"),
    ("PUT", "/services/web/instances/a/drain"),
    ("POST", "/register"),
    ("POST", "/heartbeat"),
];

/// The smallest registration.
pub(crate) fn minimal() -> Value {
    json!({"endpoint": "http://10.0.0.1:8080"})
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// Null where the text is no JSON.
    pub(crate) body: Value,
    /// Whether the call was made before, and answered "I do not know".
    pub(crate) again: bool,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self::new(status, headers, response.text().await.unwrap())
    }

    /// As clients are told to: on "I do not know" tries again. A node on a busy machine may be blind for a moment.
    pub(crate) async fn sure(request: impl Fn() -> RequestBuilder) -> Self {
        let begun = Instant::now();
        let mut again = false;
        loop {
            let answer = Self::of(request()).await;
            if answer.status != 503 || begun.elapsed() > PATIENCE {
                return Self { again, ..answer };
            }
            again = true;
            sleep(PAUSE).await;
        }
    }

    fn new(status: u16, headers: HeaderMap, text: String) -> Self {
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, body, again: false }
    }

    /// An answer to a request that was not a HEAD, if these bytes hold all of it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: reqwest::header::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let length =
            headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        let body = bytes.get(end + 4..end + 4 + length)?;
        Some(Self::new(status, headers, String::from_utf8(body.to_vec()).unwrap()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body of a 200.
    #[track_caller]
    pub(crate) fn ok(&self) -> &Value {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        &self.body
    }

    /// The body of a problem document of this type, which is all that such a document must be.
    #[track_caller]
    pub(crate) fn problem(&self, kind: ProblemType) -> &Value {
        assert_eq!(self.status, kind.status(), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = &self.body;
        assert_eq!(body["type"], kind.path(), "{self:?}");
        assert_eq!(body["title"], kind.title(), "{self:?}");
        assert_eq!(body["status"], kind.status(), "{self:?}");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.len() > 10 && detail.ends_with('.'), "a sentence a person can act on: {detail:?}");
        if matches!(self.status, 429 | 503) {
            let seconds: u64 = self.header("retry-after").parse().expect("Retry-After is in seconds");
            assert!(seconds >= 1, "{self:?}");
            assert_eq!(body["retry_after_seconds"], seconds, "{self:?}");
        }
        body
    }

    /// A problem document that blames a field.
    #[track_caller]
    pub(crate) fn blames(&self, kind: ProblemType, field: &str) {
        assert_eq!(self.problem(kind)["field"], field, "{self:?}");
    }

    /// What a 404 says of an entry that is gone.
    #[track_caller]
    pub(crate) fn gone(&self, kind: ProblemType, state: &str, reason: &str) {
        let body = self.problem(kind);
        assert_eq!(body["state"], state, "{self:?}");
        assert_eq!(body["reason"], reason, "{self:?}");
        let ago = registry::clock::unix_now(registry::clock::now()) - body["last_seen"].as_f64().unwrap();
        assert!((-0.5..60.0).contains(&ago), "last seen {ago} s ago: {self:?}");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains(reason) && detail.contains("last seen"), "{detail:?}");
    }
}

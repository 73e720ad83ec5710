use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Nginx, Node, Postgres};

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The program of the registry.
    pub program: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// The tick of each node.
    pub tick: Duration,
    /// Further settings of each node, by the names of their environment variables.
    pub settings: BTreeMap<String, String>,
}

impl ClusterOptions {
    /// Three nodes with a tick of 200 ms.
    pub fn new(program: impl AsRef<Path>) -> Self {
        let program = program.as_ref().to_owned();
        Self { program, nodes: 3, tick: Duration::from_millis(200), settings: BTreeMap::new() }
    }

    /// Another number of nodes.
    #[must_use]
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// A further setting of each node.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// Registry nodes on one database of a Postgres, each through a proxy of its own, behind nginx as it is shipped.
///
/// ```no_run
/// # async fn example() {
/// use testkit::{Cluster, ClusterOptions, Postgres, ProxyMode};
///
/// let cluster = Cluster::start(ClusterOptions::new("target/debug/registry"), Postgres::shared()).await;
/// cluster.nodes[0].store().set(ProxyMode::BlackHole);
/// cluster.nodes[1].kill_9().await;
/// println!("curl {}/services", cluster.nginx.url());
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What stands before them.
    pub nginx: Nginx,
    /// The database, past the proxies.
    pub database: String,
}

impl Cluster {
    /// Starts it on a fresh database, and returns when every node is ready.
    ///
    /// # Panics
    /// When a part does not start.
    pub async fn start(options: ClusterOptions, postgres: &Postgres) -> Self {
        let cluster = Self::start_unready(options, postgres).await;
        cluster.ready().await;
        cluster
    }

    /// Starts it on a fresh database and does not wait for the nodes.
    ///
    /// # Panics
    /// When a part does not start.
    pub async fn start_unready(options: ClusterOptions, postgres: &Postgres) -> Self {
        let database = postgres.fresh_database().await;
        let mut settings = options.settings;
        settings.entry("REGISTRY_TICK_MS".into()).or_insert_with(|| options.tick.as_millis().to_string());
        let nodes: Vec<_> = (0..options.nodes)
            .map(|_| Node::new(&options.program, &database, postgres.port(), &settings))
            .collect();
        nodes.iter().for_each(Node::start);
        let ports: Vec<_> = nodes.iter().map(Node::port).collect();
        Self { nginx: Nginx::start(&ports).await, nodes, database }
    }

    /// Waits until every node is ready.
    ///
    /// # Panics
    /// When one is not in time.
    pub async fn ready(&self) {
        for node in &self.nodes {
            node.ready().await;
        }
    }

    /// The sum of a sample over all nodes. See [`Node::metric`].
    ///
    /// # Panics
    /// When a node does not answer.
    pub async fn metric(&self, sample: &str) -> f64 {
        let mut sum = 0.0;
        for node in &self.nodes {
            sum += node.metric(sample).await;
        }
        sum
    }
}

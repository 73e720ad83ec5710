//! Services and instances to measure with, and calls about them.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Duration, Instant, MissedTickBehavior, interval},
};

use crate::Result;

/// Long enough that no lease ends while others are measured.
const TTL: u32 = 3600;

/// Connections that register.
const REGISTRARS: usize = 32;

/// Connections of [`Beats`].
const BEATERS: u32 = 10;

/// So many services, each with so many instances.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    /// Services.
    pub services: usize,
    /// Instances of each.
    pub instances: usize,
}

impl Population {
    /// What the lines about throughput are measured with.
    pub const USUAL: Self = Self { services: 1_000, instances: 10 };

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.services * self.instances
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of a service; counted through if there are fewer.
    pub fn service(&self, n: usize) -> String {
        format!("service-{}", n % self.services)
    }

    /// The path of an instance, one of the service of the same number. No two below [`Population::len`] are the same.
    pub fn path(&self, n: usize) -> String {
        format!("/services/{}/instances/{}", self.service(n), instance(n))
    }

    /// A registration of an instance as a sidecar sends it.
    pub fn registration(&self, n: usize) -> String {
        format!(
            r#"{{"endpoint":"http://host-{n}:8080","health_endpoint":"/health","metadata":{{"version":"1.4.2"}},"ttl_seconds":{TTL},"session":"{}","status":"passing"}}"#,
            session(n)
        )
    }

    /// A beat of an instance as a sidecar sends it: path and body.
    pub fn beat(&self, n: usize) -> (String, String) {
        let body = format!(r#"{{"session":"{}","status":"passing"}}"#, session(n));
        (format!("{}/heartbeat", self.path(n)), body)
    }

    /// A beat in the flat dialect.
    pub fn flat_beat(&self, n: usize) -> String {
        format!(r#"{{"service_name":"{}","instance_id":"{}"}}"#, self.service(n), instance(n))
    }

    /// Registers all of them.
    ///
    /// # Errors
    /// One is not answered with 201.
    pub async fn register(self, port: u16) -> Result<()> {
        let mut registrars = JoinSet::new();
        for first in 0..REGISTRARS {
            registrars.spawn(async move {
                let mut connection = Connection::open(port).await?;
                for n in (first..self.len()).step_by(REGISTRARS) {
                    let status =
                        connection.call(&request("PUT", &self.path(n), &self.registration(n))).await?;
                    if status != 201 {
                        return Err(crate::Error::from(format!("a registration was answered {status}")));
                    }
                }
                Ok(())
            });
        }
        while let Some(ended) = registrars.join_next().await {
            ended??;
        }
        Ok(())
    }
}

fn instance(n: usize) -> String {
    format!("host-{n}:8080")
}

fn session(n: usize) -> String {
    format!("{n:016x}")
}

/// A request as it is sent.
pub fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: sidecar/0.1.0\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A kept connection, one call after the other.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8192) })
    }

    /// Sends a request and reads its answer to the end; the status.
    ///
    /// # Errors
    /// The connection ends, or the answer has no length.
    pub async fn call(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection was closed".into());
            }
            if let Some((status, length)) = answer(&self.buffer)?
                && self.buffer.len() >= length
            {
                return Ok(status);
            }
        }
    }
}

/// Status and whole length of an answer; `None` before its head is there.
fn answer(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    Ok(Some((status, end + 4 + length.transpose()?.unwrap_or(0))))
}

/// Beats at a steady rate beside what is measured, until this value is dropped or ended.
#[derive(Debug)]
pub struct Beats {
    beaters: JoinSet<Result<u64>>,
    begun: Instant,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Beats {
    /// Begins: so many beats a second, spread over a few connections, of one instance after the other.
    pub fn start(port: u16, population: Population, rate: u32) -> Self {
        let mut beaters = JoinSet::new();
        let (stop, ended) = tokio::sync::watch::channel(false);
        let every = BEATERS as usize;
        let requests: Arc<Vec<_>> = Arc::new(
            (0..population.len())
                .map(|n| {
                    let (path, body) = population.beat(n);
                    request("PUT", &path, &body)
                })
                .collect(),
        );
        for first in 0..every {
            let (requests, ended) = (Arc::clone(&requests), ended.clone());
            beaters.spawn(async move {
                let mut connection = Connection::open(port).await?;
                let mut tick = interval(Duration::from_secs(1) * BEATERS / rate);
                tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut sent = 0;
                for n in (first..).step_by(every) {
                    tick.tick().await;
                    if *ended.borrow() {
                        break;
                    }
                    let status = connection.call(&requests[n % requests.len()]).await?;
                    if status != 200 {
                        return Err(crate::Error::from(format!("a beat was answered {status}")));
                    }
                    sent += 1;
                }
                Ok(sent)
            });
        }
        Self { beaters, begun: Instant::now(), stop }
    }

    /// Ends them; how many a second there were.
    ///
    /// # Errors
    /// One was not answered with 200.
    pub async fn end(mut self) -> Result<f64> {
        let lasted = self.begun.elapsed();
        self.stop.send_replace(true);
        let mut sent = 0;
        while let Some(ended) = self.beaters.join_next().await {
            sent += ended??;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of a few minutes")]
        let sent = sent as f64;
        Ok(sent / lasted.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;

//! The status page and metrics, where an operator asked for them.
//!
//! In: connections to `SIDECAR_LISTEN`.
//! Owns: the names of the metrics, and the bounds of a server that nobody should be able to hold up.
//! Out: `/` and `/health` as JSON, `/metrics` for Prometheus.

use std::{convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{
    machine::{Phase, Report},
    run::Sidecar,
};

/// Connections at a time; more wait.
const CONNECTIONS: usize = 16;
/// How long a connection may send nothing, or a head may take.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may last in all.
const CONNECTION_LIMIT: Duration = Duration::from_mins(1);

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener, sidecar: Arc<Sidecar>) -> Infallible {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Never closed, so always granted.
        let slot = Arc::clone(&slots).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let sidecar = Arc::clone(&sidecar);
                tokio::spawn(async move {
                    let _ = timeout(CONNECTION_LIMIT, converse(stream, &sidecar)).await;
                    drop(slot);
                });
            }
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn converse(stream: TcpStream, sidecar: &Sidecar) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(&request, &sidecar.report(), sidecar))
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(request: &Request<Incoming>, report: &Report, sidecar: &Sidecar) -> Response<Full<Bytes>> {
    let (status, media, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/" | "/health") => {
            let status = if report.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, "application/json", page(report, sidecar))
        }
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, "text/plain; version=0.0.4", metrics(report))
        }
        (_, "/" | "/health" | "/metrics") => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".into())
        }
        _ => (StatusCode::NOT_FOUND, "text/plain", "/health or /metrics\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// What `/health` shows.
#[derive(Serialize)]
struct Page<'a> {
    status: &'static str,
    why: &'a str,
    service_name: &'a str,
    instance: String,
    session: &'a str,
    state: &'static str,
    leaving: bool,
    service_status: Option<&'static str>,
    service_output: Option<&'a str>,
    last_acknowledged_seconds_ago: Option<u64>,
    heartbeat_interval_seconds: u64,
    ttl_seconds: u64,
    registry: Option<&'a str>,
    failures: u32,
    trouble: Option<&'a str>,
}

fn page(report: &Report, sidecar: &Sidecar) -> String {
    let config = &sidecar.config;
    let page = Page {
        status: if report.healthy { "healthy" } else { "unhealthy" },
        why: &report.why,
        service_name: config.service.as_str(),
        instance: sidecar.instance(),
        session: report.session.as_str(),
        state: report.phase.as_str(),
        leaving: report.leaving,
        service_status: report.status.map(registry_wire::Status::as_str),
        service_output: report.output.as_deref(),
        last_acknowledged_seconds_ago: report.acknowledged.map(|age| age.as_secs()),
        heartbeat_interval_seconds: report.interval.as_secs(),
        ttl_seconds: report.ttl.as_secs(),
        registry: config.registries.get(report.registry).map(url::Url::as_str),
        failures: report.failures,
        trouble: report.trouble.as_deref(),
    };
    serde_json::to_string(&page).unwrap_or_default()
}

/// The text format of Prometheus. Written by hand: none of these has a label, and the client library is 98 KB of a
/// binary that has 2 MB.
fn metrics(report: &Report) -> String {
    let mut text = String::new();
    let mut add = |name: &str, kind: &str, help: &str, value: f64| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    let flag = |yes: bool| f64::from(u8::from(yes));
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    let count = |count: u64| count as f64;
    let tally = &report.tally;
    add(
        "sidecar_healthy",
        "gauge",
        "1 while the last beat was acknowledged within a lease.",
        flag(report.healthy),
    );
    add(
        "sidecar_registered",
        "gauge",
        "1 while the registry knows this instance, as far as it told.",
        flag(report.phase == Phase::Registered),
    );
    add(
        "sidecar_service_passing",
        "gauge",
        "1 while the service is reported as passing.",
        flag(report.status.is_some_and(registry_wire::Status::usable)),
    );
    if let Some(age) = report.acknowledged {
        add(
            "sidecar_last_acknowledged_seconds",
            "gauge",
            "Seconds since the last acknowledged beat or registration.",
            age.as_secs_f64(),
        );
    }
    add("sidecar_registrations_total", "counter", "Acknowledged registrations.", count(tally.registrations));
    add("sidecar_beats_total", "counter", "Acknowledged beats.", count(tally.beats));
    add("sidecar_call_failures_total", "counter", "Calls to a registry that failed.", count(tally.failures));
    add(
        "sidecar_lost_total",
        "counter",
        "Times that the registry no longer knew this instance.",
        count(tally.lost),
    );
    add("sidecar_probes_total", "counter", "Probes of the service.", count(tally.probes));
    add(
        "sidecar_probe_failures_total",
        "counter",
        "Probes that found the service not healthy.",
        count(tally.probes_failed),
    );
    text
}

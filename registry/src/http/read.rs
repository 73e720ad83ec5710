//! Reads, answered from the view alone.

use std::{fmt::Write, ops::ControlFlow, sync::Arc, time::Duration};

use axum::extract::State;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use registry_wire::{FieldError, InstanceId, Problem, ProblemType, ServiceName, Status, limits};

use super::{
    Failure, Node,
    entry::json_text,
    hot::Whole,
    query::{Query, ServicePath},
};
use crate::{
    clock::{self, Moment},
    entry::{Key, Pair, expiry_reason},
    seeded::{Bug, seeded},
    view::{Entry, ReadAt, Service, write_instance},
};

/// What one read sees: taken once, so that its answer agrees with itself.
struct Seen {
    at: ReadAt,
}

impl Seen {
    /// Refuses what cannot be answered: nothing was loaded yet, or what is known is older than the caller accepts.
    fn new(node: &Node, headers: &HeaderMap) -> Result<Self, Failure> {
        Self::at(node, headers, clock::now())
    }

    /// [`Seen::new`] at a moment that has just passed.
    fn at(node: &Node, headers: &HeaderMap, now: Moment) -> Result<Self, Failure> {
        let sighting = node.leases.sighting(now);
        if !sighting.loaded && !seeded(Bug::ServedBeforeLoaded) {
            return Err(Failure::unavailable("this node has not loaded its entries yet"));
        }
        if max_age(headers).is_some_and(|max| sighting.age() > max) {
            return Err(Failure::unavailable("what this node knows is older than the request accepts"));
        }
        Ok(Self { at: ReadAt { sighting, unix: clock::unix_now(sighting.now) } })
    }

    /// Puts `Age` (RFC 9111 section 5.1) on an answer from the view.
    fn aged(&self, mut response: Whole) -> Whole {
        let age = match self.at.sighting.age().as_secs() {
            0 => HeaderValue::from_static("0"),
            seconds => seconds.into(),
        };
        response.headers_mut().insert(header::AGE, age);
        response
    }

    fn json(&self, body: String) -> Whole {
        self.aged(json_text(StatusCode::OK, body))
    }

    /// An empty list says that nobody is there, which only a node that sees may say: what it was asked for may have
    /// come while this one could not see.
    fn not_empty_for_our_sake(&self, listed: usize) -> Result<(), Failure> {
        if self.at.sighting.blind && listed == 0 && !seeded(Bug::ServedBeforeLoaded) {
            return Err(Failure::unavailable("this node cannot reach its store and knows no such entry"));
        }
        Ok(())
    }

    /// A 404, which only a node that sees may give.
    fn not_there(&self, problem: Problem) -> Whole {
        if self.at.sighting.blind {
            return Failure::unavailable("this node cannot reach its store").whole();
        }
        self.aged(Failure::from(problem).whole())
    }
}

/// `Cache-Control: max-age=N` of a request (RFC 9111 section 5.2.1.1). `max-age=0` and `no-cache`, which a browser's
/// reload sends, would ask for what no node can give, and are passed over.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    directives
        .flat_map(|value| value.split(','))
        .filter_map(|directive| {
            let (name, seconds) = directive.trim().split_once('=')?;
            let seconds: u64 = seconds.trim().trim_matches('"').parse().ok()?;
            (name.trim().eq_ignore_ascii_case("max-age") && seconds >= 1)
                .then(|| Duration::from_secs(seconds))
        })
        .min()
}

pub(super) async fn services(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    query: Query,
) -> Result<Whole, Failure> {
    let limit = query.limit(usize::MAX, None)?;
    let after = query.parse::<ServiceName>("after")?;
    let seen = Seen::new(&node, &headers)?;
    let names = node.view.names(&seen.at.sighting, after.as_ref(), limit);
    seen.not_empty_for_our_sake(names.len())?;
    let mut body = String::from("[");
    for name in &names {
        let comma = if body.len() > 1 { "," } else { "" };
        // A service name holds nothing that JSON would escape.
        write!(body, "{comma}\"{name}\"").expect("writing to a string does not fail");
    }
    body.push(']');
    Ok(seen.json(body))
}

pub(super) async fn service(
    State(node): State<Arc<Node>>,
    ServicePath(name): ServicePath,
    headers: HeaderMap,
    query: Query,
) -> Result<Whole, Failure> {
    one_service(&node, name.as_str(), &headers, query.flag("all")?, clock::now())
}

/// What there is of a service at `now`: its usable instances, or all of them.
pub(super) fn one_service(
    node: &Node,
    name: &str,
    headers: &HeaderMap,
    all: bool,
    now: Moment,
) -> Result<Whole, Failure> {
    ServiceName::check(name)?;
    let seen = Seen::at(node, headers, now)?;
    let service = node.view.service(name);
    if let Some(service) = &service {
        let text = node.view.text(service);
        let picked = text.pick(&seen.at.sighting, &mut clock::rng());
        if picked.is_some() || all && service.listed(&seen.at.sighting).next().is_some() {
            return Ok(seen.json(text.answer(picked, all, &seen.at)));
        }
    }
    Ok(seen.not_there(why_not(node, &seen, &name.parse()?, service.as_deref())))
}

/// Why a service has nothing to hand out.
fn why_not(node: &Node, seen: &Seen, name: &ServiceName, service: Option<&Service>) -> Problem {
    let listed: Vec<&Entry> =
        service.map_or_else(Vec::new, |service| service.listed(&seen.at.sighting).collect());
    if !listed.is_empty() {
        let draining = listed.iter().filter(|entry| entry.record.draining()).count();
        let detail = format!(
            "Service '{name}' has {} instance(s), but none is usable: {draining} draining, {} critical. \
             '?all=true' lists them.",
            listed.len(),
            listed.len() - draining,
        );
        return Problem::new(ProblemType::NoUsableInstance, detail);
    }
    // The last to go: one whose lease has ended and which is not removed yet, or one that was removed.
    let ended = service
        .and_then(|service| service.entries().iter().max_by_key(|entry| entry.ended_at(&seen.at.sighting)))
        .map(|entry| {
            let end = clock::unix_at(entry.ended_at(&seen.at.sighting), seen.at.sighting.now, seen.at.unix);
            (entry.record.key().instance, end, expired(entry, seen))
        });
    let removed = node.view.last_gone(name, seen.at.unix).map(|(instance, gone)| {
        let past = Past { state: gone.state, last_seen: gone.last_seen, reason: gone.reason };
        (instance, gone.at, past)
    });
    let last = ended.into_iter().chain(removed).max_by(|(_, one, _), (_, other, _)| one.total_cmp(other));
    match last {
        None => Problem::new(
            ProblemType::UnknownService,
            format!("Service '{name}' is not registered, and no instance of it went in the last 24 hours."),
        ),
        Some((instance, _, past)) => past.describe(
            ProblemType::UnknownService,
            &format!("Service '{name}' is not registered. Its last instance '{instance}' went"),
            seen,
        ),
    }
}

/// What became of an instance that is gone.
struct Past {
    state: &'static str,
    last_seen: Option<f64>,
    reason: String,
}

fn expired(entry: &Entry, seen: &Seen) -> Past {
    let ttl = entry.record.ttl_seconds;
    Past {
        state: "expired",
        last_seen: Some(clock::unix_at(entry.pulse.last_seen(), seen.at.sighting.now, seen.at.unix)),
        reason: expiry_reason(ttl, entry.pulse.held_for(&seen.at.sighting, ttl.duration())),
    }
}

impl Past {
    fn describe(self, kind: ProblemType, begin: &str, seen: &Seen) -> Problem {
        let when = self.last_seen.map_or_else(String::new, |last| {
            format!("; it was last seen {:.0} s ago", (seen.at.unix - last).max(0.0))
        });
        let mut problem = Problem::new(kind, format!("{begin}: {}{when}.", self.reason));
        problem.state = Some(self.state.into());
        problem.last_seen = self.last_seen;
        problem.reason = Some(self.reason);
        problem
    }
}

pub(super) async fn instance(
    State(node): State<Arc<Node>>,
    key: Key,
    headers: HeaderMap,
) -> Result<Whole, Failure> {
    let seen = Seen::new(&node, &headers)?;
    let entry = node.view.entry(&key);
    let past = match &entry {
        Some(entry) if !entry.ended(&seen.at.sighting) => {
            let mut body = String::new();
            write_instance(&mut body, entry, &seen.at);
            return Ok(seen.json(body));
        }
        Some(entry) => Some(expired(entry, &seen)),
        None => node.view.gone(&key, seen.at.unix).map(|gone| Past {
            state: gone.state,
            last_seen: gone.last_seen,
            reason: gone.reason,
        }),
    };
    let begin = format!("Instance '{}' of service '{}' is not registered", key.instance, key.service);
    Ok(seen.not_there(match past {
        None => Problem::new(ProblemType::UnknownInstance, format!("{begin}.")),
        Some(past) => past.describe(ProblemType::UnknownInstance, &begin, &seen),
    }))
}

/// What `GET /instances` lists.
struct Filter {
    service: Option<ServiceName>,
    status: Option<Status>,
    metadata: Vec<Pair>,
    after: Option<Key>,
    limit: usize,
}

/// Pairs of metadata that one call may ask for.
const PAIRS: usize = limits::METADATA_KEYS_MAX;

impl Filter {
    fn parse(query: &Query) -> Result<Self, FieldError> {
        let after = query.get("after")?.map(|cursor| {
            let parts = cursor.split_once('/').and_then(|(service, instance)| {
                Some(Key { service: service.parse().ok()?, instance: instance.parse::<InstanceId>().ok()? })
            });
            parts.ok_or_else(|| FieldError::new("after", "must be the 'next' of an earlier page"))
        });
        // No entry has more pairs, and each costs a search in every entry.
        let metadata: Vec<Pair> =
            query.prefixed("meta.").map(|(key, value)| Pair::new(key, value)).take(PAIRS + 1).collect();
        if metadata.len() > PAIRS {
            return Err(FieldError::new("meta", format!("may stand at most {PAIRS} times")));
        }
        Ok(Self {
            service: query.parse("service")?,
            status: query.parse("status")?,
            metadata,
            after: after.transpose()?,
            limit: query.limit(limits::PAGE_DEFAULT, Some(limits::PAGE_MAX))?,
        })
    }

    fn takes(&self, entry: &Entry) -> bool {
        self.status.is_none_or(|status| status == entry.record.status)
            && self.metadata.iter().all(|pair| entry.record.says(pair))
    }
}

pub(super) async fn instances(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    query: Query,
) -> Result<Whole, Failure> {
    let filter = Filter::parse(&query)?;
    let seen = Seen::new(&node, &headers)?;
    let mut page = Page { body: String::from("{\"instances\":["), listed: 0, last: None, more: false };
    if let Some(name) = &filter.service {
        if let Some(service) = node.view.service(name) {
            let _: ControlFlow<()> = page.add(&service, &filter, &seen);
        }
    } else {
        // The service of the cursor may have further instances after it.
        if let Some(service) = filter.after.as_ref().and_then(|after| node.view.service(&after.service)) {
            let _: ControlFlow<()> = page.add(&service, &filter, &seen);
        }
        let after = filter.after.as_ref().map(|after| &after.service);
        if !page.more {
            node.view.each_service(after, |service| page.add(service, &filter, &seen).is_continue());
        }
    }
    seen.not_empty_for_our_sake(page.listed)?;
    page.body.push_str("],\"next\":");
    match page.last.filter(|_| page.more) {
        // Names hold nothing that JSON would escape.
        Some(key) => write!(page.body, "\"{key}\"").expect("writing to a string does not fail"),
        None => page.body.push_str("null"),
    }
    page.body.push('}');
    Ok(seen.json(page.body))
}

/// A page of instances, being written.
struct Page {
    body: String,
    listed: usize,
    last: Option<Key>,
    more: bool,
}

impl Page {
    fn add(&mut self, service: &Service, filter: &Filter, seen: &Seen) -> ControlFlow<()> {
        for entry in service.listed(&seen.at.sighting).filter(|entry| filter.takes(entry)) {
            let key = entry.record.key();
            if filter.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            if self.listed == filter.limit {
                self.more = true;
                return ControlFlow::Break(());
            }
            if self.listed > 0 {
                self.body.push(',');
            }
            write_instance(&mut self.body, entry, &seen.at);
            self.listed += 1;
            self.last = Some(key);
        }
        ControlFlow::Continue(())
    }
}

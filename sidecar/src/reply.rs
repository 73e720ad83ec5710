//! What an answer of a registry means to a sidecar.
//!
//! In: the kind of a call; the status, `Retry-After` and body of its answer.
//! Owns: the line between what a registry said and what something on the way said.
//! Out: an [`Answer`].

use std::time::Duration;

use registry_wire::{Output, Problem, ProblemType, answer::Beaten};

use crate::machine::{Answer, Kind};

/// Reads the answer to a call.
///
/// A success counts only with the documented body, and a 404 only as the problem `unknown-instance`: whatever else
/// comes (a captive portal's 200, a load balancer's 404) says nothing about the entry.
pub fn read(kind: Kind, status: u16, retry_after: Option<Duration>, body: &[u8]) -> Answer {
    match (status, kind) {
        (200..=299, Kind::Register | Kind::Beat) => match serde_json::from_slice::<Beaten>(body) {
            // serde reads an array into a struct as well.
            Ok(granted) if is_object(body) => {
                Answer::Granted { ttl: granted.ttl_seconds, interval: granted.heartbeat_interval_seconds }
            }
            _ => Answer::unavailable(format!("HTTP {status} without the body of a registry's answer")),
        },
        (200..=299, Kind::Drain) if is_object(body) => Answer::Done,
        (204, Kind::Deregister) => Answer::Done,
        (404, _) if is_unknown_instance(body) => Answer::Unknown,
        (409, _) => Answer::Superseded,
        (400 | 401 | 403 | 405 | 413 | 415 | 422 | 431, _) => {
            Answer::Refused { reason: sentence(status, body).into() }
        }
        (429, _) => Answer::Overloaded { retry_after, reason: sentence(status, body).into() },
        (503, _) => Answer::Unavailable { retry_after, reason: sentence(status, body).into() },
        (300..=399, _) => Answer::unavailable(format!("HTTP {status}: a redirect, which is not followed")),
        _ => Answer::unavailable(sentence(status, body)),
    }
}

/// `Retry-After` in seconds: digits and nothing else (RFC 9110 section 10.2.3). A date is not read: whoever sends one
/// does not know our clock.
pub fn retry_after(value: &[u8]) -> Option<Duration> {
    let digits = value.trim_ascii();
    // The standard library would take a sign as well.
    let text = digits.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(digits).ok())??;
    text.parse().ok().map(Duration::from_secs)
}

fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

fn problem(body: &[u8]) -> Option<Problem> {
    if is_object(body) { serde_json::from_slice(body).ok() } else { None }
}

fn is_unknown_instance(body: &[u8]) -> bool {
    problem(body).is_some_and(|problem| problem.is(ProblemType::UnknownInstance))
}

/// The status, and what the registry said about it.
fn sentence(status: u16, body: &[u8]) -> String {
    match problem(body) {
        Some(problem) => format!("HTTP {status}: {}", Output::fit(&problem.detail).as_str()),
        None => format!("HTTP {status}"),
    }
}

#[cfg(test)]
mod tests;

use registry_wire::{ProblemType, limits};
use serde_json::{Map, Value, json};

use super::{
    super::routes::{Need, Route},
    problem, reference,
};

/// What a refusal is called in the document, and what it means.
const fn described(status: u16) -> (&'static str, &'static str) {
    match status {
        400 => ("Malformed", "The body is no JSON object in UTF-8, or has a key twice."),
        401 => ("Unauthorized", "No token, or a wrong, expired or revoked one."),
        403 => ("Forbidden", "The token lacks the right for this service."),
        404 => ("NotRegistered", "This registry knows that it is not there (in a list: not as of `Age`)."),
        408 => ("BodyTimeout", "The body did not arrive in time."),
        409 => (
            "Superseded",
            "The session has ended: a later process took its place, or it was deregistered. Nothing was changed.",
        ),
        413 => ("BodyTooLarge", "The body is longer than a body may be, or says that it is."),
        415 => ("UnsupportedMediaType", "The body is not JSON, or compressed."),
        422 => ("Invalid", "A field or parameter breaks a rule; `field` names it."),
        429 => (
            "Overloaded",
            "Too much at once: a bound of this node is reached, or it is overloaded. Nothing was changed.",
        ),
        431 => ("HeadTooLarge", "The request head is longer than a head may be."),
        503 => (
            "Unavailable",
            "This node does not know: its store is out of reach, or it has not loaded yet. Ask another one, or again.",
        ),
        _ => ("Problem", ""),
    }
}

pub(super) const fn name_of(status: u16) -> &'static str {
    described(status).0
}

/// The statuses with which a call can be refused, by what its line in the table and its own description say.
#[expect(clippy::fn_params_excessive_bools, reason = "each is a column of the table below")]
pub(super) fn refusals(route: &Route, body: bool, named: bool, unknown: bool, sessions: bool) -> Vec<u16> {
    // Where nothing is asked of the view or the store, nothing is unavailable.
    let needs_sight = matches!(route.need, Need::Read(_) | Need::Register(_) | Need::Beat(_))
        || ["readyz", "health"].contains(&route.name);
    [
        (body, [400, 408, 415].as_slice()),
        (route.need != Need::Nothing, &[401, 403]),
        (unknown, &[404]),
        (sessions, &[409]),
        (named, &[422]),
        (needs_sight, &[503]),
        // 429 answers any call on a connection above the bound.
        (true, &[413, 429, 431]),
    ]
    .into_iter()
    .filter(|(applies, _)| *applies)
    .flat_map(|(_, statuses)| statuses.iter().copied())
    .collect()
}

/// Types of problems that a call of the table never has: the path or the method is none, or the registry failed.
const ELSEWHERE: [ProblemType; 3] =
    [ProblemType::NotFound, ProblemType::MethodNotAllowed, ProblemType::Internal];

/// The refusals, of each status one, and one for all others.
pub(super) fn components() -> Value {
    let mut components = Map::new();
    for kind in ProblemType::ALL.iter().filter(|kind| !ELSEWHERE.contains(kind)) {
        let status = kind.status();
        let (name, description) = described(status);
        assert!(!description.is_empty(), "{} is not described", kind.path());
        let same =
            ProblemType::ALL.iter().filter(|other| other.status() == status && !ELSEWHERE.contains(other));
        let types: Vec<_> = same.map(|kind| kind.path()).collect();
        let limit = match kind {
            ProblemType::BodyTooLarge => format!(" The limit is {} KiB.", limits::BODY_MAX / 1024),
            ProblemType::HeadTooLarge => format!(" The limit is {} KiB.", limits::HEAD_MAX / 1024),
            _ => String::new(),
        };
        let mut answer = json!({"description": format!("{description}{limit}"), "content": problem(&types)});
        match status {
            401 => answer["headers"] = json!({"WWW-Authenticate": reference("headers", "WwwAuthenticate")}),
            429 | 503 => answer["headers"] = json!({"Retry-After": reference("headers", "RetryAfter")}),
            _ => {}
        }
        components.insert(name.into(), answer);
    }
    let others: Vec<_> =
        ELSEWHERE.iter().map(|kind| format!("{} `{}`", kind.status(), kind.path())).collect();
    let description = format!("Any other problem: {}.", others.join(", "));
    components.insert("Problem".into(), json!({"description": description, "content": problem(&[])}));
    components.into()
}

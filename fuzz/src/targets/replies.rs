//! What a sidecar makes of an answer: from a registry, or from whatever stands in its way.

use std::time::Duration;

use registry_sidecar::{
    machine::{Answer, Kind},
    reply,
};
use registry_wire::{Problem, ProblemType, answer::Beaten, limits};

const KINDS: [Kind; 4] = [Kind::Register, Kind::Beat, Kind::Drain, Kind::Deregister];

/// Statuses that mean something, and some that do not.
const STATUSES: [u16; 20] =
    [200, 201, 204, 299, 301, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 431, 500, 502, 503, 599];

/// The first byte chooses kind and status, the first line is `Retry-After`, the rest the body.
pub(super) fn run(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let choice = usize::from(*choice);
    let (kind, status) = (KINDS[choice % KINDS.len()], STATUSES[choice / KINDS.len() % STATUSES.len()]);
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (line, body) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());

    let pause = reply::retry_after(line);
    is_in_seconds(line, pause);
    let answer = reply::read(kind, status, pause, body);
    let object = body.trim_ascii_start().first() == Some(&b'{');
    let problem = serde_json::from_slice::<Problem>(body).ok().filter(|_| object);
    match &answer {
        Answer::Granted { ttl, interval } => {
            let beaten: Beaten = serde_json::from_slice(body).expect("the documented body");
            assert_eq!((beaten.ttl_seconds, beaten.heartbeat_interval_seconds), (*ttl, *interval));
            assert!((200..300).contains(&status) && matches!(kind, Kind::Register | Kind::Beat) && object);
        }
        Answer::Done => {
            assert!((200..300).contains(&status) && matches!(kind, Kind::Drain | Kind::Deregister));
        }
        Answer::Unknown => {
            assert!(status == 404 && problem.is_some_and(|it| it.is(ProblemType::UnknownInstance)));
        }
        Answer::Superseded => assert_eq!(status, 409),
        Answer::Refused { reason } => {
            assert!((400..500).contains(&status) && ![404, 409, 429].contains(&status));
            is_a_line(reason);
        }
        Answer::Overloaded { retry_after, reason } => {
            assert_eq!((status, *retry_after), (429, pause));
            is_a_line(reason);
        }
        Answer::Unavailable { retry_after, reason } => {
            assert!(retry_after.is_none() || status == 503 && *retry_after == pause);
            is_a_line(reason);
        }
    }
}

/// RFC 9110 section 10.2.3: digits and nothing else.
fn is_in_seconds(line: &[u8], pause: Option<Duration>) {
    let digits = std::str::from_utf8(line.trim_ascii())
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match pause {
        Some(pause) => {
            let digits = digits.unwrap_or_else(|| panic!("{pause:?} from {line:?}"));
            assert_eq!(digits.trim_start_matches('0').parse().unwrap_or(0), pause.as_secs(), "{line:?}");
        }
        None => assert!(digits.is_none_or(|digits| digits.parse::<u64>().is_err()), "{line:?}"),
    }
}

/// What goes into a log is short, and one line.
fn is_a_line(reason: &str) {
    assert!(reason.chars().count() <= limits::OUTPUT_MAX + 64, "{reason:?}");
    assert!(!reason.contains(char::is_control), "{reason:?}");
}

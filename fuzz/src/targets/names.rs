//! Names, texts and words: what is taken is exactly what the rule says, and comes back as it was.

use std::{fmt::Debug, str::FromStr};

use registry::token::{Pattern, Word, parse_span, utc};
use registry_wire::{
    FieldError, HealthPath, InstanceId, Metadata, Output, Reason, ServiceName, Session, Status, limits,
};
use serde::{Serialize, de::DeserializeOwned};

use super::text;

pub(super) fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let count = text.chars().count();
    let plain = |text: &str| !text.contains(char::is_control);

    is_so(taken::<ServiceName>(text), name(text, limits::SERVICE_NAME_MAX, "._-"), "service name");
    is_so(taken::<InstanceId>(text), name(text, limits::INSTANCE_ID_MAX, "._:-"), "instance id");
    is_so(taken::<Session>(text), (1..=limits::SESSION_MAX).contains(&count) && plain(text), "session");
    let path = text.starts_with('/')
        && count <= limits::HEALTH_ENDPOINT_MAX
        && plain(text)
        && !text.contains(char::is_whitespace);
    is_so(taken::<HealthPath>(text), path, "health path");
    is_so(taken::<Status>(text), ["passing", "warning", "critical"].contains(&text), "status");

    let trimmed = text.trim();
    let printable = plain(&trimmed.replace(['\n', '\r', '\t'], ""));
    let fits = |max: usize| trimmed.chars().count() <= max && printable;
    is_so(taken::<Output>(text), fits(limits::OUTPUT_MAX), "output");
    is_so(taken::<Reason>(text), fits(limits::REASON_MAX), "reason");
    let fitted = Output::fit(text);
    assert_eq!(fitted.as_str().parse().as_ref(), Ok(&fitted), "what was made to fit fits");

    metadata(text);
    words(text);
}

fn is_so(taken: bool, rule: bool, what: &str) {
    assert_eq!(taken, rule, "{what}: whether it is taken, and whether the rule says so");
}

/// Whether it is taken as a text, if it is so as JSON too, and comes back as it was.
fn taken<T>(text: &str) -> bool
where
    T: FromStr<Err = FieldError> + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let json = serde_json::to_string(text).expect("a text");
    let read: Option<T> = serde_json::from_str(&json).ok();
    match text.parse::<T>() {
        Ok(value) => {
            let written = serde_json::to_string(&value).expect("our own types can be written");
            let again: T = serde_json::from_str(&written).expect("what was written");
            assert_eq!((&again, read.as_ref()), (&value, Some(&value)), "{written}");
            true
        }
        Err(error) => {
            assert!(read.is_none() && !error.field().is_empty() && !error.rule().is_empty(), "{error:?}");
            false
        }
    }
}

fn name(text: &str, max: usize, marks: &str) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || marks.as_bytes().contains(&b))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

fn metadata(text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let mut metadata = Metadata::default();
    let marks = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let rule = (1..=limits::METADATA_KEY_MAX).contains(&key.len())
        && key.bytes().all(marks)
        && value.chars().count() <= limits::METADATA_VALUE_MAX
        && !value.contains(char::is_control);
    is_so(metadata.insert(key, value).is_ok(), rule, "metadata");
    assert_eq!(metadata.get(key), rule.then_some(value));
}

/// What stands in tokens and on the command line.
fn words(text: &str) {
    if let Ok(word) = text.parse::<Word>() {
        assert!(word.as_str() == text && name(text, 64, "._:/-"), "{text:?}");
    }
    if let Ok(pattern) = text.parse::<Pattern>() {
        assert_eq!(pattern.to_string(), text);
        let begin = text.strip_suffix('*').unwrap_or(text);
        assert!(begin.is_empty() || name(begin, limits::SERVICE_NAME_MAX, "._-"), "{text:?}");
    }
    if let Ok(seconds) = parse_span(text) {
        // Shown, it is a date.
        assert!(utc(seconds).contains('-'), "{text:?}");
    }
}

//! Request bodies, of both dialects.

use registry::entry::{Key, Packed, Pair, Record};
use registry_wire::{
    BodyError, Metadata, limits,
    request::{Drain, FlatHeartbeat, FlatRegister, Heartbeat, Register},
};
use serde::Serialize;

pub(super) fn run(input: &[u8]) {
    if let Some(register) = again(input, Register::parse) {
        register_keeps_its_limits(&register);
        is_stored_as_it_was(register);
    }
    if let Some(beat) = again(input, Heartbeat::parse) {
        let session = beat.session.iter().all(|session| within(session.as_str(), 1, limits::SESSION_MAX));
        assert!(session && beat.output.iter().all(|text| within(text.as_str(), 0, limits::OUTPUT_MAX)));
    }
    if let Some(drain) = again(input, Drain::parse) {
        assert!(within(drain.reason.as_str(), 0, limits::REASON_MAX));
    }
    let flat = sensible(FlatRegister::parse(input));
    let beat = sensible(FlatHeartbeat::parse(input));
    if let Some(FlatRegister { service_name, instance_id, register }) = flat {
        // The flat dialect's fields are those of the native one beside two names.
        let native = Register::parse(input);
        let bare = |it: Register| Register { session: None, status: None, output: None, ..it };
        if let Ok(native) = native {
            assert_eq!(bare(native), register);
        }
        register_keeps_its_limits(&register);
        let beat = beat.expect("what names the service of a registration names that of a beat");
        assert_eq!((beat.service_name, beat.instance_id), (service_name, instance_id));
    }
}

/// What was taken, if writing and reading it again gives the same.
fn again<T: Serialize + PartialEq + std::fmt::Debug>(
    input: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, BodyError>,
) -> Option<T> {
    let parsed = sensible(parse(input))?;
    let written = serde_json::to_vec(&parsed).expect("our own types can be written");
    assert_eq!(parse(&written).as_ref(), Ok(&parsed), "{}", String::from_utf8_lossy(&written));
    Some(parsed)
}

/// An error names a field, says a rule, and quotes little of what was sent.
fn sensible<T>(parsed: Result<T, BodyError>) -> Option<T> {
    match parsed {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let error = error.field_error();
            assert!(!error.field().is_empty() || error.rule() == "stands twice", "{error:?}");
            assert!(!error.rule().is_empty(), "{error:?}");
            let shown = error.field().chars().count() + error.rule().chars().count();
            assert!(shown < 1000, "{shown} characters: {error:?}");
            None
        }
    }
}

fn within(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.chars().count())
}

fn register_keeps_its_limits(register: &Register) {
    assert!(within(register.endpoint.as_str(), 1, limits::ENDPOINT_MAX));
    let path = register.health_endpoint.as_ref().map_or("/", |path| path.as_str());
    assert!(path.starts_with('/') && within(path, 1, limits::HEALTH_ENDPOINT_MAX));
    let ttl = register.ttl_seconds.unwrap_or_default().seconds();
    assert!((limits::TTL_MIN..=limits::TTL_MAX).contains(&ttl));
    assert!(register.metadata.iter().count() <= limits::METADATA_KEYS_MAX);
    for (key, value) in register.metadata.iter() {
        assert!(within(key, 1, limits::METADATA_KEY_MAX) && key.is_ascii());
        assert!(within(value, 0, limits::METADATA_VALUE_MAX) && !value.contains(char::is_control));
    }
}

/// A node holds a registration packed, and the store as JSON: both give back what was put in.
fn is_stored_as_it_was(register: Register) {
    let key = Key { service: "web".parse().expect("a name"), instance: "a:80".parse().expect("an id") };
    let record = Record {
        health_endpoint: register.health_endpoint.unwrap_or_default(),
        metadata: Metadata::clone(&register.metadata),
        ttl_seconds: register.ttl_seconds.unwrap_or_default(),
        session: register.session,
        status: register.status.unwrap_or_default(),
        output: register.output,
        registered_at: 1_761_307_802.11,
        observed_address: Some("192.0.2.1".into()),
        ..Record::new(key, register.endpoint)
    };
    let packed = Packed::from(&record);
    assert_eq!(packed.record(), record);
    for (name, value) in record.metadata.iter() {
        assert!(packed.says(&Pair::new(name, value)), "{name}={value}");
        assert!(!packed.says(&Pair::new(name, &format!("{value}x"))), "{name}={value}");
    }
    let written = serde_json::to_string(&record).expect("our own types can be written");
    let read: Record = serde_json::from_str(&written).expect("what was written");
    assert_eq!(read, record, "{written}");
}

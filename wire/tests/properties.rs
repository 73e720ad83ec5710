//! No input makes a parser panic, and what is taken keeps its rule and comes back as it was.

#![expect(clippy::unwrap_used, reason = "in tests, but in helpers too, which clippy does not know for tests")]

use std::{fmt::Debug, str::FromStr};

use proptest::prelude::*;
use registry_wire::{
    Endpoint, HealthPath, InstanceId, Metadata, Output, Problem, Reason, ServiceName, Session, Status, Ttl,
    answer::{Beaten, Registered},
    limits,
    request::{Drain, FlatHeartbeat, FlatRegister, Heartbeat, Register},
};
use serde::{Serialize, de::DeserializeOwned};

/// Texts near the rules: the characters that they are about, more often than any others.
fn near() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-zA-Z0-9._:/?#@%\\[\\]\\\\ -]{0,140}",
        "https?:/{0,3}[a-z0-9.:@%\\[\\]\\\\_-]{0,20}(:[0-9]{0,6})?[/?#]?.{0,8}",
        "[a-z][a-z0-9.]{0,70}",
        "/[a-z]{0,260}",
        "\\PC{0,260}",
    ]
}

/// Bytes near JSON objects with our fields.
fn near_body() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![
        Just("endpoint".to_owned()),
        Just("service_name".to_owned()),
        Just("instance_id".to_owned()),
        Just("metadata".to_owned()),
        Just("ttl_seconds".to_owned()),
        Just("session".to_owned()),
        Just("status".to_owned()),
        Just("output".to_owned()),
        Just("reason".to_owned()),
        "[a-c]",
    ];
    let value = prop_oneof![
        Just("\"http://web:80\"".to_owned()),
        Just("\"passing\"".to_owned()),
        near().prop_map(|text| serde_json::to_string(&text).unwrap()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        "[\\[\\]{}\",:0-9a-z ]{0,20}",
        Just("{\"a\":1.10,\"b\":\"x\",\"c\":true}".to_owned()),
        Just("null".to_owned()),
    ];
    let object = proptest::collection::vec((key, value), 0..8).prop_map(|pairs| {
        let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", pairs.join(",")).into_bytes()
    });
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        object.clone(),
        object,
        near().prop_map(String::into_bytes)
    ]
}

/// Taken: shown, written and read back as it was. Refused: the JSON form is refused too.
fn round_trips<T>(text: &str) -> Result<(), TestCaseError>
where
    T: FromStr + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let json = serde_json::to_string(text).unwrap();
    match text.parse::<T>() {
        Ok(value) => {
            let written = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(&serde_json::from_str::<T>(&written).unwrap(), &value);
            prop_assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), &value);
        }
        Err(_) => prop_assert!(serde_json::from_str::<T>(&json).is_err()),
    }
    Ok(())
}

fn name_rule(text: &str, max: usize, extra: &str) -> bool {
    (1..=max).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.as_bytes().contains(&b))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts_round_trip(text in near()) {
        round_trips::<ServiceName>(&text)?;
        round_trips::<InstanceId>(&text)?;
        round_trips::<Session>(&text)?;
        round_trips::<Endpoint>(&text)?;
        round_trips::<HealthPath>(&text)?;
        round_trips::<Output>(&text)?;
        round_trips::<Reason>(&text)?;
        round_trips::<Status>(&text)?;
    }

    #[test]
    fn names_follow_the_rule_and_nothing_else(text in near()) {
        prop_assert_eq!(text.parse::<ServiceName>().is_ok(), name_rule(&text, limits::SERVICE_NAME_MAX, "._-"));
        prop_assert_eq!(text.parse::<InstanceId>().is_ok(), name_rule(&text, limits::INSTANCE_ID_MAX, "._:-"));
    }

    #[test]
    fn an_endpoint_has_the_host_that_is_written_in_it(text in near()) {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            prop_assert_eq!(endpoint.as_str(), &text);
            let (scheme, rest) = text.split_once("://").unwrap();
            prop_assert!(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
            let authority = rest.split(['/', '?']).next().unwrap();
            prop_assert!(!authority.is_empty() && authority.is_ascii());
            prop_assert!(!authority.contains(['@', '%', '\\', '#', ' ']));
            prop_assert!(!text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '#'));
        }
    }

    #[test]
    fn good_parts_make_an_endpoint(host in "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{2,5}){0,3}", port in 1_u16..) {
        // A name of digits alone is an IPv4 address in short form, and refused.
        prop_assume!(host.contains(|c: char| c.is_ascii_alphabetic()) && !host.starts_with("0x"));
        // The URL standard refuses a made-up Punycode label.
        prop_assume!(!host.contains("xn--"));
        let endpoint = Endpoint::from_parts("http", &host, port).unwrap();
        prop_assert_eq!(endpoint.as_str(), format!("http://{host}:{port}"));
    }

    #[test]
    fn an_address_makes_an_endpoint(address in any::<std::net::IpAddr>(), port in 1_u16..) {
        let endpoint = Endpoint::from_parts("https", &address.to_string(), port).unwrap();
        let socket = std::net::SocketAddr::new(address, port);
        prop_assert_eq!(endpoint.as_str(), format!("https://{socket}"));
    }

    #[test]
    fn ttls_follow_the_rule_and_nothing_else(seconds in prop_oneof![any::<u64>(), 0_u64..4000]) {
        let json = serde_json::from_str::<Ttl>(&seconds.to_string());
        prop_assert_eq!(json.is_ok(), (3..=3600).contains(&seconds));
        // To JSON it is the same number.
        let float = serde_json::from_str::<Ttl>(&format!("{seconds}.0")).ok();
        prop_assert_eq!(float, json.as_ref().ok().copied());
        let half = format!("{seconds}.5");
        prop_assert!(serde_json::from_str::<Ttl>(&half).is_err());
        if let Ok(ttl) = json {
            prop_assert_eq!(serde_json::to_string(&ttl).unwrap(), seconds.to_string());
            prop_assert!(ttl.heartbeat_interval() * 3 <= ttl.seconds());
        }
    }

    #[test]
    fn text_made_to_fit_fits(text in any::<String>(), repeat in 1_usize..40) {
        let fitted = Output::fit(&text.repeat(repeat));
        prop_assert_eq!(&fitted.as_str().parse::<Output>().unwrap(), &fitted);
    }

    #[test]
    fn no_body_makes_a_parser_panic(body in near_body()) {
        let _ = FlatRegister::parse(&body);
        let _ = FlatHeartbeat::parse(&body);
        let _ = serde_json::from_slice::<Problem>(&body);
        let _ = serde_json::from_slice::<Registered>(&body);
        let _ = serde_json::from_slice::<Beaten>(&body);
        // What our own sidecar writes is what the registry read.
        if let Ok(register) = Register::parse(&body) {
            prop_assert_eq!(&Register::parse(&serde_json::to_vec(&register).unwrap()).unwrap(), &register);
        }
        if let Ok(beat) = Heartbeat::parse(&body) {
            prop_assert_eq!(&Heartbeat::parse(&serde_json::to_vec(&beat).unwrap()).unwrap(), &beat);
        }
        if let Ok(drain) = Drain::parse(&body) {
            prop_assert_eq!(&Drain::parse(&serde_json::to_vec(&drain).unwrap()).unwrap(), &drain);
        }
    }

    #[test]
    fn numbers_in_metadata_are_kept_as_written(number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
        let body = format!(r#"{{"endpoint":"http://web","metadata":{{"n":{number}}}}}"#);
        let register = Register::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(register.metadata.get("n"), Some(number.as_str()));
    }

    #[test]
    fn metadata_round_trips(pairs in proptest::collection::btree_map("[A-Za-z0-9_.-]{1,16}", "\\PC{0,40}", 0..=8)) {
        let mut metadata = Metadata::default();
        for (key, value) in &pairs {
            metadata.insert(key, value).unwrap();
        }
        let written = serde_json::to_string(&metadata).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Metadata>(&written).unwrap(), &metadata);
        prop_assert!(metadata.iter().eq(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))));
    }
}

use super::*;

#[test]
fn the_change_is_repeated_for_another_instance() {
    let body = r#"{"ttl": 90, "instance_id": "host-0:8080", "output": "it's 5 %"}"#;
    let script = call_of(body).expect("a script");
    let colons = script.replace('~', ":");
    let expected = r#""body":{"ttl": 90, "instance_id": "host-%s:8080", "output": "it''s 5 %%"}}]'"#;
    assert!(colons.contains(expected), "{script}");
    // The only words after a colon are the variable and the type.
    let words: Vec<_> =
        script.split(':').skip(1).map(|rest| rest.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(words, ["n", "", "jsonb,"], "{script}");
    assert!(call_of(r#"{"instance_id": "a", "output": "~"}"#).is_err());
    assert!(call_of("{}").is_err());
}

//! Signed tokens: bytes that claim to be one, and claims that a key has signed.

use std::{fmt::Write, fs, sync::LazyLock};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use registry::token::{Claims, PATTERNS_MAX, Rejection, Right, TOKEN_MAX, Verifier, digest, unchecked};
use registry_wire::{ServiceName, limits};
use serde_json::Value;

/// The id and the secret of the key in force: what the corpus is signed with.
const ID: &str = "k1";
const SECRET: &[u8] = b"0123456789abcdefghijklmnopqrstuv";

const RIGHTS: [Right; 3] = [Right::Register, Right::Read, Right::Admin];

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let (keys, revoked) = (dir.path().join("keys"), dir.path().join("revoked"));
    let mut line = format!("{ID} ");
    for byte in SECRET {
        write!(line, "{byte:02x}").expect("writing to a string does not fail");
    }
    fs::write(&keys, line + "\n").expect("a file");
    fs::write(&revoked, "gone-1\n").expect("a file");
    Verifier::open(&keys, Some(&revoked)).expect("keys")
});

/// Claims as an object, or else a token.
pub(super) fn run(input: &[u8]) {
    match serde_json::from_slice::<Value>(input) {
        Ok(claims) => signed(&claims),
        Err(_) => stranger(input),
    }
}

/// Nobody who has not the key makes a token.
fn stranger(token: &[u8]) {
    if let Ok(text) = std::str::from_utf8(token) {
        // For people: it must not panic, and says nothing of who may do what.
        drop(unchecked(text));
    }
    let Ok(known) = VERIFIER.verify(token, &digest(token)) else { return };
    // The same claims, signed by us, are the same text but for the order of what they say: it holds our signature.
    let ours = VERIFIER.sign(&known.claims).expect("what was accepted can be made");
    let header = |token: &[u8]| token.split(|byte| *byte == b'.').next().map(<[u8]>::to_vec);
    assert_eq!(header(token), header(ours.as_bytes()), "accepted: {}", String::from_utf8_lossy(token));
    assert!(token.len() <= TOKEN_MAX);
}

/// What a key has signed is taken for what it says, or not at all.
fn signed(claims: &Value) {
    let header = Header { kid: Some(ID.into()), ..Header::new(Algorithm::HS256) };
    // Before the first token: the library has no signature of its own.
    let verifier = &*VERIFIER;
    let token = encode(&header, claims, &EncodingKey::from_secret(SECRET)).expect("a token");
    let sum = digest(token.as_bytes());
    let known = match verifier.verify(token.as_bytes(), &sum) {
        Ok(known) => known,
        Err(Rejection::Revoked(id)) => return assert_eq!(id.as_str(), "gone-1"),
        Err(Rejection::Unknown) => return,
    };
    let said = &known.claims;
    assert!(token.len() <= TOKEN_MAX && claims["jti"] != "gone-1");
    let audience = &claims["aud"];
    assert!(audience == "vertice-registry", "{audience}");
    for right in RIGHTS {
        let patterns = claims.get(right.as_str()).and_then(Value::as_array).map_or(0, Vec::len);
        assert!(patterns <= PATTERNS_MAX, "{patterns}");
        gives_what_it_says(said, right, claims);
    }
    let again = verifier.sign(said).expect("what was accepted can be made");
    let again = verifier.verify(again.as_bytes(), &digest(again.as_bytes())).expect("our own token");
    assert_eq!(&again.claims, said);
}

/// A right is had for a service only where a pattern of it, or of an admin, says so.
fn gives_what_it_says(said: &Claims, right: Right, claims: &Value) {
    let patterns = || {
        [right.as_str(), "admin"].into_iter().filter_map(|name| claims[name].as_array()).flatten().map(
            |value| {
                let text = value.as_str().expect("a pattern is a text");
                (text.strip_suffix('*').unwrap_or(text), text.ends_with('*'))
            },
        )
    };
    for service in patterns().map(|(begin, _)| begin.to_owned()).chain(["web".into()]) {
        for service in [service.clone(), format!("{service}-x")] {
            if service.len() > limits::SERVICE_NAME_MAX || service.parse::<ServiceName>().is_err() {
                continue;
            }
            let takes =
                |(begin, any): (&str, bool)| if any { service.starts_with(begin) } else { service == begin };
            assert_eq!(said.may(right, Some(&service)), patterns().any(takes), "{service}: {claims}");
        }
    }
    assert_eq!(said.may(right, None), patterns().any(|(begin, any)| any && begin.is_empty()), "{claims}");
    assert_eq!(said.may_somewhere(right), patterns().next().is_some(), "{claims}");
}

use std::{fs, path::PathBuf};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tempfile::TempDir;

use super::*;

const OLD: &str = "old 3d1f7c9a5be204688f0e1d2c3b4a59687766554433221100ffeeddccbbaa9988";
const NEW: &str = "new 99887766554433221100ffeeddccbbaa00112233445566778899aabbccddee1f";

struct Files {
    dir: TempDir,
}

impl Files {
    fn new(keys: &str) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.keys(keys);
        files.revoked("");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn keys(&self, text: &str) {
        fs::write(self.path("keys"), text).unwrap();
    }

    fn revoked(&self, text: &str) {
        fs::write(self.path("revoked"), text).unwrap();
    }

    fn verifier(&self) -> Verifier {
        Verifier::open(&self.path("keys"), Some(&self.path("revoked"))).unwrap()
    }
}

fn keys(text: &str) -> Keys {
    Keys::parse("keys".as_ref(), text).unwrap()
}

fn claims() -> Claims {
    let mut claims = Claims::new("ci".parse().unwrap(), "id-1".parse().unwrap(), 1_000, 2_000);
    claims.register = vec!["orders*".parse().unwrap(), "billing".parse().unwrap()];
    claims
}

fn counts(verifier: &Verifier, token: &str) -> bool {
    verifier.verify(token.as_bytes(), &digest(token.as_bytes())).is_ok()
}

#[test]
fn a_pattern_means_a_service_or_those_that_begin_so() {
    let takes = |pattern: &str, service: Option<&str>| pattern.parse::<Pattern>().unwrap().takes(service);
    assert!(takes("orders", Some("orders")) && !takes("orders", Some("orders-eu")) && !takes("orders", None));
    assert!(takes("orders*", Some("orders")) && takes("orders*", Some("orders-eu")));
    assert!(!takes("orders*", Some("order")) && !takes("orders*", Some("Orders")) && !takes("orders*", None));
    assert!(takes("*", Some("x")) && takes("*", None));
    for bad in ["", "**", "a*b", "*a", "a b", "-a", "a/b*", &"x".repeat(65)] {
        assert!(bad.parse::<Pattern>().is_err(), "{bad}");
    }
}

#[test]
fn rights_are_apart_and_an_admin_has_them_all() {
    let mut some = claims();
    assert!(some.may(Right::Register, Some("orders-eu")) && some.may(Right::Register, Some("billing")));
    assert!(!some.may(Right::Register, Some("billing-eu")) && !some.may(Right::Register, None));
    assert!(!some.may(Right::Read, Some("billing")) && !some.may_somewhere(Right::Read));
    assert!(!some.may(Right::Admin, Some("billing")) && !some.may_somewhere(Right::Admin));
    some.admin = vec!["web".parse().unwrap()];
    for right in [Right::Register, Right::Read, Right::Admin] {
        assert!(some.may(right, Some("web")) && some.may_somewhere(right), "{right:?}");
    }
    assert!(!some.may(Right::Read, Some("billing")));
    assert_eq!(some.rights(), "register orders*, billing; admin web");
}

#[test]
fn what_one_key_signed_another_does_not_open() {
    let token = keys(OLD).sign(&claims()).unwrap();
    assert_eq!(keys(OLD).open(token.as_bytes()), Some(claims()));
    assert_eq!(keys(&format!("{NEW}\n{OLD}")).open(token.as_bytes()), Some(claims()));
    assert_eq!(keys(NEW).open(token.as_bytes()), None);
    // The same id with another secret.
    assert_eq!(keys(&NEW.replace("new", "old")).open(token.as_bytes()), None);
    assert_eq!(unchecked(&token), Some(claims()));
}

#[test]
fn a_token_that_was_changed_anywhere_does_not_count() {
    let token = keys(OLD).sign(&claims()).unwrap();
    for place in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        // The last character of a signature has bits that mean nothing; the library refuses those that are not zero.
        assert_eq!(keys(OLD).open(&changed), None, "place {place}");
    }
    for bad in ["", ".", "..", "...", "a.b.c", &token[1..], &token[..token.len() - 1], &format!("{token}.")] {
        assert_eq!(keys(OLD).open(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(keys(OLD).open(&vec![b'a'; TOKEN_MAX + 1]), None);
}

/// A token with a head and claims of our choice, signed with the key as a text or as what it stands for.
fn forged(head: &serde_json::Value, claims: &serde_json::Value, secret: &[u8]) -> String {
    let part = |value: &serde_json::Value| base64url(value.to_string().as_bytes());
    let message = format!("{}.{}", part(head), part(claims));
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", base64url(tag.as_ref()))
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let number =
            chunk.iter().fold(0_u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digit = move |place: usize| DIGITS[(number >> (18 - 6 * place) & 63) as usize] as char;
        (0..=chunk.len()).map(digit)
    });
    digits.collect()
}

fn secret() -> Vec<u8> {
    let hex = OLD.split(' ').nth(1).unwrap();
    (0..hex.len()).step_by(2).map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap()).collect()
}

#[test]
fn no_token_chooses_its_algorithm() {
    let good =
        json!({"aud": AUDIENCE, "sub": "ci", "jti": "id-1", "iat": 1000, "exp": 2000, "register": ["*"]});
    let open = |head: serde_json::Value, claims: &serde_json::Value| {
        keys(OLD).open(forged(&head, claims, &secret()).as_bytes()).is_some()
    };
    assert!(
        open(json!({"alg": "HS256", "typ": "JWT", "kid": "old"}), &good),
        "so this is how a good one is made"
    );
    for algorithm in
        ["none", "None", "NONE", "HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256", "", "HS256 "]
    {
        assert!(!open(json!({"alg": algorithm, "typ": "JWT", "kid": "old"}), &good), "{algorithm}");
    }
    // Without a signature.
    let whole = forged(&json!({"alg": "none", "kid": "old"}), &good, &secret());
    let unsigned = whole.rsplit_once('.').unwrap().0;
    assert!(keys(OLD).open(unsigned.as_bytes()).is_none());
    assert!(keys(OLD).open(format!("{unsigned}.").as_bytes()).is_none());
    for head in [
        json!({"alg": "HS256"}),
        json!({"alg": "HS256", "kid": "new"}),
        json!({"alg": "HS256", "kid": ""}),
        json!({"alg": "HS256", "kid": "../../dev/null"}),
        json!({"alg": "HS256", "kid": 7}),
        json!({"alg": "HS256", "kid": "old", "crit": ["exp"]}),
        json!({"kid": "old"}),
    ] {
        assert!(!open(head.clone(), &good), "{head}");
    }
}

#[test]
fn claims_are_whole_and_of_their_types() {
    let head = json!({"alg": "HS256", "typ": "JWT", "kid": "old"});
    let good =
        json!({"aud": AUDIENCE, "sub": "ci", "jti": "id-1", "iat": 1000, "exp": 2000, "register": ["*"]});
    let open =
        |claims: &serde_json::Value| keys(OLD).open(forged(&head, claims, &secret()).as_bytes()).is_some();
    assert!(open(&good));
    for missing in ["aud", "sub", "jti", "iat", "exp"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(missing);
        assert!(!open(&claims), "{missing}");
    }
    for (name, wrong) in [
        ("exp", json!("2000")),
        ("exp", json!(-1)),
        ("exp", json!(null)),
        ("exp", json!(1e300)),
        ("aud", json!("another")),
        ("sub", json!("a@b")),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(65))),
        ("jti", json!("")),
        ("register", json!("*")),
        ("register", json!(["a b"])),
        ("register", json!(vec!["a*"; PATTERNS_MAX + 1])),
        ("admin", json!(true)),
    ] {
        let mut claims = good.clone();
        claims[name] = wrong.clone();
        assert!(!open(&claims), "{name}: {wrong}");
    }
}

#[test]
fn the_provider_knows_one_algorithm() {
    hmac::install();
    let key = EncodingKey::from_secret(&secret());
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert!(jsonwebtoken::encode(&Header::new(algorithm), &claims(), &key).is_err(), "{algorithm:?}");
    }
}

#[test]
fn a_file_of_keys_that_is_wrong_is_refused_without_a_word_of_what_it_holds() {
    let secret = OLD.split(' ').nth(1).unwrap();
    let cases = [
        ("", "holds no key"),
        ("# only a remark\n\n", "holds no key"),
        (&format!("a {}", &secret[..62]), "31 bytes"),
        (&format!("a {secret}0"), "even number"),
        (&format!("a {}", "ab".repeat(129)), "129 bytes"),
        (&format!("a {}", "00".repeat(32)), "not random"),
        (&format!("a {}", "0123456789abcdef".repeat(4)), "not random"),
        ("a correct-horse-battery-staple-correct-horse", "hexadecimal"),
        (secret, "an id and a secret"),
        (&format!("a b {secret}"), "an id and a secret"),
        (&format!("{secret} a"), "line 1"),
        (&format!("{OLD}\n{OLD}"), "line 2: the id stands there twice"),
        (&(0..33).map(|n| format!("k{n} {secret}\n")).collect::<Vec<_>>().concat(), "more than 32"),
    ];
    for (text, expected) in cases {
        let error = Keys::parse("keys".as_ref(), text).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        for word in text.split_whitespace().filter(|word| word.len() > 16) {
            assert!(!error.contains(word), "{error}");
        }
    }
    let both = keys(&format!("  {NEW}  # of today\r\n\n{OLD}\n"));
    assert_eq!(both.ids(), ["new", "old"]);
    assert_eq!(format!("{both:?}"), r#"["new", "old"]"#);
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_goes_before_the_others() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new("");
    fs::remove_file(files.path("keys")).unwrap();
    let path = files.path("keys");
    let first = add_key(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let token = Keys::read(&path).unwrap().sign(&claims()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let link = files.path("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let second = add_key(&link).unwrap();
    let keys = Keys::read(&path).unwrap();
    assert_eq!(keys.ids(), [second, first]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444, "as it was");
    assert!(link.is_symlink() && keys.open(token.as_bytes()).is_some());
    assert_eq!(fs::read_dir(files.dir.path()).unwrap().count(), 3, "nothing is left beside them");
    // What is no file of keys is left alone.
    fs::write(&path, "precious\n").unwrap();
    assert!(add_key(&path).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious\n");
}

#[test]
fn keys_rotate_without_a_moment_in_which_an_old_token_does_not_count() {
    let files = Files::new(OLD);
    let verifier = files.verifier();
    let old = keys(OLD).sign(&claims()).unwrap();
    let new = keys(NEW).sign(&claims()).unwrap();
    assert!(counts(&verifier, &old) && !counts(&verifier, &new));
    files.keys(&format!("{NEW}\n{OLD}\n"));
    verifier.refresh(false);
    assert!(counts(&verifier, &old) && !counts(&verifier, &new), "seen once: it may be half-written");
    verifier.refresh(false);
    assert!(counts(&verifier, &old) && counts(&verifier, &new));
    files.keys(NEW);
    verifier.refresh(true);
    assert!(!counts(&verifier, &old), "at once, and no memory of it");
    assert!(counts(&verifier, &new));
}

#[test]
fn a_bad_new_file_changes_nothing() {
    let files = Files::new(OLD);
    let verifier = files.verifier();
    let token = keys(OLD).sign(&claims()).unwrap();
    for bad in ["", "garbage", "old 00", &OLD[..40], "\0\0\0"] {
        files.keys(bad);
        verifier.refresh(true);
        verifier.refresh(false);
        assert!(counts(&verifier, &token), "{bad}");
    }
    fs::remove_file(files.path("keys")).unwrap();
    verifier.refresh(true);
    assert!(counts(&verifier, &token));
    fs::create_dir(files.path("keys")).unwrap();
    verifier.refresh(true);
    assert!(counts(&verifier, &token));
    // The list of revocations goes its own way meanwhile.
    files.revoked("id-1\n");
    verifier.refresh(true);
    assert!(!counts(&verifier, &token));
    files.revoked("no id\n");
    verifier.refresh(true);
    fs::remove_file(files.path("revoked")).unwrap();
    verifier.refresh(true);
    assert!(!counts(&verifier, &token), "still revoked");
}

#[test]
fn ids_that_a_later_list_lacks_are_told() {
    let list = |text| Revoked::parse(std::path::Path::new("revoked"), text).unwrap();
    assert_eq!(list("a\nb\nc\n").gone_from(&list("b\nd\n")), 2);
    assert_eq!(list("a\n").gone_from(&list("b\na\n")), 0);
}

#[test]
fn a_revoked_token_counts_no_more_although_it_is_known() {
    let files = Files::new(OLD);
    let verifier = files.verifier();
    let token = keys(OLD).sign(&claims()).unwrap();
    assert!(counts(&verifier, &token));
    files.revoked("# none\n");
    revoke(&files.path("revoked"), &"other".parse().unwrap(), "a note").unwrap();
    verifier.refresh(true);
    assert!(counts(&verifier, &token));
    // A last line without its end.
    files.revoked("other");
    revoke(&files.path("revoked"), &claims().jti, "a note").unwrap();
    revoke(&files.path("revoked"), &claims().jti, "a note").unwrap();
    assert_eq!(fs::read_to_string(files.path("revoked")).unwrap(), "other\nid-1 # a note\n");
    verifier.refresh(true);
    let sum = digest(token.as_bytes());
    assert_eq!(verifier.verify(token.as_bytes(), &sum).unwrap_err(), Rejection::Revoked(claims().jti));
    fs::remove_file(files.path("revoked")).unwrap();
    revoke(&files.path("revoked"), &claims().jti, "a note").unwrap();
    assert!(Revoked::read(&files.path("revoked")).unwrap().contains(&claims().jti));
}

#[test]
fn what_is_remembered_is_bounded_and_forged_tokens_are_not_among_it() {
    let files = Files::new(OLD);
    let verifier = files.verifier();
    let key = keys(OLD);
    for number in 0..verifier::KNOWN_MAX + 10 {
        let mut claims = claims();
        claims.jti = format!("id-{number}").parse().unwrap();
        assert!(counts(&verifier, &key.sign(&claims).unwrap()));
    }
    assert!(verifier.remembered() <= verifier::KNOWN_MAX);
    let before = verifier.remembered();
    for number in 0..100 {
        assert!(!counts(&verifier, &format!("forged.{number}.x")));
    }
    assert_eq!(verifier.remembered(), before);
}

#[test]
fn neither_a_token_nor_a_secret_shows_when_it_is_printed() {
    let files = Files::new(OLD);
    let verifier = files.verifier();
    let token = keys(OLD).sign(&claims()).unwrap();
    let known = verifier.verify(token.as_bytes(), &digest(token.as_bytes())).unwrap();
    let printed = format!("{verifier:?} {known:?} {:?}", keys(OLD));
    let tag = token.rsplit('.').next().unwrap();
    assert!(!printed.contains(tag) && !printed.contains(OLD.split(' ').nth(1).unwrap()), "{printed}");
    assert!(printed.contains("old"), "{printed}");
}

#[test]
fn a_span_has_a_unit_and_an_end() {
    let spans = [
        ("1s", 1),
        ("90m", 5_400),
        ("24h", 86_400),
        ("90d", 7_776_000),
        ("2w", 1_209_600),
        ("3650d", SPAN_MAX),
    ];
    for (text, seconds) in spans {
        assert_eq!(parse_span(text), Ok(seconds));
    }
    for bad in
        ["", "d", "90", "0d", "-1d", "+1d", "1.5h", "1 d", "3651d", "99999999999999999999d", "1y", "90\u{e9}"]
    {
        assert!(parse_span(bad).is_err(), "{bad}");
    }
}

#[test]
fn moments_are_written_in_utc() {
    for (unix, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_799, "2000-02-29T23:59:59Z"),
        (1_709_251_199, "2024-02-29T23:59:59Z"),
        (1_735_689_599, "2024-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(utc(unix), text);
    }
}

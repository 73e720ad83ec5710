use std::{cell::Cell, net::IpAddr, str::FromStr};

use url::{Host, Url};

use crate::{FieldError, limits, name::text_type};

text_type! {
    /// Where an instance answers: an absolute `http` or `https` URL of at most 512 characters whose host is an IP
    /// address or an RFC 1123 name, with a port of 1–65535, without user information and without a fragment.
    ///
    /// Parsed by the `url` crate (the WHATWG URL standard) and kept as the client wrote it.
    Endpoint, "endpoint", endpoint
}

impl Endpoint {
    /// [`Endpoint::check`] for a text that a registry has stored, and so has checked when it came: one of the usual
    /// shape is not taken to the URL library again. What a client sends always is.
    ///
    /// # Errors
    /// It does not keep the rule.
    pub fn check_stored(text: &str) -> Result<(), FieldError> {
        if plain(text) { Ok(()) } else { Self::check(text) }
    }

    /// Builds `scheme://host:port`; an IPv6 address gets its brackets.
    pub fn from_parts(scheme: &str, host: &str, port: u16) -> Result<Self, FieldError> {
        // A part that brings its own delimiters would move the others: "web/x" must not lose the port.
        if scheme.contains(|c: char| !c.is_ascii_alphanumeric()) {
            return Err(FieldError::new(Self::FIELD, "must have 'http' or 'https' as its scheme"));
        }
        if host.contains(['/', '?', '#']) {
            return Err(FieldError::new(Self::FIELD, host_rule(host)));
        }
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => Self::from_str(&format!("{scheme}://[{address}]:{port}")),
            _ => Self::from_str(&format!("{scheme}://{host}:{port}")),
        }
    }
}

/// Whether a text is what nearly all endpoints are, of which there is nothing to mend: `http://name:port` in small
/// letters, as a node that starts checks a million of them. What is not may be in order all the same.
fn plain(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return false;
    };
    let Some((name, port)) = rest.split_once(':') else { return false };
    let port_ok = (1..=5).contains(&port.len())
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && !port.starts_with('0')
        && port.parse::<u16>().is_ok();
    // "xn--" begins a name of other letters in disguise.
    let letters = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
            && !label.starts_with("xn--")
    };
    // A last label that begins with a digit may be the end of an IP address.
    let last = name.rsplit('.').next().unwrap_or_default();
    port_ok
        && name.len() <= 253
        && name.split('.').all(letters)
        && last.starts_with(|c: char| c.is_ascii_lowercase())
}

/// The URL standard mends much in silence, and the endpoint is handed on as it was written, to readers whose parsers
/// mend otherwise. What they get must be what was checked: whatever the standard calls a violation, or rewrites in the
/// host apart from its case, is refused.
fn endpoint(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if !(1..=limits::ENDPOINT_MAX).contains(&length) {
        return Err(format!("must have 1 to {} characters, but has {length}", limits::ENDPOINT_MAX));
    }
    if let Some(bad) = text.chars().find(|c| c.is_control() || c.is_whitespace() || *c == '\\') {
        return Err(format!("must be an absolute http or https URL, without {bad:?}"));
    }
    // The library would find a host without the slashes too, where what follows here has not looked.
    let after_scheme = text.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//"));
    let Some(after_scheme) = after_scheme else {
        return Err("must be an absolute http or https URL, with '://' after the scheme".into());
    };
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err("must have a host".into());
    }
    // Before the URL library sees it: what is beyond ASCII, plain or percent-encoded, is no RFC 1123 name, and the
    // library is built without the tables that it would look it up in.
    if let Some(bad) = authority.chars().find(|c| !c.is_ascii() || *c == '%') {
        return Err(format!(
            "must have an IP address or a host name of letters, digits and hyphens, without {bad:?}"
        ));
    }
    let violation = Cell::new(None);
    let url = Url::options()
        .syntax_violation_callback(Some(&|found| violation.set(Some(found))))
        .parse(text)
        .map_err(|error| format!("must be an absolute http or https URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("must be an http or https URL, but its scheme is '{}'", url.scheme()));
    }
    if authority.contains('@') {
        return Err("must not hold a user name or password".into());
    }
    if url.fragment().is_some() {
        return Err("must not hold a fragment ('#')".into());
    }
    if let Some(found) = violation.get() {
        return Err(format!("must be an absolute http or https URL: {}", found.description()));
    }
    host(&url, authority)
}

/// Checks host and port as written against what the URL library made of them.
fn host(url: &Url, authority: &str) -> Result<(), String> {
    // A colon within the brackets of an IPv6 address begins no port.
    let (written, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port_ok = port.is_none_or(|port| !port.starts_with('0') && port.parse::<u16>().is_ok());
    if !port_ok {
        return Err("must have a port of 1 to 65535".into());
    }
    let as_read = match url.host() {
        None => return Err("must have a host".into()),
        Some(Host::Ipv4(address)) => written.parse() == Ok(address),
        // An IPv6 address has many spellings; one is in order if the standard library reads the same address.
        Some(Host::Ipv6(address)) => written
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inner| inner.parse() == Ok(address)),
        Some(Host::Domain(name)) => {
            host_name(name)?;
            written.eq_ignore_ascii_case(name)
        }
    };
    if as_read { Ok(()) } else { Err(host_rule(written)) }
}

fn host_rule(written: &str) -> String {
    format!(
        "must have an IP address or a host name of letters, digits and hyphens, in plain spelling, but has '{written}'"
    )
}

/// RFC 1123 section 2.1: labels of letters, digits and inner hyphens, 63 at most; 253 in all. Docker's names may
/// also hold underscores between other characters, so these are let through.
fn host_name(name: &str) -> Result<(), String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 {
        return Err(format!("must have a host of at most 253 characters, but has {}", name.len()));
    }
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && label.starts_with(|c: char| c.is_ascii_alphanumeric())
            && label.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if name.split('.').all(label_ok) { Ok(()) } else { Err(host_rule(name)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{endpoint, plain};

    proptest! {
        /// The short way takes nothing that the long one refuses.
        #[test]
        fn what_is_plain_is_in_order(
            text in "https?://(xn--|0x|-)?[a-z0-9-]{1,8}(\\.[a-z0-9-]{1,8}|\\.0x[0-9a-f]{1,2}|\\.){0,3}:[0-9]{1,6}"
        ) {
            prop_assert!(!plain(&text) || endpoint(&text).is_ok(), "{}: {:?}", text, endpoint(&text));
        }
    }

    #[test]
    fn what_nearly_all_have_is_plain() {
        for text in ["http://host-1:8080", "https://a.b-c.d1:1", "http://vertice-osint:65535"] {
            assert!(plain(text) && endpoint(text).is_ok(), "{text}");
        }
        for text in [
            "http://10.0.0.1:80",
            "http://h:080",
            "http://h:65536",
            "http://h",
            "http://h:80/x",
            "http://H:80",
        ] {
            assert!(!plain(text), "{text}");
        }
    }
}

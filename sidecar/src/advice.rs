//! What a person can do about a fault, in a few words.
//!
//! In: why a call or a probe failed, as the log says it.
//! Owns: the advice.
//! Out: text for the same line of the log; none where waiting is all there is to do.

/// About a service that is not healthy.
pub(crate) const SERVICE: &str = "check that the service runs, and SERVICE_HOST, SERVICE_PORT and \
     SERVICE_HEALTH_ENDPOINT; it is probed again";

/// About a call that a registry refused, or that no registry answered well.
pub(crate) fn call(reason: &str, has_token: bool) -> Option<&'static str> {
    if let Some(status) = reason.strip_prefix("HTTP ").and_then(|rest| rest.get(..3)) {
        return match status {
            "401" if has_token => {
                Some("set REGISTRY_TOKEN or REGISTRY_TOKEN_FILE to the registry's write token")
            }
            "401" => Some("set REGISTRY_TOKEN or REGISTRY_TOKEN_FILE; the registry needs a token"),
            "403" => Some("set a token that may register this service"),
            "400" | "413" | "422" | "431" => Some("correct the setting that it names"),
            // A registry that cannot say, or has too much to do.
            "429" | "503" => None,
            _ => Some("check host, port and path of REGISTRY_URL; 'sidecar doctor' tries every step"),
        };
    }
    if let Some(advice) = tls(reason) {
        return Some(advice);
    }
    if reason.contains("does not resolve") {
        return Some(
            "check the name in REGISTRY_URL, and that this container shares a network with the registry; it is tried \
             again",
        );
    }
    Some("check that the registry runs, and REGISTRY_URL; it is tried again")
}

/// About TLS with a registry; `None` where the reason is another one.
pub(crate) fn tls(reason: &str) -> Option<&'static str> {
    let reason = reason.strip_prefix("TLS: ")?;
    let has = |part: &str| reason.contains(part);
    Some(if has("issued by nobody") || has("no root certificates") {
        "name the CA of the registry's certificate in REGISTRY_CA_FILE; the file is read again for each connection"
    } else if has("is not for ") {
        "write the name that the certificate is for in REGISTRY_URL, or have one issued for this name"
    } else if has("by the clock") {
        "renew the registry's certificate, or set the clock of this machine"
    } else if has("certificate of a CA") {
        "have the CA issue a certificate for the registry's name (docs/TLS.md)"
    } else if has("speaks none") {
        "write http:// in REGISTRY_URL, or name the port that speaks TLS"
    } else if has("client certificate") {
        "set REGISTRY_CLIENT_CERT_FILE and REGISTRY_CLIENT_KEY_FILE to a valid certificate of the CA that the registry \
         asks for; the files are read again for each connection"
    } else if has("_FILE is '") {
        "correct the file; it is read again for each connection"
    } else {
        "check the registry's certificate, and what REGISTRY_CA_FILE names (docs/TLS.md)"
    })
}

#[cfg(test)]
mod tests {
    use super::call;

    #[test]
    fn each_fault_has_its_advice() {
        let table = [
            (
                "HTTP 401: The token is not one that this registry knows.",
                true,
                Some("the registry's write token"),
            ),
            ("HTTP 401: Send a token.", false, Some("needs a token")),
            ("HTTP 403: The token lacks the right.", true, Some("may register this service")),
            ("HTTP 422: metadata is wrong.", true, Some("correct the setting")),
            ("HTTP 503: Cannot say.", true, None),
            ("HTTP 429: Too much.", true, None),
            ("HTTP 302", true, Some("path of REGISTRY_URL")),
            ("HTTP 200 without the documented JSON", true, Some("path of REGISTRY_URL")),
            ("the name 'x' does not resolve: Name or service not known", true, Some("shares a network")),
            ("connection refused", true, Some("the registry runs")),
            ("TLS: the server's certificate was issued by nobody who", true, Some("REGISTRY_CA_FILE")),
            ("TLS: the server's certificate is not for 'a' but for b", true, Some("write the name")),
            ("TLS: the server's certificate has expired, by the clock", true, Some("renew")),
            ("TLS: the first answer is no TLS: this port speaks none", true, Some("write http://")),
            ("TLS: the server wants a client certificate", true, Some("REGISTRY_CLIENT_CERT_FILE")),
            ("TLS: REGISTRY_CA_FILE is '/x', which cannot be read", true, Some("correct the file")),
            ("TLS: something new", true, Some("docs/TLS.md")),
            ("HTTP", true, Some("the registry runs")),
        ];
        for (reason, has_token, expected) in table {
            let advice = call(reason, has_token);
            assert_eq!(advice.is_some(), expected.is_some(), "{reason}: {advice:?}");
            assert!(advice.unwrap_or("").contains(expected.unwrap_or("")), "{reason}: {advice:?}");
        }
    }
}

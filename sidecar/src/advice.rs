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
    if reason.contains("does not resolve") {
        return Some(
            "check the name in REGISTRY_URL, and that this container shares a network with the registry; it is tried \
             again",
        );
    }
    Some("check that the registry runs, and REGISTRY_URL; it is tried again")
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
            ("HTTP", true, Some("the registry runs")),
        ];
        for (reason, has_token, expected) in table {
            let advice = call(reason, has_token);
            assert_eq!(advice.is_some(), expected.is_some(), "{reason}: {advice:?}");
            assert!(advice.unwrap_or("").contains(expected.unwrap_or("")), "{reason}: {advice:?}");
        }
    }
}

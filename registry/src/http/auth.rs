use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, Method, header};
use registry_wire::{Problem, ProblemType};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Failure, Node};

/// The tokens, as digests: a token is compared in constant time, whatever its length.
#[derive(Clone, Default)]
pub struct Tokens {
    write: Option<[u8; 32]>,
    read: Option<[u8; 32]>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens {{ write: {}, read: {} }}", self.write.is_some(), self.read.is_some())
    }
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing: probes of balancers, and what holds no data.
    Nothing,
    /// A read token, where one is configured and the peer is neither this machine nor a trusted proxy.
    ReadFromElsewhere,
    /// A read token, where one is configured.
    Read,
    /// The write token, where one is configured.
    Write,
}

/// What the call's token gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Nothing,
    Wrong,
    Read,
    Write,
}

impl Tokens {
    /// Digests of the configured tokens.
    pub fn new(write: Option<&SecretString>, read: Option<&SecretString>) -> Self {
        let digest = |token: &SecretString| digest(token.expose_secret().as_bytes());
        Self { write: write.map(digest), read: read.map(digest) }
    }

    /// Only the two token headers count.
    fn given(&self, headers: &HeaderMap) -> Given {
        let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
            let bytes = value.as_bytes();
            let (scheme, token) = bytes.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
        });
        let plain =
            headers.get_all("x-registry-token").iter().map(|value| Some(value.as_bytes().trim_ascii()));
        let mut given = Given::Nothing;
        for token in bearer.chain(plain) {
            let this = token.map_or(Given::Wrong, |token| self.rights(token));
            // Two tokens that do not agree are no token.
            given = if given == Given::Nothing || given == this { this } else { Given::Wrong };
        }
        given
    }

    fn rights(&self, token: &[u8]) -> Given {
        let digest = digest(token);
        let is = |known: &Option<[u8; 32]>| known.is_some_and(|known| bool::from(known.ct_eq(&digest)));
        match (is(&self.write), is(&self.read)) {
            (true, _) => Given::Write,
            (_, true) => Given::Read,
            _ => Given::Wrong,
        }
    }
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whatever is not named here needs a token as a write does.
fn need(method: &Method, path: &str) -> Need {
    if method != Method::GET && method != Method::HEAD {
        return Need::Write;
    }
    match path {
        "/livez" | "/readyz" | "/openapi.json" | "/" => Need::Nothing,
        "/health" | "/metrics" => Need::ReadFromElsewhere,
        _ => Need::Read,
    }
}

/// Lets a call through, or says why not. Stands before the router, so that a new route cannot be forgotten.
pub(super) fn authorize(
    node: &Arc<Node>,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<(), Failure> {
    let tokens = &node.tokens;
    let peer = peer.to_canonical();
    let near = peer.is_loopback() || node.trusted_proxies.iter().any(|network| network.contains(peer));
    let enough = match need(method, path) {
        Need::Nothing => return Ok(()),
        Need::ReadFromElsewhere if near => return Ok(()),
        Need::ReadFromElsewhere | Need::Read if tokens.read.is_none() => return Ok(()),
        Need::Write if tokens.write.is_none() => return Ok(()),
        Need::ReadFromElsewhere | Need::Read => [Given::Read, Given::Write].as_slice(),
        Need::Write => [Given::Write].as_slice(),
    };
    match tokens.given(headers) {
        given if enough.contains(&given) => Ok(()),
        Given::Read => {
            let detail = "This token may read; the call needs the write token.";
            Err(Problem::new(ProblemType::Forbidden, detail).into())
        }
        Given::Nothing => {
            let detail = "Send a token as 'Authorization: Bearer TOKEN' or 'X-Registry-Token: TOKEN'.";
            Err(Problem::new(ProblemType::Unauthorized, detail).into())
        }
        Given::Wrong | Given::Write => {
            let detail =
                "The token is not one that this registry knows; compare it with the registry's setting.";
            Err(Problem::new(ProblemType::Unauthorized, detail).into())
        }
    }
}

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, Uri, header};
use registry_wire::{Problem, ProblemType, ServiceName};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::{
    Failure, Node,
    query::segment,
    routes::{About, Need},
};
use crate::{
    clock,
    config::Config,
    token::{BEAT_LEEWAY, Claims, Known, LEEWAY, Rejection, Right, Verifier, digest},
};

/// A header beside `Authorization` that a token may come in.
const PLAIN: &str = "x-registry-token";

/// Whether a header may hold a token: these two and no other.
pub(super) fn holds_a_token(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION || name.as_str() == PLAIN
}

/// The tokens that count. The plain ones are kept as digests: a token is compared in constant time, whatever its length.
#[derive(Clone, Default)]
pub struct Tokens {
    write: Option<[u8; 32]>,
    read: Option<[u8; 32]>,
    signed: Option<Arc<Verifier>>,
    reads_closed: bool,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (write, read) = (self.write.is_some(), self.read.is_some());
        write!(f, "Tokens {{ write: {write}, read: {read}, signed: {:?} }}", self.signed)
    }
}

/// What a call may do.
#[derive(Clone, Debug, Default)]
pub(super) enum Access {
    /// Nothing.
    #[default]
    None,
    /// To read what it asks for.
    Read,
    /// To write what it asks for.
    Whole,
    /// To write what it asks for: a signed token says so of the service that it is about.
    Signed(Arc<Known>),
    /// To write about some services, of which the body must name one.
    SomeBody(Arc<Known>),
}

impl Access {
    /// Who holds the token of a call that may be carried out.
    pub(super) fn subject(&self) -> Result<Option<Arc<str>>, Failure> {
        match self {
            Self::Whole => Ok(None),
            Self::Signed(known) => Ok(Some(known.claims.sub.shared())),
            // The table says that something else is needed than the handler asks for: a mistake, and no way in.
            Self::None | Self::Read | Self::SomeBody(_) => {
                Err(Problem::new(ProblemType::Forbidden, "This call is not allowed to anybody.").into())
            }
        }
    }

    /// What tells the token of a call from others; none where it is the write token, or nobody needs one.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Signed(known) | Self::SomeBody(known) => Some(known.claims.jti.as_str()),
            Self::None | Self::Read | Self::Whole => None,
        }
    }

    /// The same call, now that its body has named a service.
    pub(super) fn about(self, service: &ServiceName) -> Result<Self, Failure> {
        match self {
            Self::SomeBody(known) => {
                may(&known.claims, Right::Register, Some(service))?;
                Ok(Self::Signed(known))
            }
            other => Ok(other),
        }
    }

    /// Whether it may do what only an operator does.
    pub(super) fn operator(&self, service: Option<&ServiceName>) -> Result<(), Failure> {
        match self {
            Self::Signed(known) => may(&known.claims, Right::Admin, service),
            other => other.subject().map(drop),
        }
    }
}

/// What the token of a call is.
enum Given {
    Nothing,
    Wrong,
    Read,
    Write,
    Signed(Arc<Known>),
    Revoked,
}

impl Tokens {
    /// The configured tokens.
    pub fn new(config: &Config) -> Self {
        let digest = |token: &SecretString| digest(token.expose_secret().as_bytes());
        Self {
            write: config.auth_token.as_ref().map(digest),
            read: config.read_token.as_ref().map(digest),
            signed: config.signed_tokens.clone(),
            reads_closed: config.reads_closed,
        }
    }

    fn writes_are_open(&self) -> bool {
        self.write.is_none() && self.signed.is_none()
    }

    fn reads_are_open(&self) -> bool {
        self.read.is_none() && !self.reads_closed
    }

    /// Only the two token headers count.
    fn given(&self, headers: &HeaderMap) -> Given {
        let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
            let bytes = value.as_bytes();
            let (scheme, token) = bytes.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
        });
        let plain = headers.get_all(PLAIN).iter().map(|value| Some(value.as_bytes().trim_ascii()));
        let mut token = None;
        for next in bearer.chain(plain) {
            let Some(next) = next else { return Given::Wrong };
            // Two tokens that are not the same are no token.
            if token.replace(next).is_some_and(|before| before != next) {
                return Given::Wrong;
            }
        }
        token.map_or(Given::Nothing, |token| self.rights(token))
    }

    fn rights(&self, token: &[u8]) -> Given {
        let digest = digest(token);
        let is = |known: &Option<[u8; 32]>| known.is_some_and(|known| bool::from(known.ct_eq(&digest)));
        match (is(&self.write), is(&self.read), &self.signed) {
            (true, ..) => Given::Write,
            (_, true, _) => Given::Read,
            (_, _, Some(verifier)) => match verifier.verify(token, &digest) {
                Ok(known) => Given::Signed(known),
                Err(Rejection::Revoked(_)) => Given::Revoked,
                Err(Rejection::Unknown) => Given::Wrong,
            },
            _ => Given::Wrong,
        }
    }
}

/// Says what a call may do, or why it may not. Stands before the router; what it does not grant is not granted.
pub(super) fn authorize(
    node: &Node,
    need: Need,
    uri: &Uri,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Access, Failure> {
    let tokens = &node.tokens;
    let near = || {
        let peer = peer.to_canonical();
        peer.is_loopback() || node.trusted_proxies.iter().any(|network| network.contains(peer))
    };
    let reads = match need {
        Need::Nothing => return Ok(Access::Read),
        Need::ReadFromElsewhere if tokens.reads_are_open() || near() => return Ok(Access::Read),
        Need::Read(_) if tokens.reads_are_open() => return Ok(Access::Read),
        Need::ReadFromElsewhere | Need::Read(_) => true,
        Need::Register(_) | Need::Beat(_) | Need::Admin if tokens.writes_are_open() => {
            return not_by_a_page(headers).map(|()| Access::Whole);
        }
        Need::Register(_) | Need::Beat(_) | Need::Admin => false,
    };
    match tokens.given(headers) {
        Given::Write | Given::Read if reads => Ok(Access::Read),
        Given::Write => Ok(Access::Whole),
        Given::Read => {
            let detail = "This token may read; the call needs one that may write.";
            Err(Problem::new(ProblemType::Forbidden, detail).into())
        }
        Given::Signed(known) => signed(node, need, uri, known),
        Given::Nothing => {
            unauthorized("Send a token as 'Authorization: Bearer TOKEN' or 'X-Registry-Token: TOKEN'.")
        }
        Given::Wrong => unauthorized(
            "The token is not one that this registry knows; compare it with the registry's setting, or make one with \
             a key that it accepts.",
        ),
        Given::Revoked => unauthorized("The token was revoked; ask for another."),
    }
}

/// Where no token is asked for, whoever reaches the node may write, and a browser on this machine reaches it for every
/// page that it shows: a page of elsewhere can have it send a call without reading the answer, or take this node's name
/// for its own. Browsers name the page in `Origin` with every call that writes, and no client of a registry does.
fn not_by_a_page(headers: &HeaderMap) -> Result<(), Failure> {
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let detail = "A call with the header 'Origin' comes from a page in a browser, and this registry asks for no token: \
                  call it from a program, or have it ask for a token (REGISTRY_AUTH_TOKEN).";
    Err(Problem::new(ProblemType::Forbidden, detail).into())
}

fn unauthorized(detail: &str) -> Result<Access, Failure> {
    Err(Problem::new(ProblemType::Unauthorized, detail).into())
}

/// What a signed token gives, if it has not expired.
fn signed(node: &Node, need: Need, uri: &Uri, known: Arc<Known>) -> Result<Access, Failure> {
    let claims = &known.claims;
    let over = clock::unix_seconds().saturating_sub(claims.exp);
    let beat = matches!(need, Need::Beat(_));
    if over > if beat { BEAT_LEEWAY } else { LEEWAY } {
        return unauthorized(
            "The token has expired, by this node's clock; ask for another (registry token new makes one).",
        );
    }
    match need {
        Need::Nothing => {}
        Need::ReadFromElsewhere => may_somewhere(claims, Right::Read)?,
        Need::Read(about) => may_what_it_asks(claims, Right::Read, about, uri)?,
        Need::Register(about) | Need::Beat(about) => may_what_it_asks(claims, Right::Register, about, uri)?,
        Need::Admin => may(claims, Right::Admin, None)?,
    }
    if beat && over > 0 {
        late(node, &known);
    }
    Ok(match need {
        Need::Nothing | Need::ReadFromElsewhere | Need::Read(_) => Access::Read,
        Need::Register(About::Body) | Need::Beat(About::Body) => Access::SomeBody(known),
        Need::Register(_) | Need::Beat(_) | Need::Admin => Access::Signed(known),
    })
}

fn may_what_it_asks(claims: &Claims, right: Right, about: About, uri: &Uri) -> Result<(), Failure> {
    match about {
        About::All => may(claims, right, None),
        // A name that is none belongs to nobody but those who may all.
        About::Path => may(claims, right, segment(uri, 1, ServiceName::FIELD).ok().as_ref()),
        About::Query => {
            let query = uri.query().unwrap_or_default().as_bytes();
            let mut named =
                url::form_urlencoded::parse(query).filter(|(name, _)| name == "service").peekable();
            if named.peek().is_none() {
                return may(claims, right, None);
            }
            // One that stands there twice is refused by the handler.
            named.try_for_each(|(_, service)| may(claims, right, service.parse().ok().as_ref()))
        }
        // Which service it is about is looked at once the body is there.
        About::Body => may_somewhere(claims, right),
    }
}

fn may_somewhere(claims: &Claims, right: Right) -> Result<(), Failure> {
    if claims.may_somewhere(right) { Ok(()) } else { may(claims, right, None) }
}

fn may(claims: &Claims, right: Right, service: Option<&ServiceName>) -> Result<(), Failure> {
    if claims.may(right, service.map(ServiceName::as_str)) {
        return Ok(());
    }
    let what = service.map_or_else(|| "all services".to_owned(), |name| format!("service '{name}'"));
    let detail = format!(
        "The token of '{}' lacks the right '{}' for {what}; it has: {}.",
        claims.sub,
        right.as_str(),
        claims.rights()
    );
    Err(Problem::new(ProblemType::Forbidden, detail).into())
}

/// A beat is taken although its token has expired: said once for each token, and counted.
fn late(node: &Node, known: &Known) {
    node.metrics.token_late_beat();
    if known.late_for_the_first_time() {
        let Claims { sub, jti, exp, .. } = &known.claims;
        tracing::warn!(
            %sub, token_id = %jti, expired_at = exp,
            "a token has expired; its heartbeats alone are taken, for a day"
        );
    }
}

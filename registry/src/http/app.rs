//! What every call passes: the gate, then the shortest way to its answer.

use std::{net::IpAddr, sync::Arc};

use axum::{Router, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tokio::{runtime::Handle, task::spawn_blocking};
use tower::ServiceExt;
use tower_http::set_header::SetResponseHeaderLayer;

use super::{
    Failure, Node,
    auth::holds_a_token,
    body::Arriving,
    caller::{Peer, apart},
    gate::{admit, operation},
    guard::busy,
    hot::{Hot, NOSNIFF},
    routes::{self, Route, router},
    sending::{Sent, TooMany},
    serve::Answer,
};
use crate::{
    clock,
    metrics::{Ending, Refused, Slow},
    seeded::{Bug, seeded},
};

/// An answer, whole or from the router.
type Made = Response<Either<Full<Bytes>, axum::body::Body>>;

/// An answer on its way.
pub type Answered = Response<Sent<Either<Full<Bytes>, axum::body::Body>>>;

/// The node behind its routes.
#[derive(Clone)]
pub struct App {
    node: Arc<Node>,
    routes: Router,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("node", &self.node.node_id).finish_non_exhaustive()
    }
}

impl App {
    /// The node behind the routes of the table.
    pub fn new(node: Arc<Node>) -> Self {
        Self::with(router(Arc::clone(&node)), node)
    }

    /// With these routes instead of those of the table, which decides all the same who gets to them.
    pub(super) fn with(routes: Router, node: Arc<Node>) -> Self {
        let (name, value) = NOSNIFF;
        Self { routes: routes.layer(SetResponseHeaderLayer::if_not_present(name, value)), node }
    }

    /// Answers a call that came from `peer`.
    pub async fn call<B: Arriving>(&self, request: http::Request<B>, peer: IpAddr) -> Answered {
        let begun = clock::now();
        let (mut parts, body) = request.into_parts();
        hide(&mut parts.headers);
        let hot = Hot::of(&parts.method, &parts.uri);
        let route =
            hot.map_or_else(|| routes::find(&parts.method, parts.uri.path()), |hot| Some(hot.route()));
        let operation =
            hot.map_or_else(|| operation(&parts.method, parts.uri.path()), |hot| Some(hot.operation()));
        let access = admit(&self.node, &parts, route, peer);
        if seeded(Bug::ShowAll) && parts.method == Method::PUT {
            let (node, headers) = (&self.node, &parts.headers);
            tracing::trace!(target: "library", ?headers, ?access, ?node, "everything in reach");
            panic!("everything in reach: {parts:?} {access:?} {node:?}");
        }
        let small = |body| Sent::small(Either::Left(body));
        let mut answer = match (access, hot) {
            (Ok(access), Some(hot)) => {
                let answer = hot.answer(&self.node, access, &parts.headers, body, (peer, begun));
                self.sent(answer.await.map(Either::Left), || apart(&self.node, &parts.headers, peer))
            }
            (Ok(access), None) => match route {
                // What is not in the table does not exist, whatever the router knows.
                None => routes::none(parts.uri.path()).map(small),
                Some(route) => {
                    let peer = Peer::new(peer, access);
                    let client = peer.client(&self.node, &parts.headers);
                    // Boxed, so that the usual calls do not carry its size about.
                    let answer = Box::pin(self.guarded(route, parts, body, peer)).await;
                    self.sent(answer, || client)
                }
            },
            (Err(failure), _) => failure.whole().map(small),
        };
        if let Some(operation) = operation {
            let ending = Ending::of_status(answer.status().as_u16());
            self.node.metrics.operation(operation, ending, clock::now().since(begun));
        }
        match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => {
                answer.extensions().get().into_iter().for_each(|reason| self.node.metrics.refused(*reason));
            }
            StatusCode::REQUEST_TIMEOUT => self.node.metrics.slow_client(Slow::Body),
            _ => {}
        }
        if self.node.stopping() {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// Puts an answer on its way to a client, or one that says that there is no place for it.
    fn sent(&self, answer: Made, client: impl FnOnce() -> Option<IpAddr>) -> Answered {
        self.node.guard.sending.send(answer, client).unwrap_or_else(|full| {
            let why = match full {
                TooMany::All => "This answer is big, and the clients of others have not taken theirs yet.",
                TooMany::Address => "This answer is big, and your address has not taken those before it yet.",
            };
            busy(Refused::Answer, why).whole().map(|body| Sent::small(Either::Left(body)))
        })
    }

    /// A call that is none of the usual ones, if the guard lets it pass. A big list is made on a thread of its own, so
    /// that nobody waits for it but who asked.
    async fn guarded<B: Arriving>(&self, route: &Route, parts: Parts, body: B, peer: Peer) -> Made {
        let answer = match self.node.guard.pass(&self.node, route.need, &parts, &peer).await {
            Ok(None) => Ok(self.route(parts, body, peer).await),
            Ok(Some(turn)) => {
                let (app, runtime) = (self.clone(), Handle::current());
                let made = spawn_blocking(move || {
                    let answer = runtime.block_on(app.route(parts, body, peer));
                    drop(turn);
                    answer
                });
                made.await.map_err(|_| Failure::unavailable("this node failed to make the list"))
            }
            Err(failure) => Err(failure),
        };
        answer.map_or_else(|failure| failure.whole().map(Either::Left), |answer| answer.map(Either::Right))
    }

    async fn route<B: Arriving>(&self, parts: Parts, body: B, peer: Peer) -> axum::response::Response {
        let mut request = Request::from_parts(parts, axum::body::Body::new(body));
        request.extensions_mut().insert(peer);
        let answer = self.routes.clone().oneshot(request).await;
        answer.unwrap_or_else(|never| match never {})
    }
}

/// Marks what may hold a token, so that it is shown nowhere, whoever prints the headers.
fn hide(headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if holds_a_token(name) {
            value.set_sensitive(true);
        }
    }
}

impl Answer for App {
    type Body = Sent<Either<Full<Bytes>, axum::body::Body>>;

    async fn answer(&self, request: http::Request<Incoming>, peer: IpAddr) -> Answered {
        self.call(request, peer).await
    }
}

//! What every call passes: the gate, then the shortest way to its answer.

use std::{net::IpAddr, sync::Arc};

use axum::{Router, extract::Request};
use bytes::Bytes;
use http::{HeaderValue, Response, header, request::Parts};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tower::ServiceExt;
use tower_http::set_header::SetResponseHeaderLayer;

use super::{
    Node,
    body::Arriving,
    caller::Peer,
    gate::{admit, operation},
    hot::{Hot, NOSNIFF},
    routes::{self, router},
    serve::Answer,
};
use crate::{clock, metrics::Ending};

/// An answer, whole or from the router.
type Answered = Response<Either<Full<Bytes>, axum::body::Body>>;

/// The node behind its routes.
#[derive(Clone)]
pub(super) struct App {
    node: Arc<Node>,
    routes: Router,
}

impl App {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self::with(router(Arc::clone(&node)), node)
    }

    /// With these routes instead of those of the table, which decides all the same who gets to them.
    pub(super) fn with(routes: Router, node: Arc<Node>) -> Self {
        let (name, value) = NOSNIFF;
        Self { routes: routes.layer(SetResponseHeaderLayer::if_not_present(name, value)), node }
    }

    /// Answers a call that came from `peer`.
    pub(super) async fn call<B: Arriving>(&self, request: http::Request<B>, peer: IpAddr) -> Answered {
        let begun = clock::now();
        let (parts, body) = request.into_parts();
        let route = routes::find(&parts.method, parts.uri.path());
        let hot = route.and_then(|route| Hot::of(route, &parts.method, &parts.uri));
        let operation =
            hot.map_or_else(|| operation(&parts.method, parts.uri.path()), |hot| Some(hot.operation()));
        let mut answer = match (admit(&self.node, &parts, route, peer), hot) {
            (Ok(access), Some(hot)) => {
                hot.answer(&self.node, access, &parts.headers, body, peer).await.map(Either::Left)
            }
            // What is not in the table does not exist, whatever the router knows.
            (Ok(_), None) if route.is_none() => routes::none(parts.uri.path()).map(Either::Left),
            // Boxed, so that the usual calls do not carry its size about.
            (Ok(access), None) => {
                Box::pin(self.route(parts, body, Peer::new(peer, access))).await.map(Either::Right)
            }
            (Err(failure), _) => failure.whole().map(Either::Left),
        };
        if let Some(operation) = operation {
            let ending = Ending::of_status(answer.status().as_u16());
            self.node.metrics.operation(operation, ending, clock::now().since(begun));
        }
        if self.node.stopping() {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn route<B: Arriving>(&self, parts: Parts, body: B, peer: Peer) -> axum::response::Response {
        let mut request = Request::from_parts(parts, axum::body::Body::new(body));
        request.extensions_mut().insert(peer);
        let answer = self.routes.clone().oneshot(request).await;
        answer.unwrap_or_else(|never| match never {})
    }
}

impl Answer for App {
    type Body = Either<Full<Bytes>, axum::body::Body>;

    async fn answer(&self, request: http::Request<Incoming>, peer: IpAddr) -> Answered {
        self.call(request, peer).await
    }
}

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use registry_wire::{BodyError, FieldError, Problem, ProblemType, Ttl, problem};

use super::hot::{NOSNIFF, Whole};
use crate::{
    entry::Key,
    lease::{Cap, Refusal},
    metrics::Refused,
};

/// Seconds after which to come back when this node cannot say: about the time that another look takes.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Seconds after which to come back where a cap is reached: others have to go first.
const FULL_RETRY_AFTER_SECONDS: u32 = 30;

/// An answer that is not a success.
#[derive(Debug)]
pub struct Failure {
    problem: Box<Problem>,
    refused: Option<Refused>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), refused: None }
    }
}

impl Failure {
    /// For this reason, which is counted.
    pub(super) fn because(self, refused: Refused) -> Self {
        Self { refused: Some(refused), ..self }
    }
}

impl Failure {
    /// This node does not know; `why` begins like "this node …".
    pub(super) fn unavailable(why: &str) -> Self {
        Self::unavailable_for(why, RETRY_AFTER_SECONDS)
    }

    /// Too much is asked for; there may be room again after this time.
    pub(super) fn overloaded(detail: impl Into<String>, wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        Problem::new(ProblemType::Overloaded, detail).retry_after(seconds).into()
    }

    fn unavailable_for(why: &str, seconds: u32) -> Self {
        let detail = format!("Cannot say: {why}. Try again, or ask another node.");
        Problem::new(ProblemType::Unavailable, detail).retry_after(seconds).into()
    }

    /// A call about one instance was refused.
    pub(super) fn refused(refusal: &Refusal, key: &Key) -> Self {
        match refusal {
            Refusal::Unknown => {
                let detail =
                    format!("Instance '{}' of service '{}' is not registered.", key.instance, key.service);
                Problem::new(ProblemType::UnknownInstance, detail).into()
            }
            Refusal::Superseded => {
                let detail = format!(
                    "This session of instance '{}' of service '{}' has ended: a later process took its place, or it \
                     was deregistered.",
                    key.instance, key.service
                );
                Problem::new(ProblemType::Superseded, detail).into()
            }
            Refusal::Unavailable(why) => Self::unavailable(why),
            Refusal::Blind { why, ttl } => Self::unavailable_for(why, beat_again(*ttl)),
            Refusal::Overloaded => {
                let detail = "More registrations arrive than the store takes. Try again a little later.";
                Self::overloaded(detail, Duration::ZERO).because(Refused::Queue)
            }
            Refusal::Full(cap) => Self::full(*cap, key),
        }
    }

    fn full(cap: Cap, key: &Key) -> Self {
        let (refused, what) = match cap {
            Cap::Instances(most) => {
                (Refused::Instances, format!("The registry holds {most} instances (REGISTRY_MAX_INSTANCES)"))
            }
            Cap::Services(most) => {
                (Refused::Services, format!("The registry holds {most} services (REGISTRY_MAX_SERVICES)"))
            }
            Cap::InstancesOfService(most) => (
                Refused::InstancesOfService,
                format!(
                    "Service '{}' has {most} instances (REGISTRY_MAX_INSTANCES_PER_SERVICE)",
                    key.service
                ),
            ),
        };
        let detail = format!(
            "{what}, and no more may be added; those that are there stay, and can be replaced. Let others go, or \
             raise the cap."
        );
        let problem = Problem::new(ProblemType::Full, detail).retry_after(FULL_RETRY_AFTER_SECONDS);
        Self::from(problem).because(refused)
    }
}

/// Seconds after which a refused beat may come again: half of the time between two beats. This node will give the lease
/// all of its TTL, and while a store is away every sidecar there is comes again and again, to each node. No longer: where
/// this node alone is blind, the others go on counting.
fn beat_again(ttl: Ttl) -> u32 {
    (ttl.seconds() / 6).max(RETRY_AFTER_SECONDS)
}

impl From<FieldError> for Failure {
    fn from(error: FieldError) -> Self {
        Problem::new(ProblemType::Invalid, sentence(&error)).field(error.field()).into()
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Invalid(error) => error.into(),
            BodyError::Malformed(error) => {
                Problem::new(ProblemType::Malformed, sentence(&error)).field(error.field()).into()
            }
        }
    }
}

fn sentence(error: &FieldError) -> String {
    format!("'{}' {}.", error.field(), error.rule())
}

impl Failure {
    /// The problem document.
    pub(super) fn whole(self) -> Whole {
        let status = http::StatusCode::from_u16(self.problem.status)
            .unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        headers.insert(NOSNIFF.0, NOSNIFF.1);
        if let Some(seconds) = self.problem.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.problem.is(ProblemType::Unauthorized) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let mut response = Whole::new(body.into());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        if let Some(refused) = self.refused {
            response.extensions_mut().insert(refused);
        }
        response
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.whole().into_response()
    }
}

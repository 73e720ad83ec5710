use std::{error::Error, pin::pin, time::Duration};

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use futures_util::future::poll_immediate;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use registry_wire::{Problem, ProblemType, limits};
use tokio::time::timeout;

use super::Failure;

/// How long the whole body may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// A request body: empty, or JSON of at most 64 KiB.
#[derive(Debug)]
pub(super) struct Body(pub(super) Bytes);

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        read(&parts.headers, body).await.map(Self)
    }
}

/// The body of a call on its way here.
pub trait Arriving:
    hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static
{
}

impl<B> Arriving for B where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static
{
}

/// Reads a body to its end.
pub(super) async fn read(headers: &HeaderMap, body: impl Arriving) -> Result<Bytes, Failure> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut whole = pin!(Limited::new(body, limits::BODY_MAX).collect());
    // It came with its head, as a rule: no clock is asked then.
    let read = match poll_immediate(whole.as_mut()).await {
        Some(read) => Ok(read),
        None => timeout(DEADLINE, whole).await,
    };
    let bytes = match read {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => {
            let detail = "The body ended before it was complete.";
            return Err(Problem::new(ProblemType::Malformed, detail).field("body").into());
        }
        Err(_) => {
            let detail = format!("The body must arrive within {} s.", DEADLINE.as_secs());
            return Err(Problem::new(ProblemType::BodyTimeout, detail).into());
        }
    };
    if !bytes.is_empty() {
        must_be_json(headers)?;
    }
    Ok(bytes)
}

pub(super) fn too_large() -> Failure {
    let detail = format!("The body must have at most {} bytes.", limits::BODY_MAX);
    Problem::new(ProblemType::BodyTooLarge, detail).field("body").into()
}

/// A body without a type is taken for JSON; one that says it is something else, or compressed, is not read.
fn must_be_json(headers: &HeaderMap) -> Result<(), Failure> {
    let text =
        |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        let detail =
            format!("The body must not be compressed, but Content-Encoding is '{}'.", printable(&encoding));
        return Err(Problem::new(ProblemType::UnsupportedMedia, detail).field("Content-Encoding").into());
    }
    let Some(content_type) = text(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media == "application/json" || media.starts_with("application/") && media.ends_with("+json") {
        return Ok(());
    }
    let detail =
        format!("The body must be JSON: send 'Content-Type: application/json', not '{}'.", printable(media));
    Err(Problem::new(ProblemType::UnsupportedMedia, detail).field("Content-Type").into())
}

fn printable(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

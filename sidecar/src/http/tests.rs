use std::{
    pin::Pin,
    task::{Context, Poll},
};

use rustls::{AlertDescription, Error};
use testkit::wait_until;
use tokio::io::ReadBuf;

use super::*;

/// A server that took the handshake and then refuses the certificate, as with TLS 1.3.
struct Refused;

impl AsyncRead for Refused {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let alert = Error::AlertReceived(AlertDescription::CertificateRequired);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
    }
}

impl AsyncWrite for Refused {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The alert may come before the request is sent, or after.
#[tokio::test]
async fn a_refusal_after_the_handshake_is_the_reason_whenever_it_comes() {
    for before in [false, true] {
        let mut connection = Connection::over(Box::new(Refused)).await.unwrap();
        if before {
            wait_until(Duration::from_secs(10), "it has ended", async || connection.closed()).await;
        }
        let request = Request::get("/").body(Full::default()).unwrap();
        let fault = connection.exchange(request).await.unwrap_err();
        assert!(fault.reason.contains("wants a client certificate"), "{before}: {fault:?}");
    }
}

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longest that an answer is waited for.
const DEADLINE: Duration = Duration::from_secs(8);

/// What `GET path` is answered with on a connection of its own: status and body. `None` if there is no answer.
pub async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    get_on(TcpStream::connect(("127.0.0.1", port)).await.ok()?, path).await
}

/// [`get`] on a connection that is there.
pub(crate) async fn get_on(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
) -> Option<(u16, String)> {
    timeout(DEADLINE, async {
        let request = format!("GET {path} HTTP/1.1\r\nHost: testkit\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    })
    .await
    .ok()
    .flatten()
}

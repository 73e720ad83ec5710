use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

/// What a stub does with a call.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A status with these headers, each ended by CRLF, and this body.
    Status(u16, &'static str, &'static str),
    /// Closes the connection.
    Close,
    /// Answers after a time, with 200.
    Late(Duration),
    /// Never answers.
    Silence,
}

/// What stands in for a node where a node cannot be made to answer so, or where each call must be seen.
#[derive(Debug)]
pub(crate) struct Stub {
    pub(crate) port: u16,
    calls: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Stub {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::new(AtomicUsize::new(0));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (counted, noted) = (Arc::clone(&calls), Arc::clone(&heads));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, answer.clone(), Arc::clone(&counted), Arc::clone(&noted)));
            }
        });
        Self { port, calls, heads, task }
    }

    /// How many calls came.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The heads of all calls that came.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Answer,
    calls: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let mut read = Vec::new();
    loop {
        while !read.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8_lossy(&read).into_owned();
        read.clear();
        heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
        calls.fetch_add(1, Ordering::SeqCst);
        let (status, headers, body) = match answer {
            Answer::Status(status, headers, body) => (status, headers, body),
            Answer::Close => return,
            Answer::Late(time) => {
                sleep(time).await;
                (200, "", "{}")
            }
            Answer::Silence => std::future::pending().await,
        };
        let length = body.len();
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

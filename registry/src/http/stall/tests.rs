use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::Instant,
};

use super::*;

const DEADLINE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_at_the_deadline() {
    let (stream, _client) = duplex(10);
    let begun = Instant::now();
    let error = Unstalled::new(stream, DEADLINE).write_all(&[0; 11]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(begun.elapsed() >= DEADLINE);
}

#[tokio::test]
async fn one_that_takes_something_is_given_the_time_anew() {
    let (stream, mut client) = duplex(10);
    let mut stream = Unstalled::new(stream, Duration::from_secs(3600));
    let writing = tokio::spawn(async move {
        let written = stream.write_all(&[0; 50]).await;
        (written.is_ok(), stream.waiting.is_none())
    });
    for _ in 0..50 {
        client.read_u8().await.unwrap();
    }
    assert_eq!(writing.await.unwrap(), (true, true));
}

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::sleep,
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

/// What is under way to a client at a time.
const PIPE: usize = 64 << 10;

const SECOND: Duration = Duration::from_secs(1);

/// Takes a piece each interval until there is no more. Returns how much that was.
async fn take(mut client: DuplexStream, piece: usize, interval: Duration) -> usize {
    let (mut taken, mut bytes) = (0, vec![0; piece]);
    loop {
        match client.read(&mut bytes).await.unwrap() {
            0 => return taken,
            count => taken += count,
        }
        sleep(interval).await;
    }
}

/// Writes an answer to a client that takes a piece each interval. Returns how long that went on, and whether to its end.
async fn answer(bytes: usize, piece: usize, interval: Duration) -> (Duration, io::Result<()>) {
    let (stream, client) = duplex(PIPE);
    let mut stream = Unstalled::new(stream, 10 * SECOND);
    let client = tokio::spawn(take(client, piece, interval));
    let begun = Instant::now();
    let written = async {
        stream.write_all(&vec![0; bytes]).await?;
        stream.flush().await
    };
    let written = written.await;
    let lasted = begun.elapsed();
    if written.is_ok() {
        drop(stream);
        assert_eq!(client.await.unwrap(), bytes);
    }
    (lasted, written)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drips_is_let_go_when_the_time_for_its_bytes_is_over() {
    let (lasted, written) = answer(8 << 20, 10, 9 * SECOND).await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!((10 * SECOND..11 * SECOND).contains(&lasted), "{lasted:?}");
    // Half the rate: ten seconds, and half a second more for each that it lasts.
    let (lasted, written) = answer(8 << 20, PIPE, 2 * SECOND).await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!((18 * SECOND..22 * SECOND).contains(&lasted), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_enough_is_given_all_the_time_it_needs() {
    let (lasted, written) = answer(8 << 20, PIPE, SECOND).await;
    written.unwrap();
    assert!(lasted > 100 * SECOND, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn each_answer_has_a_time_of_its_own() {
    let (stream, mut client) = duplex(10);
    let mut stream = Unstalled::new(stream, 10 * SECOND);
    let writing = tokio::spawn(async move {
        for _ in 0..5 {
            stream.write_all(&[0; 20]).await.unwrap();
            stream.flush().await.unwrap();
            assert!(stream.due.is_none());
            sleep(60 * SECOND).await;
        }
    });
    for _ in 0..5 {
        sleep(6 * SECOND).await;
        client.read_exact(&mut [0; 20]).await.unwrap();
        sleep(60 * SECOND).await;
    }
    writing.await.unwrap();
}

use std::time::Duration;

use fleet::{
    Config, Fleet, Target,
    catalog::Catalog,
    history::{Outcome, What},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};

#[tokio::test]
async fn a_call_of_who_is_killed_under_it_is_no_failure_of_the_registry_and_one_without_an_answer_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut config = Config::new(vec![Target::node(url, 0)]);
    config.catalog = Catalog { services: 1, instances: 1, ..config.catalog };
    (config.reads_per_second, config.lists_per_second) = (0.0, 0.0);
    let fleet = Fleet::start(&config).unwrap();
    drop(request(&listener).await);
    let held = request(&listener).await;
    fleet.kill(&[0]);
    drop(listener);
    let history = fleet.stop().await;
    drop(held);
    let outcomes: Vec<Outcome> = history
        .operations
        .iter()
        .filter_map(|operation| match operation.what {
            What::Write(write) => Some(write.outcome),
            What::Read(_) => None,
        })
        .collect();
    assert_eq!(outcomes, [Outcome::Maybe, Outcome::CutShort]);
}

/// Takes a request, and leaves it without an answer.
async fn request(listener: &TcpListener) -> TcpStream {
    let taken = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 64]).await.unwrap(), 0);
        stream
    };
    timeout(Duration::from_secs(60), taken).await.expect("a request")
}

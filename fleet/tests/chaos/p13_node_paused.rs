//! P13: a node is paused, for a short and for a long time, whatever it was doing.

use std::time::Duration;

use fleet::FaultKind;
use rand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::support::{Load, Plan, Registrar, SERVICES, Stage, scenario};

/// From the resume until the node is ready.
const READY: Duration = Duration::from_secs(2);

/// Longest that a registration at another node may wait.
const WAIT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_a_paused_node_harms_nobody_and_knows_at_once() {
    let bound = Duration::from_secs(1200);
    let load = |scale: &crate::support::Scale| Load {
        services: scale.pick(20, 400),
        instances: scale.pick(5, 30),
        reads_per_second: scale.pick(100.0, 500.0),
        lists_per_second: scale.pick(4.0, 0.5),
    };
    scenario(Plan::new("P13", bound).load(load), async |mut stage| {
        let mut found = Found::default();
        // In the middle of what: registrations make group commits, each tick makes a batch, and sidecars that are
        // silent for a TTL make expiries, which their return must undo.
        let pauses = stage.scale.pick(vec![1.5, 1.5, 3.0, 8.0], vec![10.0, 10.0, 10.0, 120.0]);
        for (round, seconds) in pauses.iter().enumerate() {
            let node = u8::try_from(round % 3).unwrap();
            let others: Vec<_> =
                stage.nodes().filter(|other| *other != node).map(|other| stage.direct(other)).collect();
            let own = Registrar::start(vec![stage.direct(node)], PREFIXES[round % 4].0, 50.0);
            let registrar = Registrar::start(others, PREFIXES[round % 4].1, stage.scale.pick(50.0, 100.0));
            let few = usize::try_from(stage.fleet.len()).unwrap() / 10;
            let silent = stage.fleet.pick(few);
            stage.fleet.pause(&silent);
            // Around the moment at which their leases end.
            let before = stage.scale.interval.mul_f64(stage.rng.random_range(0.0..1.0));
            let end = stage.scale.ttl().saturating_sub(before);
            sleep(end).await;
            pause(&stage, node, Duration::from_secs_f64(*seconds), &mut found, || {
                stage.fleet.resume(&silent);
            })
            .await;
            let done = registrar.stop().await;
            found.longest = found.longest.max(done.longest);
            found.asked += done.asked;
            found.wrong.extend(done.wrong);
            own.stop().await;
            stage.whole().await;
        }
        stage.others = SERVICES * 8;
        let fault = format!("SIGSTOP of a node for {pauses:?} s");
        let mut outcome = stage.end(&fault).await;
        outcome.figure(format!("first answers after resume: {:?}", found.first));
        outcome.expect(found.first.len() >= pauses.len(), || {
            format!("of {} answers to /readyz only {} came", pauses.len() * 5, found.first.len())
        });
        outcome.expect(found.first.iter().all(|status| *status == 503), || {
            format!("/readyz, asked before the resume: {:?}", found.first)
        });
        outcome.at_most("ready after", found.ready, READY);
        outcome.at_most("longest registration elsewhere", found.longest, WAIT);
        outcome.expect(found.wrong.is_empty() && found.asked > 0, || {
            format!("registrations elsewhere: {:?}", found.wrong)
        });
        outcome
    })
    .await;
}

const PREFIXES: [(&str, &str); 4] = [("p13a", "p13b"), ("p13c", "p13d"), ("p13e", "p13f"), ("p13g", "p13h")];

#[derive(Debug, Default)]
struct Found {
    first: Vec<u16>,
    ready: Duration,
    longest: Duration,
    asked: usize,
    wrong: Vec<String>,
}

/// Pauses a node, and asks it before it goes on whether it is ready.
async fn pause(stage: &Stage, number: u8, time: Duration, found: &mut Found, middle: impl FnOnce()) {
    let history = stage.fleet.history();
    let node = stage.node(number);
    let fault = history.fault(FaultKind::Node(number));
    node.pause().await;
    history.held(fault);
    // The system takes calls as long as its queue has room; the node finds them when it goes on.
    let asked: Vec<_> = (0..5).map(|_| tokio::spawn(readiness(node.port()))).collect();
    sleep(time / 2).await;
    middle();
    sleep(time / 2).await;
    history.lifting(fault);
    let resumed = Instant::now();
    node.resume();
    for answer in asked {
        found.first.extend(timeout(READY * 4, answer).await.unwrap().unwrap());
    }
    node.ready().await;
    found.ready = found.ready.max(resumed.elapsed());
    history.over(fault);
}

/// What `GET /readyz` is answered with; `None` if the system dropped the call from its queue.
async fn readiness(port: u16) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

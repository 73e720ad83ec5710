use std::time::Duration;

use fleet::{
    FaultKind,
    history::{Act, Answer, Outcome, What},
};
use testkit::Signal;
use tokio::time::sleep;

use crate::cluster::{Cluster, TTL, registered, verdict};

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_registry_goes_free_whatever_happens_to_it() {
    let mut cluster = Cluster::start(3, None).await;
    let mut fleet = registered(cluster.config()).await;
    let dead = fleet.pick(4);
    let (killed, ill) = dead.split_at(2);
    fleet.kill(killed);
    fleet.set_healthy(ill, false);

    // Longer than a lease: what is alive stays.
    cluster.without_postgres(&fleet, TTL + Duration::from_millis(500)).await;
    fleet.set_healthy(ill, true);

    // A paused node, again for longer than a lease.
    let fault = fleet.history().fault(FaultKind::Node(1));
    cluster.signal(1, Signal::STOP);
    fleet.history().held(fault);
    sleep(TTL + Duration::from_millis(500)).await;
    fleet.history().lifting(fault);
    cluster.signal(1, Signal::CONT);
    cluster.ready().await;
    fleet.history().over(fault);

    // A node that dies and comes back.
    let fault = fleet.history().fault(FaultKind::Node(2));
    cluster.kill_9(2).await;
    fleet.history().held(fault);
    sleep(Duration::from_secs(1)).await;
    fleet.history().lifting(fault);
    cluster.launch(2);
    cluster.ready().await;
    fleet.history().over(fault);

    // Who was killed comes back as another process.
    fleet.restart(killed, Duration::from_millis(500));
    sleep(TTL).await;

    let (history, judgement) = verdict(fleet).await;
    assert!(judgement.innocent(), "{}", history.explain_all(&judgement));
    // It was a run worth the name.
    let beats = history.operations.iter().filter(|operation| {
        matches!(operation.what, What::Write(write)
            if write.act == Act::Beat && write.outcome == Outcome::Acknowledged)
    });
    assert!(beats.count() > 100);
    assert!(history.operations.len() > 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_registry_holds_who_falls_silent_together_and_lets_them_go() {
    let cluster = Cluster::start(2, None).await;
    let mut fleet = registered(cluster.config()).await;
    // Each has beaten once: who never has is not counted.
    sleep(Duration::from_millis(1500)).await;
    let dead = fleet.pick(25);
    fleet.kill(&dead);
    // A TTL until the leases would end, two until the first are let go, one for ten of them.
    sleep(TTL * 4 + Duration::from_secs(1)).await;
    let (history, judgement) = verdict(fleet).await;
    assert!(judgement.innocent(), "{}", history.explain_all(&judgement));
    // They were held: longer than without a brake.
    let last_beat = |operation: &&fleet::history::Operation| matches!(operation.what, What::Write(write) if dead.contains(&write.instance));
    let silent = history.operations.iter().filter(last_beat).map(|operation| operation.end).max().unwrap();
    let held = history.operations.iter().any(|operation| {
        operation.start > silent.plus(TTL * 2)
            && matches!(&operation.what, What::Read(read)
                if matches!(&read.answer, Answer::List(list) if list.iter().any(|listed| listed.stale())))
    });
    assert!(held, "nobody was held");
}

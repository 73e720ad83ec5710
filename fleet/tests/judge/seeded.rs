//! Each mistake is seen for what it is.

use std::time::Duration;

use fleet::{
    Config, FaultKind,
    judge::{Charge, Judgement},
};
use registry_wire::Ttl;
use testkit::{Signal, StopMode, WallClock};
use tokio::time::sleep;

use crate::cluster::{Cluster, TTL, calm, registered, verdict};

/// Longer than a lease.
const LONG: Duration = Duration::from_millis(3500);

/// How often a scenario is tried: on a machine that is busy nodes are blind now and then, and what they answer then is
/// excused.
const TRIES: usize = 3;

/// Plays a scenario until the judge finds them guilty.
async fn convicts(charge: Charge, mut scenario: impl AsyncFnMut() -> Judgement) -> Judgement {
    for attempt in 1..=TRIES {
        let judgement = scenario().await;
        if judgement.guilty_of(charge) {
            return judgement;
        }
        println!("not guilty of {} in attempt {attempt}", charge.name());
    }
    panic!("the judge did not see it: {}", charge.name());
}

/// Until answers that are a second old, by their `Age`, must hold what was registered.
const SETTLED: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_end_while_nobody_sees_are_false_expiries() {
    convicts(Charge::FalseExpiry, async || {
        let cluster = Cluster::start(1, Some("freeze-off")).await;
        cluster.lasting().await;
        let fleet = registered(cluster.config()).await;
        sleep(SETTLED).await;
        cluster.without_postgres(&fleet, LONG + Duration::from_secs(1)).await;
        verdict(fleet).await.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_end_by_now_are_false_expiries() {
    convicts(Charge::FalseExpiry, async || {
        let cluster = Cluster::start(2, Some("now-for-sight")).await;
        cluster.lasting().await;
        // All beat at the node that goes on: no lease ends, and the other has only not heard of it.
        let fleet = registered(Config { write_to: vec![0], ..cluster.config() }).await;
        // What was asked while the node was paused is answered with an `Age` of the pause.
        sleep(TTL).await;
        let fault = fleet.history().fault(FaultKind::Node(1));
        cluster.signal(1, Signal::STOP);
        fleet.history().held(fault);
        sleep(LONG).await;
        // For a moment nobody tells the node that goes on what it has missed.
        let store = fleet.history().fault(FaultKind::Store);
        tokio::task::block_in_place(|| cluster.postgres.stop(StopMode::Immediate));
        fleet.history().held(store);
        fleet.history().lifting(fault);
        cluster.signal(1, Signal::CONT);
        sleep(Duration::from_millis(500)).await;
        fleet.history().lifting(store);
        tokio::task::block_in_place(|| cluster.postgres.start_again());
        cluster.ready().await;
        fleet.history().over(fault);
        fleet.history().over(store);
        verdict(fleet).await.1
    })
    .await;
}

/// The same fault, and the same judge, as those of P12 in the chaos suite.
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_end_by_the_wall_clock_are_false_expiries_once_it_is_set() {
    convicts(Charge::FalseExpiry, async || {
        let clock = WallClock::new();
        let cluster = Cluster::start_by(&clock, 2, Some("wall-clock")).await;
        cluster.lasting().await;
        let fleet = registered(cluster.config()).await;
        sleep(SETTLED).await;
        clock.set(3600);
        // Programs notice within a second.
        sleep(SETTLED + Duration::from_secs(1)).await;
        verdict(fleet).await.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_that_do_not_reach_the_other_node_make_false_expiries() {
    let judgement = convicts(Charge::FalseExpiry, async || {
        let cluster = Cluster::start(2, Some("beats-not-fanned-out")).await;
        let config = Config { write_to: vec![0], read_from: vec![1], ..cluster.config() };
        let fleet = registered(config).await;
        sleep(TTL + Duration::from_secs(1)).await;
        verdict(fleet).await.1
    })
    .await;
    assert!(!judgement.guilty_of(Charge::Zombie));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_from_a_node_that_does_not_know_is_a_lost_ack() {
    convicts(Charge::LostAck, async || {
        let cluster = Cluster::start(1, Some("404-for-503")).await;
        let fleet = registered(cluster.config()).await;
        sleep(SETTLED).await;
        cluster.without_postgres(&fleet, Duration::from_millis(2500)).await;
        verdict(fleet).await.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_without_a_commit_is_a_lost_ack() {
    convicts(Charge::LostAck, async || {
        let cluster = Cluster::start(1, Some("ack-before-commit")).await;
        let mut config = cluster.config();
        // Registrations all the time, also in the moment in which Postgres goes.
        config.catalog.services = 200;
        config.ramp = Duration::from_secs(4);
        let fleet = fleet::Fleet::start(&config).unwrap();
        sleep(Duration::from_secs(1)).await;
        cluster.without_postgres(&fleet, Duration::from_secs(1)).await;
        sleep(Duration::from_secs(2)).await;
        verdict(fleet).await.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_never_end_are_zombies() {
    let judgement = convicts(Charge::Zombie, async || {
        let cluster = Cluster::start(1, Some("expiry-off")).await;
        let mut fleet = registered(cluster.config()).await;
        // Few enough for no brake.
        let dead = fleet.pick(5);
        fleet.kill(&dead);
        // Of which a node needs a moment to see again, if it was blind before.
        calm(TTL + Duration::from_secs(10)).await;
        verdict(fleet).await.1
    })
    .await;
    assert!(!judgement.guilty_of(Charge::FalseExpiry));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_node_that_has_not_loaded_are_empty_answers() {
    convicts(Charge::EmptyAnswer, async || {
        let mut cluster = Cluster::start(1, Some("served-before-loaded")).await;
        let fleet = registered(cluster.config()).await;
        sleep(SETTLED).await;
        let fault = fleet.history().fault(FaultKind::Store);
        tokio::task::block_in_place(|| cluster.postgres.stop(StopMode::Immediate));
        fleet.history().held(fault);
        cluster.kill_9(0).await;
        cluster.launch(0);
        cluster.answers(0).await;
        sleep(Duration::from_millis(500)).await;
        fleet.history().lifting(fault);
        tokio::task::block_in_place(|| cluster.postgres.start_again());
        cluster.ready().await;
        fleet.history().over(fault);
        verdict(fleet).await.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_end_although_too_many_are_silent_tell_of_no_brake() {
    let ttl = TTL * 2;
    convicts(Charge::Brake, async || {
        let cluster = Cluster::start(1, Some("brake-off")).await;
        let config = Config { ttl: Ttl::try_from(ttl.as_secs()).unwrap(), ..cluster.config() };
        let mut fleet = registered(config).await;
        // Each has beaten once: who never has is not counted.
        sleep(SETTLED).await;
        let dead = fleet.pick(25);
        fleet.kill(&dead);
        calm(ttl + Duration::from_secs(2)).await;
        verdict(fleet).await.1
    })
    .await;
}

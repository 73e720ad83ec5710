//! P4: Postgres fails over to a standby, behind one address: a synchronous one loses nothing, what an asynchronous one
//! lacks comes back.

use std::{sync::Mutex, time::Duration};

use fleet::FaultKind;
use testkit::{Postgres, ProxyMode, Sql, StopMode, wait_until};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::support::{Load, Plan, Registrar, SERVICES, Scale, Stage, crash, scenario};

/// For what takes no time but the machine's.
const SOON: Duration = Duration::from_secs(60);

/// After a fail-over to an asynchronous standby what was lost is back within this and an interval between beats.
const BACK: Duration = Duration::from_secs(60);

fn load(scale: &Scale) -> Load {
    Load {
        services: scale.pick(20, 1000),
        instances: scale.pick(5, 30),
        reads_per_second: scale.pick(100.0, 500.0),
        lists_per_second: scale.pick(4.0, 0.5),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p04_a_synchronous_standby_takes_over_and_nothing_is_lost() {
    scenario(Plan::new("P4", Duration::from_secs(600)).load(load), async |mut stage| {
        let standby = block_in_place(|| stage.postgres.standby());
        let mut sql = Sql::open(&stage.cluster.database).await;
        sql.run("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
        sql.run("SELECT pg_reload_conf()").await;
        wait_until(SOON, "the standby is synchronous", async || {
            sql.number("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").await == 1
        })
        .await;
        let registrar = Registrar::start(vec![stage.nginx()], "p4", stage.scale.pick(50.0, 200.0));
        sleep(stage.scale.seconds(3.0, 20.0)).await;
        let ready = stage
            .harm_store(
                async || crash(&stage.postgres, true),
                async || sleep(stage.scale.seconds(1.0, 5.0)).await,
                async || take_over(&stage, &standby).await,
            )
            .await;
        sleep(stage.scale.seconds(2.0, 20.0)).await;
        let done = registrar.stop().await;
        let mut lost = Vec::new();
        for node in stage.nodes() {
            let client = stage.direct(node);
            let missing = Mutex::new(Vec::new());
            let begun = Instant::now();
            while begun.elapsed() < SOON {
                let listed = client.listed().await.unwrap_or_default();
                let now: Vec<_> = done.acknowledged.difference(&listed).cloned().collect();
                let whole = now.is_empty();
                *missing.lock().unwrap() = now;
                if whole {
                    break;
                }
                sleep(stage.scale.tick).await;
            }
            lost.extend(missing.into_inner().unwrap());
        }
        stage.others = SERVICES;
        let mut outcome = stage.end("fail-over to a synchronous standby").await;
        outcome.figure(format!(
            "{} of {} registrations acknowledged, {} of these lost",
            done.acknowledged.len(),
            done.asked,
            lost.len()
        ));
        outcome.expect(lost.is_empty(), || format!("lost: {lost:?}"));
        outcome.expect(done.wrong.is_empty(), || format!("other answers: {:?}", done.wrong));
        outcome.figure(format!("all nodes ready {:.1} s after the promotion began", ready.as_secs_f64()));
        outcome
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p04_what_an_asynchronous_standby_lacks_comes_back() {
    scenario(Plan::new("P4", Duration::from_secs(900)).load(load), async |mut stage| {
        let all = stage.everybody();
        let standby = block_in_place(|| stage.postgres.standby());
        let mut primary = Sql::open(&stage.cluster.database).await;
        let mut behind = Sql::open(&on(&stage, &standby)).await;
        let revision = "SELECT revision FROM head";
        let at = primary.number(revision).await;
        wait_until(SOON, "the standby has it", async || behind.number(revision).await >= at).await;
        drop(behind);
        block_in_place(|| standby.stop(StopMode::Fast));
        let kept = primary.number(revision).await;
        // New sessions that the standby never hears of, of a third of the sidecars.
        let third = usize::try_from(stage.fleet.len() / 3).unwrap();
        let restarted = stage.fleet.pick(third);
        stage.fleet.restart(&restarted, Duration::from_secs(1));
        stage.whole().await;
        let head = primary.number(revision).await;

        let history = stage.fleet.history();
        let fault = history.fault(FaultKind::StoreLost);
        crash(&stage.postgres, true);
        history.held(fault);
        block_in_place(|| standby.start_again());
        take_over(&stage, &standby).await;
        history.lifting(fault);
        let promoted = Instant::now();
        stage.cluster.ready().await;
        let mut behind = Sql::open(&on(&stage, &standby)).await;
        let count = "SELECT count(*) FROM instances";
        let renewed = format!(
            "SELECT count(DISTINCT (service, instance)) FROM changes \
             WHERE revision > {head} AND kind IN ('register', 'replace')"
        );
        wait_until(stage.scale.interval + BACK * 2, "everybody is in the store and listed", async || {
            // The standby has the entries of the old sessions, so that to be there is not enough.
            let mut whole = behind.number(count).await == i64::from(stage.fleet.len())
                && behind.number(&renewed).await >= i64::try_from(third).unwrap();
            for node in stage.nodes() {
                let listed = stage.direct(node).instances().await.unwrap_or_default();
                whole &=
                    listed.iter().filter(|(name, stale)| !stale && all.contains(name)).count() == all.len();
            }
            whole
        })
        .await;
        let back = promoted.elapsed();
        history.over(fault);
        let again = format!("SELECT count(*) FROM changes WHERE revision > {kept} AND revision <= {head}");
        let again = behind.number(&again).await;
        let most = stage.scale.interval + BACK;
        let mut outcome = stage.end("fail-over to an asynchronous standby that lacks a third").await;
        outcome.at_most("everybody back after", back, most);
        outcome.figure(format!("{} revisions lost, {again} of them given again", head - kept));
        outcome.expect(again == 0, || "a revision that was shown was given again".to_owned());
        outcome.expect(head > kept, || "nothing was lost, so that nothing was tested".to_owned());
        outcome
    })
    .await;
}

/// Promotes the standby and leads the nodes to it, as a proxy before both servers does.
async fn take_over(stage: &Stage, standby: &Postgres) {
    standby.promote().await;
    for node in &stage.cluster.nodes {
        node.store().set(ProxyMode::Refuse);
        node.store().lead_to(standby.port());
        node.store().set(ProxyMode::Pass);
    }
}

/// The database of the cluster on another server.
fn on(stage: &Stage, server: &Postgres) -> String {
    let (old, new) = (format!(":{}/", stage.postgres.port()), format!(":{}/", server.port()));
    stage.cluster.database.replace(&old, &new)
}

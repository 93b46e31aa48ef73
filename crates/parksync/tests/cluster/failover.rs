//! A primary that is killed, and its synchronous standby promoted, under load.

use std::time::{Duration, Instant};

use crate::nodes::Cluster;
use crate::pg::Server;
use crate::port;
use crate::servers::SYNCHRONOUS;

/// Failovers of an ordinary run. The long one: `PARKSYNC_FAILOVERS=50`.
const FAILOVERS: usize = 3;
/// How soon events are taken again once there is a primary.
const BACK: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_the_synchronous_standby_loses_nothing_and_turns_nothing_round() {
    let failovers = std::env::var("PARKSYNC_FAILOVERS").map_or(FAILOVERS, |failovers| failovers.parse().unwrap());
    let began = Instant::now();
    let mut primary = Server::durable("");
    let mut standby = follow(&primary, port::free());
    let database = primary.database();
    let url = format!("postgres://parksync@{},{}/{database}", primary.host(), standby.host());
    let mut cluster = Cluster::start(&url).await;
    let mut longest = Duration::ZERO;

    for failover in 1..=failovers {
        cluster.senders.wait_for_more(200).await;
        let dead = primary.kill();
        cluster.note_a_gap();
        standby.promote();
        // Until the other one follows again this one is alone, as after any failover; nobody kills it meanwhile.
        standby.set(SYNCHRONOUS, "");
        let since = Instant::now();
        cluster.senders.wait_for_more(20).await;
        longest = longest.max(since.elapsed());
        cluster.wait_until_ready().await;
        let port = dead.port;
        drop(dead);
        primary = standby;
        standby = follow(&primary, port);
        if failover % 10 == 0 {
            println!("{failover} failovers, {:.0?}", began.elapsed());
        }
    }
    cluster.all_live();
    let (figures, _) = cluster.look_back(&primary.connect(&database).await.unwrap()).await;

    println!(
        "{failovers} failovers in {:.0?}, 20 events taken at most {longest:.1?} after the promotion: {figures:?}",
        began.elapsed()
    );
    assert!(longest < BACK, "{longest:?}");
}

/// A standby whose word every commit waits for from now on.
fn follow(primary: &Server, port: u16) -> Server {
    let standby = primary.follow(port, "");
    primary.set(SYNCHRONOUS, "*");
    primary.wait_until_followed();
    standby
}

/// Longer than the limit of any request.
const WITHOUT_A_STANDBY: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn what_no_standby_has_written_down_is_not_acknowledged() {
    let primary = Server::durable("");
    let standby = follow(&primary, port::free());
    let database = primary.database();
    let url = format!("postgres://parksync@{},{}/{database}", primary.host(), standby.host());
    let mut cluster = Cluster::start(&url).await;

    cluster.senders.wait_for_more(100).await;
    let away = standby.kill();
    cluster.note_a_gap();
    cluster.nothing_is_taken_for(WITHOUT_A_STANDBY).await;
    let binding = ["members", "bind", "--openid", "openid-0-0", "--plate", "宁Y99999"];
    assert!(!cluster.mall.succeeds(&binding), "only one server has the binding");
    // Now the one that knows nothing of this time becomes the primary.
    let dead = primary.kill();
    let standby = away.start("");
    standby.promote();
    standby.set(SYNCHRONOUS, "");
    cluster.note_a_gap();
    cluster.senders.wait_for_more(100).await;
    drop(dead);

    cluster.wait_until_ready().await;
    cluster.all_live();
    let (figures, _) = cluster.look_back(&standby.connect(&database).await.unwrap()).await;
    println!("a standby that was away: {figures:?}");
}

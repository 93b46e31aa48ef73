//! Nodes that are killed and put to sleep at random, under load, and started again.

use std::time::{Duration, Instant};

use parksync::limits;
use rustix::process::Signal;

use crate::nodes::{Cluster, NODES};
use crate::pg::Server;

/// Cycles of an ordinary run. The long one: `PARKSYNC_CYCLES=1000`.
const CYCLES: usize = 30;
/// Longer than a claim is good for.
const LONG: Duration = Duration::from_secs(limits::LEASE.unsigned_abs().as_secs() + 2);

/// What happens to a node.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    /// It sleeps for less than its claims are good for, noticed or not.
    Nap,
    /// It sleeps for longer. The others go on, and are killed meanwhile.
    Sleep,
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_die_and_sleep_lose_nothing_and_turn_nothing_round() {
    let cycles = std::env::var("PARKSYNC_CYCLES").map_or(CYCLES, |cycles| cycles.parse().unwrap());
    let seed = std::env::var("PARKSYNC_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let began = Instant::now();
    let server = Server::durable("");
    let database = server.database();
    let mut cluster = Cluster::start(&server.url(&database)).await;
    let mut dice = Dice(seed);
    let mut sleeper: Option<(usize, Instant)> = None;
    let mut blows = [0; 3];

    for cycle in 0..cycles {
        cluster.senders.wait_for_more(10 + dice.below(30)).await;
        if let Some((node, until)) = sleeper
            && until <= Instant::now()
        {
            wake(&mut cluster, node, &mut sleeper);
        }
        let awake: Vec<usize> = (0..NODES)
            .filter(|node| sleeper.is_none_or(|(sleeps, _)| sleeps != *node))
            .collect();
        let node = awake[dice.below(awake.len())];
        // A cycle in twelve begins a long sleep, one in four is a nap.
        let blow = match (cycle % 12, cycle % 4) {
            (5, _) if sleeper.is_none() => Blow::Sleep,
            (_, 2) => Blow::Nap,
            _ => Blow::Kill,
        };
        blows[blow as usize] += 1;
        match blow {
            Blow::Kill => {
                cluster.kill(node);
                cluster.serve(node);
            }
            Blow::Nap => {
                cluster.signal(node, Signal::STOP);
                let nap = Duration::from_millis(100 + 50 * u64::try_from(dice.below(60)).unwrap());
                tokio::time::sleep(nap).await;
                cluster.signal(node, Signal::CONT);
                cluster.note_a_gap();
            }
            Blow::Sleep => {
                cluster.signal(node, Signal::STOP);
                sleeper = Some((node, Instant::now() + LONG));
            }
        }
        if cycle % 100 == 99 {
            println!("{} cycles, {:.0?}", cycle + 1, began.elapsed());
        }
    }
    if let Some((node, until)) = sleeper {
        tokio::time::sleep_until(until.into()).await;
        wake(&mut cluster, node, &mut sleeper);
    }
    cluster.wait_until_ready().await;
    cluster.all_live();
    let took = began.elapsed();
    let (figures, _) = cluster.look_back(&server.connect(&database).await.unwrap()).await;

    let [kills, naps, sleeps] = blows;
    println!("{kills} kills, {naps} naps, {sleeps} sleeps in {took:.0?}: {figures:?}");
    assert!(
        figures.acknowledged() > cycles * 20,
        "too little load to mean anything: {figures:?}"
    );
}

fn wake(cluster: &mut Cluster, node: usize, sleeper: &mut Option<(usize, Instant)>) {
    cluster.signal(node, Signal::CONT);
    cluster.note_a_gap();
    *sleeper = None;
}

/// Random numbers that come again with their seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

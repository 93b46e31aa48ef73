//! SIGKILL before and after commits and sends, and SIGSTOP for longer than every deadline, under load.

use std::time::Instant;

use rustix::process::Signal;
use wechatpay_sandbox::{Fault, FaultPlan};

use crate::app::{Mall, REQUEST_TIMEOUT};
use crate::audit::{Gap, audit, faults_of_database};
use crate::senders::Senders;

const PLACES: [&str; 4] = ["before-commit", "after-commit", "before-send", "after-send"];
/// At which pass of a place the process dies. The first commits belong to its start.
const PASSES: [u32; 12] = [1, 30, 3, 100, 7, 45, 2, 150, 13, 60, 5, 20];

/// Kills of an ordinary run. The long one: `PARKSYNC_KILLS=1000`.
const KILLS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_every_place_lose_nothing_and_turn_nothing_round() {
    let kills = std::env::var("PARKSYNC_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let mall = Mall::open(folder.path()).await;
    let lost = FaultPlan::seeded(4)
        .with(Fault::DropReplyAfterCommit, 0.005)
        .with(Fault::ResetAfterCommit, 0.005);
    mall.sandbox.faults().plan(lost);
    let senders = Senders::start(&mall);
    let mut deaths = Vec::new();

    for kill in 0..kills {
        let place = PLACES[kill % PLACES.len()];
        let pass = PASSES[kill / PLACES.len() % PASSES.len()];
        let crash = format!("{place}:{pass}");
        let process = mall.serve(&[("PARKSYNC_CRASH", &crash)]);
        process.killed_at(&crash).await;
        deaths.push(Gap::death());
    }
    let last = mall.serve(&[]);
    let book = senders.finish().await;
    mall.sandbox.faults().clear();
    let figures = audit(&mall, &book, &deaths).await;

    last.signal(Signal::TERM);
    assert!(last.ended("the service does not stop").await.success());
    assert_eq!(faults_of_database(&mall.database()), [""; 0]);
    assert!(book.total > kills * 10, "too little load to mean anything: {figures:?}");
    // A kill right after a send leaves a message in doubt: not to see it told again means not to look.
    assert!(figures.repeats_after_a_gap >= kills / PLACES.len(), "{figures:?}");
    assert!(figures.repeats_after_a_lost_answer > 0, "{figures:?}");
    println!("{kills} kills in {:.0?}: {figures:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_slept_goes_on_where_it_was() {
    // The last one is longer than a request to the service may take, too.
    let sleeps = [1, 1, 1, 3].map(|times| REQUEST_TIMEOUT * times + parksync::limits::RETRY_AFTER);
    assert!(sleeps[3] > parksync::limits::REQUEST_DEADLINE);
    let folder = tempfile::tempdir().unwrap();
    let mall = Mall::open(folder.path()).await;
    let senders = Senders::start(&mall);
    let process = mall.serve(&[]);
    let mut gaps = Vec::new();

    for sleep in sleeps {
        senders.wait_for_more(200).await;
        process.signal(Signal::STOP);
        let from = Instant::now();
        tokio::time::sleep(sleep).await;
        process.signal(Signal::CONT);
        gaps.push(Gap {
            from,
            to: Instant::now(),
        });
    }
    senders.wait_for_more(200).await;
    let book = senders.finish().await;
    let figures = audit(&mall, &book, &gaps).await;

    process.signal(Signal::TERM);
    assert!(process.ended("the service does not stop").await.success());
    assert_eq!(faults_of_database(&mall.database()), [""; 0]);
    assert!(
        figures.unanswered_posts > 0,
        "nobody met the sleeping process: {figures:?}"
    );
    println!("{} sleeps: {figures:?}", sleeps.len());
}

//! A disk that fails: senders are told to come back, nothing acknowledged is lost, and work goes on when the disk does.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal};

use crate::app::{Mall, Process};
use crate::audit::{Gap, audit, faults_of_database};
use crate::mount::Disk;
use crate::senders::Senders;

/// The gates are refused, nothing is acknowledged, and `/readyz` says so.
async fn nothing_is_taken(mall: &Mall, senders: &Senders) {
    senders.wait_for_refusals(20).await;
    let since = Instant::now();
    senders.wait_for_refusals(100).await;
    // Answers that were on their way may still arrive; a post that left after this may not be acknowledged.
    assert!(
        senders.book().acknowledged_until < Some(since),
        "acknowledged on a disk that fails"
    );
    assert_eq!(
        mall.readiness().await,
        Some((503, true)),
        "status and Retry-After of /readyz"
    );
}

async fn work_goes_on(mall: &Mall, senders: &Senders) {
    mall.wait_until_ready().await;
    senders.wait_for_more(200).await;
}

/// Ends a run: what was acknowledged arrived, every refusal was a 503 with `Retry-After`, the database is whole.
async fn all_is_well(mall: &Mall, senders: Senders, process: Process, gaps: &[Gap]) {
    let book = senders.finish().await;
    let figures = audit(mall, &book, gaps).await;
    process.signal(Signal::TERM);
    assert!(process.ended("the service does not stop").await.success());
    assert_eq!(faults_of_database(&mall.database()), [""; 0]);
    assert!(book.refused.keys().all(|status| *status == 503), "{:?}", book.refused);
    assert_eq!(book.without_retry_after, 0);
    println!("{figures:?}, refused: {:?}", book.refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_fail_are_not_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mall = Mall::open(folder.path()).await;
    let process = mall.serve_without_sigxfsz();
    let senders = Senders::start(&mall);

    // The log may grow by this much: not at all, by a frame's header, by the greater part of a frame.
    for room in [0, 100, 4000] {
        work_goes_on(&mall, &senders).await;
        let length = std::fs::metadata(mall.log()).unwrap().len();
        limit_files(&process, Some(length + room));
        nothing_is_taken(&mall, &senders).await;
        limit_files(&process, None);
    }
    work_goes_on(&mall, &senders).await;
    let length = std::fs::metadata(mall.log()).unwrap().len();
    limit_files(&process, Some(length + 4000));
    nothing_is_taken(&mall, &senders).await;
    process.kill();
    let death = Gap::death();
    let process = mall.serve(&[]);
    work_goes_on(&mall, &senders).await;

    all_is_well(&mall, senders, process, &[death]).await;
}

fn limit_files(process: &Process, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    rustix::process::prlimit(Some(process.id()), Resource::Fsize, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_nothing_until_there_is_room() {
    let Some(disk) = Disk::mount() else { return };
    let mall = Mall::open(&disk.path()).await;
    disk.sync();
    let process = mall.serve(&[]);
    let senders = Senders::start(&mall);

    // Nearly full: the floor of the settings.
    work_goes_on(&mall, &senders).await;
    disk.fill(1);
    nothing_is_taken(&mall, &senders).await;
    disk.make_room();
    work_goes_on(&mall, &senders).await;
    process.kill();
    let death = Gap::death();

    // Full, without a floor: SQLite hears it from the system.
    let process = mall.serve(&[("PARKSYNC__LIMITS__FREE_DISK_PERCENT", "0")]);
    work_goes_on(&mall, &senders).await;
    disk.fill(0);
    // A small commit may still fit where a larger one broke off: it is acknowledged, rightly, and so may `/readyz` be.
    senders.wait_for_refusals(120).await;
    disk.make_room();
    work_goes_on(&mall, &senders).await;

    all_is_well(&mall, senders, process, &[death]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_is_survived_by_a_restart() {
    let Some(disk) = Disk::mount() else { return };
    let mall = Mall::open(&disk.path()).await;
    disk.sync();
    let process = mall.serve(&[]);
    let senders = Senders::start(&mall);

    work_goes_on(&mall, &senders).await;
    disk.abort();
    nothing_is_taken(&mall, &senders).await;
    process.kill();
    let death = Gap::death();
    let refused = mall.serve(&[]).ended("it serves from a read-only disk").await;
    assert_eq!(refused.code(), Some(3), "it is the set-up that has to change");
    disk.repair();
    let process = mall.serve(&[]);
    work_goes_on(&mall, &senders).await;

    all_is_well(&mall, senders, process, &[death]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_on_the_disk_when_the_power_goes() {
    let Some(disk) = Disk::mount() else { return };
    let mall = Mall::open(&disk.path()).await;
    disk.sync();
    let mut process = mall.serve(&[]);
    let senders = Senders::start(&mall);
    let mut cuts = Vec::new();

    for _ in 0..5 {
        senders.wait_for_more(100).await;
        process.signal(Signal::STOP);
        // Answers on their way are acknowledgements too.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let copy = disk.copy();
        process.kill();
        cuts.push(Gap::death());
        disk.go_back_to(&copy);
        process = mall.serve(&[]);
    }
    work_goes_on(&mall, &senders).await;

    all_is_well(&mall, senders, process, &cuts).await;
}

/// Why the store does not believe a sync alone: a bare program's records on a disk that is aborted, synced with success and gone.
/// How often that happens is the kernel's business and printed; what is asserted is that the store's own check finds all of them.
#[test]
fn a_sync_that_tells_an_untruth_is_found_out() {
    let rounds = std::env::var("PARKSYNC_ABORTS").map_or(10, |text| text.parse().unwrap());
    let (mut synced, mut untrue) = (0, 0);
    for round in 0..rounds {
        let Some(disk) = Disk::mount() else { return };
        let told = Bare::start(&disk);
        std::thread::sleep(Duration::from_millis(20 + round * 7 % 100));
        disk.abort();
        let told = told.join();
        disk.repair();
        let there = Bare::there(&disk);
        assert!(
            there >= told.checked,
            "{there} of {} checked records are there",
            told.checked
        );
        synced += told.synced;
        untrue += told.synced - told.synced.min(there);
    }
    println!(
        "{rounds} aborts: {synced} records synced, {untrue} of them gone; none of those that were checked after the sync"
    );
}

/// A program that appends records and syncs each.
struct Bare(std::thread::JoinHandle<Told>);

struct Told {
    /// Records whose sync was a success.
    synced: u64,
    /// Those after which the disk still took a change that needs its journal.
    checked: u64,
}

impl Bare {
    /// Of a page of SQLite's log.
    const RECORD: usize = 4120;

    fn start(disk: &Disk) -> Self {
        let log = File::create(disk.path().join("log")).unwrap();
        let probe = File::create(disk.path().join("probe")).unwrap();
        // Both are there whatever comes.
        disk.sync();
        Self(std::thread::spawn(move || {
            let mut told = Told { synced: 0, checked: 0 };
            let mut is_whole = true;
            loop {
                let record = (told.synced + 1).to_le_bytes().repeat(Self::RECORD / 8);
                if (&log).write_all(&record).is_err() || log.sync_data().is_err() {
                    return told;
                }
                told.synced += 1;
                is_whole = is_whole && probe.set_len(told.synced % 2).is_ok();
                if is_whole {
                    told.checked = told.synced;
                }
            }
        }))
    }

    fn join(self) -> Told {
        self.0.join().unwrap()
    }

    /// How many records can be read again.
    fn there(disk: &Disk) -> u64 {
        let log = std::fs::read(disk.path().join("log")).unwrap();
        let whole = log.chunks_exact(Self::RECORD).zip(1_u64..);
        whole
            .take_while(|(record, number)| *record == number.to_le_bytes().repeat(Self::RECORD / 8))
            .count() as u64
    }
}

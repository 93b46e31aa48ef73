//! A database that restarts, crashes, throws connections out, has none left, takes no writes, or has no disk: senders are told to come
//! back, nothing acknowledged is lost, and everything goes on by itself.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use tokio_postgres::Client;

use crate::mount::Disk;
use crate::nodes::{Cluster, NODES};
use crate::pg::{self, Server};

/// Every node refuses, and says so.
async fn nothing_is_taken(cluster: &Cluster) {
    cluster.senders.wait_for_refusals(20).await;
    for node in 0..NODES {
        cluster.wait_until_not_ready(node).await;
    }
}

async fn work_goes_on(cluster: &mut Cluster) {
    cluster.wait_until_ready().await;
    cluster.senders.wait_for_more(200).await;
    cluster.all_live();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_restarts_or_crashes_is_waited_for() {
    let mut server = Server::durable("");
    let name = server.database();
    let mut cluster = Cluster::start(&server.url(&name)).await;

    work_goes_on(&mut cluster).await;
    server = server.restart("");
    cluster.note_a_gap();
    work_goes_on(&mut cluster).await;
    let dead = server.kill();
    cluster.note_a_gap();
    nothing_is_taken(&cluster).await;
    server = dead.start("");
    work_goes_on(&mut cluster).await;

    let (figures, _) = cluster.look_back(&server.connect(&name).await.unwrap()).await;
    println!("a restart and a crash: {figures:?}");
}

const OURS: &str = "FROM pg_stat_activity WHERE application_name = 'parksync'";

async fn throw_out(own: &Client) -> usize {
    let rows = own
        .query(&format!("SELECT pg_terminate_backend(pid) {OURS}"), &[])
        .await;
    rows.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_thrown_out_are_made_anew() {
    let server = Server::durable("");
    let name = server.database();
    let own = server.connect(&name).await.unwrap();
    let mut cluster = Cluster::start(&server.url(&name)).await;
    let mut thrown_out = 0;

    for _ in 0..20 {
        cluster.senders.wait_for_more(30).await;
        thrown_out += throw_out(&own).await;
        cluster.note_a_gap();
    }
    work_goes_on(&mut cluster).await;

    let (figures, _) = cluster.look_back(&own).await;
    println!("{thrown_out} connections thrown out: {figures:?}");
    assert!(thrown_out > 20 * NODES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_free_connection_is_waited_for() {
    let server = Server::durable("-c max_connections=40");
    let name = server.database();
    let own = server.connect(&name).await.unwrap();
    let mut cluster = Cluster::start(&server.url(&name)).await;

    work_goes_on(&mut cluster).await;
    let mut hogs: Vec<Client> = Vec::new();
    while own
        .query_one(&format!("SELECT count(*) {OURS}"), &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        > 0
    {
        throw_out(&own).await;
        while let Ok(hog) = server.connect(&name).await {
            hogs.push(hog);
        }
    }
    cluster.note_a_gap();
    nothing_is_taken(&cluster).await;
    let taken = hogs.len();
    drop(hogs);
    work_goes_on(&mut cluster).await;

    let (figures, _) = cluster.look_back(&own).await;
    println!("{taken} of 40 connections taken by others: {figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_is_waited_for() {
    let server = Server::durable("");
    let name = server.database();
    let mut cluster = Cluster::start(&server.url(&name)).await;

    for _ in 0..2 {
        work_goes_on(&mut cluster).await;
        server.set("default_transaction_read_only", "on");
        cluster.note_a_gap();
        nothing_is_taken(&cluster).await;
        server.set("default_transaction_read_only", "off");
    }
    work_goes_on(&mut cluster).await;

    let (figures, _) = cluster.look_back(&server.connect(&name).await.unwrap()).await;
    println!("read-only twice: {figures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_disk_is_full_is_waited_for() {
    let Some(disk) = Disk::mount() else { return };
    let place = disk.path().join("tables");
    std::fs::create_dir(&place).unwrap();
    pg::hand_over(&place);
    for folder in [disk.path().parent().unwrap(), &disk.path()] {
        std::fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
    let server = Server::durable("");
    server.sql(
        "postgres",
        &format!("CREATE TABLESPACE small LOCATION '{}'", place.display()),
    );
    server.sql("postgres", "CREATE DATABASE parksync TABLESPACE small");
    let mut cluster = Cluster::start(&server.url("parksync")).await;

    work_goes_on(&mut cluster).await;
    disk.fill(0);
    cluster.note_a_gap();
    nothing_is_taken(&cluster).await;
    disk.make_room();
    work_goes_on(&mut cluster).await;

    let (figures, _) = cluster.look_back(&server.connect("parksync").await.unwrap()).await;
    println!("a full disk: {figures:?}");
    drop(server);
}

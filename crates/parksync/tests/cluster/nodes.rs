//! Three nodes on one PostgreSQL, gates that post to all of them, and the look back at the end.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::app::{Http, Mall, Process, node_name, wait_for};
use crate::audit::{Figures, Gap, audit};
use crate::senders::Senders;

pub(crate) const NODES: usize = 3;

/// Within a run any answer may come too late on a crowded machine. What counts is that the nodes know of each repeat's reason.
const LONGEST_RUN: Duration = Duration::from_secs(24 * 3600);

/// The nodes at work, with gates that post to them.
pub(crate) struct Cluster {
    pub(crate) mall: Mall,
    pub(crate) senders: Senders,
    nodes: Vec<Option<Process>>,
    gaps: Vec<Gap>,
    _folder: TempDir,
}

impl Cluster {
    /// `url` names an empty database.
    pub(crate) async fn start(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, url).await
    }

    async fn start_in(folder: TempDir, url: &str) -> Self {
        let mall = Mall::open_on(Path::new(folder.path()), url, NODES).await;
        let nodes = (0..NODES).map(|node| Some(mall.serve_node(node))).collect();
        let cluster = Self {
            senders: Senders::start(&mall),
            mall,
            nodes,
            gaps: vec![Gap {
                from: Instant::now(),
                to: Instant::now() + LONGEST_RUN,
            }],
            _folder: folder,
        };
        cluster.wait_until_ready().await;
        cluster
    }

    /// Waits until every node takes events.
    pub(crate) async fn wait_until_ready(&self) {
        for node in 0..NODES {
            self.wait_until_one_is_ready(node).await;
        }
    }

    pub(crate) async fn wait_until_one_is_ready(&self, node: usize) {
        let way: Http = self.mall.node(node);
        wait_for("a node is not ready", async || {
            way.readiness().await == Some((200, false))
        })
        .await;
    }

    /// Waits until a node says that it takes nothing, and when to come back.
    pub(crate) async fn wait_until_not_ready(&self, node: usize) {
        let way: Http = self.mall.node(node);
        wait_for("/readyz does not tell", async || {
            way.readiness().await == Some((503, true))
        })
        .await;
    }

    /// Nothing that is posted from now on is acknowledged for so long.
    pub(crate) async fn nothing_is_taken_for(&self, time: Duration) {
        let since = Instant::now();
        tokio::time::sleep(time).await;
        assert!(self.senders.book().acknowledged_until < Some(since));
    }

    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        self.nodes[node].as_ref().unwrap().signal(signal);
    }

    /// What is under way now may be told twice.
    pub(crate) fn note_a_gap(&mut self) {
        self.gaps.push(Gap::death());
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].take().unwrap().kill();
        self.note_a_gap();
    }

    /// Stops it as its people do.
    pub(crate) async fn stop(&mut self, node: usize) {
        let process = self.nodes[node].take().unwrap();
        process.signal(Signal::TERM);
        let status = process.ended("a node does not stop").await;
        assert!(status.success(), "{}: {status}", node_name(node));
    }

    pub(crate) fn serve(&mut self, node: usize) {
        assert!(self.nodes[node].is_none());
        self.nodes[node] = Some(self.mall.serve_node(node));
    }

    /// No process ended that nobody stopped.
    pub(crate) fn all_live(&mut self) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let ended = node.as_mut().unwrap().has_ended();
            assert!(ended.is_none(), "{} ended by itself: {ended:?}", node_name(number));
        }
    }

    /// Waits until everything acknowledged arrived and looks back: nothing lost, nothing turned round, each repeat with its reason,
    /// every refusal a 503 that says when to come back.
    pub(crate) async fn look_back(mut self, database: &Client) -> (Figures, Reasons) {
        let book = self.senders.finish().await;
        let figures = audit(&self.mall, &book, &self.gaps).await;
        nothing_waits(database).await;
        for node in 0..NODES {
            let process = self.nodes[node].take().unwrap();
            process.signal(Signal::TERM);
            assert!(process.ended("a node does not stop").await.success());
        }
        assert!(book.refused.keys().all(|status| *status == 503), "{:?}", book.refused);
        assert_eq!(book.without_retry_after, 0);
        assert_eq!(faults_of_database(database).await, [""; 0]);
        println!("refused: {:?}", book.refused);
        let reasons = Reasons::read(database).await;
        println!("{reasons:?}, {} repeats", figures.repeats());
        assert!(
            figures.repeats() <= reasons.all(),
            "more was repeated than there was reason for"
        );
        (figures, reasons)
    }
}

/// Waits for what is told again. It comes a minute behind a late call.
async fn nothing_waits(database: &Client) {
    let end = Instant::now() + Duration::from_secs(90);
    while Instant::now() < end {
        let waiting = database.query_one("SELECT count(*) FROM message WHERE status = 'waiting'", &[]);
        if waiting.await.unwrap().get::<_, i64>(0) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Why something may have been told twice, as the nodes counted it.
#[derive(Debug)]
pub(crate) struct Reasons {
    /// Claims that ended with their node.
    pub(crate) lanes_taken_over: usize,
    /// Calls whose answer nobody heard.
    outcomes_unknown: usize,
    /// After a take-over, when something newer had been told: the newest state once more.
    pub(crate) states_told_again: usize,
}

impl Reasons {
    async fn read(database: &Client) -> Self {
        const REASONS: &str = "SELECT
            (SELECT coalesce(sum(value), 0)::bigint FROM counters WHERE name = 'retry' AND word = 'taken-over'),
            (SELECT count(*) FROM attempt WHERE outcome = 'unknown'),
            (SELECT count(*) FROM delivery WHERE cause = 'reassertion')";
        let row = database.query_one(REASONS, &[]).await.unwrap();
        let number = |place| usize::try_from(row.get::<_, i64>(place)).unwrap();
        Self {
            lanes_taken_over: number(0),
            outcomes_unknown: number(1),
            states_told_again: number(2),
        }
    }

    fn all(&self) -> usize {
        self.lanes_taken_over + self.outcomes_unknown + self.states_told_again
    }
}

/// What is wrong with the rows of a database at rest.
async fn faults_of_database(database: &Client) -> Vec<String> {
    let mut faults = Vec::new();
    for (rule, count) in RULES {
        let broken: i64 = database.query_one(count, &[]).await.unwrap().get(0);
        if broken > 0 {
            faults.push(format!("{broken} × {rule}"));
        }
    }
    faults
}

const RULES: [(&str, &str); 6] = [
    (
        "a message that still waits",
        "SELECT count(*) FROM message WHERE status = 'waiting'",
    ),
    (
        "a lane that is claimed, due, or to be repeated",
        "SELECT count(*) FROM lane WHERE node_id IS NOT NULL OR due_at IS NOT NULL OR head_id IS NOT NULL",
    ),
    (
        "a node that is listed",
        "SELECT count(*) FROM node WHERE seen_at > now_ms() - 5000",
    ),
    (
        "a counter of events that differs from the rows",
        "WITH counted AS (SELECT scope, word, value FROM counters WHERE name = 'event' AND word <> 'duplicate'),
              rows AS (SELECT lot AS scope, recorded AS word, count(*) AS value FROM event GROUP BY 1, 2)
         SELECT count(*) FROM counted FULL JOIN rows USING (scope, word)
         WHERE coalesce(counted.value, 0) <> coalesce(rows.value, 0)",
    ),
    (
        "a counter of messages that differs from the rows",
        "WITH counted AS (SELECT scope, word, value FROM counters
                          WHERE name = 'delivery' OR (name = 'waiting' AND word IN ('waiting', 'held'))),
              rows AS (SELECT m.circle AS scope, d.status AS word, count(*) AS value
                       FROM (SELECT member_id, status FROM delivery UNION ALL SELECT member_id, status FROM message) d
                       JOIN member m ON m.id = d.member_id GROUP BY 1, 2)
         SELECT count(*) FROM counted FULL JOIN rows USING (scope, word)
         WHERE coalesce(counted.value, 0) <> coalesce(rows.value, 0)",
    ),
    (
        "a delivered message without the try that delivered it",
        "SELECT count(*) FROM delivery d WHERE status = 'delivered'
           AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.delivery_id = d.id AND a.outcome = 'accepted')",
    ),
];

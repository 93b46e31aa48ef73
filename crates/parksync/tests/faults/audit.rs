//! Compares what gates were acknowledged with what WeChat Pay was told, and looks a database over.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use wechatpay_sandbox::{Ledger, Parking};

use crate::app::{Mall, PATIENCE};
use crate::senders::Book;

/// A process died or slept: from when to when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Gap {
    /// It is dead: noticed now.
    pub(crate) fn death() -> Self {
        let now = Instant::now();
        Self { from: now, to: now }
    }
}

/// How long a call that left before a gap may take to arrive.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// Messages that one gap may leave in doubt: as many as are under way (`delivery.max_in_flight`), and as many again that wait to be written down.
const IN_DOUBT: usize = 2 * 32;

/// Figures of a run that kept its promises.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) acknowledged: usize,
    pub(crate) unanswered_posts: usize,
    pub(crate) repeats_after_a_gap: usize,
    pub(crate) repeats_after_a_lost_answer: usize,
}

impl Figures {
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    pub(crate) fn repeats(&self) -> usize {
        self.repeats_after_a_gap + self.repeats_after_a_lost_answer
    }
}

/// Waits until everything acknowledged arrived, then compares: nothing lost, nothing turned round, and each repeat has its reason.
pub(crate) async fn audit(mall: &Mall, book: &Book, gaps: &[Gap]) -> Figures {
    let ledger = mall.sandbox.ledger();
    let end = Instant::now() + PATIENCE;
    while ledger.accepted() < book.total || distinct(&ledger) < book.total {
        assert!(
            Instant::now() < end,
            "lost: {} of {} acknowledged events arrived",
            distinct(&ledger),
            book.total
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (mut after_gap, mut after_lost_answer) = (0, 0);
    let told = told(&ledger);
    for (car, acknowledged) in &book.cars {
        let told = &told[car];
        let mut states: Vec<_> = told.iter().map(crossing).collect();
        states.dedup();
        assert_eq!(
            &states, acknowledged,
            "{car}: lost, turned round, or repeated out of place"
        );
        for pair in told.windows(2).filter(|pair| crossing(&pair[0]) == crossing(&pair[1])) {
            if !pair[0].answered {
                after_lost_answer += 1;
            } else if gaps.iter().any(|gap| explains(gap, &pair[0], &pair[1])) {
                after_gap += 1;
            } else {
                panic!("{car}: told twice although nothing died and its answer was sent");
            }
        }
    }
    assert!(after_gap <= gaps.len() * IN_DOUBT, "{after_gap} repeats after gaps");
    Figures {
        acknowledged: book.total,
        unanswered_posts: book.unanswered,
        repeats_after_a_gap: after_gap,
        repeats_after_a_lost_answer: after_lost_answer,
    }
}

fn explains(gap: &Gap, first: &Parking, second: &Parking) -> bool {
    first.received <= gap.to + UNDER_WAY && second.received >= gap.from
}

fn crossing(parking: &Parking) -> (wechatpay_sandbox::State, i64) {
    (parking.state, parking.at.as_second())
}

fn told(ledger: &Ledger) -> HashMap<String, Vec<Parking>> {
    let mut told: HashMap<String, Vec<Parking>> = HashMap::new();
    for parking in ledger.parkings() {
        told.entry(parking.plate_number.clone()).or_default().push(parking);
    }
    told
}

fn distinct(ledger: &Ledger) -> usize {
    let parkings = ledger.parkings();
    let all = parkings.iter().map(|parking| {
        (
            &parking.plate_number,
            parking.at,
            parking.state == wechatpay_sandbox::State::In,
        )
    });
    all.collect::<std::collections::HashSet<_>>().len()
}

/// Looks a database over: whole, its lanes in order, its counters equal to its rows. Returns what is wrong.
pub(crate) fn faults_of_database(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let mut faults = Vec::new();
    let integrity: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap_or_else(|error| error.to_string());
    if integrity != "ok" {
        faults.push(integrity);
    }
    for (rule, count) in RULES {
        let broken: i64 = db.query_row(count, [], |row| row.get(0)).unwrap();
        if broken > 0 {
            faults.push(format!("{broken} × {rule}"));
        }
    }
    faults
}

/// Each asks for the number of rows that break it.
const RULES: [(&str, &str); 7] = [
    (
        "a member without a lane, or a lane without a member",
        "SELECT count(*) FROM member m FULL JOIN lane l ON l.member_id = m.id WHERE m.id IS NULL OR l.member_id IS NULL",
    ),
    (
        "a message that waits in a lane that nobody will look at",
        "SELECT count(*) FROM lane l WHERE node_id IS NULL AND due_at IS NULL
           AND EXISTS (SELECT 1 FROM delivery d WHERE d.member_id = l.member_id AND d.status = 'waiting')",
    ),
    (
        "a lane that is claimed and due at the same time",
        "SELECT count(*) FROM lane WHERE node_id IS NOT NULL AND due_at IS NOT NULL",
    ),
    (
        "a claim without a message",
        "SELECT count(*) FROM lane WHERE node_id IS NOT NULL AND head_id IS NULL",
    ),
    (
        "a counter of messages that differs from the rows",
        "WITH counted AS (SELECT scope, word, value FROM counter
                          WHERE name = 'delivery' OR (name = 'waiting' AND word IN ('waiting', 'held'))),
              rows AS (SELECT m.circle AS scope, d.status AS word, count(*) AS value
                       FROM delivery d JOIN member m ON m.id = d.member_id GROUP BY 1, 2)
         SELECT count(*) FROM counted FULL JOIN rows USING (scope, word)
         WHERE coalesce(counted.value, 0) <> coalesce(rows.value, 0)",
    ),
    (
        "a counter of events that differs from the rows",
        "WITH counted AS (SELECT scope, word, value FROM counter WHERE name = 'event' AND word <> 'duplicate'),
              rows AS (SELECT lot AS scope, recorded AS word, count(*) AS value FROM event GROUP BY 1, 2)
         SELECT count(*) FROM counted FULL JOIN rows USING (scope, word)
         WHERE coalesce(counted.value, 0) <> coalesce(rows.value, 0)",
    ),
    (
        "a delivered message without the try that delivered it",
        "SELECT count(*) FROM delivery d WHERE status = 'delivered'
           AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.delivery_id = d.id AND a.outcome = 'accepted')",
    ),
];

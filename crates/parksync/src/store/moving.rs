//! Carries an installation from an SQLite file over to PostgreSQL: every row, in portions that are remembered, so that an interrupted
//! move goes on where it stopped. Afterwards both sides are read and compared. The file is only read.
//!
//! Ids of events, messages and tries begin with their day over there, so they are made anew from the old ones: `…42` stays `…42`.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Map, Value, json};

use super::StoreError;
use super::postgres::PgStore;

/// Rows in one portion: one transaction over there.
const PORTION: usize = 2000;

/// A table of the target, and the question to the file whose columns are named like it.
struct Table {
    name: &'static str,
    source: &'static str,
}

/// In an order in which every row finds what it refers to.
const TABLES: [Table; 13] = [
    Table {
        name: "circle",
        source: "SELECT id, name, merchant FROM circle ORDER BY id",
    },
    Table {
        name: "member",
        source: "SELECT id, circle, appid, member_tag, openid_sealed, created_at FROM member ORDER BY id",
    },
    Table {
        name: "binding",
        source: "SELECT circle, plate_tag, member_id, plate_sealed, bound_at FROM binding ORDER BY circle, plate_tag, member_id",
    },
    Table {
        name: "visit",
        source: "SELECT id, circle, plate_tag, entered_lot, entered_at, left_lot, left_at, ended, forget_from,
                        iif(of_member, 'true', 'false') AS of_member, iif(reread, 'true', 'false') AS reread FROM visit ORDER BY id",
    },
    Table {
        name: "seen",
        source: "SELECT dedupe FROM event ORDER BY id",
    },
    Table {
        name: "event",
        source: "SELECT day(received_at) + id AS id, dedupe, record_tag, visit_id, circle, lot, gate, plate_tag, plate_sealed, state, at,
                        at_claimed, received_at, iif(replayed, 'true', 'false') AS replayed, recorded FROM event ORDER BY event.id",
    },
    Table {
        name: "message",
        source: "SELECT day(d.enqueued_at) + d.id AS id, d.member_id, day(e.received_at) + e.id AS event_id, d.plate_tag, d.plate_sealed,
                        d.state, d.at, d.cause, d.not_before, d.enqueued_at, d.status, d.reason, d.tries, d.settled_at
                 FROM delivery d JOIN event e ON e.id = d.event_id WHERE d.status IN ('waiting', 'held', 'dead') ORDER BY d.id",
    },
    Table {
        name: "delivery",
        source: "SELECT day(d.enqueued_at) + d.id AS id, d.member_id, day(e.received_at) + e.id AS event_id, d.plate_tag, d.plate_sealed,
                        d.state, d.at, d.cause, d.not_before, d.enqueued_at, d.status, d.reason, d.tries,
                        coalesce(d.settled_at, d.enqueued_at) AS settled_at
                 FROM delivery d JOIN event e ON e.id = d.event_id WHERE d.status NOT IN ('waiting', 'held', 'dead') ORDER BY d.id",
    },
    Table {
        name: "attempt",
        source: "SELECT day(d.enqueued_at) + d.id AS delivery_id, a.began_at, a.took_ms, a.outcome, a.status, a.code, a.request_id, a.detail
                 FROM attempt a JOIN delivery d ON d.id = a.delivery_id ORDER BY a.rowid",
    },
    Table {
        name: "lane",
        source: "SELECT l.member_id, l.circle_id, l.due_at, day(h.enqueued_at) + h.id AS head_id, NULL AS node_id, NULL AS lease_until,
                        l.epoch, day(s.enqueued_at) + s.id AS suspect_id, l.suspect_plate
                 FROM lane l LEFT JOIN delivery h ON h.id = l.head_id LEFT JOIN delivery s ON s.id = l.suspect_id ORDER BY l.member_id",
    },
    Table {
        name: "told",
        source: "SELECT member_id, plate_tag, state, at, was_state, was_at FROM told ORDER BY member_id, plate_tag",
    },
    Table {
        name: "hold",
        source: "SELECT scope, name, reason, since, probes, probe_at, 0 AS probing_until FROM hold ORDER BY scope, name",
    },
    Table {
        name: "counter",
        source: "SELECT name, scope, word, value FROM counter ORDER BY name, scope, word",
    },
];

/// What became of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The table.
    pub table: &'static str,
    /// Its rows, the same on both sides.
    pub rows: u64,
}

/// Why a move stopped. What was carried over stays; the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Source {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The target cannot be written, or is in use.
    #[error(transparent)]
    Target(#[from] StoreError),
    /// The target has nodes or data of its own.
    #[error("{0}")]
    InUse(String),
    /// The two sides differ after everything was carried over.
    #[error("table {table} differs: {source_rows} rows here, {target_rows} over there, or other contents")]
    Differs {
        /// The table.
        table: &'static str,
        /// Rows of the file.
        source_rows: u64,
        /// Rows over there.
        target_rows: u64,
    },
}

/// Carries everything over and compares. `told` hears of each portion: the table, rows done, rows in all.
///
/// The caller sees to it that nobody serves the file meanwhile.
///
/// # Errors
/// One side fails, the target is in use, or the two differ in the end.
pub async fn carry(
    path: &Path,
    target: &PgStore,
    mut told: impl FnMut(&'static str, u64, u64),
) -> Result<Vec<Moved>, MoveError> {
    let file = |source| MoveError::Source {
        path: path.to_owned(),
        source,
    };
    target.ready_for_move().await?.map_err(MoveError::InUse)?;
    let source = open(path).map_err(file)?;
    target.make_days(days(&source).map_err(file)?).await?;
    let mut moved = Vec::with_capacity(TABLES.len());
    for table in &TABLES {
        let rows = count(&source, table).map_err(file)?;
        let mut statement = source.prepare(table.source).map_err(file)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut cursor = statement.query([]).map_err(file)?;
        let (mut checksum, mut number) = (Checksum::default(), 0_u64);
        let done = target.carried(table.name).await?;
        let mut portion = Vec::with_capacity(PORTION);
        loop {
            let row = cursor.next().map_err(file)?;
            if let Some(row) = row {
                let row = object(row, &names).map_err(file)?;
                checksum.add(&row);
                number += 1;
                if number > done {
                    portion.push(row);
                }
            }
            let last = number == rows;
            if portion.len() == PORTION || last {
                let full = std::mem::replace(&mut portion, Vec::with_capacity(PORTION));
                target.carry_in(table.name, Value::Array(full), number).await?;
                told(table.name, number, rows);
            }
            if last {
                break;
            }
        }
        let there = target.checksum(table.name).await?;
        if there != checksum {
            return Err(MoveError::Differs {
                table: table.name,
                source_rows: checksum.rows,
                target_rows: there.rows,
            });
        }
        moved.push(Moved {
            table: table.name,
            rows,
        });
    }
    target.number_on(newest(&source).map_err(file)?).await?;
    Ok(moved)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let source = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    source.create_scalar_function(
        "day",
        1,
        rusqlite::functions::FunctionFlags::SQLITE_DETERMINISTIC | rusqlite::functions::FunctionFlags::SQLITE_UTF8,
        |context| {
            let at: Option<i64> = context.get(0)?;
            Ok(at.map(first_id))
        },
    )?;
    Ok(source)
}

/// The first id of the day of a time, over there.
fn first_id(millis: i64) -> Option<i64> {
    let at = jiff::Timestamp::from_millisecond(millis).ok()?;
    let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = i64::from(date.year() % 100) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day());
    Some(day * 10_000_000_000)
}

fn count(source: &Connection, table: &Table) -> rusqlite::Result<u64> {
    let rows: i64 = source.query_row(&format!("SELECT count(*) FROM ({})", table.source), [], |row| {
        row.get(0)
    })?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// The days that need a partition, as `YYMMDD`.
fn days(source: &Connection) -> rusqlite::Result<Vec<String>> {
    source
        .prepare("SELECT DISTINCT day(received_at) FROM event UNION SELECT DISTINCT day(enqueued_at) FROM delivery")?
        .query_map([], |row| Ok(format!("{:06}", row.get::<_, i64>(0)? / 10_000_000_000)))?
        .collect()
}

/// The newest numbers: over there counting goes on behind them. Members, circles, visits, events, messages.
fn newest(source: &Connection) -> rusqlite::Result<[i64; 5]> {
    let newest = |table: &str| {
        source.query_row(&format!("SELECT coalesce(max(id), 0) + 1 FROM {table}"), [], |row| {
            row.get(0)
        })
    };
    Ok([
        newest("member")?,
        newest("circle")?,
        newest("visit")?,
        newest("event")?,
        newest("delivery")?,
    ])
}

fn object(row: &Row<'_>, names: &[String]) -> rusqlite::Result<Value> {
    let mut object = Map::new();
    for (place, name) in names.iter().enumerate() {
        let value = match row.get_ref(place)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => json!(number),
            ValueRef::Real(number) => json!(number),
            // SQLite has no truth values of its own.
            ValueRef::Text(b"true") if is_flag(name) => json!(true),
            ValueRef::Text(b"false") if is_flag(name) => json!(false),
            ValueRef::Text(text) => json!(String::from_utf8_lossy(text).replace('\0', "")),
            ValueRef::Blob(bytes) => json!(hex(bytes)),
        };
        object.insert(name.clone(), value);
    }
    Ok(Value::Object(object))
}

fn is_flag(name: &str) -> bool {
    matches!(name, "of_member" | "reread" | "replayed")
}

/// Bytes as PostgreSQL writes them into JSON.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The number of rows and a sum of digests of their contents, in which their order does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) rows: u64,
    sum: u128,
}

impl Checksum {
    /// Adds one row, an object. The order of its columns does not count.
    pub(super) fn add(&mut self, row: &Value) {
        let mut columns: Vec<_> = row.as_object().into_iter().flatten().collect();
        columns.sort_by_key(|(name, _)| *name);
        let text = Value::from_iter(columns.into_iter().map(|(name, value)| json!([name, value])));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.to_string().as_bytes());
        let half = digest.as_ref().first_chunk::<16>().copied().unwrap_or_default();
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(half));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_begin_with_their_day() {
        let at: jiff::Timestamp = "2026-11-29T23:59:59Z".parse().unwrap();
        assert_eq!(first_id(at.as_millisecond()), Some(2_611_290_000_000_000));
    }

    #[test]
    fn a_checksum_sees_every_change_and_no_order() {
        let (one, two) = (json!({"id": 1, "tag": "\\x00"}), json!({"id": 2, "tag": null}));
        let sum = |rows: &[&Value]| {
            let mut sum = Checksum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        assert_eq!(sum(&[&one, &two]), sum(&[&two, &one]));
        assert_ne!(sum(&[&one, &two]), sum(&[&one, &one]));
        assert_ne!(sum(&[&one]), sum(&[&one, &two]));
    }
}

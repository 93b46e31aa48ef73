//! What pauses a circle or a merchant, inside a transaction: refusals of its set-up, and people.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::claims::Circle;
use super::{Failure, Tx, millis, timestamp};
use crate::domain::delivery::{Scope, probe_after};
use crate::store::Hold;

/// Pauses a circle or merchant after a refusal of its set-up, or puts the next probe off when it pauses already.
pub(super) fn pause(tx: &Tx<'_>, scope: Scope, name: &str, reason: &str, now: i64) -> Result<(), Failure> {
    let known: Option<(u32, Option<i64>)> = tx
        .db
        .prepare_cached("SELECT probes, probe_at FROM hold WHERE scope = ?1 AND name = ?2")?
        .query_row((scope_word(scope), name), |row| row.try_into())
        .optional()?;
    let by_hand = matches!(known, Some((_, None)));
    if by_hand {
        return Ok(());
    }
    let (probes, due) = known.map_or((0, i64::MIN), |(probes, due)| (probes + 1, due.unwrap_or(i64::MIN)));
    // Calls that were under way when the first refusal came are no probes.
    if now < due {
        return Ok(());
    }
    let wait = probe_after(probes).as_millis();
    let probe_at = now + i64::try_from(wait).unwrap_or(60_000);
    tx.db
        .prepare_cached(
            "INSERT INTO hold (scope, name, reason, since, probe_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (scope, name) DO UPDATE
             SET reason = excluded.reason, probes = probes + 1, probe_at = excluded.probe_at, probing_until = 0",
        )?
        .execute((scope_word(scope), name, reason, now, probe_at))?;
    if known.is_none() {
        tx.count("hold", name, scope_word(scope), 1);
        tracing::error!(
            scope = scope_word(scope),
            name,
            reason,
            "deliveries pause: WeChat Pay refuses the set-up"
        );
    }
    Ok(())
}

/// Ends a hold that a refusal made. One that a person made stays.
pub(super) fn release(tx: &Tx<'_>, scope: Scope, name: &str) -> Result<(), Failure> {
    let released = tx
        .db
        .prepare_cached("DELETE FROM hold WHERE scope = ?1 AND name = ?2 AND probe_at IS NOT NULL")?
        .execute((scope_word(scope), name))?;
    if released > 0 {
        tx.count("hold", name, scope_word(scope), -1);
        tx.woke.set(true);
        tracing::warn!(
            scope = scope_word(scope),
            name,
            "deliveries go on: WeChat Pay accepts the set-up again"
        );
    }
    Ok(())
}

/// A person pauses a circle or merchant. Nothing is probed.
pub(super) fn hold_by_hand(tx: &Tx<'_>, scope: Scope, name: &str, reason: &str, now: Timestamp) -> Result<(), Failure> {
    let known = tx
        .db
        .prepare_cached("SELECT 1 FROM hold WHERE scope = ?1 AND name = ?2")?
        .exists((scope_word(scope), name))?;
    tx.db
        .prepare_cached(
            "INSERT INTO hold (scope, name, reason, since) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (scope, name) DO UPDATE SET reason = excluded.reason, probe_at = NULL, probing_until = 0",
        )?
        .execute((scope_word(scope), name, reason, millis(now)))?;
    if !known {
        tx.count("hold", name, scope_word(scope), 1);
    }
    Ok(())
}

/// A person lets a circle or merchant go on. Says whether it paused.
pub(super) fn release_by_hand(tx: &Tx<'_>, scope: Scope, name: &str) -> Result<bool, Failure> {
    let released = tx
        .db
        .prepare_cached("DELETE FROM hold WHERE scope = ?1 AND name = ?2")?
        .execute((scope_word(scope), name))?;
    if released > 0 {
        tx.count("hold", name, scope_word(scope), -1);
        tx.woke.set(true);
    }
    Ok(released > 0)
}

/// Everything that pauses.
pub(super) fn holds(db: &Connection) -> Result<Vec<Hold>, Failure> {
    let rows: Vec<(String, String, String, i64, u32, Option<i64>)> = db
        .prepare_cached("SELECT scope, name, reason, since, probes, probe_at FROM hold ORDER BY since")?
        .query_map([], |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    rows.into_iter()
        .map(|(scope, name, reason, since, probes, probe_at)| {
            Ok(Hold {
                scope: if scope == "merchant" {
                    Scope::Merchant
                } else {
                    Scope::Circle
                },
                name,
                reason,
                since: timestamp(since)?,
                probes,
                probe_at: probe_at.map(timestamp).transpose()?,
            })
        })
        .collect()
}

pub(super) const fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Circle => "circle",
        Scope::Merchant => "merchant",
    }
}

/// The holds, as a claim needs them.
pub(super) struct Holds(HashMap<(&'static str, String), HeldNow>);

pub(super) struct HeldNow {
    pub(super) scope: &'static str,
    pub(super) name: String,
    pub(super) probe_at: Option<i64>,
    pub(super) probing: bool,
}

impl Holds {
    pub(super) fn load(db: &Connection, store_now: Timestamp) -> Result<Self, Failure> {
        let rows: Vec<(String, String, Option<i64>, bool)> = db
            .prepare_cached("SELECT scope, name, probe_at, probing_until > ?1 FROM hold")?
            .query_map([millis(store_now)], |row| row.try_into())?
            .collect::<Result<_, _>>()?;
        let held = rows.into_iter().map(|(scope, name, probe_at, probing)| {
            let scope = if scope == "merchant" { "merchant" } else { "circle" };
            (
                (scope, name.clone()),
                HeldNow {
                    scope,
                    name,
                    probe_at,
                    probing,
                },
            )
        });
        Ok(Self(held.collect()))
    }

    /// The hold that counts for a circle: its merchant's, else its own.
    pub(super) fn over(&self, circle: &Circle) -> Option<&HeldNow> {
        self.0
            .get(&("merchant", circle.merchant.clone()))
            .or_else(|| self.0.get(&("circle", circle.name.clone())))
    }

    pub(super) fn over_mut(&mut self, circle: &Circle) -> Option<&mut HeldNow> {
        let merchant = ("merchant", circle.merchant.clone());
        let key = if self.0.contains_key(&merchant) {
            merchant
        } else {
            ("circle", circle.name.clone())
        };
        self.0.get_mut(&key)
    }
}

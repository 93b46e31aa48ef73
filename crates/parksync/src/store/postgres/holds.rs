//! What pauses a circle or a merchant, inside a transaction: refusals of its set-up, and people.
//!
//! Holds are few and short. Whoever changes them, or decides by them, does so alone: one lock for all of them, after the lanes.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::claims::Circle;
use super::tx::{Failure, Tx, clean, maybe_timestamp, millis, timestamp};
use crate::domain::delivery::{Scope, probe_after};
use crate::store::Hold;

/// The lock for all holds.
const LOCK: i64 = 0x686f_6c64_7300_0000;

pub(super) async fn lock(tx: &Tx<'_>) -> Result<(), Failure> {
    tx.rows("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    Ok(())
}

/// What pauses, by scope and name. Most of the time nothing does.
pub(super) async fn names(tx: &Tx<'_>) -> Result<HashSet<(&'static str, String)>, Failure> {
    let rows = tx.rows("SELECT scope, name FROM hold", &[]).await?;
    rows.iter()
        .map(|row| Ok((scope_word(scope(row.try_get(0)?)), row.try_get(1)?)))
        .collect()
}

/// Pauses a circle or merchant after a refusal of its set-up, or puts the next probe off when it pauses already.
pub(super) async fn pause(tx: &Tx<'_>, scope: Scope, name: &str, reason: &str, now: i64) -> Result<(), Failure> {
    let known = tx
        .row(
            "SELECT probes, probe_at FROM hold WHERE scope = $1 AND name = $2",
            &[&scope_word(scope), &name],
        )
        .await?;
    let known: Option<(i64, Option<i64>)> = match known {
        Some(row) => Some((row.try_get(0)?, row.try_get(1)?)),
        None => None,
    };
    if matches!(known, Some((_, None))) {
        return Ok(());
    }
    let (probes, due) = known.map_or((0, i64::MIN), |(probes, due)| (probes + 1, due.unwrap_or(i64::MIN)));
    // Calls that were under way when the first refusal came are no probes.
    if now < due {
        return Ok(());
    }
    let wait = probe_after(u32::try_from(probes).unwrap_or(u32::MAX)).as_millis();
    let probe_at = now + i64::try_from(wait).unwrap_or(60_000);
    tx.execute(
        "INSERT INTO hold (scope, name, reason, since, probe_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (scope, name) DO UPDATE
         SET reason = excluded.reason, probes = hold.probes + 1, probe_at = excluded.probe_at, probing_until = 0",
        &[&scope_word(scope), &name, &clean(reason), &now, &probe_at],
    )
    .await?;
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
pub(super) async fn release(tx: &Tx<'_>, scope: Scope, name: &str) -> Result<(), Failure> {
    let released = tx
        .execute(
            "DELETE FROM hold WHERE scope = $1 AND name = $2 AND probe_at IS NOT NULL",
            &[&scope_word(scope), &name],
        )
        .await?;
    if released > 0 {
        tx.count("hold", name, scope_word(scope), -1);
        tx.wake([]);
        tracing::warn!(
            scope = scope_word(scope),
            name,
            "deliveries go on: WeChat Pay accepts the set-up again"
        );
    }
    Ok(())
}

/// A probe that told nothing: another one goes soon.
pub(super) async fn probe_again(tx: &Tx<'_>, circle: &str, merchant: &str, at: i64) -> Result<(), Failure> {
    tx.execute(
        "UPDATE hold SET probing_until = 0, probe_at = $3
         WHERE probing_until > 0 AND ((scope = 'circle' AND name = $1) OR (scope = 'merchant' AND name = $2))",
        &[&circle, &merchant, &at],
    )
    .await?;
    Ok(())
}

/// A person pauses a circle or merchant. Nothing is probed.
pub(super) async fn hold_by_hand(
    tx: &Tx<'_>,
    scope: Scope,
    name: &str,
    reason: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    lock(tx).await?;
    let known = tx
        .exists(
            "SELECT FROM hold WHERE scope = $1 AND name = $2",
            &[&scope_word(scope), &name],
        )
        .await?;
    tx.execute(
        "INSERT INTO hold (scope, name, reason, since) VALUES ($1, $2, $3, $4)
         ON CONFLICT (scope, name) DO UPDATE SET reason = excluded.reason, probe_at = NULL, probing_until = 0",
        &[&scope_word(scope), &name, &clean(reason), &millis(now)],
    )
    .await?;
    if !known {
        tx.count("hold", name, scope_word(scope), 1);
    }
    Ok(())
}

/// A person lets a circle or merchant go on. Says whether it paused.
pub(super) async fn release_by_hand(tx: &Tx<'_>, scope: Scope, name: &str) -> Result<bool, Failure> {
    lock(tx).await?;
    let released = tx
        .execute(
            "DELETE FROM hold WHERE scope = $1 AND name = $2",
            &[&scope_word(scope), &name],
        )
        .await?;
    if released > 0 {
        tx.count("hold", name, scope_word(scope), -1);
        tx.wake([]);
    }
    Ok(released > 0)
}

/// Everything that pauses.
pub(super) async fn holds(tx: &Tx<'_>) -> Result<Vec<Hold>, Failure> {
    let rows = tx
        .rows(
            "SELECT scope, name, reason, since, probes, probe_at FROM hold ORDER BY since",
            &[],
        )
        .await?;
    rows.into_iter()
        .map(|row| {
            let probes: i64 = row.try_get(4)?;
            Ok(Hold {
                scope: scope(row.try_get(0)?),
                name: row.try_get(1)?,
                reason: row.try_get(2)?,
                since: timestamp(row.try_get(3)?)?,
                probes: u32::try_from(probes).unwrap_or(u32::MAX),
                probe_at: maybe_timestamp(row.try_get(5)?)?,
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

pub(super) fn scope(word: &str) -> Scope {
    if word == "merchant" {
        Scope::Merchant
    } else {
        Scope::Circle
    }
}

/// The holds, as a claim needs them.
pub(super) struct Holds(HashMap<(&'static str, String), HeldNow>);

pub(super) struct HeldNow {
    pub(super) probe_at: Option<i64>,
    pub(super) probing: bool,
}

impl HeldNow {
    pub(super) fn probe_is_due(&self, now: i64) -> bool {
        self.probe_at.is_some_and(|at| at <= now) && !self.probing
    }
}

impl Holds {
    pub(super) async fn load(tx: &Tx<'_>) -> Result<Self, Failure> {
        let rows = tx
            .rows("SELECT scope, name, probe_at, probing_until > now_ms() FROM hold", &[])
            .await?;
        let held = rows.into_iter().map(|row| {
            let key = (scope_word(scope(row.try_get(0)?)), row.try_get(1)?);
            let held = HeldNow {
                probe_at: row.try_get(2)?,
                probing: row.try_get(3)?,
            };
            Ok((key, held))
        });
        Ok(Self(held.collect::<Result<_, Failure>>()?))
    }

    /// Loads them for a claim. Of all nodes only one at a time may see that a probe is due.
    pub(super) async fn load_for_claim(tx: &Tx<'_>, now: i64) -> Result<Self, Failure> {
        let holds = Self::load(tx).await?;
        if !holds.0.values().any(|held| held.probe_is_due(now)) {
            return Ok(holds);
        }
        let ((), holds) = tokio::try_join!(biased; lock(tx), Self::load(tx))?;
        Ok(holds)
    }

    fn key(&self, circle: &Circle) -> (&'static str, String) {
        let merchant = ("merchant", circle.merchant.clone());
        if self.0.contains_key(&merchant) {
            merchant
        } else {
            ("circle", circle.name.clone())
        }
    }

    /// The hold that counts for a circle: its merchant's, else its own.
    pub(super) fn over(&self, circle: &Circle) -> Option<&HeldNow> {
        self.0.get(&self.key(circle))
    }

    /// A probe is asked for: nobody else of the same hold gets one in this claim.
    pub(super) fn asked(&mut self, circle: &Circle) {
        let key = self.key(circle);
        if let Some(held) = self.0.get_mut(&key) {
            held.probing = true;
        }
    }

    /// Writes down that a probe is under way, for so many milliseconds.
    pub(super) async fn probe(&self, tx: &Tx<'_>, circle: &Circle, lease: i64) -> Result<(), Failure> {
        let (scope, name) = self.key(circle);
        if self.0.contains_key(&(scope, name.clone())) {
            tx.execute(
                "UPDATE hold SET probing_until = now_ms() + $3 WHERE scope = $1 AND name = $2",
                &[&scope, &name, &lease],
            )
            .await?;
        }
        Ok(())
    }
}

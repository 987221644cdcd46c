//! Compaction: deletes old events that the newest snapshot covers, in small steps.
//!
//! Deleted events are a prefix of the log. `meta` names the last one (`compacted`), so that a real gap is still
//! found. From then on the snapshot is the only record of what they did: it is read back before anything is
//! deleted, and the formats of snapshots stay readable.

use pileus_model::{Event, Time, View};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{
    snapshot,
    sqlite::{EVENT, event},
};

/// Most events that one transaction deletes.
pub const STEP: u64 = 1000;

/// Most pages that one step gives back to the file system.
const PAGES: u32 = 1000;

/// Bounds of the history that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Age of an event up to which it is kept, in days before the newest event.
    pub days: u64,
    /// Size of the newest events that are kept, in MiB of their rows.
    pub mib: u64,
}

/// Sequence number of the last event that was deleted; 0: none was.
pub fn compacted(db: &Connection) -> rusqlite::Result<u64> {
    let mut query = db.prepare_cached("SELECT value FROM meta WHERE name = 'compacted'")?;
    let value: Option<String> = query.query_one([], |row| row.get(0)).optional()?;
    Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
}

/// Returns the last event that may be deleted: it is beyond the bounds, covered by a snapshot that can be read,
/// and not the newest one. 0: none.
///
/// Age counts from the newest event, so that a wall clock that jumps ahead deletes nothing by itself. Cost: reads
/// the sizes of all events where the file is larger than the bound.
pub fn last_deletable(db: &Connection, bounds: Bounds) -> Result<u64, String> {
    let text = |cause: rusqlite::Error| cause.to_string();
    let newest: Option<(i64, i64)> = db
        .query_one("SELECT seq, time_ms FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(text)?;
    let Some((newest, now_ms)) = newest else { return Ok(0) };
    let age_ms = i64::try_from(bounds.days).unwrap_or(i64::MAX).saturating_mul(24 * 60 * 60 * 1000);
    // The first event that is young enough: all before it are old, whatever their times.
    let young: Option<i64> = db
        .query_one(
            "SELECT min(seq) FROM events WHERE time_ms >= ?1",
            params![now_ms.saturating_sub(age_ms)],
            |row| row.get(0),
        )
        .map_err(text)?;
    let by_age = young.map_or(0, |first| first - 1);
    let last = by_age.max(beyond_size(db, bounds.mib).map_err(text)?).min(newest - 1);
    let covered = newest_snapshot(db)?.map_or(0, |view| view.seq.cast_signed());
    Ok(u64::try_from(last.min(covered)).unwrap_or(0))
}

/// The last event that is not among the newest `mib` MiB of events; 0: all are.
fn beyond_size(db: &Connection, mib: u64) -> rusqlite::Result<i64> {
    let max = mib.saturating_mul(1 << 20);
    let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let page: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
    if pages.saturating_mul(page).unsigned_abs() <= max {
        return Ok(0);
    }
    // Columns beside the body, the row's header and the index take about as much as this.
    let sizes =
        "SELECT seq, octet_length(body) + octet_length(request_id) + 100 FROM events ORDER BY seq DESC";
    let mut query = db.prepare(sizes)?;
    let mut rows = query.query([])?;
    let mut sum = 0_u64;
    while let Some(row) = rows.next()? {
        sum = sum.saturating_add(row.get::<_, i64>(1)?.unsigned_abs());
        if sum > max {
            return row.get(0);
        }
    }
    Ok(0)
}

/// The newest snapshot that can be read; `None`: there is none.
pub fn newest_snapshot(db: &Connection) -> Result<Option<View>, String> {
    let text = |cause: rusqlite::Error| cause.to_string();
    let mut query = db.prepare("SELECT format, body FROM snapshots ORDER BY seq DESC").map_err(text)?;
    let mut rows = query.query([]).map_err(text)?;
    while let Some(row) = rows.next().map_err(text)? {
        let (format, body): (u32, Vec<u8>) = (row.get(0).map_err(text)?, row.get(1).map_err(text)?);
        if (snapshot::OLDEST..=snapshot::FORMAT).contains(&format)
            && let Ok(view) = snapshot::decode(&body)
        {
            return Ok(Some(view));
        }
    }
    Ok(None)
}

/// Deletes at most [`STEP`] events up to `last`. Returns `true` if none is left to delete.
pub fn step(db: &mut Connection, last: u64) -> rusqlite::Result<bool> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = compacted(&tx)?;
    let to = last.min(from.saturating_add(STEP));
    if to > from {
        tx.execute("DELETE FROM events WHERE seq <= ?1", params![to.cast_signed()])?;
        tx.execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?1)", params![to.to_string()])?;
    }
    tx.commit()?;
    // Has no effect on a database that was made without `auto_vacuum`: its free pages are used again.
    let mut vacuum = db.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(to >= last)
}

/// Gives all free space back to the file system: rebuilds a database that was made without `auto_vacuum`.
pub fn shrink(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM;")?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Writes every event as a line of JSON, the oldest first. Returns their number.
pub fn export(db: &Connection, out: &mut dyn std::io::Write) -> Result<u64, String> {
    let text = |cause: rusqlite::Error| cause.to_string();
    let mut query = db.prepare(&format!("SELECT {EVENT} FROM events ORDER BY seq")).map_err(text)?;
    let mut rows = query.query([]).map_err(text)?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(text)? {
        let Event { seq, time: Time(time_ms), by, owner, kind } = event(row)?;
        let line = serde_json::json!({
            "seq": seq, "time_ms": time_ms, "user": by.user, "project": by.project, "request_id": by.request_id,
            "comment": by.comment, "owner": super::sqlite::owner_text(&owner), "event": kind,
        });
        writeln!(out, "{line}").map_err(|cause| cause.to_string())?;
        count += 1;
    }
    Ok(count)
}

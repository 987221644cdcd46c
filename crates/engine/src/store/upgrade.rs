//! From older tables to those of today, each step in a transaction of its own.

use pileus_model::{Actor, Event, Owner, Time, View};
use rusqlite::{Connection, TransactionBehavior, params};

use super::{outputs::GAPS, sqlite::owner_text};
use crate::{owner::owner, state::apply};

/// Brings the tables from version `found` to the newest one.
pub fn upgrade(db: &mut Connection, found: u32) -> Result<(), String> {
    if found < 2 {
        owners(db).map_err(|cause| format!("events do not get their owners: {cause}"))?;
    }
    if found < 3 {
        gaps(db).map_err(|cause| format!("outputs do not get their gaps: {cause}"))?;
    }
    Ok(())
}

/// 2: events know their comment and whose they are. Who owns an event depends on the state before it,
/// so all of them are folded once.
fn owners(db: &mut Connection) -> rusqlite::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "ALTER TABLE events ADD COLUMN comment TEXT; ALTER TABLE events ADD COLUMN owner TEXT;",
    )?;
    {
        let mut view = View::default();
        let mut query = tx.prepare("SELECT seq, time_ms, user, body FROM events ORDER BY seq")?;
        let mut set = tx.prepare("UPDATE events SET owner = ?2 WHERE seq = ?1")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (seq, body): (i64, String) = (row.get(0)?, row.get(3)?);
            let kind = serde_json::from_str(&body)
                .map_err(|cause| rusqlite::Error::ToSqlConversionFailure(cause.into()))?;
            let user = row.get::<_, String>(2)?.into();
            let owner: Owner = owner(&view, &kind);
            set.execute(params![seq, owner_text(&owner)])?;
            let by = Actor { user, ..Actor::default() };
            let event = Event { seq: seq.cast_unsigned(), time: Time(row.get(1)?), by, owner, kind };
            apply(&mut view, &event);
        }
    }
    tx.execute_batch("CREATE INDEX events_of ON events (owner);")?;
    tx.pragma_update(None, "user_version", 2)?;
    tx.commit()
}

/// 3: outputs have a head and a tail.
fn gaps(db: &mut Connection) -> rusqlite::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(GAPS)?;
    tx.pragma_update(None, "user_version", 3)?;
    tx.commit()
}

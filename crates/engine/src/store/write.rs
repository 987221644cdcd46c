//! Thread that writes. It owns the connection that may write, and the claim on the folder.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use pileus_model::{Event, Kind};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, config::DbConfig, params};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{
    Batch, StoreError,
    acknowledged::Acknowledged,
    claim::Claim,
    compact, outputs,
    reserve::Reserve,
    snapshot,
    sqlite::{EVENT, Request, event, failed, owner_text},
};
use crate::death::Death;

/// Pause between two checks of the folder while nothing is written.
const CHECK: Duration = Duration::from_secs(1);

/// Most that is kept of each stream of a job that ends while the disk is full, in bytes.
const TIGHT_OUTPUT: usize = 16 << 10;

/// Reason why nothing can be written now; `None` while there is none.
pub type Trouble = Arc<Mutex<Option<String>>>;

/// State of the thread.
pub struct Writer {
    pub db: Connection,
    /// Sequence number of the next event.
    pub next: u64,
    /// Batches that may be in the file although their commit failed. One of them at most is.
    pub uncertain: Vec<Arc<Batch>>,
    pub claim: Claim,
    pub acknowledged: Acknowledged,
    pub reserve: Reserve,
    /// Set by the reserve.
    pub is_tight: Arc<AtomicBool>,
    /// Last event that was deleted.
    pub compacted: Arc<AtomicU64>,
    pub died: watch::Sender<Option<Death>>,
    /// Result of the last check of the folder.
    pub trouble: Trouble,
}

/// Reason why a batch was not written.
enum Failure {
    Sql(rusqlite::Error),
    /// The folder or its files are not the ones that were opened.
    Lost(String),
    /// Another process writes.
    Fenced(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(cause) => cause.fmt(f),
            Self::Lost(cause) | Self::Fenced(cause) => f.write_str(cause),
        }
    }
}

impl Writer {
    /// Works until it is told to close, or the store is gone.
    pub fn serve(mut self, requests: &mpsc::Receiver<Request>) {
        let mut closed = None;
        let mut is_fenced = false;
        loop {
            let request = match requests.recv_timeout(CHECK) {
                Ok(request) => request,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if self.check().is_ok() {
                        self.reserve.keep();
                    }
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            match request {
                Request::Append(batch, answer) => {
                    let done = if is_fenced { Err(StoreError::Fenced) } else { self.try_append(&batch) };
                    is_fenced |= done == Err(StoreError::Fenced);
                    // The receiver of the answer has the batch for itself.
                    drop(batch);
                    let _ = answer.send(done);
                }
                Request::Snapshot(..) | Request::Compact(..) | Request::Shrink(..) if is_fenced => {}
                Request::Compact(last, answer) => {
                    let done = self.check().map_err(|_| StoreError::Unavailable);
                    let done = done.and_then(|()| {
                        let done = compact::step(&mut self.db, last);
                        done.map_err(|cause| failed("history not compacted", &cause))
                    });
                    if let Ok(compacted) = compact::compacted(&self.db) {
                        self.compacted.store(compacted, Relaxed);
                    }
                    let _ = answer.send(done);
                }
                Request::Shrink(answer) => {
                    let done = compact::shrink(&self.db);
                    let _ = answer.send(done.map_err(|cause| failed("file not shrunk", &cause)));
                }
                Request::Snapshot(seq, bytes, answer) => {
                    let done = match self.check() {
                        Ok(()) => {
                            self.snapshot(seq, &bytes).map_err(|cause| failed("snapshot not written", &cause))
                        }
                        Err(_) => Err(StoreError::Unavailable),
                    };
                    let _ = answer.send(done);
                }
                Request::Probe(answer) => {
                    let done = if is_fenced { Err(StoreError::Fenced) } else { self.probe() };
                    let _ = answer.send(done);
                }
                Request::Close(answer) => {
                    closed = Some(answer);
                    break;
                }
                #[cfg(test)]
                Request::MaxPages(pages, answer) => {
                    let sql = format!("PRAGMA max_page_count = {pages}");
                    answer.send(self.db.query_row(&sql, [], |row| row.get(0)).unwrap()).unwrap();
                }
            }
        }
        if is_fenced || !self.claim.may_remove_journal() {
            // The journal at the path belongs to another process.
            let kept = self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            if let Err(error) = kept {
                warn!(%error, "journal may be removed");
            }
        }
        if let Err((_, cause)) = self.db.close() {
            warn!(error = %cause, "store was not closed in order");
        }
        // After the connection: the next owner finds everything in place.
        drop(self.claim);
        if let Some(closed) = closed {
            let _ = closed.send(());
        }
    }

    /// Checks that the folder and its files are those that were opened. Logs a change once.
    fn check(&mut self) -> Result<(), String> {
        let checked = self.claim.check();
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&checked, trouble.is_some()) {
            (Err(cause), false) => error!(
                cause,
                "state folder lost, nothing is written any more: stop the service, restore the folder or a backup"
            ),
            (Ok(()), true) => info!("state folder is back, events are written again"),
            _ => {}
        }
        *trouble = checked.clone().err();
        checked
    }

    fn try_append(&mut self, batch: &Arc<Batch>) -> Result<(), StoreError> {
        let done = match self.check() {
            Ok(()) => self.append(batch),
            Err(cause) => Err(Failure::Lost(cause)),
        };
        self.reserve.keep();
        done.map_err(|failure| match failure {
            Failure::Sql(cause) => failed("events not written", &cause),
            Failure::Lost(_) => StoreError::Unavailable,
            Failure::Fenced(cause) => {
                let text = format!(
                    "another process writes the state folder ({cause}): stop it, and start this service again"
                );
                self.died.send_replace(Some(Death::StateTaken(text)));
                StoreError::Fenced
            }
        })
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.check().map_err(|_| StoreError::Unavailable)?;
        let sql = "INSERT OR REPLACE INTO meta VALUES ('probed_at', ?1)";
        let done = self.db.execute(sql, params![self.next.to_string()]).map(drop);
        done.map_err(|cause| failed("still nothing is written", &cause))
    }

    fn append(&mut self, batch: &Arc<Batch>) -> Result<(), Failure> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found = clear(&tx, self.next, &self.uncertain)?;
        let mut next = self.next;
        {
            let mut insert = tx.prepare_cached(
                "INSERT INTO events (seq, time_ms, user, project, request_id, body, comment, owner)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let mut forget = tx.prepare_cached("DELETE FROM outputs WHERE job = ?1")?;
            for Event { seq, time, by, owner, kind } in &batch.events {
                let body = serde_json::to_string(kind)
                    .map_err(|cause| rusqlite::Error::ToSqlConversionFailure(cause.into()))?;
                let inserted = insert.execute(params![
                    seq.cast_signed(),
                    time.0,
                    &*by.user,
                    &*by.project,
                    &*by.request_id,
                    body,
                    by.comment.as_deref(),
                    owner_text(owner)
                ]);
                inserted.map_err(|cause| match cause.sqlite_error_code() {
                    Some(ErrorCode::ConstraintViolation) => {
                        Failure::Fenced(format!("event {seq} is there already"))
                    }
                    _ => Failure::Sql(cause),
                })?;
                next = seq + 1;
            }
            if self.is_tight.load(Relaxed) {
                let cut = batch.outputs.iter().map(|(job, it)| (job.clone(), outputs::cut(it, TIGHT_OUTPUT)));
                outputs::put(&tx, &cut.collect::<Vec<_>>())?;
            } else {
                outputs::put(&tx, &batch.outputs)?;
            }
            for event in &batch.events {
                if let Kind::JobsForgotten { jobs } = &event.kind {
                    for job in jobs {
                        forget.execute(params![&**job])?;
                    }
                }
            }
        }
        let committed = tx.commit();
        // Whatever was not found before this commit was never written.
        self.uncertain = found.map(|at| self.uncertain.swap_remove(at)).into_iter().collect();
        if let Err(cause) = committed {
            self.uncertain.push(batch.clone());
            return Err(cause.into());
        }
        self.uncertain.clear();
        self.next = next;
        self.claim.committed();
        self.acknowledged.write(next - 1);
        Ok(())
    }

    fn snapshot(&mut self, seq: u64, bytes: &[u8]) -> rusqlite::Result<()> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?1, ?2, ?3)",
            params![seq.cast_signed(), snapshot::FORMAT, bytes],
        )?;
        tx.execute("DELETE FROM snapshots WHERE seq < ?1", params![seq.cast_signed()])?;
        tx.commit()
    }
}

/// Makes sure that the log ends right before `next`. One of the `uncertain` batches may have come to be although
/// its commit failed; it was refused, and is removed. Returns its index. Any other event is another writer's.
fn clear(tx: &Transaction<'_>, next: u64, uncertain: &[Arc<Batch>]) -> Result<Option<usize>, Failure> {
    let mut newest = tx.prepare_cached("SELECT max(seq) FROM events")?;
    let newest: u64 = newest.query_row([], |row| row.get::<_, Option<i64>>(0))?.map_or(0, i64::cast_unsigned);
    if newest + 1 == next {
        return Ok(None);
    }
    let fenced = || Failure::Fenced(format!("the newest event is {newest} and should be {}", next - 1));
    if newest < next {
        return Err(fenced());
    }
    let mut query = tx.prepare(&format!("SELECT {EVENT} FROM events WHERE seq >= ?1 ORDER BY seq"))?;
    let mut rows = query.query(params![next.cast_signed()])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(event(row).map_err(|_| fenced())?);
    }
    let at = uncertain.iter().position(|batch| batch.events == events).ok_or_else(fenced)?;
    tx.execute("DELETE FROM events WHERE seq >= ?1", params![next.cast_signed()])?;
    for (job, _) in &uncertain[at].outputs {
        tx.execute("DELETE FROM outputs WHERE job = ?1", params![&**job])?;
    }
    Ok(Some(at))
}

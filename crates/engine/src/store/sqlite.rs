//! SQLite in the state folder: WAL, `synchronous = FULL`, one thread that writes.
//!
//! The process holds a [`Claim`] on the folder for its life. The folder holds `pileus.seq` (the newest acknowledged event) and
//! `pileus.db`:
//!
//! | table | holds |
//! | --- | --- |
//! | `events` | what happened; never changed, the oldest are deleted once the history is long |
//! | `snapshots` | the newest picture |
//! | `outputs` | what jobs wrote, until the jobs are forgotten |
//! | `meta` | single values: the version that made it, the last event that was deleted |

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use pileus_model::{
    Actor, BoxFuture, Event, History, Name, Output, OutputPart, OutputRange, Owner, Time, View,
};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, config::DbConfig, params,
};
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

use super::{
    Batch, OpenError, Store, StoreError,
    acknowledged::Acknowledged,
    backup,
    claim::Claim,
    compact::{self, Bounds},
    folder, outputs,
    reserve::Reserve,
    snapshot, upgrade,
    write::{Trouble, Writer},
};
use crate::{death::Death, state::apply, supervise::said};

/// The version of the tables below, in `PRAGMA user_version`.
pub const SCHEMA: u32 = 3;

/// Says in the file's header whose it is: `PILE`.
pub const APPLICATION: u32 = 0x5049_4c45;

const TABLES: &str = "
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        user TEXT NOT NULL,
        project TEXT NOT NULL,
        request_id TEXT NOT NULL,
        body TEXT NOT NULL,
        kind TEXT GENERATED ALWAYS AS (body ->> '$.kind') VIRTUAL,
        comment TEXT,
        owner TEXT
    ) STRICT;
    CREATE INDEX events_of ON events (owner);
    CREATE TABLE snapshots (seq INTEGER PRIMARY KEY, format INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// What [`event`] reads.
pub const EVENT: &str = "seq, time_ms, user, project, request_id, body, comment, owner";

/// Most bytes of events that are read in one go.
const READ_MAX: usize = 1 << 20;

/// The store.
#[derive(Debug)]
pub struct Sqlite {
    /// To the thread that writes.
    writer: mpsc::Sender<Request>,
    /// `None` once closed.
    reader: Arc<Mutex<Option<Connection>>>,
    /// The same for events: a long history keeps nobody from reading an output.
    history: Arc<Mutex<Option<Connection>>>,
    /// Reason for the end of the thread that writes.
    death: watch::Receiver<Option<Death>>,
    trouble: Trouble,
    is_tight: Arc<AtomicBool>,
    /// Last event that was deleted.
    compacted: Arc<AtomicU64>,
    dir: PathBuf,
    /// Held while a backup is made: one at a time.
    backing_up: Arc<Mutex<()>>,
    /// Events after the snapshot, at the start.
    folded: usize,
}

#[derive(Debug)]
pub enum Request {
    Append(Arc<Batch>, oneshot::Sender<Result<(), StoreError>>),
    /// Deletes some events up to this one; `true`: it was the last step.
    Compact(u64, oneshot::Sender<Result<bool, StoreError>>),
    Shrink(oneshot::Sender<Result<(), StoreError>>),
    Snapshot(u64, Vec<u8>, oneshot::Sender<Result<(), StoreError>>),
    Probe(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
    /// Bounds the file, which is what a full disk looks like from inside.
    #[cfg(test)]
    MaxPages(u32, oneshot::Sender<u32>),
}

impl Sqlite {
    /// Opens the folder and reads the state. Blocks.
    pub fn open(dir: &Path) -> Result<(Self, View), OpenError> {
        let unusable = |cause| OpenError::Unusable { dir: dir.to_owned(), cause };
        folder::make_private(dir)?;
        let mut claim = Claim::take(dir)?;
        let path = dir.join("pileus.db");
        folder::check_remains(dir, &path)?;
        folder::check_header(dir, &path, APPLICATION, SCHEMA)?;
        folder::keep_private(dir, &path)?;
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
        let mut db = Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_CREATE)
            .and_then(prepare)
            .map_err(|cause| refused(dir, &cause))?;
        let found = version(&db).map_err(|cause| refused(dir, &cause))?;
        if found > SCHEMA {
            // Its journal may hold what its header does not say yet: leave it as it is.
            let untouched = db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            untouched.map_err(|cause| refused(dir, &cause))?;
            return Err(OpenError::Newer { dir: dir.to_owned(), found, known: SCHEMA });
        }
        if found == 0 {
            create(&mut db).map_err(|cause| refused(dir, &cause))?;
        } else if found < SCHEMA {
            let damaged = |cause| OpenError::Damaged { dir: dir.to_owned(), cause };
            upgrade::upgrade(&mut db, found).map_err(damaged)?;
        }
        let (view, folded) = load(&db).map_err(|cause| OpenError::Damaged { dir: dir.to_owned(), cause })?;
        folder::check_acknowledged(dir, view.seq)?;
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_ONLY;
        let reader = || Connection::open_with_flags(&path, flags).map_err(|cause| refused(dir, &cause));
        let (reader, history) = (reader()?, reader()?);
        let (writer, requests) = mpsc::channel();
        claim.opened().map_err(unusable)?;
        let mut acknowledged = Acknowledged::open(dir).map_err(unusable)?;
        acknowledged.write(view.seq);
        let (died, death) = watch::channel(None);
        let trouble = Trouble::default();
        let is_tight = Arc::new(AtomicBool::new(false));
        let compacted = compact::compacted(&db).map_err(|cause| refused(dir, &cause))?;
        let compacted = Arc::new(AtomicU64::new(compacted));
        let reserve =
            Reserve::open(dir, &path.with_extension("db-wal"), is_tight.clone()).map_err(unusable)?;
        let thread = Writer {
            db,
            next: view.seq + 1,
            uncertain: Vec::new(),
            claim,
            acknowledged,
            reserve,
            is_tight: is_tight.clone(),
            compacted: compacted.clone(),
            died: died.clone(),
            trouble: trouble.clone(),
        };
        let serve = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| thread.serve(&requests))) {
                died.send_replace(Some(Death::ended("the store", said(&*panic))));
            }
        };
        thread::Builder::new().name("store".into()).spawn(serve).map_err(unusable)?;
        let shared = |db| Arc::new(Mutex::new(Some(db)));
        let store = Self {
            writer,
            reader: shared(reader),
            history: shared(history),
            death,
            trouble,
            is_tight,
            compacted,
            folded,
            dir: dir.to_owned(),
            backing_up: Arc::default(),
        };
        Ok((store, view))
    }

    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        // With the thread gone the request is dropped, and so its answer's sender: that says it.
        drop(self.writer.send(request(answer)));
        answered
    }

    fn read_output<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let reader = self.reader.clone();
        let read = move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(db) = &*reader else { return Err(StoreError::Unavailable) };
            read(db).map_err(|cause| failed("output not read", &cause))
        };
        Box::pin(
            async move { tokio::task::spawn_blocking(read).await.unwrap_or(Err(StoreError::Unavailable)) },
        )
    }

    #[cfg(test)]
    pub async fn max_pages(&self, pages: u32) -> u32 {
        self.ask(|answer| Request::MaxPages(pages, answer)).await.unwrap()
    }
}

impl Store for Sqlite {
    fn append(&self, batch: Arc<Batch>) -> BoxFuture<Result<(), StoreError>> {
        let answer = self.ask(|answer| Request::Append(batch, answer));
        Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Unavailable)) })
    }

    fn snapshot(&self, view: Arc<View>) -> BoxFuture<Result<(), StoreError>> {
        let writer = self.writer.clone();
        Box::pin(async move {
            // Not on the writing thread: appends go on while a large picture becomes bytes.
            let seq = view.seq;
            let bytes = tokio::task::spawn_blocking(move || snapshot::encode(&view)).await;
            let Ok(Ok(bytes)) = bytes else {
                error!("snapshot could not be encoded");
                return Err(StoreError::Unavailable);
            };
            let (answer, answered) = oneshot::channel();
            drop(writer.send(Request::Snapshot(seq, bytes, answer)));
            answered.await.unwrap_or(Err(StoreError::Unavailable))
        })
    }

    fn output(&self, job: Name) -> BoxFuture<Result<Option<Output>, StoreError>> {
        self.read_output(move |db| outputs::read(db, &job))
    }

    fn output_part(
        &self,
        job: Name,
        range: OutputRange,
    ) -> BoxFuture<Result<Option<OutputPart>, StoreError>> {
        self.read_output(move |db| outputs::read_part(db, &job, range))
    }

    fn events(
        &self,
        after: u64,
        last: u64,
        limit: usize,
        project: Option<Name>,
    ) -> BoxFuture<Result<History, StoreError>> {
        let history = self.history.clone();
        let read = move || {
            let db = history.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(db) = &*db else { return Err(StoreError::Unavailable) };
            history_of(db, after, last, limit, project.as_deref()).map_err(|cause| {
                error!(error = cause, "events not read");
                StoreError::Unavailable
            })
        };
        Box::pin(
            async move { tokio::task::spawn_blocking(read).await.unwrap_or(Err(StoreError::Unavailable)) },
        )
    }

    fn probe(&self) -> BoxFuture<Result<(), StoreError>> {
        let answer = self.ask(Request::Probe);
        Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Unavailable)) })
    }

    fn folded(&self) -> usize {
        self.folded
    }

    fn death(&self) -> BoxFuture<Death> {
        let mut death = self.death.clone();
        Box::pin(async move {
            let found = death.wait_for(Option::is_some).await.ok().and_then(|death| death.clone());
            match found {
                Some(death) => death,
                // Closed in order.
                None => std::future::pending().await,
            }
        })
    }

    fn deletable(&self, bounds: Bounds) -> BoxFuture<Result<u64, StoreError>> {
        let history = self.history.clone();
        let read = move || {
            let db = history.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(db) = &*db else { return Err(StoreError::Unavailable) };
            compact::last_deletable(db, bounds).map_err(|cause| {
                error!(error = cause, "history not measured");
                StoreError::Unavailable
            })
        };
        Box::pin(
            async move { tokio::task::spawn_blocking(read).await.unwrap_or(Err(StoreError::Unavailable)) },
        )
    }

    fn compact(&self, last: u64) -> BoxFuture<Result<bool, StoreError>> {
        let answer = self.ask(|answer| Request::Compact(last, answer));
        Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Unavailable)) })
    }

    fn shrink(&self) -> BoxFuture<Result<(), StoreError>> {
        let answer = self.ask(Request::Shrink);
        Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Unavailable)) })
    }

    fn compacted(&self) -> u64 {
        self.compacted.load(Relaxed)
    }

    fn backup(&self) -> BoxFuture<Result<std::fs::File, StoreError>> {
        let (dir, turn, is_tight) = (self.dir.clone(), self.backing_up.clone(), self.is_tight());
        let make = move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            if is_tight {
                return Err(StoreError::Full);
            }
            backup::make(&dir).map_err(|cause| match cause {
                backup::Failure::Sql(cause) => failed("backup not made", &cause),
                backup::Failure::Io(cause) => {
                    error!(error = %cause, "backup not made");
                    StoreError::Unavailable
                }
            })
        };
        Box::pin(
            async move { tokio::task::spawn_blocking(make).await.unwrap_or(Err(StoreError::Unavailable)) },
        )
    }

    fn is_tight(&self) -> bool {
        self.is_tight.load(Relaxed)
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) -> BoxFuture<()> {
        let (reader, history) = (self.reader.clone(), self.history.clone());
        let closed = self.ask(Request::Close);
        Box::pin(async move {
            drop(history.lock().unwrap_or_else(PoisonError::into_inner).take());
            drop(reader.lock().unwrap_or_else(PoisonError::into_inner).take());
            drop(closed.await); // It fails where it was closed before.
        })
    }
}

fn prepare(db: Connection) -> rusqlite::Result<Connection> {
    // Holds for a database that is made now: what is deleted goes back to the file system step by step.
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // Not beside other people's files, and not on a full disk.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    // A large snapshot shall not leave a large journal behind.
    db.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    Ok(db)
}

pub fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn create(db: &mut Connection) -> rusqlite::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(TABLES)?;
    tx.execute_batch(outputs::TABLE)?;
    tx.execute("INSERT INTO meta VALUES ('made_by', ?1)", params![env!("CARGO_PKG_VERSION")])?;
    tx.pragma_update(None, "application_id", APPLICATION)?;
    tx.pragma_update(None, "user_version", SCHEMA)?;
    tx.commit()?;
    // From the journal into the file, where `check_header` looks.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// The newest picture, with what happened after it, and how many events that were.
pub fn load(db: &Connection) -> Result<(View, usize), String> {
    let text = |cause: rusqlite::Error| cause.to_string();
    let snapshot: Option<Vec<u8>> = db
        .query_one(
            "SELECT body FROM snapshots WHERE format = ?1 ORDER BY seq DESC LIMIT 1",
            params![snapshot::FORMAT],
            |row| row.get(0),
        )
        .optional()
        .map_err(text)?;
    let mut view = match snapshot {
        Some(bytes) => snapshot::decode(&bytes).unwrap_or_else(|cause| {
            warn!(error = %cause, "snapshot could not be read, events are folded from the first one");
            View::default()
        }),
        None => View::default(),
    };
    let compacted = compact::compacted(db).map_err(text)?;
    if view.seq < compacted {
        view = compact::newest_snapshot(db)?.unwrap_or_default();
    }
    if view.seq < compacted {
        return Err(format!("events up to {compacted} were compacted, and the snapshot cannot be read"));
    }
    let mut query =
        db.prepare(&format!("SELECT {EVENT} FROM events WHERE seq > ?1 ORDER BY seq")).map_err(text)?;
    let mut rows = query.query(params![view.seq.cast_signed()]).map_err(text)?;
    let mut folded = 0;
    while let Some(row) = rows.next().map_err(text)? {
        let event = event(row)?;
        folded += 1;
        if event.seq != view.seq + 1 {
            return Err(format!("event {} is missing", view.seq + 1));
        }
        apply(&mut view, &event);
    }
    Ok((view, folded))
}

/// Events of all, or of everybody and one project: two runs over the index, merged.
fn history_of(
    db: &Connection,
    after: u64,
    last: u64,
    limit: usize,
    project: Option<&str>,
) -> Result<History, String> {
    let text = |cause: rusqlite::Error| cause.to_string();
    let part =
        |of| format!("SELECT {EVENT} FROM events WHERE {of}seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3");
    let query = match project {
        None => part(""),
        Some(_) => format!(
            "SELECT * FROM ({}) UNION ALL SELECT * FROM ({}) ORDER BY seq LIMIT ?3",
            part("owner = ?4 AND owner <> '' AND "),
            part("owner = '' AND "),
        ),
    };
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (after, last, rows) = (bound(after), bound(last), bound(limit as u64).saturating_add(1));
    let mut query = db.prepare_cached(&query).map_err(text)?;
    let mut rows = match project {
        None => query.query(params![after, last, rows]),
        Some(project) => query.query(params![after, last, rows, project]),
    }
    .map_err(text)?;
    let mut history = History::default();
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(text)? {
        if history.events.len() == limit || bytes > READ_MAX {
            history.more = true;
            break;
        }
        bytes += row.get_ref(5).and_then(|body| Ok(body.as_str()?.len())).map_err(text)?;
        history.events.push(Arc::new(event(row)?));
    }
    Ok(history)
}

/// How `owner` stands in its column: what is shared as an empty text, what is not anybody's as NULL.
pub fn owner_text(owner: &Owner) -> Option<&str> {
    match owner {
        Owner::Service => None,
        Owner::Shared => Some(""),
        Owner::Project(project) => Some(project),
    }
}

/// From the columns [`EVENT`].
pub fn event(row: &rusqlite::Row<'_>) -> Result<Event, String> {
    let text = |cause: rusqlite::Error| cause.to_string();
    let name = |at| row.get::<_, String>(at).map(Name::from).map_err(text);
    let maybe = |at| row.get::<_, Option<String>>(at).map_err(text);
    let seq = row.get::<_, i64>(0).map_err(text)?.cast_unsigned();
    let body: String = row.get(5).map_err(text)?;
    Ok(Event {
        seq,
        time: Time(row.get(1).map_err(text)?),
        by: Actor {
            user: name(2)?,
            project: name(3)?,
            request_id: name(4)?,
            comment: maybe(6)?.map(Name::from),
            key: None,
        },
        owner: match maybe(7)? {
            None => Owner::Service,
            Some(shared) if shared.is_empty() => Owner::Shared,
            Some(project) => Owner::Project(project.into()),
        },
        kind: serde_json::from_str(&body).map_err(|cause| format!("event {seq}: {cause}"))?,
    })
}

/// The cause goes to the log, once, here.
pub fn failed(what: &str, cause: &rusqlite::Error) -> StoreError {
    error!(error = %cause, "{what}");
    match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::Unavailable,
    }
}

fn refused(dir: &Path, cause: &rusqlite::Error) -> OpenError {
    match cause.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { dir: dir.to_owned(), cause: cause.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { dir: dir.to_owned() },
        _ => OpenError::Unusable { dir: dir.to_owned(), cause: io::Error::other(cause.to_string()) },
    }
}

//! What the store promises, against the real files.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use pileus_model::{Actor, Event, Exit, Gap, Kind, Output, Owner, StreamOutput, Time, View};

use super::{Batch, OpenError, Store, StoreError, backup, compact::Bounds, open, sqlite::Sqlite};
use crate::{
    simulation::Simulation,
    state::apply,
    testing::{self, job},
};

fn event(seq: u64, kind: Kind) -> Event {
    let by =
        Actor { user: "ann".into(), project: "p".into(), request_id: "req-1".into(), ..Actor::default() };
    Event { seq, time: Time(1000), by, owner: Owner::Service, kind }
}

fn batch(events: impl IntoIterator<Item = Event>) -> Arc<Batch> {
    Arc::new(Batch { events: events.into_iter().collect(), outputs: Vec::new() })
}

/// What a crash at this moment would leave behind.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn reopened(dir: &Path) -> View {
    let (store, view) = Sqlite::open(dir).unwrap();
    drop(store);
    closed(dir);
    view
}

#[tokio::test]
async fn after_every_prefix_the_state_is_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let (home, crashed) = (dir.path().join("home"), dir.path().join("crashed"));
    let (store, mut view) = Sqlite::open(&home).unwrap();
    let mut simulation = Simulation::new(7);
    for step in 0..150 {
        let events = simulation.step();
        for event in &events {
            apply(&mut view, event);
        }
        store.append(batch(events)).await.unwrap();
        if step % 40 == 39 {
            store.snapshot(Arc::new(view.clone())).await.unwrap();
        }
        copy(&home, &crashed);
        assert_eq!(reopened(&crashed), view, "after step {step}");
        fs::remove_dir_all(&crashed).unwrap();
    }
    assert!(view.seq > 50, "the simulation made events");
    store.close().await;
    assert_eq!(reopened(&home), view, "after an orderly stop");
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_write_leaves_the_whole_batch_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (home, crashed) = (dir.path().join("home"), dir.path().join("crashed"));
    let (store, mut view) = Sqlite::open(&home).unwrap();
    store.append(batch([event(1, Kind::JobSubmitted(job("1")))])).await.unwrap();
    apply(&mut view, &event(1, Kind::JobSubmitted(job("1"))));
    let before = view.clone();
    let second = [event(2, Kind::JobSubmitted(job("2"))), event(3, Kind::JobSubmitted(job("3")))];
    second.iter().for_each(|event| apply(&mut view, event));
    let old = fs::metadata(home.join("pileus.db-wal")).unwrap().len();
    store.append(batch(second)).await.unwrap();
    let new = fs::metadata(home.join("pileus.db-wal")).unwrap().len();
    assert!(new > old);
    for len in (old..=new).step_by(512) {
        copy(&home, &crashed);
        let wal = fs::OpenOptions::new().write(true).open(crashed.join("pileus.db-wal")).unwrap();
        wal.set_len(len).unwrap();
        // The crash came before the answer.
        fs::write(crashed.join("pileus.seq"), format!("{:020}\n", 1)).unwrap();
        let wanted = if len == new { &view } else { &before };
        assert_eq!(reopened(&crashed), *wanted, "with {len} of {new} bytes");
        fs::remove_dir_all(&crashed).unwrap();
    }
}

#[tokio::test]
async fn outputs_are_durable_with_their_events_and_go_with_their_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Sqlite::open(dir.path()).unwrap();
    let gap = Some(Gap { from: 2, to: 900 });
    let stdout = StreamOutput { bytes: vec![0, 255, 10], gap };
    let output = Output { stdout, stderr: b"oops"[..].into(), truncated: true };
    let events = vec![
        event(1, Kind::JobSubmitted(job("1"))),
        event(2, Kind::JobFinished { job: "1".into(), exit: Exit::Code(0), times: None }),
    ];
    let outputs = vec![("1".into(), output.clone())];
    store.append(Arc::new(Batch { events, outputs })).await.unwrap();
    store.close().await;
    assert_eq!(store.output("1".into()).await, Err(StoreError::Unavailable), "closed");
    assert_eq!(store.append(batch([])).await, Err(StoreError::Unavailable), "closed");
    let (store, _) = Sqlite::open(dir.path()).unwrap();
    assert_eq!(store.output("1".into()).await, Ok(Some(output)));
    assert_eq!(store.output("2".into()).await, Ok(None));
    store.append(batch([event(3, Kind::JobsForgotten { jobs: vec!["1".into()] })])).await.unwrap();
    assert_eq!(store.output("1".into()).await, Ok(None));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut view) = Sqlite::open(dir.path()).unwrap();
    let first = event(1, Kind::JobSubmitted(job("1")));
    apply(&mut view, &first);
    let small = Output { stdout: b"x"[..].into(), ..Output::default() };
    let outputs = vec![("1".into(), small.clone())];
    store.append(Arc::new(Batch { events: vec![first], outputs })).await.unwrap();
    let pages = store.max_pages(1).await;
    let large = job(&"j".repeat(100_000));
    let full = batch([event(2, Kind::JobSubmitted(job("2"))), event(3, Kind::JobSubmitted(large))]);
    assert_eq!(store.append(full.clone()).await, Err(StoreError::Full));
    assert_eq!(store.append(full.clone()).await, Err(StoreError::Full), "still full");
    let mut picture = view.clone();
    picture.user_limits.insert("u".repeat(100_000).into(), 1);
    assert_eq!(store.snapshot(Arc::new(picture)).await, Err(StoreError::Full));
    assert_eq!(store.output("1".into()).await, Ok(Some(small)), "readers go on");
    assert!(store.max_pages(pages + 1000).await > pages);
    store.append(full.clone()).await.unwrap();
    full.events.iter().for_each(|event| apply(&mut view, event));
    store.close().await;
    assert_eq!(reopened(dir.path()), view, "nothing was half written");
}

#[test]
fn other_users_cannot_read_the_state() {
    // Mode of a folder that is there already, its mode once it is open, and the mode of a database in it.
    let cases = [
        (0o755, 0o711, None),
        (0o755, 0o711, Some(0o644)),
        (0o777, 0o711, Some(0o666)),
        (0o750, 0o710, Some(0o640)),
        (0o711, 0o711, Some(0o600)),
        (0o700, 0o700, Some(0o400)),
        (0o700, 0o700, Some(0o640)),
    ];
    for (folder, expected, before) in cases {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(folder)).unwrap();
        if let Some(mode) = before {
            drop(Sqlite::open(dir.path()).unwrap());
            closed(dir.path());
            fs::set_permissions(dir.path().join("pileus.db"), PermissionsExt::from_mode(mode)).unwrap();
        }
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(folder)).unwrap();
        let _store = Sqlite::open(dir.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(dir.path()), expected, "{folder:o}");
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 5, "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{before:?}: {}", file.display());
        }
    }
}

#[test]
fn a_folder_that_cannot_be_closed_to_others_is_refused() {
    let cases: [(&str, u32, &[&str], Option<&str>); 6] = [
        ("a folder for all", 0o1777, &[], Some("files of all users")),
        ("files of others", 0o755, &["notes.txt"], Some("notes.txt is not of a state")),
        ("files of others, closed", 0o700, &["notes.txt"], None),
        ("files of others, to pass through", 0o711, &["notes.txt"], None),
        ("a new file system", 0o755, &["lost+found"], None),
        ("of an older version", 0o755, &["lock", "vms", "channel-key", "credentials"], None),
    ];
    for (case, mode, names, problem) in cases {
        let dir = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
        let found = Sqlite::open(dir.path()).map(drop).err().map(|error| error.to_string());
        assert_eq!(found.is_some(), problem.is_some(), "{case}: {found:?}");
        if let (Some(found), Some(problem)) = (found, problem) {
            assert!(found.contains(problem) && found.contains("chmod 700"), "{case}: {found}");
            assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o7777, mode, "{case}");
        }
    }
}

/// Changes files of a state folder.
type Act = fn(&Path);

fn remove(path: &Path, names: &[&str]) {
    names.iter().for_each(|name| fs::remove_file(path.join(name)).unwrap());
}

fn empty(path: &Path, name: &str) {
    fs::OpenOptions::new().write(true).open(path.join(name)).unwrap().set_len(0).unwrap();
}

#[tokio::test]
async fn a_state_that_has_lost_a_part_is_refused() {
    const DB: &str = "pileus.db";
    const WAL: &str = "pileus.db-wal";
    // Damage to a folder whose owner was killed, and the message about it.
    let cases: [(&str, Act, Option<&str>); 13] = [
        ("nothing", |_| (), None),
        ("no index of the journal", |dir| remove(dir, &["pileus.db-shm"]), None),
        ("no journal", |dir| remove(dir, &[WAL, "pileus.db-shm"]), Some("event 3 was acknowledged")),
        ("no journal, but its index", |dir| remove(dir, &[WAL]), Some("event 3 was acknowledged")),
        ("an empty journal", |dir| empty(dir, WAL), Some("event 3 was acknowledged")),
        (
            "half a journal",
            |dir| {
                let wal = fs::OpenOptions::new().write(true).open(dir.join(WAL)).unwrap();
                wal.set_len(wal.metadata().unwrap().len() - 4096).unwrap();
            },
            Some("it ends at event 2, and event 3 was acknowledged"),
        ),
        ("no database", |dir| remove(dir, &[DB]), Some("pileus.db is missing, admin-token, pileus.seq")),
        ("an empty database", |dir| empty(dir, DB), Some("pileus.db is empty, admin-token")),
        (
            "an empty database and nothing else of its own",
            |dir| {
                empty(dir, DB);
                remove(dir, &["pileus.seq", "admin-token", "pileus.db-shm"]);
            },
            Some("pileus.db is empty, pileus.db-wal is there"),
        ),
        (
            "the token alone",
            |dir| remove(dir, &[DB, WAL, "pileus.db-shm", "pileus.seq"]),
            Some("pileus.db is missing, admin-token is there"),
        ),
        (
            "VMs alone",
            |dir| {
                remove(dir, &[DB, WAL, "pileus.db-shm", "pileus.seq", "admin-token"]);
                fs::create_dir_all(dir.join("vms/local-1")).unwrap();
            },
            Some("pileus.db is missing, vms/ is there"),
        ),
        ("a broken number", |dir| fs::write(dir.join("pileus.seq"), "12").unwrap(), None),
        ("all of it", |dir| remove(dir, &[DB, WAL, "pileus.db-shm", "pileus.seq", "admin-token"]), None),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (home, crashed) = (dir.path().join("home"), dir.path().join("crashed"));
    let (store, _) = Sqlite::open(&home).unwrap();
    fs::write(home.join("admin-token"), "secret").unwrap();
    for seq in 1..=3 {
        store.append(batch([event(seq, Kind::JobSubmitted(job(&seq.to_string())))])).await.unwrap();
    }
    for (case, act, problem) in cases {
        copy(&home, &crashed);
        act(&crashed);
        let before = contents(&crashed);
        let found = Sqlite::open(&crashed).map(drop);
        match (&found, problem) {
            (Ok(()), None) => closed(&crashed),
            (Err(error @ OpenError::Lost { .. }), Some(problem)) => {
                let shown = error.to_string();
                assert!(shown.contains(problem) && shown.contains("backup"), "{case}: {shown}");
                if !shown.contains("acknowledged:") {
                    assert_eq!(contents(&crashed), before, "{case}: it was touched");
                }
            }
            _ => panic!("{case}: {found:?}"),
        }
        fs::remove_dir_all(&crashed).unwrap();
    }
}

#[tokio::test]
async fn a_folder_that_is_lost_while_it_is_open_takes_no_more_events() {
    let cases: [(&str, Act); 6] = [
        ("folder renamed", |dir| fs::rename(dir, dir.with_extension("away")).unwrap()),
        ("folder replaced", |dir| {
            fs::rename(dir, dir.with_extension("away")).unwrap();
            copy(&dir.with_extension("away"), dir);
        }),
        ("folder removed", |dir| fs::remove_dir_all(dir).unwrap()),
        ("database removed", |dir| remove(dir, &["pileus.db"])),
        ("journal removed", |dir| remove(dir, &["pileus.db-wal"])),
        ("journal emptied", |dir| empty(dir, "pileus.db-wal")),
    ];
    for (case, act) in cases {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let (store, mut view) = Sqlite::open(&home).unwrap();
        let first = event(1, Kind::JobSubmitted(job("1")));
        store.append(batch([first.clone()])).await.unwrap();
        apply(&mut view, &first);
        act(&home);
        let second = batch([event(2, Kind::JobSubmitted(job("2")))]);
        assert_eq!(store.append(second.clone()).await, Err(StoreError::Unavailable), "{case}");
        if case == "folder renamed" {
            fs::rename(home.with_extension("away"), &home).unwrap();
            store.append(second).await.unwrap();
            apply(&mut view, &event(2, Kind::JobSubmitted(job("2"))));
        }
        let other = if case == "folder replaced" { Some(contents(&home)) } else { None };
        store.close().await;
        match case {
            "folder renamed" | "journal removed" => assert_eq!(reopened(&home), view, "{case}"),
            "folder replaced" => assert_eq!(Some(contents(&home)), other, "the other folder was touched"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_sequence_number_that_is_taken_is_another_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut view) = Sqlite::open(dir.path()).unwrap();
    let ours: Vec<_> = (1..=2).map(|seq| event(seq, Kind::JobSubmitted(job(&seq.to_string())))).collect();
    store.append(batch(ours.clone())).await.unwrap();
    ours.iter().for_each(|event| apply(&mut view, event));
    let theirs = event(3, Kind::JobSubmitted(job("theirs")));
    {
        let db = rusqlite::Connection::open(dir.path().join("pileus.db")).unwrap();
        let body = serde_json::to_string(&theirs.kind).unwrap();
        let sql = "INSERT INTO events (seq, time_ms, user, project, request_id, body)
                   VALUES (3, 1000, 'ann', 'p', 'req-1', ?1)";
        db.execute(sql, [body]).unwrap();
    }
    apply(&mut view, &theirs);
    let next = batch([event(3, Kind::JobSubmitted(job("3")))]);
    for attempt in 1..=2 {
        assert_eq!(store.append(next.clone()).await, Err(StoreError::Fenced), "attempt {attempt}");
    }
    store.close().await;
    assert_eq!(reopened(dir.path()), view, "nothing of the other owner was deleted");
}

#[test]
fn a_folder_without_its_lock_file_is_still_taken() {
    let dir = tempfile::tempdir().unwrap();
    let held = Sqlite::open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("lock")).unwrap();
    let second = Sqlite::open(dir.path()).map(drop);
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    drop(held);
    closed(dir.path());
    // An older version locks the file alone.
    let old = fs::File::create(dir.path().join("lock")).unwrap();
    old.lock().unwrap();
    let second = Sqlite::open(dir.path()).map(drop);
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    drop(old);
    drop(Sqlite::open(dir.path()).unwrap());
}

#[test]
fn folders_that_cannot_be_used_are_told_apart_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let error = |path: &Path| open("sqlite", path).map(drop).unwrap_err();
    let held = Sqlite::open(&at("held")).unwrap();
    fs::write(at("file"), "x").unwrap();
    drop(Sqlite::open(&at("newer")).unwrap());
    closed(&at("newer"));
    let db = rusqlite::Connection::open(at("newer").join("pileus.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    fs::create_dir_all(at("foreign")).unwrap();
    let db = rusqlite::Connection::open(at("foreign").join("pileus.db")).unwrap();
    db.execute_batch("CREATE TABLE t (x); PRAGMA user_version = 1").unwrap();
    drop(db);
    for (name, sql) in [("unversioned", ""), ("marked", "PRAGMA application_id = 7")] {
        fs::create_dir_all(at(name)).unwrap();
        let db = rusqlite::Connection::open(at(name).join("pileus.db")).unwrap();
        db.execute_batch(&format!("CREATE TABLE t (x); {sql}")).unwrap();
    }
    fs::create_dir_all(at("torn")).unwrap();
    fs::write(at("torn").join("pileus.db"), "not a database").unwrap();
    type Is = fn(&OpenError) -> bool;
    let cases: [(&str, Is, &str); 7] = [
        ("held", |error| matches!(error, OpenError::InUse { .. }), "stop that one, or name another folder"),
        ("file/below", |error| matches!(error, OpenError::Unusable { .. }), "this user may write"),
        ("newer", |error| matches!(error, OpenError::Newer { found: 99, .. }), "run the newer program"),
        ("foreign", |error| matches!(error, OpenError::Damaged { .. }), "not a state of this program"),
        ("unversioned", |error| matches!(error, OpenError::Damaged { .. }), "not a state of this program"),
        ("marked", |error| matches!(error, OpenError::Damaged { .. }), "not a state of this program"),
        ("torn", |error| matches!(error, OpenError::Damaged { .. }), "restore it from a backup"),
    ];
    for (name, is, text) in cases {
        let before = contents(&at(name));
        let error = error(&at(name));
        assert!(is(&error), "{name}: {error:?}");
        let shown = error.to_string();
        assert!(shown.contains(text) && shown.contains(at(name).to_str().unwrap()), "{name}: {shown}");
        assert_eq!(contents(&at(name)), before, "{name} was touched");
    }
    assert!(matches!(open("papyrus", &at("none")), Err(OpenError::Unknown { .. })));
    assert!(!at("none").exists());
    drop(held);
}

#[test]
fn a_gap_in_the_events_is_not_read_over() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (store, _) = Sqlite::open(dir.path()).unwrap();
    let events = (1..=3).map(|seq| event(seq, Kind::JobSubmitted(job(&seq.to_string()))));
    runtime.block_on(async {
        store.append(batch(events)).await.unwrap();
        store.close().await;
    });
    let db = rusqlite::Connection::open(dir.path().join("pileus.db")).unwrap();
    db.execute("DELETE FROM events WHERE seq = 2", []).unwrap();
    drop(db);
    let error = Sqlite::open(dir.path()).map(drop).unwrap_err();
    assert!(error.to_string().contains("event 2 is missing"), "{error}");
}

#[test]
fn the_folder_is_for_its_user_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/b");
    let (_store, view) = Sqlite::open(&state).unwrap();
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(view, View::default());
}

#[test]
fn a_snapshot_holds_everything() {
    let mut simulation = Simulation::new(3);
    while simulation.view().seq < 2000 {
        simulation.step();
    }
    let mut view = simulation.view().clone();
    let token = testing::token("t");
    testing::happen(&mut view, Time(0), [Kind::TokenCreated(token)]);
    view.file_aliases.insert("west".into());
    view.file_limits.insert("bob".into());
    let bytes = super::snapshot::encode(&view).unwrap();
    assert_eq!(super::snapshot::decode(&bytes).unwrap(), view);
}

/// Waits until the thread of a dropped store has let go of its folder.
fn closed(dir: &Path) {
    fs::File::open(dir).unwrap().lock().unwrap();
}

fn contents(path: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let read = |entry: fs::DirEntry| (entry.file_name(), fs::read(entry.path()).unwrap_or_default());
    let mut all: Vec<_> = entries.map(|entry| read(entry.unwrap())).collect();
    all.retain(|(name, _)| name != "lock");
    all.sort();
    all
}

/// As a program of version 1 of the tables left it.
const FIRST: &str = "
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        user TEXT NOT NULL,
        project TEXT NOT NULL,
        request_id TEXT NOT NULL,
        body TEXT NOT NULL,
        kind TEXT GENERATED ALWAYS AS (body ->> '$.kind') VIRTUAL
    ) STRICT;
    CREATE TABLE snapshots (seq INTEGER PRIMARY KEY, format INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE outputs (
        job TEXT PRIMARY KEY,
        stdout BLOB NOT NULL,
        stderr BLOB NOT NULL,
        truncated INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    PRAGMA application_id = 0x50494c45;
    PRAGMA user_version = 1;
";

#[tokio::test]
async fn a_state_of_an_older_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(dir.path().join("pileus.db")).unwrap();
    db.execute_batch(FIRST).unwrap();
    db.execute_batch("INSERT INTO outputs VALUES ('old', x'ff00', x'', 1)").unwrap();
    let mut simulation = Simulation::new(11);
    let mut events: Vec<Event> = Vec::new();
    let mut wanted = View::default();
    while events.len() < 300 {
        events.extend(simulation.step());
    }
    for event in &events {
        apply(&mut wanted, event);
        let body = serde_json::to_string(&event.kind).unwrap();
        db.execute(
            "INSERT INTO events (seq, time_ms, user, project, request_id, body) VALUES (?1, ?2, 'ann', '', '', ?3)",
            rusqlite::params![event.seq.cast_signed(), event.time.0, body],
        )
        .unwrap();
    }
    drop(db);
    let (store, view) = Sqlite::open(dir.path()).unwrap();
    assert_eq!(view, wanted);
    let old = Output { stdout: [255, 0][..].into(), stderr: [][..].into(), truncated: true };
    assert_eq!(store.output("old".into()).await, Ok(Some(old)));
    let read = store.events(0, u64::MAX, 1000, None).await.unwrap();
    let read: Vec<_> = read.events.iter().map(|event| Event::clone(event)).collect();
    assert_eq!(read, events, "with the owners that they would have today");
    store.append(batch([event(view.seq + 1, Kind::JobSubmitted(job("new")))])).await.unwrap();
    store.close().await;
    assert_eq!(reopened(dir.path()).seq, view.seq + 1);
}

#[tokio::test]
async fn history_is_read_in_parts_by_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Sqlite::open(dir.path()).unwrap();
    let owners = [
        Owner::Shared,
        Owner::Project("p".into()),
        Owner::Project("q".into()),
        Owner::Service,
        Owner::Project("p".into()),
    ];
    let made = |(seq, owner)| {
        let mut event = event(seq, Kind::AliasGone { alias: "a".into() });
        event.by.comment = (seq == 2).then(|| "tidy up".into());
        Event { owner, ..event }
    };
    let mut events: Vec<_> = (1..).zip(owners).map(made).collect();
    let long = job(&"j".repeat(700_000));
    events.extend((6..9).map(|seq| event(seq, Kind::JobSubmitted(long.clone()))));
    store.append(batch(events.clone())).await.unwrap();
    // after, up to, limit, project, sequence numbers, more
    type Part<'a> = (u64, u64, usize, Option<&'a str>);
    let cases: [(Part<'_>, &[u64], bool); 9] = [
        ((0, 5, 9, None), &[1, 2, 3, 4, 5], false),
        ((0, 5, 9, Some("p")), &[1, 2, 5], false),
        ((0, 5, 2, Some("p")), &[1, 2], true),
        ((2, 5, 9, Some("p")), &[5], false),
        ((2, 4, 9, Some("p")), &[], false),
        ((0, 5, 9, Some("nobody")), &[1], false),
        ((0, 5, 9, Some("")), &[1], false),
        ((0, 5, 0, None), &[], true),
        // Long ones come a few at a time, whatever the limit.
        ((4, 9, 9, None), &[5, 6, 7], true),
    ];
    for ((after, last, limit, project), wanted, more) in cases {
        let read = store.events(after, last, limit, project.map(Into::into)).await.unwrap();
        let seqs: Vec<_> = read.events.iter().map(|event| event.seq).collect();
        assert_eq!((&*seqs, read.more), (wanted, more), "{after}..={last}, {limit} of {project:?}");
        assert!(read.events.iter().all(|event| **event == events[event.seq as usize - 1]));
    }
    store.close().await;
    assert_eq!(store.events(0, 9, 9, None).await, Err(StoreError::Unavailable));
}

fn time(mut event: Event, time_ms: i64) -> Event {
    event.time = Time(time_ms);
    event
}

#[tokio::test]
async fn old_events_go_where_a_snapshot_covers_them() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    // Bounds in days and MiB, the event of the snapshot, the last event that is deleted.
    let cases = [
        ("all young", 100, 1024, 100, 0),
        ("older than ten days", 10, 1024, 100, 89),
        ("older than ten days, half of them covered", 10, 1024, 50, 50),
        ("no snapshot", 10, 1024, 0, 0),
        ("none is to be kept", 0, 1024, 100, 99),
        ("too large", 90, 0, 100, 99),
        ("the newest megabyte", 100, 1, 100, 48),
    ];
    for (case, days, mib, snapshot, last) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut view) = Sqlite::open(dir.path()).unwrap();
        let long = "x".repeat(19_700);
        for seq in 1..=100_u64 {
            let alias = format!("{long}{seq}");
            let event =
                time(event(seq, Kind::AliasGone { alias: alias.as_str().into() }), seq.cast_signed() * DAY);
            store.append(batch([event.clone()])).await.unwrap();
            apply(&mut view, &event);
            if seq == snapshot {
                store.snapshot(Arc::new(view.clone())).await.unwrap();
            }
        }
        let found = store.deletable(Bounds { days, mib }).await.unwrap();
        assert_eq!(found, last, "{case}");
        while !store.compact(found).await.unwrap() {}
        assert_eq!(store.compacted(), last, "{case}");
        let left = store.events(0, 200, 1000, None).await.unwrap();
        assert_eq!(left.events.first().map(|event| event.seq), Some(last + 1), "{case}");
        store.append(batch([event(101, Kind::JobSubmitted(job("1")))])).await.unwrap();
        apply(&mut view, &event(101, Kind::JobSubmitted(job("1"))));
        store.close().await;
        assert_eq!(reopened(dir.path()), view, "{case}");
        // A real gap is still found, before and after the snapshot.
        if snapshot == 100 && last == 89 {
            let db = rusqlite::Connection::open(dir.path().join("pileus.db")).unwrap();
            db.execute("UPDATE snapshots SET format = 0", []).unwrap();
            drop(db);
            let error = Sqlite::open(dir.path()).map(drop).unwrap_err();
            assert!(error.to_string().contains("events up to 89 were compacted"), "{error}");
        }
    }
}

#[tokio::test]
async fn space_of_deleted_events_goes_back_to_the_file_system() {
    for is_old in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pileus.db");
        if is_old {
            // As an older version made it.
            drop(Sqlite::open(dir.path()).unwrap());
            closed(dir.path());
            let db = rusqlite::Connection::open(&path).unwrap();
            db.execute_batch("PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = DELETE; VACUUM").unwrap();
        }
        let (store, mut view) = Sqlite::open(dir.path()).unwrap();
        let events =
            (1..=2000).map(|seq| event(seq, Kind::AliasGone { alias: "x".repeat(4000).as_str().into() }));
        let events: Vec<_> = events.collect();
        events.iter().for_each(|event| apply(&mut view, event));
        store.append(batch(events)).await.unwrap();
        store.snapshot(Arc::new(view.clone())).await.unwrap();
        while !store.compact(1900).await.unwrap() {}
        if is_old {
            store.shrink().await.unwrap();
        }
        store.close().await;
        let size = fs::metadata(&path).unwrap().len();
        assert!(size < 2_000_000, "{is_old}: {size}");
        assert_eq!(reopened(dir.path()), view);
    }
}

#[tokio::test]
async fn a_backup_is_the_state_and_comes_back_into_an_empty_folder_alone() {
    use std::io::Read;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (store, mut view) = Sqlite::open(&at("home")).unwrap();
    let first = event(1, Kind::JobSubmitted(job("1")));
    apply(&mut view, &first);
    store.append(batch([first])).await.unwrap();
    let mut bytes = Vec::new();
    store.backup().await.unwrap().read_to_end(&mut bytes).unwrap();
    assert!(!at("home/pileus.backup").exists());
    fs::write(at("file"), &bytes).unwrap();
    fs::write(at("cut"), &bytes[..bytes.len() - 4096]).unwrap();
    fs::write(at("text"), "not a backup").unwrap();
    fs::write(at("nothing"), "").unwrap();
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/admin-token"), "x").unwrap();
    let cases = [
        ("cut", "new", Some("cut: ")),
        ("text", "new", Some("not a backup of a state")),
        ("nothing", "new", Some("not a backup of a state")),
        ("missing", "new", Some("No such file")),
        ("file", "home", Some("in use by another process")),
        ("file", "full", Some("admin-token is there")),
        ("file", "new", None),
        ("file", "new", Some("pileus.db is there")),
    ];
    for (file, folder, problem) in cases {
        let done = backup::restore(&at(file), &at(folder));
        match (&done, problem) {
            (Ok(seq), None) => assert_eq!(*seq, 1),
            (Err(error), Some(problem)) => {
                assert!(error.to_string().contains(problem), "{file} to {folder}: {error}");
            }
            _ => panic!("{file} to {folder}: {done:?}"),
        }
        assert!(!at(folder).join("pileus.backup").exists());
    }
    assert_eq!(reopened(&at("new")), view);
    assert_eq!(fs::metadata(at("new/pileus.db")).unwrap().permissions().mode() & 0o777, 0o600);
}

//! The state folder: one owner, nothing of it lost in silence, closed to other users.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::support::{Place, Reply, Server, await_some, raw_on, send};

const JOB: &str = r#"{"job": {"command": ["/bin/true"], "memory_mib": 64}}"#;

/// A place whose jobs wait for ever: its cloud has no room.
fn place() -> Place {
    Place::new("[clouds.local]\ndriver = \"local\"\nvm_slots = 0\n")
}

fn submit(server: &Server<'_>) -> Option<String> {
    let reply = server.post("/v2/default/jobs", JOB);
    (reply.status == 202).then(|| reply.json()["job"]["id"].as_str().expect("an id").to_owned())
}

/// The same to a server that may be killed meanwhile.
fn submit_once(server: &Server<'_>) -> Option<String> {
    let stream = TcpStream::connect(server.api).ok()?;
    let request = format!(
        "POST /v2/default/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Auth-Token: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{JOB}",
        server.token,
        JOB.len()
    );
    let reply = raw_on(stream, request.as_bytes()).filter(|reply| reply.status == 202)?;
    let body: Value = serde_json::from_str(&reply.text).ok()?;
    Some(body["job"]["id"].as_str()?.to_owned())
}

fn healthcheck(server: &Server<'_>) -> Reply {
    send(server.api, "GET", "/healthcheck", &[], "")
}

/// Ends at once, or not at all: exit code and stderr of a second server.
fn refused(place: &Place) -> (Option<i32>, String) {
    let (status, _, stderr) = place.run(&["serve"]);
    (status.code(), stderr)
}

#[test]
fn a_second_server_is_refused_whatever_became_of_the_files() {
    let place = place();
    let server = place.serve();
    submit(&server).expect("a job");
    for (case, act) in [
        ("as it is", (|_| ()) as fn(&Path)),
        ("no lock file", |state| fs::remove_file(state.join("lock")).expect("a file")),
        ("another lock file", |state| {
            fs::remove_file(state.join("lock")).ok();
            fs::write(state.join("lock"), "").expect("a file");
        }),
    ] {
        act(&place.state());
        let (code, stderr) = refused(&place);
        assert_eq!(code, Some(69), "{case}: {stderr}");
        assert!(stderr.contains("in use by another process"), "{case}: {stderr}");
        submit(&server).unwrap_or_else(|| panic!("{case}: the first server goes on"));
    }
    server.kill();
    let server = place.serve();
    let jobs = server.get("/v2/default/jobs").json()["jobs"].as_array().expect("jobs").len();
    assert_eq!(jobs, 4, "nothing is lost");
}

#[test]
fn of_two_servers_that_start_at_once_one_serves() {
    for round in 0..5 {
        let place = place();
        let start = || place.try_serve();
        let (one, two) = thread::scope(|scope| {
            let (one, two) = (scope.spawn(start), scope.spawn(start));
            (one.join().expect("no panic"), two.join().expect("no panic"))
        });
        let (server, stderr) = match (one, two) {
            (Ok(server), Err(stderr)) | (Err(stderr), Ok(server)) => (server, stderr),
            (Ok(_), Ok(_)) => panic!("round {round}: both serve"),
            (Err(one), Err(two)) => panic!("round {round}: none serves: {one}\n{two}"),
        };
        assert!(stderr.contains("in use by another process"), "round {round}: {stderr}");
        submit(&server).expect("a job");
    }
}

#[test]
fn a_folder_that_is_replaced_or_gone_takes_no_more_writes() {
    for (case, act) in [
        ("removed", (|state| fs::remove_dir_all(state).expect("a folder")) as fn(&Path)),
        ("renamed", |state| fs::rename(state, state.with_extension("away")).expect("a folder")),
        ("no database", |state| fs::remove_file(state.join("pileus.db")).expect("a file")),
        ("no journal", |state| fs::remove_file(state.join("pileus.db-wal")).expect("a file")),
    ] {
        let place = place();
        let server = place.serve();
        submit(&server).expect("a job");
        assert_eq!(healthcheck(&server).status, 200, "{case}");
        act(&place.state());
        // Without a write.
        await_some("an unhealthy server", || {
            let reply = healthcheck(&server);
            if reply.status == 503 { Ok(()) } else { Err(reply.text) }
        });
        assert_eq!(submit(&server), None, "{case}");
        assert_eq!(server.get("/v2/default/jobs").status, 200, "{case}: reads go on");
        if case == "renamed" {
            // A new server on a new folder of the same name: neither touches the other's.
            let second = place.serve();
            assert!(submit(&second).is_some());
            assert_eq!(submit(&server), None, "the first one still refuses");
            let (status, log) = server.stop();
            assert!(status.success(), "{log}");
            assert!(log.contains("state folder lost"), "{log}");
            assert!(submit(&second).is_some(), "the end of the first one changes nothing");
            second.kill();
            let second = place.serve();
            let jobs = second.get("/v2/default/jobs").json()["jobs"].as_array().expect("jobs").len();
            assert_eq!(jobs, 2);
        } else {
            server.kill();
        }
    }
}

#[test]
fn an_event_of_another_writer_ends_the_process_and_stays() {
    let place = place();
    let server = place.serve();
    submit(&server).expect("a job");
    let db = rusqlite::Connection::open(place.state().join("pileus.db")).expect("the database");
    let copied = "INSERT INTO events (seq, time_ms, user, project, request_id, body, comment, owner)
        SELECT seq + 1, time_ms, 'another', project, request_id, '{\"kind\":\"user_limit\",\"data\":{\"user\":\"x\",\"vms\":1}}', comment, owner
        FROM events ORDER BY seq DESC LIMIT 1";
    assert_eq!(db.execute(copied, []).expect("an event"), 1);
    assert_eq!(submit(&server), None);
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(69), "{log}");
    assert!(log.contains("another process writes the state folder"), "{log}");
    let newest = "SELECT user FROM events ORDER BY seq DESC LIMIT 1";
    let user: String = db.query_row(newest, [], |row| row.get(0)).expect("an event");
    assert_eq!(user, "another");
    drop(db);
    drop(place.serve());
}

#[test]
fn a_start_without_the_database_or_its_journal_is_refused() {
    let remove: fn(&Path) = |path| fs::remove_file(path).expect("a file");
    let empty: fn(&Path) = |path| fs::write(path, "").expect("a file");
    for (case, name, act, is_killed) in [
        ("no database", "pileus.db", remove, true),
        ("an empty database", "pileus.db", empty, true),
        ("no journal", "pileus.db-wal", remove, true),
        ("an empty journal", "pileus.db-wal", empty, true),
        ("no database after an orderly stop", "pileus.db", remove, false),
        ("an empty database after an orderly stop", "pileus.db", empty, false),
    ] {
        let place = place();
        let server = place.serve();
        submit(&server).expect("a job");
        if is_killed {
            server.kill();
        } else {
            server.stop();
        }
        act(&place.state().join(name));
        let (code, stderr) = refused(&place);
        assert_eq!(code, Some(78), "{case}: {stderr}");
        for part in ["has lost a part of its state", "restore", "backup"] {
            assert!(stderr.contains(part), "{case}: {stderr}");
        }
    }
    let place = place();
    fs::create_dir_all(place.state().join("lost+found")).expect("a folder");
    drop(place.serve());
}

/// `PILEUS_KILLS` sets the number of kills.
#[test]
fn a_kill_at_any_moment_is_no_loss() {
    let kills = std::env::var("PILEUS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_u64);
    let place = place();
    let mut acknowledged = Vec::new();
    for round in 0..kills {
        // The start itself is killed, too.
        let mut child = place.command(&["serve"]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pileus runs");
        thread::sleep(Duration::from_micros(round * 7919 % 120_000));
        child.kill().expect("a process");
        child.wait().expect("its end");
        let server = place.serve();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut made = Vec::new();
                while made.len() < 10
                    && let Some(id) = submit_once(&server)
                {
                    made.push(id);
                }
                made
            });
            thread::sleep(Duration::from_micros(round * 6007 % 30_000));
            let pid = server.pid().to_string();
            Command::new("kill").args(["-KILL", &pid]).status().expect("kill runs");
            acknowledged.extend(writer.join().expect("no panic"));
        });
        drop(server);
    }
    let server = place.serve();
    for id in &acknowledged {
        let status = server.get(&format!("/v2/default/jobs/{id}")).status;
        assert_eq!(status, 200, "job {id} of {} is lost", acknowledged.len());
    }
    println!("{kills} kills, {} acknowledged jobs, all there", acknowledged.len());
}

#[test]
fn the_folder_is_closed_to_others_whatever_the_umask() {
    for (mask, before) in
        [(0o000, None), (0o022, None), (0o777, None), (0o000, Some(0o755)), (0o002, Some(0o777))]
    {
        let place = place();
        if let Some(mode) = before {
            fs::create_dir(place.state()).expect("a folder");
            fs::set_permissions(place.state(), PermissionsExt::from_mode(mode)).expect("its mode");
        }
        let pileus = env!("CARGO_BIN_EXE_pileus");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {mask:o}; exec {pileus} serve")]).current_dir(place.path());
        let server = place.try_serve_by(command).unwrap_or_else(|stderr| panic!("{mask:o}: {stderr}"));
        submit(&server).expect("a job");
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        let folder = mode(&place.state());
        assert_eq!(folder, if before.is_some() { 0o711 } else { 0o700 }, "{mask:o}, {before:?}");
        for entry in fs::read_dir(place.state()).expect("the folder") {
            let path = entry.expect("an entry").path();
            let allowed = if path.is_dir() { 0o711 } else { 0o600 };
            assert_eq!(mode(&path) & !allowed, 0, "{mask:o}: {} has {:o}", path.display(), mode(&path));
        }
    }
}

//! `pileus state`: backup, restore, compaction and export, with a server and without.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::support::{Place, Server, send};

fn place() -> Place {
    Place::new("[clouds.local]\ndriver = \"local\"\nvm_slots = 0\n")
}

fn jobs(server: &Server<'_>) -> usize {
    server.get("/v2/default/jobs").json()["jobs"].as_array().expect("jobs").len()
}

#[test]
fn a_backup_of_a_server_or_a_folder_comes_back() {
    let place = place();
    let server = place.serve();
    server.submit("true");
    server.submit("true");
    let url = format!("http://{}", server.api);
    let (status, _, stderr) = place.run(&["state", "backup", "of-server", "--url", &url]);
    assert!(status.success(), "{stderr}");
    let (status, _, stderr) = place.run(&["state", "backup", "of-server", "--url", &url]);
    assert_eq!(status.code(), Some(1), "it is there: {stderr}");
    let (status, _, stderr) = place.run(&["state", "restore", "of-server"]);
    assert_eq!(status.code(), Some(69), "the server holds the folder: {stderr}");
    server.submit("true");
    server.stop();
    let (status, _, stderr) = place.run(&["state", "backup", "of-folder"]);
    assert!(status.success(), "{stderr}");
    let (status, _, stderr) = place.run(&["state", "restore", "of-folder"]);
    assert_eq!(status.code(), Some(1), "the folder has a state: {stderr}");
    for (file, expected) in [("of-server", 2), ("of-folder", 3)] {
        let mode = fs::metadata(place.path().join(file)).expect("the backup").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let old = place.path().join(format!("before-{file}"));
        fs::rename(place.state(), &old).expect("a folder");
        let (status, _, stderr) = place.run(&["state", "restore", file]);
        assert!(status.success(), "{file}: {stderr}");
        // The token is not in the backup: only its hash.
        fs::copy(old.join("admin-token"), place.state().join("admin-token")).expect("the token");
        let server = place.serve();
        assert_eq!(jobs(&server), expected, "{file}");
    }
}

#[test]
fn a_backup_needs_an_administrator() {
    let place = place();
    let server = place.serve();
    let made = r#"{"token": {"name": "m", "user": "m", "project": "default", "roles": ["member"]}}"#;
    let member = server.post("/v2/default/tokens", made).json()["token"]["secret"].clone();
    let member = format!("X-Auth-Token: {}", member.as_str().expect("a secret"));
    for (headers, status) in [(&[member.as_str()][..], 403), (&[], 401)] {
        let reply = send(server.api, "GET", "/v2/default/service/backup", headers, "");
        assert_eq!(reply.status, status, "{}", reply.text);
    }
    let reply = server.get("/v2/default/service/backup");
    let length = reply.header("content-length").and_then(|it| it.parse::<u64>().ok());
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")));
    assert!(length.is_some_and(|length| length > 4096), "{length:?}");
    let left = fs::read_dir(place.state()).expect("the folder").flatten();
    assert!(left.into_iter().all(|entry| entry.file_name() != "pileus.backup"));
}

#[test]
fn old_events_are_exported_and_deleted() {
    let place = place();
    let server = place.serve();
    for _ in 0..20 {
        server.submit("true");
    }
    let (status, lines, stderr) = place.run(&["state", "export-events", "-"]);
    assert!(status.success(), "beside a server: {stderr}");
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["seq"], 1);
    let (status, _, stderr) = place.run(&["state", "compact", "--keep-days", "0"]);
    assert_eq!(status.code(), Some(69), "{stderr}");
    server.stop();
    let (status, _, stderr) = place.run(&["state", "export-events", "events.jsonl"]);
    assert!(status.success(), "{stderr}");
    let exported = fs::read_to_string(place.path().join("events.jsonl")).expect("the file").lines().count();
    let (status, _, stderr) = place.run(&["state", "compact", "--keep-days", "0"]);
    assert!(status.success(), "{stderr}");
    let (_, lines, _) = place.run(&["state", "export-events", "-"]);
    assert_eq!(lines.lines().count(), 1, "of {exported}");
    let server = place.serve();
    assert_eq!(jobs(&server), 20);
    let reply = server.get("/v2/default/events?since=1");
    assert_eq!(reply.header("pileus-oldest-event"), Some(exported.to_string().as_str()), "{}", reply.text);
    server.submit("true");
    server.kill();
    let server = place.serve();
    assert_eq!(jobs(&server), 21);
}

//! Files that the running service has read and that are gone, unusable or led elsewhere by a link.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    certificates::{authority, certificate},
    support::{Place, QUICK, Reply, Server, await_some},
};

fn reload(server: &Server<'_>) -> Reply {
    server.post("/v2/default/service/action", r#"{"reload": null}"#)
}

fn reloads(server: &Server<'_>) -> Value {
    server.get("/v2/default/service").json()["service"]["reloads"].clone()
}

/// A place with a file of each kind.
fn place() -> Place {
    let place = Place::new(&format!(
        "cloud_aliases = \"aliases.json\"\nuser_limits = \"limits.json\"\n{QUICK}
[policy]
remote_ssl_ca_crt_file = \"policy-ca.pem\"
remote_ssl_client_crt_file = \"policy-client.pem\"
remote_ssl_client_key_file = \"policy-client.key\"
"
    ));
    let folder = place.path();
    for name in ["ca", "clients", "policy-ca", "keystone-ca"] {
        authority(folder, name);
    }
    certificate(folder, "ca", "server", "DNS:localhost");
    certificate(folder, "policy-ca", "policy-client", "DNS:localhost");
    place.write("aliases.json", r#"{"West": ["local"]}"#);
    place.write("limits.json", r#"{"ada": 2}"#);
    place.write("shadow.json", r#"{"clouds:index": "@"}"#);
    place.write("svc-pw", "secret\n");
    fs::set_permissions(folder.join("svc-pw"), PermissionsExt::from_mode(0o600)).expect("a mode");
    fs::create_dir(folder.join("policy.d")).expect("a folder");
    place.write("policy.d/50.json", r#"{"vms:index": "!"}"#);
    place.write("policy.d/60.yaml", "\"vms:show\": \"!\"\n");
    place.write("included.toml", "[filter.size]\nfactory = \"sizelimit\"\nmax_request_body_size = 1000\n");
    let paste = fs::read_to_string(folder.join("api-paste.toml")).expect("the file");
    place.write("site-base.toml", &paste.replace("value = 120", "value = 100000"));
    place.write(
        "api-paste.toml",
        r#"
base = "site-base.toml"

[server.tls]
listen = "127.0.0.1:0"
app    = "more"
tls    = { certificate = "${here}/server.pem", key = "${here}/server.key", client_ca = "${here}/clients.pem" }

[pipeline.more]
pipeline = ["request_id", "faultwrap", "size", "keystone", "compare", "osapi"]

[filter.size]
use = "config:included.toml#filter.size"

[filter.keystone]
factory       = "authtoken"
auth_url      = "https://127.0.0.1:9/v3"
cafile        = "keystone-ca.pem"
username      = "svc"
password_file = "svc-pw"
project_name  = "service"

[filter.compare]
factory = "policy"
shadow  = "shadow.json"
"#,
    );
    // Denied by the file alone: where a built-in file took its place, it would be allowed.
    let policy = fs::read_to_string(folder.join("policy.json")).expect("the file");
    place.write("policy.json", &policy.replace(r#""clouds:index": "rule:member""#, r#""clouds:index": "!""#));
    place
}

const FILES: &[&str] = &[
    "pileus.toml",
    "api-paste.toml",
    "site-base.toml",
    "included.toml",
    "policy.json",
    "policy.d/50.json",
    "policy.d/60.yaml",
    "shadow.json",
    "aliases.json",
    "limits.json",
    "server.pem",
    "server.key",
    "clients.pem",
    "policy-ca.pem",
    "policy-client.pem",
    "policy-client.key",
    "keystone-ca.pem",
    "svc-pw",
];

type Spoil = fn(&Path);

const SPOILED: &[(&str, Spoil)] = &[
    ("removed", |path| fs::remove_file(path).expect("a file")),
    ("chmod 000", |path| fs::set_permissions(path, PermissionsExt::from_mode(0o000)).expect("a mode")),
    ("replaced by a folder", |path| {
        fs::remove_file(path).expect("a file");
        fs::create_dir(path).expect("a folder");
    }),
    ("emptied", |path| fs::write(path, "").expect("a file")),
    ("a dangling link", |path| {
        fs::remove_file(path).expect("a file");
        symlink("nowhere", path).expect("a link");
    }),
    ("a link to an endless device", |path| {
        fs::remove_file(path).expect("a file");
        symlink("/dev/zero", path).expect("a link");
    }),
];

#[test]
fn a_file_that_was_read_and_is_lost_makes_the_reload_fail() {
    let place = place();
    let server = place.serve();
    let state = || {
        let clouds = server.info("/clusters").text.contains("local");
        (server.get("/v2/default/clouds").status, server.get("/v2/default/vms").status, clouds)
    };
    assert_eq!(state(), (403, 403, true));
    let mut wrong = Vec::new();
    for file in FILES {
        for (how, spoil) in SPOILED {
            // A removed file of a readable folder is a change: the next test.
            if file.starts_with("policy.d/") && *how == "removed" {
                continue;
            }
            let path = place.path().join(file);
            let (text, mode) =
                (fs::read(&path).expect("a file"), fs::metadata(&path).expect("a file").permissions());
            spoil(&path);
            if *how == "chmod 000" && fs::read(&path).is_ok() {
                println!("{file}, {how}: skipped, root reads every file");
                fs::set_permissions(&path, mode).expect("a mode");
                continue;
            }
            let refused = reload(&server);
            let last = reloads(&server)["last"].clone();
            let named = last["files"]
                .as_array()
                .is_some_and(|files| files.iter().any(|it| it.as_str().is_some_and(|it| it.ends_with(file))));
            let metrics = server.info("/metrics").text;
            let counted = metrics.lines().any(|line| {
                line.starts_with("pileus_config_file_failing{path=\"")
                    && line.ends_with(&format!("{file}\"}} 1"))
            });
            if refused.status != 409 || !refused.text.contains(file) || !named || !counted {
                wrong.push(format!("{file}, {how}: {} {last:#} {counted}", refused.text));
            }
            if state() != (403, 403, true) {
                wrong.push(format!("{file}, {how}: the old state is gone: {:?}", state()));
            }
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                fs::remove_dir(&path).expect("a folder");
            }
            fs::remove_file(&path).ok();
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, mode).expect("a mode");
            let done = reload(&server);
            if done.status != 200 {
                wrong.push(format!("{file}, {how}, put back: {}", done.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let metrics = server.info("/metrics").text;
    assert!(metrics.contains("pileus_config_file_failing{path=\"policy.json\"} 0"), "{metrics}");
    assert!(!metrics.contains("pileus_config_file_failing{path=\"policy.json\"} 1"), "{metrics}");
}

/// The folder `policy.d` is demanded once it was read; a file of it may go.
#[test]
fn a_folder_of_rules_is_kept_and_its_files_may_go() {
    let place = place();
    let server = place.serve();
    let (folder, aside) = (place.path().join("policy.d"), place.path().join("aside"));
    let asked = || server.get("/v2/default/vms").status;
    fs::rename(&folder, &aside).expect("a folder");
    for how in ["removed", "replaced by a file", "a dangling link"] {
        match how {
            "replaced by a file" => fs::write(&folder, "{}").expect("a file"),
            "a dangling link" => symlink("nowhere", &folder).expect("a link"),
            _ => {}
        }
        let refused = reload(&server);
        assert!(refused.status == 409 && refused.text.contains("policy.d"), "{how}: {}", refused.text);
        assert_eq!(reloads(&server)["last"]["files"], json!(["policy.d"]), "{how}");
        assert_eq!(asked(), 403, "{how}");
        fs::remove_file(&folder).ok();
    }
    fs::rename(&aside, &folder).expect("a folder");
    fs::remove_file(folder.join("50.json")).expect("a file");
    let done = reload(&server);
    assert_eq!((done.status, asked()), (200, 200), "{}", done.text);
    // A folder that comes later is demanded from then on.
    let (_, log) = server.stop();
    let removed = log.lines().find(|line| line.contains("policy file removed")).unwrap_or_default();
    assert!(removed.contains("WARN") && removed.contains("policy.d/50.json"), "{log}");
}

#[test]
fn a_lost_file_is_noticed_and_files_that_come_later_are_kept() {
    let place = Place::new(QUICK);
    for file in ["pileus.toml", "policy.json"] {
        fs::remove_file(place.path().join(file)).expect("a file");
    }
    let server = place.serve();
    let (clouds, vms) = (|| server.get("/v2/default/clouds").status, || server.get("/v2/default/vms").status);
    assert_eq!((clouds(), vms()), (200, 200), "the built-in files hold");
    place.write("policy.json", r#"{"clouds:index": "!"}"#);
    fs::create_dir(place.path().join("policy.d")).expect("a folder");
    place.write("policy.d/50.json", r#"{"vms:index": "!"}"#);
    let done = reload(&server);
    assert_eq!((done.status, clouds(), vms()), (200, 403, 403), "{}", done.text);
    let failed = reloads(&server)["failed"].as_u64();
    fs::remove_file(place.path().join("policy.json")).expect("a file");
    await_some("the loss to be noticed", || {
        let seen = reloads(&server);
        if seen["failed"].as_u64() > failed { Ok(()) } else { Err(seen) }
    });
    assert_eq!(reloads(&server)["last"]["files"], json!(["policy.json"]));
    assert_eq!((clouds(), vms()), (403, 403));
    place.write("policy.json", r#"{"clouds:index": "!"}"#);
    fs::rename(place.path().join("policy.d"), place.path().join("aside")).expect("a folder");
    assert_eq!(reload(&server).status, 409);
    fs::rename(place.path().join("aside"), place.path().join("policy.d")).expect("a folder");
    assert_eq!(reload(&server).status, 200);
    let (_, log) = server.stop();
    let line =
        log.lines().find(|line| line.contains("not reloaded, the old state stays")).unwrap_or_default();
    assert!(line.contains("ERROR") && line.contains("policy.json"), "{log}");
}

/// At a start, a file that is there and unusable is never passed over for the built-in one.
#[test]
fn a_file_that_is_there_and_unusable_ends_the_start() {
    for file in ["pileus.toml", "api-paste.toml", "policy.json"] {
        for (how, spoil) in SPOILED.iter().filter(|(how, _)| *how != "removed") {
            let place = Place::new(QUICK);
            let path = place.path().join(file);
            spoil(&path);
            if *how == "chmod 000" && fs::read(&path).is_ok() {
                println!("{file}, {how}: skipped, root reads every file");
                continue;
            }
            for command in ["check", "serve"] {
                let (status, _, stderr) = place.run(&[command]);
                assert_eq!(status.code(), Some(78), "{file}, {how}: {stderr}");
                assert!(stderr.contains(file), "{file}, {how}: {stderr}");
            }
        }
    }
    let place = Place::new(QUICK);
    symlink("nowhere", place.path().join("policy.d")).expect("a link");
    let (status, _, stderr) = place.run(&["check"]);
    assert!(status.code() == Some(78) && stderr.contains("policy.d"), "{stderr}");
}

/// Each look follows the links again, whichever of them was switched.
#[test]
fn a_switched_link_is_a_change() {
    let place = place();
    let folder = place.path();
    let variants: [(&str, &str, &str, &str); 5] = [
        ("policy.json", r#""clouds:index": "!""#, r#""clouds:index": "@""#, "policy.json"),
        ("api-paste.toml", "max_request_body_size = 1000", "", "api-paste.toml"),
        ("pileus.toml", "vm_slots = 2", "vm_slots = 3", "pileus.toml"),
        ("included.toml", "max_request_body_size = 1000", "max_request_body_size = 2000", "included.toml"),
        ("policy.d/50.json", r#""vms:index": "!""#, r#""vms:index": "@""#, "policy.d/50.json"),
    ];
    for release in ["r1", "r2"] {
        fs::create_dir_all(folder.join(release).join("policy.d")).expect("a folder");
    }
    symlink("r1", folder.join("current")).expect("a link");
    for (file, old, new, _) in variants {
        let text = fs::read_to_string(folder.join(file)).expect("a file");
        place.write(&format!("r1/{file}"), &text);
        let changed = text.replace(old, new);
        place.write(
            &format!("r2/{file}"),
            &format!("{changed}{}", if changed == text { "# other\n" } else { "" }),
        );
        fs::remove_file(folder.join(file)).expect("a file");
        let up = if file.contains('/') { "../" } else { "" };
        symlink(format!("{up}current/{file}"), folder.join(file)).expect("a link");
    }
    let server = place.serve();
    let asked = || (server.get("/v2/default/clouds").status, server.get("/v2/default/vms").status);
    assert_eq!(asked(), (403, 403));
    let hashes = || {
        let files = reloads(&server)["files"].as_array().cloned().unwrap_or_default();
        let of = |name: &str| files.iter().find(|it| it["name"] == name).map(|it| it["sha256"].clone());
        variants.map(|(_, _, _, name)| of(name).unwrap_or_default())
    };
    let before = hashes();
    assert!(before.iter().all(Value::is_string), "{before:?}");
    // The middle of each chain.
    fs::remove_file(folder.join("current")).expect("a link");
    symlink("r2", folder.join("current")).expect("a link");
    await_some("the switch to be noticed", || {
        let now = hashes();
        let same: Vec<_> = before.iter().zip(&now).filter(|(old, new)| old == new).collect();
        if same.is_empty() { Ok(()) } else { Err(format!("{} files are as before", same.len())) }
    });
    assert_eq!(asked(), (200, 200));
    // A link that becomes a plain file.
    let policy = fs::read_to_string(folder.join("r1/policy.json")).expect("a file");
    fs::remove_file(folder.join("policy.json")).expect("a link");
    place.write("policy.json", &policy);
    await_some("the plain file to be noticed", || {
        let now = asked();
        if now == (403, 200) { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

/// A file that a failed reload misses is looked for, and aliases and limits follow their files.
#[test]
fn what_a_failed_reload_misses_is_taken_once_it_is_there() {
    let place = place();
    let server = place.serve();
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    place.write("api-paste.toml", &paste.replace("config:included.toml", "config:later.toml"));
    let refused = reload(&server);
    assert!(refused.status == 409 && refused.text.contains("later.toml"), "{}", refused.text);
    let included = fs::read_to_string(place.path().join("included.toml")).expect("the file");
    place.write("later.toml", &included);
    await_some("the file to be noticed", || {
        let seen = reloads(&server);
        let taken = seen["last"]["problem"].is_null()
            && seen["files"].as_array().is_some_and(|it| it.iter().any(|it| it["name"] == "later.toml"));
        if taken { Ok(()) } else { Err(seen) }
    });
    place.write("aliases.json", r#"{"East": ["local"]}"#);
    place.write("limits.json", r#"{"ada": 7}"#);
    await_some("aliases and limits to be noticed", || {
        let aliases = server.get("/v2/default/cloud-aliases").text;
        let user = server.get("/v2/default/users").text;
        if aliases.contains("East") && user.contains('7') { Ok(()) } else { Err(format!("{aliases} {user}")) }
    });
}

/// A failed reload is readable on a terminal, and structured for programs.
#[test]
fn a_failed_reload_is_logged_as_check_prints_it_or_as_events() {
    for format in ["text", "json"] {
        let place = Place::new(QUICK);
        let mut command = place.command(&["serve"]);
        command.env("PILEUS_LOG_FORMAT", format);
        let server = place.try_serve_by(command).unwrap_or_else(|log| panic!("{log}"));
        place.write(
            "policy.json",
            "{\n  \"clouds:index\": \"role:a or\",\n  \"vms:index\": \"rule:nowhere\"\n}\n",
        );
        assert_eq!(reload(&server).status, 409);
        let (_, log) = server.stop();
        if format == "text" {
            let (_, _, checked) = place.run(&["check"]);
            let first = log.find("not reloaded, the old state stays").expect("the event");
            let problems = log.find("error: rule `clouds:index`").expect("the problem");
            assert!(first < problems, "{log}");
            assert!(log.contains(checked.trim_end()), "{log}\n---\n{checked}");
            continue;
        }
        let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(events.len(), log.lines().count(), "every line is JSON: {log}");
        let place_of = |event: &Value| (event["fields"]["file"].clone(), event["fields"]["line"].clone());
        let problem = events.iter().find(|event| place_of(event) == (json!("policy.json"), json!(2)));
        let problem = problem.unwrap_or_else(|| panic!("{log}"));
        assert_eq!(problem["level"], "ERROR");
        assert!(
            problem["fields"]["message"].as_str().is_some_and(|it| it.contains("clouds:index")),
            "{problem}"
        );
        assert!(events.iter().any(|event| event["fields"]["files"] == "policy.json"), "{log}");
    }
}

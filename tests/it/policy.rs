//! Policy as a deployer and a client meet it: files, commands, policy servers, over real sockets.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::{
    certificates::{authority, certificate},
    support::{Place, Reply, Server, await_some, send, tls_server},
};

/// A place whose API takes `user:project` as a token, with these rules.
fn development(policy: &str) -> Place {
    let place = Place::quick(30);
    let config = fs::read_to_string(place.path().join("pileus.toml")).expect("a file");
    place.write("pileus.toml", &format!("auth_strategy = \"noauth\"\n{config}"));
    place.write("policy.json", policy);
    place
}

fn folder(place: &Place, files: &[(&str, &str)]) {
    fs::create_dir_all(place.path().join("policy.d")).expect("a folder");
    files.iter().for_each(|(name, text)| place.write(&format!("policy.d/{name}"), text));
}

fn by(server: &Server<'_>, who: &str, method: &str, path: &str, body: &str) -> Reply {
    send(server.api, method, path, &[&format!("X-Auth-Token: {who}"), "Content-Type: application/json"], body)
}

#[test]
fn the_shipped_rules_are_the_defaults_in_code() {
    let place = Place::quick(1);
    let listed = |place: &Place| {
        let (status, stdout, stderr) = place.run(&["policy", "list", "--json"]);
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(stderr.is_empty(), "{stderr}");
        serde_json::from_str::<Value>(&stdout).expect("JSON").as_array().expect("a list").clone()
    };
    let shipped: Value = serde_json::from_str(include_str!("../../policy.json")).expect("JSON");
    let pair = |rule: &Value| (rule["rule"].clone(), rule["check"].clone());
    let all = listed(&place);
    assert_eq!(all.len(), shipped.as_object().expect("rules").len());
    for rule in &all {
        assert_eq!(rule["from"]["file"], "policy.json", "{rule}");
        if rule["rule"] != "default" {
            assert_eq!(rule["check"], rule["default"], "{rule}");
        }
    }
    // Without a rule in any file the same decides.
    place.write("policy.json", "{}");
    let mut code: Vec<_> = listed(&place).iter().map(pair).collect();
    let mut files: Vec<_> = all.iter().filter(|rule| rule["rule"] != "default").map(pair).collect();
    code.sort_by_key(|(name, _)| name.to_string());
    files.sort_by_key(|(name, _)| name.to_string());
    assert_eq!(code, files);
}

#[test]
fn a_folder_lays_its_files_over_the_rules() {
    let place = development("{\n  \"clouds:create\": \"!\",\n  \"clouds:index\": \"!\"\n}");
    folder(
        &place,
        &[
            ("10-site.json", r#"{"clouds:index": "rule:ours", "ours": "project_id:west"}"#),
            ("20-more.yaml", "# the auditors\nours: project_id:west or user_id:audit\n"),
            (".hidden", "{"),
            ("10-site.json~", "{"),
        ],
    );
    let (status, stdout, stderr) = place.run(&["policy", "list"]);
    assert_eq!((status.code(), &*stderr), (Some(0), ""), "{stdout}");
    let row = |name: &str| {
        let row =
            stdout.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_default();
        row.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>()
    };
    let index = "GET /{project_id}/clouds";
    assert_eq!(
        row("clouds:index"),
        ["clouds:index", "rule:ours", "policy.d/10-site.json:1 over policy.json:3", index]
    );
    let from = "policy.d/20-more.yaml:2 over policy.d/10-site.json:1";
    assert_eq!(row("ours"), ["ours", "project_id:west or user_id:audit", from]);
    assert_eq!(row("clouds:show")[1..3], ["rule:member", "code"]);
    assert_eq!(
        row("cloud_admin:set_vms")[3],
        "cloud_admin: PUT /clouds/{cloud}/vms, cloud_admin: POST /clouds/{cloud}/vms and 1 more"
    );
    let server = place.serve();
    for (who, path, status) in [
        ("ann:west", "/v2/west/clouds", 200),
        ("bob:east", "/v2/east/clouds", 403),
        ("audit:east", "/v2/east/clouds", 200),
        // No file says anything of these.
        ("bob:east", "/v2/east/clouds/local", 200),
        ("bob:east", "/v2/east/service", 403),
        ("admin:ops", "/v2/ops/service", 200),
    ] {
        let reply = by(&server, who, "GET", path, "");
        assert_eq!(reply.status, status, "{who} {path}: {}", reply.text);
    }
    let cloud = r#"{"cloud": {"name": "x", "driver": "local"}}"#;
    assert_eq!(
        by(&server, "admin:ops", "POST", "/v2/ops/clouds", cloud).status,
        403,
        "the first file says so"
    );
}

#[test]
fn what_is_wrong_with_a_file_of_the_folder_names_it() {
    // What stands in policy.d, in [policy] of pileus.toml, and what is said; with whether it starts.
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a [&'a str], bool);
    let cases: &[Row<'_>] = &[
        (&[("a.json", "{\n\"x\": ")], "", &["policy.d/a.json:2", "no JSON object"], false),
        (&[("a.yaml", "x: y: z")], "", &["policy.d/a.yaml:1", "no YAML"], false),
        (
            &[("a.json", r#"{"clouds:show": "role:a or"}"#)],
            "",
            &["policy.d/a.json:1:25", "nothing on its right"],
            false,
        ),
        (
            &[("a.json", "{}"), ("b.json", r#"{"clouds:show": "not rule:gone"}"#)],
            "",
            &["policy.d/b.json:1", "rule:gone"],
            false,
        ),
        (&[("readme.txt", "hello")], "", &["policy.d/readme.txt is not read", "rename it"], false),
        (&[], "policy_dirs = [\"nowhere\"]", &["nowhere cannot be read"], false),
        (&[("a.json", "{}")], "policy_dir = \"x\"", &["policy_dir", "did you mean `policy_dirs`"], false),
        (&[("a.json", "{}")], "remote_timeout_s = 0", &["remote_timeout_s", "pileus.toml:"], false),
        (&[("a.json", "{")], "policy_dirs = []", &[], true),
        (
            &[("a.json", r#"{"clouds:shwo": "!"}"#)],
            "",
            &["policy.d/a.json:1", "no route asks rule `clouds:shwo`", "did you mean `clouds:show`?"],
            true,
        ),
        (
            &[("a.json", r#"{"clouds:create": "@"}"#)],
            "",
            &["policy.d/a.json:1", "everybody who has a token", "its default is \"rule:admin\""],
            true,
        ),
    ];
    for (files, settings, said, starts) in cases {
        let place = Place::quick(1);
        folder(&place, files);
        let config = fs::read_to_string(place.path().join("pileus.toml")).expect("a file");
        place.write("pileus.toml", &format!("[policy]\n{settings}\n{config}"));
        let (status, stdout, stderr) = place.run(&["check"]);
        assert_eq!(status.code(), Some(if *starts { 0 } else { 78 }), "{files:?}: {stdout}{stderr}");
        for word in *said {
            assert!(stderr.contains(word), "{files:?} {settings}: `{word}` is not in\n{stderr}");
        }
        assert!(!said.is_empty() || stderr.is_empty(), "{stderr}");
    }
    // What cannot be read to its end is not waited for.
    let place = Place::quick(1);
    folder(&place, &[]);
    let _socket = UnixListener::bind(place.path().join("policy.d/a.json")).expect("a socket");
    let (status, _, stderr) = place.run(&["check"]);
    assert!(
        status.code() == Some(78) && stderr.contains("policy.d/a.json cannot be read: it is a socket"),
        "{stderr}"
    );
}

fn explain<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&["policy", "explain", "clouds:create"], rest].concat()
}

#[test]
fn rules_are_checked_and_explained_without_a_server() {
    let place = Place::quick(1);
    place.write("next.json", r#"{"clouds:create": "rule:staff", "staff": "role:staff and not role:guest"}"#);
    place.write("site.yaml", "staff: role:staff\nother: role:x\n");
    place.write("bad.json", r#"{"clouds:create": "role:a role:b"}"#);
    place.write("creds.json", r#"{"roles": ["staff"], "project_id": "p"}"#);
    let (inline, file) = (r#"{"roles": ["member"]}"#, "@creds.json");
    let scope = r#"{"system_scope": "all", "project_id": "p"}"#;
    // The words, the exit code, and what is said where.
    let cases: [(Vec<&str>, i32, &str, &str); 13] = [
        (vec!["policy", "check", "next.json"], 0, "ok: 2 rules", ""),
        (vec!["policy", "check", "next.json", "site.yaml"], 0, "ok: 3 rules", "site.yaml:2:1"),
        (vec!["policy", "check", "bad.json"], 78, "", "bad.json:1:27"),
        (vec!["policy", "check", "nowhere.json"], 78, "", "nowhere.json cannot be read"),
        (vec!["policy", "check"], 64, "", "FILE"),
        (explain(&["--creds", inline]), 1, "clouds:create: deny\n  rule:admin: no\n", ""),
        (
            explain(&["--policy", "next.json", "--creds", file]),
            0,
            "clouds:create: allow\n  rule:staff: yes\n",
            "",
        ),
        (
            explain(&["--policy", "next.json", "--creds", file]),
            0,
            "role:guest: no (the caller's roles are ['staff'])",
            "",
        ),
        (explain(&["--policy", "bad.json", "--creds", file]), 78, "", "bad.json:1:27"),
        (explain(&["--creds", "[]"]), 64, "", "--creds has to be a JSON object"),
        (explain(&["--target", "@nowhere"]), 64, "", "--target: nowhere cannot be read"),
        (
            vec!["policy", "explain", "jobs:create", "--creds", scope, "--target", r#"{"project_id": "p"}"#],
            1,
            "jobs:create: deny: the rule is for tokens of scope project, and this one is of scope system",
            "",
        ),
        (
            vec!["policy", "explain", "gone"],
            1,
            "gone: deny (no rule has this name, so `default` decides)",
            "",
        ),
    ];
    for (words, code, out, err) in cases {
        let (status, stdout, stderr) = place.run(&words);
        assert_eq!(status.code(), Some(code), "{words:?}: {stdout}{stderr}");
        assert!(stdout.contains(out) && stderr.contains(err), "{words:?}: {stdout}{stderr}");
        assert!(!err.is_empty() || stderr.is_empty(), "{words:?}: {stderr}");
    }
}

/// A policy server that lets in Ann alone, until it is told to go. Keeps what it was asked.
fn policy_server() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keeps = heard.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut text, mut part) = (String::new(), [0; 4096]);
            // The three fields are all there once the last one is.
            while !text.contains("&credentials=%7B") || !text.ends_with("%7D") {
                let read = stream.read(&mut part).expect("a request");
                text.push_str(&String::from_utf8_lossy(&part[..read]));
            }
            let said = if text.contains("%22user_id%22%3A%22ann%22") { "True" } else { "False" };
            let length = said.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{said}").expect("an answer");
            let ends = text.starts_with("POST /end");
            keeps.lock().expect("not poisoned").push(text);
            if ends {
                return;
            }
        }
    });
    (url, heard)
}

#[test]
fn another_server_decides_where_a_rule_says_so() {
    let (url, heard) = policy_server();
    let rules = json!({
        "clouds:index": format!("role:admin or {url}/may/%(project_id)s"),
        "clouds:show": format!("{url}/end/%(id)s"),
        "clouds:detail": format!("not {url}/end"),
    });
    let place = development(&rules.to_string());
    let server = place.serve();
    let get = |who: &str, path: &str| by(&server, who, "GET", path, "").status;
    assert_eq!(get("ann:west", "/v2/west/clouds"), 200);
    assert_eq!(get("bob:west", "/v2/west/clouds"), 403);
    assert_eq!(get("admin:west", "/v2/west/clouds"), 200);
    {
        let heard = heard.lock().expect("not poisoned");
        assert_eq!(heard.len(), 2, "an administrator is let in unasked: {heard:?}");
        assert!(heard[0].starts_with("POST /may/west HTTP/1.1\r\n"), "{heard:?}");
        assert!(
            heard[0].contains("rule=%22clouds%3Aindex%22&target=%7B%22project_id%22%3A%22west%22%7D"),
            "{heard:?}"
        );
    }
    // What may I do: asked of the server, too.
    let asked = r#"{"check": {"rules": ["clouds:index"]}}"#;
    for (who, allowed) in [("ann:west", true), ("bob:west", false)] {
        let reply = by(&server, who, "POST", "/v2/west/policy/check", asked);
        assert_eq!(reply.json()["check"][0]["allowed"], allowed, "{}", reply.text);
    }
    let words = [
        "policy",
        "explain",
        "clouds:index",
        "--creds",
        r#"{"user_id": "ann", "roles": []}"#,
        "--target",
        r#"{"project_id": "west"}"#,
    ];
    let (status, stdout, _) = place.run(&words);
    assert!(status.code() == Some(1) && stdout.contains("was not asked"), "{stdout}");
    let (status, stdout, _) = place.run(&[&words[..], &["--ask"]].concat());
    assert!(status.code() == Some(0) && stdout.contains(&format!("yes (POST {url}/may/west)")), "{stdout}");
    // The last question is answered; then it is gone, and nobody gets in.
    assert_eq!(get("ann:west", "/v2/west/clouds/local"), 200);
    for path in ["/v2/west/clouds", "/v2/west/clouds/local", "/v2/west/clouds/detail"] {
        assert_eq!(get("ann:west", path), 403, "{path}");
    }
    assert_eq!(get("admin:west", "/v2/west/clouds"), 200);
    let (_, log) = server.stop();
    assert!(log.contains("policy rule could not be decided") && log.contains("cannot be asked"), "{log}");
}

#[test]
fn whoever_calls_is_told_what_he_may() {
    let place = development(r#"{"clouds:update": "'west':%(id)s", "clouds:delete": "role:a or"}"#);
    // A rule that cannot be understood is found before; here it denies.
    let (status, ..) = place.run(&["check"]);
    assert_eq!(status.code(), Some(78));
    place.write("policy.json", r#"{"clouds:update": "'west':%(id)s"}"#);
    let server = place.serve();
    let asked = r#"{"check": {"rules": ["clouds:create", "clouds:update", "clouds:show", "gone"], "target": {"id": "west"}}}"#;
    let answers = |who: &str, path: &str| {
        let reply = by(&server, who, "POST", path, asked);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let json = reply.json();
        let rows = json["check"].as_array().expect("a list").iter();
        rows.map(|it| format!("{} {} {}", it["rule"], it["allowed"], it["known"]).replace('"', ""))
            .collect::<Vec<_>>()
    };
    let of = |create: bool| {
        [
            format!("clouds:create {create} true"),
            "clouds:update true true".into(),
            "clouds:show true true".into(),
            "gone false false".into(),
        ]
    };
    assert_eq!(answers("bob:east", "/v2/east/policy/check"), of(false));
    assert_eq!(answers("admin:ops", "/v2/ops/policy/check"), of(true));
    for (body, status) in [
        (r#"{"check": {"rules": ["clouds:show"], "target": {"project_id": "west"}}}"#, 400),
        (r#"{"check": {"rules": ["clouds:show"], "creds": {"roles": ["admin"]}}}"#, 400),
        (r#"{"check": {"rules": []}}"#, 200),
    ] {
        let reply = by(&server, "bob:east", "POST", "/v2/east/policy/check", body);
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
    }
    assert_eq!(
        by(&server, "bob:east", "POST", "/v2/west/policy/check", asked).status,
        400,
        "another project"
    );
}

#[test]
fn a_shadow_policy_is_compared_and_decides_nothing() {
    let place = development("{}");
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    place.write("api-paste.toml", &format!("{paste}\n[filter.policy]\nshadow = \"policy-next.json\"\n"));
    let (status, _, stderr) = place.run(&["check"]);
    assert!(status.code() == Some(78) && stderr.contains("policy-next.json"), "{stderr}");
    place.write("policy-next.json", r#"{"clouds:index": "role:a and"}"#);
    let (status, _, stderr) = place.run(&["check"]);
    assert!(status.code() == Some(78) && stderr.contains("policy-next.json:1:"), "{stderr}");
    place.write(
        "policy-next.json",
        r#"{"clouds:index": "role:admin", "clouds:create": "@", "jobs:index": "http://127.0.0.1:9/"}"#,
    );
    let server = place.serve();
    let get = |who: &str, path: &str| by(&server, who, "GET", path, "").status;
    for _ in 0..30 {
        assert_eq!(get("bob:east", "/v2/east/clouds"), 200);
    }
    assert_eq!(get("admin:ops", "/v2/ops/clouds"), 200);
    assert_eq!(get("bob:east", "/v2/east/jobs"), 200);
    assert_eq!(by(&server, "bob:east", "POST", "/v2/east/clouds", "{}").status, 403);
    let (_, log) = server.stop();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("decided differently")).collect();
    assert_eq!(lines.len(), 20, "{log}");
    for word in ["clouds:index", "allow", "deny", "bob", "GET /{project_id}/clouds"] {
        assert!(lines[0].contains(word), "{}", lines[0]);
    }
    let sum = log.lines().find(|line| line.contains("shadow policy was compared")).unwrap_or_default();
    let sum: String = sum.split("\u{1b}").map(|it| it.split_once('m').map_or(it, |(_, rest)| rest)).collect();
    for word in ["compared=32", "differences=31", "passed_over=1"] {
        assert!(sum.contains(word), "{word}: {sum}\n{log}");
    }
}

#[test]
fn a_policy_server_is_believed_once_its_authority_is_named() {
    let place = development("{}");
    let folder = place.path();
    for name in ["ca", "other"] {
        authority(folder, name);
    }
    certificate(folder, "ca", "server", "DNS:localhost");
    let port = tls_server(folder, "server", |_| b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nTrue".to_vec());
    let rule = format!("https://localhost:{port}/may");
    place.write("policy.json", &json!({ "clouds:index": rule }).to_string());
    let config = fs::read_to_string(folder.join("pileus.toml")).expect("a file");
    let trusts = |file: &str| {
        place.write("pileus.toml", &format!("{config}\n[policy]\nremote_ssl_ca_crt_file = \"{file}\"\n"));
    };
    trusts("none.pem");
    let (status, _, stderr) = place.run(&["check"]);
    assert!(status.code() == Some(78) && stderr.contains("none.pem: "), "{stderr}");
    assert!(stderr.contains("pileus.toml:"), "{stderr}");
    trusts("trusted.pem");
    let trust = |name: &str| fs::copy(folder.join(format!("{name}.pem")), folder.join("trusted.pem"));
    trust("other").expect("a copy");
    let server = place.serve();
    let status = || by(&server, "ann:west", "GET", "/v2/west/clouds", "").status;
    assert_eq!(status(), 403, "signed by an authority that is not named");
    // The file is another one: it is seen by itself.
    trust("ca").expect("a copy");
    await_some("the new authority", || match status() {
        200 => Ok(()),
        other => Err(other),
    });
    let (_, log) = server.stop();
    assert!(log.contains("UnknownIssuer"), "{log}");
}

#[test]
fn a_shadow_policy_that_has_changed_is_read_again() {
    let place = development("{}");
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    place.write("api-paste.toml", &format!("{paste}\n[filter.policy]\nshadow = \"policy-next.json\"\n"));
    place.write("policy-next.json", "{}");
    let server = place.serve();
    let reloads = || {
        let reply = by(&server, "admin:ops", "GET", "/v2/ops/service", "");
        reply.json()["service"]["reloads"].clone()
    };
    for (text, key) in [(r#"{"clouds:index": "role:admin"}"#, "done"), ("{", "failed")] {
        let before = reloads()[key].as_u64();
        place.write("policy-next.json", text);
        await_some(key, || {
            let seen = reloads();
            if seen[key].as_u64() > before { Ok(()) } else { Err(seen) }
        });
    }
    assert!(reloads()["last"]["problem"].as_str().is_some_and(|it| it.contains("policy-next.json:1")));
}

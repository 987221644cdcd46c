//! Tokens of the embedded identity: by `pileus token`, over HTTP and on the state folder.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    certificates::{authority, certificate},
    support::{Place, QUICK, Reply, Server, await_some, free_address, send},
};

/// A place whose files name the port of the API, so that commands find the server by them.
fn place() -> Place {
    let place = Place::new(QUICK);
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    let api = format!("\"{}\"", free_address());
    place.write("api-paste.toml", &paste.replacen("\"127.0.0.1:0\"", &api, 1));
    place
}

/// A command: exit code, stdout without the last newline, stderr.
fn pileus(place: &Place, args: &[&str]) -> (i32, String, String) {
    let (status, stdout, stderr) = place.run(args);
    (status.code().expect("an exit code"), stdout.trim_end().to_owned(), stderr)
}

fn who(server: &Server<'_>, token: &str, path: &str) -> Reply {
    send(server.api, "GET", path, &[&format!("X-Auth-Token: {token}")], "")
}

fn names(place: &Place) -> Vec<String> {
    let (code, text, stderr) = pileus(place, &["token", "list", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let tokens = list["tokens"].as_array().expect("a list");
    tokens.iter().map(|token| token["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn tokens_are_made_listed_and_revoked_while_a_server_runs_and_while_none_does() {
    let place = place();
    place.serve().stop();
    // On the folder.
    let (code, first, stderr) = pileus(&place, &["token", "create", "laptop", "--user", "ada"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(first.len() == 43 && !stderr.contains(&first), "{first} {stderr}");
    assert!(
        stderr.contains("`laptop` of user `ada` in project `default`, roles member, until it is revoked")
    );
    assert_eq!(names(&place), ["admin", "laptop"]);
    let server = place.serve();
    assert_eq!(who(&server, &first, "/v2/default/clouds").status, 200);
    assert_eq!(who(&server, &first, "/v2/default/tokens").status, 403);
    // By the server, which the files describe: the folder is taken.
    let more = ["--role", "admin", "--role", "member", "--project", "ops", "--expires", "30d", "--json"];
    let (code, text, stderr) = pileus(&place, &[&["token", "create", "ops"], more.as_slice()].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let made: Value = serde_json::from_str(&text).expect("JSON");
    let made = &made["token"];
    assert_eq!(
        (&made["user"], &made["project"], &made["roles"]),
        (&json!("ops"), &json!("ops"), &json!(["admin", "member"]))
    );
    assert!(made["expires_at"].as_str().is_some_and(|end| end.ends_with('Z')), "{text}");
    let second = made["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(who(&server, &second, "/v2/ops/tokens").status, 200);
    // Another administrator's token, and where the server is said to be.
    let file = place.secret("ops-token", &format!("{second}\n")).display().to_string();
    let url = format!("http://{}", server.api);
    let by_ops = ["--url", &url, "--token-file", &file, "--own-project", "ops"];
    let (code, text, stderr) = pileus(&place, &[&["token", "list"], by_ops.as_slice()].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    for words in ["NAME", "laptop", "ops", "admin, member", made["expires_at"].as_str().expect("an end")] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(!text.contains(&second), "{text}");
    // What is refused.
    let (past, reserved) = ("2001-01-01T00:00:00Z", "stands for an actor of the server itself");
    let elsewhere = place.path().join("elsewhere").display().to_string();
    let nowhere = format!("http://{}", free_address());
    let cases: [(&[&str], i32, &str); 15] = [
        (&["create", "laptop"], 1, "Token laptop exists."),
        (&["create", "x", "--user", "[scheduler]"], 1, reserved),
        (&["create", "operator"], 1, reserved),
        (&["create", "x", "--user", ""], 1, "must not be empty"),
        (&["create", "x", "--expires", past], 64, "lies in the past"),
        (&["create", "x", "--expires", "soon"], 64, "neither a duration"),
        (&["create"], 64, "<NAME>"),
        (&["create", "x", "--admin"], 64, "cannot be used with"),
        (&["create", "--admin", "--url", &url], 64, "cannot be used with"),
        (&["create", "--admin"], 69, "a server holds the state folder"),
        (&["create", "--admin", "--state", &elsewhere], 69, "there is no state in"),
        (&["revoke", "nobody"], 1, "Token nobody could not be found."),
        (&["list", "--url", &nowhere], 69, &nowhere),
        (&["list", "--token-file", &elsewhere], 69, "elsewhere"),
        (&["list", "--url", &url, "--token-file", &file], 1, "error: "),
    ];
    for (args, code, says) in cases {
        let (found, stdout, stderr) = pileus(&place, &[&["token"], args].concat());
        assert_eq!((found, stdout.as_str()), (code, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
    assert_eq!(pileus(&place, &["token", "revoke", "laptop"]).0, 0);
    assert_eq!(who(&server, &first, "/v2/default/clouds").status, 401);
    server.stop();
    let (code, text, _) = pileus(&place, &["token", "revoke", "ops", "--json"]);
    assert_eq!((code, serde_json::from_str(&text).ok()), (0, Some(json!({ "revoked": "ops" }))));
    assert_eq!(pileus(&place, &["token", "revoke", "ops"]).0, 1);
    let (code, _, stderr) = pileus(&place, &["token", "create", "x", "--user", "[start]"]);
    assert!(code == 1 && stderr.contains(reserved), "{stderr}");
    assert_eq!(names(&place), ["admin"]);
}

#[test]
fn a_lost_administrator_comes_back() {
    let place = place();
    let server = place.serve();
    let lost = server.token.clone();
    server.stop();
    let file = place.state().join("admin-token");
    fs::remove_file(&file).expect("the file is there");
    let (code, stdout, stderr) = pileus(&place, &["token", "create", "--admin"]);
    assert_eq!((code, stdout), (0, "./var/admin-token".to_owned()), "{stderr}");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let server = place.serve();
    assert_eq!(server.get("/v2/default/tokens").status, 200);
    assert_eq!(who(&server, &lost, "/v2/default/tokens").status, 401, "it was replaced");
    let events = server.get("/v2/default/events?all_projects=1&kind=token_created,token_revoked").json();
    let by: Vec<_> =
        events["events"].as_array().expect("events").iter().map(|it| &it["by"]["user"]).collect();
    assert_eq!(by, ["[start]", "[token command]", "[token command]"], "{events}");
    server.stop();
    // After a revocation, and with an end.
    assert_eq!(pileus(&place, &["token", "revoke", "admin"]).0, 0);
    let (code, text, stderr) = pileus(&place, &["token", "create", "--admin", "--expires", "1h", "--json"]);
    assert_eq!(code, 0, "{stderr}");
    let made: Value = serde_json::from_str(&text).expect("JSON");
    assert!(made["token"]["expires_at"].is_string() && made["token"]["secret"].is_null(), "{text}");
    assert_eq!(made["token"]["roles"], json!(["admin", "member"]));
    // Root works on the folder of a service: the file belongs to the service.
    if fs::metadata("/proc/self").expect("a process").uid() == 0 {
        chown(place.state(), Some(4711), Some(4712)).expect("root may do that");
        assert_eq!(pileus(&place, &["token", "create", "--admin"]).0, 0);
        let made = fs::metadata(&file).expect("a file");
        assert_eq!((made.uid(), made.gid(), made.permissions().mode() & 0o777), (4711, 4712, 0o600));
    }
    assert_eq!(place.serve().get("/v2/default/tokens").status, 200);
}

#[test]
fn the_api_takes_and_shows_the_end_of_a_token() {
    let place = Place::new(QUICK);
    let server = place.serve();
    let create = |name: &str, more: Value| {
        let mut token = json!({ "name": name, "user": "ada", "project": "p1" });
        if let (Value::Object(token), Value::Object(more)) = (&mut token, more) {
            token.extend(more);
        }
        server.post("/v2/default/tokens", &json!({ "token": token }).to_string())
    };
    let reserved = "stands for an actor of the server itself";
    let form = "Invalid input for field `token.expires_at`: expected a time as in `2027-01-31T12:00:00Z`";
    let cases = [
        ("none", json!({}), 201, "\"expires_at\":null"),
        ("null", json!({ "expires_at": null }), 201, "\"expires_at\":null"),
        ("zulu", json!({ "expires_at": "2100-01-31T12:00:00Z" }), 201, "\"2100-01-31T12:00:00Z\""),
        ("offset", json!({ "expires_at": "2100-01-31T12:00:00+02:00" }), 201, "\"2100-01-31T10:00:00Z\""),
        ("past", json!({ "expires_at": "2001-01-31T12:00:00Z" }), 400, "expires_at: must lie in the future"),
        ("date", json!({ "expires_at": "2100-01-31" }), 400, form),
        ("word", json!({ "expires_at": "never" }), 400, form),
        ("number", json!({ "expires_at": 1 }), 400, "token.expires_at"),
        ("b1", json!({ "user": "[scheduler]" }), 400, reserved),
        ("b2", json!({ "user": "[vm poller]" }), 400, reserved),
        ("b3", json!({ "user": "operator" }), 400, reserved),
        ("b4", json!({ "user": " Operator" }), 400, reserved),
    ];
    for (name, more, status, says) in cases {
        let reply = create(name, more);
        assert_eq!(reply.status, status, "{name}: {}", reply.text);
        assert!(reply.text.contains(says), "{name}: {}", reply.text);
    }
    // Wherever else a client names a user.
    let others = [
        ("POST", "/v2/default/jobs", r#"{"job": {"command": ["true"], "user": "[scheduler]"}}"#),
        ("PUT", "/v2/default/users/operator", r#"{"user": {"vm_limit": 1}}"#),
        ("PUT", "/v2/default/users/%5Bstart%5D", r#"{"user": {"vm_limit": 1}}"#),
        ("POST", "/v2/default/users/operator/action", r#"{"refresh": {"proxy": "job_proxy"}}"#),
    ];
    for (method, path, body) in others {
        let reply = server.call(method, path, body);
        assert!(reply.status == 400 && reply.text.contains(reserved), "{method} {path}: {}", reply.text);
    }
    let list = server.get("/v2/default/tokens").json();
    let ends: Vec<_> =
        list["tokens"].as_array().expect("a list").iter().map(|it| &it["expires_at"]).collect();
    assert_eq!(ends.iter().filter(|end| end.is_string()).count(), 2, "{list}");
    // A token that ends while the server runs.
    let file = place.secret("admin", &server.token).display().to_string();
    let url = format!("http://{}", server.api);
    let args = ["token", "create", "short", "--expires", "2s", "--url", &url, "--token-file", &file];
    let (code, secret, stderr) = pileus(&place, &args);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(who(&server, &secret, "/v2/default/clouds").status, 200);
    await_some("the token to end", || {
        let reply = who(&server, &secret, "/v2/default/clouds");
        if reply.status == 401 { Ok(()) } else { Err(reply.text) }
    });
}

#[test]
fn the_server_of_the_files_is_found_on_a_unix_socket_and_by_tls() {
    let kinds = [
        ("\"unix:api.sock\"", "unix:"),
        ("\"ADDRESS\"\ntls = { certificate = \"api.pem\", key = \"api.key\" }", "https://"),
    ];
    for (listen, scheme) in kinds {
        let place = Place::new(QUICK);
        // Signed by an authority that this system does not trust, for another name.
        authority(place.path(), "ca");
        certificate(place.path(), "ca", "api", "DNS:elsewhere.example");
        let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
        let listen = listen.replace("ADDRESS", &free_address().to_string());
        place.write("api-paste.toml", &paste.replacen("\"127.0.0.1:0\"", &listen, 1));
        let mut serving = place.command(&["serve"]);
        let mut serving = serving.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("pileus runs");
        let mut banner = BufReader::new(serving.stdout.take().expect("stdout")).lines();
        let shown = banner.find_map(|line| line.ok().filter(|line| line.trim_start().starts_with("api ")));
        assert!(shown.is_some_and(|line| line.contains(scheme)), "{scheme}");
        let (code, _, stderr) = pileus(&place, &["token", "create", "ci"]);
        assert_eq!(code, 0, "{scheme}: {stderr}");
        assert_eq!(names(&place), ["admin", "ci"]);
        let (_, text, stderr) = pileus(&place, &["explain", "job", "nobody"]);
        assert!(stderr.contains("Job nobody could not be found."), "{scheme}: {text}{stderr}");
        let (code, text, stderr) = pileus(&place, &["explain", "--time", "GET", "/v2/default/clouds"]);
        assert!(code == 0 && text.contains("tokens"), "{scheme}: {text}{stderr}");
        Command::new("kill").arg(serving.id().to_string()).status().expect("kill runs");
        serving.wait().expect("its end");
    }
}

#[test]
fn times_are_asked_of_the_server_that_the_path_or_the_files_name() {
    let (named, unnamed) = (place(), Place::new(QUICK));
    for (place, is_named) in [(&named, true), (&unnamed, false)] {
        let server = place.serve();
        let (api, admin) = (format!("http://{}", server.api), format!("http://{}", server.admin));
        let of_api = format!("{api}/v2/default/clouds");
        let of_admin = format!("{admin}/clouds/west");
        let nowhere = format!("http://{}", free_address());
        // The arguments, and the exit code where the files name the port, and where they do not.
        let cases: [(&[&str], i32, i32); 7] = [
            (&["GET", &of_api], 0, 0),
            (&["GET", "/v2/default/clouds"], 0, 69),
            (&["GET", "/v2/default/clouds", "--url", &api], 0, 0),
            (&["GET", &of_api, "--url", &nowhere], 69, 69),
            (&["PUT", &of_admin, "--server", "admin"], 0, 69),
            (&["PUT", &of_admin, "--server", "admin", "--url", &api], 0, 0),
            (&["GET", &format!("{nowhere}/v2/default/clouds"), "--server", "api"], 69, 69),
        ];
        for (args, of_named, of_unnamed) in cases {
            let args = [&["explain", "--time"], args].concat();
            let (code, text, stderr) = pileus(place, &args);
            assert_eq!(code, if is_named { of_named } else { of_unnamed }, "{args:?}: {text}{stderr}");
            assert!(code != 0 || text.contains("OWN MEAN"), "{args:?}: {text}");
            assert!(code == 0 || stderr.contains("127.0.0.1:"), "{args:?}: {stderr}");
        }
        server.stop();
    }
}

#[test]
fn names_do_not_turn_the_text_of_the_log_and_the_list() {
    let place = place();
    let server = place.serve();
    // Control characters are refused, see `names`; marks that turn the direction of text are not.
    let evil = "a INFO forged\u{202e}x\u{2066}";
    for key in ["name", "user", "project"] {
        let mut token = json!({ "name": key, "user": "u", "project": "default", "roles": ["member"] });
        token[key] = evil.into();
        let made = server.post("/v2/default/tokens", &json!({ "token": token }).to_string());
        assert_eq!(made.status, 201, "{key}: {}", made.text);
        if key == "user" {
            let secret = made.json()["token"]["secret"].as_str().expect("a secret").to_owned();
            let header = format!("X-Auth-Token: {secret}");
            let job = r#"{"job":{"command":["true"]}}"#;
            assert_eq!(send(server.api, "POST", "/v2/default/jobs", &[&header], job).status, 202);
        }
    }
    let (code, list, stderr) = pileus(&place, &["token", "list"]);
    assert_eq!(code, 0, "{stderr}");
    let (_, log) = server.stop();
    for (what, text) in [("the list", &list), ("the log", &log)] {
        let odd = text.chars().find(|it| matches!(it, '\u{202e}' | '\u{2066}'));
        assert!(odd.is_none(), "{what}: {odd:?} in {text}");
        assert!(text.contains("forged\\u{202e}x"), "{what}: {text}");
    }
}

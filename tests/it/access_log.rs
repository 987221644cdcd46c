//! The access log: its destinations, and what happens where they fail.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    certificates::{authority, certificate},
    support::{Place, QUICK, Server, await_some, free_address, raw, send},
};

/// Adds settings of `[filter.trace]` to the place's file.
fn trace(place: &Place, settings: &str) {
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    let paste = paste.split("\n[filter.trace]\n").next().expect("a text").to_owned();
    place.write("api-paste.toml", &format!("{paste}\n[filter.trace]\n{settings}\n"));
}

fn read(place: &Place, name: &str) -> String {
    fs::read_to_string(place.path().join(name)).unwrap_or_default()
}

/// Waits until a file has a text.
fn awaits(place: &Place, name: &str, text: &str) -> String {
    await_some(&format!("{text} in {name}"), || {
        let found = read(place, name);
        if found.contains(text) { Ok(found) } else { Err(found) }
    })
}

fn hang_up(server: &Server<'_>) {
    Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().expect("kill runs");
}

fn dropped(server: &Server<'_>) -> u64 {
    let page = server.info("/metrics").text;
    let line = page.lines().find_map(|line| line.strip_prefix("pileus_log_lines_dropped_total "));
    line.expect("the metric").parse().expect("a number")
}

/// Makes a FIFO, and opens it for both sides: it then has a reader, who may not read.
fn pipe(place: &Place, name: &str) -> File {
    let path = place.path().join(name);
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    OpenOptions::new().read(true).write(true).open(path).expect("a pipe")
}

#[test]
fn lines_go_where_the_file_says_in_the_format_that_it_says() {
    let clouds = "/v2/default/clouds?marker=secret";
    let common = r#"127.0.0.1 - admin ["#;
    // Settings, environment, where the lines are, how one begins, and what it holds.
    let cases = [
        ("", "", "", "20", "INFO access: request answered request.id=\"req-"),
        ("", "json", "", "{", r#""message":"request answered","request.id":"req-"#),
        ("format = 'json'", "", "", "{", r#""target":"access""#),
        ("format = 'text'", "json", "", "20", " method=\"GET\" path=\"/v2/default/clouds\""),
        ("file = 'access.log'", "json", "access.log", "20", "listener=\"api\" peer=127.0.0.1:"),
        ("file = 'access.log'\nformat = 'json'", "", "access.log", "{", r#""protocol":"HTTP/1.1""#),
        (
            "file = 'access.log'\nformat = 'common'",
            "",
            "access.log",
            common,
            "\"GET /v2/default/clouds HTTP/1.1\" 200 ",
        ),
        ("file = 'access.log'\nformat = 'combined'", "", "access.log", common, " \"-\" \"a \\x22b\\x22\"\n"),
        ("buffer_bytes = 1\nflush_ms = 1", "", "", "20", "user_agent=\"a \\\"b\\\"\""),
    ];
    for (settings, general, file, begins, holds) in cases {
        let place = Place::new(QUICK);
        trace(&place, settings);
        let mut command = place.command(&["serve"]);
        command.env("PILEUS_LOG_FORMAT", general);
        let server = place.try_serve_by(command).expect("it starts");
        let token = format!("X-Auth-Token: {}", server.token);
        let reply = send(server.api, "GET", clouds, &[&token, "User-Agent: a \"b\""], "");
        assert_eq!(reply.status, 200);
        let token = server.token.clone();
        let (_, stderr) = server.stop();
        let log = if file.is_empty() { stderr.clone() } else { read(&place, file) };
        let line = log.split_inclusive('\n').find(|line| line.contains("/v2/default/clouds"));
        let line = line.unwrap_or_else(|| panic!("{settings}: no line in {log}"));
        assert!(line.starts_with(begins) && line.contains(holds), "{settings}: {line}");
        assert!(!line.contains("secret") && !log.contains(&token), "{settings}: {line}");
        assert_eq!(line.starts_with('{'), serde_json::from_str::<Value>(line).is_ok(), "{line}");
        assert_eq!(stderr.contains("/v2/default/clouds"), file.is_empty(), "{settings}: {stderr}");
    }
}

#[test]
fn hang_up_opens_the_file_again_also_where_the_reload_fails() {
    let place = Place::new(QUICK);
    trace(&place, "file = 'access.log'\nflush_ms = 60000");
    let server = place.serve();
    for (turn, policy) in ["{", "{}"].into_iter().enumerate() {
        server.get(&format!("/v2/default/clouds/turn{turn}"));
        fs::rename(place.path().join("access.log"), place.path().join("access.log.1")).expect("a file");
        place.write("policy.json", policy);
        hang_up(&server);
        let old = awaits(&place, "access.log.1", &format!("/turn{turn}"));
        assert!(old.ends_with('\n'), "{old}");
        await_some("a new file", || fs::metadata(place.path().join("access.log")));
    }
    server.get("/v2/default/clouds/last");
    let (_, stderr) = server.stop();
    assert!(stderr.contains("not reloaded"), "{stderr}");
    assert!(read(&place, "access.log").contains("/clouds/last"), "a stop flushes");
    assert!(!read(&place, "access.log.1").contains("/clouds/last"));
}

#[test]
fn a_reload_changes_the_file_and_one_that_cannot_be_opened_changes_nothing() {
    let place = Place::new(QUICK);
    trace(&place, "file = 'one.log'");
    let server = place.serve();
    let reload = || server.post("/v2/default/service/action", r#"{"reload": null}"#);
    server.get("/v2/default/clouds/first");
    trace(&place, "file = 'two.log'");
    assert_eq!(reload().status, 200);
    server.get("/v2/default/clouds/second");
    awaits(&place, "two.log", "/clouds/second");
    assert!(awaits(&place, "one.log", "/clouds/first").lines().count() >= 2, "with the call for a reload");
    // A pipe that nothing reads cannot be opened.
    drop(pipe(&place, "pipe"));
    trace(&place, "file = 'pipe'");
    let reply = reload();
    assert_eq!(reply.status, 409, "{}", reply.text);
    assert!(reply.text.contains("pipe cannot be opened"), "{}", reply.text);
    server.get("/v2/default/clouds/third");
    awaits(&place, "two.log", "/clouds/third");
    drop(server);
    let refused = place.try_serve().err().expect("it does not start");
    assert!(refused.contains("pipe cannot be opened") && refused.contains("api-paste.toml"), "{refused}");
}

#[test]
fn no_request_waits_or_fails_where_a_log_cannot_be_written() {
    // Where stderr goes, the file of the access log, and whether lines are lost.
    let cases = [
        ("/dev/null", "/dev/full", true),
        ("/dev/full", "", true),
        ("gone", "", true),
        ("stuck", "", true),
        ("/dev/null", "stuck", true),
        ("/dev/null", "/dev/null", false),
    ];
    for (stderr, file, lost) in cases {
        let place = Place::new(QUICK);
        let here = |name: &str| place.path().join(name).display().to_string();
        let stuck = pipe(&place, "stuck");
        let gone = pipe(&place, "gone");
        let file = if file == "stuck" { here(file) } else { file.to_owned() };
        let file = if file.is_empty() { file } else { format!("file = '{file}'\n") };
        trace(&place, &format!("{file}buffer_bytes = 1024"));
        let stderr = if stderr.starts_with('/') { stderr.to_owned() } else { here(stderr) };
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" serve 2>\"$1\"", env!("CARGO_BIN_EXE_pileus"), &stderr]);
        command.current_dir(place.path()).stdin(Stdio::null()).env_remove("PILEUS_LOG");
        let server = place.try_serve_by(command).expect("it starts");
        drop(gone);
        // A path of some kilobytes: the bound is reached soon.
        let path = format!("/v2/default/clouds/{}", "x".repeat(7000));
        let token = format!("X-Auth-Token: {}", server.token);
        let mut asked = 0;
        await_some("lines to be dropped", || {
            for _ in 0..100 {
                assert_eq!(send(server.api, "GET", &path, &[&token], "").status, 404, "{stderr} {file}");
                asked += 1;
            }
            let dropped = dropped(&server);
            if (dropped > 0) == lost {
                Ok(())
            } else {
                Err(format!("{dropped} of {asked} to {stderr} {file}"))
            }
        });
        assert_eq!(send(server.api, "GET", "/healthcheck", &[], "").status, 200, "{stderr} {file}");
        let id = server.submit("true");
        server.await_job(&id, "complete");
        drop(stuck);
        let (status, _) = server.stop();
        assert!(status.success(), "{stderr} {file}: {status}");
    }
}

/// `pileus serve 2>&1 | head -1`.
#[test]
fn nothing_fails_where_the_reader_of_the_output_has_gone() {
    for format in ["text", "json"] {
        let place = Place::new(QUICK);
        let api = free_address();
        let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
        place.write("api-paste.toml", &paste.replacen("127.0.0.1:0", &api.to_string(), 1));
        let (output, input) = std::io::pipe().expect("a pipe");
        let mut command = place.command(&["serve"]);
        command.env("PILEUS_LOG_FORMAT", format).env("RUST_BACKTRACE", "1");
        let mut child =
            command.stdout(input.try_clone().expect("a pipe")).stderr(input).spawn().expect("it runs");
        drop(command);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        await_some("the API", || TcpStream::connect(api));
        let token = await_some("a token", || {
            fs::read_to_string(place.state().join("admin-token")).map_err(|error| error.to_string())
        });
        let token = format!("X-Auth-Token: {}", token.trim_end());
        let body = r#"{"job": {"command": ["true"]}}"#;
        for turn in 0..200 {
            let headers = [token.as_str(), "Content-Type: application/json"];
            let (status, expected) = match turn % 3 {
                0 => (send(api, "POST", "/v2/default/jobs", &headers, body).status, 202),
                1 => (send(api, "GET", "/v2/default/jobs", &headers, "").status, 200),
                _ => (send(api, "GET", "/healthcheck", &[], "").status, 200),
            };
            assert_eq!(status, expected, "{format} {turn}");
        }
        assert_eq!(child.try_wait().expect("a process"), None, "{format}: it goes on");
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
        assert_eq!(child.wait().expect("its end").code(), Some(0), "{format}");
    }
}

#[test]
fn the_level_of_the_log_turns_it_off_and_on() {
    let place = Place::new(QUICK);
    trace(&place, "file = 'access.log'\nflush_ms = 1");
    let mut command = place.command(&["serve"]);
    command.env("PILEUS_LOG", "warn");
    let server = place.try_serve_by(command).expect("it starts");
    let level = |level: &str| {
        let body = format!(r#"{{"set_log_level": {{"level": "{level}"}}}}"#);
        let reply = server.post("/v2/default/service/action", &body);
        assert!(reply.status < 300, "{}", reply.text);
    };
    server.get("/v2/default/clouds/never1");
    level("info");
    server.get("/v2/default/clouds/logged");
    level("warning");
    server.get("/v2/default/clouds/never2");
    drop(server);
    let log = read(&place, "access.log");
    assert!(log.contains("/clouds/logged") && !log.contains("/never"), "{log}");
}

#[test]
fn http2_and_client_certificates_are_named() {
    let place = Place::new(QUICK);
    let folder = place.path();
    authority(folder, "ca");
    certificate(folder, "ca", "server", "DNS:localhost");
    certificate(folder, "ca", "ada", "DNS:localhost");
    let paste = fs::read_to_string(folder.join("api-paste.toml")).expect("the file");
    let to = free_address();
    let tls = "{ certificate = \"${here}/server.pem\", key = \"${here}/server.key\", client_ca = \"${here}/ca.pem\" }";
    place.write(
        "api-paste.toml",
        &format!("{paste}\n[server.tls]\nlisten = \"{to}\"\napp = \"api\"\ntls = {tls}\n"),
    );
    trace(&place, "file = 'access.log'\nformat = 'json'");
    let server = place.serve();
    let port = to.port().to_string();
    let mut client = Command::new("curl");
    client.args([
        "-sS",
        "--http2",
        "--cacert",
        "ca.pem",
        "--cert",
        "ada.pem",
        "--key",
        "ada.key",
        "--resolve",
    ]);
    client
        .args([format!("localhost:{port}:127.0.0.1"), format!("https://localhost:{port}/v2/default/clouds")]);
    let output = client.current_dir(folder).output().expect("curl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    raw(server.api, b"GET /v2/ HTTP/1.0\r\nUser-Agent: \xffold\r\n\r\n");
    drop(server);
    let mut log = String::new();
    File::open(folder.join("access.log")).and_then(|mut it| it.read_to_string(&mut log)).expect("the log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let fields: Vec<String> = lines
        .iter()
        .map(|line| {
            let field = |name: &str| line["fields"][name].as_str().unwrap_or("none").to_owned();
            ["listener", "protocol", "client_cert", "user_agent"].map(field).join(" ")
        })
        .collect();
    assert_eq!(fields.len(), 2, "{log}");
    assert!(fields[0].starts_with("tls HTTP/2.0 CN=ada curl/"), "{fields:?}");
    assert_eq!(fields[1], "api HTTP/1.0 none \u{fffd}old");
}

#[test]
fn an_exit_code_does_not_depend_on_stderr() {
    let place = Place::new(QUICK);
    place.write("policy.json", "{");
    for args in ["check", "serve"] {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$1\" 2>/dev/full", env!("CARGO_BIN_EXE_pileus"), args]);
        let status = command.current_dir(place.path()).stdin(Stdio::null()).status().expect("pileus runs");
        assert_eq!(status.code(), Some(78), "{args}");
    }
}

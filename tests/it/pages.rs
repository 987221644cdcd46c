//! What README.md and docs/systemd.md tell their readers to run, run as it is written.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::support::{Place, QUICK, Server, await_some, free_address, send};

const README: &str = include_str!("../../README.md");
const SYSTEMD: &str = include_str!("../../docs/systemd.md");

/// Contents of a page's blocks of one language, in their order.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let parts = page.split("```").skip(1).step_by(2);
    parts.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// Commands of a console block: lines behind the prompt, with the lines that continue them.
fn commands(block: &str, prompt: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in block.lines() {
        if let Some(command) = line.strip_prefix(prompt) {
            commands.push(command.to_owned());
            goes_on = true;
        } else if goes_on && let Some(last) = commands.last_mut() {
            *last += &format!("\n{line}");
        }
        goes_on = goes_on && line.ends_with('\\');
    }
    commands
}

/// Commands of README.md that no test runs, by their first words, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo test", "it runs this very test"),
    ("cargo bench", "it takes minutes, and wants a machine for itself"),
    (
        "cargo run --release -p pileus-client",
        "the programs of another package are not built here; its tests run them",
    ),
    (
        "pileus convert",
        "the files of the old services are not on this host; tests/it/convert.rs has such files",
    ),
];

/// Fresh copies of the shipped files on ports that are free, so that commands find the server by them.
fn fresh() -> Place {
    let place = Place::new(include_str!("../../pileus.toml"));
    let mut paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    for _ in 0..3 {
        paste = paste.replacen("\"127.0.0.1:0\"", &format!("\"{}\"", free_address()), 1);
    }
    place.write("api-paste.toml", &paste);
    // `cargo run` is the program that the tests have built.
    let bin = place.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pileus"), bin.join("pileus")).expect("a link");
    place
}

/// Runs a command in a shell of the place. Returns the exit code, and stdout with stderr.
fn shell(place: &Place, server: &Server<'_>, command: &str) -> (i32, String) {
    let here = [("8774", server.api), ("8111", server.info), ("8112", server.admin)];
    let command = here.iter().fold(command.to_owned(), |command, (port, address)| {
        command.replace(&format!("127.0.0.1:{port}"), &address.to_string())
    });
    let path = format!("{}:{}", place.path().join("bin").display(), std::env::var("PATH").expect("PATH"));
    let output = Command::new("sh")
        .args(["-c", &format!("TOKEN=$(cat var/admin-token)\n{command}")])
        .current_dir(place.path())
        .env("PATH", path)
        .env_remove("PILEUS_TOKEN")
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text.into_owned())
}

#[test]
fn commands_of_the_readme_run_as_they_are_written() {
    let place = fresh();
    let mut server = place.serve();
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    let (mut id, mut ran, mut unused) = (String::new(), 0, NOT_RUN.iter().collect::<Vec<_>>());
    for command in blocks(README, "console").iter().flat_map(|block| commands(block, "$ ")) {
        if let Some((words, _)) = NOT_RUN.iter().find(|(words, _)| command.starts_with(words)) {
            unused.retain(|(other, _)| other != words);
            continue;
        }
        ran += 1;
        if command.starts_with("curl") && !has_curl {
            eprintln!("curl is not on this host: {command}");
            continue;
        }
        let text = match command.as_str() {
            // The server of this test is what it starts.
            command if command.starts_with("cargo run --release ") => {
                assert!(server.banner.iter().any(|line| line.trim_start().starts_with("curl ")));
                continue;
            }
            // Its output is shown for a file with a mistake.
            "pileus check" => {
                assert_eq!(shell(&place, &server, &command).0, 0);
                let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
                let (before, after) = paste.split_once("[filter.ratelimit]\n").expect("the section");
                let wrong =
                    format!("{before}[filter.ratelimit]\nlimit = \"(POST, *, .*, 120, MINUTE)\"\n{after}");
                place.write("wrong.toml", &wrong);
                let (code, text) = shell(&place, &server, "pileus check --paste wrong.toml");
                let shown = blocks(README, "console").into_iter().find(|it| it.starts_with("$ pileus check"));
                let shown =
                    shown.expect("the block").lines().nth(1).expect("an error").trim_end_matches(" …");
                assert!(code == 78 && text.starts_with(shown), "{shown}: {text}");
                assert!(text.contains("help: did you mean `limits`?"), "{text}");
                continue;
            }
            // It goes on until the client ends it.
            command if command.contains("events?follow=1") => {
                let (code, text) = shell(&place, &server, &format!("timeout 3 {command}"));
                assert!(code == 124 && text.contains("retry:"), "{command}: {code}: {text}");
                continue;
            }
            command if command.starts_with("pileus token create --admin") => {
                let (code, text) = shell(&place, &server, command);
                assert!(code == 69 && text.contains("stop the server"), "{command}: {text}");
                server.stop();
                let (status, stdout, stderr) = place.run(&["token", "create", "--admin"]);
                assert!(status.success() && stdout == "./var/admin-token\n", "{stdout}{stderr}");
                server = place.serve();
                continue;
            }
            command => {
                let (code, text) = shell(&place, &server, &command.replace("/ID", &format!("/{id}")));
                assert_eq!(code, 0, "{command}: {text}");
                text
            }
        };
        if command.contains("curl") {
            let answer: Option<Value> = serde_json::from_str(&text).ok();
            let fault = answer.as_ref().and_then(|it| it.as_object()?.values().next()?.get("code").cloned());
            assert!(fault.is_none(), "{command}: {text}");
            if let Some(made) = answer.as_ref().and_then(|answer| answer["job"]["id"].as_str()) {
                id = made.to_owned();
                server.await_job(&id, "complete");
            }
        }
        if command.contains("jobs/ID/output") {
            assert!(text.contains("hello from "), "{text}");
        }
        if command.contains("policy explain clouds:create") {
            assert!(text.starts_with("clouds:create: allow"), "{text}");
        }
        if command.contains("policy/check") {
            let shown = README.lines().find(|line| line.starts_with("{\"check\":"));
            assert_eq!(Some(text.as_str()), shown);
        }
    }
    assert!(ran > 15, "{ran} commands");
    assert!(unused.is_empty(), "README.md has no such command any more: {unused:?}");
}

#[test]
fn the_readme_lists_every_path_of_the_old_ports() {
    let place = Place::new(QUICK);
    let (_, json, _) = place.run(&["routes", "--json"]);
    let routes: Value = serde_json::from_str(&json).expect("JSON");
    let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    let routes = routes.as_array().expect("a list").iter().filter_map(|route| {
        let port = match route["mount"].as_str()? {
            "cloud_status" => "info",
            "cloud_admin" => "admin",
            _ => return None,
        };
        Some((port.to_owned(), text(route, "method"), text(route, "path")))
    });
    let routes: BTreeSet<_> = routes.collect();
    let rows = README.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        matches!(cells.get(1), Some(&"info" | &"admin")).then_some(cells)
    });
    let listed: BTreeSet<_> = rows
        .flat_map(|cells| {
            let (port, method) = (cells[1].to_owned(), cells[2].to_owned());
            let paths = cells[3].split(", ").map(|path| path.trim_matches('`').to_owned());
            paths.map(move |path| (port.clone(), method.clone(), path)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(listed, routes);
    assert!(README.contains(&format!("All {} forms are there", routes.len())));
}

/// A host for docs/systemd.md: files of `/etc`, `/usr` and `/var` lie in a folder.
struct Host(Place);

impl Host {
    /// A text with its absolute paths below the folder.
    fn mapped(&self, text: &str) -> String {
        ["/etc/", "/usr/bin/pileus", "/var/lib/pileus"].iter().fold(text.to_owned(), |text, path| {
            text.replace(path, &format!("{}{path}", self.0.path().display()))
        })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    /// Settings of a unit, in their order.
    fn unit(&self, name: &str) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.at("/etc/systemd/system").join(name)).expect("a unit");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
    }

    /// Does what `systemctl enable --now` does: opens the sockets, and starts the service with them.
    fn start(&self, units: &[&str]) -> (Child, Vec<(String, SocketAddr)>) {
        let setting = |unit: &[(String, String)], key: &str| -> String {
            let found = unit.iter().find(|(name, _)| name == key);
            found.unwrap_or_else(|| panic!("no {key} in {unit:?}")).1.clone()
        };
        let service = self.unit("pileus.service");
        assert!(units.contains(&"pileus.service"), "{units:?}");
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for name in setting(&service, "Sockets").split(' ') {
            assert!(units.contains(&name), "{name} is enabled");
            let unit = self.unit(name);
            assert_eq!(setting(&unit, "Service"), "pileus.service");
            let listen: SocketAddr = setting(&unit, "ListenStream").parse().expect("an address");
            assert!(listen.ip().is_loopback(), "{listen}");
            // Another port: the usual one may be taken on this host.
            let socket = TcpListener::bind((listen.ip(), 0)).expect("a port");
            addresses.push((setting(&unit, "FileDescriptorName"), socket.local_addr().expect("an address")));
            sockets.push(socket);
        }
        let names: Vec<_> = addresses.iter().map(|(name, _)| name.as_str()).collect();
        let state = self.at("/var/lib").join(setting(&service, "StateDirectory"));
        fs::create_dir_all(&state).expect("a folder");
        let mode = u32::from_str_radix(&setting(&service, "StateDirectoryMode"), 8).expect("a mode");
        fs::set_permissions(&state, fs::Permissions::from_mode(mode)).expect("a mode");
        // Three sockets are a shell's three streams, which it then moves to where systemd passes them.
        let [first, second, third] = <[TcpListener; 3]>::try_from(sockets).expect("three sockets");
        let exec = self.mapped(&setting(&service, "ExecStart"));
        let script = format!("exec 3<&0 4<&1 5<&2 </dev/null >stdout 2>stderr; LISTEN_PID=$$ exec {exec}");
        let child = Command::new("sh")
            .args(["-c", &script])
            .current_dir(self.mapped(&setting(&service, "WorkingDirectory")))
            .env_remove("PILEUS_LOG")
            .env("LISTEN_FDS", "3")
            .env("LISTEN_FDNAMES", names.join(":"))
            .stdin(Stdio::from(OwnedFd::from(first)))
            .stdout(Stdio::from(OwnedFd::from(second)))
            .stderr(Stdio::from(OwnedFd::from(third)))
            .spawn()
            .expect("a shell");
        (child, addresses)
    }
}

#[test]
fn the_page_on_systemd_works_as_it_is_written() {
    let host = Host(Place::new(""));
    for folder in ["/etc/systemd/system", "/usr/bin", "/var/lib"] {
        fs::create_dir_all(host.at(folder)).expect("a folder");
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut started = None;
    for command in commands(blocks(SYSTEMD, "console")[0], "# ") {
        let words: Vec<_> = command.split(' ').collect();
        match words.as_slice() {
            // The user of this test takes the place of the service's.
            ["useradd", .., "pileus"] | ["systemctl", "daemon-reload"] => {}
            ["systemctl", "enable", "--now", units @ ..] => started = Some(host.start(units)),
            ["install", ..] => {
                let built =
                    command.replace("target/release/pileus ", &format!("{} ", env!("CARGO_BIN_EXE_pileus")));
                let done = Command::new("sh").args(["-c", &host.mapped(&built)]).current_dir(source).output();
                let done = done.expect("a shell");
                assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
            }
            _ => panic!("a command that this test does not know: {command}"),
        }
    }
    let (mut child, addresses) = started.expect("a command that starts the service");
    let log = || fs::read_to_string(host.at("/etc/pileus/stderr")).unwrap_or_default();
    let token = await_some("the service to start", || {
        let token = fs::read_to_string(host.at("/var/lib/pileus/admin-token")).map_err(|_| log())?;
        assert!(child.try_wait().expect("a look").is_none(), "{}", log());
        Ok::<_, String>(format!("X-Auth-Token: {}", token.trim_end()))
    });
    let asks = [("api", "/v2/default/clouds"), ("info", "/clusters"), ("admin", "/cloud-aliases")];
    for (name, path) in asks {
        let (_, address) = addresses.iter().find(|(it, _)| it == name).expect("a socket of this name");
        let reply = send(*address, "GET", path, &[&token], "");
        assert_eq!(reply.status, 200, "{name}: {}", reply.text);
    }
    Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert!(child.wait().expect("its end").success(), "{}", log());
    // The administrator comes back as the page says.
    let [_, back, ..] = blocks(SYSTEMD, "console")[..] else { panic!("a second block") };
    let back = commands(back, "# ").into_iter().find(|command| command.starts_with("pileus ")).expect("it");
    let back = host.mapped(&back.replacen("pileus", "/usr/bin/pileus", 1));
    let done = Command::new("sh").args(["-c", &back]).output().expect("a shell");
    assert!(done.status.success(), "{back}: {}", String::from_utf8_lossy(&done.stderr));
    // What a file says wrong ends the start for good; what another process holds does not.
    let service = host.unit("pileus.service");
    let prevented = service.iter().find(|(key, _)| key == "RestartPreventExitStatus").expect("it").1.clone();
    let rows: Vec<Vec<&str>> =
        SYSTEMD.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>()).collect();
    for code in ["64", "69", "70", "78"] {
        let row = rows.iter().find(|row| row.get(1) == Some(&code)).expect("a row of the page");
        let restarts = row[3].starts_with("yes");
        assert_eq!(restarts, !prevented.split(' ').any(|it| it == code), "{code}");
    }
    let start = host.mapped(&service.iter().find(|(key, _)| key == "ExecStart").expect("it").1);
    let code = || {
        let ran = Command::new("sh").args(["-c", &start]).current_dir(host.at("/etc/pileus")).output();
        ran.expect("a shell").status.code()
    };
    assert_eq!(code(), Some(69), "no socket was passed");
    fs::remove_file(host.at("/etc/pileus/policy.json")).expect("the file is there");
    assert_eq!(code(), Some(78), "a file that the unit names is gone");
}

#[test]
fn the_page_on_systemd_shows_the_shipped_files() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    let shipped = fs::read_to_string(packaging.join("api-paste.toml")).expect("the file");
    let said: Vec<_> = shipped.lines().skip_while(|line| line.starts_with('#') || line.is_empty()).collect();
    assert_eq!(blocks(SYSTEMD, "toml")[0].trim_end(), said.join("\n"));
    // Every unit is as systemd wants it, where systemd is.
    let host = Host(Place::new(""));
    let units = host.at("/units");
    fs::create_dir_all(&units).expect("a folder");
    for entry in fs::read_dir(&packaging).expect("the folder").flatten() {
        let name = entry.file_name();
        let text = fs::read_to_string(entry.path()).expect("a file");
        // The program has to be there.
        let text = text.replace("/usr/bin/pileus", env!("CARGO_BIN_EXE_pileus"));
        fs::write(units.join(&name), text).expect("a file");
    }
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "pileus.service", "pileus-api.socket"])
        .args(["pileus-info.socket", "pileus-admin.socket"])
        .current_dir(&units)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()))
        .output();
    let Ok(verify) = verify else {
        eprintln!("systemd-analyze is not on this host: the units are not verified");
        return;
    };
    let said = String::from_utf8_lossy(&verify.stderr);
    // A setting of systemd 254, which older ones ignore.
    let newer = "Unknown key 'DelegateSubgroup'";
    let said: String = said.lines().filter(|line| !line.contains(newer)).collect();
    assert!(verify.status.success() && !said.contains("units/pileus"), "{said}");
}

//! Jobs of the driver `local` against the service that runs them, as root and not as root.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use pileus_engine::drivers::local::Kernel;

use crate::support::{Place, Server, free_address, is_root, send};

/// Output of a job that runs `script`, both streams in one.
fn output(server: &Server<'_>, script: &str) -> String {
    let id = server.submit(&format!("exec 2>&1; {script}"));
    server.await_job(&id, "complete");
    let output = server.get(&format!("/v2/default/jobs/{id}/output")).json()["output"].clone();
    output["stdout"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_job_reads_no_file_of_the_service() {
    files(&Place::quick(30), is_root());
}

#[test]
fn a_job_reads_no_file_of_the_service_without_root() {
    if is_root() {
        files(&Place::quick(30).without_root(), false);
    }
}

fn files(place: &Place, root: bool) {
    let kernel = Kernel::probe();
    eprintln!("root: {root}, {kernel:?}");
    if !root && kernel.landlock == 0 {
        return eprintln!(
            "this kernel has no Landlock: nothing protects the files of a service without root"
        );
    }
    fs::create_dir(place.path().join("read")).expect("a folder");
    place.write("read/file", "readable\n");
    let config = fs::read_to_string(place.path().join("pileus.toml")).expect("a file");
    if !root {
        // The folder of the settings is hidden, although a setting names a folder in it.
        fs::set_permissions(place.path(), PermissionsExt::from_mode(0o700)).expect("its mode");
    }
    let readable = place.path().join("read");
    place.write("pileus.toml", &format!("{config}\n[local]\nreadable = [{readable:?}, \"/srv\"]\n"));
    let server = place.serve();
    let state = place.state();
    let state = state.display();
    let pid = server.pid();
    let own = place.path().join("pileus.toml");
    // Command of a job, `true` if it succeeds.
    let cases = [
        ("cat ../../../../admin-token".to_owned(), false),
        (format!("cat {state}/admin-token"), false),
        (format!("cat {state}/pileus.db"), false),
        (format!("cat {state}/channel-key"), false),
        (format!("ls {state}"), false),
        (format!("touch {state}/x"), false),
        (format!("ls {state}/vms"), false),
        ("cat ../../secret".to_owned(), false),
        ("cat ../../worker.json".to_owned(), false),
        // As root, /tmp is open to jobs, and this state folder lies there.
        ("ls ..".to_owned(), root),
        (format!("cat {}", own.display()), root),
        (format!("cat {}", readable.join("file").display()), root),
        (format!("cat /proc/{pid}/environ"), false),
        (format!("cat /proc/{pid}/root{state}/admin-token"), false),
        (format!("cat /proc/{pid}/mem"), false),
        (format!("kill -CONT {pid}"), false),
        ("kill -CONT $PPID".to_owned(), root && kernel.landlock < 6),
        ("sleep 100 & kill -9 $!".to_owned(), true),
        (
            "echo x > file && cat file ~/file && mv file \"$TMPDIR\"/file && rm \"$TMPDIR/file\"".to_owned(),
            true,
        ),
        ("cat \"$(mktemp)\"".to_owned(), true),
        ("mkdir a && cd a && echo > b && ls .. && rm -r ../a".to_owned(), true),
        (
            "ls / /usr/bin > /dev/null && cat /etc/passwd && head -c 9 /dev/urandom > /dev/null".to_owned(),
            kernel.landlock == 0,
        ),
        ("ls /usr/bin > /dev/null && cat /etc/passwd && head -c 9 /dev/urandom > /dev/null".to_owned(), true),
        ("echo x > /dev/null && echo 600 > /proc/self/oom_score_adj".to_owned(), true),
        ("echo x > /tmp/pileus-$$ && rm /tmp/pileus-$$".to_owned(), root),
        ("echo x > /dev/shm/pileus-$$ && rm /dev/shm/pileus-$$".to_owned(), root),
    ];
    for (script, succeeds) in cases {
        let said = output(&server, &format!("({script}) && echo could || echo failed"));
        assert_eq!(said.ends_with("could\n"), succeeds, "root: {root}: {script}: {said}");
    }
}

#[test]
fn a_job_reaches_no_port_that_asks_for_no_token() {
    ports(&Place::quick(30), is_root());
}

#[test]
fn a_job_reaches_no_port_that_asks_for_no_token_without_root() {
    if is_root() {
        ports(&Place::quick(30).without_root(), false);
    }
}

fn ports(place: &Place, root: bool) {
    let kernel = Kernel::probe();
    eprintln!("root: {root}, {kernel:?}");
    if !root && kernel.landlock < 4 {
        return eprintln!(
            "this Landlock denies no connections: nothing protects the ports of a service without root"
        );
    }
    let server = place.serve();
    let (api, info, admin) = (server.api, server.info, server.admin);
    let (host, port) = (admin.ip(), admin.port());
    let curl = "curl -s -o /dev/null -w '%{http_code}' --max-time 10";
    let disable = "PUT /clouds/local?action=disable HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n";
    // Command of a job, what it prints.
    let cases = [
        (format!("{curl} -X PUT {admin}/clouds/local -d action=disable"), "000"),
        (format!("{curl} --interface 127.0.0.9 -X PUT {admin}/clouds/local -d action=disable"), "000"),
        (format!("{curl} {info}/vms"), "000"),
        // Closed before it is accepted: it has no owner any more.
        (
            format!(
                "for n in 1 2 3; do bash -c 'exec 3<>/dev/tcp/{host}/{port} && printf \"{disable}\" >&3' 2>/dev/null; done; echo sent"
            ),
            "sent\n",
        ),
        (format!("{curl} {api}/v2/default/jobs"), "401"),
    ];
    for (script, prints) in cases {
        let said = output(&server, &script);
        assert_eq!(said, prints, "root: {root}: {script}");
        let cloud = server.get("/v2/default/clouds/local").json()["cloud"]["enabled"].clone();
        assert_eq!(cloud, true, "root: {root}: {script}");
    }
    assert_eq!(server.info("/vms").status, 200, "the ports answer others");
    assert_eq!(server.admin("PUT", "/clouds/local", "action=disable").text, "Cloud: local disabled.");
}

#[test]
fn a_job_reaches_no_unix_socket_that_asks_for_no_token() {
    unix_sockets(&Place::quick(30), is_root());
}

#[test]
fn a_job_reaches_no_unix_socket_that_asks_for_no_token_without_root() {
    if is_root() {
        unix_sockets(&Place::quick(30).without_root(), false);
    }
}

fn unix_sockets(place: &Place, root: bool) {
    if Command::new("curl").arg("--version").output().is_err() {
        return eprintln!("no curl here: no job can call a Unix socket");
    }
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    let listens = "listen = \"unix:admin.sock\"\napp = \"admin\"\nsocket_mode = \"0666\"\n";
    place.write("api-paste.toml", &format!("{paste}\n[server.zzz]\n{listens}"));
    let socket = place.path().join("admin.sock");
    let path = socket.display();
    let call = |action: &str| {
        format!(
            "curl -s --max-time 10 --unix-socket {path} -X PUT http://localhost/clouds/local -d action={action}"
        )
    };
    // A client of the service's own user, as jobs are without root.
    let own = |action: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &call(action)]).current_dir("/");
        if !root && is_root() {
            shell.uid(65_534).gid(65_534);
        }
        String::from_utf8(shell.output().expect("curl runs").stdout).expect("UTF-8")
    };
    let disable = call("disable");
    // Each job says `refused` for a connection that it may make, and that ends without an answer.
    let said = format!("case $? in 7|52|55|56) test -w {path} && echo refused;; *) echo $?;; esac");
    let cases = [
        format!("{disable}; {said}"),
        format!("env -i PATH=\"$PATH\" {disable}; {said}"),
        // Its parents have ended.
        format!(
            "(setsid sh -c '({disable}; {said}) > done' &) ; until [ -s done ]; do sleep 0.05; done; cat done"
        ),
        // It has ended before it is looked at.
        format!(
            "for n in 1 2 3 4 5 6 7 8 9; do timeout -s KILL 0.00$n {disable}; done 2> /dev/null; echo refused"
        ),
    ];
    let mut server = place.serve();
    for life in ["first", "second"] {
        for script in &cases {
            let said = output(&server, script);
            assert_eq!(said.trim_end(), "refused", "root: {root}, {life}: {script}");
            let cloud = server.get("/v2/default/clouds/local").json()["cloud"]["enabled"].clone();
            assert_eq!(cloud, true, "root: {root}, {life}: {script}");
        }
        assert_eq!(own("disable"), "Cloud: local disabled.", "root: {root}, {life}: others are served");
        assert_eq!(own("enable"), "Cloud: local enabled.", "root: {root}, {life}: others are served");
        // Workers of an earlier life of the server are no children of it.
        server.kill();
        server = place.serve();
    }
}

#[test]
fn a_job_reaches_no_port_that_a_reload_opens() {
    ports_of_a_reload(&Place::quick(30), is_root());
}

#[test]
fn a_job_reaches_no_port_that_a_reload_opens_without_root() {
    if is_root() {
        ports_of_a_reload(&Place::quick(30).without_root(), false);
    }
}

fn ports_of_a_reload(place: &Place, root: bool) {
    let mut server = place.serve();
    // A VM that was started before the port was opened.
    output(&server, "true");
    let at = free_address();
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    place.write("api-paste.toml", &format!("{paste}\n[server.zzz]\nlisten = \"{at}\"\napp = \"admin\"\n"));
    assert_eq!(server.post("/v2/default/service/action", r#"{"reload": null}"#).status, 200);
    let call = |action: &str| format!("curl -s --max-time 10 -X PUT {at}/clouds/local -d action={action}");
    let own = |action: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &call(action)]).current_dir("/");
        if !root && is_root() {
            shell.uid(65_534).gid(65_534);
        }
        String::from_utf8(shell.output().expect("curl runs").stdout).expect("UTF-8")
    };
    let disable = call("disable");
    let cases = [
        format!("{disable}; echo refused"),
        format!(
            "(setsid sh -c '({disable}; echo refused) > done' &) ; until [ -s done ]; do sleep 0.05; done; cat done"
        ),
        format!(
            "for n in 1 2 3 4 5 6 7 8 9; do timeout -s KILL 0.00$n {disable}; done 2> /dev/null; echo refused"
        ),
    ];
    for life in ["first", "second"] {
        for script in &cases {
            assert_eq!(output(&server, script).trim_end(), "refused", "root: {root}, {life}: {script}");
            let cloud = server.get("/v2/default/clouds/local").json()["cloud"]["enabled"].clone();
            assert_eq!(cloud, true, "root: {root}, {life}: {script}");
        }
        assert_eq!(own("disable"), "Cloud: local disabled.", "root: {root}, {life}: own user");
        let others = send(
            at,
            "PUT",
            "/clouds/local",
            &["Content-Type: application/x-www-form-urlencoded"],
            "action=enable",
        );
        assert_eq!(others.text, "Cloud: local enabled.", "root: {root}, {life}: another user");
        // The port is one of the next start's, and the worker's rules do not have it.
        server.kill();
        server = place.serve();
    }
}

#[test]
fn protections_are_reported() {
    let places = [(Place::quick(1), is_root()), (Place::quick(1).without_root(), false)];
    for (place, root) in places.into_iter().take(if is_root() { 2 } else { 1 }) {
        let landlock = Kernel::probe().landlock;
        let server = place.serve();
        let shown = server.get("/v2/default/service").json()["service"]["protections"].clone();
        let found: Vec<_> = shown.as_array().into_iter().flatten().collect();
        assert_eq!(found.len(), 3, "{shown}");
        for (it, needed) in found.iter().zip([1, 4, 6]) {
            assert_eq!(it["in_force"], serde_json::json!(root || landlock >= needed), "{it}");
            assert!(it["how"].as_str().is_some_and(|how| !how.is_empty()), "{it}");
        }
        let (status, log) = server.stop();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

//! Sockets that systemd has opened, and what it is told: by hand, as systemd does it.

use std::{
    fs,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::{PATIENCE, Place, QUICK, Reply, Server, raw, raw_on};

const ASK: &[u8] = b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The shipped pipelines, and besides a server on the socket `web` of systemd.
fn place() -> Place {
    let place = Place::new(QUICK);
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    let section = "\n[server.web]\nlisten = \"systemd:web\"\napp = \"api\"\n";
    place.write("api-paste.toml", &(paste + section));
    place
}

/// `pileus serve` with a socket as its file 3, under this name.
fn serve(place: &Place, socket: OwnedFd, name: &str) -> Command {
    let pileus = place.command(&[]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" serve 3<&0 0</dev/null"])
        .arg(pileus.get_program())
        .current_dir(place.path())
        .env_remove("PILEUS_LOG")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name)
        .stdin(Stdio::from(socket));
    command
}

fn start(place: &Place, socket: OwnedFd) -> Server<'_> {
    place.try_serve_by(serve(place, socket, "web")).unwrap_or_else(|log| panic!("{log}"))
}

#[test]
fn a_restart_loses_no_connection() {
    let place = place();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("its address");
    let path = place.path().join("web.sock");
    let unix = UnixListener::bind(&path).expect("a socket");
    type Kind<'a> = (OwnedFd, String, Box<dyn Fn() -> Option<Reply> + Sync + 'a>);
    let kinds: [Kind<'_>; 2] = [
        (tcp.into(), format!("http://{address}"), Box::new(|| raw(address, ASK))),
        (
            unix.into(),
            format!("unix:{}", path.display()),
            Box::new(|| {
                let stream = UnixStream::connect(&path).expect("a connection");
                stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                raw_on(stream, ASK)
            }),
        ),
    ];
    for (socket, shown, ask) in kinds {
        let again = || socket.try_clone().expect("the same");
        let server = start(&place, again());
        assert!(server.banner.iter().any(|line| line.trim() == format!("web    {shown}")), "{shown}");
        assert_eq!(ask().map(|reply| reply.status), Some(200), "{shown}");
        // Workers are told nothing of it, and have none of it.
        let environment = fs::read(format!("/proc/{}/environ", server.pid())).expect("its variables");
        assert!(String::from_utf8_lossy(&environment).contains("LISTEN_PID"), "it was told by variables");
        let job = server.submit("env; ls -l /proc/self/fd");
        server.await_job(&job, "complete");
        let output = server.get(&format!("/v2/default/jobs/{job}/output")).text;
        assert!(output.contains("PATH="), "{output}");
        assert!(!output.contains("LISTEN_") && !output.contains("socket:"), "{output}");
        // It stays where other files change, and while nobody is there to accept.
        let reload = server.post("/v2/default/service/action", r#"{"reload": null}"#);
        assert_eq!(reload.status, 200, "{}", reload.text);
        assert_eq!(ask().map(|reply| reply.status), Some(200), "{shown}");
        assert!(server.stop().0.success());
        thread::scope(|scope| {
            let early: Vec<_> = (0..8).map(|_| scope.spawn(&ask)).collect();
            // They wait in the backlog; that they came before the start is likely, not needed.
            thread::sleep(Duration::from_millis(100));
            let server = start(&place, again());
            for early in early {
                let reply = early.join().expect("no panic");
                assert_eq!(reply.map(|reply| reply.status), Some(200), "{shown}");
            }
            assert!(server.stop().0.success());
        });
        if !shown.starts_with("http") {
            assert!(path.exists(), "its file is systemd's");
        }
    }
}

#[test]
fn what_was_not_passed_is_said() {
    let place = place();
    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a port"));
    let (status, _, stderr) = place.run(&["serve"]);
    assert_eq!(status.code(), Some(69), "{stderr}");
    assert!(stderr.contains("[server.web] cannot listen on systemd:web: systemd passed no socket at all"));
    let connected = UnixStream::pair().expect("a pair").0.into();
    let file = fs::File::open("/dev/null").expect("a file").into();
    let cases = [
        (listener(), "wbe", "systemd passed no socket `web`, but `wbe`"),
        (listener(), "", "systemd passed no socket `web`, but `unknown`"),
        (connected, "web", "it does not listen: its unit needs `Accept=no`"),
        (file, "web", "it is neither a TCP nor a Unix stream socket"),
    ];
    for (socket, name, expected) in cases {
        let output = serve(&place, socket, name).output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(69) && stderr.contains(expected), "{name}: {stderr}");
    }
}

#[test]
fn systemd_is_told_how_the_service_stands() {
    let place = Place::new(QUICK);
    let path = place.path().join("notify");
    let notify = UnixDatagram::bind(&path).expect("a socket");
    notify.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let told = || {
        let mut bytes = [0; 512];
        let length = notify.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut command = place.command(&["serve"]);
    command.env("NOTIFY_SOCKET", &path);
    let server = place.try_serve_by(command).unwrap_or_else(|log| panic!("{log}"));
    assert_eq!(told(), "READY=1\n");
    place.write("policy.json", "{");
    for ok in [false, true] {
        if ok {
            place.write("policy.json", include_str!("../../policy.json"));
        }
        Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().expect("kill runs");
        let reloading = told();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(told(), "READY=1\n");
    }
    server.stop();
    let mut last = told();
    while last.starts_with("RELOADING") || last == "READY=1\n" {
        // By a file that was seen to have changed.
        last = told();
    }
    assert_eq!(last, "STOPPING=1\n");
}

//! What the programs say when nobody answers, or nonsense; and what they say of wrong options.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
};

use crate::bench::{ADMIN, Bench, Ran, STATUS, Server, nobody, ran};

#[test]
fn a_refused_connection_is_told_in_two_lines_on_standard_output() {
    let (bench, port) = (Bench::new(), nobody());
    let lines = |program: &str| {
        format!(
            "{program}: couldn't connect to cloud scheduler at 127.0.0.1 on port {port}.\nIs the cloud scheduler running on port {port}?\n"
        )
    };
    let cases = [
        (STATUS, "-s 127.0.0.1 -p", "", lines(STATUS), 1, 69),
        (ADMIN, "-s 127.0.0.1 -P", "-y", lines(ADMIN), 0, 69),
        (STATUS, "-s 127.0.0.1 -p", "-q all", format!("Jobs in Scheduled Queue\n{}", lines(STATUS)), 1, 69),
        (ADMIN, "-s 127.0.0.1 -P", "-q", lines(ADMIN), 0, 69),
        (
            ADMIN,
            "-s 127.0.0.1 -P",
            "-v 5 -c C",
            format!("Adjusting vm_slots on C to 5\n{}", lines(ADMIN)),
            0,
            69,
        ),
    ];
    for (program, to, line, out, code, strict) in cases {
        let told = bench.run(program, &format!("{to} {port} {line}"));
        assert_eq!(told, Ran { out: out.clone(), err: String::new(), code }, "{line}");
        let told = bench.run(program, &format!("{to} {port} {line} --strict"));
        assert_eq!((told.out, told.code), (out, strict), "{line}");
        assert!(told.err.contains("refused"), "{}", told.err);
    }
    let told = bench.run(STATUS, &format!("-s 127.0.0.1 -p {port} --json"));
    let line = lines(STATUS).trim_end().replace('\n', "\\n");
    assert_eq!(told.out, format!("{{\"error\":\"{line}\"}}\n"));
}

#[test]
fn the_program_is_named_by_the_path_that_it_was_called_by() {
    let (bench, port) = (Bench::new(), nobody().to_string());
    let mut command = bench.command(STATUS);
    let told =
        ran(command.arg0("./bin/cloud_status").args(["-s", "127.0.0.1", "-p", &port]).output().unwrap());
    assert!(
        told.out.starts_with("./bin/cloud_status: couldn't connect to cloud scheduler at "),
        "{}",
        told.out
    );
    let mut command = bench.command(STATUS);
    let told = ran(command.arg0("/opt/bin/cs").arg("--nope").output().unwrap());
    assert_eq!(told.err, "Usage: cs [options]\n\ncs: error: no such option: --nope\n");
}

/// Without `-s` the host is this machine, by its name or by loopback.
#[test]
fn this_machine_is_asked_where_no_host_is_named() {
    let (bench, server) = (Bench::new(), Server::start(&[]));
    let told = bench.run(STATUS, &format!("-p {}", server.port));
    assert_eq!((told.out.as_str(), told.code), ("GET /cloud\n", 0));
    let name = nix::sys::utsname::uname().unwrap().nodename().to_str().unwrap().to_owned();
    let port = nobody();
    let told = bench.run(STATUS, &format!("-p {port}"));
    assert!(told.out.contains(&format!("at {name} on port {port}.\n")), "{}", told.out);
}

/// Answers every connection with these bytes, and hangs up.
fn raw(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(bytes).unwrap();
        }
    });
    port
}

#[test]
fn nonsense_is_an_unexpected_error() {
    let bench = Bench::new();
    let cases: [(&'static [u8], &str); 4] = [
        (b"", "couldn't connect to cloud scheduler at 127.0.0.1"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "Unexpected error:  InvalidAnswer "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "Unexpected error:  IncompleteAnswer "),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "Unexpected error:  IncompleteAnswer ",
        ),
    ];
    for (bytes, text) in cases {
        let port = raw(bytes);
        let told = bench.run(STATUS, &format!("-s 127.0.0.1 -p {port}"));
        assert!(told.out.contains(text), "{text}: {}", told.out);
        assert!(
            told.out.ends_with(&format!("Is the cloud scheduler running on port {port}?\n")),
            "{}",
            told.out
        );
        assert_eq!(told.code, 1);
        assert_eq!(bench.run(ADMIN, &format!("-s 127.0.0.1 -P {port} -y")).code, 0);
    }
    let told = bench.run(STATUS, "-s 127.0.0.1 -p abc");
    let line = "Unexpected error:  InvalidURL Failed to parse: 127.0.0.1:abc\nIs the cloud scheduler running on port abc?\n";
    assert_eq!(told, Ran { out: line.into(), err: String::new(), code: 1 });
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    // Connects, for the kernel does, and is never accepted.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = Bench::new().run(STATUS, &format!("-s 127.0.0.1 -p {port} --timeout 1"));
    let line = format!(
        "Unexpected error:  Timeout no answer within 1 s\nIs the cloud scheduler running on port {port}?\n"
    );
    assert_eq!(told, Ran { out: line, err: String::new(), code: 1 });
}

#[test]
fn wrong_options_are_told_on_standard_error() {
    let cases = [
        (
            STATUS,
            "cloud_status",
            "-q nope",
            "option -q: invalid choice: 'nope' (choose from 'all', 'new', 'sched', 'high', 'running', 'idle', 'held', 'complete')",
        ),
        (STATUS, "cloud_status", "-Z", "no such option: -Z"),
        (STATUS, "cloud_status", "-P 1", "no such option: -P"),
        (STATUS, "cloud_status", "--vm", "ambiguous option: --vm (--vm-info, --vm-status?)"),
        (STATUS, "cloud_status", "-c", "-c option requires an argument"),
        (ADMIN, "cloud_admin", "-p 8112", "option -p: invalid choice: '8112' (choose from 'vm', 'job')"),
        (
            ADMIN,
            "cloud_admin",
            "--re",
            "ambiguous option: --re (--reconfig, --refresh-proxy, --reload-limits, --reload-target-alias, --remove, --reset-vm-state?)",
        ),
        (ADMIN, "cloud_admin", "--all=1", "--all option does not take a value"),
        (
            ADMIN,
            "cloud_admin",
            "-l dEBUG",
            "option -l: invalid choice: 'dEBUG' (choose from 'VERBOSE', 'DEBUG', 'WARNING', 'ERROR', 'INFO', 'CRITICAL', 'verbose', 'debug', 'warning', 'error', 'info', 'critical', 'Verbose', 'Debug', 'Warning', 'Error', 'Info', 'Critical')",
        ),
    ];
    let bench = Bench::new();
    for (program, name, line, error) in cases {
        let err = format!("Usage: {name} [options]\n\n{name}: error: {error}\n");
        assert_eq!(bench.run(program, line), Ran { out: String::new(), err, code: 2 }, "{line}");
    }
}

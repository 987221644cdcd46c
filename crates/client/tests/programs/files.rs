//! Configuration files as the programs find them, and what they do with broken ones.

use crate::bench::{ADMIN, Bench, STATUS, Server, nobody};

#[test]
fn the_port_is_the_options_else_the_files() {
    let (bench, server) = (Bench::new(), Server::start(&[]));
    bench.configure("cloud_scheduler_status.conf", &format!("[global]\ninfo_server_port: {}\n", server.port));
    std::fs::write(bench.path().join("other.conf"), format!("[global]\ninfo_server_port={}\n", nobody()))
        .unwrap();
    let cases = [
        ("-s 127.0.0.1".to_owned(), 0),
        ("-s 127.0.0.1 -f other.conf".to_owned(), 1),
        ("-s 127.0.0.1 --config-file=other.conf".to_owned(), 1),
        (format!("-s 127.0.0.1 -f other.conf -p {}", server.port), 0),
        (format!("-s 127.0.0.1 -p {}", nobody()), 1),
    ];
    for (line, code) in cases {
        let ran = bench.run(STATUS, &line);
        assert_eq!((ran.code, ran.err.as_str()), (code, ""), "{line}");
    }
}

#[test]
fn without_a_file_cloud_status_warns_and_cloud_admin_does_not() {
    let (bench, server) = (Bench::new(), Server::start(&[]));
    std::fs::remove_dir_all(bench.path().join(".cloudscheduler")).unwrap();
    let ran = bench.status(&server, "");
    assert_eq!((ran.out.as_str(), ran.code), ("GET /cloud\n", 0));
    assert_eq!(
        ran.err,
        "Configuration file problem: There doesn't seem to be a configuration file. You can specify one with \
         the --config-file parameter, or put one in ~/.cloudscheduler/cloud_scheduler_status.conf or \
         /etc/cloudscheduler/cloud_scheduler_status.conf Running in full default value mode.\n"
    );
    assert_eq!(bench.status(&server, "-f not-there.conf").err, "");
    assert_eq!(bench.admin(&server, "-y").err, "");
}

#[test]
fn the_admin_port_of_the_file_has_no_effect() {
    let (bench, server) = (Bench::new(), Server::start(&[]));
    bench.configure("cloud_scheduler.conf", &format!("[global]\nadmin_server_port: {}\n", server.port));
    // 8112 of a loopback address that is nobody's.
    let ran = bench.run(ADMIN, "-s 127.86.21.12 -y");
    assert!(
        ran.out.contains("couldn't connect to cloud scheduler at 127.86.21.12 on port 8112."),
        "{}",
        ran.out
    );
    assert!(server.lines().is_empty());
}

#[test]
fn a_broken_file_is_told_and_ends_the_program() {
    let parse =
        "Configuration file problem: Couldn't parse your file. Check for spaces before or after variables.\n";
    let status = "cloud_scheduler_status.conf";
    let cases = [
        (
            STATUS,
            status,
            "[global]\ninfo_server_port: x\n",
            "Configuration file problem: info_server_port must be an integer value.\n",
            "",
        ),
        (STATUS, status, "no section\n", "", parse),
        (STATUS, status, "[global]\nno value\n", "", parse),
        (STATUS, status, "[global]\ninfo_server_port: %(x)s\n", "", "ConfigParser.InterpolationError"),
        (
            ADMIN,
            "cloud_scheduler.conf",
            "[global]\nadmin_server_port:\n",
            "Configuration file problem: admin_server_port must be an integer value.\n",
            "",
        ),
        (ADMIN, "cloud_scheduler.conf", "[logging]\nlog_level: loud\n", "", "log_level `loud`"),
    ];
    for (program, file, text, out, err) in cases {
        let bench = Bench::new();
        bench.configure(file, text);
        let ran = bench.run(program, "");
        assert_eq!((ran.out.as_str(), ran.code), (out, 1), "{text}");
        assert!(ran.err.contains(err) && ran.err.is_empty() == err.is_empty(), "{text}: {}", ran.err);
        assert_eq!(bench.run(program, "--strict").code, 78, "{text}");
    }
}

//! Both programs against a real server: the script that has every command once, on the old ports and in
//! a project.
//!
//! What it prints stands beside this file, with names in the place of what no two runs have in common
//! (ids, ports, times); `UPDATE_EXPECTED=1` writes it anew, to be read before it is kept.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use regex::Regex;

use crate::support::{Place, QUICK, Server, await_some};

/// A place whose cloud is called `mouse`, and keeps idle VMs for long.
fn place() -> Place {
    let place =
        Place::new(&format!("{}keep_alive_s = 600\n", QUICK.replace("[clouds.local]", "[clouds.mouse]")));
    place.write("aliases.json", "{\"West\": [\"mouse\", \"cat\"]}");
    place.write("limits.json", "{\"bob\": 5}");
    let settings = fs::read_to_string(place.path().join("pileus.toml")).expect("the settings");
    place.write(
        "pileus.toml",
        &format!("cloud_aliases = \"aliases.json\"\nuser_limits = \"limits.json\"\n{settings}"),
    );
    place
}

/// The folder of the programs. They are another package's: cargo makes no promise to have built them.
fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_pileus")).parent().expect("a folder").to_path_buf();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "-p", "pileus-client", "--bins"]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "the programs are built");
    folder
}

/// Boots a VM of `mouse` that idles; answers with its id. Its host name comes with the first poll of its cloud, which may
/// be later than the end of a short job.
fn idle_vm(server: &Server<'_>) -> String {
    let job = server.submit("echo done");
    let done = server.await_job(&job, "complete");
    let vm = done["vm"].as_str().expect("its VM").to_owned();
    await_some("the VM to idle", || {
        let reply = server.get(&format!("/v2/default/vms/{vm}"));
        let vm = &reply.json()["vm"];
        if vm["job"].is_null() && vm["hostname"] != "" { Ok(()) } else { Err(reply.text) }
    });
    vm
}

fn compare(options: &str, settle: &str, expected: &str) {
    let (place, programs) = (place(), programs());
    let server = place.serve();
    let vm = idle_vm(&server);
    let options = options.replace("TOKEN", &place.state().join("admin-token").display().to_string());
    // In a project both programs ask the API.
    let (info, admin) =
        if options.is_empty() { (server.info, server.admin) } else { (server.api, server.api) };
    // An empty file of its own, so that no site's is found.
    place.write("none.conf", "[global]\n");
    let program = |name: &str, port: &str, at: SocketAddr| {
        let (programs, here) = (programs.display(), place.path().display());
        format!("{programs}/{name} -s {} {port} {} -f {here}/none.conf", at.ip(), at.port())
    };
    let (status, admin) = (program("cloud_status", "-p", info), program("cloud_admin", "-P", admin));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/client/tests/programs/every_command.sh");
    place.write("settle.sh", &format!("i=0\nwhile [ $i -lt 300 ]; do\n{status} {options} {settle} && exit\ni=$((i + 1))\nsleep 0.1\ndone\n"));
    let output = Command::new("sh")
        .arg(script)
        .arg(&status)
        .arg(&admin)
        .args(options.split_whitespace())
        .env("HOME", place.path())
        .env("TEST_VM", &vm)
        .env("SETTLE", format!("sh {}/settle.sh", place.path().display()))
        .env_remove("PILEUS_TOKEN")
        .output()
        .expect("a shell");
    let out = anonymous(&String::from_utf8_lossy(&output.stdout), &vm, &server, &place);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.is_empty(), "the script itself has nothing to say: {said}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(expected);
    if env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&file, &out).expect("a file");
    }
    let expected = fs::read_to_string(&file).expect("what is expected");
    for (at, (is, should)) in out.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, should, "line {} of {}", at + 1, file.display());
    }
    assert_eq!(out, expected);
}

/// Names for what is another in each run.
fn anonymous(text: &str, vm: &str, server: &Server<'_>, place: &Place) -> String {
    let text = text.replace(&place.path().display().to_string(), "FOLDER");
    let mut text = text.replace(" --all-projects", "");
    for port in [server.api.port(), server.info.port(), server.admin.port()] {
        text = text.replace(&format!(":{port}"), ":PORT");
    }
    text =
        text.replace(vm, "VM").replace(concat!("version: ", env!("CARGO_PKG_VERSION")), "version: VERSION");
    for (pattern, name) in [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
        // The old table shows the last 20 characters of a job's id.
        (r"[0-9a-f]{2}-[0-9a-f]{4}-[0-9a-f]{12}", "LAST-OF-THE-JOBS-ID."),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
        (r"\b1[0-9]{9}\b", "TIME"),
        (r"(Thread\(\d+\): )\d+", "${1}N"),
        (r#"("startup_time": )\d+"#, "${1}N"),
        (r#"("job_run_times": \[)\d+"#, "${1}N"),
        (r#"(job_runs_s(?:": \[)?\s+)\d+"#, "${1}N"),
        (r"(VM  VM  mouse +)\d+\n", "${1}N\n"),
        (r"(Mean: )\d+ s", "${1}N s"),
        (r"Cluster: mouse \d+,  Avg: \d+ ", "Cluster: mouse N,  Avg: N "),
        (r"(VM : avg )\d+", "${1}N"),
        // A time is as wide as its fraction.
        (r"FINISHED +EXIT", "FINISHED  EXIT"),
        (r"(?m)^((?:Version|Process|Memory|Addresses|Threads|Open files|Tasks|State): ).*$", "${1}FIGURES"),
    ] {
        text = Regex::new(pattern).expect("a pattern").replace_all(&text, name).into_owned();
    }
    text
}

#[test]
fn on_the_old_ports() {
    compare("", "-o | grep -qx 0", "every_command.old.out");
}

/// There is one project, so that all of them show the same.
#[test]
fn in_every_project() {
    let options = "--project default --token-file TOKEN --all-projects";
    compare(options, "-o | grep -qx 0", "every_command.v2.out");
}

#[test]
fn in_a_project() {
    compare("--project default --token-file TOKEN", "-o | grep -qx 0", "every_command.v2.out");
}

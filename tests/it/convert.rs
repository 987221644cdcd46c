//! `pileus convert` as a deployer runs it: what is written where, what is said, how it ends.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn convert(folder: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_pileus");
    Command::new(program).arg("convert").args(arguments).current_dir(folder).output().unwrap()
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn exit_codes_say_whether_a_person_has_to_look() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("good.conf", "[global]\nmax_keepalive: 2\n");
    write("left.conf", "[global]\nmax_keepalive: 2\nssh_path: /usr/bin/ssh\n");
    write("broken.conf", "[global]\nmax_keepalive: two\n");
    write("what.txt", "hello\n");
    write("policy.yaml", "\"default\": \"role:admin\"\n");
    let cases: [(&str, &[&str], i32, &str, &str); 9] = [
        ("all carried over", &["good.conf"], 0, "max_keep_alive_s = 120", "1 carried over; 0 left out"),
        ("one left out", &["left.conf"], 1, "max_keep_alive_s = 120", "left.conf:3:1"),
        ("a broken file", &["broken.conf"], 78, "", "`two` is no whole number"),
        ("one of two is broken", &["good.conf", "nothing"], 78, "", "nothing: No such file"),
        ("nobody knows it", &["what.txt"], 78, "", "neither of Cloud Scheduler nor of Nova"),
        ("it is said", &["--kind", "scheduler", "what.txt"], 78, "", "what.txt:1:1"),
        ("two files", &["good.conf", "policy.yaml"], 0, "==> policy.json <==", "2 carried over"),
        ("no file", &[], 64, "", "--help"),
        ("JSON", &["left.conf", "--json"], 1, "\"fate\": \"not_yet\"", "1 carried over; 1 left out"),
    ];
    for (what, arguments, code, stdout, stderr) in cases {
        let (found, out, error) = told(&convert(folder.path(), arguments));
        assert_eq!(found, code, "{what}: {error}");
        assert!(out.contains(stdout) && out.is_empty() == stdout.is_empty(), "{what}: {out}");
        assert!(error.contains(stderr), "{what}: {error}");
    }
    let (_, out, _) = told(&convert(folder.path(), &["left.conf", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["files"][0]["name"], "pileus.toml");
    assert_eq!((&json["notes"][1]["line"], &json["notes"][1]["file"]), (&3.into(), &"left.conf".into()));
}

#[test]
fn a_folder_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("etc/pileus.toml");
    fs::write(folder.path().join("c.conf"), "[global]\nmax_keepalive: 2\n").unwrap();
    let (code, out, _) = told(&convert(folder.path(), &["c.conf", "--out", "etc"]));
    assert_eq!((code, &*out), (0, "etc/pileus.toml\n"));
    let first = fs::read_to_string(&made).unwrap();
    assert!(first.contains("max_keep_alive_s = 120"), "{first}");

    fs::write(folder.path().join("c.conf"), "[global]\nmax_keepalive: 3\n").unwrap();
    let (code, out, error) = told(&convert(folder.path(), &["c.conf", "--out", "etc"]));
    assert_eq!((code, &*out), (69, ""), "{error}");
    assert!(error.contains("etc/pileus.toml is there already: nothing was written"), "{error}");
    assert_eq!(fs::read_to_string(&made).unwrap(), first);

    let (code, ..) = told(&convert(folder.path(), &["c.conf", "--out", "etc", "--force"]));
    assert_eq!(code, 0);
    assert!(fs::read_to_string(&made).unwrap().contains("max_keep_alive_s = 180"));
    assert_eq!(fs::read_dir(folder.path().join("etc")).unwrap().count(), 1);
    // Standard output is no folder.
    let (code, out, _) = told(&convert(folder.path(), &["c.conf", "--out", "-"]));
    assert!(code == 0 && out.contains("max_keep_alive_s = 180") && !folder.path().join("-").exists());
}

/// The way of somebody who comes from Nova: convert, check.
#[test]
fn what_was_converted_can_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let old = Path::new("tests/convert");
    for (from, to) in [("folsom/api-paste.ini", "api-paste.ini"), ("policy_folsom/policy.json", "old.json")] {
        fs::copy(old.join(from), folder.path().join(to)).unwrap();
    }
    let (code, out, error) = told(&convert(folder.path(), &["api-paste.ini", "old.json", "--out", "."]));
    assert_eq!((code, &*out), (1, "./api-paste.toml\n./policy.json\n"), "{error}");
    let mut check = Command::new(env!("CARGO_BIN_EXE_pileus"));
    let (code, out, error) = told(&check.arg("check").current_dir(folder.path()).output().unwrap());
    assert_eq!(code, 0, "{error}");
    assert!(out.starts_with("ok: 1 servers"), "{out}");
}

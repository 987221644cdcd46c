//! What bad input gets before a port opens: a diagnostic, exit 78, nothing started.

use std::fs;

use crate::support::{Place, QUICK};

/// Each mistake, and what the diagnostic has to name.
#[test]
fn a_mistake_in_a_file_is_a_diagnostic_and_exit_78() {
    let paste = include_str!("../../api-paste.toml");
    let cases: &[(&str, &str, String, &[&str])] = &[
        ("broken TOML", "pileus.toml", "[clouds.local\n".into(), &["pileus.toml:1"]),
        (
            "an unknown key",
            "pileus.toml",
            format!("{QUICK}vm_slot = 2\n"),
            &["vm_slot", "did you mean `vm_slots`"],
        ),
        (
            "a wrong type",
            "pileus.toml",
            format!("{QUICK}memory_mib = \"much\"\n"),
            &["memory_mib", "pileus.toml:"],
        ),
        (
            "an unknown driver",
            "pileus.toml",
            "[clouds.a]\ndriver = \"locale\"\n".into(),
            &["locale", "did you mean `local`"],
        ),
        (
            "a default that no job may have",
            "pileus.toml",
            "[job_defaults]\ncpu_cores = 0\n".into(),
            &["[job_defaults] `cpu_cores` must be at least 1", "pileus.toml:2"],
        ),
        (
            "an unknown extension",
            "pileus.toml",
            "extensions = [\"vms\", \"job\"]\n".into(),
            &["`job`", "did you mean `jobs`"],
        ),
        (
            "an unknown filter",
            "api-paste.toml",
            paste.replace("\"tokens\", \"ratelimit\"", "\"tokens\", \"ratelimiter\""),
            &["ratelimiter", "did you mean `ratelimit`"],
        ),
        (
            "a filter before what it needs",
            "api-paste.toml",
            paste.replace(
                "\"tokens\", \"ratelimit\", \"sizelimit\", \"policy\"",
                "\"policy\", \"tokens\", \"ratelimit\", \"sizelimit\"",
            ),
            &["policy", "before"],
        ),
        (
            "a cycle",
            "api-paste.toml",
            format!(
                "{paste}\n[pipeline.a]\npipeline = [\"b\"]\n[pipeline.b]\npipeline = [\"a\"]\n[server.x]\nlisten = \"127.0.0.1:0\"\napp = \"a\"\n"
            ),
            &["pipeline.a → pipeline.b → pipeline.a"],
        ),
        ("broken JSON", "policy.json", "{\"default\": ".into(), &["policy.json:1"]),
        (
            "a rule that cannot be understood",
            "policy.json",
            r#"{"default": "role:admin and or role:x"}"#.into(),
            &["default"],
        ),
    ];
    for (what, file, text, named) in cases {
        let place = Place::quick(1);
        place.write(file, text);
        for command in ["check", "serve"] {
            let (status, stdout, stderr) = place.run(&[command]);
            assert_eq!(status.code(), Some(78), "{what}: {command}: {stdout}{stderr}");
            for word in *named {
                assert!(stderr.contains(word), "{what}: `{word}` is not in\n{stderr}");
            }
            assert!(!place.state().exists(), "{what}: nothing is started, nothing is made");
        }
    }
}

/// A file whose syntax is broken does not hide the others' mistakes, and what stands in it may not be
/// said to be missing.
#[test]
fn one_run_shows_the_mistakes_of_all_files() {
    let place = Place::quick(1);
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the shipped pipelines");
    let cases = [
        ("a = = 1\n", "[x\n".to_owned(), "{\n", ["pileus.toml:1", "api-paste.toml:1", "policy.json:"]),
        (
            "a = = 1\n",
            paste.replace("\"trace\"", "\"trase\""),
            r#"{"default": "role:a or"}"#,
            ["pileus.toml:1", "`trace`", "policy.json:1"],
        ),
        (
            "stor = 1\n",
            "[x\n".to_owned(),
            r#"{"default": 3}"#,
            ["`store`", "api-paste.toml:1", "policy.json:1"],
        ),
    ];
    for (config, paste, policy, named) in cases {
        place.write("pileus.toml", config);
        place.write("api-paste.toml", &paste);
        place.write("policy.json", policy);
        let (status, stdout, stderr) = place.run(&["check"]);
        assert_eq!(status.code(), Some(78), "{stdout}{stderr}");
        for word in named {
            assert!(stderr.contains(word), "`{word}` is not in\n{stderr}");
        }
        assert!(!stderr.contains("has no rule"), "a broken policy may have it:\n{stderr}");
    }
}

#[test]
fn the_shipped_files_are_clean_and_say_so() {
    let place = Place::quick(1);
    let (status, stdout, stderr) = place.run(&["check"]);
    assert_eq!(status.code(), Some(0), "{stdout}{stderr}");
    assert!(!stderr.contains("warning"), "{stderr}");
    // Without any file, what is built in is used.
    for file in ["pileus.toml", "api-paste.toml", "policy.json"] {
        fs::remove_file(place.path().join(file)).expect("a file");
    }
    let (status, stdout, stderr) = place.run(&["check"]);
    assert_eq!(status.code(), Some(0), "{stdout}{stderr}");
    // A file that was named has to be there.
    let (status, _, stderr) = place.run(&["check", "--policy", "nowhere.json"]);
    assert_eq!(status.code(), Some(78));
    assert!(stderr.contains("nowhere.json"), "{stderr}");
}

#[test]
fn a_wrong_word_on_the_command_line_is_exit_64() {
    let place = Place::quick(1);
    for args in [&["sreve"][..], &["serve", "--stat", "x"], &["policy"]] {
        let (status, _, stderr) = place.run(args);
        assert_eq!(status.code(), Some(64), "{args:?}: {stderr}");
    }
    let (status, stdout, _) = place.run(&["--help"]);
    assert_eq!(status.code(), Some(0));
    assert!(stdout.contains("serve") && stdout.contains("check"), "{stdout}");
}

#[test]
fn a_taken_port_is_exit_69_and_names_the_section() {
    let place = Place::quick(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    place.write("api-paste.toml", &paste.replacen("127.0.0.1:0", &address, 1));
    let (status, _, stderr) = place.run(&["serve"]);
    assert_eq!(status.code(), Some(69), "{stderr}");
    assert!(stderr.contains(&address) && stderr.contains("server."), "{stderr}");
}

#[test]
fn a_state_folder_that_cannot_be_used_is_said_so_and_left_alone() {
    let place = Place::quick(1);
    fs::write(place.state(), "a file, not a folder").expect("a file");
    let (status, _, stderr) = place.run(&["serve"]);
    assert!(matches!(status.code(), Some(69 | 78)), "{status}: {stderr}");
    assert!(stderr.contains("var"), "{stderr}");
    assert_eq!(fs::read_to_string(place.state()).expect("still a file"), "a file, not a folder");
}

#[test]
fn policy_test_runs_files_of_vectors() {
    let place = Place::quick(1);
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/policy/vectors.json");
    let (status, stdout, stderr) = place.run(&["policy", "test", vectors]);
    assert_eq!(status.code(), Some(0), "{stdout}{stderr}");
    assert_eq!(stdout.lines().last(), Some("179 passed, 0 failed"));
    place.write(
        "mine.json",
        r#"[{"name": "wrong", "rules": {"a": "role:x"}, "rule": "a", "creds": {"roles": []}, "target": {}, "expect": "allow"},
            {"name": "right", "rules": {"a": "role:x"}, "rule": "a", "creds": {"roles": ["x"]}, "target": {}, "expect": "allow"}]"#,
    );
    let (status, stdout, _) = place.run(&["policy", "test", "mine.json"]);
    assert_ne!(status.code(), Some(0));
    assert_eq!(stdout.lines().last(), Some("1 passed, 1 failed"), "{stdout}");
    assert!(stdout.contains("wrong") && stdout.contains("role:x"), "the tree is shown: {stdout}");
}

//! Files of another kind than the one that is wanted, and files with very many mistakes.

use crate::{
    certificates::{authority, certificate},
    support::{Place, QUICK},
};

/// A file of each kind: its name, the words that the error says of it, and a word of the help.
const KINDS: &[(&str, &str, &str)] = &[
    ("pileus.toml", "settings, as of pileus.toml", "--config"),
    ("api-paste.toml", "pipelines, as of api-paste.toml", "--paste"),
    ("site.toml", "pipelines, as of api-paste.toml", "--paste"),
    ("policy.json", "rules, as of policy.json", "--policy"),
    ("rules.yaml", "rules, as of policy.json", "--policy"),
    ("aliases.json", "aliases of clouds", "cloud_aliases"),
    ("limits.json", "limits of users", "user_limits"),
    ("server.pem", "a certificate or a key in PEM", "certificate"),
    ("server.key", "a certificate or a key in PEM", "certificate"),
    ("api-paste.ini", "the form of Paste Deploy", "pileus convert"),
    ("nova.conf", "an INI file", "pileus convert"),
];

#[test]
fn a_file_of_another_kind_is_one_error() {
    let place = Place::new(QUICK);
    let folder = place.path();
    authority(folder, "ca");
    certificate(folder, "ca", "server", "DNS:localhost");
    place.write("site.toml", "# a site\nbase = \"shipped\"\n");
    place.write("rules.yaml", "# rules\n\"clouds:index\": \"rule:admin\"\nadmin: role:admin\n");
    place.write("aliases.json", r#"{"West": ["alpha", "beta"]}"#);
    place.write("limits.json", r#"{"ada": 2}"#);
    place.write(
        "api-paste.ini",
        "[composite:osapi_compute]\nuse = call:nova.api.openstack.urlmap:urlmap_factory\n/v2: openstack_compute_api_v2\n",
    );
    place.write("nova.conf", "[DEFAULT]\nosapi_compute_listen = 127.0.0.1\nlog_dir = /var/log/nova\n");
    let mut wrong = Vec::new();
    for (option, right) in [("--config", "--config"), ("--paste", "--paste"), ("--policy", "--policy")] {
        for (file, found, help) in KINDS {
            let (status, stdout, stderr) = place.run(&["check", option, file]);
            let said = format!("{option} {file}: {status}\n{stdout}{stderr}");
            if *help == right {
                if !status.success() && *file != "rules.yaml" {
                    wrong.push(said);
                }
                continue;
            }
            let named = stderr.contains(&format!("found {found}")) || stderr.contains(found);
            if status.code() != Some(78)
                || !stderr.trim_end().ends_with("1 error, 0 warnings")
                || !named
                || !stderr.contains(help)
                || !stderr.contains(file)
            {
                wrong.push(said);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Mistakes of every sort by the thousand: all are counted, a hundred are shown.
#[test]
fn very_many_mistakes_are_counted_and_a_hundred_shown() {
    const MANY: usize = 20_000;
    let paste = include_str!("../../api-paste.toml");
    let lines = |line: &dyn Fn(usize) -> String| (0..MANY).map(line).collect::<String>();
    let keys = lines(&|at| format!("unknown_{at} = 1\n"));
    let names = lines(&|at| format!("named_{at} = \"${{absent_{at}}}\"\n"));
    let cases: [(&str, &str, String); 8] = [
        ("keys of a cloud", "pileus.toml", format!("{QUICK}{keys}")),
        ("keys at the top", "pileus.toml", format!("{keys}{QUICK}")),
        ("broken lines", "pileus.toml", lines(&|at| format!("a{at} = = 1\n"))),
        (
            "keys of a filter",
            "api-paste.toml",
            paste.replace("\n[filter.sizelimit]\n", &format!("\n[filter.sizelimit]\n{keys}")),
        ),
        (
            "names that are not there",
            "api-paste.toml",
            paste.replace("\n[filter.sizelimit]\n", &format!("\n[filter.sizelimit]\n{names}")),
        ),
        (
            "broken rules",
            "policy.json",
            format!("{{{}}}", lines(&|at| format!("\"r{at}\": \"role:a or\",\n")).trim_end_matches(",\n")),
        ),
        (
            "rules that are not there",
            "policy.json",
            format!("{{{}}}", lines(&|at| format!("\"r{at}\": \"rule:x{at}\",\n")).trim_end_matches(",\n")),
        ),
        (
            "unused sections",
            "api-paste.toml",
            format!("{paste}\n{}", lines(&|at| format!("[filter.u{at}]\nfactory = \"trace\"\n"))),
        ),
    ];
    for (what, file, text) in cases {
        let place = Place::new(QUICK);
        place.write(file, &text);
        let (status, _, stderr) = place.run(&["check"]);
        let shown = stderr.matches("\nerror: ").count() + stderr.matches("\nwarning: ").count() + 1;
        let warnings_alone = what == "unused sections";
        assert_eq!(status.code(), Some(if warnings_alone { 0 } else { 78 }), "{what}: {stderr}");
        assert!(stderr.len() < 200_000, "{what}: {} bytes", stderr.len());
        assert_eq!(shown, 100, "{what}");
        let last = stderr.trim_end().lines().last().unwrap_or_default();
        assert!(last.contains("20000 errors") || last.contains("20000 warnings"), "{what}: {last}");
    }
}

/// A long wrong value is shortened, wherever it stands.
#[test]
fn a_long_wrong_value_is_shortened() {
    let long = "x".repeat(1 << 20);
    let paste = include_str!("../../api-paste.toml");
    let cases = [
        ("pileus.toml", format!("store = \"{long}\"\n")),
        ("pileus.toml", format!("{long} = 1\n{QUICK}")),
        ("pileus.toml", format!("auth_strategy = \"{long}\"\n{QUICK}")),
        ("pileus.toml", format!("{QUICK}memory_mib = \"{long}\"\n")),
        ("pileus.toml", format!("{QUICK}[clouds.{long}]\ndriver = \"local\"\n")),
        ("api-paste.toml", paste.replace("listen = \"127.0.0.1:8774\"", &format!("listen = \"{long}\""))),
        ("api-paste.toml", paste.replace("app    = \"api\"", &format!("app = \"{long}\""))),
        ("api-paste.toml", format!("{paste}\n[filter.{long}]\nfactory = \"trace\"\n")),
        ("policy.json", format!("{{\"default\": \"{long}\"}}")),
        ("policy.json", format!("{{\"{long}\": \"role:a or\"}}")),
        ("policy.json", format!("{{\"default\": \"rule:{long}\"}}")),
    ];
    for (at, (file, text)) in cases.iter().enumerate() {
        let place = Place::new(QUICK);
        place.write(file, text);
        for args in [&["check"][..], &["check", "--json"]] {
            let (_, stdout, stderr) = place.run(args);
            let said = stdout.len() + stderr.len();
            assert!((40..20_000).contains(&said), "{at} {file} {args:?}: {said} bytes");
        }
    }
}

//! Every old file stands beside what becomes of it: `tests/convert/NAME/`. Of each folder, all files
//! that nobody made are converted in one run; `expected.stderr` and the made files are compared, and
//! written anew with `BLESS=1`.

use std::{collections::BTreeMap, env, fs, path::Path};

use super::*;
use crate::cli::Options;

const FOLDER: &str = "tests/convert";

/// Names of files that are made.
const MADE: [&str; 3] = ["pileus.toml", "api-paste.toml", "policy.json"];

fn inputs(folder: &Path) -> Vec<Input> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let made = MADE.contains(&name.strip_prefix("expected.").unwrap_or_default());
        if !made && name != "expected.stderr" {
            inputs.push(Input { name, text: fs::read_to_string(&path).unwrap() });
        }
    }
    inputs.sort_by(|one, two| one.name.cmp(&two.name));
    inputs
}

/// What a made file has that the shipped one of its name has not: whoever changes that one need not
/// bless this.
fn own(output: &Output) -> String {
    let shipped = match output.name {
        "policy.json" => crate::files::SHIPPED_POLICY,
        "api-paste.toml" if output.text.starts_with("# Which server") => crate::paste::SHIPPED,
        _ => return output.text.clone(),
    };
    let bare = |line: &str| line.trim().trim_end_matches(',').replace("rule:pileus_", "rule:");
    let known: Vec<String> = shipped.lines().map(bare).collect();
    let own = output.text.lines().filter(|line| !known.contains(&bare(line)));
    own.map(|line| format!("{}\n", line.trim_end_matches(','))).collect()
}

fn said(made: &Conversion) -> String {
    match made.errors.errors() {
        0 => made.notes.report().render(false) + &made.notes.summary() + "\n",
        _ => made.errors.render(false),
    }
}

fn folders() -> Vec<std::path::PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

#[test]
fn every_file_becomes_what_was_expected() {
    let bless = env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for folder in folders() {
        let made = convert(&inputs(&folder), None);
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        found.insert("expected.stderr".into(), said(&made));
        for output in &made.outputs {
            found.insert(format!("expected.{}", output.name), own(output));
        }
        for name in MADE.iter().map(|name| format!("expected.{name}")).chain(["expected.stderr".into()]) {
            let path = folder.join(&name);
            match found.get(&name) {
                Some(text) if bless => fs::write(&path, text).unwrap(),
                Some(text) => {
                    let expected = fs::read_to_string(&path).unwrap_or_default();
                    if *text != expected {
                        wrong.push(format!("{}\n--- expected\n{expected}--- found\n{text}", path.display()));
                    }
                }
                None if bless => drop(fs::remove_file(&path)),
                None if path.exists() => wrong.push(format!("{} was not made", path.display())),
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(folders().len() >= 4, "{}", folders().len());
}

/// What `pileus check` says of the made files, in a folder of their own.
fn checked(made: &Conversion) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let output = made.outputs.iter().find(|output| output.name == name)?;
        let path = folder.path().join(name);
        // The operator's own files are looked for in this folder, and in no folder of this machine.
        fs::write(&path, output.text.replace("\"/etc/", "\"etc/")).unwrap();
        Some(path)
    };
    for list in
        ["etc/cloudscheduler/target_aliases", "etc/cloudscheduler/user_limits", "limits/user_limits.json"]
    {
        let list = folder.path().join(list);
        fs::create_dir_all(list.parent().unwrap()).unwrap();
        fs::write(list, "{}").unwrap();
    }
    let password = folder.path().join("keystone-password");
    fs::write(&password, "secret\n").unwrap();
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (config, paste, policy) = (path("pileus.toml"), path("api-paste.toml"), path("policy.json"));
    let mut report = Report::default();
    crate::check(&Options { config, paste, policy, ..Options::default() }, &mut report);
    report
}

#[test]
fn what_is_made_passes_the_check() {
    for folder in folders() {
        let made = convert(&inputs(&folder), None);
        let report = checked(&made);
        assert_eq!(report.errors(), 0, "{}: {}", folder.display(), report.render(false));
    }
}

#[test]
fn every_strategy_that_can_be_built_passes_the_check() {
    // The site's `not_found_app` was never asked there, either: that is said.
    let cases = [
        ("folsom", "noauth", 0),
        ("folsom", "token", 0),
        ("today", "token", 0),
        ("site", "noauth_nolimit", 1),
    ];
    for (folder, strategy, warnings) in cases {
        let mut made = convert(&inputs(&Path::new(FOLDER).join(folder)), None);
        let text = format!("auth_strategy = \"{strategy}\"\n");
        made.outputs.push(Output { name: "pileus.toml", text });
        let report = checked(&made);
        assert_eq!(report.errors(), 0, "{folder}, {strategy}: {}", report.render(false));
        assert_eq!(report.warnings(), warnings, "{folder}, {strategy}: {}", report.render(false));
    }
}

/// A file of 2012 said all that is needed; what was secret, and what stood elsewhere, is asked for.
#[test]
fn keystone_may_be_chosen() {
    let ways = [
        ("folsom", "", "the environment has no variable `KEYSTONE_PASSWORD`\n"),
        ("folsom", "hunter2", "0 errors, 0 warnings\n"),
        ("today", "", "[authtoken] `auth_url` is missing"),
    ];
    for (folder, password, expected) in ways {
        let mut made = convert(&inputs(&Path::new(FOLDER).join(folder)), None);
        made.outputs.push(Output { name: "pileus.toml", text: "auth_strategy = \"keystone\"\n".into() });
        for output in made.outputs.iter_mut().filter(|_| !password.is_empty()) {
            output.text = output.text.replace("${env:KEYSTONE_PASSWORD}", password);
        }
        let text = checked(&made).render(false);
        assert!(text.contains(expected), "{folder}: {text}");
        assert!(folder != "folsom" || !text.contains("missing"), "{text}");
    }
}

#[test]
fn tls_to_keystone_is_carried_over_and_never_unverified() {
    let text = "[composite:main]\nuse = egg:Paste#urlmap\n/v2: api\n\n\
                [pipeline:api]\npipeline = auth app\n\n\
                [filter:auth]\npaste.filter_factory = keystonemiddleware.auth_token:filter_factory\n\
                auth_url = https://keystone:5000\nusername = u\npassword = p\nproject_name = s\n\
                cafile = /etc/ca.pem\ncertfile = /etc/p.pem\nkeyfile = /etc/p.key\ninsecure = True\n\n\
                [app:app]\npaste.app_factory = nova.api.openstack.compute:APIRouter.factory\n";
    let made = convert(&[Input { name: "api-paste.ini".into(), text: text.into() }], None);
    let paste = &made.outputs.iter().find(|it| it.name == "api-paste.toml").unwrap().text;
    for line in [
        "auth_url = \"https://keystone:5000\"",
        "cafile = \"/etc/ca.pem\"",
        "certfile = \"/etc/p.pem\"",
        "keyfile = \"/etc/p.key\"",
    ] {
        let said = |it: &str| it.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(line);
        assert!(paste.lines().any(said), "{line}: {paste}");
    }
    assert!(!paste.lines().any(|line| line.starts_with("insecure")), "{paste}");
    assert!(said(&made).contains("is always verified: name its authority with `cafile`"), "{}", said(&made));
}

#[test]
fn no_secret_is_written_or_shown() {
    for folder in folders() {
        let made = convert(&inputs(&folder), None);
        let json = made.notes.to_json().to_string();
        let texts = made.outputs.iter().map(|it| &*it.text);
        for text in texts.chain([&*said(&made), &*json]) {
            assert!(!text.contains("hunter"), "{}: {text}", folder.display());
        }
    }
}

#[test]
fn files_are_recognised() {
    let ok = [
        ("x", "[global]\nmax_keepalive = 1\n", FileKind::Scheduler),
        ("x", "# c\n\n[logging]\nlog_level = INFO\n", FileKind::Scheduler),
        ("x", "[west]\nvm_slots = 1\nCloud_Type: localhost\n", FileKind::Resources),
        ("/etc/cloudscheduler/cloud_scheduler.conf", "", FileKind::Scheduler),
        ("cloud_resources.conf", "garbage", FileKind::Resources),
        ("x", "[DEFAULT]\na = 1\n[filter:a]\nuse = b\n", FileKind::Paste),
        ("/etc/nova/api-paste.ini", "", FileKind::Paste),
        ("policy.yaml", "", FileKind::Policy),
        ("x.json", r#"{"a": [["role:x"]], "b": []}"#, FileKind::Policy),
        ("/etc/nova/policy.json", r#"{"a": ["x"]}"#, FileKind::Policy),
        ("x.yml", "a: role:b", FileKind::Policy),
    ];
    for (name, text, kind) in ok {
        let input = Input { name: name.into(), text: text.into() };
        assert_eq!(recognise(&input).ok(), Some(kind), "{name} {text}");
    }
    let wrong = [
        ("x", "hello", "neither of Cloud Scheduler nor of Nova"),
        ("x.json", r#"{"alice": 2}"#, "these are limits of users"),
        ("x.json", r#"{"West": ["alpha", "beta"], "none": []}"#, "these are cloud aliases"),
    ];
    for (name, text, expected) in wrong {
        let input = Input { name: name.into(), text: text.into() };
        let told = recognise(&input).unwrap_err().message;
        assert!(told.contains(expected), "{told}");
    }
    let twice = [1, 2].map(|_| Input { name: "cloud_scheduler.conf".into(), text: String::new() });
    assert_eq!(convert(&twice, None).errors.errors(), 1);
}

#[test]
fn a_setting_that_needs_a_file_says_so() {
    let cases = [
        ("policy_dirs = policy.d", false),
        ("policy_dirs = /etc/nova/policy.d", true),
        ("remote_ssl_ca_crt_file = /etc/nova/ca.pem", true),
        ("enforce_scope = true", false),
    ];
    for (line, told) in cases {
        let text = format!("[oslo_policy]\n{line}\n");
        let made = convert(&[Input { name: "nova.conf".into(), text }], None);
        let report = made.notes.report().render(false);
        assert_eq!(report.contains("has to be there"), told, "{line}: {report}");
    }
}

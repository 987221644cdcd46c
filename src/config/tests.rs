//! What a file may say, and what is said of a bad one.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::*;

const KNOWN: Known<'static> = Known {
    drivers: &["local", "openstack"],
    stores: &["sqlite"],
    extensions: &["aliases", "clouds", "jobs", "users", "vms"],
};

#[derive(Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Scheduler {
    cycle_s: u64,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self { cycle_s: 5 }
    }
}

fn read(text: &str) -> (Config, Report) {
    let mut report = Report::default();
    let config = Config::from_text("pileus.toml", text, Path::new("/etc"), &KNOWN, &mut report);
    (config.unwrap(), report)
}

#[test]
fn every_line_may_be_left_out() {
    let (config, report) = read("");
    assert_eq!(report.render(false), "0 errors, 0 warnings\n");
    assert_eq!((config.auth_strategy.value.as_str(), config.store.value.as_str()), ("token", "sqlite"));
    assert_eq!((&config.extensions, &config.cloud_aliases), (&Extensions::Standard, &None));
    assert_eq!(config.scheduler::<Scheduler>().unwrap(), Scheduler { cycle_s: 5 });
    let [(name, local)] = &config.clouds[..] else { panic!("{:?}", config.clouds) };
    assert_eq!((&**name, &*local.driver, local.enabled, local.vm_slots), ("local", "local", true, 2));
}

#[test]
fn the_shipped_file_says_the_defaults() {
    let (config, report) = read(SHIPPED);
    assert_eq!(report.render(false), "0 errors, 0 warnings\n");
    let mut default = read("").0.clouds;
    default[0].1.keep_alive_s = 10;
    assert_eq!(config.clouds, default);
    assert_eq!(config.auth_strategy.value, "token");
    assert!(config.scheduler::<BTreeMap<String, IgnoredAny>>().is_ok_and(|it| it.len() > 10));
}

#[test]
fn a_percent_sign_means_itself() {
    let (config, report) = read("[clouds.\"100 %\"]\nvm_slots = 1\n");
    assert_eq!((config.clouds[0].0.as_str(), report.errors()), ("100 %", 0));
}

#[test]
fn clouds_keep_their_order_and_paths_are_relative() {
    let text = "cloud_aliases = \"a.json\"\nuser_limits = \"/x/u.json\"\n[clouds.west]\nvm_slots = 0\n\
                [clouds.east]\npriority = -1\n[scheduler]\ncycle_s = 9\n";
    let (config, report) = read(text);
    assert_eq!(report.errors(), 0);
    let clouds: Vec<_> = config.clouds.iter().map(|(name, it)| (&**name, it.vm_slots, it.priority)).collect();
    assert_eq!(clouds, [("west", 0, 0), ("east", 2, -1)]);
    assert_eq!(config.cloud_aliases.as_ref().unwrap().value, Path::new("/etc/a.json"));
    assert_eq!(config.user_limits.as_ref().unwrap().value, Path::new("/x/u.json"));
    assert_eq!(config.scheduler::<Scheduler>().unwrap(), Scheduler { cycle_s: 9 });
}

#[test]
fn all_mistakes_in_one_run() {
    let text = r#"
auth_strategy = 1
extension = "standard"
extensions = ["clouds", "job", "clouds", 3]
store = "sqllite"

[clouds.local]
driver = "locl"
vm_slots = -1
memory = 5

[clouds.Local]
[clouds."a\u0007b"]
vm_slots = 1000001
boot_timeout_s = 0
[cloud.x]
[scheduler]
cycle = 1
"#;
    let (config, mut report) = read(text);
    report.take(config.scheduler::<Scheduler>());
    let found: Vec<String> = report
        .sorted()
        .into_iter()
        .map(|it| {
            let help = it.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{} {}{help}", it.place.as_ref().map_or(0, Place::line), it.message)
        })
        .collect();
    let top = "expected `auth_strategy`, `extensions`, `store`, `cloud_aliases`, `user_limits`, `scheduler`, `credentials`, `job_defaults`, `policy`, `local` or `clouds`";
    let cloud = "expected `driver`, `enabled`, `vm_slots`, `cpu_cores`, `memory_mib`, `storage_gib`, `priority`, `keep_alive_s`, `boot_timeout_s` or `max_vm_memory_mib`";
    let expected = [
        "2 expected a string, found `1`",
        &format!("3 unknown field `extension`, {top} (did you mean `extensions`?)"),
        "4 there is no extension `job` (did you mean `jobs`?)",
        "4 the extension `clouds` is listed twice",
        "4 expected \"standard\" or a list of aliases, found an integer",
        "5 there is no store `sqllite` (did you mean `sqlite`?)",
        "8 there is no driver `locl` (did you mean `local`?)",
        "9 [clouds.local] expected a whole number from 0 to 4294967295, found `-1`",
        &format!("10 [clouds.local] unknown field `memory`, {cloud} (did you mean `memory_mib`?)"),
        "12 `Local` and `local` are one cloud to the old ports (they do not tell capitals from small letters: rename one of the two)",
        "13 a cloud cannot have the name \"a\\u{7}b\": it holds a control character",
        "14 [clouds.a\u{7}b] `1000001` is more than 1000000",
        "15 [clouds.a\u{7}b] expected a whole number from 1 to 4294967295, found `0`",
        &format!("16 unknown field `cloud`, {top} (did you mean `clouds`?)"),
        "18 [scheduler] unknown field `cycle`, expected `cycle_s` (did you mean `cycle_s`?)",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_cloud_is_no_step_of_a_path() {
    for (name, mistakes) in [(".", 1), ("..", 1), ("...", 0), (".a", 0)] {
        let (_, report) = read(&format!("[clouds.{name:?}]\n"));
        assert_eq!(report.errors(), mistakes, "{name}: {}", report.render(false));
        assert!(mistakes == 0 || report.render(false).contains("it is a step of a path"), "{name}");
    }
}

#[test]
fn extensions_in_one_word() {
    for (said, meant) in [("standart", "\"standard\""), ("job", "[\"jobs\"]"), ("mine", "[\"mine\"]")] {
        let (_, report) = read(&format!("extensions = {said:?}"));
        let help: Vec<_> = report.sorted().into_iter().filter_map(|it| it.help.clone()).collect();
        assert_eq!(help, [format!("did you mean {meant}?")]);
    }
}

#[test]
fn broken_toml_and_missing_files_are_reported() {
    let mut report = Report::default();
    assert!(Config::from_text("p.toml", "a = = 1\nb = [\n", Path::new(""), &KNOWN, &mut report).is_none());
    assert!(Config::read(Path::new("/nowhere/p.toml"), &KNOWN, &mut report).is_none());
    assert_eq!(report.errors(), 3, "{}", report.render(false));
}

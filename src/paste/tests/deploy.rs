//! What Paste Deploy's own tests check, of what is built here (reference §1.12), and what was
//! found out about it by running it (§8, traps 1 to 15).

use std::{fs, path::Path};

use pileus_sdk::{Body, Request};
use serde_json::json;

use super::catalog::{ask, deps, environment, good, run};
use crate::{
    diagnostic::Report,
    paste::{Catalog, Files, Strategy, build, check, describe, to_json},
};

/// One server on port 0 with this app.
fn server(app: &str, rest: &str) -> String {
    format!("[server.main]\nlisten = \"127.0.0.1:0\"\napp = \"{app}\"\n{rest}")
}

async fn answer(text: &str) -> String {
    let built = good(text, Path::new("/etc/pileus"));
    ask(&built[0], "/x").await
}

#[tokio::test]
async fn a_pipeline_is_read_from_the_outside_in() {
    let text = server("p", "[pipeline.p]\npipeline = [\"trace\", \"samesite\", \"faultwrap\", \"echo\"]");
    assert_eq!(answer(&text).await, "trace samesite faultwrap |  |  | faultwrap samesite trace");
    // One name is enough, and a pipeline may end in a pipeline.
    let text =
        server("p", "[pipeline.p]\npipeline = [\"trace\", \"q\"]\n[pipeline.q]\npipeline = [\"echo\"]");
    assert_eq!(answer(&text).await, "trace |  |  | trace");
}

#[tokio::test]
async fn inheritance_lays_the_outer_on_top_of_the_inner() {
    let rest = r#"
[default]
base = "${here}/data"
mark = "not asked"
[pipeline.p]
pipeline = ["one", "two", "three", "four", "five", "echo2"]
[filter.one]
use = "two"
mark = "outer"                  # test_config3: the outer one wins; trap 1: [default] hides nothing
[filter.two]
use = "three"                   # a chain of any length
[filter.three]
factory = "trace"
mark = "inner"
[filter.four]
factory = "trace"
mark = "${base}/x"              # test_config1: by way of a default that uses ${here}
[filter.five]
use = "trace"                   # compiled-in code, with its defaults
[app.echo2]
use = "echo3"
[app.echo3]
factory = "echo"
text = "kept"
"#;
    let answer = answer(&server("p", rest)).await;
    let expected = "outer inner inner /etc/pileus/data/x filter.five | \"kept\" |";
    assert!(answer.starts_with(expected), "{answer}");
}

#[tokio::test]
async fn another_file_keeps_its_own_here_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).unwrap();
    let site = r#"
[default]
name = "site"
[filter.limit]
factory = "trace"
mark = "${name}:${here}"
[pipeline.p]
pipeline = ["limit", "config:deeper.toml#filter.x", "echo"]
"#;
    fs::write(sub.join("site.toml"), site).unwrap();
    fs::write(sub.join("deeper.toml"), "[filter.x]\nuse = \"config:../main.toml#filter.base\"").unwrap();
    let main = r#"
[default]
name = "main"
[filter.base]
factory = "trace"
mark = "${name}"
[filter.limit]                  # the pipeline of the other file means the limit of the other file
factory = "samesite"
[filter.over]
use = "config:sub/site.toml#filter.limit"
mark = "over"
[pipeline.q]
pipeline = ["limit", "over", "config:sub/site.toml#pipeline.p"]
"#;
    let path = folder.path().join("main.toml");
    fs::write(&path, server("q", main)).unwrap();
    let mut report = Report::default();
    let files = Files::read(&path, &environment, &mut report).unwrap();
    assert_eq!(files.paths().count(), 3);
    let (_, built) = run(Some(files), "token", &mut report);
    assert_eq!(report.render(false), "0 errors, 0 warnings\n");
    let answer = ask(&built[0], "/").await;
    let expected = format!("filter.limit over site:{} main |", sub.display());
    assert!(answer.starts_with(&expected), "{answer}\n{expected}");
}

/// test_config2, test_config3, test_foreign_config, test_config_get, test_global_conf: see the rows. Other
/// than in Paste, no factory sees globals by themselves: a `get` makes a setting of one.
#[tokio::test]
async fn globals_are_set_above_and_got_below() {
    let folder = tempfile::tempdir().unwrap();
    let site = r#"
[default]
level = "site"
only = "site only"
[filter.level]
factory = "trace"
get = { mark = "level" }
[filter.only]
factory = "trace"
get = { mark = "only" }
[filter.set]
use = "level"
set = { level = "inner" }
[pipeline.p]
pipeline = ["level", "echo"]
set = { level = "p of site" }
"#;
    fs::write(folder.path().join("site.toml"), site).unwrap();
    let common = r#"
[default]
level = "main"
[filter.level]
factory = "trace"
get.mark = "level"
[filter.set]
use = "level"
set = { level = "inner" }
[filter.over]
use = "set"
set = { level = "outer" }
[filter.plain]
use = "level"
mark = "a setting"
[filter.got]
use = "plain"
get = { mark = "level" }
[filter.foreign]
use = "config:site.toml#filter.set"
set = { level = "outer" }
[filter.around]
factory = "trace"
mark = "${level}"
filter-with = "set"
"#;
    // What it shows, the pipeline, what it says besides, its marks.
    let cases = [
        ("[default], where nobody sets", "'level'", "", "main"),
        ("set by the pipeline", "'level'", "set = { level = 'p' }", "p"),
        ("set by the section itself wins", "'set', 'level'", "set = { level = 'p' }", "inner p"),
        ("test_config3: an outer set wins", "'over', 'set'", "", "outer inner"),
        ("test_config2: and leaks nowhere", "'over', 'level'", "", "outer main"),
        ("an outer setting replaces an inner get", "'plain'", "", "a setting"),
        ("an outer get replaces an inner setting", "'got'", "", "main"),
        ("`${name}` does not see it; `filter-with` does", "'around'", "set = { level = 'p' }", "inner main"),
        (
            "test_foreign_config: our [default] before that of another file",
            "'config:site.toml#filter.level', 'config:site.toml#filter.only'",
            "",
            "main site only",
        ),
        ("outer set before inner set", "'foreign', 'config:site.toml#filter.set'", "", "outer inner"),
        ("it reaches into another file", "'config:site.toml#filter.level'", "set.level = 'p'", "p"),
        (
            "and the nearest one wins",
            "'level', 'config:site.toml#pipeline.p'",
            "set.level = 'p'",
            "p p of site",
        ),
        ("a composite gives it on", "'map'", "set = { level = 'p' }", "map"),
        ("and who sets nothing does too", "'fa'", "set = { level = 'p' }", "p p"),
    ];
    for (what, pipeline, more, expected) in cases {
        let end = if pipeline.contains("pipeline.p") || matches!(pipeline, "'map'" | "'fa'") {
            ""
        } else {
            ", 'echo'"
        };
        let rest = format!(
            "{common}[pipeline.q]\npipeline = [{pipeline}{end}]\n{more}\n\
             [composite.map]\nfactory = 'urlmap'\n'/' = 'low'\nset = {{ level = 'map' }}\n\
             [pipeline.low]\npipeline = ['level', 'echo']\n\
             [filter-app.fa]\nuse = 'level'\nnext = 'low'\n"
        );
        let path = folder.path().join("main.toml");
        fs::write(&path, server("q", &rest)).unwrap();
        let mut report = Report::default();
        let files = Files::read(&path, &environment, &mut report);
        let (_, built) = run(files, "token", &mut report);
        assert_eq!(report.errors(), 0, "{what}: {}", report.render(false));
        let answer = ask(&built[0], "/").await;
        assert!(answer.starts_with(&format!("{expected} |")), "{what}: {answer}");
    }
}

#[tokio::test]
async fn an_app_is_made_once_for_each_way_with_other_values() {
    let rest = r#"
[server.two]                    # test_global_conf: who asks for the app has globals too
listen = "127.0.0.1:0"
app = "p"
set = { level = "two", password = "${env:SECRET}" }
[server.three]
listen = "127.0.0.1:0"
app = "p"
set = { level = "three", password = "x" }
[default]
level = "main"
password = "hunter2"
[pipeline.p]
pipeline = ["level", "q"]
[pipeline.q]
pipeline = ["plain", "echo"]
[filter.level]
factory = "trace"
get = { mark = "level" }
[filter.plain]
factory = "trace"
"#;
    let mut report = Report::default();
    let files = Files::from_text("t.toml", &server("p", rest), Path::new(""), &environment, &mut report);
    let (plan, built) = run(files, "token", &mut report);
    let expected = ["main", "two", "three"].map(|level| format!("{level} filter.plain |"));
    for (server, expected) in built.iter().zip(expected) {
        let answer = ask(server, "/").await;
        assert!(answer.starts_with(&expected), "{answer}");
    }
    let named = |name: &str| plan.apps.iter().filter(|it| it.name == name).count();
    assert_eq!((named("pipeline.p"), named("pipeline.q")), (3, 1), "who gets nothing is one");
    // It is shown with its value, and where it was asked for.
    let shown = describe(&plan);
    assert!(shown.contains("mark = \"two\"") && shown.contains("mark = \"three\""), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let said = report.render(false);
    assert!(
        said.contains("nobody gets the global `password`") && said.contains("0 errors, 1 warning"),
        "{said}"
    );
}

#[test]
fn many_ways_with_other_values_end() {
    let mut rest = String::from("[filter.level]\nfactory = \"trace\"\nget = { mark = \"level\" }\n");
    for at in 0..25 {
        rest += &format!(
            "[composite.a{at}]\nfactory = \"urlmap\"\n\"/\" = \"b{at}\"\n\"/x\" = \"c{at}\"\n\
             [pipeline.b{at}]\npipeline = [\"a{next}\"]\nset.level = \"b\"\n\
             [pipeline.c{at}]\npipeline = [\"a{next}\"]\nset.level = \"c\"\n",
            next = at + 1
        );
    }
    rest += "[pipeline.a25]\npipeline = [\"level\", \"echo\"]\n";
    let mut report = Report::default();
    let files = Files::from_text("t.toml", &server("a0", &rest), Path::new(""), &environment, &mut report);
    run(files, "token", &mut report);
    assert!(report.render(false).contains("more than 10000 apps"), "{}", report.summary());
}

#[tokio::test]
async fn filters_around_filters_and_filter_apps() {
    let rest = r#"
[filter-app.fa]                 # test_filter_app: its settings reach the filter
use = "inner"
mark = "fa"
next = "app"
filter-with = "outer"           # test_filter_app_inverted: around the whole
[filter.inner]
factory = "trace"
[filter.outer]                  # test_filter_with_filter_with: outer2(outer(app))
factory = "trace"
filter-with = "outer2"
[filter.outer2]
factory = "trace"
[app.app]
factory = "echo"
filter-with = "samesite"
"#;
    let answer = answer(&server("fa", rest)).await;
    assert!(answer.starts_with("filter.outer2 filter.outer fa samesite |"), "{answer}");
}

#[tokio::test]
async fn the_strategy_chooses_and_the_others_may_name_what_is_not_there() {
    let rest = r#"
[composite.v2]
factory = "auth_strategy"
token = ["trace", "echo"]
noauth = ["samesite", "only_here", "echo"]
keystone = ["authtoken", "nothing"]
[filter.only_here]
factory = "faultwrap"
"#;
    let text = server("v2", rest);
    let cases = [("token", "trace |"), ("noauth", "samesite filter.only_here |"), ("keystone", "")];
    for (strategy, expected) in cases {
        let mut report = Report::default();
        let files = Files::from_text("t.toml", &text, Path::new(""), &environment, &mut report);
        let (_, built) = run(files, strategy, &mut report);
        if expected.is_empty() {
            assert_eq!((report.errors(), report.warnings(), built.len()), (2, 0, 0));
        } else {
            assert_eq!(report.render(false), "0 errors, 0 warnings\n");
            assert!(ask(&built[0], "/").await.starts_with(expected));
        }
    }
}

#[tokio::test]
async fn a_urlmap_sends_on_and_says_where_it_was() {
    let rest = r#"
[composite.map]
factory = "urlmap"
"/" = "versions"
"/v2/" = "p"
"/v1.1" = "p"
"/deep/er" = "echo"
[pipeline.p]
pipeline = ["trace", "echo"]
"#;
    let built = good(&server("map", rest), Path::new(""));
    let cases = [
        ("/v2/p/servers", "trace |  | /v2 |"),
        ("/v1.1", "trace |  | /v1.1 |"),
        ("/deep/er/x", " |  | /deep/er |"),
        ("/v20", "{\"choices\""),
        ("/", "{\"versions\""),
        ("/deep", "{\"choices\""),
    ];
    for (path, expected) in cases {
        let answer = ask(&built[0], path).await;
        assert!(answer.starts_with(expected), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_cascade_asks_the_next_one() {
    let rest = r#"
[pipeline.p]
pipeline = ["sizelimit", "both"]
[composite.both]
factory = "cascade"
apps = ["nowhere", "echo"]
[composite.nowhere]
factory = "urlmap"
"/there" = "versions"
"#;
    let built = good(&server("p", rest), Path::new(""));
    assert_eq!(ask(&built[0], "/x").await, "sizelimit |  |  | sizelimit");
    assert!(ask(&built[0], "/there").await.starts_with("{\"versions\""));
}

#[test]
fn a_filter_in_two_pipelines_is_two_and_a_pipeline_of_two_ways_is_one() {
    let rest = r#"
[composite.map]
factory = "urlmap"
"/a" = "p"
"/b" = "p"
"/c" = "q"
[pipeline.p]
pipeline = ["trace", "echo"]
[pipeline.q]
pipeline = ["trace", "echo"]
"#;
    let mut report = Report::default();
    let files = Files::from_text("t.toml", &server("map", rest), Path::new(""), &environment, &mut report);
    let (plan, _) = run(files, "token", &mut report);
    let mut names: Vec<&str> = plan.apps.iter().map(|app| app.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["composite.map", "echo", "pipeline.p", "pipeline.q"]);
}

#[test]
fn descriptions_show_the_line_of_everything_and_no_secret() {
    let rest = r#"max_headers = 50
[composite.map]
factory = "urlmap"
"/" = "versions"
"/v2" = "p"
"/v3" = "p"
[pipeline.p]
pipeline = ["samesite", "marked", "noauth", "limits", "echo"]
[filter.marked]
factory = "trace"
mark = "x${env:SECRET}"
[filter.limits]
factory = "ratelimit"
limits = [
    { verb = "POST", value = 120, unit = "minute" },
    { verb = "DELETE", value = 60, unit = "second" },
]
"#;
    let mut report = Report::default();
    let files = Files::from_text("t.toml", &server("map", rest), Path::new(""), &environment, &mut report);
    let (plan, _) = run(files, "token", &mut report);
    let expected = "\
server main on 127.0.0.1:0                                  t.toml:1
  max_headers = 50                                          t.toml:4
  composite.map                                             t.toml:5
    / → versions                                            defaults
    /v2 → pipeline.p                                        t.toml:10
      samesite                                              defaults
      marked                                                t.toml:12
        mark = \"x${env:SECRET}\"                             t.toml:14
      noauth                                                defaults
      limits                                                t.toml:15
        limits =                                            t.toml:17
          { verb = \"POST\", value = 120, unit = \"minute\" }   t.toml:18
          { verb = \"DELETE\", value = 60, unit = \"second\" }  t.toml:19
      echo                                                  defaults
    /v3 → pipeline.p, as above                              t.toml:10
";
    let found = describe(&plan);
    assert_eq!(found, expected);
    let json = to_json(&plan);
    assert_eq!(json["servers"][0]["settings"]["max_headers"]["from"], "t.toml:4");
    let marked = &json["servers"][0]["app"]["mounts"][1]["app"]["filters"][1];
    assert_eq!(marked["settings"]["mark"]["value"], "x${env:SECRET}");
    assert!(!found.contains("s3cret") && !json.to_string().contains("s3cret"));
}

#[tokio::test]
async fn a_site_changes_its_base_by_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("vendor")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "vendor/base.toml",
        r#"
[default]
mark = "vendor"
[server.main]
listen = "127.0.0.1:0"
app = "v2"
[composite.v2]
factory = "auth_strategy"
token = ["trace", "one", "two", "echo"]
noauth = ["trace", "two", "echo"]
[filter.one]
factory = "samesite"
mark = "${mark} ${here}"
[filter.two]
use = "config:more.toml#filter.more"
[pipeline.other]
pipeline = ["trace", "echo"]
[server.gone]
listen = "127.0.0.1:0"
app = "other"
"#,
    );
    write("vendor/more.toml", "[filter.more]\nfactory = \"samesite\"\nmark = \"more\"\n");
    write(
        "middle.toml",
        "base = \"vendor/base.toml\"\n[[change]]\nin = \"composite.v2\"\nremove = \"trace\"\n\
         [[change]]\nin = \"filter.two\"\nset = { mark = \"middle\" }\n",
    );
    write(
        "site.toml",
        r#"
base = "middle.toml"
[default]
mark = "site"
[[change]]
in = "composite.v2"
list = "token"
insert = ["mine", "faultwrap"]
after = "one"
[[change]]
in = "composite.v2"
list = "token"
insert = "request_id"
before = "one"
[[change]]
in = "composite.v2"
replace = "two"
with = ["two", "last"]
[[change]]
in = "filter.one"
set = { mark = "${mark}" }
[[change]]
in = "server.gone"
drop = true
[filter.mine]
factory = "samesite"
[filter.last]
factory = "samesite"
mark = "${mark} ${here}"
"#,
    );
    let mut report = Report::default();
    let files = Files::read(&folder.path().join("site.toml"), &environment, &mut report);
    let paths = files.as_ref().unwrap().paths().count();
    let (plan, built) = run(files, "token", &mut report);
    assert_eq!((report.render(false).as_str(), paths), ("0 errors, 0 warnings\n", 4));
    assert_eq!((built.len(), plan.servers.len()), (1, 1), "one server was dropped");
    let here = folder.path().canonicalize().unwrap();
    let here = here.display();
    let answer = ask(&built[0], "/x").await;
    let down = format!("request_id site filter.mine faultwrap middle site {here} |");
    assert!(answer.starts_with(&down), "{answer}");
    // What was changed says so.
    let shown = describe(&plan);
    assert!(shown.contains("site.toml:") && shown.contains("vendor/base.toml:"), "{shown}");
}

/// Each setting is credited to the file and line that set it.
#[test]
fn a_site_is_credited_with_what_it_sets() {
    let site = r#"base = "shipped"
[[change]]
in  = "server.api"
set = { listen = "127.0.0.1:9", max_headers = 50 }
[[change]]
in     = "composite.v2"
list   = "token"
insert = "compress"
after  = "trace"
[[change]]
in  = "filter.sizelimit"
set = { max_request_body_size = 5000 }
[[change]]
in  = "composite.api"
set = { "/extra" = "versions" }
"#;
    let mut report = Report::default();
    let files = Files::from_text("site.toml", site, Path::new(""), &environment, &mut report).unwrap();
    let strategy = Strategy { name: "token", place: None, known: true };
    let plan = check(&files, &Catalog::COMPILED_IN, strategy, &mut report);
    assert_eq!(report.errors(), 0, "{}", report.render(false));
    let (shown, json) = (describe(&plan), to_json(&plan).to_string());
    let rows: Vec<(&str, &str)> = shown
        .lines()
        .filter_map(|line| line.trim().rsplit_once("  "))
        .map(|(it, from)| (it.trim(), from))
        .collect();
    let cases = [
        ("server api on 127.0.0.1:9", "site.toml:4"),
        ("max_headers = 50", "site.toml:4"),
        ("compress", "site.toml:8"),
        ("trace", "defaults"),
        ("max_request_body_size = 5000", "site.toml:12"),
        ("/extra → versions", "site.toml:15"),
    ];
    for (row, from) in cases {
        assert!(rows.contains(&(row, from)), "{row} {from}:\n{shown}");
        assert!(from == "defaults" || json.contains(&format!("\"from\":\"{from}\"")), "{from}: {json}");
    }
    let wrong = plan.servers[0].cannot_listen(&std::io::Error::other("taken")).render(false);
    assert!(wrong.contains("site.toml:4:") && !wrong.contains("built in"), "{wrong}");
    let way = plan.way(&plan.servers[0], None, "/v2/demo/clouds");
    let way = crate::paste::way_to_json(&plan.servers[0], &way);
    let compress = way["filters"].as_array().unwrap().iter().find(|it| it["name"] == "compress").unwrap();
    assert_eq!((&compress["from"], &way["server"]["from"]), (&json!("site.toml:8"), &json!("site.toml:4")));
}

#[test]
fn the_shipped_file_can_be_a_base() {
    let mut report = Report::default();
    let site = "base = \"shipped\"\n[[change]]\nin = \"server.api\"\nset = { listen = \"127.0.0.1:9\" }\n\
                [[change]]\nin = \"composite.v2\"\ninsert = \"samesite\"\nafter = \"trace\"\n";
    let folder = Path::new("/etc/pileus");
    let files = Files::from_text("site.toml", site, folder, &environment, &mut report);
    let catalog = &Catalog::COMPILED_IN;
    for strategy in ["token", "noauth"] {
        let strategy = crate::paste::Strategy { name: strategy, place: None, known: true };
        let plan = crate::paste::check(files.as_ref().unwrap(), catalog, strategy, &mut report);
        assert_eq!(report.errors(), 0, "{}", report.render(false));
        let api = plan.servers.iter().find(|server| server.name == "api").unwrap();
        assert_eq!(api.settings.listen.port(), Some(9));
        let names: Vec<_> = plan.way(api, None, "/v2/p/x").filters.iter().map(|it| it.name.clone()).collect();
        let at = names.iter().position(|name| name == "samesite");
        assert_eq!(at, names.iter().position(|name| name == "trace").map(|at| at + 1), "{names:?}");
    }
}

#[test]
fn what_a_key_calls_a_secret_is_not_described() {
    let rest = r#"[default]
pw = "hunter2"
[pipeline.p]
pipeline = ["marked", "echo"]
[filter.marked]
factory = "trace"
password = "hunter3"
admin_password = "${pw}"
some_secret = "x${pw}"
password_file = "shown"
"#;
    let mut report = Report::default();
    let files = Files::from_text("t.toml", &server("p", rest), Path::new(""), &environment, &mut report);
    let (plan, _) = run(files, "token", &mut report);
    // The filter has none of these settings, and says so.
    assert_eq!(report.errors(), 4);
    let said = [describe(&plan), to_json(&plan).to_string(), report.render(false)].concat();
    assert!(!said.contains("hunter"), "{said}");
    for shown in ["password = \"***\"", "admin_password = \"${pw}\"", "some_secret = \"***\"", "\"shown\""] {
        assert!(said.contains(shown), "{shown}: {said}");
    }
}

#[tokio::test]
async fn what_is_timed_and_what_is_not_share_their_filters() {
    let text = "[server.a]\nlisten = \"127.0.0.1:0\"\napp = \"map\"\n[composite.map]\nfactory = \"urlmap\"\n\
                \"/\" = \"p\"\n\"/bare\" = \"versions\"\n[pipeline.p]\npipeline = [\"samesite\", \"noauth\", \"ratelimit\", \
                \"versions\"]\n[filter.noauth]\nfactory = \"noauth\"\nanonymous = \"operator\"\n[filter.ratelimit]\nfactory = \"ratelimit\"\nlimits = [{ verb = \"GET\", value = 3, unit = \"day\" }]\n";
    let mut report = Report::default();
    let files = Files::from_text("test.toml", text, Path::new(""), &environment, &mut report).unwrap();
    let strategy = Strategy { name: "token", place: None, known: true };
    let plan = check(&files, &Catalog::COMPILED_IN, strategy, &mut report);
    let deps = deps();
    let built = build(&plan, &deps, &mut report);
    assert_eq!(report.render(false), "0 errors, 0 warnings\n");
    let ask = |timed: bool, path: &str| {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = path.parse().unwrap();
        let app = if timed { &built[0].timed } else { &built[0].app };
        let answer = app.send(request).ready();
        answer.ok().unwrap().map_or_else(|fault| fault.code().0.as_u16(), |it| it.status().as_u16())
    };
    let asked = [(true, "/x"), (false, "/x"), (true, "/x"), (true, "/x"), (false, "/x"), (true, "/bare")];
    assert_eq!(asked.map(|(timed, path)| ask(timed, path)), [300, 300, 300, 429, 429, 200]);
    let timings = deps.host.metrics.timings();
    let counts = timings.stages.iter().map(|it| (it.pipeline.as_str(), it.stage.as_str(), it.count));
    let expected = [
        ("composite.map", "versions", 1),
        ("pipeline.p", "noauth", 3),
        ("pipeline.p", "ratelimit", 3),
        ("pipeline.p", "samesite", 3),
        ("pipeline.p", "versions", 2),
    ];
    assert_eq!(counts.collect::<Vec<_>>(), expected);
    let whole = &timings.servers[0];
    assert_eq!((whole.pipeline.as_str(), whole.stage.as_str(), whole.count), ("server.a", "a", 4));
    // A pipeline that is built anew, as at a reload, goes on counting; one that is gone has no numbers.
    let again = build(&plan, &deps, &mut report);
    drop(built);
    assert_eq!(deps.host.metrics.timings(), timings);
    drop(again);
    assert_eq!(deps.host.metrics.timings(), Default::default());
}

//! Every bad file stands beside what is said of it.

use std::{env, fs, path::Path};

use super::catalog::{CATALOG, environment, run};
use crate::{
    config::{Config, Known},
    diagnostic::Report,
    paste::{Files, Strategy, check},
};

const FOLDER: &str = "tests/paste";

/// What `pileus check` says of a file. A first line `# auth_strategy = "x"` chooses another one.
fn said_of(path: &Path) -> String {
    let mut report = Report::default();
    let text = fs::read_to_string(path).unwrap_or_default();
    let strategy = text.lines().next().and_then(|line| line.strip_prefix("# auth_strategy = "));
    let strategy = strategy.map_or("token", |word| word.trim_matches('"')).to_owned();
    let files = Files::read(path, &environment, &mut report);
    run(files, &strategy, &mut report);
    report.render(false)
}

#[test]
fn every_bad_file_is_answered_as_expected() {
    let bless = env::var_os("BLESS").is_some();
    let mut names: Vec<_> = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in names.iter().filter(|path| path.extension().is_some_and(|it| it == "toml")) {
        count += 1;
        let (found, expected) = (said_of(path), path.with_extension("stderr"));
        if bless {
            fs::write(&expected, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_else(|_| "(there is no .stderr)\n".into());
        if found != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- found\n{found}", path.display()));
        }
    }
    for path in names.iter().filter(|path| path.extension().is_some_and(|it| it == "stderr")) {
        assert!(path.with_extension("toml").exists(), "{} belongs to no file", path.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 25, "{count}");
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_an_error() {
    let mut report = Report::default();
    assert!(Files::read(Path::new("tests/paste/no-such-file"), &environment, &mut report).is_none());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin1.toml");
    fs::write(&path, b"# \xe9\n").unwrap();
    assert!(Files::read(&path, &environment, &mut report).is_none());
    assert!(Files::read(folder.path(), &environment, &mut report).is_none());
    let text = report.render(false);
    assert!(text.contains("is not UTF-8 from byte 2 on") && text.contains("3 errors"), "{text}");
}

#[test]
fn a_wrong_strategy_is_shown_where_it_was_chosen() {
    let config = "# settings\nauth_strategy = \"tokem\"\n";
    let known = Known { drivers: &["local"], stores: &["sqlite"], extensions: &[] };
    let mut report = Report::default();
    let config = Config::from_text("pileus.toml", config, Path::new(""), &known, &mut report).unwrap();
    let text = "[server.a]\nlisten = \"127.0.0.1:0\"\napp = \"v2\"\n[composite.v2]\n\
                factory = \"auth_strategy\"\ntoken = [\"versions\"]\n";
    let files = Files::from_text("paste.toml", text, Path::new(""), &environment, &mut report).unwrap();
    let strategy = Strategy {
        name: &config.auth_strategy.value,
        place: config.auth_strategy.place.as_ref(),
        known: true,
    };
    check(&files, &CATALOG, strategy, &mut report);
    let expected = "\
error: [composite.v2] has no pipeline for auth_strategy = \"tokem\"
 --> pileus.toml:2:17
  |
2 | auth_strategy = \"tokem\"
  |                 ^^^^^^^
  |
  = help: did you mean `token`? The section stands at paste.toml:4

1 error, 0 warnings
";
    assert_eq!(report.render(false), expected);
}

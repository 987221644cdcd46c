//! The shipped file.

use std::path::Path;

use pileus_sdk::Mount;

use super::catalog::{environment, run_with};
use crate::{
    diagnostic::Report,
    paste::{Catalog, End, Files, SHIPPED, Strategy, check},
};

fn shipped(report: &mut Report) -> Option<Files> {
    Files::from_text("api-paste.toml", SHIPPED, Path::new("."), &environment, report)
}

#[test]
fn it_has_no_mistakes_with_either_strategy() {
    for strategy in ["token", "noauth"] {
        let mut report = Report::default();
        let files = shipped(&mut report).unwrap();
        let plan = check(
            &files,
            &Catalog::COMPILED_IN,
            Strategy { name: strategy, place: None, known: true },
            &mut report,
        );
        assert_eq!(report.render(false), "0 errors, 0 warnings\n", "{strategy}");
        let ends: Vec<_> = plan.servers.iter().map(|it| (it.name.as_str(), plan.end(it.app))).collect();
        let expected = [("api", End::None), ("info", End::None), ("admin", End::Router(Mount::CloudAdmin))];
        assert_eq!(ends, expected);
        assert!(plan.servers.iter().all(|it| it.settings.listen.is_local()));
    }
}

#[test]
fn a_path_has_one_way() {
    let mut report = Report::default();
    let (plan, _) = run_with(&Catalog::COMPILED_IN, shipped(&mut report), "token", &mut report);
    let cases = [
        // server, path, mounted, filters, who answers
        (0, "/v2/p/clouds/a", 3, 9, "app.osapi"),
        (0, "//v2", 4, 3, "version"),
        (0, "/v2/", 3, 3, "version"),
        (0, "//v2/p", 4, 9, "app.osapi"),
        (0, "/v20", 0, 3, "versions"),
        (1, "/clouds", 0, 7, "cloud_status"),
        (1, "/metricsx", 0, 7, "cloud_status"),
        (1, "/metrics", 8, 3, "metrics"),
        (2, "/", 0, 7, "cloud_admin"),
    ];
    for (server, path, mounted, filters, last) in cases {
        let way = plan.way(&plan.servers[server], None, path);
        let answers = way.apps.last().map(|app| app.name.as_str());
        assert_eq!((way.mounted, way.filters.len(), answers), (mounted, filters, Some(last)), "{path}");
    }
}

#[test]
fn the_compiled_in_filters_take_their_settings() {
    let mut report = Report::default();
    let files = shipped(&mut report).unwrap();
    let (_, built) = run_with(&Catalog::COMPILED_IN, Some(files), "token", &mut report);
    assert_eq!((report.render(false).as_str(), built.len()), ("0 errors, 0 warnings\n", 3));
}

/// Keystone has to be named by whoever wants it; nothing stands in its place.
#[test]
fn keystone_needs_its_settings_and_no_more() {
    let mut report = Report::default();
    run_with(&Catalog::COMPILED_IN, shipped(&mut report), "keystone", &mut report);
    let text = report.render(false);
    for missing in ["auth_url", "username", "password", "project_name"] {
        assert!(text.contains(&format!("[authtoken] `{missing}` is missing")), "{text}");
    }
    assert!(text.contains("--> api-paste.toml:") && text.ends_with("4 errors, 0 warnings\n"), "{text}");

    let (before, section) = SHIPPED.split_once("# [filter.authtoken]\n").unwrap();
    let section: String =
        section.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line))).collect();
    let text = format!("{before}[filter.authtoken]\n{section}");
    let mut report = Report::default();
    let secret = |name: &str| (name == "KEYSTONE_PASSWORD").then(|| "hunter2".to_owned());
    let files = Files::from_text("api-paste.toml", &text, Path::new("."), &secret, &mut report);
    let (_, built) = run_with(&Catalog::COMPILED_IN, files, "keystone", &mut report);
    assert_eq!((report.render(false).as_str(), built.len()), ("0 errors, 0 warnings\n", 3));
}

/// Who lets a request go on that nobody sent proves nothing, unless `policy` refuses it below.
#[test]
fn a_delayed_decision_has_to_be_made_below() {
    let listen = |pipeline: &str, delays: bool| {
        format!(
            "[server.main]\nlisten = \"0.0.0.0:0\"\napp = \"p\"\n[pipeline.p]\npipeline = [{pipeline}, \"osapi\"]\n\
             [app.osapi]\nfactory = \"router\"\nroutes = \"tenant\"\n[filter.authtoken]\n\
             auth_url = \"http://127.0.0.1\"\napplication_credential_id = \"i\"\n\
             application_credential_secret = \"s\"\ndelay_auth_decision = {delays}\n"
        )
    };
    let bare = r#""request_id", "samesite", "authtoken", "sizelimit""#;
    let ruled = r#""request_id", "authtoken", "sizelimit", "policy""#;
    for (pipeline, delays, errors) in [(bare, false, 0), (bare, true, 1), (ruled, false, 0), (ruled, true, 0)]
    {
        let text = listen(pipeline, delays);
        let mut report = Report::default();
        let files = Files::from_text("api-paste.toml", &text, Path::new("."), &environment, &mut report);
        run_with(&Catalog::COMPILED_IN, files, "token", &mut report);
        assert_eq!(report.errors(), errors, "{pipeline}, {delays}: {}", report.render(false));
    }
}

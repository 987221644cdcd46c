//! What a section may say.

use super::*;

fn said(text: &str) -> Vec<String> {
    match Settings::read(&Section::from_text("filter.authtoken", text), &Watched::default()) {
        Ok(_) => Vec::new(),
        Err(first) => {
            let mut report = crate::diagnostic::Report::default();
            report.push(first);
            let of = |it: &Diagnostic| format!("{} ({})", it.message, it.help.clone().unwrap_or_default());
            report.sorted().into_iter().map(of).collect()
        }
    }
}

#[test]
fn what_is_missing_or_wrong_is_said_all_at_once() {
    let fine = "auth_url = 'http://k:5000/v3'\nusername = 'u'\npassword = 'p'\nproject_name = 's'\n";
    let credential =
        "auth_url = 'http://k'\napplication_credential_id = 'i'\napplication_credential_secret = 's'\n";
    let with = |more: &str| format!("{fine}{more}\n");
    let cases: [(String, &[&str]); 28] = [
        (fine.into(), &[]),
        (credential.into(), &[]),
        (
            String::new(),
            &[
                "`auth_url` is missing",
                "`username` is missing",
                "`project_name` is missing",
                "`password` is missing",
            ],
        ),
        ("auth_url = []".into(), &["`auth_url` is missing", "`username`", "`project_name`", "`password`"]),
        (fine.replace("'p'", "''"), &["`password` is missing"]),
        (fine.replace("password = 'p'\n", ""), &["or `password_file`"]),
        (fine.replace("'http://k:5000/v3'", "7"), &["expected a URL or a list of URLs, found `7`"]),
        (fine.replace("'http://k:5000/v3'", "['http://k', 'ftp://k', 'k']"), &["is no URL", "is no URL"]),
        (with("insecure = false"), &[]),
        (with("insecure = true"), &["name the authority that signed it: `cafile = "]),
        (with("cafile = '/nowhere/ca.pem'"), &["`cafile`: /nowhere/ca.pem: "]),
        (fine.replace("http://k", "http://me:pw@k"), &["is no URL"]),
        (fine.replace("/v3", "/v2.0"), &["names version 2.0"]),
        (fine.replace("//k", "//[::1]"), &[]),
        (fine.replace(":5000", ""), &[]),
        (fine.replace("5000", "65536"), &["is no URL"]),
        (fine.replace("5000", "0"), &["is no URL"]),
        (with("password_file = 'x'"), &["exclude each other"]),
        (fine.replace("password = 'p'", "password_file = '/nowhere/pw'"), &["/nowhere/pw cannot be read"]),
        (
            with("user_domain_id = 'a'\nuser_domain_name = 'b'"),
            &["`user_domain_id` and `user_domain_name` exclude"],
        ),
        (with("project_domain_id = 'a'"), &[]),
        (with("service_token_roles = []"), &["no service token would be good"]),
        (with("service_token_roles = []\nservice_token_roles_required = false"), &[]),
        (with("token_cache_max_entries = 0"), &["from 1 to"]),
        (with("www_authenticate_uri = 'a\"b'"), &["is no URL"]),
        (with("token_cache_tme = 1"), &["did you mean `token_cache_time`"]),
        (
            credential.replace("application_credential_secret = 's'\n", ""),
            &["`application_credential_secret` is missing"],
        ),
        (format!("{credential}username = 'x'"), &["exclude each other"]),
    ];
    for (text, expected) in cases {
        let found = said(&text);
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        for expected in expected {
            assert!(found.iter().any(|it| it.contains(expected)), "{text}: `{expected}` is not in {found:?}");
        }
    }
}

#[tokio::test]
async fn it_proves_who_it_is_by_a_password_a_file_or_an_application_credential() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pw");
    std::fs::write(&file, "from a file\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let user = |password: &str, domain: Value| {
        json!({ "auth": {
            "identity": { "methods": ["password"], "password": {
                "user": { "name": "svc", "domain": domain, "password": password } } },
            "scope": { "project": { "name": "service", "domain": { "name": "Default" } } },
        } })
    };
    let named = json!({ "name": "Default" });
    let base = "username = 'svc'\nproject_name = 'service'\n";
    let cases = [
        (format!("{base}password = 'said'"), user("said", named.clone())),
        (format!("{base}password_file = '{}'", file.display()), user("from a file", named)),
        (format!("{base}password = 'p'\nuser_domain_id = 'd'"), user("p", json!({ "id": "d" }))),
        (
            "application_credential_id = 'i'\napplication_credential_secret = 's'".into(),
            json!({ "auth": { "identity": {
                "methods": ["application_credential"], "application_credential": { "id": "i", "secret": "s" } } } }),
        ),
    ];
    for (text, expected) in cases {
        let (deps, clock, _) = deps();
        let fake = Fake::start(&clock).await;
        fake.know("t1", "u1", &[]);
        let text = format!("auth_url = 'http://{}/identity/v3/'\n{text}", fake.address);
        let stack = build(KIND, &text, &deps).unwrap().over(Stack::from_fn(creds));
        assert_eq!(status(&stack, "t1").await, 200);
        assert_eq!(fake.state().proof, expected);
    }
}

/// The section that the shipped file shows, once the `# ` before its lines is taken away.
#[test]
fn the_shipped_file_shows_every_setting_with_its_default() {
    let lines = crate::paste::SHIPPED.lines().skip_while(|line| *line != "# [filter.authtoken]").skip(1);
    let shown: Vec<&str> = lines.map_while(|line| line.strip_prefix("# ")).collect();
    let read = |text: &str| {
        let settings = Settings::read(&Section::from_text("filter.authtoken", text), &Watched::default());
        settings.map(|it| format!("{it:?}")).map_err(|it| it.message)
    };
    assert_eq!(read(&shown.join("\n")), read(&shown[..4].join("\n")));
    let unknown = read(&format!("{}\nx = 1", shown.join("\n"))).unwrap_err();
    let known: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
    assert_eq!(known.len(), 24, "{unknown}");
    let text = shown.join("\n").replace("…_secret", "application_credential_secret");
    for setting in known {
        assert!(text.contains(setting), "{setting} is not shown");
    }
}

//! OpenStack's own clients against Pileus: `nova`, `openstack` and openstacksdk, from PyPI
//! (`tests/openstack-clients.sh`), with a real Keystone and with tokens of Pileus.
//!
//! With `PILEUS_REAL=1` they are installed below `target/`, once. Without, the tests are skipped where they were not
//! installed before, and say so.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    keystone::{BY_PASSWORD, Keystone, installed, place},
    support::{Place, QUICK, Server},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openstack-clients.sh");

/// Folder of the clients; `None`: they are not installed, and not asked for.
fn clients() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openstack-clients");
    if std::env::var("PILEUS_REAL").is_ok_and(|it| it == "1") {
        let status = Command::new(SCRIPT).arg(&venv).status().expect("a shell");
        assert!(status.success(), "PILEUS_REAL=1, and the clients cannot be installed");
    }
    if venv.join("ready").exists() {
        return Some(venv);
    }
    eprintln!("skipped: the clients are not installed (tests/openstack-clients.sh {})", venv.display());
    None
}

/// Runs a client to its end: its exit code, and what it wrote to stdout and stderr.
fn run(venv: &Path, home: &Path, program: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(venv.join("bin").join(program));
    // Neither settings nor caches of the user that runs the tests.
    command.env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").current_dir(home).args(args);
    let output = command.output().expect("a client");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What openstacksdk finds, as one line of JSON.
const SDK: &str = "
import json, sys, openstack
compute = openstack.connect(load_yaml_config=False, load_envvars=False, **json.loads(sys.argv[1])).compute
print(json.dumps({
    'instances_used': compute.get_limits().absolute.instances_used,
    'extensions': sorted(it.alias for it in compute.extensions()),
    'clouds': [it['name'] for it in compute.get('/clouds').json()['clouds']],
}))
";

fn sdk(venv: &Path, server: &Server<'_>, home: &Path, settings: &Value) {
    let (code, out, err) = run(venv, home, "python", &["-c", SDK, &settings.to_string()]);
    assert_eq!(code, Some(0), "{err}");
    let found: Value = serde_json::from_str(out.trim()).unwrap_or_else(|error| panic!("{error}: {out}"));
    let extensions = ["aliases", "clouds", "events", "jobs", "policy", "service", "users", "vms"];
    let expected = json!({ "instances_used": 0, "extensions": extensions, "clouds": ["local"] });
    assert_eq!(found, expected, "{} {err}", server.api);
}

#[test]
fn clients_of_openstack_work_with_a_keystone() {
    let (Some(venv), Some(keystone)) = (clients(), installed()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let keystone = Keystone::start(keystone, folder.path());
    let [atlas, services] = ["atlas", "service"].map(|name| {
        keystone.make("project", "/v3/projects", json!({ "name": name, "domain_id": "default" }))
    });
    keystone.user("alice", &atlas, "member");
    keystone.user("svc", &services, "service");
    let place = place(&keystone, BY_PASSWORD);
    let server = place.serve();
    let endpoint = format!("http://{}/v2/{atlas}", server.api);
    let auth = format!("http://127.0.0.1:{}/v3", keystone.port);
    let token = keystone.of("alice", "atlas");
    let common = ["--os-auth-url", &auth, "--os-project-name", "atlas"];
    let password = ["--os-username", "alice", "--os-password", "alice-pw"];
    let rows: [(&str, &[&str], &[&str]); 2] = [
        ("a password", &password, &["--os-endpoint-override", &endpoint]),
        ("a token", &["--os-token", &token], &["--os-endpoint-override", &endpoint]),
    ];
    let nova = |identity: &[&str], to: &[&str], args: &[&str]| {
        let args = [&common[..], identity, to, args].concat();
        run(&venv, folder.path(), "nova", &args)
    };
    for (what, identity, to) in rows {
        let (code, out, err) = nova(identity, to, &["limits"]);
        assert_eq!(code, Some(0), "{what}: {out} {err}");
        assert!(out.contains("| Cores"), "{what}: {out}");
        let (code, out, err) = nova(identity, to, &["version-list"]);
        assert_eq!(code, Some(0), "{what}: {out} {err}");
        assert!(out.contains("| v2.0 ") && out.contains("CURRENT"), "{what}: {out}");
        let (code, _, err) = nova(identity, to, &["--os-compute-api-version", "2.1", "limits"]);
        assert_eq!(code, Some(1), "{what}: {err}");
        assert!(err.contains("doesn't support microversions"), "{what}: {err}");
    }

    // The endpoint stands in the catalogue.
    let service = keystone.make("service", "/v3/services", json!({ "name": "pileus", "type": "compute" }));
    let url = format!("http://{}/v2/$(project_id)s", server.api);
    let endpoint = json!({ "service_id": service, "interface": "public", "url": url });
    keystone.make("endpoint", "/v3/endpoints", endpoint);
    let (code, out, err) = nova(&password, &[], &["limits"]);
    assert_eq!(code, Some(0), "{out} {err}");
    let domains = ["--os-user-domain-id", "default", "--os-project-domain-id", "default"];
    let openstack = |args: &[&str]| {
        run(&venv, folder.path(), "openstack", &[&common[..], &password, &domains, args].concat())
    };
    for (args, part) in [
        (&["limits", "show", "--absolute"][..], "total_instances_used"),
        (&["extension", "list", "--compute"], "Cloud aliases"),
    ] {
        let (code, out, err) = openstack(args);
        assert_eq!(code, Some(0), "{args:?}: {out} {err}");
        assert!(out.contains(part), "{args:?}: {out}");
    }
    let settings = json!({ "auth": {
        "auth_url": auth, "username": "alice", "password": "alice-pw", "project_name": "atlas",
        "user_domain_id": "default", "project_domain_id": "default",
    }});
    sdk(&venv, &server, folder.path(), &settings);
}

#[test]
fn clients_of_openstack_work_with_a_token_of_pileus() {
    let Some(venv) = clients() else { return };
    let place = Place::new(QUICK);
    let server = place.serve();
    let endpoint = format!("http://{}/v2/default", server.api);
    let identity = ["--os-auth-type", "admin_token", "--os-token", &server.token, "--os-endpoint", &endpoint];
    for (args, part) in [
        (&["limits", "show", "--absolute"][..], "total_instances_used"),
        (&["extension", "list", "--compute"], "Cloud aliases"),
    ] {
        let (code, out, err) = run(&venv, place.path(), "openstack", &[&identity[..], args].concat());
        assert_eq!(code, Some(0), "{args:?}: {out} {err}");
        assert!(out.contains(part), "{args:?}: {out}");
    }
    let auth = json!({ "token": server.token, "endpoint": endpoint });
    sdk(&venv, &server, place.path(), &json!({ "auth_type": "admin_token", "auth": auth }));
}

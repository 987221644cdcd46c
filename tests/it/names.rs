//! Control characters in names: 400 on every port, and nothing is changed. Names go into protocols of other
//! programs (a MyProxy account), environments of jobs, and tables of text.

use serde_json::json;

use crate::support::{Place, QUICK, send};

const CONTROLS: [char; 6] = ['\n', '\r', '\0', '\u{1b}', '\u{85}', '\u{2028}'];

#[test]
fn control_characters_in_names_are_refused_on_every_port() {
    let program = "[credentials]\nmyproxy_logon = \"/bin/false\"\nserver = \"localhost\"\n";
    let place = Place::new(&format!("{QUICK}\n{program}"));
    let server = place.serve();
    let before = server.get("/v2/default/events?limit=1000").text;
    let job = |field: &str, value: serde_json::Value| json!({ "job": { "command": ["true"], field: value } });
    let token = |field: &str, value: &str| {
        let mut token = json!({ "name": "t", "user": "u", "project": "p", "roles": ["member"] });
        token[field] = json!(value);
        json!({ "token": token })
    };
    let cloud = |name: &str| {
        let size = json!({ "vm_slots": 1, "cpu_cores": 1, "memory_mib": 64, "storage_gib": 1 });
        let mut cloud = json!({ "name": name, "driver": "local" });
        cloud.as_object_mut().expect("an object").extend(size.as_object().expect("an object").clone());
        json!({ "cloud": cloud })
    };
    let alias = |name: &str, cloud: &str| json!({ "cloud_alias": { "name": name, "clouds": [cloud] } });
    for letter in CONTROLS {
        let name = format!("x{letter}CRED_NAME=other");
        let quoted: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let posts = [
            ("jobs", job("user", json!(name))),
            ("jobs", job("vm_type", json!(name))),
            ("jobs", job("image", json!(name))),
            ("jobs", job("target_clouds", json!([name]))),
            ("tokens", token("name", &name)),
            ("tokens", token("user", &name)),
            ("tokens", token("project", &name)),
            ("clouds", cloud(&name)),
            ("cloud-aliases", alias(&name, "local")),
            ("cloud-aliases", alias("a", &name)),
        ];
        for (collection, body) in posts {
            let reply = server.post(&format!("/v2/default/{collection}"), &body.to_string());
            assert_eq!(reply.status, 400, "{collection} {body}: {}", reply.text);
            let code = format!("U+{:04X}", u32::from(letter));
            assert!(reply.text.contains(&code) || letter == '\0', "{collection} {body}: {}", reply.text);
        }
        let user = format!("/v2/default/users/{quoted}");
        let calls = [
            ("PUT", user.clone(), json!({ "user": { "vm_limit": 1 } })),
            ("POST", format!("{user}/action"), json!({ "refresh": { "proxy": "job_proxy" } })),
            ("POST", format!("/v2/x{quoted}/jobs"), json!({ "job": { "command": ["true"] } })),
        ];
        for (method, path, body) in calls {
            let reply = server.call(method, &path, &body.to_string());
            assert_eq!(reply.status, 400, "{method} {path}: {}", reply.text);
        }
        for way in [format!("/users/{quoted}?refresh=job_proxy"), format!("/users/{quoted}")] {
            let form = if way.contains('?') { "" } else { "refresh=vm_proxy" };
            let reply = server.admin("POST", &way, form);
            assert_eq!(reply.status, 400, "{way}: {}", reply.text);
        }
    }
    // A name that means itself still gets a sentence of the old port.
    let reply = send(server.admin, "POST", "/users/x%20y?refresh=job_proxy", &[], "");
    assert!(reply.status == 200 && reply.text.starts_with("Unable to renew"), "{}", reply.text);
    let after = server.get("/v2/default/events?limit=1000").text;
    assert_eq!(before, after, "nothing was changed");
}

#[test]
fn control_characters_in_names_of_files_are_mistakes() {
    let cases = [
        ("aliases.json", r#"{"a\nb": ["local"]}"#, "cloud_aliases = \"aliases.json\"", "U+000A"),
        ("aliases.json", r#"{"a": ["b\u2028"]}"#, "cloud_aliases = \"aliases.json\"", "U+2028"),
        ("limits.json", r#"{"a\u001b": 1}"#, "user_limits = \"limits.json\"", "U+001B"),
        ("none", "", "[clouds.\"x\\u0085\"]\ndriver = \"local\"\nvm_slots = 1", "control character"),
        ("none", "", "[job_defaults]\nvm_type = \"a\\tb\"", "U+0009"),
        (
            "none",
            "",
            "[credentials]\nserver = \"h\"\n[credentials.users.ada]\naccount = \"a\\nCRED_NAME=b\"",
            "holds a control character",
        ),
    ];
    for (file, text, settings, expected) in cases {
        let place = Place::new(settings);
        place.write(file, text);
        for word in ["check", "serve"] {
            let (status, _, stderr) = place.run(&[word]);
            assert_eq!(status.code(), Some(78), "{word} {settings}: {stderr}");
            assert!(stderr.contains(expected), "{word} {settings}: {stderr}");
        }
    }
}

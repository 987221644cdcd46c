//! Every route with no caller, another project's, and one without the role.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Place, Reply, Server, send};

/// A place whose API takes `user:project` as a token.
fn development() -> Place {
    let place = Place::quick(30);
    let config = fs::read_to_string(place.path().join("pileus.toml")).expect("a file");
    place.write("pileus.toml", &format!("auth_strategy = \"noauth\"\n{config}"));
    place
}

fn by(server: &Server<'_>, who: &str, method: &str, path: &str, body: &str) -> Reply {
    send(server.api, method, path, &[&format!("X-Auth-Token: {who}"), "Content-Type: application/json"], body)
}

#[test]
fn a_project_sees_its_own_and_no_more() {
    let place = development();
    let server = place.serve();
    let job = r#"{"job": {"command": ["sh", "-c", "sleep 30"], "memory_mib": 64}}"#;
    let made = by(&server, "ann:west", "POST", "/v2/west/jobs", job);
    assert_eq!(made.status, 202, "{}", made.text);
    let id = made.json()["job"]["id"].as_str().expect("an id").to_owned();
    let vm = crate::support::await_some("a VM", || {
        let vms = by(&server, "ann:west", "GET", "/v2/west/vms", "");
        vms.json()["vms"][0]["id"].as_str().map(str::to_owned).ok_or(vms.text)
    });
    // What it shows, who, method, path below the caller's own project, body, status.
    let cases = [
        ("own job", "ann:west", "GET", format!("west/jobs/{id}"), "", 200),
        ("own VM", "ann:west", "GET", format!("west/vms/{vm}"), "", 200),
        ("another project's job", "bob:east", "GET", format!("east/jobs/{id}"), "", 404),
        ("another project's output", "bob:east", "GET", format!("east/jobs/{id}/output"), "", 404),
        ("deleting another project's job", "bob:east", "DELETE", format!("east/jobs/{id}"), "", 404),
        ("another project's VM", "bob:east", "GET", format!("east/vms/{vm}"), "", 404),
        (
            "killing another project's VM",
            "bob:east",
            "POST",
            format!("east/vms/{vm}/action"),
            r#"{"shutdown": null}"#,
            404,
        ),
        ("another project in the path", "bob:east", "GET", "west/jobs".to_owned(), "", 400),
        ("all projects without the role", "bob:east", "GET", "east/jobs?all_projects=1".to_owned(), "", 403),
        (
            "a cloud without the role",
            "bob:east",
            "POST",
            "east/clouds/local/action".to_owned(),
            r#"{"disable": null}"#,
            403,
        ),
        (
            "a job as another user",
            "bob:east",
            "POST",
            "east/jobs".to_owned(),
            r#"{"job": {"command": ["true"], "user": "ann"}}"#,
            403,
        ),
        (
            "a limit without the role",
            "bob:east",
            "PUT",
            "east/users/bob".to_owned(),
            r#"{"user": {"vm_limit": 5}}"#,
            403,
        ),
    ];
    for (what, who, method, path, body, status) in cases {
        let reply = by(&server, who, method, &format!("/v2/{path}"), body);
        assert_eq!(reply.status, status, "{what}: {}", reply.text);
    }
    let none = by(&server, "bob:east", "GET", "/v2/east/jobs/detail", "");
    assert_eq!(none.json()["jobs"], json!([]), "{}", none.text);
    let all = by(&server, "admin:ops", "GET", "/v2/ops/jobs?all_projects=1", "");
    assert_eq!(all.json()["jobs"].as_array().map(Vec::len), Some(1), "{}", all.text);
    assert_eq!(by(&server, "ann:west", "GET", &format!("/v2/west/jobs/{id}"), "").status, 200, "still there");
}

/// The rules of `policy.json` against the routes, both ways.
#[test]
fn every_route_has_a_rule_and_every_rule_a_route() {
    let place = Place::quick(1);
    let (status, stdout, stderr) = place.run(&["routes", "--json"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let routes: Value = serde_json::from_str(&stdout).expect("JSON");
    let policy: Value = serde_json::from_str(include_str!("../../policy.json")).expect("JSON");
    let policy = policy.as_object().expect("an object");
    let mut asked = std::collections::BTreeSet::new();
    for route in routes.as_array().expect("a list") {
        let also = route["also"].as_array().into_iter().flatten();
        for rule in also.chain([&route["rule"]]) {
            let rule = rule.as_str().expect("a rule");
            assert!(policy.contains_key(rule), "policy.json has no rule `{rule}` for {route}");
            asked.insert(rule.to_owned());
        }
    }
    let text = include_str!("../../policy.json");
    for rule in policy.keys().filter(|rule| rule.contains(':')) {
        assert!(asked.contains(rule), "policy.json has the rule `{rule}`, which no route asks");
    }
    for rule in policy.keys().filter(|rule| !rule.contains(':') && *rule != "default") {
        assert!(text.contains(&format!("rule:{rule}")), "nobody refers to `{rule}`");
    }
}

/// Reading takes the project, writing a writer or an administrator: in the file and, by the test above, in the code.
#[test]
fn what_changes_something_asks_for_a_writer() {
    let place = Place::quick(1);
    let (_, stdout, _) = place.run(&["routes", "--json"]);
    let routes: Value = serde_json::from_str(&stdout).expect("JSON");
    let policy: Value = serde_json::from_str(include_str!("../../policy.json")).expect("JSON");
    for route in routes.as_array().expect("a list").iter().filter(|route| route["mount"] == "tenant") {
        // It only says what the caller may.
        let reads = route["method"] == "GET" || route["rule"] == "policy:check";
        let expected = [if reads { "rule:member" } else { "rule:writer" }, "rule:admin"];
        let rule = policy[route["rule"].as_str().expect("a rule")].as_str().unwrap_or_default();
        assert!(expected.contains(&rule), "{route}: {rule}");
    }
}

/// Asks every route with no token, a wrong one, and as a member without the administrator's role.
#[test]
fn every_route_refuses_strangers_and_guards_what_changes_clouds() {
    let place = development();
    let server = place.serve();
    let (_, stdout, _) = place.run(&["routes", "--json"]);
    let routes: Value = serde_json::from_str(&stdout).expect("JSON");
    let policy: Value = serde_json::from_str(include_str!("../../policy.json")).expect("JSON");
    let mut asked = 0;
    for route in routes.as_array().expect("a list").iter().filter(|route| route["mount"] == "tenant") {
        let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
        let path = text("path").replace("{project_id}", "east").replace("{id}", "x");
        let path = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
        let path = format!("/v2{}", path.collect::<Vec<_>>().join("/"));
        let body = match text("verb").as_str() {
            "" => String::new(),
            verb => json!({ verb: null }).to_string(),
        };
        let method = text("method");
        let reply = by(&server, "bob:east", &method, &path, &body);
        let admins_alone = policy[text("rule")] == json!("rule:admin");
        assert_eq!(reply.status == 403, admins_alone, "{route}: {} {}", reply.status, reply.text);
        assert!(reply.status < 500, "{route}: {}", reply.text);
        let reply = by(&server, "bob:west", &method, &path, &body);
        assert_eq!(reply.status, 400, "another project: {route}: {}", reply.text);
        asked += 1;
    }
    assert!(asked > 30, "only {asked} routes");
    drop(server);
    // The same with the strategy that wants real tokens.
    let place = Place::quick(1).without_guess_limit();
    let server = place.serve();
    for route in routes.as_array().expect("a list").iter().filter(|route| route["mount"] == "tenant") {
        let path = format!("/v2{}", route["path"].as_str().unwrap_or_default());
        let path = path.replace(['{', '}'], "");
        let method = route["method"].as_str().unwrap_or_default();
        assert_eq!(send(server.api, method, &path, &[], "").status, 401, "{route}");
        assert_eq!(
            send(server.api, method, &path, &["X-Auth-Token: admin:default"], "").status,
            401,
            "{route}"
        );
    }
}

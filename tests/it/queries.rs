//! Queries and bodies that a route does not accept, and lists in pages, over a socket.

use serde_json::{Value, json};

use crate::support::{Place, QUICK, Reply, Server, raw, send};

fn routes(place: &Place) -> Vec<Value> {
    let (status, stdout, stderr) = place.run(&["routes", "--json"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let routes: Value = serde_json::from_str(&stdout).expect("JSON");
    routes.as_array().expect("a list").clone()
}

/// Words that a query parameter of a route accepts.
fn words(route: &Value, name: &str) -> Vec<String> {
    let params = route["query"].as_array().expect("a list").iter();
    let words = params.filter(|param| param["name"] == name).flat_map(|param| param["words"].as_array());
    words.flatten().map(|word| word.as_str().expect("a word").to_owned()).collect()
}

fn path(route: &Value) -> String {
    let path = route["path"].as_str().expect("a path").replace("{project_id}", "default");
    let parts = path.split('/').map(|part| match part {
        "{cloud_id}" => "local",
        part if part.starts_with('{') => "x",
        part => part,
    });
    format!("/v2{}", parts.collect::<Vec<_>>().join("/"))
}

/// A cloud that boots nothing.
fn cloud(name: &str) -> Value {
    json!({ "cloud": {
        "name": name, "driver": "local", "vm_slots": 1, "cpu_cores": 1, "memory_mib": 64, "enabled": false,
    } })
}

/// A place with a cloud that boots nothing, so that jobs stay as they are.
fn quiet() -> Place {
    let place = Place::new(&format!("cloud_aliases = \"aliases.json\"\n{QUICK}enabled = false\n"));
    place.write("aliases.json", r#"{"West": ["alpha"], "East": []}"#);
    place
}

#[test]
fn every_route_of_the_api_refuses_a_parameter_that_it_does_not_read() {
    let place = quiet();
    let server = place.serve();
    let (mut asked, mut ignored) = (0, 0);
    for route in routes(&place) {
        let method = route["method"].as_str().expect("a method");
        let accepted: Vec<_> = route["query"].as_array().expect("a list").iter().collect();
        if route["mount"] != "tenant" {
            // The legacy ports ignore what they do not read, as Cloud Scheduler does.
            if method == "GET" && route["mount"] == "cloud_status" {
                let path = path(&route).trim_start_matches("/v2").to_owned();
                let reply = server.info(&format!("{path}?bogus=1&bogus=2"));
                assert_eq!(reply.status, server.info(&path).status, "{route}: {}", reply.text);
                ignored += 1;
            }
            continue;
        }
        let body = route["verb"].as_str().map(|verb| json!({ verb: null }).to_string()).unwrap_or_default();
        let path = path(&route);
        let reply = server.call(method, &format!("{path}?bogus=1"), &body);
        assert_eq!((reply.status, reply.top().as_str()), (400, "badRequest"), "{route}: {}", reply.text);
        let names = accepted.iter().map(|param| param["name"].as_str().expect("a name"));
        for name in names.chain(["bogus"]) {
            assert!(reply.text.contains(name), "{name}: {}", reply.text);
        }
        for param in accepted {
            let name = param["name"].as_str().expect("a name");
            if matches!(param["values"].as_str(), Some("boolean" | "word" | "words")) {
                let reply = server.call(method, &format!("{path}?{name}=bogus"), &body);
                assert_eq!(reply.status, 400, "{route} {name}: {}", reply.text);
                let known = words(&route, name).into_iter().next().unwrap_or_else(|| "true".into());
                for part in [name, &known, "`bogus`"] {
                    assert!(reply.text.contains(part), "{route} {part}: {}", reply.text);
                }
            }
            if param["repeats"] == false {
                let reply = server.call(method, &format!("{path}?{name}=1&{name}=1"), &body);
                assert_eq!(reply.status, 400, "{route} {name} twice: {}", reply.text);
            }
        }
        asked += 1;
    }
    assert!(asked > 40 && ignored > 15, "{asked} {ignored}");
    // Nova's clients send these.
    for query in ["tenant_id=default&reserved=1", "tenant_id=default", "reserved=0"] {
        assert_eq!(server.get(&format!("/v2/default/limits?{query}")).status, 200, "{query}");
    }
    let other = server.get("/v2/default/limits?tenant_id=west");
    assert!(other.status == 400 && other.text.contains("`west`"), "{}", other.text);
}

fn members(reply: &Reply) -> Vec<Value> {
    let document = reply.json();
    let lists = document.as_object().expect("an object").values().filter_map(Value::as_array);
    lists.max_by_key(|list| list.iter().any(|it| it.get("rel").is_none())).cloned().unwrap_or_default()
}

/// The path and query of the next page.
fn next(reply: &Reply) -> Option<String> {
    let document = reply.json();
    let links = document.as_object()?.iter().find(|(key, _)| key.ends_with("_links"))?.1.clone();
    let href = links[0]["href"].as_str()?.to_owned();
    assert!(href.starts_with("http://"), "{href}");
    Some(format!("/v2/{}", href.split_once("/v2/")?.1))
}

fn all_pages(server: &Server<'_>, first: &str) -> Vec<Value> {
    let (mut path, mut found) = (Some(first.to_owned()), Vec::new());
    while let Some(at) = path.take() {
        let reply = server.get(&at);
        assert_eq!(reply.status, 200, "{at}: {}", reply.text);
        found.extend(members(&reply));
        assert!(found.len() < 1000, "{at}: no end");
        path = next(&reply);
    }
    found
}

#[test]
fn every_list_is_sorted_and_comes_in_pages() {
    let place = quiet();
    let server = place.serve();
    for script in ["a", "b", "c"] {
        server.submit(script);
    }
    for name in ["zeta", "alpha", "[x"] {
        assert_eq!(server.post("/v2/default/clouds", &cloud(name).to_string()).status, 201, "{name}");
    }
    let mut lists = 0;
    for route in routes(&place) {
        let keys = words(&route, "sort_key");
        if keys.is_empty() {
            continue;
        }
        lists += 1;
        let path = path(&route);
        let whole = members(&server.get(&path));
        for key in [None].into_iter().chain(keys.iter().map(Some)) {
            let sort = key.map(|key| format!("&sort_key={key}")).unwrap_or_default();
            let [up, down] = ["asc", "desc"].map(|direction| {
                let in_pages = all_pages(&server, &format!("{path}?limit=1{sort}&sort_dir={direction}"));
                let at_once = members(&server.get(&format!("{path}?sort_dir={direction}{sort}")));
                assert_eq!(in_pages, at_once, "{path} {key:?} {direction}");
                in_pages
            });
            assert_eq!(up.len(), whole.len(), "{path} {key:?}");
            assert!(key.is_some() || up == whole, "{path}: its own order");
            assert!(up.iter().eq(down.iter().rev()), "{path} {key:?}: the other way round");
            // The order is that of the member in the document, where the document has it.
            let values = up.iter().map(|it| key.map_or(&Value::Null, |key| &it[key.as_str()]));
            // A time has no zeros at its end: without the `Z`, the shorter one is the earlier one.
            let texts: Vec<_> =
                values.filter_map(Value::as_str).map(|text| text.trim_end_matches('Z')).collect();
            assert!(texts.is_sorted(), "{path} {key:?}: {texts:?}");
        }
        for (query, status) in [
            ("marker=", 400),
            ("marker=%00", 400),
            ("sort_key=bogus", 400),
            ("sort_dir=up", 400),
            ("limit=-1", 400),
        ] {
            assert_eq!(server.get(&format!("{path}?{query}")).status, status, "{path}?{query}");
        }
    }
    assert!(lists >= 12, "{lists}");
}

/// The page after one whose last member has changed or gone.
#[test]
fn a_next_page_needs_no_member_of_the_page_before() {
    let place = quiet();
    let server = place.serve();
    let ids: Vec<_> = ["a", "b", "c", "d"].map(|script| server.submit(script)).into();
    let act = |id: &str, verb: &str| match verb {
        "delete" => server.call("DELETE", &format!("/v2/default/jobs/{id}"), "").status,
        verb => {
            server.post(&format!("/v2/default/jobs/{id}/action"), &json!({ verb: null }).to_string()).status
        }
    };
    let queries = ["", "&sort_dir=desc", "&sort_key=user", "&sort_key=submitted&sort_dir=desc"];
    for query in queries {
        for verb in ["hold", "delete"] {
            let first = server.get(&format!("/v2/default/jobs?state=new&limit=1&all_projects=0{query}"));
            let seen = members(&first)[0]["id"].as_str().expect("an id").to_owned();
            let rest = all_pages(&server, &next(&first).expect("a next page"));
            if verb == "hold" {
                assert_eq!(act(&seen, verb), 202);
            } else {
                // Only what is there is deleted; the job itself stays readable for a while.
                assert_eq!(act(&seen, verb), 204);
            }
            let link = next(&first).expect("a next page");
            assert!(link.contains("state=new") && link.contains("all_projects=0"), "{link}");
            let after: Vec<_> = all_pages(&server, &link);
            assert_eq!(after, rest, "{query} {verb}");
            if verb == "hold" {
                assert_eq!(act(&seen, "release"), 202);
            } else {
                server.submit("another");
            }
        }
    }
    assert_eq!(ids.len(), 4);
    // The other lists, with a member that goes for good.
    let alias = |name: &str| json!({ "cloud_alias": { "name": name, "clouds": [] } });
    let token = |name: &str| json!({ "token": { "name": name, "user": "u", "project": "p" } });
    let lists = [
        ("clouds", [cloud("b1"), cloud("b2"), cloud("b3")]),
        ("cloud-aliases", [alias("B1"), alias("B2"), alias("B3")]),
        ("tokens", [token("b1"), token("b2"), token("b3")]),
    ];
    for (list, bodies) in lists {
        for body in bodies {
            let made = server.post(&format!("/v2/default/{list}"), &body.to_string());
            assert_eq!(made.status, 201, "{list}: {}", made.text);
        }
        for sort in ["", "&sort_dir=desc", "&sort_key=name&sort_dir=desc"] {
            // The page that ends with the second of the three.
            let mut path = format!("/v2/default/{list}?limit=1{sort}");
            let (name, link) = loop {
                let reply = server.get(&path);
                let name = members(&reply)[0]["name"].as_str().expect("a name").to_owned();
                let link = next(&reply).expect("a next page");
                if name.eq_ignore_ascii_case("b2") {
                    break (name, link);
                }
                path = link;
            };
            let rest = all_pages(&server, &link);
            assert_eq!(
                server.call("DELETE", &format!("/v2/default/{list}/{name}"), "").status,
                204,
                "{list}"
            );
            assert_eq!(all_pages(&server, &link), rest, "{list} {sort}");
            let again = match list {
                "clouds" => cloud("b2"),
                "tokens" => token("b2"),
                _ => alias("B2"),
            };
            assert_eq!(server.post(&format!("/v2/default/{list}"), &again.to_string()).status, 201, "{list}");
        }
        // An id that nothing has is a position like any other.
        assert_eq!(server.get(&format!("/v2/default/{list}?marker=nowhere")).status, 200, "{list}");
    }
}

#[test]
fn a_body_is_plain_json_in_which_no_key_stands_twice() {
    let place = quiet();
    let server = place.serve();
    let id = server.submit("true");
    let action = format!("/v2/default/jobs/{id}/action");
    let job = r#"{"job": {"command": ["true"]}}"#;
    // What it shows, method, path, headers, body, status, part of the answer.
    let cases: &[(&str, &str, &str, &str, &str, u16, &str)] = &[
        ("gzip", "POST", "/v2/default/jobs", "Content-Encoding: gzip", job, 415, "badMediaType"),
        (
            "two codings",
            "POST",
            "/v2/default/jobs",
            "Content-Encoding: identity, br",
            job,
            415,
            "badMediaType",
        ),
        ("an action", "POST", &action, "Content-Encoding: deflate", r#"{"hold": null}"#, 415, "badMediaType"),
        ("identity", "POST", &action, "Content-Encoding: Identity", r#"{"hold": null}"#, 202, ""),
        ("no body", "GET", "/v2/default/jobs", "Content-Encoding: gzip", "", 200, "jobs"),
        (
            "a key twice",
            "POST",
            "/v2/default/jobs",
            "X: y",
            r#"{"job": {"command": ["a"]}, "job": {"command": ["b"]}}"#,
            400,
            "`job` stands twice",
        ),
        (
            "a field twice",
            "POST",
            "/v2/default/jobs",
            "X: y",
            r#"{"job": {"command": ["a"], "command": ["b"]}}"#,
            400,
            "`command` stands twice",
        ),
        (
            "an attribute twice",
            "POST",
            "/v2/default/policy/check",
            "X: y",
            r#"{"check": {"rules": [], "target": {"id": "a", "id": "b"}}}"#,
            400,
            "`id` stands twice",
        ),
        ("an action twice", "POST", &action, "X: y", r#"{"release": null, "release": null}"#, 400, "twice"),
        ("a type of Rust", "POST", "/v2/default/jobs", "X: y", r#"{"job": null}"#, 400, "expected an object"),
        (
            "an array",
            "POST",
            "/v2/default/jobs",
            "X: y",
            "[]",
            400,
            "invalid type: array, expected an object",
        ),
        (
            "an action that is an array",
            "POST",
            &action,
            "X: y",
            "[]",
            400,
            "array, expected an object. An action",
        ),
        (
            "a number of Rust",
            "POST",
            "/v2/default/jobs",
            "X: y",
            r#"{"job": {"command": ["a"], "cpu_cores": -1}}"#,
            400,
            "expected a whole number from 0 to 4294967295",
        ),
    ];
    for (what, method, path, header, body, status, part) in cases {
        let token = format!("X-Auth-Token: {}", server.token);
        let reply = send(server.api, method, path, &[&token, "Content-Type: application/json", header], body);
        assert_eq!(reply.status, *status, "{what}: {}", reply.text);
        assert!(reply.text.contains(part), "{what}: {}", reply.text);
        if *status == 415 {
            assert_eq!(reply.header("accept-encoding"), Some("identity"), "{what}");
        }
    }
    // The legacy port, where the body is a form.
    let form = ["Content-Type: application/x-www-form-urlencoded", "Content-Encoding: gzip"];
    let reply = send(server.admin, "PUT", "/clouds/local", &form, "action=enable");
    assert_eq!(reply.status, 415, "{}", reply.text);
}

#[test]
fn a_name_that_is_a_step_of_a_path_is_not_taken() {
    let place = quiet();
    let server = place.serve();
    for name in [".", ".."] {
        let cases = [
            ("clouds", cloud(name)),
            ("cloud-aliases", json!({ "cloud_alias": { "name": name, "clouds": [] } })),
            ("tokens", json!({ "token": { "name": name, "user": "u", "project": "p" } })),
            ("tokens", json!({ "token": { "name": "n", "user": name, "project": "p" } })),
            ("tokens", json!({ "token": { "name": "n", "user": "u", "project": name } })),
            ("jobs", json!({ "job": { "command": ["true"], "user": name } })),
        ];
        for (list, body) in cases {
            let reply = server.post(&format!("/v2/default/{list}"), &body.to_string());
            assert_eq!((reply.status, reply.top().as_str()), (400, "badRequest"), "{body}: {}", reply.text);
            assert!(reply.text.contains("step of a path"), "{}", reply.text);
        }
        place.write("aliases.json", &json!({ name: [] }).to_string());
        let reply = server.post("/v2/default/cloud-aliases/action", r#"{"reload": null}"#);
        assert_eq!(reply.status, 400, "{}", reply.text);
    }
}

#[test]
fn the_document_of_the_version_needs_no_token() {
    let place = quiet();
    let server = place.serve();
    for path in ["/v2", "/v2/"] {
        let reply = send(server.api, "GET", path, &[], "");
        let version = reply.json()["version"].take();
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        let told = ["id", "version", "min_version"].map(|key| version[key].as_str());
        assert_eq!(told, [Some("v2.0"), Some(""), Some("")], "{path}");
        assert_eq!(version["links"][0]["href"], format!("http://{}/v2/", server.api), "{path}");
        let xml = send(server.api, "GET", path, &["Accept: application/xml"], "");
        assert_eq!((xml.status, xml.header("content-type")), (200, Some("application/xml")), "{path}");
        assert!(xml.text.contains("min_version=\"\""), "{}", xml.text);
        assert_eq!(send(server.api, "POST", path, &[], "").status, 405, "{path}");
    }
    // novaclient looks here first, and then at what is above.
    assert_eq!(server.get("/v2/default").status, 404);
    assert_eq!(send(server.api, "GET", "/v2/default", &[], "").status, 401);
    // The refusal of another project names both.
    let other = server.get("/v2/west/jobs");
    assert_eq!(other.status, 400);
    assert!(other.text.contains("`west`") && other.text.contains("`default`"), "{}", other.text);
}

#[test]
fn events_are_a_stream_for_a_client_that_prefers_one() {
    let place = quiet();
    let server = place.serve();
    let cases = [
        ("Accept: text/event-stream;q=0", "application/json"),
        ("Accept: text/event-stream;q=0.5, application/json", "application/json"),
        ("Accept: text/event-stream, application/json;q=0.5", "text/event-stream"),
        ("Accept: text/event-stream", "text/event-stream"),
        ("Accept: */*", "application/json"),
    ];
    for (accept, media) in cases {
        let reply = if media == "application/json" {
            let token = format!("X-Auth-Token: {}", server.token);
            send(server.api, "GET", "/v2/default/events", &[&token, accept], "")
        } else {
            // A stream ends with the protocol: HTTP/1.0 has no other end, so its head is enough here.
            head(&server, accept)
        };
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(media)), "{accept}");
    }
    // Backwards, in pages.
    let down = all_pages(&server, "/v2/default/events?sort_dir=desc&limit=2&all_projects=1");
    let mut up = all_pages(&server, "/v2/default/events?limit=3&all_projects=1");
    up.reverse();
    assert_eq!(down, up);
    assert_eq!(server.get("/v2/default/events?follow=1&sort_dir=desc").status, 400);
}

/// The head of an answer that has no end.
fn head(server: &Server<'_>, accept: &str) -> Reply {
    let request = format!(
        "HEAD /v2/default/events HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {}\r\n{accept}\r\nConnection: close\r\n\r\n",
        server.token
    );
    raw(server.api, request.as_bytes()).expect("an answer")
}

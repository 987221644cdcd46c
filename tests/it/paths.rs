//! Spellings of one path: every stage sees the same one. Source: RFC 3986 §6.2.2.

use serde_json::{Value, json};

use crate::support::{Place, Reply, Server, send};

const CLOUDS: &str = "/v2/default/clouds";

/// Spelling, and the normal form of its path.
const OF_CLOUDS: [(&str, &str); 9] = [
    ("/v2/default/clouds", CLOUDS),
    ("/v2/default/%63louds", CLOUDS),
    ("/v2/defaul%74/clouds", CLOUDS),
    ("/%762/default/clouds", CLOUDS),
    ("/v2/%64%65%66%61%75%6C%74/cloud%73?limit=5", CLOUDS),
    ("//v2/default/clouds", CLOUDS),
    ("///v%32/default/clouds", CLOUDS),
    ("/v2/default/clouds?limit=5&sort_dir=asc", CLOUDS),
    ("/v2/default/clouds/%6C%6Fcal", "/v2/default/clouds/local"),
];

fn place() -> Place {
    let place = Place::quick(1);
    let paste = std::fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    let limits = "limits = [
    { verb = \"GET\", regex = \"^/v2/default/clouds\", value = 1000, unit = \"day\", name = \"outer\" },
    { verb = \"GET\", regex = \"^/clouds\", value = 1000, unit = \"day\", name = \"inner\" },
    { verb = \"GET\", path = \"/{project_id}/vms\", value = 1, unit = \"day\", name = \"route\" },";
    assert!(paste.contains("\nlimits = ["));
    place.write("api-paste.toml", &paste.replacen("limits = [", limits, 1));
    let mut policy: Value = serde_json::from_str(include_str!("../../policy.json")).expect("JSON");
    policy["cloud-aliases:show"] = json!("'a/bc':%(id)s");
    place.write("policy.json", &policy.to_string());
    place
}

fn call(server: &Server<'_>, method: &str, path: &str) -> Reply {
    server.call(method, path, "")
}

/// How often each limit by regex can be used still.
fn left(reply: &Reply) -> Vec<u32> {
    let text = reply.header("ratelimit").unwrap_or_default();
    let rest = text.split(";r=").skip(1);
    rest.filter_map(|it| it.split([';', ',']).next()?.parse().ok()).collect()
}

#[test]
fn one_path_for_the_router_limits_rules_and_the_log() {
    let place = place();
    let server = place.serve();
    let mut uses = 0;
    for (path, _) in OF_CLOUDS {
        for method in ["GET", "HEAD"] {
            let reply = call(&server, method, path);
            assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
            uses += 1;
            let rest = 1000 - uses;
            assert_eq!(left(&reply), [rest, rest], "{method} {path}: {:?}", reply.headers);
        }
    }
    // A limit for a route is used up by any of its spellings.
    assert_eq!(call(&server, "GET", "/v2/default/vm%73").status, 200);
    for path in ["/v2/default/vms", "/v2/default/%76ms", "//v2/default/vms", "/v2/defaul%74/vms?limit=1"] {
        for method in ["GET", "HEAD"] {
            assert_eq!(call(&server, method, path).status, 429, "{method} {path}");
        }
    }
    // Routes: literal segments and parameters. An encoded slash is data, and nothing is decoded twice.
    let put = server
        .post("/v2/default/cloud%2Daliases", r#"{"cloud_alias": {"name": "a/bc", "clouds": ["local"]}}"#);
    assert!(put.status < 300, "{}", put.text);
    let routes = [
        ("GET", "/v2/default/cloud%2Daliases", 200),
        ("GET", "/v2/default/cloud%2daliases", 200),
        ("GET", "/v2/default/cloud-aliases/a%2fbc", 200), // the rule sees `a/bc`
        ("GET", "/v2/default/cloud-aliases/%61%2F%62%63", 200),
        ("GET", "/v2/default/cloud-aliases/a%252Fbc", 403),
        ("GET", "/v2/default/cloud-aliases/other", 403),
        ("GET", "/v2/default/cloud-aliases/a/bc", 404),
        ("GET", "/v2/othe%72/clouds", 400), // another project, however it is spelled
        ("GET", "/v2/default/clouds/n%6Fpe", 404),
        ("GET", "/v2/default%2Fclouds", 404),
        ("GET", "/v2%2Fdefault/clouds", 300), // no mount: the list of versions
        ("GET", "/he%61lthcheck", 200),
        ("GET", "//healthcheck", 200),
        ("HEAD", "/%68ealthcheck", 204),
        // An empty segment is none of a route's.
        ("GET", "/v2/default//clouds", 404),
        ("GET", "/v2/default/clouds/", 404),
    ];
    for (method, path, status) in routes {
        let reply = call(&server, method, path);
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
    }
    let shown = call(&server, "GET", "/v2/default/cloud-aliases/%61%2fbc").json();
    let link = shown["cloud_alias"]["links"][0]["href"].as_str().expect("a link").to_owned();
    assert!(link.ends_with("/v2/default/cloud-aliases/a%2Fbc"), "{link}");
    let (_, log) = server.stop();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("request answered")).collect();
    for (path, normal) in OF_CLOUDS {
        assert!(lines.iter().any(|line| line.contains(normal)), "{path} in {log}");
    }
    for spelled in ["%63louds", "defaul%74", "//v2", "%2f", "%2D", "%6C"] {
        assert!(!lines.iter().any(|line| line.contains(spelled)), "{spelled} in {log}");
    }
}

#[test]
fn paths_that_others_may_read_otherwise_are_refused_on_every_port() {
    let place = Place::quick(1);
    let server = place.serve();
    let refused = [
        "/v2/default/..",
        "/v2/./default/clouds",
        "/v2/default/clouds/../vms",
        "/v2/default/clouds/%2e%2E",
        "/v2/default/clouds/%2e",
        "/healthcheck/..",
        "/..",
        "/v2/default/clouds/%zz",
        "/v2/default/clouds/a%4",
        "/%",
    ];
    for path in refused {
        for port in [server.api, server.info, server.admin] {
            for method in ["GET", "POST", "DELETE"] {
                let reply = send(port, method, path, &[&format!("X-Auth-Token: {}", server.token)], "");
                assert_eq!((reply.status, reply.top().as_str()), (400, "badRequest"), "{method} {path}");
                let message = reply.json()["badRequest"]["message"].as_str().unwrap_or_default().to_owned();
                assert!(message.contains("path"), "{path}: {message}");
            }
        }
    }
    let fine = ["/v2/default/clouds/.a", "/v2/default/clouds/..%2Fa", "/v2/default/clouds/a%252e"];
    for path in fine {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}

#[test]
fn the_old_ports_and_explain_see_the_same_path() {
    let place = Place::quick(1);
    let server = place.serve();
    let plain = server.info("/clusters/local");
    assert_eq!(plain.status, 200, "{}", plain.text);
    for path in ["/cluster%73/local", "/%63lusters/lo%63al", "/clusters/loc%61l"] {
        let reply = server.info(path);
        assert_eq!((reply.status, &reply.text), (200, &plain.text), "{path}");
    }
    for path in ["/clusters.json", "/clusters%2Ejson", "/cluster%73.json"] {
        let reply = server.info(path);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{path}");
    }
    assert_eq!(server.info("/metric%73").status, 200);
    assert_eq!(server.admin("PUT", "/cloud%73/loc%61l?action=disable", "").status, 200);
    assert_eq!(server.get("/v2/default/clouds/local").json()["cloud"]["enabled"], json!(false));

    for (path, normal) in OF_CLOUDS.into_iter().filter(|(path, _)| !path.starts_with("//")) {
        let (status, text, stderr) = place.run(&["explain", "GET", path]);
        assert_eq!(status.code(), Some(0), "{path}: {text}{stderr}");
        assert!(text.starts_with(&format!("GET {normal}\n")), "{path}: {text}");
        assert!(text.contains("route    GET /{project_id}/clouds"), "{path}: {text}");
    }
    for (path, says) in [("/v2/a/../b", "400 Bad Request: No segment"), ("/%", "400 Bad Request: A percent")]
    {
        let (status, text, stderr) = place.run(&["explain", "GET", path]);
        assert_eq!((status.code(), text.as_str()), (Some(1), ""), "{path}");
        assert!(stderr.contains(says), "{path}: {stderr}");
    }
}

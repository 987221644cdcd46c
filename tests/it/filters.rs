//! Filters that the shipped pipelines do not have, on the wire: all of them in one pipeline.

use std::fs;

use serde_json::json;

use crate::support::{Place, Reply, Server, await_some, raw, send};

/// The shipped pipelines, and in the one with tokens every filter at the place that the file says.
fn place() -> Place {
    let place = Place::quick(1);
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    let all = paste.lines().find_map(|line| line.strip_prefix("#   token = ")).expect("all of them");
    let line = paste.lines().find(|line| line.starts_with("token ")).expect("a pipeline");
    let paste = paste.replacen(line, &format!("token = {all}"), 1);
    let closed = place.path().join("closed").display().to_string();
    let off = place.path().join("off").display().to_string();
    let sections = format!(
        "
[filter.http_proxy_to_wsgi]
trusted_proxies = [\"127.0.0.1\"]

[filter.cors]
allowed_origin = [\"https://dashboard.example.org\"]

[filter.maintenance]
file          = {closed:?}
methods       = [\"GET\"]
retry_after_s = 7

[app.healthcheck]
backends             = [\"disable_by_file\"]
disable_by_file_path = {off:?}
"
    );
    place.write("api-paste.toml", &(paste + &sections));
    place
}

fn get(server: &Server<'_>, path: &str, headers: &[&str]) -> Reply {
    let token = format!("X-Auth-Token: {}", server.token);
    send(server.api, "GET", path, &[&[&*token], headers].concat(), "")
}

#[test]
fn all_filters_together() {
    let place = place();
    let server = place.serve();
    let clouds = "/v2/default/clouds";

    // What is written in a browser's question needs no token.
    let asks = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let headers =
            [&*origin, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-auth-token"];
        send(server.api, "OPTIONS", clouds, &headers, "")
    };
    let (ours, foreign) = (asks("https://dashboard.example.org"), asks("https://evil.example"));
    assert_eq!((ours.status, foreign.status), (204, 204));
    assert_eq!(ours.header("access-control-allow-origin"), Some("https://dashboard.example.org"));
    assert!(!foreign.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{foreign:?}");
    assert!(ours.header("x-compute-request-id").is_some());
    let refused = send(server.api, "GET", clouds, &["Origin: https://dashboard.example.org"], "");
    assert_eq!((refused.status, refused.top().as_str()), (401, "unauthorized"));
    assert!(refused.header("access-control-allow-origin").is_some(), "a page can read why");

    // Links begin as the proxy's client called us; the proxy is this test.
    let proxied = [
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: cloud.example.org",
        "X-Forwarded-Prefix: /compute",
    ];
    let reply = get(&server, clouds, &proxied);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let link = reply.json()["clouds"][0]["links"][0]["href"].as_str().expect("a link").to_owned();
    assert_eq!(link, "https://cloud.example.org/compute/v2/default/clouds/local");

    let broken = get(&server, clouds, &["X-Forwarded-For: \"x, 203.0.113.9, nobody"]);
    assert_eq!((broken.status, broken.top().as_str()), (400, "badRequest"), "{}", broken.text);

    // What a client has is not sent again; what is long is sent in gzip, with a tag of its own.
    let first = get(&server, "/v2/default/extensions", &[]);
    let tag = first.header("etag").expect("a tag").to_owned();
    let again = get(&server, "/v2/default/extensions", &[&format!("If-None-Match: {tag}")]);
    assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", Some(&*tag)));
    assert_eq!(again.header("content-type"), None);
    let packed = get(&server, "/v2/default/extensions", &["Accept-Encoding: gzip"]);
    assert_eq!(
        (packed.status, packed.header("content-encoding")),
        (200, Some("gzip")),
        "{:?}",
        packed.headers
    );
    let packed_tag = packed.header("etag").expect("a tag").to_owned();
    assert_eq!(packed_tag, format!("{}-gzip\"", tag.trim_end_matches('"')));
    let length =
        |reply: &Reply| reply.header("content-length").expect("a length").parse::<usize>().expect("a number");
    assert!(length(&packed) < length(&first) / 2);
    assert!(packed.headers.iter().any(|(name, value)| name == "vary" && value == "accept-encoding"));
    let metadata = |reply: &Reply| -> Vec<(String, String)> {
        let names = ["etag", "vary", "cache-control"];
        let known = reply.headers.iter().filter(|(name, _)| names.contains(&name.as_str()));
        let mut known: Vec<_> = known.cloned().collect();
        known.sort();
        known
    };
    let condition = format!("If-None-Match: {packed_tag}");
    let again = get(&server, "/v2/default/extensions", &[&condition, "Accept-Encoding: gzip"]);
    assert_eq!((again.status, metadata(&again)), (304, metadata(&packed)));
    assert_eq!(packed.header("cache-control"), Some("private, no-cache"));
    assert_eq!(get(&server, "/v2/default/extensions", &[&condition]).status, 200, "of another coding");

    // A change that was meant for another state is not made.
    let token = format!("X-Auth-Token: {}", server.token);
    let alias = r#"{"cloud_alias": {"name": "west", "clouds": ["local"]}}"#;
    let made = server.post("/v2/default/cloud-aliases", alias);
    assert!(made.status < 300, "{}", made.text);
    let path = "/v2/default/cloud-aliases/west";
    let tag = get(&server, path, &[]).header("etag").expect("a tag").to_owned();
    let of_gzip = format!("{}-gzip\"", tag.trim_end_matches('"'));
    for (tag, status) in [("\"other\"", 412), (&*of_gzip, 204), (&*tag, 412)] {
        let reply = send(server.api, "DELETE", path, &[&token, &format!("If-Match: {tag}")], "");
        assert_eq!(reply.status, status, "{tag}: {}", reply.text);
    }

    // What is limited says what is left, and the document says so too.
    let reply = server.post("/v2/default/cloud-aliases", "{}");
    assert_eq!(reply.status, 400, "{}", reply.text);
    let left = |reply: &Reply| {
        let left = reply.header("ratelimit")?.strip_prefix("\"POST * minute\";r=")?.split(';').next()?;
        left.parse::<u32>().ok()
    };
    assert!(left(&reply).is_some_and(|left| (110..120).contains(&left)), "a fault says it, too: {reply:?}");
    let reply = server.post("/v2/default/cloud-aliases", alias);
    assert_eq!(reply.header("ratelimit-policy"), Some("\"POST * minute\";q=120;w=60"), "{}", reply.text);
    assert!(
        reply.header("ratelimit").is_some_and(|it| it.starts_with("\"POST * minute\";r=11")),
        "{reply:?}"
    );
    assert_eq!(get(&server, clouds, &[]).header("ratelimit"), None);
    let limits = get(&server, "/v2/default/limits", &[]).json()["limits"].clone();
    assert_eq!(limits["rate"][0]["limit"][0]["verb"], "POST");
    assert_eq!(limits["absolute"]["totalCoresUsed"], json!(0));

    // Load balancers, and who closes the service, do so by files.
    let health = |accept: &str| send(server.api, "GET", "/healthcheck", &[&format!("Accept: {accept}")], "");
    assert_eq!((health("*/*").status, health("*/*").text), (200, "OK".to_owned()));
    assert_eq!(send(server.api, "HEAD", "/healthcheck", &[], "").status, 204);
    place.write("off", "");
    let json = health("application/json");
    assert_eq!((json.status, json.json()["reasons"].clone()), (503, json!(["DISABLED BY FILE"])));
    assert_eq!(send(server.api, "POST", "/healthcheck", &[], "").status, 405);
    place.write("closed", "Back at noon.\n");
    await_some("the service to be closed", || {
        let reply = server.post("/v2/default/jobs", "{}");
        if reply.status == 503 { Ok(reply) } else { Err(reply.text) }
    });
    let closed = server.post("/v2/default/jobs", "{}");
    let expected =
        json!({ "serviceUnavailable": { "code": 503, "message": "Back at noon.", "retryAfter": "7" } });
    assert_eq!((closed.json(), closed.header("retry-after")), (expected, Some("7")));
    assert_eq!(get(&server, clouds, &[]).status, 200, "reading goes on");
    let (_, log) = server.stop();
    assert!(log.contains("203.0.113.9"), "the client is in the access log: {log}");
}

/// What it shows, path, `Accept`, status, the body's beginning.
#[test]
fn refusals_are_in_the_form_that_was_asked_for() {
    let place = Place::quick(1);
    let server = place.serve();
    let xmlns = "xmlns=\"http://docs.openstack.org/compute/api/v1.1\"";
    let missing = "<message>Cloud nope could not be found.</message>";
    let missing = format!("<itemNotFound code=\"404\" {xmlns}>{missing}</itemNotFound>");
    let cases = [
        ("JSON", "/v2/default/clouds/nope", "*/*", 404, "{\"itemNotFound\""),
        ("XML", "/v2/default/clouds/nope", "application/xml", 404, &*missing),
        (
            "a vendor's type",
            "/v2/default/clouds/nope",
            "application/vnd.openstack.compute+xml",
            404,
            &*missing,
        ),
        ("rather XML", "/v2/default/clouds/nope", "application/json;q=0.5, application/xml", 404, &*missing),
        ("rather JSON", "/v2/default/clouds/nope", "application/json, application/xml;q=0.9", 404, "{"),
        ("a tie", "/v2/default/clouds/nope", "application/xml, application/json", 404, "{"),
        ("a wildcard", "/v2/default/clouds/nope", "application/xml;q=0.1, application/*;q=0.2", 404, "{"),
        ("nothing that we have", "/v2/default/clouds/nope", "image/png", 404, "{"),
        ("no route", "/v2/default/nope.xml", "*/*", 404, "<itemNotFound code=\"404\""),
        (
            "choices",
            "/images/1",
            "application/xml",
            300,
            "<?xml version='1.0' encoding='UTF-8'?>\n<choices xmlns=",
        ),
        ("versions", "/", "application/xml", 200, "<?xml version='1.0' encoding='UTF-8'?>\n<versions xmlns="),
    ];
    for (what, path, accept, status, begins) in cases {
        let reply = get(&server, path, &[&format!("Accept: {accept}")]);
        assert_eq!(reply.status, status, "{what}: {}", reply.text);
        assert!(reply.text.starts_with(begins), "{what}: {}", reply.text);
        let media = if begins.starts_with('<') { "application/xml" } else { "application/json" };
        assert_eq!(reply.header("content-type"), Some(media), "{what}");
        assert!(reply.header("x-compute-request-id").is_some(), "{what}");
    }
    let stranger = send(server.api, "GET", "/v2/default/clouds", &["Accept: application/xml"], "");
    assert!(stranger.text.starts_with("<unauthorized code=\"401\""), "{}", stranger.text);
    // A fault that the edge itself writes.
    let tunnel = raw(
        server.api,
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: application/xml\r\n\r\n",
    )
    .expect("an answer");
    assert!(tunnel.text.starts_with("<badMethod code=\"405\""), "{}", tunnel.text);
    // The old ports write what they always wrote.
    let old = send(server.info, "GET", "/nope", &["Accept: application/xml"], "");
    assert_eq!((old.status, old.text.as_str()), (404, "not found"));
}

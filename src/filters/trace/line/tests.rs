use std::{net::SocketAddr, sync::Arc};

use pileus_sdk::{Body, Caller, Connection, Context, RequestId};
use serde_json::{Value, json};

use super::*;
use crate::filters::testing;

const ID: &str = "req-0a1b2c3d-0000-4000-8000-abcdefabcdef";

fn request(uri: &str, agent: &[u8]) -> Request {
    let request = http::Request::builder().uri(uri).header("user-agent", agent);
    let mut context = Context::new(SocketAddr::from(([192, 0, 2, 1], 4711)));
    context.request_id = RequestId::new("req-1");
    Request::with(request.body(Body::Empty).unwrap(), context)
}

fn caller(user: &str) -> Arc<Caller> {
    Arc::new(Caller::new(user.into(), "p1".into(), Vec::new(), false))
}

fn line(format: Format, request: &Request, seen: &Seen, outcome: &Outcome) -> String {
    let mut text = String::new();
    Line::of(format, request).finish(seen, outcome, |line| text = String::from_utf8(line.to_vec()).unwrap());
    text
}

const OK: Outcome =
    Outcome { status: Some(StatusCode::OK), bytes: 5, end_us: 1_311_272_226_000_042, duration_us: 1_234_567 };

#[test]
fn a_line_in_every_format() {
    let mut full = testing::matched(request("/v2/p1/clouds/west?token=secret", b"curl/8.5"), "clouds:show");
    full.headers_mut().insert("x-openstack-request-id", ID.parse().unwrap());
    let context = full.context_mut();
    context.connection = Some(Arc::new(Connection {
        listener: "api".into(),
        client_cert: Some("CN=ann,O=x".into()),
        ..Connection::default()
    }));
    let seen = Seen::default();
    drop(seen.caller.set(caller("ann")));
    drop(seen.route.set(context.matched.clone().unwrap().route));
    let bare = Request::with(http::Request::new(Body::Empty), Context::new(Peer::Unix(Some(7))));
    let gone = Outcome { status: None, ..OK };
    let nothing = Seen::default();
    let cases = [
        (
            Format::Text,
            &full,
            &seen,
            OK,
            "2011-07-21T18:17:06.000042Z  INFO access: request answered \
            request.id=\"req-1\" request.global_id=\"req-0a1b2c3d-0000-4000-8000-abcdefabcdef\" method=\"GET\" \
            path=\"/v2/p1/clouds/west\" protocol=\"HTTP/1.1\" listener=\"api\" peer=192.0.2.1:4711 \
            user_agent=\"curl/8.5\" client_cert=\"CN=ann,O=x\" route=\"/{project_id}/clouds/{id}\" status=200 \
            duration_us=1234567 bytes=5 user.id=\"ann\" project.id=\"p1\"\n",
        ),
        (
            Format::Text,
            &bare,
            &nothing,
            gone,
            "2011-07-21T18:17:06.000042Z  INFO access: request abandoned \
            request.id=\"\" method=\"GET\" path=\"/\" protocol=\"HTTP/1.1\" peer=unix:uid=7 duration_us=1234567\n",
        ),
        (
            Format::Common,
            &full,
            &seen,
            OK,
            "192.0.2.1 - ann [21/Jul/2011:18:17:06 +0000] \
            \"GET /v2/p1/clouds/west HTTP/1.1\" 200 5\n",
        ),
        (
            Format::Combined,
            &full,
            &seen,
            OK,
            "192.0.2.1 - ann [21/Jul/2011:18:17:06 +0000] \
            \"GET /v2/p1/clouds/west HTTP/1.1\" 200 5 \"-\" \"curl/8.5\"\n",
        ),
        (
            Format::Combined,
            &bare,
            &nothing,
            gone,
            "unix:uid=7 - - [21/Jul/2011:18:17:06 +0000] \
            \"GET / HTTP/1.1\" 499 5 \"-\" \"-\"\n",
        ),
    ];
    for (format, request, seen, outcome, expected) in cases {
        assert_eq!(line(format, request, seen, &outcome), expected, "{format:?}");
    }
    let json: Value = serde_json::from_str(&line(Format::Json, &full, &seen, &OK)).unwrap();
    assert_eq!(
        json,
        json!({
            "timestamp": "2011-07-21T18:17:06.000042Z", "level": "INFO", "target": "access",
            "fields": {
                "message": "request answered", "request.id": "req-1", "request.global_id": ID, "method": "GET",
                "path": "/v2/p1/clouds/west", "protocol": "HTTP/1.1", "listener": "api",
                "peer": "192.0.2.1:4711", "user_agent": "curl/8.5", "client_cert": "CN=ann,O=x",
                "route": "/{project_id}/clouds/{id}", "status": 200, "duration_us": 1_234_567, "bytes": 5,
                "user.id": "ann", "project.id": "p1",
            },
        })
    );
    let json: Value = serde_json::from_str(&line(Format::Json, &bare, &nothing, &gone)).unwrap();
    assert_eq!(json["fields"]["message"], "request abandoned");
    assert_eq!((&json["fields"]["peer"], &json["fields"]["status"]), (&json!("unix:uid=7"), &Value::Null));
}

#[test]
fn what_others_chose_is_escaped() {
    // What stands in the text, in JSON (read again), and in the other formats.
    let cases: [(&[u8], &str, &str, &str); 7] = [
        (b"a\" status=999 x=\"", r#"a\" status=999 x=\""#, "a\" status=999 x=\"", r"a\x22 status=999 x=\x22"),
        (b"a\\", r"a\\", r"a\", r"a\x5C"),
        (b"a\tb", r"a\tb", "a\tb", r"a\x09b"),
        ("w\u{e9}\u{4e16}".as_bytes(), "w\u{e9}\u{4e16}", "w\u{e9}\u{4e16}", r"w\xC3\xA9\xE4\xB8\x96"),
        (b"a\xff\xfeb", r"a\xFF\xFEb", "a\u{fffd}\u{fffd}b", r"a\xFF\xFEb"),
        (
            "a\u{9b}31m\u{202e}".as_bytes(),
            r"a\u{9b}31m\u{202e}",
            "a\u{9b}31m\u{202e}",
            r"a\xC2\x9B31m\xE2\x80\xAE",
        ),
        (b"plain/1.0 (x; y)", "plain/1.0 (x; y)", "plain/1.0 (x; y)", "plain/1.0 (x; y)"),
    ];
    for (agent, text, json, ncsa) in cases {
        let request = request("/", agent);
        let seen = Seen::default();
        let found = line(Format::Text, &request, &seen, &OK);
        assert!(
            found.contains(&format!(" user_agent=\"{text}\" duration"))
                || found.contains(&format!(" user_agent=\"{text}\" status=200")),
            "{found}"
        );
        assert_eq!(found.matches('\n').count(), 1, "{found}");
        let found: Value = serde_json::from_str(&line(Format::Json, &request, &seen, &OK)).unwrap();
        assert_eq!(found["fields"]["user_agent"], json);
        let found = line(Format::Combined, &request, &seen, &OK);
        assert!(found.ends_with(&format!("\"-\" \"{ncsa}\"\n")), "{found}");
    }
    // Not only what HTTP lets pass.
    let seen = Seen::default();
    drop(seen.caller.set(caller("eve\n2011 mallory")));
    let request = request("/", b"-");
    assert!(line(Format::Text, &request, &seen, &OK).contains(r#"user.id="eve\n2011 mallory""#));
    assert!(line(Format::Common, &request, &seen, &OK).starts_with(r"192.0.2.1 - eve\x0A2011_mallory ["));
    assert!(line(Format::Json, &request, &seen, &OK).contains(r#""user.id":"eve\n2011 mallory""#));
}

#[test]
fn numbers_and_addresses_are_as_the_library_has_them() {
    for it in [0, 7, 10, 99, 100, 65_535, 1_000_000, u64::MAX] {
        let mut out = Vec::new();
        number(&mut out, it);
        assert_eq!(String::from_utf8(out).unwrap(), it.to_string());
    }
    for text in ["192.0.2.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[2001:db8::1]:443"] {
        let mut out = Vec::new();
        peer(&mut out, &Peer::Address(text.parse().unwrap()));
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

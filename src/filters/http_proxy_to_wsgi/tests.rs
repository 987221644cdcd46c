use http::Method;
use pileus_sdk::{Body, Fault, Response};

use super::*;
use crate::filters::testing::{build, deps, over, request};

/// Answers with what is known of the request: peer, scheme, host, mount, path, and how many headers of
/// proxies are left.
async fn app(request: Request) -> Result<Response, Fault> {
    let context = request.context();
    let scheme = if context.secure { "https" } else { "http" };
    let host = request.uri().authority().map(|it| it.as_str().to_owned());
    let host = host.or_else(|| Some(request.headers().get("host")?.to_str().ok()?.to_owned()));
    let (mounted, path) = request.uri().path().split_at(context.mounted as usize);
    let left = request.headers().keys().filter(|name| is_forwarded(name)).count();
    let text = format!("{} {scheme}://{}{mounted}|{path} {left}", context.peer, host.unwrap_or_default());
    Ok(Response::new(Body::from(text)))
}

async fn seen(settings: &str, headers: &[(&str, &str)], target: &str) -> String {
    let (deps, ..) = deps();
    let stack = over(KIND, settings, &deps, app);
    let mut all = vec![("host", "inner:8774")];
    all.extend(headers);
    let response = match stack.send(request(Method::GET, target, &all)).await {
        Ok(response) => response,
        Err(fault) => return format!("{} {fault}", fault.code().0.as_u16()),
    };
    String::from_utf8(response.into_body().bytes().unwrap().to_vec()).unwrap()
}

/// The peer is 192.0.2.1:4711.
const NEAR: &str = "trusted_proxies = ['192.0.2.1']";
const BOTH: &str = "trusted_proxies = ['192.0.2.0/24', '10.0.0.0/8']";

#[tokio::test]
async fn x_forwarded_is_believed_hop_by_hop() {
    let untouched = "192.0.2.1:4711 http://inner:8774|/a 0";
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Row<'_>] = &[
        ("", &[], untouched),
        (
            "",
            &[
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-proto", "https"),
                ("forwarded", "for=203.0.113.9"),
            ],
            untouched,
        ),
        (
            "trusted_proxies = ['198.51.100.0/24']",
            &[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-host", "x"), ("x-forwarded-prefix", "/p")],
            untouched,
        ),
        (NEAR, &[], untouched),
        (NEAR, &[("x-forwarded-for", "203.0.113.9")], "203.0.113.9:0 http://inner:8774|/a 0"),
        (NEAR, &[("x-forwarded-for", "203.0.113.9:55")], "203.0.113.9:55 http://inner:8774|/a 0"),
        (NEAR, &[("x-forwarded-for", "[2001:db8::1]:5")], "[2001:db8::1]:5 http://inner:8774|/a 0"),
        (NEAR, &[("x-forwarded-for", "2001:db8::1")], "[2001:db8::1]:0 http://inner:8774|/a 0"),
        // What the client wrote stands further left.
        (NEAR, &[("x-forwarded-for", "1.1.1.1, 203.0.113.9")], "203.0.113.9:0 http://inner:8774|/a 0"),
        (
            NEAR,
            &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9")],
            "203.0.113.9:0 http://inner:8774|/a 0",
        ),
        (
            BOTH,
            &[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.5")],
            "203.0.113.9:0 http://inner:8774|/a 0",
        ),
        (NEAR, &[("x-forwarded-for", "203.0.113.9, 10.0.0.5")], "10.0.0.5:0 http://inner:8774|/a 0"),
        (BOTH, &[("x-forwarded-for", "10.0.0.6, 10.0.0.5")], "10.0.0.6:0 http://inner:8774|/a 0"),
        // One that hides who called it is the last that is known.
        (BOTH, &[("x-forwarded-for", "1.1.1.1, unknown, 10.0.0.5")], "10.0.0.5:0 http://inner:8774|/a 0"),
        // A scheme, and a host, of the outermost proxy that is trusted.
        (
            NEAR,
            &[("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "cloud.example.org")],
            "192.0.2.1:4711 https://cloud.example.org|/a 0",
        ),
        (
            NEAR,
            &[("x-forwarded-for", "1.1.1.1, 203.0.113.9"), ("x-forwarded-proto", "http, https")],
            "203.0.113.9:0 https://inner:8774|/a 0",
        ),
        (
            BOTH,
            &[
                ("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.5"),
                ("x-forwarded-proto", "http, https, http"),
            ],
            "203.0.113.9:0 https://inner:8774|/a 0",
        ),
        (
            BOTH,
            &[("x-forwarded-for", "203.0.113.9, 10.0.0.5"), ("x-forwarded-proto", "https")],
            "203.0.113.9:0 https://inner:8774|/a 0",
        ),
        (NEAR, &[("x-forwarded-proto", "gopher")], untouched),
        (NEAR, &[("x-forwarded-prefix", "/")], untouched),
        (NEAR, &[("x-forwarded-for", ""), ("x-forwarded-host", " ,"), ("x-forwarded-prefix", "")], untouched),
        // What is further left than the entries of trusted proxies is not even looked at.
        (NEAR, &[("x-forwarded-for", "\"x, \u{e9}, 203.0.113.9")], "203.0.113.9:0 http://inner:8774|/a 0"),
        (
            NEAR,
            &[("x-forwarded-proto", "?, https"), ("x-forwarded-host", "a@b, h")],
            "192.0.2.1:4711 https://h|/a 0",
        ),
        // A prefix is a mount.
        (NEAR, &[("x-forwarded-prefix", "/compute/")], "192.0.2.1:4711 http://inner:8774/compute|/a 0"),
        (NEAR, &[("x-forwarded-prefix", "/a/b.c")], "192.0.2.1:4711 http://inner:8774/a/b.c|/a 0"),
        // The other family is the client's own word.
        (NEAR, &[("forwarded", "for=203.0.113.9;proto=https;host=x")], untouched),
        (NEAR, &[("x-forwarded-server", "a"), ("x-forwarded-port", "1")], untouched),
    ];
    for (settings, headers, expected) in cases {
        assert_eq!(seen(settings, headers, "/a").await, *expected, "{settings} {headers:?}");
    }
}

#[tokio::test]
async fn forwarded_is_believed_hop_by_hop() {
    let untouched = "192.0.2.1:4711 http://inner:8774|/a 0";
    let cases: &[(&str, &str, &str)] = &[
        (NEAR, "for=203.0.113.9", "203.0.113.9:0 http://inner:8774|/a 0"),
        (
            NEAR,
            "For=\"[2001:db8::1]:47\";Proto=https;host=\"h.example:1\"",
            "[2001:db8::1]:47 https://h.example:1|/a 0",
        ),
        (
            NEAR,
            "for=1.1.1.1;host=evil;proto=https, for=203.0.113.9;proto=http;host=h",
            "203.0.113.9:0 http://h|/a 0",
        ),
        (
            BOTH,
            "for=1.1.1.1;host=evil, for=203.0.113.9;proto=https;host=h, for=10.0.0.5;host=inside",
            "203.0.113.9:0 https://h|/a 0",
        ),
        (BOTH, "for=_hidden;proto=https, for=10.0.0.5", "10.0.0.5:0 https://inner:8774|/a 0"),
        (NEAR, "for=unknown", untouched),
        ("", "for=203.0.113.9", untouched),
    ];
    for (settings, forwarded, expected) in cases {
        let settings = format!("{settings}\nheaders = 'forwarded'");
        let headers =
            [("forwarded", *forwarded), ("x-forwarded-for", "9.9.9.9"), ("x-forwarded-prefix", "/x")];
        assert_eq!(seen(&settings, &headers, "/a").await, *expected, "{settings} {forwarded}");
    }
}

/// Headers that are not of their grammar: 400 from a trusted proxy, dropped from everyone else.
#[tokio::test]
async fn what_cannot_be_parsed_is_refused() {
    let (name_for, proto, host) = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host");
    let prefix = "x-forwarded-prefix";
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Row<'_>] = &[
        ("x_forwarded", &[(name_for, "\u{e9}")], name_for),
        ("x_forwarded", &[(name_for, "1.1.1.1, \u{e9}")], name_for),
        ("x_forwarded", &[(name_for, "203.0.113.9"), (name_for, "\"1.1.1.1\"")], name_for),
        ("x_forwarded", &[(name_for, "203.0.113.9, 10.0.0.x")], name_for),
        ("x_forwarded", &[(name_for, "1.1.1.1 203.0.113.9")], name_for),
        ("x_forwarded", &[(name_for, "client.example")], name_for),
        ("x_forwarded", &[(name_for, "203.0.113.9:99999")], name_for),
        ("x_forwarded", &[(name_for, "[203.0.113.9]")], name_for),
        ("x_forwarded", &[(name_for, "[2001:db8::1")], name_for),
        ("x_forwarded", &[(name_for, "for=203.0.113.9")], name_for),
        // Written by a proxy further out that is trusted too.
        ("x_forwarded", &[(name_for, "nonsense, 10.0.0.5")], name_for),
        ("x_forwarded", &[(proto, "https:")], proto),
        ("x_forwarded", &[(proto, "http, ht tps")], proto),
        ("x_forwarded", &[(proto, "\u{e9}")], proto),
        ("x_forwarded", &[(host, "a/b")], host),
        ("x_forwarded", &[(host, "a@b")], host),
        ("x_forwarded", &[(host, "h, h:port")], host),
        ("x_forwarded", &[(host, "\u{e9}.example")], host),
        ("x_forwarded", &[(prefix, "/a, /b")], prefix),
        ("x_forwarded", &[(prefix, "/a"), (prefix, "/b")], prefix),
        ("x_forwarded", &[(prefix, "/../b")], prefix),
        ("x_forwarded", &[(prefix, "//evil.example")], prefix),
        ("x_forwarded", &[(prefix, "a")], prefix),
        ("forwarded", &[("forwarded", "for=\"x, for=203.0.113.1")], "forwarded"),
        ("forwarded", &[("forwarded", "for=\"x"), ("forwarded", "for=203.0.113.1")], "forwarded"),
        ("forwarded", &[("forwarded", "for=\"1.1.1.1, for=2.2.2.2\"")], "forwarded"),
        ("forwarded", &[("forwarded", "for=\"203.0.113.9\\\"\"")], "forwarded"),
        ("forwarded", &[("forwarded", "garbage;;=,,")], "forwarded"),
        ("forwarded", &[("forwarded", "for=localhost, for=203.0.113.1")], "forwarded"),
        ("forwarded", &[("forwarded", "for=203.0.113.1:80")], "forwarded"),
        ("forwarded", &[("forwarded", "for=203.0.113.1;for=203.0.113.2")], "forwarded"),
        ("forwarded", &[("forwarded", "host=\"a/b\"")], "forwarded"),
    ];
    for (family, headers, name) in cases {
        let with = |trusted: &str| format!("trusted_proxies = [{trusted}]\nheaders = '{family}'");
        let refused = seen(&with("'192.0.2.0/24', '10.0.0.0/8'"), headers, "/a").await;
        let begins = format!("400 The header {name} cannot be parsed: ");
        assert!(refused.starts_with(&begins), "{family} {headers:?}: {refused}");
        let dropped = seen(&with("'198.51.100.0/24'"), headers, "/a").await;
        assert_eq!(dropped, "192.0.2.1:4711 http://inner:8774|/a 0", "{headers:?}");
        // The other family is dropped, whatever it says.
        let other = if *family == "forwarded" { "x_forwarded" } else { "forwarded" };
        let dropped = seen(&format!("{NEAR}\nheaders = '{other}'"), headers, "/a").await;
        assert_eq!(dropped, "192.0.2.1:4711 http://inner:8774|/a 0", "{headers:?}");
    }
}

#[tokio::test]
async fn a_target_that_names_the_host_is_moved_too() {
    let headers =
        [("x-forwarded-host", "h.example"), ("x-forwarded-prefix", "/p"), ("x-forwarded-proto", "https")];
    let found = seen(NEAR, &headers, "http://inner:8774/a?b=c").await;
    assert_eq!(found, "192.0.2.1:4711 https://h.example/p|/a 0");
}

#[test]
fn settings() {
    let (deps, ..) = deps();
    assert!(build(KIND, "", &deps).is_ok());
    for (text, expected) in [
        ("trusted_proxies = ['10.0.0.0/33']", "`10.0.0.0/33` is no network"),
        ("trusted_proxies = ['proxy.example']", "is no network"),
        ("trusted_proxies = '10.0.0.1'", "expected a list"),
        ("headers = 'both'", "unknown word `both`"),
        ("enable_proxy_headers_parsing = true", "unknown field"),
    ] {
        let error = build(KIND, text, &deps).unwrap_err();
        assert!(error.message.contains(expected), "{text}: {}", error.message);
    }
}

#[tokio::test]
async fn a_proxy_on_a_unix_socket_is_named_as_such() {
    let (deps, ..) = deps();
    let cases = [
        ("trusted_proxies = ['unix:']", "203.0.113.9:0 http://inner:8774|/a 0"),
        ("trusted_proxies = ['0.0.0.0/0', '::/0']", "unix:uid=1000 http://inner:8774|/a 0"),
    ];
    for (settings, expected) in cases {
        let headers = [("host", "inner:8774"), ("x-forwarded-for", "203.0.113.9")];
        let mut request = request(Method::GET, "/a", &headers);
        request.context_mut().peer = Peer::Unix(Some(1000));
        let response = over(KIND, settings, &deps, app).send(request).await.unwrap();
        let text = response.into_body().bytes().unwrap();
        assert_eq!(String::from_utf8_lossy(&text), expected, "{settings}");
    }
}

//! `urlmap`: the longest start of the path chooses the app.
//!
//! Compares whole segments: `/v2` takes `/v2`, `/v2/` and `/v2/x`, not `/v20` and not `/V2`. Keys and paths are
//! compared in their [normal form](path). Slashes that repeat in front of a key's segments count as one, and are
//! one for all that stands below: `//v2/x` goes on as `/v2/x`.
//! A key that ends in `/+` wants at least one segment more: `/v2/+` takes `/v2/x` alone, so that
//! `/v2` and `/v2/` may go to somebody else. What was taken is noted in [`Context::mounted`], so that a map may stand below a map.
//!
//! A key may name a host: `http://x.org/v2`, `http://x.org:8080/v2`, or in Paste's words `domain x.org port 8080 /v2`.
//! Keys of the request's host and port go before those of its host alone, and these before keys
//! without a host; in each, the longest path wins. (Paste sorted hosts as text, so that one with a
//! port was never reached.) A host is compared with the target's, or with `Host` where the target names none;
//! capitals make no difference, and a port that is not said is the scheme's.
//!
//! A request costs one look-up for each segment of the longest key, however many keys there are,
//! and allocates nothing where no key names a host. Source: Paste, `paste/urlmap.py`; without its 404
//! page, which told everybody what is mounted.

use std::sync::Arc;

use foldhash::HashMap;
use http::uri::Authority;
use pileus_sdk::{Answer, Fault, Request, Stack, path};

/// A key without repeated slashes, and without one at its end: `/` becomes the empty text.
pub fn normal(key: &str) -> String {
    let segments = key.split('/').filter(|segment| !segment.is_empty());
    segments.fold(String::new(), |path, segment| path + "/" + segment)
}

/// How many bytes of `path` from `mounted` on a key takes, with what is mounted; `None`: the path
/// does not start with it.
pub fn taken(key: &str, path: &str, mounted: usize) -> Option<usize> {
    let mut at = mounted;
    if let Some(key) = more(key) {
        let at = taken(key, path, mounted)?;
        return path.get(at..)?.split('/').any(|segment| !segment.is_empty()).then_some(at);
    }
    for segment in key.split('/').filter(|segment| !segment.is_empty()) {
        let rest = path.get(at..)?;
        let start = at + rest.len() - rest.trim_start_matches('/').len();
        if path.get(start..)?.split('/').next() != Some(segment) {
            return None;
        }
        at = start + segment.len();
    }
    Some(at)
}

/// The key without the `/+` at its end.
fn more(key: &str) -> Option<&str> {
    key.strip_suffix("/+")
}

/// A key, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// `x.org` or `x.org:8080`, in small letters; `None`: any.
    pub host: Option<String>,
    /// In its normal form.
    pub path: String,
}

/// Reads a key; `Err`: what is wrong with it.
pub fn key(text: &str) -> Result<Key, String> {
    let (host, port, path) = if let Some(rest) = text.strip_prefix("http://") {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        (Some(host), port, format!("/{path}"))
    } else if text.starts_with('/') {
        (None, None, text.to_owned())
    } else {
        let (mut host, mut port, mut path) = (None, None, None);
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            let twice = match word {
                "domain" => host.replace(words.next().ok_or("`domain` without a host behind it")?).is_some(),
                "port" => port.replace(words.next().ok_or("`port` without a number behind it")?).is_some(),
                word if word.starts_with('/') => path.replace(word).is_some(),
                _ => return Err(format!("`{text}` does not start with `/`")),
            };
            if twice {
                return Err(format!("`{word}` a second time"));
            }
        }
        (host, port, path.unwrap_or("/").to_owned())
    };
    let whole = |host: &&str| !host.is_empty() && !host.contains(['/', '@', ' ']);
    let host = match (host, port) {
        (None, Some(_)) => return Err("a port without a host".into()),
        (None, None) => None,
        (Some(host), _) if !whole(&host) => return Err(format!("`{host}` is no host")),
        (Some(host), None) => Some(host.to_lowercase()),
        (Some(host), Some(port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(format!("{}:{port}", host.to_lowercase())),
            _ => return Err(format!("`{port}` is no port")),
        },
    };
    let path = path::normal(&path).map_err(|fault| format!("`{path}` matches nothing: {fault}"))?;
    Ok(Key { host, path: normal(&path) })
}

/// How well a key's host fits a host and port: the higher, the better; `None`: not at all.
pub fn fits(key: Option<&str>, asked: Option<&(String, u16)>) -> Option<u8> {
    match (key, asked) {
        (None, _) => Some(0),
        (Some(key), Some((host, _))) if key == host => Some(1),
        (Some(key), Some((host, port))) if key.strip_prefix(host.as_str()) == Some(&format!(":{port}")) => {
            Some(2)
        }
        (Some(_), _) => None,
    }
}

/// The host and port that a request is for.
fn asked(request: &Request) -> Option<(String, u16)> {
    let authority: Authority = request.host()?.parse().ok()?;
    let port = authority.port_u16().unwrap_or(if request.context().secure { 443 } else { 80 });
    Some((authority.host().to_lowercase(), port))
}

/// The app that sends every request on to the app with the longest key.
pub fn urlmap(mounts: impl IntoIterator<Item = (Key, Stack)>) -> Stack {
    let (mut root, mut hosts) = (Node::default(), HashMap::<String, Node>::default());
    for (Key { host, path }, app) in mounts {
        let mut node = match host {
            None => &mut root,
            Some(host) => hosts.entry(host).or_default(),
        };
        for segment in more(&path).unwrap_or(&path).split('/').filter(|segment| !segment.is_empty()) {
            node = node.below.entry(segment.into()).or_default();
        }
        match more(&path) {
            Some(_) => node.more = Some(app),
            None => node.app = Some(app),
        }
    }
    let all = Arc::new((root, hosts));
    Stack::forward(move |mut request: Request| {
        let (root, hosts) = &*all;
        let mounted = request.context().mounted as usize;
        let path = request.uri().path();
        let asked = if hosts.is_empty() { None } else { asked(&request) };
        let own = asked.and_then(|(host, port)| {
            let of = |host: &str| hosts.get(host)?.longest(path, mounted);
            of(&format!("{host}:{port}")).or_else(|| of(&host))
        });
        let Some(found) = own.or_else(|| root.longest(path, mounted)) else {
            return Answer::refused(Fault::NoRoute);
        };
        let mut end = found.end;
        if found.repeats {
            match shorten(&mut request, mounted, end) {
                Ok(shorter) => end = shorter,
                Err(fault) => return Answer::refused(fault),
            }
        }
        // A target is shorter than 64 KiB.
        request.context_mut().mounted = end as u32;
        found.app.send(request)
    })
}

/// Makes slashes that repeat between two places of the path one. Returns where the second place is then.
#[cold]
fn shorten(request: &mut Request, from: usize, to: usize) -> Result<usize, Fault> {
    let path = request.uri().path();
    let parts = (path.get(..from), path.get(from..to), path.get(to..));
    let (Some(above), Some(taken), Some(below)) = parts else { return Err(Fault::NoRoute) };
    let (above, below) = (format!("{above}{}", path::collapsed(taken)), below.to_owned());
    path::replace_path(request.uri_mut(), &(above.clone() + &below))?;
    Ok(above.len())
}

/// The app of a key, and what the key takes of a path.
struct Taken<'a> {
    app: &'a Stack,
    /// How many bytes of the path are taken, with what was before.
    end: usize,
    /// `true` if slashes repeat in what the key takes.
    repeats: bool,
}

/// One segment, and all that may follow it.
#[derive(Default)]
struct Node {
    app: Option<Stack>,
    /// The app of the key with `/+`.
    more: Option<Stack>,
    below: HashMap<Box<str>, Node>,
}

impl Node {
    /// The app with the longest key of which the path, without its first `mounted` bytes, has every
    /// segment.
    fn longest(&self, path: &str, mounted: usize) -> Option<Taken<'_>> {
        let mut node = self;
        let mut found = self.app.as_ref().map(|app| Taken { app, end: mounted, repeats: false });
        let (mut at, mut repeats) = (mounted, false);
        loop {
            if node.below.is_empty() && node.more.is_none() {
                return found;
            }
            let rest = path.get(at..)?;
            let start = at + rest.bytes().take_while(|byte| *byte == b'/').count();
            let rest = path.get(start..)?;
            let end = rest.bytes().position(|byte| byte == b'/').unwrap_or(rest.len());
            let segment = rest.get(..end).filter(|segment| !segment.is_empty());
            if let (Some(app), Some(_)) = (&node.more, segment) {
                found = Some(Taken { app, end: at, repeats });
            }
            let Some(below) = segment.and_then(|segment| node.below.get(segment)) else { return found };
            node = below;
            repeats |= start > at + 1;
            at = start + segment.map_or(0, str::len);
            if let Some(app) = &node.app {
                found = Some(Taken { app, end: at, repeats });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use pileus_sdk::{Body, Response};

    use http::header;

    use super::*;

    /// An app that answers with its name and what is left of the path.
    fn app(name: &'static str) -> Stack {
        Stack::from_fn(move |mut request: Request| {
            let mounted = request.context_mut().mounted as usize;
            let path = request.uri().path();
            let text = format!("{name} {:?} {:?}", &path[..mounted], &path[mounted..]);
            ready(Ok(Response::new(Body::from(text))))
        })
    }

    /// `urlmap`, with the texts of keys.
    fn urlmap(mounts: impl IntoIterator<Item = (String, Stack)>) -> Stack {
        super::urlmap(mounts.into_iter().map(|(text, app)| {
            let any = format!("/{text}");
            (key(if text.contains(':') { &text } else { &any }).unwrap(), app)
        }))
    }

    async fn ask(map: &Stack, path: &str) -> String {
        ask_of(map, "", path).await
    }

    async fn ask_of(map: &Stack, host: &str, path: &str) -> String {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = path.parse().unwrap();
        if !host.is_empty() {
            request.headers_mut().insert(header::HOST, host.parse().unwrap());
        }
        match map.send(request).await {
            Ok(response) => String::from_utf8(response.into_body().bytes().unwrap().to_vec()).unwrap(),
            Err(fault) => fault.code().0.as_str().to_owned(),
        }
    }

    #[test]
    fn keys_in_their_normal_form() {
        for (key, expected) in
            [("/", ""), ("/v2", "/v2"), ("/v2/", "/v2"), ("//a///b//", "/a/b"), ("///", "")]
        {
            assert_eq!(normal(key), expected, "{key}");
        }
    }

    #[tokio::test]
    async fn the_longest_start_of_whole_segments_wins() {
        let deep = urlmap([("".into(), app("deep")), ("/x".into(), app("x"))]);
        let keys = [("", app("root")), ("/v1.1", app("v2")), ("/v2", app("v2")), ("/v2/a/b", deep)];
        let map = urlmap(keys.map(|(key, app)| (key.to_owned(), app)));
        let cases = [
            ("/v2", r#"v2 "/v2" """#),
            ("/v2/", r#"v2 "/v2" "/""#),
            ("/v2/p/servers", r#"v2 "/v2" "/p/servers""#),
            ("/v2//p///servers", r#"v2 "/v2" "//p///servers""#),
            ("//v2/p", r#"v2 "/v2" "/p""#),
            ("/v2/p/servers.xml", r#"v2 "/v2" "/p/servers.xml""#),
            ("/v1.1/p", r#"v2 "/v1.1" "/p""#),
            ("/v20", r#"root "" "/v20""#),
            ("/V2/", r#"root "" "/V2/""#),
            ("/", r#"root "" "/""#),
            ("/%76%32", r#"root "" "/%76%32""#),
            ("/v2/../v1.1", r#"v2 "/v2" "/../v1.1""#),
            ("/v2/a", r#"v2 "/v2" "/a""#),
            ("/v2/a/b", r#"deep "/v2/a/b" """#),
            ("/v2/a/b/x/y", r#"x "/v2/a/b/x" "/y""#),
            ("/v2/a//b/xy", r#"deep "/v2/a/b" "/xy""#),
            ("///v2//a/b//x//y/?q=//", r#"x "/v2/a/b/x" "//y/""#),
            ("//q", r#"root "" "//q""#),
        ];
        for (path, expected) in cases {
            assert_eq!(ask(&map, path).await, expected, "{path}");
            // `taken` tells the same without a map, of the path as it came.
            let path = path.split('?').next().unwrap();
            let keys = ["", "/v1.1", "/v2", "/v2/a/b", "/v2/a/b/x"];
            let taken = keys.into_iter().filter_map(|key| taken(key, path, 0)).max().unwrap();
            let above = path::collapsed(&path[..taken]);
            assert!(expected.contains(&format!(" {:?} {:?}", above, &path[taken..])), "{path}");
        }
        let rootless = urlmap([("/v2".to_owned(), app("v2"))]);
        for path in ["/", "/v20", "/v", "*"] {
            assert_eq!(ask(&rootless, path).await, "404", "{path}");
        }
    }

    #[tokio::test]
    async fn a_key_may_want_more() {
        let keys = [("", app("root")), ("/v2", app("discovery")), ("/v2/+", app("v2")), ("/v2/a", app("a"))];
        let map = urlmap(keys.map(|(key, app)| (key.to_owned(), app)));
        let cases = [
            ("/v2", r#"discovery "/v2" """#),
            ("/v2//", r#"discovery "/v2" "//""#),
            ("/v2/p", r#"v2 "/v2" "/p""#),
            ("/v2/p/x/", r#"v2 "/v2" "/p/x/""#),
            ("/v2/a", r#"a "/v2/a" """#),
            ("/v20/p", r#"root "" "/v20/p""#),
        ];
        for (path, expected) in cases {
            assert_eq!(ask(&map, path).await, expected, "{path}");
            let more = taken("/v2/+", path, 0).is_some();
            assert_eq!(more, path.starts_with("/v2/") && path != "/v2//", "{path}");
        }
        assert_eq!(normal("/v2//+"), "/v2/+");
        let nothing_else = urlmap([("/+".to_owned(), app("all"))]);
        for (path, expected) in [("/", "404"), ("/x", r#"all "" "/x""#)] {
            assert_eq!(ask(&nothing_else, path).await, expected, "{path}");
        }
    }

    #[test]
    fn keys_are_read_in_three_manners() {
        let whole =
            |host: Option<&str>, path: &str| Ok(Key { host: host.map(Into::into), path: path.into() });
        let cases = [
            ("/v2/", whole(None, "/v2")),
            ("http://X.org", whole(Some("x.org"), "")),
            ("http://x.org:8080//a/", whole(Some("x.org:8080"), "/a")),
            ("http://[::1]:80/a", whole(Some("[::1]:80"), "/a")),
            ("domain x.org /a", whole(Some("x.org"), "/a")),
            ("/a port 80 domain X.ORG", Err("`/a port 80 domain X.ORG`".into())),
            ("port 80 domain X.ORG", whole(Some("x.org:80"), "")),
            ("domain a domain b /", Err("`domain` a second time".into())),
            ("port 1 port 2 domain a", Err("`port` a second time".into())),
            ("domain a /b /c", Err("`/c` a second time".into())),
            ("port 80 /a", Err("a port without a host".into())),
            ("domain", Err("`domain` without a host behind it".into())),
            ("domain x port 99999 /", Err("`99999` is no port".into())),
            ("http:///a", Err("`` is no host".into())),
            ("v2", Err("`v2` does not start with `/`".to_owned())),
            ("/%76%32/a b", whole(None, "/v2/a%20b")),
            ("/a/../b", Err("`/a/../b` matches nothing: No segment of a path may be `.` or `..`.".into())),
            (
                "/100%",
                Err("`/100%` matches nothing: A percent sign in a path needs two hexadecimal digits behind it."
                    .into()),
            ),
        ];
        for (text, expected) in cases {
            match (key(text), expected) {
                // A path may hold blanks; what is behind them is part of it.
                (Ok(found), Err(path)) if path.contains(text) => assert_eq!(found.host, None, "{text}"),
                (found, expected) => assert_eq!(found, expected, "{text}"),
            }
        }
    }

    #[tokio::test]
    async fn the_host_goes_before_the_path() {
        let keys = [
            ("http://x.org/", app("x")),
            ("http://x.org:8080/a", app("x8080")),
            ("http://y.org/a/b", app("y")),
        ];
        let keys = keys.into_iter().map(|(text, app)| (key(text).unwrap(), app));
        let any = [("/", app("any")), ("/a", app("anya"))].map(|(text, app)| (key(text).unwrap(), app));
        let map = super::urlmap(keys.chain(any));
        let cases = [
            ("x.org", "/a", "x"),
            ("X.ORG:80", "/a/c", "x"),
            ("x.org:8080", "/a/c", "x8080"),
            ("x.org:8080", "/b", "x"),
            ("y.org", "/a/b", "y"),
            ("y.org", "/a", "anya"),
            ("z.org", "/a", "anya"),
            ("not a host", "/q", "any"),
            ("", "/q", "any"),
        ];
        for (host, path, name) in cases {
            let answer = ask_of(&map, host, path).await;
            assert!(answer.starts_with(&format!("{name} ")), "{host}{path}: {answer}");
        }
    }
}

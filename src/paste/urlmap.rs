//! `urlmap`: the longest start of the path chooses the app.
//!
//! Compares whole segments: `/v2` takes `/v2`, `/v2/` and `/v2/x`, not `/v20` and not `/V2`. Slashes
//! that repeat count as one; nothing is percent-decoded, and `..` is a segment like any other.
//! A key that ends in `/+` wants at least one segment more: `/v2/+` takes `/v2/x` alone, so that
//! `/v2` and `/v2/` may go to somebody else. What was taken is noted in [`Context::mounted`], so that a map may stand below a map.
//!
//! A request costs one look-up for each segment of the longest key, however many keys there are,
//! and allocates nothing. Source: Paste, `paste/urlmap.py`; without its hosts and its own 404 page.

use std::sync::Arc;

use foldhash::HashMap;
use pileus_sdk::{Answer, Fault, Request, Stack};

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

/// The app that sends every request on to the app with the longest key.
pub fn urlmap(mounts: impl IntoIterator<Item = (String, Stack)>) -> Stack {
    let mut root = Node::default();
    for (path, app) in mounts {
        let mut node = &mut root;
        for segment in more(&path).unwrap_or(&path).split('/').filter(|segment| !segment.is_empty()) {
            node = node.below.entry(segment.into()).or_default();
        }
        match more(&path) {
            Some(_) => node.more = Some(app),
            None => node.app = Some(app),
        }
    }
    let root = Arc::new(root);
    Stack::forward(move |mut request: Request| {
        let mounted = request.context().mounted as usize;
        match root.longest(request.uri().path(), mounted) {
            Some((app, mounted)) => {
                request.context_mut().mounted = mounted;
                app.send(request)
            }
            None => Answer::now(Err(Fault::NoRoute)),
        }
    })
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
    /// segment; and how many bytes of the path are taken then.
    fn longest(&self, path: &str, mounted: usize) -> Option<(&Stack, u32)> {
        let mut node = self;
        let mut found = self.app.as_ref().map(|app| (app, mounted as u32));
        let mut at = mounted;
        loop {
            if node.below.is_empty() && node.more.is_none() {
                return found;
            }
            let rest = path.get(at..)?;
            let start = at + rest.len() - rest.trim_start_matches('/').len();
            let rest = path.get(start..)?;
            let end = rest.bytes().position(|byte| byte == b'/').unwrap_or(rest.len());
            let segment = rest.get(..end).filter(|segment| !segment.is_empty());
            if let (Some(app), Some(_)) = (&node.more, segment) {
                found = Some((app, at as u32));
            }
            let Some(below) = segment.and_then(|segment| node.below.get(segment)) else { return found };
            node = below;
            at = start + segment.map_or(0, str::len);
            if let Some(app) = &node.app {
                found = Some((app, at as u32));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use pileus_sdk::{Body, Response};

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

    async fn ask(map: &Stack, path: &str) -> String {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = path.parse().unwrap();
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
            ("//v2/p", r#"v2 "//v2" "/p""#),
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
            ("/v2/a//b/xy", r#"deep "/v2/a//b" "/xy""#),
        ];
        for (path, expected) in cases {
            assert_eq!(ask(&map, path).await, expected, "{path}");
            // `taken` tells the same without a map.
            let keys = ["", "/v1.1", "/v2", "/v2/a/b", "/v2/a/b/x"];
            let taken = keys.into_iter().filter_map(|key| taken(key, path, 0)).max().unwrap();
            assert!(expected.contains(&format!(" {:?} {:?}", &path[..taken], &path[taken..])), "{path}");
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
}

use std::{collections::VecDeque, path::Path, time::Duration};

use http_body_util::BodyExt;
use pileus_sdk::{Caller, Stack};
use serde_json::{Value, json};
use tracing_subscriber::filter::LevelFilter;

use super::*;
use crate::{
    filters::{
        request_id,
        testing::{Log, build, deps, matched, request},
    },
    logging::Logs,
};

async fn app(mut request: Request) -> Result<Response, Fault> {
    let caller = Caller::new("ann".into(), "p1".into(), Vec::new(), false);
    let context = request.context_mut();
    context.caller = Some(Arc::new(caller));
    context.note();
    tracing::warn!("on its way");
    match request.uri().path() {
        "/fault" => Err(Fault::NoRoute),
        "/stream" => Ok(Response::new(Body::Stream(Box::pin(Parts(VecDeque::from(["ab", "cde"])))))),
        "/later" => {
            tokio::task::yield_now().await;
            tracing::warn!("later");
            Ok(Response::new(Body::from("late")))
        }
        "/never" => std::future::pending().await,
        _ => Ok(Response::new(Body::from("hello"))),
    }
}

/// A stream of what is there.
struct Parts(VecDeque<&'static str>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(Bytes::from(part)))))
    }
}

/// The lines of an access log in JSON.
fn lines(logs: &Logs, path: &Path) -> Vec<Value> {
    logs.flush();
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The settings of a log in JSON.
fn settings(path: &Path) -> String {
    format!("file = {:?}\nformat = \"json\"\nflush_ms = 60000", path.to_str().unwrap())
}

#[tokio::test]
async fn one_line_says_what_was_answered() {
    let general = Log::default();
    let _guard = general.start(LevelFilter::INFO);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("access.log");
    let (deps, clock, _) = deps();
    let late = clock.clone();
    let inner = Stack::from_fn(move |request| {
        late.advance(Duration::from_millis(7));
        app(request)
    });
    let trace = build(KIND, &settings(&path), &deps).unwrap().over(inner);
    let stack = build(request_id::KIND, "", &deps).unwrap().over(trace);
    assert!(!path.exists(), "building opens no file");
    deps.logs.start().unwrap();
    deps.logs.log_requests(true);
    let global = "req-0a1b2c3d-0000-4000-8000-abcdefabcdef";
    let path_sent = "/v2/p1/clouds/west";
    let headers = [("x-openstack-request-id", global)];
    let sent = request(Method::GET, &format!("{path_sent}?token=secret"), &headers);
    let response = stack.send(matched(sent, "clouds:show")).await.unwrap();
    let id = response.headers()["x-compute-request-id"].to_str().unwrap();
    let lines = lines(&deps.logs, &path);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["target"], &lines[0]["level"]), (&json!("access"), &json!("INFO")));
    assert_eq!(
        lines[0]["fields"],
        json!({
            "message": "request answered", "request.id": id, "request.global_id": global,
            "method": "GET", "path": path_sent, "protocol": "HTTP/1.1", "peer": "192.0.2.1:4711",
            "route": "/{project_id}/clouds/{id}", "status": 200, "duration_us": 7000, "bytes": 5,
            "user.id": "ann", "project.id": "p1",
        })
    );
    let general = general.lines();
    assert_eq!(general.len(), 1, "{general:?}");
    assert_eq!(general[0]["request.id"], id, "what is logged below has the id");
}

#[tokio::test]
async fn faults_streams_and_hang_ups_are_reported_once() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("access.log");
    let (deps, ..) = deps();
    let stack = build(KIND, &settings(&path), &deps).unwrap().over(Stack::from_fn(app));
    deps.logs.start().unwrap();
    deps.logs.log_requests(true);
    let report = |sent: &str| {
        let lines = lines(&deps.logs, &path);
        let mut found = lines.iter().filter(|line| line["fields"]["path"] == sent);
        let fields = found.next().map(|line| line["fields"].clone());
        assert_eq!(found.count(), 0, "{sent} was reported twice");
        fields.map(|fields| (fields["message"].clone(), fields["status"].clone(), fields["bytes"].clone()))
    };
    assert!(stack.send(request(Method::GET, "/fault", &[])).await.is_err());
    assert_eq!(report("/fault"), Some((json!("request answered"), json!(404), json!(0))));

    let response = stack.send(request(Method::GET, "/stream", &[])).await.unwrap();
    assert_eq!(report("/stream"), None, "not before it has ended");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abcde");
    assert_eq!(report("/stream"), Some((json!("request answered"), json!(200), json!(5))));

    stack.send(request(Method::GET, "/later", &[])).await.unwrap();
    assert_eq!(report("/later"), Some((json!("request answered"), json!(200), json!(4))));

    let waiting = tokio::time::timeout(Duration::ZERO, stack.send(request(Method::GET, "/never", &[])));
    assert!(waiting.await.is_err());
    assert_eq!(report("/never"), Some((json!("request abandoned"), Value::Null, Value::Null)));

    stack.send(request(Method::HEAD, "/head", &[])).await.unwrap();
    assert_eq!(report("/head"), Some((json!("request answered"), json!(200), json!(0))));

    let panics = build(KIND, &settings(&path), &deps).unwrap().over(Stack::forward(|_| panic!("below it")));
    let sent = || panics.send(request(Method::GET, "/panic", &[]));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(sent)).is_err());
    assert_eq!(report("/panic"), Some((json!("request abandoned"), Value::Null, Value::Null)));
}

#[tokio::test]
async fn the_log_can_be_turned_off_and_log_lines_keep_their_id() {
    let general = Log::default();
    let _guard = general.start(LevelFilter::WARN);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("access.log");
    let (deps, ..) = deps();
    let trace = build(KIND, &settings(&path), &deps).unwrap().over(Stack::from_fn(|mut request: Request| {
        assert!(request.context_mut().seen.is_none());
        app(request)
    }));
    let stack = build(request_id::KIND, "", &deps).unwrap().over(trace);
    deps.logs.start().unwrap();
    for sent in ["/", "/later"] {
        let response = stack.send(request(Method::GET, sent, &[])).await.unwrap();
        let id = response.headers()["x-compute-request-id"].to_str().unwrap();
        let lines = general.lines();
        let last = lines.last().unwrap();
        let message = if sent == "/" { "on its way" } else { "later" };
        assert_eq!((&last["fields"]["message"], &last["request.id"]), (&json!(message), &json!(id)));
    }
    assert!(lines(&deps.logs, &path).is_empty());
}

#[test]
fn settings_are_checked() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().display();
    let cases = [
        (String::new(), None),
        (format!("file = '{folder}/access.log'\nformat = 'combined'"), None),
        ("format = 'common'\nbuffer_bytes = 1\nflush_ms = 1".into(), None),
        ("format = 'xml'".into(), Some("`xml`")),
        ("buffer_bytes = 0".into(), Some("from 1")),
        ("buffer_bytes = 16777217".into(), Some("at most 16777216")),
        ("flush_ms = 60001".into(), Some("at most 60000")),
        (format!("file = '{folder}/none/access.log'"), Some("a folder is missing")),
        (format!("file = '{folder}'"), Some("or it is one")),
        ("level = 'info'".into(), Some("unknown field `level`")),
    ];
    let (deps, ..) = deps();
    for (text, expected) in cases {
        match (build(KIND, &text, &deps), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => {
                assert!(error.message.contains(expected), "{}", error.message)
            }
            (built, _) => panic!("{text}: {built:?}"),
        }
    }
}

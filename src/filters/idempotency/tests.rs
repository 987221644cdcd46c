use std::sync::atomic::{AtomicU32, Ordering};

use pileus_model::{Time, UsedKey, View};
use serde_json::json;
use tokio::sync::Semaphore;

use super::*;
use crate::filters::testing::{called, deps, over};

fn post(key: &str, user: &str, project: &str, body: &'static str) -> Request {
    let mut request = called(Method::POST, "/v2/p/jobs", user, project);
    request.headers_mut().insert(&KEY, HeaderValue::from_str(key).unwrap());
    *request.body_mut() = Body::from(body);
    request
}

#[tokio::test]
async fn one_request_at_a_time_has_a_key() {
    let (deps, ..) = deps();
    let gate = Arc::new(Semaphore::new(0));
    let waits = gate.clone();
    let stack = over(KIND, "", &deps, move |_| {
        let waits = waits.clone();
        async move {
            waits.acquire().await.unwrap().forget();
            Ok(Response::new(Body::Empty))
        }
    });
    let first = tokio::spawn(stack.send(post("k", "ada", "p", "1")));
    tokio::task::yield_now().await;
    let busy = stack.send(post("k", "ada", "p", "1")).await.unwrap_err();
    assert_eq!(busy.code().0, 409);
    // Of another caller, or another project, it is another key.
    gate.add_permits(3);
    for (user, project) in [("bob", "p"), ("ada", "q")] {
        assert!(stack.send(post("k", user, project, "1")).await.is_ok());
    }
    assert!(first.await.unwrap().is_ok());
    gate.add_permits(1);
    assert!(stack.send(post("k", "ada", "p", "1")).await.is_ok(), "the mark is gone with the request");
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_nothing() {
    let (deps, ..) = deps();
    let done = Arc::new(Semaphore::new(0));
    let says = done.clone();
    let stack = over(KIND, "", &deps, move |_| {
        let says = says.clone();
        async move {
            tokio::task::yield_now().await;
            says.add_permits(1);
            Ok(Response::new(Body::Empty))
        }
    });
    let call = tokio::spawn(stack.send(post("k", "ada", "p", "1")));
    tokio::task::yield_now().await;
    call.abort();
    done.acquire().await.unwrap().forget();
}

#[tokio::test]
async fn what_is_known_of_a_key_decides() {
    let (deps, clock, engine) = deps();
    let asked = Arc::new(AtomicU32::new(0));
    let counts = asked.clone();
    let stack = over(KIND, "", &deps, move |request: Request| {
        counts.fetch_add(1, Ordering::SeqCst);
        let gone = request.context().key.as_ref().is_some_and(|key| key.repeated);
        let gone = gone.then(|| Fault::NotFound { kind: "VM", id: "v".into() });
        async move { gone.map_or_else(|| Ok(Response::new(Body::from("made"))), Err) }
    });
    let (key, request) = name(&post("k", "ada", "p", "1")).unwrap();
    let since = clock.now();
    let knows = |done: bool, answer: Option<KeptAnswer>, since: Time| {
        let done = if done { vec![("c".into(), String::new())] } else { Vec::new() };
        let used = UsedKey { seq: 1, since, request: request.clone(), done, answer };
        let mut view = View::default();
        view.keys.insert(key.clone(), Arc::new(used));
        *engine.0.lock().unwrap() = Arc::new(view);
    };
    let kept =
        KeptAnswer { status: 201, headers: vec![("location".into(), "/x".into())], body: "first".into() };
    let old = Time(since.0 - 24 * 60 * 60 * 1000);
    // What is known, what is sent, status, body, whether it says so, whether it went down.
    let cases = [
        (false, Some(kept.clone()), since, "1", 201, "first", true, 0),
        (false, Some(kept.clone()), since, "2", 422, "", false, 0),
        (false, Some(kept), old, "2", 200, "made", false, 1),
        // A crash took the answer: the engine does nothing twice, and what is gone is gone.
        (true, None, since, "1", 202, "", true, 1),
        (true, None, since, "2", 422, "", false, 0),
        (false, None, since, "1", 200, "made", false, 1),
    ];
    for (done, answer, since, body, status, text, says, down) in cases {
        let what = format!("{done} {answer:?} {body}");
        knows(done, answer, since);
        asked.store(0, Ordering::SeqCst);
        let (found, said, got) = match stack.send(post("k", "ada", "p", body)).await {
            Ok(response) => {
                let said = response.headers().contains_key(&REPLAYED);
                (response.status(), said, response.body().bytes().unwrap())
            }
            Err(fault) => (fault.code().0, false, Default::default()),
        };
        assert_eq!((found.as_u16(), said, &got[..]), (status, says, text.as_bytes()), "{what}");
        assert_eq!(asked.load(Ordering::SeqCst), down, "{what}");
    }
}

#[tokio::test]
async fn a_key_is_one_header_of_visible_characters() {
    let (deps, ..) = deps();
    let stack = over(KIND, "", &deps, crate::filters::testing::fine);
    let long = "x".repeat(256);
    let quoted = format!("\"{long}\"");
    for key in
        ["", &long, "a\tb", "\"", "\"\"", "\"k1", "\"k1\\\"", "\"k\\1\"", "\"k1\"x", "\"k1\" x", &quoted]
    {
        let fault = stack.send(post(key, "ada", "p", "1")).await.unwrap_err();
        assert_eq!(fault.code().0, 400, "{key}");
    }
    let longest = format!("\"{}\\\"\"", "x".repeat(254));
    assert!(stack.send(post(&longest, "ada", "p", "1")).await.is_ok(), "quotes and escapes do not count");
    let mut twice = post("a", "ada", "p", "1");
    twice.headers_mut().append(&KEY, HeaderValue::from_static("b"));
    assert_eq!(stack.send(twice).await.unwrap_err().code().0, 400);
    let mut get = post("", "ada", "p", "");
    *get.method_mut() = Method::GET;
    assert!(stack.send(get).await.is_ok(), "other methods know no key");
}

#[test]
fn a_quoted_key_is_the_key() {
    let of = |key: &str| name(&post(key, "ada", "p", "1")).unwrap().0;
    for (one, other, same) in [
        ("k1", "\"k1\"", true),
        ("k1", "\"k1\";a=b", true),
        ("a \\ b", "\"a \\\\ b\"", true),
        ("a\"b", "\"a\\\"b\"", true),
        ("k1", "\"k2\"", false),
        ("k1", "'k1'", false),
        ("k1", "K1", false),
        ("k1;a=b", "\"k1\";a=b", false),
    ] {
        assert_eq!(of(one) == of(other), same, "{one} {other}");
    }
}

#[test]
fn links_of_a_replayed_answer_begin_as_the_repeated_request_called() {
    let (old, new) = ("http://old.example:8774", "https://new.example");
    // Of the first answer; the same with another origin, and with none.
    let cases = [
        ("http://old.example:8774/v2/p/jobs/1", "https://new.example/v2/p/jobs/1", "/v2/p/jobs/1"),
        ("https://[::1]:80/a?b=http://c/", "https://new.example/a?b=http://c/", "/a?b=http://c/"),
        ("/v2/p/jobs/1", "/v2/p/jobs/1", "/v2/p/jobs/1"),
    ];
    for (location, moved, relative) in cases {
        let job = json!({"job": {
            "id": "1", "command": ["curl", location, format!("\"href\":\"{old}/x")],
            "links": [{"rel": "self", "href": location}, {"href": location}],
        }});
        let body = job.to_string();
        let kept = KeptAnswer {
            status: 202,
            headers: vec![("location".into(), location.into())],
            body: body.clone(),
        };
        for (origin, expected) in [(new, moved), ("", relative)] {
            let answer = replayed(&kept, origin).unwrap();
            assert_eq!(answer.headers()[header::LOCATION], expected);
            let mut told = job.clone();
            told["job"]["links"] = json!([{"rel": "self", "href": expected}, {"href": expected}]);
            let found: serde_json::Value = serde_json::from_slice(&answer.body().bytes().unwrap()).unwrap();
            assert_eq!(found, told, "{location} {origin}");
        }
    }
    assert_eq!(rebased_body("", new), "");
}

#[test]
fn secrets_are_not_kept() {
    let mut response = Response::new(Body::from("secret"));
    assert!(kept(&response).is_some());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    assert!(kept(&response).is_none());
    assert!(kept(&Response::new(Body::from("x".repeat(BODY_MAX + 1)))).is_none());
}

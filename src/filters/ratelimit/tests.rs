use pileus_model::ManualClock;
use pileus_sdk::{Body, Response, Stack};

use super::*;
use crate::filters::testing::{build, called, deps, over, request};

/// Answers with the `rate` document.
async fn app(mut request: Request) -> Result<Response, Fault> {
    let context = request.context_mut();
    let document = context.rate_limits.clone().unwrap();
    Ok(Response::new(Body::from(document(context).to_string())))
}

fn stack(text: &str) -> (Stack, ManualClock) {
    let (deps, clock, _) = deps();
    (over(KIND, text, &deps, app), clock)
}

/// Seconds to wait; 0: admitted.
async fn wait(stack: &Stack, request: Request) -> u64 {
    match stack.send(request).await {
        Ok(_) => 0,
        Err(fault) => {
            assert_eq!(fault.code().0, 429, "{fault:?}");
            fault.retry_after_s().unwrap()
        }
    }
}

#[tokio::test]
async fn two_limits_hold_together_as_nova_tested() {
    let (stack, clock) = stack("limits = '(PUT, *, .*, 10, MINUTE); (PUT, */servers, ^/servers, 5, MINUTE)'");
    let put = |path: &str| called(Method::PUT, &format!("/v2/p1{path}"), "ann", "p1");
    let put = |path: &str| {
        let mut request = put(path);
        request.context_mut().mounted = 3;
        request
    };
    for _ in 0..5 {
        assert_eq!(wait(&stack, put("/servers/1?a=b")).await, 0);
    }
    assert_eq!(wait(&stack, put("/servers")).await, 12);
    // In Nova the refused one still used up one of the ten: four, not five, were left.
    for _ in 0..5 {
        assert_eq!(wait(&stack, put("/other")).await, 0);
    }
    assert_eq!(wait(&stack, put("/other")).await, 6);
    assert_eq!(wait(&stack, put("/servers")).await, 12, "the longest wait");
    clock.advance(Duration::from_secs(6));
    assert_eq!(wait(&stack, put("/other")).await, 0);
    assert_eq!(wait(&stack, called(Method::GET, "/v2/p1/servers", "ann", "p1")).await, 0);
}

#[tokio::test]
async fn a_wall_clock_that_jumps_neither_closes_nor_opens_a_limit() {
    for jump_s in [-3600, -5, 0, 8, 2 * 86_400] {
        let (stack, clock) = stack("limits = '(PUT, *, .*, 2, MINUTE)'");
        let put = || wait(&stack, called(Method::PUT, "/", "ann", "p1"));
        assert_eq!((put().await, put().await, put().await), (0, 0, 30), "{jump_s} s");
        clock.jump(jump_s * 1000);
        assert_eq!(put().await, 30, "{jump_s} s");
        clock.advance(Duration::from_secs(30));
        assert_eq!((put().await, put().await), (0, 30), "{jump_s} s");
    }
}

#[tokio::test]
async fn a_refusal_is_novas_and_says_which_limit() {
    let (stack, clock) =
        stack("limits = [{ verb = 'POST', uri = '*', regex = '.*', value = 10, unit = 'minute' }]");
    for _ in 0..10 {
        assert_eq!(wait(&stack, called(Method::POST, "/", "ann", "p1")).await, 0);
    }
    clock.advance(Duration::from_millis(1));
    let response = stack.send(called(Method::POST, "/", "ann", "p1")).await.unwrap_err().into_response();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "6");
    let body: Value = serde_json::from_slice(&response.body().bytes().unwrap()).unwrap();
    let expected = json!({"overLimit": {
        "code": 429, "message": "This request was rate-limited.", "retryAfter": "6",
        "details": "Only 10 POST request(s) can be made to * every minute.",
    }});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_regex_sees_the_path_and_the_path_in_the_project() {
    let cases = [
        // regex, path, bytes of the mount, whether it matches
        ("^/servers", "/v2/p1/servers", 3, true),
        ("^/servers", "/v2/%701/servers", 3, true),
        ("^/servers", "/v2/p2/servers", 3, false),
        ("^/servers", "/v2/p1/x/servers", 3, false),
        ("/servers", "/v2/p1/x/servers", 3, false), // from the start, as Python's match
        ("^/servers", "/servers", 0, true),
        ("^/v2/[^/]+/servers", "/v2/p1/servers", 3, true),
        ("^/v2/[^/]+/servers$", "/v2/p1/servers?x=y", 3, false),
        ("^/servers\\?x=y$", "/v2/p1/servers?x=y", 3, true),
        (".*changes-since.*", "/v2/p1/servers?changes-since=1", 3, true),
        (".*changes-since.*", "/v2/p1/servers", 3, false),
        ("^$", "/v2/p1", 3, true),
        ("^\\?a", "/v2/p1?a", 3, true),
        ("", "/anything", 0, true),
        ("^/v2/p1/servers", "//v2/p1//servers", 0, true),
        ("^/v2/p1/servers", "/v2/p1///servers?a=//b", 3, true),
        ("^/servers\\?a=//b$", "/v2//p1//servers?a=//b", 3, true),
    ];
    for (regex, path, mounted, matches) in cases {
        let (stack, _) = stack(&format!("limits = '''(ANY, *, {regex}, 1, DAY)'''"));
        for expected in [0, if matches { 86_400 } else { 0 }] {
            let mut request = called(Method::GET, path, "ann", "p1");
            request.context_mut().mounted = mounted;
            assert_eq!(wait(&stack, request).await, expected, "{regex} {path}");
        }
    }
}

#[tokio::test]
async fn verbs_have_their_limits_and_any_counts_all() {
    let (stack, _) = stack("limits = '(POST, *, .*, 2, DAY); (*, *, .*, 3, DAY)'");
    let send = |method: Method| wait(&stack, called(method, "/", "ann", "p1"));
    assert_eq!(send(Method::POST).await, 0);
    assert_eq!(send(Method::POST).await, 0);
    assert_eq!(send(Method::POST).await, 43_200);
    assert_eq!(send(Method::PATCH).await, 0);
    assert_eq!(send(Method::from_bytes(b"PURGE").unwrap()).await, 28_800);
}

#[tokio::test]
async fn head_counts_as_get() {
    // Limits, a first request and a second one, and whether the second one is refused.
    let cases = [
        ("(GET, *, .*, 1, DAY)", Method::GET, Method::HEAD, true),
        ("(GET, *, .*, 1, DAY)", Method::HEAD, Method::GET, true),
        ("(GET, *, .*, 1, DAY)", Method::HEAD, Method::HEAD, true),
        ("(GET, *, .*, 1, DAY)", Method::HEAD, Method::POST, false),
        ("(HEAD, *, .*, 1, DAY)", Method::HEAD, Method::HEAD, true),
        ("(HEAD, *, .*, 1, DAY)", Method::HEAD, Method::GET, false),
        ("(HEAD, *, .*, 1, DAY); (GET, *, .*, 5, DAY)", Method::GET, Method::HEAD, false),
        ("(POST, *, .*, 1, DAY)", Method::POST, Method::HEAD, false),
        ("(ANY, *, .*, 1, DAY)", Method::HEAD, Method::GET, true),
    ];
    for (limits, first, second, refused) in cases {
        let (stack, _) = stack(&format!("limits = '{limits}'"));
        assert_eq!(wait(&stack, called(first.clone(), "/", "ann", "p1")).await, 0, "{limits}");
        let waits = wait(&stack, called(second.clone(), "/", "ann", "p1")).await;
        assert_eq!(waits > 0, refused, "{limits}: {first}, then {second}");
    }
}

#[tokio::test]
async fn who_shares_a_bucket_is_a_setting() {
    let from = |user: &str, project: &str, peer: &str| {
        let mut request = called(Method::GET, "/", user, project);
        request.context_mut().peer = Peer::Address(peer.parse().unwrap());
        request
    };
    let first = ("ann", "p1", "192.0.2.1:1");
    let rows = [
        // who is second, and whether he finds the bucket of the first: by user, project, address
        (("ann", "p1", "192.0.2.9:1"), [true, true, false]),
        (("bob", "p1", "192.0.2.9:1"), [false, true, false]),
        (("ann", "p2", "192.0.2.9:1"), [false, false, false]),
        (("annp", "1", "192.0.2.9:1"), [false, false, false]),
        (("bob", "p2", "192.0.2.1:2"), [false, false, true]),
        (("bob", "p2", "[::ffff:192.0.2.1]:2"), [false, false, true]),
    ];
    for (second, shared) in rows {
        // A fourth key, by roles, has a test of its own.
        for (key, shared) in ["user", "project", "address"].into_iter().zip(shared) {
            let (stack, _) = stack(&format!("limits = '(GET, *, .*, 1, DAY)'\nkey = '{key}'"));
            assert_eq!(wait(&stack, from(first.0, first.1, first.2)).await, 0);
            let waited = wait(&stack, from(second.0, second.1, second.2)).await;
            assert_eq!(waited > 0, shared, "by {key}: {second:?}");
        }
    }
    let (stack, _) = stack("limits = '(GET, *, .*, 1, DAY)'\nkey = 'address'");
    assert_eq!(wait(&stack, from("a", "a", "[2001:db8:1:2::1]:1")).await, 0);
    assert_eq!(wait(&stack, from("a", "a", "[2001:db8:1:3::1]:1")).await, 0);
    assert_eq!(wait(&stack, from("a", "a", "[2001:db8:1:2:ffff::9]:1")).await, 86_400, "the same network");
    let nobody = request(Method::GET, "/", &[]);
    assert_eq!(wait(&stack, nobody).await, 0, "an address needs no caller");
}

/// Headers of an answer or of a refusal: policy, what is left, and when to come again.
async fn told(stack: &Stack, request: Request) -> [Option<String>; 3] {
    let response = stack.send(request).await.unwrap_or_else(Fault::into_response);
    ["ratelimit-policy", "ratelimit", "retry-after"]
        .map(|name| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn answers_say_what_is_left() {
    let limits = "limits = [
        { verb = 'POST', value = 2, unit = 'minute', name = 'posts' },
        { verb = 'ANY', regex = '^/jobs', value = 100, unit = 'hour' },
    ]";
    let (stack, clock) = stack(limits);
    let post = |path: &str| told(&stack, called(Method::POST, path, "ann", "p1"));
    let some = |texts: [&str; 3]| texts.map(|text| (!text.is_empty()).then(|| text.to_owned()));
    let both = "\"posts\";q=2;w=60, \"ANY ^/jobs hour\";q=100;w=3600";
    let rows = [
        ("/", 0, ["\"posts\";q=2;w=60", "\"posts\";r=1;t=30", ""]),
        ("/jobs", 0, [both, "\"posts\";r=0;t=60, \"ANY ^/jobs hour\";r=99;t=36", ""]),
        ("/jobs", 1000, [both, "\"posts\";r=0;t=59, \"ANY ^/jobs hour\";r=99;t=35", "29"]),
        ("/", 29_000, ["\"posts\";q=2;w=60", "\"posts\";r=0;t=60", ""]),
    ];
    for (path, after_ms, expected) in rows {
        clock.advance(Duration::from_millis(after_ms));
        assert_eq!(post(path).await, some(expected), "{path} after {after_ms}");
    }
    let free = told(&stack, called(Method::GET, "/", "ann", "p1")).await;
    assert_eq!(free, some(["", "", ""]), "no limit held");
    let (silent, _) = self::stack(&format!("{limits}\nheaders = false"));
    for expected in [["", "", ""], ["", "", ""], ["", "", "30"]] {
        assert_eq!(told(&silent, called(Method::POST, "/", "ann", "p1")).await, some(expected));
    }
}

#[tokio::test]
async fn faults_of_every_kind_say_what_is_left() {
    let (deps, ..) = deps();
    let faults: [fn() -> Fault; 8] = [
        || Fault::BadRequest("no sense".into()),
        || Fault::Forbidden("no".into()),
        || Fault::NotFound { kind: "Cloud", id: "west".into() },
        || Fault::MethodNotAllowed { method: Method::PUT, allow: "GET".into() },
        || Fault::Conflict("not now".into()),
        || Fault::TooLarge { limit: 5 },
        || Fault::Unavailable { reason: "closed".into(), retry_after: Duration::from_secs(5) },
        || Fault::internal("a bug"),
    ];
    for fault in faults {
        for later in [false, true] {
            let app = move |_| async move {
                if later {
                    tokio::task::yield_now().await;
                }
                Err(fault())
            };
            let below = over(KIND, "limits = '(GET, *, .*, 5, DAY)'\nmax_keys = 9", &deps, app);
            let stack = build(KIND, "limits = '(ANY, *, .*, 3, MINUTE)'", &deps).unwrap().over(below);
            let answer = stack.send(called(Method::GET, "/", "ann", "p1")).await.unwrap_err();
            assert_eq!((answer.code(), answer.to_string()), (fault().code(), fault().to_string()));
            let (response, bare) = (answer.into_response(), fault().into_response());
            let values = |name: &str| {
                let values = response.headers().get_all(name).iter();
                values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(
                values("ratelimit-policy"),
                ["\"GET * day\";q=5;w=86400", "\"ANY * minute\";q=3;w=60"]
            );
            assert_eq!(values("ratelimit").len(), 2);
            assert_eq!(values("retry-after").len(), bare.headers().get_all("retry-after").iter().count());
            assert_eq!(values("allow").len(), bare.headers().get_all("allow").iter().count());
        }
    }
}

#[tokio::test]
async fn a_hundred_a_minute_admits_a_hundred() {
    let (stack, clock) = stack("limits = '(DELETE, *, .*, 100, MINUTE)'");
    let delete = || wait(&stack, called(Method::DELETE, "/", "ann", "p1"));
    for _ in 0..2 {
        let mut admitted = 0;
        while delete().await == 0 {
            admitted += 1;
        }
        assert_eq!(admitted, 100);
        clock.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn limits_know_roles() {
    let by = |user: &str, roles: &[&str]| {
        let mut request = request(Method::GET, "/", &[]);
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let caller = pileus_sdk::Caller::new(user.into(), "p".into(), roles, false);
        request.context_mut().caller = Some(Arc::new(caller));
        request
    };
    let some = "limits = [{ verb = 'GET', value = 1, unit = 'minute', roles = ['guest', 'reader'] }]";
    let all = "limits = '(GET, *, .*, 1, MINUTE)'\nexempt_roles = ['admin']";
    let shared = "limits = '(GET, *, .*, 1, MINUTE)'\nkey = 'role'";
    type Row<'a> = (&'a str, &'a [&'a str], &'a str, &'a [&'a str], u64);
    let cases: &[Row<'_>] = &[
        // settings, roles of ann, who comes second, his roles, what he waits
        (some, &["member"], "ann", &["member"], 0),
        (some, &["Guest"], "ann", &["Guest"], 60),
        (some, &["member", "reader"], "ann", &["member", "reader"], 60),
        (some, &["guest"], "bob", &["guest"], 0),
        (all, &["Admin", "member"], "ann", &["Admin", "member"], 0),
        (all, &["member"], "ann", &["member"], 60),
        (shared, &["a", "b"], "bob", &["B", "a", "a"], 60),
        (shared, &["a", "b"], "bob", &["a"], 0),
        (shared, &[], "bob", &[], 60),
    ];
    for (settings, roles, second, others, waits) in cases {
        let (stack, _) = stack(settings);
        assert_eq!(wait(&stack, by("ann", roles)).await, 0);
        assert_eq!(wait(&stack, by(second, others)).await, *waits, "{settings} {roles:?} {others:?}");
    }
    let (stack, _) = stack(some);
    for (role, shown) in [("guest", 1), ("member", 0)] {
        let response = stack.send(by("cid", &[role])).await.unwrap();
        let rate: Value = serde_json::from_slice(&response.body().bytes().unwrap()).unwrap();
        assert_eq!(rate.as_array().unwrap().len(), shown, "{role} sees what holds for him");
    }
}

#[tokio::test]
async fn a_dry_run_refuses_nobody_and_says_whom_it_would_have() {
    let log = crate::filters::testing::Log::default();
    let _guard = log.start(tracing_subscriber::filter::LevelFilter::WARN);
    let (stack, _) = stack("limits = '(GET, *, .*, 1, MINUTE)'\ndry_run = true");
    for _ in 0..3 {
        assert_eq!(wait(&stack, called(Method::GET, "/", "ann", "p1")).await, 0);
    }
    let counts: Vec<_> = log.lines().iter().map(|line| line["fields"]["refused"].clone()).collect();
    assert_eq!(counts, [json!(1), json!(2)]);
}

#[tokio::test]
async fn a_path_is_a_routes() {
    use pileus_sdk::{Mount, Route};
    let (mut deps, ..) = deps();
    let route = |path: &str, params: &[&str]| {
        Arc::new(Route {
            mount: Mount::Tenant,
            method: Method::GET,
            path: path.into(),
            params: params.iter().map(|param| (*param).into()).collect(),
            verb: None,
            resource: "jobs",
            action: "show",
            extension: "jobs",
            rule: "jobs:show",
            also: &[],
            default_rule: "rule:admin",
            scope_types: &[],
            query: Vec::new(),
            about: "",
            handler: Arc::new(|_| pileus_sdk::Answer::now(Err(Fault::NoRoute))),
        })
    };
    let routes = [
        route("/{project_id}/jobs", &["project_id"]),
        route("/{project_id}/jobs/{id}", &["project_id", "id"]),
    ];
    deps.router = Some(Arc::new(crate::router::Router::new(Mount::Tenant, &routes).unwrap()));
    let text = "limits = [{ verb = 'ANY', path = '/{project_id}/jobs/{id}', value = 1, unit = 'day' }]";
    let stack = over(KIND, text, &deps, app);
    let send = |path: &str| wait(&stack, called(Method::GET, path, "ann", "p1"));
    // One bucket for the route, whatever the job; other routes, and none, have no limit.
    let rows = [("/p1/jobs/a", 0), ("/p1/jobs/b", 86_400), ("/p1/jobs", 0), ("/p1/jobs", 0), ("/nowhere", 0)];
    for (path, waits) in rows {
        assert_eq!(send(path).await, waits, "{path}");
    }
    let near = text.replace("/{id}", "/{di}");
    let error = build(KIND, &near, &deps).unwrap_err();
    assert!(error.message.contains("no route has the path `/{project_id}/jobs/{di}`"), "{}", error.message);
    assert!(error.message.contains("did you mean `/{project_id}/jobs/{id}`?"), "{}", error.message);
    deps.router = None;
    assert!(build(KIND, text, &deps).unwrap_err().message.contains("needs a router"));
}

#[tokio::test]
async fn nobody_is_refused_where_callers_are_counted() {
    let (stack, _) = stack("limits = '(GET, *, .*, 1, DAY)'");
    let fault = stack.send(request(Method::GET, "/", &[])).await.unwrap_err();
    assert_eq!(fault.code().0, 401);
}

#[tokio::test]
async fn the_document_shows_what_is_left_now() {
    let (stack, clock) =
        stack("limits = '(POST, *, .*, 10, MINUTE); (GET, *c*, ^c, 1, DAY); (PUT, *, .*, 1, HOUR)'");
    for _ in 0..2 {
        assert_eq!(wait(&stack, called(Method::POST, "/", "ann", "p1")).await, 0);
    }
    assert_eq!(wait(&stack, called(Method::PUT, "/", "ann", "p1")).await, 0);
    clock.advance(Duration::from_millis(6500));
    let shown = |user: &str| stack.send(called(Method::GET, "/limits", user, "p1"));
    let body =
        |response: Response| -> Value { serde_json::from_slice(&response.body().bytes().unwrap()).unwrap() };
    let entry = |verb: &str, value: u64, remaining: u64, unit: &str, next: &str| json!({"verb": verb, "value": value, "remaining": remaining, "unit": unit, "next-available": next});
    // The clock shows 2011-07-21T18:17:12.5Z.
    let now = "2011-07-21T18:17:12Z";
    let expected = json!([
        {"uri": "*", "regex": ".*", "limit": [
            entry("POST", 10, 9, "MINUTE", now),
            entry("PUT", 1, 0, "HOUR", "2011-07-21T19:17:06Z"),
        ]},
        {"uri": "*c*", "regex": "^c", "limit": [entry("GET", 1, 1, "DAY", now)]},
    ]);
    assert_eq!(body(shown("ann").await.unwrap()), expected);
    let fresh = body(shown("bob").await.unwrap());
    assert_eq!(fresh[0]["limit"][0]["remaining"], 10);
}

#[test]
fn mistakes_are_told_at_the_setting() {
    let (deps, ..) = deps();
    for (text, expected) in [
        ("limits = '(PSOT, *, .*, 1, DAY)'", "[filter.ratelimit] limit 1: `PSOT` is no verb"),
        ("limits = 5", "limits are a list"),
        ("", "missing field `limits`"),
        ("limits = ''\nkey = 'token'", "unknown word `token`"),
        ("limits = ''\nmax_keys = 0", "whole number from 1"),
        ("limits = ''\nlimit = ''", "unknown field `limit`"),
    ] {
        let error = build(KIND, text, &deps).unwrap_err();
        assert!(error.message.contains(expected), "{text}: {}", error.message);
        assert!(error.place.is_some() && !error.warning, "{text}");
    }
    assert!(build(KIND, "limits = ''", &deps).is_ok());
}

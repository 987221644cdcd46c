//! Who is not let in, and what is said of a Keystone that is not well.

use tracing_subscriber::filter::LevelFilter;

use super::*;

#[tokio::test]
async fn a_keystone_that_is_not_well_opens_no_door() {
    let garbage = r#"{"token": {"user": {"id": "u1"}, "expires_at": "soon", "roles": []}}"#;
    let cases = [
        ("an error", Mode::Says(500, "{}")),
        ("not now", Mode::Says(503, "")),
        ("a way elsewhere", Mode::Says(302, "")),
        ("yes to everything", Mode::Says(200, "{}")),
        ("no to everything", Mode::Says(404, "")),
        ("wrong credentials", Mode::Says(401, "{}")),
        ("too much", Mode::Huge),
        ("an error of tokens", Mode::SaysOfTokens(500, "{}")),
        ("it may not ask", Mode::SaysOfTokens(403, "{}")),
        ("it never may ask", Mode::SaysOfTokens(401, "{}")),
        ("too often", Mode::SaysOfTokens(429, "{}")),
        ("too much of tokens", Mode::HugeOfTokens),
        ("it breaks off", Mode::BreaksOff),
        ("no JSON", Mode::SaysOfTokens(200, "<html>")),
        ("nothing", Mode::SaysOfTokens(200, "")),
        ("a bare token", Mode::SaysOfTokens(200, r#"{"token": {}}"#)),
        ("no time", Mode::SaysOfTokens(200, garbage)),
        ("deep", Mode::SaysOfTokens(200, include_str!("deep.json"))),
        (
            "no user",
            Mode::SaysOfTokens(
                200,
                r#"{"token": {"user": {"id": ""}, "expires_at": "2100-01-01T00:00:00Z"}}"#,
            ),
        ),
    ];
    for (what, mode) in cases {
        let (fake, stack, clock) = start("").await;
        fake.know("t1", "u1", &["admin"]);
        fake.state().mode = mode;
        assert_eq!(status(&stack, "t1").await, 503, "{what}");
        assert_eq!(status(&stack, "").await, 401, "{what}: what is no token is refused all the same");
        fake.state().mode = Mode::Well;
        clock.advance(secs(10));
        assert_eq!(status(&stack, "t1").await, 200, "{what}: well again");
    }
}

/// Statuses of Keystone, or of the server before it, about a rejected token: all are 401, and cached.
#[tokio::test]
async fn a_token_that_keystone_does_not_take_is_no_token() {
    let longest = "x".repeat(TOKEN_MAX);
    for (said, token) in [(400, "t1"), (404, "t1"), (410, "t1"), (414, "t1"), (431, "t1"), (431, &*longest)] {
        let (fake, stack, clock) = start("").await;
        fake.know(token, "u1", &[]);
        fake.state().mode = Mode::SaysOfTokens(said, "<html>");
        let log = Log::default();
        let guard = log.start(LevelFilter::INFO);
        for _ in 0..3 {
            assert_eq!(status(&stack, token).await, 401, "{said}");
        }
        drop(guard);
        assert_eq!((fake.counts(), log.lines().len()), ((1, 1), 0), "{said}: asked once, and nothing to log");
        // It says so of this token alone, and for a while.
        fake.state().mode = Mode::Well;
        fake.know("other", "u2", &[]);
        assert_eq!(status(&stack, "other").await, 200, "{said}");
        clock.advance(secs(10));
        assert_eq!(status(&stack, token).await, 200, "{said}");
    }
}

/// Faults of one question: the status of its caller, that of another caller at the same time, and the
/// questions about the first token.
#[tokio::test]
async fn one_bad_answer_concerns_one_caller() {
    let cases = [
        ("it breaks off once", Mode::BreaksOffOnce, 200, 2),
        ("it breaks off", Mode::BreaksOff, 503, 2),
        ("too much", Mode::HugeOfTokens, 503, 1),
        ("an error", Mode::SaysOfTokens(500, ""), 503, 1),
        ("no JSON", Mode::SaysOfTokens(200, "<html>"), 503, 1),
    ];
    for (what, mode, expected, asked) in cases {
        // With an idle connection, and without one.
        for warm in [true, false] {
            let (fake, stack, clock) = start("").await;
            for token in ["t0", "t1", "t2"] {
                fake.know(token, "u1", &[]);
            }
            assert_eq!(status(&stack, "t0").await, 200);
            if !warm {
                clock.advance(secs(61));
            }
            fake.state().asked.clear();
            fake.state().mode = mode;
            assert_eq!(status(&stack, "t1").await, expected, "{what}, warm: {warm}");
            assert_eq!(fake.counts(), (0, asked), "{what}, warm: {warm}");
            fake.state().mode = Mode::Well;
            assert_eq!(status(&stack, "t2").await, 200, "{what}, warm: {warm}: another caller, at once");
            assert_eq!(status(&stack, "t1").await, 200, "{what}, warm: {warm}: and the same");
        }
    }
}

#[tokio::test]
async fn connections_stay_open_between_questions() {
    let ask_all = async |stack: &Stack, tokens: std::ops::Range<usize>| {
        for token in tokens {
            assert_eq!(status(stack, &format!("t{token}")).await, 200);
        }
    };
    // How Keystone answers, seconds between the questions, connections for ten questions.
    for (mode, pause, connections) in
        [(Mode::Well, 0, 1), (Mode::Well, 20, 1), (Mode::Well, 61, 10), (Mode::Closes, 0, 11)]
    {
        let (fake, stack, clock) = start("").await;
        fake.state().mode = mode;
        for token in 0..20 {
            fake.know(&format!("t{token}"), "u1", &[]);
        }
        for token in 0..10 {
            ask_all(&stack, token..token + 1).await;
            clock.advance(secs(pause));
        }
        assert_eq!((fake.counts(), fake.state().connections), ((1, 10), connections), "{mode:?}, {pause} s");
    }
    // Those who ask at the same time have each a connection, which serves the next ones.
    let (fake, stack, _) = start("").await;
    for token in 0..20 {
        fake.know(&format!("t{token}"), "u1", &[]);
    }
    ask_all(&stack, 0..1).await;
    fake.gate.forget_permits(1000);
    let waiting: Vec<_> = (1..9)
        .map(|token| {
            let token = format!("t{token}");
            tokio::spawn(stack.send(request(Method::GET, "/", &[("x-auth-token", &token)])))
        })
        .collect();
    while fake.counts().1 < 9 {
        tokio::task::yield_now().await;
    }
    fake.gate.add_permits(1000);
    for answer in waiting {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    ask_all(&stack, 9..20).await;
    assert_eq!(fake.state().connections, 8);
}

#[tokio::test]
async fn a_dead_or_slow_keystone_is_503_and_then_the_next_one_is_asked() {
    let (deps, clock, _) = deps();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    // Nobody is there: known at once, and not asked again for two seconds.
    let stack = build(KIND, &settings(&[dead], ""), &deps).unwrap().over(Stack::from_fn(creds));
    assert_eq!(status(&stack, "t1").await, 503);
    assert_eq!(status(&stack, "t2").await, 503);
    // The second of the list answers, and from then on it is asked first.
    let fake = Fake::start(&clock).await;
    fake.know("t1", "u1", &[]);
    fake.know("t2", "u1", &[]);
    let stack = build(KIND, &settings(&[dead, fake.address], ""), &deps).unwrap().over(Stack::from_fn(creds));
    assert_eq!((status(&stack, "t1").await, fake.counts()), (200, (1, 1)));
    // One that takes the call and says nothing.
    let silent = Fake::start(&clock).await;
    silent.state().mode = Mode::Silent;
    let urls = [silent.address, fake.address];
    let stack = build(KIND, &settings(&urls, ""), &deps).unwrap().over(Stack::from_fn(creds));
    let waiting = tokio::spawn(stack.send(request(Method::GET, "/", &[("x-auth-token", "t2")])));
    let reached = async |fake: &Fake| {
        while fake.counts() == (0, 0) {
            tokio::task::yield_now().await;
        }
    };
    reached(&silent).await;
    clock.advance(secs(10));
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200, "the next one");
    // It alone: 503 after its time, and at once for whoever comes then.
    let stack = build(KIND, &settings(&[silent.address], ""), &deps).unwrap().over(Stack::from_fn(creds));
    silent.state().asked.clear();
    let waiting = tokio::spawn(stack.send(request(Method::GET, "/", &[("x-auth-token", "t2")])));
    reached(&silent).await;
    clock.advance(secs(10));
    assert_eq!(waiting.await.unwrap().unwrap_err().code().0, 503);
    assert_eq!((status(&stack, "t3").await, silent.counts()), (503, (1, 0)), "it is left alone");
}

#[tokio::test]
async fn what_is_kept_outlives_keystone_for_its_time_and_no_longer() {
    let (fake, stack, clock) = start("token_cache_time = 60").await;
    fake.know("t1", "u1", &[]);
    assert_eq!(status(&stack, "t1").await, 200);
    fake.state().mode = Mode::Says(500, "");
    for (later, expected) in [(59, 200), (1, 503), (100, 503)] {
        clock.advance(secs(later));
        assert_eq!(status(&stack, "t1").await, expected, "{later} s later");
    }
}

#[tokio::test]
async fn wrong_credentials_are_not_tried_all_the_time() {
    let (fake, stack, clock) = start("").await;
    fake.state().mode = Mode::Says(401, "{}");
    for (later, asked) in [(0, 1), (9, 1), (1, 2)] {
        clock.advance(secs(later));
        assert_eq!((status(&stack, "t1").await, fake.counts()), (503, (asked, 0)));
    }
}

#[tokio::test]
async fn what_is_no_token_is_not_asked_about() {
    let (fake, stack, _) = start("").await;
    let long = "x".repeat(TOKEN_MAX + 1);
    for token in ["", " ", "a b", "\u{e9}", "a\tb", &long] {
        assert_eq!(status(&stack, token).await, 401, "{token:?}");
    }
    assert_eq!(ask(&stack, &[("authorization", "Bearer t1")]).await.0, 401);
    assert_eq!(fake.counts(), (0, 0));
}

/// Nobody passes as somebody.
#[tokio::test]
async fn a_delayed_decision_is_that_nobody_calls() {
    let (fake, stack, clock) = start("delay_auth_decision = true").await;
    fake.know("t1", "u1", &[]);
    fake.know("svc", "s1", &["service"]);
    type Sent = &'static [(&'static str, &'static str)];
    let cases: [(Sent, u16, bool); 6] = [
        (&[], 200, false),
        (&[("x-auth-token", "wrong")], 200, false),
        (&[("x-auth-token", "")], 200, false),
        (&[("x-auth-token", "t1")], 200, true),
        (&[("x-auth-token", "t1"), ("x-service-token", "wrong")], 200, false),
        (&[("x-service-token", "svc")], 200, false),
    ];
    for _ in 0..2 {
        for (headers, expected, somebody) in cases {
            let (status, creds) = ask(&stack, headers).await;
            assert_eq!((status, creds.is_object()), (expected, somebody), "{headers:?}");
        }
    }
    fake.state().mode = Mode::Says(500, "");
    clock.advance(secs(600));
    assert_eq!(status(&stack, "t1").await, 503, "nobody knows: that is no decision");
    // Who refuses below need not know where tokens are made.
    let (deps, ..) = deps();
    let delayed = build(KIND, &settings(&[fake.address], "delay_auth_decision = true"), &deps).unwrap();
    let below = Stack::from_fn(|request: Request| async move {
        request.context().known_caller()?;
        panic!("somebody calls")
    });
    assert_eq!(ask(&delayed.over(below), &[]).await.0, 401);
}

async fn everything_that_is_logged() -> Fake {
    let (fake, stack, clock) = start("token_cache_time = 0").await;
    fake.know("t0ken-1", "u1", &[]);
    fake.know("s3rvice-1", "u1", &[]);
    let modes =
        [Mode::Well, Mode::Says(500, "{}"), Mode::Says(401, "{}"), Mode::SaysOfTokens(401, "{}"), Mode::Huge];
    for mode in modes {
        fake.state().mode = mode;
        clock.advance(HOUR);
        let alone = [("x-auth-token", "t0ken-1")];
        ask(&stack, &alone).await;
        ask(&stack, &[alone[0], ("x-service-token", "s3rvice-1")]).await;
    }
    fake
}

#[tokio::test]
async fn no_secret_is_in_the_log() {
    let log = Log::default();
    let _guard = log.start(LevelFilter::TRACE);
    let fake = everything_that_is_logged().await;
    let text = format!("{:?}", log.lines());
    assert!(text.contains("Keystone could not be asked"), "{text}");
    for secret in ["t0ken", "s3rvice-1", "s3cret-pw", "own-"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let section = Section::from_text("filter.authtoken", &settings(&[fake.address], ""));
    assert!(!format!("{:?}", Settings::read(&section, &Watched::default()).unwrap()).contains("s3cret-pw"));
}

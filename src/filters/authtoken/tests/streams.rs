//! Answers that go on: their token is asked about again.

use std::sync::Mutex;

use pileus_sdk::Standing;

use super::*;

/// A stream that a request with these headers has opened.
async fn open(fake: &Fake, clock: &ManualClock, headers: &[(&str, &str)]) -> Standing {
    let (deps, ..) = deps();
    let deps = crate::pipeline::Deps { clock: Arc::new(clock.clone()), ..deps };
    let (kept, leaves) = (Arc::new(Mutex::new(None)), Arc::new(clock.clone()));
    let opened = kept.clone();
    let app = move |request: Request| {
        let context = request.context();
        let standing = Standing::new(leaves.clone(), context.admission.clone(), context.caller.clone());
        *kept.lock().unwrap() = Some(standing);
        async { Ok(Response::new(Body::Empty)) }
    };
    let text = settings(&[fake.address], "token_cache_time = 300");
    let stack = build(KIND, &text, &deps).unwrap().over(Stack::from_fn(app));
    stack.send(request(Method::GET, "/", headers)).await.unwrap();
    opened.lock().unwrap().take().unwrap()
}

#[tokio::test]
async fn a_stream_ends_with_its_token_or_a_cache_time_after_its_revocation() {
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], fn(&Fake), u64, bool);
    let user: &[(&str, &str)] = &[("x-auth-token", "t1")];
    let service: &[(&str, &str)] = &[("x-auth-token", "t1"), ("x-service-token", "s1")];
    // The event, the seconds after which the stream is checked, and whether it goes on.
    let cases: [Row<'_>; 9] = [
        ("nothing happens", user, |_| (), 1000, true),
        ("revoked, and cached", user, |fake| drop(fake.state().tokens.remove("t1")), 299, true),
        ("revoked, after the cache time", user, |fake| drop(fake.state().tokens.remove("t1")), 300, false),
        ("the token's last second", user, |_| (), 3599, true),
        ("the token's end", user, |_| (), 3600, false),
        ("another role", user, |fake| fake.know("t1", "u1", &["reader"]), 300, true),
        ("Keystone is away", user, |fake| fake.state().mode = Mode::Says(503, ""), 300, false),
        ("through a service", service, |_| (), 1000, true),
        ("the service's is revoked", service, |fake| drop(fake.state().tokens.remove("s1")), 300, false),
    ];
    for (what, headers, step, seconds, holds) in cases {
        let clock = ManualClock::at(deps().0.clock.now());
        let fake = Fake::start(&clock).await;
        fake.know("t1", "u1", &["member"]);
        fake.know("s1", "svc", &["service"]);
        let mut standing = open(&fake, &clock, headers).await;
        step(&fake);
        clock.advance(secs(seconds));
        assert_eq!(standing.holds().await, holds, "{what}");
    }
}

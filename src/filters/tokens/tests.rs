//! The filter over an engine that shows what a test gives it.

use std::time::Duration;

use http::Method;
use pileus_model::View;
use pileus_sdk::Body;
use serde_json::json;

use pileus_sdk::{Request, Response};

use super::*;
use crate::filters::testing::{Shown, build, deps, over, request};

fn token(secret: &str, user: &str, roles: &[&str]) -> Token {
    let hash: Hash = Sha256::digest(secret).into();
    Token {
        sha256: hex_of(&hash, &mut [0; 64]).into(),
        name: "laptop".into(),
        user: user.into(),
        project: "p1".into(),
        roles: roles.iter().map(|role| role.to_string()).collect(),
        created: Time(0),
        expires: None,
    }
}

fn show(engine: &Shown, tokens: &[Token]) {
    let mut shown = engine.0.lock().unwrap();
    let mut view = View { seq: shown.seq + 1, ..View::default() };
    for token in tokens {
        view.tokens.insert(token.sha256.clone(), Arc::new(token.clone()));
    }
    *shown = Arc::new(view);
}

async fn creds(mut request: Request) -> Result<Response, Fault> {
    assert!(request.headers().values().all(|value| value.is_empty()), "a token goes on");
    let caller = request.context_mut().known_caller()?;
    Ok(Response::new(Body::from(caller.creds.to_string())))
}

#[test]
fn the_key_is_the_hash_in_lower_case_hex() {
    // Printed by `printf secret | sha256sum`.
    let known = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    assert_eq!(&*token("secret", "", &[]).sha256, known);
}

#[tokio::test]
async fn a_known_token_says_who_calls_and_others_are_refused() {
    let (deps, _, engine) = deps();
    show(&engine, &[token("s3cret", "ann", &["member"]), token("s3cret-2", "root", &["x", "admin"])]);
    let stack = over(KIND, "", &deps, creds);
    let ann = json!({"user_id": "ann", "project_id": "p1", "roles": ["member"], "is_admin": false});
    let root = json!({"user_id": "root", "project_id": "p1", "roles": ["x", "admin"], "is_admin": true});
    let cases: [(&[(&str, &str)], _); 14] = [
        (&[("x-auth-token", "s3cret")], Some(&ann)),
        (&[("x-auth-token", "s3cret-2")], Some(&root)),
        (&[("authorization", "Bearer s3cret")], Some(&ann)),
        (&[("authorization", "bEARER  s3cret")], Some(&ann)),
        (&[("x-auth-token", "s3cret"), ("authorization", "Bearer s3cret-2")], Some(&ann)),
        (&[("x-auth-token", "wrong"), ("authorization", "Bearer s3cret")], None),
        (&[("x-auth-token", ""), ("authorization", "Bearer s3cret")], None),
        (&[], None),
        (&[("x-auth-token", "S3cret")], None),
        (&[("x-auth-token", "s3cre")], None),
        (&[("authorization", "Basic s3cret")], None),
        (&[("authorization", "Bearer")], None),
        (&[("authorization", "Bearer ")], None),
        (&[("x-auth-token", &token("s3cret", "", &[]).sha256)], None), // the hash is no token
    ];
    for _ in 0..2 {
        for (headers, expected) in &cases {
            let answer = stack.send(request(Method::GET, "/", headers)).await;
            match (answer, expected) {
                (Ok(response), Some(expected)) => {
                    let body: serde_json::Value =
                        serde_json::from_slice(&response.body().bytes().unwrap()).unwrap();
                    assert_eq!(body, **expected, "{headers:?}");
                }
                (Err(fault), None) => {
                    let response = fault.into_response();
                    assert_eq!(response.status(), 401, "{headers:?}");
                    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"pileus\"");
                }
                (answer, _) => panic!("{headers:?}: {answer:?}"),
            }
        }
    }
}

#[test]
fn a_caller_is_built_once_and_goes_with_his_token() {
    let (deps, _, engine) = deps();
    let identity = Identity::new(deps.engine.clone(), deps.clock.clone());
    show(&engine, &[token("s", "ann", &["member"])]);
    let first = identity.caller(b"s").unwrap();
    assert!(Arc::ptr_eq(&first, &identity.caller(b"s").unwrap()), "kept");
    // Another view with the same token in it.
    let view = engine.0.lock().unwrap().clone();
    *engine.0.lock().unwrap() = Arc::new(View { seq: 5, ..(*view).clone() });
    assert!(Arc::ptr_eq(&first, &identity.caller(b"s").unwrap()), "kept over views");
    // The token was made anew, with other rights.
    show(&engine, &[token("s", "ann", &["admin"])]);
    assert!(identity.caller(b"s").unwrap().is_admin);
    show(&engine, &[]);
    assert!(identity.caller(b"s").is_none(), "revoked");
}

#[test]
fn a_token_ends_at_its_time_whether_it_is_cached_or_not() {
    let (deps, clock, engine) = deps();
    let now = deps.clock.now();
    let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
    let expiring = |secret: &str, expires: Option<Time>| Token { expires, ..token(secret, "ann", &[]) };
    show(
        &engine,
        &[
            expiring("never", None),
            expiring("past", Some(Time(0))),
            expiring("now", Some(now)),
            expiring("minute", Some(now.after(minute))),
            expiring("hour", Some(now.after(minute * 60))),
        ],
    );
    let identity = Identity::new(deps.engine.clone(), deps.clock.clone());
    let steps = [
        (Duration::ZERO, ["never", "minute", "hour"].as_slice()),
        (minute - second, &["never", "minute", "hour"]),
        (second, &["never", "hour"]),
        (minute * 60, &["never"]),
    ];
    for (passes, valid) in steps {
        clock.advance(passes);
        for secret in ["never", "past", "now", "minute", "hour"] {
            // The second look meets the cache.
            for look in 0..2 {
                let known = identity.caller(secret.as_bytes()).is_some();
                assert_eq!(known, valid.contains(&secret), "{secret} at {:?}, look {look}", clock.now());
            }
        }
    }
}

#[test]
fn the_cache_is_bounded() {
    let (deps, _, engine) = deps();
    let identity = Identity::new(deps.engine.clone(), deps.clock.clone());
    let tokens: Vec<_> = (0..MAX_CALLERS + 500).map(|it| token(&it.to_string(), "ann", &[])).collect();
    show(&engine, &tokens);
    for secret in 0..tokens.len() {
        assert!(identity.caller(secret.to_string().as_bytes()).is_some());
    }
    let kept: usize = identity.callers.iter().map(|shard| shard.read().unwrap().len()).sum();
    assert!(kept <= MAX_CALLERS && kept > SHARDS, "{kept}");
}

#[test]
fn it_takes_no_settings() {
    let (deps, ..) = deps();
    assert!(build(KIND, "tokens = ['x']", &deps).is_err());
}

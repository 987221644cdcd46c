//! Over real sockets, with a Keystone that says what it is told to and a clock that the test moves.

mod fake;
mod refusals;
mod settings;
mod streams;
mod tls;

use std::net::SocketAddr;

use http::Method;
use pileus_model::ManualClock;
use pileus_sdk::{Body, Response};
use serde_json::{Value, json};

use self::fake::{Fake, HOUR, Mode};
use super::*;
use crate::{
    filters::testing::{Log, build, deps, request},
    pipeline::Watched,
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings(addresses: &[SocketAddr], more: &str) -> String {
    let urls: Vec<_> = addresses.iter().map(|it| format!("http://{it}/identity")).collect();
    format!(
        "auth_url = {urls:?}\nusername = 'svc'\npassword = 's3cret-pw'\nproject_name = 'service'\n\
         www_authenticate_uri = 'http://keystone:5000'\n{more}"
    )
}

/// Says who calls: his credentials, or null.
async fn creds(request: Request) -> Result<Response, Fault> {
    assert!(request.headers().values().all(|value| value.is_empty()), "a token goes on");
    let caller = request.context().caller.as_ref();
    Ok(Response::new(Body::from(caller.map_or(Value::Null, |it| it.creds.clone()).to_string())))
}

/// A Keystone, and the filter that asks it, with `more` settings.
async fn start(more: &str) -> (Fake, Stack, ManualClock) {
    let (deps, clock, _) = deps();
    let fake = Fake::start(&clock).await;
    let stack = build(KIND, &settings(&[fake.address], more), &deps).unwrap();
    (fake, stack.over(Stack::from_fn(creds)), clock)
}

/// The status, and who calls.
async fn ask(stack: &Stack, headers: &[(&str, &str)]) -> (u16, Value) {
    match stack.send(request(Method::GET, "/", headers)).await {
        Ok(response) => (200, serde_json::from_slice(&response.body().bytes().unwrap()).unwrap()),
        Err(fault) => {
            let response = fault.into_response();
            let status = response.status().as_u16();
            let header = |name: &str| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
            let (challenge, retry) = (header("www-authenticate"), header("retry-after"));
            let challenged = challenge.as_deref() == Some("Keystone uri=\"http://keystone:5000\"");
            assert_eq!(
                (status == 401, status == 503),
                (challenged, retry.as_deref() == Some("2")),
                "{status}"
            );
            (status, Value::Null)
        }
    }
}

async fn status(stack: &Stack, token: &str) -> u16 {
    ask(stack, &[("x-auth-token", token)]).await.0
}

#[tokio::test]
async fn the_caller_is_what_keystone_says() {
    let (fake, stack, _) = start("").await;
    let person = |more: Value, gone: &[&str]| {
        let mut document = fake.document("u1", &["member", "reader"]);
        let all = document.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        gone.iter().for_each(|key| drop(all.remove(*key)));
        document
    };
    let said = |more: Value, gone: &[&str]| {
        let mut said = json!({
            "user_id": "u1", "user_domain_id": "default", "project_id": "p1", "project_domain_id": "default",
            "roles": ["member", "reader"], "is_admin": false, "is_admin_project": true,
        });
        let all = said.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        gone.iter().for_each(|key| drop(all.remove(*key)));
        said
    };
    let admin = json!([{ "name": "admin" }]);
    let no_project = ["project_id", "project_domain_id"];
    let cases = [
        ("a member", person(json!({}), &[]), said(json!({}), &[])),
        (
            "an administrator",
            person(json!({ "roles": admin }), &[]),
            said(json!({ "roles": ["admin"], "is_admin": true }), &[]),
        ),
        (
            "an administrator of a project that is not the administrators'",
            person(json!({ "roles": admin, "is_admin_project": false }), &[]),
            said(json!({ "roles": ["admin"], "is_admin_project": false }), &[]),
        ),
        (
            "Admin is no admin",
            person(json!({ "roles": [{ "name": "Admin" }] }), &[]),
            said(json!({ "roles": ["Admin"] }), &[]),
        ),
        (
            "a domain's",
            person(json!({ "domain": { "id": "d1" } }), &["project"]),
            said(json!({ "domain_id": "d1" }), &no_project),
        ),
        (
            "the system's",
            person(json!({ "system": { "all": true }, "roles": admin }), &["project"]),
            said(json!({ "system_scope": "all", "roles": ["admin"], "is_admin": true }), &no_project),
        ),
        ("no part of a system", person(json!({ "system": {} }), &["project"]), said(json!({}), &no_project)),
        ("nothing's", person(json!({}), &["project", "roles"]), said(json!({ "roles": [] }), &no_project)),
        (
            "an application credential's",
            person(json!({ "application_credential": { "id": "c1", "name": "n", "restricted": true } }), &[]),
            said(
                json!({ "application_credential_id": "c1", "application_credential_restricted": true }),
                &[],
            ),
        ),
        (
            "one with access rules, which nobody here enforces",
            person(
                json!({ "application_credential": { "id": "c1", "access_rules": [{ "path": "/a" }] } }),
                &[],
            ),
            Value::Null,
        ),
        ("expired", person(json!({ "expires_at": fake.at(0) }), &[]), Value::Null),
        (
            "an actor of the server itself",
            person(json!({ "user": { "id": "[scheduler]" } }), &[]),
            Value::Null,
        ),
        ("the operator of the old ports", person(json!({ "user": { "id": "operator" } }), &[]), Value::Null),
        (
            "a user of no domain",
            person(json!({ "user": { "id": "u1" } }), &[]),
            said(json!({}), &["user_domain_id"]),
        ),
    ];
    for (at, (what, document, expected)) in cases.into_iter().enumerate() {
        let token = format!("t{at}");
        fake.state().tokens.insert(token.clone(), document);
        let status = if expected.is_null() { 401 } else { 200 };
        for _ in 0..2 {
            assert_eq!(ask(&stack, &[("x-auth-token", &token)]).await, (status, expected.clone()), "{what}");
        }
        assert_eq!(fake.counts(), (1, at + 1), "{what}: asked once");
    }
}

/// Projects that the deployer names, what Keystone says of the token's project, and whether its administrator is one
/// here.
#[tokio::test]
async fn an_administrators_project_is_a_setting() {
    let cases = [
        ("", None, true),
        ("", Some(true), true),
        ("", Some(false), false),
        ("admin_projects = ['p1']", None, true),
        ("admin_projects = ['p0', 'p1']", Some(true), true),
        ("admin_projects = ['p1']", Some(false), false),
        ("admin_projects = ['P1']", None, false),
        ("admin_projects = ['p2']", Some(true), false),
        ("admin_projects = []", None, false),
    ];
    for (setting, said, expected) in cases {
        let (fake, stack, _) = start(setting).await;
        let mut documents = vec![("project", fake.document("u1", &["admin"]), expected)];
        let (mut of_system, mut of_domain) = (documents[0].1.clone(), documents[0].1.clone());
        for (document, key, value) in [
            (&mut of_system, "system", json!({ "all": true })),
            (&mut of_domain, "domain", json!({ "id": "p1" })),
        ] {
            document[key] = value;
            document.as_object_mut().unwrap().remove("project");
        }
        documents.push(("system", of_system, said != Some(false)));
        documents.push(("domain", of_domain, said != Some(false) && setting.is_empty()));
        for (of, mut document, expected) in documents {
            if let Some(said) = said {
                document["is_admin_project"] = said.into();
            }
            fake.state().tokens.insert(of.into(), document);
            let (_, creds) = ask(&stack, &[("x-auth-token", of)]).await;
            let found = (creds["is_admin"].clone(), creds["is_admin_project"].clone());
            assert_eq!(found, (expected.into(), expected.into()), "{setting}, {said:?}: of a {of}");
            assert_eq!(creds["roles"], json!(["admin"]), "{setting}: of a {of}");
        }
    }
}

#[tokio::test]
async fn what_keystone_said_is_good_for_a_while_and_no_longer_than_the_token() {
    let (fake, stack, clock) = start("token_cache_time = 100").await;
    fake.know("t1", "u1", &[]);
    let mut short = fake.document("u2", &[]);
    short["expires_at"] = fake.at(30).into();
    fake.state().tokens.insert("short".into(), short);
    // seconds later, token, status, how often Keystone was asked about a token until then
    let steps = [
        (0, "t1", 200, 1),
        (0, "short", 200, 2),
        (0, "wrong", 401, 3),
        (9, "wrong", 401, 3), // a refusal is kept for ten seconds
        (1, "wrong", 401, 4),
        (19, "short", 200, 4),
        (1, "short", 401, 5), // ended, whatever Keystone says
        (69, "t1", 200, 5),
        (1, "t1", 200, 6), // asked anew
        (99, "gone", 401, 7),
        (0, "t1", 200, 7), // revoked, and not yet known
        (1, "t1", 401, 8),
    ];
    for (at, (later, token, expected, asked)) in steps.into_iter().enumerate() {
        clock.advance(secs(later));
        if at == 9 {
            fake.state().tokens.remove("t1");
        }
        assert_eq!(status(&stack, token).await, expected, "{at}");
        assert_eq!(fake.counts().1, asked, "{at}");
    }
    let (fake, stack, _) = start("token_cache_time = 0").await;
    fake.know("t1", "u1", &[]);
    for asked in 1..4 {
        assert_eq!((status(&stack, "t1").await, fake.counts().1), (200, asked), "nothing is kept");
    }
}

#[tokio::test]
async fn its_own_token_is_renewed_before_it_ends_and_where_it_is_refused() {
    let (fake, stack, clock) = start("token_cache_time = 0").await;
    fake.know("t1", "u1", &[]);
    // what happens before, how often it was asked for a token until then, and about one
    let later = |seconds: u64| clock.advance(secs(seconds));
    let steps: [(&str, &dyn Fn(), _, _); 6] = [
        ("the first", &|| (), 1, 1),
        ("kept", &|| later(3539), 1, 2),
        ("a minute before its end", &|| later(1), 2, 3),
        ("revoked", &|| fake.state().good = "other".into(), 3, 5),
        ("kept again", &|| (), 3, 6),
        ("a short-lived one", &|| (later(3600), fake.state().life_s = 20).0, 4, 7),
    ];
    for (what, before, made, asked) in steps {
        before();
        let mut whole = fake.document("u1", &[]);
        whole["expires_at"] = fake.at(7200).into();
        fake.state().tokens.insert("t1".into(), whole);
        assert_eq!((status(&stack, "t1").await, fake.counts()), (200, (made, asked)), "{what}");
    }
    later(9);
    assert_eq!((status(&stack, "t1").await, fake.counts().0), (200, 4), "the half of its life");
    later(1);
    assert_eq!((status(&stack, "t1").await, fake.counts().0), (200, 5), "the other half");
}

#[tokio::test]
async fn those_who_wait_for_one_token_wait_for_one_question() {
    let (fake, stack, _) = start("").await;
    fake.know("t1", "u1", &[]);
    fake.gate.forget_permits(1000);
    let send = || stack.send(request(Method::GET, "/", &[("x-auth-token", "t1")]));
    // The first one hangs up: the question goes on without him.
    let mut first = Box::pin(send());
    tokio::select! {
        biased;
        _ = &mut first => panic!("nobody answered"),
        () = tokio::task::yield_now() => {}
    }
    drop(first);
    let waiting: Vec<_> = (0..50).map(|_| tokio::spawn(send())).collect();
    while fake.counts().1 == 0 {
        tokio::task::yield_now().await;
    }
    fake.gate.add_permits(1);
    for it in waiting {
        assert_eq!(it.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(fake.counts(), (1, 1));
}

#[tokio::test]
async fn what_is_known_is_there_at_once() {
    let (fake, stack, _) = start("").await;
    fake.know("t1", "u1", &[]);
    for (token, status) in [("t1", 200), ("wrong", 401)] {
        let send = || stack.send(request(Method::GET, "/", &[("x-auth-token", token)]));
        let Err(awaited) = send().ready() else { panic!("nobody was asked") };
        assert_eq!(awaited.await.map_or_else(|it| it.code().0, |it| it.status()), status);
        let Ok(there) = send().ready() else { panic!("it is awaited") };
        assert_eq!(there.map_or_else(|it| it.code().0, |it| it.status()), status);
    }
}

#[tokio::test]
async fn the_cache_is_bounded_and_strangers_push_nobody_out() {
    let (deps, clock, _) = deps();
    let fake = Fake::start(&clock).await;
    let section =
        Section::from_text("filter.authtoken", &settings(&[fake.address], "token_cache_max_entries = 32"));
    let stage =
        Stage::new(Settings::read(&section, &Watched::default()).unwrap(), deps.clock.clone()).unwrap();
    let token = |name: String| HeaderValue::try_from(name).unwrap();
    for at in 0..200 {
        fake.know(&format!("t{at}"), "u1", &[]);
        assert!(stage.token(&token(format!("t{at}")), false).await.is_ok());
    }
    let (known, _) = stage.cache.len();
    assert!((17..=32).contains(&known), "{known}");
    for at in 0..200 {
        assert_eq!(stage.token(&token(format!("wrong{at}")), false).await.err(), Some(Unknown::Invalid));
    }
    let (still_known, refused) = stage.cache.len();
    assert_eq!(still_known, known);
    assert!((17..=32).contains(&refused), "{refused}");
    // The last one that came is there.
    let asked = fake.counts().1;
    assert!(stage.token(&token("t199".into()), false).await.is_ok());
    assert_eq!(fake.counts().1, asked);
    // What has ended makes room for what comes.
    clock.advance(HOUR);
    fake.know("t0", "u1", &[]);
    assert!(stage.token(&token("t0".into()), false).await.is_ok());
}

#[tokio::test]
async fn a_service_may_hand_on_a_token_that_has_ended() {
    let cases = [
        // who may, user's token, service's token, status without `required`, with it
        ("alone", "t1", None, 200, 200),
        ("with a service", "t1", Some("svc"), 200, 200),
        ("with an end", "old", None, 401, 401),
        ("with an end and a service", "old", Some("svc"), 200, 200),
        ("without a role", "t1", Some("other"), 200, 401),
        ("with an end, without a role", "old", Some("other"), 401, 401),
        ("with a wrong one", "t1", Some("wrong"), 401, 401),
        ("with an ended one", "t1", Some("old"), 401, 401),
        ("with garbage", "t1", Some("a b"), 401, 401),
        ("a service without a user", "", Some("svc"), 401, 401),
        ("nobody's", "wrong", Some("svc"), 401, 401),
        ("with an end, once more alone", "old", None, 401, 401), // what is kept is kept apart
    ];
    for required in [false, true] {
        let (fake, stack, _) = start(&format!("service_token_roles_required = {required}")).await;
        fake.know("t1", "u1", &["member"]);
        fake.know("svc", "s1", &["service"]);
        fake.know("other", "s2", &["member"]);
        let mut old = fake.document("u1", &["member"]);
        old["expires_at"] = fake.at(-100).into();
        fake.state().expired.insert("old".into(), old);
        for (what, user, service, lax, strict) in cases {
            let mut headers = vec![("x-auth-token", user)];
            headers.extend(service.map(|token| ("x-service-token", token)));
            for _ in 0..2 {
                let (status, creds) = ask(&stack, &headers).await;
                assert_eq!(status, if required { strict } else { lax }, "{what}, required: {required}");
                let of = |key: &str| creds[key].as_str();
                let by = match (status, service) {
                    (200, Some("svc")) => (Some("s1"), Some("p1"), json!(["service"])),
                    (200, Some(_)) => (Some("s2"), Some("p1"), json!(["member"])),
                    _ => (None, None, Value::Null),
                };
                let found = (of("service_user_id"), of("service_project_id"), creds["service_roles"].clone());
                assert_eq!(found, by, "{what}");
                if status == 200 {
                    assert_eq!((of("user_id"), &creds["roles"]), (Some("u1"), &json!(["member"])), "{what}");
                }
            }
        }
    }
}

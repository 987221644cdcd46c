//! `/v2/{project_id}/users` and the admin port's words on limits.

use pileus_ext_users::EXTENSION;
use pileus_sdk::{
    Mount, Value, header, json,
    model::{Command, Credential, JobState, MyProxy, Proxy, Refusal, Time},
    testing::{Bench, get, post, put, put_cloud, put_job, put_vm},
};

/// `ada` has a VM and two jobs in `p1` and a VM in `p2`; `bob` has a job in `p2`; `cy/d` has a limit.
fn bench() -> Bench {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        put_cloud(view, "local", |_| ());
        put_vm(view, "1", "local", |_| ());
        put_vm(view, "2", "local", |vm| vm.project = "p2".into());
        put_job(view, "1", |_| ());
        put_job(view, "2", |job| job.state = JobState::Error);
        put_job(view, "3", |job| {
            job.project = "p2".into();
            job.user = "bob".into();
            job.state = JobState::Running;
        });
        view.user_limits.insert("cy/d".into(), 0);
        view.user_limits.insert("ada".into(), 7);
    });
    bench
}

fn user(name: &str, href: &str, vms: u32, limit: Option<u32>, jobs: &[(&str, u32)]) -> Value {
    let mut counts = json!({ "new": 0, "scheduled": 0, "running": 0, "complete": 0, "held": 0, "removed": 0,
                             "error": 0 });
    for (state, count) in jobs {
        counts[*state] = json!(count);
    }
    let href = format!("http://api.example:8774/v2/p1/users/{href}");
    json!({ "id": name, "name": name, "vms": vms, "vm_limit": limit, "jobs": counts, "credentials": {},
            "links": [{ "rel": "self", "href": href }] })
}

#[test]
fn the_routes_are_sound() {
    assert_eq!(bench().complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn users_are_counted_in_the_projects_that_one_sees() {
    let bench = bench();
    let ada = user("ada", "ada", 1, Some(7), &[("new", 1), ("error", 1)]);
    let ada_everywhere = user("ada", "ada", 2, Some(7), &[("new", 1), ("error", 1)]);
    let bob = user("bob", "bob", 0, None, &[("running", 1)]);
    let cyd = user("cy/d", "cy%2Fd", 0, Some(0), &[]);
    let cases = [
        ("/p1/users", json!({ "users": [ada, cyd] })),
        ("/p1/users?all_projects=1", json!({ "users": [ada_everywhere, bob, cyd] })),
        ("/p1/users?marker=ada", json!({ "users": [cyd] })),
        ("/p1/users/ada", json!({ "user": ada })),
        ("/p1/users/ada?all_projects=1", json!({ "user": ada_everywhere })),
        ("/p1/users/bob?all_projects=1", json!({ "user": bob })),
        ("/p1/users/cy%2Fd", json!({ "user": cyd })),
    ];
    for (uri, expected) in cases {
        let reply = bench.send(get(uri)).await;
        assert_eq!((reply.status, reply.json()), (200, expected), "{uri}");
    }
    let page = bench.send(get("/p1/users?limit=1")).await.json();
    assert_eq!(page["users_links"][0]["href"], "http://api.example:8774/v2/p1/users?limit=1&marker=ada");
}

#[tokio::test]
async fn every_state_of_a_job_is_counted_under_its_word() {
    for state in JobState::ALL {
        let bench = Bench::new(&EXTENSION);
        bench.engine.edit(|view| put_job(view, "1", |job| job.state = state));
        let jobs = bench.send(get("/p1/users/ada")).await.json()["user"]["jobs"].take();
        let counted: Vec<_> = jobs.as_object().unwrap().iter().filter(|(_, count)| **count == 1).collect();
        assert_eq!(counted, [(&state.as_str().to_owned(), &json!(1))]);
        assert_eq!(jobs.as_object().unwrap().len(), JobState::ALL.len());
    }
}

#[tokio::test]
async fn a_limit_is_set_and_taken_away() {
    for (name, body, vms) in [("cy%2Fd", "5", Some(5)), ("yet-to-come", "0", Some(0)), ("ada", "null", None)]
    {
        let bench = bench();
        bench.engine.react(|command, view| {
            let Command::SetUserLimit { user, vms } = command else { return Err(Refusal::Unavailable) };
            match vms {
                Some(vms) => view.user_limits.insert(user.clone(), *vms),
                None => view.user_limits.remove(user),
            };
            Ok(String::new())
        });
        let uri = format!("/p1/users/{name}");
        let reply = bench.send(put(&uri, &format!(r#"{{"user": {{"vm_limit": {body}}}}}"#))).await;
        assert_eq!((reply.status, &reply.json()["user"]["vm_limit"]), (200, &json!(vms)), "{name}");
        let user = name.replace("%2F", "/").as_str().into();
        assert_eq!(bench.engine.commands(), [Command::SetUserLimit { user, vms }]);
        assert_eq!(bench.send(get(&uri)).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn mistakes_name_their_place_and_change_nothing() {
    let bench = bench();
    let change = |body: &str| put("/p1/users/ada", body);
    let cases = [
        (change(""), 400, "The body is empty: a JSON object with the one key `user` is needed."),
        (change(r#"{"limit": 1}"#), 400, "and has `limit`"),
        (change(r#"{"user": {}}"#), 400, "missing field `vm_limit`"),
        (change(r#"{"user": {"vm_limit": -1}}"#), 400, "field `user.vm_limit`"),
        (change(r#"{"user": {"vm_limit": "5"}}"#), 400, "field `user.vm_limit`"),
        (change(r#"{"user": {"vm_limit": 5, "name": "x"}}"#), 400, "unknown field `name`"),
        (get("/p1/users?limit=x"), 400, "limit param must be an integer"),
        (get("/p1/users?marker=bob"), 400, "marker [bob] not found"),
        (get("/p1/users/bob"), 404, "User bob could not be found."),
        (get("/p1/users/nobody?all_projects=1"), 404, "User nobody could not be found."),
    ];
    for (ask, status, message) in cases {
        let what = format!("{ask:?}");
        let reply = bench.send(ask).await;
        assert_eq!(reply.status, status, "{what}");
        assert!(reply.json()[reply.top()]["message"].as_str().unwrap().contains(message), "{}", reply.text);
    }
    assert_eq!(bench.engine.commands(), []);
    bench.engine.refuse(Refusal::Full);
    assert_eq!(bench.send(change(r#"{"user": {"vm_limit": 5}}"#)).await.status, 507);
}

#[tokio::test]
async fn every_action_is_guarded_by_its_rules() {
    let limit = r#"{"user": {"vm_limit": 1}}"#;
    let asks = [
        ("users:index", get("/p1/users")),
        ("users:index:all_projects", get("/p1/users?all_projects=1")),
        ("users:show", get("/p1/users/ada")),
        ("users:index:all_projects", get("/p1/users/ada?all_projects=1")),
        ("users:update", put("/p1/users/ada", limit)),
        ("users:index:all_projects", put("/p1/users/ada?all_projects=1", limit)),
        (
            "users:set_credential",
            post("/p1/users/ada/action", r#"{"set_credential": {"proxy": "vm_proxy"}}"#),
        ),
        ("users:reload", post("/p1/users/action", r#"{"reload": null}"#)),
        ("users:refresh", post("/p1/users/ada/action", r#"{"refresh": null}"#)),
        ("cloud_admin:refresh_proxy", post("/users/ada?refresh=vm_proxy", "").on(Mount::CloudAdmin)),
        ("cloud_admin:user_limits", get("/user-limits").on(Mount::CloudAdmin)),
        ("cloud_admin:reload_user_limits", post("/user-limits", "").on(Mount::CloudAdmin)),
    ];
    for (rule, ask) in asks {
        let bench = bench();
        bench.deny(rule);
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.top()), (403, "forbidden".into()), "{rule}");
        assert_eq!(bench.engine.commands(), [], "{rule}");
    }
}

#[tokio::test]
async fn the_admin_port_lists_limits_as_python_does() {
    let bench = bench();
    bench.engine.edit(|view| {
        view.user_limits.insert("o'neil ü".into(), 2);
    });
    let reply = bench.send(get("/user-limits").on(Mount::CloudAdmin)).await;
    assert_eq!(reply.header(header::CONTENT_TYPE), "text/plain; charset=utf-8");
    assert_eq!((reply.status, reply.text.as_str()), (200, r#"{u'ada': 7, u'cy/d': 0, u"o'neil \xfc": 2}"#));
    let empty = Bench::new(&EXTENSION).send(get("/user-limits").on(Mount::CloudAdmin)).await;
    assert_eq!((empty.status, empty.text.as_str()), (200, "{}"));
}

#[tokio::test]
async fn the_admin_port_reloads_limits() {
    let reload = || post("/user-limits", "").on(Mount::CloudAdmin);
    let broken = Refusal::Invalid { field: "user_limit_file", problem: "no JSON".into() };
    for (bench, refusal, status, text) in [
        (bench(), None, 200, "True"),
        (Bench::new(&EXTENSION), None, 200, "False"),
        (bench(), Some(broken), 200, "False"),
        (bench(), Some(Refusal::Unavailable), 503, ""),
    ] {
        refusal.iter().for_each(|refusal| bench.engine.refuse(refusal.clone()));
        let reply = bench.send(reload()).await;
        assert_eq!(reply.status, status, "{refusal:?}");
        assert!(status != 200 || reply.text == text, "{refusal:?}: {}", reply.text);
        assert_eq!(bench.engine.commands(), [Command::ReloadUserLimits]);
    }
}

fn myproxy(server: &str) -> MyProxy {
    let (server, account) = (server.to_owned(), "ada".to_owned());
    MyProxy { server, port: 7512, account, credential: None, lifetime_h: 12 }
}

#[tokio::test]
async fn limits_are_reloaded() {
    let reload = || post("/p1/users/action", r#"{"reload": null}"#);
    let bench = bench();
    let reply = bench.send(reload()).await;
    assert_eq!((reply.status, reply.text.as_str()), (202, ""));
    assert_eq!(bench.engine.commands(), [Command::ReloadUserLimits]);
    let broken = Refusal::Invalid { field: "user_limits", problem: "limits.json:1:2: no JSON".into() };
    bench.engine.refuse(broken);
    let reply = bench.send(reload()).await;
    assert_eq!(reply.status, 400);
    assert!(reply.text.contains("limits.json:1:2"), "{}", reply.text);
}

/// `ada` has both credentials, `bob` none.
fn renewable() -> Bench {
    let bench = bench();
    bench.engine.edit(|view| {
        let of = |server| Credential { from: myproxy(server), renewed: None, expires: None };
        let all = [(Proxy::JobProxy, of("one")), (Proxy::VmProxy, of("two"))];
        view.credentials.insert("ada".into(), std::sync::Arc::new(all.into()));
    });
    bench.engine.react(|command, view| {
        if let Command::CredentialRenewed { user, proxy, expires } = command {
            let all = view.credentials.get_mut(user).map(std::sync::Arc::make_mut);
            if let Some(credential) = all.and_then(|all| all.get_mut(proxy)) {
                credential.expires = Some(*expires);
            }
        }
        Ok(String::new())
    });
    bench
}

#[tokio::test]
async fn credentials_are_set_and_shown() {
    let bench = bench();
    let set = |body: &str| post("/p1/users/cy%2Fd/action", &format!(r#"{{"set_credential": {body}}}"#));
    let full = r#"{"proxy": "job_proxy", "server": "h", "port": 1, "account": "a", "credential": "c", "lifetime_h": 3}"#;
    let from = MyProxy {
        server: "h".into(),
        port: 1,
        account: "a".into(),
        credential: Some("c".into()),
        lifetime_h: 3,
    };
    let cases = [
        (full, Proxy::JobProxy, Some(from)),
        (
            r#"{"proxy": "vm_proxy", "server": "h"}"#,
            Proxy::VmProxy,
            Some(MyProxy { account: "cy/d".into(), ..myproxy("h") }),
        ),
        (r#"{"proxy": "vm_proxy"}"#, Proxy::VmProxy, None),
    ];
    for (body, proxy, from) in cases {
        let reply = bench.send(set(body)).await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.text);
        assert_eq!(bench.engine.commands(), [Command::SetCredential { user: "cy/d".into(), proxy, from }]);
    }
    for body in ["null", r#"{"proxy": "x"}"#, r#"{"server": "h"}"#, r#"{"proxy": "vm_proxy", "port": 70000}"#]
    {
        assert_eq!(bench.send(set(body)).await.status, 400, "{body}");
    }
    let shown = renewable().send(get("/p1/users/ada")).await.json()["user"]["credentials"].take();
    let expected = json!({ "server": "one", "port": 7512, "account": "ada", "credential": null,
                           "lifetime_h": 12, "renewed": null, "expires": null });
    assert_eq!(shown["job_proxy"], expected);
}

#[tokio::test]
async fn credentials_are_renewed() {
    let expires = Time(1_769_904_000_000);
    let renewed = |proxy| Command::CredentialRenewed { user: "ada".into(), proxy, expires };
    let both = [Proxy::JobProxy, Proxy::VmProxy];
    let native = |body: &str| post("/p1/users/ada/action", &format!(r#"{{"refresh": {body}}}"#));
    let old = |uri: &str| post(uri, "").on(Mount::CloudAdmin);
    let cases: [(_, &[Proxy]); 5] = [
        (native("null"), &both),
        (native("{}"), &both),
        (native(r#"{"proxy": "vm_proxy"}"#), &[Proxy::VmProxy]),
        (old("/users/ada?refresh=job_proxy"), &[Proxy::JobProxy]),
        (old("/users/ada?refresh=vm_proxy"), &[Proxy::VmProxy]),
    ];
    for (ask, proxies) in cases {
        let (bench, what) = (renewable(), format!("{ask:?}"));
        bench.host.put_renewal(Ok(expires));
        let reply = bench.send(ask).await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.text);
        let servers = proxies.iter().map(|proxy| if *proxy == Proxy::JobProxy { "one" } else { "two" });
        let asked =
            proxies.iter().zip(servers).map(|(proxy, server)| ("ada".into(), *proxy, myproxy(server)));
        assert_eq!(bench.host.renewed(), asked.collect::<Vec<_>>(), "{what}");
        assert_eq!(bench.engine.commands(), proxies.iter().copied().map(renewed).collect::<Vec<_>>());
        let user = bench.send(get("/p1/users/ada")).await.json();
        assert_eq!(user["user"]["credentials"][proxies[0].as_str()]["expires"], "2026-02-01T00:00:00Z");
    }
}

#[tokio::test]
async fn what_cannot_be_renewed_says_why() {
    let bench = renewable();
    bench.host.put_renewal(Err("The MyProxy server one:7512 did not answer.".into()));
    let native = bench.send(post("/p1/users/ada/action", r#"{"refresh": null}"#)).await;
    assert_eq!((native.status, native.top()), (503, "serviceUnavailable".into()), "{}", native.text);
    assert!(native.text.contains("did not answer"), "{}", native.text);
    let old = |uri: &str| post(uri, "").on(Mount::CloudAdmin);
    let cases = [
        (
            "/users/ada?refresh=job_proxy",
            200,
            "Unable to refresh job_proxy of ada: The MyProxy server one:7512 did not answer.",
        ),
        ("/users/bob?refresh=job_proxy", 200, ""),
        ("/users/n%2Fob%23?refresh=vm_proxy", 200, ""),
    ];
    for (uri, status, text) in cases {
        let reply = bench.send(old(uri)).await;
        assert_eq!((reply.status, reply.text.as_str()), (status, text), "{uri}");
    }
    for uri in ["/users/ada", "/users/ada?refresh=x", "/users/ada?refresh=", "/users/ada?refresh=JOB_PROXY"] {
        assert_eq!(bench.send(old(uri)).await.status, 404, "{uri}");
    }
    let none = bench.send(post("/p1/users/bob/action", r#"{"refresh": {"proxy": "vm_proxy"}}"#)).await;
    assert_eq!(none.status, 404);
    assert!(none.text.contains("Credential vm_proxy of bob could not be found."), "{}", none.text);
    assert_eq!(bench.engine.commands(), []);
}

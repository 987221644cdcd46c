//! `/v2/{project_id}/users` and the admin port's words on limits.

use pileus_ext_users::EXTENSION;
use pileus_sdk::{
    Mount, Value, header, json,
    model::{Command, JobState, Proxies, Proxy, ProxyUse, Refusal, Time},
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
    json!({ "id": name, "name": name, "vms": vms, "vm_limit": limit, "jobs": counts,
            "proxies": { "job_proxy": null, "vm_proxy": null }, "links": [{ "rel": "self", "href": href }] })
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
        (post("/p1/users/ada/action", r#"{"refresh": {}}"#), 400, "missing field `proxy`"),
        (post("/p1/users/ada/action", r#"{"refresh": {"proxy": "jobs"}}"#), 400, "unknown variant `jobs`"),
        (get("/p1/users?limit=x"), 400, "limit param must be an integer"),
        (get("/p1/users?marker="), 400, "marker param is malformed"),
        (get("/p1/users?name=bob"), 400, "and not `name`"),
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
        ("users:refresh", post("/p1/users/ada/action", r#"{"refresh": {"proxy": "job_proxy"}}"#)),
        ("cloud_admin:refresh_user", post("/users/ada?refresh=job_proxy", "").on(Mount::CloudAdmin)),
        ("users:reload", post("/p1/users/action", r#"{"reload": null}"#)),
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

/// Renews as the engine does: until noon of the last day of January.
fn renewing(bench: &Bench) {
    bench.engine.react(|command, view| {
        let Command::RenewProxy { user, which } = command else { return Err(Refusal::Unavailable) };
        let expires = Time(1_769_860_800_000);
        let proxy = Proxy { expires, renewed: Time(1_769_817_600_000), server: "myproxy.example".into() };
        let mut proxies = Proxies::default();
        *proxies.get_mut(*which) = Some(proxy);
        view.proxies.insert(user.clone(), proxies.into());
        Ok(String::new())
    });
}

#[tokio::test]
async fn a_proxy_is_renewed_and_its_end_is_shown() {
    let shown = json!({ "expires": "2026-01-31T12:00:00Z", "renewed": "2026-01-31T00:00:00Z",
                        "server": "myproxy.example" });
    for (name, proxy, which) in [
        ("ada", "job_proxy", ProxyUse::JobProxy),
        ("cy%2Fd", "vm_proxy", ProxyUse::VmProxy),
        ("yet-to-come", "job_proxy", ProxyUse::JobProxy),
    ] {
        let bench = bench();
        renewing(&bench);
        let ask =
            post(&format!("/p1/users/{name}/action"), &json!({ "refresh": { "proxy": proxy } }).to_string());
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, &reply.json()["user"]["proxies"][proxy]), (200, &shown), "{name}");
        let user = name.replace("%2F", "/").as_str().into();
        assert_eq!(bench.engine.commands(), [Command::RenewProxy { user, which }]);
        assert_eq!(bench.send(get(&format!("/p1/users/{name}"))).await.json(), reply.json());
    }
    for (refusal, status, top) in [
        (Refusal::Elsewhere("myproxy.example gave no proxy".into()), 502, "computeFault"),
        (Refusal::Conflict("is being renewed".into()), 409, "conflictingRequest"),
    ] {
        let bench = bench();
        bench.engine.refuse(refusal.clone());
        let reply = bench.send(post("/p1/users/ada/action", r#"{"refresh": {"proxy": "vm_proxy"}}"#)).await;
        assert_eq!((reply.status, reply.top().as_str()), (status, top));
        assert_eq!(reply.json()[top]["message"], refusal.to_string());
    }
}

#[tokio::test]
async fn the_admin_port_renews_proxies_and_says_so_in_a_sentence() {
    let down = Refusal::Elsewhere("It is down.".into());
    let cases = [
        (
            "/users/ada?refresh=job_proxy",
            None,
            200,
            "Renewed the job proxy of ada until 2026-01-31T12:00:00Z.",
        ),
        (
            "/users/a%2Fb?refresh=vm_proxy",
            None,
            200,
            "Renewed the VM proxy of a/b until 2026-01-31T12:00:00Z.",
        ),
        (
            "/users/ada?refresh=job_proxy",
            Some(down),
            200,
            "Unable to renew the job proxy of ada. It is down.",
        ),
        ("/users/ada?refresh=jobs", None, 404, "not found"),
        ("/users/ada", None, 404, "not found"),
    ];
    for (uri, refusal, status, text) in cases {
        let bench = bench();
        renewing(&bench);
        refusal.into_iter().for_each(|refusal| bench.engine.refuse(refusal));
        let reply = bench.send(post(uri, "").on(Mount::CloudAdmin)).await;
        assert_eq!(reply.status, status, "{uri}");
        assert!(status != 200 || reply.text == text, "{uri}: {}", reply.text);
    }
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

//! `/v2/{project_id}/cloud-aliases` and the admin port's words on aliases.

use pileus_ext_aliases::EXTENSION;
use pileus_sdk::{
    Mount, Value, header, json,
    model::{Command, Refusal},
    testing::{Ask, Bench, delete, get, post, put},
};

/// `West` and `a/b`; an engine that sets and forgets.
fn bench() -> Bench {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        view.aliases.insert("West".into(), ["Alpha".to_owned(), "beta-two".to_owned()].into());
        view.aliases.insert("a/b".into(), Vec::new().into());
    });
    bench.engine.react(|command, view| {
        match command {
            Command::SetAlias { alias, clouds } => {
                drop(view.aliases.insert(alias.clone(), clouds.clone().into()));
            }
            Command::DeleteAlias { alias } => drop(view.aliases.remove(alias)),
            _ => {}
        }
        Ok(String::new())
    });
    bench
}

fn alias(name: &str, segment: &str, clouds: &[&str]) -> Value {
    let href = format!("http://api.example:8774/v2/p1/cloud-aliases/{segment}");
    json!({ "id": name, "name": name, "clouds": clouds, "links": [{ "rel": "self", "href": href }] })
}

#[test]
fn the_routes_are_sound() {
    assert_eq!(bench().complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn aliases_are_shown() {
    let bench = bench();
    let (west, ab) = (alias("West", "West", &["Alpha", "beta-two"]), alias("a/b", "a%2Fb", &[]));
    let next = json!([{ "rel": "next",
                        "href": "http://api.example:8774/v2/p1/cloud-aliases?limit=1&marker=West" }]);
    let cases = [
        ("/p1/cloud-aliases", json!({ "cloud_aliases": [west, ab] })),
        ("/p1/cloud-aliases?limit=1", json!({ "cloud_aliases": [west], "cloud_aliases_links": next })),
        ("/p1/cloud-aliases?limit=1&marker=West", json!({ "cloud_aliases": [ab] })),
        ("/p1/cloud-aliases/West", json!({ "cloud_alias": west })),
        ("/p1/cloud-aliases/a%2Fb", json!({ "cloud_alias": ab })),
    ];
    for (uri, expected) in cases {
        let reply = bench.send(get(uri)).await;
        assert_eq!((reply.status, reply.json()), (200, expected), "{uri}");
    }
}

#[tokio::test]
async fn aliases_change() {
    let bench = bench();
    let set = |alias: &str, clouds: &[&str]| Command::SetAlias {
        alias: alias.into(),
        clouds: clouds.iter().map(|&cloud| cloud.to_owned()).collect(),
    };
    let all = "/p1/cloud-aliases";
    let body = r#"{"cloud_alias": {"name": "my east", "clouds": ["gamma"]}}"#;
    let made = bench.send(post(all, body)).await;
    let expected = json!({ "cloud_alias": alias("my east", "my%20east", &["gamma"]) });
    assert_eq!((made.status, made.json()), (201, expected));
    assert_eq!(made.header(header::LOCATION), "http://api.example:8774/v2/p1/cloud-aliases/my%20east");
    assert_eq!(bench.engine.commands(), [set("my east", &["gamma"])]);

    let changed = bench.send(put("/p1/cloud-aliases/my%20east", r#"{"cloud_alias": {"clouds": []}}"#)).await;
    let expected = json!({ "cloud_alias": alias("my east", "my%20east", &[]) });
    assert_eq!((changed.status, changed.json()), (200, expected));
    assert_eq!(bench.engine.commands(), [set("my east", &[])]);

    let gone = bench.send(delete("/p1/cloud-aliases/my%20east")).await;
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    assert_eq!(bench.engine.commands(), [Command::DeleteAlias { alias: "my east".into() }]);
    assert_eq!(bench.send(get("/p1/cloud-aliases/my%20east")).await.status, 404);

    for body in [r#"{"reload": null}"#, r#"{"reload": {}}"#] {
        let reply = bench.send(post("/p1/cloud-aliases/action", body)).await;
        assert_eq!((reply.status, reply.text.as_str()), (202, ""));
        assert_eq!(bench.engine.commands(), [Command::ReloadAliases]);
    }
}

#[tokio::test]
async fn mistakes_name_their_place_and_change_nothing() {
    let new = |body: &str| post("/p1/cloud-aliases", body);
    let change = |name: &str, body: &str| put(&format!("/p1/cloud-aliases/{name}"), body);
    let cases: Vec<(Ask, u16, &str)> = vec![
        (new(""), 400, "The body is empty: a JSON object with the one key `cloud_alias` is needed."),
        (new(r#"{"alias": {}}"#), 400, "and has `alias`"),
        (new(r#"{"cloud_alias": {"clouds": []}}"#), 400, "missing field `name`"),
        (new(r#"{"cloud_alias": {"name": "x"}}"#), 400, "missing field `clouds`"),
        (new(r#"{"cloud_alias": {"name": "x", "clouds": "alpha"}}"#), 400, "field `cloud_alias.clouds`"),
        (new(r#"{"cloud_alias": {"name": "x", "clouds": ["a", 1]}}"#), 400, "field `cloud_alias.clouds[1]`"),
        (new(r#"{"cloud_alias": {"name": "x", "clouds": [], "y": 1}}"#), 400, "unknown field `y`"),
        (new(r#"{"cloud_alias": {"name": "West", "clouds": []}}"#), 409, "Cloud alias West exists."),
        (change("West", ""), 400, "the one key `cloud_alias`"),
        (change("West", r#"{"cloud_alias": {"name": "x", "clouds": []}}"#), 400, "unknown field `name`"),
        (change("west", r#"{"cloud_alias": {"clouds": []}}"#), 404, "Cloud alias west could not be found."),
        (get("/p1/cloud-aliases/x"), 404, "Cloud alias x could not be found."),
        (delete("/p1/cloud-aliases/x"), 404, "Cloud alias x could not be found."),
        (get("/p1/cloud-aliases?limit=-1"), 400, "limit param must be positive"),
        (get("/p1/cloud-aliases?marker="), 400, "marker param is malformed"),
        (
            get("/p1/cloud-aliases?sort_key=clouds"),
            400,
            "sort_key param must be one of id, name, not `clouds`",
        ),
        (post("/p1/cloud-aliases/action", r#"{"reload": {"file": "x"}}"#), 400, "unknown field `file`"),
        (post("/p1/cloud-aliases/action", r#"{"explode": null}"#), 400, "no such action"),
    ];
    let bench = bench();
    for (ask, status, message) in cases {
        let what = format!("{ask:?}");
        let reply = bench.send(ask).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text);
        assert!(reply.json()[reply.top()]["message"].as_str().unwrap().contains(message), "{}", reply.text);
    }
    assert_eq!(bench.engine.commands(), []);
}

#[tokio::test]
async fn the_engines_refusals_are_faults() {
    let body = r#"{"cloud_alias": {"clouds": []}}"#;
    let invalid = Refusal::Invalid { field: "alias_file", problem: "no JSON".into() };
    let cases = [
        (put("/p1/cloud-aliases/West", body), Refusal::Full, 507),
        (delete("/p1/cloud-aliases/West"), Refusal::Unavailable, 503),
        (post("/p1/cloud-aliases/action", r#"{"reload": null}"#), invalid, 400),
    ];
    let bench = bench();
    for (ask, refusal, status) in cases {
        bench.engine.refuse(refusal.clone());
        assert_eq!(bench.send(ask).await.status, status, "{refusal:?}");
    }
}

#[tokio::test]
async fn every_action_is_guarded_by_its_rule() {
    let asks = [
        ("cloud-aliases:index", get("/p1/cloud-aliases")),
        ("cloud-aliases:show", get("/p1/cloud-aliases/West")),
        ("cloud-aliases:create", post("/p1/cloud-aliases", "{}")),
        ("cloud-aliases:update", put("/p1/cloud-aliases/West", "{}")),
        ("cloud-aliases:delete", delete("/p1/cloud-aliases/West")),
        ("cloud-aliases:reload", post("/p1/cloud-aliases/action", r#"{"reload": null}"#)),
        ("cloud_admin:cloud_aliases", get("/cloud-aliases").on(Mount::CloudAdmin)),
        ("cloud_admin:reload_cloud_aliases", post("/cloud-aliases", "").on(Mount::CloudAdmin)),
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
async fn the_admin_port_speaks_python() {
    let (list, reload) =
        (|| get("/cloud-aliases").on(Mount::CloudAdmin), || post("/cloud-aliases", "").on(Mount::CloudAdmin));
    let reply = bench().send(list()).await;
    assert_eq!(reply.header(header::CONTENT_TYPE), "text/plain; charset=utf-8");
    assert_eq!((reply.status, reply.text.as_str()), (200, "{u'West': [u'Alpha', u'beta-two'], u'a/b': []}"));
    assert_eq!(Bench::new(&EXTENSION).send(list()).await.text, "{}");

    let broken = Refusal::Invalid { field: "alias_file", problem: "no JSON".into() };
    for (bench, refusal, status, text) in [
        (bench(), None, 200, "True"),
        (Bench::new(&EXTENSION), None, 200, "False"),
        (bench(), Some(broken), 200, "False"),
        (bench(), Some(Refusal::Full), 507, ""),
    ] {
        refusal.iter().for_each(|refusal| bench.engine.refuse(refusal.clone()));
        let reply = bench.send(reload()).await;
        assert_eq!(reply.status, status, "{refusal:?}");
        assert!(status != 200 || reply.text == text, "{refusal:?}: {}", reply.text);
        assert_eq!(bench.engine.commands(), [Command::ReloadAliases]);
    }
}

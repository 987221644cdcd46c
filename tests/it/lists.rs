//! The files of aliases and limits, and what is set through the API beside them.

use serde_json::{Value, json};

use crate::support::{Place, QUICK, Server};

fn aliases(server: &Server<'_>) -> Value {
    let shown = server.get("/v2/default/cloud-aliases").json();
    let pairs = shown["cloud_aliases"].as_array().expect("aliases").iter();
    pairs.map(|it| (it["name"].as_str().expect("a name").to_owned(), it["clouds"].clone())).collect()
}

fn limit(server: &Server<'_>, user: &str) -> Value {
    let shown = server.get(&format!("/v2/default/users/{user}"));
    if shown.status == 404 { Value::Null } else { shown.json()["user"]["vm_limit"].clone() }
}

#[test]
fn a_broken_file_leaves_what_there_is_and_says_where_it_is_broken() {
    let place =
        Place::new(&format!("cloud_aliases = \"aliases.json\"\nuser_limits = \"limits.json\"\n{QUICK}"));
    place.write("aliases.json", r#"{"West": ["alpha", "beta"], "Süd/1": []}"#);
    place.write("limits.json", r#"{"alice": 2, "bob": 0}"#);
    let server = place.serve();
    let whole = json!({ "West": ["alpha", "beta"], "Süd/1": [] });
    assert_eq!(aliases(&server), whole);
    assert_eq!(
        server.admin("GET", "/cloud-aliases", "").text,
        r"{u'S\xfcd/1': [], u'West': [u'alpha', u'beta']}"
    );
    assert_eq!(server.admin("GET", "/user-limits", "").text, "{u'alice': 2, u'bob': 0}");
    let broken = [
        ("{\"West\": [\n  \"alpha\" \"beta\"]}", "aliases.json:2:11"),
        ("{\"West\": \"alpha\"}", "aliases.json:1:16"),
        ("[]", "aliases.json:1"),
        ("", "aliases.json:1"),
        ("{\"West\": [], \"WEST\": []}", "`West`: it is there twice"),
    ];
    for (text, said) in broken {
        place.write("aliases.json", text);
        assert_eq!(server.admin("POST", "/cloud-aliases", "").text, "False", "{text}");
        let reply = server.post("/v2/default/cloud-aliases/action", r#"{"reload": null}"#);
        assert_eq!((reply.status, reply.top()), (400, "badRequest".into()), "{text}: {}", reply.text);
        assert!(reply.text.contains(said), "{said}: {}", reply.text);
        assert_eq!(aliases(&server), whole, "{text}");
    }
    for (text, said) in [("{\"alice\": -1}", "limits.json:1:12"), ("{\"alice\": \"2\"}", "limits.json:1:13")]
    {
        place.write("limits.json", text);
        assert_eq!(server.admin("POST", "/user-limits", "").text, "False", "{text}");
        let reply = server.post("/v2/default/users/action", r#"{"reload": null}"#);
        assert_eq!(reply.status, 400, "{text}: {}", reply.text);
        assert!(reply.text.contains(said), "{said}: {}", reply.text);
        assert_eq!((limit(&server, "alice"), limit(&server, "bob")), (json!(2), json!(0)), "{text}");
    }
    // A file that is gone is broken too.
    std::fs::remove_file(place.path().join("limits.json")).expect("the file");
    assert_eq!(server.admin("POST", "/user-limits", "").text, "False");
    assert_eq!(limit(&server, "alice"), json!(2));
    let (_, log) = server.stop();
    assert!(log.contains("aliases.json:2:11") && log.contains("limits.json:1:12"), "{log}");

    // Before a start it is found by `check`, and nothing is started upon it.
    place.write("limits.json", "{\"alice\":\n 1.5}");
    let (status, _, said) = place.run(&["check"]);
    assert_eq!(status.code(), Some(78), "{said}");
    for part in ["limits.json:2:4", "aliases.json", "it is there twice"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = place.try_serve().err().expect("no start");
    assert!(said.contains("limits.json:2:4"), "{said}");
}

#[test]
fn what_the_api_sets_is_durable_and_lives_beside_the_files() {
    let place =
        Place::new(&format!("cloud_aliases = \"aliases.json\"\nuser_limits = \"limits.json\"\n{QUICK}"));
    place.write("aliases.json", r#"{"West": ["alpha"]}"#);
    place.write("limits.json", r#"{"alice": 2}"#);
    let server = place.serve();
    let put = |server: &Server<'_>, path: &str, body: &str| {
        let reply = server.call("PUT", path, body);
        assert!(matches!(reply.status, 200 | 409), "{path}: {}", reply.text);
        reply.status
    };
    let east = r#"{"cloud_alias": {"name": "East/é", "clouds": ["local"]}}"#;
    assert_eq!(server.post("/v2/default/cloud-aliases", east).status, 201);
    assert_eq!(
        put(
            &server,
            "/v2/default/users/bob%2Fé".replace('é', "%C3%A9").as_str(),
            r#"{"user": {"vm_limit": 7}}"#
        ),
        200
    );
    // What a file says would win at the next start: nobody shall believe otherwise.
    let west = r#"{"cloud_alias": {"clouds": ["beta"]}}"#;
    assert_eq!(put(&server, "/v2/default/cloud-aliases/West", west), 409);
    assert_eq!(server.call("DELETE", "/v2/default/cloud-aliases/West", "").status, 409);
    assert_eq!(put(&server, "/v2/default/users/alice", r#"{"user": {"vm_limit": 9}}"#), 409);
    server.kill();

    let server = place.serve();
    assert_eq!(aliases(&server), json!({ "West": ["alpha"], "East/é": ["local"] }));
    assert_eq!((limit(&server, "bob%2F%C3%A9"), limit(&server, "alice")), (json!(7), json!(2)));
    let changed = r#"{"cloud_alias": {"clouds": ["local", "beta"]}}"#;
    assert_eq!(put(&server, "/v2/default/cloud-aliases/East%2F%C3%A9", changed), 200);
    // A file brings and takes what is its own.
    place.write("aliases.json", r#"{"North": ["gamma"]}"#);
    place.write("limits.json", r#"{"carol": 1}"#);
    assert_eq!(server.admin("POST", "/cloud-aliases", "").text, "True");
    assert_eq!(server.admin("POST", "/user-limits", "").text, "True");
    assert_eq!(aliases(&server), json!({ "North": ["gamma"], "East/é": ["local", "beta"] }));
    let limits = ["alice", "bob%2F%C3%A9", "carol"].map(|user| limit(&server, user));
    assert_eq!(limits, [Value::Null, json!(7), json!(1)]);
    // What the file calls the same in another case is the file's from now on.
    place.write("aliases.json", r#"{"EAST/é": ["delta"]}"#);
    assert_eq!(server.admin("POST", "/cloud-aliases", "").text, "True");
    assert_eq!(aliases(&server), json!({ "EAST/é": ["delta"] }));
    place.write("aliases.json", "{}");
    assert_eq!(server.admin("POST", "/cloud-aliases", "").text, "False", "there are none");
    assert_eq!(aliases(&server), json!({}));
}

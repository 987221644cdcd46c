//! The controller on the bench: what it answers, and what it refuses to read.

use pileus_ext_policy::EXTENSION;
use pileus_sdk::{
    json,
    testing::{Bench, post},
};

#[tokio::test]
async fn each_rule_has_its_answer_in_the_order_of_the_question() {
    let bench = Bench::new(&EXTENSION);
    assert_eq!(bench.complaints(), Vec::<String>::new());
    bench.deny("clouds:create");
    let asked = r#"{"check": {"rules": ["clouds:create", "clouds:show"], "target": {"id": "west"}}}"#;
    let reply = bench.send(post("/p1/policy/check", asked)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let wanted = json!({"check": [
        {"rule": "clouds:create", "allowed": false, "known": true},
        {"rule": "clouds:show", "allowed": true, "known": true},
    ]});
    assert_eq!(reply.json(), wanted);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_field() {
    let bench = Bench::new(&EXTENSION);
    let many = format!(r#"{{"check": {{"rules": {}}}}}"#, json!(vec!["a"; 257]));
    let wide: Attributes = (0..33).map(|it| (it.to_string(), "x".to_owned())).collect();
    let wide = format!(r#"{{"check": {{"rules": [], "target": {}}}}}"#, json!(wide));
    let cases = [
        ("", 400, "one key `check`"),
        ("{}", 400, "one key `check`"),
        (r#"{"check": {}}"#, 400, "missing field `rules`"),
        (r#"{"check": {"rules": "clouds:show"}}"#, 400, "check.rules"),
        (r#"{"check": {"rules": [5]}}"#, 400, "check.rules[0]"),
        (r#"{"check": {"rules": [], "targets": {}}}"#, 400, "targets"),
        (r#"{"check": {"rules": [], "target": {"id": 5}}}"#, 400, "check.target.id"),
        (r#"{"check": {"rules": [], "target": {"project_id": "p2"}}}"#, 400, "check.target.project_id"),
        (r#"{"check": {"rules": [], "target": {"project_id": "p1"}}}"#, 200, "[]"),
        (&many, 400, "257"),
        (&wide, 400, "33"),
    ];
    for (body, status, said) in cases {
        let reply = bench.send(post("/p1/policy/check", body)).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        assert!(reply.text.contains(said), "{body}: {}", reply.text);
    }
}

type Attributes = std::collections::BTreeMap<String, String>;

//! What the folders of `tests/convert` do not show.

use crate::convert::{Input, convert};

fn made(text: &str) -> (String, String) {
    let made = convert(&[Input { name: "api-paste.ini".into(), text: text.into() }], None);
    assert_eq!(made.errors.errors(), 0, "{}", made.errors.render(false));
    (made.outputs[0].text.clone(), made.notes.report().render(false))
}

#[test]
fn other_files_are_named_by_their_new_names() {
    let text = "[app:main]\nuse = config:%(here)s/sub/other.ini#api\nsize = 5\npassword = hunter2\n\
                [filter:slow]\nuse = config:limits.conf\n[pipeline:p]\npipeline = slow config:x.ini#f config:y.ini\n";
    let (text, told) = made(text);
    let lines = [
        "use  = \"config:${here}/sub/other.toml#app.api\"",
        "size = \"5\"",
        "use = \"config:limits.toml#filter.main\"",
        "pipeline = [\"slow\", \"config:x.toml#filter.f\", \"config:y.toml#app.main\"]",
    ];
    for line in lines {
        assert!(text.lines().any(|it| it.starts_with(line)), "{line}: {text}");
    }
    assert!(!text.contains("hunter") && !told.contains("hunter"));
    assert!(told.contains("`app.` is a guess") && told.contains("secrets are not carried over"), "{told}");
}

#[test]
fn nobody_gets_in_because_a_filter_is_gone() {
    let text = "[pipeline:main]\npipeline = guard osapi\n[filter:guard]\npaste.filter_factory = a.b:C\n\
                [app:osapi]\npaste.app_factory = nova.api.openstack.compute:APIRouter.factory\n";
    let (text, told) = made(text);
    let list = "pipeline = [\"request_id\", \"sizelimit\", \"tokens\", \"policy\", \"osapi\"]";
    assert!(text.contains(list), "{text}");
    assert!(told.contains("where it kept somebody out, nothing does so now"), "{told}");
}

#[test]
fn what_is_put_in_does_not_meet_a_namesake() {
    let text = "[pipeline:main]\npipeline = policy noauth osapi\n\
                [filter:policy]\npaste.filter_factory = nova.api.openstack:FaultWrapper.factory\n\
                [filter:noauth]\npaste.filter_factory = nova.api.openstack.auth:NoAuthMiddleware.factory\n\
                [app:osapi]\npaste.app_factory = nova.api.openstack.compute:APIRouter.factory\n";
    let (text, _) = made(text);
    let list = "[\"request_id\", \"policy\", \"noauth\", \"sizelimit\", \"own_policy\", \"osapi\"]";
    assert!(text.contains(list), "{text}");
    assert!(text.contains("[filter.own_policy]\nfactory = \"policy\""), "{text}");
}

#[test]
fn the_limits_of_the_time_are_put_in() {
    let ini = |keystone: &str| {
        format!(
            "[pipeline:main]\npipeline = auth limit versions\n[filter:auth]\n\
             paste.filter_factory = {keystone}:filter_factory\n[filter:limit]\n\
             paste.filter_factory = nova.api.openstack.compute.limits:RateLimitingMiddleware.factory\n\
             limits =\n[app:versions]\n\
             paste.app_factory = nova.api.openstack.compute.versions:Versions.factory\n"
        )
    };
    for (keystone, value) in
        [("keystone.middleware.auth_token", 10), ("keystoneclient.middleware.auth_token", 120)]
    {
        let (text, _) = made(&ini(keystone));
        assert!(
            text.contains(&format!("verb = \"POST\", uri = \"*\", regex = \".*\", value = {value},")),
            "{text}"
        );
    }
}

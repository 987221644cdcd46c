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
    let list = "pipeline = [\"request_id\", \"tokens\", \"sizelimit\", \"policy\", \"osapi\"]";
    assert!(text.contains(list), "{text}");
    assert!(told.contains("where it kept somebody out, nothing does so now"), "{told}");
}

/// Filters of the old file, and the pipeline here: what is put in stands in the order of the shipped file, what the
/// file says in its own.
#[test]
fn what_is_put_in_stands_where_it_belongs() {
    let sections = "[app:osapi]\npaste.app_factory = nova.api.openstack.compute:APIRouter.factory\n\
                    [filter:noauth]\npaste.filter_factory = nova.api.openstack.auth:NoAuthMiddleware.factory\n\
                    [filter:size]\npaste.filter_factory = oslo_middleware:RequestBodySizeLimiter.factory\n\
                    [filter:limit]\npaste.filter_factory = \
                    nova.api.openstack.compute.limits:RateLimitingMiddleware.factory\nlimits = (GET, *, .*, 1, DAY)\n";
    for (old, new) in [
        ("", "request_id tokens sizelimit policy osapi"),
        ("size", "request_id size tokens policy osapi"),
        ("limit", "request_id tokens limit sizelimit policy osapi"),
        ("size limit", "request_id size tokens limit policy osapi"),
        ("noauth", "request_id samesite noauth sizelimit policy osapi"),
        ("size noauth limit", "request_id size samesite noauth limit policy osapi"),
    ] {
        let (text, _) = made(&format!("[pipeline:main]\npipeline = {old} osapi\n{sections}"));
        let new: Vec<_> = new.split(' ').collect();
        assert!(text.contains(&format!("pipeline = {new:?}")), "{old}: {text}");
    }
    // A pipeline of one filter.
    let one = "[filter-app:main]\npaste.filter_factory = nova.api.openstack.auth:NoAuthMiddleware.factory\n\
               next = rest\n[pipeline:rest]\npipeline = size osapi\n";
    let (text, _) = made(&format!("{one}{sections}"));
    assert!(text.contains("filter-with = \"samesite\""), "{text}");
}

#[test]
fn what_is_put_in_does_not_meet_a_namesake() {
    let text = "[pipeline:main]\npipeline = policy noauth osapi\n\
                [filter:policy]\npaste.filter_factory = nova.api.openstack:FaultWrapper.factory\n\
                [filter:noauth]\npaste.filter_factory = nova.api.openstack.auth:NoAuthMiddleware.factory\n\
                [app:osapi]\npaste.app_factory = nova.api.openstack.compute:APIRouter.factory\n";
    let (text, _) = made(text);
    let list =
        "[\"request_id\", \"policy\", \"samesite\", \"noauth\", \"sizelimit\", \"own_policy\", \"osapi\"]";
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

#[test]
fn what_asks_keystone_keeps_its_settings() {
    let ini = |settings: &str| {
        format!(
            "[pipeline:main]\npipeline = auth osapi\n[filter:auth]\n\
             paste.filter_factory = keystonemiddleware.auth_token:filter_factory\n{settings}\n\
             [app:osapi]\npaste.app_factory = nova.api.openstack.compute:APIRouter.factory\n"
        )
    };
    let cases: [(&str, &[&str]); 4] = [
        (
            "auth_url = http://k:5000\nusername = nova\npassword = hunter2\nproject_name = service\n\
             user_domain_id = default\ntoken_cache_time = -1\ndelay_auth_decision = yes\n\
             service_token_roles = service, relay\nhttp_connect_timeout = 7\nmemcached_servers = m:1",
            &[
                "\"auth\", ",
                "auth_url               = \"http://k:5000\"",
                "username               = \"nova\"",
                "password               = \"${env:KEYSTONE_PASSWORD}\"",
                "project_name           = \"service\"",
                "user_domain_id         = \"default\"",
                "token_cache_time       = 0 ",
                "delay_auth_decision    = true",
                "service_token_roles    = [\"service\", \"relay\"]",
                "http_connect_timeout_s = 7",
            ],
        ),
        (
            "auth_host = 10.0.0.1\nadmin_user = nova\nadmin_tenant_name = service",
            &["auth_url     = \"https://10.0.0.1:35357\"", "project_name = \"service\""],
        ),
        (
            "identity_uri = http://k\napplication_credential_id = i\napplication_credential_secret = hunter3",
            &["application_credential_secret = \"${env:KEYSTONE_SECRET}\""],
        ),
        // Nobody knows where Keystone is: nobody gets in by it.
        ("signing_dir = /tmp", &["[\"request_id\", \"tokens\", \"sizelimit\", \"policy\", \"osapi\"]"]),
    ];
    for (settings, expected) in cases {
        let (text, _) = made(&ini(settings));
        for expected in expected {
            assert!(text.contains(expected), "{settings}: `{expected}` is not in {text}");
        }
        assert!(!text.contains("hunter") && !text.contains("memcache"), "{text}");
    }
}

#[test]
fn globals_are_set_and_got_where_the_way_decides() {
    let ini = |set: &str| {
        format!(
            "[DEFAULT]\nsize = 1000\nother = 5\n[pipeline:main]\npipeline = limit size versions\n{set}\n\
             [filter:size]\npaste.filter_factory = oslo_middleware:RequestBodySizeLimiter.factory\n\
             get max_request_body_size = size\n\
             [filter:limit]\npaste.filter_factory = oslo_middleware:RequestBodySizeLimiter.factory\n\
             set own = 7\nget max_request_body_size = own\n\
             [app:versions]\npaste.app_factory = nova.api.openstack.compute.versions:Versions.factory\n"
        )
    };
    let (text, told) = made(&ini("set size = 2000\nset colour = green"));
    for line in [
        "set.size = 2000",
        "get.max_request_body_size = \"size\"",
        "size = 1000",
        "max_request_body_size = 7",
    ] {
        let line = line.replace(' ', "");
        assert!(text.lines().any(|it| it.replace(' ', "").starts_with(&line)), "{line}: {text}");
    }
    assert!(told.contains("`set colour` is left out: nobody gets it"), "{told}");
    // What nobody sets is one value, and stands where it is wanted.
    let (text, _) = made(&ini(""));
    assert!(text.contains("max_request_body_size = 1000") && !text.contains("get."), "{text}");
}

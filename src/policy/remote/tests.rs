use std::{
    io::{Read, Write},
    net::TcpListener,
    num::NonZeroU32,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener as AsyncListener,
};

use super::*;
use crate::{
    paste::TlsSettings,
    policy::{Settings, tests::load},
    serve::Keys,
    tls::testing::{authority, certificate, expired},
};

/// A policy server that answers each question with the next of these texts, and keeps what it was asked.
/// One that answers nothing says so by an empty text, and keeps the connection.
fn server(answers: &[&str]) -> (u16, Arc<Mutex<Vec<String>>>, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, (done, end)) = (Arc::new(Mutex::new(Vec::new())), mpsc::channel());
    let answers: Vec<String> = answers.iter().map(|it| (*it).to_owned()).collect();
    let heard = asked.clone();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let (mut text, mut part) = (String::new(), [0; 4096]);
            let whole = |text: &str| {
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length = head.to_lowercase().split_once("content-length: ")?.1.lines().next()?.parse();
                (body.len() >= length.ok()?).then_some(())
            };
            while whole(&text).is_none() {
                let read = stream.read(&mut part).unwrap();
                text.push_str(&String::from_utf8_lossy(&part[..read]));
            }
            heard.lock().unwrap().push(text);
            if answer.is_empty() { kept.push(stream) } else { stream.write_all(answer.as_bytes()).unwrap() }
        }
        // Until the test is over.
        end.recv().ok();
    });
    (port, asked, done)
}

fn said(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn rules(rules: Value, settings: Settings) -> Policy {
    let mut policy = Policy::from_rules(rules.as_object().unwrap());
    policy.settings = settings;
    policy
}

async fn asked(policy: &Policy, target: Value) -> Decision {
    let creds = json!({"user_id": "ann", "roles": ["member"]});
    policy.decide(policy.rule("a"), "a", &creds, target.as_object().unwrap()).await
}

#[tokio::test]
async fn true_allows_and_nothing_else_does() {
    let large = "True".repeat(1000);
    let cases = [
        (said("200 OK", "True"), "allow"),
        (said("200 OK", "\"True\""), "allow"),
        (said("200 OK", "False"), "deny"),
        (said("200 OK", "true"), "deny"),
        (said("200 OK", "True\n"), "deny"),
        (said("200 OK", " True"), "deny"),
        (said("200 OK", ""), "deny"),
        (said("200 OK", "'True'"), "deny"),
        // The library lets these in.
        (said("403 Forbidden", "True"), "error: http://127.0.0.1:PORT answered 403 Forbidden"),
        (said("500 Oh", "True"), "error: http://127.0.0.1:PORT answered 500"),
        (said("204 No Content", ""), "error: http://127.0.0.1:PORT answered 204"),
        (said("302 Found", "True"), "error: http://127.0.0.1:PORT answered 302"),
        (said("200 OK", &large), "error: http://127.0.0.1:PORT broke off, or said more than 1024 bytes"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nTrue".into(), "error: http://127.0.0.1:PORT broke off"),
        ("what?\r\n\r\n".into(), "error: http://127.0.0.1:PORT cannot be asked"),
    ];
    let answers: Vec<_> = cases.iter().map(|(answer, _)| &**answer).collect();
    let (port, ..) = server(&answers);
    let rule = json!({"a": format!("http://127.0.0.1:{port}/may")});
    let policy = rules(rule, Settings::default());
    for (answer, decided) in &cases {
        let decision = asked(&policy, json!({})).await.to_string().replace(&port.to_string(), "PORT");
        assert!(decision.starts_with(decided), "{answer}: {decision}");
    }
    // It is gone: nobody gets in, below a `not` neither.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for rule in ["http://127.0.0.1:PORT/", "not http://127.0.0.1:PORT/", "http://127.0.0.1:PORT/ or @"] {
        let policy = rules(json!({"a": rule.replace("PORT", &gone.to_string())}), Settings::default());
        assert!(matches!(asked(&policy, json!({})).await, Decision::Error(_)), "{rule}");
        // Who cannot wait is told no.
        let decision = policy.check(policy.rule("a"), &json!({}), &Map::new());
        assert!(matches!(decision, Decision::Error(_)), "{rule}: {decision}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let (port, _, _end) = server(&[""]);
    let settings = Settings { remote_timeout_s: NonZeroU32::MIN, ..Settings::default() };
    let policy = rules(json!({"a": format!("not http://127.0.0.1:{port}/")}), settings);
    let decision = asked(&policy, json!({})).await.to_string();
    assert_eq!(decision, format!("error: http://127.0.0.1:{port} did not answer within 1 s"));
}

#[tokio::test]
async fn rule_target_and_credentials_are_sent_and_nothing_leaves_its_place() {
    let yes = said("200 OK", "True");
    let (port, heard, _end) = server(&[&yes, &yes]);
    let target = json!({"id": "a/../b?x=1#é %", "n": 7, "project_id": "p&1"});
    for content_type in [ContentType::Form, ContentType::Json] {
        let settings = Settings { remote_content_type: content_type, ..Settings::default() };
        let rule = format!("http://127.0.0.1:{port}/may/%(id)s/%(n)d?who=%(project_id)s&c=%%20");
        let policy = rules(json!({"a": "rule:b", "b": rule}), settings);
        assert!(policy.asks_others(policy.rule("a")), "through a reference, too");
        assert_eq!(asked(&policy, target.clone()).await, Decision::Allow);
    }
    let heard = heard.lock().unwrap();
    let line = "POST /may/a%2F..%2Fb%3Fx%3D1%23%C3%A9%20%25/7?who=p%261&c=%20 HTTP/1.1\r\n";
    assert!(heard[0].starts_with(line) && heard[1].starts_with(line), "{heard:?}");
    assert!(heard[0].to_lowercase().contains(&format!("host: 127.0.0.1:{port}\r\n")), "{heard:?}");
    assert!(heard[0].contains("content-type: application/x-www-form-urlencoded\r\n"), "{heard:?}");
    let body = |index: usize| heard[index].split_once("\r\n\r\n").unwrap().1.to_owned();
    let form: Vec<(String, Value)> = body(0)
        .split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            let value = percent_encoding::percent_decode_str(value).decode_utf8().unwrap();
            (name.to_owned(), serde_json::from_str(&value).unwrap())
        })
        .collect();
    let creds = json!({"user_id": "ann", "roles": ["member"]});
    let wanted = [("rule", json!("a")), ("target", target.clone()), ("credentials", creds.clone())];
    assert_eq!(form, wanted.map(|(name, value)| (name.to_owned(), value)));
    let object: Value = serde_json::from_str(&body(1)).unwrap();
    assert_eq!(object, json!({"rule": "a", "target": target, "credentials": creds}));
}

#[tokio::test]
async fn only_what_is_reached_is_asked_and_each_question_once() {
    let (yes, no) = (said("200 OK", "True"), said("200 OK", "False"));
    let (port, heard, _end) = server(&[&no, &yes]);
    let url = |path: &str| format!("http://127.0.0.1:{port}/{path}");
    let (one, two) = (url("one"), url("two"));
    let free = rules(json!({"a": format!("role:member or {one}")}), Settings::default());
    assert_eq!(asked(&free, json!({})).await, Decision::Allow);
    assert!(heard.lock().unwrap().is_empty());
    let rule = format!("({one} or {two}) and not {one} and {two}");
    assert_eq!(asked(&rules(json!({"a": rule}), Settings::default()), json!({})).await, Decision::Allow);
    let paths: Vec<_> =
        heard.lock().unwrap().iter().map(|it| it.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/one", "/two"]);
    // A target without what the URL needs is no question.
    let lacks = rules(json!({"a": format!("not {}", url("%(gone)s"))}), Settings::default());
    assert!(matches!(asked(&lacks, json!({})).await, Decision::Error(why) if why.contains("lacks")));
    let nos = vec![&*no; 40];
    let (port, heard, _end) = server(&nos);
    let many: Vec<_> = (0..40).map(|it| format!("http://127.0.0.1:{port}/{it} or")).collect();
    let many = rules(json!({"a": format!("{} @", many.join(" "))}), Settings::default());
    assert!(
        matches!(asked(&many, json!({})).await, Decision::Error(why) if why.contains("more than 16 times"))
    );
    assert_eq!(heard.lock().unwrap().len(), 17);
}

#[test]
fn what_is_no_policy_server_is_said_so() {
    for (rule, said) in [
        ("https:x", "a policy server is named as in `https:"),
        ("https://a..b/", "a policy server is named as in"),
        ("https://[::g]/", "a policy server is named as in"),
        ("http:x", "a policy server is named as in"),
        ("http://", "a policy server is named as in"),
        ("http:///x", "a policy server is named as in"),
        ("http://h:port/", "a policy server is named as in"),
        ("http://h:/", "a policy server is named as in"),
        ("http://h:99999/", "a policy server is named as in"),
        ("http://ann:secret@h/", "no user and no password"),
        ("http://%(host)s/", "the name of a policy server is fixed"),
        ("http://h/x#y", "a `#` means nothing"),
        ("http://h/%(x", "is never closed"),
        ("http://h/50%", "`%` at the end"),
    ] {
        for rule in [rule.to_owned(), format!("not {rule}")] {
            let (policy, told) = load(&json!({"a": rule}).to_string());
            assert!(
                told.len() == 1 && !told[0].warning && told[0].message.contains(said),
                "{rule}: {told:?}"
            );
            assert!(!policy.check(policy.rule("a"), &json!({}), &Map::new()).allowed(), "{rule}");
        }
    }
    for rule in [
        "http://127.0.0.1",
        "http://127.0.0.1:80?x",
        "http://[::1]:8000/x",
        "http://localhost/%(id)s",
        "https://h.x/y",
        "https://[::1]/x",
    ] {
        let (_, told) = load(&json!({"a": rule}).to_string());
        assert_eq!(told, [], "{rule}");
    }
}

/// A policy server that speaks TLS and says yes to everybody.
async fn secure_server(keys: Keys) -> u16 {
    let listener = AsyncListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = keys.acceptor().accept(stream).await else { continue };
            let mut part = [0; 4096];
            if stream.read(&mut part).await.is_ok() {
                stream.write_all(said("200 OK", "True").as_bytes()).await.ok();
                stream.shutdown().await.ok();
            }
        }
    });
    port
}

#[tokio::test]
async fn a_server_has_to_be_who_it_says_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["ca", "other", "clients"] {
        authority(folder, name);
    }
    certificate(folder, "ca", "server", "DNS:localhost,IP:127.0.0.1");
    certificate(folder, "ca", "elsewhere", "DNS:policy.example.org");
    expired(folder, "ca", "expired", "DNS:localhost");
    certificate(folder, "clients", "pileus", "DNS:pileus");
    let by_ca = "remote_ssl_ca_crt_file = 'ca.pem'\n";
    let known = format!(
        "{by_ca}remote_ssl_client_crt_file = 'pileus.pem'\nremote_ssl_client_key_file = 'pileus.key'\n"
    );
    // whose certificate the server shows, whether it wants one of a client, the settings, the host, what is decided
    let cases = [
        ("server", false, by_ca, "localhost", "allow"),
        ("server", false, by_ca, "127.0.0.1", "allow"),
        ("server", false, "remote_ssl_ca_crt_file = 'other.pem'", "localhost", "UnknownIssuer"),
        ("elsewhere", false, by_ca, "localhost", "not valid for name"),
        ("elsewhere", false, by_ca, "127.0.0.1", "not valid for name"),
        ("expired", false, by_ca, "localhost", "expired"),
        ("server", true, &known, "localhost", "allow"),
        ("server", true, by_ca, "localhost", "CertificateRequired"),
    ];
    for (name, wants_client, settings, host, decided) in cases {
        let tls = TlsSettings {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            client_ca: wants_client.then(|| folder.join("clients.pem")),
            crl: None,
        };
        let port = secure_server(Keys::read(&tls, false).unwrap()).await;
        for rule in [format!("https://{host}:{port}/"), format!("not https://{host}:{port}/")] {
            let section = Section::from_text("policy", settings);
            let mut policy = rules(json!({ "a": rule }), section.parse().unwrap());
            policy.set_up_tls(&section, folder).unwrap();
            let decision = asked(&policy, json!({})).await;
            let expected = if rule.starts_with("not") && decided == "allow" { "deny" } else { decided };
            assert!(decision.to_string().contains(expected), "{name}, {settings}, {rule}: {decision}");
            assert_eq!(decision.allowed(), expected == "allow");
        }
    }
    // One that speaks no TLS, and nobody who would: no credentials go over the line.
    let (port, heard, _end) = server(&["HTTP/1.1 400 Bad Request\r\n\r\n"]);
    let section = Section::from_text("policy", by_ca);
    let mut policy = rules(json!({"a": format!("https://localhost:{port}/")}), section.parse().unwrap());
    assert!(asked(&policy, json!({})).await.to_string().contains("TLS is not set up"));
    policy.set_up_tls(&section, folder).unwrap();
    policy.settings.remote_timeout_s = NonZeroU32::MIN;
    assert!(matches!(asked(&policy, json!({})).await, Decision::Error(_)));
    assert!(heard.lock().unwrap().is_empty());
}

#[test]
fn what_is_wrong_with_the_files_of_tls_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    authority(folder, "ca");
    certificate(folder, "ca", "pileus", "DNS:pileus");
    for (settings, said) in [
        ("remote_ssl_ca_crt_file = 'ca.pem'", ""),
        ("remote_ssl_verify_server_crt = true", ""),
        ("remote_ssl_verify_server_crt = false", "is always verified"),
        ("remote_ssl_ca_crt_file = 'none.pem'", "none.pem: "),
        ("remote_ssl_ca_crt_file = 'ca.key'", "ca.key: holds no certificate"),
        ("remote_ssl_client_key_file = 'ca.key'", "means nothing without `remote_ssl_client_crt_file`"),
        ("remote_ssl_ca_crt_file = 'ca.pem'\nremote_ssl_client_crt_file = 'pileus.pem'", "pileus.pem: "),
        (
            "remote_ssl_ca_crt_file = 'ca.pem'\nremote_ssl_client_crt_file = 'pileus.pem'\n\
             remote_ssl_client_key_file = 'ca.key'",
            "ca.key: is not the key of",
        ),
    ] {
        let section = Section::from_text("policy", settings);
        let mut policy = rules(json!({}), section.parse().unwrap());
        match policy.set_up_tls(&section, folder) {
            Ok(()) => assert_eq!(said, "", "{settings}"),
            Err(told) => {
                assert!(!said.is_empty() && told.message.contains(said), "{settings}: {told:?}");
                assert!(told.place.is_some_and(|place| place.span.start > 0), "at the value");
            }
        }
    }
}

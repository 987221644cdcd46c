//! Keystone behind TLS: who is believed to be Keystone, and who Keystone believes to be us.

use std::path::Path;

use bytes::Bytes;
use tokio::net::TcpListener;

use super::{
    wire::{self, Address, Question},
    *,
};
use crate::{
    paste::TlsSettings,
    serve::Keys,
    tls::testing::{authority, certificate, expired},
};

/// Authorities, and certificates of them for Keystone and for who asks it.
fn certificates(folder: &Path) {
    for name in ["ca", "other", "clients"] {
        authority(folder, name);
    }
    certificate(folder, "ca", "keystone", "DNS:localhost,IP:127.0.0.1");
    certificate(folder, "ca", "elsewhere", "DNS:keystone.example.org");
    expired(folder, "ca", "expired", "DNS:localhost");
    certificate(folder, "clients", "pileus", "DNS:pileus");
    certificate(folder, "other", "stranger", "DNS:pileus");
}

fn keys(folder: &Path, name: &str, wants_client: bool) -> Keys {
    let file = |end: &str| folder.join(format!("{name}.{end}"));
    let client_ca = wants_client.then(|| folder.join("clients.pem"));
    Keys::read(&TlsSettings { certificate: file("pem"), key: file("key"), client_ca, crl: None }, false)
        .unwrap()
}

/// The settings for an address, their files in `folder`.
fn text(url: &str, folder: &Path, more: &str) -> String {
    let files = more.replace("= '", &format!("= '{}/", folder.display()));
    format!(
        "auth_url = '{url}'\nusername = 'svc'\npassword = 'p'\nproject_name = 'service'\n\
             www_authenticate_uri = 'http://keystone:5000'\n{files}"
    )
}

/// Why a question has no answer.
async fn why(text: &str, clock: &ManualClock) -> String {
    let section = Section::from_text("filter.authtoken", text);
    let reach = Settings::read(&section, &Watched::default()).unwrap().reach;
    let question = Question {
        method: Method::POST,
        path: "/auth/tokens?nocatalog",
        tokens: None,
        body: Bytes::from_static(b"{}"),
    };
    let address = &reach.addresses[0];
    let asked =
        wire::ask(&address.pool(), address, question, reach.tls.as_ref(), reach.patience, clock).await;
    asked.err().map(|failure| failure.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn keystone_has_to_be_who_it_says_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    certificates(folder);
    let (deps, clock, _) = deps();
    let ca = "cafile = 'ca.pem'\n";
    let own = format!("{ca}certfile = 'pileus.pem'\nkeyfile = 'pileus.key'\n");
    let strangers = format!("{ca}certfile = 'stranger.pem'\nkeyfile = 'stranger.key'\n");
    // whose certificate Keystone shows, whether it wants one of a client, the URL, files, and why there is no answer
    let cases = [
        (Some("keystone"), false, "https://localhost", ca, ""),
        (Some("keystone"), false, "https://127.0.0.1", ca, ""),
        (Some("keystone"), false, "https://localhost", "cafile = 'other.pem'", "UnknownIssuer"),
        (Some("elsewhere"), false, "https://localhost", ca, "not valid for name \"localhost\""),
        (Some("elsewhere"), false, "https://127.0.0.1", ca, "not valid for name"),
        (Some("expired"), false, "https://localhost", ca, "expired"),
        (Some("keystone"), true, "https://localhost", &own, ""),
        (Some("keystone"), true, "https://localhost", ca, "CertificateRequired"),
        (Some("keystone"), true, "https://localhost", &strangers, "UnknownCA"),
        (None, false, "https://localhost", ca, "no TLS is spoken there"),
        (Some("keystone"), false, "http://localhost", ca, "invalid HTTP"),
    ];
    for (name, wants_client, url, files, reason) in cases {
        let what = format!("{name:?}, {url}, {files}");
        let fake = Fake::start_with(&clock, name.map(|name| keys(folder, name, wants_client))).await;
        fake.know("t1", "u1", &[]);
        let text = text(&format!("{url}:{}/identity", fake.address.port()), folder, files);
        let stack = build(KIND, &text, &deps).unwrap().over(Stack::from_fn(creds));
        let expected = if reason.is_empty() { 200 } else { 503 };
        assert_eq!(status(&stack, "t1").await, expected, "{what}");
        assert_eq!(fake.counts().1, usize::from(reason.is_empty()), "{what}");
        let why = why(&text, &clock).await;
        assert!(why.contains(reason) && why.is_empty() == reason.is_empty(), "{what}: {why}");
    }
}

#[tokio::test]
async fn agreeing_on_tls_is_a_part_of_connecting() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let (_, clock, _) = deps();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let text = text(&url, folder.path(), "cafile = 'ca.pem'");
    let asking = tokio::spawn({
        let clock = clock.clone();
        async move { why(&text, &clock).await }
    });
    let (_connection, _) = silent.accept().await.unwrap();
    clock.advance(secs(5));
    assert_eq!(asking.await.unwrap(), "no connection within 5 s");
}

#[test]
fn files_are_read_with_the_settings_and_watched() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    certificates(folder);
    let cases = [
        ("cafile = 'ca.pem'", ""),
        ("cafile = 'ca.pem'\ncertfile = 'pileus.pem'\nkeyfile = 'pileus.key'", ""),
        ("cafile = 'none.pem'", "none.pem: "),
        ("cafile = 'ca.key'", "ca.key: holds no certificate"),
        ("cafile = 'ca.pem'\nkeyfile = 'pileus.key'", "`keyfile`: means nothing without `certfile`"),
        ("cafile = 'ca.pem'\ncertfile = 'pileus.pem'", "pileus.pem: "),
        (
            "cafile = 'ca.pem'\ncertfile = 'pileus.pem'\nkeyfile = 'stranger.key'",
            "stranger.key: is not the key of",
        ),
    ];
    for scheme in ["http", "https"] {
        for (files, said) in cases {
            let watched = Watched::default();
            let text = text(&format!("{scheme}://localhost:5000"), folder, files);
            match Settings::read(&Section::from_text("filter.authtoken", &text), &watched) {
                Ok(_) => assert_eq!(said, "", "{files}"),
                Err(told) => {
                    assert!(!said.is_empty() && told.message.contains(said), "{files}: {told:?}");
                    assert!(told.place.is_some_and(|place| place.span.start > 0), "at the value");
                }
            }
            assert_eq!(watched.paths().len(), files.lines().count(), "{files}");
        }
    }
    // A key may stand in the file of its certificate.
    let both =
        ["pem", "key"].map(|end| std::fs::read_to_string(folder.join(format!("pileus.{end}"))).unwrap());
    std::fs::write(folder.join("both.pem"), both.concat()).unwrap();
    std::fs::set_permissions(folder.join("both.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let text = text("https://localhost", folder, "cafile = 'ca.pem'\ncertfile = 'both.pem'");
    assert!(Settings::read(&Section::from_text("filter.authtoken", &text), &Watched::default()).is_ok());
    assert!(Address::read("https://k/v3").unwrap().is_secure());
}

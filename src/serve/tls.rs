//! TLS of a listener: its certificate, its key, and whose clients it lets in.

use std::{fmt, sync::Arc};

use pileus_model::Time;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    },
    server::TlsStream,
};
use x509_cert::{Certificate, der::Decode};

use crate::{
    paste::TlsSettings,
    tls::{self, TlsError, validity},
};

/// What a listener proves itself with.
#[derive(Clone)]
pub struct Keys(TlsAcceptor);

impl Keys {
    /// Reads the files. `http2`: whether clients may choose it.
    pub fn read(settings: &TlsSettings, http2: bool) -> Result<Self, TlsError> {
        let of_certificate =
            |error: rustls::Error| TlsError::new("certificate", &settings.certificate, error);
        let chain = tls::certificates("certificate", &settings.certificate)?;
        let key = tls::private_key("key", &settings.key)?;
        let provider = tls::provider();
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(of_certificate)?;
        let builder = match &settings.client_ca {
            None => {
                if let Some(path) = &settings.crl {
                    return Err(TlsError::new("crl", path, "means nothing without `client_ca`"));
                }
                builder.with_no_client_auth()
            }
            Some(path) => {
                let roots = tls::authorities("client_ca", path)?;
                let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                if let Some(path) = &settings.crl {
                    // One that has ended may lack what was revoked since; OpenSSL refuses it as well.
                    let lists = tls::revocations("crl", path)?;
                    verifier = verifier.with_crls(lists).enforce_revocation_expiration();
                }
                builder.with_client_cert_verifier(verifier.build().map_err(|error| match &settings.crl {
                    Some(path) if matches!(error, VerifierBuilderError::InvalidCrl(_)) => {
                        TlsError::new("crl", path, error)
                    }
                    _ => TlsError::new("client_ca", path, error),
                })?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let why = format!("is not the key of {}", settings.certificate.display());
                TlsError::new("key", &settings.key, why)
            }
            error => of_certificate(error),
        })?;
        if settings.client_ca.is_some() {
            // A resumed session skips the client's certificate, which may have ended or been revoked since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Speaks TLS on a socket.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.0
    }
}

/// Returns the subject of the client's certificate; `None` if the listener demands none.
pub fn client_name<S>(stream: &TlsStream<S>) -> Option<String> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    Certificate::from_der(certificate).ok().map(|it| it.tbs_certificate().subject().to_string())
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// Files that work, and most likely not as they are meant to.
pub fn warnings(settings: &TlsSettings, now: Time) -> Vec<TlsError> {
    let mut warnings = Vec::new();
    let files = [("certificate", Some(&settings.certificate)), ("client_ca", settings.client_ca.as_ref())];
    for (setting, path) in files {
        let Some(path) = path else { continue };
        for certificate in tls::certificates(setting, path).iter().flatten() {
            let Some(certificate) = validity::Certificate::read(certificate) else { continue };
            if let Some(problem) = certificate.problem(now) {
                warnings.push(TlsError::new(setting, path, problem).help("renew it"));
            }
            if setting == "client_ca" && !certificate.is_authority {
                let problem = format!("{} is no authority, but a server or client", certificate.subject);
                let help = "name the certificate of the authority that signs the clients' certificates";
                warnings.push(TlsError::new(setting, path, problem).help(help));
            }
        }
    }
    let crl = settings.crl.as_ref();
    for (path, list) in crl
        .iter()
        .flat_map(|path| tls::revocations("crl", path).into_iter().flatten().map(move |list| (path, list)))
    {
        if let Some(problem) = validity::list_problem(&list, now) {
            warnings
                .push(TlsError::new("crl", path, problem).help("renew it: until then no client is let in"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;
    use crate::tls::testing::{authority, certificate, expired, list_in_der, revocations};

    fn made() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        authority(at, "ca");
        certificate(at, "ca", "server", "DNS:localhost");
        certificate(at, "ca", "other", "DNS:localhost");
        expired(at, "ca", "expired", "DNS:localhost");
        revocations(at, "ca", "none", &[], "-crldays 2");
        revocations(
            at,
            "ca",
            "late",
            &["other"],
            "-crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z",
        );
        list_in_der(at, "none");
        let both = ["ca.pem", "server.pem"].map(|name| fs::read_to_string(at.join(name)).unwrap());
        fs::write(at.join("both.pem"), both.concat()).unwrap();
        fs::write(at.join("text"), "no list").unwrap();
        fs::copy(at.join("server.key"), at.join("open.key")).unwrap();
        fs::set_permissions(at.join("open.key"), PermissionsExt::from_mode(0o604)).unwrap();
        folder
    }

    fn settings(folder: &Path, names: [&str; 4]) -> TlsSettings {
        let [certificate, key, client_ca, crl] = names.map(|name| folder.join(name));
        let said = |path, name: &str| (!name.is_empty()).then_some(path);
        TlsSettings { certificate, key, client_ca: said(client_ca, names[2]), crl: said(crl, names[3]) }
    }

    #[test]
    fn files_that_cannot_be_meant_are_refused() {
        let folder = made();
        // Certificate, key, client_ca, crl; the setting that is wrong, and why.
        let cases = [
            (["server.pem", "server.key", "", ""], None),
            (["server.pem", "server.key", "ca.pem", ""], None),
            (["server.pem", "server.key", "ca.pem", "none.crl"], None),
            (["server.pem", "server.key", "ca.pem", "none.der"], None),
            (["server.pem", "server.key", "ca.pem", "late.crl"], None),
            (
                ["server.pem", "server.key", "", "none.crl"],
                Some(("crl", "means nothing without `client_ca`")),
            ),
            (["server.pem", "server.key", "ca.pem", "text"], Some(("crl", "CRL"))),
            (["server.pem", "server.key", "ca.pem", "ca.pem"], Some(("crl", "holds no list of revoked"))),
            (["server.pem", "server.key", "ca.pem", "nowhere"], Some(("crl", "No such file"))),
            (["server.pem", "open.key", "", ""], Some(("key", "can be read by others (mode 0604)"))),
            (["server.pem", "other.key", "", ""], Some(("key", "is not the key of"))),
            (["server.pem", "nowhere.key", "", ""], Some(("key", "cannot be read"))),
        ];
        for (names, expected) in cases {
            let found = Keys::read(&settings(folder.path(), names), true).err();
            match (&found, expected) {
                (None, None) => {}
                (Some(error), Some((setting, why))) => {
                    assert!(error.setting == setting && error.problem.contains(why), "{names:?}: {error:?}");
                    let open = error.help.as_deref().is_some_and(|help| help.starts_with("run `chmod 600 "));
                    assert_eq!(open, why.contains("by others"), "{names:?}: {error:?}");
                }
                _ => panic!("{names:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn files_that_are_most_likely_not_meant_have_a_warning() {
        let folder = made();
        let now = pileus_engine::SystemClock;
        let (now, long_ago) = (pileus_model::Clock::now(&now), Time(0));
        // Files, time; setting and text of each warning.
        type Case = ([&'static str; 4], Time, &'static [(&'static str, &'static str)]);
        let cases: [Case; 8] = [
            (["server.pem", "server.key", "", ""], now, &[]),
            (["server.pem", "server.key", "ca.pem", "none.crl"], now, &[]),
            (
                ["expired.pem", "expired.key", "", ""],
                now,
                &[("certificate", "CN=expired expired at 2020-01-02T00:00:00Z")],
            ),
            (
                ["server.pem", "server.key", "", ""],
                long_ago,
                &[("certificate", "CN=server is not valid before 20")],
            ),
            (
                ["server.pem", "server.key", "server.pem", ""],
                now,
                &[("client_ca", "CN=server is no authority")],
            ),
            (
                ["server.pem", "server.key", "both.pem", ""],
                now,
                &[("client_ca", "CN=server is no authority")],
            ),
            (
                ["server.pem", "server.key", "expired.pem", ""],
                now,
                &[("client_ca", "CN=expired expired"), ("client_ca", "CN=expired is no authority")],
            ),
            (
                ["server.pem", "server.key", "ca.pem", "late.crl"],
                now,
                &[("crl", "the list of CN=ca expired at 2020-01-02T00:00:00Z")],
            ),
        ];
        for (names, now, expected) in cases {
            let found = warnings(&settings(folder.path(), names), now);
            assert_eq!(found.len(), expected.len(), "{names:?}: {found:?}");
            for (found, (setting, why)) in found.iter().zip(expected) {
                assert!(found.setting == *setting && found.problem.contains(why), "{names:?}: {found:?}");
                assert!(found.help.is_some(), "{names:?}");
            }
        }
    }
}

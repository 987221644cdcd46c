//! TLS of who calls: which authorities of servers are trusted, and by what certificate the caller proves
//! who it is. A server's certificate and its name are always verified.

use std::{fmt, path::Path, path::PathBuf, sync::Arc};

use rustls_native_certs::load_native_certs;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::tls::{self, TlsError};

/// A file in PEM, and the setting that names it.
#[derive(Debug, Clone)]
pub struct File {
    /// `cafile`.
    pub setting: &'static str,
    /// Where it is; `None`: nothing was said.
    pub path: Option<PathBuf>,
}

/// The files of a client.
#[derive(Debug, Clone)]
pub struct Files {
    /// Authorities of servers; none: those of the system.
    pub ca: File,
    /// The client's certificate, and those between it and an authority.
    pub certificate: File,
    /// Its private key; none: it stands beside the certificate.
    pub key: File,
}

impl Files {
    /// Those that were said.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.ca, &self.certificate, &self.key].into_iter().filter_map(|file| file.path.as_deref())
    }
}

/// How TLS is spoken with servers.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// Reads the files.
    pub fn read(files: &Files) -> Result<Self, TlsError> {
        let Files { ca, certificate, key } = files;
        let roots = match &ca.path {
            Some(path) => tls::authorities(ca.setting, path)?,
            None => of_the_system(ca.setting)?,
        };
        let builder = ClientConfig::builder_with_provider(tls::provider());
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| TlsError {
            setting: ca.setting,
            problem: error.to_string(),
            file: None,
            help: None,
        })?;
        let builder = builder.with_root_certificates(roots);
        let mut config = match (&certificate.path, &key.path) {
            (None, None) => builder.with_no_client_auth(),
            (None, Some(_)) => {
                let problem = format!("means nothing without `{}`", certificate.setting);
                return Err(TlsError { setting: key.setting, problem, file: None, help: None });
            }
            (Some(path), key_path) => {
                let chain = tls::certificates(certificate.setting, path)?;
                let (setting, key_path) =
                    key_path.as_ref().map_or((certificate.setting, path), |it| (key.setting, it));
                let key = tls::private_key(setting, key_path)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => {
                        TlsError::new(setting, key_path, format!("is not the key of {}", path.display()))
                    }
                    error => TlsError::new(certificate.setting, path, error),
                })?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Of a client that nobody tells anything: it trusts whom the system trusts.
    pub fn system() -> Result<Self, TlsError> {
        let nothing = |setting| File { setting, path: None };
        Self::read(&Files { ca: nothing("ca"), certificate: nothing("certificate"), key: nothing("key") })
    }

    /// For a server whose certificate is known: the first one of this file, and no other, whatever names and
    /// authorities it has. The server still has to prove that it holds the key.
    pub fn pinned(certificate: &Path) -> Result<Self, TlsError> {
        let mut known = tls::certificates("certificate", certificate)?;
        let verifier = Pinned { certificate: known.swap_remove(0), provider: tls::provider() };
        let builder = ClientConfig::builder_with_provider(tls::provider());
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| TlsError::new("certificate", certificate, error))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(super) fn connector(&self) -> &TlsConnector {
        &self.0
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// The authorities that this system trusts, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`. One that
/// cannot be read takes its servers' trust away, and nobody else's.
fn of_the_system(setting: &'static str) -> Result<Arc<RootCertStore>, TlsError> {
    let found = load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let problem = format!("this system trusts no certificate authority{why}, and none is named");
        return Err(TlsError { setting, problem, file: None, help: None });
    }
    Ok(Arc::new(roots))
}

/// Verifier that accepts one certificate.
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

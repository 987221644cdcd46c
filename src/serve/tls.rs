//! TLS of a listener: its certificate, its key, and whose clients it lets in.
//!
//! Read by *check* like every other file, and again at a reload: connections that are open go on with
//! what they began with.

use std::{fmt, path::Path, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

use crate::paste::TlsSettings;

/// What a listener proves itself with.
#[derive(Clone)]
pub struct Keys(TlsAcceptor);

/// Which setting leads to nothing good, and why. Says no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysError {
    /// `certificate`, `key` or `client_ca`.
    pub setting: &'static str,
    /// Why.
    pub problem: String,
}

impl Keys {
    /// Reads the files. `http2`: whether clients may choose it.
    pub fn read(settings: &TlsSettings, http2: bool) -> Result<Self, KeysError> {
        let wrong = |setting, path: &Path, why: &dyn fmt::Display| KeysError {
            setting,
            problem: format!("{}: {why}", path.display()),
        };
        let certificates = |setting, path: &Path| {
            let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let all = all.map_err(|error| wrong(setting, path, &error))?;
            match all.is_empty() {
                true => Err(wrong(setting, path, &"holds no certificate in PEM")),
                false => Ok(all),
            }
        };
        let chain = certificates("certificate", &settings.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&settings.key);
        let key = key.map_err(|error| wrong("key", &settings.key, &error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| wrong("certificate", &settings.certificate, &error))?;
        let builder = match &settings.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("client_ca", path)? {
                    roots.add(certificate).map_err(|error| wrong("client_ca", path, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong("client_ca", path, &error))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                wrong("key", &settings.key, &format!("is not the key of {}", settings.certificate.display()))
            }
            error => wrong("certificate", &settings.certificate, &error),
        })?;
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Speaks TLS on a socket.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.0
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

//! TLS of a listener: its certificate, its key, and whose clients it lets in.

use std::{fmt, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig, server::WebPkiClientVerifier},
    server::TlsStream,
};
use x509_cert::{Certificate, der::Decode};

use crate::{
    paste::TlsSettings,
    tls::{self, TlsError},
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
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = tls::authorities("client_ca", path)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| TlsError::new("client_ca", path, error))?,
                )
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let why = format!("is not the key of {}", settings.certificate.display());
                TlsError::new("key", &settings.key, why)
            }
            error => of_certificate(error),
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

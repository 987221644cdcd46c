//! Blocks of a proxy's file: its certificates, the proxy's own first, and its private key.
//!
//! No error repeats what is in the file.

use base64::{Engine, engine::general_purpose::STANDARD};
use x509_cert::{Certificate, der::Decode};

/// Certificates and key of a proxy.
pub struct Pem {
    /// At least one.
    pub certificates: Vec<Certificate>,
    /// Label and DER of the private key.
    pub key: Option<(String, Vec<u8>)>,
}

/// Reads the blocks of a text.
pub fn read(pem: &str) -> Result<Pem, &'static str> {
    let mut it = Pem { certificates: Vec::new(), key: None };
    for block in pem.split("-----BEGIN ").skip(1) {
        let (label, rest) = block.split_once("-----").ok_or("a block in it has no label")?;
        let is_certificate = label == "CERTIFICATE";
        if !is_certificate && !label.ends_with("PRIVATE KEY") {
            continue;
        }
        let end = format!("-----END {label}-----");
        let (text, _) = rest.split_once(&end).ok_or(if is_certificate {
            "a certificate in it has no end"
        } else {
            "the private key in it has no end"
        })?;
        let text: String = text.split_ascii_whitespace().collect();
        if is_certificate {
            let der = STANDARD.decode(text).map_err(|_| "a certificate in it is not base64")?;
            let certificate =
                Certificate::from_der(&der).map_err(|_| "a certificate in it cannot be read")?;
            it.certificates.push(certificate);
        } else if it.key.is_none() {
            let der = STANDARD.decode(text).map_err(|_| "the private key in it is not plain base64")?;
            it.key = Some((label.to_owned(), der));
        }
    }
    if it.certificates.is_empty() { Err("there is no certificate in it") } else { Ok(it) }
}

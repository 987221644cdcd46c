//! When a proxy ends: read from the certificates in its file.

use base64::{Engine, engine::general_purpose::STANDARD};
use pileus_model::Time;
use x509_cert::{Certificate, der::Decode};

/// The first end of all certificates in a PEM file: a proxy is worth nothing without those that it was
/// signed by. No error repeats what is in the file, which holds a private key.
pub fn expiry(pem: &str) -> Result<Time, &'static str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut first: Option<Time> = None;
    for block in pem.split(BEGIN).skip(1) {
        let (text, _) = block.split_once(END).ok_or("a certificate in it has no end")?;
        let text: String = text.split_ascii_whitespace().collect();
        let der = STANDARD.decode(text).map_err(|_| "a certificate in it is not base64")?;
        let certificate = Certificate::from_der(&der).map_err(|_| "a certificate in it cannot be read")?;
        let until = certificate.tbs_certificate().validity().not_after.to_unix_duration();
        let until = Time(0).after(until);
        first = Some(first.map_or(until, |first| first.min(until)));
    }
    first.ok_or("there is no certificate in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl req -x509 -newkey ed25519 -subj /CN=a -not_after …`: two ends.
    const LATE: &str = include_str!("testdata/2030.pem");
    const EARLY: &str = include_str!("testdata/2029.pem");

    #[test]
    fn a_chain_ends_with_the_first_of_its_certificates() {
        assert_eq!(expiry(LATE), Ok(Time(1_893_456_000_000)));
        assert_eq!(expiry(EARLY), Ok(Time(1_861_920_000_000)));
        for chain in
            [format!("{LATE}{EARLY}"), format!("{EARLY}-----BEGIN RSA PRIVATE KEY-----\nAA==\n{LATE}")]
        {
            assert_eq!(expiry(&chain), Ok(Time(1_861_920_000_000)));
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_and_not_repeated() {
        let cases = [
            ("", "there is no certificate in it"),
            ("secret", "there is no certificate in it"),
            ("-----BEGIN CERTIFICATE-----\nAAAA", "a certificate in it has no end"),
            (
                "-----BEGIN CERTIFICATE-----\nse-cret\n-----END CERTIFICATE-----",
                "a certificate in it is not base64",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
                "a certificate in it cannot be read",
            ),
        ];
        for (pem, wanted) in cases {
            assert_eq!(expiry(pem), Err(wanted));
        }
    }
}

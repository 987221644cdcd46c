//! A proxy in its file: read, and compared with what it has to be.

use pileus_model::Time;
use x509_cert::Certificate;

use super::{
    pem,
    public_key::{of_certificate, of_private_key},
    subject::{is_same, subject},
};

/// Facts about a proxy.
#[derive(Debug, PartialEq, Eq)]
pub struct ProxyFile {
    /// The first end of all its certificates: a proxy is worth nothing without those that it was signed by.
    pub expires: Time,
    /// Subject of the user's own certificate.
    pub subject: String,
}

impl ProxyFile {
    /// Reads a proxy whose certificate is for its key. No error repeats what is in the file, which holds a private key.
    pub fn read(pem: &str) -> Result<Self, &'static str> {
        let pem = pem::read(pem)?;
        let (Some(first), Some((label, key))) = (pem.certificates.first(), &pem.key) else {
            return Err("there is no private key in it");
        };
        if of_certificate(first.tbs_certificate().subject_public_key_info())? != of_private_key(label, key)? {
            return Err("its certificate is for another key than the one in it");
        }
        let expires = expiry(&pem.certificates).ok_or("there is no certificate in it")?;
        Ok(Self { expires, subject: subject(&pem.certificates)? })
    }

    /// Returns what is wrong with it; `None`: nothing. `wanted` is the subject of the settings, which has the last
    /// word; `before` the subject of the proxy that it replaces.
    pub fn problem(&self, now: Time, wanted: Option<&str>, before: Option<&str>) -> Option<String> {
        let subject = &self.subject;
        if self.expires <= now {
            return Some("it has ended already".into());
        }
        match (wanted, before) {
            (Some(wanted), _) if !is_same(subject, wanted) => Some(format!(
                "it is of the subject {subject}, and `subject` in [credentials.users] is {wanted}"
            )),
            (None, Some(before)) if before != subject => Some(format!(
                "it is of the subject {subject}, and the one that it would replace of {before}; if that is right, say \
                 `subject` in [credentials.users] of pileus.toml"
            )),
            _ => None,
        }
    }
}

fn expiry(certificates: &[Certificate]) -> Option<Time> {
    let ends = |it: &Certificate| Time(0).after(it.tbs_certificate().validity().not_after.to_unix_duration());
    certificates.iter().map(ends).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS_2030: Time = Time(1_893_456_000_000);
    const ENDS_2029: Time = Time(1_861_920_000_000);

    /// Made with `openssl ca`: proxies of RFC 3820 of two users, with an authority that is gone.
    const LATE: &str = include_str!("testdata/late.pem");
    const EARLY: &str = include_str!("testdata/early.pem");
    /// Made with `openssl req -x509 -newkey ed25519 -subj /CN=a`: certificates alone.
    const ALONE_2029: &str = include_str!("testdata/2029.pem");

    #[test]
    fn a_proxy_is_read_with_its_end_and_its_user() {
        let cases = [
            (LATE, ENDS_2030, "/O=Test/CN=Ada"),
            (include_str!("testdata/late_pkcs8.pem"), ENDS_2030, "/O=Test/CN=Ada"),
            (EARLY, ENDS_2029, "/O=Test/CN=Ada"),
            (include_str!("testdata/ec.pem"), ENDS_2030, "/O=Test/CN=Ada"),
            (include_str!("testdata/ec_pkcs8.pem"), ENDS_2030, "/O=Test/CN=Ada"),
            (include_str!("testdata/nested.pem"), ENDS_2030, "/O=Test/CN=Ada"),
            (include_str!("testdata/other_subject.pem"), ENDS_2030, "/O=Test/CN=Eve"),
            // The first end counts.
            (&format!("{LATE}{ALONE_2029}"), ENDS_2029, "/O=Test/CN=Ada"),
        ];
        for (at, (pem, expires, subject)) in cases.into_iter().enumerate() {
            assert_eq!(ProxyFile::read(pem), Ok(ProxyFile { expires, subject: subject.into() }), "{at}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_and_not_repeated() {
        let ec = include_str!("testdata/ec.pem");
        let of = |pem: &str, label: &str| {
            let (_, rest) = pem.split_once(&format!("-----BEGIN {label}")).unwrap();
            let (text, _) = rest.split_once("-----END").unwrap();
            format!("-----BEGIN {label}{text}-----END {label}-----\n")
        };
        let rsa_key = of(LATE, "RSA PRIVATE KEY");
        let certificate = of(LATE, "CERTIFICATE");
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
            (ALONE_2029, "there is no private key in it"),
            (&rsa_key, "there is no certificate in it"),
            (include_str!("testdata/other_key.pem"), "its certificate is for another key than the one in it"),
            (
                &format!("{certificate}{}", of(EARLY, "RSA PRIVATE KEY")),
                "its certificate is for another key than the one in it",
            ),
            (
                &format!("{certificate}{}", of(ec, "EC PRIVATE KEY")),
                "its certificate is for another key than the one in it",
            ),
            (
                &format!("{certificate}-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----"),
                "the private key in it cannot be read",
            ),
            (
                &format!(
                    "{certificate}-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----"
                ),
                "the private key in it is encrypted",
            ),
            (
                &format!("{certificate}-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----"),
                "the private key in it is neither of RSA nor of an elliptic curve",
            ),
            (
                &format!("{ALONE_2029}{rsa_key}"),
                "the public key of its certificate is neither of RSA nor of an elliptic curve",
            ),
        ];
        for (pem, wanted) in cases {
            assert_eq!(ProxyFile::read(pem), Err(wanted), "{pem}");
        }
    }

    #[test]
    fn a_renewal_is_of_the_same_user() {
        let it = ProxyFile { expires: ENDS_2029, subject: "/O=Test/CN=Ada".into() };
        let (ada, eve) = (Some("/O=Test/CN=Ada"), Some("/O=Test/CN=Eve"));
        let cases = [
            (ENDS_2029, None, None, "it has ended already"),
            (Time(0), None, None, ""),
            (Time(0), None, ada, ""),
            (Time(0), ada, None, ""),
            (Time(0), ada, eve, ""),
            (Time(0), None, eve, "it is of the subject /O=Test/CN=Ada, and the one that it would replace"),
            (Time(0), eve, None, "it is of the subject /O=Test/CN=Ada, and `subject`"),
            (Time(0), eve, ada, "it is of the subject /O=Test/CN=Ada, and `subject`"),
        ];
        for (now, wanted, before, expected) in cases {
            let problem = it.problem(now, wanted, before).unwrap_or_default();
            assert!(problem.starts_with(expected) && problem.is_empty() == expected.is_empty(), "{problem}");
        }
    }
}

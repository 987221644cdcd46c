//! Subject that a proxy stands for: the user's own certificate, below the names that proxies add.
//!
//! A proxy's subject is its signer's and one more common name, another one in each proxy. Two proxies are of the same
//! user if what is left without these names is the same. Shown as grid tools write it: `/O=Grid/CN=Ada`.
//! Source: RFC 3820, and the proxies before it, whose added name is `proxy` or `limited proxy`.

use x509_cert::{
    Certificate,
    der::oid::ObjectIdentifier,
    name::{Name, RelativeDistinguishedName},
};

/// Extension of RFC 3820, and of its draft.
const PROXY: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.14"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3536.1.222"),
];

/// Follows the chain from its first certificate to the user's own.
pub fn subject(chain: &[Certificate]) -> Result<String, &'static str> {
    let mut of = chain.first().ok_or("there is no certificate in it")?;
    // A chain has no circle that is longer than itself.
    for _ in chain {
        let (subject, issuer) = (parts(of.tbs_certificate().subject()), parts(of.tbs_certificate().issuer()));
        if !is_proxy(of, &subject) {
            return Ok(shown(&subject));
        }
        let Some((added, signer)) = subject.split_last() else {
            return Err("its certificate has no subject");
        };
        if signer != issuer || !added.starts_with("CN=") {
            return Err("its certificate is a proxy of another subject than the one that signed it");
        }
        let by = |other: &&Certificate| parts(other.tbs_certificate().subject()) == issuer;
        match chain.iter().find(by) {
            Some(signer) => of = signer,
            // A server may leave the user's certificate out.
            None => return Ok(shown(&issuer)),
        }
    }
    Err("its certificates do not end in a user's")
}

/// Compares a subject with one that a person wrote: in any case of the attributes' names, and with blanks around.
pub fn is_same(subject: &str, written: &str) -> bool {
    let plain = |text: &str| -> Vec<String> {
        let parts = text.trim().split('/').map(|part| match part.split_once('=') {
            Some((name, value)) => format!("{}={}", name.trim().to_ascii_uppercase(), value.trim()),
            None => part.to_owned(),
        });
        parts.collect()
    };
    plain(subject) == plain(written)
}

fn is_proxy(certificate: &Certificate, subject: &[String]) -> bool {
    let mut extensions = certificate.tbs_certificate().extensions().into_iter().flatten();
    let legacy = subject.last().is_some_and(|last| matches!(last.as_str(), "CN=proxy" | "CN=limited proxy"));
    legacy || extensions.any(|extension| PROXY.contains(&extension.extn_id))
}

/// Its parts, the widest first, as `CN=Ada`.
fn parts(name: &Name) -> Vec<String> {
    // RFC 4514 escapes what is special in its own syntax.
    let plain = |part: &RelativeDistinguishedName| {
        let mut text = String::new();
        let mut letters = part.to_string().chars().collect::<Vec<_>>().into_iter();
        while let Some(letter) = letters.next() {
            text.push(if letter == '\\' { letters.next().unwrap_or(letter) } else { letter });
        }
        text
    };
    name.iter_rdn().map(plain).collect()
}

fn shown(parts: &[String]) -> String {
    parts.iter().map(|part| format!("/{part}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::pem, *};

    #[test]
    fn a_proxy_stands_for_its_user() {
        let cases = [
            ("a proxy", include_str!("testdata/late.pem"), "/O=Test/CN=Ada"),
            ("another one", include_str!("testdata/early.pem"), "/O=Test/CN=Ada"),
            ("a proxy of a proxy", include_str!("testdata/nested.pem"), "/O=Test/CN=Ada"),
            ("another user's", include_str!("testdata/other_subject.pem"), "/O=Test/CN=Eve"),
            ("no proxy", include_str!("testdata/2030.pem"), "/CN=a"),
        ];
        for (what, text, expected) in cases {
            let chain = pem::read(text).unwrap().certificates;
            assert_eq!(subject(&chain).as_deref(), Ok(expected), "{what}");
            // Without the user's own certificate.
            let alone = subject(&chain[..1]);
            assert!(
                alone.is_ok_and(|alone| expected.starts_with("/CN") || alone.starts_with(expected)),
                "{what}"
            );
        }
        assert!(subject(&[]).is_err());
    }

    #[test]
    fn subjects_are_compared_as_people_write_them() {
        for (written, same) in [
            ("/O=Test/CN=Ada", true),
            (" /o=Test/cn=Ada ", true),
            ("/O=Test/CN=ada", false),
            ("/O=Test/CN=Ada/CN=1", false),
            ("/CN=Ada", false),
            ("", false),
        ] {
            assert_eq!(is_same("/O=Test/CN=Ada", written), same, "{written}");
        }
    }
}

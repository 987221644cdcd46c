//! Public keys of certificates and of private keys, for comparison. RSA and elliptic curves.
//!
//! Both sides are read from DER, which has one spelling for each number. A private key names its public key itself,
//! as the programs that make proxies write it; nothing is computed.

use x509_cert::{
    der::{
        Decode, Reader, SliceReader, Tag, Tagged,
        asn1::{AnyRef, BitStringRef, OctetStringRef},
        oid::ObjectIdentifier,
    },
    spki::SubjectPublicKeyInfoOwned,
};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

const UNREADABLE: &str = "the private key in it cannot be read";
const UNKNOWN: &str = "the private key in it is neither of RSA nor of an elliptic curve";

/// A public key.
#[derive(Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
    /// A point of a curve.
    Ec(Vec<u8>),
}

/// The key that a certificate is for.
pub fn of_certificate(info: &SubjectPublicKeyInfoOwned) -> Result<PublicKey, &'static str> {
    const WRONG: &str = "the public key of its certificate cannot be read";
    let bits = info.subject_public_key.as_bytes().ok_or(WRONG)?;
    if info.algorithm.oid == EC {
        return Ok(PublicKey::Ec(bits.to_vec()));
    }
    if info.algorithm.oid != RSA {
        return Err("the public key of its certificate is neither of RSA nor of an elliptic curve");
    }
    match &sequence(bits).ok_or(WRONG)?[..] {
        [modulus, exponent] => Ok(rsa(modulus, exponent)),
        _ => Err(WRONG),
    }
}

/// The key that belongs to a private key, by the label and the DER of its block.
pub fn of_private_key(label: &str, der: &[u8]) -> Result<PublicKey, &'static str> {
    match label {
        "RSA PRIVATE KEY" => of_rsa(der),
        "EC PRIVATE KEY" => of_ec(der),
        "PRIVATE KEY" => {
            let parts = sequence(der).ok_or(UNREADABLE)?;
            let [_version, algorithm, key, ..] = &parts[..] else { return Err(UNREADABLE) };
            let algorithm = items(algorithm.value()).ok_or(UNREADABLE)?;
            let algorithm = algorithm.first().and_then(|oid| oid.decode_as::<ObjectIdentifier>().ok());
            let key = key.decode_as::<&OctetStringRef>().map_err(|_| UNREADABLE)?.as_bytes();
            match algorithm {
                Some(RSA) => of_rsa(key),
                Some(EC) => of_ec(key),
                _ => Err(UNKNOWN),
            }
        }
        "ENCRYPTED PRIVATE KEY" => Err("the private key in it is encrypted"),
        _ => Err(UNKNOWN),
    }
}

/// PKCS #1: version, modulus, public exponent, and what is secret.
fn of_rsa(der: &[u8]) -> Result<PublicKey, &'static str> {
    match &sequence(der).ok_or(UNREADABLE)?[..] {
        [_version, modulus, exponent, ..] => Ok(rsa(modulus, exponent)),
        _ => Err(UNREADABLE),
    }
}

fn rsa(modulus: &AnyRef<'_>, exponent: &AnyRef<'_>) -> PublicKey {
    PublicKey::Rsa(modulus.value().to_vec(), exponent.value().to_vec())
}

/// RFC 5915: version, what is secret, `[0]` the curve, `[1]` the point.
fn of_ec(der: &[u8]) -> Result<PublicKey, &'static str> {
    let is_point =
        |part: &&AnyRef<'_>| matches!(part.tag(), Tag::ContextSpecific { number, .. } if number.value() == 1);
    let parts = sequence(der).ok_or(UNREADABLE)?;
    let point = parts.iter().find(is_point).ok_or("the private key in it does not name its public key")?;
    let point = BitStringRef::from_der(point.value()).map_err(|_| UNREADABLE)?;
    point.as_bytes().map(|point| PublicKey::Ec(point.to_vec())).ok_or(UNREADABLE)
}

fn sequence(der: &[u8]) -> Option<Vec<AnyRef<'_>>> {
    let whole = AnyRef::from_der(der).ok().filter(|whole| whole.tag() == Tag::Sequence)?;
    items(whole.value())
}

fn items(der: &[u8]) -> Option<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(der).ok()?;
    let mut items = Vec::new();
    while !reader.is_finished() {
        items.push(AnyRef::decode(&mut reader).ok()?);
    }
    Some(items)
}

//! One pass over a request's header: what the edge has to know of it.

use http::{HeaderMap, HeaderName, header};
use pileus_sdk::Media;

use super::target;

/// Headers that say who calls. Whatever a client sends in them is dropped, under every spelling
/// (`X-User-Id`, `x_user_id`): who calls is a typed value in the request.
///
/// Families rather than names, so that one which a later Keystone adds is dropped as well.
/// `x-service-token` is a secret to be checked, not a claim.
const IDENTITY: [&str; 11] = [
    "openstack-system-scope",
    "x-domain-",
    "x-identity-",
    "x-is-admin",
    "x-project-",
    "x-role",
    "x-service-",
    "x-system-scope",
    "x-tenant",
    "x-trust-",
    "x-user",
];

/// Facts of a request's header, from one pass. Fields are few: to look for one by its hash costs as much as
/// to look at all.
#[derive(Debug, Default)]
pub struct Glance {
    /// `true` if a field claims who calls.
    pub claims_identity: bool,
    /// Number of `Host` fields; two or more where one is no host.
    pub hosts: usize,
    /// `true` if `Accept` asks for another form than the default.
    pub chooses_media: bool,
    /// `true` if the body has a transfer coding.
    pub coded: bool,
    /// `true` if the client waits for a 100 before it sends the body.
    pub expects: bool,
    /// Number of `X-Auth-Token` fields.
    pub tokens: usize,
    /// Number of `Authorization` fields.
    pub authorizations: usize,
}

impl Glance {
    /// Looks at every field once.
    pub fn at(headers: &HeaderMap) -> Self {
        let mut glance = Self::default();
        for (name, value) in headers {
            match *name {
                header::HOST => glance.hosts += if target::is_host(value.as_bytes()) { 1 } else { 2 },
                header::ACCEPT => glance.chooses_media |= !Media::is_everybodys(value),
                header::AUTHORIZATION => glance.authorizations += 1,
                header::TRANSFER_ENCODING => glance.coded = true,
                header::EXPECT => glance.expects = true,
                _ => match name.as_str().as_bytes() {
                    [b'x', b'-', b'a', b'u', ..] => glance.tokens += usize::from(name == "x-auth-token"),
                    _ => glance.claims_identity |= claims_identity(name),
                },
            }
        }
        glance
    }

    /// `true` if the header of an HTTP/1.1 request has nothing that needs a second look.
    pub fn is_ordinary(&self) -> bool {
        self.hosts == 1 && !self.coded && self.tokens < 2 && self.authorizations < 2
    }
}

/// Removes every header that claims an identity.
#[cold]
pub fn drop_identity(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| claims_identity(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Names are lower-case here. Nearly all requests have none of these: look at two letters first.
fn claims_identity(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes() {
        [b'x', _, b'd' | b'i' | b'p' | b'r' | b's' | b't' | b'u', ..] | [b'o', b'p', ..] => is_identity(name),
        _ => false,
    }
}

fn is_identity(name: &str) -> bool {
    let same = |family: &str| {
        name.len() >= family.len()
            && name.bytes().zip(family.bytes()).all(|(a, b)| if a == b'_' { b == b'-' } else { a == b })
    };
    IDENTITY.iter().any(|family| same(family)) && name.replace('_', "-") != "x-service-token"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_letters_leave_no_family_out() {
        for family in IDENTITY {
            let name: HeaderName = format!("{family}-a").parse().unwrap();
            assert!(claims_identity(&name), "{family}");
        }
    }

    #[test]
    fn identity_headers_are_dropped_in_every_spelling_and_nothing_else_is() {
        let cases = [
            ("X-User-Id", true),
            ("x_user_id", true),
            ("X-Roles", true),
            ("X-Role", true),
            ("x_roles", true),
            ("X-Tenant", true),
            ("X-Tenant_Name", true),
            ("X-Project-Id", true),
            ("X-Identity-Status", true),
            ("X-Service-Roles", true),
            ("X-Is-Admin-Project", true),
            ("OpenStack-System-Scope", true),
            ("openstack_system_scope", true),
            ("X-Domain-Name", true),
            ("X-Service-Token", false),
            ("x_service_token", false),
            ("X-Auth-Token", false),
            ("X-Openstack-Request-Id", false),
            ("X-Forwarded-For", false),
            ("Origin", false),
            ("Host", false),
        ];
        for (name, dropped) in cases {
            let mut headers = HeaderMap::new();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name.clone(), "a".parse().unwrap());
            headers.append(name.clone(), "b".parse().unwrap());
            drop_identity(&mut headers);
            assert_eq!(headers.is_empty(), dropped, "{name}");
        }
    }
}

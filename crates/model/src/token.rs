//! A token of the embedded identity: who may call, known by its hash alone.

use serde::{Deserialize, Serialize};

use crate::{Name, Time};

/// A token. The secret itself is known to its holder only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of the secret, in lower-case hex: the key. A secret has 256 random bits, so that the
    /// hash needs neither salt nor stretching.
    pub sha256: Name,
    /// What people call it.
    pub name: Name,
    /// Who calls with it.
    pub user: Name,
    /// For which project.
    pub project: Name,
    /// With which roles.
    pub roles: Vec<String>,
    /// When it was made.
    pub created: Time,
    /// End of its validity. `None`: it is valid until it is revoked, as tokens of older states are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

impl Token {
    /// `true` if the token is still valid at `now`. It is not valid at the time of its end.
    pub fn is_valid_at(&self, now: Time) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_an_older_state_has_no_end() {
        let old = r#"{"sha256":"ab","name":"t","user":"ada","project":"p","roles":[],"created":5}"#;
        let token: Token = serde_json::from_str(old).unwrap();
        assert!(token.expires.is_none() && token.is_valid_at(Time(i64::MAX)));
        // A token without an end is still written as older versions wrote it.
        assert_eq!(serde_json::to_string(&token).unwrap(), old);
        let token = Token { expires: Some(Time(7)), ..token };
        let read: Token = serde_json::from_str(&serde_json::to_string(&token).unwrap()).unwrap();
        assert_eq!(read, token);
        assert!(token.is_valid_at(Time(6)) && !token.is_valid_at(Time(7)));
    }
}

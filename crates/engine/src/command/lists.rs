//! Commands that concern aliases, user limits and tokens.

use pileus_model::{Kind, Name, Refusal, Token, View};

use super::valid::{self, invalid};

pub fn set_alias(view: &View, alias: Name, clouds: Vec<String>) -> Result<Vec<Kind>, Refusal> {
    valid::new_name("name", &alias)?;
    valid::names("clouds", &clouds)?;
    if view.file_aliases.contains(&alias) {
        return Err(in_file("Alias", &alias));
    }
    let same = |other: &&Name| other.eq_ignore_ascii_case(&alias) && **other != alias;
    if let Some(other) = view.aliases.keys().find(same) {
        return Err(Refusal::Conflict(format!("Alias {other} exists, and targets ignore case.")));
    }
    let unchanged = view.aliases.get(&alias).is_some_and(|old| **old == *clouds);
    Ok(if unchanged { Vec::new() } else { vec![Kind::AliasSet { alias, clouds }] })
}

pub fn delete_alias(view: &View, alias: &str) -> Result<Vec<Kind>, Refusal> {
    let Some((name, _)) = view.aliases.get_key_value(alias) else {
        return Err(Refusal::NotFound { kind: "Alias", id: alias.into() });
    };
    if view.file_aliases.contains(name) {
        return Err(in_file("Alias", name));
    }
    Ok(vec![Kind::AliasGone { alias: name.clone() }])
}

pub fn set_user_limit(view: &View, user: Name, vms: Option<u32>) -> Result<Vec<Kind>, Refusal> {
    match vms {
        Some(_) => valid::user("user", &user)?,
        // An older state may hold a limit under any name.
        None => valid::key("user", &user)?,
    }
    valid::count("vms", vms.unwrap_or(0), 0)?;
    if view.file_limits.contains(&user) {
        return Err(in_file("The limit of user", &user));
    }
    let unchanged = view.user_limits.get(&user).copied() == vms;
    Ok(if unchanged { Vec::new() } else { vec![Kind::UserLimit { user, vms }] })
}

pub fn create_token(view: &View, token: Token, replaces: bool) -> Result<Vec<Kind>, Refusal> {
    let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    if token.sha256.len() != 64 || !token.sha256.bytes().all(hex) {
        return invalid("sha256", "must be 64 lower-case hexadecimal digits");
    }
    valid::new_name("name", &token.name)?;
    valid::user("user", &token.user)?;
    valid::new_name("project", &token.project)?;
    valid::names("roles", &token.roles)?;
    if !token.is_valid_at(token.created) {
        return invalid("expires_at", "must lie in the future");
    }
    if view.tokens.contains_key(&token.sha256) {
        return Err(Refusal::Conflict("This secret is in use already.".into()));
    }
    let mut kinds = match view.tokens.values().find(|other| other.name == token.name) {
        Some(_) if !replaces => return Err(Refusal::Conflict(format!("Token {} exists.", token.name))),
        Some(old) => vec![revoked(old)],
        None => Vec::new(),
    };
    kinds.push(Kind::TokenCreated(token));
    Ok(kinds)
}

pub fn revoke_token(view: &View, name: &str) -> Result<Vec<Kind>, Refusal> {
    let token = view.tokens.values().find(|token| &*token.name == name);
    let token = token.ok_or_else(|| Refusal::NotFound { kind: "Token", id: name.into() })?;
    Ok(vec![revoked(token)])
}

fn revoked(token: &Token) -> Kind {
    Kind::TokenRevoked { sha256: token.sha256.clone(), name: Some(token.name.clone()) }
}

/// What a file says would win again at the next start; so nobody shall believe otherwise.
fn in_file(kind: &str, name: &str) -> Refusal {
    Refusal::Conflict(format!("{kind} {name} is set in a file: change it there and reload."))
}

//! Settings of a section with `factory = "ratelimit"`.

use std::num::NonZeroU32;

use serde::Deserialize;

/// Settings of the section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A list of `{ verb, value, unit }` and, as it may be, `uri`, `regex` or `path`, `roles`, `name`; or
    /// Nova's text. An empty list limits nothing.
    pub limits: toml::Value,
    /// Who shares a bucket.
    #[serde(default)]
    pub key: By,
    /// Requests that are charged.
    #[serde(default)]
    pub count: Count,
    /// How many callers are remembered; about 100 bytes each, and 16 for each limit.
    #[serde(default = "default_max_keys")]
    pub max_keys: NonZeroU32,
    /// Callers with one of these roles have no limit.
    #[serde(default)]
    pub exempt_roles: Vec<String>,
    /// Whether answers say what is left.
    #[serde(default = "yes")]
    pub headers: bool,
    /// Refuse nobody, and log who would have been.
    #[serde(default)]
    pub dry_run: bool,
}

/// Requests that are charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Count {
    /// Every request that a limit holds for.
    #[default]
    All,
    /// Those that are answered with 401, once they are.
    Unauthenticated,
}

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Nobody: a bucket for each user in each project.
    #[default]
    User,
    /// The users of a project.
    Project,
    /// Callers with the same roles.
    Role,
    /// Whoever calls from an address, or from a network of IPv6 with 64 bits.
    Address,
}

const fn yes() -> bool {
    true
}

const fn default_max_keys() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(99_999)
}

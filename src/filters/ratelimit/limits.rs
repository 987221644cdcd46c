//! What `limits` may say: a list of tables, or Nova's text `(POST, *, .*, 10, MINUTE); (…)`.
//!
//! Source: Nova, `nova/api/openstack/compute/limits.py`; reference §4.1, §4.3.

use http::Method;
use regex::Regex;
use serde::Deserialize;

use crate::policy::nearest;

/// A request's limits are bits of a word.
pub(super) const MAX_LIMITS: usize = 64;

const VERBS: [&str; 10] =
    ["ANY", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

/// Names of units, and their lengths in milliseconds.
const UNITS: [(&str, u64); 4] =
    [("SECOND", 1000), ("MINUTE", 60_000), ("HOUR", 3_600_000), ("DAY", 86_400_000)];

/// So many requests of this kind in so much time.
#[derive(Debug)]
pub(super) struct Limit {
    /// `None`: any.
    pub(super) verb: Option<Method>,
    /// For people.
    pub(super) uri: String,
    /// As it was written; of a path, that path.
    pub(super) regex: String,
    target: Target,
    /// Holds for callers with one of these roles; for all, where it names none.
    pub(super) roles: Vec<String>,
    /// What the headers call it; unique.
    pub(super) name: String,
    /// In requests per unit; not 0.
    pub(super) value: u64,
    /// Its name.
    pub(super) unit: &'static str,
    /// Its length in milliseconds.
    pub(super) unit_ms: u64,
}

/// Which requests a limit is for.
#[derive(Debug)]
enum Target {
    Everything,
    Regex(Regex),
    /// Of a route, `/{project_id}/jobs/{id}`.
    Path,
}

/// A limit as a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    verb: String,
    uri: Option<String>,
    regex: Option<String>,
    path: Option<String>,
    value: i64,
    unit: String,
    #[serde(default)]
    roles: Vec<String>,
    name: Option<String>,
}

/// Reads the setting.
pub(super) fn read(setting: &toml::Value) -> Result<Vec<Limit>, String> {
    let limits = match setting {
        toml::Value::String(text) => from_text(text)?,
        toml::Value::Array(tables) => {
            let read = |(index, table): (usize, &toml::Value)| {
                let table =
                    table.clone().try_into::<Table>().map_err(|error| error.message().trim().to_owned());
                table.and_then(Limit::new).map_err(|error| format!("limit {}: {error}", index + 1))
            };
            tables.iter().enumerate().map(read).collect::<Result<_, _>>()?
        }
        _ => {
            return Err("limits are a list of tables, or text as in Nova: `(POST, *, .*, 10, MINUTE)`".into());
        }
    };
    if limits.len() > MAX_LIMITS {
        return Err(format!("{} limits are more than {MAX_LIMITS}", limits.len()));
    }
    let mut limits: Vec<Limit> = limits;
    for index in 0..limits.len() {
        let (before, rest) = limits.split_at_mut(index);
        let Some(limit) = rest.first_mut() else { continue };
        let taken = |name: &str| before.iter().any(|other| other.name == name);
        let free = |number: &usize| !taken(&format!("{} {number}", limit.name));
        if taken(&limit.name)
            && let Some(number) = (2..=MAX_LIMITS + 1).find(free)
        {
            limit.name = format!("{} {number}", limit.name);
        }
    }
    Ok(limits)
}

fn from_text(text: &str) -> Result<Vec<Limit>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let group = |(index, group): (usize, &str)| {
        let wrong = |error: String| format!("limit {}: {error}", index + 1);
        let inner = group.trim().strip_prefix('(').and_then(|group| group.strip_suffix(')'));
        let inner = inner.ok_or_else(|| wrong("limit rules must be surrounded by parentheses".into()))?;
        let parts: Vec<_> = inner.split(',').map(str::trim).collect();
        let [verb, uri, regex, value, unit] = parts[..] else {
            return Err(wrong(
                "limit rules must contain the following arguments: verb, uri, regex, value, unit".into(),
            ));
        };
        let value = value.parse().map_err(|_| wrong(format!("`{value}` is no number")))?;
        let table = Table {
            verb: verb.into(),
            uri: Some(uri.into()),
            regex: Some(regex.into()),
            path: None,
            value,
            unit: unit.into(),
            roles: Vec::new(),
            name: None,
        };
        Limit::new(table).map_err(wrong)
    };
    text.split(';').enumerate().map(group).collect()
}

impl Limit {
    fn new(table: Table) -> Result<Self, String> {
        let verb = table.verb.to_uppercase();
        let known = VERBS.contains(&verb.as_str()) || verb == "*";
        let verb = match verb.as_str() {
            "*" | "ANY" => None,
            _ => Some(
                Method::from_bytes(verb.as_bytes())
                    .ok()
                    .filter(|_| known)
                    .ok_or_else(|| format!("`{}` is no verb{}", table.verb, meant(nearest(&verb, VERBS))))?,
            ),
        };
        let unit = table.unit.to_uppercase();
        let (unit, unit_ms) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(|| {
            let near = nearest(&unit, UNITS.map(|(name, _)| name));
            format!("`{}` is no unit: SECOND, MINUTE, HOUR or DAY{}", table.unit, meant(near))
        })?;
        // No more than fits into the buckets' arithmetic, and into a sentence.
        let value = u32::try_from(table.value).ok().filter(|value| *value > 0);
        let value =
            value.ok_or_else(|| format!("{} is no number of requests: 1 to {}", table.value, u32::MAX))?;
        let (regex, target) = match (table.regex, table.path) {
            (Some(_), Some(_)) => return Err("a limit has a `path` or a `regex`, not both".into()),
            (None, Some(path)) => (path, Target::Path),
            (regex, None) => {
                let regex = regex.unwrap_or_else(|| ".*".into());
                let target = match regex.as_str() {
                    ".*" | "" => Target::Everything,
                    text => Target::Regex(
                        Regex::new(text).map_err(|error| format!("`{text}` is no regex: {error}"))?,
                    ),
                };
                (regex, target)
            }
        };
        let uri = match (table.uri, &target) {
            (Some(uri), _) => uri,
            (None, Target::Everything) => "*".into(),
            (None, Target::Regex(_) | Target::Path) => regex.clone(),
        };
        let (value, roles) = (value.into(), table.roles);
        let mut limit = Self { verb, uri, regex, target, value, unit, unit_ms, roles, name: String::new() };
        let name = table.name;
        limit.name =
            name.unwrap_or_else(|| format!("{} {} {}", limit.verb(), limit.uri, unit.to_lowercase()));
        // What a header may hold within quotes.
        let plain = |letter: char| matches!(letter, ' '..='~') && !matches!(letter, '"' | '\\');
        limit.name = limit.name.chars().map(|it| if plain(it) { it } else { '?' }).collect();
        Ok(limit)
    }

    /// Whether it is for every path.
    pub(super) fn everywhere(&self) -> bool {
        matches!(self.target, Target::Everything)
    }

    /// The path of its route, where it is for one.
    pub(super) fn path(&self) -> Option<&str> {
        matches!(self.target, Target::Path).then_some(&self.regex)
    }

    /// Whether the regex matches one of these from its start, as Python's `re.match` does.
    pub(super) fn matches(&self, targets: [&str; 2]) -> bool {
        let Target::Regex(pattern) = &self.target else { return false };
        // The leftmost match starts at 0 if any does.
        targets.into_iter().any(|target| pattern.find(target).is_some_and(|found| found.start() == 0))
    }

    /// Whether it is for a caller with these roles.
    pub(super) fn holds_for(&self, roles: &[String]) -> bool {
        self.roles.is_empty() || have(roles, &self.roles)
    }

    /// The verb for people.
    pub(super) fn verb(&self) -> &str {
        self.verb.as_ref().map_or("ANY", Method::as_str)
    }

    /// The sentence of a refusal.
    pub(super) fn sentence(&self) -> String {
        let unit = self.unit.to_lowercase();
        format!("Only {} {} request(s) can be made to {} every {unit}.", self.value, self.verb(), self.uri)
    }
}

/// Whether one of `wanted` is among `roles`, in any case of letters.
pub(super) fn have(roles: &[String], wanted: &[String]) -> bool {
    wanted.iter().any(|wanted| roles.iter().any(|role| role.eq_ignore_ascii_case(wanted)))
}

fn meant(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str) -> toml::Value {
        text.parse::<toml::Table>().unwrap().remove("limits").unwrap()
    }

    #[test]
    fn both_forms_say_the_same() {
        let nova = "limits = ' ( post , * , .* , 10 , minute ) ;(Any, */servers, ^/servers, 5, DAY)'";
        let tables = "limits = [
            { verb = 'POST', uri = '*', regex = '.*', value = 10, unit = 'minute' },
            { verb = '*', uri = '*/servers', regex = '^/servers', value = 5, unit = 'Day' },
        ]";
        for text in [nova, tables] {
            let limits = read(&setting(text)).unwrap();
            let told: Vec<_> = limits.iter().map(Limit::sentence).collect();
            let expected = [
                "Only 10 POST request(s) can be made to * every minute.",
                "Only 5 ANY request(s) can be made to */servers every day.",
            ];
            assert_eq!(told, expected, "{text}");
            assert_eq!(limits[1].unit_ms, 86_400_000);
            assert!(limits[0].everywhere() && !limits[1].everywhere());
            assert!(limits[1].matches(["/v2/p1/servers", "/servers?a=b"]));
            assert!(!limits[1].matches(["/v2/p1/servers", "/x/servers"]));
        }
        for none in ["limits = ''", "limits = '  '", "limits = []"] {
            assert_eq!(read(&setting(none)).unwrap().len(), 0);
        }
    }

    #[test]
    fn a_table_may_say_more_and_less_than_novas_text() {
        let text = "limits = [
            { verb = 'GET', value = 1, unit = 'second' },
            { verb = 'GET', path = '/{project_id}/jobs', value = 1, unit = 'second', roles = ['Reader'] },
            { verb = 'GET', regex = '^/jobs', value = 1, unit = 'second', name = 'jo\"bsü' },
            { verb = 'GET', value = 2, unit = 'SECOND' },
            { verb = 'GET', value = 3, unit = 'SECOND' },
        ]";
        let limits = read(&setting(text)).unwrap();
        let seen: Vec<_> = limits.iter().map(|it| (&*it.name, &*it.uri, &*it.regex, it.path())).collect();
        let path = "/{project_id}/jobs";
        let expected = [
            ("GET * second", "*", ".*", None),
            ("GET /{project_id}/jobs second", path, path, Some(path)),
            ("jo?bs?", "^/jobs", "^/jobs", None),
            ("GET * second 2", "*", ".*", None),
            ("GET * second 3", "*", ".*", None),
        ];
        assert_eq!(seen, expected);
        for (roles, holds) in [(vec![], false), (vec!["reader".into()], true), (vec!["member".into()], false)]
        {
            assert!(limits[0].holds_for(&roles));
            assert_eq!(limits[1].holds_for(&roles), holds, "{roles:?}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_number() {
        let ok = "{ verb = 'GET', uri = '*', regex = '.*', value = 1, unit = 'DAY' }";
        let cases = [
            ("'POST, *, .*, 10, MINUTE'", "limit 1: limit rules must be surrounded by parentheses"),
            ("'(POST, *, .*, 10, MINUTE);'", "limit 2: limit rules must be surrounded"),
            ("'(POST, *, .*, 10)'", "limit 1: limit rules must contain the following arguments: verb, uri"),
            ("'(POST, *, a,b, 10, MINUTE)'", "limit 1: limit rules must contain"),
            ("'(POST, *, .*, ten, MINUTE)'", "limit 1: `ten` is no number"),
            ("'(POST, *, .*, 0, MINUTE)'", "limit 1: 0 is no number of requests"),
            ("'(POST, *, .*, -1, MINUTE)'", "limit 1: -1 is no number of requests"),
            ("'(POST, *, .*, 4294967296, MINUTE)'", "limit 1: 4294967296 is no number"),
            (
                "'(POST, *, .*, 10, MINUTES)'",
                "`MINUTES` is no unit: SECOND, MINUTE, HOUR or DAY; did you mean `MINUTE`",
            ),
            ("'(PSOT, *, .*, 10, MINUTE)'", "limit 1: `PSOT` is no verb; did you mean `POST`?"),
            ("'(POST, *, [, 10, MINUTE)'", "limit 1: `[` is no regex"),
            ("5", "limits are a list of tables"),
            ("[5]", "limit 1: invalid type: integer `5`"),
            (&format!("[{ok}, {{ verb = 'GET' }}]"), "limit 2: missing field `value`"),
            (
                &format!("[{}]", ok.replace("uri", "path")),
                "limit 1: a limit has a `path` or a `regex`, not both",
            ),
            (&format!("[{ok}, {}]", ok.replace("uri", "url")), "limit 2: unknown field `url`"),
        ];
        for (text, expected) in cases {
            let error = read(&setting(&format!("limits = {text}"))).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let many = format!("limits = [{}]", vec![ok; 65].join(","));
        assert!(read(&setting(&many)).unwrap_err().contains("65 limits are more than 64"));
    }
}

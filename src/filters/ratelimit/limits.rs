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
    /// As it was written.
    pub(super) regex: String,
    /// `None`: matches everything.
    pattern: Option<Regex>,
    /// In requests per unit; not 0.
    pub(super) value: u64,
    /// Its name.
    pub(super) unit: &'static str,
    /// Its length in milliseconds.
    pub(super) unit_ms: u64,
}

/// A limit as a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    verb: String,
    uri: String,
    regex: String,
    value: i64,
    unit: String,
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
        let table =
            Table { verb: verb.into(), uri: uri.into(), regex: regex.into(), value, unit: unit.into() };
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
        let pattern = match table.regex.as_str() {
            ".*" | "" => None,
            regex => Some(Regex::new(regex).map_err(|error| format!("`{regex}` is no regex: {error}"))?),
        };
        let (uri, regex) = (table.uri, table.regex);
        Ok(Self { verb, uri, regex, pattern, value: value.into(), unit, unit_ms })
    }

    /// Whether the regex matches every path.
    pub(super) fn everywhere(&self) -> bool {
        self.pattern.is_none()
    }

    /// Whether the regex matches one of these from its start, as Python's `re.match` does.
    pub(super) fn matches(&self, targets: [&str; 2]) -> bool {
        let Some(pattern) = &self.pattern else { return true };
        // The leftmost match starts at 0 if any does.
        targets.into_iter().any(|target| pattern.find(target).is_some_and(|found| found.start() == 0))
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
            assert!(limits[0].matches(["", ""]));
            assert!(limits[1].matches(["/v2/p1/servers", "/servers?a=b"]));
            assert!(!limits[1].matches(["/v2/p1/servers", "/x/servers"]));
        }
        for none in ["limits = ''", "limits = '  '", "limits = []"] {
            assert_eq!(read(&setting(none)).unwrap().len(), 0);
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
            (&format!("[{ok}, {{ verb = 'GET' }}]"), "limit 2: missing field `uri`"),
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

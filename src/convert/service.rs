//! A service's own file (`nova.conf`, `keystone.conf` and their like) → settings of `pileus.toml` and
//! of the filters in `api-paste.toml`.
//!
//! Filters of OpenStack read most of their settings from sections of this file. With an `api-paste.ini`
//! in the same run they join the filter's section; otherwise `api-paste.toml` stands on the shipped file.
//! Secrets are not carried: a password is read from a file that the operator fills.
//! Source: oslo.config (`$name` in values); options of Nova, keystonemiddleware, oslo.middleware, oslo.policy.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Conversion, Settings,
    ini::{Ini, Opt, Section},
    note::Fate,
    scheduler::boolean,
    write::{self, Line},
};
use crate::{diagnostic::Diagnostic, extensions, paste::SHIPPED};

/// Longest value that references may grow to, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// Destination of an option.
#[derive(Debug, Clone, Copy)]
enum To {
    /// Setting of this filter.
    Filter(&'static str),
    /// Setting of `[policy]` in `pileus.toml`.
    Policy(&'static str, Value),
    /// `auth_strategy` of `pileus.toml`.
    Strategy,
    /// `extensions` of `pileus.toml`.
    Extensions,
    /// Part of `[server.api]`.
    Server(Part),
    /// No setting here, with the reason.
    Gone(&'static str),
    /// Not built yet, with the reason.
    NotYet(&'static str),
}

/// Type of a value.
#[derive(Debug, Clone, Copy)]
enum Value {
    Bool,
    Number,
    Text,
    List,
}

/// Part of a server's section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Host,
    Port,
    Certificate,
    Key,
    ClientCa,
}

const LOG: &str = "`PILEUS_LOG` selects log events, `[filter.trace]` writes the access log";
const PASTE: &str = "name that file in the same run: it becomes api-paste.toml";
const POLICY: &str = "name that file in the same run: it becomes policy.json";
const QUOTA: &str =
    "projects have no quotas yet: `user_limits` bounds the VMs of a user, `vm_slots` those of a cloud";
const THREADS: &str = "threads are as many as there are cores";

/// Options that have a meaning. A key that ends in `*` stands for all that begin so.
#[rustfmt::skip]
static OPTIONS: &[(&str, &str, To)] = &[
    ("keystone_authtoken", "*", To::Filter("authtoken")),
    ("cors", "*", To::Filter("cors")),
    ("healthcheck", "*", To::Filter("healthcheck")),
    ("oslo_middleware", "max_request_body_size", To::Filter("sizelimit")),
    ("oslo_middleware", "*", To::Filter("http_proxy_to_wsgi")),
    ("oslo_policy", "policy_file", To::Gone(POLICY)),
    ("oslo_policy", "policy_dirs", To::Policy("policy_dirs", Value::List)),
    ("oslo_policy", "enforce_scope", To::Policy("enforce_scope", Value::Bool)),
    ("oslo_policy", "remote_timeout", To::Policy("remote_timeout_s", Value::Number)),
    ("oslo_policy", "remote_content_type", To::Policy("remote_content_type", Value::Text)),
    ("oslo_policy", "remote_ssl_ca_crt_file", To::Policy("remote_ssl_ca_crt_file", Value::Text)),
    ("oslo_policy", "remote_ssl_client_crt_file", To::Policy("remote_ssl_client_crt_file", Value::Text)),
    ("oslo_policy", "remote_ssl_client_key_file", To::Policy("remote_ssl_client_key_file", Value::Text)),
    ("oslo_policy", "remote_ssl_verify_server_crt", To::Gone("certificates of policy servers are always verified")),
    ("oslo_policy", "policy_default_rule", To::Gone("the rule for what has no rule is called `default`")),
    ("oslo_policy", "enforce_new_defaults", To::Gone("routes of Pileus have one set of defaults")),
    ("DEFAULT", "auth_strategy", To::Strategy),
    ("api", "auth_strategy", To::Strategy),
    ("DEFAULT", "osapi_compute_listen", To::Server(Part::Host)),
    ("DEFAULT", "osapi_compute_listen_port", To::Server(Part::Port)),
    ("DEFAULT", "osapi_compute_workers", To::Gone(THREADS)),
    ("DEFAULT", "ssl_cert_file", To::Server(Part::Certificate)),
    ("DEFAULT", "ssl_key_file", To::Server(Part::Key)),
    ("DEFAULT", "ssl_ca_file", To::Server(Part::ClientCa)),
    ("wsgi", "ssl_cert_file", To::Server(Part::Certificate)),
    ("wsgi", "ssl_key_file", To::Server(Part::Key)),
    ("wsgi", "ssl_ca_file", To::Server(Part::ClientCa)),
    ("ssl", "cert_file", To::Server(Part::Certificate)),
    ("ssl", "key_file", To::Server(Part::Key)),
    ("ssl", "ca_file", To::Server(Part::ClientCa)),
    ("DEFAULT", "osapi_max_request_body_size", To::Filter("sizelimit")),
    ("DEFAULT", "use_forwarded_for", To::Filter("http_proxy_to_wsgi")),
    ("api", "use_forwarded_for", To::Filter("http_proxy_to_wsgi")),
    ("DEFAULT", "enabled_extensions", To::Extensions),
    ("DEFAULT", "osapi_compute_extension", To::Extensions),
    ("DEFAULT", "osapi_compute_ext_list", To::Extensions),
    ("DEFAULT", "quota*", To::NotYet(QUOTA)),
    ("quota", "*", To::NotYet(QUOTA)),
    ("DEFAULT", "osapi_max_limit", To::NotYet("a page of a list has at most 1000 members")),
    ("api", "max_limit", To::NotYet("a page of a list has at most 1000 members")),
    ("DEFAULT", "api_paste_config", To::Gone(PASTE)),
    ("wsgi", "api_paste_config", To::Gone(PASTE)),
    ("paste_deploy", "*", To::Gone(PASTE)),
    ("DEFAULT", "policy_file", To::Gone(POLICY)),
    ("DEFAULT", "enabled_apis", To::Gone("`[server.*]` of api-paste.toml lists what listens")),
    ("DEFAULT", "api_rate_limit", To::Gone("the filter `ratelimit` in api-paste.toml decides")),
    ("DEFAULT", "debug", To::Gone(LOG)),
    ("DEFAULT", "verbose", To::Gone(LOG)),
    ("DEFAULT", "log*", To::Gone(LOG)),
    ("DEFAULT", "use_syslog", To::Gone(LOG)),
    ("DEFAULT", "default_log_levels", To::Gone(LOG)),
    ("DEFAULT", "state_path", To::Gone("`--state` names the state folder")),
];

/// Settings that a service's file has for other files.
#[derive(Debug, Default)]
pub struct Service {
    /// Settings of filters. References are resolved, `%` is doubled as in `api-paste.ini`.
    pub filters: BTreeMap<&'static str, Vec<Section>>,
    server: BTreeMap<Part, Opt>,
}

/// Returns `true` if a file of this name or with these sections is a service's own.
pub fn recognises(file: &str, headers: &[&str]) -> bool {
    let known = [
        "[keystone_authtoken]",
        "[oslo_policy]",
        "[oslo_middleware]",
        "[oslo_messaging",
        "[oslo_concurrency]",
    ];
    let named = ["nova.conf", "keystone.conf", "glance-api.conf", "cinder.conf", "neutron.conf"];
    named.iter().any(|name| file.ends_with(name))
        || headers.iter().any(|header| known.iter().any(|it| header.starts_with(it)))
}

/// Reads the file. Fills `pileus.toml`'s settings; the rest is for [`overlay`] or for `api-paste.ini`.
pub fn convert(ini: &Ini, has_paste: bool, settings: &mut Settings, out: &mut Conversion) -> Service {
    let mut service = Service::default();
    let mut policy = Vec::new();
    for section in std::iter::once(&ini.default).chain(&ini.sections) {
        let mut without: Vec<&Opt> = Vec::new();
        for option in &section.options {
            let Some(to) = destination(&section.name, &option.key) else {
                without.push(option);
                continue;
            };
            let what = format!("[{}] `{}`", section.name, option.key);
            let resolved = resolved(ini, section, option);
            let value = resolved.value.trim();
            match to {
                To::Gone(why) => out.notes.add(&option.place, what, Fate::Gone, why),
                To::NotYet(why) => out.notes.add(&option.place, what, Fate::NotYet, why),
                To::Filter(factory) => service.filter(factory, section, resolved),
                To::Server(part) => drop(service.server.insert(part, resolved)),
                To::Strategy => strategy(value, option, &what, has_paste, settings, out),
                To::Extensions => selection(value, option, &what, settings, out),
                // The folder that is read anyway: a file that names it demands that it is there.
                To::Policy("policy_dirs", _) if value.trim() == "policy.d" => {
                    out.notes.add(
                        &option.place,
                        what,
                        Fate::Carried,
                        "[policy] policy_dirs, which is the default",
                    );
                }
                To::Policy(key, kind) => match toml_value(value, kind) {
                    Some(value) => {
                        policy.push(Line::new(key, value, &option.place, &option.key));
                        match key == "policy_dirs" || key.ends_with("_file") {
                            true => {
                                let text = "here it has to be there, and is sought beside pileus.toml";
                                out.notes.add(&option.place, what, Fate::Differs, text);
                            }
                            false => {
                                out.notes.add(&option.place, what, Fate::Carried, format!("[policy] {key}"))
                            }
                        }
                    }
                    None => out.errors.push(
                        Diagnostic::error(format!("{what}: `{}` has another type", write::one_line(value)))
                            .at(option.place.clone()),
                    ),
                },
            }
        }
        without_meaning(section, &without, out);
    }
    let keystone = service.filters.contains_key("authtoken");
    if keystone && !settings.top.iter().any(|line| line.key == "auth_strategy") {
        let section = service.filters.get("authtoken").and_then(|it| it.first());
        if let Some(section) = section {
            let value = write::text("keystone");
            settings.top.push(Line::new("auth_strategy", value, &section.place, "[keystone_authtoken]"));
            let text = "its settings are those of Keystone's strategy";
            out.notes.add(&section.place, "`auth_strategy`", Fate::Added, text);
        }
    }
    settings.policy.extend(policy);
    service
}

fn destination(section: &str, key: &str) -> Option<To> {
    let is = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => key == pattern,
    };
    OPTIONS.iter().find(|row| row.0 == section && is(row.1)).map(|row| row.2)
}

/// Notes options without a meaning here: one message a section, one note an option.
fn without_meaning(section: &Section, options: &[&Opt], out: &mut Conversion) {
    let Some(first) = options.first() else { return };
    let names: Vec<&str> = options.iter().map(|option| &*option.key).collect();
    let text = "it configures another part of that service";
    let what = format!("[{}] {}", section.name, write::few(&names));
    out.notes.add(&first.place, what, Fate::Gone, text);
    for option in &options[1..] {
        out.notes.add_within(&option.place, format!("[{}] `{}`", section.name, option.key), Fate::Gone, text);
    }
}

/// The option with `$name`, `${name}` and `$section.name` replaced, as oslo.config does.
fn resolved(ini: &Ini, section: &Section, option: &Opt) -> Opt {
    let mut out = String::new();
    expand(ini, section, &option.value, 0, &mut out);
    Opt { value: out.replace('%', "%%"), ..option.clone() }
}

fn expand(ini: &Ini, section: &Section, value: &str, depth: usize, out: &mut String) {
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let word = |text: &str| {
            let end = text.find(|it: char| !it.is_ascii_alphanumeric() && it != '_' && it != '.');
            end.unwrap_or(text.len())
        };
        let (name, tail) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, tail)) => (name, tail),
            None => after.split_at(word(after)),
        };
        let find = |group: &str, key: &str| ini.sections.iter().find(|it| it.name == group)?.get(key);
        let found = name.split_once('.').and_then(|(group, key)| find(group, key));
        let found = found.or_else(|| section.get(name)).or_else(|| ini.default.get(name));
        match found.filter(|_| depth < 10 && out.len() < MAX_TEXT) {
            Some(found) => expand(ini, section, &found.value, depth + 1, out),
            None => out.push_str(&rest[at..rest.len() - tail.len()]),
        }
        rest = tail;
    }
    out.push_str(rest);
}

fn toml_value(value: &str, kind: Value) -> Option<String> {
    Some(match kind {
        Value::Bool => boolean(value)?.to_string(),
        Value::Number => value.parse::<f64>().ok().filter(|it| *it >= 0.0 && *it < 1e9)?.ceil().to_string(),
        Value::Text => write::text(value),
        Value::List => {
            let list: Vec<&str> =
                value.split([',', '\n']).map(str::trim).filter(|it| !it.is_empty()).collect();
            write::list(&list)
        }
    })
}

fn strategy(
    value: &str,
    option: &Opt,
    what: &str,
    has_paste: bool,
    settings: &mut Settings,
    out: &mut Conversion,
) {
    let ours = match value {
        "keystone" => "keystone",
        it if has_paste => it,
        "noauth" | "noauth2" => "noauth",
        _ => {
            let text = format!("the shipped api-paste.toml has no strategy `{}`", write::one_line(value));
            return out.notes.add(&option.place, what, Fate::Gone, text);
        }
    };
    settings.top.retain(|line| line.key != "auth_strategy");
    settings.top.push(Line::new("auth_strategy", write::text(ours), &option.place, &option.key));
    out.notes.add(&option.place, what, Fate::Carried, "auth_strategy");
}

fn selection(value: &str, option: &Opt, what: &str, settings: &mut Settings, out: &mut Conversion) {
    let known = extensions::aliases();
    let names: Vec<&str> = value.split([',', '\n']).map(str::trim).filter(|it| !it.is_empty()).collect();
    if names.iter().any(|name| name.ends_with("standard_extensions")) {
        settings.top.push(Line::new("extensions", write::text("standard"), &option.place, &option.key));
        return out.notes.add(&option.place, what, Fate::Carried, "extensions");
    }
    let (ours, other): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| known.contains(name));
    if ours.is_empty() {
        let text = "none of these extensions is one of Pileus: all of Pileus are loaded";
        return out.notes.add(&option.place, what, Fate::Gone, text);
    }
    settings.top.push(Line::new("extensions", write::list(&ours), &option.place, &option.key));
    match other.is_empty() {
        true => out.notes.add(&option.place, what, Fate::Carried, "extensions"),
        false => {
            let text = format!("there is no extension {}", write::few(&other));
            out.notes.add(&option.place, what, Fate::Differs, text);
        }
    }
}

impl Service {
    fn filter(&mut self, factory: &'static str, section: &Section, option: Opt) {
        let all = self.filters.entry(factory).or_default();
        match all.iter_mut().find(|it| it.name == section.name) {
            Some(known) => known.options.push(option),
            None => all.push(Section { options: vec![option], ..section.clone() }),
        }
    }

    /// Value of a filter's setting by its old name.
    pub fn says(&self, factory: &str, key: &str) -> bool {
        self.filters.get(factory).into_iter().flatten().any(|section| section.get(key).is_some())
    }

    /// Address of `[server.api]` and its TLS settings, as `key = value` in TOML.
    pub fn server(&self, out: &mut Conversion) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let text =
            |part| self.server.get(&part).map(|it: &Opt| it.value.replace("%%", "%").trim().to_owned());
        let mut carried: Vec<Part> = Vec::new();
        if self.server.contains_key(&Part::Host) || self.server.contains_key(&Part::Port) {
            let host = text(Part::Host).unwrap_or_else(|| "127.0.0.1".into());
            let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
            let port = text(Part::Port).unwrap_or_else(|| "8774".into());
            lines.push(("listen", write::text(&format!("{host}:{port}"))));
            carried.extend([Part::Host, Part::Port]);
        }
        if let (Some(certificate), Some(key)) = (text(Part::Certificate), text(Part::Key)) {
            let ca = text(Part::ClientCa).map(|ca| format!(", client_ca = {}", write::text(&ca)));
            let (certificate, key) = (write::text(&certificate), write::text(&key));
            let tls = format!("{{ certificate = {certificate}, key = {key}{} }}", ca.unwrap_or_default());
            lines.push(("tls", tls));
            carried.extend([Part::Certificate, Part::Key, Part::ClientCa]);
        }
        for (part, option) in &self.server {
            let what = format!("`{}`", option.key);
            match carried.contains(part) {
                true => out.notes.add(&option.place, what, Fate::Carried, "[server.api] of api-paste.toml"),
                false => {
                    let text = "TLS needs both a certificate and a key";
                    out.notes.add(&option.place, what, Fate::Gone, text);
                }
            }
        }
        lines
    }

    /// Notes settings of filters and of a server that `api-paste.ini` does not have.
    pub fn unread(&self, read: &BTreeSet<&'static str>, served: bool, out: &mut Conversion) {
        for option in self.server.values().filter(|_| !served) {
            let text = "api-paste.ini has no `osapi_compute`, or says itself where it listens";
            out.notes.add(&option.place, format!("`{}`", option.key), Fate::Gone, text);
        }
        for (factory, sections) in self.filters.iter().filter(|(factory, _)| !read.contains(*factory)) {
            for section in sections {
                for option in &section.options {
                    let what = format!("[{}] `{}`", section.name, option.key);
                    let text = format!("no filter `{factory}` is left that reads it");
                    out.notes.add(&option.place, what, Fate::Gone, text);
                }
            }
        }
    }
}

/// Makes `api-paste.toml` on top of the shipped file. `None`: the shipped file serves as it is.
pub fn overlay(ini: &Ini, service: &Service, out: &mut Conversion) -> Option<String> {
    let mut text = String::new();
    let server = service.server(out);
    if !server.is_empty() {
        let set: Vec<_> = server.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        text += &format!("\n[[change]]\nin  = \"server.api\"\nset = {{ {} }}\n", set.join(", "));
    }
    for factory in service.filters.keys() {
        let lines = super::paste::service_lines(ini, service, factory, out);
        if lines.is_empty() {
            continue;
        }
        let kind = if *factory == "healthcheck" { "app" } else { "filter" };
        if SHIPPED.lines().any(|line| line.starts_with(&format!("[{kind}.{factory}]"))) {
            let set: Vec<_> = lines.iter().map(|line| format!("{} = {}", line.key, line.value)).collect();
            text += &format!("\n[[change]]\nin  = \"{kind}.{factory}\"\nset = {{ {} }}\n", set.join(", "));
        } else {
            text += &format!("\n[{kind}.{factory}]\n{}", write::lines(&lines, ""));
        }
        let place = match *factory {
            "cors" => Some("after  = \"trace\""),
            "http_proxy_to_wsgi" => Some("before = \"request_id\""),
            _ => None,
        };
        if let Some(place) = place {
            text += &format!("\n[[change]]\nin     = \"composite.v2\"\ninsert = \"{factory}\"\n{place}\n");
        }
    }
    let head = "# Made by `pileus convert`: what differs from the shipped file.\nbase = \"shipped\"\n";
    (!text.is_empty()).then(|| format!("{head}{text}"))
}

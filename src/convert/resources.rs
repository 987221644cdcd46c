//! `cloud_resources.conf` → `[clouds.NAME]` of `pileus.toml`.
//!
//! A cloud whose driver is there becomes a section; any other becomes the same section as a comment,
//! for the day on which its driver is. A new cloud was disabled there until an administrator enabled
//! it: so it is here. Memory and storage are counted alike, in MiB and GiB.
//! Source: cloud-scheduler 1.x, `cloudscheduler/cloudconfig.py`; reference §2.1, §3.15.

use super::{
    Conversion, Settings,
    ini::{self, Ini, Opt, Section},
    note::Fate,
    scheduler::{Asked, number, one_line},
    write::{self, Line},
};
use crate::diagnostic::{Diagnostic, nearest};

/// `cloud_type` in small letters, and the driver that does what it did.
#[rustfmt::skip]
static TYPES: &[(&str, &str)] = &[
    ("localhost", "local"),
    ("openstacknative", "openstack"),
    ("openstack", "ec2"),
    ("amazonec2", "ec2"),
    ("eucalyptus", "ec2"),
    ("gce", "gce"),
    ("googlecomputeengine", "gce"),
    ("azure", "azure"),
    ("opennebula", "opennebula"),
    ("stratuslab", "stratuslab"),
];

/// What becomes of an option.
#[derive(Debug, Clone, Copy)]
enum To {
    /// Which driver.
    Type,
    /// A number of the cloud, multiplied.
    Number { key: &'static str, times: i64 },
    /// The time to boot: 0 and less is never.
    BootTimeout,
    /// -1 is no limit, which is what no line means here.
    NumberOrNone { key: &'static str },
    /// A setting of a driver.
    Driver,
    /// A setting of a driver, which nobody should see.
    Secret,
    /// It has no meaning any more.
    Gone(&'static str),
}

use To::{BootTimeout, Driver, Gone, Number, NumberOrNone, Secret};

const UNUSED: &str = "Cloud Scheduler read it, and never used it";

/// Every option: name in small letters, what becomes of it.
#[rustfmt::skip]
static OPTIONS: &[(&str, To)] = &[
    ("cloud_type", To::Type),
    ("vm_slots", Number { key: "vm_slots", times: 1 }),
    ("cpu_cores", Number { key: "cpu_cores", times: 1 }),
    ("memory", Number { key: "memory_mib", times: 1 }),
    ("storage", Number { key: "storage_gib", times: 1 }),
    ("priority", Number { key: "priority", times: 1 }),
    ("vm_keep_alive", Number { key: "keep_alive_s", times: 60 }),
    ("boot_timeout", BootTimeout),
    ("max_vm_mem", NumberOrNone { key: "max_vm_memory_mib" }),
    ("max_vm_storage", Gone(UNUSED)),
    ("total_cpu_cores", Gone("only GCE clouds had it, for an estimate: what a cloud has left is counted here")),
    ("networks", Driver),
    ("regions", Driver),
    ("security_group", Driver),
    ("key_name", Driver),
    ("placement_zone", Driver),
    ("host", Driver),
    ("port", Driver),
    ("secure_connection", Driver),
    ("reverse_dns_lookup", Driver),
    ("access_key_id", Secret),
    ("secret_access_key", Secret),
    ("auth_url", Driver),
    ("username", Driver),
    ("password", Secret),
    ("tenant_name", Driver),
    ("user_domain_name", Driver),
    ("project_domain_name", Driver),
    ("cacert", Driver),
    ("blob_url", Driver),
    ("service_name", Driver),
    ("keycert", Driver),
    ("project_id", Driver),
    ("secret_file", Driver),
    ("auth_dat_file", Driver),
    ("contextualization", Driver),
    ("cpu_archs", Gone(UNUSED)),
    ("image_attach_device", Gone(UNUSED)),
    ("scratch_attach_device", Gone(UNUSED)),
    ("temp_lease_storage", Gone(UNUSED)),
    ("vm_lifetime", Gone(UNUSED)),
];

/// What Cloud Scheduler could not do without.
const NEEDED: [&str; 5] = ["cloud_type", "vm_slots", "memory", "cpu_cores", "storage"];

/// How long a VM may boot where it might boot for ever, in seconds: a week.
const NEVER_S: u32 = 7 * 24 * 60 * 60;

/// Converts all clouds.
pub fn convert(ini: &Ini, asked: &Asked, settings: &mut Settings, out: &mut Conversion) {
    let mut text = String::new();
    let mut names: Vec<String> = Vec::new();
    let mut live = 0;
    for raw in &ini.sections {
        let name = raw.name.trim().to_lowercase();
        if names.contains(&name) {
            let told = format!("[{}]: there is a cloud `{name}` already", raw.name);
            let help = "capitals made no difference to Cloud Scheduler: rename one of the two";
            out.errors.push(Diagnostic::error(told).at(raw.place.clone()).help(help));
            continue;
        }
        // Python sees [DEFAULT] in every section.
        let mut options = ini.default.options.clone();
        options.extend(raw.options.iter().cloned());
        let section = Section { options, ..raw.clone() }.any_case();
        let cloud =
            Cloud { ini, section: &section, name: &name, lines: Vec::new(), driver_lines: Vec::new() };
        let (made, is_live) = cloud.convert(asked, out);
        live += usize::from(is_live);
        text += &made;
        names.push(name);
    }
    if live == 0 {
        let none = "\n# None of these clouds works here yet. Without any, Pileus has one called `local`, on this host.\n";
        text.insert_str(0, none);
    }
    settings.clouds = Some(text);
}

struct Cloud<'a> {
    ini: &'a Ini,
    section: &'a Section,
    name: &'a str,
    lines: Vec<Line>,
    /// What only its driver understands.
    driver_lines: Vec<Line>,
}

impl Cloud<'_> {
    fn what(&self, key: &str) -> String {
        format!("[{}] `{key}`", self.section.name)
    }

    /// The section's text, and whether it is more than a comment.
    fn convert(mut self, asked: &Asked, out: &mut Conversion) -> (String, bool) {
        let section = self.section;
        let kind = section.get("cloud_type").map(|option| option.value.to_lowercase());
        let driver = kind.as_deref().and_then(|kind| TYPES.iter().find(|row| row.0 == kind)).map(|row| row.1);
        let live = driver == Some("local");
        self.lines.push(Line {
            key: "driver".into(),
            value: write::text(driver.unwrap_or("unknown")),
            comment: kind.iter().map(|kind| format!("cloud_type = {}", write::one_line(kind))).collect(),
        });
        self.lines.push(Line {
            key: "enabled".into(),
            value: "false".into(),
            comment: "a new cloud waits for an administrator, as it did there".into(),
        });
        for option in &section.options {
            match OPTIONS.iter().find(|row| row.0 == option.key) {
                Some((_, to)) => {
                    if let Err(problem) = self.option(option, *to, live, driver, out) {
                        out.errors.push(problem);
                    }
                }
                None => {
                    let text =
                        "Cloud Scheduler has no such option, and left out the whole cloud because of it";
                    let near = nearest(&option.key, OPTIONS.iter().map(|row| row.0));
                    let what = self.what(&option.key);
                    match near.map(|near| format!("did you mean `{near}`?")) {
                        Some(help) => out.notes.add_help(&option.place, what, Fate::Unknown, text, help),
                        None => out.notes.add(&option.place, what, Fate::Unknown, text),
                    }
                }
            }
        }
        self.missing(live, asked, out);
        match (&kind, driver) {
            (None, _) => {
                let text = format!("[{}] has no `cloud_type`, which stops Cloud Scheduler", section.name);
                out.errors.push(Diagnostic::error(text).at(section.place.clone()));
            }
            (Some(kind), None) => {
                let text =
                    format!("`{}` is no type of cloud that Cloud Scheduler knows", write::one_line(kind));
                out.notes.add(&section.place, format!("[{}]", section.name), Fate::Unknown, text);
            }
            (_, Some(driver)) if !live => {
                let text = format!("it needs the driver `{driver}`, which is not there yet");
                let help = "it stands in pileus.toml as a comment";
                out.notes.add_help(&section.place, format!("[{}]", section.name), Fate::NotYet, text, help);
            }
            (_, Some(_)) => {
                let to = format!("[clouds.{}] in pileus.toml", write::key(self.name));
                out.notes.add(&section.place, format!("[{}]", section.name), Fate::Carried, to);
            }
        }
        (self.text(live), live)
    }

    fn option(
        &mut self,
        option: &Opt,
        to: To,
        live: bool,
        driver: Option<&str>,
        out: &mut Conversion,
    ) -> Result<(), Diagnostic> {
        let what = self.what(&option.key);
        let written = format!("{} = {}", option.key, option.value);
        let number = || number(self.ini, self.section, option, &what);
        // Of a cloud that becomes a comment, the cloud is told, not each of its options.
        let mut note = |fate: Fate, text: String| match (fate, live) {
            (Fate::Carried, false) => {}
            _ => out.notes.add(&option.place, &*what, fate, text),
        };
        match to {
            To::Type => {}
            Number { key, times } => {
                let said = match number() {
                    Ok(said) => said,
                    Err(_) if key == "priority" => {
                        note(Fate::Gone, "it is no whole number, and was ignored: 0 holds".into());
                        return Ok(());
                    }
                    Err(problem) => return Err(problem),
                };
                let least = if key == "priority" { i64::MIN } else { 0 };
                let most = if matches!(key, "vm_slots" | "cpu_cores") { 1_000_000 } else { u32::MAX.into() };
                let value = said.saturating_mul(times).clamp(least, most);
                self.lines.push(Line::new(key, value.to_string(), &option.place, &written));
                match said.checked_mul(times) == Some(value) {
                    true => note(Fate::Carried, format!("[clouds.{}] {key}", self.name)),
                    false => {
                        note(Fate::Differs, format!("{value} is the nearest number that `{key}` may be"))
                    }
                }
            }
            BootTimeout => {
                let seconds = u32::try_from(number()?).ok().filter(|seconds| *seconds > 0);
                let value = seconds.unwrap_or(NEVER_S).to_string();
                self.lines.push(Line::new("boot_timeout_s", value, &option.place, &written));
                match seconds {
                    Some(_) => note(Fate::Carried, format!("[clouds.{}] boot_timeout_s", self.name)),
                    None => note(Fate::Differs, "no VM may boot for ever here: it may for a week".into()),
                }
            }
            NumberOrNone { key } => match number()? {
                ..0 => note(Fate::Carried, format!("no limit, as without {key}")),
                said => {
                    let value = said.clamp(1, u32::MAX.into());
                    self.lines.push(Line::new(key, value.to_string(), &option.place, &written));
                    match said == value {
                        true => note(Fate::Carried, format!("[clouds.{}] {key}", self.name)),
                        false => {
                            note(Fate::Differs, format!("{value} is the nearest number that `{key}` may be"))
                        }
                    }
                }
            },
            Driver | Secret if driver == Some("local") => {
                note(Fate::Gone, "the driver `local` has nothing to do with it".into());
            }
            Driver => {
                let value = one_line(self.ini, self.section, option, &what)?;
                let value = write::text(&ini::without_userinfo(&value));
                self.driver_lines.push(Line { key: option.key.clone(), value, comment: String::new() });
            }
            Secret => {
                let flat = |text: &str| -> String {
                    let letter =
                        |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' };
                    text.chars().map(letter).collect()
                };
                let variable = format!("${{env:{}_{}}}", flat(self.name), flat(&option.key));
                let comment = "not written here: from the environment".to_owned();
                let value = write::text(&variable);
                self.driver_lines.push(Line { key: option.key.clone(), value, comment });
            }
            Gone(why) => note(Fate::Gone, why.into()),
        }
        Ok(())
    }

    /// What was not said, and means something else when it is not said here.
    fn missing(&mut self, live: bool, asked: &Asked, out: &mut Conversion) {
        let has = |key: &str| self.section.get(key).is_some();
        for key in NEEDED.into_iter().filter(|key| live && *key != "cloud_type" && !has(key)) {
            let text =
                format!("it has no `{key}`, without which Cloud Scheduler cannot do; a default holds here");
            out.notes.add(&self.section.place, format!("[{}]", self.section.name), Fate::Differs, text);
        }
        if !has("vm_keep_alive") {
            let comment = "not said: an idle VM is ended at once".to_owned();
            self.lines.push(Line { key: "keep_alive_s".into(), value: "0".into(), comment });
        }
        if !has("boot_timeout") {
            let (seconds, comment) = match &asked.boot_timeout_s {
                Some((seconds, place)) => {
                    (*seconds, format!("{}: vm_start_running_timeout", write::place(place)))
                }
                None => (None, "not said: a VM might boot for ever; here for a week".to_owned()),
            };
            let value = seconds.unwrap_or(NEVER_S).to_string();
            self.lines.push(Line { key: "boot_timeout_s".into(), value, comment });
        }
    }

    fn text(&self, live: bool) -> String {
        let header = format!("[clouds.{}]", write::key(self.name));
        let from = &self.section.place;
        if live {
            return format!("\n{header}  # {}\n{}", write::place(from), write::lines(&self.lines, ""));
        }
        let mut text = format!("\n# {header}  # {}: its driver is not there yet\n", write::place(from));
        text += &write::lines(&self.lines, "# ");
        if !self.driver_lines.is_empty() {
            text += "# # What its driver will want to know, in Cloud Scheduler's words:\n";
            text += &write::lines(&self.driver_lines, "# # ");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_there_is_not_said_to_be_missing() {
        for (kind, driver) in TYPES {
            let there = pileus_engine::drivers::DRIVERS.contains(driver);
            assert_eq!(there, *driver == "local", "{kind}: say here what `{driver}` wants to know");
        }
    }

    #[test]
    fn the_table_has_every_option_once() {
        let mut names: Vec<_> = OPTIONS.iter().map(|row| row.0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), OPTIONS.len()), (41, 41));
        assert!(NEEDED.iter().all(|name| names.contains(name)));
        for (name, to) in OPTIONS {
            assert_eq!(matches!(to, Secret), ini::is_secret(name) && *name != "secret_file", "{name}");
        }
    }
}

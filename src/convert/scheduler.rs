//! `cloud_scheduler.conf` → `pileus.toml`, and, where its ports are not the usual ones,
//! `api-paste.toml`.
//!
//! [`OPTIONS`] says of every option what becomes of it. Times are in seconds here, whatever they
//! were in there. Defaults are not written: of what is carried over, both have the same.
//! Source: cloud-scheduler 1.x, `cloudscheduler/config.py`; reference §3.14, §6 (36 to 38).

use super::{
    Conversion, Output, Settings,
    ini::{Ini, Opt, Section},
    note::Fate,
    write::{self, Line},
};
use crate::{
    diagnostic::{Diagnostic, Place, nearest},
    paste::SHIPPED,
};

/// What becomes of an option.
#[derive(Debug, Clone, Copy)]
enum To {
    /// A number of `[scheduler]`, multiplied; what is less than `least` becomes that.
    Number { key: &'static str, times: u64, least: u64 },
    /// The same, where -1 means that there is no limit, which is what no line means here.
    NumberOrNone { key: &'static str },
    /// The same, where 0 and less mean that it never happens, which is what no line means here.
    NumberOrNever { key: &'static str },
    /// The same, where Cloud Scheduler took no notice of what was said.
    Ignored { key: &'static str, took: &'static str },
    /// A share of one, as whole percent of `[scheduler]`.
    Percent { key: &'static str },
    /// A factor above nothing.
    Factor { key: &'static str },
    /// A truth.
    Truth { key: &'static str },
    /// Whether a VM that is given up ends its job first.
    Graceful,
    /// A word of `[scheduler]`; of the others, the reason why not.
    Word { key: &'static str, words: &'static [&'static str], others: (Fate, &'static str) },
    /// Seconds of `[credentials]`.
    Seconds { key: &'static str },
    /// The same, where -1 means that it never happens, which is what no line means here.
    SecondsOrNever { key: &'static str },
    /// A path of `[credentials]`.
    Path { key: &'static str },
    /// A number of `[job_defaults]`.
    JobNumber { key: &'static str, least: u64 },
    /// A text of `[job_defaults]`.
    JobText { key: &'static str },
    /// A list of `[job_defaults]`, there with commas.
    JobList { key: &'static str },
    /// A file, at the top of `pileus.toml`.
    File(&'static str),
    /// A port: this server of `api-paste.toml`.
    Port(&'static str),
    /// The other file.
    Resources,
    /// The default of every cloud's `boot_timeout_s`.
    BootTimeout,
    /// Pileus does what this value says, always; of other values, the reason why not.
    Always { value: &'static str, others: (Fate, &'static str) },
    /// It has no meaning any more.
    Gone(&'static str),
    /// What it speaks of is not there yet.
    NotYet(&'static str),
}

use Fate::{Gone as G, NotYet as N};
use To::{
    Always, BootTimeout, Factor, File, Gone, Graceful, Ignored, JobList, JobNumber, JobText, NotYet, Number,
    NumberOrNever, NumberOrNone, Path, Percent, Port, Resources, Seconds, SecondsOrNever, Truth, Word,
};

const CONDOR: &str =
    "it is needed by the source `condor`, which is not there yet: jobs come by `POST /v2/{project_id}/jobs`";
const CONTEXT: &str = "it is given to VMs of drivers that are not there yet; `local` needs none";
const PROXY: &str = "no driver gives a VM a proxy yet";
const LOG: &str = "the log goes to stderr, for whoever runs the service to keep and to rotate";
const NAME: &str = "VMs are named by their clouds";
const IMAGE: &str = "jobs name no images or networks yet: drivers that have such are not there yet";

/// Every option: section, name in small letters, what becomes of it.
#[rustfmt::skip]
static OPTIONS: &[(&str, &str, To)] = &[
    ("global", "cloud_resource_config", Resources),
    ("global", "condor_retrieval_method", NotYet(CONDOR)),
    ("global", "condor_q_command", NotYet(CONDOR)),
    ("global", "condor_status_command", NotYet(CONDOR)),
    ("global", "condor_status_master_command", NotYet(CONDOR)),
    ("global", "condor_hold_command", NotYet(CONDOR)),
    ("global", "condor_release_command", NotYet(CONDOR)),
    ("global", "condor_off_command", NotYet(CONDOR)),
    ("global", "condor_on_command", NotYet(CONDOR)),
    ("global", "condor_advertise_command", NotYet(CONDOR)),
    ("global", "ssh_path", NotYet(CONDOR)),
    ("global", "openssl_path", Gone("certificates are read without that program")),
    ("global", "condor_webservice_url", NotYet(CONDOR)),
    ("global", "condor_collector_url", Gone("Cloud Scheduler never used it")),
    ("global", "condor_host_on_vm", NotYet(CONDOR)),
    ("global", "condor_context_file", NotYet(CONDOR)),
    ("global", "vm_lifetime", Gone("Cloud Scheduler did not use it any more")),
    ("global", "cert_file", NotYet(CONTEXT)),
    ("global", "key_file", NotYet(CONTEXT)),
    ("global", "cert_file_on_vm", NotYet(CONTEXT)),
    ("global", "key_file_on_vm", NotYet(CONTEXT)),
    ("global", "ca_root_certs", NotYet(CONTEXT)),
    ("global", "ca_signing_policies", NotYet(CONTEXT)),
    ("global", "cloudscheduler_ssh_key", NotYet(CONDOR)),
    ("global", "info_server_port", Port("info")),
    ("global", "admin_server_port", Port("admin")),
    ("global", "persistence_file", Gone("state is kept durably in the folder of `--state`; the old file is a Python pickle, which nothing else reads")),
    ("global", "user_limit_file", File("user_limits")),
    ("global", "target_cloud_alias_file", File("cloud_aliases")),
    ("global", "job_ban_timeout", Number { key: "job_ban_timeout_s", times: 60, least: 1 }),
    ("global", "ban_tracking", Truth { key: "ban_tracking" }),
    ("global", "ban_file", Gone("bans are kept with the state, in the folder of `--state`")),
    ("global", "ban_min_track", Ignored { key: "ban_min_track", took: "10, whatever was said" }),
    ("global", "ban_failrate_threshold", Percent { key: "ban_failrate_threshold_percent" }),
    ("global", "polling_error_threshold", Number { key: "polling_error_threshold", times: 1, least: 1 }),
    ("global", "condor_register_time_limit", Number { key: "register_timeout_s", times: 60, least: 1 }),
    ("global", "graceful_shutdown", Graceful),
    ("global", "graceful_shutdown_method", Gone("Cloud Scheduler ignored it")),
    ("global", "retire_before_lifetime", Gone("no VM has a lifetime, neither there nor here")),
    ("global", "retire_before_lifetime_factor", Gone("no VM has a lifetime, neither there nor here")),
    ("global", "cleanup_missing_vms", NotYet(CONDOR)),
    ("global", "clean_shutdown_idle", Gone("it did nothing, by a mistake; idle VMs are ended after their keep-alive")),
    ("global", "getclouds", Gone("it did nothing; clouds are added by `POST /v2/{project_id}/clouds`")),
    ("global", "scheduling_metric", Word { key: "scheduling_metric", words: &["slot", "memory", "memory_cpu", "memory_cpu_storage"], others: (G, "Cloud Scheduler knows no such metric; `slot` is used") }),
    ("global", "scheduling_algorithm", Word { key: "algorithm", words: &["fairshare", "fifo"], others: (G, "Cloud Scheduler knows no such algorithm; `fairshare` is used") }),
    ("global", "job_distribution_type", Word { key: "job_distribution", words: &["normal", "split"], others: (G, "it ended Cloud Scheduler by a mistake; `normal` is used") }),
    ("global", "high_priority_job_support", Gone("it had no effect: jobs of high priority go first, always")),
    ("global", "high_priority_job_weight", Number { key: "high_priority_job_weight", times: 1, least: 1 }),
    ("global", "cpu_distribution_weight", Factor { key: "cpu_distribution_weight" }),
    ("global", "memory_distribution_weight", Factor { key: "memory_distribution_weight" }),
    ("global", "storage_distribution_weight", Factor { key: "storage_distribution_weight" }),
    ("global", "scheduler_interval", Number { key: "scheduler_interval_s", times: 1, least: 1 }),
    ("global", "vm_poller_interval", Number { key: "vm_poller_interval_s", times: 1, least: 1 }),
    ("global", "job_poller_interval", Number { key: "job_poller_interval_s", times: 1, least: 1 }),
    ("global", "machine_poller_interval", Number { key: "machine_poller_interval_s", times: 1, least: 1 }),
    ("global", "cleanup_interval", Number { key: "cleanup_interval_s", times: 1, least: 1 }),
    ("global", "max_starting_vm", NumberOrNone { key: "max_starting_vms" }),
    ("global", "max_destroy_threads", Ignored { key: "max_destroying_vms", took: "10, whatever was said" }),
    ("global", "max_keepalive", Number { key: "max_keep_alive_s", times: 60, least: 0 }),
    ("global", "job_proxy_refresher_interval", SecondsOrNever { key: "job_proxy_refresher_interval_s" }),
    ("global", "vm_proxy_refresher_interval", SecondsOrNever { key: "vm_proxy_refresher_interval_s" }),
    ("global", "job_proxy_renewal_threshold", Seconds { key: "job_proxy_renewal_threshold_s" }),
    ("global", "vm_proxy_renewal_threshold", Seconds { key: "vm_proxy_renewal_threshold_s" }),
    ("global", "vm_proxy_shutdown_threshold", NotYet(PROXY)),
    ("global", "vm_connection_fail_threshold", Gone("a cloud that does not answer is asked again after 1 s, 2 s, … 60 s, for ever, and holds up no other")),
    ("global", "connection_fail_disable_time", Gone("its value was ignored; no cloud is disabled because it does not answer")),
    ("global", "vm_idle_threshold", NumberOrNever { key: "vm_idle_threshold_s" }),
    ("global", "vm_start_running_timeout", BootTimeout),
    ("global", "proxy_cache_dir", Path { key: "directory" }),
    ("global", "myproxy_logon_command", Path { key: "myproxy_logon" }),
    ("global", "override_vmtype", NotYet(CONDOR)),
    ("global", "vm_reqs_from_condor_reqs", NotYet(CONDOR)),
    ("global", "adjust_insufficient_resources", Always { value: "false", others: (G, "what a job asks for is never made smaller: it waits, and its reason says for what") }),
    ("global", "use_cloud_init", NotYet(CONTEXT)),
    ("global", "default_yaml", NotYet(CONTEXT)),
    ("global", "validate_yaml", NotYet(CONTEXT)),
    ("global", "retire_reallocate", Always { value: "true", others: (G, "what a cloud has too many of is retired, and ends with its job") }),
    ("global", "use_pyopenssl", Gone("nothing here is written in Python")),
    ("global", "monitor_url", NotYet("VMs report to no monitor yet")),

    ("job", "default_vmtype", JobText { key: "vm_type" }),
    ("job", "default_vmnetwork", NotYet(IMAGE)),
    ("job", "default_vmname", Gone(NAME)),
    ("job", "default_vmami", NotYet(IMAGE)),
    ("job", "default_vminstancetype", NotYet(IMAGE)),
    ("job", "default_vminstancetypelist", NotYet(IMAGE)),
    ("job", "default_vmamiconfig", NotYet(IMAGE)),
    ("job", "default_vmmem", JobNumber { key: "memory_mib", least: 1 }),
    ("job", "default_vmcpucores", JobNumber { key: "cpu_cores", least: 1 }),
    ("job", "default_vmstorage", JobNumber { key: "storage_gib", least: 0 }),
    ("job", "default_vmmaximumprice", NotYet(IMAGE)),
    ("job", "default_vmuserdata", NotYet(CONTEXT)),
    ("job", "default_targetclouds", JobList { key: "target_clouds" }),
    ("job", "default_vminjectca", NotYet(CONTEXT)),
    ("job", "default_vmjobpercore", Always { value: "false", others: (N, "a VM runs one job at a time") }),
    ("job", "default_vmproxynonboot", NotYet(PROXY)),

    ("logging", "log_level", Gone("the environment says it: `PILEUS_LOG=warn`, or `PILEUS_LOG=pileus=debug`")),
    ("logging", "log_location", Gone(LOG)),
    ("logging", "log_location_cloud_admin", Gone("`cloud_admin` reads it in this file, as it did")),
    ("logging", "log_stdout", Gone(LOG)),
    ("logging", "log_syslog", Gone(LOG)),
    ("logging", "log_max_size", Gone(LOG)),
    ("logging", "log_format", Gone("`PILEUS_LOG_FORMAT=json` is for collectors; the other format is fixed")),
    ("logging", "admin_log_comments", Gone("`cloud_admin` reads it in this file, as it did; comments are kept with the events, wanted or not")),
];

/// What the file says that another file has to know.
#[derive(Debug, Default)]
pub struct Asked {
    /// `vm_start_running_timeout`, in seconds; `None` within: never.
    pub boot_timeout_s: Option<(Option<u32>, Place)>,
    ports: Vec<(&'static str, u16, Place)>,
}

/// Converts the file; `with_resources`: `cloud_resources.conf` is converted in the same run.
pub fn convert(ini: &Ini, with_resources: bool, settings: &mut Settings, out: &mut Conversion) -> Asked {
    let mut asked = Asked::default();
    for raw in [&ini.default].into_iter().chain(&ini.sections) {
        let section = raw.any_case();
        for option in &section.options {
            let rows = || OPTIONS.iter().filter(|row| row.1 == option.key);
            // Python sees [DEFAULT] in every section.
            let here = rows().find(|row| row.0 == section.name || section.name == "DEFAULT");
            let what = format!("[{}] `{}`", raw.name, option.key);
            match here {
                Some((_, _, to)) => {
                    let mut one =
                        One { ini, section: &section, option, what, settings, out, asked: &mut asked };
                    if let Err(problem) = one.convert(*to, with_resources) {
                        out.errors.push(problem);
                    }
                }
                None => unknown(&section, option, what, out),
            }
        }
    }
    asked
}

fn unknown(section: &Section, option: &Opt, what: String, out: &mut Conversion) {
    let text = "Cloud Scheduler has no such option";
    if let Some(row) = OPTIONS.iter().find(|row| row.1 == option.key) {
        let text = format!("Cloud Scheduler looks for it in [{}], not here", row.0);
        return out.notes.add_help(
            &option.place,
            what,
            Fate::Unknown,
            text,
            "move it there, and convert again",
        );
    }
    let names = OPTIONS.iter().filter(|row| row.0 == section.name).map(|row| row.1);
    match nearest(&option.key, names) {
        Some(near) => {
            let help = format!("did you mean `{near}`?");
            out.notes.add_help(&option.place, what, Fate::Unknown, text, help);
        }
        None => out.notes.add(&option.place, what, Fate::Unknown, text),
    }
}

/// One option, and all that it may write to.
struct One<'a> {
    ini: &'a Ini,
    section: &'a Section,
    option: &'a Opt,
    what: String,
    settings: &'a mut Settings,
    out: &'a mut Conversion,
    asked: &'a mut Asked,
}

impl One<'_> {
    fn note(&mut self, fate: Fate, text: impl Into<String>) {
        self.out.notes.add(&self.option.place, &*self.what, fate, text);
    }

    fn wrong(&self, text: String) -> Diagnostic {
        Diagnostic::error(format!("{}: {text}", self.what)).at(self.option.place.clone())
    }

    fn line(&self, key: &str, value: String) -> Line {
        let what = format!("{} = {}", self.option.key, self.option.value);
        Line::new(key, value, &self.option.place, &what)
    }

    fn carried(&mut self, key: &str, value: String) {
        let line = self.line(key, value);
        self.settings.scheduler.push(line);
        self.note(Fate::Carried, format!("[scheduler] {key} in pileus.toml"));
    }

    fn convert(&mut self, to: To, with_resources: bool) -> Result<(), Diagnostic> {
        match to {
            Number { key, times, least } => {
                let number = number(self.ini, self.section, self.option, &self.what)?;
                let value = u64::try_from(number).unwrap_or(0).saturating_mul(times);
                let kept = value.clamp(least, u64::from(u32::MAX));
                if number < 0 || kept != value {
                    let line = self.line(key, kept.to_string());
                    self.settings.scheduler.push(line);
                    self.note(Fate::Differs, format!("{kept} is the nearest number that `{key}` may be"));
                } else {
                    self.carried(key, kept.to_string());
                }
            }
            NumberOrNone { key } => match number(self.ini, self.section, self.option, &self.what)? {
                ..0 => self.note(Fate::Carried, format!("no limit, as without [scheduler] {key}")),
                number => self.carried(key, number.min(u32::MAX.into()).to_string()),
            },
            NumberOrNever { key } => match number(self.ini, self.section, self.option, &self.what)? {
                ..=0 => self.note(Fate::Carried, format!("never, as without [scheduler] {key}")),
                number => self.carried(key, number.min(u32::MAX.into()).to_string()),
            },
            Ignored { key, took } => {
                let number = number(self.ini, self.section, self.option, &self.what)?;
                let line = self.line(key, number.clamp(1, u32::MAX.into()).to_string());
                self.settings.scheduler.push(line);
                self.note(Fate::Differs, format!("Cloud Scheduler took {took}; here it holds, as `{key}`"));
            }
            Percent { key } => {
                let share = self.float()?;
                // At least one: of a share of nothing, everything would be too much.
                let percent = (share * 100.0).round().clamp(1.0, 100.0);
                let line = self.line(key, format!("{percent:.0}"));
                self.settings.scheduler.push(line);
                match (share * 100.0 - percent).abs() < 1e-6 {
                    true => self.note(Fate::Carried, format!("[scheduler] {key} in pileus.toml")),
                    false => self.note(Fate::Differs, format!("{percent:.0} is the nearest percentage")),
                }
            }
            Factor { key } => match self.float()? {
                factor if factor > 0.0 => self.carried(key, format!("{factor:?}")),
                _ => return Err(self.wrong("it has to be more than 0".into())),
            },
            Truth { key } => {
                let truth = self.truth()?;
                self.carried(key, truth.to_string());
            }
            Graceful => match self.truth()? {
                true => self.note(Fate::Carried, "as without [scheduler] rebalance_lost_work_max_s"),
                false => {
                    let line = self.line("rebalance_lost_work_max_s", "60".into());
                    self.settings.scheduler.push(line);
                    let text = "a VM that is given up is destroyed at once where its job has run for less than a minute, \
                                as `rebalance_lost_work_max_s` says; a longer one ends first";
                    self.note(Fate::Differs, text);
                }
            },
            Word { key, words, others: (fate, why) } => {
                let value = self.value()?;
                match words.iter().find(|word| value.eq_ignore_ascii_case(word)) {
                    Some(word) => self.carried(key, write::text(word)),
                    None => self.note(fate, why),
                }
            }
            Seconds { key } => {
                let number = number(self.ini, self.section, self.option, &self.what)?;
                let line = self.line(key, number.clamp(0, u32::MAX.into()).to_string());
                self.settings.credentials.push(line);
                match number {
                    ..0 => self.note(Fate::Differs, format!("0 is the nearest number that `{key}` may be")),
                    _ => self.note(Fate::Carried, format!("[credentials] {key} in pileus.toml")),
                }
            }
            SecondsOrNever { key } => match number(self.ini, self.section, self.option, &self.what)? {
                ..=0 => self.note(Fate::Carried, format!("never, as without [credentials] {key}")),
                number => {
                    let line = self.line(key, number.min(u32::MAX.into()).to_string());
                    self.settings.credentials.push(line);
                    self.note(Fate::Carried, format!("[credentials] {key} in pileus.toml"));
                }
            },
            Path { key } => {
                let path = self.value()?;
                if path.is_empty() {
                    self.note(Fate::Carried, format!("as without [credentials] {key}"));
                    return Ok(());
                }
                let line = self.line(key, write::text(&path));
                self.settings.credentials.push(line);
                // The name of a program is no path.
                match path.starts_with('/') || (key == "myproxy_logon" && !path.contains('/')) {
                    true => self.note(Fate::Carried, format!("[credentials] {key} in pileus.toml")),
                    false => {
                        self.note(
                            Fate::Differs,
                            "the path is relative to pileus.toml here, and `~` is no home",
                        );
                    }
                }
            }
            JobNumber { key, least } => {
                let number = number(self.ini, self.section, self.option, &self.what)?;
                let kept = u64::try_from(number).unwrap_or(0).clamp(least, 1_000_000);
                let line = self.line(key, kept.to_string());
                self.settings.job_defaults.push(line);
                match i64::try_from(kept) == Ok(number) {
                    true => self.note(Fate::Carried, format!("[job_defaults] {key} in pileus.toml")),
                    false => {
                        self.note(Fate::Differs, format!("{kept} is the nearest number that `{key}` may be"));
                    }
                }
            }
            JobText { key } => {
                let value = self.value()?;
                if value.is_empty() {
                    self.note(Fate::Carried, format!("as without [job_defaults] {key}"));
                    return Ok(());
                }
                let line = self.line(key, write::text(&value));
                self.settings.job_defaults.push(line);
                self.note(Fate::Carried, format!("[job_defaults] {key} in pileus.toml"));
            }
            JobList { key } => {
                let value = self.value()?;
                let bare = |it: &'_ str| it.trim_matches([' ', '\t', '"', '\'']).to_owned();
                let list: Vec<_> = value.split(',').map(bare).filter(|it| !it.is_empty()).collect();
                let line = self.line(key, write::list(&list));
                self.settings.job_defaults.push(line);
                self.note(Fate::Carried, format!("[job_defaults] {key} in pileus.toml"));
            }
            File(key) => {
                let path = self.value()?;
                if path.is_empty() {
                    self.note(Fate::Carried, format!("no file, as without {key}"));
                    return Ok(());
                }
                let line = self.line(key, write::text(&path));
                self.settings.top.push(line);
                if path.starts_with('/') {
                    self.note(Fate::Carried, format!("{key} in pileus.toml"));
                } else {
                    self.note(Fate::Differs, "the path is relative to pileus.toml here, and `~` is no home");
                }
            }
            Port(server) => {
                let number = number(self.ini, self.section, self.option, &self.what)?;
                let port = u16::try_from(number).ok().filter(|port| *port > 0);
                let port = port.ok_or_else(|| self.wrong(format!("{number} is no port: 1 to 65535")))?;
                self.asked.ports.push((server, port, self.option.place.clone()));
            }
            Resources if with_resources => self.note(Fate::Carried, "[clouds.NAME] in pileus.toml"),
            Resources => {
                let text = "clouds stand in pileus.toml, below [clouds.NAME]";
                let help = "name that file beside this one: `pileus convert cloud_scheduler.conf cloud_resources.conf`";
                self.out.notes.add_help(&self.option.place, &*self.what, Fate::Gone, text, help);
            }
            BootTimeout => {
                let number = number(self.ini, self.section, self.option, &self.what)?;
                let seconds = u32::try_from(number).ok().filter(|seconds| *seconds > 0);
                if with_resources {
                    self.note(Fate::Carried, "boot_timeout_s of every cloud that says none of its own");
                } else {
                    let text = "every cloud says it, as `boot_timeout_s`";
                    let help =
                        "convert cloud_resources.conf in the same run: it goes to every cloud that says none";
                    self.out.notes.add_help(&self.option.place, &*self.what, Fate::Gone, text, help);
                }
                self.asked.boot_timeout_s = Some((seconds, self.option.place.clone()));
            }
            Always { value, others: (fate, why) } => {
                let said = self.value()?;
                let said = match value {
                    "true" | "false" => self.truth()?.to_string(),
                    _ => said.to_lowercase(),
                };
                match said == value {
                    true => self.note(Fate::Carried, "Pileus does so always"),
                    false => self.note(fate, why),
                }
            }
            Gone(why) => self.note(Fate::Gone, why),
            NotYet(why) => self.note(Fate::NotYet, why),
        }
        Ok(())
    }

    fn truth(&self) -> Result<bool, Diagnostic> {
        let said = self.value()?;
        let wrong = || self.wrong(format!("`{}` is neither true nor false", write::one_line(&said)));
        boolean(&said).ok_or_else(wrong)
    }

    fn float(&self) -> Result<f64, Diagnostic> {
        let said = self.value()?;
        let wrong = || self.wrong(format!("`{}` is no number", write::one_line(&said)));
        said.parse().ok().filter(|it: &f64| it.is_finite()).ok_or_else(wrong)
    }

    /// The value, of one line.
    fn value(&self) -> Result<String, Diagnostic> {
        one_line(self.ini, self.section, self.option, &self.what)
    }
}

/// A value that has to be one line: an indented line below it, forgotten to be commented out, goes
/// on with it.
pub fn one_line(ini: &Ini, section: &Section, option: &Opt, what: &str) -> Result<String, Diagnostic> {
    let value = ini.interpolated(section, option)?;
    if value.contains('\n') {
        let text = format!("{what}: its value goes on in the next line");
        let help = "an indented line belongs to the option above it: take it away, or put a `#` before it";
        return Err(Diagnostic::error(text).at(option.place.clone()).help(help));
    }
    Ok(value)
}

/// A whole number, as Python's `int` reads it.
pub fn number(ini: &Ini, section: &Section, option: &Opt, what: &str) -> Result<i64, Diagnostic> {
    let value = one_line(ini, section, option, what)?;
    value.parse().map_err(|_| {
        let wrong = Diagnostic::error(format!("{what}: `{}` is no whole number", write::one_line(&value)));
        let wrong = wrong.at(option.place.clone());
        match value.contains(['#', ';']) {
            true => {
                wrong.help("what stands behind a value is part of it: put the comment on a line of its own")
            }
            false => wrong,
        }
    })
}

/// As Python's `getboolean` reads it.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Some(true),
        "0" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// The ports: where they are not those of the shipped `api-paste.toml`, a copy of that with others.
pub fn ports(asked: &Asked, has_paste: bool, out: &mut Conversion) {
    let mut text = SHIPPED.to_owned();
    for (server, port, place) in &asked.ports {
        let (usual, app): (u16, _) = if *server == "info" { (8111, "status") } else { (8112, "admin") };
        let what = format!("[global] `{server}_server_port`");
        let to = format!("[server.{server}] listen in api-paste.toml");
        let listen = |port: u16| format!("listen = \"127.0.0.1:{port}\"\napp    = \"{app}\"");
        if *port != usual {
            if has_paste {
                let why = "api-paste.toml is made of api-paste.ini in this run, which has no such server";
                let help = format!(
                    "write `listen = \"127.0.0.1:{port}\"` into [server.{server}] of the shipped file"
                );
                out.notes.add_help(place, what, Fate::Gone, why, help);
                continue;
            }
            text = text.replace(&listen(usual), &listen(*port));
        }
        if *server == "admin" && *port != 8112 {
            let why =
                "there it became the port of the info server, by a mistake; here it is the admin server's";
            out.notes.add(place, what, Fate::Differs, why);
        } else {
            out.notes.add(place, what, Fate::Carried, to);
        }
    }
    if text != SHIPPED {
        out.outputs.push(Output { name: "api-paste.toml", text });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The options of Cloud Scheduler 1.x, section by section, as the reference lists them.
    const GLOBAL: &str = "
        cloud_resource_config condor_retrieval_method condor_q_command condor_status_command
        condor_status_master_command condor_hold_command condor_release_command condor_off_command
        condor_on_command condor_advertise_command ssh_path openssl_path condor_webservice_url
        condor_collector_url condor_host_on_vm condor_context_file vm_lifetime cert_file key_file
        cert_file_on_vm key_file_on_vm ca_root_certs ca_signing_policies cloudscheduler_ssh_key
        info_server_port admin_server_port persistence_file user_limit_file target_cloud_alias_file
        job_ban_timeout ban_tracking ban_file ban_min_track ban_failrate_threshold polling_error_threshold
        condor_register_time_limit graceful_shutdown graceful_shutdown_method retire_before_lifetime
        retire_before_lifetime_factor cleanup_missing_vms clean_shutdown_idle getclouds scheduling_metric
        scheduling_algorithm job_distribution_type high_priority_job_support high_priority_job_weight
        cpu_distribution_weight memory_distribution_weight storage_distribution_weight scheduler_interval
        vm_poller_interval job_poller_interval machine_poller_interval cleanup_interval max_starting_vm
        max_destroy_threads max_keepalive job_proxy_refresher_interval vm_proxy_refresher_interval
        job_proxy_renewal_threshold vm_proxy_renewal_threshold vm_proxy_shutdown_threshold
        vm_connection_fail_threshold connection_fail_disable_time vm_idle_threshold vm_start_running_timeout
        proxy_cache_dir myproxy_logon_command override_vmtype vm_reqs_from_condor_reqs
        adjust_insufficient_resources use_cloud_init default_yaml validate_yaml retire_reallocate
        use_pyopenssl monitor_url";
    const JOB: &str = "
        default_VMType default_VMNetwork default_VMName default_VMAMI default_VMInstanceType
        default_VMInstanceTypeList default_VMAMIConfig default_VMMem default_VMCPUCores default_VMStorage
        default_VMMaximumPrice default_VMUserData default_TargetClouds default_VMInjectCA
        default_VMJobPerCore default_VMProxyNonBoot";
    const LOGGING: &str = "
        log_level log_location log_location_cloud_admin log_stdout log_syslog log_max_size log_format
        admin_log_comments";

    #[test]
    fn the_table_has_every_option_once() {
        let of = |section, names: &'static str| {
            names.split_whitespace().map(move |name| (section, name.to_lowercase()))
        };
        let all = of("global", GLOBAL).chain(of("job", JOB)).chain(of("logging", LOGGING));
        let wanted: BTreeSet<_> = all.collect();
        let table: BTreeSet<_> = OPTIONS.iter().map(|row| (row.0, row.1.to_owned())).collect();
        assert_eq!(table, wanted);
        assert_eq!((table.len(), OPTIONS.len()), (103, 103));
    }

    #[test]
    fn what_is_carried_over_is_known_here() {
        let (mut text, mut job) = (String::from("[global]\n"), String::from("[job]\n"));
        for (section, name, to) in OPTIONS {
            let value = match to {
                Number { .. } | NumberOrNone { .. } | NumberOrNever { .. } => "7",
                Seconds { .. } | SecondsOrNever { .. } => "8",
                Path { .. } => "/opt/x",
                Percent { .. } => "0.07",
                Factor { .. } => "7",
                Truth { .. } => "yes",
                Graceful => "on",
                Word { words, .. } => words[words.len() - 1],
                JobNumber { .. } => "9",
                JobText { .. } => "sl6",
                JobList { .. } => "east, \"west\" ,",
                _ => continue,
            };
            let to = if *section == "job" { &mut job } else { &mut text };
            *to += &format!("{name} = {value}\n");
        }
        let input = super::super::Input { name: "cloud_scheduler.conf".into(), text: text + &job };
        let made = super::super::convert(&[input], None);
        assert!(made.notes.clean(), "{}", made.notes.report().render(false));
        let table: toml::Table = made.outputs[0].text.parse().unwrap();
        let scheduler: pileus_engine::SchedulerConfig = table["scheduler"].clone().try_into().unwrap();
        assert_eq!((scheduler.max_keep_alive_s, scheduler.register_timeout_s.get()), (420, 420));
        assert_eq!(
            (scheduler.job_ban_timeout_s.get(), scheduler.ban_failrate_threshold_percent.get()),
            (420, 7)
        );
        assert_eq!((scheduler.cpu_distribution_weight.get(), scheduler.ban_tracking), (7.0, true));
        assert_eq!((scheduler.max_starting_vms, scheduler.cleanup_interval_s.get()), (Some(7), 7));
        let credentials: pileus_engine::CredentialsConfig = table["credentials"].clone().try_into().unwrap();
        assert_eq!(
            (credentials.job_proxy_renewal_threshold_s, credentials.vm_proxy_renewal_threshold_s),
            (8, 8)
        );
        assert!(credentials.vm_proxy_refresher_interval_s.is_some_and(|it| it.get() == 8));
        assert_eq!(credentials.myproxy_logon, std::path::Path::new("/opt/x"));
        assert_eq!(credentials.directory.as_deref(), Some(std::path::Path::new("/opt/x")));
        let defaults: pileus_model::JobDefaults = table["job_defaults"].clone().try_into().unwrap();
        let expected = pileus_model::JobDefaults {
            vm_type: "sl6".into(),
            cpu_cores: 9,
            memory_mib: 9,
            storage_gib: 9,
            keep_alive_s: None,
            target_clouds: vec!["east".into(), "west".into()],
        };
        assert_eq!(defaults, expected);
    }

    #[test]
    fn the_shipped_servers_are_found() {
        for (server, port, app) in [("info", 8111, "status"), ("admin", 8112, "admin")] {
            let listen = format!("[server.{server}]");
            let section = SHIPPED.split_once(&listen).unwrap().1;
            assert!(
                section.lines().nth(1).unwrap().starts_with(&format!("listen = \"127.0.0.1:{port}\"")),
                "{section}"
            );
            assert_eq!(section.lines().nth(2).unwrap(), format!("app    = \"{app}\""));
        }
    }
}

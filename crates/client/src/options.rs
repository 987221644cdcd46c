//! The options, one a row: the parser, `--help`, the completions and the man page all read these tables.
//!
//! Options that Cloud Scheduler had keep their spelling, whatever one thinks of it; ours have no short
//! spelling, and give way where an abbreviation would fit both.
//! Source: cloud-scheduler 1.13.2, `cloud_status` and `cloud_admin`.

use Era::{New, Old};
use Kind::{Choice, File, Flag, Seconds, Text};

/// One option.
#[derive(Debug)]
pub struct Opt {
    /// What the program knows it by.
    pub id: Id,
    /// `-c`, without its dash.
    pub short: Option<char>,
    /// `--cluster`, without its dashes.
    pub long: Option<&'static str>,
    /// Whether it takes a value, and which.
    pub kind: Kind,
    /// One line, for people.
    pub help: &'static str,
    /// Who brought it.
    pub era: Era,
}

/// What stands after an option. The words name the value in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Flag,
    /// Any text.
    Text(&'static str),
    /// A path.
    File(&'static str),
    /// One of these words.
    Choice(&'static str, &'static [&'static str]),
    /// Whole seconds, at least one.
    Seconds,
}

/// Who brought an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// Cloud Scheduler: the contract.
    Old,
    /// Pileus.
    New,
}

/// An option's name in this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is explained by its row")]
#[rustfmt::skip]
pub enum Id {
    // Both programs.
    Help, ConfigFile, Host, Port, Cloud, Vm, All, Json,
    Project, Token, TokenFile, AllProjects, Timeout, Strict, Completions, Man, Version,
    // cloud_status.
    ShortJson, Vms, Developer, Queue, Addresses, BootTime, DiffTypes, JobTimes, CloudConf,
    Total, States, Missing, HeartBeats, BootFailures, ImageFailures, Watch,
    // cloud_admin.
    Kill, Remove, Retire, Reset, Number, Enable, Disable, Drain, Slots, Reconfig, QuickExit, LogLevel,
    ReloadLimits, ListLimits, ReloadAliases, ListAliases, Proxy, User, Comment,
}

/// An option that Cloud Scheduler had.
const fn old(id: Id, short: char, long: &'static str, kind: Kind, help: &'static str) -> Opt {
    Opt { id, short: Some(short), long: Some(long), kind, help, era: Old }
}

/// An option of ours.
const fn new(id: Id, long: &'static str, kind: Kind, help: &'static str) -> Opt {
    Opt { id, short: None, long: Some(long), kind, help, era: New }
}

/// The queues of `cloud_status -q`.
pub const QUEUES: &[&str] = &["all", "new", "sched", "high", "running", "idle", "held", "complete"];

/// The levels of `cloud_admin -l`: upper, lower or Capital, and nothing between.
#[rustfmt::skip]
pub const LEVELS: &[&str] = &[
    "VERBOSE", "DEBUG", "WARNING", "ERROR", "INFO", "CRITICAL",
    "verbose", "debug", "warning", "error", "info", "critical",
    "Verbose", "Debug", "Warning", "Error", "Info", "Critical",
];

const PROXIES: &[&str] = &["vm", "job"];
/// The shells of `--completions`.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// `cloud_status`.
#[rustfmt::skip]
pub static STATUS: &[Opt] = &[
    old(Id::Help,          'h', "help",                  Flag,                    "Show this help and exit"),
    old(Id::ConfigFile,    'f', "config-file",           File("FILE"),            "Read this configuration file: [global] info_server_port"),
    old(Id::Host,          's', "server-hostname",       Text("HOSTNAME"),        "The scheduler's host [default: this machine's name]"),
    old(Id::Port,          'p', "port",                  Text("PORT"),            "The scheduler's port [default: the configuration file's, else 8111; with --project 8774]"),
    old(Id::All,           'a', "all-cluster",           Flag,                    "All clouds, and what is left on them"),
    old(Id::Cloud,         'c', "cluster",               Text("NAME"),            "One cloud"),
    old(Id::Vms,           'm', "virtual-machines",      Flag,                    "All VMs"),
    old(Id::Vm,            'n', "vm-info",               Text("ID"),              "One VM, of the cloud that -c names"),
    Opt { id: Id::ShortJson, short: Some('j'), long: None, kind: Flag, era: Old, help: "JSON of -a, of -c, and of -c with -n; nothing elsewhere" },
    Opt { id: Id::Json, short: None, long: Some("json"), kind: Flag, era: Old, help: "JSON of everything: the server's own, else {\"text\": \"...\"}" },
    old(Id::Developer,     'd', "developer-information", Flag,                    "What developers of the server want to know"),
    old(Id::Queue,         'q', "job-queue",             Choice("QUEUE", QUEUES), "Jobs of a queue"),
    old(Id::Addresses,     'i', "ip-address",            Flag,                    "Addresses of VMs, for munin"),
    old(Id::BootTime,      'b', "boot-time",             Flag,                    "How long VMs took to boot"),
    old(Id::DiffTypes,     't', "diff_type",             Flag,                    "Shares of VM types: what is, and what is wanted"),
    old(Id::JobTimes,      'g', "avg_job_time",          Flag,                    "Average run times of jobs on VMs"),
    old(Id::CloudConf,     'l', "cloud-conf",            Flag,                    "The configuration of clouds"),
    old(Id::Total,         'o', "total-vms",             Flag,                    "How many VMs there are, in all or on the cloud that -c names"),
    old(Id::States,        'u', "vm-status",             Flag,                    "How many VMs are in each state, in all or on the cloud that -c names"),
    old(Id::Missing,       'r', "missing-vms",           Flag,                    "Machines of the batch system that match no VM"),
    old(Id::HeartBeats,    'x', "heart-beats",           Flag,                    "Seconds since each thread's last cycle"),
    old(Id::BootFailures,  'z', "boot-failures",         Flag,                    "Why jobs have no VM"),
    old(Id::ImageFailures, 'w', "image-failures",        Flag,                    "Images that do not boot"),
    old(Id::Version,       'v', "version",               Flag,                    "The server's version, and this program's"),
    new(Id::Watch,              "watch",                 Seconds,                 "Show it again every so many seconds, until Ctrl-C"),
];

/// `cloud_admin`.
#[rustfmt::skip]
pub static ADMIN: &[Opt] = &[
    old(Id::Help,          'h', "help",                Flag,                   "Show this help and exit"),
    old(Id::ConfigFile,    'f', "config-file",         File("FILE"),           "Read this configuration file: [logging] log_location_cloud_admin, admin_log_comments"),
    old(Id::Host,          's', "server-hostname",     Text("HOSTNAME"),       "The scheduler's host [default: this machine's name]"),
    old(Id::Port,          'P', "port",                Text("PORT"),           "The scheduler's port [default: 8112; with --project 8774]"),
    old(Id::All,           'a', "all",                 Flag,                   "With -k, -o, -m: all VMs of the cloud that -c names"),
    old(Id::Kill,          'k', "kill-vm",             Flag,                   "Destroy VMs at once: -c with -n, -a or -b"),
    old(Id::Cloud,         'c', "cloud",               Text("NAME"),           "The cloud that is meant"),
    old(Id::Vm,            'n', "vm-id",               Text("ID"),             "The VM that is meant"),
    old(Id::Number,        'b', "number",              Text("NUM"),            "With -k, -o: so many VMs of the cloud that -c names"),
    old(Id::Proxy,         'p', "refresh-proxy",       Choice("PROXYTYPE", PROXIES), "Renew the proxies of the user that -u names"),
    old(Id::User,          'u', "user",                Text("USER"),           "The user that is meant"),
    old(Id::Reconfig,      'r', "reconfig",            Flag,                   "Nothing: the server is restarted instead"),
    old(Id::LogLevel,      'l', "log-level",           Choice("LEVEL", LEVELS), "Set the server's log level"),
    old(Id::Enable,        'e', "enable",              Text("NAME"),           "Let this cloud take new VMs"),
    old(Id::Disable,       'd', "disable",             Text("NAME"),           "Let this cloud take no new VMs; those it has stay"),
    old(Id::Remove,        'm', "remove",              Flag,                   "Forget VMs, which go on running: -c with -n or -a"),
    old(Id::QuickExit,     'q', "quick-exit",          Flag,                   "Toggle whether VMs outlive the server's stop"),
    old(Id::ReloadLimits,  'i', "reload-limits",       Flag,                   "Read the file of users' limits again"),
    old(Id::ListLimits,    'j', "list-limits",         Flag,                   "List users' limits"),
    old(Id::Retire,        'o', "force-retire",        Flag,                   "Let VMs finish their jobs, then destroy them: -c with -n, -a or -b"),
    old(Id::Reset,         'x', "reset-vm-state",      Flag,                   "Take back what was laid over a VM's state: -c with -n"),
    old(Id::ReloadAliases, 't', "reload-target-alias", Flag,                   "Read the file of cloud aliases again"),
    old(Id::ListAliases,   'y', "list-alias",          Flag,                   "List cloud aliases"),
    old(Id::Slots,         'v', "vm-allocation",       Text("NUM"),            "Set how many VMs the cloud that -c names may have"),
    old(Id::Comment,       'C', "comment",             Text("COM"),            "Why, for the audit log"),
    new(Id::Drain,              "drain",               Text("NAME"),           "With --project: let running jobs of this cloud end, and start nothing more there; -e ends it"),
    new(Id::Json,               "json",                Flag,                   "JSON: the server's own, else {\"text\": \"...\"}"),
    new(Id::Version,            "version",             Flag,                   "This program's version"),
];

/// What both programs have beside the old options.
#[rustfmt::skip]
pub static COMMON: &[Opt] = &[
    new(Id::Project,     "project",      Text("PROJECT"),          "Speak /v2/PROJECT on port 8774 rather than the old ports"),
    new(Id::Token,       "token",        Text("TOKEN"),            "The token; others on this machine may see it, so rather use --token-file"),
    new(Id::TokenFile,   "token-file",   File("FILE"),             "Read the token from this file [with --project, else: $PILEUS_TOKEN]"),
    new(Id::AllProjects, "all-projects", Flag,                     "With --project: what every project has, if you may"),
    new(Id::Timeout,     "timeout",      Seconds,                  "Wait no longer than this for an answer [default: 60]"),
    new(Id::Strict,      "strict",       Flag,                     "Exit with a code that tells what happened"),
    new(Id::Completions, "completions",  Choice("SHELL", SHELLS),  "Print a completion script for this shell"),
    new(Id::Man,         "man",          Flag,                     "Print the manual page"),
];

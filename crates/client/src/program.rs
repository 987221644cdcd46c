//! The two programs: what tells them apart, as data.

use crate::options::{ADMIN, COMMON, Opt, STATUS};

/// The version of Cloud Scheduler whose programs these stand in for.
pub const COMPATIBLE: &str = "1.13.2";
/// Where `/v2` is served.
pub const NATIVE_PORT: u16 = 8774;

/// A program.
#[derive(Debug)]
pub struct Program {
    /// Which it is.
    pub which: Which,
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The old port that it speaks to.
    pub port: u16,
    /// Its own options.
    own: &'static [Opt],
    /// What `--help` ends with.
    pub notes: &'static str,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// `cloud_status`: asks.
    Status,
    /// `cloud_admin`: changes.
    Admin,
}

impl Program {
    /// Its options, in the order of `--help`.
    pub fn options(&self) -> impl Iterator<Item = &'static Opt> + Clone {
        self.own.iter().chain(COMMON)
    }
}

/// `cloud_status`.
pub static CLOUD_STATUS: Program = Program {
    which: Which::Status,
    name: "cloud_status",
    about: "Shows what Cloud Scheduler, or Pileus, is doing",
    port: 8111,
    own: STATUS,
    notes: STATUS_NOTES,
};

/// `cloud_admin`.
pub static CLOUD_ADMIN: Program = Program {
    which: Which::Admin,
    name: "cloud_admin",
    about: "Changes what Cloud Scheduler, or Pileus, is doing",
    port: 8112,
    own: ADMIN,
    notes: ADMIN_NOTES,
};

const STATUS_NOTES: &str = "Examples:
  cloud_status                             the clouds, in brief
  cloud_status -a --watch 10               all clouds, shown again every ten seconds
  cloud_status -aj                         the same as JSON
  cloud_status -c alpha -n i-001           one VM of the cloud alpha
  cloud_status -q all                      jobs that are scheduled, new, and of high priority
  cloud_status --project demo --token-file var/admin-token -m
  cloud_status --completions bash > /etc/bash_completion.d/cloud_status

One thing is shown, whatever is asked: the first of -a (without -j), -m, -u, -n, -c (without -j, -o), \
-a -j, -c -j, -d, -q, -i, -b, -t, -g, -l, -o, -r, -x, -z, -w, -v, else the clouds in brief.

The port is -p's, else that of [global] info_server_port in the file of -f, else in the first that there \
is of ~/.cloudscheduler, /etc/cloudscheduler and /usr/local/share/cloud-scheduler, each with \
cloud_scheduler_status.conf. Without -s, where this machine's name does not answer, loopback is tried.

With --project, -j and --json are the same, -n needs no -c, and -m honours -c; -d, -t, -r, -w and -x have \
no counterpart.

Exit codes: 0 an answer came, whatever it says; 1 no answer; 2 a wrong option.
With --strict or --project: 0 done, 1 refused or not found, 2 a wrong or missing option, \
69 unavailable (no answer, or no such thing in /v2), 78 configuration.";

const ADMIN_NOTES: &str = "Examples:
  cloud_admin -e alpha                     let the cloud alpha take new VMs
  cloud_admin -v 20 -c alpha               let it have twenty
  cloud_admin -k -c alpha -n i-001         destroy one of its VMs
  cloud_admin -o -c alpha -b 3             let three finish their jobs, then destroy them
  cloud_admin --strict -d alpha || echo 'alpha was not disabled'
  cloud_admin --project demo --token-file var/admin-token -k -c alpha -a
  cloud_admin --man | man -l -

One thing is done, whatever is asked: the first of -k, -m, -o, -x, -e, -d, -r, -i, -j, -t, -y, -l, -p, \
-q, -v. Of -n, -a and -b, -n beats -a beats -b.

The configuration is the file of -f, else the first that there is of ~/.cloudscheduler, \
/etc/cloudscheduler and /usr/local/share/cloud-scheduler, each with cloud_scheduler.conf. \
[logging] log_location_cloud_admin and log_stdout say where the audit log goes; admin_log_comments wants \
-C of every change but -e and -d. admin_server_port there changes nothing: -P does. Without -s, where \
this machine's name does not answer, loopback is tried.

With --project, -n needs no -c, and where both are said the VM has to be on that cloud; -r, -i, -l \
and -q have no counterpart.

Exit codes: 0, whatever came; 2 a wrong option.
With --strict or --project: 0 done, 1 refused, not found, or done in part, 2 a wrong or missing option, \
69 unavailable (no answer, or no such thing in /v2), 78 configuration.";

//! The service in JSON.

use pileus_sdk::{
    at, at_opt,
    host::{LoadedFile, Process, Protection, Reload, Reloads},
    model::{Beat, BootFailure, ImageRecord, Job, Shares, Time, TypeShare, View},
    serde::{Deserialize, Serialize},
};

/// The service.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Shown<'a> {
    pub version: &'a str,
    /// `VERBOSE` … `CRITICAL`; null: the filter is finer than these words.
    pub log_level: Option<&'static str>,
    /// In the words of `PILEUS_LOG`.
    pub log_filter: String,
    /// Whether VMs live on when the service is told to stop.
    pub quick_shutdown: bool,
    pub reconcilers: Vec<Reconciler>,
    /// Protections of the service against the jobs of its driver `local`.
    pub protections: Vec<Protection>,
    pub reloads: ReloadsShown,
    pub process: Process,
}

/// How often the files were read again, and what the service goes by now.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct ReloadsShown {
    done: u64,
    failed: u64,
    /// Null: the files are those of the start.
    last: Option<ReloadShown>,
    files: Vec<FileShown>,
}

impl ReloadsShown {
    pub fn new(it: Reloads) -> Self {
        let file = |it: LoadedFile| FileShown { name: it.name, sha256: it.sha256, loaded: it.loaded };
        Self {
            done: it.done,
            failed: it.failed,
            last: it.last.map(ReloadShown::new),
            files: it.files.into_iter().map(file).collect(),
        }
    }
}

/// One time that they were read again.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct ReloadShown {
    #[serde(serialize_with = "at")]
    at: Time,
    /// `SIGHUP`, `a changed file`, `a request`.
    by: &'static str,
    /// Why everything stays as it was; null: the service goes by the new files.
    problem: Option<String>,
    /// Files at fault: missing, unusable or wrong.
    files: Vec<String>,
    /// What holds from the next start on only.
    notes: Vec<String>,
}

impl ReloadShown {
    pub fn new(it: Reload) -> Self {
        Self { at: it.at, by: it.by, problem: it.problem, files: it.files, notes: it.notes }
    }
}

#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct FileShown {
    name: String,
    sha256: String,
    #[serde(serialize_with = "at")]
    loaded: Time,
}

/// A reconciler's sign of life, and what it holds.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Reconciler {
    name: &'static str,
    /// Longest pause between two cycles.
    interval_s: u64,
    /// When its last cycle ended.
    #[serde(serialize_with = "at")]
    last: Time,
    /// Why its last cycle failed; null: it did not.
    error: Option<String>,
    /// What it holds now, for people.
    holds: Vec<String>,
}

impl Reconciler {
    pub fn new(beat: Beat, holds: Vec<String>) -> Self {
        Self { name: beat.name, interval_s: beat.interval_s, last: beat.last, error: beat.error, holds }
    }
}

/// A cloud as it stands in the file.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct CloudShown {
    pub name: String,
    /// In the order of the file.
    pub options: Vec<OptionShown>,
}

#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct OptionShown {
    pub name: String,
    pub value: String,
}

/// Shares of all VMs.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct SharesShown {
    diff: Vec<ShareShown>,
    current: Vec<ShareShown>,
    desired: Vec<ShareShown>,
}

#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct ShareShown {
    project_id: String,
    user: String,
    vm_type: String,
    /// A part of 1; in `diff` below the share is negative.
    share: f64,
}

impl SharesShown {
    pub fn new(shares: &Shares) -> Self {
        let list = |shares: &[TypeShare]| {
            let shown = shares.iter().map(|share| ShareShown {
                project_id: share.project.to_string(),
                user: share.user.to_string(),
                vm_type: share.vm_type.to_string(),
                share: share.billionths as f64 / 1e9,
            });
            shown.collect()
        };
        Self { diff: list(&shares.diff), current: list(&shares.current), desired: list(&shares.desired) }
    }
}

/// Why jobs got no VM, and which images do not come up where.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Failures<'a> {
    pub jobs: Vec<JobFailed<'a>>,
    pub images: Vec<ImageFails<'a>>,
}

/// A job, and the boots for it that came to nothing since it ran last.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct JobFailed<'a> {
    id: &'a str,
    project_id: &'a str,
    user: &'a str,
    state: &'static str,
    /// Why it waits now; null: it does not, or it is merely not its turn.
    reason: Option<&'a str>,
    /// Until when nothing is booted for it.
    #[serde(serialize_with = "at_opt")]
    banned_until: Option<Time>,
    boots: Vec<BootFailed<'a>>,
}

impl<'a> JobFailed<'a> {
    pub fn new(view: &'a View, job: &'a Job) -> Self {
        Self {
            id: &job.id,
            project_id: &job.project,
            user: &job.user,
            state: job.state.as_str(),
            reason: view.reason_of(job),
            banned_until: job.banned_until,
            boots: job.failures.iter().map(BootFailed::new).collect(),
        }
    }
}

/// A boot that came to nothing.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct BootFailed<'a> {
    cloud: &'a str,
    /// The sort, in Cloud Scheduler's words.
    fault: &'static str,
    detail: &'a str,
    #[serde(serialize_with = "at")]
    at: Time,
}

impl<'a> BootFailed<'a> {
    fn new(failure: &'a BootFailure) -> Self {
        let (fault, detail) = (failure.fault.as_str(), &failure.detail);
        Self { cloud: &failure.cloud, fault, detail, at: failure.at }
    }
}

/// An image whose last boot in a cloud came to nothing.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct ImageFails<'a> {
    cloud: &'a str,
    image: &'a str,
    /// The last ten boots, in their order; `true`: its worker called home.
    boots: &'a [bool],
    last: Option<BootFailed<'a>>,
}

impl<'a> ImageFails<'a> {
    pub fn new(cloud: &'a str, image: &'a str, record: &'a ImageRecord) -> Self {
        Self { cloud, image, boots: &record.boots, last: record.failure.as_ref().map(BootFailed::new) }
    }
}

/// `{"quick_shutdown": {"enabled": true}}`; `null` turns it over.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct QuickShutdown {
    pub enabled: bool,
}

/// `{"set_log_level": {"level": "DEBUG"}}`.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct SetLogLevel {
    pub level: String,
}

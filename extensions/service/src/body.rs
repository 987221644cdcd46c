//! The service in JSON.

use pileus_sdk::{
    at,
    host::Process,
    model::{Beat, FailedBoots, Share, Shares, Time},
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
    pub process: Process,
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
        let list = |shares: &[Share]| {
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

/// Why jobs got no VM, and what does not come up where.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Failures<'a> {
    pub jobs: Vec<JobFailure<'a>>,
    pub vm_types: Vec<TypeFailure>,
}

#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct JobFailure<'a> {
    pub id: &'a str,
    pub project_id: &'a str,
    pub user: &'a str,
    pub state: &'static str,
    pub reasons: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct TypeFailure {
    cloud: String,
    vm_type: String,
    reason: String,
    /// When it happened last.
    #[serde(serialize_with = "at")]
    last: Time,
}

impl From<FailedBoots> for TypeFailure {
    fn from(failure: FailedBoots) -> Self {
        Self {
            cloud: failure.cloud.to_string(),
            vm_type: failure.vm_type.to_string(),
            reason: failure.why,
            last: failure.at,
        }
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

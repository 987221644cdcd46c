//! Why a job is where it is, for people: what the scheduler looks at, and what it finds.

use serde::Serialize;

use crate::{BootFault, JobState, Name};

/// Why a job waits, or that it does not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The job.
    pub job: Name,
    /// How far it has come.
    pub state: JobState,
    /// In one sentence.
    pub why: String,
    /// One change that would start it, in the imperative; `None`: it does not wait, or its turn comes by itself.
    pub remedy: Option<String>,
    /// The last event that was looked at.
    pub seq: u64,
    /// Every cloud, in the order of the configuration.
    pub clouds: Vec<CloudTest>,
    /// Where it stands among the jobs that want a VM booted; `None`: it wants none, or never gets one.
    pub queue: Option<QueuePlace>,
    /// What its user and type have of all VMs, and what they should have; `None`: they neither have
    /// VMs nor jobs that want one, or shares do not count.
    pub share: Option<Share>,
    /// VMs of its user, over all projects, as an administrator limits them.
    pub user_vms: Bounded,
    /// VMs of its user and type, as the user's own jobs limit them.
    pub type_vms: Bounded,
    /// VMs that boot now, of everybody.
    pub starting_vms: Bounded,
    /// Its VMs that did not come up, the last one last.
    pub failures: Vec<FailedBoot>,
    /// How long nothing is booted for it because of them, in seconds.
    pub banned_for_s: Option<u64>,
}

/// A VM that was booted for a job and did not come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedBoot {
    /// The cloud.
    pub cloud: Name,
    /// What went wrong.
    pub fault: BootFault,
    /// What was said of it.
    pub detail: String,
    /// How long ago, in seconds.
    pub ago_s: u64,
}

/// A cloud, and the first test that a VM for the job does not pass there now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CloudTest {
    /// The cloud.
    pub cloud: Name,
    /// Whether all tests are passed.
    pub fits: bool,
    /// The name of the first test that failed: `target`, `enabled`, `slots_free`, …
    pub failed: Option<&'static str>,
    /// What it wants and what there is, in words.
    pub detail: Option<String>,
}

/// A place in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QueuePlace {
    /// Whose jobs stand in it.
    pub of: QueueOf,
    /// From 1.
    pub position: u64,
    /// How many there are.
    pub length: u64,
}

/// Whose jobs stand in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueOf {
    /// Those of one user and type of VM: shares decide between such queues.
    UserAndType,
    /// Everybody's.
    Everybody,
}

/// Parts of all VMs, between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// What they have.
    pub current: f64,
    /// What they should have.
    pub desired: f64,
    /// How far they are above it, with what others may not use; who is at 0 or below is served first.
    pub diff: f64,
}

/// How many there are, and may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bounded {
    /// There are.
    pub now: u64,
    /// There may be; `None`: no limit.
    pub limit: Option<u64>,
}

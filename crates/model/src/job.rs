//! A job: what a user wants run, and how far it has come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Name, Time};

/// How far a job has come.
///
/// `New → Scheduled → Running → Complete`; back to `New` when its VM is lost. `Held` and `Removed`
/// are what people do to it, `Error` is what it cannot recover from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a VM.
    New,
    /// A VM was booted for it; which VM takes it is settled when the VM asks.
    Scheduled,
    /// Runs on a VM.
    Running,
    /// Ran to its end, whatever its exit code.
    Complete,
    /// Waits until somebody releases it.
    Held,
    /// Deleted by a user; kept for a while so that its end can be read.
    Removed,
    /// Cannot run: its worker could not even start it, or it lost its VM too often.
    Error,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [JobState; 7] =
        [Self::New, Self::Scheduled, Self::Running, Self::Complete, Self::Held, Self::Removed, Self::Error];

    /// The word on the new wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Held => "held",
            Self::Removed => "removed",
            Self::Error => "error",
        }
    }

    /// Condor's number for it: 1 Idle, 2 Running, 3 Removed, 4 Complete, 5 Held, 6 Error.
    pub fn condor(self) -> u8 {
        match self {
            Self::New | Self::Scheduled => 1,
            Self::Running => 2,
            Self::Removed => 3,
            Self::Complete => 4,
            Self::Held => 5,
            Self::Error => 6,
        }
    }

    /// Whether nothing happens to it any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Complete | Self::Removed | Self::Error)
    }
}

/// What a job gets that does not say it: the `[job_defaults]` table. Every line may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobDefaults {
    /// The type of VM that it wants.
    pub vm_type: Name,
    /// Cores that it wants.
    pub cpu_cores: u32,
    /// Memory that it wants, in MiB.
    pub memory_mib: u64,
    /// Storage that it wants, in GiB.
    pub storage_gib: u64,
    /// How long its VM may idle afterwards, in seconds; absent: as the cloud says.
    pub keep_alive_s: Option<u64>,
    /// Clouds or aliases where it may run; empty: anywhere.
    pub target_clouds: Vec<String>,
}

impl Default for JobDefaults {
    fn default() -> Self {
        Self {
            vm_type: "default".into(),
            cpu_cores: 1,
            memory_mib: 512,
            storage_gib: 1,
            keep_alive_s: None,
            target_clouds: Vec::new(),
        }
    }
}

/// How a job's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code (0..=255).
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Times of a run by the worker's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTimes {
    /// Start of the job's process.
    pub started: Time,
    /// End of the job's process.
    pub finished: Time,
}

impl RunTimes {
    /// Times of a run that took `ran` and ended `ago` before `now`.
    pub fn before(now: Time, ago: Duration, ran: Duration) -> Self {
        let finished = now.before(ago);
        Self { started: finished.before(ran), finished }
    }
}

/// What went wrong with a VM that was booted for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootFault {
    /// The cloud had no room for it, or a quota forbade it.
    NoCapacity,
    /// The cloud did not make it.
    NotMade,
    /// The cloud made it, and it broke or did not boot in time.
    NotBooted,
    /// It booted, and its worker did not call home in time.
    NotRegistered,
}

impl BootFault {
    /// The words on the old wire, where it has some for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCapacity => "Resource Availability / Quota Problem",
            Self::NotMade => "Other VM Create Error",
            Self::NotBooted => "VM did not start in time",
            Self::NotRegistered => "VM did not register in time",
        }
    }

    /// Whether the VM itself is to blame, rather than a cloud that was full or did not answer.
    pub fn is_of_the_vm(self) -> bool {
        matches!(self, Self::NotBooted | Self::NotRegistered)
    }
}

/// A boot that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFailure {
    /// The sort.
    pub fault: BootFault,
    /// What was seen; for people.
    pub detail: String,
    /// Where.
    pub cloud: Name,
    /// When.
    pub at: Time,
}

/// A cloud in which no VM is booted for a job for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedCloud {
    /// Which.
    pub cloud: Name,
    /// Until when.
    pub until: Time,
}

/// A job as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The key: unique over all sources; of any characters. Sorts by submission within one source.
    pub id: Name,
    /// Whose it is.
    pub project: Name,
    /// For whom it runs.
    pub user: Name,
    /// The source that brought it: a name of the engine's list `SOURCES`.
    pub source: Name,
    /// The program and its arguments; never passed through a shell by Pileus.
    pub command: Vec<String>,
    /// The type of VM that it wants.
    pub vm_type: Name,
    /// Cores that it wants.
    pub cpu_cores: u32,
    /// Memory that it wants, in MiB.
    pub memory_mib: u64,
    /// Storage that it wants, in GiB.
    pub storage_gib: u64,
    /// The higher number runs first.
    pub priority: i64,
    /// Runs before every normal job, whatever the shares.
    pub high_priority: bool,
    /// How long its VM may idle afterwards, in seconds; `None`: as the cloud says.
    pub keep_alive_s: Option<u64>,
    /// Clouds or aliases where it may run; empty: anywhere.
    pub target_clouds: Vec<String>,
    /// The image that its VM is booted from; `None`: what the cloud boots by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Name>,
    /// The user's own limit: no VM of this type is booted while there are as many. Holds as long as
    /// a job that says so is queued or runs; of several the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_type_limit: Option<u32>,
    /// How far it has come.
    pub state: JobState,
    /// Why it waits, is held, or failed; for people.
    pub reason: Option<String>,
    /// When it was submitted.
    pub submitted: Time,
    /// When it ran last.
    pub started: Option<Time>,
    /// When it ended.
    pub finished: Option<Time>,
    /// The VM that runs it, or ran it last.
    pub vm: Option<Name>,
    /// That VM's cloud.
    pub cloud: Option<Name>,
    /// Number of starts; more than one where a VM was lost or given up.
    pub attempts: u32,
    /// Number of VMs that broke under it. Orderly ends of a VM (a stop, rebalancing) do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub breakages: u32,
    /// Number of starts that failed by a fault of a VM's host. A job with fewer of them goes first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub returns: u32,
    /// Reason why it last lost its VM or was not started, for people. `None`: neither happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setback: Option<String>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Boots for it that came to nothing since it ran last, the latest ones, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<BootFailure>,
    /// Clouds that are not tried for it for a while, because too many of these were there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_clouds: Vec<BlockedCloud>,
    /// Until when nothing is booted for it at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banned_until: Option<Time>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}

//! What the deployer may settle.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use pileus_model::CloudSpec;
use serde::Deserialize;

use crate::{drivers::local::Confinement, proxies::CredentialsConfig};

/// Everything that the engine needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where all state is kept; made, with mode 0700, where it is not there.
    pub state_dir: PathBuf,
    /// A name of [`STORES`](crate::store::STORES).
    pub store: String,
    /// The program that the `local` driver runs as a VM's worker.
    pub worker_exe: PathBuf,
    /// How jobs and VMs are brought together.
    pub scheduler: SchedulerConfig,
    /// The configured clouds, in their order.
    pub clouds: Vec<(String, CloudSpec)>,
    /// A JSON object: alias name to array of cloud names.
    pub cloud_aliases: Option<PathBuf>,
    /// A JSON object: user name to the most VMs of that user.
    pub user_limits: Option<PathBuf>,
    /// Where users' proxies come from.
    pub credentials: CredentialsConfig,
    /// Bounds of the jobs of the driver `local`.
    pub confinement: Confinement,
}

/// The `[scheduler]` table. Every line may be left out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulerConfig {
    /// Longest pause between two cycles of the scheduler, in seconds. A change wakes it at once.
    pub scheduler_interval_s: NonZeroU64,
    /// Longest pause between two clean-ups, in seconds.
    pub cleanup_interval_s: NonZeroU64,
    /// Pause between two polls of a cloud, in seconds.
    pub vm_poller_interval_s: NonZeroU64,
    /// Longest pause between two looks into the sources of jobs, in seconds.
    pub job_poller_interval_s: NonZeroU64,
    /// Longest pause between two looks for VMs that may take a job, in seconds.
    pub machine_poller_interval_s: NonZeroU64,
    /// Who gets the next VM.
    pub algorithm: Algorithm,
    /// How a user's share is spread over the VM types that they wait for.
    pub job_distribution: Distribution,
    /// What of the VMs is shared.
    pub scheduling_metric: Metric,
    /// What cores weigh in [`Metric::MemoryCpuStorage`].
    pub cpu_distribution_weight: Weight,
    /// What memory weighs in [`Metric::MemoryCpuStorage`].
    pub memory_distribution_weight: Weight,
    /// What storage weighs in [`Metric::MemoryCpuStorage`].
    pub storage_distribution_weight: Weight,
    /// Most VMs that boot at a time; absent: no limit, 0: none boots at all.
    pub max_starting_vms: Option<u32>,
    /// What high-priority jobs weigh in the shares, against normal ones.
    pub high_priority_job_weight: NonZeroU32,
    /// Whether users above their share give VMs up while others find no room.
    pub rebalance: bool,
    /// Absent: a VM that is given up ends its job first. Else: one whose job has run for less than this
    /// is destroyed at once, and others stay, in seconds. With [`Algorithm::Fifo`] every job ends first.
    pub rebalance_lost_work_max_s: Option<u64>,
    /// Most VMs of one cloud that are being destroyed at a time.
    pub max_destroying_vms: NonZeroU32,
    /// A VM that idles for as long though jobs wait for it is destroyed, in seconds; absent: none is.
    pub vm_idle_threshold_s: Option<NonZeroU64>,
    /// A cloud is barred for a job after as many of its VMs there did not come up.
    pub block_cloud_after_boot_failures: NonZeroU32,
    /// A job is left alone after as many of its VMs did not come up, wherever.
    pub ban_job_after_boot_failures: NonZeroU32,
    /// How long clouds are barred and jobs are left alone, in seconds.
    pub job_ban_timeout_s: NonZeroU64,
    /// Whether clouds in which an image fails are barred for it.
    pub ban_tracking: bool,
    /// Fewest boots of an image in a cloud before it may be barred, at most ten.
    pub ban_min_track: NonZeroU32,
    /// An image is barred once as many of a hundred of its last ten boots there failed.
    pub ban_failrate_threshold_percent: NonZeroU32,
    /// A VM is destroyed after as many bad answers about it in a row.
    pub polling_error_threshold: NonZeroU32,
    /// A VM whose worker has not called home is destroyed after as long as `Running`, in seconds.
    pub register_timeout_s: NonZeroU64,
    /// A VM whose worker is silent for longer is lost, in seconds.
    pub worker_timeout_s: NonZeroU64,
    /// Longest keep-alive that a job or a cloud may ask for, in seconds.
    pub max_keep_alive_s: u64,
    /// Most jobs of one project that wait or are held. A further one is refused.
    pub waiting_jobs_max: u64,
    /// Most bytes of commands and names of these jobs.
    pub waiting_bytes_max: u64,
    /// How long a job that has ended, and its output, can still be read, in seconds.
    pub job_retention_s: u64,
    /// Age up to which events are kept, in days before the newest one. Older ones that a snapshot covers are deleted.
    pub history_keep_days: u64,
    /// Size up to which events are kept, in MiB. The oldest beyond it that a snapshot covers are deleted.
    pub history_keep_mib: u64,
    /// A job whose VM broke under it as often is not tried again.
    pub max_job_attempts: NonZeroU32,
    /// Most that is kept of each of a job's two streams, in KiB: half of it from the start, half from the end.
    pub job_output_max_kib: OutputLimit,
    /// Whether VMs outlive an orderly stop.
    pub keep_vms_on_stop: bool,
}

/// A number of KiB that a worker can hold and send: 1 to 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct OutputLimit(u32);

impl OutputLimit {
    /// The number of bytes.
    pub fn bytes(self) -> usize {
        self.0 as usize * 1024
    }
}

impl Default for OutputLimit {
    fn default() -> Self {
        Self(2048)
    }
}

impl TryFrom<u32> for OutputLimit {
    type Error = &'static str;

    fn try_from(kib: u32) -> Result<Self, Self::Error> {
        let fits = (1..=4096).contains(&kib);
        if fits { Ok(Self(kib)) } else { Err("the output that is kept must be 1 to 4096 KiB") }
    }
}

/// How the next VM is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Every user with waiting jobs gets an equal share of all VMs.
    #[default]
    Fairshare,
    /// The oldest job, whosever it is; priorities and shares do not count.
    Fifo,
}

/// What of the VMs is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Their number.
    #[default]
    Slot,
    /// Their memory.
    Memory,
    /// Their memory, times their cores.
    MemoryCpu,
    /// Their memory, times their cores, times their storage where they have some; weighted.
    MemoryCpuStorage,
}

/// A factor above nothing.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Weight(f64);

impl Weight {
    /// The factor.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Weight {
    type Error = &'static str;

    fn try_from(weight: f64) -> Result<Self, Self::Error> {
        let sensible = weight.is_finite() && weight > 0.0;
        if sensible { Ok(Self(weight)) } else { Err("a weight must be a number above 0") }
    }
}

/// How a user's share is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// All of it goes to the type of the user's first job.
    #[default]
    Normal,
    /// It is divided among the types of all jobs at the user's highest priority.
    Split,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        const FIVE: NonZeroU64 = NonZeroU64::new(5).unwrap();
        Self {
            scheduler_interval_s: FIVE,
            cleanup_interval_s: FIVE,
            vm_poller_interval_s: FIVE,
            job_poller_interval_s: FIVE,
            machine_poller_interval_s: FIVE,
            algorithm: Algorithm::default(),
            job_distribution: Distribution::default(),
            scheduling_metric: Metric::default(),
            cpu_distribution_weight: Weight::default(),
            memory_distribution_weight: Weight::default(),
            storage_distribution_weight: Weight::default(),
            max_starting_vms: None,
            high_priority_job_weight: NonZeroU32::MIN,
            rebalance: true,
            rebalance_lost_work_max_s: None,
            max_destroying_vms: const { NonZeroU32::new(10).unwrap() },
            vm_idle_threshold_s: None,
            block_cloud_after_boot_failures: const { NonZeroU32::new(3).unwrap() },
            ban_job_after_boot_failures: const { NonZeroU32::new(10).unwrap() },
            job_ban_timeout_s: const { NonZeroU64::new(60 * 60).unwrap() },
            ban_tracking: false,
            ban_min_track: const { NonZeroU32::new(5).unwrap() },
            ban_failrate_threshold_percent: const { NonZeroU32::new(100).unwrap() },
            polling_error_threshold: const { NonZeroU32::new(5).unwrap() },
            register_timeout_s: const { NonZeroU64::new(15 * 60).unwrap() },
            worker_timeout_s: const { NonZeroU64::new(60).unwrap() },
            max_keep_alive_s: 60 * 60,
            waiting_jobs_max: 10_000,
            waiting_bytes_max: 64 << 20,
            job_retention_s: 24 * 60 * 60,
            history_keep_days: 90,
            history_keep_mib: 1024,
            max_job_attempts: const { NonZeroU32::new(5).unwrap() },
            job_output_max_kib: OutputLimit::default(),
            keep_vms_on_stop: false,
        }
    }
}

impl SchedulerConfig {
    /// How long a VM that is booted for a job may idle, in seconds.
    pub fn keep_alive_s(&self, job: Option<u64>, cloud: u64) -> u64 {
        job.unwrap_or(cloud).min(self.max_keep_alive_s)
    }

    pub(crate) fn job_ban_timeout(&self) -> Duration {
        Duration::from_secs(self.job_ban_timeout_s.get())
    }

    pub(crate) fn register_timeout(&self) -> Duration {
        Duration::from_secs(self.register_timeout_s.get())
    }
}

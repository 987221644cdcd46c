//! What the deployer may settle.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use pileus_model::CloudSpec;
use serde::Deserialize;

use crate::proxies::CredentialsConfig;

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
}

/// The `[scheduler]` table. Every line may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
    /// Most VMs that boot at a time; absent: no limit, 0: none boots at all.
    pub max_starting_vms: Option<u32>,
    /// What high-priority jobs weigh in the shares, against normal ones.
    pub high_priority_job_weight: NonZeroU32,
    /// A VM is destroyed after as many bad answers about it in a row.
    pub polling_error_threshold: NonZeroU32,
    /// A VM whose worker has not called home is destroyed after as long as `Running`, in seconds.
    pub register_timeout_s: NonZeroU64,
    /// Longest keep-alive that a job or a cloud may ask for, in seconds.
    pub max_keep_alive_s: u64,
    /// How long a job that has ended, and its output, can still be read, in seconds.
    pub job_retention_s: u64,
    /// A job whose VM broke under it as often is not tried again.
    pub max_job_attempts: NonZeroU32,
    /// Whether VMs outlive an orderly stop.
    pub keep_vms_on_stop: bool,
}

/// How the next VM is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Every user with waiting jobs gets an equal share of all VMs.
    #[default]
    Fairshare,
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
            max_starting_vms: None,
            high_priority_job_weight: NonZeroU32::MIN,
            polling_error_threshold: const { NonZeroU32::new(5).unwrap() },
            register_timeout_s: const { NonZeroU64::new(15 * 60).unwrap() },
            max_keep_alive_s: 60 * 60,
            job_retention_s: 24 * 60 * 60,
            max_job_attempts: const { NonZeroU32::new(5).unwrap() },
            keep_vms_on_stop: false,
        }
    }
}

impl SchedulerConfig {
    /// How long a VM that is booted for a job may idle, in seconds.
    pub fn keep_alive_s(&self, job: Option<u64>, cloud: u64) -> u64 {
        job.unwrap_or(cloud).min(self.max_keep_alive_s)
    }

    pub(crate) fn register_timeout(&self) -> Duration {
        Duration::from_secs(self.register_timeout_s.get())
    }
}

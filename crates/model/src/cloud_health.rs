//! Failures in a row of the VMs of one cloud.

use serde::{Deserialize, Serialize};

use crate::{Name, Vm};

/// Starts of jobs that a VM may fail in a row before it is destroyed.
pub const FAILED_STARTS_MAX: u32 = 3;

/// VMs that may fail in a row before their cloud takes one VM at a time.
pub const FAILED_VMS_MAX: u32 = 3;

/// Failures of a cloud's VMs since the last success.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CloudHealth {
    /// VMs that never registered. A registration sets it to 0.
    pub unregistered: u32,
    /// Image of the last of these. An image that fails again does not count: it says nothing of the cloud.
    pub image: Option<Name>,
    /// VMs that were destroyed because they started no job. The end of a job sets it to 0.
    pub jobless: u32,
    /// Job that the last of these did not start. A job that fails again does not count.
    #[serde(default)]
    pub job: Option<Name>,
}

impl CloudHealth {
    /// Number of VMs that failed in a row.
    pub fn failures(&self) -> u32 {
        self.unregistered.max(self.jobless)
    }

    /// `true` if the cloud is given one VM at a time.
    pub fn is_suspect(&self) -> bool {
        self.failures() >= FAILED_VMS_MAX
    }

    /// `true` if the VM has not yet shown that its cloud is sound again.
    pub fn is_unproven(&self, vm: &Vm) -> bool {
        vm.registered.is_none() || (self.jobless >= FAILED_VMS_MAX && vm.job_runs_s.is_empty())
    }
}

//! A cloud: where VMs are booted, and how many of what size it takes.

use serde::{Deserialize, Serialize};

use crate::{BootFailure, Name};

/// What a VM takes, or a cloud has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// Virtual machines.
    pub vm_slots: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Storage, in GiB.
    pub storage_gib: u64,
}

/// What `[clouds.NAME]` in `pileus.toml`, or `POST /v2/{project_id}/clouds`, says of a cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudSpec {
    /// The driver that boots its VMs: a name of the engine's list `DRIVERS`.
    pub driver: String,
    /// Whether new VMs may be booted, where no administrator has said otherwise.
    pub enabled: bool,
    /// Most VMs at a time.
    pub vm_slots: u32,
    /// The **largest VM** this cloud takes, in cores. Not a pool: never decremented.
    pub cpu_cores: u32,
    /// Memory for all VMs together, in MiB.
    pub memory_mib: u64,
    /// Storage for all VMs together, in GiB.
    pub storage_gib: u64,
    /// The lower number is used first.
    pub priority: i64,
    /// How long an idle VM is kept whose job asked for nothing, in seconds.
    pub keep_alive_s: u64,
    /// How long a VM may be `Starting`, in seconds; `None`: for ever.
    pub boot_timeout_s: Option<u64>,
    /// Memory of the largest VM it takes, in MiB; `None`: any that there is.
    #[serde(default)]
    pub max_vm_memory_mib: Option<u64>,
}

/// How boots from one image went in one cloud.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The last ten boots, in their order; `true`: its worker called home.
    pub boots: Vec<bool>,
    /// The last one that came to nothing.
    pub failure: Option<BootFailure>,
}

/// Who brought a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `pileus.toml`: it goes when its section goes.
    File,
    /// The API: it stays until it is deleted there.
    Api,
}

/// A cloud as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloud {
    /// The key, as written. Look-ups on the old ports ignore ASCII case.
    pub name: Name,
    /// What was configured.
    pub spec: CloudSpec,
    /// Who brought it.
    pub origin: Origin,
    /// Its place among the clouds: configuration order, then creation order.
    pub order: u32,
    /// What an administrator said of `enabled`; outlives restarts and the configuration.
    pub enabled_by_admin: Option<bool>,
    /// An administrator drains it: it takes no VM, its VMs end their jobs and go. Until it is enabled again.
    #[serde(default)]
    pub draining: bool,
    /// What an administrator said of `vm_slots`.
    pub vm_slots_by_admin: Option<u32>,
    /// No longer configured: takes no VM, and goes once its last VM is gone.
    pub retired: bool,
    /// What its VMs hold now. The engine's `apply` keeps it.
    pub used: Size,
}

impl Cloud {
    /// Whether new VMs may be booted here.
    pub fn enabled(&self) -> bool {
        !self.retired && !self.draining && self.enabled_by_admin.unwrap_or(self.spec.enabled)
    }

    /// Most VMs at a time.
    pub fn vm_slots(&self) -> u32 {
        self.vm_slots_by_admin.unwrap_or(self.spec.vm_slots)
    }

    /// Most VMs that may stay.
    pub fn vm_slots_to_keep(&self) -> u32 {
        if self.retired || self.draining { 0 } else { self.vm_slots() }
    }

    /// What is left for new VMs; zero where allocations were cut below what is held.
    pub fn free(&self) -> Size {
        Size {
            vm_slots: self.vm_slots().saturating_sub(self.used.vm_slots),
            memory_mib: self.spec.memory_mib.saturating_sub(self.used.memory_mib),
            storage_gib: self.spec.storage_gib.saturating_sub(self.used.storage_gib),
        }
    }
}

//! A cloud in JSON: as it is shown, and as it is sent.
//!
//! Memory is in MiB, storage in GiB, times in seconds: every name says its unit.

use pileus_sdk::{
    Links,
    model::{Cloud, CloudSpec, Origin, Size},
    serde::{Deserialize, Deserializer, Serialize},
};

/// A cloud in a list.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Brief<'a> {
    id: &'a str,
    name: &'a str,
    links: Links<'a>,
}

impl<'a> Brief<'a> {
    pub fn new(cloud: &'a Cloud, collection: &'a str) -> Self {
        Self { id: &cloud.name, name: &cloud.name, links: Links { collection, id: &cloud.name } }
    }
}

/// A cloud in full.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Full<'a> {
    id: &'a str,
    name: &'a str,
    /// `file`, `api`: who brought it.
    origin: Origin,
    /// Drains, and goes with its last VM.
    retired: bool,
    /// Whether new VMs may be booted: what an administrator said, else the settings; never when retired or
    /// draining.
    enabled: bool,
    /// What an administrator said of it; null: nothing.
    enabled_by_admin: Option<bool>,
    /// Takes no VM; its VMs end their jobs and go. `enable` ends it.
    draining: bool,
    /// Most VMs at a time: what an administrator said, else the settings.
    vm_slots: u32,
    /// What an administrator said of it; null: nothing.
    vm_slots_by_admin: Option<u32>,
    /// What its VMs hold.
    used: Size,
    /// What is left for new VMs.
    free: Size,
    /// Its settings.
    spec: &'a CloudSpec,
    links: Links<'a>,
}

impl<'a> Full<'a> {
    pub fn new(cloud: &'a Cloud, collection: &'a str) -> Self {
        Self {
            id: &cloud.name,
            name: &cloud.name,
            origin: cloud.origin,
            retired: cloud.retired,
            enabled: cloud.enabled(),
            enabled_by_admin: cloud.enabled_by_admin,
            draining: cloud.draining,
            vm_slots: cloud.vm_slots(),
            vm_slots_by_admin: cloud.vm_slots_by_admin,
            used: cloud.used,
            free: cloud.free(),
            spec: &cloud.spec,
            links: Links { collection, id: &cloud.name },
        }
    }
}

/// `POST …/clouds` `{"cloud": {…}}`.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct Create {
    /// The key; of any characters.
    pub name: String,
    driver: String,
    vm_slots: u32,
    /// The largest VM that it takes, in cores.
    cpu_cores: u32,
    memory_mib: u64,
    #[serde(default)]
    storage_gib: u64,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    priority: i64,
    #[serde(default)]
    keep_alive_s: u64,
    #[serde(default)]
    boot_timeout_s: Option<u64>,
    /// Memory of the largest VM that it takes.
    #[serde(default)]
    max_vm_memory_mib: Option<u64>,
}

fn yes() -> bool {
    true
}

impl Create {
    pub fn spec(self) -> CloudSpec {
        CloudSpec {
            driver: self.driver,
            enabled: self.enabled,
            vm_slots: self.vm_slots,
            cpu_cores: self.cpu_cores,
            memory_mib: self.memory_mib,
            storage_gib: self.storage_gib,
            priority: self.priority,
            keep_alive_s: self.keep_alive_s,
            boot_timeout_s: self.boot_timeout_s,
            max_vm_memory_mib: self.max_vm_memory_mib,
        }
    }
}

/// `PUT …/clouds/{id}` `{"cloud": {…}}`: what is left out stays as it is.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct Update {
    driver: Option<String>,
    enabled: Option<bool>,
    vm_slots: Option<u32>,
    cpu_cores: Option<u32>,
    memory_mib: Option<u64>,
    storage_gib: Option<u64>,
    priority: Option<i64>,
    keep_alive_s: Option<u64>,
    /// `null` takes the limit away.
    #[serde(default, deserialize_with = "given")]
    boot_timeout_s: Option<Option<u64>>,
    /// Likewise.
    #[serde(default, deserialize_with = "given")]
    max_vm_memory_mib: Option<Option<u64>>,
}

/// Tells `null` from nothing at all.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl Update {
    pub fn of(self, old: &CloudSpec) -> CloudSpec {
        CloudSpec {
            driver: self.driver.unwrap_or_else(|| old.driver.clone()),
            enabled: self.enabled.unwrap_or(old.enabled),
            vm_slots: self.vm_slots.unwrap_or(old.vm_slots),
            cpu_cores: self.cpu_cores.unwrap_or(old.cpu_cores),
            memory_mib: self.memory_mib.unwrap_or(old.memory_mib),
            storage_gib: self.storage_gib.unwrap_or(old.storage_gib),
            priority: self.priority.unwrap_or(old.priority),
            keep_alive_s: self.keep_alive_s.unwrap_or(old.keep_alive_s),
            boot_timeout_s: self.boot_timeout_s.unwrap_or(old.boot_timeout_s),
            max_vm_memory_mib: self.max_vm_memory_mib.unwrap_or(old.max_vm_memory_mib),
        }
    }
}

/// `{"set_slots": {"vm_slots": 4}}`.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct SetSlots {
    /// Most VMs at a time.
    pub vm_slots: u32,
}

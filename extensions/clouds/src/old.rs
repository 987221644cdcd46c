//! What the old ports say of clouds, to the byte. A table's widths are its format strings.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback. Names are looked up in any case there too.

use std::sync::Arc;

use pileus_sdk::{
    Call, Deps, Fault, Reply, json,
    model::{Cloud, Command, Refusal, View},
    old::{
        Fleet, VmJson, address, pool,
        python::{int, truth},
    },
    serde::Serialize,
};

pub struct Old {
    pub deps: Deps,
}

impl Old {
    /// `GET /`: what `cloud_status -v` prints.
    pub async fn version(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        Reply::text(format!("Cloud Scheduler version: {}", self.deps.about.version))
    }

    /// `GET /cloud`.
    pub async fn pool(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        let mut text = String::from("Resource pool Resources:\n");
        let head = ("NAME", "CLOUD TYPE", "NETWORK ADDRESS", "ENABLED");
        text += &format!("{:<15}  {:<10} {:<30} {:<10} \n", head.0, head.1, head.2, head.3);
        let clouds = active(&view);
        for cloud in &clouds {
            let (driver, enabled) = (&cloud.spec.driver, truth(cloud.enabled()));
            text += &format!("{:<15}  {driver:<10} {:<30} {enabled:<10}\n", cloud.name, address(cloud));
        }
        if clouds.is_empty() {
            text += "Pool is empty...";
        }
        Reply::text(text)
    }

    /// `GET /clusters`.
    pub async fn clusters(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        let mut text = String::from("Clusters in resource pool:\n");
        for fleet in pool(&view).iter().filter(|fleet| !fleet.cloud.retired) {
            block(&mut text, fleet);
            text.push('\n');
        }
        Reply::text(text)
    }

    /// `GET /clusters.json`.
    pub async fn clusters_json(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        let fleets = pool(&view);
        let active = fleets.iter().filter(|fleet| !fleet.cloud.retired);
        Reply::python_json(&Pool { resources: active.map(ClusterJson::new).collect() })
    }

    /// `GET /clusters/{cloud}`.
    pub async fn cluster(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, name) = (self.deps.engine.view(), call.param("cloud"));
        let mut text = format!("Cluster Info: {name}\n");
        match Fleet::active(&view, &name) {
            Some(fleet) => block(&mut text, &fleet),
            None => text += &format!("Cluster named {name} not found."),
        }
        Reply::text(text)
    }

    /// `GET /clusters/{cloud}.json`. An unknown one is `{}`.
    pub async fn cluster_json(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        match Fleet::active(&view, &call.param("cloud")) {
            Some(fleet) => Reply::python_json(&ClusterJson::new(&fleet)),
            None => Reply::python_json(&json!({})),
        }
    }

    /// `GET /thread-heart-beats`.
    pub async fn heart_beats(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let now = self.deps.clock.now();
        let mut text = String::from("Thread Heart beat times:\n");
        for beat in self.deps.engine.beats() {
            let ago_s = now.since(beat.last).as_secs();
            text += &format!("   {} Thread({}): {ago_s}\n", beat.name, beat.interval_s);
        }
        Reply::text(text)
    }

    /// `PUT /clouds/{cloud}` with `action=enable|disable` or `allocations=N`; `action` goes first.
    pub async fn set(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (name, params) = (call.param("cloud"), call.query_or_form());
        match (params.get("action"), params.get("allocations")) {
            (Some("enable"), _) => self.enable(&call, &name, true).await,
            (Some("disable"), _) => self.enable(&call, &name, false).await,
            (None, Some(slots)) => self.allocate(&call, &name, slots).await,
            _ => Err(Fault::NoRoute),
        }
    }

    async fn enable(&self, call: &Call, name: &str, enabled: bool) -> Result<Reply, Fault> {
        let command = |cloud: &Cloud| Command::EnableCloud { cloud: cloud.name.clone(), enabled };
        let word = if enabled { "enabled" } else { "disabled" };
        Reply::text(match self.submit(call, name, command).await? {
            true => format!("Cloud: {name} {word}."),
            false => format!("Could not find cloud {name}."),
        })
    }

    async fn allocate(&self, call: &Call, name: &str, slots: &str) -> Result<Reply, Fault> {
        let Some(slots) = int(slots) else {
            return Reply::text("Need to use an integer value for vm_allocation");
        };
        let view = self.deps.engine.view();
        if view.cloud(name).is_some_and(|cloud| !cloud.retired && i64::from(cloud.vm_slots()) == slots) {
            return Reply::text(format!("VM slots already set at {slots}. Nothing to do."));
        }
        // Fewer than none drains everything, as none does.
        let vm_slots = u32::try_from(slots.max(0)).unwrap_or(u32::MAX);
        let command = |cloud: &Cloud| Command::SetSlots { cloud: cloud.name.clone(), vm_slots };
        Reply::text(match self.submit(call, name, command).await? {
            true => format!("Attempt adjustment on cloud {name}, change to {slots} slots"),
            false => format!("Unable to find cluster with name: {name}"),
        })
    }

    /// `false`: there is no such cloud.
    async fn submit(
        &self,
        call: &Call,
        name: &str,
        command: impl FnOnce(&Cloud) -> Command,
    ) -> Result<bool, Fault> {
        let view = self.deps.engine.view();
        let Some(cloud) = view.cloud(name).filter(|cloud| !cloud.retired) else { return Ok(false) };
        match self.deps.engine.submit(command(cloud), call.actor()).await {
            Ok(_) => Ok(true),
            Err(Refusal::NotFound { .. }) => Ok(false),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

fn active(view: &View) -> Vec<&Arc<Cloud>> {
    view.clouds_in_order().into_iter().filter(|cloud| !cloud.retired).collect()
}

/// Three lines on one cloud. Memory (MiB) and storage (GiB) are what is left.
fn block(text: &mut String, fleet: &Fleet<'_>) {
    let Fleet { cloud, listed, .. } = fleet;
    *text += &format!("Cluster: {} \n", cloud.name);
    let [a, t, v, m, s, p, e] =
        ["ADDRESS", "CLOUD TYPE", "VMS/MAX", "MEMORY", "STORAGE", "PRIORITY", "ENABLED"];
    *text += &format!("{a:<25}  {t:^15}  {v:^15}  {m:^12} {s:^15} {p:^12} {e:^12}\n");
    let (driver, free) = (&cloud.spec.driver, cloud.free());
    let (vms, slots, priority) = (listed.len(), cloud.vm_slots(), cloud.spec.priority);
    let (memory, storage, enabled) = (free.memory_mib, free.storage_gib, truth(cloud.enabled()));
    *text += &format!(
        "{:^25.24}  {driver:^15}  {vms:>5} / {slots:<8}  {memory:^12} {storage:^15} {priority:^12} {enabled:^12}\n",
        address(cloud)
    );
}

#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct Pool<'a> {
    resources: Vec<ClusterJson<'a>>,
}

/// The old JSON of a cloud: 18 keys; memory in MB, storage in GB, -1 for "no limit".
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
#[allow(non_snake_case)] // The names are the contract.
struct ClusterJson<'a> {
    name: &'a str,
    network_address: &'a str,
    cloud_type: &'a str,
    memory: u64,
    max_mem: u64,
    max_vm_mem: i64,
    vm_slots: u32,
    max_slots: u32,
    cpu_cores: u32,
    storageGB: u64,
    max_storageGB: u64,
    network_pools: [&'a str; 0],
    enabled: bool,
    connection_problem: bool,
    boot_timeout: i64,
    connection_fail_disable_time: u32,
    errorconnect: Option<f64>,
    vms: Vec<VmJson<'a>>,
}

impl<'a> ClusterJson<'a> {
    fn new(fleet: &Fleet<'a>) -> Self {
        let (cloud, free) = (fleet.cloud, fleet.cloud.free());
        let timeout_s = cloud.spec.boot_timeout_s.map_or(-1, |s| i64::try_from(s).unwrap_or(i64::MAX));
        Self {
            name: &cloud.name,
            network_address: address(cloud),
            cloud_type: &cloud.spec.driver,
            memory: free.memory_mib,
            max_mem: cloud.spec.memory_mib,
            max_vm_mem: cloud.spec.max_vm_memory_mib.map_or(-1, |mib| i64::try_from(mib).unwrap_or(i64::MAX)),
            vm_slots: free.vm_slots,
            max_slots: cloud.vm_slots(),
            cpu_cores: cloud.spec.cpu_cores,
            storageGB: free.storage_gib,
            max_storageGB: cloud.spec.storage_gib,
            network_pools: [],
            enabled: cloud.enabled(),
            connection_problem: false,
            boot_timeout: timeout_s,
            connection_fail_disable_time: 7200,
            errorconnect: None,
            vms: fleet.listed.iter().map(|vm| VmJson::new(vm, cloud)).collect(),
        }
    }
}

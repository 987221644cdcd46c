//! What the info port says of VMs, to the byte. A table's widths are its format strings.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback. Clouds are looked up in any case; a state
//! that it did not know is counted after those that it did, where it failed.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use pileus_sdk::{
    Call, Fault, Reply, json,
    model::{Engine, View, Vm},
    old::{Fleet, VmJson, pool},
};

pub struct OldInfo {
    pub engine: Arc<dyn Engine>,
}

impl OldInfo {
    /// `GET /vms?metric=`: without one the table of all VMs.
    pub async fn vms(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        Reply::text(metric(&*self.engine, &self.engine.view(), call.query().get("metric"))?)
    }

    /// `GET /vms/resources`: the table.
    pub async fn table(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        Reply::text(metric(&*self.engine, &self.engine.view(), None)?)
    }

    /// `GET /clusters/{cloud}/vms?metric=`: `total` and `all` are of the cloud; what else is asked is
    /// of all clouds, the table too.
    pub async fn cluster_vms(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, name, query) = (self.engine.view(), call.param("cloud"), call.query());
        let fleet = Fleet::active(&view, &name);
        Reply::text(match (query.get("metric"), &fleet) {
            (Some("total"), Some(fleet)) => fleet.listed.len().to_string(),
            (Some("total"), None) => format!("Cluster named {name} not found."),
            (Some("all"), Some(fleet)) => counts(&fleet.listed),
            (Some("all"), None) => {
                format!("Could not find cloud: {name} - check cloud_status for list of available clouds")
            }
            (other, _) => metric(&*self.engine, &view, other)?,
        })
    }

    /// `GET /clusters/{cloud}/vms/{vm}`.
    pub async fn vm(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, name, id) = (self.engine.view(), call.param("cloud"), call.param("vm"));
        let mut text = format!("VM Info for VM id: {id}\n");
        let fleet = Fleet::active(&view, &name);
        if fleet.is_none() {
            text += &format!("Cluster {name} not found.\n");
        }
        match fleet.and_then(|fleet| fleet.vm(&id)) {
            Some(vm) => text += &format!("{}\n", row(vm)),
            None => text += &format!("VM with id: {id} not found.\n"),
        }
        Reply::text(text)
    }

    /// `GET /clusters/{cloud}/vms/{vm}.json`. What is unknown is `{}`.
    pub async fn vm_json(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let view = self.engine.view();
        let fleet = Fleet::active(&view, &call.param("cloud"));
        match fleet.and_then(|fleet| Some((fleet.vm(&call.param("vm"))?, fleet.cloud))) {
            Some((vm, cloud)) => Reply::python_json(&VmJson::new(vm, cloud)),
            None => Reply::python_json(&json!({})),
        }
    }

    /// `GET /ips`: a munin node for each VM that is not at a private address.
    pub async fn ips(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.engine.view();
        let fleets = pool(&view);
        let vms = fleets.iter().flat_map(|fleet| &fleet.listed);
        let public = vms.filter(|vm| !vm.address.parse().is_ok_and(|ip: Ipv4Addr| ip.is_private()));
        Reply::text(
            public.map(|vm| format!("[{}]\n\taddress {}\n", vm.hostname, vm.address)).collect::<String>(),
        )
    }
}

fn metric(engine: &dyn Engine, view: &View, metric: Option<&str>) -> Result<String, Fault> {
    let fleets = pool(view);
    let listed = || fleets.iter().flat_map(|fleet| fleet.listed.iter().copied());
    let mut text = String::new();
    match metric {
        None => return Ok(table(&fleets)),
        Some("total") => text = listed().count().to_string(),
        Some("all") => text = counts(&listed().collect::<Vec<_>>()),
        // A machine without a VM is not let run on: these are what the drivers found last.
        Some("missing") => {
            text += "List of Condor Entries with no match in Cloud Scheduler(host:startd):\n";
            let strays = engine.strays().into_iter();
            text.extend(strays.map(|stray| format!("{} : {}\n", stray.machine, stray.driver)));
        }
        Some("startup_time") => {
            for fleet in fleets.iter().filter(|fleet| !fleet.cloud.retired) {
                text += &format!("Cluster: {} ", fleet.cloud.name);
                let times_s: Vec<_> = fleet.listed.iter().map(|vm| vm.startup_s().unwrap_or(0)).collect();
                text.extend(times_s.iter().map(|time_s| format!("{time_s}, ")));
                if let Some(mean_s) = mean(&times_s) {
                    text += &format!(" Avg: {mean_s} ");
                }
            }
        }
        Some("job_run_times") => {
            text += "Run Times of Jobs on VMs\n";
            for vm in listed() {
                let mean_s = mean(&vm.job_runs_s).unwrap_or(0);
                text += &format!("{} : avg {mean_s}.000000\n", vm.hostname);
            }
        }
        Some(_) => return Err(Fault::NoRoute),
    }
    Ok(text)
}

/// The integer mean; `None` of nothing.
fn mean(values: &[u64]) -> Option<u64> {
    values.iter().sum::<u64>().checked_div(values.len() as u64)
}

fn table(fleets: &[Fleet<'_>]) -> String {
    let [i, h, t, u, s, c] = ["ID", "HOSTNAME", "VMTYPE", "USER", "STATUS", "CLUSTER"];
    let mut text = format!("{i:<6} {h:<25} {t:<20} {u:<10} {s:<12} {c:<23}\n");
    let rows =
        |vms: &[&Arc<Vm>]| vms.iter().map(|vm| format!("{} {:<15}\n", row(vm), vm.cloud)).collect::<String>();
    text.extend(fleets.iter().map(|fleet| rows(&fleet.listed)));
    let vms: usize = fleets.iter().map(|fleet| fleet.listed.len()).sum();
    let clouds = fleets.iter().filter(|fleet| !fleet.cloud.retired).count();
    text += &format!("\nTotal VMs: {vms}. Total Clouds: {clouds}");
    if fleets.iter().any(Fleet::drains) {
        text += "\n\nRetiring VMs from removing resources:\n";
        text.extend(fleets.iter().map(|fleet| rows(&fleet.draining)));
    }
    text
}

/// A row without its last column, the cloud.
fn row(vm: &Vm) -> String {
    let host = if vm.hostname.is_empty() { &vm.address } else { &vm.hostname };
    format!("{:<6} {host:<25} {:<20} {:<10} {:<12}", vm.id, vm.vm_type, vm.user, vm.shown_state())
}

/// `1 Running,1 Error,`: the shown states, in the order in which Cloud Scheduler gave them.
fn counts(vms: &[&Arc<Vm>]) -> String {
    const ORDER: [&str; 7] =
        ["ConnectionRefused", "NoProxy", "Retiring", "ExpiredProxy", "Running", "Error", "Starting"];
    let mut counts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for vm in vms {
        let state = vm.shown_state();
        let place = ORDER.iter().position(|word| *word == state).unwrap_or(ORDER.len());
        *counts.entry((place, state)).or_default() += 1;
    }
    counts.iter().map(|((_, state), count)| format!("{count} {state},")).collect()
}

//! A VM as `/clusters.json` and its neighbours show it: 42 keys.

use pileus_model::{Cloud, Vm};
use serde::Serialize;

/// The old JSON of a VM. Times are Unix seconds, memory is MB, storage GB, as the old wire says; what
/// Pileus has none of (flavors, Condor's addresses) has the old default.
#[derive(Debug, Serialize)]
#[allow(missing_docs)] // The names are the contract, not ours.
pub struct VmJson<'a> {
    pub name: &'a str,
    pub id: &'a str,
    pub vmtype: &'a str,
    pub user: &'a str,
    pub uservmtype: String,
    pub hostname: &'a str,
    pub alt_hostname: Option<&'a str>,
    pub ipaddress: &'a str,
    pub ssh_port: u16,
    pub clusteraddr: &'a str,
    pub clusterport: &'a str,
    pub cloudtype: &'a str,
    pub network: Option<&'a str>,
    pub image: &'a str,
    pub flavor: &'a str,
    pub memory: u64,
    pub cpucores: u32,
    pub storage: u64,
    pub status: &'a str,
    pub override_status: Option<&'a str>,
    pub condoraddr: Option<&'a str>,
    pub condorname: Option<&'a str>,
    pub condormasteraddr: Option<&'a str>,
    pub keep_alive: u64,
    pub errorcount: u32,
    pub errorconnect: Option<f64>,
    pub lastpoll: Option<i64>,
    pub last_state_change: Option<i64>,
    pub startup_time: Option<u64>,
    pub idle_start: Option<i64>,
    pub initialize_time: i64,
    pub spot_id: &'a str,
    pub proxy_file: Option<&'a str>,
    pub myproxy_creds_name: Option<&'a str>,
    pub myproxy_server: Option<&'a str>,
    pub myproxy_server_port: Option<&'a str>,
    pub myproxy_renew_time: &'a str,
    pub job_per_core: bool,
    pub force_retire: bool,
    pub failed_retire: bool,
    pub x509userproxy_expiry_time: &'a str,
    pub job_run_times: &'a [u64],
}

impl<'a> VmJson<'a> {
    /// The JSON of a VM of this cloud.
    pub fn new(vm: &'a Vm, cloud: &'a Cloud) -> Self {
        Self {
            name: &vm.id,
            id: &vm.id,
            vmtype: &vm.vm_type,
            user: &vm.user,
            uservmtype: format!("{}:{}", vm.user, vm.vm_type),
            hostname: &vm.hostname,
            alt_hostname: None,
            ipaddress: &vm.address,
            ssh_port: 22,
            clusteraddr: super::address(cloud),
            clusterport: "",
            cloudtype: &cloud.spec.driver,
            network: Some(""),
            image: vm.image.as_deref().unwrap_or_default(),
            flavor: "",
            memory: vm.memory_mib,
            cpucores: vm.cpu_cores,
            storage: vm.storage_gib,
            status: vm.state.as_str(),
            override_status: vm.override_state.map(|state| state.as_str()),
            condoraddr: None,
            // The name under which the machine called home; scripts take null for "not registered".
            condorname: vm.registered.map(|_| vm.hostname.as_str()),
            condormasteraddr: None,
            keep_alive: vm.keep_alive_s,
            errorcount: vm.error_count,
            errorconnect: None,
            lastpoll: None,
            last_state_change: Some(vm.changed.secs()),
            startup_time: vm.startup_s(),
            idle_start: vm.idle_since.map(|time| time.secs()),
            initialize_time: vm.created.secs(),
            spot_id: "",
            proxy_file: None,
            myproxy_creds_name: None,
            myproxy_server: None,
            myproxy_server_port: None,
            myproxy_renew_time: "12",
            job_per_core: false,
            force_retire: vm.force_retire,
            failed_retire: false,
            x509userproxy_expiry_time: "None",
            job_run_times: &vm.job_runs_s,
        }
    }
}

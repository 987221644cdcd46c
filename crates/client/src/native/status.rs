//! `cloud_status` in `/v2`.

use std::collections::BTreeMap;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Api, Shown, Trouble, queues, read,
    render::{Column, clean, fields, grid, table},
};
use crate::{http::Call, options::Id, parse::Given, program::CLOUD_STATUS, teach};

#[rustfmt::skip]
const POOL: &[Column] = &[
    ("NAME", "name"), ("DRIVER", "spec.driver"), ("ENABLED", "enabled"), ("VMS", "used.vm_slots"),
    ("SLOTS", "vm_slots"),
];

#[rustfmt::skip]
const CLOUDS: &[Column] = &[
    ("NAME", "name"), ("DRIVER", "spec.driver"), ("ENABLED", "enabled"), ("VMS", "used.vm_slots"),
    ("SLOTS", "vm_slots"), ("FREE_MIB", "free.memory_mib"), ("FREE_GIB", "free.storage_gib"),
    ("PRIORITY", "spec.priority"),
];

#[rustfmt::skip]
const SETTINGS: &[Column] = &[
    ("NAME", "name"), ("FROM", "origin"), ("DRIVER", "spec.driver"), ("ENABLED", "spec.enabled"),
    ("SLOTS", "spec.vm_slots"), ("CORES", "spec.cpu_cores"), ("MIB", "spec.memory_mib"),
    ("GIB", "spec.storage_gib"), ("PRIORITY", "spec.priority"), ("KEEP_ALIVE_S", "spec.keep_alive_s"),
    ("BOOT_TIMEOUT_S", "spec.boot_timeout_s"),
];

#[rustfmt::skip]
const VMS: &[Column] = &[
    ("ID", "id"), ("HOSTNAME", "hostname"), ("TYPE", "vm_type"), ("USER", "user"), ("STATE", "state"),
    ("CLOUD", "cloud"), ("JOB", "job"),
];

const WAITING: &[Column] = &[("ID", "id"), ("USER", "user"), ("REASON", "reason")];

/// Options of the old ports that `/v2` has nothing for.
const NOT_OFFERED: &[(Id, &str)] = &[
    (Id::Developer, "-d"),
    (Id::DiffTypes, "-t"),
    (Id::Missing, "-r"),
    (Id::HeartBeats, "-x"),
    (Id::ImageFailures, "-w"),
];

/// Shows the one thing that was asked for, by the old order.
pub async fn show(api: &Api<'_>, given: &Given) -> Result<Shown, Trouble> {
    let cloud = given.text(Id::Cloud);
    let offered = |id| NOT_OFFERED.iter().find(|(not, _)| *not == id && given.is(id));
    let refuse = |id| offered(id).map_or(Ok(()), |(_, option)| Err(Trouble::NotOffered(option)));
    if given.is(Id::All) {
        return clouds(api, CLOUDS).await;
    }
    if given.is(Id::Vms) {
        let vms = vms(api, cloud).await?;
        return Ok(listed("vms", VMS, vms));
    }
    if given.is(Id::States) {
        return Ok(states(&vms(api, cloud).await?));
    }
    if let Some(id) = given.text(Id::Vm) {
        let vm = vm(api, cloud, id).await?;
        return Ok(Shown { text: fields(&vm), json: json!({ "vm": vm }), refused: false });
    }
    if let (Some(name), false) = (cloud, given.is(Id::Total)) {
        let cloud = api.member(&["clouds", name], "cloud").await?;
        return Ok(Shown { text: fields(&cloud), json: json!({ "cloud": cloud }), refused: false });
    }
    refuse(Id::Developer)?;
    if let Some(word) = given.text(Id::Queue) {
        return queues::show(api, word).await;
    }
    if given.is(Id::Addresses) {
        let mut vms = vms(api, None).await?;
        vms.retain(|vm| vm["address"].as_str().is_some_and(|address| !address.is_empty()));
        return Ok(listed("vms", &[("HOSTNAME", "hostname"), ("ADDRESS", "address")], vms));
    }
    if given.is(Id::BootTime) {
        return Ok(times("boot_s", &vms(api, None).await?, boot_s));
    }
    refuse(Id::DiffTypes)?;
    if given.is(Id::JobTimes) {
        return Ok(times("avg_job_s", &vms(api, None).await?, avg_job_s));
    }
    if given.is(Id::CloudConf) {
        return clouds(api, SETTINGS).await;
    }
    if given.is(Id::Total) {
        let total = vms(api, cloud).await?.len();
        return Ok(Shown { text: total.to_string(), json: json!({ "total": total }), refused: false });
    }
    refuse(Id::Missing)?;
    refuse(Id::HeartBeats)?;
    if given.is(Id::BootFailures) {
        let mut jobs = api.list(&["jobs", "detail"], "jobs", &[("state", "new")]).await?;
        jobs.retain(|job| job["reason"].is_string());
        return Ok(listed("jobs", WAITING, jobs));
    }
    refuse(Id::ImageFailures)?;
    if given.is(Id::Version) {
        return version(api).await;
    }
    clouds(api, POOL).await
}

fn listed(key: &str, columns: &[Column], members: Vec<Value>) -> Shown {
    Shown { text: table(columns, &members), json: json!({ key: members }), refused: false }
}

async fn clouds(api: &Api<'_>, columns: &[Column]) -> Result<Shown, Trouble> {
    Ok(listed("clouds", columns, api.list(&["clouds", "detail"], "clouds", &[]).await?))
}

/// VMs in full, of one cloud where it is named.
pub async fn vms(api: &Api<'_>, cloud: Option<&str>) -> Result<Vec<Value>, Trouble> {
    // By whatever case it was named; 404 where there is none.
    let cloud = match cloud {
        Some(name) => Some(api.member(&["clouds", name], "cloud").await?["name"].take()),
        None => None,
    };
    let mut vms = api.list(&["vms", "detail"], "vms", &[]).await?;
    vms.retain(|vm| cloud.as_ref().is_none_or(|cloud| vm["cloud"] == *cloud));
    Ok(vms)
}

/// One VM, which has to be on the cloud, where one is named.
pub async fn vm(api: &Api<'_>, cloud: Option<&str>, id: &str) -> Result<Value, Trouble> {
    let vm = api.member(&["vms", id], "vm").await?;
    match (cloud, vm["cloud"].as_str()) {
        (Some(named), Some(is)) if !named.eq_ignore_ascii_case(is) => {
            let message = format!("VM {id} is on {is}, not on {named}.");
            let (name, request_id, fault) = ("itemNotFound".into(), None, None);
            Err(Trouble::Refused { status: 404, name, message, request_id, fault })
        }
        _ => Ok(vm),
    }
}

fn states(vms: &[Value]) -> Shown {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for vm in vms {
        *counts.entry(vm["state"].as_str().unwrap_or("-")).or_default() += 1;
    }
    let rows = counts.iter().map(|(state, count)| vec![clean(state), count.to_string()]);
    let text = grid(&["STATE", "VMS"], rows, |column| column == 1);
    Shown { text, json: json!({ "states": counts }), refused: false }
}

/// A number for each VM, and their mean.
fn times(key: &str, vms: &[Value], of: fn(&Value) -> Option<u64>) -> Shown {
    let timed: Vec<Value> = vms
        .iter()
        .map(|vm| json!({ "id": vm["id"], "hostname": vm["hostname"], "cloud": vm["cloud"], key: of(vm) }))
        .collect();
    let known: Vec<u64> = vms.iter().filter_map(of).collect();
    let mean = known.iter().sum::<u64>().checked_div(known.len() as u64);
    let title = if key == "boot_s" { ("BOOT_S", "boot_s") } else { ("AVG_JOB_S", "avg_job_s") };
    let mut text = table(&[("ID", "id"), ("HOSTNAME", "hostname"), ("CLOUD", "cloud"), title], &timed);
    if let Some(mean) = mean {
        text.push_str(&format!("\n\nMean: {mean} s"));
    }
    Shown { text, json: json!({ "vms": timed, "mean_s": mean }), refused: false }
}

/// From the moment it was asked for until it was running; none yet: nothing.
fn boot_s(vm: &Value) -> Option<u64> {
    let at = |field: &str| vm[field].as_str()?.parse::<Timestamp>().ok();
    let (created, running) = (at("created")?, at("running")?);
    u64::try_from(running.duration_since(created).as_secs()).ok()
}

fn avg_job_s(vm: &Value) -> Option<u64> {
    let runs: Vec<u64> = vm["job_runs_s"].as_array()?.iter().filter_map(Value::as_u64).collect();
    runs.iter().sum::<u64>().checked_div(runs.len() as u64)
}

/// Which versions the server speaks, and this program's.
async fn version(api: &Api<'_>) -> Result<Shown, Trouble> {
    let call = Call { method: Method::GET, target: "/".into(), body: None };
    let document = read(api.server.send(&call).await?)?;
    let Some(versions) = document["versions"].as_array() else {
        return Err(Trouble::Garbled("it has no list `versions`".into()));
    };
    let ours = teach::version(&CLOUD_STATUS);
    let text = format!("{}\n\n{ours}", table(&[("API", "id"), ("STATUS", "status")], versions));
    let json = json!({ "versions": versions, "cloud_status": ours });
    Ok(Shown { text, json, refused: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_not_known() {
        let cases = [
            (json!({"created": "2026-01-01T00:00:00Z", "running": "2026-01-01T00:01:30.5Z"}), Some(90)),
            (json!({"created": "2026-01-01T00:00:00Z", "running": null}), None),
            (json!({"created": "2026-01-01T00:00:09Z", "running": "2026-01-01T00:00:00Z"}), None),
        ];
        for (vm, expected) in cases {
            assert_eq!(boot_s(&vm), expected, "{vm}");
        }
        let average = |runs: Value| avg_job_s(&json!({ "job_runs_s": runs }));
        assert_eq!((average(json!([10, 20, 31])), average(json!([]))), (Some(20), None));
    }
}

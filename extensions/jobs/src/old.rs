//! What the info port says of jobs, to the byte.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback. Job ids of any characters are found, where
//! there no real one was; jobs that are held or complete are listed, where there they were forgotten.

use std::sync::Arc;

use pileus_sdk::{
    Call, Deps, Fault, Reply,
    model::{Job, JobState, Time, View},
    old::python::dumps,
    serde::Serialize,
};

pub struct Old {
    pub deps: Deps,
}

impl Old {
    /// `GET /jobs?state=`. An unknown state is an empty body.
    pub async fn table(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, query) = (self.deps.engine.view(), call.query());
        let picks: fn(&Job) -> bool = match query.get("state").ok_or(Fault::NoRoute)? {
            "new" => |job| job.state == JobState::New,
            "sched" => scheduled,
            "high" => |job| job.high_priority,
            "idle" => |job| job.state.condor() == 1,
            "running" => |job| job.state.condor() == 2,
            "complete" => |job| job.state.condor() == 4,
            "held" => |job| job.state.condor() == 5,
            _ => return Reply::text(""),
        };
        Reply::text(table(view.jobs.values().filter(|job| picks(job)), self.deps.clock.now()))
    }

    /// `GET /jobs/{job}`.
    pub async fn job(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        match view.jobs.get(&*call.param("job")) {
            Some(job) => Reply::text(table([job], self.deps.clock.now())),
            None => Reply::text("Job not found."),
        }
    }

    /// `GET /jobs/{job}.json`. An unknown one is `null`.
    pub async fn job_json(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        let now = self.deps.clock.now();
        Reply::python_json(&view.jobs.get(&*call.param("job")).map(|job| JobJson::new(job, &view, now)))
    }

    /// `GET /job-pool.json`: every job is a text that holds JSON.
    pub async fn job_pool(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
        let view = self.deps.engine.view();
        let now = self.deps.clock.now();
        let texts = |picks: fn(&Job) -> bool| {
            let jobs = view.jobs.values().filter(|job| picks(job));
            let texts = jobs.map(|job| {
                let bytes = dumps(&JobJson::new(job, &view, now)).map_err(Fault::internal)?;
                String::from_utf8(bytes).map_err(Fault::internal)
            });
            texts.collect::<Result<Vec<_>, _>>()
        };
        let (new_jobs, sched_jobs) = (texts(|job| job.state == JobState::New)?, texts(scheduled)?);
        Reply::python_json(&JobPool { new_jobs, sched_jobs })
    }
}

/// Whether Cloud Scheduler called it Scheduled: it has, or had, a VM.
fn scheduled(job: &Job) -> bool {
    matches!(job.state, JobState::Scheduled | JobState::Running)
}

fn status(job: &Job) -> &'static str {
    if scheduled(job) || job.state == JobState::Complete { "Scheduled" } else { "Unscheduled" }
}

/// The cloud where it runs now; empty: nowhere.
fn running_cloud(job: &Job) -> &str {
    job.cloud.as_deref().filter(|_| job.state == JobState::Running).unwrap_or_default()
}

/// Whether nothing is booted for it now.
fn banned(job: &Job, now: Time) -> bool {
    job.state == JobState::New && job.banned_until.is_some_and(|until| until > now)
}

/// What Cloud Scheduler laid over the status of a job that is banned.
const BANNED: &str = "TempBanned";

fn table<'a>(jobs: impl IntoIterator<Item = &'a Arc<Job>>, now: Time) -> String {
    const WORDS: [&str; 7] = ["New", "Idle", "Running", "Removed", "Complete", "Held", "Error"];
    let [g, u, t, j, s, c] = ["Global ID", "User", "VM Type", "Job Status", "Status", "Cloud"];
    let mut text = format!("{g:<20} {u:<15} {t:<15} {j:<10} {s:<12} {c:<15}\n");
    for job in jobs {
        // The end of an id says more than its beginning.
        let cut = job.id.char_indices().rev().nth(19).map_or(0, |(at, _)| at);
        let (word, cloud) = (WORDS[job.state.condor() as usize], running_cloud(job));
        let status = if banned(job, now) { BANNED } else { status(job) };
        text += &format!(
            "{:<20} {:<15.15} {:<15.15} {word:<10} {status:<12.12} {cloud:<15.15}\n",
            &job.id[cut..],
            job.user,
            job.vm_type
        );
    }
    text
}

#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct JobPool {
    new_jobs: Vec<String>,
    sched_jobs: Vec<String>,
}

/// The old JSON of a job: 49 keys. Times are Unix seconds, memory is MB, storage GB; what Pileus has
/// none of (networks, instance types, prices) has the old default. When a ban began is not kept, only
/// when it ends.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct JobJson<'a> {
    id: &'a str,
    user: &'a str,
    uservmtype: String,
    req_vmtype: &'a str,
    req_network: &'a str,
    req_image: &'a str,
    req_imageloc: &'a str,
    status: &'a str,
    running_cloud: &'a str,
    machine_reserved: &'a str,
    proxy_renew_time: &'a str,
    priority: i64,
    job_status: u8,
    cluster_id: u32,
    proc_id: u32,
    req_memory: u64,
    req_cpucores: u32,
    req_storage: u64,
    keep_alive: u64,
    high_priority: u8,
    usertype_limit: i64,
    servertime: i64,
    jobstarttime: i64,
    maximum_price: f64,
    banned: bool,
    job_per_core: bool,
    proxy_non_boot: bool,
    ban_time: Option<f64>,
    block_time: Option<i64>,
    req_ami: ByCloud<'a>,
    instance_type: ByCloud<'a>,
    target_clouds: &'a [String],
    blocked_clouds: Vec<&'a str>,
    req_security_group: [&'a str; 1],
    remote_host: Option<&'a str>,
    override_status: Option<&'a str>,
    spool_dir: Option<&'a str>,
    myproxy_server: Option<&'a str>,
    myproxy_server_port: Option<&'a str>,
    myproxy_creds_name: Option<&'a str>,
    x509userproxysubject: Option<&'a str>,
    x509userproxy: Option<&'a str>,
    original_x509userproxy: Option<&'a str>,
    vmimage_proxy_file: Option<&'a str>,
    req_image_id: Option<&'a str>,
    location: Option<&'a str>,
    key_name: Option<&'a str>,
    running_vm: Option<&'a str>,
    x509userproxy_expiry_time: Option<&'a str>,
}

/// A value for each cloud; `default` is for any.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct ByCloud<'a> {
    default: &'a str,
}

impl<'a> JobJson<'a> {
    fn new(job: &'a Job, view: &'a View, now: Time) -> Self {
        let vm = job.vm.as_ref().filter(|_| job.state == JobState::Running);
        let blocked = job.blocked_clouds.iter().filter(|blocked| blocked.until > now);
        Self {
            id: &job.id,
            user: &job.user,
            uservmtype: format!("{}:{}", job.user, job.vm_type),
            req_vmtype: &job.vm_type,
            req_network: "",
            req_image: "Default-Image",
            req_imageloc: "",
            status: status(job),
            running_cloud: running_cloud(job),
            machine_reserved: "",
            proxy_renew_time: "12",
            priority: job.priority,
            job_status: job.state.condor(),
            cluster_id: 0,
            proc_id: 0,
            req_memory: job.memory_mib,
            req_cpucores: job.cpu_cores,
            req_storage: job.storage_gib,
            keep_alive: job.keep_alive_s.unwrap_or(0),
            high_priority: u8::from(job.high_priority),
            usertype_limit: job.user_type_limit.map_or(-1, i64::from),
            servertime: 0,
            jobstarttime: job.started.map_or(0, |time| time.secs()),
            maximum_price: 0.0,
            banned: banned(job, now),
            job_per_core: false,
            proxy_non_boot: false,
            ban_time: None,
            block_time: None,
            req_ami: ByCloud { default: job.image.as_deref().unwrap_or_default() },
            instance_type: ByCloud { default: "" },
            target_clouds: &job.target_clouds,
            blocked_clouds: blocked.map(|blocked| &*blocked.cloud).collect(),
            req_security_group: [""],
            remote_host: vm.and_then(|vm| view.vms.get(vm)).map(|vm| vm.hostname.as_str()),
            override_status: banned(job, now).then_some(BANNED),
            spool_dir: None,
            myproxy_server: None,
            myproxy_server_port: None,
            myproxy_creds_name: None,
            x509userproxysubject: None,
            x509userproxy: None,
            original_x509userproxy: None,
            vmimage_proxy_file: None,
            req_image_id: None,
            location: None,
            key_name: None,
            running_vm: None,
            x509userproxy_expiry_time: None,
        }
    }
}

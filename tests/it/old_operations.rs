//! Every operation of Cloud Scheduler's REST API, in every spelling, over real sockets: the shipped
//! pipelines and extensions upon an engine that the test fills by hand, so that every byte is known.
//!
//! The table is that of the reference: 19 operations of the admin port and 29 of the info port, by 40
//! pairs of method and path. Each is asked with its names percent-encoded in three ways, and with its
//! parameters in the query, in an urlencoded and in a multipart form, and in a query that says otherwise
//! than the form. The same must come of all of them: status, `Content-Type`, body, and commands.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use pileus::{Checked, cli::Options, diagnostic::Report, identity, kept::Kept, paste::Listen, serve};
use pileus_sdk::{
    Host,
    model::{
        Beat, BootFailure, BootFault, Command, Holding, ImageRecord, JobState, ManualClock, Name, Override,
        Proxies, Proxy, ProxyUse, Shares, Stray, Time, Token, TypeShare, View, VmState,
    },
    testing::{FakeEngine, put_cloud, put_job, put_vm},
};
use tempfile::TempDir;

use crate::support::{Reply, send};

/// A cloud of any characters, and a VM in it.
const CLOUD: &str = "a/b?c#d.e f%ü";
const VM: &str = "v/1#2.3 ü";
/// A job as Condor names it.
const JOB: &str = "host.example.org#12.0#1460000000";
/// A user of any characters.
const USER: &str = "o/neil?#.é %41";

/// What an administrator shows at the API port.
const SECRET: &str = "pls_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// When the clock stands: an hour after everything was made.
const NOW: Time = Time(1_769_860_800_000);

/// What the file of clouds says.
const FILE: &str = "[clouds.Alpha]\nvm_slots = 10\npriority = -1\n\n[clouds.\"a/b ü\"]\nvm_slots = 0\n";

/// Until when a renewed proxy holds.
const EXPIRES: Time = Time(4_948_973_924_000);

/// A service in this process: everything but the engine and the clock is the real one.
struct World {
    place: TempDir,
    engine: FakeEngine,
    checked: Checked,
    /// What the log was told to tell.
    filters: Arc<Mutex<Vec<String>>>,
    info: SocketAddr,
    admin: SocketAddr,
    api: SocketAddr,
    _runtime: tokio::runtime::Runtime,
    _serving: serve::Serving,
}

impl World {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = place.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut paste = include_str!("../../api-paste.toml").to_owned();
        for port in [":8774\"", ":8111\"", ":8112\""] {
            paste = paste.replace(port, ":0\"");
        }
        let options = Options {
            config: Some(write("pileus.toml", FILE)),
            paste: Some(write("api-paste.toml", &paste)),
            policy: Some(write("policy.json", include_str!("../../policy.json"))),
            state: Some(place.path().join("var")),
            ..Options::default()
        };
        let mut report = Report::default();
        let checked = pileus::check(&options, &mut report);
        assert_eq!(report.errors() + report.warnings(), 0, "{}", report.render(false));
        let checked = checked.expect("a service");
        let filters: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = filters.clone();
        let set = move |filter: tracing_subscriber::EnvFilter| {
            told.lock().unwrap().push(filter.to_string());
            Ok(())
        };
        checked.host.attach_log("info".into(), Box::new(set));
        let (engine, clock) = (FakeEngine::default(), ManualClock::at(NOW));
        fill(&engine);
        engine.react(react);
        let apps = checked
            .build(Arc::new(engine.clone()), Arc::new(clock), &Kept::default())
            .expect("what was checked");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let inside = runtime.enter();
        let servers = checked.plan.servers.iter();
        let bound = servers.map(|server| serve::bind(&server.name, &server.settings).unwrap());
        let bound: Vec<_> = bound.collect();
        let address = |name: &str| match bound.iter().find(|it| it.name == name).unwrap().address {
            Listen::Tcp(address) => address,
            ref other => panic!("{name} listens on {other}"),
        };
        let (info, admin, api) = (address("info"), address("admin"), address("api"));
        let serving = serve::start(bound.into_iter().zip(apps).collect());
        drop(inside);
        Self { place, engine, checked, filters, info, admin, api, _runtime: runtime, _serving: serving }
    }

    /// Everything as it was, and no command.
    fn again(&self) {
        self.engine.edit(|view| {
            let seq = view.seq;
            *view = View { seq, ..picture() };
        });
        self.engine.commands();
    }
}

fn picture() -> View {
    let mut view = View::default();
    put_cloud(&mut view, "alpha", |cloud| cloud.spec.priority = -1);
    put_cloud(&mut view, CLOUD, |_| ());
    put_cloud(&mut view, "gamma", |cloud| cloud.enabled_by_admin = Some(false));
    put_vm(&mut view, "i-001", "alpha", |vm| {
        (vm.hostname, vm.user, vm.job) = ("host1".into(), "alice".into(), Some("j-2".into()));
        (vm.idle_since, vm.job_runs_s) = (None, vec![10, 21]);
    });
    put_vm(&mut view, "i-002", "alpha", |vm| {
        (vm.hostname, vm.state, vm.running, vm.registered) = (String::new(), VmState::Starting, None, None);
    });
    put_vm(&mut view, "i-003", "alpha", |vm| {
        (vm.hostname, vm.override_state) = ("host3".into(), Some(Override::Retiring));
    });
    put_vm(&mut view, VM, CLOUD, |vm| {
        (vm.hostname, vm.user, vm.address) = ("host4".into(), "bob".into(), "110.1.1.1".into());
    });
    let failure = |fault| BootFailure { fault, detail: "no room".into(), cloud: "alpha".into(), at: NOW };
    put_job(&mut view, JOB, |job| {
        (job.user, job.reason) = ("alice".into(), Some("no room".into()));
        job.failures = vec![failure(BootFault::NotRegistered), failure(BootFault::NoCapacity)];
    });
    let record = ImageRecord { boots: vec![true, false], failure: Some(failure(BootFault::NotBooted)) };
    view.images.insert("alpha".into(), Arc::new([("debian-12".into(), record)].into()));
    put_job(&mut view, "j-2", |job| {
        (job.user, job.state, job.started) = ("alice".into(), JobState::Running, Some(Time(NOW.0 - 5000)));
        (job.vm, job.cloud, job.high_priority) = (Some("i-001".into()), Some("alpha".into()), true);
    });
    put_job(&mut view, "j-3", |job| job.state = JobState::Held);
    put_job(&mut view, "j-4", |job| job.state = JobState::Complete);
    view.aliases.insert("West".into(), ["Alpha".to_owned(), "beta-two".to_owned()].as_slice().into());
    view.user_limits.insert("alice".into(), 2);
    view.user_limits.insert("bob".into(), 5);
    let sha256: Name = identity::hash(SECRET).into();
    let token = Token {
        sha256: sha256.clone(),
        name: "t".into(),
        user: "root".into(),
        project: "p1".into(),
        roles: vec!["admin".into()],
        created: Time(0),
        expires: None,
    };
    view.tokens.insert(sha256, Arc::new(token));
    view
}

fn fill(engine: &FakeEngine) {
    engine.edit(|view| *view = picture());
    let beat = |name| Beat { name, interval_s: 5, last: Time(NOW.0 - 19_000), error: None };
    let names = ["Scheduler", "Cleanup", "VMPoller", "JobPoller", "MachinePoller"];
    engine.put_beats(names.map(beat).to_vec());
    engine.put_holdings(names.map(|name| Holding { name, lines: vec!["a fact".into()] }).to_vec());
    let share = |user: &str, billionths| TypeShare {
        project: "p1".into(),
        user: user.into(),
        vm_type: "vmt".into(),
        billionths,
    };
    engine.put_shares(Shares {
        diff: vec![share("alice", 200_000_000), share("bob", -333_333_333)],
        current: vec![share("alice", 1_000_000_000)],
        desired: vec![share("bob", 333_333_333)],
    });
    engine.put_strays(vec![Stray { machine: "slot1@lost".into(), driver: "local".into() }]);
}

/// What the engine would do at once, and the cloud soon after.
fn react(command: &Command, view: &mut View) -> Result<String, pileus_sdk::model::Refusal> {
    match command {
        Command::ShutdownVms { vms, .. } | Command::RemoveVms { vms } => {
            vms.iter().for_each(|vm| drop(view.vms.remove(vm)));
        }
        Command::RenewProxy { user, which } => {
            let mut proxies = Proxies::default();
            let proxy = Proxy { expires: EXPIRES, renewed: NOW, server: "myproxy.example:7512".into() };
            *proxies.get_mut(*which) = Some(proxy);
            view.proxies.insert(user.clone(), Arc::new(proxies));
        }
        _ => (),
    }
    Ok(String::new())
}

/// Where it is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Info,
    Admin,
}

use Port::{Admin, Info};

/// A part of a path: as it stands, or a name, which may be encoded in several ways.
#[derive(Clone, Copy)]
enum Part {
    Word(&'static str),
    Name(&'static str),
}

use Part::{Name as N, Word as W};

/// A method, a path, and parameters.
type Form = (&'static str, Vec<Part>, Vec<(&'static str, &'static str)>);

struct Operation {
    /// Its number in the reference.
    id: &'static str,
    port: Port,
    /// Every method and path that is this operation.
    forms: Vec<Form>,
    content_type: &'static str,
    body: String,
    commands: Vec<Command>,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

fn info(id: &'static str, forms: Vec<Form>, body: impl Into<String>) -> Operation {
    Operation { id, port: Info, forms, content_type: TEXT, body: body.into(), commands: Vec::new() }
}

fn json(id: &'static str, forms: Vec<Form>, body: impl Into<String>) -> Operation {
    Operation { content_type: JSON, ..info(id, forms, body) }
}

fn admin(id: &'static str, forms: Vec<Form>, body: impl Into<String>, commands: Vec<Command>) -> Operation {
    Operation { port: Admin, commands, ..info(id, forms, body) }
}

fn get(path: &[Part], params: &[(&'static str, &'static str)]) -> Form {
    ("GET", path.to_vec(), params.to_vec())
}

/// The page's `DELETE` and `POST` beside the code's `PUT`.
fn put(path: &[Part], params: &[(&'static str, &'static str)]) -> Form {
    ("PUT", path.to_vec(), params.to_vec())
}

fn post(path: &[Part], params: &[(&'static str, &'static str)]) -> Form {
    ("POST", path.to_vec(), params.to_vec())
}

fn delete(path: &[Part]) -> Form {
    ("DELETE", path.to_vec(), Vec::new())
}

fn vms(ids: &[&str]) -> Vec<Name> {
    ids.iter().map(|id| Name::from(*id)).collect()
}

fn admin_operations() -> Vec<Operation> {
    let root: &[Part] = &[W("/")];
    let (cloud, all) = ([W("/clouds/"), N(CLOUD)], [W("/clouds/"), N("alpha"), W("/vms")]);
    let one = [W("/clouds/"), N(CLOUD), W("/vms/"), N(VM)];
    let user = [W("/users/"), N(USER)];
    let (aliases, limits) = ([W("/cloud-aliases")], [W("/user-limits")]);
    let name = || Name::from(CLOUD);
    let shutdown = |ids: &[&str]| Command::ShutdownVms { vms: vms(ids), why: "shut down by operator".into() };
    let retire = |ids: &[&str]| Command::RetireVms { vms: vms(ids) };
    let remove = |ids: &[&str]| Command::RemoveVms { vms: vms(ids) };
    let renewed = |which| Command::RenewProxy { user: USER.into(), which };
    let every = ["i-001", "i-002", "i-003"];
    let clouds = pileus_clouds();
    vec![
        admin(
            "A1",
            vec![put(root, &[("log_level", "debug")])],
            "",
            vec![service_action("set_log_level", "DEBUG")],
        ),
        admin(
            "A2",
            vec![post(root, &[("action", "quick_shutdown"), ("value", "on")])],
            "",
            vec![service_action("quick_shutdown", "on")],
        ),
        admin(
            "A2",
            vec![post(root, &[("action", "quick_shutdown"), ("value", "off")])],
            "",
            vec![service_action("quick_shutdown", "off")],
        ),
        admin("A3", vec![post(root, &[("action", "reconfig")])], "", vec![Command::Reconfigure { clouds }]),
        admin(
            "A4",
            vec![put(&cloud, &[("action", "enable")])],
            format!("Cloud: {CLOUD} enabled."),
            vec![Command::EnableCloud { cloud: name(), enabled: true }],
        ),
        admin(
            "A5",
            vec![put(&cloud, &[("action", "disable")])],
            format!("Cloud: {CLOUD} disabled."),
            vec![Command::EnableCloud { cloud: name(), enabled: false }],
        ),
        admin(
            "A6",
            vec![put(&cloud, &[("allocations", "7")])],
            format!("Attempt adjustment on cloud {CLOUD}, change to 7 slots"),
            vec![Command::SetSlots { cloud: name(), vm_slots: 7 }],
        ),
        admin(
            "A7",
            vec![put(&all, &[("action", "shutdown"), ("count", "all")])],
            "VM i-001 has been Destroyed.\nVM i-002 has been Destroyed.\nVM i-003 has been Destroyed.\n",
            vec![shutdown(&every)],
        ),
        admin(
            "A7",
            vec![put(&all, &[("action", "shutdown"), ("count", "2")])],
            "VM i-001 has been Destroyed.\nVM i-002 has been Destroyed.\n",
            vec![shutdown(&every[..2])],
        ),
        admin(
            "A8",
            vec![
                put(&all, &[("action", "force_retire"), ("count", "all")]),
                post(&all, &[("action", "force_retire"), ("count", "all")]),
                post(&all, &[("action", "force_retire")]),
            ],
            "Retired all VMs in alpha.",
            vec![retire(&every)],
        ),
        admin(
            "A8",
            vec![
                put(&all, &[("action", "force_retire"), ("count", "2")]),
                post(&all, &[("action", "force_retire"), ("count", "2")]),
            ],
            "Retired 2 VM(s) in alpha.",
            vec![retire(&every[..2])],
        ),
        admin(
            "A9",
            vec![put(&all, &[("action", "remove"), ("count", "all")]), delete(&all)],
            "Removed all VMs from alpha.",
            vec![remove(&every)],
        ),
        admin("A10", vec![put(&one, &[("action", "shutdown")])], "", vec![shutdown(&[VM])]),
        admin(
            "A11",
            vec![put(&one, &[("action", "force_retire")]), post(&one, &[("action", "force_retire")])],
            format!("Retired VM {VM} on {CLOUD}."),
            vec![retire(&[VM])],
        ),
        admin(
            "A12",
            vec![put(&one, &[("action", "remove")]), delete(&one)],
            format!("Removed {CLOUD}'s VM {VM} from CloudScheduler."),
            vec![remove(&[VM])],
        ),
        admin(
            "A13",
            vec![put(&one, &[("action", "reset_override_state")])],
            format!("Reset state of {CLOUD} on {VM}"),
            vec![Command::ResetVm { vm: VM.into() }],
        ),
        admin("A14", vec![get(&aliases, &[])], "{u'West': [u'Alpha', u'beta-two']}", vec![]),
        admin("A15", vec![post(&aliases, &[])], "True", vec![Command::ReloadAliases]),
        admin("A16", vec![get(&limits, &[])], "{u'alice': 2, u'bob': 5}", vec![]),
        admin("A17", vec![post(&limits, &[])], "True", vec![Command::ReloadUserLimits]),
        admin(
            "A18",
            vec![post(&user, &[("refresh", "job_proxy")])],
            format!("Renewed the job proxy of {USER} until 2126-10-29T18:58:44Z."),
            vec![renewed(ProxyUse::JobProxy)],
        ),
        admin(
            "A19",
            vec![post(&user, &[("refresh", "vm_proxy")])],
            format!("Renewed the VM proxy of {USER} until 2126-10-29T18:58:44Z."),
            vec![renewed(ProxyUse::VmProxy)],
        ),
    ]
}

/// The clouds of the file, understood.
fn pileus_clouds() -> Vec<(String, pileus_sdk::model::CloudSpec)> {
    let spec = |vm_slots, priority| pileus_sdk::model::CloudSpec {
        driver: "local".into(),
        enabled: true,
        vm_slots,
        cpu_cores: 2,
        memory_mib: 1024,
        max_vm_memory_mib: None,
        storage_gib: 10,
        priority,
        keep_alive_s: 60,
        boot_timeout_s: Some(60),
    };
    vec![("Alpha".into(), spec(10, -1)), ("a/b ü".into(), spec(0, 0))]
}

fn info_operations() -> Vec<Operation> {
    let (vms, of_cloud) = ([W("/vms")], [W("/clusters/"), N(CLOUD), W("/vms")]);
    let metric = |path: &[Part], metric| get(path, &[("metric", metric)]);
    let (cloud, cloud_json) = ([W("/clusters/"), N(CLOUD)], [W("/clusters/"), N(CLOUD), W(".json")]);
    let one = [W("/clusters/"), N(CLOUD), W("/vms/"), N(VM)];
    let one_json = [W("/clusters/"), N(CLOUD), W("/vms/"), N(VM), W(".json")];
    let (job, job_json) = ([W("/jobs/"), N(JOB)], [W("/jobs/"), N(JOB), W(".json")]);
    let jobs = |state| get(&[W("/jobs")], &[("state", state)]);
    let plain = |path| vec![get(&[W(path)], &[])];
    let head =
        "Global ID            User            VM Type         Job Status Status       Cloud          \n";
    let waiting =
        "rg#12.0#1460000000   alice           vmt             Idle       Unscheduled                 \n";
    let waiting = &waiting.replace("rg#12.0#1460000000  ", ".org#12.0#1460000000");
    let running =
        "j-2                  alice           vmt             Running    Scheduled    alpha          \n";
    let held =
        "j-3                  ada             vmt             Held       Unscheduled                 \n";
    let complete =
        "j-4                  ada             vmt             Complete   Scheduled                   \n";
    let table = "\
ID     HOSTNAME                  VMTYPE               USER       STATUS       CLUSTER                
i-001  host1                     vmt                  alice      Running      alpha          
i-002  10.0.0.1                  vmt                  ada        Starting     alpha          
i-003  host3                     vmt                  ada        Retiring     alpha          
v/1#2.3 ü host4                     vmt                  bob        Running      a/b?c#d.e f%ü  

Total VMs: 4. Total Clouds: 3";
    let columns = "ADDRESS                      CLOUD TYPE         VMS/MAX         MEMORY        STORAGE       \
                   PRIORITY     ENABLED   \n";
    let block = |name: &str, row: &str| format!("Cluster: {name} \n{columns}{row}\n");
    let alpha = "        localhost               local           3 / 10           16928           470            -1          True    ";
    let strange = "        localhost               local           1 / 10           18976           490            0           True    ";
    let gamma = "        localhost               local           0 / 10           20000           500            0          False    ";
    let missing =
        "List of Condor Entries with no match in Cloud Scheduler(host:startd):\nslot1@lost : local\n";
    let job_text = job_text();
    vec![
        info("I1", plain("/"), concat!("Cloud Scheduler version: ", env!("CARGO_PKG_VERSION"))),
        info(
            "I2",
            plain("/cloud"),
            "\
Resource pool Resources:
NAME             CLOUD TYPE NETWORK ADDRESS                ENABLED    
alpha            local      localhost                      True      
a/b?c#d.e f%ü    local      localhost                      True      
gamma            local      localhost                      False     
",
        ),
        info("I3", plain("/cloud/config"), "Alpha [vm_slots,10][priority,-1]\na/b ü [vm_slots,0]\n"),
        info(
            "I4",
            plain("/clusters"),
            format!(
                "Clusters in resource pool:\n{}\n{}\n{}\n",
                block("alpha", alpha),
                block(CLOUD, strange),
                block("gamma", gamma)
            ),
        ),
        json(
            "I5",
            plain("/clusters.json"),
            format!(
                r#"{{"resources": [{}, {}, {}]}}"#,
                cloud_text("alpha", 16_928, 7, 470, true, &[&alice(), &starting(), &retiring()]),
                cloud_text(CLOUD, 18_976, 9, 490, true, &[&strange_vm()]),
                cloud_text("gamma", 20_000, 10, 500, false, &[]),
            ),
        ),
        info("I6", vec![get(&cloud, &[])], format!("Cluster Info: {CLOUD}\n{}", block(CLOUD, strange))),
        json("I7", vec![get(&cloud_json, &[])], cloud_text(CLOUD, 18_976, 9, 490, true, &[&strange_vm()])),
        info("I8", vec![metric(&of_cloud, "total")], "1"),
        info("I9", vec![metric(&of_cloud, "all")], "1 Running,"),
        info("I10", vec![get(&of_cloud, &[])], table),
        info(
            "I11",
            vec![get(&one, &[])],
            "VM Info for VM id: v/1#2.3 ü\nv/1#2.3 ü host4                     vmt                  bob        Running     \n",
        ),
        json("I12", vec![get(&one_json, &[])], strange_vm()),
        info("I13", vec![jobs("new")], format!("{head}{waiting}")),
        info("I13", vec![jobs("sched")], format!("{head}{running}")),
        info("I13", vec![jobs("high")], format!("{head}{running}")),
        info("I13", vec![jobs("idle")], format!("{head}{waiting}")),
        info("I13", vec![jobs("running")], format!("{head}{running}")),
        info("I13", vec![jobs("complete")], format!("{head}{complete}")),
        info("I13", vec![jobs("held")], format!("{head}{held}")),
        info("I14", vec![get(&job, &[])], format!("{head}{waiting}")),
        json("I15", vec![get(&job_json, &[])], job_text.clone()),
        info("I16", vec![get(&vms, &[]), get(&[W("/vms/resources")], &[])], table),
        info("I17", vec![metric(&vms, "all")], "1 Retiring,2 Running,1 Starting,"),
        info("I18", vec![metric(&vms, "total")], "4"),
        info("I19", vec![metric(&vms, "missing")], missing),
        info(
            "I20",
            vec![metric(&vms, "startup_time")],
            format!("Cluster: alpha 20, 0, 20,  Avg: 13 Cluster: {CLOUD} 20,  Avg: 20 Cluster: gamma "),
        ),
        info(
            "I21",
            vec![metric(&vms, "job_run_times")],
            "Run Times of Jobs on VMs\nhost1 : avg 15.000000\n : avg 0.000000\nhost3 : avg 0.000000\n\
             host4 : avg 0.000000\n",
        ),
        json(
            "I22",
            vec![get(&[W("/job-pool.json")], &[]), get(&[W("/job_pools.json")], &[])],
            format!(
                r#"{{"new_jobs": [{}], "sched_jobs": [{}]}}"#,
                serde_json::json!(job_text),
                serde_json::json!(running_text()),
            ),
        ),
        info(
            "I23",
            vec![get(&[W("/developer-info")], &[]), get(&[W("/developer_info")], &[])],
            "Version: Pileus N.N.N\nProcess: N\nMemory: N KiB resident, N KiB at its peak\n\
             Addresses: N KiB\nThreads: N\nOpen files: N\nTasks: N on N workers, N ready\n\
             State: N clouds, N VMs, N jobs after N events\nLog level: INFO (info)\nQuick shutdown: off\n",
        ),
        info("I24", plain("/ips"), "[host4]\n\taddress 110.1.1.1\n"),
        info(
            "I25",
            plain("/diff-types"),
            "Diff Types dictionary\ntype: alice:vmt, dist: 0.200000\ntype: bob:vmt, dist: -0.333333\n\
             Current Types (vms)\ntype: alice:vmt, dist: 1.000000\n\
             Desired Types (jobs)\ntype: bob:vmt, dist: 0.333333\n",
        ),
        info(
            "I26",
            vec![get(&[W("/failures/boot")], &[]), get(&[W("/failures")], &[("type", "boot")])],
            format!(
                "Job Failure Reasons:\n   Job ID: {JOB}\n      Resource Availability / Quota Problem\n      VM did not register in time\n"
            ),
        ),
        info(
            "I27",
            vec![get(&[W("/failures/image")], &[]), get(&[W("/failures")], &[("type", "image")])],
            "Image Failure List\n   Cloud: alpha\n      Image: debian-12\n",
        ),
        info(
            "I28",
            plain("/shared-objs"),
            "Scheduler Thread:\na fact\n\nCleanup Thread:\na fact\n\nVMPoller Thread:\na fact\n\n\
             JobPoller Thread:\na fact\n\nMachinePoller Thread:\na fact\n\n",
        ),
        info(
            "I29",
            plain("/thread-heart-beats"),
            "Thread Heart beat times:\n   Scheduler Thread(5): 19\n   Cleanup Thread(5): 19\n   \
             VMPoller Thread(5): 19\n   JobPoller Thread(5): 19\n   MachinePoller Thread(5): 19\n",
        ),
    ]
}

/// What a VM's 42 keys say where it differs from another.
struct VmText<'a> {
    id: &'a str,
    user: &'a str,
    hostname: &'a str,
    address: &'a str,
    status: &'a str,
    overridden: &'a str,
    condorname: &'a str,
    startup: &'a str,
    idle_start: &'a str,
    runs: &'a str,
}

impl VmText<'_> {
    fn json(&self) -> String {
        let Self { id, user, hostname, address, status, overridden, condorname, startup, idle_start, runs } =
            self;
        [
            &format!(r#"{{"name": "{id}", "id": "{id}", "vmtype": "vmt", "user": "{user}", "#),
            &format!(r#""uservmtype": "{user}:vmt", "hostname": "{hostname}", "alt_hostname": null, "#),
            &format!(r#""ipaddress": "{address}", "ssh_port": 22, "clusteraddr": "localhost", "#),
            r#""clusterport": "", "cloudtype": "local", "network": "", "image": "", "flavor": "", "#,
            &format!(r#""memory": 1024, "cpucores": 1, "storage": 10, "status": "{status}", "#),
            &format!(r#""override_status": {overridden}, "condoraddr": null, "condorname": {condorname}, "#),
            r#""condormasteraddr": null, "keep_alive": 60, "errorcount": 0, "errorconnect": null, "#,
            r#""lastpoll": null, "last_state_change": 1769857220, "#,
            &format!(r#""startup_time": {startup}, "idle_start": {idle_start}, "#),
            r#""initialize_time": 1769857200, "spot_id": "", "proxy_file": null, "#,
            r#""myproxy_creds_name": null, "myproxy_server": null, "myproxy_server_port": null, "#,
            r#""myproxy_renew_time": "12", "job_per_core": false, "force_retire": false, "#,
            r#""failed_retire": false, "x509userproxy_expiry_time": "None", "#,
            &format!(r#""job_run_times": {runs}}}"#),
        ]
        .concat()
    }
}

fn alice() -> String {
    VmText {
        id: "i-001",
        user: "alice",
        hostname: "host1",
        address: "10.0.0.1",
        status: "Running",
        overridden: "null",
        condorname: "\"host1\"",
        startup: "20",
        idle_start: "null",
        runs: "[10, 21]",
    }
    .json()
}

fn starting() -> String {
    VmText {
        id: "i-002",
        user: "ada",
        hostname: "",
        address: "10.0.0.1",
        status: "Starting",
        overridden: "null",
        condorname: "null",
        startup: "null",
        idle_start: "1769857230",
        runs: "[]",
    }
    .json()
}

fn retiring() -> String {
    VmText {
        id: "i-003",
        user: "ada",
        hostname: "host3",
        address: "10.0.0.1",
        status: "Running",
        overridden: "\"Retiring\"",
        condorname: "\"host3\"",
        startup: "20",
        idle_start: "1769857230",
        runs: "[]",
    }
    .json()
}

fn strange_vm() -> String {
    VmText {
        id: "v/1#2.3 \\u00fc",
        user: "bob",
        hostname: "host4",
        address: "110.1.1.1",
        status: "Running",
        overridden: "null",
        condorname: "\"host4\"",
        startup: "20",
        idle_start: "1769857230",
        runs: "[]",
    }
    .json()
}

/// The 18 keys of a cloud.
fn cloud_text(name: &str, memory: u32, slots: u32, storage: u32, enabled: bool, vms: &[&str]) -> String {
    [
        &format!(r#"{{"name": "{}", "network_address": "localhost", "#, name.replace('ü', "\\u00fc")),
        &format!(r#""cloud_type": "local", "memory": {memory}, "max_mem": 20000, "max_vm_mem": -1, "#),
        &format!(r#""vm_slots": {slots}, "max_slots": 10, "cpu_cores": 4, "storageGB": {storage}, "#),
        &format!(r#""max_storageGB": 500, "network_pools": [], "enabled": {enabled}, "#),
        r#""connection_problem": false, "boot_timeout": -1, "connection_fail_disable_time": 7200, "#,
        &format!(r#""errorconnect": null, "vms": [{}]}}"#, vms.join(", ")),
    ]
    .concat()
}

/// The 49 keys of a job.
fn job_json(id: &str, status: &str, cloud: &str, condor: u8, high: u8, started: u32, host: &str) -> String {
    [
        &format!(r#"{{"id": "{id}", "user": "alice", "uservmtype": "alice:vmt", "req_vmtype": "vmt", "#),
        r#""req_network": "", "req_image": "Default-Image", "req_imageloc": "", "#,
        &format!(r#""status": "{status}", "running_cloud": "{cloud}", "machine_reserved": "", "#),
        &format!(r#""proxy_renew_time": "12", "priority": 0, "job_status": {condor}, "#),
        r#""cluster_id": 0, "proc_id": 0, "req_memory": 512, "req_cpucores": 1, "req_storage": 0, "#,
        &format!(r#""keep_alive": 0, "high_priority": {high}, "usertype_limit": -1, "#),
        &format!(r#""servertime": 0, "jobstarttime": {started}, "maximum_price": 0.0, "#),
        r#""banned": false, "job_per_core": false, "proxy_non_boot": false, "ban_time": null, "#,
        r#""block_time": null, "req_ami": {"default": ""}, "instance_type": {"default": ""}, "#,
        r#""target_clouds": [], "blocked_clouds": [], "req_security_group": [""], "#,
        &format!(r#""remote_host": {host}, "override_status": null, "spool_dir": null, "#),
        r#""myproxy_server": null, "myproxy_server_port": null, "myproxy_creds_name": null, "#,
        r#""x509userproxysubject": null, "x509userproxy": null, "original_x509userproxy": null, "#,
        r#""vmimage_proxy_file": null, "req_image_id": null, "location": null, "key_name": null, "#,
        r#""running_vm": null, "x509userproxy_expiry_time": null}"#,
    ]
    .concat()
}

fn job_text() -> String {
    job_json(JOB, "Unscheduled", "", 1, 0, 0, "null")
}

fn running_text() -> String {
    job_json("j-2", "Scheduled", "alpha", 2, 1, 1_769_860_795, "\"host1\"")
}

/// A name as a client may write it: what has to be encoded, the same in small letters, or every byte.
fn encoded(name: &str, way: usize) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
    let byte = |byte: u8| match way {
        0 | 1 if plain(byte) => char::from(byte).to_string(),
        1 => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

/// Every path of these parts.
fn paths(parts: &[Part]) -> Vec<String> {
    let ways = if parts.iter().any(|part| matches!(part, N(_))) { 3 } else { 1 };
    let text = |part: &Part, way| match part {
        W(word) => (*word).to_owned(),
        N(name) => encoded(name, way),
    };
    (0..ways).map(|way| parts.iter().map(|part| text(part, way)).collect()).collect()
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=\"--8<--\"";

/// Every way to give these parameters: what follows the path, the header, the body.
fn ways(method: &str, params: &[(&str, &str)]) -> Vec<(String, &'static str, String)> {
    let pairs = |value: &dyn Fn(&str) -> String| {
        let pairs = params.iter().map(|(name, text)| format!("{name}={}", value(text)));
        pairs.collect::<Vec<_>>().join("&")
    };
    let parts = |value: &dyn Fn(&str) -> String| {
        let part = |(name, text): &(&str, &str)| {
            let text = value(text);
            format!("----8<--\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        };
        params.iter().map(part).collect::<String>() + "----8<----\r\n"
    };
    let (right, wrong) = (pairs(&str::to_owned), pairs(&|_| "wrong".into()));
    if params.is_empty() {
        return vec![(String::new(), FORM, String::new())];
    }
    let mut ways = vec![
        (format!("?{right}"), FORM, String::new()),
        // Of a parameter that is there twice the last one counts.
        (format!("?{wrong}&{right}"), FORM, String::new()),
        (format!("?{}", pairs(&|text| encoded(text, 2))), FORM, String::new()),
    ];
    if method != "GET" {
        ways.extend([
            (String::new(), FORM, right.clone()),
            (String::new(), FORM, format!("{wrong}&{right}")),
            (String::new(), MULTIPART, parts(&str::to_owned)),
            // The query wins.
            (format!("?{right}"), FORM, wrong),
            (format!("?{right}"), MULTIPART, parts(&|_| "wrong".into())),
        ]);
    }
    ways
}

/// Figures that change with every run are `N`.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if masked.ends_with('N') => (),
            '0'..='9' => masked.push('N'),
            _ => masked.push(c),
        }
    }
    masked
}

impl World {
    /// Asks for it in every way; answers with how many requests that were.
    fn asks(&self, operation: &Operation) -> usize {
        let Operation { id, port, forms, content_type, body, commands } = operation;
        let to = if *port == Info { self.info } else { self.admin };
        let mut requests = 0;
        for (method, parts, params) in forms {
            for path in paths(parts) {
                for (query, header, form) in ways(method, params) {
                    self.again();
                    let host: &dyn Host = &*self.checked.host;
                    let quick = host.quick_shutdown();
                    let reply = send(to, method, &format!("{path}{query}"), &[header], &form);
                    let what = format!("{id}: {method} {path}{query} {form:?}");
                    assert_eq!(reply.status, 200, "{what}: {}", reply.text);
                    assert_eq!(reply.header("content-type"), Some(*content_type), "{what}");
                    let text = if *id == "I23" { masked(&reply.text) } else { reply.text };
                    assert_eq!(text, *body, "{what}");
                    assert_eq!(self.engine.commands(), *commands, "{what}");
                    match *id {
                        "A1" => {
                            let told = self.filters.lock().unwrap().pop();
                            assert_eq!(told.as_deref(), Some("pileus=debug,info"), "{what}");
                            host.set_log_level(pileus_sdk::host::LogLevel::Info).unwrap();
                        }
                        "A2" => {
                            let value = params.iter().find(|(name, _)| *name == "value");
                            let expected = value.map_or(!quick, |(_, value)| *value == "on");
                            assert_eq!(host.quick_shutdown(), expected, "{what}");
                        }
                        _ => (),
                    }
                    requests += 1;
                }
            }
        }
        requests
    }
}

#[test]
fn every_operation_in_every_spelling() {
    let world = World::new();
    let mut operations = info_operations();
    operations.extend(admin_operations());
    let template = |parts: &[Part]| {
        let text = |part: &Part| match part {
            W(word) => *word,
            N(_) => "{}",
        };
        parts.iter().map(text).collect::<String>()
    };
    let pairs: BTreeSet<_> = operations
        .iter()
        .flat_map(|it| it.forms.iter().map(move |(method, parts, _)| (it.port == Info, *method, parts)))
        .map(|(info, method, parts)| (info, method, template(parts)))
        .collect();
    assert_eq!(pairs.len(), 40, "method-and-path forms: {pairs:?}");
    let ids: BTreeSet<_> = operations.iter().map(|it| it.id).collect();
    let of = |letter| ids.iter().filter(|id| id.starts_with(letter)).count();
    assert_eq!((of('A'), of('I')), (19, 29));
    let requests: usize = operations.iter().map(|operation| world.asks(operation)).sum();
    println!("{} operations, {requests} requests, all as expected", ids.len());
}

/// Bodies of refusals, to the byte; and that no refused call changes anything.
#[test]
fn what_is_refused_is_refused_as_ever() {
    let world = World::new();
    let none = "Content-Type: text/plain";
    let (not_found, not_allowed) = ((404, "not found", None), |allow| (405, "None", Some(allow)));
    let broken = (500, "internal server error", None);
    let one = format!("/clouds/{}/vms/{}", encoded(CLOUD, 0), encoded(VM, 0));
    let json = "Content-Type: application/json";
    let cases = [
        // What is missing, or a word that there is not.
        (Admin, "PUT", "/", none, "", not_found),
        (Admin, "POST", "/", none, "", not_found),
        (Admin, "POST", "/?action=nope", none, "", not_found),
        (Admin, "POST", "/?action=quick_shutdown&value=maybe", none, "", not_found),
        (Admin, "PUT", "/clouds/alpha", none, "", not_found),
        (Admin, "PUT", "/clouds/alpha?action=", none, "", not_found),
        (Admin, "PUT", "/clouds/alpha?action=Enable", none, "", not_found),
        (Admin, "PUT", "/clouds/alpha?action=nope&allocations=3", none, "", not_found),
        (Admin, "PUT", "/clouds/alpha/vms?action=shutdown", none, "", not_found),
        (Admin, "PUT", "/clouds/alpha/vms?action=force_retire", none, "", not_found),
        (Admin, "PUT", "/clouds/alpha/vms?action=remove", none, "", not_found),
        (Admin, "PUT", "/clouds/alpha/vms?action=remove&count=2", none, "", not_found),
        (Admin, "PUT", "/clouds/alpha/vms?action=reset_override_state&count=all", none, "", not_found),
        (Admin, "POST", "/clouds/alpha/vms?action=shutdown&count=all", none, "", not_found),
        (Admin, "POST", &one, none, "", not_found),
        (Admin, "PUT", &one, none, "", not_found),
        (Admin, "POST", "/users/ada", none, "", not_found),
        (Admin, "POST", "/users/ada?refresh=proxy", none, "", not_found),
        (Info, "GET", "/jobs", none, "", not_found),
        (Info, "GET", "/failures", none, "", not_found),
        (Info, "GET", "/failures?type=x", none, "", not_found),
        (Info, "GET", "/failures/x", none, "", not_found),
        (Info, "GET", "/vms?metric=", none, "", not_found),
        (Info, "GET", "/vms?metric=Total", none, "", not_found),
        (Info, "GET", "/clusters/alpha/vms?metric=x", none, "", not_found),
        // A body that is no form has no parameters.
        (Admin, "PUT", "/clouds/alpha", json, r#"{"action": "enable"}"#, not_found),
        (Admin, "PUT", "/clouds/alpha", none, "action=enable", not_found),
        (Admin, "PUT", "/clouds/alpha", MULTIPART, "action=enable", not_found),
        // Paths that there are not.
        (Info, "GET", "/nope", none, "", not_found),
        (Info, "GET", "/vms/", none, "", not_found),
        (Info, "GET", "//vms", none, "", not_found),
        (Info, "GET", "/job-poolXjson", none, "", not_found),
        (Info, "GET", "/clusters/a/b", none, "", not_found),
        (Info, "GET", "/clusters/", none, "", not_found),
        (Admin, "GET", "/clouds", none, "", not_found),
        (Admin, "GET", "/users/", none, "", not_found),
        // Methods that they have not.
        (Info, "POST", "/vms", none, "", not_allowed("GET, HEAD")),
        (Info, "DELETE", "/clusters/alpha", none, "", not_allowed("GET, HEAD")),
        (Info, "OPTIONS", "/vms", none, "", not_allowed("GET, HEAD")),
        (Info, "get", "/vms", none, "", not_allowed("GET, HEAD")),
        (Admin, "GET", "/", none, "", not_allowed("POST, PUT")),
        (Admin, "HEAD", "/clouds/alpha", none, "", not_allowed("PUT")),
        (Admin, "PATCH", "/clouds/alpha", none, "", not_allowed("PUT")),
        (Admin, "GET", "/clouds/alpha/vms", none, "", not_allowed("POST, PUT, DELETE")),
        (Admin, "GET", &one, none, "", not_allowed("POST, PUT, DELETE")),
        (Admin, "DELETE", "/cloud-aliases", none, "", not_allowed("GET, HEAD, POST")),
        (Admin, "PUT", "/user-limits", none, "", not_allowed("GET, HEAD, POST")),
        (Admin, "GET", "/users/ada", none, "", not_allowed("POST")),
        // A level that there is not has always been this.
        (Admin, "PUT", "/?log_level=LOUD", none, "", broken),
        (Admin, "PUT", "/", FORM, "log_level=", broken),
    ];
    for (port, method, path, header, body, (status, text, allow)) in cases {
        let to = if port == Info { world.info } else { world.admin };
        let reply = send(to, method, path, &[header], body);
        let what = format!("{method} {path} {body:?}");
        let text = if method == "HEAD" { "" } else { text };
        assert_eq!((reply.status, reply.text.as_str()), (status, text), "{what}");
        assert_eq!(reply.header("content-type"), Some("text/html"), "{what}");
        assert_eq!(reply.header("allow"), allow, "{what}");
        assert_eq!(world.engine.commands(), [], "{what}");
    }
    for path in ["/", "/vms", "/clusters.json", "/jobs/nope.json"] {
        let (head, get) = (send(world.info, "HEAD", path, &[], ""), send(world.info, "GET", path, &[], ""));
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

/// What there is not is a sentence, or an empty thing, and 200.
#[test]
fn what_is_unknown_is_a_sentence() {
    let world = World::new();
    let name = "x/y?#. ü";
    let path = |text: &str| text.replace("{}", &encoded(name, 0));
    let cases = [
        (Admin, "PUT", "/clouds/{}?action=enable", "Could not find cloud {}."),
        (Admin, "PUT", "/clouds/{}?action=disable", "Could not find cloud {}."),
        (Admin, "PUT", "/clouds/{}?allocations=1", "Unable to find cluster with name: {}"),
        (Admin, "PUT", "/clouds/alpha?allocations=x", "Need to use an integer value for vm_allocation"),
        (Admin, "PUT", "/clouds/alpha?allocations=", "Need to use an integer value for vm_allocation"),
        (Admin, "PUT", "/clouds/alpha?allocations=10", "VM slots already set at 10. Nothing to do."),
        (Admin, "PUT", "/clouds/{}/vms?action=shutdown&count=all", "Could not find a Cluster with name: {}."),
        (Admin, "PUT", "/clouds/{}/vms?action=shutdown&count=1", "Could not find cloud named: {}"),
        (
            Admin,
            "PUT",
            "/clouds/alpha/vms?action=shutdown&count=All",
            "Unable to shutdown All VMs, use a number.",
        ),
        (Admin, "PUT", "/clouds/alpha/vms?action=shutdown&count=-1", ""),
        (Admin, "PUT", "/clouds/{}/vms?action=force_retire&count=all", "Cloud not find Cloud {}."),
        (
            Admin,
            "PUT",
            "/clouds/alpha/vms?action=force_retire&count=x",
            "Unable to retire x VMs, use a number",
        ),
        (Admin, "POST", "/clouds/{}/vms?action=force_retire", "Cloud not find Cloud {}."),
        (Admin, "PUT", "/clouds/{}/vms?action=remove&count=all", "Could not find Cloud {}."),
        (Admin, "DELETE", "/clouds/{}/vms", "Could not find Cloud {}."),
        (Admin, "PUT", "/clouds/{}/vms/v?action=shutdown", "Could not find a Cluster with name: {}."),
        (
            Admin,
            "PUT",
            "/clouds/alpha/vms/{}?action=shutdown",
            "Could not find VM with ID: {} on Cluster: alpha.",
        ),
        (Admin, "PUT", "/clouds/{}/vms/v?action=force_retire", "Could not find Cloud {}."),
        (Admin, "PUT", "/clouds/alpha/vms/{}?action=force_retire", ""),
        (Admin, "POST", "/clouds/alpha/vms/{}?action=force_retire", ""),
        (Admin, "PUT", "/clouds/{}/vms/v?action=remove", "Could not find Cloud {}."),
        (Admin, "PUT", "/clouds/alpha/vms/{}?action=remove", "Could not find VM ID: {} on Cloud: alpha"),
        (Admin, "DELETE", "/clouds/alpha/vms/{}", "Could not find VM ID: {} on Cloud: alpha"),
        (Admin, "PUT", "/clouds/{}/vms/v?action=reset_override_state", "Could not find Cloud {}."),
        (Admin, "PUT", "/clouds/alpha/vms/{}?action=reset_override_state", "Could not find VM ID {}."),
        (Info, "GET", "/clusters/{}", "Cluster Info: {}\nCluster named {} not found."),
        (Info, "GET", "/clusters/{}.json", "{}"),
        (Info, "GET", "/clusters/{}/vms?metric=total", "Cluster named {} not found."),
        (
            Info,
            "GET",
            "/clusters/{}/vms?metric=all",
            "Could not find cloud: {} - check cloud_status for list of available clouds",
        ),
        (
            Info,
            "GET",
            "/clusters/{}/vms/v",
            "VM Info for VM id: v\nCluster {} not found.\nVM with id: v not found.\n",
        ),
        (Info, "GET", "/clusters/alpha/vms/{}", "VM Info for VM id: {}\nVM with id: {} not found.\n"),
        (Info, "GET", "/clusters/alpha/vms/{}.json", "{}"),
        (Info, "GET", "/jobs/{}", "Job not found."),
        (Info, "GET", "/jobs/{}.json", "null"),
        (Info, "GET", "/jobs?state=nope", ""),
    ];
    for (port, method, uri, text) in cases {
        let to = if port == Info { world.info } else { world.admin };
        let reply = send(to, method, &path(uri), &[FORM], "");
        let expected = if uri.ends_with(".json") { text.to_owned() } else { text.replace("{}", name) };
        assert_eq!((reply.status, &*reply.text), (200, &*expected), "{method} {uri}");
        let content_type = if uri.ends_with(".json") { JSON } else { TEXT };
        assert_eq!(reply.header("content-type"), Some(content_type), "{method} {uri}");
    }
    assert_eq!(world.engine.commands(), []);
    // Clouds are found in any case, and named as they were asked for.
    let reply = send(world.admin, "PUT", "/clouds/ALPHA?action=enable", &[FORM], "");
    assert_eq!(reply.text, "Cloud: ALPHA enabled.");
    let reply = send(world.admin, "PUT", "/clouds/ALPHA/vms/i-001?action=force_retire", &[FORM], "");
    assert_eq!(reply.text, "Retired VM i-001 on ALPHA.");
    let reply = send(world.info, "GET", "/clusters/ALPHA/vms?metric=total", &[FORM], "");
    assert_eq!(reply.text, "3");
}

/// A file that is broken answers with where, and changes nothing; secrets in it are not shown.
#[test]
fn a_broken_file_is_a_sentence_too() {
    let world = World::new();
    let write = |text: &str| fs::write(world.place.path().join("pileus.toml"), text).unwrap();
    let config = || send(world.info, "GET", "/cloud/config", &[], "");
    let reconfig = || send(world.admin, "POST", "/", &[FORM], "action=reconfig");
    write("[clouds.x]\nhost = \"50%\"\npassword = \"%\"\nusername = \"me\"\nsecret_file = \"/k\"\n");
    assert_eq!(config().text, "x [host,50%][secret_file,/k]\n");
    let reply: Reply = reconfig();
    assert!(reply.status == 200 && reply.text.starts_with("Reconfig failed, nothing was changed: "));
    assert!(reply.text.contains("pileus.toml:2:1"), "{}", reply.text);
    write("[clouds.x\n");
    assert_eq!((config().status, config().text.as_str()), (200, "None"));
    assert!(reconfig().text.contains("pileus.toml:1:"), "{}", reconfig().text);
    assert_eq!(world.engine.commands(), []);
    write("# nothing\n");
    assert_eq!((config().status, config().text.as_str()), (200, ""));
}

fn service_action(action: &str, detail: &str) -> Command {
    Command::RecordServiceAction { action: action.into(), detail: detail.into() }
}

/// The same operations natively: real status codes, JSON, and the same commands.
#[test]
fn every_operation_natively() {
    let world = World::new();
    let (cloud, vm, job, user) = (encoded(CLOUD, 0), encoded(VM, 0), encoded(JOB, 0), encoded(USER, 0));
    let path = |text: &str| {
        let text = text.replace("{cloud}", &cloud).replace("{vm}", &vm);
        text.replace("{job}", &job).replace("{user}", &user)
    };
    let ids = ["i-001", "i-002", "i-003"];
    let shutdown = |ids: &[&str]| Command::ShutdownVms { vms: vms(ids), why: "shut down by root".into() };
    let retire = |ids: &[&str]| Command::RetireVms { vms: vms(ids) };
    let remove = |ids: &[&str]| Command::RemoveVms { vms: vms(ids) };
    let renewed = |which| Command::RenewProxy { user: USER.into(), which };
    let enable = |enabled| Command::EnableCloud { cloud: CLOUD.into(), enabled };
    let results = |n: usize| {
        let one = |id: &&str| serde_json::json!({ "id": id, "status": 202, "message": "accepted" });
        serde_json::json!(ids[..n].iter().map(one).collect::<Vec<_>>()).to_string()
    };
    // Number, path below the project, body (none: GET), status, a pointer into the answer and what
    // stands there, commands.
    type Case<'a> = (&'a str, &'a str, &'a str, u16, &'a str, String, Vec<Command>);
    let text = |text: &str| serde_json::json!(text).to_string();
    let service = "service/action";
    #[rustfmt::skip]
    let cases: Vec<Case<'_>> = vec![
        ("A1", service, r#"{"set_log_level": {"level": "INFO"}}"#, 200, "/service/log_level", text("INFO"), vec![service_action("set_log_level", "INFO")]),
        ("A2", service, r#"{"quick_shutdown": null}"#, 200, "/service/quick_shutdown", "true".into(), vec![service_action("quick_shutdown", "on")]),
        ("A2", service, r#"{"quick_shutdown": {"enabled": false}}"#, 200, "/service/quick_shutdown", "false".into(), vec![service_action("quick_shutdown", "off")]),
        ("A3", service, r#"{"reconfig": null}"#, 200, "/reconfig/retired", "[]".into(), vec![Command::Reconfigure { clouds: pileus_clouds() }]),
        ("A4", "clouds/{cloud}/action", r#"{"enable": null}"#, 202, "", String::new(), vec![enable(true)]),
        ("A5", "clouds/{cloud}/action", r#"{"disable": null}"#, 202, "", String::new(), vec![enable(false)]),
        ("A6", "clouds/{cloud}/action", r#"{"set_slots": {"vm_slots": 7}}"#, 202, "", String::new(), vec![Command::SetSlots { cloud: CLOUD.into(), vm_slots: 7 }]),
        ("A7", "vms/action", r#"{"shutdown": {"cloud": "alpha"}}"#, 200, "/results", results(3), vec![shutdown(&ids)]),
        ("A7", "vms/action", r#"{"shutdown": {"cloud": "alpha", "count": 2}}"#, 200, "/results", results(2), vec![shutdown(&ids[..2])]),
        ("A8", "vms/action", r#"{"force_retire": {"cloud": "alpha"}}"#, 200, "/results", results(3), vec![retire(&ids)]),
        ("A8", "vms/action", r#"{"force_retire": {"cloud": "alpha", "count": 2}}"#, 200, "/results", results(2), vec![retire(&ids[..2])]),
        ("A9", "vms/action", r#"{"remove": {"cloud": "alpha"}}"#, 200, "/results", results(3), vec![remove(&ids)]),
        ("A10", "vms/{vm}/action", r#"{"shutdown": null}"#, 202, "", String::new(), vec![shutdown(&[VM])]),
        ("A11", "vms/{vm}/action", r#"{"force_retire": null}"#, 202, "", String::new(), vec![retire(&[VM])]),
        ("A12", "vms/{vm}/action", r#"{"remove": null}"#, 202, "", String::new(), vec![remove(&[VM])]),
        ("A13", "vms/{vm}/action", r#"{"reset_override_state": null}"#, 202, "", String::new(), vec![Command::ResetVm { vm: VM.into() }]),
        ("A14", "cloud-aliases", "", 200, "/cloud_aliases/0/clouds", r#"["Alpha","beta-two"]"#.into(), vec![]),
        ("A15", "cloud-aliases/action", r#"{"reload": null}"#, 202, "", String::new(), vec![Command::ReloadAliases]),
        ("A16", "users", "", 200, "/users/1/vm_limit", "2".into(), vec![]),
        ("A17", "users/action", r#"{"reload": null}"#, 202, "", String::new(), vec![Command::ReloadUserLimits]),
        ("A18", "users/{user}/action", r#"{"refresh": {"proxy": "job_proxy"}}"#, 200, "/user/proxies/job_proxy/expires", text("2126-10-29T18:58:44Z"), vec![renewed(ProxyUse::JobProxy)]),
        ("A19", "users/{user}/action", r#"{"refresh": {"proxy": "vm_proxy"}}"#, 200, "/user/proxies/vm_proxy/expires", text("2126-10-29T18:58:44Z"), vec![renewed(ProxyUse::VmProxy)]),
        ("I1", "service", "", 200, "/service/version", text(env!("CARGO_PKG_VERSION")), vec![]),
        ("I2", "clouds", "", 200, "/clouds/1/id", text(CLOUD), vec![]),
        ("I3", "service/config", "", 200, "/clouds/0/name", text("Alpha"), vec![]),
        ("I4", "clouds/detail", "", 200, "/clouds/0/vm_slots", "10".into(), vec![]),
        ("I5", "clouds/detail", "", 200, "/clouds/2/enabled", "false".into(), vec![]),
        ("I6", "clouds/{cloud}", "", 200, "/cloud/name", text(CLOUD), vec![]),
        ("I7", "clouds/{cloud}", "", 200, "/cloud/spec/priority", "0".into(), vec![]),
        ("I8", "clouds/{cloud}/vms", "", 200, "/vms/0/id", text(VM), vec![]),
        ("I9", "clouds/{cloud}/vms", "", 200, "/vms/0/state", text("Running"), vec![]),
        ("I10", "vms/detail", "", 200, "/vms/3/hostname", text("host4"), vec![]),
        ("I11", "vms/{vm}", "", 200, "/vm/user", text("bob"), vec![]),
        ("I12", "vms/{vm}", "", 200, "/vm/memory_mib", "1024".into(), vec![]),
        ("I13", "jobs?state=held", "", 200, "/jobs/0/id", text("j-3"), vec![]),
        ("I14", "jobs/{job}", "", 200, "/job/id", text(JOB), vec![]),
        ("I15", "jobs/{job}", "", 200, "/job/reason", text("no room"), vec![]),
        ("I16", "vms/detail", "", 200, "/vms/2/override_state", text("Retiring"), vec![]),
        ("I17", "vms", "", 200, "/vms/1/state", text("Starting"), vec![]),
        ("I18", "vms", "", 200, "/vms/3/id", text(VM), vec![]),
        ("I19", "service/strays", "", 200, "/strays/0/machine", text("slot1@lost"), vec![]),
        ("I20", "vms/i-001", "", 200, "/vm/running", text("2026-01-31T11:00:20Z"), vec![]),
        ("I21", "vms/i-001", "", 200, "/vm/job_runs_s", "[10,21]".into(), vec![]),
        ("I22", "jobs/detail?state=new", "", 200, "/jobs/0/user", text("alice"), vec![]),
        ("I23", "service", "", 200, "/service/process/pid", std::process::id().to_string(), vec![]),
        ("I24", "vms/{vm}", "", 200, "/vm/address", text("110.1.1.1"), vec![]),
        ("I25", "service/shares", "", 200, "/shares/diff/0/share", "0.2".into(), vec![]),
        ("I26", "service/failures", "", 200, "/failures/jobs/0/id", text(JOB), vec![]),
        ("I27", "service/failures", "", 200, "/failures/images/0/cloud", text("alpha"), vec![]),
        ("I28", "service", "", 200, "/service/reconcilers/4/holds/0", text("a fact"), vec![]),
        ("I29", "service", "", 200, "/service/reconcilers/0/last", text("2026-01-31T11:59:41Z"), vec![]),
    ];
    let token = format!("X-Auth-Token: {SECRET}");
    let ids: BTreeSet<_> = cases.iter().map(|case| case.0).collect();
    for (id, below, body, status, pointer, expected, commands) in &cases {
        world.again();
        let method = if body.is_empty() { "GET" } else { "POST" };
        let target = path(&format!("/v2/p1/{below}"));
        let reply = send(world.api, method, &target, &[&token, "Content-Type: application/json"], body);
        let what = format!("{id}: {method} {target} {body}");
        assert_eq!(reply.status, *status, "{what}: {}", reply.text);
        if !pointer.is_empty() {
            assert_eq!(reply.header("content-type"), Some(JSON), "{what}");
            let found = reply.json().pointer(pointer).map(ToString::to_string);
            assert_eq!(found.as_ref(), Some(expected), "{what}: {}", reply.text);
        }
        assert_eq!(world.engine.commands(), *commands, "{what}");
    }
    assert_eq!(ids.len(), 48);
    // What is unknown has a real status, and in bulk a result of its own.
    for (method, target, body) in [
        ("GET", "clouds/nope", ""),
        ("GET", "vms/nope", ""),
        ("GET", "jobs/nope", ""),
        ("POST", "clouds/nope/action", r#"{"enable": null}"#),
        ("POST", "vms/nope/action", r#"{"shutdown": null}"#),
        ("POST", "vms/action", r#"{"shutdown": {"cloud": "nope"}}"#),
    ] {
        let target = format!("/v2/p1/{target}");
        let reply = send(world.api, method, &target, &[&token, "Content-Type: application/json"], body);
        assert_eq!((reply.status, reply.top()), (404, "itemNotFound".into()), "{target}: {}", reply.text);
    }
    let body = r#"{"remove": {"vms": ["nope", "i-001"]}}"#;
    let reply =
        send(world.api, "POST", "/v2/p1/vms/action", &[&token, "Content-Type: application/json"], body);
    let statuses = reply.json()["results"]
        .as_array()
        .map(|all| all.iter().map(|one| one["status"].clone()).collect::<Vec<_>>());
    assert_eq!(statuses, Some(vec![serde_json::json!(404), serde_json::json!(202)]), "{}", reply.text);
    println!("48 operations natively, {} requests, all as expected", cases.len());
}

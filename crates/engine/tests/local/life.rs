//! How VMs come, are found again, and go.

use std::{fs, process::Command, sync::Arc, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pileus_engine::{
    desk::End,
    drivers::{Driver, Seen},
};
use pileus_model::{Exit, Time, Vm, VmState};
use serde_json::json;

use crate::{
    Test,
    world::{NOTHING, World, name, running, vm},
};

pub const TESTS: &[Test] = &[
    ("life::a_job_outlives_its_server", a_job_outlives_its_server),
    ("life::a_vm_outlives_a_server_that_is_killed", a_vm_outlives_a_server_that_is_killed),
    ("life::a_result_waits_for_the_next_server", a_result_waits_for_the_next_server),
    ("life::a_dead_workers_result_is_found", a_dead_workers_result_is_found),
    ("life::a_vm_is_made_once", a_vm_is_made_once),
    ("life::a_vm_that_is_told_to_end_at_once_was_made", a_vm_that_is_told_to_end_at_once_was_made),
    ("life::a_vm_without_its_worker_is_broken", a_vm_without_its_worker_is_broken),
    ("life::a_silent_worker_loses_its_vm", a_silent_worker_loses_its_vm),
    ("life::nothing_of_a_destroyed_vm_is_left", nothing_of_a_destroyed_vm_is_left),
    ("life::a_vm_has_a_control_group", a_vm_has_a_control_group),
    ("life::nothing_outlives_its_vm", nothing_outlives_its_vm),
    ("life::a_worker_that_nobody_knows_ends", a_worker_that_nobody_knows_ends),
    ("life::a_worker_without_a_server_ends", a_worker_without_a_server_ends),
    ("life::strays_alone_are_swept", strays_alone_are_swept),
    ("life::a_worker_that_cannot_start_says_why", a_worker_that_cannot_start_says_why),
];

/// A job that says that it runs, and goes on until it may.
fn job_until_told(world: &World, name: &str) -> String {
    let (ran, go) = (world.shared(&format!("{name}.ran")), world.shared(&format!("{name}.go")));
    format!(
        "echo ran >> '{}'; until test -e '{}'; do sleep 0.02; done; echo done",
        ran.display(),
        go.display()
    )
}

fn runs_of(world: &World, name: &str) -> usize {
    fs::read_to_string(world.shared(&format!("{name}.ran"))).unwrap_or_default().lines().count()
}

fn a_job_outlives_its_server() {
    let mut world = World::new();
    let vm = world.boot("here-outlive");
    let worker = world.worker("here-outlive");
    world.give_shell("here-outlive", "j", &job_until_told(&world, "j"));
    world.until("it runs", || runs_of(&world, "j") == 1);
    for _ in 0..2 {
        world.stop();
        world.desk.registered.lock().unwrap().clear();
        world.start();
        world.until("it calls again", || world.desk.registered.lock().unwrap().contains("here-outlive"));
    }
    assert_eq!((world.state(&vm), world.worker("here-outlive")), (VmState::Running, worker));
    fs::write(world.shared("j.go"), "").unwrap();
    let report = world.report("j");
    assert_eq!((report.end, &report.output.stdout.bytes[..]), (End::Exited(Exit::Code(0)), &b"done\n"[..]));
    assert_eq!(runs_of(&world, "j"), 1);
    world.give("here-outlive", "next", &["true"]);
    world.report("next");
}

fn a_vm_outlives_a_server_that_is_killed() {
    let mut world = World::new();
    world.stop();
    let mut server =
        Command::new(std::env::current_exe().unwrap()).arg("server").arg(&world.state_dir).spawn().unwrap();
    world.until("it made the VM", || world.folder("here-killed").join("pid").exists());
    server.kill().unwrap();
    server.wait().unwrap();
    let vm = world.name_vm("here-killed");
    world.start();
    world.until("the VM is found", || world.state(&vm) == VmState::Running);
    world.give("here-killed", "j", &["echo", "on"]);
    assert_eq!(world.report("j").output.stdout.bytes, b"on\n");
    assert_eq!(world.processes("here-killed"), world.idle("here-killed"));
}

fn a_result_waits_for_the_next_server() {
    let mut world = World::new();
    world.boot("here-wait");
    world.give_shell("here-wait", "j", &job_until_told(&world, "j"));
    world.until("it runs", || runs_of(&world, "j") == 1);
    world.stop();
    fs::write(world.shared("j.go"), "").unwrap();
    let results = world.folder("here-wait").join("results");
    world.until("it ends", || results.join("1").exists());
    assert_eq!(world.reports("j"), []);
    world.start();
    assert_eq!(world.report("j").output.stdout.bytes, b"done\n");
    world.until("it is acknowledged", || !results.join("1").exists());
    assert_eq!((world.reports("j").len(), runs_of(&world, "j")), (1, 1));
}

fn a_dead_workers_result_is_found() {
    let mut world = World::new();
    let vm = world.boot("here-found");
    world.give_shell("here-found", "j", &job_until_told(&world, "j"));
    world.until("it runs", || runs_of(&world, "j") == 1);
    world.stop();
    fs::write(world.shared("j.go"), "").unwrap();
    world.until("it ends", || world.folder("here-found").join("results/1").exists());
    kill(Pid::from_raw(world.worker("here-found")), Signal::SIGKILL).unwrap();
    world.until("the worker is gone", || world.processes("here-found").is_empty());
    world.start();
    assert_eq!(world.state(&vm), VmState::Error);
    assert_eq!(world.reports("j")[0].output.stdout.bytes, b"done\n");
    world.destroy(&vm);
}

fn a_vm_is_made_once() {
    let mut world = World::new();
    let vm = world.name_vm("here-once");
    assert_eq!(world.state(&vm), VmState::Error, "not there yet");
    let create = || world.local().create(vm.clone());
    let (one, two) = world.runtime.block_on(async { tokio::join!(create(), create()) });
    assert_eq!(one.unwrap(), two.unwrap());
    let (worker, idle) = (world.worker("here-once"), world.idle("here-once"));
    assert_eq!(world.processes("here-once"), idle);
    world.stop();
    world.start();
    world.runtime.block_on(world.local().create(vm.clone())).unwrap();
    assert_eq!(world.processes("here-once"), idle);
    // A second worker, that a server in trouble may have started, finds the first one's lock.
    let second = Command::new(std::env::current_exe().unwrap())
        .arg("worker")
        .arg(world.folder("here-once"))
        .env("PILEUS_VM", "here-once")
        .output()
        .unwrap();
    assert!(second.status.success(), "{second:?}");
    assert_eq!((world.processes("here-once"), world.worker("here-once")), (idle, worker));
}

fn a_vm_that_is_told_to_end_at_once_was_made() {
    let world = World::new();
    for at in 0..16 {
        let vm = Arc::new(Vm { destroy: Some("it is not wanted".into()), ..vm(&format!("here-brief-{at}")) });
        world.desk.change(|view| drop(view.vms.insert(vm.id.clone(), vm.clone())));
        // Its worker calls home, hears this, and ends; maybe sooner than anybody looks for it.
        world.runtime.block_on(world.local().create(vm.clone())).unwrap();
        world.until("its end", || world.processes(&vm.id).is_empty());
        world.destroy(&vm);
    }
}

fn a_vm_without_its_worker_is_broken() {
    let world = World::new();
    let (idle, busy) = (world.boot("here-idle"), world.boot("here-busy"));
    world.give_shell("here-busy", "j", &format!("setsid sleep 33001.TAG & {}", job_until_told(&world, "j")));
    world.until("it runs", || runs_of(&world, "j") == 1 && !running("33001.TAG").is_empty());
    for vm in [&idle, &busy] {
        kill(Pid::from_raw(world.worker(&vm.id)), Signal::SIGKILL).unwrap();
        world.until("its end is seen", || world.state(vm) == VmState::Error);
    }
    // An idle one may be made again. In the other a job may have run to its end: it must not run twice.
    world.runtime.block_on(world.local().create(idle.clone())).unwrap();
    world.until("it is back", || world.state(&idle) == VmState::Running);
    let again = world.runtime.block_on(world.local().create(busy.clone()));
    world.until("it is broken for good", || again.is_err() || world.state(&busy) == VmState::Error);
    assert_eq!(runs_of(&world, "j"), 1);
    world.destroy(&busy);
    assert_eq!(running("33001.TAG"), NOTHING);
}

fn nothing_of_a_destroyed_vm_is_left() {
    let world = World::new();
    let (vm, other) = (world.boot("here-destroy"), world.boot("here-stays"));
    let script = "mkdir -p a/b; ln -s / a/root; chmod 0 a/b a; trap '' TERM; setsid sh -c \"trap '' TERM; sleep 34001.TAG\" & \
                  env -i setsid sleep 34002.TAG & ";
    world.give_shell("here-destroy", "j", &format!("{script}{}", job_until_told(&world, "j")));
    world.until("it runs", || runs_of(&world, "j") == 1 && !running("34002.TAG").is_empty());
    world.destroy(&vm);
    assert_eq!((running("34001.TAG"), running("34002.TAG")), (vec![], vec![]));
    assert_eq!(world.reports("j"), [], "a job that died with its VM has not ended");
    assert_eq!(world.state(&vm), VmState::Error);
    world.destroy(&vm);
    assert_eq!(world.state(&other), VmState::Running);
    world.runtime.block_on(world.local().forget(other.clone())).unwrap();
    assert_eq!(world.processes("here-stays"), NOTHING);
}

fn a_vm_has_a_control_group() {
    let mut world = World::new();
    let vm = world.boot("here-group");
    let orders = fs::read_to_string(world.folder("here-group").join("worker.json")).unwrap();
    let orders: serde_json::Value = serde_json::from_str(&orders).unwrap();
    let Some(group) = orders["cgroup"].as_str() else {
        println!("no cgroup v2 that this user can write: VMs are ended without it");
        return;
    };
    let group = std::path::Path::new(group);
    let name = group.file_name().unwrap().to_str().unwrap();
    world.give_shell("here-group", "j", "env -i setsid -f sleep 38001.TAG; sleep 38002.TAG");
    world.until("it runs", || !running("38001.TAG").is_empty() && !running("38002.TAG").is_empty());
    let job = [running("38001.TAG"), running("38002.TAG")].concat();
    for pid in world.idle("here-group").into_iter().chain(job) {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(text.lines().any(|line| line.starts_with("0::") && line.ends_with(name)), "{pid}: {text}");
    }
    if !group.join("memory.max").exists() {
        println!("no memory controller of cgroup v2: memory is bounded for each process");
    }
    // Also after a server, a supervisor and a worker that were killed.
    world.stop();
    for pid in [world.supervisor("here-group"), world.worker("here-group")] {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    world.start();
    world.destroy(&vm);
    assert_eq!((running("38001.TAG"), running("38002.TAG")), (vec![], vec![]));
    assert!(!group.exists());
}

fn nothing_outlives_its_vm() {
    let mut world = World::new();
    // Forgot whose they are, left the session, hear no SIGTERM; one starts others all the time.
    let script = "env -i setsid -f sleep 37001.TAG; trap '' TERM; env -i setsid -f sh -c \"trap '' TERM; sleep 37002.TAG\"; \
                  env -i setsid sh -c 'while :; do sleep 0.01; done' 37003.TAG & \
                  (cd d 2>/dev/null; env -i setsid -f sleep 37004.TAG); echo > 'HERE'; sleep 37005.TAG";
    let words = [37001, 37002, 37003, 37004, 37005].map(|number| format!("{number}.TAG"));
    let runs = || words.iter().any(|word| !running(word).is_empty());
    let (worker, supervisor) = ([true, false], [false, true]);
    // The signal, to whom, whether a server is there, and whether it all ends without one.
    let cases = [
        ("the worker is killed", Signal::SIGKILL, worker, true, true),
        ("the worker is killed, no server", Signal::SIGKILL, worker, false, true),
        ("the supervisor is killed", Signal::SIGKILL, supervisor, true, true),
        ("the supervisor is killed, no server", Signal::SIGKILL, supervisor, false, true),
        ("both are killed", Signal::SIGKILL, [true, true], true, false),
        ("both are killed, no server", Signal::SIGKILL, [true, true], false, false),
        ("the worker is stopped", Signal::SIGSTOP, worker, true, false),
        ("both are stopped, no server", Signal::SIGSTOP, [true, true], false, false),
        ("the worker is told to end, no server", Signal::SIGTERM, worker, false, true),
        ("the supervisor is told to end, no server", Signal::SIGTERM, supervisor, false, true),
    ];
    for (number, (what, signal, [to_worker, to_supervisor], server, alone)) in cases.into_iter().enumerate() {
        let id = format!("here-end-{number}");
        let vm = world.boot(&id);
        let here = world.shared(&id);
        world.give_shell(&id, &id, &script.replace("HERE", &here.display().to_string()));
        world.until("it runs", || here.exists());
        if !server {
            world.stop();
        }
        let pids = [(to_worker, world.worker(&id)), (to_supervisor, world.supervisor(&id))];
        for (_, pid) in pids.into_iter().filter(|(sent, _)| *sent) {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
        if alone {
            world.until(what, || world.processes(&id).is_empty() && !runs());
        }
        if !server {
            world.start();
        }
        world.destroy(&vm);
        for word in &words {
            assert_eq!(running(word), NOTHING, "{what}: {word}");
        }
    }
}

fn a_worker_that_nobody_knows_ends() {
    let world = World::new();
    let vm = world.boot("here-unknown");
    world.give_shell("here-unknown", "j", "sleep 35001.TAG");
    world.until("it runs", || !running("35001.TAG").is_empty());
    world.desk.change(|view| drop(view.vms.remove(&vm.id)));
    world.until("it ends", || world.processes("here-unknown").is_empty() && running("35001.TAG").is_empty());
}

fn a_worker_without_a_server_ends() {
    let world = World::new();
    // The format of the folder, by hand: a worker needs no more than this.
    let folder = world.shared("by hand");
    for inner in ["jobs", "results"] {
        fs::create_dir_all(folder.join(inner)).unwrap();
    }
    let orders = json!({
        "vm": "here-lease", "cpus": [], "memory_mib": 64, "storage_gib": null, "user": null,
        "output_max": 1000, "lease_s": 1,
    });
    fs::write(folder.join("worker.json"), orders.to_string()).unwrap();
    fs::write(folder.join("secret"), [1; 32]).unwrap();
    let worker = Command::new(std::env::current_exe().unwrap()).arg("worker").arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&worker.stderr).into_owned();
    assert!(worker.status.success() && said.contains("no server came in time"), "{said}");
}

fn strays_alone_are_swept() {
    let (world, neighbour) = (World::new(), World::new());
    let theirs = neighbour.boot("here-stray");
    let sweep = |known: &[&str]| {
        let known = known.iter().map(|id| name(id)).collect();
        world.runtime.block_on(world.local().sweep(known)).unwrap()
    };
    let [listed, viewed, stray, headless] =
        ["listed", "viewed", "stray", "headless"].map(|id| world.boot(id));
    // Gone from the view, so that each is told to stop; but the server is not there to tell it.
    fs::remove_dir_all(world.folder("headless")).unwrap();
    fs::create_dir(world.state_dir.join("vms/empty")).unwrap();
    let mut world_view = world.desk.view.borrow().vms.clone();
    for vm in [&listed, &stray, &headless] {
        world_view.remove(&vm.id);
    }
    let listed_runs = world.idle("listed");
    world.runtime.block_on(world.local().stop());
    world.desk.change(|view| view.vms = world_view);
    let mut swept: Vec<_> = sweep(&["listed"]).iter().map(ToString::to_string).collect();
    swept.sort();
    assert_eq!(swept, ["empty", "headless", "stray"]);
    assert_eq!((world.processes("stray"), world.processes("headless")), (vec![], vec![]));
    assert_eq!(world.processes("listed"), listed_runs);
    assert_eq!(world.processes("viewed"), world.idle(&viewed.id));
    assert_eq!(neighbour.state(&theirs), VmState::Running, "another state folder's");
    assert_eq!(sweep(&["listed"]), []);
}

fn a_worker_that_cannot_start_says_why() {
    let world = World::new();
    let vm = world.name_vm("here-cannot");
    world.runtime.block_on(world.local().create(vm.clone())).unwrap();
    world.destroy(&vm);
    fs::create_dir_all(world.folder("here-cannot").join("lock")).unwrap();
    let error = world.runtime.block_on(world.local().create(vm.clone())).unwrap_err();
    assert!(error.to_string().contains("could not open the lock"), "{error}");
    world.destroy(&vm);
    let bad = world.name_vm("../here");
    assert!(world.runtime.block_on(world.local().create(bad)).is_err());
}

/// A worker that is stopped, idle or with a job, is given up after its time-out, and ends for certain.
fn a_silent_worker_loses_its_vm() {
    for (id, busy) in [("here-silent", false), ("here-silent-busy", true)] {
        let mut world = World::new();
        let vm = world.boot(id);
        if busy {
            world.give_shell(id, "j", &job_until_told(&world, "j"));
            world.until("it runs", || runs_of(&world, "j") == 1);
        }
        kill(Pid::from_raw(world.worker(id)), Signal::SIGSTOP).unwrap();
        // As the engine has it once the worker registered.
        let vm = Arc::new(Vm { registered: Some(Time(0)), ..Vm::clone(&vm) });
        let lost = |seen: Seen| seen.lost.unwrap_or_default();
        assert_eq!(lost(world.listen(&vm, 59)), "", "{id}");
        assert_eq!(lost(world.listen(&vm, 2)), "its worker has been silent for 61 s", "{id}");
        // A server that starts, or was stopped, has not listened.
        world.stop();
        world.start();
        assert_eq!(lost(world.listen(&vm, 59)), "", "{id}");
        world.clock.advance(Duration::from_secs(3600));
        assert_eq!(lost(world.listen(&vm, 59)), "", "{id}");
        assert_eq!(lost(world.listen(&vm, 2)), "its worker has been silent for 61 s", "{id}");
        world.destroy(&vm);
    }
}

//! What a VM of its own user cannot do. Needs root, and its right to become others.

use std::{fs, os::unix::fs::MetadataExt};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pileus_engine::desk::End;
use pileus_model::Exit;

use crate::{
    Test,
    world::{World, running},
};

pub const TESTS: &[Test] = &[
    ("isolation::a_vm_is_a_user_of_its_own", a_vm_is_a_user_of_its_own),
    ("isolation::a_job_has_a_home_behind_closed_doors", a_job_has_a_home_behind_closed_doors),
    ("isolation::nobody_outruns_the_end", nobody_outruns_the_end),
    ("isolation::nothing_in_common_places_outlives_its_vm", nothing_in_common_places_outlives_its_vm),
    ("isolation::a_job_sees_its_own_processes_alone", a_job_sees_its_own_processes_alone),
];

fn stdout(world: &World, vm: &str, job: &str, script: &str) -> String {
    world.give_shell(vm, job, script);
    let output = world.report(job).output;
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout.bytes),
        String::from_utf8_lossy(&output.stderr.bytes)
    )
}

fn a_vm_is_a_user_of_its_own() {
    let world = World::new();
    let (one, two) = (world.boot("here-one"), world.boot("here-two"));
    let users =
        ["here-one", "here-two"].map(|vm| stdout(&world, vm, &format!("id of {vm}"), "id -u; id -g; id -G"));
    assert_ne!(users[0], users[1]);
    for (vm, text) in [("here-one", &users[0]), ("here-two", &users[1])] {
        let numbers: Vec<u32> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!(numbers[0] >= 60_000 && numbers.iter().all(|number| *number == numbers[0]), "{text}");
        assert_eq!(fs::metadata(world.folder(vm).join("jobs")).unwrap().uid(), numbers[0]);
        assert_eq!(fs::metadata(world.folder(vm)).unwrap().uid(), 0);
        let worker = fs::read_to_string(format!("/proc/{}/status", world.worker(vm))).unwrap();
        let of_worker = worker.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
        assert!(of_worker.split_whitespace().all(|word| word == numbers[0].to_string()), "{of_worker}");
    }
    let (state, own) = (world.state_dir.display(), world.folder("here-one"));
    let (own, other) = (own.display(), world.folder("here-two"));
    let (other, worker) = (other.display(), world.worker("here-one"));
    let forbidden = [
        format!("cat '{state}/channel-key'"),
        format!("ls '{state}/vms'"),
        format!("cat '{other}/secret'"),
        format!("cat '{other}/worker.json'"),
        format!("ls '{other}/jobs'"),
        format!("ls '{other}'"),
        format!("cat '{own}/secret'"),
        format!("cat '{own}/worker.log'"),
        format!("echo 1 1 > '{own}/pid'"),
        format!("echo '{{}}' > '{own}/worker.json'"),
        format!("mv '{own}/jobs' '{own}/moved'"),
        format!("cat /proc/{worker}/environ"),
        format!("cat /proc/{worker}/mem"),
        format!("kill -0 {}", world.worker("here-two")),
        "kill -0 1".to_owned(),
    ];
    for command in forbidden {
        let said =
            stdout(&world, "here-one", &command, &format!("({command}) >/dev/null 2>&1 && echo could"));
        assert_eq!(said, "", "{command}");
    }
    // What it leaves in common places goes with it.
    let left = format!("/tmp/pileus-test-{}", std::process::id());
    stdout(&world, "here-one", "leave", &format!("mkdir -p {left}/a; echo > {left}/a/b"));
    assert!(fs::exists(&left).unwrap());
    world.destroy(&one);
    assert!(!fs::exists(&left).unwrap());
    world.destroy(&two);
    let taken = fs::read_dir("/run/pileus-users").into_iter().flatten().flatten();
    let owners: Vec<_> = taken.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    assert!(
        !owners.iter().any(|owner| owner.ends_with("here-one") || owner.ends_with("here-two")),
        "{owners:?}"
    );
}

fn a_job_has_a_home_behind_closed_doors() {
    let mut world = World::below(0o700);
    let vm = world.boot("here-closed");
    let script =
        "echo x > f && cat f ~/f && cat $(mktemp) && mkdir d && cd d && echo y > g && cat ../f g && ls ~";
    assert_eq!(stdout(&world, "here-closed", "j", script), "x\nx\nx\ny\nd\nf\n");
    // Its worker finds the next server all the same.
    world.stop();
    world.start();
    assert_eq!(stdout(&world, "here-closed", "k", "ls -A"), "");
    let jobs = fs::canonicalize(world.folder("here-closed").join("jobs")).unwrap();
    assert!(!jobs.starts_with(&world.state_dir) && jobs.exists());
    world.destroy(&vm);
    assert!(!jobs.parent().unwrap().exists());
}

fn a_job_sees_its_own_processes_alone() {
    let world = World::new();
    world.boot("here-view");
    let folder = world.folder("here-view");
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", world.supervisor("here-view"))).unwrap();
    let hidden = mounts.lines().any(|line| line.starts_with("proc /proc ") && line.contains("hidepid"));
    if !hidden {
        // The service may not mount here. Jobs run all the same.
        println!("no /proc of the VM's own: processes of others are visible");
        assert_eq!(stdout(&world, "here-view", "fallback", "echo ran"), "ran\n");
        return;
    }
    let user = fs::metadata(folder.join("jobs")).unwrap().uid();
    assert_ne!(namespace(world.supervisor("here-view")), namespace(nix::unistd::getpid().as_raw()));
    let cases = [
        (
            "others",
            "ls -ldn /proc/[0-9]* 2>/dev/null | awk -v u=$(id -u) '$3 != u'".to_owned(),
            String::new(),
        ),
        ("init", "ls -d /proc/1 2>/dev/null".to_owned(), String::new()),
        ("own", "ls -d /proc/$$ >/dev/null && echo seen".to_owned(), "seen\n".to_owned()),
        ("name", "id -un; id -gn; whoami".to_owned(), "pileus-vm\n".repeat(3)),
        ("other names", "id -u root".to_owned(), "0\n".to_owned()),
        (
            "ps",
            "command -v ps >/dev/null || exit 0; ps -eo uid= | sort -u | tr -d ' ' | grep -vx $(id -u)"
                .to_owned(),
            String::new(),
        ),
        ("no write", "(echo >> /etc/passwd) 2>/dev/null || echo denied".to_owned(), "denied\n".to_owned()),
    ];
    for (what, script, expected) in cases {
        assert_eq!(stdout(&world, "here-view", what, &script), expected, "{what}");
    }
    let host = fs::read_to_string("/etc/passwd").unwrap();
    assert!(!host.contains(&format!(":{user}:")), "the host's file is as it was");
}

fn nobody_outruns_the_end() {
    // Its job ends its own worker, which Landlock would prevent.
    let world = World::unconfined();
    let (runner, other) = (world.boot("here-runner"), world.boot("here-peace"));
    // Some that are never the same process for long, have forgotten whose they are, and have neither worker nor
    // supervisor any more. Their number does not grow, in case the end does not come.
    let script = "for n in $(seq 4); do env -i setsid sh -c 'f() { sleep 0.03; f & }; f' 36001.TAG & done; \
                  sleep 36002.TAG";
    world.give_shell(&runner.id, "j", script);
    world.until("they run", || !running("36001.TAG").is_empty() && !running("36002.TAG").is_empty());
    for pid in [world.supervisor(&runner.id), world.worker(&runner.id)] {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    world.destroy(&runner);
    assert_eq!((running("36001.TAG"), running("36002.TAG")), (vec![], vec![]));
    world.give(&other.id, "k", &["true"]);
    assert_eq!(world.report("k").end, End::Exited(Exit::Code(0)));
}

fn nothing_in_common_places_outlives_its_vm() {
    let mut world = World::new();
    let mark = format!("pileus-left-{}", std::process::id());
    // Some places may be closed to jobs: then nothing is left there either.
    let cases = [
        ("/dev/shm", format!("echo > /dev/shm/{mark}")),
        ("/tmp", format!("mkdir -p /tmp/{mark}/a && echo > /tmp/{mark}/a/b")),
        ("/var/tmp", format!("mkdir -p /var/tmp/{mark}/a && chmod 0 /var/tmp/{mark}")),
        ("System V shared memory", "ipcmk -M 4096".to_owned()),
        ("System V semaphores", "ipcmk -S 2".to_owned()),
        ("System V messages", "ipcmk -Q".to_owned()),
    ];
    for (number, (what, script)) in cases.into_iter().enumerate() {
        let id = format!("here-left-{number}");
        let vm = world.boot(&id);
        let user = fs::metadata(world.folder(&id).join("jobs")).unwrap().uid().to_string();
        world.give_shell(&id, what, &script);
        let end = world.report(what).end;
        if what.starts_with("System V") {
            assert_eq!(end, End::Exited(Exit::Code(0)), "{what}");
        }
        // As after a server that was killed.
        world.stop();
        world.start();
        world.destroy(&vm);
        for place in ["/dev/shm", "/tmp", "/var/tmp"] {
            assert!(!fs::exists(format!("{place}/{mark}")).unwrap(), "{what}: {place}");
        }
        for table in ["shm", "sem", "msg"] {
            let table = fs::read_to_string(format!("/proc/sysvipc/{table}")).unwrap_or_default();
            let theirs = |line: &&str| line.split_whitespace().any(|word| word == user);
            assert_eq!(table.lines().find(theirs), None, "{what}");
        }
    }
}

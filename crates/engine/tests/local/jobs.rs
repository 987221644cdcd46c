//! What a job may expect, and what is reported of it.

use std::{fs, sync::Arc, time::Duration};

use pileus_engine::{desk::End, drivers::Driver};
use pileus_model::{Clock, Exit, Gap, JobStream, OutputRange, Vm};

use crate::{
    Test,
    world::{self, NOTHING, OUTPUT_MAX, Report, World, running},
};

pub const TESTS: &[Test] = &[
    ("jobs::what_a_job_did_is_reported", what_a_job_did_is_reported),
    ("jobs::a_job_finds_a_home", a_job_finds_a_home),
    (
        "jobs::head_and_tail_of_output_are_kept_up_to_the_limit",
        head_and_tail_of_output_are_kept_up_to_the_limit,
    ),
    ("jobs::output_is_read_while_a_job_runs", output_is_read_while_a_job_runs),
    ("jobs::what_a_removed_job_wrote_is_reported", what_a_removed_job_wrote_is_reported),
    ("jobs::a_result_knows_when_it_was", a_result_knows_when_it_was),
    ("jobs::a_job_that_is_not_wanted_any_more_ends", a_job_that_is_not_wanted_any_more_ends),
    ("jobs::what_a_job_leaves_running_ends_with_it", what_a_job_leaves_running_ends_with_it),
    ("jobs::limits_hold", limits_hold),
    ("jobs::files_go_with_their_job", files_go_with_their_job),
    ("jobs::storage_is_bounded_for_the_vm", storage_is_bounded_for_the_vm),
    ("jobs::a_fault_of_the_host_is_not_the_jobs", a_fault_of_the_host_is_not_the_jobs),
    ("jobs::a_result_waits_for_a_full_disk", a_result_waits_for_a_full_disk),
];

fn what_a_job_did_is_reported() {
    let world = World::new();
    world.boot("here-did");
    let code = |code| End::Exited(Exit::Code(code));
    let signal = |signal| End::Exited(Exit::Signal(signal));
    let no = |why: &str| End::NotStarted(why.into());
    let cases: [(&[&str], End, &str, &str); 10] = [
        (&["echo", "hello"], code(0), "hello\n", ""),
        (
            &["sh", "-c", "echo hello from $HOSTNAME, $PILEUS_JOB_ID"],
            code(0),
            "hello from here-did, job 1\n",
            "",
        ),
        (&["sh", "-c", "echo no >&2; exit 3"], code(3), "", "no\n"),
        (&["sh", "-c", "exit 255"], code(255), "", ""),
        (&["sh", "-c", "kill -9 $$"], signal(9), "", ""),
        (&["sh", "-c", "kill -40 $$"], signal(40), "", ""),
        (&["printf", "%s|", "$HOME; echo", "a  b", "ä"], code(0), "$HOME; echo|a  b|ä|", ""),
        (&["cat"], code(0), "", ""),
        (&["no-such-program"], no("no-such-program: no such program"), "", ""),
        (&["/etc/passwd"], no("/etc/passwd: it is not executable (no permission `x`)"), "", ""),
    ];
    for (number, (command, end, stdout, stderr)) in cases.into_iter().enumerate() {
        let job = format!("job {number}");
        world.give("here-did", &job, command);
        let report = world.report(&job);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(
            (
                report.end,
                &*text(&report.output.stdout.bytes),
                &*text(&report.output.stderr.bytes),
                report.output.truncated
            ),
            (end, stdout, stderr, false),
            "{command:?}"
        );
    }
    for (job, command) in [("empty", &[][..]), ("nul", &["a\0b"])] {
        world.give("here-did", job, command);
        assert!(matches!(world.report(job).end, End::NotStarted(_)), "{job}");
    }
    let jobs = world.folder("here-did").join("jobs");
    world.until("former jobs are forgotten", || fs::read_dir(&jobs).unwrap().count() == 0);
    assert_eq!(fs::read_dir(world.folder("here-did").join("results")).unwrap().count(), 0);
    assert_eq!(world.desk.reports.lock().unwrap().len(), 12, "each ran once");
}

fn a_job_finds_a_home() {
    let world = World::new();
    world.boot("here-home");
    let script = "cd /; cd; echo x > f && cat f && test \"$(pwd -P)\" = \"$HOME\" && cat \"$HOME/f\" && \
                  mkdir d && cd d && cat ../f \"$(mktemp)\" && cd .. && umask && ulimit -c && env | wc -l";
    world.give_shell("here-home", "first", script);
    let report = world.report("first");
    let text = String::from_utf8(report.output.stdout.bytes).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..5],
        ["x", "x", "x", "0022", "0"],
        "{text} {:?}",
        String::from_utf8_lossy(&report.output.stderr.bytes)
    );
    assert!(lines[5].trim().parse::<u32>().unwrap() < 16, "a small environment");
    world.give_shell("here-home", "second", "ls -A");
    assert_eq!(world.report("second").output.stdout.bytes, b"", "a fresh home");
}

fn head_and_tail_of_output_are_kept_up_to_the_limit() {
    let world = World::new();
    // The worker itself must do with what is there for its jobs.
    let vm = Arc::new(Vm { memory_mib: 1, ..world::vm("here-output") });
    world.desk.change(|view| drop(view.vms.insert(vm.id.clone(), vm.clone())));
    world.boot_named(vm);
    const MAX: usize = OUTPUT_MAX;
    let cases = [
        ("exactly", MAX, 0, false),
        ("one more", MAX + 1, 0, true),
        ("much", 40 * MAX, 30 * MAX, true),
        ("the issue's", 4_000_000, 0, true),
    ];
    for (job, stdout, stderr, truncated) in cases {
        let script = format!(
            "printf first; head -c {} /dev/zero; printf last; head -c {stderr} /dev/zero >&2; exit 7",
            stdout - 9
        );
        world.give_shell("here-output", job, &script);
        let Report { end, output, .. } = world.report(job);
        assert_eq!(end, End::Exited(Exit::Code(7)), "{job}");
        assert_eq!(output.truncated, truncated, "{job}");
        for (written, kept) in [(stdout, &output.stdout), (stderr, &output.stderr)] {
            assert_eq!((kept.bytes.len(), kept.total()), (written.min(MAX), written as u64), "{job}");
            let gap = (written > MAX).then(|| Gap { from: MAX as u64 / 2, to: (written - MAX / 2) as u64 });
            assert_eq!(kept.gap, gap, "{job}");
        }
        assert!(
            output.stdout.bytes.starts_with(b"first\0") && output.stdout.bytes.ends_with(b"\0last"),
            "{job}"
        );
    }
}

fn output_is_read_while_a_job_runs() {
    let mut world = World::new();
    let vm = world.boot("here-live");
    let go = world.shared("go");
    let script = format!(
        "printf 'one\\377'; printf err >&2; while ! test -e '{0}'; do sleep 0.02; done; printf two; \
         while ! test -e '{0}2'; do sleep 0.02; done",
        go.display()
    );
    world.give_shell("here-live", "j", &script);
    let long = Duration::from_secs(60);
    let at = |stream, offset, max| OutputRange { stream, offset, max };
    let (out, err) = (JobStream::Stdout, JobStream::Stderr);
    let mut first = None;
    world.until("it runs", || {
        first = world.read("here-live", "j", at(out, 0, 100), long);
        first.is_some()
    });
    assert_eq!(first.unwrap().bytes, b"one\xff");
    let cases = [
        ("a piece", at(out, 1, 2), &b"ne"[..], 1),
        ("at the end", at(out, 4, 9), b"", 4),
        ("beyond the end", at(out, 400, 9), b"", 400),
        ("nothing", at(out, 0, 0), b"", 0),
        ("the other stream", at(err, 0, 9), b"err", 0),
    ];
    for (what, range, bytes, offset) in cases {
        let part = world.read("here-live", "j", range, Duration::ZERO).unwrap();
        assert_eq!((&*part.bytes, part.offset, part.gap), (bytes, offset, None), "{what}");
    }
    for (vm, job) in [("here-live", "another"), ("here-not", "j")] {
        assert_eq!(world.read(vm, job, at(out, 0, 9), long), None, "{vm} {job}");
    }
    // A reader that waits hears of what comes, also after the server was away; many wait at a time.
    world.stop();
    world.start();
    world.until("the worker is back", || {
        world.read("here-live", "j", at(out, 0, 9), Duration::ZERO).is_some()
    });
    let waiting: Vec<_> = (0..10)
        .map(|_| world.runtime.spawn(world.local().output_part("here-live", "j", at(out, 4, 9), long)))
        .collect();
    fs::write(&go, "").unwrap();
    for reader in waiting {
        assert_eq!(world.runtime.block_on(reader).unwrap().unwrap().bytes, b"two");
    }
    // A client that waits is told when the job ends.
    let last = world.runtime.spawn(world.local().output_part("here-live", "j", at(out, 7, 9), long));
    fs::write(go.with_file_name("go2"), "").unwrap();
    assert_eq!(world.runtime.block_on(last).unwrap(), None);
    assert_eq!(world.report("j").output.stdout.bytes, b"one\xfftwo");
    world.destroy(&vm);
    assert_eq!(world.read("here-live", "j", at(out, 0, 9), long), None);
}

/// As a server would: `DELETE` takes the job from its VM, and the VM may be destroyed at once.
fn what_a_removed_job_wrote_is_reported() {
    let world = World::new();
    for (vm, destroy) in [("here-removed", false), ("here-destroyed", true)] {
        let it = world.boot(vm);
        let here = world.shared(vm);
        let script = format!(
            "trap 'echo bye; exit 4' TERM; echo so far; echo > '{}'; while :; do sleep 0.02; done",
            here.display()
        );
        world.give_shell(vm, vm, &script);
        world.until("it runs", || here.exists());
        world.take_away(vm);
        if destroy {
            world.runtime.block_on(world.local().destroy(it)).unwrap();
        }
        let report = world.report(vm);
        assert_eq!(report.output.stdout.bytes, b"so far\nbye\n", "{vm}");
        assert_eq!(report.end, End::Exited(Exit::Code(4)), "{vm}");
    }
}

fn a_result_knows_when_it_was() {
    let mut world = World::new();
    world.clock.advance(Duration::from_secs(1_000_000));
    let began = world.clock.now();
    world.boot("here-times");
    let (here, ended) = (world.shared("here"), world.shared("ended"));
    let script = format!("echo > '{}'; sleep 0.3; echo > '{}'", here.display(), ended.display());
    world.give_shell("here-times", "j", &script);
    world.until("it runs", || here.exists());
    world.stop();
    let results = world.folder("here-times").join("results/1");
    world.until("it ends while the server is away", || results.exists());
    let was = fs::metadata(&ended).unwrap().modified().unwrap();
    world.until("time passes", || was.elapsed().unwrap() > Duration::from_millis(500));
    world.start();
    let times = world.report("j").times.unwrap();
    let real = was.elapsed().unwrap().as_millis();
    // The clock of the server stood still meanwhile: what passed is told by the worker.
    let ago = began.since(times.finished).as_millis();
    assert!((500..=real + 200).contains(&ago), "{ago} of {real} ms");
    let ran = times.finished.since(times.started).as_millis();
    assert!((300..=10_000).contains(&ran), "{ran} ms");
}

fn a_job_that_is_not_wanted_any_more_ends() {
    let world = World::new();
    world.boot("here-kill");
    // Each would run for ever; the second hears no SIGTERM, the third has stopped itself.
    let cases = [
        ("gentle", "HERE; exec sleep 31001.TAG", 15),
        ("deaf", "trap '' TERM; HERE; while :; do sleep 31002.TAG; done", 9),
        ("stopped", "HERE; kill -STOP $$; sleep 31003.TAG", 15),
    ];
    for (job, script, signal) in cases {
        let here = world.shared(job);
        world.give_shell("here-kill", job, &script.replace("HERE", &format!("echo > '{}'", here.display())));
        world.until("it runs", || here.exists());
        world.take_away("here-kill");
        assert_eq!(world.report(job).end, End::Exited(Exit::Signal(signal)), "{job}");
    }
    for word in ["31001.TAG", "31002.TAG", "31003.TAG"] {
        assert_eq!(running(word), NOTHING);
    }
    world.give("here-kill", "next", &["true"]);
    assert_eq!(world.report("next").end, End::Exited(Exit::Code(0)), "the VM takes another");
}

fn what_a_job_leaves_running_ends_with_it() {
    let world = World::new();
    world.boot("here-daemons");
    let script = "sleep 32001.TAG & setsid sleep 32002.TAG & (setsid sh -c 'sleep 32003.TAG & sleep 32004.TAG' &) ; \
                  env -i setsid sh -c 'trap \"\" TERM; sleep 32005.TAG & wait' & \
                  setsid sh -c 'while :; do sleep 32006.TAG & sleep 0.01; done' & \
                  for n in 1 2 3 4 5; do env -i setsid sh -c 'f() { sleep 0.01; f & }; f' 32007.TAG & done; sleep 0.3; echo started";
    world.give_shell("here-daemons", "j", script);
    let report = world.report("j");
    assert_eq!(
        (report.end, &report.output.stdout.bytes[..]),
        (End::Exited(Exit::Code(0)), &b"started\n"[..])
    );
    for word in ["32001.TAG", "32002.TAG", "32003.TAG", "32004.TAG", "32005.TAG", "32006.TAG", "32007.TAG"] {
        assert_eq!(running(word), NOTHING, "{word}");
    }
}

fn limits_hold() {
    let world = World::new();
    world.boot("here-limits");
    let cases = [
        ("data memory", "ulimit -d", "131072\n"),
        (
            "the memory is really not there",
            "dd if=/dev/zero of=/dev/null bs=256M count=1 2>/dev/null; echo $?",
            "1\n",
        ),
        ("less is", "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo $?", "0\n"),
        (
            "the largest file",
            "grep 'Max file size' /proc/self/limits | tr -s ' ' | cut -d ' ' -f 5",
            "1073741824\n",
        ),
        ("no limit is raised", "ulimit -d 262144 2>/dev/null || echo refused", "refused\n"),
        ("one core of many", "nproc", "1\n"),
        ("no new privileges", "grep NoNewPrivs /proc/self/status | tr -d '\\t'", "NoNewPrivs:1\n"),
        ("no open files but three", "ls /proc/self/fd | wc -l", "4\n"),
    ];
    for (what, script, stdout) in cases {
        world.give_shell("here-limits", what, script);
        let output = world.report(what).output;
        assert_eq!(String::from_utf8_lossy(&output.stdout.bytes), stdout, "{what}: {output:?}");
    }
}

fn files_go_with_their_job() {
    let world = World::new();
    world.boot("here-files");
    let folder = world.folder("here-files");
    // Reports are refused, so that results stay: the files go before they are acknowledged.
    *world.desk.refuse.lock().unwrap() = u32::MAX;
    let cases = [
        ("files", "echo x > f; mkdir -p d/e; echo x > d/e/f; mktemp; echo done"),
        ("closed folders", "mkdir -p d/e; echo x > d/e/f; chmod 0 d/e d .; echo done"),
        ("a link to elsewhere", "ln -s / root; echo done"),
        ("folders of jobs to come", "mkdir ../2 ../3 ../4.tmp ../5 ../18446744073709551615; echo done"),
        ("all that is there", "rm -rf ../*; echo done"),
    ];
    for (number, (what, script)) in (1..).zip(cases) {
        world.give_shell("here-files", what, script);
        world.until(what, || folder.join("results").join(number.to_string()).exists());
        assert_eq!(fs::read_dir(folder.join("jobs")).unwrap().count(), 0, "{what}");
        *world.desk.refuse.lock().unwrap() = 0;
        world.until(what, || {
            world.clock.advance(std::time::Duration::from_secs(1));
            !world.reports(what).is_empty()
        });
        let report = world.report(what);
        assert_eq!(report.end, End::Exited(Exit::Code(0)), "{what}");
        assert!(report.output.stdout.bytes.ends_with(b"done\n"), "{what}");
        *world.desk.refuse.lock().unwrap() = u32::MAX;
    }
    *world.desk.refuse.lock().unwrap() = 0;
}

fn storage_is_bounded_for_the_vm() {
    let world = World::new();
    world.boot("here-storage");
    let one = "head -c 400M /dev/zero >";
    let cases = [
        ("below", format!("{one} a; {one} b; rm a; {one} c; sleep 3; echo done"), None),
        ("many files", format!("{one} a; {one} b; {one} \"$TMPDIR/c\"; {HANG}"), Some("more than its 1 GiB")),
        ("links count once", format!("{one} a; ln a b; ln a c; ln a d; sleep 3; echo done"), None),
        (
            "deleted and open",
            format!("exec 3>a 4>b 5>c; rm a b c; {one}&3; {one}&4; {one}&5; {HANG}"),
            Some("more than its 1 GiB"),
        ),
        (
            "closed folders, no SIGTERM",
            format!("trap '' TERM; mkdir d; {one} d/a; {one} d/b; {one} d/c; chmod 0 d; {HANG}"),
            Some("more than its 1 GiB"),
        ),
    ];
    for (what, script, reason) in cases {
        world.give_shell("here-storage", what, &script);
        match (world.report(what).end, reason) {
            (End::Exited(Exit::Code(0)), None) => {}
            (End::OverLimit(why), Some(reason)) => assert!(why.contains(reason), "{what}: {why}"),
            (end, _) => panic!("{what}: {end:?}"),
        }
        let jobs = world.folder("here-storage").join("jobs");
        assert_eq!(fs::read_dir(jobs).unwrap().count(), 0, "{what}");
    }
}

/// Runs until it is ended.
const HANG: &str = "while :; do sleep 0.1; done";

fn a_result_waits_for_a_full_disk() {
    let world = World::new();
    world.boot("here-full");
    *world.desk.refuse.lock().unwrap() = 3;
    world.give("here-full", "j", &["echo", "kept"]);
    world.until("it is taken after all", || {
        world.clock.advance(std::time::Duration::from_secs(1));
        !world.reports("j").is_empty()
    });
    assert_eq!(world.reports("j")[0].output.stdout.bytes, b"kept\n");
}

fn a_fault_of_the_host_is_not_the_jobs() {
    let world = World::new();
    world.boot("here-fault");
    fs::remove_dir_all(world.folder("here-fault").join("jobs")).unwrap();
    // The same job may come back to the same VM.
    for (job, count) in [("one", 1), ("two", 1), ("two", 2), ("one", 2)] {
        world.give("here-fault", job, &["true"]);
        world.until(job, || world.reports(job).len() == count);
        let end = world.reports(job).pop().unwrap().end;
        assert!(matches!(&end, End::HostFault(why) if why.contains("folders")), "{end:?}");
    }
}

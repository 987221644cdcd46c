//! Users' proxies, fetched by a program that the test writes: a real server is asked in the roof's tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use pileus_engine::{Config, UserCredentials};
use pileus_model::{Clock, Command, ManualClock, ProxyUse, Refusal, Time};

use crate::fake::{Bench, Fake, config};

/// Ends with the year 2028.
const EARLY: &str = include_str!("../../src/proxies/testdata/early.pem");
const EARLY_ENDS: Time = Time(1_861_920_000_000);
/// Ends with the year 2029.
const LATE: &str = include_str!("../../src/proxies/testdata/late.pem");
const LATE_ENDS: Time = Time(1_893_456_000_000);
const SECRET: &str = "correct horse";

/// A configuration whose program is a shell script; `$out` is where the proxy is wanted.
fn scripted(dir: &Path, script: &str) -> Config {
    let program = dir.join("logon.sh");
    let find = "for word; do [ \"$before\" = -o ] && out=$word; before=$word; done";
    fs::write(&program, format!("#!/bin/sh\n{find}\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(dir.join("early.pem"), EARLY).unwrap();
    fs::write(dir.join("late.pem"), LATE).unwrap();
    fs::write(dir.join("other_key.pem"), include_str!("../../src/proxies/testdata/other_key.pem")).unwrap();
    fs::write(dir.join("other_subject.pem"), include_str!("../../src/proxies/testdata/other_subject.pem"))
        .unwrap();
    secret(&dir.join("passphrase"), 0o600);
    let mut config = config(dir, &[("c", 1)]);
    config.credentials.myproxy_logon = program;
    config.credentials.server = Some("myproxy.example".into());
    let user = UserCredentials { passphrase_file: Some(dir.join("passphrase")), ..Default::default() };
    config.credentials.users.insert("ada".into(), user);
    config
}

fn secret(path: &Path, mode: u32) {
    fs::write(path, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn renew(user: &str) -> Command {
    Command::RenewProxy { user: user.into(), which: ProxyUse::JobProxy }
}

fn kept(dir: &Path) -> PathBuf {
    dir.join("state/credentials/ada/job_proxy.pem")
}

#[tokio::test]
async fn a_proxy_is_fetched_and_its_end_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let say = format!(
        "read line; echo \"$@ $line\" >{0}/said; umask 0; cp {0}/late.pem $out",
        dir.path().display()
    );
    let clock = ManualClock::at(Time(1_700_000_000_000));
    let bench = Bench::try_start(scripted(dir.path(), &say), &Fake::default(), &clock).await.unwrap();
    let view = bench.submit(renew("ada")).await.unwrap().view;
    let proxy = view.proxies["ada"].get(ProxyUse::JobProxy).unwrap().clone();
    assert_eq!((proxy.expires, proxy.renewed, &*proxy.server), (LATE_ENDS, clock.now(), "myproxy.example"));
    assert!(view.proxies["ada"].vm_proxy.is_none());
    let file = kept(dir.path());
    assert_eq!(fs::read_to_string(&file).unwrap(), LATE);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let new = file.with_extension("pem.new");
    let said = fs::read_to_string(dir.path().join("said")).unwrap();
    let wanted = format!("-q -s myproxy.example -p 7512 -l ada -t 12 -o {} -S {SECRET}\n", new.display());
    assert_eq!(said, wanted);
    assert!(!new.exists());
    bench.stop().await;
    // Without the passphrase, the proxy that is there proves who asks for its successor.
    let mut config = scripted(dir.path(), &say);
    config.credentials.users.clear();
    let bench = Bench::try_start(config, &Fake::default(), &clock).await.unwrap();
    assert_eq!(bench.engine.view().proxies["ada"].job_proxy, Some(proxy));
    bench.submit(renew("ada")).await.unwrap();
    let said = fs::read_to_string(dir.path().join("said")).unwrap();
    assert!(said.trim_end().ends_with(&format!("-a {}", file.display())), "{said}");
    bench.stop().await;
}

#[tokio::test]
async fn what_fails_is_said_and_leaves_the_proxy_that_was_there() {
    let at = "myproxy.example:7512 gave no proxy: ";
    // What it shows, the program, the answer.
    let cases = [
        (
            "its words",
            "echo 'invalid passphrase' >&2; echo bye >&2; exit 1".into(),
            format!("{at}invalid passphrase; bye"),
        ),
        ("no words", "exit 3".into(), format!("{at}exit status: 3")),
        (
            "no secret",
            format!("read line; echo \"no such $line: {SECRET}\" >&2; exit 1"),
            format!("{at}no such …: …"),
        ),
        ("no end of words", "yes >&2 & sleep 0.2; kill $!; exit 1".into(), format!("{at}y; y; y")),
        ("nothing came", "exit 0".into(), "The proxy that came is of no use: No such file".into()),
        (
            "no proxy",
            "echo hello >$out".into(),
            "The proxy that came is of no use: there is no certificate in it.".into(),
        ),
        (
            "another key",
            "cp ${0%/*}/other_key.pem $out".into(),
            "The proxy that came is of no use: its certificate is for another key than the one in it.".into(),
        ),
        (
            "it has ended",
            "cp ${0%/*}/early.pem $out".into(),
            "The proxy that came is of no use: it has ended already.".into(),
        ),
    ];
    for (what, script, wanted) in cases {
        let dir = tempfile::tempdir().unwrap();
        let file = kept(dir.path());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::set_permissions(dir.path().join("state"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&file, "the old one").unwrap();
        let clock = ManualClock::at(EARLY_ENDS);
        let bench = Bench::try_start(scripted(dir.path(), &script), &Fake::default(), &clock).await.unwrap();
        let refusal = bench.submit(renew("ada")).await.map(drop).unwrap_err();
        assert!(matches!(&refusal, Refusal::Elsewhere(why) if why.starts_with(&wanted)), "{what}: {refusal}");
        assert!(refusal.to_string().len() < 700, "{what}: {refusal}");
        assert!(bench.engine.view().proxies.is_empty(), "{what}");
        let names: Vec<_> =
            fs::read_dir(file.parent().unwrap()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), names.len()), ("the old one", 1), "{what}");
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_renewal_is_of_the_same_subject() {
    let (ada, eve) = ("/O=Test/CN=Ada", "/O=Test/CN=Eve");
    // The subject of the settings, what came first, what came then, and whether that was taken.
    let cases = [
        (None, "late", "early", true),
        (None, "late", "other_subject", false),
        (Some(eve), "other_subject", "other_subject", true),
        (Some(eve), "other_subject", "late", false),
        (Some(ada), "late", "other_key", false),
    ];
    for (subject, first, second, taken) in cases {
        let dir = tempfile::tempdir().unwrap();
        let script = "cp ${0%/*}/$(cat ${0%/*}/which).pem $out";
        let mut config = scripted(dir.path(), script);
        config.credentials.users.get_mut("ada").unwrap().subject = subject.map(Into::into);
        let clock = ManualClock::at(Time(1_700_000_000_000));
        let bench = Bench::try_start(config, &Fake::default(), &clock).await.unwrap();
        fs::write(dir.path().join("which"), first).unwrap();
        bench.submit(renew("ada")).await.unwrap();
        let before = fs::read_to_string(kept(dir.path())).unwrap();
        fs::write(dir.path().join("which"), second).unwrap();
        let answer = bench.submit(renew("ada")).await.map(drop);
        let after = fs::read_to_string(kept(dir.path())).unwrap();
        assert_eq!(answer.is_ok(), taken, "{subject:?} {first} {second}: {answer:?}");
        assert!(taken || matches!(&answer, Err(Refusal::Elsewhere(_))), "{answer:?}");
        let now = fs::read_to_string(dir.path().join(format!("{second}.pem"))).unwrap();
        assert_eq!(after, if taken { now } else { before }, "{subject:?} {first} {second}");
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_missing_program_and_a_passphrase_for_all_to_read_are_clear() {
    let dir = tempfile::tempdir().unwrap();
    let mut missing = scripted(dir.path(), "");
    missing.credentials.myproxy_logon = "/nowhere/myproxy-logon".into();
    let open = scripted(dir.path(), "cp ${0%/*}/late.pem $out");
    for (config, mode, wanted) in [
        (
            missing,
            0o600,
            "The program `/nowhere/myproxy-logon` is not there. Debian's package `myproxy` has it",
        ),
        (open, 0o640, "The passphrase file "),
    ] {
        secret(&dir.path().join("passphrase"), mode);
        let bench = Bench::start(config, &Fake::default()).await;
        let refusal = bench.submit(renew("ada")).await.map(drop).unwrap_err();
        assert!(matches!(&refusal, Refusal::Elsewhere(why) if why.starts_with(wanted)), "{refusal}");
        let nobody = Command::RenewProxy { user: "bob".into(), which: ProxyUse::VmProxy };
        let refusal = bench.submit(nobody).await.map(drop).unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Conflict(why) if why.starts_with("User bob has no vm_proxy")),
            "{refusal}"
        );
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_with_all_that_it_started_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    // Only `ada` hangs; a child of the program does, too.
    let script =
        "case \"$*\" in *ada*) sleep 1000 & echo $! $$ >${0%/*}/pids; wait;; esac; cp ${0%/*}/late.pem $out";
    let mut config = scripted(dir.path(), script);
    let user = config.credentials.users["ada"].clone();
    config.credentials.users.insert("bob".into(), user);
    let bench = Bench::start(config, &Fake::default()).await;
    let hanging = bench.submit(renew("ada"));
    let pids = dir.path().join("pids");
    let meanwhile = async {
        bench
            .until_so("the program", || fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n')))
            .await;
        let refusal = bench.submit(renew("ada")).await.map(drop).unwrap_err();
        assert_eq!(refusal.to_string(), "The job_proxy of user ada is being renewed.");
        bench.submit(renew("bob")).await.unwrap();
        bench.clock.advance(Duration::from_secs(30));
    };
    let (hung, ()) = tokio::join!(hanging, meanwhile);
    assert_eq!(
        hung.unwrap_err(),
        Refusal::Elsewhere("myproxy.example:7512 gave no proxy within 30 s.".into())
    );
    let lives = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    let text = fs::read_to_string(&pids).unwrap();
    bench.until_so("the end of both", || !text.split_whitespace().any(lives)).await;
    // It can be tried again.
    let refusal = bench.submit(Command::RenewProxy { user: "cy".into(), which: ProxyUse::JobProxy }).await;
    assert!(matches!(refusal.map(drop), Err(Refusal::Conflict(_))));
    bench.stop().await;
}

#[tokio::test]
async fn a_proxy_that_ends_soon_is_renewed_unasked() {
    let dir = tempfile::tempdir().unwrap();
    // The first one ends early, the next one late.
    let script = "cd ${0%/*}; cp early.pem $out; mv late.pem early.pem 2>/dev/null; exit 0";
    let mut config = scripted(dir.path(), script);
    config.credentials.job_proxy_refresher_interval_s = std::num::NonZeroU64::new(60);
    let clock = ManualClock::at(Time(EARLY_ENDS.0 - 1_000_000));
    let bench = Bench::try_start(config, &Fake::default(), &clock).await.unwrap();
    let view = bench.submit(renew("ada")).await.unwrap().view;
    let ends = |view: &pileus_model::View| view.proxies["ada"].job_proxy.as_ref().unwrap().expires;
    assert_eq!(ends(&view), EARLY_ENDS);
    // 1000 s before its end nothing is to be done yet; 880 s before it is.
    bench.tick(11).await;
    assert_eq!(ends(&bench.engine.view()), EARLY_ENDS);
    bench.tick(13).await;
    let view = bench.until("the renewal", |view| ends(view) == LATE_ENDS).await;
    let history = bench.engine.events(0, 1000, None).await.unwrap();
    let by: Vec<_> = history
        .events
        .iter()
        .filter(|event| matches!(event.kind, pileus_model::Kind::ProxyRenewed { .. }))
        .map(|event| &*event.by.user)
        .collect();
    assert_eq!((by.as_slice(), view.proxies.len()), (&["ann", "[job proxy refresher]"][..], 1));
    bench.stop().await;
}

//! `kill -9` in the middle of writes: whatever was acknowledged is there afterwards.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command as Process, Stdio},
};

use pileus_model::Command;

use crate::fake::{Bench, Fake, config, job};

const FOLDER: &str = "PILEUS_TEST_CRASH_FOLDER";

/// Not a test of its own: the process that is killed. It submits jobs and prints the id of each that
/// was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test below, in a process of its own"]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let bench = Bench::start(config(Path::new(&folder), &[("c", 2)]), &Fake::default()).await;
    let bench = std::sync::Arc::new(bench);
    for _ in 0..16 {
        let bench = bench.clone();
        tokio::spawn(async move {
            loop {
                let submitted = bench.submit(Command::SubmitJob(Box::new(job()))).await.unwrap();
                println!("acknowledged {}", submitted.id);
            }
        });
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn no_acknowledged_command_is_lost() {
    for after in [1, 100, 700] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acknowledged = BTreeSet::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut take = |line: String| {
            // The test harness writes its own line in front of the first one.
            if let Some((_, id)) = line.split_once("acknowledged ").filter(|(_, id)| id.len() == 36) {
                acknowledged.insert(id.to_owned());
            }
            acknowledged.len()
        };
        while take(lines.next().expect("it goes on until it is killed")) < after {}
        child.kill().unwrap();
        lines.for_each(|line| {
            take(line);
        });
        child.wait().unwrap();
        let bench = Bench::start(config(dir.path(), &[("c", 2)]), &Fake::default()).await;
        let view = bench.engine.view();
        let lost: Vec<_> = acknowledged.iter().filter(|id| !view.jobs.contains_key(id.as_str())).collect();
        assert!(lost.is_empty(), "of {} acknowledged, lost: {lost:?}", acknowledged.len());
        bench.stop().await;
    }
}

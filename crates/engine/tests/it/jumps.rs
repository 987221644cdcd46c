//! Wall clocks that jump.

use std::sync::Arc;

use pileus_model::{Actor, Clock, Command, JobState, Kind, RequestKey};

use crate::fake::{Bench, Fake, config, job};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

#[tokio::test]
async fn an_engine_goes_on_through_jumps_of_the_wall_clock() {
    // A jump, after how many ticks of 5 s it is undone, and whether the engine's time has followed in the end.
    let cases =
        [("back", -HOUR_MS, None), ("ahead for 10 s", 2 * DAY_MS, Some(2)), ("ahead", 2 * DAY_MS, None)];
    for (what, by_ms, undone) in cases {
        let dir = tempfile::tempdir().unwrap();
        let cloud = Fake::default();
        let bench = Bench::start(config(dir.path(), &[("c", 1)]), &cloud).await;
        let key = RequestKey { key: "k".into(), request: "r".into(), repeated: false };
        let by = Actor { user: "ann".into(), key: Some(Arc::new(key)), ..Actor::default() };
        let submit = || bench.engine.submit(Command::SubmitJob(Box::new(job())), by.clone());
        let first = submit().await.unwrap().id;
        bench.jump(by_ms);
        let vm = bench.until("a vm", |view| !view.vms.is_empty()).await.vms.keys().next().unwrap().clone();
        bench.boot(&cloud, &vm).await;
        bench.until("the start", |view| view.jobs[&*first].state == JobState::Running).await;
        bench.finish(&vm, &first, b"hello").await.unwrap();
        let keep_ticks = 11;
        for tick in 0..keep_ticks {
            bench.tick(1).await;
            if undone == Some(tick) {
                bench.jump(-by_ms);
            }
        }
        assert!(bench.engine.view().vms.contains_key(&vm), "{what}: kept alive");
        bench.tick_until("the end of the vm", |view| view.vms.is_empty()).await;
        assert_eq!(submit().await.unwrap().id, first, "{what}: the key is known");
        if undone.is_none() {
            bench.follow().await;
            let set = |kind: &Kind| matches!(kind, Kind::ClockSet { by_ms: it, .. } if *it == by_ms);
            let history = bench.engine.events(0, 1000, None).await.unwrap();
            assert_eq!(history.events.iter().filter(|event| set(&event.kind)).count(), 1, "{what}");
        }
        let finished = bench.engine.view().jobs[&*first].finished.unwrap();
        assert!(bench.clock.now().since(finished).as_secs() < 3600, "{what}: {finished:?}");
        assert_eq!(bench.engine.output(&first).await.unwrap().unwrap().stdout.bytes, b"hello", "{what}");
        bench.stop().await;
    }
}

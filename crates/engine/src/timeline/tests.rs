use std::sync::Arc;

use pileus_model::{Job, JobState, Kind, ManualClock, Vm, VmState};

use super::*;
use crate::{
    config::SchedulerConfig,
    schedule::cleanup::cleanup_without,
    testing::{self, cloud, happen, idle_vm, job, vm},
};

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;
const NOON: Time = Time(1_767_268_800_000);

/// Steps of an engine's life, in seconds.
#[derive(Clone, Copy)]
enum Step {
    /// The wall clock jumps.
    Jump(i64),
    /// Time passes.
    Wait(i64),
    /// The engine ends, and starts after this time.
    Restart(i64),
}
use Step::{Jump, Restart, Wait};

/// An engine's time and state.
struct World {
    clock: ManualClock,
    timeline: Timeline,
    view: View,
}

impl World {
    fn new(fill: impl FnOnce(&mut View)) -> Self {
        let clock = ManualClock::at(NOON);
        let mut view = testing::view([cloud("c", 5)]);
        fill(&mut view);
        let timeline = Timeline::new(Arc::new(clock.clone()), &view);
        Self { clock, timeline, view }
    }

    fn step(&mut self, step: Step) {
        match step {
            Jump(by_s) => self.clock.jump(by_s * 1000),
            Wait(time_s) => {
                for _ in 0..time_s {
                    self.clock.advance(Duration::from_secs(1));
                    self.look();
                }
            }
            Restart(down_s) => {
                self.clock.advance(Duration::from_secs(down_s.unsigned_abs()));
                self.timeline = Timeline::new(Arc::new(self.clock.clone()), &self.view);
            }
        }
    }

    fn look(&mut self) {
        let Some(by_ms) = self.timeline.look() else { return };
        let since = (by_ms < 0).then(|| self.timeline.started());
        let now = moved(self.timeline.now(), by_ms);
        happen(&mut self.view, now, [Kind::ClockSet { by_ms, since }]);
        self.timeline.set(self.view.seq, by_ms);
    }

    /// Changes that clean-up wants, by name.
    fn wants(&self) -> String {
        let moment = self.timeline.moment(&self.view);
        let changes = cleanup_without(&self.view, moment, &SchedulerConfig::default(), &[].into());
        let names = changes.iter().map(|change| {
            let text = format!("{change:?}");
            text.split([' ', '{']).next().unwrap_or_default().to_owned()
        });
        names.collect::<Vec<_>>().join(" ")
    }
}

fn ended(finished: Time) -> Job {
    Job { state: JobState::Complete, submitted: finished, finished: Some(finished), ..job("j") }
}

/// A VM of this moment.
fn fresh(vm: Vm, at: Time) -> Vm {
    Vm {
        created: at,
        changed: at,
        running: vm.running.map(|_| at),
        registered: vm.registered.map(|_| at),
        idle_since: vm.idle_since.map(|_| at),
        ..vm
    }
}

/// Ways of a clock that must change no duration, with the true time that they take.
fn ways() -> Vec<(&'static str, Vec<Step>, i64)> {
    vec![
        ("no jump", vec![], 0),
        ("back an hour", vec![Jump(-HOUR_S)], 0),
        ("back an hour, for good", vec![Jump(-HOUR_S), Wait(660)], 660),
        ("ahead two days for 8 s", vec![Jump(2 * DAY_S), Wait(8), Jump(-2 * DAY_S)], 8),
        ("ahead two days", vec![Jump(2 * DAY_S)], 0),
        ("ahead two days, for good", vec![Jump(2 * DAY_S), Wait(660)], 660),
        ("ahead, followed, and back", vec![Jump(2 * DAY_S), Wait(660), Jump(-2 * DAY_S), Wait(660)], 1320),
        ("back, followed, and ahead", vec![Jump(-HOUR_S), Wait(660), Jump(HOUR_S), Wait(660)], 1320),
        ("there and back all the time", [Jump(DAY_S), Wait(60), Jump(-DAY_S), Wait(60)].repeat(5), 600),
    ]
}

#[test]
fn no_jump_ends_what_lasts_or_lets_it_last_longer() {
    // Thing that lasts, its seconds, and the action of clean-up then.
    type Fill = fn(&mut View);
    let lasting: [(&str, Fill, i64, &str); 4] = [
        ("a job that has ended", |view| testing::add(view, [ended(NOON)], []), DAY_S, "Forget"),
        (
            "an idle VM",
            |view| testing::add(view, [], [Vm { keep_alive_s: 3600, ..fresh(idle_vm("v", "c"), NOON) }]),
            HOUR_S,
            "Retire",
        ),
        (
            "a VM that boots",
            |view| {
                testing::add(view, [], [fresh(vm("v", "c"), NOON)]);
                let mut cloud = (*view.clouds["c"]).clone();
                cloud.spec.boot_timeout_s = Some(3600);
                view.clouds.insert("c".into(), Arc::new(cloud));
            },
            HOUR_S,
            "Broken",
        ),
        (
            "a VM that does not register",
            |view| {
                let vm = Vm { state: VmState::Running, ..fresh(vm("v", "c"), NOON) };
                testing::add(view, [], [vm]);
            },
            900,
            "Broken",
        ),
    ];
    for (what, fill, lasts_s, then) in lasting {
        for (way, steps, took_s) in ways().into_iter().filter(|(_, _, took_s)| *took_s < lasts_s - 1) {
            let mut world = World::new(fill);
            for step in steps {
                world.step(step);
                assert_eq!(world.wants(), "", "{what}, {way}");
            }
            world.step(Wait(lasts_s - took_s - 1));
            assert_eq!(world.wants(), "", "{what}, {way}, a second before its end");
            world.step(Wait(1));
            assert_eq!(world.wants(), then, "{what}, {way}");
        }
    }
}

#[test]
fn a_start_with_a_wrong_clock_forgets_nothing() {
    // Steps after a job of NOON; whether it is forgotten then.
    let cases: [(&str, &[Step], bool); 9] = [
        ("at once, ahead", &[Jump(2 * DAY_S), Restart(5)], false),
        ("ahead for 9 minutes", &[Jump(2 * DAY_S), Restart(5), Wait(540), Jump(-2 * DAY_S), Wait(1)], false),
        (
            "ahead for 9 minutes, set right, and followed",
            &[Jump(2 * DAY_S), Restart(5), Wait(540), Jump(-2 * DAY_S), Wait(1300)],
            false,
        ),
        ("back for ever", &[Jump(-2 * DAY_S), Restart(5), Wait(1300)], false),
        (
            "of 1970, set right",
            &[Jump(-NOON.0 / 1000), Restart(5), Wait(900), Jump(NOON.0 / 1000), Wait(900)],
            false,
        ),
        ("down for two days", &[Restart(2 * DAY_S), Wait(1)], false),
        ("down for two days, after 10 minutes", &[Restart(2 * DAY_S), Wait(605)], true),
        (
            "two restarts within a day",
            &[Wait(60), Restart(HOUR_S), Wait(700), Restart(HOUR_S), Wait(700)],
            false,
        ),
        ("down for 23 hours, then 1 h", &[Restart(23 * HOUR_S), Wait(HOUR_S)], true),
    ];
    for (what, steps, forgets) in cases {
        let mut world = World::new(|view| testing::add(view, [ended(NOON)], []));
        steps.iter().for_each(|step| world.step(*step));
        assert_eq!(world.wants(), if forgets { "Forget" } else { "" }, "{what}");
    }
}

#[test]
fn a_start_restarts_the_timers_of_vms() {
    let mut world = World::new(|view| {
        testing::add(view, [], [Vm { keep_alive_s: 60, ..fresh(idle_vm("v", "c"), NOON) }]);
    });
    world.step(Restart(3000));
    world.step(Wait(59));
    assert_eq!(world.wants(), "");
    world.step(Wait(1));
    assert_eq!(world.wants(), "Retire");
}

#[test]
fn times_follow_a_jump_that_lasts() {
    // By how much; a job of before, a job of this process, and the new time, all as seconds after NOON.
    for (by_s, old, new, now) in [
        (HOUR_S, HOUR_S, HOUR_S + 10, HOUR_S + 610),
        // Times that were stamped before this process stay, but not in the future.
        (-5, 0, 5, 605),
        (-HOUR_S, 610 - HOUR_S, 10 - HOUR_S, 610 - HOUR_S),
    ] {
        let mut world = World::new(|view| testing::add(view, [ended(NOON)], []));
        world.step(Restart(5));
        let stamp = |world: &mut World| {
            let at = world.timeline.now();
            testing::add(&mut world.view, [Job { id: "new".into(), ..ended(at) }], []);
        };
        world.clock.advance(Duration::from_secs(5));
        stamp(&mut world);
        world.step(Jump(by_s));
        world.look();
        world.clock.advance(Duration::from_secs(600));
        world.look();
        let of = |job: &str| (world.view.jobs[job].finished.unwrap().0 - NOON.0) / 1000;
        assert_eq!((of("j"), of("new")), (old, new), "{by_s} s");
        assert_eq!((world.timeline.now().0 - NOON.0) / 1000, now, "{by_s} s");
        assert_eq!(world.timeline.now(), world.clock.now(), "{by_s} s");
    }
}

#[test]
fn a_view_is_judged_by_its_own_time() {
    let mut world = World::new(|_| ());
    let before = world.view.clone();
    world.step(Jump(DAY_S));
    world.step(Wait(601));
    let moment = |view: &View| world.timeline.moment(view).now;
    assert_eq!(moment(&world.view).0 - moment(&before).0, DAY_S * 1000);
    assert_eq!(moment(&world.view), world.clock.now());
}

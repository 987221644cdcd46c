//! Every command: what it becomes, or how it is refused.

use pileus_model::{
    Cloud, Command, Job, JobSpec, JobState, Kind, Name, Origin, Override, Refusal, Time, View, Vm,
};

use super::{decide, valid};
use crate::{
    ids::Ids,
    testing::{self, cloud, happen, idle_vm, job, spec, token, vm},
};

fn job_spec() -> JobSpec {
    JobSpec {
        project: "p".into(),
        user: "alice".into(),
        command: vec!["/bin/echo".into(), "hello".into()],
        vm_type: "t1".into(),
        cpu_cores: 1,
        memory_mib: 100,
        storage_gib: 0,
        priority: 0,
        high_priority: false,
        keep_alive_s: None,
        target_clouds: Vec::new(),
        image: None,
        user_type_limit: None,
    }
}

/// Two clouds of a file, one of the API; jobs in every state; VMs idle, busy, going.
fn world() -> View {
    let api = Cloud { origin: Origin::Api, ..cloud("api", 2) };
    let mut view = testing::view([cloud("Alpha", 3), cloud("beta", 1), api]);
    let in_state = |state: JobState| Job { state, ..job(state.as_str()) };
    let jobs = JobState::ALL.into_iter().map(in_state);
    let busy = Vm { job: Some("running".into()), ..idle_vm("busy", "Alpha") };
    let going = Vm { destroy: Some("old".into()), ..idle_vm("going", "beta") };
    let retiring =
        Vm { override_state: Some(Override::Retiring), force_retire: true, ..idle_vm("retiring", "api") };
    let young = Vm { created: Time(9), ..vm("young", "Alpha") };
    testing::add(&mut view, jobs, [busy, young, going, retiring]);
    happen(&mut view, Time(0), [Kind::TokenCreated(token("t"))]);
    happen(&mut view, Time(0), [Kind::AliasSet { alias: "West".into(), clouds: vec!["Alpha".into()] }]);
    happen(&mut view, Time(0), [Kind::AliasSet { alias: "filed".into(), clouds: vec![] }]);
    happen(&mut view, Time(0), [Kind::UserLimit { user: "filed".into(), vms: Some(1) }]);
    view.file_aliases.insert("filed".into());
    view.file_limits.insert("filed".into());
    view
}

fn asked(command: Command) -> Result<Vec<Kind>, Refusal> {
    decide(&world(), command, Time(5), &mut Ids::default())
}

#[test]
fn commands_become_events() {
    let override_state = |vm: &str, state: Option<Override>| Kind::VmOverride {
        vm: vm.into(),
        state,
        force_retire: state.is_some(),
    };
    let retired = |vm: &str| override_state(vm, Some(Override::Retiring));
    let state = |job: &str, state, reason: Option<&str>| Kind::JobState {
        job: job.into(),
        state,
        reason: reason.map(Into::into),
    };
    let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect::<Vec<Name>>();
    let alpha = || Name::from("Alpha");
    let cases = [
        (
            "a job that waits is removed",
            Command::DeleteJob { job: "new".into() },
            vec![state("new", JobState::Removed, None)],
        ),
        (
            "one that runs too",
            Command::DeleteJob { job: "running".into() },
            vec![state("running", JobState::Removed, None)],
        ),
        (
            "one that has ended is forgotten",
            Command::DeleteJob { job: "complete".into() },
            vec![Kind::JobsForgotten { jobs: names(&["complete"]) }],
        ),
        (
            "held",
            Command::HoldJob { job: "scheduled".into(), reason: "wait".into() },
            vec![state("scheduled", JobState::Held, Some("wait"))],
        ),
        ("held already", Command::HoldJob { job: "held".into(), reason: "".into() }, vec![]),
        ("released", Command::ReleaseJob { job: "held".into() }, vec![state("held", JobState::New, None)]),
        (
            "switched off, found in another case",
            Command::EnableCloud { cloud: "ALPHA".into(), enabled: false },
            vec![Kind::CloudEnabled { cloud: alpha(), enabled: false }],
        ),
        (
            "fewer slots retire the youngest",
            Command::SetSlots { cloud: "Alpha".into(), vm_slots: 1 },
            vec![Kind::CloudSlots { cloud: alpha(), vm_slots: 1 }, retired("young")],
        ),
        (
            "drained: all VMs are retired, the youngest first",
            Command::DrainCloud { cloud: "Alpha".into() },
            vec![Kind::CloudDraining { cloud: alpha() }, retired("young"), retired("busy")],
        ),
        (
            "more slots",
            Command::SetSlots { cloud: "Alpha".into(), vm_slots: 9 },
            vec![Kind::CloudSlots { cloud: alpha(), vm_slots: 9 }],
        ),
        (
            "a cloud with VMs is retired",
            Command::DeleteCloud { cloud: "api".into() },
            vec![Kind::CloudRetired { cloud: "api".into() }],
        ),
        (
            "VMs are destroyed, once",
            Command::ShutdownVms { vms: names(&["busy", "going", "busy"]), why: "asked".into() },
            vec![Kind::VmDestroy { vm: "busy".into(), why: "asked".into() }],
        ),
        (
            "VMs are retired, once",
            Command::RetireVms { vms: names(&["busy", "retiring"]) },
            vec![retired("busy")],
        ),
        (
            "VMs are forgotten",
            Command::RemoveVms { vms: names(&["young"]) },
            vec![Kind::VmGone { vm: "young".into(), why: "an administrator removed it".into() }],
        ),
        (
            "a VM is taken back",
            Command::ResetVm { vm: "retiring".into() },
            vec![override_state("retiring", None)],
        ),
        ("nothing to take back", Command::ResetVm { vm: "busy".into() }, vec![]),
        (
            "an alias",
            Command::SetAlias { alias: "East".into(), clouds: vec!["beta".into()] },
            vec![Kind::AliasSet { alias: "East".into(), clouds: vec!["beta".into()] }],
        ),
        (
            "an alias as it is",
            Command::SetAlias { alias: "West".into(), clouds: vec!["Alpha".into()] },
            vec![],
        ),
        (
            "an alias goes",
            Command::DeleteAlias { alias: "West".into() },
            vec![Kind::AliasGone { alias: "West".into() }],
        ),
        (
            "a limit",
            Command::SetUserLimit { user: "alice".into(), vms: Some(0) },
            vec![Kind::UserLimit { user: "alice".into(), vms: Some(0) }],
        ),
        ("no limit as it is", Command::SetUserLimit { user: "alice".into(), vms: None }, vec![]),
        (
            "a token goes",
            Command::RevokeToken { name: "t".into() },
            vec![Kind::TokenRevoked { sha256: token("t").sha256, name: Some("t".into()) }],
        ),
        (
            "a token takes the place of another one",
            Command::CreateToken {
                sha256: "cd".repeat(32).into(),
                name: "t".into(),
                user: "alice".into(),
                project: "p".into(),
                roles: vec!["member".into()],
                expires: Some(Time(i64::MAX)),
                replaces: true,
            },
            vec![
                Kind::TokenRevoked { sha256: token("t").sha256, name: Some("t".into()) },
                Kind::TokenCreated(pileus_model::Token {
                    sha256: "cd".repeat(32).into(),
                    created: Time(5),
                    expires: Some(Time(i64::MAX)),
                    ..token("t")
                }),
            ],
        ),
    ];
    for (what, command, wanted) in cases {
        assert_eq!(asked(command), Ok(wanted), "{what}");
    }
}

#[test]
fn commands_are_refused_by_the_field_that_is_wrong() {
    type Spoil = fn(&mut JobSpec);
    let spoilt: [(Spoil, &str); 15] = [
        (|job| job.command.clear(), "Invalid command: must name a program"),
        (|job| job.command = vec!["".into(), "x".into()], "Invalid command: must name a program"),
        (|job| job.command.push("a\0b".into()), "Invalid command: must not hold a NUL"),
        (|job| job.command = vec!["x".into(); valid::ARGS_MAX + 1], "Invalid command: must not have more"),
        (|job| job.command.push("x".repeat(valid::COMMAND_MAX)), "Invalid command: must not be longer"),
        (|job| job.user = "".into(), "Invalid user: must not be empty"),
        (|job| job.user = "x".repeat(256).into(), "Invalid user: must not be longer than 255"),
        (|job| job.project = "a\0".into(), "Invalid project: must not hold a NUL"),
        (|job| job.vm_type = "".into(), "Invalid vm_type: must not be empty"),
        (|job| job.cpu_cores = 0, "Invalid cpu_cores: must be at least 1"),
        (|job| job.cpu_cores = u32::MAX, "Invalid cpu_cores: must not be more"),
        (|job| job.memory_mib = 0, "Invalid memory_mib: must be at least 1"),
        (|job| job.storage_gib = u64::MAX, "Invalid storage_gib: must not be more"),
        (|job| job.target_clouds = vec!["c".into(); 1001], "Invalid target_clouds: must not hold more"),
        (|job| job.target_clouds = vec!["".into()], "Invalid target_clouds: must not be empty"),
    ];
    let spoilt = spoilt.map(|(spoil, problem)| {
        let mut spec = job_spec();
        spoil(&mut spec);
        (Command::SubmitJob(Box::new(spec)), problem)
    });
    let vms = |name: &str| vec!["busy".into(), name.into()];
    let strange = pileus_model::CloudSpec { driver: "vmware".into(), ..spec(1) };
    let create_token = |sha256: &str, name: &str| Command::CreateToken {
        sha256: sha256.into(),
        name: name.into(),
        user: "alice".into(),
        project: "p".into(),
        roles: Vec::new(),
        expires: None,
        replaces: false,
    };
    let token_with = |change: &dyn Fn(&mut Name, &mut Option<Time>)| {
        let mut command = create_token(&"cd".repeat(32), "u");
        if let Command::CreateToken { user, expires, .. } = &mut command {
            change(user, expires);
        }
        command
    };
    let others = [
        (Command::DeleteJob { job: "x".into() }, "Job x could not be found."),
        (
            Command::HoldJob { job: "running".into(), reason: "".into() },
            "Job running is running and cannot be held.",
        ),
        (Command::HoldJob { job: "new".into(), reason: "x".repeat(1025) }, "Invalid reason: "),
        (Command::ReleaseJob { job: "new".into() }, "Job new is new, not held."),
        (Command::CreateCloud { cloud: "ALPHA".into(), spec: spec(1) }, "Cloud Alpha exists."),
        (Command::CreateCloud { cloud: "".into(), spec: spec(1) }, "Invalid name: must not be empty"),
        (
            Command::CreateCloud { cloud: "c".into(), spec: strange },
            "Invalid driver: `vmware` is unknown; there is `local`",
        ),
        (Command::UpdateCloud { cloud: "beta".into(), spec: spec(1) }, "Cloud beta is configured in a file"),
        (Command::DeleteCloud { cloud: "beta".into() }, "Cloud beta is configured in a file"),
        (Command::EnableCloud { cloud: "x".into(), enabled: true }, "Cloud x could not be found."),
        (Command::SetSlots { cloud: "beta".into(), vm_slots: u32::MAX }, "Invalid vm_slots: "),
        (Command::ShutdownVms { vms: vms("x"), why: "".into() }, "VM x could not be found."),
        (Command::RetireVms { vms: vms("x") }, "VM x could not be found."),
        (Command::RemoveVms { vms: vms("x") }, "VM x could not be found."),
        (Command::ResetVm { vm: "going".into() }, "VM going is being destroyed."),
        (Command::SetAlias { alias: "WEST".into(), clouds: vec![] }, "Alias West exists"),
        (Command::SetAlias { alias: "filed".into(), clouds: vec![] }, "Alias filed is set in a file"),
        (Command::DeleteAlias { alias: "filed".into() }, "Alias filed is set in a file"),
        (Command::DeleteAlias { alias: "x".into() }, "Alias x could not be found."),
        (
            Command::SetUserLimit { user: "filed".into(), vms: None },
            "The limit of user filed is set in a file",
        ),
        (Command::ReloadAliases, "No alias file is configured."),
        (Command::ReloadUserLimits, "No user-limit file is configured."),
        (create_token("XY", "u"), "Invalid sha256: "),
        (create_token(&"cd".repeat(32), "t"), "Token t exists."),
        (create_token(&"ab".repeat(32), "u"), "This secret is in use already."),
        (Command::RevokeToken { name: "x".into() }, "Token x could not be found."),
        (token_with(&|_, expires| *expires = Some(Time(0))), "Invalid expires_at: must lie in the future"),
        (token_with(&|user, _| *user = "[scheduler]".into()), "Invalid user: `[scheduler]` stands for"),
        (token_with(&|user, _| *user = "operator".into()), "Invalid user: `operator` stands for"),
        (
            Command::SetUserLimit { user: "[start]".into(), vms: Some(1) },
            "Invalid user: `[start]` stands for",
        ),
        (
            Command::SubmitJob(Box::new(JobSpec { user: "Operator".into(), ..job_spec() })),
            "Invalid user: `Operator` stands for",
        ),
    ];
    for (command, problem) in spoilt.into_iter().chain(others) {
        let shown = format!("{command:?}").chars().take(200).collect::<String>();
        let refusal = asked(command).expect_err(&shown).to_string();
        assert!(refusal.starts_with(problem), "{shown}: {refusal}");
    }
}

#[test]
fn names_may_be_of_any_characters() {
    for name in ["a b", "ü/…", "#?%00", "\u{a0}\u{feff}", &"x".repeat(255)] {
        let target = vec![name.to_owned()];
        let spec = JobSpec { user: name.into(), vm_type: name.into(), target_clouds: target, ..job_spec() };
        let made = asked(Command::SubmitJob(Box::new(spec))).unwrap();
        assert!(matches!(&made[..], [Kind::JobSubmitted(job)] if &*job.user == name), "{name:?}");
        asked(Command::CreateCloud { cloud: name.into(), spec: spec_one() }).unwrap();
    }
}

/// Every name that a command brings in: other programs' protocols, logs and tables are made of them.
#[test]
fn no_name_holds_a_control_character() {
    type Make = fn(&str) -> Command;
    let fields: [(&str, Make); 16] = [
        ("user", |it| submitted(JobSpec { user: it.into(), ..job_spec() })),
        ("project", |it| submitted(JobSpec { project: it.into(), ..job_spec() })),
        ("vm_type", |it| submitted(JobSpec { vm_type: it.into(), ..job_spec() })),
        ("target_clouds", |it| submitted(JobSpec { target_clouds: vec![it.into()], ..job_spec() })),
        ("image", |it| submitted(JobSpec { image: Some(it.into()), ..job_spec() })),
        ("name", |it| Command::CreateCloud { cloud: it.into(), spec: spec_one() }),
        ("name", |it| Command::Reconfigure { clouds: vec![(it.into(), spec_one())] }),
        ("name", |it| Command::SetAlias { alias: it.into(), clouds: vec![] }),
        ("clouds", |it| Command::SetAlias { alias: "a".into(), clouds: vec![it.into()] }),
        ("user", |it| Command::SetUserLimit { user: it.into(), vms: Some(1) }),
        ("name", |it| made(|token| token.name = it.into())),
        ("user", |it| made(|token| token.user = it.into())),
        ("project", |it| made(|token| token.project = it.into())),
        ("roles", |it| made(|token| token.roles = vec![it.into()])),
        ("key", |it| Command::KeepAnswer {
            key: it.into(),
            request: "r".into(),
            answer: pileus_model::KeptAnswer { status: 200, headers: vec![], body: String::new() },
        }),
        ("driver", |it| Command::CreateCloud {
            cloud: "c".into(),
            spec: pileus_model::CloudSpec { driver: it.into(), ..spec_one() },
        }),
    ];
    for letter in CONTROLS {
        for (at, (field, make)) in fields.iter().enumerate() {
            for name in [format!("x{letter}CRED_NAME=other"), format!("x{letter}"), format!("{letter}x")] {
                let refusal = asked(make(&name)).expect_err(&name);
                let right = matches!(&refusal, Refusal::Invalid { field: of, .. } if of == field);
                assert!(right, "{at} {field} {name:?}: {refusal}");
            }
        }
    }
    let older = Command::SetUserLimit { user: "a\nb".into(), vms: None };
    asked(older).expect("a limit of an older state can be taken away");
}

/// Characters that end lines or steer terminals.
const CONTROLS: [char; 9] = ['\n', '\r', '\0', '\t', '\u{1b}', '\u{7f}', '\u{85}', '\u{2028}', '\u{2029}'];

fn submitted(spec: JobSpec) -> Command {
    Command::SubmitJob(Box::new(spec))
}

fn made(change: impl Fn(&mut pileus_model::Token)) -> Command {
    let mut it = token("new");
    it.sha256 = "cd".repeat(32).into();
    change(&mut it);
    let pileus_model::Token { sha256, name, user, project, roles, expires, .. } = it;
    Command::CreateToken { sha256, name, user, project, roles, expires, replaces: false }
}

fn spec_one() -> pileus_model::CloudSpec {
    spec(1)
}

#[test]
fn a_cloud_of_the_api_lives_through_update_and_deletion() {
    let mut view = testing::view([cloud("file", 1)]);
    let mut ids = Ids::default();
    let mut done = |view: &mut View, command| {
        let kinds = decide(view, command, Time(0), &mut ids).unwrap();
        happen(view, Time(0), kinds);
    };
    let name = || Name::from("c");
    done(&mut view, Command::CreateCloud { cloud: name(), spec: spec(4) });
    assert_eq!((view.clouds["c"].order, view.clouds["c"].origin), (1, Origin::Api));
    done(&mut view, Command::EnableCloud { cloud: name(), enabled: false });
    done(&mut view, Command::SetSlots { cloud: name(), vm_slots: 2 });
    let priority = pileus_model::CloudSpec { priority: 7, ..spec(4) };
    done(&mut view, Command::UpdateCloud { cloud: name(), spec: priority });
    let it = &view.clouds["c"];
    assert_eq!((it.enabled(), it.vm_slots(), it.spec.priority), (false, 2, 7), "what was said before holds");
    done(&mut view, Command::UpdateCloud { cloud: name(), spec: spec(6) });
    assert_eq!(view.clouds["c"].vm_slots(), 6, "the later word holds");
    done(&mut view, Command::DeleteCloud { cloud: name() });
    assert!(!view.clouds.contains_key("c"), "nothing has to drain");
}

#[test]
fn a_drain_lasts_until_the_cloud_is_enabled() {
    let mut view = world();
    let mut ids = Ids::default();
    let enable = |enabled| Command::EnableCloud { cloud: "Alpha".into(), enabled };
    let mut spec = spec(3);
    spec.priority = 7;
    let configure =
        Command::Reconfigure { clouds: vec![("alpha".into(), spec.clone()), ("beta".into(), spec)] };
    let drain = || Command::DrainCloud { cloud: "ALPHA".into() };
    // Request; then: the cloud drains, it takes VMs, something was changed.
    let steps = [
        (enable(true), false, true, true),
        (drain(), true, false, true),
        (drain(), true, false, false),
        (configure, true, false, true),
        (Command::SetSlots { cloud: "Alpha".into(), vm_slots: 9 }, true, false, true),
        (enable(false), true, false, true),
        (enable(true), false, true, true),
        (enable(true), false, true, false),
    ];
    for (at, (command, draining, enabled, changes)) in steps.into_iter().enumerate() {
        let kinds = decide(&view, command, Time(0), &mut ids).unwrap();
        assert_eq!(!kinds.is_empty(), changes, "{at}");
        happen(&mut view, Time(0), kinds);
        let it = &view.clouds["Alpha"];
        assert_eq!((it.draining, it.enabled()), (draining, enabled), "{at}");
    }
}

#[test]
fn the_configuration_is_brought_in_whole_or_not_at_all() {
    let mut view = testing::view([cloud("a", 3), cloud("b", 3)]);
    testing::add(&mut view, [], [testing::vm("v", "a"), testing::vm("w", "b")]);
    let mut ids = Ids::default();
    let enable = Command::EnableCloud { cloud: "a".into(), enabled: false };
    let kinds = decide(&view, enable, Time(0), &mut ids).unwrap();
    happen(&mut view, Time(0), kinds);
    let mut ask = |view: &View, clouds: &[(&str, pileus_model::CloudSpec)]| {
        let clouds = clouds.iter().map(|(name, spec)| ((*name).to_owned(), spec.clone())).collect();
        decide(view, Command::Reconfigure { clouds }, Time(0), &mut ids)
    };
    let strange = pileus_model::CloudSpec { driver: "vmware".into(), ..spec(1) };
    type Clouds<'a> = &'a [(&'a str, pileus_model::CloudSpec)];
    let broken: [(&str, Clouds<'_>, &str); 3] = [
        ("a driver that is not there", &[("c", spec(1)), ("d", strange)], "Invalid driver"),
        ("one cloud twice", &[("c", spec(1)), ("C", spec(1))], "Cloud C is there twice"),
        ("no name", &[("", spec(1))], "Invalid name"),
    ];
    for (what, clouds, problem) in broken {
        let refusal = ask(&view, clouds).expect_err(what).to_string();
        assert!(refusal.starts_with(problem), "{what}: {refusal}");
    }
    let kinds = ask(&view, &[("new", spec(1)), ("A", spec(5))]).unwrap();
    happen(&mut view, Time(0), kinds);
    let shown: Vec<_> = view.clouds_in_order().iter().map(|cloud| cloud.name.to_string()).collect();
    assert_eq!(shown, ["new", "a", "b"]);
    let a = &view.clouds["a"];
    assert_eq!(
        (a.vm_slots(), a.enabled(), a.used.vm_slots),
        (5, false, 1),
        "what an administrator said stays"
    );
    assert!(view.clouds["b"].retired && view.vms.contains_key("w"), "a VM of a cloud that goes drains");
    assert!(view.vms["w"].override_state.is_some());
    let again = ask(&view, &[("new", spec(1)), ("a", spec(5))]).unwrap();
    assert_eq!(again, [], "the same once more changes nothing");
}

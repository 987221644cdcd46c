//! What the admin port does to VMs, and says of it, to the byte.

use std::{cell::Cell, time::Duration};

use pileus_ext_vms::EXTENSION;
use pileus_sdk::{
    Mount, header,
    model::{Command, Name, Override, Refusal, Vm},
    testing::{Ask, Bench, delete, post, put, put_cloud, put_vm},
};

/// Three VMs on `Alpha`, of two projects; none on `beta`; `old` is retired and has `o-1`; `cut` has one
/// slot, and `c-2` too many.
fn bench() -> Bench {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        put_cloud(view, "Alpha", |_| ());
        put_cloud(view, "beta", |_| ());
        put_cloud(view, "old", |cloud| cloud.retired = true);
        put_cloud(view, "cut", |cloud| cloud.vm_slots_by_admin = Some(1));
        put_vm(view, "a-1", "Alpha", |_| ());
        put_vm(view, "a-2", "Alpha", |vm| vm.project = "p2".into());
        put_vm(view, "a-3", "Alpha", |_| ());
        put_vm(view, "o-1", "old", |_| ());
        put_vm(view, "c-1", "cut", |_| ());
        put_vm(view, "c-2", "cut", |vm| vm.override_state = Some(Override::Retiring));
    });
    bench
}

/// A cloud that lets go of every VM at once.
fn willing() -> Bench {
    let bench = bench();
    bench.engine.react(|command, view| {
        if let Command::ShutdownVms { vms, .. } = command {
            for vm in vms {
                view.vms.remove(vm);
            }
        }
        Ok(String::new())
    });
    bench
}

fn admin(uri: &str, form: &str) -> Ask {
    put(uri, form).form().on(Mount::CloudAdmin)
}

fn names(vms: &[&str]) -> Vec<Name> {
    vms.iter().map(|&vm| vm.into()).collect()
}

fn shutdown(vms: &[&str]) -> Option<Command> {
    Some(Command::ShutdownVms { vms: names(vms), why: "shut down by ada".into() })
}

fn retire(vms: &[&str]) -> Option<Command> {
    Some(Command::RetireVms { vms: names(vms) })
}

fn remove(vms: &[&str]) -> Option<Command> {
    Some(Command::RemoveVms { vms: names(vms) })
}

#[tokio::test]
async fn many_vms() {
    let all = "VM a-1 has been Destroyed.\nVM a-2 has been Destroyed.\nVM a-3 has been Destroyed.\n";
    let two = "VM a-1 has been Destroyed.\nVM a-2 has been Destroyed.\n";
    let cases = [
        ("Alpha", "action=shutdown&count=all", all, shutdown(&["a-1", "a-2", "a-3"])),
        ("alpha", "action=shutdown&count=2", two, shutdown(&["a-1", "a-2"])),
        ("ALPHA", "action=shutdown&count=99999999999999999999", all, shutdown(&["a-1", "a-2", "a-3"])),
        ("Alpha", "action=shutdown&count=0", "", None),
        ("Alpha", "action=shutdown&count=-1", "", None),
        ("beta", "action=shutdown&count=all", "", None),
        ("Alpha", "action=shutdown&count=All", "Unable to shutdown All VMs, use a number.", None),
        ("nowhere", "action=shutdown&count=", "Unable to shutdown  VMs, use a number.", None),
        ("no%2Fwhere", "action=shutdown&count=all", "Could not find a Cluster with name: no/where.", None),
        ("nowhere", "action=shutdown&count=1", "Could not find cloud named: nowhere", None),
        ("cut", "action=shutdown&count=all", "VM c-1 has been Destroyed.\n", shutdown(&["c-1"])),
        (
            "alpha",
            "action=force_retire&count=all",
            "Retired all VMs in alpha.",
            retire(&["a-1", "a-2", "a-3"]),
        ),
        ("Alpha", "action=force_retire&count=1", "Retired 1 VM(s) in Alpha.", retire(&["a-1"])),
        ("Alpha", "action=force_retire&count=7", "Retired 3 VM(s) in Alpha.", retire(&["a-1", "a-2", "a-3"])),
        ("Alpha", "action=force_retire&count=0", "Retired 0 VM(s) in Alpha.", None),
        ("Alpha", "action=force_retire&count=-1", "Retired -1 VM(s) in Alpha.", retire(&["a-1", "a-2"])),
        ("Alpha", "action=force_retire&count=-4", "Retired -4 VM(s) in Alpha.", None),
        ("beta", "action=force_retire&count=all", "Retired all VMs in beta.", None),
        ("Alpha", "action=force_retire&count=x", "Unable to retire x VMs, use a number", None),
        ("nowhere", "action=force_retire&count=all", "Cloud not find Cloud nowhere.", None),
        ("nowhere", "action=force_retire&count=2", "Cloud not find Cloud nowhere.", None),
        ("Alpha", "action=remove&count=all", "Removed all VMs from Alpha.", remove(&["a-1", "a-2", "a-3"])),
        ("beta", "action=remove&count=all", "Removed all VMs from beta.", None),
        ("nowhere", "action=remove&count=all", "Could not find Cloud nowhere.", None),
    ];
    for (cloud, form, text, command) in cases {
        for (uri, form) in [
            (format!("/clouds/{cloud}/vms"), form),
            (format!("/clouds/{cloud}/vms?{form}"), ""),
            (format!("/clouds/{cloud}/vms?{form}"), "action=explode&count=5"),
        ] {
            let bench = willing();
            let reply = bench.send(admin(&uri, form)).await;
            assert_eq!((reply.status, reply.text.as_str()), (200, text), "{uri} {form}");
            assert_eq!(reply.header(header::CONTENT_TYPE), "text/plain; charset=utf-8");
            assert_eq!(bench.engine.commands(), Vec::from_iter(command.clone()), "{uri} {form}");
        }
    }
}

#[tokio::test]
async fn one_vm() {
    let reset = |vm: &str| Some(Command::ResetVm { vm: vm.into() });
    let cases = [
        ("Alpha", "a-2", "shutdown", "", shutdown(&["a-2"])),
        ("ALPHA", "a%2D2", "shutdown", "", shutdown(&["a-2"])),
        ("old", "o-1", "shutdown", "", shutdown(&["o-1"])),
        ("cut", "c-2", "shutdown", "", shutdown(&["c-2"])),
        // A VM is looked for on the named cloud alone.
        ("beta", "a-1", "shutdown", "Could not find VM with ID: a-1 on Cluster: beta.", None),
        ("nowhere", "a-1", "shutdown", "Could not find a Cluster with name: nowhere.", None),
        ("alpha", "a-1", "force_retire", "Retired VM a-1 on alpha.", retire(&["a-1"])),
        ("cut", "c-2", "force_retire", "Retired VM c-2 on cut.", retire(&["c-2"])),
        ("Alpha", "x", "force_retire", "", None),
        ("cut", "x", "force_retire", "Could not find VM ID x.", None),
        ("nowhere", "a-1", "force_retire", "Could not find Cloud nowhere.", None),
        ("Alpha", "a-1", "remove", "Removed Alpha's VM a-1 from CloudScheduler.", remove(&["a-1"])),
        (
            "cut",
            "c-2",
            "remove",
            "Removed cut's VM c-2 from CloudScheduler retired resources.",
            remove(&["c-2"]),
        ),
        ("Alpha", "a%20b", "remove", "Could not find VM ID: a b on Cloud: Alpha", None),
        ("nowhere", "a-1", "remove", "Could not find Cloud nowhere.", None),
        ("alpha", "a-1", "reset_override_state", "Reset state of alpha on a-1", reset("a-1")),
        ("Alpha", "x", "reset_override_state", "Could not find VM ID x.", None),
        ("cut", "c-2", "reset_override_state", "Could not find VM ID c-2.", None),
        ("nowhere", "a-1", "reset_override_state", "Could not find Cloud nowhere.", None),
    ];
    for (cloud, vm, action, text, command) in cases {
        let uri = format!("/clouds/{cloud}/vms/{vm}");
        for ask in [admin(&uri, &format!("action={action}")), admin(&format!("{uri}?action={action}"), "")] {
            let bench = willing();
            let reply = bench.send(ask).await;
            assert_eq!((reply.status, reply.text.as_str()), (200, text), "{uri} {action}");
            assert_eq!(bench.engine.commands(), Vec::from_iter(command.clone()), "{uri} {action}");
        }
    }
}

/// The page's spellings: DELETE for remove, POST for retire.
#[tokio::test]
async fn the_pages_forms() {
    let post = |uri: &str, form: &str| post(uri, form).form().on(Mount::CloudAdmin);
    let delete = |uri: &str| delete(uri).on(Mount::CloudAdmin);
    let (all, one) = ("/clouds/Alpha/vms", "/clouds/Alpha/vms/a-1");
    let cases = [
        (delete(all), "Removed all VMs from Alpha.", remove(&["a-1", "a-2", "a-3"])),
        (delete(one), "Removed Alpha's VM a-1 from CloudScheduler.", remove(&["a-1"])),
        (delete("/clouds/nowhere/vms"), "Could not find Cloud nowhere.", None),
        (post(all, "action=force_retire"), "Retired all VMs in Alpha.", retire(&["a-1", "a-2", "a-3"])),
        (post(all, "action=force_retire&count=1"), "Retired 1 VM(s) in Alpha.", retire(&["a-1"])),
        (post(one, "action=force_retire"), "Retired VM a-1 on Alpha.", retire(&["a-1"])),
    ];
    for (ask, text, command) in cases {
        let bench = willing();
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, text));
        assert_eq!(bench.engine.commands(), Vec::from_iter(command));
    }
}

#[tokio::test]
async fn there_is_no_other_call() {
    let (all, one) = ("/clouds/Alpha/vms", "/clouds/Alpha/vms/a-1");
    let asks = [
        admin(all, ""),
        admin(all, "action=shutdown"),
        admin(all, "count=all"),
        admin(all, "action=remove&count=2"),
        admin(all, "action=remove"),
        admin(all, "action=reset_override_state&count=all"),
        admin(all, "action=Shutdown&count=all"),
        admin(one, ""),
        admin(one, "action=explode"),
        post(all, "action=shutdown&count=all").form().on(Mount::CloudAdmin),
        post(all, "").form().on(Mount::CloudAdmin),
        post(one, "action=remove").form().on(Mount::CloudAdmin),
        put(one, r#"{"action": "shutdown"}"#).on(Mount::CloudAdmin),
    ];
    for ask in asks {
        let (bench, what) = (bench(), format!("{ask:?}"));
        assert_eq!(bench.send(ask).await.status, 404, "{what}");
        assert_eq!(bench.engine.commands(), [], "{what}");
    }
}

/// A shutdown answers once the cloud has let go of each VM, or could not; lines keep their order and
/// name the right VM.
#[tokio::test]
async fn a_shutdown_waits_for_the_cloud() {
    // Either is a sign that the cloud could not.
    shutdown_with_a_failure(|vm| vm.error_count = 1).await;
    shutdown_with_a_failure(|vm| vm.last_error = Some("refused".into())).await;
}

async fn shutdown_with_a_failure(fail: fn(&mut Vm)) {
    let (bench, done) = (bench(), Cell::new(false));
    let ask = async {
        let reply = bench.send(admin("/clouds/Alpha/vms", "action=shutdown&count=all")).await;
        done.set(true);
        reply
    };
    let cloud = async {
        tokio::task::yield_now().await;
        assert_eq!(Vec::from_iter(shutdown(&["a-1", "a-2", "a-3"])), bench.engine.commands());
        bench.engine.edit(|view| drop(view.vms.remove("a-3")));
        tokio::task::yield_now().await;
        bench.engine.edit(|view| {
            put_vm(view, "a-1", "Alpha", fail);
        });
        tokio::task::yield_now().await;
        bench.engine.edit(|view| drop(view.vms.remove("a-2")));
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        assert!(done.get(), "it still waits");
    };
    let (reply, ()) = tokio::join!(ask, cloud);
    assert_eq!(
        reply.text,
        "Destroying VM a-1 failed. Leaving it for now.\nVM a-2 has been Destroyed.\nVM a-3 has been Destroyed.\n"
    );
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    for (form, uri, text) in [
        (
            "action=shutdown&count=2",
            "/clouds/Alpha/vms",
            "Destroying VM a-1 failed. Leaving it for now.\nVM a-2 has been Destroyed.\n",
        ),
        ("action=shutdown", "/clouds/Alpha/vms/a-1", ""),
    ] {
        let bench = bench();
        let done = Cell::new(false);
        let ask = async {
            let reply = bench.send(admin(uri, form)).await;
            done.set(true);
            reply
        };
        let time = async {
            tokio::task::yield_now().await;
            bench.engine.edit(|view| drop(view.vms.remove("a-2")));
            bench.clock.advance(Duration::from_secs(29));
            tokio::task::yield_now().await;
            assert!(!done.get(), "{form}: it gave up early");
            bench.clock.advance(Duration::from_secs(1));
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            assert!(done.get(), "{form}: it still waits");
        };
        let (reply, ()) = tokio::join!(ask, time);
        assert_eq!((reply.status, reply.text.as_str()), (200, text), "{form}");
    }
}

#[tokio::test]
async fn refusals() {
    let gone = || Refusal::NotFound { kind: "VM", id: "a-1".into() };
    let busy = || Refusal::Conflict("It is being destroyed.".into());
    let cases = [
        ("/clouds/Alpha/vms/a-1", "shutdown", gone(), 200, ""),
        ("/clouds/Alpha/vms/a-1", "shutdown", busy(), 200, ""),
        ("/clouds/Alpha/vms/a-1", "shutdown", Refusal::Unavailable, 503, ""),
        ("/clouds/Alpha/vms/a-1", "force_retire", busy(), 200, "Unable to retire VM."),
        ("/clouds/Alpha/vms/a-1", "force_retire", gone(), 200, ""),
        ("/clouds/cut/vms/c-1", "force_retire", gone(), 200, "Could not find VM ID c-1."),
        ("/clouds/Alpha/vms/a-1", "remove", gone(), 200, "Could not find VM ID: a-1 on Cloud: Alpha"),
        ("/clouds/Alpha/vms/a-1", "remove", Refusal::Full, 507, ""),
        ("/clouds/Alpha/vms/a-1", "reset_override_state", gone(), 200, "Could not find VM ID a-1."),
        ("/clouds/Alpha/vms/a-1", "reset_override_state", busy(), 409, ""),
    ];
    for (uri, action, refusal, status, text) in cases {
        let bench = bench();
        bench.engine.refuse(refusal.clone());
        let reply = bench.send(admin(uri, &format!("action={action}"))).await;
        assert_eq!(reply.status, status, "{action} {refusal:?}: {}", reply.text);
        assert!(status != 200 || reply.text == text, "{action} {refusal:?}: {}", reply.text);
    }
    // Of many, one that cannot is told of alone; one that has just gone is gone.
    let bench = bench();
    bench.engine.react(|command, view| match command {
        Command::ShutdownVms { vms, .. } if vms.len() > 1 => Err(Refusal::Unavailable),
        Command::ShutdownVms { vms, .. } if &*vms[0] == "a-1" => Err(Refusal::Conflict("no".into())),
        Command::ShutdownVms { vms, .. } if &*vms[0] == "a-2" => {
            Err(Refusal::NotFound { kind: "VM", id: "a-2".into() })
        }
        _ => {
            view.vms.remove("a-3");
            Ok(String::new())
        }
    });
    let reply = bench.send(admin("/clouds/Alpha/vms", "action=shutdown&count=all")).await;
    assert_eq!(
        reply.text,
        "Destroying VM a-1 failed. Leaving it for now.\nVM a-2 has been Destroyed.\nVM a-3 has been Destroyed.\n"
    );
}

#[tokio::test]
async fn old_calls_are_guarded_by_their_rules() {
    let (all, one) = ("/clouds/Alpha/vms", "/clouds/Alpha/vms/a-1");
    let asks = [
        ("cloud_admin:set_vms", admin(all, "action=remove&count=all")),
        ("cloud_admin:set_vms", post(all, "action=force_retire").form().on(Mount::CloudAdmin)),
        ("cloud_admin:set_vms", delete(all).on(Mount::CloudAdmin)),
        ("cloud_admin:set_vm", admin(one, "action=remove")),
        ("cloud_admin:set_vm", post(one, "action=force_retire").form().on(Mount::CloudAdmin)),
        ("cloud_admin:set_vm", delete(one).on(Mount::CloudAdmin)),
    ];
    for (rule, ask) in asks {
        let bench = bench();
        bench.deny(rule);
        assert_eq!(bench.send(ask).await.status, 403, "{rule}");
        assert_eq!(bench.engine.commands(), [], "{rule}");
    }
}

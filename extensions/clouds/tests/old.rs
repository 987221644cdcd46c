//! The old ports' texts on clouds, to the byte.

use std::time::Duration;

use pileus_ext_clouds::EXTENSION;
use pileus_sdk::{
    Mount, header, json,
    model::{Beat, Clock, Command, Override, Refusal, Time},
    testing::{Answer, Ask, Bench, get, put, put_cloud, put_vm},
};

fn status(uri: &str) -> Ask {
    get(uri).on(Mount::CloudStatus)
}

fn admin(uri: &str, form: &str) -> Ask {
    put(uri, form).form().on(Mount::CloudAdmin)
}

fn plain(reply: &Answer) -> &str {
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header(header::CONTENT_TYPE), "text/plain; charset=utf-8");
    &reply.text
}

#[tokio::test]
async fn the_version_line() {
    let bench = Bench::new(&EXTENSION);
    assert_eq!(plain(&bench.send(status("/")).await), "Cloud Scheduler version: 0.0.0-test");
}

const POOL: &str = "\
Resource pool Resources:
NAME             CLOUD TYPE NETWORK ADDRESS                ENABLED    
";

#[tokio::test]
async fn the_pool_table() {
    let bench = Bench::new(&EXTENSION);
    assert_eq!(plain(&bench.send(status("/cloud")).await), format!("{POOL}Pool is empty..."));
    bench.engine.edit(|view| {
        put_cloud(view, "alpha", |cloud| {
            cloud.spec.driver = "AmazonEC2".into();
            cloud.enabled_by_admin = Some(false);
        });
        put_cloud(view, "a-name-longer-than-15", |cloud| cloud.order = 0);
        put_cloud(view, "gone", |cloud| cloud.retired = true);
    });
    let rows = "\
a-name-longer-than-15  local      localhost                      True      
alpha            AmazonEC2                                 False     
";
    assert_eq!(plain(&bench.send(status("/cloud")).await), format!("{POOL}{rows}"));
}

const HEAD: &str = "ADDRESS                      CLOUD TYPE         VMS/MAX         MEMORY        STORAGE       \
                    PRIORITY     ENABLED   \n";

/// Test vectors 14 and 15: what is left of memory and storage, and slots that were cut.
#[tokio::test]
async fn the_table_of_a_cluster() {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        put_cloud(view, "alpha", |cloud| {
            cloud.spec.driver = "AmazonEC2".into();
            cloud.enabled_by_admin = Some(false);
        });
        for id in ["1", "2", "3"] {
            put_vm(view, id, "alpha", |_| ());
        }
    });
    let row = "                              AmazonEC2         3 / 10           16928           470            0          False    \n";
    let block = format!("Cluster: alpha \n{HEAD}{row}");
    let all = bench.send(status("/clusters")).await;
    assert_eq!(plain(&all), format!("Clusters in resource pool:\n{block}\n"));
    for (name, typed) in [("alpha", "alpha"), ("Alpha", "Alpha"), ("al%70ha", "alpha")] {
        let one = bench.send(status(&format!("/clusters/{name}"))).await;
        assert_eq!(plain(&one), format!("Cluster Info: {typed}\n{block}"));
    }
    let none = bench.send(status("/clusters/no%20where")).await;
    assert_eq!(plain(&none), "Cluster Info: no where\nCluster named no where not found.");

    // Vector 15: slots 4 to 6 on a cloud with two VMs, then to 1: the youngest retires.
    let cells = |text: &str| text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    for (slots, retiring, expected) in
        [(6, false, "localhost local 2 / 6"), (1, true, "localhost local 1 / 1")]
    {
        bench.engine.edit(|view| {
            put_cloud(view, "beta", |cloud| cloud.vm_slots_by_admin = Some(slots));
            put_vm(view, "b1", "beta", |_| ());
            put_vm(view, "b2", "beta", |vm| vm.override_state = retiring.then_some(Override::Retiring));
        });
        let one = bench.send(status("/clusters/beta")).await;
        assert!(cells(plain(&one)).starts_with(expected), "{}", one.text);
    }
    let row = "        localhost               local           1 / 1            17952           480            0           True    \n";
    assert!(bench.send(status("/clusters/beta")).await.text.ends_with(row));
}

#[tokio::test]
async fn clusters_as_json() {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        put_cloud(view, "alpha", |_| ());
        put_cloud(view, "b.json", |cloud| cloud.spec.boot_timeout_s = Some(90));
        put_cloud(view, "gone", |cloud| cloud.retired = true);
        put_vm(view, "alpha-1", "alpha", |vm| vm.hostname = "ü".into());
        put_vm(view, "gone-1", "gone", |_| ());
    });
    let reply = bench.send(status("/clusters/b%2Ejson")).await;
    assert!(plain(&reply).starts_with("Cluster Info: b.json\nCluster: b.json \n"), "an encoded dot: a name");
    for uri in ["/clusters/b.json.json", "/clusters/b%2Ejson.json", "/clusters/B.JSON.json"] {
        let reply = bench.send(status(uri)).await;
        assert_eq!(reply.header(header::CONTENT_TYPE), "application/json");
        assert_eq!(
            reply.text,
            "{\"name\": \"b.json\", \"network_address\": \"localhost\", \"cloud_type\": \"local\", \
             \"memory\": 20000, \"max_mem\": 20000, \"max_vm_mem\": -1, \"vm_slots\": 10, \"max_slots\": 10, \
             \"cpu_cores\": 4, \"storageGB\": 500, \"max_storageGB\": 500, \"network_pools\": [], \
             \"enabled\": true, \"connection_problem\": false, \"boot_timeout\": 90, \
             \"connection_fail_disable_time\": 7200, \"errorconnect\": null, \"vms\": []}",
            "{uri}"
        );
    }
    let unknown = bench.send(status("/clusters/nowhere.json")).await;
    assert_eq!((unknown.status, unknown.text.as_str()), (200, "{}"));

    let pool = bench.send(status("/clusters.json")).await;
    let body = pool.json();
    let names: Vec<_> = body["resources"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["alpha", "b.json"]);
    let alpha = body["resources"][0].as_object().unwrap();
    assert_eq!(alpha.len(), 18);
    assert_eq!(
        (&alpha["boot_timeout"], &alpha["memory"], &alpha["vm_slots"]),
        (&json!(-1), &json!(18976), &json!(9))
    );
    assert_eq!(alpha["vms"][0].as_object().unwrap().len(), 42);
    assert!(pool.text.contains(r#""hostname": "\u00fc", "#), "{}", pool.text);
}

#[tokio::test]
async fn heart_beats() {
    let bench = Bench::new(&EXTENSION);
    let now = bench.clock.now();
    let beat = |name, ago_ms| Beat { name, interval_s: 5, last: Time(now.0 - ago_ms), error: None };
    bench.engine.put_beats(vec![beat("Scheduler", 0), beat("Cleanup", 1999), beat("VMPoller", -5)]);
    bench.clock.advance(Duration::from_secs(19));
    assert_eq!(
        plain(&bench.send(status("/thread-heart-beats")).await),
        "Thread Heart beat times:\n   Scheduler Thread(5): 19\n   Cleanup Thread(5): 20\n   VMPoller Thread(5): 18\n"
    );
}

#[tokio::test]
async fn the_admin_port_changes_clouds() {
    let enable = |enabled| Some(Command::EnableCloud { cloud: "alpha".into(), enabled });
    let slots = |vm_slots| Some(Command::SetSlots { cloud: "alpha".into(), vm_slots });
    let adjusted = |n: &str| format!("Attempt adjustment on cloud alpha, change to {n} slots");
    let cases = [
        ("/clouds/alpha", "action=enable", "Cloud: alpha enabled.".to_owned(), enable(true)),
        ("/clouds/ALPHA", "action=disable", "Cloud: ALPHA disabled.".to_owned(), enable(false)),
        ("/clouds/alpha?action=enable", "", "Cloud: alpha enabled.".to_owned(), enable(true)),
        ("/clouds/alpha?action=enable", "action=disable", "Cloud: alpha enabled.".to_owned(), enable(true)),
        ("/clouds/alpha", "action=disable&action=enable", "Cloud: alpha enabled.".to_owned(), enable(true)),
        ("/clouds/alpha", "action=enable&allocations=3", "Cloud: alpha enabled.".to_owned(), enable(true)),
        ("/clouds/no%2Fwhere", "action=enable", "Could not find cloud no/where.".to_owned(), None),
        ("/clouds/gone", "action=disable", "Could not find cloud gone.".to_owned(), None),
        ("/clouds/alpha", "allocations=4", adjusted("4"), slots(4)),
        ("/clouds/alpha", "allocations=%20%2B12", adjusted("12"), slots(12)),
        ("/clouds/alpha", "allocations=-1", adjusted("-1"), slots(0)),
        ("/clouds/alpha", "allocations=5000000000", adjusted("5000000000"), slots(u32::MAX)),
        ("/clouds/alpha", "allocations=10", "VM slots already set at 10. Nothing to do.".to_owned(), None),
        ("/clouds/alpha", "allocations=", "Need to use an integer value for vm_allocation".to_owned(), None),
        (
            "/clouds/nowhere",
            "allocations=4.5",
            "Need to use an integer value for vm_allocation".to_owned(),
            None,
        ),
        ("/clouds/Nowhere", "allocations=4", "Unable to find cluster with name: Nowhere".to_owned(), None),
        ("/clouds/gone", "allocations=10", "Unable to find cluster with name: gone".to_owned(), None),
    ];
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        put_cloud(view, "alpha", |_| ());
        put_cloud(view, "gone", |cloud| cloud.retired = true);
    });
    for (uri, form, text, command) in cases {
        let reply = bench.send(admin(uri, form)).await;
        assert_eq!(plain(&reply), text, "{uri} {form}");
        assert_eq!(bench.engine.commands().pop(), command, "{uri} {form}");
    }
}

#[tokio::test]
async fn the_admin_port_knows_no_other_call() {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| put_cloud(view, "alpha", |_| ()));
    let asks = [
        admin("/clouds/alpha", ""),
        admin("/clouds/alpha", "action="),
        admin("/clouds/alpha", "action=Enable"),
        admin("/clouds/alpha", "Action=enable"),
        admin("/clouds/alpha", "action=explode&allocations=4"),
        // A JSON body is no form.
        put("/clouds/alpha", r#"{"action": "enable"}"#).on(Mount::CloudAdmin),
        put("/clouds/alpha", "action=enable")
            .header(header::CONTENT_TYPE, "text/plain")
            .on(Mount::CloudAdmin),
    ];
    for ask in asks {
        let what = format!("{ask:?}");
        assert_eq!(bench.send(ask).await.status, 404, "{what}");
    }
    assert_eq!(bench.engine.commands(), []);
}

#[tokio::test]
async fn refusals_on_the_admin_port() {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| put_cloud(view, "alpha", |_| ()));
    let gone = || Refusal::NotFound { kind: "Cloud", id: "alpha".into() };
    let cases = [
        ("action=enable", gone(), 200, "Could not find cloud alpha."),
        ("allocations=4", gone(), 200, "Unable to find cluster with name: alpha"),
        ("allocations=4", Refusal::Unavailable, 503, ""),
    ];
    for (form, refusal, status, text) in cases {
        bench.engine.refuse(refusal.clone());
        let reply = bench.send(admin("/clouds/alpha", form)).await;
        assert_eq!(reply.status, status, "{form} {refusal:?}");
        assert!(status != 200 || reply.text == text, "{form} {refusal:?}: {}", reply.text);
    }
}

#[tokio::test]
async fn old_calls_are_guarded_by_their_rules() {
    let asks = [
        ("cloud_status:version", status("/")),
        ("cloud_status:pool", status("/cloud")),
        ("cloud_status:clusters", status("/clusters")),
        ("cloud_status:clusters", status("/clusters.json")),
        ("cloud_status:cluster", status("/clusters/alpha")),
        ("cloud_status:cluster", status("/clusters/alpha.json")),
        ("cloud_status:heart_beats", status("/thread-heart-beats")),
        ("cloud_admin:set_cloud", admin("/clouds/alpha", "action=enable")),
    ];
    for (rule, ask) in asks {
        let bench = Bench::new(&EXTENSION);
        bench.deny(rule);
        assert_eq!(bench.send(ask).await.status, 403, "{rule}");
    }
}

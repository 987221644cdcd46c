//! The info port's texts on VMs, to the byte.

use pileus_ext_vms::EXTENSION;
use pileus_sdk::{
    Mount, header,
    model::{Override, Stray, Time, VmState},
    testing::{Answer, Ask, Bench, get, put_cloud, put_vm},
};

fn status(uri: &str) -> Ask {
    get(uri).on(Mount::CloudStatus)
}

fn plain(reply: &Answer) -> &str {
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header(header::CONTENT_TYPE), "text/plain; charset=utf-8");
    &reply.text
}

/// Five VMs of three projects on `alpha` and `beta-two`, an empty `gamma`.
fn bench() -> Bench {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        for name in ["alpha", "beta-two", "gamma"] {
            put_cloud(view, name, |_| ());
        }
        let made = |hours: i64| Time(1_769_857_200_000 + hours);
        put_vm(view, "i-001", "alpha", |vm| {
            vm.hostname = "host1".into();
            vm.running = Some(made(12_900));
            vm.job_runs_s = vec![10, 21];
        });
        put_vm(view, "i-002", "alpha", |vm| {
            vm.hostname.clear();
            vm.state = VmState::Starting;
            vm.running = None;
        });
        put_vm(view, "i-003", "alpha", |vm| {
            vm.hostname = "a-host-name-of-more-than-25-letters".into();
            vm.project = "p2".into();
            vm.state = VmState::Shutdown;
            vm.running = Some(made(20_000));
        });
        put_vm(view, "i-004", "beta-two", |vm| {
            vm.hostname = "host4:20001".into();
            vm.user = "bob".into();
            vm.override_state = Some(Override::Retiring);
            vm.address = "110.1.1.1".into();
        });
        put_vm(view, "i-005", "beta-two", |vm| {
            vm.hostname = "host5".into();
            vm.state = VmState::Error;
            vm.address = String::new();
        });
    });
    bench
}

const TABLE: &str = "\
ID     HOSTNAME                  VMTYPE               USER       STATUS       CLUSTER                
i-001  host1                     vmt                  ada        Running      alpha          
i-002  10.0.0.1                  vmt                  ada        Starting     alpha          
i-003  a-host-name-of-more-than-25-letters vmt                  ada        Shutdown     alpha          
i-004  host4:20001               vmt                  bob        Retiring     beta-two       
i-005  host5                     vmt                  ada        Error        beta-two       

Total VMs: 5. Total Clouds: 3";

#[tokio::test]
async fn the_table() {
    let bench = bench();
    for uri in ["/vms", "/vms/resources", "/clusters/beta-two/vms", "/clusters/nowhere/vms"] {
        assert_eq!(plain(&bench.send(status(uri)).await), TABLE, "{uri}");
    }
    let empty = Bench::new(&EXTENSION);
    let head = TABLE.lines().next().unwrap();
    assert_eq!(plain(&empty.send(status("/vms")).await), format!("{head}\n\nTotal VMs: 0. Total Clouds: 0"));
}

/// Test vector 15: the VM that slots were taken from stands at the bottom, and counts nowhere.
#[tokio::test]
async fn what_drains_stands_at_the_bottom() {
    let bench = bench();
    bench.engine.edit(|view| {
        put_cloud(view, "beta-two", |cloud| {
            cloud.order = 1;
            cloud.vm_slots_by_admin = Some(1);
        });
    });
    let retiring = "\n\nRetiring VMs from removing resources:\n";
    let row =
        "i-004  host4:20001               vmt                  bob        Retiring     beta-two       \n";
    let expected = TABLE.replace(row, "").replace("VMs: 5", "VMs: 4") + retiring + row;
    assert_eq!(plain(&bench.send(status("/vms")).await), expected);
    assert_eq!(plain(&bench.send(status("/vms?metric=total")).await), "4");
    assert_eq!(plain(&bench.send(status("/clusters/beta-two/vms?metric=total")).await), "1");
    assert_eq!(plain(&bench.send(status("/clusters/beta-two/vms?metric=all")).await), "1 Error,");
    let gone = "VM Info for VM id: i-004\nVM with id: i-004 not found.\n";
    assert_eq!(plain(&bench.send(status("/clusters/beta-two/vms/i-004")).await), gone);
    assert_eq!(bench.send(status("/clusters/beta-two/vms/i-004.json")).await.text, "{}");

    // A retired cloud has an entry there even when it has no VM any more.
    bench.engine.edit(|view| {
        for cloud in ["beta-two", "gamma"] {
            put_cloud(view, cloud, |cloud| cloud.retired = true);
        }
    });
    let reply = bench.send(status("/vms")).await;
    assert!(plain(&reply).contains("\nTotal VMs: 3. Total Clouds: 1\n\nRetiring VMs"), "{}", reply.text);
    let none = Bench::new(&EXTENSION);
    none.engine.edit(|view| put_cloud(view, "gamma", |cloud| cloud.retired = true));
    let reply = none.send(status("/vms")).await;
    assert!(
        plain(&reply).ends_with("Total VMs: 0. Total Clouds: 0\n\nRetiring VMs from removing resources:\n")
    );
}

#[tokio::test]
async fn metrics() {
    let bench = bench();
    bench.engine.edit(|view| put_vm(view, "i-006", "beta-two", |vm| vm.hostname = "host6".into()));
    let lost = "Could not find cloud: no/where - check cloud_status for list of available clouds";
    let missing = "List of Condor Entries with no match in Cloud Scheduler(host:startd):\n";
    let startup = "Cluster: alpha 12, 0, 20,  Avg: 10 Cluster: beta-two 20, 20, 20,  Avg: 20 Cluster: gamma ";
    let runs = "Run Times of Jobs on VMs\n\
                host1 : avg 15.000000\n : avg 0.000000\na-host-name-of-more-than-25-letters : avg 0.000000\n\
                host4:20001 : avg 0.000000\nhost5 : avg 0.000000\nhost6 : avg 0.000000\n";
    let cases = [
        ("/vms?metric=total", "6"),
        ("/vms?metric=all", "1 Retiring,2 Running,1 Error,1 Starting,1 Shutdown,"),
        ("/vms?metric=missing", missing),
        ("/vms?metric=startup_time", startup),
        ("/vms?metric=job_run_times", runs),
        ("/clusters/alpha/vms?metric=total", "3"),
        ("/clusters/ALPHA/vms?metric=total", "3"),
        ("/clusters/gamma/vms?metric=total", "0"),
        ("/clusters/alpha/vms?metric=all", "1 Running,1 Starting,1 Shutdown,"),
        ("/clusters/gamma/vms?metric=all", ""),
        ("/clusters/no%2Fwhere/vms?metric=total", "Cluster named no/where not found."),
        ("/clusters/no%2Fwhere/vms?metric=all", lost),
        ("/clusters/nowhere/vms?metric=missing", missing),
        ("/clusters/nowhere/vms?metric=startup_time", startup),
        ("/clusters/nowhere/vms?metric=job_run_times", runs),
        ("/vms?metric=all&metric=total", "6"),
    ];
    for (uri, text) in cases {
        assert_eq!(plain(&bench.send(status(uri)).await), text, "{uri}");
    }
    for uri in ["/vms?metric=", "/vms?metric=Total", "/clusters/alpha/vms?metric=x", "/vms/", "/vms/other"] {
        assert_eq!(bench.send(status(uri)).await.status, 404, "{uri}");
    }
}

#[tokio::test]
async fn one_vm() {
    let bench = bench();
    let row = "VM Info for VM id: i-001\ni-001  host1                     vmt                  ada        Running     \n";
    let cases = [
        ("/clusters/alpha/vms/i-001", row),
        ("/clusters/ALPHA/vms/i%2D001", row),
        ("/clusters/alpha/vms/i-004", "VM Info for VM id: i-004\nVM with id: i-004 not found.\n"),
        (
            "/clusters/no%20where/vms/a%23b",
            "VM Info for VM id: a#b\nCluster no where not found.\nVM with id: a#b not found.\n",
        ),
        ("/clusters/alpha/vms/x%2Ejson", "VM Info for VM id: x.json\nVM with id: x.json not found.\n"),
    ];
    for (uri, text) in cases {
        assert_eq!(plain(&bench.send(status(uri)).await), text, "{uri}");
    }
}

#[tokio::test]
async fn one_vm_as_json() {
    let bench = bench();
    bench.engine.edit(|view| {
        put_vm(view, "x", "alpha", |vm| {
            vm.override_state = Some(Override::Retiring);
            vm.force_retire = true;
            vm.job_runs_s = vec![3, 4];
            vm.error_count = 2;
        });
    });
    for uri in ["/clusters/nowhere/vms/x.json", "/clusters/alpha/vms/i-004.json"] {
        assert_eq!(bench.send(status(uri)).await.text, "{}", "{uri}");
    }
    let reply = bench.send(status("/clusters/Alpha/vms/x.json")).await;
    assert_eq!(reply.header(header::CONTENT_TYPE), "application/json");
    let expected = concat!(
        r#"{"name": "x", "id": "x", "vmtype": "vmt", "user": "ada", "uservmtype": "ada:vmt", "#,
        r#""hostname": "host-x", "alt_hostname": null, "ipaddress": "10.0.0.1", "ssh_port": 22, "#,
        r#""clusteraddr": "localhost", "clusterport": "", "cloudtype": "local", "network": "", "image": "", "#,
        r#""flavor": "", "memory": 1024, "cpucores": 1, "storage": 10, "status": "Running", "#,
        r#""override_status": "Retiring", "condoraddr": null, "condorname": "host-x", "#,
        r#""condormasteraddr": null, "keep_alive": 60, "errorcount": 2, "errorconnect": null, "#,
        r#""lastpoll": null, "last_state_change": 1769857220, "startup_time": 20, "#,
        r#""idle_start": 1769857230, "initialize_time": 1769857200, "spot_id": "", "proxy_file": null, "#,
        r#""myproxy_creds_name": null, "myproxy_server": null, "myproxy_server_port": null, "#,
        r#""myproxy_renew_time": "12", "job_per_core": false, "force_retire": true, "failed_retire": false, "#,
        r#""x509userproxy_expiry_time": "None", "job_run_times": [3, 4]}"#,
    );
    assert_eq!(reply.text, expected);
    assert_eq!(reply.json().as_object().unwrap().len(), 42);
}

#[tokio::test]
async fn munins_nodes_leave_out_private_addresses_alone() {
    let bench = bench();
    let expected = "[host4:20001]\n\taddress 110.1.1.1\n[host5]\n\taddress \n";
    assert_eq!(plain(&bench.send(status("/ips")).await), expected);
}

#[tokio::test]
async fn old_calls_are_guarded_by_their_rules() {
    let asks = [
        ("cloud_status:vms", "/vms"),
        ("cloud_status:vms", "/vms/resources"),
        ("cloud_status:vms", "/clusters/alpha/vms"),
        ("cloud_status:vm", "/clusters/alpha/vms/i-001"),
        ("cloud_status:vm", "/clusters/alpha/vms/i-001.json"),
        ("cloud_status:ips", "/ips"),
    ];
    for (rule, uri) in asks {
        let bench = bench();
        bench.deny(rule);
        assert_eq!(bench.send(status(uri)).await.status, 403, "{rule} {uri}");
    }
}

#[tokio::test]
async fn machines_without_a_vm_are_listed() {
    let bench = bench();
    let stray = |machine: &str| Stray { machine: machine.into(), driver: "local".into() };
    bench.engine.put_strays(vec![stray("local-1"), stray("local-2")]);
    let title = "List of Condor Entries with no match in Cloud Scheduler(host:startd):\n";
    let reply = bench.send(status("/vms?metric=missing")).await;
    assert_eq!(plain(&reply), format!("{title}local-1 : local\nlocal-2 : local\n"));
}

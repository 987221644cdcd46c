//! What a command line of `cloud_status` asks of the info port.
//!
//! Source: cloud-scheduler 1.13.2, `cloud_status`, `main`; the order of the arms is the contract.

use super::{
    Step::{self, Ask, AskOf, Lacking, Say},
    get,
};
use crate::{http::quote, options::Id, parse::Given, program::COMPATIBLE};

/// The queues that `-q` shows, each with its title.
fn queues(word: &str) -> &'static [(&'static str, &'static str)] {
    match word {
        "all" => &[
            ("sched", "Jobs in Scheduled Queue"),
            ("new", "Jobs in New Queue"),
            ("high", "Jobs in High Priority Queue"),
        ],
        "new" => &[("new", "Jobs in New Queue")],
        "sched" => &[("sched", "Jobs in Scheduled Queue")],
        "high" => &[("high", "Jobs in High Priority Queue")],
        "held" => &[("held", "Jobs in Held state")],
        "idle" => &[("idle", "Jobs in Idle state")],
        "complete" => &[("complete", "Jobs in Complete state")],
        "running" => &[("running", "Jobs in Running state")],
        _ => &[],
    }
}

/// The steps.
pub fn plan(given: &Given) -> Vec<Step> {
    let json = given.is(Id::ShortJson) || given.is(Id::Json);
    let cloud = given.text(Id::Cloud).map(quote);
    let vm = given.text(Id::Vm).map(quote);
    let queue = given.text(Id::Queue);
    let one = match (cloud, vm) {
        _ if given.is(Id::All) && !json => Ask(get("clusters")),
        _ if given.is(Id::Vms) => Ask(get("vms")),
        (Some(cloud), _) if given.is(Id::States) => AskOf(get(format!("clusters/{cloud}/vms?metric=all"))),
        (None, _) if given.is(Id::States) => Ask(get("vms?metric=all")),
        (Some(cloud), Some(vm)) if !json => AskOf(get(format!("clusters/{cloud}/vms/{vm}"))),
        (None, Some(_)) => Lacking("Please provide -c cluster_name with vm ID"),
        (Some(cloud), None) if !json && !given.is(Id::Total) => AskOf(get(format!("clusters/{cloud}"))),
        _ if given.is(Id::All) => Ask(get("clusters.json")),
        (Some(cloud), Some(vm)) => AskOf(get(format!("clusters/{cloud}/vms/{vm}.json"))),
        (Some(cloud), None) if json => AskOf(get(format!("clusters/{cloud}.json"))),
        _ if given.is(Id::Developer) => Ask(get("developer-info")),
        _ if queue.is_some() => {
            let shown = queues(queue.unwrap_or_default()).iter();
            let steps = shown
                .flat_map(|(state, title)| [Say((*title).into()), Ask(get(format!("jobs?state={state}")))]);
            return steps.collect();
        }
        _ if given.is(Id::Addresses) => Ask(get("ips")),
        _ if given.is(Id::BootTime) => Ask(get("vms?metric=startup_time")),
        _ if given.is(Id::DiffTypes) => Ask(get("diff-types")),
        _ if given.is(Id::JobTimes) => Ask(get("vms?metric=job_run_times")),
        _ if given.is(Id::CloudConf) => Ask(get("cloud/config")),
        (Some(cloud), None) if given.is(Id::Total) => {
            AskOf(get(format!("clusters/{cloud}/vms?metric=total")))
        }
        _ if given.is(Id::Total) => Ask(get("vms?metric=total")),
        _ if given.is(Id::Missing) => Ask(get("vms?metric=missing")),
        _ if given.is(Id::HeartBeats) => Ask(get("thread-heart-beats")),
        _ if given.is(Id::BootFailures) => Ask(get("failures/boot")),
        _ if given.is(Id::ImageFailures) => Ask(get("failures/image")),
        _ if given.is(Id::Version) => {
            return vec![Ask(get("")), Say(format!("Cloud Status version: {COMPATIBLE}"))];
        }
        _ => Ask(get("cloud")),
    };
    vec![one]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse::parse, program::CLOUD_STATUS};

    /// What is asked, in order.
    fn targets(line: &str) -> String {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned);
        let targets = plan(&parse(&CLOUD_STATUS, words).unwrap()).into_iter().map(|step| match step {
            Ask(call) | AskOf(call) => call.target,
            Say(_) => "-".into(),
            Lacking(_) => "lacking".into(),
            other => format!("{other:?}"),
        });
        targets.collect::<Vec<_>>().join(" ")
    }

    /// Options in the order in which they win; each is given together with all behind it.
    #[test]
    fn the_first_option_wins_over_all_behind_it() {
        let order = [
            ("-a", "/clusters"),
            ("-m", "/vms"),
            ("-u", "/vms?metric=all"),
            ("-d", "/developer-info"),
            ("-q new", "- /jobs?state=new"),
            ("-i", "/ips"),
            ("-b", "/vms?metric=startup_time"),
            ("-t", "/diff-types"),
            ("-g", "/vms?metric=job_run_times"),
            ("-l", "/cloud/config"),
            ("-o", "/vms?metric=total"),
            ("-r", "/vms?metric=missing"),
            ("-x", "/thread-heart-beats"),
            ("-z", "/failures/boot"),
            ("-w", "/failures/image"),
            ("-v", "/ -"),
            ("", "/cloud"),
        ];
        for at in 0..order.len() {
            let mut line: Vec<&str> = order[at..].iter().map(|(option, _)| *option).collect();
            assert_eq!(targets(&line.join(" ")), order[at].1, "{line:?}");
            line.reverse();
            assert_eq!(targets(&line.join(" ")), order[at].1, "{line:?}");
        }
    }

    #[test]
    fn modifiers_change_what_is_asked() {
        let cases = [
            ("-a -j", "/clusters.json"),
            ("--json -a", "/clusters.json"),
            ("-j", "/cloud"),
            ("-j -m", "/vms"),
            ("-j -a -m", "/vms"),
            ("-c C", "/clusters/C"),
            ("-c C -j", "/clusters/C.json"),
            ("-c C -n V", "/clusters/C/vms/V"),
            ("-c C -n V -j", "/clusters/C/vms/V.json"),
            ("-c C -n V -a -j", "/clusters.json"),
            ("-c C -n V -a", "/clusters"),
            ("-c C -n V -o", "/clusters/C/vms/V"),
            ("-c C -o", "/clusters/C/vms?metric=total"),
            ("-c C -o -j", "/clusters/C.json"),
            ("-c C -o -d", "/developer-info"),
            ("-c C -u", "/clusters/C/vms?metric=all"),
            ("-c C -u -j", "/clusters/C/vms?metric=all"),
            ("-c C -m", "/vms"),
            ("-c C -d", "/clusters/C"),
            ("-n V", "lacking"),
            ("-n V -j", "lacking"),
            ("-n V -o", "lacking"),
            ("-n V -u", "/vms?metric=all"),
            ("-c a/b#c -n i%1", "/clusters/a%2Fb%23c/vms/i%251"),
            ("--cluster= -n V", "lacking"),
            ("-q all", "- /jobs?state=sched - /jobs?state=new - /jobs?state=high"),
            ("-q sched", "- /jobs?state=sched"),
            ("-q high", "- /jobs?state=high"),
            ("-q held", "- /jobs?state=held"),
            ("-q idle", "- /jobs?state=idle"),
            ("-q complete", "- /jobs?state=complete"),
            ("-q running", "- /jobs?state=running"),
        ];
        for (line, expected) in cases {
            assert_eq!(targets(line), expected, "{line}");
        }
    }
}

//! What a command line of `cloud_admin` asks of the admin port.
//!
//! Source: cloud-scheduler 1.13.2, `cloud_admin`, `main`; the order, and each text with its spelling, is
//! the contract.

use http::Method;

use super::{
    Step::{self, Ask, AskOf, Judge, Lacking, Log, NotOffered, Say, Tell},
    get, send,
};
use crate::{
    audit::Level::{Debug, Info},
    http::quote,
    options::Id,
    parse::Given,
};

const COMMENT: &str =
    "Admin comments being enforced. Please use -C 'reason for command' when performing this option.";

/// A plan in the making.
struct Plan<'a> {
    given: &'a Given,
    /// Whether changes need a comment.
    comments: bool,
    steps: Vec<Step>,
}

/// The steps. `base` is the server's URL, with its last slash.
pub fn plan(given: &Given, comments: bool, base: &str) -> Vec<Step> {
    let mut plan = Plan { given, comments, steps: Vec::new() };
    plan.choose(base);
    plan.steps
}

impl Plan<'_> {
    fn choose(&mut self, base: &str) {
        let given = self.given;
        if given.is(Id::Kill) && self.explained() {
            self.kill();
        } else if given.is(Id::Remove) && self.explained() {
            self.remove(base);
        } else if given.is(Id::Retire) && self.explained() {
            self.retire();
        } else if given.is(Id::Reset) && self.explained() {
            self.reset();
        } else if let Some(cloud) = given.text(Id::Enable) {
            self.switch(cloud, "enable");
        } else if let Some(cloud) = given.text(Id::Disable) {
            self.switch(cloud, "disable");
        } else if given.is(Id::Drain) {
            self.steps.push(NotOffered("--drain needs --project PROJECT: the old ports know no drain"));
        } else if given.is(Id::Reconfig) {
            self.steps.push(NotOffered("Reconfig Disabled - use 'quickrestart'"));
            self.log(Debug, "Call to disabled reconfig option. service quickrestart suggested.");
        } else if given.is(Id::ReloadLimits) && self.explained() {
            self.steps.push(Judge(
                send(Method::POST, "user-limits", &[]),
                ["User-Limit file reloaded.", "No Limits set - list empty or problem parsing file."],
                [
                    "Reloaded the user limlt file.",
                    "Problem reloading user limits, check format, path, permissions.",
                ],
            ));
        } else if given.is(Id::ListLimits) {
            self.steps.push(Ask(get("user-limits")));
            self.log(Debug, "Listing the user limit file");
        } else if given.is(Id::ReloadAliases) && self.explained() {
            self.steps.push(Judge(
                send(Method::POST, "cloud-aliases", &[]),
                [
                    "Target Cloud Alias file reloaded.",
                    "Failed to load alias file - check json format, path, or permissions.",
                ],
                [
                    "Reloaded the cloud_alias file",
                    "Failed to reload cloud alias file, check format, path, permissions.",
                ],
            ));
        } else if given.is(Id::ListAliases) {
            self.steps.push(Ask(get("cloud-aliases")));
            self.log(Debug, "Listing cloud_alias contents");
        } else if let Some(level) = given.text(Id::LogLevel).filter(|_| self.explained()) {
            self.steps.push(Ask(send(Method::PUT, "", &[("log_level", level)])));
            self.log(Info, format!("Changed logging level to: {level}"));
        } else if let Some(proxy) = given.text(Id::Proxy).filter(|_| self.explained()) {
            self.refresh(proxy);
        } else if given.is(Id::QuickExit) && self.explained() {
            self.steps.push(Ask(send(Method::POST, "", &[("action", "quick_shutdown")])));
            self.steps.push(Say("Toggled Quick shutdown flag.".into()));
            self.log(Info, "Toggled quick shutdown flag.");
        } else if let Some(slots) = given.text(Id::Slots).filter(|_| self.explained()) {
            self.allocate(slots);
        } else {
            self.lacking("Run cloud_admin -h for help.", "Invoked with no arguments or other error.");
        }
    }

    /// Whether there is a comment, or none is needed. Otherwise the next option is looked at.
    fn explained(&mut self) -> bool {
        if !self.comments {
            return true;
        }
        match self.given.text(Id::Comment) {
            Some(comment) => self.log(Info, format!("Comment: {comment}")),
            None => self.lacking(COMMENT, "Attempted to perform action without required comment."),
        }
        self.given.text(Id::Comment).is_some()
    }

    fn kill(&mut self) {
        let Some(cloud) = self.given.text(Id::Cloud) else {
            let lacks = "Must Provide the cloud name to kill VMs on and the VM ID, count, or all flag.";
            return self.lacking(lacks, "Kill VMs called without valid cloud name.");
        };
        if let Some(vm) = self.given.text(Id::Vm) {
            self.one(cloud, vm, "shutdown", format!("Shutting down VM: {vm} on: {cloud}"));
        } else if self.given.is(Id::All) {
            self.many(cloud, "shutdown", "all", format!("Shutting down all VMs on cloud: {cloud}"));
        } else if let Some(count) = self.given.text(Id::Number) {
            self.many(cloud, "shutdown", count, format!("Shutting down {count} VMs on cloud: {cloud}"));
        } else {
            let lacks =
                "Must provide a -n [VM ID], -a to kill all VMs, or -b [count] to kill a set number on cloud.";
            self.lacking(lacks, "Kill VMs called without valid vm id or all flag.");
        }
    }

    fn remove(&mut self, base: &str) {
        let Some(cloud) = self.given.text(Id::Cloud) else {
            let lacks = "Must Provide the cloud name to remove VMs on and the VM ID or all flag.";
            return self.lacking(lacks, "Remove VMs called without cloud name.");
        };
        if let Some(vm) = self.given.text(Id::Vm) {
            self.one(cloud, vm, "remove", format!("Removing VM entry: {vm} on: {cloud}"));
        } else if self.given.is(Id::All) {
            // Left over from a search for a mistake, and in every script's output since.
            self.steps.push(Say(format!("{base}clouds/{}/vms", quote(cloud))));
            let log = format!("Removing all VM entries from Cloud Scheduler on cloud: {cloud}");
            self.many(cloud, "remove", "all", log);
        } else {
            let lacks = "Must provide a -n [VM ID] or -a to remove all VMs on this cloud.";
            self.lacking(lacks, "Remove VMs called without vm id or all flag.");
        }
    }

    fn retire(&mut self) {
        let Some(cloud) = self.given.text(Id::Cloud) else {
            let lacks =
                "Must Provide the cloud name to force retire VMs on and the VM ID, all or count flag.";
            return self.lacking(lacks, "Force retire called without valid cloud name.");
        };
        if let Some(vm) = self.given.text(Id::Vm) {
            self.one(cloud, vm, "force_retire", format!("Force retiring VM: {vm} on cloud: {cloud}"));
        } else if self.given.is(Id::All) {
            self.many(cloud, "force_retire", "all", format!("Force retiring all VMs on: {cloud}"));
        } else if let Some(count) = self.given.text(Id::Number) {
            self.many(cloud, "force_retire", count, format!("Force retiring {count} VMs, on cloud: {cloud}"));
        } else {
            let lacks = "Must provide a -n [VM ID], -a (all), or -b [count] to force retire all or some VMs on this cloud.";
            let log = format!("Force retire called on cloud: {cloud}, missing valid vm or option flag.");
            self.lacking(lacks, log);
        }
    }

    fn reset(&mut self) {
        match (self.given.text(Id::Cloud), self.given.text(Id::Vm)) {
            (Some(cloud), Some(vm)) => {
                self.one(
                    cloud,
                    vm,
                    "reset_override_state",
                    format!("Reset state of vm: {vm} on cloud: {cloud}"),
                );
            }
            (Some(_), None) => {
                let lacks = "Must provide -n [VM ID] to reset state of VM.";
                self.lacking(lacks, "Reset state attempted without valid vm id.");
            }
            (None, _) => {
                let lacks = "Must provide the cloud name and VM ID to reset override state on.";
                self.lacking(lacks, "reset state attempted without valid cloud name.");
            }
        }
    }

    fn switch(&mut self, cloud: &str, action: &str) {
        let target = format!("clouds/{}", quote(cloud));
        self.steps.push(AskOf(send(Method::PUT, &target, &[("action", action)])));
        self.log(Info, format!("Cloud: {cloud} {action}d."));
    }

    fn refresh(&mut self, proxy: &str) {
        let Some(user) = self.given.text(Id::User) else {
            let lacks = "Must Specify a user with -u or --user.";
            return self.lacking(lacks, "Attempting to refresh proxy, missing user flag.");
        };
        let (refresh, said, log) = match proxy {
            "vm" => ("vm_proxy", "Refreshing VM proxies for user", "Refreshing VM proxies for user"),
            _ => ("job_proxy", "Refreshing Job proxies for user", "Refresh job proxies for user"),
        };
        self.steps.push(Say(format!("{said} {user}.")));
        let target = format!("users/{}", quote(user));
        self.steps.push(Tell(send(Method::POST, &target, &[("refresh", refresh)])));
        self.log(Info, format!("{log} {user}{}", if proxy == "vm" { "." } else { "" }));
    }

    fn allocate(&mut self, slots: &str) {
        let Some(cloud) = self.given.text(Id::Cloud) else {
            let lacks = "Change vm slot of cloud need '-c cloudname' for cloud to change allocation of";
            return self.lacking(lacks, "Attempting to adjust vm allocation but missing cloud name.");
        };
        self.steps.push(Say(format!("Adjusting vm_slots on {cloud} to {slots}")));
        let target = format!("clouds/{}", quote(cloud));
        self.steps.push(AskOf(send(Method::PUT, &target, &[("allocations", slots)])));
        self.log(Info, format!("Attempting to adjust vm allocation on {cloud}. Target: {slots}"));
    }

    fn one(&mut self, cloud: &str, vm: &str, action: &str, log: String) {
        let target = format!("clouds/{}/vms/{}", quote(cloud), quote(vm));
        self.steps.push(AskOf(send(Method::PUT, &target, &[("action", action)])));
        self.log(Info, log);
    }

    fn many(&mut self, cloud: &str, action: &str, count: &str, log: String) {
        let target = format!("clouds/{}/vms", quote(cloud));
        self.steps.push(AskOf(send(Method::PUT, &target, &[("action", action), ("count", count)])));
        self.log(Info, log);
    }

    fn lacking(&mut self, text: &'static str, log: impl Into<String>) {
        self.steps.push(Lacking(text));
        self.log(Debug, log);
    }

    fn log(&mut self, level: crate::audit::Level, text: impl Into<String>) {
        self.steps.push(Log(level, text.into()));
    }
}

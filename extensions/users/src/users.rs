//! The controller of `/v2/{project_id}/users`.
//!
//! A user is whoever has a job, a VM, a limit or a credential: there is no list of users to be on. Jobs and VMs are
//! counted in the projects that the call sees; a limit holds for the user in all of them together.

use std::{collections::BTreeMap, sync::Arc};

use pileus_sdk::{
    Call, Deps, Fault, Links, Page, Reply, Scope, StatusCode,
    model::{Command, JobState, Name, Proxy, View},
    serde::{Deserialize, Serialize},
};

use crate::{
    ALL,
    credentials::{self, Refresh, Set, renew},
};

pub struct Users {
    pub deps: Deps,
}

impl Users {
    /// `{"users": [{…}]}`, in the order of their names, each as `show` has it.
    pub async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (page, scope) = (Page::of(&call)?, Scope::of(&call, ALL)?);
        let (view, collection) = (self.deps.engine.view(), call.collection("users"));
        let cut = page.of_list(count(&view, &scope, |_| true), |(name, _)| name)?;
        cut.map(|(name, tally)| tally.shown(name, &view, &collection)).reply(&call, "users")
    }

    /// `{"user": {…}}`.
    pub async fn show(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, name) = (self.deps.engine.view(), call.id());
        let mut found = count(&view, &Scope::of(&call, ALL)?, |user| *user == *name);
        let Some((name, tally)) = found.pop_first() else {
            return Err(Fault::NotFound { kind: "User", id: name.into() });
        };
        let collection = call.collection("users");
        Reply::member(StatusCode::OK, "user", &tally.shown(name, &view, &collection))
    }

    /// `{"user": {"vm_limit": 5}}`, or `null` for no limit: 200 with the user, who may be yet to come.
    pub async fn update(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (scope, name) = (Scope::of(&call, ALL)?, call.id());
        let Update { vm_limit } = call.json("user")?;
        let command = Command::SetUserLimit { user: Name::from(&*name), vms: vm_limit };
        let view = self.deps.engine.submit(command, call.actor()).await?.view;
        answer(&call, &view, &scope, &name)
    }

    /// `{"reload": null}`: 202. A file that cannot be read leaves the limits as they are, and is a fault.
    pub async fn reload(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        call.nothing("reload")?;
        self.deps.engine.submit(Command::ReloadUserLimits, call.actor()).await?;
        Reply::status(StatusCode::ACCEPTED)
    }

    /// `{"set_credential": {"proxy": "job_proxy", "server": "myproxy.example"}}`: 200 with the user.
    pub async fn set_credential(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (scope, name) = (Scope::of(&call, ALL)?, call.id());
        let set: Set = call.json("set_credential")?;
        let (proxy, from) = (set.proxy, set.from(&name));
        let command = Command::SetCredential { user: Name::from(&*name), proxy, from };
        let view = self.deps.engine.submit(command, call.actor()).await?.view;
        answer(&call, &view, &scope, &name)
    }

    /// `{"refresh": {"proxy": "job_proxy"}}`, or `null` for both: 200 with the user. 404: there is none
    /// to renew. 503: the server does not answer or says no, or the program is not installed.
    pub async fn refresh(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (scope, name) = (Scope::of(&call, ALL)?, Name::from(&*call.id()));
        let asked: Option<Refresh> = call.json("refresh")?;
        let proxies = asked.and_then(|asked| asked.proxy).map_or(Proxy::ALL.to_vec(), |proxy| vec![proxy]);
        if renew(&self.deps, &name, &proxies, call.actor()).await? == 0 {
            let words: Vec<_> = proxies.iter().map(|proxy| proxy.as_str()).collect();
            let id = format!("{} of {name}", words.join(" or "));
            return Err(Fault::NotFound { kind: "Credential", id });
        }
        answer(&call, &self.deps.engine.view(), &scope, &name)
    }
}

/// The user, who may be yet to come.
fn answer(call: &Call, view: &View, scope: &Scope, name: &str) -> Result<Reply, Fault> {
    let tally = count(view, scope, |user| user == name).pop_first();
    let tally = tally.map(|(_, tally)| tally).unwrap_or_default();
    let collection = call.collection("users");
    Reply::member(StatusCode::OK, "user", &tally.shown(name, view, &collection))
}

/// What is counted of a user.
#[derive(Default)]
struct Tally {
    vms: u32,
    jobs: [u32; JobState::ALL.len()],
}

/// Walks the picture once. A user with a limit or a credential alone is there, with nothing.
fn count<'a>(view: &'a View, scope: &Scope, picks: impl Fn(&str) -> bool) -> BTreeMap<&'a str, Tally> {
    let mut users: BTreeMap<&str, Tally> = BTreeMap::new();
    for user in view.user_limits.keys().chain(view.credentials.keys()).filter(|user| picks(user)) {
        users.entry(user).or_default();
    }
    for vm in view.vms.values().filter(|vm| scope.sees(&vm.project) && picks(&vm.user)) {
        users.entry(&vm.user).or_default().vms += 1;
    }
    for job in view.jobs.values().filter(|job| scope.sees(&job.project) && picks(&job.user)) {
        users.entry(&job.user).or_default().jobs[job.state as usize] += 1;
    }
    users
}

impl Tally {
    fn shown<'a>(self, name: &'a str, view: &View, collection: &'a str) -> Shown<'a> {
        let jobs = JobState::ALL.map(|state| (state.as_str(), self.jobs[state as usize]));
        Shown {
            id: name,
            name,
            vms: self.vms,
            vm_limit: view.user_limits.get(name).copied(),
            jobs: jobs.into_iter().collect(),
            credentials: credentials::shown(view, name),
            links: Links { collection, id: name },
        }
    }
}

/// A user.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    /// How many VMs are the user's.
    vms: u32,
    /// The most VMs of the user; null: no limit.
    vm_limit: Option<u32>,
    /// How many jobs are in each state.
    jobs: BTreeMap<&'static str, u32>,
    /// `job_proxy`, `vm_proxy`: where it is renewed, and until when it holds.
    credentials: BTreeMap<&'static str, credentials::Shown>,
    links: Links<'a>,
}

/// `{"user": {"vm_limit": …}}`: a number, or `null`; to leave it out is a mistake.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
struct Update {
    #[serde(deserialize_with = "Option::deserialize")]
    vm_limit: Option<u32>,
}

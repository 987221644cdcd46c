//! The controller of `/v2/{project_id}/users`.
//!
//! A user is whoever has a job, a VM, a limit or a proxy: there is no list of users to be on. Jobs and VMs are
//! counted in the projects that the call sees. A limit by a user's name holds in each project separately; one of
//! `PROJECT/USER` holds in that project, before that of the name. A proxy is the user's in all projects together.

use std::{collections::BTreeMap, sync::Arc};

use pileus_sdk::{
    Call, Column, Fault, Links, Page, Reply, Scope, SortValue, StatusCode, at,
    model::{Command, Engine, JobState, Name, Proxy, ProxyUse, Time, View},
    serde::{Deserialize, Serialize},
};

use crate::ALL;

pub struct Users {
    pub engine: Arc<dyn Engine>,
}

impl Users {
    /// `{"users": [{…}]}`, in the order of their names, each as `show` has it.
    pub async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (page, scope) = (Page::of(&call)?, Scope::of(&call, ALL)?);
        let (view, collection) = (self.engine.view(), call.collection("users"));
        let limit = |name: &str| view.user_limits.get(name).copied();
        let users = count(&view, &scope, |_| true).into_iter();
        let users = users.map(|(name, tally)| Counted { name, limit: limit(name), tally });
        let cut = page.of_list(users, &columns(), &[])?;
        cut.map(|user| user.tally.shown(user.name, &view, &collection)).reply(&call, "users")
    }

    /// `{"user": {…}}`.
    pub async fn show(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (view, name) = (self.engine.view(), call.id());
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
        let view = self.engine.submit(command, call.actor()).await?.view;
        after(&call, &view, &scope, &name)
    }

    /// `{"reload": null}`: 202. A file that cannot be read leaves the limits as they are, and is a fault.
    pub async fn reload(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        call.nothing("reload")?;
        self.engine.submit(Command::ReloadUserLimits, call.actor()).await?;
        Reply::status(StatusCode::ACCEPTED)
    }

    /// `{"refresh": {"proxy": "job_proxy"}}`: 200 with the user and the proxy's new end; 502 where the
    /// MyProxy server, or the program that asks it, is not there or said no.
    pub async fn refresh(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let (scope, name) = (Scope::of(&call, ALL)?, call.id());
        let Refresh { proxy } = call.json("refresh")?;
        let command = Command::RenewProxy { user: Name::from(&*name), which: proxy };
        let view = self.engine.submit(command, call.actor()).await?.view;
        after(&call, &view, &scope, &name)
    }
}

/// The user right after a change.
fn after(call: &Call, view: &View, scope: &Scope, name: &str) -> Result<Reply, Fault> {
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

/// A user in a list.
pub struct Counted<'a> {
    name: &'a str,
    limit: Option<u32>,
    tally: Tally,
}

/// Sort keys of a list of users.
pub fn columns<'a>() -> [Column<Counted<'a>>; 4] {
    [
        Column::id("id", |user| SortValue::text(user.name)),
        Column::id("name", |user| SortValue::text(user.name)),
        Column::new("vms", |user| SortValue::number(user.tally.vms)),
        Column::new("vm_limit", |user| SortValue::number_or_absent(user.limit)),
    ]
}

/// Walks the picture once. A user with a limit or a proxy alone is there, with nothing.
fn count<'a>(view: &'a View, scope: &Scope, picks: impl Fn(&str) -> bool) -> BTreeMap<&'a str, Tally> {
    let mut users: BTreeMap<&str, Tally> = BTreeMap::new();
    for user in view.user_limits.keys().chain(view.proxies.keys()).filter(|user| picks(user)) {
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
    fn shown<'a>(self, name: &'a str, view: &'a View, collection: &'a str) -> Shown<'a> {
        let jobs = JobState::ALL.map(|state| (state.as_str(), self.jobs[state as usize]));
        Shown {
            id: name,
            name,
            vms: self.vms,
            vm_limit: view.user_limits.get(name).copied(),
            jobs: jobs.into_iter().collect(),
            proxies: ProxyUse::ALL
                .into_iter()
                .map(|which| (which.as_str(), proxy(view, name, which)))
                .collect(),
            links: Links { collection, id: name },
        }
    }
}

fn proxy<'a>(view: &'a View, user: &str, which: ProxyUse) -> Option<ShownProxy<'a>> {
    let Proxy { expires, renewed, server } = view.proxies.get(user)?.get(which)?;
    Some(ShownProxy { expires: *expires, renewed: *renewed, server })
}

/// What is told of a proxy: never where its file is.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct ShownProxy<'a> {
    #[serde(serialize_with = "at")]
    expires: Time,
    #[serde(serialize_with = "at")]
    renewed: Time,
    /// Where it was fetched.
    server: &'a str,
}

/// A user.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    /// How many VMs are the user's.
    vms: u32,
    /// Most VMs of the user in each project; null: no limit.
    vm_limit: Option<u32>,
    /// How many jobs are in each state.
    jobs: BTreeMap<&'static str, u32>,
    /// How long each proxy lasts; null: none was fetched.
    proxies: BTreeMap<&'static str, Option<ShownProxy<'a>>>,
    links: Links<'a>,
}

/// `{"user": {"vm_limit": …}}`: a number, or `null`; to leave it out is a mistake.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
struct Update {
    #[serde(deserialize_with = "Option::deserialize")]
    vm_limit: Option<u32>,
}

/// `{"refresh": {"proxy": "job_proxy"}}`, or `"vm_proxy"`.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
struct Refresh {
    proxy: ProxyUse,
}
